//! What a run does to the layers of the encoder one by one.

use std::path::Path;

use bert_core::BertConfig;
use serde::{Deserialize, Serialize};

use crate::{
    control::Every,
    error::{Error, Result},
    freeze::Freeze,
    word_config::TrainEmbeddings,
};

/// What a run does to the layers of the encoder one by one; nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Layers {
    /// What of the encoder is kept as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Freeze>,
    /// After each interval, of steps or epochs, one more layer of what is frozen is trained, from the top, the embeddings last;
    /// without `freeze` the whole encoder is frozen at first. A layer's moments begin with its first step.
    ///
    /// # Source
    /// Howard, Ruder (arXiv:1801.06146), section 3.3: one layer an epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfreeze_every: Option<Every>,
    /// How much slower each layer learns than the one above it, in `(0, 1]`: of `L` layers, layer `l`, from 0 at the input, learns
    /// at the run's rate times `lr_decay^(L - l)`, and the embeddings times `lr_decay^(L + 1)`. Poolings, heads and task
    /// embeddings have rates of their own.
    ///
    /// # Source
    /// Howard, Ruder: "Universal Language Model Fine-tuning" (arXiv:1801.06146), section 3.2; for BERT Sun et al.: "How to
    /// Fine-Tune BERT" (arXiv:1905.05583), section 5.3.4, with 0.95; as powers over all depths in ELECTRA
    /// (Clark et al., arXiv:2003.10555), with 0.8 and 0.9.
    #[serde(rename = "layer_lr_decay", skip_serializing_if = "Option::is_none")]
    pub lr_decay: Option<f64>,
    /// So many layers from the top begin anew, and BERT's pooler with them: weights normal, biases 0, norms 1.
    ///
    /// # Source
    /// Zhang et al.: "Revisiting Few-sample BERT Fine-tuning" (arXiv:2006.05987), section 5.
    #[serde(rename = "reinit_layers", skip_serializing_if = "Option::is_none")]
    pub reinit: Option<usize>,
    /// Each layer keeps its input alone for the way back and runs again there: less memory, longer steps, the same numbers. See
    /// [`Encoder::recompute`](bert_core::Encoder::recompute).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
}

