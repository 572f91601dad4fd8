//! `batch merge`: the folders of several machines become one. Nothing is dropped:
//! of two results for one job that differ, both stay.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::super::models::format_count;
use crate::args::MergeArgs;
use crate::batch::{
    self, DoneRecord, FailedRecord, FolderLock, Journal, Record, RunRecord, sha256_hex,
};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::sink::Messages;

/// Everything of one folder that counts.
#[derive(Default)]
struct Folder {
    name: Option<String>,
    run: Option<Box<RunRecord>>,
    done: BTreeMap<String, Box<DoneRecord>>,
    failed: BTreeMap<String, Box<FailedRecord>>,
}

pub(super) fn merge(args: &MergeArgs, env: &Env) -> Result<Exit, Failure> {
    let common = &args.common;
    let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
    let out = &args.output;
    let broken = |e: std::io::Error| Failure::new(Exit::Broken, e.to_string());
    let mut folders: Vec<(PathBuf, Folder)> = Vec::new();
    for dir in &args.dirs {
        // What is in the target stays there.
        let is_target = fs::canonicalize(dir).ok() == fs::canonicalize(out).ok();
        if !is_target || !out.exists() {
            folders.push((dir.clone(), look(dir)?));
        }
    }
    let names: Vec<&String> = folders.iter().filter_map(|it| it.1.name.as_ref()).collect();
    if let (Some(first), Some(other)) = (names.first(), names.iter().find(|it| **it != names[0])) {
        return Err(Failure::usage(format!(
            "the folders make names in different ways: `{first}` and `{other}`"
        ))
        .hint("they are not parts of one plan"));
    }
    // The lock keeps a run out while files come.
    let _lock = FolderLock::acquire(out)?;
    let target = batch::read_history(out)?;
    if let (Some(head), Some(name)) = (&target.head, names.first())
        && head.name != **name
    {
        return Err(Failure::usage(format!(
            "the names in {} are made by `{}`, and those that would come by `{name}`",
            out.display(),
            head.name
        )));
    }
    let mut known: BTreeMap<String, String> = target
        .jobs
        .iter()
        .filter_map(|(name, it)| Some((name.clone(), it.kept.as_ref()?.sha256.clone())))
        .collect();
    let mut journal = Journal::open(out)?;
    if target.head.is_none() {
        let name = names.first().map_or("{prompt}--{model}", |it| it.as_str());
        journal.write_head(name, jiff::Timestamp::now())?;
    }
    let mut conflicts = Vec::new();
    let mut problems = Vec::new();
    let mut taken = 0;
    let before = target.run.as_ref();
    let mut jobs: BTreeMap<String, usize> = before.map(|it| it.jobs.clone()).unwrap_or_default();
    let mut parts: BTreeSet<String> = before
        .and_then(|it| it.shard.as_ref())
        .into_iter()
        .flat_map(|it| it.split('+'))
        .filter(|it| !it.is_empty())
        .map(str::to_owned)
        .collect();
    let mut last_run: Option<Box<RunRecord>> = None;
    let mut failures: BTreeMap<String, (PathBuf, Box<FailedRecord>)> = BTreeMap::new();
    for (dir, folder) in folders {
        if let Some(run) = folder.run {
            // NameParts add up, each once; a folder with a whole plan is as large as
            // the plan.
            let is_new_part = run
                .shard
                .as_ref()
                .is_some_and(|it| parts.insert(it.clone()));
            for (model, count) in &run.jobs {
                let known = jobs.entry(model.clone()).or_default();
                if is_new_part {
                    *known += count;
                } else if run.shard.is_none() {
                    *known = (*known).max(*count);
                }
            }
            last_run = Some(run);
        }
        let failed = folder.failed.into_iter();
        failures.extend(failed.map(|(name, it)| (name, (dir.clone(), it))));
        for (name, mut done) in folder.done {
            let from = dir.join(&name);
            let bytes = match fs::read(&from) {
                Ok(bytes) => bytes,
                Err(e) => {
                    problems.push(e.to_string());
                    continue;
                }
            };
            let digest = sha256_hex(&bytes);
            if digest != done.sha256 {
                problems.push(format!("{} is not as its run wrote it", from.display()));
                done.length = bytes.len() as u64;
                done.sha256 = digest;
            }
            let to = out.join(&name);
            match known.get(&name) {
                Some(digest) if *digest == done.sha256 => continue,
                // It may be there already, from a merge that was killed.
                None if !to.exists() || is(&to, &done.sha256) => {
                    put(&to, &bytes).map_err(broken)?;
                    beside(&dir, out, &name, &[".raw.txt", ".reasoning.txt"]).map_err(broken)?;
                    known.insert(name, done.sha256.clone());
                    journal.append(&Record::Done(done))?;
                    taken += 1;
                }
                // What came first keeps the name.
                _ => {
                    let Some(aside) = free(&to, &done.sha256) else {
                        continue;
                    };
                    put(&aside, &bytes).map_err(broken)?;
                    conflicts.push(format!("{} ({})", aside.display(), from.display()));
                }
            }
        }
    }
    for (name, (dir, failed)) in failures {
        if !known.contains_key(&name) {
            beside(&dir, out, &name, &[".error.txt", ".partial"]).map_err(broken)?;
            journal.append(&Record::Failed(failed))?;
        }
    }
    if let Some(mut run) = last_run {
        let names: Vec<String> = parts.into_iter().collect();
        run.shard = (!names.is_empty()).then(|| format!("{}+", names.join("+")));
        run.jobs = jobs;
        journal.append(&Record::Run(run))?;
    }
    journal.sync()?;
    messages.status(&format!(
        "{} in {}, {taken} of them new",
        format_count(known.len(), "result"),
        out.display()
    ));
    for problem in &problems {
        messages.warning(problem);
    }
    if conflicts.is_empty() && problems.is_empty() {
        return Ok(Exit::Done);
    }
    let mut text = Vec::new();
    if !conflicts.is_empty() {
        text.push(format!(
            "{} with different results; the first kept its name, the others are: {}",
            format_count(conflicts.len(), "job"),
            conflicts.join(", ")
        ));
    }
    if !problems.is_empty() {
        text.push(format!(
            "{} results were not as they should be",
            problems.len()
        ));
    }
    Err(Failure::new(Exit::Broken, text.join("; ")))
}

