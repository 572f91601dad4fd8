//! What a model file says of itself.

use std::path::Path;

use crate::engine::Error;

/// What the header of a model file says. All values but the size are absent if the header
/// cannot be read: llama.cpp may know forms of it that this program does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileFacts {
    /// The size of the file in bytes.
    pub(super) size_bytes: u64,
    /// `general.architecture`.
    pub(super) architecture: Option<String>,
    /// The quantization by its llama.cpp name.
    pub(super) quantization: Option<String>,
    /// The declared context length in tokens.
    pub(super) declared_context: Option<u32>,
    /// The bytes of the KV cache for one token of context, with 16 bits per number.
    pub(super) context_bytes_per_token: Option<u64>,
    /// Whether the file has a chat template.
    pub(super) has_chat_template: Option<bool>,
}

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

        let file = match lmstrix_gguf::ModelFile::open(path) {
            Ok(file) => file,
            Err(error @ (EmbeddedError::Read { .. } | EmbeddedError::NotGguf { .. })) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::info!(%error, "unknown header");
                return Self::read_size(path);
            }
        };
        Ok(Self {
            size_bytes: file.size_bytes(),
            architecture: Some(file.architecture().to_owned()),
            quantization: Some(file.quantization()),
            declared_context: Some(file.context_length()).filter(|tokens| *tokens > 0),
            context_bytes_per_token: file
                .kv_cache_numbers_per_token()
                .map(|numbers| numbers.saturating_mul(CACHE_NUMBER_BYTES)),
            has_chat_template: Some(file.chat_template().is_some()),
        })
    }

    /// Reads the size of a model file: the reader of headers is a part of the embedded engine.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    #[cfg(not(feature = "embedded"))]
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        Self::read_size(path)
    }

    fn read_size(path: &Path) -> Result<Self, Error> {
        let metadata = fs_err::metadata(path).map_err(|source| Error::ModelFile {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            size_bytes: metadata.len(),
            ..Self::default()
        })
    }
}
