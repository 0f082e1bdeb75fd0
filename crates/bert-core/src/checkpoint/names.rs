//! Tensor names: the spellings that checkpoints have, and what each tensor is for.

/// What a tensor of a checkpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Part of the encoder, or unknown: a model that leaves it unread is not the one that was
    /// saved.
    Encoder,
    /// BERT's pooler, which a model with another pooling leaves unread.
    Pooler,
    /// Part of a task's head, which a model for another task leaves unread.
    Head,
    /// Of no use for fine-tuning: pre-training heads, and buffers that can be computed.
    Ignorable,
}

/// Every name that is not the encoder's: a beginning that ends in a dot, or a whole name.
const ROLES: &[(&str, Role)] = &[
    ("pooler.", Role::Pooler),
    ("classifier.", Role::Head),
    ("qa_outputs.", Role::Head),
    ("pooling.", Role::Head),
    ("layer_mixture.", Role::Head),
    ("task_embedding.", Role::Head),
    ("tasks.", Role::Head),
    ("cls.", Role::Ignorable),
    ("embeddings.position_ids", Role::Ignorable),
    ("embeddings.token_type_ids", Role::Ignorable),
];

/// Endings from the time of TensorFlow, and what they are called now.
const RENAMED: [(&str, &str); 2] =
    [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")];

/// What the tensor of this (canonical) name is for.
pub fn role(name: &str) -> Role {
    let is =
        |known: &str| if known.ends_with('.') { name.starts_with(known) } else { name == known };
    ROLES.iter().find(|(known, _)| is(known)).map_or(Role::Encoder, |(_, role)| *role)
}

/// The name under which a tensor is asked for, however its file spells it.
pub(super) fn canonical(spelling: &str) -> String {
    let name = spelling.strip_prefix("bert.").unwrap_or(spelling);
    for (old, new) in RENAMED {
        if let Some(start) = name.strip_suffix(old) {
            return format!("{start}{new}");
        }
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_become_hugging_faces_current_names() {
        for (spelling, name) in [
            ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
            ("embeddings.LayerNorm.beta", "embeddings.LayerNorm.bias"),
            ("bert.pooler.dense.weight", "pooler.dense.weight"),
            ("classifier.weight", "classifier.weight"),
            ("my.bert.gamma", "my.bert.gamma"),
        ] {
            assert_eq!(canonical(spelling), name);
        }
    }

    #[test]
    fn roles_go_by_the_table() {
        for (name, expected) in [
            ("encoder.layer.0.output.dense.weight", Role::Encoder),
            ("anything.else", Role::Encoder),
            ("classifiers.weight", Role::Encoder),
            ("embeddings.position_ids.weight", Role::Encoder),
            ("pooler.dense.bias", Role::Pooler),
            ("classifier.weight", Role::Head),
            ("qa_outputs.bias", Role::Head),
            ("cls.predictions.bias", Role::Ignorable),
            ("embeddings.position_ids", Role::Ignorable),
        ] {
            assert_eq!(role(name), expected, "{name}");
        }
    }
}
