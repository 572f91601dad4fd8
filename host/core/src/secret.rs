//! API keys, which must not appear in output or logs.

use std::fmt;

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::Value;

/// Shown in place of a key.
const REDACTED: &str = "****";

/// `redact` ignores shorter keys, which would match parts of ordinary text.
const MIN_REDACTED_BYTES: usize = 4;

/// Shorter parts of a key in base64 would match ordinary text.
const MIN_BASE64_CHARS: usize = 6;

/// An API key. It prints as `****` and cannot be serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Creates a secret from `key` without surrounding white space, which comes
    /// from files.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self(key.trim().to_owned())
    }

    /// Returns the key, for the authorization header.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns `text` with the key replaced, also where it is encoded for a URL, for JSON or
    /// in base64. Servers quote a wrong key in their errors.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        if self.0.len() < MIN_REDACTED_BYTES {
            return text.to_owned();
        }
        let mut redacted = text.replace(&self.0, REDACTED);
        for form in self.base64_forms() {
            redacted = redacted.replace(&form, REDACTED);
        }
        // Each character may be escaped or not.
        for decoded in [percent_decoded(&redacted), json_unescaped(&redacted)] {
            if decoded.contains(&self.0) {
                redacted = decoded.replace(&self.0, REDACTED);
            }
        }
        redacted
    }

    /// Returns what the key is in base64, at each of the three offsets that it can have in a
    /// longer text, in both alphabets. Characters that depend on the text around it are left
    /// out.
    fn base64_forms(&self) -> Vec<String> {
        let mut forms = Vec::new();
        for offset in 0..3 {
            let padded = [&[0; 2][..offset], self.0.as_bytes()].concat();
            let first = (offset * 4).div_ceil(3);
            // Six bits are a character.
            let last = padded.len() * 8 / 6;
            for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
                let encoded = engine.encode(&padded);
                let form = encoded.get(first..last).unwrap_or_default();
                if form.len() >= MIN_BASE64_CHARS {
                    forms.push(form.to_owned());
                }
            }
        }
        forms
    }

    /// Replaces the key in all strings of a JSON value.
    pub(crate) fn redact_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redact(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json(item)),
            Value::Object(fields) => {
                for (name, mut field) in std::mem::take(fields) {
                    self.redact_json(&mut field);
                    fields.insert(self.redact(&name), field);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Decodes `%41` as a URL has it (RFC 3986, section 2.1).
fn percent_decoded(text: &str) -> String {
    decoded(text, "%", 2)
}

/// Decodes `\\u0041` as a JSON string has it (RFC 8259, section 7). Keys have no characters
/// that need two units.
fn json_unescaped(text: &str) -> String {
    decoded(text, "\\u", 4)
}

/// Replaces each `prefix` with a number of hex digits by the ASCII character of that number.
fn decoded(text: &str, prefix: &str, digits: usize) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let (before, escape) = rest.split_at(at);
        decoded.push_str(before);
        let code = escape.get(prefix.len()..prefix.len() + digits);
        let character = code
            .and_then(|code| u8::from_str_radix(code.trim_start_matches('0'), 16).ok())
            .filter(u8::is_ascii);
        match character {
            Some(character) => {
                decoded.push(character.into());
                rest = escape.get(prefix.len() + digits..).unwrap_or_default();
            }
            None => {
                decoded.push_str(prefix);
                rest = escape.get(prefix.len()..).unwrap_or_default();
            }
        }
    }
    decoded + rest
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_trimmed_and_redacted() {
        let key = Secret::new(" sk-lm-abc:def \n");
        assert_eq!(key.expose(), "sk-lm-abc:def");
        assert_eq!(
            format!("{key} {key:?} {:?}", Some(&key)),
            "**** **** Some(****)"
        );
        assert_eq!(key.redact("wrong key sk-lm-abc:def!"), "wrong key ****!");
        assert_eq!(Secret::new("x").redact("axe"), "axe");
    }

    #[test]
    fn keys_are_redacted_in_every_encoding() {
        let key = Secret::new("sk-lm/Ab9+x:y");
        let secret = key.expose();
        let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let json: String = secret
            .bytes()
            .map(|byte| format!("\\u{byte:04x}"))
            .collect();
        for text in [
            secret.to_owned(),
            format!("Bearer {secret}"),
            percent.to_lowercase(),
            percent,
            "sk-lm%2FAb9%2Bx%3Ay".to_owned(),
            "s\\u006b-lm/Ab9+x\\u003Ay".to_owned(),
            json,
        ] {
            let redacted = key.redact(&format!("<{text}> a%b \\u00e4"));
            assert!(
                redacted.contains("****") && !redacted.contains("Ab9"),
                "{redacted}"
            );
            assert!(redacted.ends_with("> a%b \\u00e4"), "{redacted}");
        }
        for before in ["", "B", "Be", "Bearer ", "user:"] {
            for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
                let encoded = engine.encode(format!("{before}{secret}!"));
                let redacted = key.redact(&encoded);
                // What is left is at most the characters at its borders.
                assert!(redacted.contains("****"), "{encoded} {redacted}");
                assert!(
                    redacted.len() <= before.len() * 4 / 3 + 8,
                    "{encoded} {redacted}"
                );
            }
        }
        let mut value = serde_json::json!({"data": [{"id": secret, secret: [1, null]}]});
        key.redact_json(&mut value);
        let expected = serde_json::json!({"data": [{"id": "****", "****": [1, null]}]});
        assert_eq!(value, expected);
    }
}
