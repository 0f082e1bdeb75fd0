//! Texts in the colours of a terminal: the more a token counts, the stronger its background.

use crate::{
    examples::Example,
    token_weights::{Piece, TokenWeight, largest, pieces},
};

/// Of the 256 colours, foreground and background for each fifth of the largest weight; below a tenth there is none.
const COLOURS: [(u8, u8); 5] = [(16, 223), (16, 216), (16, 209), (16, 202), (231, 160)];

/// A text on one line, each token on a background as strong as its weight is beside the text's largest.
pub fn weights_in_ansi(example: &Example, weights: &[TokenWeight]) -> String {
    let pieces = pieces(example, weights);
    let largest = largest(&pieces);
    let mut line = String::new();
    let mut was_special = false;
    for (i, &Piece { ref text, weight, is_special }) in pieces.iter().enumerate() {
        if i > 0 && (is_special || was_special) {
            line.push(' ');
        }
        let level = weight.map_or(0.0, |weight| 5.0 * weight / largest.max(f32::MIN_POSITIVE));
        line += &coloured(text, level.round() as usize);
        was_special = is_special;
    }
    line
}

/// What the backgrounds of [`weights_in_ansi`] mean, on one line.
pub fn ansi_legend() -> String {
    let steps = (0..=COLOURS.len()).map(|level| coloured(&format!(" {} % ", 20 * level), level));
    format!("weight beside the largest of the text: {}", steps.collect::<String>())
}

fn coloured(text: &str, level: usize) -> String {
    match level.checked_sub(1).and_then(|level| COLOURS.get(level)) {
        Some((front, back)) => format!("\x1b[38;5;{front};48;5;{back}m{text}\x1b[0m"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_weights::tests::{example, weight};

    #[test]
    fn the_largest_weight_has_the_strongest_background() {
        let weights = [
            weight("[CLS]", None, 0.02),
            weight("so", Some((0, 2)), 0.2),
            weight("good", Some((3, 7)), 0.5),
            weight("[SEP]", None, 0.28),
        ];
        // Fifths of 0.5, rounded: 0.2 -> 0, 2, 5, 2.8 -> 3.
        assert_eq!(
            weights_in_ansi(&example("so good", None), &weights),
            "[CLS] \x1b[38;5;16;48;5;216mso\x1b[0m \x1b[38;5;231;48;5;160mgood\x1b[0m \
             \x1b[38;5;16;48;5;209m[SEP]\x1b[0m"
        );
    }

    #[test]
    fn a_text_cannot_command_the_terminal() {
        let weights = [weight("[CLS]", None, 1.0), weight("a", Some((4, 5)), 0.0)];
        let line = weights_in_ansi(&example("\x1b[2Ja\x07\u{202e}b", None), &weights);
        assert!(line.ends_with(" \u{fffd}[2Ja\u{fffd}\u{fffd}b"), "{line:?}");
    }

    #[test]
    fn the_legend_has_every_background() {
        let legend = ansi_legend();
        for (_, back) in COLOURS {
            assert!(legend.contains(&format!("48;5;{back}m")), "{legend:?}");
        }
        assert!(legend.contains(" 0 % \x1b") && legend.contains(" 100 % "), "{legend:?}");
    }
}
