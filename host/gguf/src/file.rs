//! A model file: reads its header without loading the weights.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::{Path, PathBuf};

use lmstrix_inference::{Prompt, SettingSupport, SettingsLayer};

use super::decoder::{Decoder, Hyperparameters, ReadSeek};
use super::gguf;
use super::header::{GgufError, Header};
use super::template::ChatTemplate;
use super::tensor_type::{TensorType, file_type_name};
use super::tokenizer::{self, Tokenizer};
use super::{Error, Model, supported};

/// A GGUF file whose header has been read.
#[derive(Debug)]
pub struct ModelFile {
    source: ModelSource,
    /// Path or name for errors.
    file: String,
    header: Header,
    architecture: String,
    size_bytes: u64,
}

/// The location of the file's content.
#[derive(Debug)]
enum ModelSource {
    Path(PathBuf),
    Bytes(&'static [u8]),
}

impl ModelFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not a valid GGUF file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let read_error = |source| Error::Read {
            file: file.clone(),
            source,
        };
        let input = File::open(path).map_err(read_error)?;
        let metadata = input.metadata().map_err(read_error)?;
        if !metadata.is_file() {
            // Reading a pipe would block, and a folder has no size.
            return Err(read_error(std::io::Error::other("not a regular file")));
        }
        let mut input = BufReader::new(input);
        let header = gguf::read_header(&mut input, metadata.len());
        Self::new(
            ModelSource::Path(path.to_owned()),
            file,
            header,
            metadata.len(),
        )
    }

    /// Reads the header of a model that is embedded in this program. `name` is used in
    /// errors.
    ///
    /// # Errors
    /// Returns an error if `bytes` is not a valid GGUF file.
    pub fn from_bytes(name: &str, bytes: &'static [u8]) -> Result<Self, Error> {
        let size = bytes.len() as u64;
        let header = gguf::read_header(&mut Cursor::new(bytes), size);
        Self::new(ModelSource::Bytes(bytes), name.to_owned(), header, size)
    }

    fn new(
        source: ModelSource,
        file: String,
        header: Result<Header, GgufError>,
        size_bytes: u64,
    ) -> Result<Self, Error> {
        let header = match header {
            Ok(header) => header,
            Err(GgufError::Io(source)) => return Err(Error::Read { file, source }),
            Err(GgufError::NotGguf) => return Err(Error::NotGguf { file }),
            Err(GgufError::Invalid(problem)) => {
                return Err(Error::InvalidFile { file, problem });
            }
        };
        let Some(architecture) = header.string("general.architecture") else {
            let problem = "`general.architecture` is missing".into();
            return Err(Error::InvalidFile { file, problem });
        };
        Ok(Self {
            source,
            architecture: architecture.to_owned(),
            file,
            header,
            size_bytes,
        })
    }

    /// Returns `general.architecture`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Returns the model's name, `general.name`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.header.string("general.name")
    }

    /// Returns the model's description, `general.description`.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.header.string("general.description")
    }

    /// Returns the model's license, `general.license`.
    #[must_use]
    pub fn license(&self) -> Option<&str> {
        self.header.string("general.license")
    }

    /// Returns the quantization that the file declares (`general.file_type`), or else the
    /// tensor type with the most bytes.
    #[must_use]
    pub fn quantization(&self) -> String {
        let file_type = self.header.unsigned("general.file_type");
        if let Some(name) = file_type.and_then(file_type_name) {
            return name.to_owned();
        }
        let mut bytes_by_type: BTreeMap<TensorType, u64> = BTreeMap::new();
        for tensor in self.header.tensors.values() {
            let sum = bytes_by_type.entry(tensor.tensor_type).or_default();
            *sum = sum.saturating_add(tensor.bytes.unwrap_or(0));
        }
        bytes_by_type
            .iter()
            .max_by_key(|(_, bytes)| **bytes)
            .map_or_else(
                || "unknown".to_owned(),
                |(tensor_type, _)| tensor_type.to_string(),
            )
    }

    /// Returns the declared context length in tokens, or 0 if the file declares none.
    #[must_use]
    pub fn context_length(&self) -> u32 {
        let key = format!("{}.context_length", self.architecture);
        let length = self.header.unsigned(&key).unwrap_or(0);
        u32::try_from(length).unwrap_or(u32::MAX)
    }

    /// Returns the number of parameters of the model.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.header.parameter_count()
    }

    /// Returns the size of the file in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the memory in bytes that the weights need. Weights of 16 bits are converted to
    /// 32 bits.
    #[must_use]
    pub fn weight_memory_bytes(&self) -> u64 {
        match self.quantization().as_str() {
            "F16" | "BF16" => self.size_bytes.saturating_mul(2),
            _ => self.size_bytes,
        }
    }

    /// Returns the memory in bytes that the KV cache needs per token of context, or 0 if the
    /// model is not supported.
    #[must_use]
    pub fn kv_cache_bytes_per_token(&self) -> u64 {
        Hyperparameters::read(&self.header, &self.architecture)
            .map_or(0, |shape| shape.kv_cache_bytes_per_token())
    }

    /// Returns the numbers in the KV cache for one token of context, of a model of any
    /// architecture with attention. Sliding windows count as whole layers. `None` if the file
    /// does not say.
    #[must_use]
    pub fn kv_cache_numbers_per_token(&self) -> Option<u64> {
        let key = |name: &str| format!("{}.{name}", self.architecture);
        let number = |name: &str| self.header.unsigned(&key(name));
        let layers = number("block_count")?;
        let heads = number("attention.head_count");
        let of_all_layers = match self.header.integers(&key("attention.head_count_kv")) {
            // Layers of different sizes.
            Some(of_layers) => of_layers
                .iter()
                .map(|heads| u64::try_from(*heads).unwrap_or(0))
                .fold(0, u64::saturating_add),
            None => number("attention.head_count_kv")
                .or(heads)?
                .saturating_mul(layers),
        };
        let head_size = || number("embedding_length")?.checked_div(heads?);
        let key_length = number("attention.key_length").or_else(head_size)?;
        let value_length = number("attention.value_length").unwrap_or(key_length);
        Some(of_all_layers.saturating_mul(key_length.saturating_add(value_length)))
    }

    /// Returns `tokenizer.ggml.model`, or an empty string if it is missing.
    #[must_use]
    pub fn tokenizer_model(&self) -> &str {
        self.header.string("tokenizer.ggml.model").unwrap_or("")
    }

    /// Returns `tokenizer.ggml.pre`, the pre-tokenizer of a byte-level tokenizer. If it is
    /// missing, llama.cpp uses `default`. Returns an empty string for other tokenizers, which
    /// have none.
    #[must_use]
    pub fn tokenizer_pre(&self) -> &str {
        match self.tokenizer_model() {
            "gpt2" => self
                .header
                .string("tokenizer.ggml.pre")
                .unwrap_or("default"),
            _ => "",
        }
    }

    /// Returns the model and pre-tokenizer of the tokenizer as one name, as used in errors and
    /// by [`super::supported()`].
    #[must_use]
    pub fn tokenizer_name(&self) -> String {
        supported::tokenizer_name(self.tokenizer_model(), self.tokenizer_pre())
    }

    /// Returns the source of the model's chat template.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.header.string("tokenizer.chat_template")
    }

    /// Returns the sampling settings that the file recommends (`general.sampling.*`).
    #[must_use]
    pub fn recommended_settings(&self) -> SettingsLayer {
        let float = |key: &str| {
            let key = format!("general.sampling.{key}");
            self.header.float(&key).filter(|value| value.is_finite())
        };
        let top_k = self.header.unsigned("general.sampling.top_k");
        SettingsLayer {
            temperature: float("temp"),
            top_k: top_k.and_then(|top_k| u32::try_from(top_k).ok()),
            top_p: float("top_p"),
            min_p: float("min_p"),
            repeat_penalty: float("penalty_repeat"),
            ..SettingsLayer::default()
        }
    }

    /// Checks that the embedded engine supports this model. Cheap: neither builds the tokenizer
    /// nor reads weights.
    ///
    /// # Errors
    /// Returns an error that names the unsupported architecture, tokenizer, tensor type or
    /// feature.
    pub fn check_supported(&self) -> Result<(), Error> {
        supported::check(
            &self.architecture,
            self.tokenizer_model(),
            self.tokenizer_pre(),
        )?;
        if self.header.unsigned("split.count").unwrap_or(1) > 1 {
            return Err(Error::UnsupportedFeature {
                feature: "models that are split into several files".into(),
            });
        }
        for (name, tensor) in &self.header.tensors {
            if tensor.tensor_type.layout().is_none() {
                return Err(Error::UnsupportedTensorType {
                    tensor_type: tensor.tensor_type.to_string(),
                    tensor: name.clone(),
                    supported: TensorType::supported_names(),
                });
            }
        }
        if self.context_length() == 0 {
            return Err(self.invalid_file("the context length is missing or 0".into()));
        }
        self.hyperparameters().map(|_| ())
    }

    /// Loads the model with a context length of at most `context` tokens, limited to the
    /// declared context length.
    ///
    /// # Errors
    /// Returns an error if the model is not supported or its weights cannot be read.
    pub fn load(&self, context: u32) -> Result<Model, Error> {
        self.check_supported()?;
        let context = context.min(self.context_length()).max(1);
        let hyperparameters = self.hyperparameters()?;
        let tokenizer =
            Tokenizer::read(&self.header).map_err(|error| self.metadata_error(error))?;
        let mut input = self.open_input()?;
        let decoder = Decoder::load(
            &self.file,
            &self.header,
            &hyperparameters,
            tokenizer.vocabulary.len(),
            context as usize,
            input.as_mut(),
        )?;
        let template = self.load_chat_template(&tokenizer);
        Ok(Model::new(tokenizer, template, decoder, context))
    }

    fn load_chat_template(&self, tokenizer: &Tokenizer) -> Option<ChatTemplate> {
        let token_text = |id: Option<u32>| id.map_or("", |id| tokenizer.vocabulary.text(id));
        self.chat_template().map(|source| {
            ChatTemplate::new(
                source,
                token_text(tokenizer.vocabulary.bos_token),
                token_text(tokenizer.vocabulary.eos_token),
            )
        })
    }

    /// Returns the exact text of the prompt that the model would receive, without reading
    /// weights. `reasoning` is the setting of that name.
    ///
    /// # Errors
    /// Returns an error if the chat template is missing, cannot be rendered, or rejects the
    /// messages.
    pub fn render(&self, prompt: &Prompt, reasoning: Option<&str>) -> Result<String, Error> {
        if let Prompt::Raw(text) = prompt {
            return Ok(text.clone());
        }
        let tokenizer =
            Tokenizer::read(&self.header).map_err(|error| self.metadata_error(error))?;
        super::model::render(
            self.load_chat_template(&tokenizer).as_ref(),
            prompt,
            reasoning,
        )
    }

    /// Returns whether a setting is supported. `setting` is its name in snake case.
    #[must_use]
    pub fn setting_support(&self, setting: &str) -> SettingSupport {
        let has_thinking_switch = self
            .chat_template()
            .is_some_and(super::template::supports_thinking);
        super::model::setting_support(setting, has_thinking_switch)
    }

    fn open_input(&self) -> Result<Box<dyn ReadSeek>, Error> {
        Ok(match &self.source {
            ModelSource::Bytes(bytes) => Box::new(Cursor::new(*bytes)),
            ModelSource::Path(path) => {
                Box::new(File::open(path).map_err(|source| Error::Read {
                    file: self.file.clone(),
                    source,
                })?)
            }
        })
    }

    fn hyperparameters(&self) -> Result<Hyperparameters, Error> {
        Hyperparameters::read(&self.header, &self.architecture)
            .map_err(|error| self.metadata_error(error))
    }

    fn invalid_file(&self, problem: String) -> Error {
        Error::InvalidFile {
            file: self.file.clone(),
            problem,
        }
    }

    fn metadata_error(&self, error: tokenizer::MetadataError) -> Error {
        match error {
            tokenizer::MetadataError::Invalid(problem) => self.invalid_file(problem),
            tokenizer::MetadataError::Unsupported(feature) => Error::UnsupportedFeature { feature },
        }
    }
}
