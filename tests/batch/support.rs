//! Helpers of the batch tests: mock servers, recorded requests and result folders.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Child;

use serde_json::Value;

use crate::servers::studio::{Answer, FakeStudio, Model, Setup};
pub(super) use crate::support::wait_until;
use crate::support::{Machine, Run, finish};

pub(super) const LOAD: &str = "/api/v1/models/load";

pub(super) const UNLOAD: &str = "/api/v1/models/unload";

pub(super) const CHAT: &str = "/v1/chat/completions";

pub(super) fn models(names: &[&str]) -> Vec<Model> {
    names.iter().map(|name| Model::llm(name, 32_768)).collect()
}

/// Returns a server with unloaded models that echo their prompt.
pub(super) fn echo_models(names: &[&str]) -> Setup {
    Setup {
        models: models(names),
        answer: Answer::Echo,
        ..Setup::default()
    }
}

/// Returns the bodies of all requests to a path.
pub(super) fn request_bodies(studio: &FakeStudio, path: &str) -> Vec<Value> {
    let requests = studio.requests().into_iter();
    requests
        .filter(|request| request.path == path)
        .map(|request| request.body)
        .collect()
}

/// Returns the model of each chat request, in order.
pub(super) fn chat_models(studio: &FakeStudio) -> Vec<String> {
    let bodies = request_bodies(studio, CHAT).into_iter();
    bodies
        .filter_map(|body| body["model"].as_str().map(str::to_owned))
        .collect()
}

/// Returns the number of chat requests by model and prompt.
pub(super) fn chat_counts(studio: &FakeStudio) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for body in request_bodies(studio, CHAT) {
        let model = body["model"].as_str().unwrap().to_owned();
        let prompt = body["messages"][0]["content"].as_str().unwrap().to_owned();
        *counts.entry((model, prompt)).or_default() += 1;
    }
    counts
}

/// Returns name and text of each result in a folder, without the program's other files.
pub(super) fn results(folder: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    let other_files = [".partial", ".error.txt", ".finished", ".jsonl", ".lock"];
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| !other_files.iter().any(|suffix| name.ends_with(suffix)))
        .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
        .collect()
}

/// Returns the records of a folder's journal.
pub(super) fn read_journal(machine: &Machine, out: &str) -> Vec<Value> {
    let text = machine.read(&format!("{out}/batch.journal.jsonl"));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns the number of records of a kind.
pub(super) fn count_records(journal: &[Value], kind: &str) -> usize {
    journal
        .iter()
        .filter(|record| record["kind"] == kind)
        .count()
}

/// Returns the arguments of a `batch` run on a server into `out`.
pub(super) fn batch_args<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["batch", "--engine", url, "-o", "out"];
    args.extend(more);
    args
}

pub(super) const TWO_PROMPTS: &str =
    "one = \"First {{text}}.\"\ntwo = \"Second {{text}}, longer.\"\n";

/// A running command whose stderr is read while it runs.
pub(super) struct WatchedRun {
    pub(super) child: Child,
    stderr: std::sync::Arc<std::sync::Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
}

impl WatchedRun {
    pub(super) fn start(machine: &Machine, args: &[&str]) -> Self {
        let mut child = machine.command(args).spawn().unwrap();
        let mut pipe = child.stderr.take().unwrap();
        let stderr = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let reader = std::thread::spawn({
            let stderr = std::sync::Arc::clone(&stderr);
            move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = std::io::Read::read(&mut pipe, &mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..count]);
                    stderr.lock().unwrap().push_str(&text);
                }
            }
        });
        Self {
            child,
            stderr,
            reader,
        }
    }

    pub(super) fn wait_for_stderr(&self, text: &str) {
        wait_until(|| self.stderr.lock().unwrap().contains(text));
    }

    pub(super) fn finish(self) -> Run {
        let mut run = finish(self.child);
        self.reader.join().unwrap();
        run.stderr = self.stderr.lock().unwrap().clone();
        run
    }
}
