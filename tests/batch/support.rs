//! What these tests share: cold models, counts of what was asked, results.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::servers::studio::{Answer, Model, Setup, Studio};
use crate::support::{Machine, Run, finish};

pub(super) const LOAD: &str = "/api/v1/models/load";

pub(super) const UNLOAD: &str = "/api/v1/models/unload";

pub(super) const CHAT: &str = "/v1/chat/completions";

pub(super) fn models(names: &[&str]) -> Vec<Model> {
    names.iter().map(|it| Model::llm(it, 32_768)).collect()
}

/// Cold models that answer with what they were asked.
pub(super) fn cold(names: &[&str]) -> Setup {
    Setup {
        models: models(names),
        answer: Answer::Echo,
        ..Setup::default()
    }
}

pub(super) fn posted(studio: &Studio, path: &str) -> Vec<Value> {
    let asked = studio.requests().into_iter().filter(|it| it.path == path);
    asked.map(|it| it.body).collect()
}

/// The models of all answers that were asked for, in their order.
pub(super) fn asked_models(studio: &Studio) -> Vec<String> {
    let all = posted(studio, CHAT).into_iter();
    all.filter_map(|it| it["model"].as_str().map(str::to_owned))
        .collect()
}

/// How often each prompt was asked of each model.
pub(super) fn asked(studio: &Studio) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for body in posted(studio, CHAT) {
        let model = body["model"].as_str().unwrap().to_owned();
        let prompt = body["messages"][0]["content"].as_str().unwrap().to_owned();
        *counts.entry((model, prompt)).or_default() += 1;
    }
    counts
}

/// The results in a folder: everything that is none of the program's own.
pub(super) fn results(folder: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    let ours = [".partial", ".error.txt", ".finished", ".jsonl", ".lock"];
    entries
        .map(|it| it.unwrap())
        .map(|it| (it.file_name().into_string().unwrap(), it.path()))
        .filter(|(name, _)| !ours.iter().any(|it| name.ends_with(it)))
        .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
        .collect()
}

pub(super) fn journal(machine: &Machine, out: &str) -> Vec<Value> {
    let text = machine.read(&format!("{out}/batch.journal.jsonl"));
    text.lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect()
}

pub(super) fn count(journal: &[Value], kind: &str) -> usize {
    journal.iter().filter(|it| it["kind"] == kind).count()
}

/// `batch` at a server, into `out`.
pub(super) fn batch<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["batch", "--engine", url, "-o", "out"];
    args.extend(more);
    args
}

pub(super) const TWO_PROMPTS: &str =
    "one = \"First {{text}}.\"\ntwo = \"Second {{text}}, longer.\"\n";

/// A run whose stderr is watched.
pub(super) struct Watched {
    pub(super) child: Child,
    said: std::sync::Arc<std::sync::Mutex<String>>,
    reading: std::thread::JoinHandle<()>,
}

impl Watched {
    pub(super) fn start(machine: &Machine, args: &[&str]) -> Self {
        let mut child = machine.command(args).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let said = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let heard = std::sync::Arc::clone(&said);
        let reading = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = std::io::Read::read(&mut stderr, &mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                heard.lock().unwrap().push_str(&text);
            }
        });
        Self {
            child,
            said,
            reading,
        }
    }

    pub(super) fn wait_until_said(&self, text: &str) {
        wait_for(|| self.said.lock().unwrap().contains(text));
    }

    pub(super) fn finish(self) -> Run {
        let mut run = finish(self.child);
        self.reading.join().unwrap();
        run.stderr = self.said.lock().unwrap().clone();
        run
    }
}

pub(super) fn wait_for(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}
