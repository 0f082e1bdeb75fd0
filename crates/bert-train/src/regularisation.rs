//! What keeps a model from leaning too much on its training rows.

use std::path::Path;

use bert_core::BertConfig;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    task_form::{AnswerKind, TaskForm},
};

/// What keeps a model from leaning too much on its training rows; nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Regularisation {
    /// The share of each cross-entropy's target that is spread evenly over all classes, in `[0, 1)`: of labels, tags, and the
    /// places of answers. Dev losses are measured without it.
    ///
    /// # Source
    /// Szegedy et al.: "Rethinking the Inception Architecture" (arXiv:1512.00567), section 7.
    #[serde(skip_serializing_if = "is_zero")]
    pub label_smoothing: f64,
    /// How much it counts that two passes over the same rows, which drop other things, give other answers, from 0: the loss is
    /// `(L1 + L2) / 2 + r_drop * divergence`, with the mean over rows, or tokens, of `(KL(p || q) + KL(q || p)) / 2`, and of
    /// `(p - q)^2` for numbers.
    ///
    /// It is half of the paper's loss, `L1 + L2 + alpha * divergence`, where `alpha` is twice as large: so the loss stays
    /// what it is without, for learning rates and the weights of tasks.
    ///
    /// # Source
    /// Liang et al.: "R-Drop" (arXiv:2106.14448), equations 2 to 4, as in
    /// <https://github.com/dropreg/R-Drop/blob/f3ebc0cd4b19e7c059d4f616487fa46c656c1956/README.md>.
    #[serde(skip_serializing_if = "is_zero")]
    pub r_drop: f64,
    /// How far the words of each text are moved, all tokens together, the way that makes its loss grow fastest; from 0. The
    /// gradients of the loss there are added to those of the loss without, from passes that drop something of their own.
    /// A word of BERT is about 1 long: moved by 1, a text may be past learning. Code with one norm over all texts of a
    /// batch, where 1 is usual, moves each text less, by about 1 over the root of the batch size.
    ///
    /// # Source
    /// The fast gradient method: Miyato, Dai, Goodfellow (arXiv:1605.07725), section 3.
    #[serde(skip_serializing_if = "is_zero")]
    pub fgm: f64,
    /// How slowly the average of the weights moves that is measured and kept in their place, in `[0, 1)`: after step `t`,
    /// `average = d average + (1 - d) weights` with `d = min(ema, (1 + t) / (10 + t))`.
    ///
    /// # Source
    /// Polyak, Juditsky (SIAM J. Control Optim. 30, 1992); Izmailov et al. (arXiv:1803.05407).
    #[serde(skip_serializing_if = "is_zero")]
    pub ema: f64,
}

