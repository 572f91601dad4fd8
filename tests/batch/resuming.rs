//! What a folder knows of earlier runs, and what comes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::support::*;
use crate::servers::studio::{Fault, Setup, Studio};
use crate::support::{Machine, finish};

#[test]
fn changes_are_seen_and_kept_or_run_again() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["a"]));
    let url = studio.url();
    machine.write("p.toml", TWO_PROMPTS);
    let args = |more: &[&'static str]| {
        let mut all = batch(
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
        all.extend(more.iter().map(|it| (*it).to_owned()));
        all
    };
    let run = |more: &[&'static str]| {
        let args = args(more);
        machine.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    run(&[]).ok();
    let sent = || posted(&studio, CHAT).len();
    assert_eq!(sent(), 2);
    // Another prompt in the file: the same digest of what is resolved.
    machine.write("p.toml", format!("{TWO_PROMPTS}three = \"x\"\n"));
    run(&[]).ok();
    assert_eq!(sent(), 2);
    machine.write("p.toml", TWO_PROMPTS.replace("Second", "Changed"));
    let kept = run(&[]);
    kept.ok();
    assert!(
        kept.stderr
            .contains("two--a.txt: prompt, pack, setting or input is another"),
        "{kept:?}"
    );
    assert_eq!(sent(), 2);
    run(&["--changed", "rerun"]).ok();
    assert_eq!(sent(), 3);
    assert!(machine.read("out/two--a.txt").contains("Changed x"));
    // A setting is part of a job, what nobody gave is not.
    let kept = run(&["--temperature", "0.1"]);
    assert!(kept.stderr.contains("and 1 more: prompt, pack"), "{kept:?}");
    run(&["--temperature", "0.1", "--changed", "rerun"]).ok();
    assert_eq!(sent(), 5);
    // A result that somebody changed is his; one that has gone is made again.
    machine.write("out/one--a.txt", "mine");
    std::fs::remove_file(machine.work().join("out/two--a.txt")).unwrap();
    let kept = run(&["--temperature", "0.1"]);
    kept.ok();
    assert!(
        kept.stderr
            .contains("one--a.txt: somebody changed the file"),
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
    // The same length, another digest.
    let text = machine.read("out/one--a.txt");
    machine.write("out/one--a.txt", text.replace("First", "fIRST"));
    run(&["--temperature", "0.1"]).ok();
    assert_eq!(sent(), 7);
    let seen = run(&["--temperature", "0.1", "--verify"]);
    assert!(seen.stderr.contains("somebody changed"), "{seen:?}");
    run(&["--temperature", "0.1", "--verify", "--changed", "rerun"]).ok();
    assert_eq!(sent(), 8);
}

#[test]
fn an_input_that_changed_is_another_job() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["a"]));
    let url = studio.url();
    let run = |inputs: &str, more: &[&str]| {
        let mut args = batch(&url, &["-P", "Say {{text}}", "-m", "a", "--inputs", inputs]);
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
        let sent = posted(&studio, CHAT).len();
        machine.write(name, after);
        let kept = run(inputs, &[]);
        assert!(kept.contains("is another now"), "{name}: {kept}");
        assert_eq!(posted(&studio, CHAT).len(), sent, "{name}");
        run(inputs, &["--changed", "rerun"]);
        assert_eq!(posted(&studio, CHAT).len(), sent + 1, "{name}");
    }
    let found = results(&machine.work().join("out"));
    assert!(found.values().all(|it| it.ends_with("two")), "{found:?}");
}

