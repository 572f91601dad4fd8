//! Digests of jobs: two jobs with the same identity send the same request with the
//! same settings.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::store::{hex, read_plain, sha256_hex};

/// Hashes the parts that identify a job. Each part is hashed with its length, so that
/// different lists of parts never produce the same input.
#[derive(Clone, Debug, Default)]
pub struct IdentityHasher(Sha256);

/// Length of an identity in bytes. 128 bits make collisions between jobs negligible.
const IDENTITY_BYTES: usize = 16;

impl IdentityHasher {
    /// Adds a part with its label and returns the hasher.
    #[must_use]
    pub fn with(mut self, label: &str, part: &str) -> Self {
        self.add(label, part);
        self
    }

    /// Adds a part with its label.
    pub fn add(&mut self, label: &str, part: &str) {
        for text in [label, part] {
            self.0.update((text.len() as u64).to_le_bytes());
            self.0.update(text.as_bytes());
        }
    }

    /// Returns the identity: the first 128 bits of the SHA-256, in hex.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize()[..IDENTITY_BYTES])
    }
}

/// Returns whether a file exists and has a SHA-256 digest, given in hex.
#[must_use]
pub fn has_digest(path: &Path, sha256: &str) -> bool {
    read_plain(path).is_ok_and(|bytes| sha256_hex(&bytes) == sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_boundaries_change_the_identity() {
        let identity = |parts: &[(&str, &str)]| {
            let hasher = IdentityHasher::default();
            let hasher = parts
                .iter()
                .fold(hasher, |hasher, (label, part)| hasher.with(label, part));
            hasher.finish()
        };
        assert_eq!(identity(&[("a", "b")]), identity(&[("a", "b")]));
        assert_eq!(identity(&[("a", "b")]).len(), 32);
        assert_ne!(identity(&[("a", "b")]), identity(&[("", "ab")]));
        assert_ne!(
            identity(&[("a", "b"), ("c", "")]),
            identity(&[("a", "bc"), ("", "")])
        );
        assert_ne!(identity(&[]), identity(&[("", "")]));
    }
}