impl Regularisation {
    /// Refuses numbers out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse =
            |key, got: f64, expected| Err(Error::Recipe { key, got: got.to_string(), expected });
        if !(0.0..1.0).contains(&self.label_smoothing) {
            let expected = "a share from 0, less than 1";
            return refuse("label-smoothing", self.label_smoothing, expected);
        }
        if !(0.0..1.0).contains(&self.ema) {
            return refuse("ema", self.ema, "a number from 0, less than 1");
        }
        for (key, value) in [("r-drop", self.r_drop), ("fgm", self.fgm)] {
            if !(value >= 0.0 && value.is_finite()) {
                return refuse(key, value, "a number from 0");
            }
        }
        Ok(())
    }

    /// Refuses what would do nothing to the model in `dir`; where its encoder `is_frozen`, only the head's input is dropped.
    /// `of_adapters` is the dropout of adapters.
    pub(crate) fn check_model(
        &self,
        config: &BertConfig,
        dir: &Path,
        is_frozen: bool,
        of_adapters: f64,
    ) -> Result<()> {
        let encoder = config.hidden_dropout_prob.max(config.attention_probs_dropout_prob);
        let encoder = if is_frozen { 0.0 } else { encoder.max(of_adapters) };
        let dropout = encoder.max(config.head_dropout());
        if self.r_drop > 0.0 && dropout == 0.0 {
            return Err(Error::NothingDropped { path: dir.join("config.json") });
        }
        if self.fgm > 0.0 && is_frozen {
            return Err(Error::FrozenInput { key: "fgm" });
        }
        Ok(())
    }

    /// Refuses what would do nothing to tasks of these forms.
    pub(crate) fn check_tasks(&self, mut forms: impl Iterator<Item = TaskForm>) -> Result<()> {
        let is_smoothed = |form: TaskForm| {
            matches!(form.answer(), AnswerKind::Label | AnswerKind::Tags | AnswerKind::Part)
        };
        if self.label_smoothing > 0.0 && !forms.any(is_smoothed) {
            return Err(Error::NothingSmoothed);
        }
        Ok(())
    }
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_not_written() {
        assert_eq!(toml::to_string(&Regularisation::default()).unwrap(), "");
        let all = "label_smoothing = 0.1\nr_drop = 1.0\nfgm = 2.0\nema = 0.99\n";
        let read: Regularisation = toml::from_str(all).unwrap();
        assert_eq!(read, Regularisation { label_smoothing: 0.1, r_drop: 1.0, fgm: 2.0, ema: 0.99 });
        assert_eq!(toml::to_string(&read).unwrap(), all);
        let keys: toml::Table = toml::from_str(all).unwrap();
        assert!(keys.keys().all(|key| crate::Recipe::KEYS.contains(&key.as_str())));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let none = Regularisation::default();
        none.check().unwrap();
        for (wrong, expected) in [
            (Regularisation { label_smoothing: 1.0, ..none }, "label-smoothing must be a share"),
            (Regularisation { label_smoothing: -0.1, ..none }, "label-smoothing must be a share"),
            (Regularisation { label_smoothing: f64::NAN, ..none }, "label-smoothing must be a"),
            (Regularisation { r_drop: -1.0, ..none }, "r-drop must be a number from 0, got -1"),
            (Regularisation { fgm: -0.5, ..none }, "fgm must be a number from 0, got -0.5"),
            (Regularisation { ema: 1.0, ..none }, "ema must be a number from 0, less than 1"),
            (Regularisation { r_drop: f64::INFINITY, ..none }, "r-drop must be a number from 0"),
        ] {
            let error = wrong.check().unwrap_err();
            assert!(error.is_bad_input() && error.to_string().starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_would_do_nothing_is_refused() {
        let of = |hidden, attention, head| BertConfig {
            hidden_dropout_prob: hidden,
            attention_probs_dropout_prob: attention,
            classifier_dropout: Some(head),
            ..BertConfig::default()
        };
        let r_drop = Regularisation { r_drop: 1.0, ..Regularisation::default() };
        let check = |config: &BertConfig, is_frozen| {
            r_drop.check_model(config, Path::new("base"), is_frozen, 0.0).map_err(|e| e.to_string())
        };
        for (config, is_frozen) in
            [(of(0.1, 0.0, 0.0), false), (of(0.0, 0.1, 0.0), false), (of(0.0, 0.0, 0.1), true)]
        {
            assert_eq!(check(&config, is_frozen), Ok(()));
        }
        for (config, is_frozen) in [(of(0.0, 0.0, 0.0), false), (of(0.1, 0.1, 0.0), true)] {
            let error = check(&config, is_frozen).unwrap_err();
            assert!(error.contains("config.json") && error.contains("leave r-drop out"), "{error}");
        }
        let fgm = Regularisation { fgm: 1.0, ..Regularisation::default() };
        fgm.check_model(&BertConfig::default(), Path::new("base"), false, 0.0).unwrap();
        let error =
            fgm.check_model(&BertConfig::default(), Path::new("base"), true, 0.0).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().starts_with("fgm "), "{error}");
        let none = Regularisation::default();
        none.check_model(&of(0.0, 0.0, 0.0), Path::new("base"), false, 0.0).unwrap();

        let smoothed = Regularisation { label_smoothing: 0.1, ..none };
        let numbers = [TaskForm::Regress, TaskForm::PairOrdinal, TaskForm::MultiLabel];
        for form in [TaskForm::PairClassify, TaskForm::Tag, TaskForm::Span] {
            smoothed.check_tasks([TaskForm::Regress, form].into_iter()).unwrap();
        }
        let error = smoothed.check_tasks(numbers.into_iter()).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("label-smoothing"), "{error}");
        none.check_tasks(numbers.into_iter()).unwrap();
    }
}