#[test]
fn files_of_others_and_folders_in_use() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        token_pause: Duration::from_millis(150),
        ..cold(&["a"])
    });
    let url = studio.url();
    machine.write("p.toml", TWO_PROMPTS);
    machine.write("out/one--a.txt", "older than any run");
    let args = batch(
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
    wait_for(|| !posted(&studio, CHAT).is_empty());
    let second = machine.run(&args);
    assert!(
        second.fails(2).contains("another run is at work"),
        "{second:?}"
    );
    let first = finish(first);
    first.ok();
    assert!(
        first
            .stderr
            .contains("one--a.txt: a file of this name is there that no run wrote"),
        "{first:?}"
    );
    assert_eq!(machine.read("out/one--a.txt"), "older than any run");
    assert_eq!(posted(&studio, CHAT).len(), 1);
    // The names are fixed by the first run.
    let other: Vec<&str> = args
        .iter()
        .copied()
        .chain(["--name", "{model}-{prompt}"])
        .collect();
    assert!(machine.run(&other).fails(2).contains("{prompt}--{model}"));
    let run = machine.run(&["batch", "status", "nothing"]);
    assert!(run.fails(2).contains("no batch ran there"), "{run:?}");
}

#[test]
fn a_plan_is_split_over_machines_and_joined_again() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["a", "b", "c"]));
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
            assert!(all.insert(name, text).is_none(), "a job of two parts");
        }
    }
    assert_eq!(all.len(), 15);
    let run = machine.run(&[
        "batch", "merge", "part-0", "part-1", "part-2", "part-3", "-o", "all",
    ]);
    run.ok();
    assert_eq!(results(&machine.work().join("all")), all);
    let sent = posted(&studio, CHAT).len();
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
    assert_eq!(posted(&studio, CHAT).len(), sent, "everything is done");
    // Killed in between, a merge goes on; a failure comes with its reason.
    let lines = machine.read("all/batch.journal.jsonl");
    let cut: Vec<&str> = lines
        .lines()
        .filter(|it| !it.contains("\"done\"") || !it.contains("c-0.txt"))
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
    // A different result of one job is told, and both stay.
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
fn a_change_that_is_taken_back_is_seen_and_so_is_every_setting() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["a"]));
    let url = studio.url();
    let run = |more: &[&str]| {
        let mut args = batch(
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
    assert_eq!(posted(&studio, CHAT).len(), 3);
    // What is sent of the text is part of the job, too.
    run(&[
        "--seed",
        "1",
        "--reasoning-tags",
        "none",
        "--changed",
        "rerun",
    ]);
    assert_eq!(posted(&studio, CHAT).len(), 4);
    // A longer answer needs more context, and gets it.
    let contexts = || -> Vec<u64> {
        let loads = posted(&studio, LOAD);
        loads
            .iter()
            .filter_map(|it| it["context_length"].as_u64())
            .collect()
    };
    run(&["--seed", "1", "--max-tokens", "30000", "--changed", "rerun"]);
    assert_eq!(contexts().last(), Some(&30_720));
    run(&["--seed", "1", "--max-tokens", "5", "--changed", "rerun"]);
    assert_eq!(contexts().last(), Some(&30_720), "fixed from then on");
}

#[test]
fn a_retry_runs_all_that_is_left_by_the_folders_own_plan() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        poison: vec![("POISON", Fault::OverflowEmpty)],
        ..cold(&["a", "b"])
    });
    let url = studio.url();
    for folder in ["one", "two"] {
        // The same file name in two folders.
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
    let run = machine.run(&batch(&url, &common));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(posted(&studio, CHAT).len(), 1);
    // From elsewhere, with another model at the server since.
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
    let sent = posted(&studio, CHAT);
    assert_eq!(sent.len(), 3);
    assert!(
        sent.iter()
            .all(|it| it["temperature"] == 0.3 && it["model"] == "a"),
        "{sent:?}"
    );
    let run = machine.run(&["batch", "retry", "nowhere"]);
    assert!(run.fails(2).contains("no batch ran there"), "{run:?}");
}

#[test]
fn two_engines_with_one_model_are_two_models_also_for_a_retry() {
    let machine = Machine::new();
    let (one, two) = (Studio::start(cold(&["m"])), Studio::start(cold(&["m"])));
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
    assert_eq!((posted(&one, CHAT).len(), posted(&two, CHAT).len()), (2, 2));
    let status = machine.run(&["batch", "status", "out", "--json"]);
    status.ok();
    let models = status.json()["models"].clone();
    assert!(
        models
            .as_object()
            .unwrap()
            .values()
            .all(|it| it["done"] == 1 && it["jobs"] == 1),
        "{models}"
    );
}

