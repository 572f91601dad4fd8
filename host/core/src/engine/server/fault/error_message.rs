//! Extracts the message of a server's error from its various shapes, and
//! classifies the error by it.

use serde_json::Value;

use super::{FaultKind, ServerFault, overflow};

/// Maximum length of a repeated message in characters.
const MAX_MESSAGE_CHARS: usize = 600;

/// The content of an error.
#[derive(Debug, Default)]
pub(super) struct ErrorMessage {
    message: String,
    /// The values of `type` and `code`, as far as they are strings.
    codes: String,
    status: Option<u16>,
    param: Option<String>,
    prompt_tokens: Option<u64>,
    context_tokens: Option<u64>,
}

/// Parses a value that is recognisable as an error by its shape.
pub(super) fn parse_error(value: &Value) -> Option<ErrorMessage> {
    if value.get("object").and_then(Value::as_str) == Some("error") {
        return Some(parse_object(value));
    }
    match value.get("error")? {
        Value::String(text) if !text.is_empty() => Some(ErrorMessage {
            message: one_line(text),
            ..ErrorMessage::default()
        }),
        object @ Value::Object(fields) if !fields.is_empty() => Some(parse_object(object)),
        _ => None,
    }
}

/// Parses a body that is known to be an error by the status only.
pub(super) fn parse_body(value: &Value) -> Option<ErrorMessage> {
    match value.get("detail") {
        Some(Value::String(text)) => {
            return Some(ErrorMessage {
                message: one_line(text),
                ..ErrorMessage::default()
            });
        }
        Some(Value::Array(details)) => {
            let first = details.first()?;
            let location = first.get("loc").and_then(Value::as_array);
            let field = location
                .and_then(|path| path.last())
                .and_then(Value::as_str);
            return Some(ErrorMessage {
                message: one_line(first.get("msg")?.as_str()?),
                param: field.map(str::to_owned),
                ..ErrorMessage::default()
            });
        }
        _ => {}
    }
    value.get("message").is_some().then(|| parse_object(value))
}

/// Parses text that is not JSON. Of an HTML page, takes the title.
pub(super) fn parse_plain_text(text: &str) -> ErrorMessage {
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|start| {
        let start = start + "<title>".len();
        let end = start + lower.get(start..)?.find("</title>")?;
        text.get(start..end)
    });
    let message = match title {
        Some(title) => one_line(title),
        None if lower.contains("<html") || lower.trim_start().starts_with("<!doctype") => {
            one_line(&strip_tags(text))
        }
        None => one_line(text),
    };
    ErrorMessage {
        message,
        ..ErrorMessage::default()
    }
}

fn parse_object(object: &Value) -> ErrorMessage {
    let string = |key: &str| object.get(key).and_then(Value::as_str);
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    ErrorMessage {
        message: one_line(
            string("message")
                .or_else(|| string("title"))
                .unwrap_or_default(),
        ),
        codes: [string("type"), string("code")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" "),
        status: number("code").and_then(|code| u16::try_from(code).ok()),
        param: string("param").map(str::to_owned),
        prompt_tokens: number("n_prompt_tokens"),
        context_tokens: number("n_ctx"),
    }
}

fn strip_tags(text: &str) -> String {
    let mut in_tag = false;
    text.chars()
        .filter_map(|c| {
            match c {
                '<' => in_tag = true,
                '>' => {
                    in_tag = false;
                    return Some(' ');
                }
                _ => {}
            }
            (!in_tag).then_some(c)
        })
        .collect()
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= MAX_MESSAGE_CHARS {
        return line;
    }
    let cut: String = line.chars().take(MAX_MESSAGE_CHARS).collect();
    format!("{cut}…")
}

impl ErrorMessage {
    /// Classifies the error. `status` is the HTTP status, if it is not a
    /// success; otherwise a status in the error itself counts.
    pub(super) fn classify(self, status: Option<u16>) -> ServerFault {
        let status = status.or(self.status);
        ServerFault {
            kind: self.fault_kind(status),
            message: self.message,
            status: status.filter(|status| *status >= 400),
            retry_after: None,
        }
    }

