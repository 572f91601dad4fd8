//! What earlier runs of a folder left: contexts that stay, answers that count,
//! models that are still loaded; and what is said of it before a run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;

use super::super::models::count;
use super::super::resolve_args;
use super::field::Model;
use super::intent::Manner;
use super::loads::Loading;
use super::planning::Job;
use super::stuff::Stuff;
use crate::batch::{
    self, Context as ContextRecord, Decision, Done, Journal, Kept, LogItem, Past, Record, Wish, fit,
};
use crate::engine::{self, Context};
use crate::environment::Env;
use crate::error::Failure;
use crate::sink::{Messages, ResultFile};

/// How much context a model is loaded with.
pub(super) struct ModelContext {
    /// What is asked for; `None` leaves it to the server.
    pub(super) asked: Option<Context>,
    /// In tokens, where it is known.
    pub(super) tokens: Option<u32>,
    /// What the journal does not know yet.
    pub(super) new: Option<ContextRecord>,
}

/// The contexts of all models. What a run before this one took is kept, as long
/// as no prompt is longer than its longest: estimates move, and must not load a
/// model anew.
pub(super) fn contexts(stuff: &Stuff, jobs: &[Job], past: &Past) -> Vec<ModelContext> {
    let of_model = |(index, model): (usize, &Model)| {
        let asked = match model.wish {
            Wish::Tokens(tokens) => Context::Tokens(tokens),
            Wish::Percent(percent) => Context::Percent(percent),
            Wish::Fit => {
                let own = || jobs.iter().filter(|it| it.cell.model == index);
                let longest = own().map(|it| it.prompt_bytes).max().unwrap_or(0);
                let answer = own().map(|it| it.need.answer).max().unwrap_or(0);
                let known = past
                    .contexts
                    .get(&(model.place.clone(), model.id.clone()))
                    .filter(|it| it.prompt_bytes >= longest && it.answer_tokens >= answer);
                if let Some(known) = known {
                    return ModelContext {
                        asked: Some(Context::Tokens(known.context)),
                        tokens: Some(known.context),
                        new: None,
                    };
                }
                let need = own().map(|it| it.need.context).max().unwrap_or(0);
                let tokens = fit(need, model.most_context);
                return ModelContext {
                    asked: Some(Context::Tokens(tokens)),
                    tokens: Some(tokens),
                    new: Some(ContextRecord {
                        engine: model.place.clone(),
                        model: model.id.clone(),
                        context: tokens,
                        prompt_bytes: longest,
                        answer_tokens: answer,
                    }),
                };
            }
        };
        ModelContext {
            asked: Some(asked),
            tokens: match (asked, model.most_context) {
                (Context::Tokens(tokens), _) => Some(tokens),
                (Context::Percent(percent), Some(most)) => {
                    u32::try_from(u64::from(most) * u64::from(percent) / 100).ok()
                }
                (Context::Percent(_), None) => None,
            },
            new: None,
        }
    };
    stuff.models.iter().enumerate().map(of_model).collect()
}

/// Failures of the folder that its last plan does not have any more: another plan
/// or part ran there, too.
pub(super) fn unreached(jobs: &[Job], past: &Past, manner: &Manner, messages: Messages) {
    if !manner.only_own_plan {
        return;
    }
    let is_failed = |known: &batch::Known| known.state == batch::State::Failed;
    let names: BTreeSet<&str> = jobs.iter().map(|it| it.name.as_str()).collect();
    let failed = past.jobs.iter().filter(|(_, known)| is_failed(known));
    let others: Vec<&str> = failed
        .map(|(name, _)| name.as_str())
        .filter(|name| !names.contains(name))
        .collect();
    if let Some(first) = others.first() {
        messages.warning(&format!(
            "{} that failed here are of another plan or part, and are not run again: {first}{}; \
             its own command runs them",
            count(others.len(), "job"),
            if others.len() > 1 { ", …" } else { "" }
        ));
    }
}

/// What is left alone, and why.
pub(super) fn tell_skipped(jobs: &[Job], messages: Messages) {
    let names = |is: fn(&Decision) -> bool| {
        let names = jobs
            .iter()
            .filter(|it| is(&it.decision))
            .map(|it| it.name.as_str());
        names.collect::<Vec<_>>()
    };
    let tell = |names: &[&str], one: &str| {
        if let Some(first) = names.first() {
            let others = match names.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            messages.warning(&format!("{first}{others}: {one}"));
        }
    };
    tell(
        &names(|it| matches!(it, Decision::KeepChanged)),
        "prompt, pack, setting or input is another now than when it was made; it stays \
         (--changed rerun runs it again)",
    );
    tell(
        &names(|it| matches!(it, Decision::KeepAltered)),
        "somebody changed the file; it stays (--changed rerun runs it again and keeps the old one \
         beside it)",
    );
    tell(
        &names(|it| matches!(it, Decision::Foreign)),
        "a file of this name is there that no run wrote; it is left as it is, and its job not run",
    );
}

