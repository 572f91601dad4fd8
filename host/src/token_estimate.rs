//! How many tokens a text has, before anybody has counted: an estimate from
//! its bytes, better once the model has told what its tokens are like.

/// Between which numbers the count lies, as far as one can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// It will hardly be less.
    pub(crate) low: u32,
    /// The best guess.
    pub(crate) likely: u32,
    /// It will hardly be more.
    pub(crate) high: u32,
}

/// Tokens of a chat template around the messages.
const TEMPLATE_TOKENS: f64 = 20.0;

impl Estimate {
    /// Estimates from a text's bytes and what the model's earlier prompts had
    /// of tokens per byte (chat template included), where that is known.
    #[must_use]
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>, per_byte: Option<f64>) -> Self {
        let (mut ascii, mut other, mut bytes) = (0_usize, 0_usize, 0_usize);
        for text in texts {
            bytes += text.len();
            for it in text.chars() {
                if it.is_ascii() {
                    ascii += 1;
                } else {
                    other += 1;
                }
            }
        }
        if let Some(per_byte) = per_byte.filter(|it| *it > 0.0) {
            // Another language than the last texts' is another ratio.
            let likely = scaled(bytes, per_byte);
            return Self {
                low: count(likely * 0.6),
                likely: count(likely),
                high: count(likely * 1.5 + TEMPLATE_TOKENS),
            };
        }
        // English has about four letters a token, code three; characters
        // beyond ASCII are between a quarter of a token (whole words of other
        // scripts) and three (one per byte).
        Self {
            low: count(scaled(ascii, 1.0 / 8.0) + scaled(other, 0.25)),
            likely: count(scaled(ascii, 0.25) + scaled(other, 0.8) + TEMPLATE_TOKENS),
            high: count(scaled(ascii, 0.5) + scaled(other, 2.0) + TEMPLATE_TOKENS),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate needs no more digits"
)]
fn scaled(count: usize, by: f64) -> f64 {
    count as f64 * by
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts saturate, and nothing here is negative"
)]
fn count(tokens: f64) -> u32 {
    tokens.ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_counts_lie_between_low_and_high() {
        // Ten tokens a sentence in every tokenizer of the GPT and Llama families;
        // code and scripts beyond ASCII by the widest range that was reported.
        for (text, least, most) in [
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
            let it = Estimate::new([text.as_str()], None);
            assert!(it.low <= least && it.high >= most, "{it:?} {text}");
            assert!((least..=most).contains(&it.likely), "{it:?} {text}");
        }
        let learned = Estimate::new(["x".repeat(1000).as_str()], Some(0.25));
        assert_eq!((learned.low, learned.likely, learned.high), (150, 250, 395));
        assert_eq!(Estimate::new([], None).low, 0);
    }
}
