//! Texts as one page of HTML: the more a token counts, the stronger its background.

use std::fmt::Write;

use crate::{
    examples::Example,
    html::escaped,
    token_weights::{Piece, TokenWeight, WeightShare, WeightShares, largest, pieces},
};

const STYLE: &str = include_str!("weights_page.css");

/// The most texts that a page shows: enough to read, few enough to open.
const MOST: usize = 1000;

/// A page of texts, their labels and the weights of their tokens, that needs no other file.
#[derive(Debug, Clone, Default)]
pub struct WeightsPage {
    rows: String,
    shares: WeightShares,
}

impl WeightsPage {
    /// Puts a text under those that are there. Above 1000 texts, only its shares are counted in.
    pub fn add(
        &mut self,
        example: &Example,
        label: &str,
        probability: f64,
        weights: &[TokenWeight],
    ) {
        if self.shares.texts() < MOST {
            let label = escaped(label);
            let text = text(example, weights);
            self.rows += &format!(
                "<tr><td>{label}</td><td class=number>{:.1} %</td><td class=text>{text}</td></tr>\n",
                100.0 * probability
            );
        }
        self.shares.add(weights);
    }

    /// How much of the weight lies on which kind of token, over all texts.
    pub fn shares(&self) -> &WeightShares {
        &self.shares
    }

    /// The page; `model` says whose weights they are.
    pub fn to_html(&self, model: &str) -> String {
        let (model, rows, all) = (escaped(model), &self.rows, self.shares.texts());
        let shown = match all {
            all if all > MOST => format!("the first {MOST} of {all} texts"),
            1 => "1 text".to_owned(),
            all => format!("{all} texts"),
        };
        let shares: String = self.shares.shares().iter().map(share).collect();
        let legend: String = (0..=5)
            .map(|step| {
                format!("<span style=\"--w:{}\">{} %</span>", f64::from(step) / 5.0, 20 * step)
            })
            .collect();
        format!(
            r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Token weights of {model}</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>Token weights of {model}</h1>
<p>How much each token counts in the vector of its text, for {shown}. Point at a token, or tap it, for its weight; those of a text sum to 100&nbsp;%.</p>
<p class=legend>Weight beside the largest of the text: {legend}</p>
<table class=shares>
<thead><tr><th>kind</th><th class=number>weight</th><th class=number>tokens</th><th></th></tr></thead>
<tbody>
{shares}</tbody>
</table>
<p>Shares are means over {all} texts. The share of the tokens is the weight that mean pooling would give.</p>
<table class=texts>
<thead><tr><th>label</th><th class=number>probability</th><th>text</th></tr></thead>
<tbody>
{rows}</tbody>
</table>
</body>
</html>
"#
        )
    }
}

fn share(share: &WeightShare) -> String {
    let WeightShare { kind, weight, tokens } = share;
    let (weight, tokens) = (100.0 * weight, 100.0 * tokens);
    format!(
        "<tr><td>{kind}</td><td class=number>{weight:.1} %</td><td class=number>{tokens:.1} %</td>\
         <td><div class=bar style=\"width:{weight:.1}%\"></div></td></tr>\n"
    )
}

fn text(example: &Example, weights: &[TokenWeight]) -> String {
    let pieces = pieces(example, weights);
    let largest = largest(&pieces).max(f32::MIN_POSITIVE);
    let mut html = String::new();
    for Piece { text, weight, is_special } in &pieces {
        let escaped = escaped(text);
        let Some(weight) = weight else {
            html += &escaped;
            continue;
        };
        let special = if *is_special { " class=special" } else { "" };
        let (depth, percent) = (weight / largest, 100.0 * weight);
        // INVARIANT: writing to a string does not fail.
        let _ = write!(
            html,
            "<i{special} tabindex=0 style=\"--w:{depth:.2}\" data-w=\"{percent:.1} %\">{escaped}</i>"
        );
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_weights::tests::{example, weight};

    #[test]
    fn a_page_by_hand() {
        let weights = [
            weight("[CLS]", None, 0.25),
            weight("bad", Some((0, 3)), 0.5),
            weight("!", Some((4, 5)), 0.25),
        ];
        let mut page = WeightsPage::default();
        page.add(&example("bad !", None), "neg", 0.875, &weights);
        let html = page.to_html("run");
        assert!(html.contains(
            "<tr><td>neg</td><td class=number>87.5 %</td><td class=text>\
             <i class=special tabindex=0 style=\"--w:0.50\" data-w=\"25.0 %\">[CLS]</i>\
             <i tabindex=0 style=\"--w:1.00\" data-w=\"50.0 %\">bad</i> \
             <i tabindex=0 style=\"--w:0.50\" data-w=\"25.0 %\">!</i></td></tr>"
        ));
        assert!(html.contains("<td>punctuation</td><td class=number>25.0 %</td>"), "{html}");
        assert!(html.contains("for 1 text."), "{html}");
    }

    #[test]
    fn what_comes_from_outside_is_text() {
        let attack = "<script>alert('x')</script>&\"";
        let weights = [weight("<script>", Some((0, 8)), 1.0)];
        let mut page = WeightsPage::default();
        page.add(&example(attack, Some(attack)), attack, 1.0, &weights);
        let html = page.to_html(attack);
        assert!(!html.contains("<script") && !html.contains("alert('"), "{html}");
        // The title, the heading, the label, and the rest of both texts.
        assert_eq!(html.matches("alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;").count(), 5);
    }

    #[test]
    fn a_page_stays_small_enough_to_open() {
        let mut page = WeightsPage::default();
        for _ in 0..1003 {
            page.add(&example("a", None), "x", 1.0, &[weight("a", Some((0, 1)), 1.0)]);
        }
        let html = page.to_html("run");
        assert_eq!(html.matches("<td class=text>").count(), 1000);
        assert!(html.contains("the first 1000 of 1003 texts") && page.shares().texts() == 1003);
    }
}
