//! Answers and batches with a real llama-server.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::processes::processes_with;
use super::program::llama_cpp;
use super::{configure, demo, infer_args};
use crate::support::Machine;

/// The answer of the demo model to [`super::TEXT`].
pub(super) const FIRST: &str = "The library opens at nine on weekdays.";

/// Creates a machine that has a real llama-server, with more lines in its config section.
pub(super) fn machine_with(section: &str) -> Machine {
    let machine = Machine::new();
    let program = llama_cpp().program.display();
    configure(&machine, &format!("command = '{program}'\n{section}"));
    machine
}

/// Sets a shell script as the llama-server of a machine. `PROGRAM` in it is the real one.
pub(super) fn configure_script(machine: &Machine, body: &str) {
    let program = format!("'{}'", llama_cpp().program.display());
    let text = format!("#!/bin/sh\n{body}\n").replace("PROGRAM", &program);
    let script = machine.write("script", text);
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    configure(machine, &format!("command = '{}'", script.display()));
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn an_architecture_that_the_embedded_engine_refuses_is_answered() {
    let machine = machine_with("");
    let gemma3 = llama_cpp().gemma3.to_str().unwrap();
    let infer = |more: &[&str]| {
        let mut args = vec!["infer", "--raw", "The capital of France is", "-m", gemma3];
        args.extend(["--temperature", "0", "--max-tokens", "8", "-q", "--json"]);
        args.extend(more);
        machine.run(&args)
    };
    let mut chat = vec!["infer", "{{text}}", "--text", "x", "-m", gemma3];
    chat.extend(["--max-tokens", "1"]);
    let run = machine.run(&chat);
    run.ok();
    assert!(run.stderr.contains("has no chat template"), "{run:?}");
    let run = infer(&["--engine", "embedded"]);
    assert_eq!(run.code, Some(5), "{run:?}");
    let run = infer(&[]);
    run.ok();
    let report = run.json();
    assert_eq!(report["engine"], "llama.cpp");
    assert_eq!(report["usage"]["completion_tokens"], 8);
    assert!(
        !report["text"].as_str().unwrap().trim().is_empty(),
        "{report}"
    );
    // It has ended with the command.
    assert_eq!(processes_with(machine.home().to_str().unwrap()), [0; 0]);
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn a_batch_over_two_files_loads_each_once() {
    let machine = machine_with("");
    let files = llama_cpp();
    for number in 0..4 {
        machine.write(
            &format!("in/{number}.txt"),
            format!("Number {number} is here."),
        );
    }
    let run = machine.run(&[
        "batch",
        "-P",
        "tldr",
        "--inputs",
        "in/*.txt",
        "--max-tokens",
        "4",
        "-o",
        "out",
        "-m",
        files.smollm2.to_str().unwrap(),
        "-m",
        files.gemma3.to_str().unwrap(),
    ]);
    run.ok();
    let journal = machine.read("out/batch.journal.jsonl");
    let records: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_kind = |kind: &str| -> Vec<&str> {
        let records = records.iter().filter(|record| record["kind"] == kind);
        records
            .map(|record| record["model"].as_str().unwrap_or_default())
            .collect()
    };
    let mut loaded = of_kind("loaded");
    assert_eq!(loaded.len(), 2, "{journal}");
    loaded.dedup();
    assert_eq!(loaded.len(), 2, "{journal}");
    assert_eq!(of_kind("unloaded"), of_kind("loaded"));
    let done = records.iter().filter(|record| record["kind"] == "done");
    assert_eq!(done.count(), 8, "{journal}");
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn a_bad_file_and_too_little_memory_show_the_servers_own_lines() {
    let machine = machine_with("");
    let model = std::fs::read(&llama_cpp().smollm2).unwrap();
    machine.write("cut.gguf", &model[..2_000_000]);
    let run = machine.run(&infer_args("cut.gguf", &[]));
    let stderr = run.fails(5);
    assert!(
        stderr.contains("llama-server cannot load model `cut.gguf`"),
        "{stderr}"
    );
    assert!(
        stderr.contains("model is corrupted or incomplete"),
        "{stderr}"
    );

    configure_script(
        &machine,
        "case \"$1\" in --model) ulimit -v 600000;; esac\nexec PROGRAM \"$@\"",
    );
    let model = llama_cpp().gemma3.to_str().unwrap();
    let run = machine.run(&infer_args(
        model,
        &[
            "--raw",
            "--max-tokens",
            "1",
            "--context",
            "32768",
            "--force",
        ],
    ));
    let stderr = run.fails(5);
    assert!(stderr.contains("; its last lines:\n"), "{stderr}");
    assert!(
        stderr.contains("hint: unload other models, or use a smaller --context"),
        "{stderr}"
    );
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn a_server_without_a_variable_for_its_key_takes_it_from_a_file() {
    let machine = machine_with("");
    configure_script(
        &machine,
        "case \"$1\" in --help) PROGRAM --help | grep -v LLAMA_API_KEY; exit;; esac\n\
         unset LLAMA_API_KEY\ncase \"$*\" in *--api-key-file*) exec PROGRAM \"$@\";; esac",
    );
    let model = demo();
    let run = machine.run(&infer_args(model.to_str().unwrap(), &[]));
    assert_eq!(run.ok().trim(), FIRST);
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn settings_of_the_config_reach_the_server() {
    let machine = machine_with("slots = 2\ncontext = 512\nthreads = 1\nargs = ['--no-warmup']");
    let model = demo();
    let model = model.to_str().unwrap();
    let context_of = |more: &[&str]| {
        let run = machine.run(&infer_args(model, &[&["--json"], more].concat()));
        run.ok();
        assert_eq!(run.json()["text"].as_str().unwrap().trim(), FIRST);
        run.json()["instance"]["context"].clone()
    };
    assert_eq!(context_of(&[]), 512);
    assert_eq!(context_of(&["--context", "768"]), 768);
    let run = machine.run(&infer_args(model, &["--context", "100000"]));
    assert!(
        run.fails(2)
            .contains("exceeds the model's declared context"),
        "{run:?}"
    );
    // `test` loads a server for each trial.
    let run = machine.run(&["test", model, "--engine", "llama.cpp", "--json"]);
    run.ok();
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn files_of_other_programs_have_names() {
    let machine = machine_with("");
    let model = std::fs::read(demo()).unwrap();
    let digest = "ab".repeat(32);
    machine.write(&format!("ollama/blobs/sha256-{digest}"), &model);
    machine.write(
        "ollama/manifests/registry.ollama.ai/library/first/1b",
        format!(
            r#"{{"layers":[{{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:{digest}"}}]}}"#
        ),
    );
    machine.write("home/.lmstudio/models/pub/repo/second.gguf", &model);
    std::fs::create_dir_all(machine.home().join("data/models")).unwrap();
    std::fs::write(machine.home().join("data/models/third.gguf"), &model).unwrap();
    let run = |args: &[&str]| {
        let mut command = machine.command(args);
        command.env("OLLAMA_MODELS", machine.work().join("ollama"));
        command.env("HOME", machine.work().join("home"));
        crate::support::finish(command.spawn().unwrap())
    };
    for name in ["first:1b", "second", "pub/repo/second.gguf", "third"] {
        for engine in ["llama.cpp", "auto"] {
            let run = run(&infer_args(name, &["--engine", engine, "--json"]));
            run.ok();
            assert_eq!(run.json()["engine"], "llama.cpp", "{name}");
            assert_eq!(run.json()["text"].as_str().unwrap().trim(), FIRST, "{name}");
        }
    }
    let scan = run(&["scan", "--json"]);
    scan.ok();
    let engines = scan.json()["engines"].clone();
    let of_kind = |kind: &str| {
        let mut engines = engines.as_array().unwrap().iter();
        engines.find(|engine| engine["kind"] == kind).unwrap()["models"].clone()
    };
    let second = machine
        .work()
        .join("home/.lmstudio/models/pub/repo/second.gguf");
    assert_eq!(
        of_kind("llama.cpp"),
        serde_json::json!(["third", second.to_str().unwrap(), "first:1b"])
    );
    assert_eq!(of_kind("embedded"), serde_json::json!(["demo"]));
    let list = run(&["list"]);
    assert!(list.ok().contains("first:1b"), "{list:?}");
    let doctor = run(&["doctor"]);
    assert!(
        doctor.ok().contains("gguf files: run with llama.cpp: "),
        "{doctor:?}"
    );
}
