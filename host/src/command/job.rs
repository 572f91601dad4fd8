//! One job, up to where a model is loaded: what was asked meets packs and
//! engines, and settings find their values.

use std::hash::{BuildHasher, Hasher};

use super::resolve_args;
use crate::args::{Asked, Model, Patience, Sampling};
use crate::config::Config;
use crate::engine::{self, Chosen, Reach};
use crate::environment::Env;
use crate::error::Failure;
use crate::inference::{Given, Layer, Origin, Prompt, Settings, settle};
use crate::job::{Interrupt, ProcessorChain, ResolvedJob, Step, Timeouts};
use crate::pack::{ModelFacts, Pack, Resolved};
use crate::sink::Messages;

/// What somebody wants, as it was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) asked: &'a Asked,
    pub(super) model: &'a Model,
    pub(super) sampling: &'a Sampling,
    pub(super) patience: &'a Patience,
    /// Whether lost settings are errors.
    pub(super) strict: bool,
    /// Whether stdin may hold the text.
    pub(super) has_stdin: bool,
}

/// A job whose prompt is resolved and whose processors are open.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) chosen: Chosen,
    pub(super) resolved: Resolved,
    pub(super) steps: Vec<Step>,
    pub(super) resolver: Pack,
    pub(super) warnings: Vec<String>,
    pub(super) chain: ProcessorChain,
    pub(super) settings: Settings,
    /// Settings that must not be lost.
    pub(super) required: Vec<String>,
    pub(super) limits: Timeouts,
}

impl Job {
    /// Chooses the model, resolves the prompt, opens the processors.
    ///
    /// # Errors
    /// Everything that can be wrong before a model is loaded.
    pub(super) async fn open(
        wish: Wish<'_>,
        env: &Env,
        config: &Config,
        messages: Messages,
        mut interrupt: Interrupt<'_>,
    ) -> Result<Self, Failure> {
        let Wish {
            asked,
            model,
            sampling,
            patience,
            strict,
            has_stdin,
        } = wish;
        let [flags, environment, written] = resolve_args::layers(sampling, env, config)?;
        let (limits, connect) = resolve_args::limits(patience, env, config)?;
        let ask = resolve_args::ask(asked, env, config)?;
        let reach = Reach {
            connect,
            load: limits.load,
        };
        let choice = resolve_args::choice(model, env, config, reach, messages)?;
        let chosen = tokio::select! {
            biased;
            () = &mut interrupt => return Err(Failure::interrupted()),
            chosen = engine::choose(choice) => chosen?,
        };
        tracing::info!(
            model = chosen.model,
            engine = chosen.shown(),
            version = chosen.version(),
            architecture = chosen.architecture(),
            quantization = chosen.quantization(),
            context = chosen.context(),
            "chose a model"
        );
        let facts = facts(&chosen);
        let shelf = resolve_args::shelf(asked, env, config, messages)?;
        let opening = async {
            let prepared =
                resolve_args::prepared(shelf, ask, Some(facts), has_stdin, messages).await?;
            let chain = ProcessorChain::open(prepared.steps.clone()).await?;
            Ok::<_, Failure>((prepared, chain))
        };
        let (prepared, chain) = tokio::select! {
            biased;
            () = &mut interrupt => return Err(Failure::interrupted()),
            opened = opening => opened?,
        };
        let ResolvedJob {
            resolved,
            steps,
            resolver,
            mut warnings,
        } = prepared;
        warnings.extend(chosen.warnings.iter().cloned());
        if matches!(resolved.prompt, Prompt::Raw(_)) && chosen.is_instruct() {
            warnings.push(format!(
                "the text goes to `{}` without its chat template, and the model may only go on \
                 with it; without --raw it answers",
                chosen.model
            ));
        }
        let given = [
            flags,
            environment,
            (Origin::Prompt, resolved.settings.clone()),
            written,
        ];
        let required = if strict { names(&given) } else { Vec::new() };
        let [flags, environment, prompt, written] = given;
        let recommended = (Origin::ModelFile, chosen.recommended());
        let mut settings = settle(&[flags, environment, prompt, written, recommended]);
        // Drawn here and not by the engine, so that the report can name it.
        settings.seed.get_or_insert_with(drawn);
        Ok(Self {
            chosen,
            resolved,
            steps,
            resolver,
            warnings,
            chain,
            settings,
            required,
            limits,
        })
    }
}

fn facts(chosen: &Chosen) -> ModelFacts {
    let mut extra = vec![("engine".to_owned(), chosen.engine().to_owned())];
    if chosen.engine() == engine::EMBEDDED {
        extra.push(("format".to_owned(), "gguf".to_owned()));
    }
    extra.extend(
        chosen
            .quantization()
            .map(|it| ("quantization".to_owned(), it)),
    );
    ModelFacts {
        id: chosen.model.clone(),
        architecture: chosen.architecture().map(str::to_owned),
        context_length: chosen.context(),
        extra,
    }
}

/// The names of all settings that somebody gave.
fn names(layers: &[(Origin, Layer)]) -> Vec<String> {
    let mut names: Vec<String> = layers
        .iter()
        .flat_map(|(_, layer)| layer.names())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// A seed that nobody gave. The standard library's hash maps are seeded by the
/// system; 32 bits are what every server takes.
pub(super) fn drawn() -> Given<u64> {
    Given {
        value: std::hash::RandomState::new().build_hasher().finish() & u64::from(u32::MAX),
        origin: Origin::Default,
    }
}
