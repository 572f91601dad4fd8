//! Separates a model's reasoning from its answer.
//!
//! Many local models write their reasoning as `<think>…</think>` before the answer, and
//! servers pass it on as text. The forms, in any case:
//!
//! - spans before the answer, in the brackets of `TAGS`;
//! - a closing tag without an opening one, because the chat template opened it: the text
//!   before it is reasoning;
//! - spans within the answer. One that begins within a line is text unless it is closed soon,
//!   since the answer then probably mentions the tag;
//! - the channels of gpt-oss: `<|channel|>analysis<|message|>…<|end|>`. All but `final` are
//!   reasoning. Source: <https://cookbook.openai.com/articles/openai-harmony>.
//!
//! Tags in quotation marks or backticks, and spans in a code block, are text.

mod channels;
mod code_tracker;
mod output_part;
mod tags;

use channels::{CHANNEL_ENDS, CHANNEL_STARTS, MAX_HEADER_BYTES, parse_header};
use code_tracker::CodeTracker;
pub(in crate::engine) use output_part::OutputPart;
pub(in crate::engine) use tags::tag_opened_by_template;
use tags::{TAGS, all_tags, find_first, partial_tag_len};

/// Maximum length in bytes of a span that begins within a line.
const MAX_INLINE_SPAN_BYTES: usize = 2048;

