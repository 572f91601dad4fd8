//! Folders from elsewhere: journals that name other files, and links, pipes and folders in
//! place of the files beside a result.

use std::path::Path;

use serde_json::{Value, json};

use super::support::*;
use crate::servers::studio::FakeStudio;
use crate::support::Machine;

/// Runs a batch with one job `q--a.txt` for each input, and returns the server.
fn finished_batch(machine: &Machine) -> FakeStudio {
    let studio = FakeStudio::start(echo_models(&["a"]));
    machine.write("p.toml", "q = \"Say {{text}}\"\n");
    machine.run(&batch(&studio.url(), &[])).ok();
    studio
}

fn batch<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = batch_args(
        url,
        &["--prompts", "p.toml", "-P", "q", "--text", "x", "-m", "a"],
    );
    args.extend(more);
    args
}

/// Changes the records of a journal.
fn change_journal(folder: &Path, change: impl Fn(&mut Value)) {
    let path = folder.join("batch.journal.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            change(&mut record);
            record.to_string() + "\n"
        })
        .collect();
    std::fs::write(path, lines.concat()).unwrap();
}

#[test]
fn names_in_a_journal_are_names_in_its_folder() {
    let machine = Machine::new();
    let _studio = finished_batch(&machine);
    let outside = machine.write("victim.txt", "mine");
    std::fs::rename(machine.work().join("out"), machine.work().join("good")).unwrap();
    for name in [
        "../victim.txt",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "batch.journal.jsonl",
        ".batch.lock",
        outside.to_str().unwrap(),
    ] {
        let part = machine.work().join("part");
        drop(std::fs::remove_dir_all(&part));
        drop(std::fs::remove_dir_all(machine.work().join("all")));
        std::fs::create_dir(&part).unwrap();
        for file in ["batch.journal.jsonl", "q--a.txt"] {
            let from = machine.work().join("good").join(file);
            std::fs::copy(from, part.join(file)).unwrap();
        }
        change_journal(&part, |record| {
            if record.get("job").is_some() {
                record["job"] = json!(name);
            }
        });
        let merged = machine.run(&["batch", "merge", "part", "-o", "all"]);
        let exported = machine.run(&["batch", "export", "part", "--as", "jsonl"]);
        let status = machine.run(&["batch", "status", "part"]);
        assert_eq!(exported.text(), "", "{name}: {exported:?}");
        for run in [merged, exported, status] {
            assert!(run.stderr.contains("line "), "{name}: {run:?}");
            assert!(
                run.stderr
                    .contains("is not the name of a result in the folder"),
                "{name}: {run:?}"
            );
        }
        assert_eq!(machine.read("victim.txt"), "mine", "{name}");
        let mut names: Vec<String> = std::fs::read_dir(machine.work().join("all"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [".batch.lock", "batch.journal.jsonl"], "{name}");
    }
}

#[test]
fn the_temporary_name_of_an_answer_does_not_move_another_file() {
    let machine = Machine::new();
    let studio = finished_batch(&machine);
    let out = machine.work().join("out");
    let result = std::fs::read_to_string(out.join("q--a.txt")).unwrap();
    let victim = machine.write("victim.txt", &result);
    // Killed after the answer was complete, and before the result got its name.
    std::fs::remove_file(out.join("q--a.txt")).unwrap();
    let journal = machine.read("out/batch.journal.jsonl");
    let until_answer: String = journal
        .split_inclusive('\n')
        .filter(|line| !line.contains("\"kind\":\"done\"") && !line.contains("\"kind\":\"end\""))
        .collect();
    for file in ["../victim.txt", victim.to_str().unwrap()] {
        std::fs::write(out.join("batch.journal.jsonl"), &until_answer).unwrap();
        change_journal(&out, |record| {
            if record["kind"] == "answer" {
                record["file"] = json!(file);
            }
        });
        machine.run(&batch(&studio.url(), &[])).ok();
        assert_eq!(machine.read("victim.txt"), result, "{file}");
        std::fs::remove_file(out.join("q--a.txt")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn links_beside_a_result_are_not_followed() {
    use std::os::unix::fs::symlink;

    for name in [
        "q--a.txt.partial",
        "q--a.txt.finished",
        "q--a.txt.raw.txt",
        "q--a.txt.error.txt",
        "batch.journal.jsonl",
        ".batch.lock",
    ] {
        for is_dangling in [false, true] {
            let machine = Machine::new();
            let studio = FakeStudio::start(echo_models(&["a"]));
            machine.write(
                "p.toml",
                "[q]\nprompt = \"Say {{text}}\"\npost = [\"replace:from=Echo,to=Said\"]\n",
            );
            let victim = machine.work().join("victim");
            if !is_dangling {
                std::fs::write(&victim, "mine").unwrap();
            }
            let out = machine.work().join("out");
            std::fs::create_dir(&out).unwrap();
            symlink(&victim, out.join(name)).unwrap();
            let fails = name.contains(".error.");
            let more: &[&str] = match fails {
                true => &["--strict", "--max-tokens", "1"],
                false => &["--keep-raw"],
            };
            let run = machine.run(&batch(&studio.url(), more));
            if !fails {
                assert_ne!(run.code, Some(0), "{name}: {run:?}");
                assert!(run.stderr.contains("is a link"), "{name}: {run:?}");
            }
            let content = std::fs::read_to_string(&victim).unwrap_or_default();
            let expected = if is_dangling { "" } else { "mine" };
            assert_eq!(content, expected, "{name}");
            assert_eq!(victim.exists(), !is_dangling, "{name}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_result_that_is_a_link_is_neither_exported_nor_merged() {
    let machine = Machine::new();
    let _studio = finished_batch(&machine);
    let secret = machine.write("secret.txt", "key");
    let result = machine.work().join("out/q--a.txt");
    std::fs::remove_file(&result).unwrap();
    std::os::unix::fs::symlink(&secret, &result).unwrap();
    let export = machine.run(&["batch", "export", "out"]);
    assert!(!export.text().contains("key"), "{export:?}");
    assert!(export.stderr.contains("is a link"), "{export:?}");
    let merge = machine.run(&["batch", "merge", "out", "-o", "all"]);
    assert_eq!(merge.code, Some(1), "{merge:?}");
    assert!(!machine.work().join("all/q--a.txt").exists());
}

#[test]
fn a_file_that_cannot_be_written_costs_its_job_before_the_model_is_asked() {
    for name in [
        "q--one.txt.partial",
        "q--one.txt.raw.txt",
        "q--one.txt.error.txt",
        "q--one.txt.finished",
    ] {
        let machine = Machine::new();
        let studio = FakeStudio::start(echo_models(&["a"]));
        machine.write(
            "p.toml",
            "[q]\nprompt = \"Say {{text}}\"\npost = [\"replace:from=Echo,to=Said\"]\n",
        );
        for input in ["one", "two", "three"] {
            machine.write(&format!("{input}.md"), input);
        }
        std::fs::create_dir_all(machine.work().join("out").join(name)).unwrap();
        let url = studio.url();
        let mut args = batch_args(
            &url,
            &[
                "--prompts",
                "p.toml",
                "-P",
                "q",
                "-m",
                "a",
                "--keep-raw",
                "--name",
                "{prompt}--{input}",
            ],
        );
        args.extend(["--text-file", "one.md", "two.md", "three.md"]);
        for _ in 0..2 {
            let run = machine.run(&args);
            let is_error_file = name.contains(".error.");
            assert_eq!(run.code, Some(i32::from(!is_error_file)), "{name}: {run:?}");
            for other in ["two", "three"] {
                let text = machine.read(&format!("out/q--{other}.txt"));
                assert!(text.contains(other), "{name}: {text}");
            }
            if !is_error_file {
                assert!(run.stderr.contains(name), "{run:?}");
                assert!(
                    run.stderr.contains("1 of 3 jobs failed") || run.stderr.contains("1 of 1"),
                    "{run:?}"
                );
            }
        }
        if name.ends_with(".partial") {
            let asked = request_bodies(&studio, CHAT);
            assert!(
                !asked
                    .iter()
                    .any(|body| body.to_string().contains("Say one"))
            );
        }
    }
}
