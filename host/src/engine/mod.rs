//! What runs models: choosing an engine and a model, and one inference as a
//! stream of events. HTTP and JSON wire types never leave this room; it knows
//! neither packs nor sinks.

pub mod embedded;
mod reasoning;
mod stream;

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::closest::closest;
use crate::inference::{Layer, Prompt, Settings};
use embedded::ModelFile;
pub use stream::Stream;

/// The name that chooses the embedded engine.
pub const EMBEDDED: &str = "embedded";
/// The name that leaves the choice to us.
pub const AUTO: &str = "auto";
/// The name of the model that is part of this program.
pub const DEMO: &str = "demo";

/// The demo model's file.
const DEMO_GGUF: &[u8] = include_bytes!("../../assets/demo.gguf");

/// The most context that a model is loaded with when nobody says anything: a
/// CPU reads prompts slowly, and memory for more would be taken for nothing.
const CONTEXT_TOKENS: u32 = 8192;

/// Something went wrong with an engine or a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No engine was asked for, and none was found.
    #[error("no engine was found")]
    NoEngine,
    /// An engine that this program does not know.
    #[error("no engine named `{0}`")]
    UnknownEngine(String),
    /// The engine has no such model.
    #[error("no model named `{name}`")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// Names like it.
        close: Vec<String>,
        /// The folder where models are looked for.
        folder: PathBuf,
    },
    /// The context asked for makes no sense for this model.
    #[error("{0}")]
    Context(String),
    /// Settings that were given, and would be lost, under `--strict`.
    #[error("this engine does not honour: {0}")]
    Settings(String),
    /// The embedded engine's own.
    #[error(transparent)]
    Embedded(#[from] embedded::Error),
    /// The engine broke off without saying why.
    #[error("the engine stopped without a word: {0}")]
    Lost(String),
}

/// How much context to load a model with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// This many tokens.
    Tokens(u32),
    /// This share of what the model was made for, in percent (1 to 100).
    Percent(u8),
}

impl Context {
    /// Reads `8192` or `50%`.
    ///
    /// # Errors
    /// It is neither; the text says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || format!("context is `{text}`; it takes a number from 1, or `1%` to `100%`");
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            },
            None => match text.parse() {
                Ok(0) | Err(_) => Err(wrong()),
                Ok(tokens) => Ok(Self::Tokens(tokens)),
            },
        }
    }
}

/// A model that was chosen and whose file's header was read; nothing is loaded.
#[derive(Debug)]
pub struct Chosen {
    /// The name for reports.
    pub model: String,
    /// Whether it is the demo model, which nobody must take for a real one.
    pub is_demo: bool,
    /// The context that it will be loaded with, in tokens.
    pub context: u32,
    /// What the user should know about that.
    pub warnings: Vec<String>,
    recommended: Layer,
    file: ModelFile,
}

/// Chooses the engine and the model. Reads at most the model file's header.
///
/// # Errors
/// No such engine or model, or a file that the engine cannot run.
pub fn choose(
    engine: Option<&str>,
    model: Option<&str>,
    context: Option<Context>,
    models: &Path,
) -> Result<Chosen, Error> {
    let is_file = model.is_some_and(is_path);
    match engine.unwrap_or(AUTO) {
        EMBEDDED => {}
        AUTO if is_file || model.is_some_and(|name| find(name, models).is_ok()) => {}
        AUTO => return Err(Error::NoEngine),
        other => return Err(Error::UnknownEngine(other.to_owned())),
    }
    let (name, is_demo, file) = match model {
        None | Some(DEMO) => (
            DEMO.to_owned(),
            true,
            ModelFile::from_bytes(DEMO, DEMO_GGUF)?,
        ),
        Some(path) if is_file => {
            let here = Path::new(path);
            // A bare file name may also mean one in the models folder.
            let there = models.join(path);
            let is_there = !here.exists() && !path.contains('/') && there.exists();
            let file = ModelFile::open(if is_there { &there } else { here })?;
            (path.to_owned(), false, file)
        }
        Some(name) => (
            name.to_owned(),
            false,
            ModelFile::open(&find(name, models)?)?,
        ),
    };
    file.check_supported()?;
    let (recommended, mut warnings) = sane(file.recommended());
    let (context, of_context) = settle_context(context, file.context_length())?;
    warnings.extend(of_context);
    Ok(Chosen {
        model: name,
        is_demo,
        context,
        warnings,
        recommended,
        file,
    })
}

