//! Which pairs of architecture and tokenizer the embedded engine claims.
//!
//! A pair is here only because `tests/embedded` has shown that prompts become
//! the same tokens as in llama.cpp, and that greedy answers do, too. Every
//! other pair is refused by name: a model with slightly wrong tokens answers
//! slightly worse, and nobody would know why.

use super::Error;

/// Architectures that are computed as llama.cpp does it.
pub(super) const ARCHITECTURES: &[&str] = &["llama", "qwen2", "qwen3"];

/// `tokenizer.ggml.model` and `tokenizer.ggml.pre` that are split as llama.cpp
/// does it. SentencePiece tokenizers have no `pre`.
pub(super) const TOKENIZERS: &[(&str, &str)] = &[
    ("gpt2", "command-r"),
    ("gpt2", "dbrx"),
    ("gpt2", "deepseek-r1-qwen"),
    ("gpt2", "deepseek-v3"),
    ("gpt2", "default"),
    ("gpt2", "gpt-2"),
    ("gpt2", "llama-bpe"),
    ("gpt2", "llama-v3"),
    ("gpt2", "llama3"),
    ("gpt2", "olmo"),
    ("gpt2", "qwen2"),
    ("gpt2", "refact"),
    ("gpt2", "smaug-bpe"),
    ("gpt2", "smollm"),
    ("gpt2", "stablelm2"),
    ("gpt2", "starcoder"),
    ("gpt2", "tekken"),
    ("llama", ""),
];

/// Whether a pair is claimed.
pub(super) fn check(architecture: &str, model: &str, pre: &str) -> Result<(), Error> {
    if !ARCHITECTURES.contains(&architecture) {
        return Err(Error::Architecture {
            architecture: architecture.to_owned(),
            works: ARCHITECTURES.join(", "),
        });
    }
    if !TOKENIZERS.contains(&(model, pre)) {
        let works: Vec<_> = TOKENIZERS
            .iter()
            .map(|(model, pre)| tokenizer_name(model, pre))
            .collect();
        return Err(Error::Tokenizer {
            architecture: architecture.to_owned(),
            tokenizer: tokenizer_name(model, pre),
            works: works.join(", "),
        });
    }
    Ok(())
}

/// Both words of a tokenizer in one.
pub(super) fn tokenizer_name(model: &str, pre: &str) -> String {
    match pre {
        "" => model.to_owned(),
        pre => format!("{model}/{pre}"),
    }
}
