//! Errors that servers report, as a value. Servers report them in a dozen
//! shapes, some of them with a success status.

mod error_message;
mod overflow;

use std::time::{Duration, SystemTime};

use serde_json::Value;

/// The kind of an error that a server reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Missing or invalid API key.
    Auth,
    /// The server has no such model.
    UnknownModel,
    /// The model has been unloaded, or no model is loaded.
    Unloaded,
    /// The prompt exceeds the context. The numbers are `None` if the server
    /// does not report them.
    Overflow {
        /// Length of the prompt in tokens.
        prompt_tokens: Option<u64>,
        /// The requested limit of the output in tokens.
        output_tokens: Option<u64>,
        /// Context length in tokens.
        context_tokens: Option<u64>,
    },
    /// The server is overloaded; a later attempt may succeed.
    Busy,
    /// The model is still loading; a later attempt will succeed.
    Loading,
    /// The server does not accept a key of the request. The names in its message, of which
    /// one is the key, the most probable one first.
    Unsupported(Vec<String>),
    /// Not enough memory.
    OutOfMemory,
    /// Any other error.
    Other,
}

/// An error that a server reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFault {
    /// The kind of error.
    pub kind: FaultKind,
    /// The server's message, in one line.
    pub message: String,
    /// The HTTP status, if it is 400 or higher.
    pub status: Option<u16>,
    /// The delay after which the server allows another request.
    pub retry_after: Option<Duration>,
}

/// Parses the error of a response whose status is not a success.
pub(super) fn from_response(status: u16, retry_after: Option<&str>, body: &[u8]) -> ServerFault {
    let text = String::from_utf8_lossy(body);
    let value: Option<Value> = serde_json::from_str(&text).ok();
    let message = value
        .as_ref()
        .and_then(|value| {
            error_message::parse_error(value).or_else(|| error_message::parse_body(value))
        })
        .unwrap_or_else(|| error_message::parse_plain_text(&text));
    let mut fault = message.classify(Some(status));
    fault.message = if fault.message.is_empty() {
        format!("HTTP {status} without an error message")
    } else {
        format!("HTTP {status}: {}", fault.message)
    };
    fault.retry_after = retry_after.and_then(parse_retry_after);
    fault
}

/// Parses a `Retry-After` header, which has seconds or a date (RFC 9110, section 10.2.3).
/// A date in the past is no wait.
fn parse_retry_after(header: &str) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Returns the error in a JSON value of a stream or of a whole response; `None`
/// if the value is no error.
pub(super) fn find_in_json(value: &Value) -> Option<ServerFault> {
    error_message::parse_error(value).map(|message| message.classify(None))
}

