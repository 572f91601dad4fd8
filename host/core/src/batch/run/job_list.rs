//! The jobs of a plan, each with its prompt resolved, its name, and what is to be done
//! about it. Everything that the user can correct is found here, before a model is
//! loaded.

use std::collections::BTreeSet;
use std::path::Path;

use fs_err as fs;
use lmstrix_inference::SettingsLayer;

use super::event::SharedObserver;
use super::identity_text;
use super::job_inputs::JobInputs;
use super::job_names::JobNames;
use super::prompt_resolver::Resolving;
use super::setup::BatchOptions;
use super::spool::{Spool, SpoolEntry};
use crate::batch::{
    self, FolderHistory, JobCoordinates, JobHistory, JobState, KeptResult, ResultOnDisk,
    ResumeDecision, ResumeFacts, TokenNeed,
};
use crate::error::{Error, ErrorKind};
use crate::job::{ProcessorChain, ResolvedJob, Warning};
use crate::sink::AnswerFile;
use crate::token_estimate::TokenEstimate;

/// Prompts that wait for the packs at once: each holds its files in memory.
const RESOLVE_AHEAD: usize = 32;
/// Failures that are reported at once.
const FAILURES_SHOWN: usize = 5;
/// With more unresolved prompts than this, a notice shows their number.
const NOTICE_FROM: usize = 200;

/// A job of the plan, with the decision on it.
#[derive(Debug)]
pub struct PlannedJob {
    /// Prompt, combination, input and model.
    pub coordinates: JobCoordinates,
    /// The name of the result file.
    pub name: String,
    /// The digest of what is asked.
    pub identity: String,
    /// The length of all messages in bytes.
    pub prompt_bytes: u64,
    /// Tokens that the job needs.
    pub need: TokenNeed,
    /// Run, skip, adopt or keep.
    pub decision: ResumeDecision,
    /// The digest of what the job is made of.
    pub(super) key: String,
    /// Results of earlier runs that may be replaced.
    pub(super) own_results: Vec<KeptResult>,
    /// The resolved prompt; absent for a job that is not resolved yet.
    pub(super) resolved: Option<SpoolEntry>,
}

impl PlannedJob {
    /// Returns whether the job is to be run.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.decision, ResumeDecision::Run(_))
    }
}

/// All jobs of a plan.
pub(super) struct JobList {
    pub(super) jobs: Vec<PlannedJob>,
    pub(super) names: JobNames,
    pub(super) spool: Option<Spool>,
    /// Warnings of all prompts, each once, with the prompt's label.
    pub(super) warnings: BTreeSet<(String, Warning)>,
    /// Jobs of other parts of the plan.
    pub(super) elsewhere: usize,
}

/// A job with its name and identity, before it is compared with the folder.
struct Identified {
    name: String,
    identity: String,
    key: String,
    prompt_bytes: u64,
    need: TokenNeed,
    resolved: Option<SpoolEntry>,
}

/// Lists the jobs of a plan. Jobs that the journal knows with the same key need no
/// pack; the prompts of all others are resolved.
///
/// # Errors
/// Returns an error for everything that the user can correct.
pub(super) async fn list_jobs(
    inputs: &JobInputs,
    names: JobNames,
    options: &BatchOptions,
    history: &FolderHistory,
    out: &Path,
    observer: &SharedObserver,
) -> Result<JobList, Error> {
    let mut coordinates = all_coordinates(inputs);
    let all = coordinates.len();
    if let Some(shard) = options.shard {
        coordinates = of_shard(inputs, &coordinates, shard);
    }
    let mut listing = Listing {
        inputs,
        names: &names,
        spool: if options.dry_run {
            None
        } else {
            Some(Spool::new())
        },
        opened: vec![false; inputs.prompts.len()],
        warnings: BTreeSet::new(),
        failures: Vec::new(),
    };
    let identified = listing.identify(&coordinates, history, observer).await?;
    let Listing {
        spool, warnings, ..
    } = listing;
    let mut jobs = Vec::with_capacity(coordinates.len());
    for (job, identified) in coordinates.iter().zip(identified) {
        names.check_history(inputs, *job, &identified.name, history)?;
        jobs.push(decide(*job, identified, options, history, out));
    }
    names.check_distinct(
        inputs,
        jobs.iter().map(|job| (job.coordinates, job.name.as_str())),
    )?;
    Ok(JobList {
        elsewhere: all - coordinates.len(),
        jobs,
        names,
        spool,
        warnings,
    })
}

fn all_coordinates(inputs: &JobInputs) -> Vec<JobCoordinates> {
    let combinations: Vec<usize> = inputs
        .prompts
        .iter()
        .map(|prompt| prompt.combinations.len())
        .collect();
    let is_for = |prompt: usize, model: usize| {
        let prompt = inputs.prompts.get(prompt);
        let model = inputs.models.get(model);
        prompt.zip(model).is_some_and(|(prompt, model)| {
            prompt.models.is_empty() || prompt.models.iter().any(|pattern| model.matches(pattern))
        })
    };
    batch::job_coordinates(
        &combinations,
        inputs.inputs.len(),
        inputs.models.len(),
        is_for,
    )
}

/// The work of identifying jobs.
struct Listing<'a> {
    inputs: &'a JobInputs,
    names: &'a JobNames,
    spool: Option<Spool>,
    /// For each prompt, whether its processors were opened once.
    opened: Vec<bool>,
    warnings: BTreeSet<(String, Warning)>,
    /// Failures that the user can correct.
    failures: Vec<(JobCoordinates, Error)>,
}

