//! Resuming in a folder with earlier runs: changed jobs, retries, shards and merges.

use std::collections::BTreeMap;
use std::time::Duration;

use super::support::*;
use crate::servers::studio::{FakeStudio, Fault, Setup};
use crate::support::{Machine, finish};

#[test]
fn changed_jobs_are_kept_or_rerun() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a"]));
    let url = studio.url();
    machine.write("p.toml", TWO_PROMPTS);
    let args = |more: &[&'static str]| {
        let mut all = batch_args(
            &url,
            &[
                "--prompts",
                "p.toml",
                "-P",
                "one",
                "-P",
                "two",
                "--text",
                "x",
                "-m",
                "a",
            ],
        )
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
        all.extend(more.iter().map(|arg| (*arg).to_owned()));
        all
    };
    let run = |more: &[&'static str]| {
        let args = args(more);
        machine.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    run(&[]).ok();
    let sent = || request_bodies(&studio, CHAT).len();
    assert_eq!(sent(), 2);
    // Another prompt in the file does not change the resolved prompts.
    machine.write("p.toml", format!("{TWO_PROMPTS}three = \"x\"\n"));
    run(&[]).ok();
    assert_eq!(sent(), 2);
    machine.write("p.toml", TWO_PROMPTS.replace("Second", "Changed"));
    let kept = run(&[]);
    kept.ok();
    assert!(
        kept.stderr
            .contains("two--a.txt: prompt, pack, setting or input has changed"),
        "{kept:?}"
    );
    assert_eq!(sent(), 2);
    run(&["--changed", "rerun"]).ok();
    assert_eq!(sent(), 3);
    assert!(machine.read("out/two--a.txt").contains("Changed x"));
    // A setting is part of the job, a setting that is not given is not.
    let kept = run(&["--temperature", "0.1"]);
    assert!(kept.stderr.contains("and 1 more: prompt, pack"), "{kept:?}");
    run(&["--temperature", "0.1", "--changed", "rerun"]).ok();
    assert_eq!(sent(), 5);
    // A modified result is kept; a missing one is written again.
    machine.write("out/one--a.txt", "mine");
    std::fs::remove_file(machine.work().join("out/two--a.txt")).unwrap();
    let kept = run(&["--temperature", "0.1"]);
    kept.ok();
    assert!(
        kept.stderr
            .contains("one--a.txt: the file was changed by hand"),
        "{kept:?}"
    );
    assert_eq!(
        (sent(), machine.read("out/one--a.txt").as_str()),
        (6, "mine")
    );
    run(&["--temperature", "0.1", "--changed", "rerun"]).ok();
    assert_eq!(
        (sent(), machine.read("out/one--a.txt.kept-1").as_str()),
        (7, "mine")
    );
    // The same size with another digest.
    let text = machine.read("out/one--a.txt");
    machine.write("out/one--a.txt", text.replace("First", "fIRST"));
    run(&["--temperature", "0.1"]).ok();
    assert_eq!(sent(), 7);
    let seen = run(&["--temperature", "0.1", "--verify"]);
    assert!(seen.stderr.contains("changed by hand"), "{seen:?}");
    run(&["--temperature", "0.1", "--verify", "--changed", "rerun"]).ok();
    assert_eq!(sent(), 8);
}

#[test]
fn a_rerun_keeps_an_edit_of_the_same_size() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a"]));
    let url = studio.url();
    let run = |more: &[&str]| {
        let prompt = [
            "-P",
            "Say {{text}}",
            "--name",
            "{prompt}",
            "-m",
            "a",
            "--text",
            "hello",
        ];
        let mut args = batch_args(&url, &prompt);
        args.extend(more);
        machine.run(&args).ok();
    };
    run(&[]);
    let names = results(&machine.work().join("out"));
    let (name, text) = names.iter().next().unwrap();
    let path = format!("out/{name}");
    let edited = text.to_uppercase();
    assert_ne!(*text, edited);
    machine.write(&path, &edited);
    // The job has changed, and the file seems to be the result of its last run.
    run(&["--temperature", "0.7", "--changed", "rerun"]);
    assert_eq!(machine.read(&format!("{path}.kept-1")), edited);
    assert_ne!(machine.read(&path), edited);
    // A result that was not edited is replaced.
    run(&["--temperature", "0.8", "--changed", "rerun"]);
    assert!(!machine.work().join(format!("{path}.kept-2")).exists());
}

