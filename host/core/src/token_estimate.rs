//! Estimates the number of tokens of a text from its bytes, and more exactly
//! from the tokens per byte of the model's earlier prompts.

use lmstrix_inference::Prompt;

/// An estimated number of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenEstimate {
    /// Lower bound.
    pub low: u32,
    /// Expected value.
    pub likely: u32,
    /// Upper bound.
    pub high: u32,
}

/// Tokens that a chat template adds to the messages.
const TEMPLATE_TOKENS: f64 = 20.0;

/// The likely number of tokens of an image.
// Models with a fixed number use a few hundred, models that keep the resolution a thousand or
// more for a photo.
const IMAGE_TOKENS_LIKELY: u32 = 1024;
/// An upper estimate of the tokens of an image.
const IMAGE_TOKENS_HIGH: u32 = 4096;

/// Returns a number of tokens that tokenizers exceed for ordinary `texts`: a word of twelve
/// letters has at least one. Runs of one character count as one character, since tokenizers
/// have tokens for them.
pub(crate) fn min_tokens<'a>(texts: impl IntoIterator<Item = &'a str>) -> u32 {
    let (mut ascii, mut other) = (0, 0);
    for text in texts {
        let mut last = None;
        for c in text.chars() {
            if last.replace(c) == Some(c) {
                continue;
            }
            if c.is_ascii() {
                ascii += 1;
            } else {
                other += 1;
            }
        }
    }
    count(scaled(ascii, 1.0 / 12.0) + scaled(other, 0.2))
}

impl TokenEstimate {
    /// Estimates the tokens of a prompt with its images; see [`Self::new`].
    #[must_use]
    pub fn of_prompt(prompt: &Prompt, tokens_per_byte: Option<f64>) -> Self {
        let text = Self::new(prompt.texts(), tokens_per_byte);
        let images = u32::try_from(prompt.image_count()).unwrap_or(u32::MAX);
        Self {
            low: text.low,
            likely: (text.likely).saturating_add(images.saturating_mul(IMAGE_TOKENS_LIKELY)),
            high: (text.high).saturating_add(images.saturating_mul(IMAGE_TOKENS_HIGH)),
        }
    }

    /// Estimates the tokens of `texts`. `tokens_per_byte` is the ratio of the
    /// model's earlier prompts including the chat template, if known.
    #[must_use]
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>, tokens_per_byte: Option<f64>) -> Self {
        let (mut ascii, mut other, mut bytes) = (0_usize, 0_usize, 0_usize);
        for text in texts {
            bytes += text.len();
            for c in text.chars() {
                if c.is_ascii() {
                    ascii += 1;
                } else {
                    other += 1;
                }
            }
        }
        if let Some(per_byte) = tokens_per_byte.filter(|ratio| *ratio > 0.0) {
            // The ratio differs if the language differs from that of the
            // earlier prompts.
            let likely = scaled(bytes, per_byte);
            return Self {
                low: count(likely * 0.6),
                likely: count(likely),
                high: count(likely * 1.5 + TEMPLATE_TOKENS),
            };
        }
        // English text has about four letters per token, code about three. A
        // character beyond ASCII has between a quarter of a token (whole words
        // in other scripts) and three tokens (one per byte).
        Self {
            low: count(scaled(ascii, 1.0 / 8.0) + scaled(other, 0.25)),
            likely: count(scaled(ascii, 0.25) + scaled(other, 0.8) + TEMPLATE_TOKENS),
            high: count(scaled(ascii, 0.5) + scaled(other, 2.0) + TEMPLATE_TOKENS),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "f64 is precise enough for an estimate"
)]
fn scaled(count: usize, factor: f64) -> f64 {
    count as f64 * factor
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and no value is negative"
)]
fn count(tokens: f64) -> u32 {
    tokens.ceil() as u32
}

#[cfg(test)]
mod tests {
    use lmstrix_inference::{Message, Role};

    use super::*;

    #[test]
    fn real_counts_are_between_low_and_high() {
        // The sentence has ten tokens in all tokenizers of the GPT and Llama
        // families. Code and Japanese use the widest range of reported counts.
        for (text, min, max) in [
            (
                "The quick brown fox jumps over the lazy dog. ".repeat(20),
                180,
                250,
            ),
            (
                "fn main() { println!(\"{}\", x + 1); }\n".repeat(20),
                180,
                390,
            ),
            ("日本語のテキストを翻訳してください。".repeat(20), 140, 620),
        ] {
            let estimate = TokenEstimate::new([text.as_str()], None);
            assert!(
                estimate.low <= min && estimate.high >= max,
                "{estimate:?} {text}"
            );
            assert!(
                (min..=max).contains(&estimate.likely),
                "{estimate:?} {text}"
            );
        }
        let measured = TokenEstimate::new(["x".repeat(1000).as_str()], Some(0.25));
        assert_eq!(
            (measured.low, measured.likely, measured.high),
            (150, 250, 395)
        );
        assert_eq!(TokenEstimate::new([], None).low, 0);
        let mut message = Message::new(Role::User, "x");
        let without = TokenEstimate::of_prompt(&Prompt::Chat(vec![message.clone()]), None);
        message.attachments = vec!["a".to_owned(), "b".to_owned()];
        let with = TokenEstimate::of_prompt(&Prompt::Chat(vec![message]), None);
        assert_eq!(with.low, without.low);
        assert_eq!(with.likely, without.likely + 2 * IMAGE_TOKENS_LIKELY);
        assert_eq!(with.high, without.high + 2 * IMAGE_TOKENS_HIGH);
    }
}
