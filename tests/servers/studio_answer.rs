//! The answers of the fake model, generated token by token, so that long answers need no
//! memory.
//!
//! A token is a run of non-blank characters with the blanks before it. Prompts, output and
//! context lengths are counted in the same way.

use serde_json::Value;

use super::studio::Answer;

pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) reasoning: bool,
}

/// The reason why an answer ended; the variants of LM Studio's `stop_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    EosFound,
    StopStringFound,
    MaxPredictedTokensReached,
    ContextLengthReached,
}

impl StopReason {
    pub(crate) fn stop_reason(self) -> &'static str {
        match self {
            Self::EosFound => "eosFound",
            Self::StopStringFound => "stopStringFound",
            Self::MaxPredictedTokensReached => "maxPredictedTokensReached",
            Self::ContextLengthReached => "contextLengthReached",
        }
    }

    /// Returns OpenAI's `finish_reason`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::EosFound | Self::StopStringFound => "stop",
            Self::MaxPredictedTokensReached | Self::ContextLengthReached => "length",
        }
    }
}

/// The parameters of a request, the same for all endpoints.
pub(crate) struct GenerationRequest {
    /// The complete prompt.
    pub(crate) prompt: String,
    /// The last message, which [`Answer::Echo`] repeats.
    pub(crate) last_message: String,
    pub(crate) is_raw: bool,
    pub(crate) temperature: Option<f64>,
    pub(crate) seed: Option<i64>,
    pub(crate) limit: Option<usize>,
    pub(crate) stops: Vec<String>,
    pub(crate) reasons: bool,
}

/// An answer that is being generated.
pub(crate) struct Generation {
    source: Box<dyn Iterator<Item = Token> + Send>,
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    pending_text: String,
    limit: Option<usize>,
    /// Tokens of the context that are left for the answer.
    context_left: usize,
    pub(crate) prompt_tokens: usize,
    pub(crate) generated_tokens: usize,
    pub(crate) reasoning_tokens: usize,
    pub(crate) finish: Option<StopReason>,
}

impl Generation {
    pub(crate) fn new(answer: &Answer, request: &GenerationRequest, context: u32) -> Self {
        let prompt_tokens = count_tokens(&request.prompt);
        Self {
            source: source(answer, request),
            stops: request.stops.clone(),
            pending_text: String::new(),
            limit: request.limit,
            context_left: (context as usize).saturating_sub(prompt_tokens),
            prompt_tokens,
            generated_tokens: 0,
            reasoning_tokens: 0,
            finish: None,
        }
    }

    /// Returns the same answer without any tokens.
    pub(crate) fn without_tokens(mut self) -> Self {
        self.source = Box::new(std::iter::empty());
        self
    }

    /// Counts as LM Studio does: one token less if `max_tokens` ended the answer.
    pub(crate) fn completion_tokens(&self) -> usize {
        let is_limited = self.finish == Some(StopReason::MaxPredictedTokensReached);
        self.generated_tokens - usize::from(is_limited && self.generated_tokens > 0)
    }

    pub(crate) fn finish(&self) -> StopReason {
        self.finish.unwrap_or(StopReason::EosFound)
    }

    fn stop(&mut self, finish: StopReason) -> Option<Token> {
        self.finish = Some(finish);
        let text = std::mem::take(&mut self.pending_text);
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
            if self
                .limit
                .is_some_and(|limit| self.generated_tokens >= limit)
            {
                return self.stop(StopReason::MaxPredictedTokensReached);
            }
            if self.generated_tokens >= self.context_left {
                return self.stop(StopReason::ContextLengthReached);
            }
            let Some(token) = self.source.next() else {
                return self.stop(StopReason::EosFound);
            };
            self.generated_tokens += 1;
            if token.reasoning {
                self.reasoning_tokens += 1;
                return Some(token);
            }
            self.pending_text.push_str(&token.text);
            let stops = self.stops.iter();
            let stop_at = stops.filter_map(|stop| self.pending_text.find(stop)).min();
            if let Some(at) = stop_at {
                self.pending_text.truncate(at);
                return self.stop(StopReason::StopStringFound);
            }
            let kept = self.pending_text.len() - self.partial_stop_len();
            let rest = self.pending_text.split_off(kept);
            let text = std::mem::replace(&mut self.pending_text, rest);
            if !text.is_empty() {
                return Some(Token { text, ..token });
            }
        }
    }
}

impl Generation {
    /// Returns how many bytes at the end of the pending text may begin a stop string.
    fn partial_stop_len(&self) -> usize {
        let text = &self.pending_text;
        let tails = text.char_indices().map(|(at, _)| &text[at..]);
        let mut partial_stops =
            tails.filter(|tail| self.stops.iter().any(|stop| stop.starts_with(*tail)));
        partial_stops.next().map_or(0, str::len)
    }
}

fn source(answer: &Answer, request: &GenerationRequest) -> Box<dyn Iterator<Item = Token> + Send> {
    if let Some(tag) = open_tag(&request.prompt).filter(|_| request.is_raw) {
        return tokens(&format!("</{tag}>"), false);
    }
    match answer {
        Answer::Text(text) => tokens(text, false),
        Answer::Echo => tokens(
            &format!("Echo {:016x}: {}", hash(request), request.last_message),
            false,
        ),
        Answer::Recall(bytes) => {
            let after_key = request.last_message.split("secret code is ").nth(1);
            let code: String = after_key
                .into_iter()
                .flat_map(|text| text.chars().take(5))
                .collect();
            let recalls = request.last_message.len() <= *bytes;
            let code = if recalls { &code } else { "00000" };
            tokens(&format!("It is {code}."), false)
        }
        Answer::Thinking { reasoning, text } if request.reasons => {
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
        // Blanks at the end of the text belong to the last word.
        let has_more_words = || !text[at..].trim_start().is_empty();
        if c.is_whitespace() && !before.is_whitespace() && has_more_words() {
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

/// Returns the number of tokens of a text.
pub(crate) fn count_tokens(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Returns the innermost tag that is still open at the end of a text.
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
        } else if !tag.is_empty() && tag.chars().all(|c| c.is_alphanumeric() || c == '_') {
            open.push(tag);
        }
    }
    open.pop()
}

/// FNV-1a hash: short, and the same on every machine.
fn hash(request: &GenerationRequest) -> u64 {
    let temperature = request.temperature.unwrap_or(0.8);
    let seed = request.seed.unwrap_or(-1);
    let text = format!("{}\0{seed}\0{temperature}", request.prompt);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Returns the stop strings of a request: one or a list.
pub(crate) fn stops(value: &Value) -> Vec<String> {
    let stops = match value {
        Value::String(stop) => vec![stop.clone()],
        Value::Array(stops) => {
            let stops = stops.iter().filter_map(Value::as_str);
            stops.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    stops.into_iter().filter(|stop| !stop.is_empty()).collect()
}
