//! API keys, which must not appear in output or logs.

use std::fmt;

/// Shown in place of a key.
const REDACTED: &str = "****";

/// `redact` ignores shorter keys, which would match parts of ordinary text.
const MIN_REDACTED_BYTES: usize = 4;

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

    /// Returns `text` with the key replaced. Servers quote a wrong key in their
    /// errors.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        if self.0.len() < MIN_REDACTED_BYTES {
            return text.to_owned();
        }
        text.replace(&self.0, REDACTED)
    }
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
}
