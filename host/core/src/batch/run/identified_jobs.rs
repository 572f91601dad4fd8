//! Jobs with their names and identities: known from the journal, or found by resolving
//! their prompts.

use std::collections::BTreeSet;

use lmstrix_inference::SettingsLayer;

use super::event::SharedObserver;
use super::job_identity::{job_identity, job_key};
use super::job_inputs::JobInputs;
use super::job_names::JobNames;
use super::prompt_resolver::Resolving;
use super::spool::{Spool, SpoolEntry};
use crate::batch::{self, FolderHistory, JobCoordinates, JobState, TokenNeed};
use crate::error::{Error, ErrorKind};
use crate::job::{ProcessorChain, ResolvedJob, Warning};
use crate::token_estimate::TokenEstimate;

/// Prompts that wait for the packs at once: each holds its files in memory.
const RESOLVE_AHEAD: usize = 32;
/// Failures that are reported at once.
const FAILURES_SHOWN: usize = 5;
/// With more unresolved prompts than this, a notice shows their number.
const NOTICE_FROM: usize = 200;

/// A job with its name and identity, before it is compared with the folder.
pub(super) struct IdentifiedJob {
    pub(super) name: String,
    pub(super) identity: String,
    pub(super) key: String,
    pub(super) prompt_bytes: u64,
    pub(super) need: TokenNeed,
    pub(super) resolved: Option<SpoolEntry>,
    /// The first line of the message of a pack that failed.
    pub(super) failure: Option<String>,
}

/// Identifies the jobs of a plan.
pub(super) struct JobIdentifier<'a> {
    inputs: &'a JobInputs,
    names: &'a JobNames,
    pub(super) spool: Option<Spool>,
    /// For each prompt, whether its processors were opened once.
    opened: Vec<bool>,
    /// Warnings of all prompts, each once, with the prompt's label.
    pub(super) warnings: BTreeSet<(String, Warning)>,
    /// Failures that the user can correct.
    failures: Vec<(JobCoordinates, Error)>,
}

impl<'a> JobIdentifier<'a> {
    /// Creates an identifier. Resolved prompts are kept unless this is a dry run.
    pub(super) fn new(inputs: &'a JobInputs, names: &'a JobNames, dry_run: bool) -> Self {
        Self {
            inputs,
            names,
            spool: if dry_run { None } else { Some(Spool::new()) },
            opened: vec![false; inputs.prompts.len()],
            warnings: BTreeSet::new(),
            failures: Vec::new(),
        }
    }

    /// Returns the jobs in their order. The prompts of those that the journal does not
    /// know with the same key are resolved.
    ///
    /// # Errors
    /// Returns an error for everything that the user can correct.
    pub(super) async fn identify(
        &mut self,
        coordinates: &[JobCoordinates],
        history: &FolderHistory,
        observer: &SharedObserver,
    ) -> Result<Vec<IdentifiedJob>, Error> {
        let mut all: Vec<Option<IdentifiedJob>> = Vec::new();
        let mut unresolved = Vec::new();
        for job in coordinates {
            let key = job_key(self.inputs, *job);
            let known = known(&key, history);
            if known.is_none() {
                unresolved.push((all.len(), *job, key));
            }
            all.push(known);
        }
        if unresolved.len() > NOTICE_FROM {
            observer.status(&format!("resolving {} prompts", unresolved.len()));
        }
        for some in unresolved.chunks(RESOLVE_AHEAD) {
            let mut waiting = Vec::new();
            for (at, job, key) in some {
                let resolve_job = self.inputs.resolve_job(*job);
                let resolving = resolve_job.map(|job| self.inputs.resolver.resolve(job));
                waiting.push((*at, *job, key, resolving));
            }
            for (at, job, key, resolving) in waiting {
                let identified = self.identify_one(job, key, resolving).await?;
                if let Some(place) = all.get_mut(at) {
                    *place = identified;
                }
            }
            if self.failures.len() >= FAILURES_SHOWN {
                break;
            }
        }
        match all_failures(self.inputs, std::mem::take(&mut self.failures)) {
            Some(failure) => Err(failure),
            None => Ok(all.into_iter().flatten().collect()),
        }
    }