fn look(dir: &Path) -> Result<Folder, Failure> {
    let mut folder = Folder::default();
    batch::visit_records(dir, |record| match record {
        Record::Head(it) => folder.name = folder.name.take().or(Some(it.name)),
        Record::Run(it) => folder.run = Some(it),
        Record::Done(it) => {
            folder.failed.remove(&it.job);
            folder.done.insert(it.job.clone(), it);
        }
        // The text of an error stands in its place now.
        Record::Failed(it) if it.inline.is_some() => {
            folder.done.remove(&it.job);
            folder.failed.insert(it.job.clone(), it);
        }
        // An earlier result of the job stays a result.
        Record::Failed(it) if !folder.done.contains_key(&it.job) => {
            folder.failed.insert(it.job.clone(), it);
        }
        _ => {}
    })?;
    Ok(folder)
}

/// What lies beside a result comes along.
fn beside(dir: &Path, out: &Path, name: &str, suffixes: &[&str]) -> std::io::Result<()> {
    for suffix in suffixes {
        let name = format!("{name}{suffix}");
        if dir.join(&name).is_file() && !out.join(&name).exists() {
            fs::copy(dir.join(&name), out.join(&name))?;
        }
    }
    Ok(())
}

fn is(path: &Path, sha256: &str) -> bool {
    fs::read(path).is_ok_and(|it| sha256_hex(&it) == sha256)
}

/// Complete or absent, and on the disk before the journal says so.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut name = path.as_os_str().to_owned();
    name.push(".finished");
    let temporary = PathBuf::from(name);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// A name that is free; `None` when this very result lies there from before.
fn free(path: &Path, sha256: &str) -> Option<PathBuf> {
    let mut number = 2;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".conflict-{number}"));
        let free = PathBuf::from(name);
        if !free.exists() {
            return Some(free);
        }
        if is(&free, sha256) {
            return None;
        }
        number += 1;
    }
}
