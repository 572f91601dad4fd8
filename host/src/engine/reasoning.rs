//! Splits a thinking span off the start of an answer.
//!
//! Many local models think inside `<think>` or `<thinking>` before they answer,
//! and say so in nothing but their text. One such span at the very start is
//! reasoning; tags that come later are the answer's own (a processor of the
//! standard pack finds those).

use crate::inference::Event;

/// The tags, without their brackets.
const NAMES: [&str; 2] = ["think", "thinking"];

/// A piece of what the model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Reasoning(String),
    Text(String),
}

impl From<Piece> for Event {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Reasoning(text) => Self::Reasoning(text),
            Piece::Text(text) => Self::Text(text),
        }
    }
}

/// Takes the answer piece by piece; gives the same for every way of cutting.
#[derive(Debug)]
pub(super) struct Splitter {
    state: State,
    /// What may still become a tag, or whitespace that may go.
    held: String,
}

#[derive(Debug)]
enum State {
    /// Nothing but whitespace, or a part of an opening tag, was seen.
    Start,
    /// Inside the span; the closing tag that ends it.
    Inside(String),
    /// After the span: whitespace up to the answer goes with the span.
    After,
    /// In the answer.
    Text,
}

impl Splitter {
    pub(super) fn new(active: bool) -> Self {
        Self {
            state: if active { State::Start } else { State::Text },
            held: String::new(),
        }
    }

    pub(super) fn push(&mut self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.held.push_str(text);
        loop {
            match &self.state {
                State::Start => {
                    let trimmed = self.held.trim_start();
                    let opening = NAMES.iter().find_map(|name| {
                        trimmed
                            .strip_prefix(&format!("<{name}>"))
                            .map(|rest| (name, rest.to_owned()))
                    });
                    if let Some((name, rest)) = opening {
                        self.state = State::Inside(format!("</{name}>"));
                        self.held = rest;
                    } else if NAMES
                        .iter()
                        .any(|name| format!("<{name}>").starts_with(trimmed))
                    {
                        return pieces; // Also when nothing but whitespace was seen.
                    } else {
                        self.state = State::Text;
                    }
                }
                State::Inside(closing) => {
                    if let Some(at) = self.held.find(closing.as_str()) {
                        let rest = self.held.split_off(at + closing.len());
                        self.held.truncate(at);
                        give(
                            &mut pieces,
                            Piece::Reasoning,
                            std::mem::replace(&mut self.held, rest),
                        );
                        self.state = State::After;
                    } else {
                        let keep = possible_start(&self.held, closing);
                        let rest = self.held.split_off(self.held.len() - keep);
                        give(
                            &mut pieces,
                            Piece::Reasoning,
                            std::mem::replace(&mut self.held, rest),
                        );
                        return pieces;
                    }
                }
                State::After => {
                    self.held = self.held.trim_start().to_owned();
                    if self.held.is_empty() {
                        return pieces;
                    }
                    self.state = State::Text;
                }
                State::Text => {
                    give(&mut pieces, Piece::Text, std::mem::take(&mut self.held));
                    return pieces;
                }
            }
        }
    }

    /// What was held back, when the answer has ended.
    pub(super) fn finish(&mut self) -> Vec<Piece> {
        let held = std::mem::take(&mut self.held);
        let mut pieces = Vec::new();
        match self.state {
            State::Inside(_) => give(&mut pieces, Piece::Reasoning, held),
            State::Start | State::Text => give(&mut pieces, Piece::Text, held),
            State::After => {}
        }
        pieces
    }
}

fn give(pieces: &mut Vec<Piece>, piece: fn(String) -> Piece, text: String) {
    if !text.is_empty() {
        pieces.push(piece(text));
    }
}

/// How many bytes at the end of `text` could be the start of `tag`.
fn possible_start(text: &str, tag: &str) -> usize {
    (1..tag.len())
        .rev()
        .find(|&n| tag.is_char_boundary(n) && text.ends_with(&tag[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(active: bool, cuts: &[&str]) -> (String, String) {
        let mut splitter = Splitter::new(active);
        let mut pieces: Vec<Piece> = cuts.iter().flat_map(|cut| splitter.push(cut)).collect();
        pieces.extend(splitter.finish());
        let (mut reasoning, mut text) = (String::new(), String::new());
        for piece in pieces {
            match piece {
                Piece::Reasoning(it) => reasoning.push_str(&it),
                Piece::Text(it) => text.push_str(&it),
            }
        }
        (reasoning, text)
    }

    #[test]
    fn one_span_at_the_very_start_is_reasoning_wherever_the_text_is_cut() {
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
    fn it_can_be_switched_off() {
        let answer = "<think>a</think>b";
        assert_eq!(run(false, &[answer]), (String::new(), answer.to_owned()));
    }
}
