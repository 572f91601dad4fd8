//! The words of an error, out of whatever shape it has, and what they mean.

use serde_json::Value;

use super::{Fault, FaultKind};

/// The most of a server's words that is repeated.
const MESSAGE_CHARS_MAX: usize = 600;

/// What an error says.
#[derive(Debug, Default)]
pub(super) struct Words {
    message: String,
    /// `type` and `code`, as far as they are words.
    codes: String,
    status: Option<u16>,
    param: Option<String>,
    prompt_tokens: Option<u64>,
    context_tokens: Option<u64>,
}

/// An error that says by its shape that it is one.
pub(super) fn of_error(value: &Value) -> Option<Words> {
    if value.get("object").and_then(Value::as_str) == Some("error") {
        return Some(of_object(value));
    }
    match value.get("error")? {
        Value::String(text) if !text.is_empty() => Some(Words {
            message: one_line(text),
            ..Words::default()
        }),
        object @ Value::Object(fields) if !fields.is_empty() => Some(of_object(object)),
        _ => None,
    }
}

/// What is an error only because the status says so.
pub(super) fn of_body(value: &Value) -> Option<Words> {
    match value.get("detail") {
        Some(Value::String(text)) => {
            return Some(Words {
                message: one_line(text),
                ..Words::default()
            });
        }
        Some(Value::Array(details)) => {
            let first = details.first()?;
            let place = first.get("loc").and_then(Value::as_array);
            let field = place.and_then(|it| it.last()).and_then(Value::as_str);
            return Some(Words {
                message: one_line(first.get("msg")?.as_str()?),
                param: field.map(str::to_owned),
                ..Words::default()
            });
        }
        _ => {}
    }
    value.get("message").is_some().then(|| of_object(value))
}

/// Words that are no JSON; of a page its title.
pub(super) fn plain(text: &str) -> Words {
    let lower = text.to_ascii_lowercase();
    let titled = lower.find("<title>").and_then(|start| {
        let start = start + "<title>".len();
        let end = start + lower.get(start..)?.find("</title>")?;
        text.get(start..end)
    });
    let message = match titled {
        Some(title) => one_line(title),
        None if lower.contains("<html") || lower.trim_start().starts_with("<!doctype") => {
            one_line(&without_tags(text))
        }
        None => one_line(text),
    };
    Words {
        message,
        ..Words::default()
    }
}

fn of_object(object: &Value) -> Words {
    let word = |key: &str| object.get(key).and_then(Value::as_str);
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    Words {
        message: one_line(
            word("message")
                .or_else(|| word("title"))
                .unwrap_or_default(),
        ),
        codes: [word("type"), word("code")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" "),
        status: number("code").and_then(|it| u16::try_from(it).ok()),
        param: word("param").map(str::to_owned),
        prompt_tokens: number("n_prompt_tokens"),
        context_tokens: number("n_ctx"),
    }
}

fn without_tags(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .filter_map(|c| {
            match c {
                '<' => inside = true,
                '>' => {
                    inside = false;
                    return Some(' ');
                }
                _ => {}
            }
            (!inside).then_some(c)
        })
        .collect()
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= MESSAGE_CHARS_MAX {
        return line;
    }
    let cut: String = line.chars().take(MESSAGE_CHARS_MAX).collect();
    format!("{cut}…")
}

impl Words {
    pub(super) fn judge(self, status: Option<u16>) -> Fault {
        let status_said = status.or(self.status);
        Fault {
            kind: self.kind(status_said),
            message: self.message,
            status: status_said.filter(|it| *it >= 400),
            retry_after: None,
        }
    }

    fn kind(&self, status: Option<u16>) -> FaultKind {
        let text = format!("{} {}", self.message, self.codes).to_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|it| text.contains(it));
        if matches!(status, Some(401 | 403)) || has(&["invalid_api_key", "authentication_error"]) {
            return FaultKind::Auth;
        }
        if let Some(key) = self.unsupported(&text, status) {
            return FaultKind::Unsupported(Some(key));
        }
        if self.is_overflow(&text) {
            return self.overflow(&text);
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

    /// The key of the request that the server does not take.
    fn unsupported(&self, text: &str, status: Option<u16>) -> Option<String> {
        if status.is_some_and(|it| !matches!(it, 400 | 404 | 422 | 501)) {
            return None;
        }
        if text.contains("does not support thinking") {
            return Some("think".to_owned());
        }
        let says_no = [
            "unrecognized",
            "unsupported",
            "not supported",
            "unknown field",
            "unknown parameter",
            "not permitted",
            "unexpected keyword",
        ]
        .iter()
        .any(|it| text.contains(it))
            // A value out of range is the user's to mend, and not ours to drop.
            || (text.contains("response_format") && text.contains("must be"));
        if !says_no {
            return None;
        }
        if text.contains("stream_options") {
            return Some("stream_options".to_owned());
        }
        if text.contains("streaming") || text.contains("stream is not") {
            return Some("stream".to_owned());
        }
        if let Some(param) = &self.param {
            return Some(param.split('.').next().unwrap_or(param).to_owned());
        }
        // What stands in quotes, or after a colon.
        let quoted = self.message.split(['\'', '`', '"']).nth(1);
        let supplied = || self.message.rsplit(':').next().map(str::trim);
        let key = quoted.or_else(supplied)?;
        let key = key.split('.').next().unwrap_or(key);
        let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        is_key.then(|| key.to_owned())
    }

    fn is_overflow(&self, text: &str) -> bool {
        text.contains("exceed_context_size_error")
            || text.contains("trying to keep the first")
            || text.contains("longer than the context")
            || text.contains("prompt is too long")
            || text.contains("input is too long")
            || (["context length", "context size", "context window"]
                .iter()
                .any(|it| text.contains(it))
                && [
                    "exceed", "maximum", "too long", "larger", "overflow", "only", "greater",
                ]
                .iter()
                .any(|it| text.contains(it)))
    }

    /// The numbers, where they were given as such, else those in the words: the
    /// context's stands behind its name or before "tokens" after it.
    fn overflow(&self, text: &str) -> FaultKind {
        let numbers: Vec<u64> = text
            .split(|c: char| !c.is_ascii_digit())
            .filter(|it| !it.is_empty())
            .filter_map(|it| it.parse().ok())
            .collect();
        let after = |marks: &[&str]| {
            marks.iter().find_map(|mark| {
                let rest = text.get(text.find(mark)? + mark.len()..)?;
                rest.split(|c: char| !c.is_ascii_digit())
                    .find(|it| !it.is_empty())?
                    .parse::<u64>()
                    .ok()
            })
        };
        let context = self.context_tokens.or_else(|| {
            after(&[
                "context length of only",
                "context length is",
                "context size (",
                "context size of",
                "context length of",
                "context length (",
                "context window of",
                "context window (",
                "n_ctx",
            ])
        });
        let prompt = self.prompt_tokens.or_else(|| {
            after(&[
                "keep the first",
                "you requested",
                "resulted in",
                "request (",
                "prompt (",
                "prompt has",
                "prompt contains",
            ])
            .or_else(|| match numbers[..] {
                [one, other] if Some(one) == context => Some(other),
                [one, other] if Some(other) == context => Some(one),
                _ => None,
            })
        });
        FaultKind::Overflow {
            prompt_tokens: prompt,
            context_tokens: context,
        }
    }
}
