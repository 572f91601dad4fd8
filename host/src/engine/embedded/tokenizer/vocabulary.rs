//! The tokens of a model: their texts, their kinds, what each prints, and
//! which of them end an answer. Read from `tokenizer.ggml.*`.

use std::collections::{BTreeSet, HashMap};

use super::super::gguf::Header;

/// Texts of tokens that end an answer wherever they occur in a vocabulary.
/// llama.cpp goes by the same names (its log lists them), because many files
/// name only one of their end tokens in the metadata.
const END_TEXTS: &[&str] = &[
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

/// Markers of fill-in-the-middle that llama.cpp takes for ends as well, with
/// the keys that can name them instead.
const FILL_ENDS: &[(&str, &[&str])] = &[
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

/// What a token is for (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The tokens of a model.
#[derive(Debug)]
pub(in super::super) struct Vocabulary {
    pub(super) texts: Vec<String>,
    pub(super) kinds: Vec<Kind>,
    pub(super) scores: Vec<f32>,
    pub(super) ids: HashMap<String, u32>,
    /// Tokens that are found in a text before anything else, longest first.
    pub(super) specials: Vec<u32>,
    pub(in super::super) beginning: Option<u32>,
    pub(in super::super) end: Option<u32>,
    pub(in super::super) ends: BTreeSet<u32>,
}

impl Vocabulary {
    /// Reads the vocabulary; an error says what is wrong with it.
    pub(super) fn read(header: &Header) -> Result<Self, String> {
        let texts = header
            .texts("tokenizer.ggml.tokens")
            .ok_or("`tokenizer.ggml.tokens` is missing")?;
        if texts.is_empty() {
            return Err("`tokenizer.ggml.tokens` is empty".into());
        }
        // A token without text would be found everywhere.
        let texts: Vec<String> = texts
            .iter()
            .enumerate()
            .map(|(id, text)| match text.is_empty() {
                true => format!("[EMPTY_{id}]"),
                false => text.clone(),
            })
            .collect();
        let kinds = match header.integers("tokenizer.ggml.token_type") {
            None => vec![Kind::Normal; texts.len()],
            Some(numbers) if numbers.len() == texts.len() => {
                numbers.iter().map(|number| kind(*number)).collect()
            }
            Some(numbers) => {
                return Err(format!(
                    "{} tokens have {} entries in `tokenizer.ggml.token_type`",
                    texts.len(),
                    numbers.len()
                ));
            }
        };
        let scores = match header.floats("tokenizer.ggml.scores") {
            None => vec![0.0; texts.len()],
            Some(scores) if scores.len() == texts.len() => scores.to_vec(),
            Some(scores) => {
                return Err(format!(
                    "{} tokens have {} entries in `tokenizer.ggml.scores`",
                    texts.len(),
                    scores.len()
                ));
            }
        };
        let mut ids = HashMap::with_capacity(texts.len());
        for (id, text) in (0u32..).zip(&texts) {
            ids.insert(text.clone(), id);
        }
        let mut vocabulary = Self {
            texts,
            kinds,
            scores,
            ids,
            specials: Vec::new(),
            beginning: None,
            end: None,
            ends: BTreeSet::new(),
        };
        vocabulary.find_ends(header);
        vocabulary.find_specials();
        Ok(vocabulary)
    }

    /// The most bytes of text that one token can stand for; at least 1. Tokens
    /// are stored in forms that are never shorter than what they stand for.
    pub(in super::super) fn token_bytes_max(&self) -> usize {
        self.texts.iter().map(String::len).max().unwrap_or(1).max(1)
    }

    pub(in super::super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(in super::super) fn text(&self, id: u32) -> &str {
        self.texts.get(id as usize).map_or("", String::as_str)
    }

    /// The id that a key names, when there is such a token.
    fn named(&self, header: &Header, key: &str) -> Option<u32> {
        let id = u32::try_from(header.unsigned(key)?).ok()?;
        ((id as usize) < self.texts.len()).then_some(id)
    }

    fn find_ends(&mut self, header: &Header) {
        self.beginning = self.named(header, "tokenizer.ggml.bos_token_id");
        self.end = self.named(header, "tokenizer.ggml.eos_token_id");
        for key in [
            "tokenizer.ggml.eos_token_id",
            "tokenizer.ggml.eot_token_id",
            "tokenizer.ggml.eom_token_id",
        ] {
            self.ends.extend(self.named(header, key));
        }
        for text in END_TEXTS {
            if let Some(&id) = self.ids.get(*text) {
                self.ends.insert(id);
                // Some files call their end tokens normal ones; then they
                // would neither be found in a prompt nor kept from print.
                self.kinds[id as usize] = Kind::Control;
            }
        }
        // Models with these end an answer by them, and only a part by `<|end|>`.
        for parts in [["<|return|>", "<|call|>"], ["<|calls|>", "<|flush|>"]] {
            if parts.iter().all(|text| self.ids.contains_key(*text)) {
                let part = self.ids.get("<|end|>");
                self.ends.retain(|id| Some(id) != part);
            }
        }
        for (key, texts) in FILL_ENDS {
            let found = self.named(header, key);
            let found =
                found.or_else(|| texts.iter().find_map(|text| self.ids.get(*text).copied()));
            if let Some(id) = found {
                self.ends.insert(id);
                self.kinds[id as usize] = Kind::Control;
            }
        }
    }

    fn find_specials(&mut self) {
        self.specials = (0u32..)
            .zip(&self.kinds)
            .filter(|(_, kind)| matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown))
            .map(|(id, _)| id)
            .collect();
        let texts = &self.texts;
        self.specials
            .sort_by_key(|id| std::cmp::Reverse(texts[*id as usize].len()));
    }
}

fn kind(number: i32) -> Kind {
    match number {
        1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        6 => Kind::Byte,
        _ => Kind::Unused,
    }
}
