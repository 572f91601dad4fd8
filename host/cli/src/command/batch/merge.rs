//! `batch merge`: makes one folder of the folders of several machines. Nothing is
//! dropped: two different results of one job are both kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err as fs;
use lmstrix::batch::{
    self, DoneRecord, FailedRecord, FolderHistory, FolderLock, Journal, Record, RunRecord,
    has_digest,
};
use lmstrix::quantity::count;
use lmstrix::store::{AtomicFile, Sweep, TEMPORARY_PREFIX, read_plain, sha256_hex};

use crate::args::MergeArgs;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// The records of one folder.
#[derive(Default)]
struct Folder {
    /// The name template.
    template: Option<String>,
    /// The last run.
    run: Option<Box<RunRecord>>,
    done: BTreeMap<String, Box<DoneRecord>>,
    failed: BTreeMap<String, Box<FailedRecord>>,
}

/// Runs `batch merge`.
///
/// # Errors
/// Returns an error if the folders do not belong together, if a file cannot be written,
/// or if results conflict or were changed.
pub(super) fn merge(args: &MergeArgs, env: &Env) -> Result<Exit, Failure> {
    let common = &args.common;
    let messages = Messages::new(common.quiet, env.stderr_is_terminal, env.colour);
    let out = &args.output;
    let mut folders: Vec<(PathBuf, Folder)> = Vec::new();
    for dir in &args.dirs {
        // The target keeps what it has.
        let is_target = fs::canonicalize(dir).ok() == fs::canonicalize(out).ok();
        if !is_target || !out.exists() {
            folders.push((dir.clone(), read_folder(dir, messages)?));
        }
    }
    let template = common_template(&folders)?;
    // The lock keeps other runs out while files are copied.
    let _lock = FolderLock::acquire(out)?;
    Sweep::of_temporary_files(TEMPORARY_PREFIX).run(out);
    let mut target = Target::open(out, template.as_deref())?;
    for (dir, folder) in folders {
        target.add(&dir, folder)?;
    }
    target.finish(messages)
}

/// Returns the name template of all folders.
fn common_template(folders: &[(PathBuf, Folder)]) -> Result<Option<String>, Failure> {
    let mut templates = folders
        .iter()
        .filter_map(|(_, folder)| folder.template.as_ref());
    let Some(first) = templates.next() else {
        return Ok(None);
    };
    match templates.find(|template| *template != first) {
        None => Ok(Some(first.clone())),
        Some(other) => Err(Failure::usage(format!(
            "the folders name their results in different ways: `{first}` and `{other}`"
        ))
        .hint("merge only parts of one plan")),
    }
}

/// The folder that the others are merged into.
struct Target<'a> {
    out: &'a Path,
    journal: Journal,
    /// Digests of the results, by name.
    results: BTreeMap<String, String>,
    /// Jobs of the plan, by model.
    jobs: BTreeMap<String, usize>,
    /// The parts of the plan that were merged.
    parts: BTreeSet<String>,
    last_run: Option<Box<RunRecord>>,
    failures: BTreeMap<String, (PathBuf, Box<FailedRecord>)>,
    added: usize,
    conflicts: Vec<String>,
    problems: Vec<String>,
}

impl<'a> Target<'a> {
    fn open(out: &'a Path, template: Option<&str>) -> Result<Self, Failure> {
        let history: FolderHistory = batch::read_history(out)?;
        if let (Some(head), Some(template)) = (&history.head, template)
            && head.name != template
        {
            return Err(Failure::usage(format!(
                "{} names its results by `{}`, the other folders by `{template}`",
                out.display(),
                head.name
            )));
        }
        let mut journal = Journal::open(out)?;
        if history.head.is_none() {
            let template = template.unwrap_or("{prompt}--{model}");
            journal.write_head(template, jiff::Timestamp::now())?;
        }
        let results = history
            .jobs
            .into_iter()
            .filter_map(|(name, job)| Some((name, job.kept?.sha256)))
            .collect();
        let run = history.run;
        let parts = run
            .as_ref()
            .and_then(|run| run.shard.as_ref())
            .into_iter()
            .flat_map(|shard| shard.split('+'))
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        Ok(Self {
            out,
            journal,
            results,
            jobs: run.map(|run| run.jobs).unwrap_or_default(),
            parts,
            last_run: None,
            failures: BTreeMap::new(),
            added: 0,
            conflicts: Vec::new(),
            problems: Vec::new(),
        })
    }

    fn add(&mut self, dir: &Path, folder: Folder) -> Result<(), Failure> {
        if let Some(run) = folder.run {
            self.count_jobs(&run);
            self.last_run = Some(run);
        }
        let failed = folder.failed.into_iter();
        self.failures
            .extend(failed.map(|(name, failed)| (name, (dir.to_owned(), failed))));
        for (name, done) in folder.done {
            self.add_result(dir, name, done)?;
        }
        Ok(())
    }

    /// Parts add up, each once; a folder with a whole plan has the jobs of the plan.
    fn count_jobs(&mut self, run: &RunRecord) {
        let is_new_part = run
            .shard
            .as_ref()
            .is_some_and(|part| self.parts.insert(part.clone()));
        for (model, count) in &run.jobs {
            let known = self.jobs.entry(model.clone()).or_default();
            if is_new_part {
                *known += count;
            } else if run.shard.is_none() {
                *known = (*known).max(*count);
            }
        }
    }

