//! `batch merge`: the folders of several machines become one. Nothing is dropped:
//! of two results for one job that differ, both stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::args::Merge;
use crate::batch::{self, Done, Failed, Journal, Lock, Record, Run, file_digest};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::sink::Messages;

/// Everything of one folder that counts.
#[derive(Default)]
struct Folder {
    name: Option<String>,
    run: Option<Box<Run>>,
    done: BTreeMap<String, Box<Done>>,
    failed: BTreeMap<String, Box<Failed>>,
}

pub(super) fn merge(args: &Merge, env: &Env) -> Result<Exit, Failure> {
    let common = &args.common;
    let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
    let out = &args.output;
    let broken = |e: std::io::Error| Failure::new(Exit::Broken, e.to_string());
    let mut folders: Vec<(PathBuf, Folder)> = Vec::new();
    for dir in &args.dirs {
        folders.push((dir.clone(), look(dir)?));
    }
    let names: Vec<&String> = folders.iter().filter_map(|it| it.1.name.as_ref()).collect();
    if let (Some(first), Some(other)) = (names.first(), names.iter().find(|it| **it != names[0])) {
        return Err(Failure::usage(format!(
            "the folders make names in different ways: `{first}` and `{other}`"
        ))
        .hint("they are not parts of one plan"));
    }
    // The lock keeps a run out while files come.
    let _lock = Lock::take(out)?;
    let target = batch::read(out)?;
    let mut known: BTreeMap<String, String> = target
        .jobs
        .iter()
        .filter_map(|(name, it)| Some((name.clone(), it.kept.as_ref()?.sha256.clone())))
        .collect();
    let mut journal = Journal::open(out)?;
    if target.head.is_none() {
        let name = names.first().map_or("{prompt}--{model}", |it| it.as_str());
        journal.begin(name, jiff::Timestamp::now())?;
    }
    let mut conflicts = Vec::new();
    let mut problems = Vec::new();
    let mut taken = 0;
    let mut jobs: BTreeMap<String, usize> = BTreeMap::new();
    let mut last_run: Option<Box<Run>> = None;
    let mut failures: BTreeMap<String, Box<Failed>> = BTreeMap::new();
    for (dir, folder) in folders {
        if let Some(run) = folder.run {
            for (model, count) in &run.jobs {
                *jobs.entry(model.clone()).or_default() += count;
            }
            last_run = Some(run);
        }
        failures.extend(folder.failed);
        for (name, done) in folder.done {
            let from = dir.join(&name);
            let bytes = match fs::read(&from) {
                Ok(bytes) => bytes,
                Err(e) => {
                    problems.push(e.to_string());
                    continue;
                }
            };
            if file_digest(&bytes) != done.sha256 {
                problems.push(format!("{} is not as its run wrote it", from.display()));
            }
            let to = out.join(&name);
            match known.get(&name) {
                Some(digest) if *digest == done.sha256 => continue,
                None if !to.exists() => {
                    put(&to, &bytes).map_err(broken)?;
                    beside(&dir, out, &name).map_err(broken)?;
                    known.insert(name, done.sha256.clone());
                    journal.append(&Record::Done(done))?;
                    taken += 1;
                }
                // What came first keeps the name.
                _ => {
                    let aside = free(&to);
                    put(&aside, &bytes).map_err(broken)?;
                    conflicts.push(format!("{} ({})", aside.display(), from.display()));
                }
            }
        }
    }
    for (name, failed) in failures {
        if !known.contains_key(&name) {
            journal.append(&Record::Failed(failed))?;
        }
    }
    if let Some(mut run) = last_run {
        run.shard = None;
        run.jobs = jobs;
        journal.append(&Record::Run(run))?;
    }
    journal.sync()?;
    messages.status(&format!("{taken} results are now in {}", out.display()));
    for problem in &problems {
        messages.warning(problem);
    }
    if conflicts.is_empty() && problems.is_empty() {
        return Ok(Exit::Done);
    }
    let mut text = Vec::new();
    if !conflicts.is_empty() {
        text.push(format!(
            "{} jobs have different results; the first kept its name, the others are: {}",
            conflicts.len(),
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
    batch::visit(dir, |record| match record {
        Record::Head(it) => folder.name = folder.name.take().or(Some(it.name)),
        Record::Run(it) => folder.run = Some(it),
        Record::Done(it) => {
            folder.failed.remove(&it.job);
            folder.done.insert(it.job.clone(), it);
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
fn beside(dir: &Path, out: &Path, name: &str) -> std::io::Result<()> {
    for suffix in [".raw.txt", ".reasoning.txt"] {
        let name = format!("{name}{suffix}");
        if dir.join(&name).is_file() && !out.join(&name).exists() {
            fs::copy(dir.join(&name), out.join(&name))?;
        }
    }
    Ok(())
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

fn free(path: &Path) -> PathBuf {
    let mut number = 2;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".conflict-{number}"));
        let free = PathBuf::from(name);
        if !free.exists() {
            return free;
        }
        number += 1;
    }
}
