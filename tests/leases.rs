//! Models that several processes use, and instances that go away while they are used.

use std::time::Duration;

use crate::servers::studio::{Answer, FakeStudio, Model, Setup};
use crate::support::{Machine, Run, finish, wait_until};

/// A server with one model that is not loaded, and answers that take 200 ms.
fn studio(jit: bool) -> FakeStudio {
    FakeStudio::start(Setup {
        models: vec![Model::llm("m", 32_768)],
        answer: Answer::Text("One two three four five six seven eight nine ten.".to_owned()),
        token_pause: Duration::from_millis(20),
        jit,
        slots: Some(1),
        ..Setup::default()
    })
}

/// The arguments of a batch of as many jobs as `inputs` has lines.
fn batch<'a>(url: &'a str, out: &'a str, inputs: &'a str) -> Vec<&'a str> {
    vec![
        "batch",
        "-P",
        "Say {{text}} twice",
        "--engine",
        url,
        "-m",
        "m",
        "-o",
        out,
        "--inputs",
        inputs,
    ]
}

fn write_rows(machine: &Machine, name: &str, rows: usize) {
    let rows: String = (0..rows)
        .map(|row| format!("{{\"text\": \"word {row}\"}}\n"))
        .collect();
    machine.write(name, rows);
}

/// Waits until a folder has this many results.
fn wait_for_results(machine: &Machine, out: &str, count: usize) {
    wait_until(|| {
        let entries = std::fs::read_dir(machine.work().join(out));
        let results = entries.into_iter().flatten().flatten().filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.ends_with(".txt")
        });
        results.count() >= count
    });
}

#[track_caller]
fn assert_complete(run: &Run) {
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(!run.stderr.contains("failed"), "{run:?}");
}

#[test]
fn the_last_of_two_batches_unloads_the_model_of_both() {
    let machine = Machine::new();
    let studio = studio(true);
    let url = studio.url();
    write_rows(&machine, "few.jsonl", 2);
    write_rows(&machine, "many.jsonl", 8);
    let short = machine
        .command(&batch(&url, "short", "few.jsonl"))
        .spawn()
        .unwrap();
    wait_for_results(&machine, "short", 1);
    let long = machine
        .command(&batch(&url, "long", "many.jsonl"))
        .spawn()
        .unwrap();
    let short = finish(short);
    assert_complete(&short);
    assert!(
        short
            .stderr
            .contains("`m` stays loaded: another process uses it"),
        "{short:?}"
    );
    assert_complete(&finish(long));
    assert_eq!(studio.load_count(), 1);
    assert_eq!(studio.loaded_instances(), Vec::<String>::new());
}

#[test]
fn infer_does_not_unload_the_model_of_a_batch_and_unload_does_not_either() {
    let machine = Machine::new();
    let studio = studio(true);
    let url = studio.url();
    write_rows(&machine, "rows.jsonl", 12);
    let running = machine
        .command(&batch(&url, "out", "rows.jsonl"))
        .spawn()
        .unwrap();
    wait_for_results(&machine, "out", 1);
    let infer = machine.run(&["infer", "Hi there", "--engine", &url, "-m", "m", "--unload"]);
    assert_complete(&infer);
    assert!(
        infer.stderr.contains("another process uses it"),
        "{infer:?}"
    );
    let unload = machine.run(&["unload", "m", "--engine", &url]);
    assert_ne!(unload.code, Some(0), "{unload:?}");
    assert_complete(&finish(running));
    assert_eq!(studio.load_count(), 1);
    assert_eq!(studio.loaded_instances(), Vec::<String>::new());
}

