//! Pre-tokenizers: the rules by which byte-level tokenizers split a text into words before
//! merging. `tokenizer.ggml.pre` names the rule of a file.
//!
//! The patterns must be those that a model was trained with: a wrong pattern gives other
//! tokens, and the model gives worse answers without any error. Each rule is compared with
//! llama.cpp in `tests/embedded`.

use std::ops::Range;

use fancy_regex::Regex;

/// The rule of a pre-tokenizer.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct PreTokenizerRule {
    /// Regular expressions that are applied in order, each to the pieces of the previous one.
    patterns: &'static [&'static str],
    /// True if a word that is a token as a whole is not merged from bytes.
    pub(super) whole_words: bool,
    /// True if prompts start with the BOS token, unless the file declares otherwise.
    pub(super) adds_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// llama.cpp's variant, which distinguishes upper and lower case only in ASCII.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// Returns the rule of a `tokenizer.ggml.pre`, or `None` if it is not supported.
pub(in super::super) fn pre_tokenizer_rule(pre: &str) -> Option<PreTokenizerRule> {
    let (patterns, whole_words, adds_bos): (&'static [&'static str], bool, bool) = match pre {
        "llama-bpe" | "llama3" | "llama-v3" => (&[LLAMA3], true, true),
        "smaug-bpe" | "dbrx" => (&[LLAMA3], false, false),
        "qwen2" | "deepseek-r1-qwen" | "stablelm2" => (&[QWEN2], false, false),
        "gpt-2" | "olmo" => (&[GPT2], false, false),
        "smollm" | "starcoder" | "refact" | "command-r" => (&[r"\p{N}", GPT2], false, false),
        "tekken" => (&[TEKKEN], true, true),
        "deepseek-v3" => (
            &[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK3],
            false,
            false,
        ),
        "default" => (
            &[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
            false,
            false,
        ),
        _ => return None,
    };
    Some(PreTokenizerRule {
        patterns,
        whole_words,
        adds_bos,
    })
}

/// Splits text into words.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    patterns: Vec<Regex>,
}

impl PreTokenizer {
    pub(super) fn new(rule: PreTokenizerRule) -> Result<Self, String> {
        let patterns = rule
            .patterns
            .iter()
            .map(|pattern| Regex::new(pattern).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    /// Returns the byte ranges of the words of a text. Text between the matches of a pattern is
    /// a word as well.
    ///
    /// # Errors
    /// Returns an error if matching exceeds the backtracking limit of the regex engine.
    pub(super) fn split(&self, text: &str) -> Result<Vec<Range<usize>>, String> {
        let mut words: Vec<_> = std::iter::once(0..text.len()).collect();
        for pattern in &self.patterns {
            let mut new_words = Vec::new();
            for word in words {
                let piece = &text[word.clone()];
                let mut end = 0;
                for regex_match in pattern.find_iter(piece) {
                    let matched = regex_match.map_err(|error| error.to_string())?.range();
                    for part in [end..matched.start, matched.clone()] {
                        if !part.is_empty() {
                            new_words.push(word.start + part.start..word.start + part.end);
                        }
                    }
                    end = matched.end;
                }
                if end < piece.len() {
                    new_words.push(word.start + end..word.end);
                }
            }
            words = new_words;
        }
        Ok(words)
    }
}
