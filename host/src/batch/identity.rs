//! What a job is, as a digest: two jobs of the same identity would ask the same
//! thing in the same way.

use sha2::{Digest, Sha256};

/// Collects what makes a job what it is. Every part is written with its length,
/// so that no two lists of parts look alike.
#[derive(Clone, Debug, Default)]
pub struct Identity(Sha256);

/// Bytes of a digest that are kept: 128 bits tell apart more jobs than anybody
/// can run.
const BYTES: usize = 16;

impl Identity {
    /// Adds a part, and what it is.
    #[must_use]
    pub fn with(mut self, what: &str, part: &str) -> Self {
        self.add(what, part);
        self
    }

    /// Adds a part, and what it is.
    pub fn add(&mut self, what: &str, part: &str) {
        for text in [what, part] {
            self.0.update((text.len() as u64).to_le_bytes());
            self.0.update(text.as_bytes());
        }
    }

    /// The digest, in hex.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize()[..BYTES])
    }
}

/// The SHA-256 of a file's bytes, in hex.
#[must_use]
pub fn file_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[(&str, &str)]| {
            let all = parts
                .iter()
                .fold(Identity::default(), |it, (what, part)| it.with(what, part));
            all.finish()
        };
        assert_eq!(of(&[("a", "b")]), of(&[("a", "b")]));
        assert_eq!(of(&[("a", "b")]).len(), 32);
        assert_ne!(of(&[("a", "b")]), of(&[("", "ab")]));
        assert_ne!(of(&[("a", "b"), ("c", "")]), of(&[("a", "bc"), ("", "")]));
        assert_ne!(of(&[]), of(&[("", "")]));
    }
}