impl Layers {
    /// Refuses numbers out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |key, got, expected| Err(Error::Recipe { key, got, expected });
        if let Some(decay) = self.lr_decay.filter(|decay| !(*decay > 0.0 && *decay <= 1.0)) {
            let expected = "a number above 0, at most 1";
            return refuse("layer-lr-decay", decay.to_string(), expected);
        }
        if self.reinit == Some(0) {
            return refuse("reinit-layers", "0".to_owned(), "a whole number from 1");
        }
        if self.freeze == Some(Freeze::Layers(0)) {
            return refuse(
                "freeze",
                "layers=0".to_owned(),
                "embeddings, layers=N with N from 1, or encoder",
            );
        }
        if let Some(every) = self.unfreeze_every
            && !matches!(every, Every::Epoch | Every::Steps(1..))
        {
            return refuse("unfreeze-every", every.to_string(), "epoch or a number of steps");
        }
        if self.freeze == Some(Freeze::Encoder) {
            let with = [
                ("unfreeze-every", self.unfreeze_every.is_some()),
                ("layer-lr-decay", self.lr_decay.is_some()),
                ("reinit-layers", self.reinit.is_some()),
                ("recompute", self.recompute),
            ];
            if let Some((key, _)) = with.into_iter().find(|(_, is_given)| *is_given) {
                return Err(Error::FrozenLayers { key, freeze: Freeze::Encoder });
            }
        }
        Ok(())
    }

    /// Refuses what the model in `dir` has not layers enough for.
    pub(crate) fn check_model(&self, config: &BertConfig, dir: &Path) -> Result<()> {
        let layers = config.num_hidden_layers;
        let frozen = match self.freeze {
            Some(Freeze::Layers(frozen)) => frozen,
            _ => 0,
        };
        let reinit = self.reinit.unwrap_or(0);
        for (key, got) in [("reinit-layers", reinit), ("freeze layers", frozen)] {
            if got > layers {
                let path = dir.join("config.json");
                return Err(Error::LayerCount { key, got, layers, path });
            }
        }
        let of_trained =
            [("layer-lr-decay", self.lr_decay.is_some()), ("recompute", self.recompute)];
        let useless = of_trained.into_iter().find(|(_, is_given)| *is_given);
        if let (Some(freeze), Some((key, _))) = (self.freeze, useless)
            && self.always_frozen(layers) > layers
        {
            return Err(Error::FrozenLayers { key, freeze });
        }
        let frozen = self.frozen_at_first(layers);
        if reinit > 0 && frozen + reinit > layers + 1 {
            let at_most = match layers - reinit {
                0 => Freeze::Embeddings,
                kept => Freeze::Layers(kept),
            };
            return Err(Error::FrozenAnew { frozen: frozen - 1, reinit, layers, at_most });
        }
        Ok(())
    }

    /// Refuses to train new words alone, where their table is frozen.
    pub(crate) fn check_words(&self, train: TrainEmbeddings) -> Result<()> {
        let key = if self.freeze.is_some() { "freeze" } else { "unfreeze-every" };
        let is_frozen = self.freeze.is_some() || self.unfreeze_every.is_some();
        match train {
            TrainEmbeddings::New if is_frozen => Err(Error::FrozenWords { key }),
            _ => Ok(()),
        }
    }

    /// Refuses to keep the hidden states of what is no texts with one label.
    pub(crate) fn check_states(&self, holds: &'static str, config: &BertConfig) -> Result<()> {
        match self.freeze {
            Some(Freeze::Encoder) => {
                Err(Error::FrozenStates { holds, layers: config.num_hidden_layers })
            }
            _ => Ok(()),
        }
    }

    /// How many parts of an encoder with so many layers are frozen before the first step, see [`Freeze::parts`].
    fn frozen_at_first(&self, layers: usize) -> usize {
        let all = self.unfreeze_every.map(|_| 1 + layers);
        self.freeze.map(|freeze| freeze.parts(layers)).or(all).unwrap_or(0)
    }

    /// How many are after so many steps and epochs.
    pub(crate) fn frozen(&self, layers: usize, steps: usize, epochs: usize) -> usize {
        let thawed = match self.unfreeze_every {
            None => 0,
            Some(Every::Steps(every)) => steps / every,
            Some(_) => epochs,
        };
        self.frozen_at_first(layers).saturating_sub(thawed)
    }

    /// How many are as long as the run is.
    pub(crate) fn always_frozen(&self, layers: usize) -> usize {
        if self.unfreeze_every.is_some() { 0 } else { self.frozen_at_first(layers) }
    }

    /// Says what is frozen, and until when, in a run of so many steps and epochs.
    pub(crate) fn told(&self, layers: usize, steps: usize, epochs: usize) -> Option<String> {
        let at_first = self.frozen_at_first(layers);
        if at_first == 0 || self.freeze == Some(Freeze::Encoder) {
            return None;
        }
        let named = |parts: usize| match parts {
            0 => "nothing".to_owned(),
            1 => "the embeddings".to_owned(),
            parts => format!("the embeddings and {} of {layers} layers", parts - 1),
        };
        let first = named(at_first);
        let Some(every) = self.unfreeze_every else {
            return Some(format!("{first} stay as they are"));
        };
        let every = match every {
            Every::Steps(steps) => format!("{steps} steps"),
            _ => "epoch".to_owned(),
        };
        // At its last step.
        let last = named(self.frozen(layers, steps.saturating_sub(1), epochs.saturating_sub(1)));
        Some(format!(
            "{first} are frozen at first, and after every {every} one layer more is trained, from the top: at the end \
             {last} will be frozen"
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_not_written() {
        assert_eq!(toml::to_string(&Layers::default()).unwrap(), "");
        let all = "freeze = \"layers=1\"\nunfreeze_every = \"7\"\nlayer_lr_decay = 0.9\nreinit_layers = 2\nrecompute = true\n";
        let read: Layers = toml::from_str(all).unwrap();
        let expected = Layers {
            freeze: Some(Freeze::Layers(1)),
            unfreeze_every: Some(Every::Steps(7)),
            lr_decay: Some(0.9),
            reinit: Some(2),
            recompute: true,
        };
        assert_eq!(read, expected);
        assert_eq!(toml::to_string(&read).unwrap(), all);
        let keys: toml::Table = toml::from_str(all).unwrap();
        assert!(keys.keys().all(|key| crate::Recipe::KEYS.contains(&key.as_str())));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let decay = |decay| Layers { lr_decay: Some(decay), ..Layers::default() };
        let reinit = |layers| Layers { reinit: Some(layers), ..Layers::default() };
        decay(1.0).check().unwrap();
        for wrong in [decay(0.0), decay(1.1), decay(f64::NAN)] {
            let error = wrong.check().unwrap_err();
            let expected = "layer-lr-decay must be a number above 0, at most 1, got";
            assert!(error.is_bad_input() && error.to_string().starts_with(expected), "{error}");
        }
        let error = reinit(0).check().unwrap_err();
        assert!(
            error.is_bad_input() && error.to_string().contains("reinit-layers must"),
            "{error}"
        );
        let config = BertConfig { num_hidden_layers: 3, ..BertConfig::default() };
        let check = |layers: Layers| layers.check_model(&config, Path::new("base"));
        check(reinit(3)).unwrap();
        let error = check(reinit(4)).unwrap_err();
        assert!(error.is_bad_input(), "{error}");
        assert!(error.to_string().contains("config.json has 3 layers"), "{error}");
        let freeze = |freeze| Layers { freeze: Some(freeze), ..Layers::default() };
        check(freeze(Freeze::Layers(3))).unwrap();
        let error = check(freeze(Freeze::Layers(4))).unwrap_err();
        assert!(error.to_string().contains("freeze layers is 4"), "{error}");
        assert!(freeze(Freeze::Layers(0)).check().is_err());
        for every in [Every::Never, Every::Seconds(9), Every::Steps(0)] {
            let layers = Layers { unfreeze_every: Some(every), ..Layers::default() };
            let error = layers.check().unwrap_err();
            assert!(error.to_string().starts_with("unfreeze-every must be epoch"), "{error}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let encoder = Layers { freeze: Some(Freeze::Encoder), ..Layers::default() };
        encoder.check().unwrap();
        for (layers, key) in [
            (Layers { unfreeze_every: Some(Every::Epoch), ..encoder }, "unfreeze-every"),
            (Layers { lr_decay: Some(0.5), ..encoder }, "layer-lr-decay"),
            (Layers { reinit: Some(1), ..encoder }, "reinit-layers"),
            (Layers { recompute: true, ..encoder }, "recompute"),
        ] {
            let error = layers.check().unwrap_err();
            assert!(error.is_bad_input() && error.to_string().starts_with(key), "{error}");
        }
        let config = BertConfig { num_hidden_layers: 3, ..BertConfig::default() };
        let check = |layers: Layers| layers.check_model(&config, Path::new("base"));
        let frozen = |layers, reinit| Layers {
            freeze: Some(Freeze::Layers(layers)),
            reinit: Some(reinit),
            ..Layers::default()
        };
        check(frozen(1, 2)).unwrap();
        check(Layers { freeze: Some(Freeze::Embeddings), reinit: Some(3), ..Layers::default() })
            .unwrap();
        let error = check(frozen(2, 2)).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("layers=1"), "{error}");
        for (layers, key) in [
            (Layers { lr_decay: Some(0.5), reinit: None, ..frozen(3, 1) }, "layer-lr-decay"),
            (Layers { recompute: true, reinit: None, ..frozen(3, 1) }, "recompute"),
        ] {
            let error = check(layers).unwrap_err().to_string();
            assert!(error.starts_with(key) && error.contains("\"layers=3\""), "{error}");
            check(Layers { freeze: Some(Freeze::Layers(2)), ..layers }).unwrap();
            check(Layers { unfreeze_every: Some(Every::Epoch), ..layers }).unwrap();
        }
        let gradual =
            Layers { unfreeze_every: Some(Every::Epoch), reinit: Some(1), ..Layers::default() };
        assert!(check(gradual).is_err());
    }

    #[test]
    fn layers_thaw_from_the_top() {
        let parts = |layers: Layers| -> Vec<usize> {
            (0..7).map(|step| layers.frozen(3, step, step / 3)).collect()
        };
        let none = Layers::default();
        assert_eq!(parts(none), [0; 7]);
        assert_eq!(parts(Layers { freeze: Some(Freeze::Layers(2)), ..none }), [3; 7]);
        assert_eq!(parts(Layers { freeze: Some(Freeze::Encoder), ..none }), [4; 7]);
        let steps = Layers { unfreeze_every: Some(Every::Steps(2)), ..none };
        assert_eq!(parts(steps), [4, 4, 3, 3, 2, 2, 1]);
        let epochs =
            Layers { freeze: Some(Freeze::Embeddings), unfreeze_every: Some(Every::Epoch), ..none };
        assert_eq!(parts(epochs), [1, 1, 1, 0, 0, 0, 0]);
        assert!(steps.told(3, 7, 3).unwrap().contains("3 of 3 layers are frozen at first"));
        // After six steps three parts are thawed.
        assert!(steps.told(3, 7, 3).unwrap().ends_with("at the end the embeddings will be frozen"));
        assert!(epochs.told(3, 7, 3).unwrap().ends_with("at the end nothing will be frozen"));
        assert_eq!(none.told(3, 7, 3), None);
    }
}
