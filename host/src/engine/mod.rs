//! What runs models: choosing an engine and a model, and one inference as a
//! stream of events. HTTP and JSON wire types never leave this room; it knows
//! neither packs nor sinks.

pub mod embedded;
mod local;
mod reasoning;
mod server;
mod stream;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;

use crate::closest::closest;
use crate::inference::{Event, Layer, Prompt, Settings, Support};
use embedded::ModelFile;
pub use server::{BadUrl, Endpoint, Fault, FaultKind, Kind, Reach};
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
    #[error("no engine was found{}", nobody_at(tried))]
    NoEngine {
        /// The addresses that were asked.
        tried: Vec<String>,
    },
    /// An engine that this program does not know.
    #[error("no engine named `{0}`")]
    UnknownEngine(String),
    /// The folder of models has no such model.
    #[error("no model named `{name}`")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// Names like it.
        close: Vec<String>,
        /// The folder where models are looked for.
        folder: PathBuf,
    },
    /// No server has such a model.
    #[error("{engine} has no model named `{name}`")]
    UnknownServerModel {
        /// Who was asked.
        engine: String,
        /// What was asked for.
        name: String,
        /// Names like it.
        close: Vec<String>,
        /// Names that there are.
        known: Vec<String>,
    },
    /// Nobody said which model, and there is more than one to choose from.
    #[error("which model? {engine} has {} loaded, and -m names none", how_many(loaded.len()))]
    NoModel {
        /// Who was asked.
        engine: String,
        /// Models that are loaded.
        loaded: Vec<String>,
        /// Models that are not.
        others: Vec<String>,
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
    Stopped(String),
    /// A server cannot be reached.
    #[error("{engine} cannot be reached: {why}")]
    Unreachable {
        /// The address.
        engine: String,
        /// What the system says.
        why: String,
    },
    /// No connection within `--connect-timeout`.
    #[error("{engine} cannot be reached: no connection within {}", seconds(*limit))]
    ConnectTimeout {
        /// The address.
        engine: String,
        /// The limit.
        limit: Duration,
    },
    /// A server that is loading did not come to its end.
    #[error("{engine} was still loading its model after {}", seconds(*limit))]
    StillLoading {
        /// The address.
        engine: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Something answers that is no server we know.
    #[error("what answers at {url} is no server that this program knows: {what}")]
    NotAServer {
        /// The address.
        url: String,
        /// What it said.
        what: String,
    },
    /// The server wants a key, or another one.
    #[error("{engine} {}: {message}", if *had_key { "does not accept the key" } else { "wants a key" })]
    Unauthorised {
        /// The server.
        engine: String,
        /// Whether a key was sent.
        had_key: bool,
        /// The server's words.
        message: String,
    },
    /// The server says that it failed.
    #[error("{engine}{}: {}", for_model(model), fault.message)]
    Server {
        /// The server.
        engine: String,
        /// The model that was asked.
        model: String,
        /// What it said.
        fault: Box<Fault>,
    },
    /// The server could not load the model.
    #[error("{engine} cannot load `{model}`: {}", fault.message)]
    NotLoaded {
        /// The server.
        engine: String,
        /// The model.
        model: String,
        /// What it said.
        fault: Box<Fault>,
    },
    /// The connection broke in the middle of an answer.
    #[error("the connection to {engine} broke: {why}")]
    Lost {
        /// The server.
        engine: String,
        /// What the system says.
        why: String,
    },
    /// The response ended without a reason, so that something is missing.
    #[error("{engine} ended its response without saying that the answer is complete")]
    Cut {
        /// The server.
        engine: String,
    },
    /// What came is not of the protocol.
    #[error("{engine} sent something that is no part of an answer: {what}")]
    Garbage {
        /// The server.
        engine: String,
        /// What it was.
        what: String,
    },
    /// Another model answered than the one that was asked.
    #[error("{engine} was asked for `{asked}`, and `{answered}` answers")]
    WrongModel {
        /// The server.
        engine: String,
        /// The model that was meant.
        asked: String,
        /// The model that it was.
        answered: String,
    },
}

impl Error {
    /// Whether the answer broke off for no reason that anybody gave.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Stopped(_)
                | Self::Lost { .. }
                | Self::Cut { .. }
                | Self::Garbage { .. }
                | Self::Embedded(embedded::Error::Compute(_))
        )
    }
}

