//! What runs models: choosing an engine and a model, and one inference as a
//! stream of events. HTTP and JSON wire types never leave this room; it knows
//! neither packs nor sinks.

mod claims;
mod context;
pub mod embedded;
mod error;
mod hub;
mod life;
mod local;
mod memory;
mod reasoning;
mod server;
mod stream;
mod survey;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;

use crate::inference::{Event, Layer, Prompt, Settings, Support};
use crate::suggest::closest;
pub use context::Context;
use embedded::ModelFile;
pub use error::Error;
pub use hub::{HUB, Hub, HubError, Pulled, Pulling, Reference};
pub use life::{Facts, Life};
pub use memory::{Memory, gigabytes, process_began};
pub use server::{BadUrl, Endpoint, Fault, FaultKind, Kind, Reach};
pub use stream::Stream;
pub use survey::{Offer, Offered, Place, Survey, survey, unload};

/// The name that chooses the embedded engine.
pub const EMBEDDED: &str = "embedded";
/// The name that leaves the choice to us.
pub const AUTO: &str = "auto";
/// The name of the model that is part of this program.
pub const DEMO: &str = "demo";

/// The demo model's file.
const DEMO_GGUF: &[u8] = include_bytes!("../../assets/demo.gguf");

/// A span as people say it.
#[must_use]
pub fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
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
    /// The model used last, when there is nothing else to go by.
    pub last: Option<String>,
    /// How models are loaded, and what is known of them.
    pub life: Life,
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
        file: Arc<ModelFile>,
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
        last,
        life,
    } = choice;
    let life = Arc::new(life);
    let here = model.as_deref().or(fallback.as_deref());
    let (endpoints, named) = match wanted {
        Wanted::Embedded => return embedded(here, context, &models, &life),
        Wanted::Auto(_) if here.is_some_and(|it| is_path(it) || find(it, &models).is_ok()) => {
            return embedded(here, context, &models, &life);
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
        server::Names {
            model: model.as_deref(),
            fallback: fallback.as_deref(),
            last: last.as_deref(),
        },
        context,
        reach,
        life,
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

fn embedded(
    model: Option<&str>,
    context: Option<Context>,
    models: &Path,
    life: &Life,
) -> Result<Chosen, Error> {
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
    let limits = context::Limits {
        model: &name,
        declared: file.context_length(),
        tested: life.facts(EMBEDDED, &name).tested,
        need: memory::Need {
            weights: file.memory_bytes(),
            per_token: Some(file.context_bytes_per_token()),
        },
        memory: Memory::here(),
        force: life.force,
    };
    let (tokens, of_context) = context::settle(context, limits)?;
    warnings.extend(of_context);
    Ok(Chosen {
        model: name,
        is_demo,
        warnings,
        recommended,
        by: By::Embedded {
            file: Arc::new(file),
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

impl Chosen {
    /// The engine's name, for reports.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        match &self.by {
            By::Embedded { .. } => EMBEDDED,
            By::Server(target) => target.engine(),
        }
    }

    /// Where the model is: a server's address, or `embedded`.
    #[must_use]
    pub fn place(&self) -> &str {
        match &self.by {
            By::Embedded { .. } => EMBEDDED,
            By::Server(target) => target.place(),
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

    /// Tokens of context that the model was made for, where known.
    #[must_use]
    pub fn declared_context(&self) -> Option<u32> {
        match &self.by {
            By::Embedded { file, .. } => Some(file.context_length()),
            By::Server(target) => target.declared(),
        }
    }

    /// Whether it can be loaded with a context of one's choice.
    #[must_use]
    pub fn loads_with_context(&self) -> bool {
        match &self.by {
            By::Embedded { .. } => true,
            By::Server(target) => target.loads_with_context(),
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

    /// The context of an instance that somebody else loaded and that a load
    /// with another one would replace; `None` where there is none such.
    #[must_use]
    pub fn would_replace(&self) -> Option<Option<u32>> {
        match &self.by {
            By::Embedded { .. } => None,
            By::Server(target) => target.would_replace(),
        }
    }

    /// What unloads everything that this process has loaded of the model, also
    /// what is still being loaded: for who is interrupted in the middle.
    #[must_use]
    pub fn unloader(&self) -> Unloader {
        Unloader(match &self.by {
            By::Embedded { .. } => None,
            By::Server(target) => Some((target.clone(), None)),
        })
    }

    /// Sees to it that the model is loaded, where that is a step of its own,
    /// and says through `emit` what goes on. Waits as long as the server takes.
    ///
    /// # Errors
    /// The server cannot load it, or cannot be reached.
    pub async fn ensure(self, emit: &mut (dyn FnMut(Event) + Send)) -> Result<Ready, Error> {
        let mut worker = None;
        let (instance, warnings) = match &self.by {
            By::Embedded { file, context, .. } => {
                worker = Some(local::Worker::start(Arc::clone(file), *context)?);
                let instance = server::Instance {
                    id: self.model.clone(),
                    context: Some(*context),
                    declared: Some(file.context_length()),
                    ..server::Instance::default()
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
            worker,
            warnings,
        })
    }
}

/// A model that can be asked, again and again.
#[derive(Debug)]
pub struct Ready {
    /// What was chosen.
    pub chosen: Chosen,
    /// What the user should know about the instance.
    pub warnings: Vec<String>,
    instance: server::Instance,
    /// The embedded engine's thread.
    worker: Option<local::Worker>,
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

    /// Seconds of loading, when this run loaded it.
    #[must_use]
    pub fn load_s(&self) -> Option<f64> {
        self.instance.load_s
    }

    /// Whether this run loaded it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.instance.is_ours
    }

    /// What unloads the instance later, while the inference takes this value.
    #[must_use]
    pub fn unloader(&self) -> Unloader {
        Unloader(match &self.chosen.by {
            By::Embedded { .. } => None,
            By::Server(target) => Some((target.clone(), Some(self.instance.clone()))),
        })
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

    /// How many inferences the instance runs at once, where the server says so;
    /// the embedded engine takes one after the other.
    pub async fn slots(&self) -> Option<u32> {
        match &self.chosen.by {
            By::Embedded { .. } => Some(1),
            By::Server(target) => target.slots(&self.instance).await,
        }
    }

    /// Runs one inference. Dropping the stream ends it, at a server, too.
    ///
    /// # Errors
    /// The embedded engine's thread died.
    pub fn infer(&self, ask: Ask) -> Result<Stream, Error> {
        match (&self.chosen.by, &self.worker) {
            (By::Server(target), _) => Ok(target.clone().infer(self.instance.clone(), ask)),
            (By::Embedded { .. }, Some(worker)) => worker.infer(ask),
            (By::Embedded { .. }, None) => {
                Err(Error::Stopped("its thread was never started".to_owned()))
            }
        }
    }
}

/// An instance that may be unloaded.
#[derive(Debug)]
pub struct Unloader(Option<(Box<server::Target>, Option<server::Instance>)>);

impl Unloader {
    /// Unloads the instance if this program loaded it, in this run or an
    /// earlier one. Whether it did: `None` is for an engine that has nothing to
    /// unload.
    ///
    /// # Errors
    /// The server cannot, or cannot be reached.
    pub async fn unload(&self) -> Result<Option<bool>, Error> {
        match &self.0 {
            None => Ok(None),
            Some((target, Some(instance))) => target.unload(instance).await.map(Some),
            Some((target, None)) => target.unload_own().await.map(Some),
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
}
