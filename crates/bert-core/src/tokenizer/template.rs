//! What puts `[CLS]` and `[SEP]` around a text.

use serde_json::Value;
use tokenizers::{
    Encoding, Model, PostProcessor, PostProcessorWrapper, models::wordpiece::WordPiece,
    processors::template::TemplateProcessing,
};

use super::{SpecialToken, settings::Settings};

/// What is wrong with a template.
type Problem = String;

/// `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`, the second text being of type 1.
pub(super) fn bert(settings: &Settings, model: &WordPiece) -> Result<TemplateProcessing, Problem> {
    let [cls, sep] = [SpecialToken::Cls, SpecialToken::Sep].map(|token| settings.spelling(token));
    let id = |token: &String| model.token_to_id(token).ok_or(format!("needs {token}"));
    let ids = vec![(cls.clone(), id(&cls)?), (sep.clone(), id(&sep)?)];
    let single = vec![cls, "$A".into(), sep.clone()];
    let pair = [&single[..], &["$B:1".into(), format!("{sep}:1")]].concat();
    let mut builder = TemplateProcessing::builder();
    builder.try_single(single)?.try_pair(pair)?.special_tokens(ids);
    builder.build().map_err(|error| error.to_string())
}

/// The tokenizer's own template, where it can be run on any text without a panic and frames it.
pub(super) fn checked(library: &tokenizers::Tokenizer) -> Result<PostProcessorWrapper, Problem> {
    let template = library.get_post_processor().ok_or("is missing")?;
    // The library reads a template without looking whether its parts fit together.
    check_parts(&serde_json::to_value(template).map_err(|error| error.to_string())?)?;
    let [single, pair] = [false, true].map(|is_pair| template.added_tokens(is_pair));
    if single < 2 || pair < 3 {
        return Err(format!("adds {single} special tokens to one text and {pair} to a pair"));
    }
    for pair in [None, Some(Encoding::default())] {
        let frame = template.process(Encoding::default(), pair, true);
        let frame = frame.map_err(|error| error.to_string())?;
        if let Some(id) = frame.get_ids().iter().find(|id| library.id_to_token(**id).is_none()) {
            return Err(format!("adds a token with id {id}, which no word has"));
        }
    }
    Ok(template.clone())
}

/// Checks every template in a post-processor, which may be a sequence of several.
fn check_parts(processor: &Value) -> Result<(), Problem> {
    elements(&processor["processors"]).iter().try_for_each(check_parts)?;
    if processor["type"] != "TemplateProcessing" {
        return Ok(());
    }
    for (name, texts) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
        let parts = elements(&processor[name]);
        let misfit = |part: &&Value| match part["Sequence"]["id"].as_str() {
            Some(text) => !texts.contains(&text),
            None => !is_known(&processor["special_tokens"], &part["SpecialToken"]["id"]),
        };
        if let Some(part) = parts.iter().find(misfit) {
            return Err(format!("has a part that does not fit into {name:?}: {part}"));
        }
        let count =
            |text: &&str| parts.iter().filter(|part| part["Sequence"]["id"] == **text).count();
        if texts.iter().any(|text| count(text) == 0) {
            return Err(format!("leaves a text out of {name:?}"));
        }
        if texts.iter().any(|text| count(text) > 1) {
            return Err(format!("has a text more than once in {name:?}"));
        }
    }
    Ok(())
}

/// Whether the special token is defined, with an id for each of its tokens.
fn is_known(special_tokens: &Value, id: &Value) -> bool {
    let token = id.as_str().and_then(|id| special_tokens.get(id));
    token.is_some_and(|token| elements(&token["ids"]).len() == elements(&token["tokens"]).len())
}

fn elements(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}