#[test]
fn a_changed_input_changes_the_job() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a"]));
    let url = studio.url();
    let run = |inputs: &str, more: &[&str]| {
        let mut args = batch_args(&url, &["-P", "Say {{text}}", "-m", "a", "--inputs", inputs]);
        args.extend(more);
        let run = machine.run(&args);
        run.ok();
        run.stderr
    };
    for (inputs, name, before, after) in [
        ("in/x.txt", "in/x.txt", "one", "two"),
        (
            "rows.jsonl",
            "rows.jsonl",
            "{\"id\":\"r\",\"text\":\"one\"}\n",
            "{\"id\":\"r\",\"text\":\"two\"}\n",
        ),
    ] {
        machine.write(name, before);
        run(inputs, &[]);
        let sent = request_bodies(&studio, CHAT).len();
        machine.write(name, after);
        let kept = run(inputs, &[]);
        assert!(kept.contains("has changed since"), "{name}: {kept}");
        assert_eq!(request_bodies(&studio, CHAT).len(), sent, "{name}");
        run(inputs, &["--changed", "rerun"]);
        assert_eq!(request_bodies(&studio, CHAT).len(), sent + 1, "{name}");
    }
    let found = results(&machine.work().join("out"));
    assert!(
        found.values().all(|text| text.ends_with("two")),
        "{found:?}"
    );
}

#[test]
fn foreign_files_are_kept_and_folders_are_locked() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        token_pause: Duration::from_millis(150),
        ..echo_models(&["a"])
    });
    let url = studio.url();
    machine.write("p.toml", TWO_PROMPTS);
    machine.write("out/one--a.txt", "older than any run");
    let args = batch_args(
        &url,
        &[
            "--prompts",
            "p.toml",
            "-P",
            "one",
            "-P",
            "two",
            "--text",
            "x",
            "-m",
            "a",
        ],
    );
    let first = machine.command(&args).spawn().unwrap();
    wait_until(|| !request_bodies(&studio, CHAT).is_empty());
    let second = machine.run(&args);
    assert!(
        second.fails(2).contains("another run is using"),
        "{second:?}"
    );
    let first = finish(first);
    first.ok();
    assert!(
        first
            .stderr
            .contains("one--a.txt: a file of this name exists that no run wrote"),
        "{first:?}"
    );
    assert_eq!(machine.read("out/one--a.txt"), "older than any run");
    assert_eq!(request_bodies(&studio, CHAT).len(), 1);
    // The first run fixes the name template.
    let other: Vec<&str> = args
        .iter()
        .copied()
        .chain(["--name", "{model}-{prompt}"])
        .collect();
    assert!(machine.run(&other).fails(2).contains("{prompt}--{model}"));
    let run = machine.run(&["batch", "status", "nothing"]);
    assert!(run.fails(2).contains("no batch has run there"), "{run:?}");
}