/// Parses an error given as text, which may be JSON.
pub(super) fn from_text(text: &str) -> ServerFault {
    let value: Option<Value> = serde_json::from_str(text).ok();
    let message = value
        .as_ref()
        .and_then(|value| {
            error_message::parse_error(value).or_else(|| error_message::parse_body(value))
        })
        .unwrap_or_else(|| error_message::parse_plain_text(text));
    let mut fault = message.classify(None);
    if fault.message.is_empty() {
        "error without a message".clone_into(&mut fault.message);
    }
    fault
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn overflow(prompt: u64, context: u64) -> FaultKind {
        FaultKind::Overflow {
            prompt_tokens: Some(prompt).filter(|tokens| *tokens > 0),
            output_tokens: None,
            context_tokens: Some(context).filter(|tokens| *tokens > 0),
        }
    }

    fn unsupported(key: &str) -> FaultKind {
        FaultKind::Unsupported(vec![key.to_owned()])
    }

    #[test]
    fn from_response_classifies_known_error_shapes() {
        for (status, body, kind, expected) in [
            (
                401,
                r#"{"error":{"type":"invalid_request","code":"invalid_api_key","message":"An LM Studio API token is required"}}"#,
                FaultKind::Auth,
                "token is required",
            ),
            (
                401,
                r#"{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}"#,
                FaultKind::Auth,
                "Invalid API Key",
            ),
            (
                400,
                r#"{"error":"Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough."}"#,
                overflow(9000, 4096),
                "Trying",
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":8192}}"#,
                overflow(9000, 8192),
                "exceeds",
            ),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 9000 tokens (8000 in the messages, 1000 in the completion).","type":"BadRequestError","code":400}"#,
                FaultKind::Overflow {
                    prompt_tokens: Some(8000),
                    output_tokens: Some(1000),
                    context_tokens: Some(4096),
                },
                "maximum",
            ),
            (
                400,
                r#"{"error":"the prompt is longer than the context length currently available"}"#,
                overflow(0, 0),
                "longer",
            ),
            (
                400,
                r#"{"error":"Context size has been exceeded."}"#,
                overflow(0, 0),
                "exceeded",
            ),
            (
                503,
                r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
                FaultKind::Loading,
                "Loading model",
            ),
            (
                503,
                r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
                FaultKind::Busy,
                "busy",
            ),
            (
                429,
                "",
                FaultKind::Busy,
                "HTTP 429 without an error message",
            ),
            (
                404,
                r#"{"error":"model 'x' not found"}"#,
                FaultKind::UnknownModel,
                "not found",
            ),
            (
                404,
                r#"{"error":{"message":"m","type":"model_not_found"}}"#,
                FaultKind::UnknownModel,
                "m",
            ),
            (
                404,
                r#"{"error":"Unexpected endpoint or method. (POST /api/v1/x)"}"#,
                FaultKind::Other,
                "Unexpected",
            ),
            (
                400,
                r#"{"error":{"message":"No models loaded. Please load a model in the developer page or use the 'lms load' command.","type":"invalid_request_error","param":"model","code":null}}"#,
                FaultKind::Unloaded,
                "No models loaded",
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"model is not loaded"}}"#,
                FaultKind::Unloaded,
                "not loaded",
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request","message":"Unrecognized key(s) in object: 'stop'"}}"#,
                unsupported("stop"),
                "stop",
            ),
            (
                400,
                r#"{"error":"'response_format.type' must be 'json_schema' or 'text'"}"#,
                unsupported("response_format"),
                "must be",
            ),
            (
                400,
                r#"{"error":"\"qwen\" does not support thinking"}"#,
                unsupported("think"),
                "thinking",
            ),
            (
                400,
                r#"{"error":{"message":"'temperature' must be less than or equal to 1"}}"#,
                FaultKind::Other,
                "must be",
            ),
            (
                422,
                r#"{"detail":[{"loc":["body","top_k"],"msg":"extra fields not permitted"}]}"#,
                unsupported("top_k"),
                "not permitted",
            ),
            (
                400,
                r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported","param":"max_tokens"}}"#,
                unsupported("max_tokens"),
                "max_tokens",
            ),
            (
                400,
                r#"{"error":{"message":"streaming is not supported"}}"#,
                unsupported("stream"),
                "streaming",
            ),
            (
                500,
                r#"{"error":{"message":"Failed to load model: insufficient system resources"}}"#,
                FaultKind::OutOfMemory,
                "insufficient",
            ),
            (
                500,
                "<html><head><title>500 Internal Server Error</title></head><body><h1>Oops</h1></body></html>",
                FaultKind::Other,
                "500 Internal Server Error",
            ),
            (
                502,
                "",
                FaultKind::Other,
                "HTTP 502 without an error message",
            ),
            (500, "plain\n  words", FaultKind::Other, "plain words"),
            (
                400,
                r#"{"error":"Unrecognized key(s) in object: 'context_length'"}"#,
                unsupported("context_length"),
                "context_length",
            ),
        ] {
            let mut fault = from_response(status, None, body.as_bytes());
            if let FaultKind::Unsupported(keys) = &mut fault.kind {
                keys.truncate(1);
            }
            assert_eq!(fault.kind, kind, "{body}");
            assert!(
                fault.message.contains(expected),
                "{}: {body}",
                fault.message
            );
            assert_eq!(fault.status, Some(status));
        }
        let fault = from_response(429, Some("1.5"), b"");
        assert_eq!(fault.retry_after, Some(Duration::from_millis(1500)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let wait = from_response(429, Some(&date), b"").retry_after.unwrap();
        assert!((90..=100).contains(&wait.as_secs()), "{wait:?}");
        let past = from_response(429, Some("Sun, 06 Nov 1994 08:49:37 GMT"), b"");
        assert_eq!(past.retry_after, Some(Duration::ZERO));
        assert_eq!(from_response(429, Some("soon"), b"").retry_after, None);
    }

    #[test]
    fn names_in_a_refusal_are_candidates_for_the_rejected_key() {
        let pydantic = r#"{"object":"error","message":"[{'type': 'extra_forbidden', 'loc': ('body', 'min_p'), 'msg': 'Extra inputs are not permitted', 'input': 0.05}]"}"#;
        let FaultKind::Unsupported(keys) = from_response(400, None, pydantic.as_bytes()).kind
        else {
            panic!("not classified");
        };
        assert!(keys.iter().any(|key| key == "min_p"), "{keys:?}");
    }

    #[test]
    fn find_in_json_distinguishes_errors_from_answers() {
        for (value, kind) in [
            (
                json!({"error": {"message": "Model unloaded."}}),
                Some(FaultKind::Unloaded),
            ),
            (json!({"error": "boom"}), Some(FaultKind::Other)),
            (
                json!({"object": "error", "message": "x", "code": 500}),
                Some(FaultKind::Other),
            ),
            (
                json!({"type": "error", "error": {"type": "invalid_request", "message": "y"}}),
                Some(FaultKind::Other),
            ),
            (
                json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
                Some(FaultKind::Loading),
            ),
            (json!({"error": {}}), None),
            (json!({"error": null, "choices": []}), None),
            (json!({"choices": [{"delta": {"content": "error"}}]}), None),
            (json!({"message": {"content": "x"}, "done": false}), None),
        ] {
            assert_eq!(
                find_in_json(&value).map(|fault| fault.kind),
                kind,
                "{value}"
            );
        }
        assert_eq!(from_text("out of memory").kind, FaultKind::OutOfMemory);
        assert_eq!(from_text("{\"error\":\"boom\"}").message, "boom");
        let long = from_text(&"x".repeat(5000)).message;
        assert!(long.len() < 700 && long.ends_with('…'));
    }
}
