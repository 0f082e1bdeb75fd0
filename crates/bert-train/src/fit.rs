//! Whether the settings of a run go together, and with the model that it starts from.

use std::path::Path;

use bert_core::{BertConfig, LoraConfig};

use crate::{
    adapter::check_lora, error::Result, freeze::Freeze, recipe::Recipe,
    word_config::TrainEmbeddings,
};

/// Refuses what the model in `dir`, of this config, can't be trained with, as far as that can be told without the data.
///
/// # Errors
/// For layers that there are not, what stays frozen and yet is to be trained, and what would do nothing.
pub(crate) fn check_fit(
    recipe: &Recipe,
    words: TrainEmbeddings,
    lora: Option<&LoraConfig>,
    config: &BertConfig,
    dir: &Path,
) -> Result<()> {
    let Recipe { layers, regularisation, .. } = recipe;
    layers.check_model(config, dir)?;
    layers.check_words(words)?;
    words.frozen_words(config, dir)?;
    let is_frozen = layers.freeze == Some(Freeze::Encoder);
    let of_adapters = lora.map_or(0.0, |lora| lora.dropout);
    regularisation.check_model(config, dir, is_frozen, of_adapters)?;
    lora.map_or(Ok(()), |lora| check_lora(lora, config, recipe))?;
    recipe.check_balance(config)
}
