//! Stop sequences: the answer ends before the first of them. Text that could be the
//! beginning of one is buffered.

/// Searches a streamed answer for stop sequences.
#[derive(Debug)]
pub(super) struct StopSequences {
    sequences: Vec<String>,
    pending: String,
}

impl StopSequences {
    pub(super) fn new(sequences: &[String]) -> Self {
        // An empty stop sequence would end every answer before its first character.
        let sequences = sequences.iter().filter(|sequence| !sequence.is_empty());
        Self {
            sequences: sequences.cloned().collect(),
            pending: String::new(),
        }
    }

    /// Adds a piece of the answer and appends to `out` the text that cannot be part of a stop
    /// sequence. Returns true if a stop sequence was found.
    pub(super) fn push(&mut self, piece: &str, out: &mut String) -> bool {
        self.pending.push_str(piece);
        // The sequence that ends first applies, and of those the longest, so that the result
        // does not depend on how the answer is split into pieces.
        let first_match = self
            .sequences
            .iter()
            .filter_map(|sequence| {
                let start = self.pending.find(sequence.as_str())?;
                Some((start + sequence.len(), start))
            })
            .min();
        if let Some((_, start)) = first_match {
            out.push_str(&self.pending[..start]);
            self.pending.clear();
            return true;
        }
        let partial_match = self
            .pending
            .char_indices()
            .map(|(start, _)| start)
            .find(|start| {
                let rest = &self.pending[*start..];
                self.sequences
                    .iter()
                    .any(|sequence| sequence.starts_with(rest))
            });
        let end = partial_match.unwrap_or(self.pending.len());
        out.push_str(&self.pending[..end]);
        self.pending.drain(..end);
        false
    }

    /// Appends the buffered text to `out` at the end of an answer without a stop sequence.
    pub(super) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.pending);
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes the answer in two pieces, split at `split`. Returns the output and whether a stop
    /// sequence was found.
    fn run(sequences: &[&str], answer: &str, split: usize) -> (String, bool) {
        let sequences: Vec<_> = sequences
            .iter()
            .map(|sequence| (*sequence).to_owned())
            .collect();
        let (mut stop, mut out) = (StopSequences::new(&sequences), String::new());
        for piece in [&answer[..split], &answer[split..]] {
            if stop.push(piece, &mut out) {
                return (out, true);
            }
        }
        stop.finish(&mut out);
        (out, false)
    }

    #[test]
    fn the_result_does_not_depend_on_the_split() {
        for (sequences, answer, expected, stopped) in [
            (&["END"][..], "abcENDdef", "abc", true),
            (&["END"], "abcEN", "abcEN", false),
            (&["END"], "EEND", "E", true),
            (&["aab"], "aaab", "a", true),
            (&["abc", "b"], "xabc", "xa", true),
            (&["bc", "abc"], "xabc", "x", true),
            (&["\n\n", ""], "één\n二\n\n三", "één\n二", true),
            (&["</s>"], "<</s", "<</s", false),
            (&[], "all of it", "all of it", false),
        ] {
            for split in (0..=answer.len()).filter(|split| answer.is_char_boundary(*split)) {
                let result = run(sequences, answer, split);
                assert_eq!(
                    result,
                    (expected.to_owned(), stopped),
                    "{sequences:?} at {split}"
                );
            }
        }
    }

    #[test]
    fn only_possible_beginnings_of_stop_sequences_are_buffered() {
        let (mut stop, mut out) = (StopSequences::new(&["\nUser:".to_owned()]), String::new());
        assert!(!stop.push("one\nUse", &mut out));
        assert_eq!(out, "one");
        assert!(!stop.push("ful\n", &mut out));
        assert_eq!(out, "one\nUseful");
        assert!(stop.push("User: hi", &mut out));
        assert_eq!(out, "one\nUseful");
    }
}