/// Answers that were complete when a run was killed: their results get their
/// names, if they have not got them, and count.
pub(super) fn adopt(
    jobs: &mut [Job],
    stuff: &Stuff,
    past: &Past,
    out: &Path,
    journal: &mut Journal,
) -> Result<usize, Failure> {
    let mut adopted = Vec::new();
    for job in jobs {
        let Decision::Adopt(kept, file) = &job.decision else {
            continue;
        };
        let target = out.join(&job.name);
        // The result or failure before this one may not have been replaced yet.
        let known = past.jobs.get(&job.name);
        if settle(kept, known, &target, &out.join(file)) {
            ResultFile::tidy(&target);
            adopted.push(Record::Done(Box::new(Done {
                job: job.name.clone(),
                identity: kept.identity.clone(),
                key: job.key.clone(),
                length: kept.length,
                sha256: kept.sha256.clone(),
                at: Timestamp::now(),
                of: stuff.of(job.cell),
                prompt_bytes: job.prompt_bytes,
                need: job.need.context,
                adopted: true,
                ..Done::default()
            })));
            job.decision = Decision::Skip;
        } else {
            job.decision = Decision::Run {
                why: batch::Reason::Unfinished,
                ours: !target.exists(),
            };
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

/// Whether the whole answer is there, under its own name in the end.
fn settle(kept: &Kept, known: Option<&batch::Known>, target: &Path, staged: &Path) -> bool {
    let is = |path: &Path, kept: &Kept| {
        fs::read(path).is_ok_and(|it| batch::file_digest(&it) == kept.sha256)
    };
    let is_whole = |path: &Path| is(path, kept);
    let to_disk = |path: &Path| {
        let synced = fs::File::open(path).and_then(|it| it.sync_all());
        let folder = path.parent().map(fs::File::open);
        if let Some(Ok(folder)) = folder {
            // Not every system can say so of a folder.
            let _unsupported = folder.sync_all();
        }
        synced.is_ok()
    };
    if is_whole(target) {
        return to_disk(target);
    }
    // Something else in its place is somebody's.
    let is_free = fs::symlink_metadata(target).map_or(true, |there| {
        known.is_some_and(|it| {
            it.inline.contains(&there.len()) || it.kept.as_ref().is_some_and(|it| is(target, it))
        })
    });
    is_free && is_whole(staged) && fs::rename(staged, target).is_ok() && to_disk(target)
}

/// Models that a killed run of this folder left loaded, and that have nothing
/// more to do here.
pub(super) async fn leftovers(
    stuff: &Stuff,
    jobs: &[Job],
    past: &Past,
    loading: &Loading,
    env: &Env,
    journal: &mut Journal,
    messages: Messages,
) {
    for (index, model) in stuff.models.iter().enumerate() {
        let of = (model.place.clone(), model.id.clone());
        let has_jobs = jobs.iter().any(|it| it.cell.model == index && it.runs());
        if has_jobs || !past.loaded.contains_key(&of) {
            continue;
        }
        let ours = model.instances.iter().filter(|it| it.is_ours);
        let ours: Vec<(String, engine::Offered)> =
            ours.map(|it| (model.id.clone(), it.clone())).collect();
        if let (Some(endpoint), false) = (&model.endpoint, ours.is_empty()) {
            let state: PathBuf = resolve_args::claims(env);
            let lms = resolve_args::lms(env);
            let lms = lms.as_deref();
            let unloaded = engine::unload(endpoint, &ours, false, &state, lms, loading.reach).await;
            if let Err(error) = unloaded {
                messages.warning(&format!(
                    "`{}` may stay loaded from a run that was killed: {}",
                    model.label,
                    crate::error::chain(&error)
                ));
                continue;
            }
            messages.status(&format!(
                "unloaded `{}`, which a killed run had left",
                model.label
            ));
        }
        let item = LogItem {
            engine: model.place.clone(),
            model: model.id.clone(),
            ..LogItem::default()
        };
        // The next run would only look again.
        let _unwritable = journal.append(&Record::Unloaded(item));
    }
}
