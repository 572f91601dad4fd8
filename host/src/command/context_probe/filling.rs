//! Prompts of a given number of tokens, with or without something hidden in
//! them.

use crate::inference::{Message, Prompt, Role};

/// How a text's bytes become tokens, from what the engine has counted so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// Tokens of the chat template and the question.
    fixed: f64,
    per_byte: f64,
    /// Two counts make a line; before that it is a guess.
    counted: Option<(f64, f64)>,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            fixed: 60.0,
            per_byte: 0.3,
            counted: None,
        }
    }
}

impl Scale {
    /// Whether an engine has counted anything yet.
    pub(super) fn is_known(&self) -> bool {
        self.counted.is_some()
    }

    /// Learns from a prompt that an engine has counted.
    #[expect(
        clippy::cast_precision_loss,
        reason = "prompts are far below 2^52 bytes"
    )]
    pub(super) fn learn(&mut self, bytes: usize, tokens: u32) {
        let (bytes, tokens) = (bytes as f64, f64::from(tokens));
        match self.counted {
            // Far enough apart for a line.
            Some((less, fewer)) if bytes > less * 1.5 && tokens > fewer => {
                self.per_byte = (tokens - fewer) / (bytes - less);
                self.fixed = (tokens - bytes * self.per_byte).max(0.0);
            }
            Some(_) => self.per_byte = ((tokens - self.fixed) / bytes).max(0.01),
            None => {
                self.fixed = self.fixed.min(tokens / 3.0);
                self.per_byte = ((tokens - self.fixed) / bytes).max(0.01);
            }
        }
        self.counted = Some((bytes, tokens));
    }

    /// Bytes of filling for a prompt of so many tokens.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts saturate"
    )]
    pub(super) fn bytes(&self, tokens: u32) -> usize {
        ((f64::from(tokens) - self.fixed) / self.per_byte).max(1.0) as usize
    }
}

/// A text with something to be found in it.
#[derive(Clone, Debug)]
pub(super) struct Filling {
    pub(super) prompt: Prompt,
    /// Bytes of all of it.
    pub(super) bytes: usize,
    /// What an answer must hold.
    pub(super) key: String,
}

/// Common words, so that no tokenizer falls back to bytes.
const WORDS: [&str; 48] = [
    "the", "house", "river", "and", "light", "over", "small", "green", "day", "people", "walk",
    "water", "under", "old", "tree", "some", "open", "door", "with", "hand", "many", "book",
    "time", "after", "road", "long", "city", "morning", "a", "window", "near", "cold", "wind",
    "children", "of", "market", "slow", "train", "evening", "quiet", "garden", "stone", "bread",
    "table", "white", "letter", "far", "music",
];

impl Filling {
    /// A prompt of about so many bytes. Each number makes another text, so
    /// that no server answers from its cache.
    pub(super) fn new(bytes: usize, number: u32) -> Self {
        let key = format!("{:05}", 10_000 + (u64::from(number) * 7919 + 3571) % 90_000);
        let question = "\n\nThe text above names a secret code once. Which one? Answer with the five \
                        digits of the code alone.";
        let hidden = format!("The secret code is {key}. ");
        let mut text = String::with_capacity(bytes + 64);
        let mut random = u64::from(number) + 1;
        let middle = bytes / 2;
        let mut is_hidden = false;
        let fill = bytes.saturating_sub(question.len());
        while text.len() < fill {
            let mut sentence = String::new();
            for word in 0..9 {
                // Knuth's numbers; any that do not repeat will do.
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(random >> 33).unwrap_or(0) % WORDS.len();
                let next = WORDS.get(at).copied().unwrap_or("the");
                if word == 0 {
                    sentence.push_str(&next[..1].to_uppercase());
                    sentence.push_str(&next[1..]);
                } else {
                    sentence.push(' ');
                    sentence.push_str(next);
                }
            }
            text.push_str(&sentence);
            text.push_str(". ");
            if !is_hidden && text.len() >= middle {
                text.push_str(&hidden);
                is_hidden = true;
            }
        }
        text.truncate(fill);
        if !is_hidden || !text.contains(&hidden) {
            text.push_str(&hidden);
        }
        text.push_str(question);
        Self {
            bytes: text.len(),
            prompt: Prompt::Chat(vec![Message {
                role: Role::User,
                content: text,
            }]),
            key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filling_has_its_size_and_hides_one_key() {
        for bytes in [1, 300, 5000, 100_000] {
            let filling = Filling::new(bytes, 3);
            let Prompt::Chat(messages) = &filling.prompt else {
                panic!("no chat")
            };
            let text = &messages[0].content;
            assert_eq!(text.matches(&filling.key).count(), 1, "{bytes}");
            assert!(
                text.len().abs_diff(bytes) < 200,
                "{} of {bytes}",
                text.len()
            );
            // The beginning, which weak models repeat, does not give it away.
            let at = text.find(&filling.key).unwrap();
            assert!(
                bytes < 1000 || (at > bytes / 3 && at < bytes * 2 / 3),
                "{at} of {bytes}"
            );
        }
        assert_ne!(Filling::new(500, 1).key, Filling::new(500, 2).key);
    }

    #[test]
    fn two_counts_make_a_line() {
        let mut scale = Scale::default();
        assert!(!scale.is_known());
        // 40 tokens of template, a token for five bytes.
        scale.learn(600, 160);
        assert!((2000..=12_000).contains(&scale.bytes(2000)));
        scale.learn(10_000, 2040);
        assert_eq!(scale.bytes(2040), 10_000);
        assert_eq!(scale.bytes(200_040), 1_000_000);
        assert_eq!(scale.bytes(1), 1);
    }
}
