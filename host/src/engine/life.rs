//! How models are loaded, and what is known of them from before: all that an
//! engine is told by those who keep the registry and the state folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// How models are loaded.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// The folder for locks and claims.
    pub state: PathBuf,
    /// Load anew what is loaded, whoever loaded it.
    pub reload: bool,
    /// Load what does not seem to fit.
    pub force: bool,
    /// An instance with more context than asked for will not do.
    pub exact: bool,
    /// LM Studio's own program, where it was found.
    pub lms: Option<PathBuf>,
    /// What is known of models, by place and name.
    pub known: BTreeMap<String, BTreeMap<String, Facts>>,
}

/// What is known of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// The context that was found to work, in tokens.
    pub tested: Option<u32>,
    /// Bytes on disk.
    pub size_bytes: Option<u64>,
    /// Bytes that one token of context takes.
    pub context_bytes_per_token: Option<u64>,
    /// Tokens that a byte of a prompt makes.
    pub tokens_per_byte: Option<f64>,
}

impl Life {
    /// What is known of a model.
    #[must_use]
    pub fn facts(&self, place: &str, model: &str) -> Facts {
        let known = self.known.get(place).and_then(|it| it.get(model));
        known.copied().unwrap_or_default()
    }
}
