//! Sees when an answer has begun to repeat itself without end.

/// The most that is looked at. A piece longer than this divided by the number
/// of repeats cannot be seen.
const TAIL_BYTES: usize = 64 << 10;
/// Less than this is no loop: tables have rules, and poems refrains.
const REPEATED_BYTES_MIN: usize = 1 << 10;
/// How much must be new before it is looked at again.
const LOOK_EVERY_BYTES: usize = 1 << 10;

/// Watches a text as it grows.
#[derive(Debug)]
pub(super) struct LoopGuard {
    repeats: usize,
    tail: Vec<u8>,
    unseen: usize,
    fired: bool,
}

impl LoopGuard {
    /// `repeats` in a row are a loop; 0 is off.
    pub(super) fn new(repeats: usize) -> Self {
        Self {
            repeats,
            tail: Vec::new(),
            unseen: 0,
            fired: false,
        }
    }

    /// Whether the text ends with the same piece that many times in a row. It
    /// may be seen up to `LOOK_EVERY_BYTES` late.
    pub(super) fn push(&mut self, text: &str) -> bool {
        if self.repeats == 0 || self.fired {
            return self.fired;
        }
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let room = (LOOK_EVERY_BYTES - self.unseen).min(rest.len());
            let (now, later) = rest.split_at(room);
            self.tail.extend_from_slice(now);
            self.unseen += now.len();
            rest = later;
            if self.unseen == LOOK_EVERY_BYTES {
                self.unseen = 0;
                // Twice the tail, so that it is moved seldom.
                if self.tail.len() > 2 * TAIL_BYTES {
                    self.tail.drain(..self.tail.len() - TAIL_BYTES);
                }
                self.fired = self.fired || loops(&self.tail, self.repeats);
            }
        }
        self.fired
    }
}

/// The prefix function of the text read backwards: for every ending of the
/// text it gives its shortest period.
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

    fn fires(repeats: usize, text: &str, piece: usize) -> bool {
        let mut guard = LoopGuard::new(repeats);
        let chars: Vec<char> = text.chars().collect();
        chars
            .chunks(piece)
            .any(|it| guard.push(&it.iter().collect::<String>()))
    }

    #[test]
    fn loops_are_seen_however_the_text_is_cut() {
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
                let seen = fires(repeats, &text, piece);
                assert_eq!(seen, expected, "{repeats} {piece} {}", &text[..12]);
            }
        }
    }
}
