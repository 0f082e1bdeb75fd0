//! What is read of texts that are longer than the encoder has positions for.

use std::{fmt, ops::Range, str::FromStr};

use bert_core::{Encoding, Window};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    windows::{WindowRange, windows},
};

/// What is read of a text that is longer than `max_length` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "LongKeys", into = "LongKeys")]
pub enum Long {
    /// Its beginning.
    #[default]
    Truncate,
    /// The beginning and, for three quarters of the tokens, the end: of 510 tokens the first 128 and the last 382.
    ///
    /// # Source
    /// Sun, Qiu, Xu, Huang: "How to Fine-Tune BERT for Text Classification?" (arXiv:1905.05583), "head+tail" of the ways to deal
    /// with long texts.
    HeadTail,
    /// All of it, in windows of `max_length` tokens that overlap, each read by itself. One vector is pooled over all of
    /// them: over each token once, from the window where it is most central, and over each window's [CLS] and [SEP].
    Windows {
        /// The tokens between the beginnings of two windows; `None` is half of what a window holds.
        stride: Option<usize>,
        /// The most windows of a text, from 1 to 64; what is behind them is cut off.
        max_windows: usize,
    },
}

/// The ways to read long texts by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LongKind {
    /// See [`Long::Truncate`].
    #[default]
    Truncate,
    /// See [`Long::HeadTail`].
    HeadTail,
    /// See [`Long::Windows`].
    Windows,
}

/// The windows of a text where nobody says otherwise, and the most that can be asked for.
const MAX_WINDOWS: usize = 8;
const MOST_WINDOWS: usize = 64;

impl Long {
    /// A way to read long texts; what is not given is as it is by default.
    ///
    /// # Errors
    /// [`Error::OnlyWindows`] when a stride or a number of windows comes with another kind, [`Error::Recipe`] when it is out
    /// of its range.
    pub fn new(kind: LongKind, stride: Option<usize>, max_windows: Option<usize>) -> Result<Self> {
        let only_windows = |long| {
            let keys = [("stride", stride), ("max-windows", max_windows)];
            match keys.iter().find(|(_, value)| value.is_some()) {
                Some((key, _)) => Err(Error::OnlyWindows { key, kind }),
                None => Ok(long),
            }
        };
        match kind {
            LongKind::Truncate => only_windows(Self::Truncate),
            LongKind::HeadTail => only_windows(Self::HeadTail),
            LongKind::Windows => {
                let max_windows = max_windows.unwrap_or(MAX_WINDOWS);
                let long = Self::Windows { stride, max_windows };
                long.check().map(|()| long)
            }
        }
    }

    /// The same with what is given in its place; the stride and the number of windows of another kind do not count.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with(
        self,
        kind: Option<LongKind>,
        stride: Option<usize>,
        max_windows: Option<usize>,
    ) -> Result<Self> {
        let (own, own_stride, own_windows) = self.parts();
        match kind {
            Some(kind) if kind != own => Self::new(kind, stride, max_windows),
            _ => Self::new(own, stride.or(own_stride), max_windows.or(own_windows)),
        }
    }

    /// The kind with its stride and its number of windows, where it has them.
    pub fn parts(self) -> (LongKind, Option<usize>, Option<usize>) {
        match self {
            Self::Truncate => (LongKind::Truncate, None, None),
            Self::HeadTail => (LongKind::HeadTail, None, None),
            Self::Windows { stride, max_windows } => (LongKind::Windows, stride, Some(max_windows)),
        }
    }

    /// The longest text that is read whole, in words: what `max_length` tokens come to.
    pub fn limit(self, max_length: usize) -> String {
        match self {
            Self::Truncate | Self::HeadTail => format!("{max_length} tokens"),
            Self::Windows { max_windows, .. } => {
                format!("{max_windows} windows of {max_length} tokens")
            }
        }
    }

    /// What is read of a text that was encoded whole, where a sequence has `room` for so many tokens beside the special ones.
    ///
    /// # Errors
    /// [`Error::Stride`] when there would be tokens between the windows; [`Error::Recipe`] as [`new`](Self::new).
    pub fn cut(self, whole: Encoding, room: usize) -> Result<Encoding> {
        self.check_room(room)?;
        let stride = self.stride(room);
        let is_special = |place: &usize| whole.special_tokens_mask[*place];
        let length = whole.input_ids.len();
        let before = (0..length).take_while(is_special).count();
        let after = (before..length).rev().take_while(is_special).count();
        let text = length - before - after;
        if text <= room {
            return Ok(whole);
        }
        let framed = |parts: &[Range<usize>]| -> Vec<usize> {
            let parts = parts.iter().flat_map(|part| before + part.start..before + part.end);
            (0..before).chain(parts).chain(length - after..length).collect()
        };
        let select =
            |parts: &[Range<usize>]| Encoding { truncated: true, ..whole.select(&framed(parts)) };
        Ok(match self {
            Self::Truncate => select(std::slice::from_ref(&(0..room))),
            Self::HeadTail => {
                let head = (room * 128 + 255) / 510;
                select(&[0..head, text - (room - head)..text])
            }
            Self::Windows { max_windows, .. } => {
                let ranges = windows(text, room, stride, max_windows);
                let places = ranges.iter().map(|range| framed(std::slice::from_ref(&range.tokens)));
                let places: Vec<usize> = places.flatten().collect();
                let window = |WindowRange { tokens, own }: &WindowRange| Window {
                    length: before + tokens.len() + after,
                    own: before + own.start - tokens.start..before + own.end - tokens.start,
                };
                Encoding {
                    windows: ranges.iter().map(window).collect(),
                    truncated: ranges.last().is_some_and(|last| last.tokens.end < text),
                    ..whole.select(&places)
                }
            }
        })
    }

    /// Refuses what is out of its range, and a stride over tokens that no window would hold.
    pub(crate) fn check_room(self, room: usize) -> Result<()> {
        self.check()?;
        match self.stride(room) {
            stride if stride > room => Err(Error::Stride { stride, room }),
            _ => Ok(()),
        }
    }

    /// The tokens between the beginnings of two windows that hold `room`; 0 where there are none.
    fn stride(self, room: usize) -> usize {
        match self {
            Self::Windows { stride, .. } => stride.unwrap_or(room / 2).max(1),
            Self::Truncate | Self::HeadTail => 0,
        }
    }

    /// Refuses what is out of its range.
    fn check(self) -> Result<()> {
        let Self::Windows { stride, max_windows } = self else { return Ok(()) };
        let refuse =
            |key, got: usize, expected| Err(Error::Recipe { key, got: got.to_string(), expected });
        if stride == Some(0) {
            return refuse("stride", 0, "a whole number from 1");
        }
        if !(1..=MOST_WINDOWS).contains(&max_windows) {
            return refuse("max-windows", max_windows, "a whole number from 1 to 64");
        }
        Ok(())
    }
}