/// A kill ends a lease, and the next run unloads.
#[cfg(unix)]
#[test]
fn a_killed_process_uses_nothing() {
    let machine = Machine::new();
    let studio = studio(true);
    let url = studio.url();
    write_rows(&machine, "many.jsonl", 30);
    write_rows(&machine, "few.jsonl", 1);
    let mut killed = machine
        .command(&batch(&url, "killed", "many.jsonl"))
        .spawn()
        .unwrap();
    wait_for_results(&machine, "killed", 1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let infer = machine.run(&["infer", "Hi there", "--engine", &url, "-m", "m", "--unload"]);
    assert_complete(&infer);
    assert_eq!(studio.loaded_instances(), Vec::<String>::new(), "{infer:?}");
}

/// The server evicts the model, or a user unloads it; with just-in-time loading the server
/// loads it again by itself, with less context.
#[test]
fn an_instance_that_goes_away_is_loaded_again_and_costs_no_job() {
    for jit in [true, false] {
        let machine = Machine::new();
        let studio = studio(jit);
        let url = studio.url();
        let long = "word ".repeat(9000);
        let rows: String = (0..6)
            .map(|row| format!("{{\"text\": \"{row} {long}\"}}\n"))
            .collect();
        machine.write("rows.jsonl", rows);
        let running = machine
            .command(&batch(&url, "out", "rows.jsonl"))
            .spawn()
            .unwrap();
        wait_for_results(&machine, "out", 1);
        for _ in 0..2 {
            studio.evict("m");
            std::thread::sleep(Duration::from_millis(300));
        }
        let run = finish(running);
        // Both evictions may end the same answer, so that the batch itself loads the model again.
        assert_eq!(run.code, Some(0), "{jit}: {run:?}");
        assert!(run.stderr.contains("6/6 "), "{jit}: {run:?}");
        assert!(!run.stderr.contains("context only"), "{jit}: {run:?}");
        assert!(run.stderr.contains("loading it again"), "{jit}: {run:?}");
        // What the server loads by itself, it unloads by itself.
        let left = studio.loaded_instances();
        assert!(left.len() <= usize::from(jit), "{jit}: {left:?} {run:?}");
    }
}

/// Ends the program while it loads a model.
#[cfg(unix)]
#[test]
fn a_load_that_a_signal_ends_is_undone() {
    use rustix::process::{Pid, Signal, kill_process};

    for (command, signals) in [
        (vec!["infer", "Hi there", "-m", "m"], vec![Signal::TERM]),
        (vec!["infer", "Hi there", "-m", "m"], vec![Signal::INT]),
        (vec!["load", "m"], vec![Signal::TERM]),
        (
            vec![
                "batch",
                "-P",
                "Say {{text}}",
                "-m",
                "m",
                "-o",
                "out",
                "--text",
                "x",
            ],
            vec![Signal::TERM],
        ),
        (
            vec![
                "batch",
                "-P",
                "Say {{text}}",
                "-m",
                "m",
                "-o",
                "out",
                "--text",
                "x",
            ],
            vec![Signal::INT, Signal::INT],
        ),
    ] {
        let machine = Machine::new();
        let studio = FakeStudio::start(Setup {
            models: vec![Model::llm("m", 32_768)],
            load_time: Duration::from_secs(20),
            ..Setup::default()
        });
        let url = studio.url();
        let mut args = command.clone();
        args.extend(["--engine", &url]);
        let child = machine.command(&args).spawn().unwrap();
        wait_until(|| !studio.loaded_instances().is_empty());
        for signal in &signals {
            kill_process(Pid::from_child(&child), *signal).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        let run = finish(child);
        assert_eq!(run.code, Some(130), "{command:?}: {run:?}");
        assert_eq!(
            studio.loaded_instances(),
            Vec::<String>::new(),
            "{command:?}: {run:?}"
        );
        let waits = run.stderr.contains("waiting for the running jobs");
        assert_eq!(waits, signals.len() == 2, "{command:?}: {run:?}");
    }
}

/// A server that does not unload: the model is named.
#[cfg(unix)]
#[test]
fn a_load_that_cannot_be_undone_is_named() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::servers::scripted::{ScriptedServer, Step, json_response, not_found};
    use serde_json::json;

    let machine = Machine::new();
    let is_loading = AtomicBool::new(false);
    let server = ScriptedServer::start(move |request, _| match request.path.as_str() {
        "/lmstudio-greeting" => json_response(json!({"lmstudio": true})),
        "/api/v1/models" => {
            let instances = match is_loading.load(Ordering::SeqCst) {
                true => json!([{"id": "m", "config": {"context_length": 4096}}]),
                false => json!([]),
            };
            json_response(json!({"models": [{"type": "llm", "key": "m",
                "loaded_instances": instances, "max_context_length": 8192}]}))
        }
        "/api/v1/models/load" => {
            is_loading.store(true, Ordering::SeqCst);
            vec![Step::Hang]
        }
        "/api/v1/models/unload" => vec![Step::Hang],
        _ => not_found(),
    });
    let url = server.url();
    let child = machine
        .command(&["infer", "Hi there", "-m", "m", "--engine", &url])
        .spawn()
        .unwrap();
    wait_until(|| {
        let requests = server.requests();
        requests
            .iter()
            .any(|request| request.path.ends_with("/load"))
    });
    crate::support::interrupt(&child);
    let run = finish(child);
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(run.stderr.contains("`m` may still be loading"), "{run:?}");
    assert!(run.stderr.contains("unload --all"), "{run:?}");
}

/// Ctrl-Z for longer than the time limit, and `fg`.
#[cfg(unix)]
#[test]
fn a_stop_of_the_process_is_not_a_silence_of_the_server() {
    use rustix::process::{Pid, Signal, kill_process};

    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![Model {
            loaded: vec![("m".to_owned(), 8192)],
            ..Model::llm("m", 32_768)
        }],
        answer: Answer::Tokens(60),
        token_pause: Duration::from_millis(30),
        ..Setup::default()
    });
    let args = [
        "infer",
        "Hi there",
        "-m",
        "m",
        "--engine",
        &studio.url(),
        "--stream-timeout",
        "500ms",
        "-o",
        "a.txt",
    ];
    let child = machine.command(&args).spawn().unwrap();
    let partial = machine.work().join("a.txt.partial");
    wait_until(|| std::fs::metadata(&partial).is_ok_and(|file| file.len() > 0));
    kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    assert_complete(&finish(child));
}

/// A container with a read-only home.
#[test]
fn a_loaded_model_is_used_without_a_state_folder() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![Model {
            loaded: vec![("m".to_owned(), 8192)],
            ..Model::llm("m", 32_768)
        }],
        ..Setup::default()
    });
    std::fs::write(machine.home().join("state"), "not a folder").unwrap();
    let url = studio.url();
    let run = machine.run(&["infer", "Hi there", "--engine", &url, "-m", "m"]);
    run.ok();
}