impl Error {
    /// Whether there is no connection (any more).
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

fn nobody_at(tried: &[String]) -> String {
    match tried {
        [] => String::new(),
        some => format!("; nothing answers at {}", some.join(", ")),
    }
}

fn how_many(count: usize) -> String {
    match count {
        0 => "none".to_owned(),
        count => format!("{count} models"),
    }
}

fn for_model(model: &str) -> String {
    match model {
        "" => String::new(),
        model => format!(", model `{model}`"),
    }
}

/// A span as people say it.
#[must_use]
pub fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
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

/// Which engines may answer.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// The one in this process.
    Embedded,
    /// The servers at these addresses; one address that does not answer is
    /// told of, among several each may be absent.
    Servers(Vec<Endpoint>),
    /// A model's file by the embedded engine, anything else by the servers
    /// that are found at these addresses.
    Auto(Vec<Endpoint>),
}

/// What to choose by.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Which engines may answer.
    pub wanted: Wanted,
    /// The model that was named for this run.
    pub model: Option<String>,
    /// The model to take when none is named and not exactly one is loaded.
    pub fallback: Option<String>,
    /// The context that was asked for.
    pub context: Option<Context>,
    /// The folder with the embedded engine's models.
    pub models: PathBuf,
    /// How long servers may take.
    pub reach: Reach,
}

/// A model that was chosen; nothing is loaded.
#[derive(Debug)]
pub struct Chosen {
    /// The name for reports.
    pub model: String,
    /// Whether it is the demo model, which nobody must take for a real one.
    pub is_demo: bool,
    /// What the user should know about the choice.
    pub warnings: Vec<String>,
    recommended: Layer,
    by: By,
}

#[derive(Debug)]
enum By {
    Embedded {
        file: Box<ModelFile>,
        context: u32,
        asked: Option<u32>,
    },
    Server(Box<server::Target>),
}

/// Chooses the engine and the model: asks servers, or reads a model file's
/// header. Nothing is loaded.
///
/// # Errors
/// No such engine or model, or one that cannot be run.
pub async fn choose(choice: Choice) -> Result<Chosen, Error> {
    let Choice {
        wanted,
        model,
        fallback,
        context,
        models,
        reach,
    } = choice;
    let here = model.as_deref().or(fallback.as_deref());
    let (endpoints, named) = match wanted {
        Wanted::Embedded => return embedded(here, context, &models),
        Wanted::Auto(_) if here.is_some_and(|it| is_path(it) || find(it, &models).is_ok()) => {
            return embedded(here, context, &models);
        }
        Wanted::Servers(endpoints) => {
            let named = endpoints.len() == 1;
            (endpoints, named)
        }
        Wanted::Auto(endpoints) => (endpoints, false),
    };
    let target = server::choose(
        &endpoints,
        named,
        model.as_deref(),
        fallback.as_deref(),
        context,
        reach,
    )
    .await?;
    Ok(Chosen {
        model: target.model().to_owned(),
        is_demo: false,
        warnings: Vec::new(),
        recommended: Layer::default(),
        by: By::Server(Box::new(target)),
    })
}

