//! Probe prompts: filler text of a given size with a hidden key.

use lmstrix_inference::{Message, Prompt, Role};

/// Converts a prompt size in tokens to bytes, calibrated by the engine's token counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PromptSizer {
    /// Tokens of the chat template and the question.
    template_tokens: f64,
    tokens_per_byte: f64,
    /// The last count: bytes and tokens. Two counts determine the linear relation;
    /// before that it is an estimate.
    last_count: Option<(f64, f64)>,
}

impl Default for PromptSizer {
    fn default() -> Self {
        Self {
            template_tokens: 60.0,
            tokens_per_byte: 0.3,
            last_count: None,
        }
    }
}

impl PromptSizer {
    /// Returns whether the engine has counted a prompt yet.
    pub(super) fn is_calibrated(&self) -> bool {
        self.last_count.is_some()
    }

    /// Adjusts the relation by a prompt of `bytes` that the engine counted as `tokens`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "prompts are far below 2^52 bytes"
    )]
    pub(super) fn calibrate(&mut self, bytes: usize, tokens: u32) {
        let (bytes, tokens) = (bytes as f64, f64::from(tokens));
        match self.last_count {
            // Far enough apart to determine slope and offset.
            Some((last_bytes, last_tokens)) if bytes > last_bytes * 1.5 && tokens > last_tokens => {
                self.tokens_per_byte = (tokens - last_tokens) / (bytes - last_bytes);
                self.template_tokens = (tokens - bytes * self.tokens_per_byte).max(0.0);
            }
            Some(_) => self.tokens_per_byte = ((tokens - self.template_tokens) / bytes).max(0.01),
            None => {
                self.template_tokens = self.template_tokens.min(tokens / 3.0);
                self.tokens_per_byte = ((tokens - self.template_tokens) / bytes).max(0.01);
            }
        }
        self.last_count = Some((bytes, tokens));
    }

    /// Returns the bytes of text for a prompt of `tokens`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts saturate"
    )]
    pub(super) fn bytes(&self, tokens: u32) -> usize {
        ((f64::from(tokens) - self.template_tokens) / self.tokens_per_byte).max(1.0) as usize
    }
}

/// A prompt with filler text, a hidden key, and a question for the key.
#[derive(Clone, Debug)]
pub(super) struct ProbePrompt {
    pub(super) prompt: Prompt,
    /// Total length of the text in bytes.
    pub(super) bytes: usize,
    /// The five digits that a right answer contains.
    pub(super) key: String,
}

/// Common words, so that no tokenizer falls back to byte tokens.
const WORDS: [&str; 48] = [
    "the", "house", "river", "and", "light", "over", "small", "green", "day", "people", "walk",
    "water", "under", "old", "tree", "some", "open", "door", "with", "hand", "many", "book",
    "time", "after", "road", "long", "city", "morning", "a", "window", "near", "cold", "wind",
    "children", "of", "market", "slow", "train", "evening", "quiet", "garden", "stone", "bread",
    "table", "white", "letter", "far", "music",
];

impl ProbePrompt {
    /// Creates a prompt of about `bytes` bytes. Each `number` gives a different text, so
    /// that no server can answer from its prompt cache.
    pub(super) fn new(bytes: usize, number: u32) -> Self {
        let key = format!("{:05}", 10_000 + (u64::from(number) * 7919 + 3571) % 90_000);
        let question = "\n\nThe text above names a secret code once. Which one? Answer with the five \
                        digits of the code alone.";
        let key_sentence = format!("The secret code is {key}. ");
        let mut text = String::with_capacity(bytes + 64);
        let mut random = u64::from(number) + 1;
        let middle = bytes / 2;
        let mut is_hidden = false;
        let text_bytes = bytes.saturating_sub(question.len());
        while text.len() < text_bytes {
            let mut sentence = String::new();
            for position in 0..9 {
                // Knuth's MMIX linear congruential generator.
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let index = usize::try_from(random >> 33).unwrap_or(0) % WORDS.len();
                let word = WORDS.get(index).copied().unwrap_or("the");
                if position == 0 {
                    sentence.push_str(&word[..1].to_uppercase());
                    sentence.push_str(&word[1..]);
                } else {
                    sentence.push(' ');
                    sentence.push_str(word);
                }
            }
            text.push_str(&sentence);
            text.push_str(". ");
            if !is_hidden && text.len() >= middle {
                text.push_str(&key_sentence);
                is_hidden = true;
            }
        }
        text.truncate(text_bytes);
        if !is_hidden || !text.contains(&key_sentence) {
            text.push_str(&key_sentence);
        }
        text.push_str(question);
        Self {
            bytes: text.len(),
            prompt: Prompt::Chat(vec![Message::new(Role::User, text)]),
            key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_prompt_has_the_requested_size_and_one_key_in_the_middle() {
        for bytes in [1, 300, 5000, 100_000] {
            let prompt = ProbePrompt::new(bytes, 3);
            let Prompt::Chat(messages) = &prompt.prompt else {
                panic!("not a chat prompt")
            };
            let text = &messages[0].content;
            assert_eq!(text.matches(&prompt.key).count(), 1, "{bytes}");
            assert!(
                text.len().abs_diff(bytes) < 200,
                "{} of {bytes}",
                text.len()
            );
            // Weak models repeat the beginning of a prompt: the key must not be there.
            let at = text.find(&prompt.key).unwrap();
            assert!(
                bytes < 1000 || (at > bytes / 3 && at < bytes * 2 / 3),
                "{at} of {bytes}"
            );
        }
        assert_ne!(ProbePrompt::new(500, 1).key, ProbePrompt::new(500, 2).key);
    }

    #[test]
    fn two_counts_calibrate_the_sizer_exactly() {
        let mut sizer = PromptSizer::default();
        assert!(!sizer.is_calibrated());
        // 40 template tokens, and five bytes per token.
        sizer.calibrate(600, 160);
        assert!((2000..=12_000).contains(&sizer.bytes(2000)));
        sizer.calibrate(10_000, 2040);
        assert_eq!(sizer.bytes(2040), 10_000);
        assert_eq!(sizer.bytes(200_040), 1_000_000);
        assert_eq!(sizer.bytes(1), 1);
    }
}
