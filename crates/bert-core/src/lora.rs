//! LoRA: an adapter of low rank beside a map that stays as it is.

use std::{fmt, str::FromStr};

use bert_kernels::{
    Dropout, low_rank,
    random::{Key, Purpose, Stream},
};
use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{checkpoint::NamedTensor, parameters::fnv1a};

/// How the maps of an encoder are adapted; written `rank=8,alpha=16,dropout=0.1,targets=query+value`.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// The width between the two matrices of an adapter, from 1.
    pub rank: usize,
    /// An adapter's output is multiplied with `alpha / rank`.
    pub alpha: f64,
    /// The probability that an element of an adapter's input is dropped in training, in `[0, 1)`.
    pub dropout: f64,
    /// The maps of each layer that have an adapter.
    pub targets: Vec<LoraTarget>,
}

/// A map of an encoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum LoraTarget {
    /// Attention's, to queries.
    Query,
    /// To keys.
    Key,
    /// To values.
    Value,
    /// Attention's, back to hidden states.
    AttentionOutput,
    /// The widening half of the feed-forward part.
    Intermediate,
    /// The narrowing half.
    Output,
}

impl LoraConfig {
    /// Adapters of `rank` with every default: alpha 16, dropout 0.1, on queries and values.
    ///
    /// # Source
    /// Hu et al. (arXiv:2106.09685): queries and values (section 4.2); alpha stays where the rank changes (4.1); 16 is the
    /// alpha of their code for GLUE.
    pub fn new(rank: usize) -> Self {
        let targets = vec![LoraTarget::Query, LoraTarget::Value];
        Self { rank, alpha: 16.0, dropout: 0.1, targets }
    }

    /// What an adapter's output is multiplied with.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Whether a parameter of this name is an adapter's.
    pub fn is_adapter(name: &str) -> bool {
        name.ends_with(".lora.a.weight") || name.ends_with(".lora.b.weight")
    }

    /// The parameters with each adapter added to its map, and so gone: the same model without adapters.
    ///
    /// # Panics
    /// As [`add_adapter`].
    pub fn merge(&self, parameters: Vec<NamedTensor>) -> Vec<NamedTensor> {
        let (adapters, mut parameters): (Vec<_>, Vec<_>) =
            parameters.into_iter().partition(|tensor| Self::is_adapter(&tensor.name));
        for tensor in &mut parameters {
            let Some(map) = tensor.name.strip_suffix(".weight") else { continue };
            let of = |part: &str| {
                let name = format!("{map}.lora.{part}.weight");
                adapters.iter().find(|adapter| adapter.name == name)
            };
            if let (Some(a), Some(b)) = (of("a"), of("b")) {
                add_adapter(tensor, [a, b], self.scale());
            }
        }
        parameters
    }
}

/// Adds an adapter to the map that it stands beside: `map += scale b a`.
///
/// # Shapes
/// As checkpoints have them: `map` is `[out, in]`, `a` `[rank, in]`, `b` `[out, rank]`
///
/// # Panics
/// When the shapes are others, or one of their sizes is 0.
pub fn add_adapter(map: &mut NamedTensor, [a, b]: [&NamedTensor; 2], scale: f64) {
    let [&[outputs, inputs], &[rank, _]] = [&map.shape[..], &a.shape[..]] else {
        panic!("add_adapter: a map of shape {:?}, a of {:?}", map.shape, a.shape) // INVARIANT: see `# Panics`
    };
    assert_eq!((&a.shape[..], &b.shape[..]), (&[rank, inputs][..], &[outputs, rank][..]));
    let scale = scale as f32;
    let mut sum = vec![0.0; inputs];
    let rows = map.values.chunks_exact_mut(inputs).zip(b.values.chunks_exact(rank));
    for (weight, b) in rows {
        sum.fill(0.0);
        for (factor, a) in b.iter().zip(a.values.chunks_exact(inputs)) {
            sum.iter_mut().zip(a).for_each(|(sum, a)| *sum += factor * a);
        }
        weight.iter_mut().zip(&sum).for_each(|(weight, sum)| *weight += scale * sum);
    }
}

impl LoraTarget {
    /// Every map of a layer, in the order of their computation.
    pub const ALL: [Self; 6] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::AttentionOutput,
        Self::Intermediate,
        Self::Output,
    ];

    /// The map's name in a layer of Hugging Face's model.
    pub fn path(self) -> &'static str {
        match self {
            Self::Query => "attention.self.query",
            Self::Key => "attention.self.key",
            Self::Value => "attention.self.value",
            Self::AttentionOutput => "attention.output.dense",
            Self::Intermediate => "intermediate.dense",
            Self::Output => "output.dense",
        }
    }
}

