//! What the model of the double says, token by token and never as a whole, so
//! that an answer of any length costs no memory.
//!
//! A token is a run of non-blank characters with the blanks before it. The
//! same rule counts prompts, output and context.

use serde_json::Value;

use super::studio::Answer;

pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) reasoning: bool,
}

/// Why the answer ended, in the words of LM Studio's `stop_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    EosFound,
    StopStringFound,
    MaxPredictedTokensReached,
    ContextLengthReached,
}

impl Finish {
    pub(crate) fn stop_reason(self) -> &'static str {
        match self {
            Self::EosFound => "eosFound",
            Self::StopStringFound => "stopStringFound",
            Self::MaxPredictedTokensReached => "maxPredictedTokensReached",
            Self::ContextLengthReached => "contextLengthReached",
        }
    }

    /// In the words of OpenAI.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::EosFound | Self::StopStringFound => "stop",
            Self::MaxPredictedTokensReached | Self::ContextLengthReached => "length",
        }
    }
}

/// What a request asks for, whichever endpoint it came by.
pub(crate) struct Ask {
    /// What the model sees.
    pub(crate) prompt: String,
    /// What [`Answer::Echo`] repeats.
    pub(crate) last: String,
    pub(crate) raw: bool,
    pub(crate) temperature: Option<f64>,
    pub(crate) seed: Option<i64>,
    pub(crate) limit: Option<usize>,
    pub(crate) stops: Vec<String>,
    pub(crate) think: bool,
}

/// An answer under way.
pub(crate) struct Generation {
    source: Box<dyn Iterator<Item = Token> + Send>,
    stops: Vec<String>,
    /// Text that may be the beginning of a stop text.
    held: String,
    limit: Option<usize>,
    /// What the context has left for the answer.
    room: usize,
    pub(crate) prompt_tokens: usize,
    pub(crate) made: usize,
    pub(crate) reasoning: usize,
    pub(crate) finish: Option<Finish>,
}

impl Generation {
    pub(crate) fn new(answer: &Answer, ask: &Ask, context: u32) -> Self {
        let prompt_tokens = count(&ask.prompt);
        Self {
            source: source(answer, ask),
            stops: ask.stops.clone(),
            held: String::new(),
            limit: ask.limit,
            room: (context as usize).saturating_sub(prompt_tokens),
            prompt_tokens,
            made: 0,
            reasoning: 0,
            finish: None,
        }
    }

    /// The same answer with nothing in it.
    pub(crate) fn emptied(mut self) -> Self {
        self.source = Box::new(std::iter::empty());
        self
    }

    /// As LM Studio counts it: one less after a stop for length.
    pub(crate) fn completion_tokens(&self) -> usize {
        let short = self.finish == Some(Finish::MaxPredictedTokensReached);
        self.made - usize::from(short && self.made > 0)
    }

    pub(crate) fn finish(&self) -> Finish {
        self.finish.unwrap_or(Finish::EosFound)
    }

    fn end(&mut self, finish: Finish) -> Option<Token> {
        self.finish = Some(finish);
        let text = std::mem::take(&mut self.held);
        let reasoning = false;
        (!text.is_empty()).then_some(Token { text, reasoning })
    }
}

impl Iterator for Generation {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            if self.finish.is_some() {
                return None;
            }
            if self.limit.is_some_and(|it| self.made >= it) {
                return self.end(Finish::MaxPredictedTokensReached);
            }
            if self.made >= self.room {
                return self.end(Finish::ContextLengthReached);
            }
            let Some(token) = self.source.next() else {
                return self.end(Finish::EosFound);
            };
            self.made += 1;
            if token.reasoning {
                self.reasoning += 1;
                return Some(token);
            }
            self.held.push_str(&token.text);
            let found = self.stops.iter().filter_map(|it| self.held.find(it)).min();
            if let Some(at) = found {
                self.held.truncate(at);
                return self.end(Finish::StopStringFound);
            }
            let keep = self.may_be_stop();
            let rest = self.held.split_off(self.held.len() - keep);
            let text = std::mem::replace(&mut self.held, rest);
            if !text.is_empty() {
                return Some(Token { text, ..token });
            }
        }
    }
}

impl Generation {
    /// How many bytes at the end of `held` begin a stop text.
    fn may_be_stop(&self) -> usize {
        let starts = self.held.char_indices().map(|(at, _)| &self.held[at..]);
        let mut tails = starts.filter(|tail| self.stops.iter().any(|it| it.starts_with(*tail)));
        tails.next().map_or(0, str::len)
    }
}

fn source(answer: &Answer, ask: &Ask) -> Box<dyn Iterator<Item = Token> + Send> {
    if let Some(tag) = open_tag(&ask.prompt).filter(|_| ask.raw) {
        return tokens(&format!("</{tag}>"), false);
    }
    match answer {
        Answer::Text(text) => tokens(text, false),
        Answer::Echo => tokens(&format!("Echo {:016x}: {}", hash(ask), ask.last), false),
        Answer::Recall(bytes) => {
            let named = ask.last.split("secret code is ").nth(1);
            let code: String = named
                .into_iter()
                .flat_map(|it| it.chars().take(5))
                .collect();
            let knows = ask.last.len() <= *bytes;
            tokens(
                &format!("It is {}.", if knows { &code } else { "00000" }),
                false,
            )
        }
        Answer::Thinking { reasoning, text } if ask.think => {
            Box::new(tokens(reasoning, true).chain(tokens(text, false)))
        }
        Answer::Thinking { text, .. } => tokens(text, false),
        Answer::Tokens(n) => Box::new((0..*n).map(|i| Token {
            text: if i == 0 {
                "t0".to_owned()
            } else {
                format!(" t{i}")
            },
            reasoning: false,
        })),
    }
}

fn tokens(text: &str, reasoning: bool) -> Box<dyn Iterator<Item = Token> + Send> {
    let mut parts = Vec::new();
    let (mut start, mut before) = (0, ' ');
    for (at, c) in text.char_indices() {
        // Blanks at the very end belong to the last word.
        let more = || !text[at..].trim_start().is_empty();
        if c.is_whitespace() && !before.is_whitespace() && more() {
            parts.push(text[start..at].to_owned());
            start = at;
        }
        before = c;
    }
    if start < text.len() {
        parts.push(text[start..].to_owned());
    }
    Box::new(parts.into_iter().map(move |text| Token { text, reasoning }))
}

/// How many tokens a text is.
pub(crate) fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

/// The tag that a text ends inside of.
fn open_tag(text: &str) -> Option<&str> {
    let mut open = Vec::new();
    for part in text.split('<').skip(1) {
        let Some((tag, _)) = part.split_once('>') else {
            continue;
        };
        if let Some(closed) = tag.strip_prefix('/') {
            if open.last() == Some(&closed) {
                open.pop();
            }
        } else if !tag.is_empty() && tag.chars().all(|it| it.is_alphanumeric() || it == '_') {
            open.push(tag);
        }
    }
    open.pop()
}

/// FNV-1a: short, and the same on every machine.
fn hash(ask: &Ask) -> u64 {
    let temperature = ask.temperature.unwrap_or(0.8);
    let seed = ask.seed.unwrap_or(-1);
    let text = format!("{}\0{seed}\0{temperature}", ask.prompt);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Texts that end an answer: one or a list.
pub(crate) fn stops(value: &Value) -> Vec<String> {
    let some = match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => {
            let texts = many.iter().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    some.into_iter().filter(|it| !it.is_empty()).collect()
}
