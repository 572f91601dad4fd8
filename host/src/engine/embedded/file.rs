//! A model file: what its header says, without loading the weights.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::{Path, PathBuf};

use super::decoder::{Decoder, ReadSeek, Shape};
use super::gguf::{self, Header};
use super::template::Template;
use super::tensor_kind::{TensorKind, file_type_name};
use super::tokenizer::{self, Tokenizer};
use super::{Error, Model, supported};
use crate::inference::{Layer, Prompt, Support};

/// A GGUF file whose header has been read.
#[derive(Debug)]
pub struct ModelFile {
    source: Source,
    /// As it is named in errors.
    file: String,
    header: Header,
    architecture: String,
    size_bytes: u64,
}

#[derive(Debug)]
enum Source {
    Path(PathBuf),
    Bytes(&'static [u8]),
}

impl ModelFile {
    /// Reads the header of a file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let fault = |source| Error::Read {
            file: file.clone(),
            source,
        };
        let input = File::open(path).map_err(fault)?;
        let metadata = input.metadata().map_err(fault)?;
        if !metadata.is_file() {
            // A pipe would block, and a folder has no size.
            return Err(fault(std::io::Error::other("not a regular file")));
        }
        let mut input = BufReader::new(input);
        let header = gguf::read(&mut input, metadata.len());
        Self::new(Source::Path(path.to_owned()), file, header, metadata.len())
    }

    /// Reads the header of a file that is part of this program.
    pub fn from_bytes(name: &str, bytes: &'static [u8]) -> Result<Self, Error> {
        let size = bytes.len() as u64;
        let header = gguf::read(&mut Cursor::new(bytes), size);
        Self::new(Source::Bytes(bytes), name.to_owned(), header, size)
    }

    fn new(
        source: Source,
        file: String,
        header: Result<Header, gguf::Fault>,
        size_bytes: u64,
    ) -> Result<Self, Error> {
        let header = match header {
            Ok(header) => header,
            Err(gguf::Fault::Io(source)) => return Err(Error::Read { file, source }),
            Err(gguf::Fault::NotGguf) => return Err(Error::NotGguf { file }),
            Err(gguf::Fault::Broken(what)) => return Err(Error::Broken { file, what }),
        };
        let Some(architecture) = header.text("general.architecture") else {
            let what = "`general.architecture` is missing".into();
            return Err(Error::Broken { file, what });
        };
        Ok(Self {
            source,
            architecture: architecture.to_owned(),
            file,
            header,
            size_bytes,
        })
    }

    /// `general.architecture`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// What the model calls itself.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.header.text("general.name")
    }

    /// What it says about itself.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.header.text("general.description")
    }

    /// Its licence, as it names it.
    #[must_use]
    pub fn license(&self) -> Option<&str> {
        self.header.text("general.license")
    }

    /// How its weights are stored: what the file says, else the kind that
    /// most of its bytes are of.
    #[must_use]
    pub fn quantization(&self) -> String {
        let named = self.header.unsigned("general.file_type");
        if let Some(name) = named.and_then(file_type_name) {
            return name.to_owned();
        }
        let mut bytes: BTreeMap<TensorKind, u64> = BTreeMap::new();
        for tensor in self.header.tensors.values() {
            let sum = bytes.entry(tensor.kind).or_default();
            *sum = sum.saturating_add(tensor.bytes.unwrap_or(0));
        }
        let most = bytes.iter().max_by_key(|(_, bytes)| **bytes);
        most.map_or_else(|| "unknown".to_owned(), |(kind, _)| kind.to_string())
    }

    /// The context that the model was trained for; 0 when it does not say.
    #[must_use]
    pub fn context_length(&self) -> u32 {
        let key = format!("{}.context_length", self.architecture);
        let length = self.header.unsigned(&key).unwrap_or(0);
        u32::try_from(length).unwrap_or(u32::MAX)
    }

    /// How many numbers the model consists of.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.header.parameters()
    }

    /// The size of the file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bytes of memory that the weights take: those of 16 bits become 32.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match self.quantization().as_str() {
            "F16" | "BF16" => self.size_bytes.saturating_mul(2),
            _ => self.size_bytes,
        }
    }

    /// The bytes of memory that each token of context takes, once it is used;
    /// 0 when the model is not supported.
    #[must_use]
    pub fn context_bytes_per_token(&self) -> u64 {
        Shape::read(&self.header, &self.architecture).map_or(0, |shape| shape.cache_bytes())
    }

    /// `tokenizer.ggml.model`, or nothing.
    #[must_use]
    pub fn tokenizer_model(&self) -> &str {
        self.header.text("tokenizer.ggml.model").unwrap_or("")
    }

    /// `tokenizer.ggml.pre`: how a byte-level tokenizer cuts words. Without
    /// it llama.cpp takes `default`; other kinds of tokenizers have none.
    #[must_use]
    pub fn tokenizer_pre(&self) -> &str {
        match self.tokenizer_model() {
            "gpt2" => self.header.text("tokenizer.ggml.pre").unwrap_or("default"),
            _ => "",
        }
    }

    /// Both in one, as errors and `supported` name them.
    #[must_use]
    pub fn tokenizer(&self) -> String {
        supported::tokenizer_name(self.tokenizer_model(), self.tokenizer_pre())
    }

    /// The model's chat template.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.header.text("tokenizer.chat_template")
    }

    /// The settings that the file recommends.
    #[must_use]
    pub fn recommended(&self) -> Layer {
        let float = |key: &str| {
            let key = format!("general.sampling.{key}");
            self.header.float(&key).filter(|value| value.is_finite())
        };
        let top_k = self.header.unsigned("general.sampling.top_k");
        Layer {
            temperature: float("temp"),
            top_k: top_k.and_then(|top_k| u32::try_from(top_k).ok()),
            top_p: float("top_p"),
            min_p: float("min_p"),
            repeat_penalty: float("penalty_repeat"),
            ..Layer::default()
        }
    }

    /// Whether the embedded engine gives this model's own answers. Cheap:
    /// neither the tokenizer is built nor are weights read.
    pub fn check_supported(&self) -> Result<(), Error> {
        supported::check(
            &self.architecture,
            self.tokenizer_model(),
            self.tokenizer_pre(),
        )?;
        if self.header.unsigned("split.count").unwrap_or(1) > 1 {
            return Err(Error::Feature {
                what: "models in several files".into(),
            });
        }
        for (name, tensor) in &self.header.tensors {
            if tensor.kind.layout().is_none() {
                return Err(Error::TensorType {
                    kind: tensor.kind.to_string(),
                    tensor: name.clone(),
                    works: TensorKind::works(),
                });
            }
        }
        if self.context_length() == 0 {
            return Err(self.broken("`context_length` is missing or 0".into()));
        }
        self.shape().map(|_| ())
    }

    /// Loads the model with a context of at most `context` tokens; more than
    /// the model was trained for is never given.
    pub fn load(&self, context: u32) -> Result<Model, Error> {
        self.check_supported()?;
        let context = context.min(self.context_length()).max(1);
        let shape = self.shape()?;
        let tokenizer = Tokenizer::read(&self.header).map_err(|fault| self.fault(fault))?;
        let mut input = self.input()?;
        let decoder = Decoder::read(
            &self.file,
            &self.header,
            &shape,
            tokenizer.vocabulary.len(),
            context as usize,
            input.as_mut(),
        )?;
        let template = self.template(&tokenizer);
        Ok(Model::new(tokenizer, template, decoder, context))
    }

    fn template(&self, tokenizer: &Tokenizer) -> Option<Template> {
        let text = |id: Option<u32>| id.map_or("", |id| tokenizer.vocabulary.text(id));
        self.chat_template().map(|source| {
            let beginning = text(tokenizer.vocabulary.beginning);
            Template::new(source, beginning, text(tokenizer.vocabulary.end))
        })
    }

    /// The exact text that the model would be sent; no weights are read.
    /// `reasoning` is the setting of that name.
    pub fn render(&self, prompt: &Prompt, reasoning: Option<&str>) -> Result<String, Error> {
        if let Prompt::Raw(text) = prompt {
            return Ok(text.clone());
        }
        let tokenizer = Tokenizer::read(&self.header).map_err(|fault| self.fault(fault))?;
        super::model::render(self.template(&tokenizer).as_ref(), prompt, reasoning)
    }

    /// What becomes of a setting, by its name in snake case.
    #[must_use]
    pub fn support(&self, setting: &str) -> Support {
        let thinks = self
            .chat_template()
            .is_some_and(super::template::knows_thinking);
        super::model::support(setting, thinks)
    }

    fn input(&self) -> Result<Box<dyn ReadSeek>, Error> {
        Ok(match &self.source {
            Source::Bytes(bytes) => Box::new(Cursor::new(*bytes)),
            Source::Path(path) => Box::new(File::open(path).map_err(|source| Error::Read {
                file: self.file.clone(),
                source,
            })?),
        })
    }

    fn shape(&self) -> Result<Shape, Error> {
        Shape::read(&self.header, &self.architecture).map_err(|fault| self.fault(fault))
    }

    fn broken(&self, what: String) -> Error {
        Error::Broken {
            file: self.file.clone(),
            what,
        }
    }

    fn fault(&self, fault: tokenizer::Fault) -> Error {
        match fault {
            tokenizer::Fault::Broken(what) => self.broken(what),
            tokenizer::Fault::Feature(what) => Error::Feature { what },
        }
    }
}
