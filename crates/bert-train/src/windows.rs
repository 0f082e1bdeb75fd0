//! How a long text is cut into windows that overlap.

use std::ops::Range;

/// A window, in places of the text's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRange {
    /// What the encoder reads together.
    pub tokens: Range<usize>,
    /// Those of its tokens that are pooled from it, and from no other window.
    pub own: Range<usize>,
}

/// Cuts a text of `length` tokens into windows of at most `size`, each `stride` tokens behind the one before; of a text that
/// takes more than `most` windows, the rest is left out.
///
/// A token of several windows belongs to the one where it is most central: where the nearer end of the window is furthest
/// away, and on ties to the earlier one.
///
/// # Panics
/// When `stride` is not from 1 to `size`, or `most` is 0.
pub fn windows(length: usize, size: usize, stride: usize, most: usize) -> Vec<WindowRange> {
    assert!((1..=size).contains(&stride), "windows: a stride from 1 to the window's size");
    assert!(most > 0, "windows: at least one window");
    let count = (1 + length.saturating_sub(size).div_ceil(stride)).min(most);
    let tokens = |window: usize| window * stride..(window * stride + size).min(length);
    // Both ends of the next window lie further on, so that neighbours part in the middle of what they share.
    let parting = |next: usize| (tokens(next).start + tokens(next - 1).end).div_ceil(2);
    let own = |window: usize| {
        let start = if window == 0 { 0 } else { parting(window) };
        let end = if window + 1 == count { tokens(window).end } else { parting(window + 1) };
        start..end
    };
    (0..count).map(|window| WindowRange { tokens: tokens(window), own: own(window) }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(length: usize, size: usize, stride: usize, most: usize) -> Vec<[usize; 4]> {
        let flat = |window: WindowRange| {
            [window.tokens.start, window.tokens.end, window.own.start, window.own.end]
        };
        windows(length, size, stride, most).into_iter().map(flat).collect()
    }

    #[test]
    fn by_hand() {
        // Tokens 3 to 6 are in both windows, 3, 2, 1 and 0 tokens from the end of the first and 0, 1, 2 and 3 from the start
        // of the second.
        assert_eq!(ranges(9, 7, 3, 8), [[0, 7, 0, 5], [3, 9, 5, 9]]);
        // Five tokens are shared, 2 to 6; the middle one, 4, is 2 tokens from either end: the earlier window has it.
        assert_eq!(ranges(9, 7, 2, 8), [[0, 7, 0, 5], [2, 9, 5, 9]]);
        // Nothing is shared.
        assert_eq!(ranges(9, 4, 4, 8), [[0, 4, 0, 4], [4, 8, 4, 8], [8, 9, 8, 9]]);
        // The third window would hold 4 to 8.
        assert_eq!(ranges(9, 5, 2, 2), [[0, 5, 0, 4], [2, 7, 4, 7]]);
        assert_eq!(ranges(5, 5, 1, 8), [[0, 5, 0, 5]]);
        assert_eq!(ranges(0, 5, 1, 8), [[0, 0, 0, 0]]);
    }

    #[test]
    #[should_panic(expected = "a stride from 1 to the window's size")]
    fn a_stride_that_leaves_tokens_out_panics() {
        windows(9, 3, 4, 8);
    }

    #[test]
    #[should_panic(expected = "at least one window")]
    fn no_window_panics() {
        windows(9, 3, 2, 0);
    }

    proptest! {
        #[test]
        fn each_token_belongs_to_the_window_where_it_is_most_central(
            length in 0usize..200,
            (size, stride) in (1usize..40).prop_flat_map(|size| (Just(size), 1..=size)),
            most in 1usize..12,
        ) {
            let windows = windows(length, size, stride, most);
            prop_assert!((1..=most).contains(&windows.len()));
            for (index, window) in windows.iter().enumerate() {
                prop_assert_eq!(window.tokens.start, index * stride);
                prop_assert!(window.tokens.len() <= size && window.tokens.end <= length);
                prop_assert!(window.tokens.len() == size || index + 1 == windows.len());
                prop_assert!(window.tokens.start <= window.own.start && window.own.end <= window.tokens.end);
                prop_assert!(!window.own.is_empty() || length == 0);
            }
            let kept = length.min((most - 1) * stride + size);
            let owned: Vec<usize> = windows.iter().flat_map(|window| window.own.clone()).collect();
            prop_assert_eq!(owned, (0..kept).collect::<Vec<_>>());
            for token in 0..kept {
                let margin = |window: &WindowRange| {
                    let Range { start, end } = window.tokens.clone();
                    window.tokens.contains(&token).then(|| (token - start).min(end - 1 - token))
                };
                let best = windows.iter().map(margin).max().unwrap();
                let first = windows.iter().position(|window| margin(window) == best).unwrap();
                prop_assert!(windows[first].own.contains(&token), "{token}: {:?}", windows);
            }
        }
    }
}