    fn add_result(
        &mut self,
        dir: &Path,
        name: String,
        mut done: Box<DoneRecord>,
    ) -> Result<(), Failure> {
        let from = dir.join(&name);
        let bytes = match read_plain(&from) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.problems.push(error.to_string());
                return Ok(());
            }
        };
        let digest = sha256_hex(&bytes);
        if digest != done.sha256 {
            self.problems
                .push(format!("{} was changed after its run", from.display()));
            done.length = bytes.len() as u64;
            done.sha256 = digest;
        }
        let to = self.out.join(&name);
        match self.results.get(&name) {
            Some(digest) if *digest == done.sha256 => {}
            // It may exist already, from a merge that was killed.
            None if !to.exists() || has_digest(&to, &done.sha256) => {
                write_like(&from, &to, &bytes).map_err(broken)?;
                copy_beside(dir, self.out, &name, &[".raw.txt", ".reasoning.txt"])
                    .map_err(broken)?;
                self.results.insert(name, done.sha256.clone());
                self.journal.append(&Record::Done(done))?;
                self.added += 1;
            }
            // The first result keeps the name.
            _ => {
                if let Some(aside) = free_name(&to, &done.sha256) {
                    write_like(&from, &aside, &bytes).map_err(broken)?;
                    self.conflicts
                        .push(format!("{} ({})", aside.display(), from.display()));
                }
            }
        }
        Ok(())
    }

    fn finish(mut self, messages: Messages) -> Result<Exit, Failure> {
        for (name, (dir, failed)) in std::mem::take(&mut self.failures) {
            if !self.results.contains_key(&name) {
                copy_beside(&dir, self.out, &name, &[".error.txt", ".partial"]).map_err(broken)?;
                self.journal.append(&Record::Failed(failed))?;
            }
        }
        if let Some(mut run) = self.last_run {
            let parts: Vec<String> = self.parts.into_iter().collect();
            run.shard = (!parts.is_empty()).then(|| format!("{}+", parts.join("+")));
            run.jobs = self.jobs;
            self.journal.append(&Record::Run(run))?;
        }
        self.journal.sync()?;
        messages.status(&format!(
            "{} in {}, {} of them new",
            count(self.results.len(), "result"),
            self.out.display(),
            self.added
        ));
        for problem in &self.problems {
            messages.warning(problem);
        }
        let mut text = Vec::new();
        if !self.conflicts.is_empty() {
            text.push(format!(
                "{} with different results; the first kept its name, the others are: {}",
                count(self.conflicts.len(), "job"),
                self.conflicts.join(", ")
            ));
        }
        if !self.problems.is_empty() {
            text.push(format!(
                "{} missing or changed",
                count(self.problems.len(), "result")
            ));
        }
        if text.is_empty() {
            return Ok(Exit::Done);
        }
        Err(Failure::new(Exit::Broken, text.join("; ")))
    }
}

fn broken(error: std::io::Error) -> Failure {
    Failure::new(Exit::Broken, error.to_string())
}

fn read_folder(dir: &Path, messages: Messages) -> Result<Folder, Failure> {
    let mut folder = Folder::default();
    let skipped = batch::visit_records(dir, |record| match record {
        Record::Head(head) => folder.template = folder.template.take().or(Some(head.name)),
        Record::Run(run) => folder.run = Some(run),
        Record::Done(done) => {
            folder.failed.remove(&done.job);
            folder.done.insert(done.job.clone(), done);
        }
        // The text of the failure replaced the result.
        Record::Failed(failed) if failed.inline.is_some() => {
            folder.done.remove(&failed.job);
            folder.failed.insert(failed.job.clone(), failed);
        }
        // An earlier result of the job is still its result.
        Record::Failed(failed) if !folder.done.contains_key(&failed.job) => {
            folder.failed.insert(failed.job.clone(), failed);
        }
        _ => {}
    })?;
    if let Some(warning) = skipped.warning(dir) {
        messages.warning(&warning);
    }
    Ok(folder)
}

/// Copies the files beside a result, unless they exist.
fn copy_beside(dir: &Path, out: &Path, name: &str, suffixes: &[&str]) -> std::io::Result<()> {
    for suffix in suffixes {
        let name = format!("{name}{suffix}");
        let is_free = fs::symlink_metadata(out.join(&name)).is_err();
        let from = dir.join(&name);
        if is_free && let Ok(content) = read_plain(&from) {
            write_like(&from, &out.join(&name), &content)?;
        }
    }
    Ok(())
}

/// Writes a file that is complete or absent, with the permissions of another one.
fn write_like(from: &Path, to: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let permissions = fs::metadata(from)?.permissions();
    let mut file = AtomicFile::with_permissions(to, Some(permissions))?;
    file.write_all(bytes)?;
    file.commit()
}

/// Returns a free name beside a result; `None` if this very result was kept before.
fn free_name(path: &Path, sha256: &str) -> Option<PathBuf> {
    let mut number = 2;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".conflict-{number}"));
        let free = PathBuf::from(name);
        if !free.exists() {
            return Some(free);
        }
        if has_digest(&free, sha256) {
            return None;
        }
        number += 1;
    }
}
