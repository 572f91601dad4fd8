//! Detects an answer that repeats itself without end.

/// The bytes at the end of the text that are examined. A repeated piece longer than
/// this divided by the number of repeats is not detected.
const TAIL_BYTES: usize = 64 << 10;
/// Shorter repetition is not a loop: tables have rules, and poems refrains.
const REPEATED_BYTES_MIN: usize = 1 << 10;
/// The bytes that must be new before the text is examined again.
const CHECK_EVERY_BYTES: usize = 1 << 10;

/// Watches a text as it grows.
#[derive(Debug)]
pub(super) struct LoopGuard {
    repeats: usize,
    tail: Vec<u8>,
    unchecked: usize,
    detected: bool,
}

impl LoopGuard {
    /// Creates a guard that takes `repeats` in a row for a loop; 0 is off.
    pub(super) fn new(repeats: usize) -> Self {
        Self {
            repeats,
            tail: Vec::new(),
            unchecked: 0,
            detected: false,
        }
    }

    /// Adds text and returns whether the text so far ends in a loop; detects it up to
    /// `CHECK_EVERY_BYTES` late.
    pub(super) fn push(&mut self, text: &str) -> bool {
        if self.repeats == 0 || self.detected {
            return self.detected;
        }
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let room = (CHECK_EVERY_BYTES - self.unchecked).min(rest.len());
            let (now, later) = rest.split_at(room);
            self.tail.extend_from_slice(now);
            self.unchecked += now.len();
            rest = later;
            if self.unchecked == CHECK_EVERY_BYTES {
                self.unchecked = 0;
                // Twice the tail, so that it is rarely moved.
                if self.tail.len() > 2 * TAIL_BYTES {
                    self.tail.drain(..self.tail.len() - TAIL_BYTES);
                }
                self.detected = self.detected || loops(&self.tail, self.repeats);
            }
        }
        self.detected
    }
}

/// Returns whether the text ends with one piece `repeats` times in a row. Uses the
/// prefix function of the reversed text: for every ending of the text it gives the
/// shortest period.
fn loops(text: &[u8], repeats: usize) -> bool {
    let length = text.len().min(TAIL_BYTES);
    let backwards: Vec<u8> = text.iter().rev().take(length).copied().collect();
    let mut border = vec![0_usize; length];
    let mut matched = 0;
    for at in 1..length {
        while matched > 0 && backwards.get(matched) != backwards.get(at) {
            matched = border.get(matched - 1).copied().unwrap_or(0);
        }
        if backwards.get(matched) == backwards.get(at) {
            matched += 1;
        }
        if let Some(slot) = border.get_mut(at) {
            *slot = matched;
        }
        let ending = at + 1;
        let period = ending - matched;
        if ending >= REPEATED_BYTES_MIN && ending / period >= repeats {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detects(repeats: usize, text: &str, piece: usize) -> bool {
        let mut guard = LoopGuard::new(repeats);
        let chars: Vec<char> = text.chars().collect();
        chars
            .chunks(piece)
            .any(|piece| guard.push(&piece.iter().collect::<String>()))
    }

    #[test]
    fn a_loop_is_detected_however_the_text_is_cut() {
        let line = "This very sentence comes again and again, as models do. ";
        let numbered: String = (0..2000)
            .map(|n| format!("{n}. The same words\n"))
            .collect();
        for (repeats, text, expected) in [
            (200, "ha".repeat(2000), true),
            (200, "漢字".repeat(2000), true),
            (200, line.repeat(400), true),
            (200, format!("A good start. {}", line.repeat(400)), true),
            (20, line.repeat(60), true),
            (200, line.repeat(100), false),
            (200, "-".repeat(500), false),
            (200, numbered, false),
            (0, "ha".repeat(9000), false),
            (
                5,
                format!(
                    "{} and then something else {}",
                    "x".repeat(900),
                    "y".repeat(900)
                ),
                false,
            ),
        ] {
            for piece in [1, 7, 5000] {
                let seen = detects(repeats, &text, piece);
                assert_eq!(seen, expected, "{repeats} {piece} {}", &text[..12]);
            }
        }
    }
}
