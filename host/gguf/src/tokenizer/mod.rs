//! Converts text to tokens and tokens to bytes according to the file's `tokenizer.ggml.*`
//! keys. The tokens are identical to those of llama.cpp.

mod bpe;
mod pre_tokenizer;
mod sentencepiece;
mod vocabulary;

use std::ops::Range;

use super::header::Header;
pub(super) use pre_tokenizer::pre_tokenizer_rule;
use vocabulary::TokenType;
pub(super) use vocabulary::Vocabulary;

/// An error in the metadata of a model, from reading its tokenizer or hyperparameters.
#[derive(Debug)]
pub(super) enum MetadataError {
    /// The metadata is incomplete or inconsistent. Contains the problem.
    Invalid(String),
    /// The model needs a feature that is not supported. Contains the feature.
    Unsupported(String),
}

/// A model's tokenizer.
#[derive(Debug)]
pub(super) struct Tokenizer {
    pub(super) vocabulary: Vocabulary,
    kind: TokenizerKind,
    /// The BOS token if prompts start with it.
    bos_token: Option<u32>,
}

/// The algorithm of a tokenizer.
#[derive(Debug)]
enum TokenizerKind {
    Bpe(Box<bpe::BytePairEncoder>),
    SentencePiece {
        /// True if a space is inserted before text at the start of the prompt and after a
        /// special token.
        leading_space: bool,
    },
}

/// A part of a prompt: a byte range of normal text, or a special token.
enum PromptPart {
    Text(Range<usize>),
    Token(u32),
}

impl Tokenizer {
    /// Reads the tokenizer of a file. The caller has checked that it is supported.
    pub(super) fn read(header: &Header) -> Result<Self, MetadataError> {
        let vocabulary = Vocabulary::read(header).map_err(MetadataError::Invalid)?;
        let (kind, adds_bos) = match header.string("tokenizer.ggml.model") {
            Some("llama") => {
                if (0..=255).any(|byte| sentencepiece::byte_token(&vocabulary, byte).is_none()) {
                    return Err(MetadataError::Invalid(
                        "the vocabulary has no tokens for single bytes".into(),
                    ));
                }
                let leading_space = header.boolean("tokenizer.ggml.add_space_prefix");
                let leading_space = leading_space.unwrap_or(true);
                (TokenizerKind::SentencePiece { leading_space }, true)
            }
            _ => {
                let pre = header.string("tokenizer.ggml.pre").unwrap_or("default");
                let rule = pre_tokenizer_rule(pre).ok_or_else(|| {
                    MetadataError::Unsupported(format!("the pre-tokenizer `{pre}`"))
                })?;
                let merges = header.strings("tokenizer.ggml.merges").ok_or_else(|| {
                    MetadataError::Invalid("`tokenizer.ggml.merges` is missing".into())
                })?;
                let merges = bpe::BytePairEncoder::new(&vocabulary, rule, merges)
                    .map_err(MetadataError::Invalid)?;
                (TokenizerKind::Bpe(Box::new(merges)), rule.adds_bos)
            }
        };
        if header.boolean("tokenizer.ggml.add_eos_token") == Some(true) {
            // llama.cpp would append the EOS token to every prompt.
            return Err(MetadataError::Unsupported(
                "an EOS token after the prompt".into(),
            ));
        }
        let adds_bos = header
            .boolean("tokenizer.ggml.add_bos_token")
            .unwrap_or(adds_bos);
        let bos_token = vocabulary.bos_token.filter(|_| adds_bos);
        Ok(Self {
            vocabulary,
            kind,
            bos_token,
        })
    }

    /// Returns the tokens of a rendered prompt. Special tokens are recognized by their text. If
    /// the model uses a BOS token, it occurs once at the start, whether or not the template
    /// contains it.
    ///
    /// Special tokens in the user's text are recognized as well: a message that contains
    /// `<|im_end|>` ends its turn. llama.cpp's server does the same, because a rendered prompt
    /// does not tell where its special tokens come from.
    ///
    /// # Errors
    /// Returns an error if a pattern of the pre-tokenizer fails.
    pub(super) fn encode(&self, prompt: &str) -> Result<Vec<u32>, String> {
        let mut tokens = Vec::new();
        let mut after_special = true;
        let parts = self.split_at_special_tokens(prompt);
        let starts_with_bos =
            matches!(parts.first(), Some(PromptPart::Token(id)) if Some(*id) == self.bos_token);
        tokens.extend(self.bos_token.filter(|_| !starts_with_bos));
        for part in parts {
            match part {
                PromptPart::Token(id) => tokens.push(id),
                PromptPart::Text(ref range) => match &self.kind {
                    TokenizerKind::Bpe(merges) => {
                        merges.encode(&prompt[range.clone()], &mut tokens)?
                    }
                    TokenizerKind::SentencePiece { leading_space } => {
                        let mut text = prompt[range.clone()].replace(' ', sentencepiece::SPACE);
                        if *leading_space && after_special {
                            text.insert_str(0, sentencepiece::SPACE);
                        }
                        sentencepiece::encode(&self.vocabulary, &text, &mut tokens);
                    }
                },
            }
            after_special = matches!(part, PromptPart::Token(_));
        }
        Ok(tokens)
    }

    /// Splits a prompt at its special tokens. Longer special tokens take precedence.
    fn split_at_special_tokens(&self, prompt: &str) -> Vec<PromptPart> {
        let mut parts = Vec::new();
        if !prompt.is_empty() {
            parts.push(PromptPart::Text(0..prompt.len()));
        }
        for &id in &self.vocabulary.special_tokens {
            let special = self.vocabulary.text(id);
            if !prompt.contains(special) {
                continue;
            }
            let mut new_parts = Vec::new();
            for part in parts {
                let PromptPart::Text(range) = part else {
                    new_parts.push(part);
                    continue;
                };
                let mut text_start = range.start;
                for (start, _) in prompt[range.clone()].match_indices(special) {
                    let start = range.start + start;
                    if text_start < start {
                        new_parts.push(PromptPart::Text(text_start..start));
                    }
                    new_parts.push(PromptPart::Token(id));
                    text_start = start + special.len();
                }
                if text_start < range.end {
                    new_parts.push(PromptPart::Text(text_start..range.end));
                }
            }
            parts = new_parts;
        }
        parts
    }

    /// Appends the text of a token as bytes. Special tokens have no text.
    pub(super) fn detokenize_token(&self, id: u32, bytes: &mut Vec<u8>) {
        let Some(token_type) = self.vocabulary.token_types.get(id as usize) else {
            return;
        };
        let text = self.vocabulary.text(id);
        match (token_type, &self.kind) {
            (TokenType::Control | TokenType::Unknown, _) => {}
            (TokenType::UserDefined, _) => bytes.extend(text.bytes()),
            (TokenType::Normal, TokenizerKind::Bpe(_)) => {
                for c in text.chars() {
                    match bpe::char_to_byte(c) {
                        Some(byte) => bytes.push(byte),
                        None => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
                    }
                }
            }
            (TokenType::Normal, TokenizerKind::SentencePiece { .. }) => {
                bytes.extend(text.replace(sentencepiece::SPACE, " ").bytes());
            }
            (TokenType::Byte, TokenizerKind::SentencePiece { .. }) => {
                let digits = text.get(3..5).unwrap_or("");
                bytes.extend(u8::from_str_radix(digits, 16));
            }
            (TokenType::Unused | TokenType::Byte, _) => {}
        }
    }
}
