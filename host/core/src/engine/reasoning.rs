//! Separates a thinking span at the start of an answer.
//!
//! Many local models write their reasoning as `<think>…</think>` or
//! `<thinking>…</thinking>` before the answer, and servers pass it on as text. One
//! such span at the very start is reasoning. Later tags are part of the answer; a
//! processor of the standard pack handles those.

use lmstrix_inference::Event;

/// The tag names.
const TAG_NAMES: [&str; 2] = ["think", "thinking"];

/// A part of the model's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OutputPart {
    Reasoning(String),
    Text(String),
}

impl From<OutputPart> for Event {
    fn from(part: OutputPart) -> Self {
        match part {
            OutputPart::Reasoning(text) => Self::Reasoning(text),
            OutputPart::Text(text) => Self::Text(text),
        }
    }
}

/// Splits streamed text into reasoning and answer. The result does not depend on
/// how the text is cut into pieces.
#[derive(Debug)]
pub(super) struct ReasoningSplitter {
    state: SplitterState,
    /// Text that may become a tag, or whitespace that may be dropped.
    held: String,
}

#[derive(Debug)]
enum SplitterState {
    /// Only whitespace or a part of an opening tag was received.
    Start,
    /// Inside the span that this closing tag ends.
    Inside(String),
    /// After the span; whitespace before the answer is dropped.
    After,
    /// In the answer.
    Text,
}

impl ReasoningSplitter {
    /// Creates a splitter. If not `active`, all text is answer.
    pub(super) fn new(active: bool) -> Self {
        Self {
            state: if active {
                SplitterState::Start
            } else {
                SplitterState::Text
            },
            held: String::new(),
        }
    }

    /// Adds text and returns the parts that are complete.
    pub(super) fn push(&mut self, text: &str) -> Vec<OutputPart> {
        let mut parts = Vec::new();
        self.held.push_str(text);
        loop {
            match &self.state {
                SplitterState::Start => {
                    let trimmed = self.held.trim_start();
                    let opening = TAG_NAMES.iter().find_map(|name| {
                        trimmed
                            .strip_prefix(&format!("<{name}>"))
                            .map(|rest| (name, rest.to_owned()))
                    });
                    if let Some((name, rest)) = opening {
                        self.state = SplitterState::Inside(format!("</{name}>"));
                        self.held = rest;
                    } else if TAG_NAMES
                        .iter()
                        .any(|name| format!("<{name}>").starts_with(trimmed))
                    {
                        return parts; // Also if only whitespace was received.
                    } else {
                        self.state = SplitterState::Text;
                    }
                }
                SplitterState::Inside(closing) => {
                    if let Some(at) = self.held.find(closing.as_str()) {
                        let rest = self.held.split_off(at + closing.len());
                        self.held.truncate(at);
                        push_part(
                            &mut parts,
                            OutputPart::Reasoning,
                            std::mem::replace(&mut self.held, rest),
                        );
                        self.state = SplitterState::After;
                    } else {
                        let keep = partial_tag_len(&self.held, closing);
                        let rest = self.held.split_off(self.held.len() - keep);
                        push_part(
                            &mut parts,
                            OutputPart::Reasoning,
                            std::mem::replace(&mut self.held, rest),
                        );
                        return parts;
                    }
                }
                SplitterState::After => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return parts;
                    }
                    self.state = SplitterState::Text;
                }
                SplitterState::Text => {
                    push_part(&mut parts, OutputPart::Text, std::mem::take(&mut self.held));
                    return parts;
                }
            }
        }
    }

    /// Ends the answer and returns the text that was held back.
    pub(super) fn finish(&mut self) -> Vec<OutputPart> {
        let held = std::mem::take(&mut self.held);
        let mut parts = Vec::new();
        match self.state {
            SplitterState::Inside(_) => push_part(&mut parts, OutputPart::Reasoning, held),
            SplitterState::Start | SplitterState::Text => {
                push_part(&mut parts, OutputPart::Text, held)
            }
            SplitterState::After => {}
        }
        parts
    }
}

fn push_part(parts: &mut Vec<OutputPart>, part: fn(String) -> OutputPart, text: String) {
    if !text.is_empty() {
        parts.push(part(text));
    }
}

/// Returns the number of bytes at the end of `text` that may be the start of `tag`.
fn partial_tag_len(text: &str, tag: &str) -> usize {
    (1..tag.len())
        .rev()
        .find(|&n| tag.is_char_boundary(n) && text.ends_with(&tag[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(active: bool, cuts: &[&str]) -> (String, String) {
        let mut splitter = ReasoningSplitter::new(active);
        let mut parts: Vec<OutputPart> = cuts.iter().flat_map(|cut| splitter.push(cut)).collect();
        parts.extend(splitter.finish());
        let (mut reasoning, mut text) = (String::new(), String::new());
        for part in parts {
            match part {
                OutputPart::Reasoning(part) => reasoning.push_str(&part),
                OutputPart::Text(part) => text.push_str(&part),
            }
        }
        (reasoning, text)
    }

    #[test]
    fn one_span_at_the_start_is_reasoning_for_every_cut_of_the_text() {
        for (answer, reasoning, text) in [
            ("hello", "", "hello"),
            ("<think>a < b</think>\n\nyes", "a < b", "yes"),
            (
                "\n <thinking>hm</think> no</thinking>yes",
                "hm</think> no",
                "yes",
            ),
            ("<thin", "", "<thin"),
            ("<thinker>x", "", "<thinker>x"),
            ("x <think>y</think>", "", "x <think>y</think>"),
            ("<think>a</think><think>b</think>", "a", "<think>b</think>"),
            ("<think>never ends", "never ends", ""),
            ("<think></think>ä", "", "ä"),
            ("  spaces stay", "", "  spaces stay"),
            ("", "", ""),
        ] {
            let expected = (reasoning.to_owned(), text.to_owned());
            assert_eq!(run(true, &[answer]), expected, "{answer}");
            for at in (0..=answer.len()).filter(|at| answer.is_char_boundary(*at)) {
                let (a, b) = answer.split_at(at);
                assert_eq!(run(true, &[a, b]), expected, "{a}|{b}");
            }
            let each: Vec<String> = answer.chars().map(String::from).collect();
            let each: Vec<&str> = each.iter().map(String::as_str).collect();
            assert_eq!(run(true, &each), expected, "{answer}");
        }
    }

    #[test]
    fn an_inactive_splitter_keeps_tags_in_the_answer() {
        let answer = "<think>a</think>b";
        assert_eq!(run(false, &[answer]), (String::new(), answer.to_owned()));
    }
}