fn embedded(model: Option<&str>, context: Option<Context>, models: &Path) -> Result<Chosen, Error> {
    let (name, is_demo, file) = match model {
        None | Some(DEMO) => (
            DEMO.to_owned(),
            true,
            ModelFile::from_bytes(DEMO, DEMO_GGUF)?,
        ),
        Some(path) if is_path(path) => {
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
    let (tokens, of_context) = settle_context(context, file.context_length())?;
    warnings.extend(of_context);
    Ok(Chosen {
        model: name,
        is_demo,
        warnings,
        recommended,
        by: By::Embedded {
            file: Box::new(file),
            context: tokens,
            asked: context.map(|_| tokens),
        },
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
        match &self.by {
            By::Embedded { .. } => EMBEDDED,
            By::Server(target) => target.engine(),
        }
    }

    /// The engine as messages name it, with its address.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.by {
            By::Embedded { .. } => "the embedded engine".to_owned(),
            By::Server(target) => target.shown(),
        }
    }

    /// The server's version, where it tells.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match &self.by {
            By::Embedded { .. } => Some(env!("CARGO_PKG_VERSION")),
            By::Server(target) => target.version(),
        }
    }

    /// `general.architecture`, where known.
    #[must_use]
    pub fn architecture(&self) -> Option<&str> {
        match &self.by {
            By::Embedded { file, .. } => Some(file.architecture()),
            By::Server(target) => target.architecture(),
        }
    }

    /// How the weights are stored, as llama.cpp names it, where known.
    #[must_use]
    pub fn quantization(&self) -> Option<String> {
        match &self.by {
            By::Embedded { file, .. } => Some(file.quantization()),
            By::Server(target) => target.quantization().map(str::to_owned),
        }
    }

    /// The most context that this run would give it, in tokens, where known.
    #[must_use]
    pub fn context(&self) -> Option<u32> {
        match &self.by {
            By::Embedded { context, .. } => Some(*context),
            By::Server(target) => target.context(),
        }
    }

    /// The context that was asked for, in tokens.
    #[must_use]
    pub fn asked_context(&self) -> Option<u32> {
        match &self.by {
            By::Embedded { asked, .. } => *asked,
            By::Server(target) => target.asked_context(),
        }
    }

    /// Sampling that the model's file recommends; servers apply that themselves.
    #[must_use]
    pub fn recommended(&self) -> Layer {
        self.recommended.clone()
    }

    /// Whether the model was trained to answer, as far as one can tell.
    #[must_use]
    pub fn is_instruct(&self) -> bool {
        match &self.by {
            By::Embedded { file, .. } => file.chat_template().is_some(),
            By::Server(target) => target.is_instruct(),
        }
    }

    /// What becomes of a setting, by its name in snake case.
    #[must_use]
    pub fn support(&self, prompt: &Prompt, settings: &Settings, name: &str) -> Support {
        match &self.by {
            By::Embedded { file, .. } => file.support(name),
            By::Server(target) => target.support(prompt, settings, name),
        }
    }

    /// Sees to it that the model is loaded, where that is a step of its own,
    /// and says through `emit` what goes on. Waits as long as the server takes.
    ///
    /// # Errors
    /// The server cannot load it, or cannot be reached.
    pub async fn ensure(self, emit: &mut (dyn FnMut(Event) + Send)) -> Result<Ready, Error> {
        let (instance, warnings) = match &self.by {
            By::Embedded { file, context, .. } => {
                let instance = server::Instance {
                    id: self.model.clone(),
                    context: Some(*context),
                    declared: Some(file.context_length()),
                    warnings: Vec::new(),
                };
                (instance, Vec::new())
            }
            By::Server(target) => {
                let mut instance = target.ensure(emit).await?;
                let warnings = std::mem::take(&mut instance.warnings);
                (instance, warnings)
            }
        };
        Ok(Ready {
            chosen: self,
            instance,
            warnings,
        })
    }
}

/// A model that can be asked.
#[derive(Debug)]
pub struct Ready {
    /// What was chosen.
    pub chosen: Chosen,
    /// What the user should know about the instance.
    pub warnings: Vec<String>,
    instance: server::Instance,
}

impl Ready {
    /// The instance's name at its server.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance.id
    }

    /// Tokens of context that the instance has, where known.
    #[must_use]
    pub fn context(&self) -> Option<u32> {
        self.instance.context
    }

    /// Tokens of context that the model was made for, where known.
    #[must_use]
    pub fn declared_context(&self) -> Option<u32> {
        self.instance.declared
    }

    /// The exact text that the model would be sent, where the engine can tell.
    pub async fn rendered(&self, prompt: &Prompt, settings: &Settings) -> Option<String> {
        match &self.chosen.by {
            By::Embedded { file, .. } => {
                let reasoning = settings.reasoning.as_ref().map(|it| it.value.as_str());
                file.render(prompt, reasoning).ok()
            }
            By::Server(target) => target.rendered(prompt, &self.instance).await,
        }
    }

    /// Runs one inference. Dropping the stream ends it, at a server, too.
    ///
    /// # Errors
    /// The machine gives us no thread.
    pub fn infer(self, ask: Ask) -> Result<Stream, Error> {
        match self.chosen.by {
            By::Embedded { file, context, .. } => local::start(*file, context, ask),
            By::Server(target) => Ok(target.infer(self.instance, ask)),
        }
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