    /// Returns `None` for a job that the user must correct first.
    async fn identify_one(
        &mut self,
        job: JobCoordinates,
        key: &str,
        resolving: Result<Resolving, Error>,
    ) -> Result<Option<IdentifiedJob>, Error> {
        let resolved = match resolving {
            Ok(resolving) => resolving.wait().await,
            Err(failure) => Err(failure),
        };
        let resolved = match resolved {
            Ok(resolved) => self.open_once(job, resolved).await,
            failed => failed,
        };
        match resolved {
            Ok(resolved) => self.of_resolved(job, key, resolved).map(Some),
            // An error of the user ends the run before any model is loaded.
            Err(failure) if failure.kind == ErrorKind::Usage => {
                self.failures.push((job, failure));
                Ok(None)
            }
            // A pack that fails costs its jobs only; they fail when it is their turn.
            Err(failure) => Ok(Some(IdentifiedJob {
                name: self.names.name(self.inputs, job, None),
                identity: "unresolved".to_owned(),
                key: key.to_owned(),
                prompt_bytes: 0,
                need: TokenNeed::default(),
                resolved: None,
                failure: failure.message.lines().next().map(str::to_owned),
            })),
        }
    }

    /// Opens the processors of a prompt once, since only that finds wrong options.
    async fn open_once(
        &mut self,
        job: JobCoordinates,
        resolved: ResolvedJob,
    ) -> Result<ResolvedJob, Error> {
        let opened = self.opened.get_mut(job.prompt);
        if opened.is_some_and(|opened| !std::mem::replace(opened, true)) {
            ProcessorChain::open(resolved.steps.clone()).await?;
        }
        Ok(resolved)
    }

    fn of_resolved(
        &mut self,
        job: JobCoordinates,
        key: &str,
        resolved: ResolvedJob,
    ) -> Result<IdentifiedJob, Error> {
        let inputs = self.inputs;
        let label = inputs.labels(job).prompt;
        for warning in &resolved.warnings {
            self.warnings.insert((label.clone(), warning.clone()));
        }
        let prompt = &resolved.resolved.prompt;
        let settings = inputs
            .spec(job)
            .settings
            .resolve(&resolved.resolved.settings, &SettingsLayer::default());
        let tokens_per_byte = inputs.model(job).and_then(|model| model.tokens_per_byte);
        let estimate = TokenEstimate::of_prompt(prompt, tokens_per_byte);
        let extension = resolved.resolved.extension.as_deref();
        Ok(IdentifiedJob {
            name: self.names.name(inputs, job, extension),
            identity: job_identity(inputs, job, &resolved, &settings),
            key: key.to_owned(),
            prompt_bytes: prompt.bytes() as u64,
            need: batch::token_need(estimate, settings.max_tokens.value),
            resolved: self.spool.as_mut().and_then(|spool| spool.put(resolved)),
            failure: None,
        })
    }
}

/// Returns a finished job of the journal that is made of the same.
fn known(key: &str, history: &FolderHistory) -> Option<IdentifiedJob> {
    let name = history.by_key.get(key)?;
    let job = history.jobs.get(name)?;
    let kept = job
        .kept
        .as_ref()
        .filter(|_| job.state == JobState::Done)
        // An older result of that name may have been made of this; the present one
        // was not.
        .filter(|kept| kept.key == key)?;
    Some(IdentifiedJob {
        name: name.clone(),
        identity: kept.identity.clone(),
        key: key.to_owned(),
        prompt_bytes: job.size.0,
        need: TokenNeed {
            context: job.size.1,
            ..TokenNeed::default()
        },
        resolved: None,
        failure: None,
    })
}

/// Combines the failures that were found, so that the user sees several at once.
fn all_failures(inputs: &JobInputs, failures: Vec<(JobCoordinates, Error)>) -> Option<Error> {
    let mut failures = failures.into_iter();
    let (job, first) = failures.next()?;
    let with_input = |job: JobCoordinates, message: &str| match inputs.input(job) {
        Some(input) => format!("input `{}`: {message}", input.name),
        None => message.to_owned(),
    };
    let mut texts = vec![with_input(job, &first.message)];
    // A prompt that is invalid is so for every input: each message is shown once.
    let mut shown = BTreeSet::from([first.message.clone()]);
    for (job, other) in failures {
        if shown.insert(other.message.clone()) {
            texts.push(with_input(job, &other.message));
        }
    }
    let failure = Error {
        message: texts.join("\n"),
        cause: None,
        ..first
    };
    Some(failure.hint("no model was loaded, and no job was run"))
}