#[test]
fn paths_mean_the_same_however_they_are_written() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["a"]));
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
    run(&batch(
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
    let sent = posted(&studio, CHAT).len();
    assert_eq!(found.len(), 2, "{found:?}");
    run(&["batch", "retry", "out"]).ok();
    assert_eq!(
        (posted(&studio, CHAT).len(), results(&here.join("out"))),
        (sent, found)
    );
    // The folder's own name is no pattern, from a plan file and for a retry.
    let plan = format!(
        "engine = \"{url}\"\nmodels = \"a\"\nout = \"o\"\n[[prompt]]\nname = \"Say {{{{text}}}}\"\n[[input]]\nfile = \"*/x.txt\"\n"
    );
    machine.write("w [x]/plan.toml", plan);
    machine.run(&["batch", "w [x]/plan.toml"]).ok();
    assert_eq!(results(&here.join("o")).len(), 2);
    machine.run(&["batch", "retry", "w [x]/o"]).ok();
    assert_eq!(posted(&studio, CHAT).len(), sent + 2);
}

#[test]
fn a_kill_before_done_leaves_a_result_that_counts_or_is_known_as_ours() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["a"]));
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
        let run = machine.run(&batch(&url, &args));
        run.ok();
        run.stderr
    };
    // The journal as a kill leaves it that comes before `done`.
    let forget = |kind: &str| {
        let lines = machine.read("out/batch.journal.jsonl");
        let kept: Vec<&str> = lines
            .lines()
            .filter(|it| !it.contains(&format!("\"kind\":\"{kind}\"")))
            .collect();
        machine.write("out/batch.journal.jsonl", kept.join("\n") + "\n");
    };
    run(&["--seed", "1"]);
    forget("done");
    let adopted = run(&["--seed", "1"]);
    assert!(adopted.contains("1 result"), "{adopted}");
    assert_eq!(posted(&studio, CHAT).len(), 1);
    forget("done");
    let changed = run(&["--seed", "2"]);
    let says = "a.txt: prompt, pack, setting or input is another";
    assert!(changed.contains(says), "{changed}");
    run(&["--seed", "2", "--changed", "rerun"]);
    assert_eq!(posted(&studio, CHAT).len(), 2);
    // Before it had its name.
    forget("done");
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
    assert_eq!(posted(&studio, CHAT).len(), 2);
    let names: Vec<String> = std::fs::read_dir(machine.work().join("out"))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !names
            .iter()
            .any(|it| it.contains("partial") || it.contains("error")),
        "{names:?}"
    );
}

#[test]
fn what_would_be_lost_under_another_name_is_an_error() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["a"]));
    let url = studio.url();
    for name in ["f1", "f2"] {
        machine.write(&format!("out/{name}.txt"), format!("text {name}"));
    }
    machine
        .run(&batch(
            &url,
            &["-P", "Say {{text}}", "-m", "a", "--text-file", "out/f1.txt"],
        ))
        .ok();
    let run = machine.run(&batch(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--text-file", "out/f2.txt"],
    ));
    assert!(run.fails(2).contains("is the result for `f1`"), "{run:?}");
    // Results are no inputs, and several values need no quotes.
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
        run.stderr.contains("of this batch, and no input"),
        "{run:?}"
    );
    assert_eq!(results(&machine.work().join("out2")).len(), count);
    for (more, says) in [
        (&["-j", "18446744073709551615"][..], "--jobs"),
        (&["--text-file", "-"], "no stdin"),
        (&["-p", "lang=pl", "-p", "lang=pl"], "twice"),
    ] {
        let all: Vec<&str> = ["-P", "Say {{text}}", "-m", "a", "--text", "x"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        assert!(
            machine.run(&batch(&url, &all)).fails(2).contains(says),
            "{more:?}"
        );
    }
}
