//! Texts to tokens and tokens to bytes, as the file's `tokenizer.ggml.*`
//! says, and token for token as llama.cpp does it.

mod bpe;
mod split;
mod spm;
mod vocabulary;

use std::ops::Range;

use super::gguf::Header;
pub(super) use split::rule;
use vocabulary::Kind;
pub(super) use vocabulary::Vocabulary;

/// Why a tokenizer cannot be built.
#[derive(Debug)]
pub(super) enum Fault {
    /// The metadata contradict themselves.
    Broken(String),
    /// They ask for something that we do not do.
    Feature(String),
}

/// A model's tokenizer.
#[derive(Debug)]
pub(super) struct Tokenizer {
    pub(super) vocabulary: Vocabulary,
    method: Method,
    /// The beginning token, when prompts start with it.
    beginning: Option<u32>,
}

#[derive(Debug)]
enum Method {
    BytePairs(Box<bpe::Merges>),
    SentencePiece {
        /// Whether a text that starts or follows a special token gets a space
        /// put in front.
        leading_space: bool,
    },
}

/// A part of a prompt.
enum Part {
    Text(Range<usize>),
    Token(u32),
}

impl Tokenizer {
    /// Builds the tokenizer of a file whose kind of tokenizer is supported.
    pub(super) fn read(header: &Header) -> Result<Self, Fault> {
        let vocabulary = Vocabulary::read(header).map_err(Fault::Broken)?;
        let (method, begins) = match header.text("tokenizer.ggml.model") {
            Some("llama") => {
                if (0..=255).any(|byte| spm::byte_token(&vocabulary, byte).is_none()) {
                    return Err(Fault::Broken(
                        "its vocabulary lacks tokens for bytes".into(),
                    ));
                }
                let leading_space = header.boolean("tokenizer.ggml.add_space_prefix");
                let leading_space = leading_space.unwrap_or(true);
                (Method::SentencePiece { leading_space }, true)
            }
            _ => {
                let pre = header.text("tokenizer.ggml.pre").unwrap_or("default");
                let rule = rule(pre)
                    .ok_or_else(|| Fault::Feature(format!("the tokenizer rule `{pre}`")))?;
                let merges = header
                    .texts("tokenizer.ggml.merges")
                    .ok_or_else(|| Fault::Broken("`tokenizer.ggml.merges` is missing".into()))?;
                let merges = bpe::Merges::new(&vocabulary, rule, merges).map_err(Fault::Broken)?;
                (Method::BytePairs(Box::new(merges)), rule.beginning)
            }
        };
        if header.boolean("tokenizer.ggml.add_eos_token") == Some(true) {
            // llama.cpp would end every prompt with it, and then answer.
            return Err(Fault::Feature("an end token after the prompt".into()));
        }
        let begins = header
            .boolean("tokenizer.ggml.add_bos_token")
            .unwrap_or(begins);
        let beginning = vocabulary.beginning.filter(|_| begins);
        Ok(Self {
            vocabulary,
            method,
            beginning,
        })
    }

    /// The tokens of a whole prompt: special tokens are found by their text,
    /// and the beginning token is there once if the model wants it, whether
    /// the template has written it or not.
    ///
    /// Special tokens are found in what the user wrote, too: whoever writes
    /// `<|im_end|>` ends his turn. llama.cpp's server does the same, and the
    /// rendered prompt no longer tells the two apart.
    pub(super) fn encode(&self, prompt: &str) -> Result<Vec<u32>, String> {
        let mut tokens = Vec::new();
        let mut after_special = true;
        let parts = self.parts(prompt);
        let written = matches!(parts.first(), Some(Part::Token(id)) if Some(*id) == self.beginning);
        tokens.extend(self.beginning.filter(|_| !written));
        for part in parts {
            match part {
                Part::Token(id) => tokens.push(id),
                Part::Text(ref range) => match &self.method {
                    Method::BytePairs(merges) => {
                        merges.encode(&prompt[range.clone()], &mut tokens)?
                    }
                    Method::SentencePiece { leading_space } => {
                        let mut text = prompt[range.clone()].replace(' ', spm::SPACE);
                        if *leading_space && after_special {
                            text.insert_str(0, spm::SPACE);
                        }
                        spm::encode(&self.vocabulary, &text, &mut tokens);
                    }
                },
            }
            after_special = matches!(part, Part::Token(_));
        }
        Ok(tokens)
    }

    /// Cuts a prompt at its special tokens. Longer ones are found first.
    fn parts(&self, prompt: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        if !prompt.is_empty() {
            parts.push(Part::Text(0..prompt.len()));
        }
        for &id in &self.vocabulary.specials {
            let special = self.vocabulary.text(id);
            if !prompt.contains(special) {
                continue;
            }
            let mut finer = Vec::new();
            for part in parts {
                let Part::Text(range) = part else {
                    finer.push(part);
                    continue;
                };
                let mut done = range.start;
                for (start, _) in prompt[range.clone()].match_indices(special) {
                    let start = range.start + start;
                    if done < start {
                        finer.push(Part::Text(done..start));
                    }
                    finer.push(Part::Token(id));
                    done = start + special.len();
                }
                if done < range.end {
                    finer.push(Part::Text(done..range.end));
                }
            }
            parts = finer;
        }
        parts
    }

    /// Appends the bytes that a token prints. Special tokens print nothing.
    pub(super) fn print(&self, id: u32, bytes: &mut Vec<u8>) {
        let Some(kind) = self.vocabulary.kinds.get(id as usize) else {
            return;
        };
        let text = self.vocabulary.text(id);
        match (kind, &self.method) {
            (Kind::Control | Kind::Unknown, _) => {}
            (Kind::UserDefined, _) => bytes.extend(text.bytes()),
            (Kind::Normal, Method::BytePairs(_)) => {
                for c in text.chars() {
                    match bpe::char_byte(c) {
                        Some(byte) => bytes.push(byte),
                        None => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
                    }
                }
            }
            (Kind::Normal, Method::SentencePiece { .. }) => {
                bytes.extend(text.replace(spm::SPACE, " ").bytes());
            }
            (Kind::Byte, Method::SentencePiece { .. }) => {
                let digits = text.get(3..5).unwrap_or("");
                bytes.extend(u8::from_str_radix(digits, 16));
            }
            (Kind::Unused | Kind::Byte, _) => {}
        }
    }
}
