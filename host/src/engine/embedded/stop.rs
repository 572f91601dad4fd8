//! Stop texts: the answer ends before the first of them. Text that could
//! still become one is held back.

/// Watches an answer for stop texts.
#[derive(Debug)]
pub(super) struct StopTexts {
    texts: Vec<String>,
    held: String,
}

impl StopTexts {
    pub(super) fn new(texts: &[String]) -> Self {
        // The empty text would stop every answer before it begins.
        let texts = texts.iter().filter(|text| !text.is_empty());
        Self {
            texts: texts.cloned().collect(),
            held: String::new(),
        }
    }

    /// Takes a piece of the answer, appends to `out` what is certainly part
    /// of it, and says whether a stop text has come.
    pub(super) fn push(&mut self, piece: &str, out: &mut String) -> bool {
        self.held.push_str(piece);
        // The text that is complete first counts, and of those the longest,
        // so that it does not matter how the answer was cut into pieces.
        let found = self
            .texts
            .iter()
            .filter_map(|text| {
                let start = self.held.find(text.as_str())?;
                Some((start + text.len(), start))
            })
            .min();
        if let Some((_, start)) = found {
            out.push_str(&self.held[..start]);
            self.held.clear();
            return true;
        }
        let certain = self
            .held
            .char_indices()
            .map(|(start, _)| start)
            .find(|start| {
                let rest = &self.held[*start..];
                self.texts.iter().any(|text| text.starts_with(rest))
            });
        let certain = certain.unwrap_or(self.held.len());
        out.push_str(&self.held[..certain]);
        self.held.drain(..certain);
        false
    }

    /// The answer ends without a stop text: what was held back is part of it.
    pub(super) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer and whether it was stopped, cut at one place.
    fn run(stops: &[&str], answer: &str, cut: usize) -> (String, bool) {
        let stops: Vec<_> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let (mut watch, mut out) = (StopTexts::new(&stops), String::new());
        for piece in [&answer[..cut], &answer[cut..]] {
            if watch.push(piece, &mut out) {
                return (out, true);
            }
        }
        watch.finish(&mut out);
        (out, false)
    }

    #[test]
    fn the_cut_does_not_matter() {
        for (stops, answer, expected, stopped) in [
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
            for cut in (0..=answer.len()).filter(|cut| answer.is_char_boundary(*cut)) {
                let result = run(stops, answer, cut);
                assert_eq!(result, (expected.to_owned(), stopped), "{stops:?} at {cut}");
            }
        }
    }

    #[test]
    fn only_what_could_become_a_stop_text_is_held_back() {
        let (mut watch, mut out) = (StopTexts::new(&["\nUser:".to_owned()]), String::new());
        assert!(!watch.push("one\nUse", &mut out));
        assert_eq!(out, "one");
        assert!(!watch.push("ful\n", &mut out));
        assert_eq!(out, "one\nUseful");
        assert!(watch.push("User: hi", &mut out));
        assert_eq!(out, "one\nUseful");
    }
}
