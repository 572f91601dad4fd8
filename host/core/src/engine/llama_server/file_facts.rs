//! The facts about a model file, mostly from its header.

use std::path::Path;
use std::time::SystemTime;

use crate::engine::Error;

/// The facts about a model file. Those of the header are absent if it cannot be read:
/// llama.cpp may know forms of it that this program does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileFacts {
    /// The size of the file in bytes, with the other files of a model in several files.
    pub(super) size_bytes: u64,
    /// The time of the last change.
    pub(super) modified: Option<SystemTime>,
    /// `general.architecture`.
    pub(super) architecture: Option<String>,
    /// The quantization by its llama.cpp name.
    pub(super) quantization: Option<String>,
    /// The declared context length in tokens.
    pub(super) declared_context: Option<u32>,
    /// The bytes of the KV cache for one token of context, with 16 bits per number.
    pub(super) context_bytes_per_token: Option<u64>,
    /// True if the file has a chat template.
    pub(super) has_chat_template: Option<bool>,
}

/// More files than the largest models have.
const PARTS_MAX: u32 = 999;

/// The bytes of one number in llama.cpp's KV cache.
#[cfg(feature = "embedded")]
const CACHE_NUMBER_BYTES: u64 = 2;

impl FileFacts {
    /// Reads the header of a model file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not a GGUF file.
    #[cfg(feature = "embedded")]
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        use crate::engine::EmbeddedError;

        let of_file = Self::read_metadata(path)?;
        let file = match lmstrix_gguf::ModelFile::open(path) {
            Ok(file) => file,
            Err(error @ (EmbeddedError::Read { .. } | EmbeddedError::NotGguf { .. })) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::info!(%error, "unknown header");
                return Ok(of_file);
            }
        };
        Ok(Self {
            architecture: Some(file.architecture().to_owned()),
            quantization: Some(file.quantization()),
            declared_context: Some(file.context_length()).filter(|tokens| *tokens > 0),
            context_bytes_per_token: file
                .kv_cache_numbers_per_token()
                .map(|numbers| numbers.saturating_mul(CACHE_NUMBER_BYTES)),
            has_chat_template: Some(file.chat_template().is_some()),
            ..of_file
        })
    }

    /// Reads the size of a model file: the reader of headers is a part of the embedded engine.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    #[cfg(not(feature = "embedded"))]
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        Self::read_metadata(path)
    }

    fn read_metadata(path: &Path) -> Result<Self, Error> {
        // The error is shown with the path.
        let metadata = path.metadata().map_err(|source| Error::ModelFile {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            size_bytes: parts(path).fold(metadata.len(), u64::saturating_add),
            modified: metadata.modified().ok(),
            ..Self::default()
        })
    }
}

/// Returns the sizes of the other files of a model in several files, `…-00002-of-00003.gguf`.
fn parts(first: &Path) -> impl Iterator<Item = u64> {
    let stem = first.file_stem().unwrap_or_default().to_string_lossy();
    let (base, count) = match stem.rsplit_once("-00001-of-") {
        Some((base, count)) => (format!("{base}-"), count.parse().unwrap_or(0)),
        None => (String::new(), 0),
    };
    let folder = first.to_owned();
    (2..=count.min(PARTS_MAX)).filter_map(move |part| {
        let path = folder.with_file_name(format!("{base}{part:05}-of-{count:05}.gguf"));
        fs_err::metadata(path).ok().map(|part| part.len())
    })
}
