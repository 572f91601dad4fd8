//! How byte-level tokenizers cut a text into words before they merge: the
//! `tokenizer.ggml.pre` of a file names one of these rules.
//!
//! The expressions are facts about models, not a matter of taste: a wrong one
//! gives a model other tokens than it was trained on, and it answers worse
//! without a word. Each rule here is compared with llama.cpp, see
//! `tests/embedded`.

use std::ops::Range;

use fancy_regex::Regex;

/// What belongs to a `tokenizer.ggml.pre`.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Rule {
    /// Applied in turn, each to the pieces that the one before it left.
    expressions: &'static [&'static str],
    /// Whether a word that is a token as a whole is not merged from bytes.
    pub(super) whole_words: bool,
    /// Whether prompts begin with the beginning token, unless the file says.
    pub(super) beginning: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// llama.cpp's own form of it, which tells upper from lower case only in ASCII.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// The rule that a `tokenizer.ggml.pre` names.
pub(in super::super) fn rule(pre: &str) -> Option<Rule> {
    let (expressions, whole_words, beginning): (&'static [&'static str], bool, bool) = match pre {
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
    Some(Rule {
        expressions,
        whole_words,
        beginning,
    })
}

/// Cuts texts into words.
#[derive(Debug)]
pub(super) struct Splitter {
    expressions: Vec<Regex>,
}

impl Splitter {
    pub(super) fn new(rule: Rule) -> Result<Self, String> {
        let expressions = rule
            .expressions
            .iter()
            .map(|expression| Regex::new(expression).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        Ok(Self { expressions })
    }

    /// The words of a text. What an expression does not match is a word too.
    pub(super) fn words(&self, text: &str) -> Result<Vec<Range<usize>>, String> {
        let mut words: Vec<_> = std::iter::once(0..text.len()).collect();
        for expression in &self.expressions {
            let mut finer = Vec::new();
            for word in words {
                let piece = &text[word.clone()];
                let mut done = 0;
                for found in expression.find_iter(piece) {
                    let found = found.map_err(|error| error.to_string())?.range();
                    for part in [done..found.start, found.clone()] {
                        if !part.is_empty() {
                            finer.push(word.start + part.start..word.start + part.end);
                        }
                    }
                    done = found.end;
                }
                if done < piece.len() {
                    finer.push(word.start + done..word.end);
                }
            }
            words = finer;
        }
        Ok(words)
    }
}