impl fmt::Display for LoraTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::AttentionOutput => "attention-output",
            Self::Intermediate => "intermediate",
            Self::Output => "output",
        })
    }
}

impl fmt::Display for LoraConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, alpha, dropout, targets } = self;
        let targets: Vec<String> = targets.iter().map(LoraTarget::to_string).collect();
        let targets = targets.join("+");
        f.pad(&format!("rank={rank},alpha={alpha},dropout={dropout},targets={targets}"))
    }
}

/// What says nothing about adapters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseLoraError {
    /// There is no rank.
    #[error(
        "expected a rank, for example rank=8 or rank=8,alpha=16,dropout=0.1,targets=query+value"
    )]
    NoRank,
    /// A part is no KEY=VALUE with a key that there is, or a key comes twice.
    #[error(
        "unexpected {0:?}: expected rank=N, alpha=X, dropout=X and targets=MAP+MAP, once each, with commas between them"
    )]
    Key(String),
    /// A value does not fit its key.
    #[error("{key} must be {expected}, got {got:?}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// There is no such map.
    #[error(
        "unknown target {0:?}: expected query, key, value, attention-output, intermediate or output, with + between them"
    )]
    Target(String),
}

impl FromStr for LoraTarget {
    type Err = ParseLoraError;

    fn from_str(name: &str) -> Result<Self, ParseLoraError> {
        let found = Self::ALL.into_iter().find(|target| target.to_string() == name);
        found.ok_or_else(|| ParseLoraError::Target(name.to_owned()))
    }
}

impl FromStr for LoraConfig {
    type Err = ParseLoraError;

    fn from_str(text: &str) -> Result<Self, ParseLoraError> {
        let (mut config, mut seen) = (Self::new(0), vec![]);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            if seen.contains(&key) {
                return Err(ParseLoraError::Key(part.to_owned()));
            }
            seen.push(key);
            let number = |key, expected, is_right: &dyn Fn(f64) -> bool| {
                let number = value.parse().ok().filter(|number| is_right(*number));
                number.ok_or_else(|| ParseLoraError::Value { key, expected, got: value.to_owned() })
            };
            match key {
                "rank" => {
                    let is_right =
                        |rank: f64| (1.0..=65_536.0).contains(&rank) && rank.fract() == 0.0;
                    config.rank = number("rank", "a whole number from 1", &is_right)? as usize;
                }
                "alpha" => {
                    let is_right = |alpha: f64| alpha > 0.0 && alpha.is_finite();
                    config.alpha = number("alpha", "a number above 0", &is_right)?;
                }
                "dropout" => {
                    let is_right = |dropout: f64| (0.0..1.0).contains(&dropout);
                    config.dropout = number("dropout", "a number from 0 to below 1", &is_right)?;
                }
                "targets" => {
                    config.targets = value.split('+').map(str::parse).collect::<Result<_, _>>()?;
                    config.targets.sort_unstable();
                    config.targets.dedup();
                }
                _ => return Err(ParseLoraError::Key(part.to_owned())),
            }
        }
        if config.rank == 0 { Err(ParseLoraError::NoRank) } else { Ok(config) }
    }
}

impl Serialize for LoraConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LoraConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// `alpha / rank dropout(x) A B`, which is added to the output of the map that it adapts.
///
/// A starts uniform within `1 / sqrt(in)`, and B at 0: training begins with the pre-trained model. Neither a gradient of the map
/// nor a matrix of its size is made.
///
/// # Source
/// Hu et al.: "LoRA: Low-rank adaptation of large language models" (arXiv:2106.09685), section 4.1; A as in their code
/// (microsoft/LoRA, `loralib/layers.py`: `kaiming_uniform_` with `a = sqrt(5)`).
#[derive(Module, Debug)]
pub struct Lora {
    /// `[in, rank]`
    pub a: Linear,
    /// `[rank, out]`
    pub b: Linear,
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    dropout: f64,
}

impl Lora {
    pub(crate) fn new(
        config: &LoraConfig,
        [inputs, outputs]: [usize; 2],
        name: &str,
        seed: u64,
        device: &Device,
    ) -> Self {
        let LoraConfig { rank, dropout, .. } = *config;
        let mut stream = Stream::new(seed, Purpose::Init, fnv1a(&format!("{name}.lora.a.weight")));
        let bound = 1.0 / (inputs as f32).sqrt();
        // As a checkpoint holds it, `[rank, in]`, like every other starting value.
        let drawn: Vec<f32> =
            (0..rank * inputs).map(|_| (2.0 * stream.uniform() - 1.0) * bound).collect();
        let a = (0..inputs).flat_map(|input| drawn.iter().skip(input).step_by(inputs).copied());
        let a = TensorData::new(a.collect::<Vec<f32>>(), [inputs, rank]);
        let map = |weight| Linear { weight: Param::from_tensor(weight), bias: None };
        Self {
            a: map(Tensor::from_data(a, device)),
            b: map(Tensor::zeros([rank, outputs], device)),
            scale: config.scale(),
            dropout,
        }
    }