#[test]
fn shards_can_be_merged() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a", "b", "c"]));
    let url = studio.url();
    for number in 0..5 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let mut all = BTreeMap::new();
    for shard in 0..4 {
        let shard_name = format!("{shard}/4");
        let out = format!("part-{shard}");
        machine
            .run(&[
                "batch",
                "--engine",
                &url,
                "-P",
                "Say {{text}}",
                "-m",
                "all",
                "--inputs",
                "in/*.txt",
                "--seed",
                "1",
                "-o",
                &out,
                "--shard",
                &shard_name,
                "--name",
                "{model}-{input}",
            ])
            .ok();
        for (name, text) in results(&machine.work().join(&out)) {
            assert!(all.insert(name, text).is_none(), "a job in two shards");
        }
    }
    assert_eq!(all.len(), 15);
    let run = machine.run(&[
        "batch", "merge", "part-0", "part-1", "part-2", "part-3", "-o", "all",
    ]);
    run.ok();
    assert_eq!(results(&machine.work().join("all")), all);
    let sent = request_bodies(&studio, CHAT).len();
    let whole = [
        "batch",
        "--engine",
        &url,
        "-P",
        "Say {{text}}",
        "-m",
        "all",
        "--inputs",
        "in/*.txt",
        "--seed",
        "1",
        "-o",
        "all",
        "--name",
        "{model}-{input}",
    ];
    machine.run(&whole).ok();
    assert_eq!(
        request_bodies(&studio, CHAT).len(),
        sent,
        "all jobs are done"
    );
    // A killed merge can be repeated; failures are merged with their error files.
    let lines = machine.read("all/batch.journal.jsonl");
    let cut: Vec<&str> = lines
        .lines()
        .filter(|line| !line.contains("\"done\"") || !line.contains("c-0.txt"))
        .collect();
    machine.write("all/batch.journal.jsonl", cut.join("\n") + "\n");
    machine.write("failed/batch.journal.jsonl", lines.lines().next().unwrap().to_owned() + "\n"
        + r#"{"kind":"failed","job":"c-9.txt","identity":"x","at":"2026-01-01T00:00:00Z","of":{"engine":"e","model":"c","prompt":"p"},"exit":1,"error":"it broke"}"# + "\n");
    machine.write("failed/c-9.txt.error.txt", "it broke");
    let run = machine.run(&[
        "batch", "merge", "part-0", "part-1", "part-2", "part-3", "failed", "all", "-o", "all",
    ]);
    run.ok();
    assert!(
        run.stderr.contains("15 results in all, 1 of them new"),
        "{run:?}"
    );
    assert_eq!(machine.read("all/c-9.txt.error.txt"), "it broke");
    std::fs::remove_file(machine.work().join("all/c-9.txt.error.txt")).unwrap();
    assert_eq!(results(&machine.work().join("all")), all);
    // Different results of the same job are reported, and both are kept.
    machine
        .run(&[
            "batch",
            "--engine",
            &url,
            "-P",
            "Say {{text}}",
            "-m",
            "a",
            "--text",
            "zero",
            "-o",
            "other",
            "--name",
            "{model}-0",
        ])
        .ok();
    let run = machine.run(&[
        "batch", "merge", "part-0", "part-1", "part-2", "part-3", "-o", "all",
    ]);
    run.ok();
    let mut journal = machine.read("other/batch.journal.jsonl");
    journal = journal.replace("{model}-0", "{model}-{input}");
    machine.write("other/batch.journal.jsonl", journal);
    let run = machine.run(&["batch", "merge", "all", "other", "-o", "both"]);
    assert!(run.fails(1).contains("a-0.txt.conflict-2"), "{run:?}");
    assert!(machine.read("both/a-0.txt").contains("text 0"));
    assert!(machine.read("both/a-0.txt.conflict-2").contains("zero"));
}

#[test]
fn every_setting_is_part_of_the_identity() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a"]));
    let url = studio.url();
    let run = |more: &[&str]| {
        let mut args = batch_args(
            &url,
            &[
                "-P",
                "Say {{text}}",
                "--text",
                "x",
                "-m",
                "a",
                "--name",
                "{model}",
            ],
        );
        args.extend(more);
        let run = machine.run(&args);
        run.ok();
        machine.read("out/a.txt")
    };
    let first = run(&["--seed", "1"]);
    let second = run(&["--seed", "2", "--changed", "rerun"]);
    assert_ne!(first, second);
    assert_eq!(run(&["--seed", "1", "--changed", "rerun"]), first);
    assert_eq!(request_bodies(&studio, CHAT).len(), 3);
    // The handling of reasoning tags is part of the job.
    run(&[
        "--seed",
        "1",
        "--reasoning-tags",
        "none",
        "--changed",
        "rerun",
    ]);
    assert_eq!(request_bodies(&studio, CHAT).len(), 4);
    // A longer answer gets a larger context.
    let contexts = || -> Vec<u64> {
        let loads = request_bodies(&studio, LOAD);
        loads
            .iter()
            .filter_map(|body| body["context_length"].as_u64())
            .collect()
    };
    run(&["--seed", "1", "--max-tokens", "30000", "--changed", "rerun"]);
    assert_eq!(contexts().last(), Some(&30_720));
    run(&["--seed", "1", "--max-tokens", "5", "--changed", "rerun"]);
    assert_eq!(contexts().last(), Some(&30_720), "the context is kept");
}