impl Listing<'_> {
    async fn identify(
        &mut self,
        coordinates: &[JobCoordinates],
        history: &FolderHistory,
        observer: &SharedObserver,
    ) -> Result<Vec<Identified>, Error> {
        let mut all: Vec<Option<Identified>> = Vec::new();
        let mut unresolved = Vec::new();
        for job in coordinates {
            let key = self.inputs.key(*job);
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
    ) -> Result<Option<Identified>, Error> {
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
            Err(_) => Ok(Some(Identified {
                name: self.names.name(self.inputs, job, None),
                identity: "unresolved".to_owned(),
                key: key.to_owned(),
                prompt_bytes: 0,
                need: TokenNeed::default(),
                resolved: None,
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
    ) -> Result<Identified, Error> {
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
        let estimate = TokenEstimate::new(prompt.texts(), tokens_per_byte);
        let extension = resolved.resolved.extension.as_deref();
        Ok(Identified {
            name: self.names.name(inputs, job, extension),
            identity: inputs.identity(job, &resolved, &settings),
            key: key.to_owned(),
            prompt_bytes: prompt.bytes() as u64,
            need: batch::token_need(estimate, settings.max_tokens.value),
            resolved: self.spool.as_mut().and_then(|spool| spool.put(resolved)),
        })
    }
}

/// Returns a finished job of the journal that is made of the same.
fn known(key: &str, history: &FolderHistory) -> Option<Identified> {
    let name = history.by_key.get(key)?;
    let job = history.jobs.get(name)?;
    let kept = job
        .kept
        .as_ref()
        .filter(|_| job.state == JobState::Done)
        // An older result of that name may have been made of this; the present one
        // was not.
        .filter(|kept| kept.key == key)?;
    Some(Identified {
        name: name.clone(),
        identity: kept.identity.clone(),
        key: key.to_owned(),
        prompt_bytes: job.size.0,
        need: TokenNeed {
            context: job.size.1,
            ..TokenNeed::default()
        },
        resolved: None,
    })
}

/// Compares a job with the folder, and decides what is to be done.
fn decide(
    coordinates: JobCoordinates,
    identified: Identified,
    options: &BatchOptions,
    history: &FolderHistory,
    out: &Path,
) -> PlannedJob {
    let known = history.jobs.get(&identified.name);
    let path = out.join(&identified.name);
    let on_disk = result_on_disk(&path, known, options.verify);
    let facts = ResumeFacts {
        identity: &identified.identity,
        history: known,
        on_disk,
    };
    PlannedJob {
        coordinates,
        decision: batch::decide(facts, options.changed),
        name: identified.name,
        identity: identified.identity,
        key: identified.key,
        prompt_bytes: identified.prompt_bytes,
        need: identified.need,
        own_results: known
            .map(|known| known.results().into_iter().cloned().collect())
            .unwrap_or_default(),
        resolved: identified.resolved,
    }
}

/// Compares the file of a result with its record in the journal: the size, and with
/// `verify` the digest. A failure in its place does not count as a result.
fn result_on_disk(path: &Path, known: Option<&JobHistory>, verify: bool) -> ResultOnDisk {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return ResultOnDisk::Absent;
    };
    let length = metadata.len();
    let kept = known
        .and_then(|known| known.kept.as_ref())
        .filter(|kept| kept.length == length);
    match kept {
        Some(kept) if verify && !batch::has_digest(path, &kept.sha256) => {
            ResultOnDisk::Modified(length)
        }
        Some(_) => ResultOnDisk::Present(length),
        None if known.is_some() && AnswerFile::is_failure(path) => ResultOnDisk::Absent,
        None => ResultOnDisk::Present(length),
    }
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
        ..first
    };
    Some(failure.hint("no model was loaded, and no job was run"))
}

/// Returns the jobs of one part of the plan, by model first.
fn of_shard(
    inputs: &JobInputs,
    all: &[JobCoordinates],
    shard: batch::Shard,
) -> Vec<JobCoordinates> {
    let names: Vec<String> = all
        .iter()
        .map(|job| {
            let labels = inputs.labels(*job);
            format!(
                "{} {} {}",
                identity_text::quoted(&labels.prompt),
                identity_text::optional(labels.input.as_deref()),
                identity_text::pairs(&labels.params)
            )
        })
        .collect();
    let mut by_model: Vec<(&str, f64, Vec<&str>)> = Vec::new();
    let mut jobs_by_model: Vec<Vec<JobCoordinates>> = Vec::new();
    for (index, model) in inputs.models.iter().enumerate() {
        let (jobs, of_model): (Vec<JobCoordinates>, Vec<&str>) = all
            .iter()
            .zip(&names)
            .filter(|(job, _)| job.model == index)
            .map(|(job, name)| (*job, name.as_str()))
            .unzip();
        #[expect(clippy::cast_precision_loss, reason = "a weight")]
        let weight = of_model.len() as f64;
        by_model.push((&model.label, weight, of_model));
        jobs_by_model.push(jobs);
    }
    let taken = batch::jobs_of_shard(&by_model, shard);
    jobs_by_model
        .into_iter()
        .flatten()
        .zip(taken.into_iter().flatten())
        .filter_map(|(job, is_ours)| is_ours.then_some(job))
        .collect()
}