    /// What the map gives for `x`, `y`, and what the adapter does.
    pub(crate) fn add(&self, y: Tensor<2>, x: Tensor<2>, site: Option<Key>) -> Tensor<2> {
        let drop = site.and_then(|key| Dropout::new(self.dropout, key));
        low_rank(y, x, self.a.weight.val(), self.b.weight.val(), self.scale, drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn configs_are_spelt_as_they_are_read() {
        let full = "rank=4,alpha=2.5,dropout=0,targets=key+attention-output+intermediate+output";
        let config: LoraConfig = full.parse().unwrap();
        assert_eq!((config.rank, config.alpha, config.dropout), (4, 2.5, 0.0));
        assert_eq!(config.to_string(), full);
        assert_eq!(serde_json::to_string(&config).unwrap(), format!("{full:?}"));
        let short: LoraConfig = "rank=8".parse().unwrap();
        assert_eq!(short, LoraConfig::new(8));
        assert_eq!(short.to_string(), "rank=8,alpha=16,dropout=0.1,targets=query+value");
        let turned: LoraConfig = "targets=value+query+value,rank=8".parse().unwrap();
        assert_eq!(turned, short);
    }

    #[test]
    fn what_is_no_config_is_refused() {
        for (text, message) in [
            ("", "unexpected \"\""),
            ("alpha=2", "expected a rank"),
            ("8", "unexpected \"8\""),
            ("rank=8,rank=9", "unexpected \"rank=9\""),
            ("rank=8,ranks=9", "unexpected \"ranks=9\""),
            ("rank=0", "rank must be a whole number from 1, got \"0\""),
            ("rank=2.5", "rank must be a whole number from 1, got \"2.5\""),
            ("rank=8,alpha=0", "alpha must be a number above 0, got \"0\""),
            ("rank=8,alpha=inf", "alpha must be a number above 0, got \"inf\""),
            ("rank=8,dropout=1", "dropout must be a number from 0 to below 1, got \"1\""),
            ("rank=8,dropout=NaN", "dropout must be a number from 0 to below 1, got \"NaN\""),
            ("rank=8,targets=values", "unknown target \"values\": expected query, key, value"),
            ("rank=8,targets=", "unknown target \"\""),
        ] {
            let error = text.parse::<LoraConfig>().unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    /// `W + 3/2 B A`, with `B A = [[1, 2], [3, 4]] [[5, 6, 0], [7, 8, 1]]`.
    #[test]
    fn merging_by_hand() {
        let tensor = |name: &str, shape: [usize; 2], values: &[f32]| NamedTensor {
            name: name.into(),
            shape: shape.into(),
            values: values.into(),
        };
        let parameters = vec![
            tensor("map.weight", [2, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
            tensor("map.lora.a.weight", [2, 3], &[5.0, 6.0, 0.0, 7.0, 8.0, 1.0]),
            tensor("map.lora.b.weight", [2, 2], &[1.0, 2.0, 3.0, 4.0]),
            tensor("other.weight", [1, 1], &[9.0]),
        ];
        let config = LoraConfig { alpha: 3.0, ..LoraConfig::new(2) };
        // B A = [[19, 22, 2], [43, 50, 4]]
        let expected = vec![
            tensor("map.weight", [2, 3], &[29.5, 33.0, 3.0, 64.5, 76.0, 6.0]),
            tensor("other.weight", [1, 1], &[9.0]),
        ];
        assert_eq!(config.merge(parameters), expected);
    }

    #[test]
    fn an_adapter_starts_uniform_and_at_nothing() {
        #[cfg(feature = "flex")]
        {
            let device = Device::flex();
            let lora = Lora::new(&LoraConfig::new(7), [400, 11], "map", 3, &device);
            let a: Vec<f32> = lora.a.weight.val().into_data().iter::<f32>().collect();
            let bound = 0.05;
            let within = a.iter().filter(|value| value.abs() <= bound).count();
            let mean_square = a.iter().map(|value| value * value).sum::<f32>() / a.len() as f32;
            // A uniform number's variance is a third of its bound's square; the standard error is 0.02 of that.
            assert!(within == 2800 && (mean_square / (bound * bound / 3.0) - 1.0).abs() < 0.1);
            let b: Vec<f32> = lora.b.weight.val().into_data().iter::<f32>().collect();
            assert_eq!(b, [0.0; 77]);
        }
    }
}
