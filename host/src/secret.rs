//! A key that is sent to a server and shown to nobody.

use std::fmt;

/// What is shown instead.
const STARS: &str = "****";

/// Keys shorter than this are not looked for in texts: they would be found in
/// everything.
const REDACT_FROM_BYTES: usize = 4;

/// A key. It prints `****`, and there is no way to serialise it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Blanks and line ends around a key come from files and are no part of it.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self(key.trim().to_owned())
    }

    /// The key itself, for the one header that carries it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text without the key: servers quote a wrong key in their errors.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        if self.0.len() < REDACT_FROM_BYTES {
            return text.to_owned();
        }
        text.replace(&self.0, STARS)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STARS)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STARS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
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