/// Splits streamed text into reasoning and answer. The result does not depend on how the
/// text is cut into pieces.
#[derive(Debug)]
pub(super) struct ReasoningSplitter {
    state: SplitterState,
    /// Text that may become a tag, or whitespace that may be dropped.
    held: String,
    /// A span has ended.
    has_span: bool,
    /// The server sends the reasoning separately.
    is_separate: bool,
    /// The model did not open the current span: the prompt did, as far as known.
    is_assumed: bool,
    /// The current span, if it may turn out to be text.
    span: String,
    /// Opening tags that are text, so that as many closing ones are.
    text_tags: usize,
    code: CodeTracker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SplitterState {
    /// Splitting is off.
    Off,
    /// Before the answer, outside of spans.
    Start,
    /// Before the answer, inside the span that this tag closes.
    Span(&'static str),
    Answer,
    /// Inside a span within the answer, which this tag closes.
    InnerSpan(&'static str),
    /// In the header of a channel.
    ChannelHeader,
    Channel {
        is_final: bool,
    },
    /// After a channel.
    ChannelEnd,
}

impl ReasoningSplitter {
    /// Creates a splitter. If not `active`, all text is answer.
    pub(super) fn new(active: bool) -> Self {
        let state = match active {
            true => SplitterState::Start,
            false => SplitterState::Off,
        };
        Self::in_state(state)
    }

    /// Creates a splitter for an answer of which the prompt already has the opening tag.
    /// Returns `None` if `prompt` does not end in one.
    pub(super) fn after_prompt(prompt: &str) -> Option<Self> {
        let end = prompt.trim_end().to_ascii_lowercase();
        let (_, close) = TAGS.iter().find(|(open, _)| end.ends_with(open))?;
        Some(Self {
            is_assumed: true,
            ..Self::in_state(SplitterState::Span(close))
        })
    }

    fn in_state(state: SplitterState) -> Self {
        Self {
            state,
            held: String::new(),
            has_span: false,
            is_separate: false,
            is_assumed: false,
            span: String::new(),
            text_tags: 0,
            code: CodeTracker::default(),
        }
    }

    /// Tells the splitter that the server sends the reasoning separately: the text does not
    /// begin inside a span, and a closing tag ends none.
    pub(super) fn reasoning_is_separate(&mut self) {
        self.is_separate = true;
        if self.is_assumed && self.span.is_empty() && self.held.is_empty() {
            self.is_assumed = false;
            self.state = SplitterState::Start;
        }
    }

    /// Adds text and returns the parts that are complete.
    pub(super) fn push(&mut self, text: &str) -> Vec<OutputPart> {
        let mut parts = Vec::new();
        self.held.push_str(text);
        while self.step(false, &mut parts) {}
        parts
    }

    /// Handles the held text up to the next change of state. Returns false if more text is
    /// needed, which does not come `at_end`.
    fn step(&mut self, at_end: bool, parts: &mut Vec<OutputPart>) -> bool {
        match self.state {
            SplitterState::Off => {
                self.emit_text(self.held.len(), parts);
                false
            }
            SplitterState::Start => self.step_start(),
            SplitterState::Span(close) => {
                let is_closed = self.take_reasoning(close, parts);
                if is_closed {
                    self.is_assumed = false;
                    self.state = SplitterState::Start;
                }
                is_closed
            }
            SplitterState::Answer => self.step_answer(at_end, parts),
            SplitterState::InnerSpan(close) => {
                let is_closed = self.take_reasoning(close, parts);
                if is_closed {
                    self.state = SplitterState::Answer;
                }
                is_closed
            }
            SplitterState::ChannelHeader => self.step_channel_header(),
            SplitterState::Channel { is_final } => self.step_channel(is_final, parts),
            SplitterState::ChannelEnd => self.step_channel_end(),
        }
    }

    fn step_start(&mut self) -> bool {
        let lower = self.held.trim_start().to_ascii_lowercase();
        let skipped = self.held.len() - lower.len();
        if CHANNEL_STARTS.iter().any(|start| lower.starts_with(start)) {
            self.state = SplitterState::ChannelHeader;
            self.held.drain(..skipped);
            return true;
        }
        for (open, close) in TAGS {
            if lower.starts_with(open) {
                self.held.drain(..skipped + open.len());
                self.state = SplitterState::Span(close);
                return true;
            }
            // The span is empty, and the template opened it.
            if lower.starts_with(close) && !self.has_span {
                self.held.drain(..skipped + close.len());
                self.has_span = true;
                return true;
            }
        }
        let starts = all_tags().chain(CHANNEL_STARTS);
        if starts.into_iter().any(|tag| tag.starts_with(&lower)) {
            return false; // Also if only whitespace was received.
        }
        if self.has_span {
            self.held.drain(..skipped);
        }
        self.state = SplitterState::Answer;
        true
    }

    fn step_answer(&mut self, at_end: bool, parts: &mut Vec<OutputPart>) -> bool {
        let lower = self.held.to_ascii_lowercase();
        let Some((at, tag)) = find_first(&lower, all_tags()) else {
            let complete = self.held.len() - partial_tag_len(&lower, all_tags());
            self.emit_text(complete, parts);
            return false;
        };
        self.emit_text(at, parts);
        let Some(is_quoted) = self.is_quoted(tag, at_end) else {
            return false;
        };
        match TAGS.iter().find(|(open, _)| *open == tag) {
            Some(_) if is_quoted || self.code.in_block => self.keep_tag(parts),
            Some((open, close)) if self.code.is_line_start() => {
                self.span = self.held.drain(..open.len()).collect();
                self.state = SplitterState::InnerSpan(close);
            }
            Some((open, close)) => return self.take_inline_span(open, close, at_end, parts),
            None if self.text_tags > 0 => {
                self.text_tags -= 1;
                self.emit_first_char(parts);
            }
            // A closing tag of no span, or one that is mentioned.
            None if is_quoted || self.has_span || self.is_separate => self.emit_first_char(parts),
            None if self.code.in_block && !self.code.is_line_start() => {
                self.emit_first_char(parts);
            }
            None => {
                self.held.drain(..tag.len());
                self.has_span = true;
                self.code = CodeTracker::default();
                self.state = SplitterState::Start;
                parts.push(OutputPart::TextWasReasoning);
            }
        }
        true
    }

    /// Returns whether the tag at the start of the held text is in quotation marks. `None` if
    /// the text after it is needed.
    fn is_quoted(&self, tag: &str, at_end: bool) -> Option<bool> {
        let Some(closing) = self.code.closing_quote() else {
            return Some(false);
        };
        match self.held[tag.len()..].chars().next() {
            None if !at_end => None,
            next => Some(next == Some(closing)),
        }
    }

    /// Keeps the opening tag at the start of the held text in the answer.
    fn keep_tag(&mut self, parts: &mut Vec<OutputPart>) {
        self.text_tags += 1;
        self.emit_first_char(parts);
    }

    /// Handles a span that begins within a line of the answer. It is held back until its end,
    /// or until it is too long for one.
    fn take_inline_span(
        &mut self,
        open: &str,
        close: &str,
        at_end: bool,
        parts: &mut Vec<OutputPart>,
    ) -> bool {
        let lower = self.held.to_ascii_lowercase();
        let longest = open.len() + MAX_INLINE_SPAN_BYTES + close.len();
        let window = lower
            .get(..lower.floor_char_boundary(longest))
            .unwrap_or(&lower);
        if let Some(at) = window.find(close) {
            self.held.drain(..open.len());
            self.emit_reasoning(at - open.len(), parts);
            self.held.drain(..close.len());
            self.has_span = true;
        } else if at_end || lower.len() >= longest {
            self.keep_tag(parts);
        } else {
            return false;
        }
        true
    }

    fn step_channel_header(&mut self) -> bool {
        let Some(header) = parse_header(&self.held.to_ascii_lowercase()) else {
            if self.held.len() <= MAX_HEADER_BYTES {
                return false;
            }
            self.state = SplitterState::Answer;
            return true;
        };
        self.held.drain(..header.length);
        self.state = SplitterState::Channel {
            is_final: header.is_final,
        };
        true
    }

    fn step_channel(&mut self, is_final: bool, parts: &mut Vec<OutputPart>) -> bool {
        let lower = self.held.to_ascii_lowercase();
        let tokens = || CHANNEL_ENDS.into_iter().chain(CHANNEL_STARTS);
        let found = find_first(&lower, tokens());
        let end = match found {
            Some((at, _)) => at,
            None => self.held.len() - partial_tag_len(&lower, tokens()),
        };
        if is_final {
            self.emit_text(end, parts);
        } else {
            self.emit_reasoning(end, parts);
        }
        let Some((_, token)) = found else {
            return false;
        };
        self.has_span |= !is_final;
        if CHANNEL_ENDS.contains(&token) {
            self.held.drain(..token.len());
            self.state = SplitterState::ChannelEnd;
        } else {
            self.state = SplitterState::ChannelHeader;
        }
        true
    }

    fn step_channel_end(&mut self) -> bool {
        let trimmed = self.held.trim_start().to_ascii_lowercase();
        let mut starts = CHANNEL_STARTS.iter();
        if starts.clone().any(|start| trimmed.starts_with(start)) {
            self.state = SplitterState::ChannelHeader;
        } else if starts.any(|start| start.starts_with(&trimmed)) {
            return false;
        } else {
            let skipped = self.held.len() - trimmed.len();
            self.held.drain(..skipped);
            self.state = SplitterState::Answer;
        }
        true
    }

    /// Emits the held reasoning up to `close`. Returns true if `close` was found; it is
    /// removed.
    fn take_reasoning(&mut self, close: &'static str, parts: &mut Vec<OutputPart>) -> bool {
        let lower = self.held.to_ascii_lowercase();
        let found = lower.find(close);
        let end = found.unwrap_or_else(|| lower.len() - partial_tag_len(&lower, [close]));
        if self.is_assumed || matches!(self.state, SplitterState::InnerSpan(_)) {
            self.span.push_str(&self.held[..end]);
        }
        self.emit_reasoning(end, parts);
        if found.is_some() {
            self.held.drain(..close.len());
            self.span.clear();
            self.has_span = true;
        }
        found.is_some()
    }

    /// Ends the answer and returns the text that was held back. If the model ended the answer,
    /// `is_complete`, a span that only the prompt should have opened was none.
    pub(super) fn finish(&mut self, is_complete: bool) -> Vec<OutputPart> {
        let mut parts = Vec::new();
        while self.step(true, &mut parts) {}
        let is_text = is_complete && self.is_assumed;
        match std::mem::replace(&mut self.state, SplitterState::Off) {
            SplitterState::Span(_) if is_text => self.held.insert_str(0, &self.span),
            SplitterState::InnerSpan(_) => self.held.insert_str(0, &self.span),
            SplitterState::Span(_) | SplitterState::Channel { is_final: false } => {
                self.emit_reasoning(self.held.len(), &mut parts);
            }
            // Whitespace after a span.
            SplitterState::Start | SplitterState::ChannelEnd if self.has_span => {
                self.held = self.held.trim_start().to_owned();
            }
            _ => {}
        }
        self.emit_text(self.held.len(), &mut parts);
        parts
    }

    fn emit_text(&mut self, end: usize, parts: &mut Vec<OutputPart>) {
        if end > 0 {
            let text: String = self.held.drain(..end).collect();
            self.code.push(&text);
            match parts.last_mut() {
                Some(OutputPart::Text(last)) => last.push_str(&text),
                _ => parts.push(OutputPart::Text(text)),
            }
        }
    }

    fn emit_first_char(&mut self, parts: &mut Vec<OutputPart>) {
        let end = self.held.chars().next().map_or(0, char::len_utf8);
        self.emit_text(end, parts);
    }

    fn emit_reasoning(&mut self, end: usize, parts: &mut Vec<OutputPart>) {
        if end > 0 {
            parts.push(OutputPart::Reasoning(self.held.drain(..end).collect()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the reasoning and the text of an answer.
    fn split(mut splitter: ReasoningSplitter, pieces: &[&str]) -> (String, String) {
        let mut parts: Vec<OutputPart> = pieces
            .iter()
            .flat_map(|piece| splitter.push(piece))
            .collect();
        parts.extend(splitter.finish(true));
        let (mut reasoning, mut text) = (String::new(), String::new());
        for part in parts {
            match part {
                OutputPart::Reasoning(part) => reasoning.push_str(&part),
                OutputPart::Text(part) => text.push_str(&part),
                OutputPart::TextWasReasoning => reasoning.push_str(&std::mem::take(&mut text)),
            }
        }
        (reasoning, text)
    }

    #[test]
    fn reasoning_is_separated_for_every_cut_of_the_text() {
        for (answer, reasoning, text) in [
            ("hello", "", "hello"),
            ("", "", ""),
            ("  spaces stay", "", "  spaces stay"),
            // Spans before the answer.
            ("<think>a < b</think>\n\nyes", "a < b", "yes"),
            ("<THINK>a</Think>yes", "a", "yes"),
            ("\n<thinking>a</thinking>yes", "a", "yes"),
            ("[THINK]a[/THINK]yes", "a", "yes"),
            ("<seed:think>a</seed:think>yes", "a", "yes"),
            ("◁think▷a◁/think▷yes", "a", "yes"),
            ("<|START_THINKING|>a<|END_THINKING|>yes", "a", "yes"),
            ("<think>a</think>\n<think>b</think>\nyes", "ab", "yes"),
            ("<think></think>ä", "", "ä"),
            ("<think>never ends", "never ends", ""),
            ("<think>a</think> ", "a", ""),
            ("<think>a</think> <th", "a", "<th"),
            ("\n <think>hm</think> no</think>yes", "hm", "no</think>yes"),
            // Text that begins as a tag.
            ("<thin", "", "<thin"),
            ("<thinker>x", "", "<thinker>x"),
            ("[this] [one", "", "[this] [one"),
            // Only the closing tag.
            ("so I greet.\n</think>\n\nHello!", "so I greet.\n", "Hello!"),
            ("hm[/THINK]Hello", "hm", "Hello"),
            ("\n</think>\n\nHello", "", "Hello"),
            ("a</think>b</think>c", "a", "b</think>c"),
            ("a</think><think>b</think>c", "ab", "c"),
            // Spans within the answer.
            ("one <think>y</think>two", "y", "one two"),
            ("<think>a</think>one\n<think>b</think>two", "ab", "one\ntwo"),
            ("x\n<think>never ends", "never ends", "x\n<think>never ends"),
            // Tags that the answer mentions.
            ("the tag <think> opens", "", "the tag <think> opens"),
            ("<think> and", " and", ""),
            (
                "wrap it in ``` fences.\n</think>\n\nprint(1)",
                "wrap it in ``` fences.\n",
                "print(1)",
            ),
            ("```py\nx\n```\n</think>\ny", "```py\nx\n```\n", "y"),
            (
                "I'll say \"Hello!\"</think>Hello!",
                "I'll say \"Hello!\"",
                "Hello!",
            ),
            // Quoted tags.
            (
                "use `<think>` and `</think>`",
                "",
                "use `<think>` and `</think>`",
            ),
            (
                "```\n<think>a</think>\n```\nb",
                "",
                "```\n<think>a</think>\n```\nb",
            ),
            ("\"</think>\" ends it", "", "\"</think>\" ends it"),
            // The channels of gpt-oss.
            (
                "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>",
                "hm",
                "Hi",
            ),
            (
                "<|start|>assistant<|channel|>analysis<|message|>a<|end|><|start|>assistant\
                 <|channel|>commentary to=x<|message|>b<|call|>\n<|channel|>final<|message|>c<|end|>",
                "ab",
                "c",
            ),
            ("<|channel|>analysis<|message|>hm<|end|>\nHi", "hm", "Hi"),
            ("<|channel|>analysis<|message|>hm", "hm", ""),
            ("<|channel|>x", "", "<|channel|>x"),
        ] {
            let expected = (reasoning.to_owned(), text.to_owned());
            let new = || ReasoningSplitter::new(true);
            assert_eq!(split(new(), &[answer]), expected, "{answer}");
            for at in (0..=answer.len()).filter(|at| answer.is_char_boundary(*at)) {
                let (a, b) = answer.split_at(at);
                assert_eq!(split(new(), &[a, b]), expected, "{a}|{b}");
            }
            let chars: Vec<String> = answer.chars().map(String::from).collect();
            let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
            assert_eq!(split(new(), &chars), expected, "{answer}");
        }
    }

    #[test]
    fn the_prompt_may_have_the_opening_tag() {
        let after = |prompt| ReasoningSplitter::after_prompt(prompt);
        let open = || after("<|im_start|>assistant\n<think>\n").unwrap();
        let expected = ("hm\n".to_owned(), "yes".to_owned());
        assert_eq!(split(open(), &["hm\n</th", "ink>\n\nyes"]), expected);
        assert_eq!(
            split(after("[THINK]").unwrap(), &["hm\n[/THINK]yes"]),
            expected
        );
        assert!(after("<|im_start|>assistant\n").is_none());
        assert!(after("<think>\n\n</think>\n\n").is_none());
        // The server sent the reasoning separately, so the text is the answer.
        let mut separate = open();
        separate.reasoning_is_separate();
        assert_eq!(split(separate, &["yes"]), (String::new(), "yes".to_owned()));
        let mut separate = ReasoningSplitter::new(true);
        separate.reasoning_is_separate();
        let text = "Use </think> to close it.";
        assert_eq!(split(separate, &[text]), (String::new(), text.to_owned()));
        // The prompt did not open a span after all.
        let expected = ("Hello!".to_owned(), "Hello!".to_owned());
        assert_eq!(split(open(), &["Hel", "lo!"]), expected);
    }

    #[test]
    fn a_long_span_within_a_line_is_text_for_every_cut() {
        for length in [MAX_INLINE_SPAN_BYTES - 20, MAX_INLINE_SPAN_BYTES + 20] {
            let answer = format!("x <think>{}</think>y", "ä".repeat(length / 2));
            let whole = split(ReasoningSplitter::new(true), &[&answer]);
            assert_eq!(whole.1.contains("<think>"), length > MAX_INLINE_SPAN_BYTES);
            let chars: Vec<String> = answer.chars().map(String::from).collect();
            let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
            assert_eq!(split(ReasoningSplitter::new(true), &chars), whole);
        }
    }

    #[test]
    fn an_inactive_splitter_keeps_tags_in_the_answer() {
        let answer = "<think>a</think>b";
        let inactive = ReasoningSplitter::new(false);
        assert_eq!(
            split(inactive, &[answer]),
            (String::new(), answer.to_owned())
        );
    }
}