/// Leaves out what a model's file recommends and no sampler can do.
fn sane(mut layer: Layer) -> (Layer, Vec<String>) {
    let mut warnings = Vec::new();
    while let Err((name, why)) = layer.check() {
        warnings.push(format!("the model file's {name} {why}; it is left out"));
        match name {
            "temperature" => layer.temperature = None,
            "top_p" => layer.top_p = None,
            "min_p" => layer.min_p = None,
            "repeat_penalty" => layer.repeat_penalty = None,
            _ => layer = Layer::default(),
        }
    }
    (layer, warnings)
}

/// A model is named by its file when it looks like one.
fn is_path(model: &str) -> bool {
    let path = Path::new(model);
    path.extension()
        .is_some_and(|it| it.eq_ignore_ascii_case("gguf"))
        || path.is_absolute()
        || model.starts_with("./")
        || model.starts_with("../")
}

fn find(name: &str, models: &Path) -> Result<PathBuf, Error> {
    let mut known: Vec<String> = fs::read_dir(models)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "gguf"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    // Exact identity: a part of a name never loads another model.
    if known.iter().any(|it| it == name) {
        return Ok(models.join(format!("{name}.gguf")));
    }
    known.push(DEMO.to_owned());
    known.sort();
    Err(Error::UnknownModel {
        name: name.to_owned(),
        close: closest(name, known.iter().map(String::as_str)),
        folder: models.to_owned(),
    })
}

fn settle_context(wanted: Option<Context>, declared: u32) -> Result<(u32, Vec<String>), Error> {
    match wanted {
        Some(Context::Tokens(tokens)) if tokens > declared => Err(Error::Context(format!(
            "a context of {tokens} tokens is more than the {declared} that the model was made for"
        ))),
        Some(Context::Tokens(tokens)) => Ok((tokens, Vec::new())),
        Some(Context::Percent(percent)) => {
            let share = u64::from(declared) * u64::from(percent) / 100;
            Ok((u32::try_from(share).unwrap_or(declared).max(1), Vec::new()))
        }
        None if declared > CONTEXT_TOKENS => {
            let warning = format!(
                "the model is loaded with {CONTEXT_TOKENS} of its {declared} tokens of context; \
                 --context sets it"
            );
            Ok((CONTEXT_TOKENS, vec![warning]))
        }
        None => Ok((declared, Vec::new())),
    }
}

impl Chosen {
    /// The engine's name, for reports.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        EMBEDDED
    }

    /// `general.architecture`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        self.file.architecture()
    }

    /// How the weights are stored, as llama.cpp names it.
    #[must_use]
    pub fn quantization(&self) -> String {
        self.file.quantization()
    }

    /// Sampling that the model's file recommends.
    #[must_use]
    pub fn recommended(&self) -> Layer {
        self.recommended.clone()
    }

    /// Loads the model and runs one inference, on a thread of its own.
    /// Dropping the stream ends both.
    ///
    /// # Errors
    /// The machine gives us no thread.
    pub fn infer(self, ask: Ask) -> Result<Stream, Error> {
        stream::start(self.file, self.context, ask)
    }
}

/// What one inference needs.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What the model is sent.
    pub prompt: Prompt,
    /// With which settings.
    pub settings: Settings,
    /// Whether a thinking span at the start becomes reasoning.
    pub reasoning_tags: bool,
    /// Names of settings that somebody gave and that must not be lost.
    pub required: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_numbers_or_percent_of_what_the_model_was_made_for() {
        for (text, declared, expected) in [
            ("100", 2048, Some(100)),
            ("50%", 2048, Some(1024)),
            ("1%", 10, Some(1)),
            ("4096", 2048, None),
        ] {
            let context = Context::parse(text).unwrap();
            let settled = settle_context(Some(context), declared)
                .ok()
                .map(|(tokens, _)| tokens);
            assert_eq!(settled, expected, "{text} of {declared}");
        }
        for text in ["0", "-1", "0%", "101%", "x", ""] {
            assert!(Context::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_file_recommends_is_checked() {
        let odd = Layer {
            temperature: Some(0.5),
            top_p: Some(7.0),
            repeat_penalty: Some(0.0),
            ..Layer::default()
        };
        let (sane, warnings) = sane(odd);
        assert_eq!(
            (sane.temperature, sane.top_p, sane.repeat_penalty),
            (Some(0.5), None, None)
        );
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn a_large_model_is_not_loaded_with_all_its_context_unasked() {
        let (tokens, warnings) = settle_context(None, 131_072).unwrap();
        assert_eq!(tokens, CONTEXT_TOKENS);
        assert!(warnings[0].contains("131072"), "{warnings:?}");
        assert_eq!(settle_context(None, 2048).unwrap(), (2048, vec![]));
    }
}