    fn fault_kind(&self, status: Option<u16>) -> FaultKind {
        let text = format!("{} {}", self.message, self.codes).to_lowercase();
        let has = |patterns: &[&str]| patterns.iter().any(|pattern| text.contains(pattern));
        if matches!(status, Some(401 | 403)) || has(&["invalid_api_key", "authentication_error"]) {
            return FaultKind::Auth;
        }
        if self.is_overflow(&text) {
            return self.overflow_kind(&text);
        }
        let keys = self.unsupported_keys(&text, status);
        if !keys.is_empty() {
            return FaultKind::Unsupported(keys);
        }
        if has(&["loading model", "model is loading", "still loading"]) {
            return FaultKind::Loading;
        }
        if has(&[
            "insufficient system resources",
            "out of memory",
            "not enough memory",
            "requires more system memory",
            "failed to allocate",
            "insufficient memory",
        ]) {
            return FaultKind::OutOfMemory;
        }
        if has(&[
            "model is unloaded",
            "model unloaded",
            "no models loaded",
            "model is not loaded",
            "model not loaded",
            "modelunloaded",
            "has been unloaded",
            "was unloaded",
            "was evicted",
        ]) {
            return FaultKind::Unloaded;
        }
        if has(&["model_not_found", "model not found", "model is not found"])
            || (text.contains("model") && has(&["not found", "does not exist", "not exist"]))
        {
            return FaultKind::UnknownModel;
        }
        if matches!(status, Some(429 | 503)) {
            return FaultKind::Busy;
        }
        FaultKind::Other
    }

    /// Returns the names in the message of which one is a key of the request that the server
    /// does not accept, the most probable one first.
    fn unsupported_keys(&self, text: &str, status: Option<u16>) -> Vec<String> {
        if status.is_some_and(|status| !matches!(status, 400 | 404 | 422 | 501)) {
            return Vec::new();
        }
        if text.contains("does not support thinking") {
            return vec!["think".to_owned()];
        }
        let is_rejected = [
            "unrecognized",
            "unsupported",
            "not supported",
            "unknown field",
            "unknown parameter",
            "not permitted",
            "unexpected keyword",
        ]
        .iter()
        .any(|pattern| text.contains(pattern))
            // A value out of range is no unsupported key: the user has to
            // correct it.
            || (text.contains("response_format") && text.contains("must be"));
        if !is_rejected {
            return Vec::new();
        }
        if text.contains("stream_options") {
            return vec!["stream_options".to_owned()];
        }
        if text.contains("streaming") || text.contains("stream is not") {
            return vec!["stream".to_owned()];
        }
        // The quoted texts, as in lists of pydantic's errors, and the text after the last
        // colon.
        let quoted = self.message.split(['\'', '`', '"']).skip(1).step_by(2);
        let after_colon = self.message.rsplit(':').next().map(str::trim);
        let is_key = |name: &&str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let mut keys: Vec<String> = Vec::new();
        for name in self
            .param
            .as_deref()
            .into_iter()
            .chain(quoted)
            .chain(after_colon)
        {
            let name = name.split('.').next().unwrap_or(name);
            if is_key(&name) && !keys.iter().any(|key| key == name) {
                keys.push(name.to_owned());
            }
        }
        keys
    }

    fn is_overflow(&self, text: &str) -> bool {
        text.contains("exceed_context_size_error")
            || text.contains("trying to keep the first")
            || text.contains("longer than the context")
            || text.contains("prompt is too long")
            || text.contains("input is too long")
            || text.contains("`inputs` tokens + `max_new_tokens` must be")
            || ([
                "context length",
                "context size",
                "context window",
                "context limit",
            ]
            .iter()
            .any(|pattern| text.contains(pattern))
                && [
                    "exceed", "maximum", "too long", "larger", "overflow", "only", "greater",
                ]
                .iter()
                .any(|pattern| text.contains(pattern)))
    }

    /// Returns the overflow with its numbers: those of the error's numeric fields, else
    /// those in `text`.
    fn overflow_kind(&self, text: &str) -> FaultKind {
        let numbers = overflow::parse(text);
        FaultKind::Overflow {
            prompt_tokens: self.prompt_tokens.or(numbers.prompt),
            output_tokens: numbers.output,
            context_tokens: self.context_tokens.or(numbers.context),
        }
    }
}
