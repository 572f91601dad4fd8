//! Recovery after earlier runs of a folder: results that are kept, answers that a killed
//! run completed, models that it left loaded.

use std::collections::BTreeSet;
use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;

use super::event::SharedObserver;
use super::job_inputs::JobInputs;
use super::planned_job::PlannedJob;
use crate::batch::{
    self, DoneRecord, FolderHistory, InstanceRecord, JobHistory, JobState, Journal, KeptResult,
    Record, ResumeDecision, RunReason,
};
use crate::client;
use crate::engine::{self, ConnectTimeouts, LoadedInstance};
use crate::environment::Environment;
use crate::error::Error;
use crate::quantity::count;
use crate::sink::AnswerFile;
use crate::store::open_plain;

/// Warns about failed jobs of the folder that its last plan no longer has: another plan
/// or part ran there, too.
pub(super) fn warn_about_other_plans(
    jobs: &[PlannedJob],
    history: &FolderHistory,
    observer: &SharedObserver,
) {
    let names: BTreeSet<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    let others: Vec<&str> = history
        .jobs
        .iter()
        .filter(|(_, known)| known.state == JobState::Failed)
        .map(|(name, _)| name.as_str())
        .filter(|name| !names.contains(name))
        .collect();
    if let Some(first) = others.first() {
        observer.warning(&format!(
            "not retrying {} of another plan or part that failed here: {first}{}; its own command \
             runs them",
            count(others.len(), "job"),
            if others.len() > 1 { ", …" } else { "" }
        ));
    }
}

/// Warns about results that stay although their job or their file has changed.
pub(super) fn warn_about_kept(jobs: &[PlannedJob], observer: &SharedObserver) {
    let warn = |is_kept: fn(&ResumeDecision) -> bool, text: &str| {
        let mut kept = jobs.iter().filter(|job| is_kept(&job.decision));
        if let Some(first) = kept.next() {
            let others = match kept.count() {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            observer.warning(&format!("{}{others}: {text}", first.name));
        }
    };
    warn(
        |decision| matches!(decision, ResumeDecision::KeepChanged),
        "prompt, pack, setting or input has changed since the result was made; it is kept \
         (--changed rerun runs it again)",
    );
    warn(
        |decision| matches!(decision, ResumeDecision::KeepModified),
        "the file was changed by hand; it is kept (--changed rerun runs it again and keeps the \
         old file beside it)",
    );
    warn(
        |decision| matches!(decision, ResumeDecision::Foreign),
        "a file of this name exists that no run wrote; it is kept, and its job not run",
    );
}

/// Adopts answers that were complete when a run was killed: their results get their
/// names, if they do not have them yet. Returns the number of adopted results.
pub(super) fn adopt(
    jobs: &mut [PlannedJob],
    inputs: &JobInputs,
    history: &FolderHistory,
    out: &Path,
    journal: &mut Journal,
) -> Result<usize, Error> {
    let mut adopted = Vec::new();
    let is_adopted = |job: &PlannedJob| matches!(job.decision, ResumeDecision::Adopt(..));
    if jobs.iter().any(is_adopted) {
        // The records of these answers are on the disk before a file gets its name.
        journal.sync()?;
    }
    for job in jobs {
        let ResumeDecision::Adopt(kept, file) = &job.decision else {
            continue;
        };
        let target = out.join(&job.name);
        // The earlier result or failure may not have been replaced yet.
        let known = history.jobs.get(&job.name);
        if complete(kept, known, &target, &out.join(file)) {
            AnswerFile::remove_leftovers(&target);
            adopted.push(Record::Done(Box::new(DoneRecord {
                job: job.name.clone(),
                identity: kept.identity.clone(),
                key: job.key.clone(),
                length: kept.length,
                sha256: kept.sha256.clone(),
                at: Timestamp::now(),
                labels: inputs.labels(job.coordinates),
                prompt_bytes: job.prompt_bytes,
                need: job.need.context,
                adopted: true,
                ..DoneRecord::default()
            })));
            job.decision = ResumeDecision::Skip;
        } else {
            job.decision = ResumeDecision::Run(RunReason::Unfinished);
        }
    }
    for record in &adopted {
        journal.append(record)?;
    }
    if !adopted.is_empty() {
        journal.sync()?;
    }
    Ok(adopted.len())
}

/// Gives a complete answer its final name; returns whether the answer has it.
fn complete(kept: &KeptResult, known: Option<&JobHistory>, target: &Path, staged: &Path) -> bool {
    let is_whole = |path: &Path| batch::has_digest(path, &kept.sha256);
    let flush = |path: &Path| {
        // Windows flushes only what can be written.
        let file = open_plain(path, fs::OpenOptions::new().write(true));
        file.and_then(|file| file.sync_all()).is_ok()
    };
    // Any other file in its place is the user's.
    let is_free = fs::symlink_metadata(target).is_err()
        || AnswerFile::is_failure(target)
        || known
            .and_then(|known| known.kept.as_ref())
            .is_some_and(|kept| batch::has_digest(target, &kept.sha256));
    let has_name = if is_whole(target) {
        flush(target)
    } else {
        is_free && is_whole(staged) && flush(staged) && fs::rename(staged, target).is_ok()
    };
    // Not every system can flush a folder.
    let _unsupported = target
        .parent()
        .map(|folder| fs::File::open(folder).and_then(|folder| folder.sync_all()));
    has_name
}

/// Unloads models that a killed run of this folder left loaded and that have no jobs
/// now.
pub(super) async fn unload_leftovers(
    inputs: &JobInputs,
    jobs: &[PlannedJob],
    history: &FolderHistory,
    connect: ConnectTimeouts,
    env: &Environment,
    journal: &mut Journal,
    observer: &SharedObserver,
) {
    for (index, model) in inputs.models.iter().enumerate() {
        let key = (model.place.clone(), model.id.clone());
        let has_jobs = jobs
            .iter()
            .any(|job| job.coordinates.model == index && job.runs());
        if has_jobs || !history.loaded.contains_key(&key) {
            continue;
        }
        let owned: Vec<(String, LoadedInstance)> = model
            .instances
            .iter()
            .filter(|instance| instance.is_owned)
            .map(|instance| (model.id.clone(), instance.clone()))
            .collect();
        if let (Some(server), false) = (&model.server, owned.is_empty()) {
            let state = client::ownership_folder(env);
            let lms = client::lms_program(env);
            let unloading = engine::unload(server, &owned, false, &state, lms.as_deref(), connect);
            if let Err(error) = unloading.await {
                observer.warning(&format!(
                    "`{}` may stay loaded from a run that was killed: {}",
                    model.label,
                    crate::error_chain::error_chain(&error)
                ));
                continue;
            }
            observer.status(&format!(
                "unloaded `{}`, which a killed run had left loaded",
                model.label
            ));
        }
        let item = InstanceRecord {
            engine: model.place.clone(),
            model: model.id.clone(),
            ..InstanceRecord::default()
        };
        // If this cannot be written, the next run looks for the model again.
        let _not_written = journal.append(&Record::Unloaded(item));
    }
}
