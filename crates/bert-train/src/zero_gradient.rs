//! Where a gradient of zero is right.

/// A part of a parameter's path, and why its gradient may be zero.
const DECLARED: [(&str, &str); 8] = [
    ("self_attention.key.bias", "softmax over the keys does not see what they all share"),
    ("pooling.Adaptive.linear.bias", "softmax over the tokens does not see what they all share"),
    ("pooling.Attention.linear.", "behind it stands a vector that starts at 0"),
    ("pooling.MultiHead.linear.", "behind it stand queries that start at 0"),
    ("task_embedding.LowRank.a.", "behind it stands a matrix that starts at 0"),
    (".lora.a.", "behind it stands a matrix that starts at 0"),
    ("new_word_embeddings", "no text of the batch need have a new word"),
    (".classifier.bias", "softmax over the tokens of a text does not see what they all share"),
];

/// Why the gradient of the parameter at `path` may be zero throughout; none where it may not.
pub(crate) fn reason_for_zero(path: &str) -> Option<&'static str> {
    DECLARED.iter().find(|(part, _)| path.contains(part)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_right_where_it_is_declared() {
        let may_be_zero = |path| reason_for_zero(path).is_some();
        for path in [
            "bert.encoder.layer.11.attention.self_attention.key.bias",
            "tasks.2.pooling.Adaptive.linear.bias",
            "task_embedding.LowRank.a.weight",
            "bert.encoder.layer.11.attention.self_attention.value.lora.a.weight",
            "bert.embeddings.new_word_embeddings",
            "tasks.0.classifier.bias",
        ] {
            assert!(may_be_zero(path), "{path}");
        }
        for path in [
            "bert.encoder.layer.11.attention.self_attention.key.weight",
            "bert.encoder.layer.11.attention.self_attention.query.bias",
            "pooling.Adaptive.linear.weight",
            "pooling.Attention.vector",
            "task_embedding.LowRank.b.weight",
            "bert.encoder.layer.11.attention.self_attention.value.lora.b.weight",
            "bert.embeddings.word_embeddings.weight",
            "classifier.bias",
        ] {
            assert!(!may_be_zero(path), "{path}");
        }
    }
}
