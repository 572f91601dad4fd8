//! The vocabulary of a model: texts, types and scores of its tokens, and the tokens that end
//! an answer. Read from `tokenizer.ggml.*`.

use std::collections::{BTreeSet, HashMap};

use super::super::header::Header;

/// Texts of end-of-generation tokens: a token with one of these texts ends an answer. llama.cpp
/// uses the same texts (its log lists them), because many files declare only one of their
/// end-of-generation tokens in the metadata.
const EOG_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
];

/// Fill-in-the-middle tokens that end an answer as well, as in llama.cpp: the key that declares
/// the token, and the texts to search for if the key is missing.
const FIM_EOG_TEXTS: &[(&str, &[&str])] = &[
    (
        "tokenizer.ggml.fim_pad_token_id",
        &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>"],
    ),
    (
        "tokenizer.ggml.fim_rep_token_id",
        &[
            "<|fim_repo|>",
            "<|repo_name|>",
            "<fim-repo>",
            "<REPO>",
            "<reponame>",
        ],
    ),
    ("tokenizer.ggml.fim_sep_token_id", &["<|file_sep|>"]),
];

/// The type of a token (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The vocabulary of a model. Tokens are indexes into `texts`, `token_types` and `scores`.
#[derive(Debug)]
pub(in super::super) struct Vocabulary {
    pub(super) texts: Vec<String>,
    pub(super) token_types: Vec<TokenType>,
    pub(super) scores: Vec<f32>,
    pub(super) ids: HashMap<String, u32>,
    /// Tokens that are recognized by their text before tokenizing, longest first.
    pub(super) special_tokens: Vec<u32>,
    pub(in super::super) bos_token: Option<u32>,
    pub(in super::super) eos_token: Option<u32>,
    /// The end-of-generation tokens.
    pub(in super::super) eog_tokens: BTreeSet<u32>,
}

impl Vocabulary {
    /// Reads the vocabulary.
    ///
    /// # Errors
    /// Returns the problem if the vocabulary is missing or inconsistent.
    pub(super) fn read(header: &Header) -> Result<Self, String> {
        let texts = header
            .strings("tokenizer.ggml.tokens")
            .ok_or("`tokenizer.ggml.tokens` is missing")?;
        if texts.is_empty() {
            return Err("`tokenizer.ggml.tokens` is empty".into());
        }
        // An empty special token would match everywhere.
        let texts: Vec<String> = texts
            .iter()
            .enumerate()
            .map(|(id, text)| match text.is_empty() {
                true => format!("[EMPTY_{id}]"),
                false => text.clone(),
            })
            .collect();
        let token_types = match header.integers("tokenizer.ggml.token_type") {
            None => vec![TokenType::Normal; texts.len()],
            Some(numbers) if numbers.len() == texts.len() => {
                numbers.iter().map(|number| token_type(*number)).collect()
            }
            Some(numbers) => {
                return Err(format!(
                    "`tokenizer.ggml.token_type` has {} entries for {} tokens",
                    numbers.len(),
                    texts.len()
                ));
            }
        };
        let scores = match header.floats("tokenizer.ggml.scores") {
            None => vec![0.0; texts.len()],
            Some(scores) if scores.len() == texts.len() => scores.to_vec(),
            Some(scores) => {
                return Err(format!(
                    "`tokenizer.ggml.scores` has {} entries for {} tokens",
                    scores.len(),
                    texts.len()
                ));
            }
        };
        let mut ids = HashMap::with_capacity(texts.len());
        for (id, text) in (0u32..).zip(&texts) {
            ids.insert(text.clone(), id);
        }
        let mut vocabulary = Self {
            texts,
            token_types,
            scores,
            ids,
            special_tokens: Vec::new(),
            bos_token: None,
            eos_token: None,
            eog_tokens: BTreeSet::new(),
        };
        vocabulary.find_eog_tokens(header);
        vocabulary.find_special_tokens();
        Ok(vocabulary)
    }

    /// Returns the maximum number of bytes of text that one token can represent; at least 1. The
    /// stored form of a token is never shorter than its text.
    pub(in super::super) fn token_bytes_max(&self) -> usize {
        self.texts.iter().map(String::len).max().unwrap_or(1).max(1)
    }

    pub(in super::super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(in super::super) fn text(&self, id: u32) -> &str {
        self.texts.get(id as usize).map_or("", String::as_str)
    }

    /// Returns the token id that a key declares, if it is within the vocabulary.
    fn token_id(&self, header: &Header, key: &str) -> Option<u32> {
        let id = u32::try_from(header.unsigned(key)?).ok()?;
        ((id as usize) < self.texts.len()).then_some(id)
    }

    /// Sets the BOS, EOS and end-of-generation tokens.
    fn find_eog_tokens(&mut self, header: &Header) {
        self.bos_token = self.token_id(header, "tokenizer.ggml.bos_token_id");
        self.eos_token = self.token_id(header, "tokenizer.ggml.eos_token_id");
        for key in [
            "tokenizer.ggml.eos_token_id",
            "tokenizer.ggml.eot_token_id",
            "tokenizer.ggml.eom_token_id",
        ] {
            self.eog_tokens.extend(self.token_id(header, key));
        }
        for text in EOG_TEXTS {
            if let Some(&id) = self.ids.get(*text) {
                self.eog_tokens.insert(id);
                // Some files declare these tokens as normal. They would then not be recognized
                // in prompts and would occur in the output.
                self.token_types[id as usize] = TokenType::Control;
            }
        }
        // In models with these tokens, `<|end|>` ends only a part of the answer.
        for markers in [["<|return|>", "<|call|>"], ["<|calls|>", "<|flush|>"]] {
            if markers.iter().all(|text| self.ids.contains_key(*text)) {
                let part_end = self.ids.get("<|end|>");
                self.eog_tokens.retain(|id| Some(id) != part_end);
            }
        }
        for (key, texts) in FIM_EOG_TEXTS {
            let declared = self.token_id(header, key);
            let token =
                declared.or_else(|| texts.iter().find_map(|text| self.ids.get(*text).copied()));
            if let Some(id) = token {
                self.eog_tokens.insert(id);
                self.token_types[id as usize] = TokenType::Control;
            }
        }
    }

    /// Sets the special tokens according to the token types.
    fn find_special_tokens(&mut self) {
        self.special_tokens = (0u32..)
            .zip(&self.token_types)
            .filter(|(_, token_type)| {
                matches!(
                    token_type,
                    TokenType::Control | TokenType::UserDefined | TokenType::Unknown
                )
            })
            .map(|(id, _)| id)
            .collect();
        let texts = &self.texts;
        self.special_tokens
            .sort_by_key(|id| std::cmp::Reverse(texts[*id as usize].len()));
    }
}

fn token_type(number: i32) -> TokenType {
    match number {
        1 => TokenType::Normal,
        2 => TokenType::Unknown,
        3 => TokenType::Control,
        4 => TokenType::UserDefined,
        6 => TokenType::Byte,
        _ => TokenType::Unused,
    }
}