/// As run files and the settings of a model have it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct LongKeys {
    #[serde(skip_serializing_if = "is_truncate")]
    long: LongKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    stride: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_windows: Option<usize>,
}

fn is_truncate(kind: &LongKind) -> bool {
    *kind == LongKind::Truncate
}

impl TryFrom<LongKeys> for Long {
    type Error = Error;

    fn try_from(keys: LongKeys) -> Result<Self> {
        Self::new(keys.long, keys.stride, keys.max_windows)
    }
}

impl From<Long> for LongKeys {
    fn from(long: Long) -> Self {
        let (long, stride, max_windows) = long.parts();
        Self { long, stride, max_windows }
    }
}

impl fmt::Display for LongKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Truncate => "truncate",
            Self::HeadTail => "head-tail",
            Self::Windows => "windows",
        })
    }
}

/// A name that stands for no way to read long texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown way to read long texts {0:?}: expected truncate, head-tail or windows")]
pub struct ParseLongError(String);

impl FromStr for LongKind {
    type Err = ParseLongError;

    fn from_str(name: &str) -> std::result::Result<Self, ParseLongError> {
        [Self::Truncate, Self::HeadTail, Self::Windows]
            .into_iter()
            .find(|kind| kind.to_string() == name)
            .ok_or_else(|| ParseLongError(name.to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A text of these words between [CLS], 101, and [SEP], 102.
    fn encoding(words: usize) -> Encoding {
        let ids = (0..words as u32).chain([102]);
        let input_ids: Vec<u32> = [101].into_iter().chain(ids).collect();
        let length = input_ids.len();
        Encoding {
            tokens: input_ids.iter().map(u32::to_string).collect(),
            input_ids,
            token_type_ids: vec![0; length],
            offsets: (0..length).map(|place| (place, place + 1)).collect(),
            word_ids: vec![None; length],
            special_tokens_mask: (0..length).map(|place| place % (length - 1) == 0).collect(),
            truncated: false,
            windows: vec![],
        }
    }

    fn windows_of(stride: Option<usize>, max_windows: Option<usize>) -> Long {
        Long::new(LongKind::Windows, stride, max_windows).unwrap()
    }

    #[test]
    fn what_is_read_by_hand() {
        let read = |long: Long, words, room| {
            let cut = long.cut(encoding(words), room).unwrap();
            (cut.input_ids, cut.truncated, cut.windows)
        };
        let begins = (vec![101, 0, 1, 2, 3, 102], true, vec![]);
        assert_eq!(read(Long::Truncate, 9, 4), begins);
        // A quarter of 4 tokens from the beginning: 128 / 510 x 4 = 1.004.
        let ends = (vec![101, 0, 6, 7, 8, 102], true, vec![]);
        assert_eq!(read(Long::HeadTail, 9, 4), ends);
        // Half of 4 tokens further on: 0 to 3, 2 to 5, 4 to 7, 6 to 8. Two tokens are shared, the first of them is the
        // earlier window's.
        let (ids, truncated, windows) = read(windows_of(None, None), 9, 4);
        let expected = [
            [101, 0, 1, 2, 3, 102].to_vec(),
            [101, 2, 3, 4, 5, 102].to_vec(),
            [101, 4, 5, 6, 7, 102].to_vec(),
            [101, 6, 7, 8, 102].to_vec(),
        ];
        assert_eq!((ids, truncated), (expected.concat(), false));
        let places: Vec<_> = windows.iter().map(|w| (w.length, w.own.clone())).collect();
        assert_eq!(places, [(6, 1..4), (6, 2..4), (6, 2..4), (5, 2..4)]);
        assert!(read(windows_of(None, Some(3)), 9, 4).1);
        for long in [Long::Truncate, Long::HeadTail, windows_of(None, None)] {
            assert_eq!(long.cut(encoding(4), 4).unwrap(), encoding(4));
        }
    }

    #[test]
    fn head_and_tail_of_the_paper() {
        let cut = Long::HeadTail.cut(encoding(600), 510).unwrap();
        // 600 - 382 = 218
        let expected: Vec<u32> = (0..128).chain(218..600).collect();
        assert_eq!(cut.input_ids[1..511], expected);
    }

    #[test]
    fn each_token_is_pooled_once_and_each_special_token() {
        let cut = windows_of(Some(3), None).cut(encoding(23), 7).unwrap();
        let pooled: Vec<u32> = cut.pooled().map(|place| cut.input_ids[place]).collect();
        let words: Vec<u32> = pooled.iter().copied().filter(|id| *id < 100).collect();
        assert_eq!(words, (0..23).collect::<Vec<u32>>());
        // 1 + (23 - 7) / 3, rounded up, are 7 windows.
        assert_eq!(pooled.iter().filter(|id| **id == 101).count(), 7);
        assert_eq!(pooled.iter().filter(|id| **id == 102).count(), 7);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let message = |kind, stride, most| Long::new(kind, stride, most).unwrap_err().to_string();
        assert_eq!(
            message(LongKind::HeadTail, Some(3), None),
            "stride says how long texts are cut into windows, not head-tail: choose --long windows, or leave it out"
        );
        assert!(message(LongKind::Truncate, None, Some(3)).starts_with("max-windows"));
        let windows = LongKind::Windows;
        assert_eq!(message(windows, Some(0), None), "stride must be a whole number from 1, got 0");
        for most in [0, 65] {
            assert_eq!(
                message(windows, None, Some(most)),
                format!("max-windows must be a whole number from 1 to 64, got {most}")
            );
        }
        // Not even one token would fit.
        assert!(windows_of(None, None).cut(encoding(5), 0).unwrap_err().is_bad_input());
        let error = windows_of(Some(8), None).cut(encoding(5), 7).unwrap_err();
        assert!(error.is_bad_input());
        assert_eq!(
            error.to_string(),
            "a stride of 8 tokens leaves some out: a window holds 7 of the text: choose a stride from 1 to 7, or a larger max-length"
        );
        assert_eq!(
            "window".parse::<LongKind>().unwrap_err().to_string(),
            "unknown way to read long texts \"window\": expected truncate, head-tail or windows"
        );
    }

    #[test]
    fn what_is_given_counts() {
        let own = windows_of(Some(3), Some(2));
        assert_eq!(own.with(None, None, Some(5)).unwrap(), windows_of(Some(3), Some(5)));
        assert_eq!(own.with(Some(LongKind::Windows), None, None).unwrap(), own);
        assert_eq!(own.with(Some(LongKind::HeadTail), None, None).unwrap(), Long::HeadTail);
        let windows = Long::Truncate.with(Some(LongKind::Windows), Some(4), None).unwrap();
        assert_eq!(windows, windows_of(Some(4), None));
        assert!(Long::Truncate.with(None, Some(4), None).is_err());
    }

    #[test]
    fn keys_are_read_back() {
        for (long, keys) in [
            (Long::Truncate, "{}"),
            (Long::HeadTail, r#"{"long":"head-tail"}"#),
            (windows_of(None, None), r#"{"long":"windows","max_windows":8}"#),
            (windows_of(Some(3), Some(2)), r#"{"long":"windows","stride":3,"max_windows":2}"#),
        ] {
            assert_eq!(serde_json::to_string(&long).unwrap(), keys);
            assert_eq!(serde_json::from_str::<Long>(keys).unwrap(), long);
        }
        assert!(serde_json::from_str::<Long>(r#"{"stride":3}"#).is_err());
    }
}
