//! Power cuts: after every loss of changes that were not synced, results and the registry are
//! whole, old or new, and the same command completes a batch.

mod disk;
mod trace;

use std::path::Path;

use disk::{Files, Recording};

use crate::servers::studio::{Answer, FakeStudio, Model, Setup};
use crate::support::Machine;

fn studio(models: &[&str]) -> FakeStudio {
    let model = |name: &&str| Model {
        loaded: vec![((*name).to_owned(), 8192)],
        ..Model::llm(name, 8192)
    };
    FakeStudio::start(Setup {
        models: models.iter().map(model).collect(),
        answer: Answer::Echo,
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

/// Runs a command, and calls `check` on the folder in every state that a power cut could have
/// left.
fn after_every_cut(machine: &Machine, args: &[&str], folder: &Path, check: impl Fn(&str)) {
    std::fs::create_dir_all(folder).unwrap();
    let before = files(folder);
    let events = trace::record(&machine.command(args), folder);
    let states = Recording::new(before, events).states();
    assert!(states.len() > 3, "{args:?} changed nothing");
    println!("{args:?}: {} states", states.len());
    for state in states {
        restore(folder, &state);
        let shown = |content: &[u8]| String::from_utf8_lossy(content).into_owned();
        let shown: Vec<String> = state
            .iter()
            .map(|(path, content)| format!("{}: {}\n", path.display(), shown(content)))
            .collect();
        check(&shown.concat());
    }
}

/// Asserts that a folder has the whole answers to a prompt, and no other file but temporary
/// ones, which are removed when they are a day old.
fn assert_complete(folder: &Path, prompt: &str, shown: &str) {
    let mut names = Vec::new();
    for (path, content) in files(folder) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with(".lmstrix-") {
            continue;
        }
        names.push(name.to_owned());
        if let Some(input) = name.strip_suffix(".txt") {
            let content = String::from_utf8(content).unwrap();
            let sent = prompt.replace("{{text}}", &format!("text {input}"));
            assert!(content.ends_with(&sent), "{name}: {content}\n{shown}");
        }
    }
    let expected = [
        ".batch.lock",
        "a.txt",
        "b.txt",
        "batch.journal.jsonl",
        "c.txt",
    ];
    assert_eq!(names, expected, "{shown}");
}

#[test]
#[ignore = "needs strace"]
fn a_batch_is_completed_with_whole_results() {
    let machine = Machine::new();
    let studio = studio(&["m"]);
    let url = studio.url();
    for name in ["a", "b", "c"] {
        machine.write(&format!("in/{name}.txt"), format!("text {name}"));
    }
    let out = machine.work().join("out");
    let args = |prompt| {
        [
            "batch",
            "--engine",
            &url,
            "-m",
            "m",
            "-P",
            prompt,
            "--name",
            "{input}",
            "--inputs",
            "in/*.txt",
            "-o",
            "out",
            "--changed",
            "rerun",
        ]
    };
    let completes = |prompt| {
        let args = args(prompt);
        after_every_cut(&machine, &args, &out, |state| {
            let resumed = machine.run(&args);
            assert_eq!(resumed.code, Some(0), "{resumed:?}\n{state}");
            assert_complete(&out, prompt, &format!("{resumed:?}\n{state}"));
        });
    };
    completes("First {{text}}.");
    // Other answers replace those.
    completes("Second {{text}}.");
    // As a kill leaves it when the answers are complete and do not have their names yet.
    let journal = machine.read("out/batch.journal.jsonl");
    let is_after_kill = |line: &&str| line.contains("\"done\"") || line.contains("\"end\"");
    let until_kill = journal.lines().filter(|line| !is_after_kill(line));
    let until_kill: String = until_kill.map(|line| format!("{line}\n")).collect();
    machine.write("out/batch.journal.jsonl", until_kill);
    for name in ["a", "b", "c"] {
        let result = out.join(format!("{name}.txt"));
        std::fs::rename(&result, out.join(format!("{name}.txt.partial"))).unwrap();
    }
    completes("Second {{text}}.");
    let args = ["batch", "merge", "out", "-o", "all"];
    let all = machine.work().join("all");
    after_every_cut(&machine, &args, &all, |state| {
        let merged = machine.run(&args);
        assert_eq!(merged.code, Some(0), "{merged:?}\n{state}");
        assert_complete(&all, "Second {{text}}.", &format!("{merged:?}\n{state}"));
    });
}

#[test]
#[ignore = "needs strace"]
fn a_result_of_infer_is_old_or_new() {
    let machine = Machine::new();
    let studio = studio(&["m"]);
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
            assert!(is_new || found.as_deref() == old, "{found:?}\n{state}");
        });
    }
}

#[test]
#[ignore = "needs strace"]
fn a_registry_is_old_or_new() {
    let machine = Machine::new();
    let url = {
        let old = studio(&["m"]);
        machine.run(&["scan", "--engine", &old.url()]).ok();
        machine
            .run(&["infer", "Say hi", "--engine", &old.url(), "-m", "m"])
            .ok();
        old.url()
    };
    let new = studio(&["m", "n"]);
    let data = machine.home().join("data");
    let args = ["scan", "--engine", &new.url()];
    after_every_cut(&machine, &args, &data, |state| {
        let listed = machine.run(&["list", "--json"]);
        assert_eq!(listed.stderr, "", "{listed:?}\n{state}");
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
            "{models:?}\n{state}"
        );
    });
}
