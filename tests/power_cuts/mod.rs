//! Power cuts: after a loss of changes that were not flushed, results and the registry are
//! whole, old or new, and the same command completes a batch.

mod disk;
mod trace;

use std::path::{Path, PathBuf};

use disk::{Files, Recording};
use lmstrix::store::TEMPORARY_PREFIX;

use crate::servers::studio::{Answer, FakeStudio, Model, Setup};
use crate::support::{Machine, Run};

fn studio(models: &[&str], answer: Answer) -> FakeStudio {
    let model = |name: &&str| Model {
        loaded: vec![((*name).to_owned(), 8192)],
        ..Model::llm(name, 8192)
    };
    FakeStudio::start(Setup {
        models: models.iter().map(model).collect(),
        answer,
        ..Setup::default()
    })
}

/// Returns the files below a folder.
fn files(folder: &Path) -> Files {
    let mut files = Files::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return files;
    };
    for entry in entries {
        let path = entry.unwrap().path().canonicalize().unwrap();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

/// Makes a folder have these files.
fn restore(folder: &Path, files: &Files) {
    drop(std::fs::remove_dir_all(folder));
    std::fs::create_dir_all(folder).unwrap();
    for (path, content) in files {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// Runs a command, and calls `check` on the folder in every state of
/// [`Recording::states`], which the folder then has.
fn after_every_cut(machine: &Machine, args: &[&str], folder: &Path, check: impl Fn(&Files)) {
    after_every_cut_with(machine, args, folder, false, check);
}

/// The same; with `is_unflushed`, the contents of the files that exist before the command are
/// not on the disk, as after a kill.
fn after_every_cut_with(
    machine: &Machine,
    args: &[&str],
    folder: &Path,
    is_unflushed: bool,
    check: impl Fn(&Files),
) {
    std::fs::create_dir_all(folder).unwrap();
    let mut before = files(folder);
    let mut events = Vec::new();
    if is_unflushed {
        for (path, content) in &mut before {
            events.push(trace::Event::Write {
                path: path.clone(),
                at: Some(0),
                bytes: std::mem::take(content),
            });
        }
    }
    trace::record(&machine.command(args), folder, &mut events);
    assert!(!events.is_empty(), "{args:?} changed nothing");
    let states = Recording::new(before, events).states();
    println!("{args:?}: {} states", states.len());
    for state in states {
        restore(folder, &state);
        check(&state);
    }
}

/// Shows a state in the message of a failed test.
fn shown(state: &Files) -> String {
    let shown = state.iter().map(|(path, content)| {
        let content = String::from_utf8_lossy(content);
        format!("{}: {content}\n", path.display())
    });
    shown.collect()
}

const INPUTS: [&str; 3] = ["a", "b", "c"];

/// A server, and a batch with three inputs in the folder `out`.
struct Batch {
    machine: Machine,
    studio: FakeStudio,
}

impl Batch {
    fn new(answer: Answer) -> Self {
        let machine = Machine::new();
        for name in INPUTS {
            machine.write(&format!("in/{name}.txt"), format!("text {name}"));
        }
        Self {
            machine,
            studio: studio(&["m"], answer),
        }
    }

    fn out(&self) -> PathBuf {
        self.machine.work().join("out")
    }

    /// Cuts the power of the batch, and runs it again in every state. `check` gets the state,
    /// the second run, and the inputs that it asked the model for.
    fn after_every_cut(
        &self,
        more: &[&str],
        is_unflushed: bool,
        check: impl Fn(&Files, &Run, &[&str]),
    ) {
        let url = self.studio.url();
        let mut args = vec![
            "batch",
            "--engine",
            &url,
            "-m",
            "m",
            "--name",
            "{input}",
            "--inputs",
            "in/*.txt",
            "-o",
            "out",
            "--changed",
            "rerun",
        ];
        args.extend(more);
        after_every_cut_with(&self.machine, &args, &self.out(), is_unflushed, |state| {
            let before = self.studio.requests().len();
            let run = self.machine.run(&args);
            let requests = self.studio.requests();
            let bodies = requests[before..]
                .iter()
                .map(|request| request.body.to_string());
            let bodies: Vec<String> = bodies.collect();
            let is_asked = |name: &&str| {
                let text = format!("text {name}");
                bodies.iter().any(|body| body.contains(&text))
            };
            let asked: Vec<&str> = INPUTS.into_iter().filter(is_asked).collect();
            check(state, &run, &asked);
        });
    }

    /// Cuts the power of a batch that succeeds. The second run completes it: every result is
    /// whole, and a job that the journal had as done is not run again.
    fn is_completed(&self, prompt: &str, more: &[&str]) {
        let args = [&["-P", prompt], more].concat();
        let done_before = INPUTS.map(|name| done_records(&files(&self.out()), name));
        self.after_every_cut(&args, false, |state, run, asked| {
            assert_eq!(run.code, Some(0), "{run:?}\n{}", shown(state));
            assert_complete(&self.out(), prompt, &|| {
                format!("{run:?}\n{}", shown(state))
            });
            for (name, before) in INPUTS.into_iter().zip(done_before) {
                let is_done = done_records(state, name) > before;
                assert!(
                    !is_done || !asked.contains(&name),
                    "{name} is asked again: {run:?}\n{}",
                    shown(state)
                );
            }
        });
    }
}

/// Returns the number of complete records in the journal that say that a job is done.
fn done_records(state: &Files, name: &str) -> usize {
    let journal = state
        .iter()
        .find(|(path, _)| path.ends_with("batch.journal.jsonl"));
    let Some((_, journal)) = journal else {
        return 0;
    };
    let start = format!("{{\"kind\":\"done\",\"job\":\"{name}.txt\"");
    let lines = journal.split_inclusive(|byte| *byte == b'\n');
    lines
        .filter(|line| line.starts_with(start.as_bytes()) && line.ends_with(b"\n"))
        .count()
}

/// Asserts that a folder has the whole answers to a prompt, and no other file but raw answers,
/// and temporary files, which are removed when they are a day old.
fn assert_complete(folder: &Path, prompt: &str, shown: &dyn Fn() -> String) {
    let found = files(folder);
    for name in INPUTS {
        let result = folder.canonicalize().unwrap().join(format!("{name}.txt"));
        assert!(found.contains_key(&result), "{name}: {}", shown());
    }
    for (path, content) in found {
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_known = [".batch.lock", "batch.journal.jsonl"].contains(&name)
            || name.starts_with(TEMPORARY_PREFIX);
        if is_known {
            continue;
        }
        let input = name
            .strip_suffix(".txt.raw.txt")
            .or_else(|| name.strip_suffix(".txt"));
        let sent = input.map(|input| prompt.replace("{{text}}", &format!("text {input}")));
        let content = String::from_utf8(content).unwrap();
        let is_whole = sent.is_some_and(|sent| content.ends_with(&sent));
        assert!(is_whole, "{name}: {content}\n{}", shown());
    }
}

#[test]
#[ignore = "needs strace"]
fn a_batch_is_completed_with_whole_results() {
    let batch = Batch::new(Answer::Echo);
    batch.is_completed("First {{text}}.", &[]);
    // Other answers replace those. They differ from what the model said.
    let processed = ["--post", "replace:from=Echo,to=Reply", "--keep-raw"];
    batch.is_completed("Second {{text}}.", &processed);
    let args = ["batch", "merge", "out", "-o", "all"];
    let all = batch.machine.work().join("all");
    after_every_cut(&batch.machine, &args, &all, |state| {
        let merged = batch.machine.run(&args);
        assert_eq!(merged.code, Some(0), "{merged:?}\n{}", shown(state));
        assert_complete(&all, "Second {{text}}.", &|| {
            format!("{merged:?}\n{}", shown(state))
        });
    });
}

#[test]
#[ignore = "needs strace"]
fn complete_answers_of_a_killed_batch_are_adopted() {
    let batch = Batch::new(Answer::Echo);
    let url = batch.studio.url();
    let (prompt, out) = ("First {{text}}.", batch.out());
    let first = [
        "batch", "--engine", &url, "-m", "m", "--name", "{input}", "--inputs", "in/*.txt", "-o",
        "out", "-P", prompt,
    ];
    batch.machine.run(&first).ok();
    // As a kill leaves it when the answers are complete and do not have their names yet.
    let journal = batch.machine.read("out/batch.journal.jsonl");
    let is_after_kill = |line: &&str| line.contains("\"done\"") || line.contains("\"end\"");
    let until_kill = journal.lines().filter(|line| !is_after_kill(line));
    let until_kill: String = until_kill.map(|line| format!("{line}\n")).collect();
    batch.machine.write("out/batch.journal.jsonl", until_kill);
    for name in INPUTS {
        let result = out.join(format!("{name}.txt"));
        std::fs::rename(&result, out.join(format!("{name}.txt.partial"))).unwrap();
    }
    batch.after_every_cut(&["-P", prompt], true, |state, run, asked| {
        let shown = || format!("{run:?}\n{}", shown(state));
        assert_eq!(run.code, Some(0), "{}", shown());
        assert_complete(&out, prompt, &shown);
        assert!(!run.stderr.contains("no run wrote"), "{}", shown());
        for name in asked {
            assert_eq!(done_records(state, name), 0, "{name}: {}", shown());
        }
        // With all records and texts, every answer is adopted.
        let has_all = |name: &&str| {
            let partial = format!("{name}.txt.partial");
            let found = state.iter().find(|(path, _)| path.ends_with(&partial));
            found.is_some_and(|(_, content)| content.ends_with(b"."))
        };
        let journal = state
            .iter()
            .find(|(path, _)| path.ends_with("batch.journal.jsonl"));
        let answers = journal.map_or(0, |(_, journal)| {
            String::from_utf8_lossy(journal)
                .matches("\"kind\":\"answer\"")
                .count()
        });
        if answers == INPUTS.len() && INPUTS.iter().all(has_all) {
            assert!(asked.is_empty(), "{asked:?}: {}", shown());
        }
    });
}

#[test]
#[ignore = "needs strace"]
fn a_result_that_the_user_changed_survives() {
    let batch = Batch::new(Answer::Echo);
    batch.is_completed("First {{text}}.", &[]);
    batch.machine.write("out/a.txt", "mine");
    batch.after_every_cut(&["-P", "Second {{text}}."], false, |state, run, _| {
        assert_eq!(run.code, Some(0), "{run:?}\n{}", shown(state));
        let found = files(&batch.out());
        let is_kept = found.values().any(|content| content == b"mine");
        assert!(is_kept, "{run:?}\n{}", shown(state));
    });
}

#[test]
#[ignore = "needs strace"]
fn a_failure_in_place_of_a_result_is_never_taken_for_a_file_of_the_user() {
    let batch = Batch::new(Answer::Text(String::new()));
    let args = ["-P", "First {{text}}.", "--errors", "inline"];
    batch.after_every_cut(&args, false, |state, run, asked| {
        assert_eq!(run.code, Some(1), "{run:?}\n{}", shown(state));
        assert_eq!(asked, INPUTS, "{run:?}\n{}", shown(state));
        for name in INPUTS {
            let failure = batch.machine.read(&format!("out/{name}.txt"));
            let reason = "the answer has no text";
            assert!(
                failure.contains(reason),
                "{failure}: {run:?}\n{}",
                shown(state)
            );
        }
    });
}

#[test]
#[ignore = "needs strace"]
fn a_result_of_infer_is_old_or_new() {
    let machine = Machine::new();
    let studio = studio(&["m"], Answer::Echo);
    let url = studio.url();
    let folder = machine.work().join("answers");
    let args = [
        "infer",
        "Say hi",
        "--engine",
        &url,
        "-m",
        "m",
        "-o",
        "answers/a.txt",
    ];
    for old in [None, Some("old")] {
        restore(&folder, &Files::new());
        if let Some(old) = old {
            std::fs::write(folder.join("a.txt"), old).unwrap();
        }
        after_every_cut(&machine, &args, &folder, |state| {
            let found = std::fs::read_to_string(folder.join("a.txt")).ok();
            let is_new = found.as_ref().is_some_and(|text| text.ends_with("Say hi"));
            let is_old = found.as_deref() == old;
            assert!(is_new || is_old, "{found:?}\n{}", shown(state));
        });
    }
}

#[test]
#[ignore = "needs strace"]
fn a_registry_is_old_or_new() {
    let machine = Machine::new();
    let url = {
        let old = studio(&["m"], Answer::Echo);
        machine.run(&["scan", "--engine", &old.url()]).ok();
        machine
            .run(&["infer", "Say hi", "--engine", &old.url(), "-m", "m"])
            .ok();
        old.url()
    };
    let new = studio(&["m", "n"], Answer::Echo);
    let data = machine.home().join("data");
    let args = ["scan", "--engine", &new.url()];
    after_every_cut(&machine, &args, &data, |state| {
        let listed = machine.run(&["list", "--json"]);
        assert_eq!(listed.stderr, "", "{listed:?}\n{}", shown(state));
        let models: Vec<String> = listed.json()["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| format!("{}", model["engine"]))
            .collect();
        let has_old = models.iter().any(|engine| engine.contains(&url));
        let new_models = models
            .iter()
            .filter(|engine| engine.contains(&new.url()))
            .count();
        assert!(
            has_old && [0, 2].contains(&new_models),
            "{models:?}\n{}",
            shown(state)
        );
    });
}