#[test]
fn retry_uses_the_plan_of_the_folder() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        prompt_faults: vec![("POISON", Fault::OverflowEmpty)],
        ..echo_models(&["a", "b"])
    });
    let url = studio.url();
    for folder in ["one", "two"] {
        // Two folders with the same file name.
        machine.write(&format!("{folder}/x.txt"), format!("POISON {folder}"));
    }
    let common = [
        "-P",
        "Say {{text}}",
        "-m",
        "a",
        "--inputs",
        "*/x.txt",
        "--fail-fast",
        "--temperature",
        "0.3",
        "-j",
        "1",
    ];
    let run = machine.run(&batch_args(&url, &common));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(request_bodies(&studio, CHAT).len(), 1);
    // From another working directory; the server also has model `b`.
    std::fs::create_dir(machine.work().join("elsewhere")).unwrap();
    let mut command = machine.command(&["batch", "retry", "../out"]);
    let run = finish(
        command
            .current_dir(machine.work().join("elsewhere"))
            .spawn()
            .unwrap(),
    );
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("2 of 2 jobs failed"), "{run:?}");
    let sent = request_bodies(&studio, CHAT);
    assert_eq!(sent.len(), 3);
    assert!(
        sent.iter()
            .all(|body| body["temperature"] == 0.3 && body["model"] == "a"),
        "{sent:?}"
    );
    let run = machine.run(&["batch", "retry", "nowhere"]);
    assert!(run.fails(2).contains("no batch has run there"), "{run:?}");
}

#[test]
fn the_same_model_on_two_engines_is_two_models() {
    let machine = Machine::new();
    let (one, two) = (
        FakeStudio::start(echo_models(&["m"])),
        FakeStudio::start(echo_models(&["m"])),
    );
    let config = format!(
        "[defaults]\ndiscover = false\n[engines.one]\nurl = \"{}\"\n[engines.two]\nurl = \"{}\"\n",
        one.url(),
        two.url()
    );
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    one.set_fault(Fault::OverflowEmpty);
    two.set_fault(Fault::OverflowEmpty);
    let run = machine.run(&[
        "batch",
        "-o",
        "out",
        "-P",
        "Say {{text}}",
        "--text",
        "x",
        "-m",
        "m*",
        "--name",
        "{model}",
    ]);
    assert_eq!(run.code, Some(1), "{run:?}");
    one.set_fault(Fault::None);
    two.set_fault(Fault::None);
    machine.run(&["batch", "retry", "out"]).ok();
    let found = results(&machine.work().join("out"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        (
            request_bodies(&one, CHAT).len(),
            request_bodies(&two, CHAT).len()
        ),
        (2, 2)
    );
    let status = machine.run(&["batch", "status", "out", "--json"]);
    status.ok();
    let models = status.json()["models"].clone();
    assert!(
        models
            .as_object()
            .unwrap()
            .values()
            .all(|model| model["done"] == 1 && model["jobs"] == 1),
        "{models}"
    );
}

#[test]
fn equivalent_paths_select_the_same_inputs() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a"]));
    let url = studio.url();
    for folder in ["a [1]", "b"] {
        machine.write(
            &format!("w [x]/{folder}/x.txt"),
            format!("text of {folder}"),
        );
    }
    let here = machine.work().join("w [x]");
    let run = |args: &[&str]| {
        let mut command = machine.command(args);
        finish(command.current_dir(&here).spawn().unwrap())
    };
    run(&batch_args(
        &url,
        &[
            "-P",
            "Say {{text}}",
            "-m",
            "a",
            "--text-file",
            "./a [1]/x.txt",
            "b/x.txt",
            "./b/*.txt",
        ],
    ))
    .ok();
    let found = results(&here.join("out"));
    let sent = request_bodies(&studio, CHAT).len();
    assert_eq!(found.len(), 2, "{found:?}");
    run(&["batch", "retry", "out"]).ok();
    assert_eq!(
        (
            request_bodies(&studio, CHAT).len(),
            results(&here.join("out"))
        ),
        (sent, found)
    );
    // Pattern characters in the folder's name are escaped, in plan files and retries.
    let plan = format!(
        "engine = \"{url}\"\nmodels = \"a\"\nout = \"o\"\n[[prompt]]\nname = \"Say {{{{text}}}}\"\n[[input]]\nfile = \"*/x.txt\"\n"
    );
    machine.write("w [x]/plan.toml", plan);
    machine.run(&["batch", "w [x]/plan.toml"]).ok();
    assert_eq!(results(&here.join("o")).len(), 2);
    machine.run(&["batch", "retry", "w [x]/o"]).ok();
    assert_eq!(request_bodies(&studio, CHAT).len(), sent + 2);
}

