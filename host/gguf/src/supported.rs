//! The supported pairs of architecture and tokenizer.
//!
//! A pair is supported if `tests/embedded` shows that prompts give the same tokens and greedy
//! sampling the same answers as in llama.cpp. All other pairs are rejected by name, because a
//! model with slightly wrong tokens gives slightly worse answers without any visible error.

use super::Error;

/// Architectures that give the same results as in llama.cpp.
pub(super) const ARCHITECTURES: &[&str] = &["llama", "qwen2", "qwen3"];

/// Pairs of `tokenizer.ggml.model` and `tokenizer.ggml.pre` that give the same tokens as in
/// llama.cpp. SentencePiece tokenizers have no `pre`.
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

/// Returns an error unless the pair is supported.
pub(super) fn check(architecture: &str, model: &str, pre: &str) -> Result<(), Error> {
    if !ARCHITECTURES.contains(&architecture) {
        return Err(Error::UnsupportedArchitecture {
            architecture: architecture.to_owned(),
            supported: ARCHITECTURES.join(", "),
        });
    }
    if !TOKENIZERS.contains(&(model, pre)) {
        let supported: Vec<_> = TOKENIZERS
            .iter()
            .map(|(model, pre)| tokenizer_name(model, pre))
            .collect();
        return Err(Error::UnsupportedTokenizer {
            architecture: architecture.to_owned(),
            tokenizer: tokenizer_name(model, pre),
            supported: supported.join(", "),
        });
    }
    Ok(())
}

/// Returns `model/pre`, or `model` if `pre` is empty.
pub(super) fn tokenizer_name(model: &str, pre: &str) -> String {
    match pre {
        "" => model.to_owned(),
        pre => format!("{model}/{pre}"),
    }
}