#[test]
fn a_complete_answer_without_a_done_record_is_adopted() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a"]));
    let url = studio.url();
    let run = |more: &[&'static str]| {
        let mut args = vec![
            "-P",
            "Say {{text}}",
            "--text",
            "x",
            "-m",
            "a",
            "--name",
            "{model}",
        ];
        args.extend(more);
        let run = machine.run(&batch_args(&url, &args));
        run.ok();
        run.stderr
    };
    // Removes the records of a kind, as if the run had been killed before.
    let remove_records = |kind: &str| {
        let lines = machine.read("out/batch.journal.jsonl");
        let kept: Vec<&str> = lines
            .lines()
            .filter(|line| !line.contains(&format!("\"kind\":\"{kind}\"")))
            .collect();
        machine.write("out/batch.journal.jsonl", kept.join("\n") + "\n");
    };
    run(&["--seed", "1"]);
    remove_records("done");
    let adopted = run(&["--seed", "1"]);
    assert!(adopted.contains("1 result"), "{adopted}");
    assert_eq!(request_bodies(&studio, CHAT).len(), 1);
    remove_records("done");
    let changed = run(&["--seed", "2"]);
    let warning = "a.txt: prompt, pack, setting or input has changed";
    assert!(changed.contains(warning), "{changed}");
    run(&["--seed", "2", "--changed", "rerun"]);
    assert_eq!(request_bodies(&studio, CHAT).len(), 2);
    // Killed before the result had its final name.
    remove_records("done");
    std::fs::rename(
        machine.work().join("out/a.txt"),
        machine.work().join("out/a.txt.partial"),
    )
    .unwrap();
    machine.write(
        "out/a.txt.error.txt",
        "lmstrix-host could not finish this answer\n",
    );
    run(&["--seed", "2"]);
    assert_eq!(request_bodies(&studio, CHAT).len(), 2);
    let names: Vec<String> = std::fs::read_dir(machine.work().join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name.contains("partial") || name.contains("error")),
        "{names:?}"
    );
}

#[test]
fn name_clashes_and_invalid_inputs_are_errors() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a"]));
    let url = studio.url();
    for name in ["f1", "f2"] {
        machine.write(&format!("out/{name}.txt"), format!("text {name}"));
    }
    machine
        .run(&batch_args(
            &url,
            &["-P", "Say {{text}}", "-m", "a", "--text-file", "out/f1.txt"],
        ))
        .ok();
    let run = machine.run(&batch_args(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--text-file", "out/f2.txt"],
    ));
    assert!(run.fails(2).contains("is the result for `f1`"), "{run:?}");
    // Results are not inputs, and one option takes several values.
    let args = [
        "batch",
        "--engine",
        &url,
        "-P",
        "Say {{text}}",
        "-m",
        "a",
        "-o",
        "out2",
        "--inputs",
        "out/f1.txt",
        "out/f2.txt",
        "out/f1.txt",
    ];
    machine.run(&args).ok();
    let count = results(&machine.work().join("out2")).len();
    assert_eq!(count, 2);
    let args = [
        "batch",
        "--engine",
        &url,
        "-P",
        "Say {{text}}",
        "-m",
        "a",
        "-o",
        "out2",
        "--inputs",
        "out/f*.txt",
        "out2/*",
    ];
    let run = machine.run(&args);
    run.ok();
    assert!(
        run.stderr.contains("they are results of this batch"),
        "{run:?}"
    );
    assert_eq!(results(&machine.work().join("out2")).len(), count);
    for (more, message) in [
        (&["-j", "18446744073709551615"][..], "--jobs"),
        (&["--text-file", "-"], "does not read stdin"),
        (&["-p", "lang=pl", "-p", "lang=pl"], "twice"),
    ] {
        let all: Vec<&str> = ["-P", "Say {{text}}", "-m", "a", "--text", "x"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        assert!(
            machine
                .run(&batch_args(&url, &all))
                .fails(2)
                .contains(message),
            "{more:?}"
        );
    }
}
