//! The commands that manage models, and the registry.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::servers::studio::{Answer, ContextRule, FakeStudio, Model, Setup};
use crate::support::{Machine, Run, finish};

fn setup_with_cold_model(load_time: Duration) -> Setup {
    Setup {
        models: vec![Model::llm("cold", 32_768)],
        load_time,
        ..Setup::default()
    }
}

fn infer(machine: &Machine, studio: &FakeStudio, more: &[&str]) -> Run {
    machine.run(&infer_args(&studio.url(), more))
}

fn infer_args<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["infer", "Say: {{text}}", "--text", "hello", "--engine", url];
    args.extend(more);
    args
}

fn request_bodies(studio: &FakeStudio, path: &str) -> Vec<Value> {
    let requests = studio.requests().into_iter();
    requests
        .filter(|request| request.path == path)
        .map(|request| request.body)
        .collect()
}

const LOAD: &str = "/api/v1/models/load";
const UNLOAD: &str = "/api/v1/models/unload";

fn wait_for(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "timed out");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn registry(machine: &Machine) -> Value {
    let text = std::fs::read(machine.home().join("data/registry.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Returns name, inode, modification time and length of all files in a folder.
#[cfg(unix)]
fn file_states(folder: &Path) -> Vec<(String, u64, i64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let mut states: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let name = entry.file_name().into_string().unwrap();
            (
                name,
                metadata.ino(),
                metadata.mtime_nsec() + metadata.mtime() * 1_000_000_000,
                metadata.len(),
            )
        })
        .collect();
    states.sort();
    states
}

#[test]
fn eight_processes_load_an_unloaded_model_once() {
    let machine = Machine::new();
    let studio = FakeStudio::start(setup_with_cold_model(Duration::from_millis(1500)));
    let url = studio.url();
    let children: Vec<Child> = (0..8)
        .map(|_| {
            machine
                .command(&infer_args(&url, &["-m", "cold"]))
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        assert_eq!(finish(child).ok(), "Bonjour tout le monde.\n");
    }
    assert_eq!(studio.load_count(), 1);
    assert_eq!(request_bodies(&studio, LOAD).len(), 1);
}

#[test]
fn a_smaller_context_than_requested_gives_a_warning_and_no_reload() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        context: ContextRule::Smaller(2048),
        ..setup_with_cold_model(Duration::ZERO)
    });
    for _ in 0..2 {
        let run = infer(&machine, &studio, &["-m", "cold", "--context", "8192"]);
        run.ok();
        let warning = "requested a context of 8192 tokens, but the model is loaded with 2048";
        assert!(run.stderr.contains(warning), "{run:?}");
    }
    // The server would give the same context again.
    assert_eq!(studio.load_count(), 1);
    let run = machine.run(&[
        "load",
        "cold",
        "--engine",
        &studio.url(),
        "--context",
        "50%",
    ]);
    assert_eq!(run.ok(), "cold\n");
    assert!(
        run.stderr.contains("requested a context of 16384 tokens"),
        "{run:?}"
    );
    assert_eq!(studio.load_count(), 2);
}

#[test]
fn instances_of_other_programs_are_unloaded_only_with_force() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Echo,
        ..Setup::default()
    });
    let url = studio.url();
    let (theirs, ours) = ("qwen/qwen3-4b", "qwen/qwen3-4b:2");
    infer(&machine, &studio, &["--context", "16384"]).ok();
    let ps = machine.run(&["ps", "--engine", &url, "--json"]);
    let instances = ps.json()["instances"].clone();
    let of = |id: &str| {
        instances
            .as_array()
            .unwrap()
            .iter()
            .find(|instance| instance["id"] == id)
            .cloned()
    };
    assert_eq!(of(theirs).unwrap()["ours"], false);
    assert_eq!(of(ours).unwrap()["ours"], true);
    assert_eq!(of(ours).unwrap()["context"], 16_384);
    // More context than our instance has: it is replaced, the foreign instance is kept.
    infer(&machine, &studio, &["-m", theirs, "--context", "20000"]).ok();
    assert_eq!(
        request_bodies(&studio, UNLOAD),
        [json!({"instance_id": ours})]
    );
    let run = infer(&machine, &studio, &["-m", theirs, "--unload"]);
    run.ok();
    assert!(run.stderr.contains("did not load it"), "{run:?}");
    machine
        .run(&["test", theirs, "--engine", &url, "--max-context", "4096"])
        .ok();
    machine.run(&["unload", "--all", "--engine", &url]).ok();
    let run = machine.run(&["unload", theirs, "--engine", &url]);
    assert!(run.fails(5).contains("--force"), "{run:?}");
    assert!(
        request_bodies(&studio, UNLOAD)
            .iter()
            .all(|body| body["instance_id"] != theirs)
    );
    let ps = machine.run(&["ps", "--engine", &url]);
    assert!(
        ps.ok().contains("other\n") && !ps.text().contains("this program"),
        "{ps:?}"
    );
    machine
        .run(&["unload", theirs, "--force", "--engine", &url])
        .ok();
    assert!(
        request_bodies(&studio, UNLOAD)
            .iter()
            .any(|body| body["instance_id"] == theirs)
    );
    let run = machine.run(&["unload", theirs, "--engine", &url]);
    assert!(run.fails(5).contains("no model named"), "{run:?}");
}

#[test]
fn a_kill_during_a_load_keeps_ownership_and_leaves_no_lock() {
    let machine = Machine::new();
    let studio = FakeStudio::start(setup_with_cold_model(Duration::from_secs(2)));
    let url = studio.url();
    let mut child = machine
        .command(&["load", "cold", "--engine", &url])
        .spawn()
        .unwrap();
    wait_for(|| !request_bodies(&studio, LOAD).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    // The server continues the load and already lists the instance; the next command waits
    // for its end.
    machine.run(&["load", "cold", "--engine", &url]).ok();
    assert_eq!(studio.load_count(), 1);
    assert_eq!(
        infer(&machine, &studio, &["-m", "cold"]).ok(),
        "Bonjour tout le monde.\n"
    );
    assert_eq!(
        (studio.load_count(), request_bodies(&studio, LOAD).len()),
        (1, 1)
    );
    machine.run(&["unload", "cold", "--engine", &url]).ok();
    assert_eq!(
        request_bodies(&studio, UNLOAD),
        [json!({"instance_id": "cold"})]
    );
}

#[test]
fn reload_loads_again_and_unload_unloads() {
    let machine = Machine::new();
    let studio = FakeStudio::start(setup_with_cold_model(Duration::ZERO));
    let run = infer(&machine, &studio, &["-m", "cold", "--unload"]);
    run.ok();
    assert_eq!(request_bodies(&studio, UNLOAD).len(), 1, "{run:?}");
    infer(&machine, &studio, &["-m", "cold"]).ok();
    infer(&machine, &studio, &["-m", "cold", "--reload"]).ok();
    assert_eq!(
        (studio.load_count(), request_bodies(&studio, UNLOAD).len()),
        (3, 2)
    );
    let run = machine.run(&["load", "cool", "--engine", &studio.url()]);
    assert!(run.fails(5).contains("cold"), "{run:?}");
    let run = machine.run(&["load", "demo", "--engine", "embedded"]);
    assert!(run.fails(2).contains("embedded"), "{run:?}");
}

#[test]
fn a_model_that_does_not_fit_into_memory_is_refused_with_the_sizes() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![Model {
            size_bytes: 1 << 60,
            ..Model::llm("huge", 32_768)
        }],
        ..Setup::default()
    });
    let run = infer(&machine, &studio, &["-m", "huge", "--context", "4096"]);
    let stderr = run.fails(5);
    assert!(
        stderr.contains("context of 4096 tokens needs about") && stderr.contains("--force"),
        "{stderr}"
    );
    // It does not fit with the default context, either.
    infer(&machine, &studio, &["-m", "huge"]).fails(5);
    assert_eq!(studio.load_count(), 0);
    infer(
        &machine,
        &studio,
        &["-m", "huge", "--context", "4096", "--force"],
    )
    .ok();
    assert_eq!(studio.load_count(), 1);
}

#[cfg(unix)]
#[test]
fn an_old_lm_studio_loads_and_unloads_through_lms() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        has_v1: false,
        ..setup_with_cold_model(Duration::ZERO)
    });
    let script = "#!/bin/sh\necho \"$@\" >> \"$(dirname \"$0\")/calls\"\n";
    let lms = machine.write("bin/lms", script);
    std::fs::set_permissions(&lms, std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = studio.url();
    let path = format!("{}:/usr/bin:/bin", lms.parent().unwrap().display());
    // The server does not report the effective context, so the percentage refers to the
    // declared one.
    let more = ["-m", "cold", "--context", "4096", "--out_ctx", "25%"];
    let mut command = machine.command(&infer_args(&url, &more));
    finish(command.env("PATH", path).spawn().unwrap()).ok();
    let requests = request_bodies(&studio, "/v1/chat/completions");
    assert_eq!(requests[0]["max_tokens"], 8192, "{requests:?}");
    let calls = machine.read("bin/calls");
    let port = url.rsplit(':').next().unwrap();
    assert!(
        calls.contains(&format!(
            "load cold -y --context-length 4096 --host 127.0.0.1 --port {port}"
        )),
        "{calls}"
    );
    // Without `lms` LM Studio loads just in time and reports the context.
    infer(&machine, &studio, &["-m", "cold"]).ok();
    let args = ["unload", "cold", "cold", "--force", "--engine", &url];
    let run = machine.run(&args);
    assert!(run.fails(5).contains("cannot unload"), "{run:?}");
    let path = format!("{}:/usr/bin:/bin", lms.parent().unwrap().display());
    finish(machine.command(&args).env("PATH", path).spawn().unwrap()).ok();
    let calls = machine.read("bin/calls");
    let unload = format!("unload cold --host 127.0.0.1 --port {port}\n");
    // The model is named twice and unloaded once.
    assert_eq!(calls.matches(&unload).count(), 1, "{calls}");
    assert_eq!(request_bodies(&studio, UNLOAD), [Value::Null; 0]);
}

/// The estimate of `lms` takes precedence over the built-in one.
#[cfg(unix)]
#[test]
fn a_memory_estimate_of_lms_refuses_a_load_and_hints_at_a_context_that_fits() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    let studio = FakeStudio::start(setup_with_cold_model(Duration::ZERO));
    // One gigabyte for the weights and one for each token.
    let script = "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = --context-length ] && context=$2; shift; done\n\
                  echo \"Estimated Total Memory: $((1 + context)) GB\"\n";
    let lms = machine.write("bin/lms", script);
    std::fs::set_permissions(&lms, std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = studio.url();
    let path = format!("{}:/usr/bin:/bin", lms.parent().unwrap().display());
    let mut command = machine.command(&infer_args(&url, &["-m", "cold", "--context", "32000"]));
    let run = finish(command.env("PATH", &path).spawn().unwrap());
    let stderr = run.fails(5);
    assert!(
        stderr.contains("context of 32000 tokens needs about 32001.00 GB"),
        "{stderr}"
    );
    // No context fits in memory, so the hint is --force only.
    assert!(
        stderr.contains("--force") && studio.load_count() == 0,
        "{stderr}"
    );
    let script = script.replace("$((1 + context)) GB", "$((context * 64)) MB");
    machine.write("bin/lms", script);
    let mut command = machine.command(&infer_args(&url, &["-m", "cold", "--context", "32000"]));
    let run = finish(command.env("PATH", &path).spawn().unwrap());
    let stderr = run.fails(5);
    // The hint is a context that fits, in steps of 256 tokens.
    let hinted = stderr
        .split("--context ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let hinted: u64 = hinted.unwrap().parse().unwrap();
    assert!(hinted.is_multiple_of(256) && hinted < 32_000, "{stderr}");
}

#[test]
fn test_all_tests_one_model_after_another() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![Model::llm("one", 4096), Model::llm("two", 8192)],
        answer: Answer::Recall(usize::MAX),
        ..setup_with_cold_model(Duration::ZERO)
    });
    let url = studio.url();
    let run = machine.run(&["test", "--all", "--engine", &url, "--json"]);
    run.ok();
    let results = run.json()["results"].as_array().unwrap().clone();
    let found: Vec<(&str, u64)> = results
        .iter()
        .map(|result| {
            (
                result["model"].as_str().unwrap(),
                result["context"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(found, [("one", 4096), ("two", 8192)]);
    // Each model is unloaded before the next one is loaded.
    let loads_and_unloads: Vec<String> = studio
        .requests()
        .into_iter()
        .filter(|request| request.path == LOAD || request.path == UNLOAD)
        .map(|request| request.path)
        .collect();
    let alternates = |pair: &[String]| pair[0] != pair[1];
    assert!(
        loads_and_unloads.windows(2).all(alternates),
        "{loads_and_unloads:?}"
    );
    assert_eq!(loads_and_unloads.last().map(String::as_str), Some(UNLOAD));
}

#[test]
fn a_test_finds_the_largest_working_context() {
    // The fake server counts words: 20,000 bytes are about 3,560 tokens, plus the tokens
    // reserved for the answer.
    for (answer, level, min, max) in [
        (Answer::Recall(usize::MAX), "recalls", 9500, 10_000),
        (Answer::Recall(20_000), "recalls", 3600, 3900),
        (Answer::Text("Yes.".to_owned()), "accepts", 9500, 10_000),
    ] {
        let machine = Machine::new();
        let studio = FakeStudio::start(Setup {
            context: ContextRule::Smaller(10_000),
            answer,
            ..setup_with_cold_model(Duration::ZERO)
        });
        let url = studio.url();
        let plan = machine.run(&["test", "cold", "--engine", &url, "--dry-run"]);
        assert_eq!((plan.ok(), studio.load_count()), ("", 0), "{plan:?}");
        let run = machine.run(&["test", "cold", "--engine", &url, "--json"]);
        run.ok();
        let found = &run.json()["results"][0];
        assert_eq!(found["level"], level, "{found}");
        let context = found["context"].as_u64().unwrap();
        assert!((min..=max).contains(&context), "{found}");
        let outcomes: Vec<&str> = found["probes"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|probe| probe["outcome"].as_str())
            .collect();
        let failed = if max == 10_000 {
            "loaded-with-less"
        } else {
            "wrong-answer"
        };
        assert!(outcomes.contains(&failed), "{found}");
        // The test unloads its instances.
        let ps = machine.run(&["ps", "--engine", &url, "--json"]);
        assert_eq!(ps.json()["instances"], json!([]));
        let known = &registry(&machine)["engines"][&url]["models"]["cold"];
        assert_eq!(known["tested"]["context"], context);
        // The next load uses the tested context, and percentages refer to it.
        infer(
            &machine,
            &studio,
            &["-m", "cold", "--context", "50%", "--unload"],
        )
        .ok();
        infer(&machine, &studio, &["-m", "cold"]).ok();
        let contexts: Vec<u64> = request_bodies(&studio, LOAD)
            .iter()
            .filter_map(|body| body["context_length"].as_u64())
            .collect();
        assert_eq!(contexts[contexts.len() - 2..], [context / 2, context]);
        // The result is known: a second test loads nothing until `reset`.
        let load_count = studio.load_count();
        machine
            .run(&["test", "cold", "--engine", &url, "--level", level])
            .ok();
        assert_eq!(studio.load_count(), load_count);
        machine.run(&["reset", "cold"]).ok();
        assert_eq!(
            registry(&machine)["engines"][&url]["models"]["cold"]["tested"],
            Value::Null
        );
    }
}

#[test]
fn a_server_that_rounds_contexts_up_loads_once_per_probe() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        context: ContextRule::Larger(16_384),
        answer: Answer::Recall(usize::MAX),
        ..setup_with_cold_model(Duration::ZERO)
    });
    let url = studio.url();
    let run = machine.run(&[
        "test",
        "cold",
        "--engine",
        &url,
        "--json",
        "--max-context",
        "4000",
    ]);
    run.ok();
    let found = &run.json()["results"][0];
    assert_eq!(found["context"], 4000, "{found}");
    assert_eq!(
        studio.load_count(),
        found["probes"].as_array().unwrap().len(),
        "{found}"
    );
}

#[test]
fn a_killed_test_counts_its_context_as_failed() {
    let machine = Machine::new();
    let studio = FakeStudio::start(setup_with_cold_model(Duration::from_secs(2)));
    let url = studio.url();
    let args = ["test", "cold", "--engine", &url, "--level", "loads"];
    let mut child = machine.command(&args).spawn().unwrap();
    wait_for(|| !request_bodies(&studio, LOAD).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let known = &registry(&machine)["engines"][&url]["models"]["cold"]["trials"]["loads"];
    assert_eq!(known["pending"]["context"], 2048, "{known}");
    let run = machine.run(&[
        "test",
        "cold",
        "--engine",
        &url,
        "--level",
        "loads",
        "--context",
        "2048",
    ]);
    let stderr = run.fails(5);
    assert!(
        stderr.contains("did not finish")
            && stderr.contains("failed with 2048 tokens in an earlier test"),
        "{stderr}"
    );
    let more = [&args[..], &["--context", "2048", "--force"]].concat();
    machine.run(&more).ok();
}

#[test]
fn every_failed_probe_has_an_outcome_name() {
    for (setup, more, outcome) in [
        (
            Setup {
                load_error: Some("insufficient system resources".to_owned()),
                ..setup_with_cold_model(Duration::ZERO)
            },
            vec![],
            "did-not-load",
        ),
        (
            Setup {
                context: ContextRule::Smaller(1000),
                ..setup_with_cold_model(Duration::ZERO)
            },
            vec![],
            "loaded-with-less",
        ),
        (
            Setup {
                fault: crate::servers::studio::Fault::OverflowString,
                ..setup_with_cold_model(Duration::ZERO)
            },
            vec![],
            "refused",
        ),
        (
            setup_with_cold_model(Duration::from_secs(20)),
            vec!["--probe-timeout", "300ms"],
            "timed-out",
        ),
        (
            setup_with_cold_model(Duration::ZERO),
            vec!["--level", "recalls"],
            "wrong-answer",
        ),
    ] {
        let machine = Machine::new();
        let studio = FakeStudio::start(setup);
        let url = studio.url();
        let mut args = vec![
            "test",
            "cold",
            "--engine",
            &url,
            "--context",
            "2048",
            "--json",
        ];
        if !more.contains(&"--level") {
            args.extend(["--level", "accepts"]);
        }
        args.extend(more);
        let run = machine.run(&args);
        assert_eq!(run.code, Some(5), "{outcome}: {run:?}");
        let probe = &run.json()["results"][0]["probes"][0];
        assert_eq!(probe["outcome"], outcome, "{probe}");
    }
}

#[test]
fn test_works_with_the_embedded_engine() {
    let machine = Machine::new();
    let run = machine.run(&["test", "demo", "--engine", "embedded", "--json"]);
    run.ok();
    let found = &run.json()["results"][0];
    assert_eq!(found["level"], "accepts", "{found}");
    let context = found["context"].as_u64().unwrap();
    // The demo model declares 1024 tokens, and the engine accepts no more.
    assert!((973..=1024).contains(&context), "{found}");
    let probes = found["probes"].as_array().unwrap();
    let longest_prompt = probes
        .iter()
        .filter_map(|probe| probe["prompt_tokens"].as_u64())
        .max();
    assert!(longest_prompt.unwrap() >= context * 93 / 100, "{found}");
    assert!(run.stderr.contains("cannot recall"), "{run:?}");
    let more = machine.run(&["test", "demo", "--engine", "embedded", "--context", "1100"]);
    assert!(
        more.fails(2).contains("1024 tokens that `demo` declares"),
        "{more:?}"
    );
}

/// Writes a registry with `count` models `m0000`, `m0001`, …
fn write_large_registry(machine: &Machine, count: usize) {
    let models: serde_json::Map<String, Value> = (0..count)
        .map(|number| {
            let tested = json!({"context": 1000 + number, "level": "recalls", "complete": true});
            let model = json!({
                "architecture": "llama", "quantization": "Q4_K_M",
                "size_bytes": 1_000_000 * (number + 1), "declared_context": 8192,
                "tested": tested, "runs": number,
                "speeds": {"decode": [1.0, 2.0, 3.0], "first_token_s": [0.5]},
            });
            (format!("m{number:04}"), model)
        })
        .collect();
    let registry = json!({"schema": 1, "engines": {"http://127.0.0.1:1": {"kind": "lmstudio", "models": models}}});
    let data = machine.home().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("registry.json"), registry.to_string()).unwrap();
}

#[cfg(unix)]
#[test]
fn list_writes_no_files() {
    let machine = Machine::without_cache();
    machine.run(&["list"]).ok();
    assert!(!machine.home().join("data").exists());
    write_large_registry(&machine, 1000);
    let data = machine.home().join("data");
    let before = (file_states(&data), file_states(&machine.home()));
    let ids = machine.run(&["list", "--ids"]);
    assert_eq!(ids.ok().lines().count(), 1000);
    assert!(ids.text().starts_with("m0000\nm0001\n") && ids.stderr.is_empty());
    let smart = machine.run(&["list", "--ids", "--sort", "smart", "--reverse"]);
    assert!(smart.ok().starts_with("m0999\n"), "{}", &smart.text()[..50]);
    for (more, expected) in [
        (vec!["--filter", "M001", "--sort", "tested"], 10),
        (vec!["--loaded"], 0),
        (vec!["--engine", "embedded"], 0),
        (vec!["--show", "path"], 1000),
    ] {
        let args = [&["list", "--ids"][..], &more].concat();
        let args: Vec<&str> = if more[0] == "--show" {
            [&["list"][..], &more].concat()
        } else {
            args
        };
        assert_eq!(
            machine.run(&args).ok().lines().count(),
            expected,
            "{more:?}"
        );
    }
    let table = machine.run(&["list"]);
    assert!(table.ok().starts_with("MODEL"), "{}", &table.text()[..80]);
    assert_eq!(
        machine.run(&["list", "--json"]).json()["models"][7]["id"],
        "m0007"
    );
    let wrong = machine.run(&["list", "--sort", "beauty"]);
    assert!(wrong.fails(2).contains("smart"), "{wrong:?}");
    assert_eq!((file_states(&data), file_states(&machine.home())), before);
}

#[test]
fn list_succeeds_when_the_reader_closes_the_pipe() {
    let machine = Machine::without_cache();
    write_large_registry(&machine, 5000);
    let mut child = machine.command(&["list", "--ids"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(
        (child.wait().unwrap().code(), stderr.as_str()),
        (Some(0), "")
    );
    assert_eq!(line, "m0000\n");
}

#[test]
fn registry_updates_of_fifty_processes_are_all_kept() {
    let machine = Machine::without_cache();
    write_large_registry(&machine, 100);
    let children: Vec<Child> = (0..50)
        .map(|number| {
            let old = json!({"llms": {"p": {"id": format!("new{number}"), "ctx_in": 4096}}});
            let file = machine.write(&format!("{number}.json"), old.to_string());
            let file = file.to_str().unwrap();
            machine
                .command(&["scan", "--engine", "embedded", "--import", file])
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let _done = finish(child).ok();
    }
    let ids = machine.run(&["list", "--ids"]);
    assert_eq!(
        ids.ok()
            .lines()
            .filter(|line| line.starts_with("new"))
            .count(),
        50
    );
    assert_eq!(
        ids.text()
            .lines()
            .filter(|line| line.starts_with('m'))
            .count(),
        100
    );
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_keeps_the_old_registry() {
    let machine = Machine::without_cache();
    write_large_registry(&machine, 100);
    let path = machine.home().join("data/registry.json");
    let before = std::fs::read(&path).unwrap();
    let program = env!("CARGO_BIN_EXE_lmstrix-host");
    // Limits the size of files to a few kilobytes.
    let line = format!("ulimit -f 8; exec '{program}' scan --engine embedded");
    let scan = || {
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", &line])
            .env_clear()
            .env("LMSTRIX_HOST_HOME", machine.home())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        finish(command.spawn().unwrap())
    };
    let run = scan();
    let stderr = run.fails(1);
    assert!(
        stderr.contains("registry.json") && stderr.contains("unchanged"),
        "{stderr}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
    machine.run(&["scan", "--engine", "embedded"]).ok();
    // A corrupt registry is not changed while the disk is full; the backup is used.
    std::fs::write(&path, "{").unwrap();
    for _ in 0..2 {
        scan().fails(1);
        assert_eq!(std::fs::read(&path).unwrap(), b"{");
        let ids = machine.run(&["list", "--ids"]);
        assert_eq!(ids.ok().lines().count(), 100, "{ids:?}");
    }
    machine.run(&["scan", "--engine", "embedded"]).ok();
    assert_eq!(machine.run(&["list", "--ids"]).ok().lines().count(), 101);
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_an_error_and_keeps_the_old_registry() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::without_cache();
    write_large_registry(&machine, 3);
    let data = machine.home().join("data");
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let before = file_states(&data);
    let mut command = machine.command_without_root(&["scan", "--engine", "embedded"]);
    set_mode(&data, 0o555);
    let run = finish(command.spawn().unwrap());
    set_mode(&data, 0o755);
    let stderr = run.fails(1);
    assert!(
        stderr.contains("registry.json") && stderr.contains("ermission denied"),
        "{stderr}"
    );
    assert_eq!(file_states(&data), before);
}

#[test]
fn a_corrupt_registry_is_renamed_and_replaced_by_its_backup() {
    let machine = Machine::without_cache();
    write_large_registry(&machine, 2);
    machine.run(&["scan", "--engine", "embedded"]).ok();
    let data = machine.home().join("data");
    std::fs::write(data.join("registry.json"), "{\"schema\": 1, \"eng").unwrap();
    let run = machine.run(&["list", "--ids"]);
    assert_eq!(run.ok(), "m0000\nm0001\n");
    assert!(run.stderr.contains("is corrupt"), "{run:?}");
    let doctor = machine.run(&["doctor", "--engine", "embedded"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    let run = machine.run(&["scan", "--engine", "embedded"]);
    run.ok();
    assert!(run.stderr.contains("is kept as"), "{run:?}");
    let renamed = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().contains("corrupt-"));
    assert_eq!(
        std::fs::read_to_string(renamed.unwrap()).unwrap(),
        "{\"schema\": 1, \"eng"
    );
    assert_eq!(machine.run(&["list", "--ids"]).ok(), "demo\nm0000\nm0001\n");
    // The scan has repaired the registry.
    machine.run(&["doctor", "--engine", "embedded"]).ok();
}

#[test]
fn a_scan_records_models_and_a_failed_scan_keeps_them() {
    let machine = Machine::new();
    let embedding = Model {
        kind: "embedding",
        ..Model::llm("embedder", 2048)
    };
    let vision = Model {
        vision: true,
        ..Model::llm("vision", 8192)
    };
    let studio = FakeStudio::start(Setup {
        models: vec![embedding, vision, Model::llm("plain", 4096)],
        ..Setup::default()
    });
    let url = studio.url();
    machine.run(&["scan", "--engine", &url]).ok();
    assert_eq!(machine.run(&["list", "--ids"]).ok(), "plain\nvision\n");
    assert_eq!(machine.run(&["list", "--ids", "--vision"]).ok(), "vision\n");
    assert_eq!(
        machine.run(&["list", "--ids", "--all"]).ok(),
        "embedder\nplain\nvision\n"
    );
    // The server is stopped: the scan fails and keeps the models.
    drop(studio);
    let run = machine.run(&["scan", "--engine", &url]);
    run.fails(4);
    assert_eq!(machine.run(&["list", "--ids"]).ok(), "plain\nvision\n");
}

#[test]
fn runs_record_speeds_and_the_last_used_model() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![Model::llm("one", 4096), Model::llm("two", 4096)],
        answer: Answer::Tokens(50),
        token_pause: Duration::from_millis(2),
        ..Setup::default()
    });
    let url = studio.url();
    let run = infer(&machine, &studio, &[]);
    assert!(run.fails(2).contains("no model specified"), "{run:?}");
    infer(&machine, &studio, &["-m", "two", "--unload"]).ok();
    let list = machine.run(&["list", "--json"]);
    let known = &list.json()["models"][0];
    assert_eq!(
        (&known["id"], &known["runs"]),
        (&json!("two"), &json!(1)),
        "{known}"
    );
    assert!(
        known["speeds"]["decode"][0].as_f64().unwrap() > 1.0,
        "{known}"
    );
    // No model is loaded or named: the last used one is loaded.
    infer(&machine, &studio, &[]).ok();
    assert_eq!(
        request_bodies(&studio, LOAD).last().unwrap()["model"],
        "two"
    );
    let about = machine.run(&["about", "--json"]);
    assert_eq!(about.json()["last_used"]["model"], "two");
    assert_eq!(about.json()["runs"], 2);
    machine.run(&["scan", "--engine", &url]).ok();
    assert_eq!(
        registry(&machine)["engines"][&url]["models"]["two"]["runs"],
        2
    );
}

#[test]
fn save_writes_tested_contexts_to_lm_studio_and_undo_restores() {
    let machine = Machine::new();
    let studio_home = machine.work().join("user/.lmstudio");
    let file = "pub/repo/model.gguf";
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gguf/assets/demo.gguf");
    std::fs::create_dir_all(studio_home.join("models/pub/repo")).unwrap();
    std::fs::copy(&gguf, studio_home.join("models").join(file)).unwrap();
    let studio = FakeStudio::start(Setup {
        models: vec![Model {
            size_bytes: std::fs::metadata(&gguf).unwrap().len(),
            ..Model::llm("repo/model", 32_768)
        }],
        context: ContextRule::Smaller(9000),
        ..Setup::default()
    });
    let url = studio.url();
    let config = format!("[defaults]\ndiscover = false\n[engines.studio]\nurl = \"{url}\"\n");
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    let run = |args: &[&str]| {
        let mut command = machine.command(args);
        finish(
            command
                .env("HOME", machine.work().join("user"))
                .spawn()
                .unwrap(),
        )
    };
    run(&["scan"]).ok();
    assert_eq!(
        registry(&machine)["engines"][&url]["models"]["repo/model"]["path"],
        file
    );
    // The embedded engine can run the file, too.
    assert!(
        run(&["list", "--ids", "--engine", "embedded"])
            .ok()
            .contains(file)
    );
    let untested = run(&["save"]);
    assert!(
        untested
            .stderr
            .contains("no LM Studio model has a tested context length"),
        "{untested:?}"
    );
    run(&[
        "test",
        "repo/model",
        "--engine",
        "studio",
        "--level",
        "loads",
    ])
    .ok();
    let settings = studio_home
        .join(".internal/user-concrete-model-default-config")
        .join(format!("{file}.json"));
    let dry = run(&["save", "--dry-run", "--limit", "50%"]);
    assert!(dry.ok().contains("+        \"value\": 4"), "{dry:?}");
    assert!(!settings.exists());
    let small = run(&["save", "--limit", "75"]);
    assert!(
        small.fails(1).contains("75 tokens is less than 512"),
        "{small:?}"
    );
    run(&["save"]).ok();
    let written: Value = serde_json::from_slice(&std::fs::read(&settings).unwrap()).unwrap();
    let context = written["load"]["fields"][0]["value"].as_u64().unwrap();
    assert!((8550..=9000).contains(&context), "{written}");
    let dry = run(&["save", "--undo", "--dry_run"]);
    dry.ok();
    assert!(dry.stderr.contains("would restore"), "{dry:?}");
    assert!(settings.exists());
    run(&["save", "--undo"]).ok();
    assert!(!settings.exists());
    // Removed models are skipped.
    let data = machine.home().join("data/registry.json");
    let mut all = registry(&machine);
    all["engines"][&url]["models"]["repo/model"]["missing_since"] = json!("2026-01-01T00:00:00Z");
    std::fs::write(data, all.to_string()).unwrap();
    let removed = run(&["save"]);
    removed.ok();
    assert!(removed.stderr.contains("did not find"), "{removed:?}");
    assert!(!settings.exists());
    assert!(
        run(&["save", "--undo"])
            .fails(2)
            .contains("no `save` to undo")
    );
}

#[test]
fn doctor_reports_unreachable_engines_and_broken_files() {
    let machine = Machine::new();
    let run = machine.run(&["doctor", "--json"]);
    assert_eq!(run.json()["ok"], true, "{run:?}");
    assert_eq!(run.code, Some(0));
    let config = "[defaults]\ndiscover = false\n[engines.gone]\nurl = \"http://127.0.0.1:9\"\n";
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    machine.write("packs/broken.wasm", b"no component");
    std::fs::create_dir_all(machine.home().join("data/models")).unwrap();
    std::fs::write(machine.home().join("data/models/half.gguf"), b"GGUF").unwrap();
    let run = machine.run(&["doctor"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    for subject in ["http://127.0.0.1:9", "broken.wasm", "half.gguf"] {
        let line = run.text().lines().find(|line| line.contains(subject));
        assert!(
            line.is_some_and(|line| line.starts_with("WRONG")),
            "{subject}: {}",
            run.text()
        );
    }
}

#[test]
fn completions_offer_models_prompts_packs_and_commands() {
    let machine = Machine::new();
    write_large_registry(&machine, 3);
    machine.write("packs/mine.wasm", b"");
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = machine.run(&["completions", shell]);
        assert!(script.ok().contains("LMSTRIX_HOST_COMPLETE"), "{script:?}");
    }
    machine.run(&["completions", "tcsh"]).fails(2);
    let candidates = |words: &[&str]| {
        let args = [&["--", "lmstrix-host"][..], words].concat();
        let mut command = machine.command(&args);
        let run = finish(
            command
                .env("LMSTRIX_HOST_COMPLETE", "fish")
                .spawn()
                .unwrap(),
        );
        run.ok().to_owned()
    };
    assert_eq!(
        candidates(&["infer", "x", "-m", "m000"]),
        "m0000\nm0001\nm0002\n"
    );
    assert_eq!(candidates(&["infer", "tl"]), "tldr\n");
    assert_eq!(candidates(&["infer", "x", "--pack", "m"]), "mine\n");
    // Packs are asked for their names once they are compiled.
    machine.install_pack("shout", &crate::guests::component("shout"));
    machine.install_pack("hello", &crate::guests::component("hello"));
    assert_eq!(candidates(&["infer", "hello/"]), "");
    machine.run(&["pack", "show", "hello"]).ok();
    machine.run(&["pack", "show", "shout"]).ok();
    assert_eq!(candidates(&["infer", "hello/"]), "hello/greet\n");
    assert_eq!(candidates(&["infer", "hello/greet", "-p", ""]), "name=\n");
    assert_eq!(candidates(&["batch", "-P", "tldr", "-p", "te"]), "text=\n");
    assert_eq!(candidates(&["infer", "x", "--post", "t"]), "tag\ntrim\n");
    machine.write("packs/adam.toml", "ask = 'About {{topic}}.'\n");
    assert_eq!(candidates(&["infer", "adam/"]), "adam/ask\n");
    assert_eq!(candidates(&["infer", "adam/ask", "-p", ""]), "topic=\n");
    assert_eq!(
        candidates(&["batch", "--post", "sh"]),
        "shout/upper\nshout/count\n"
    );
    assert_eq!(candidates(&["unl"]).split('\t').next(), Some("unload"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_during_a_probe_unloads_and_records_no_failure() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        fault: crate::servers::studio::Fault::HangMidStream,
        ..setup_with_cold_model(Duration::ZERO)
    });
    let url = studio.url();
    let child = machine
        .command(&["test", "cold", "--engine", &url])
        .spawn()
        .unwrap();
    wait_for(|| !request_bodies(&studio, "/v1/chat/completions").is_empty());
    crate::support::interrupt(&child);
    assert_eq!(finish(child).code, Some(130));
    let known = &registry(&machine)["engines"][&url]["models"]["cold"]["trials"]["recalls"];
    assert_eq!(
        (&known["pending"], &known["bad"]),
        (&Value::Null, &Value::Null),
        "{known}"
    );
    assert_eq!(
        request_bodies(&studio, UNLOAD),
        [json!({"instance_id": "cold"})]
    );
}

#[test]
fn ollama_requests_use_the_context_of_the_load() {
    use crate::servers::scripted::{ScriptedServer, json_response as reply, not_found, response};
    let machine = Machine::new();
    let server = ScriptedServer::start(|request, before| match request.path.as_str() {
        "/api/version" => reply(json!({"version": "0.12.0"})),
        "/" => response(200, "text/plain", "Ollama is running"),
        "/api/tags" => reply(json!({"models": [
            {"name": "m:latest", "model": "m:latest", "size": 1000, "details": {"family": "llama"}},
        ]})),
        // Not loaded in the first two responses, then loaded with the requested context.
        "/api/ps" if before < 2 => reply(json!({"models": []})),
        "/api/ps" => reply(json!({"models": [{"model": "m:latest", "context_length": 3000}]})),
        "/api/show" => reply(
            json!({"model_info": {"general.architecture": "llama", "llama.context_length": 8192}, "capabilities": ["completion"]}),
        ),
        "/api/generate" => {
            reply(json!({"model": "m:latest", "response": "", "done": true, "done_reason": "load"}))
        }
        "/api/chat" => response(
            200,
            "application/x-ndjson",
            "{\"model\":\"m:latest\",\"message\":{\"role\":\"assistant\",\"content\":\"hi\"},\"done\":false}\n\
             {\"model\":\"m:latest\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":5,\"eval_count\":1}\n",
        ),
        _ => not_found(),
    });
    let url = server.url();
    let data = machine.home().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let tested = json!({"context": 3000, "complete": true});
    let known = json!({"schema": 1, "engines": {&url: {"kind": "ollama", "models": {"m:latest": {"tested": tested}}}}});
    std::fs::write(data.join("registry.json"), known.to_string()).unwrap();
    machine
        .run(&infer_args(&url, &["-m", "m", "--unload"]))
        .ok();
    let bodies = |path: &str| -> Vec<Value> {
        let requests = server.requests().into_iter();
        requests
            .filter(|request| request.path == path)
            .map(|request| request.body)
            .collect()
    };
    let loads = bodies("/api/generate");
    assert_eq!(loads[0]["options"]["num_ctx"], 3000, "{loads:?}");
    let chat = bodies("/api/chat").remove(0);
    assert_eq!(chat["options"]["num_ctx"], 3000, "{chat}");
    // At most what the context has left.
    let max_tokens = chat["options"]["num_predict"].as_u64().unwrap();
    assert!((2900..3000).contains(&max_tokens), "{chat}");
    assert_eq!(
        (&loads[1]["keep_alive"], &loads[1]["model"]),
        (&json!(0), &json!("m:latest"))
    );
    // It was unloaded and is still listed: another program must have loaded it since.
    let plan = machine.run(&["test", "m", "--engine", &url, "--dry-run"]);
    assert!(
        plan.stderr
            .contains("another program has loaded `m:latest` with 3000 tokens"),
        "{plan:?}"
    );
}

#[test]
fn the_llama_server_router_loads_with_progress_and_unloads() {
    use crate::servers::scripted::{
        ScriptedServer, json_response as reply, not_found, response, sse_head, stream_end,
        text_chunk,
    };
    let machine = Machine::new();
    let is_unloaded = AtomicBool::new(false);
    let server = ScriptedServer::start(move |request, before| match request.path.as_str() {
        "/props" => reply(json!({"role": "router", "build_info": "b1"})),
        // Unloaded, then loading, then loaded until it is unloaded.
        "/models" => {
            let value = ["unloaded", "unloaded", "loading", "loading", "loaded"];
            let value = match is_unloaded.load(Ordering::SeqCst) {
                true => "unloaded",
                false => value.get(before).copied().unwrap_or("loaded"),
            };
            reply(json!({"data": [{"id": "m", "status": {"value": value}}]}))
        }
        "/models/sse" => {
            let status = json!({"model": "m", "event": "model_status",
                "data": {"status": "loading", "progress": {"stage": "text_model", "value": 0.5}}});
            response(200, "text/event-stream", format!("data: {status}\n\n"))
        }
        "/models/load" => reply(json!({"success": true})),
        "/models/unload" => {
            is_unloaded.store(true, Ordering::SeqCst);
            reply(json!({"success": true}))
        }
        "/props?model=m" => reply(json!({"default_generation_settings": {"n_ctx": 4096}})),
        "/v1/chat/completions" => vec![sse_head(), text_chunk("hi"), stream_end("stop")],
        _ => not_found(),
    });
    let run = machine.run(&infer_args(&server.url(), &["-m", "m", "--events"]));
    assert!(run.ok().contains(r#""progress":0.5"#), "{run:?}");
    // The instance is owned by this program.
    let ps = machine.run(&["ps", "--engine", &server.url(), "--json"]);
    assert_eq!(ps.json()["instances"][0]["ours"], true, "{ps:?}");
    machine
        .run(&["unload", "--all", "--engine", &server.url()])
        .ok();
    let requests = server.requests();
    let unloads: Vec<&Value> = requests
        .iter()
        .filter(|request| request.path == "/models/unload")
        .map(|request| &request.body)
        .collect();
    assert_eq!(unloads, [&json!({"model": "m"})]);
}

#[cfg(unix)]
#[test]
fn control_characters_in_model_names_are_escaped_on_a_terminal() {
    let machine = Machine::new();
    let key = "evil\u{1b}]52;c;cm0gLXJm\u{7}\u{202e}name";
    let studio = FakeStudio::start(Setup {
        models: vec![Model {
            loaded: vec![(key.to_owned(), 4096)],
            ..Model::llm(key, 4096)
        }],
        load_error: Some("no\u{1b}[2J".to_owned()),
        ..Setup::default()
    });
    let url = studio.url();
    for args in [
        vec!["scan", "--engine", &url],
        vec!["list"],
        vec!["list", "--ids"],
        vec!["list", "--json"],
        vec!["list", "--show", "md"],
        vec!["ps", "--engine", &url],
        vec!["ps", "--engine", &url, "--json"],
        vec!["test", key, "--engine", &url, "--context", "2000"],
        vec!["load", key, "--engine", &url, "--context", "4096"],
        vec!["unload", key, "--engine", &url],
        vec!["reset", key],
        vec!["about"],
        vec!["doctor", "--engine", &url],
    ] {
        let (_, output) = machine.run_on_terminal(&args);
        assert!(!output.is_empty(), "{args:?}");
        assert!(
            output
                .chars()
                .all(|c| matches!(c, '\n' | '\r') || !(c.is_control() || c == '\u{202e}')),
            "{args:?}: {output:?}"
        );
    }
}

#[cfg(unix)]
#[test]
fn test_dry_run_changes_no_files() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Recall(usize::MAX),
        ..setup_with_cold_model(Duration::ZERO)
    });
    let url = studio.url();
    let test = ["test", "cold", "--engine", &url];
    let plan = machine.run(&[&test[..], &["--dry-run"]].concat());
    plan.ok();
    assert!(
        plan.stderr
            .contains("1024 tokens first, then 2048 and up to 32768"),
        "{plan:?}"
    );
    assert!(!machine.home().join("data").exists());
    machine
        .run(&[&test[..], &["--max-context", "4096"]].concat())
        .ok();
    let data = machine.home().join("data");
    let before = file_states(&data);
    for (more, message) in [
        (vec![], "8192 tokens first"),
        (vec!["--reset"], "1024 tokens first"),
        (vec!["--force"], "8192 tokens first"),
        (vec!["--context", "2000"], "only 2000 tokens"),
    ] {
        let args = [&test[..], &["--dry-run"], &more].concat();
        let run = machine.run(&args);
        run.ok();
        assert!(run.stderr.contains(message), "{more:?}: {run:?}");
        assert_eq!(file_states(&data), before, "{more:?}");
    }
}

#[test]
fn a_limited_or_failed_test_keeps_the_better_result() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        context: ContextRule::Smaller(10_000),
        answer: Answer::Recall(usize::MAX),
        ..setup_with_cold_model(Duration::ZERO)
    });
    let url = studio.url();
    let test = ["test", "cold", "--engine", &url, "--json"];
    let tested = || registry(&machine)["engines"][&url]["models"]["cold"]["tested"].clone();
    let run = machine.run(&[&test[..], &["--max-context", "4096"]].concat());
    run.ok();
    let found = &run.json()["results"][0];
    assert_eq!(
        (&found["context"], &found["complete"]),
        (&json!(4096), &json!(false))
    );
    assert_eq!(tested()["complete"], false);
    machine.run(&test).ok();
    let complete = tested();
    assert_eq!(complete["complete"], true, "{complete}");
    // A test without probes, a limited one, and one of a lower level.
    for more in [
        vec![],
        vec!["--max-context", "4096"],
        vec!["--level", "loads"],
    ] {
        machine.run(&[&test[..], &more].concat()).ok();
        if !more.contains(&"loads") {
            assert_eq!(tested(), complete, "{more:?}");
        }
    }
    machine
        .run(&[&test[..], &["--context", "0"]].concat())
        .fails(2);
    let data = machine.home().join("data/registry.json");
    // Keeps the result without the trials, so that the next test probes again.
    let mut all = registry(&machine);
    all["engines"][&url]["models"]["cold"]["trials"] = json!({});
    let known = tested();
    drop(studio);
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    for setup in [
        Setup {
            load_error: Some("out of order".to_owned()),
            ..setup_with_cold_model(Duration::ZERO)
        },
        setup_with_cold_model(Duration::from_secs(20)),
    ] {
        std::fs::write(&data, all.to_string()).unwrap();
        let _studio = FakeStudio::start(Setup { port, ..setup });
        let args = [&test[..], &["--probe-timeout", "300ms"]].concat();
        let run = machine.run(&args);
        assert_eq!(run.code, Some(5), "{run:?}");
        assert_eq!(tested(), known);
        // The next test prints which earlier failure limits it.
        let run = machine.run(&args);
        assert!(
            run.stderr.contains("tokens failed in an earlier test"),
            "{run:?}"
        );
    }
}

#[test]
fn test_lowers_the_level_for_a_model_without_answers() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Text("  ".to_owned()),
        ..setup_with_cold_model(Duration::ZERO)
    });
    let url = studio.url();
    let run = machine.run(&["test", "cold", "--engine", &url, "--json"]);
    run.ok();
    let found = &run.json()["results"][0];
    assert_eq!(found["level"], "loads", "{found}");
    assert_eq!(found["context"], 32_768, "{found}");
    assert!(
        found["note"].as_str().unwrap().contains("gave no answer"),
        "{found}"
    );
}

#[cfg(unix)]
#[test]
fn a_process_that_started_after_the_probe_is_a_different_one() {
    let machine = Machine::new();
    let studio = FakeStudio::start(setup_with_cold_model(Duration::ZERO));
    let url = studio.url();
    let mut other = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let data = machine.home().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let args = [
        "test",
        "cold",
        "--engine",
        &url,
        "--level",
        "loads",
        "--context",
        "2048",
    ];
    for (at, is_dead) in [
        ("2020-01-01T00:00:00Z", true),
        ("2099-01-01T00:00:00Z", false),
    ] {
        let pending = json!({"context": 2048, "process": other.id(), "at": at});
        let model = json!({"trials": {"loads": {"pending": pending}}});
        let all = json!({"schema": 1, "engines": {&url: {"kind": "lmstudio", "models": {"cold": model}}}});
        std::fs::write(data.join("registry.json"), all.to_string()).unwrap();
        let run = machine.run(&args);
        assert_eq!(
            run.stderr.contains("did not finish"),
            is_dead,
            "{at}: {run:?}"
        );
        assert_eq!(run.code, Some(if is_dead { 5 } else { 0 }), "{at}: {run:?}");
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

#[cfg(unix)]
#[test]
fn ctrl_c_or_a_timeout_during_a_load_leaves_nothing_loaded() {
    let machine = Machine::new();
    let studio = FakeStudio::start(setup_with_cold_model(Duration::from_secs(3)));
    let url = studio.url();
    let args = ["test", "cold", "--engine", &url, "--context", "2048"];
    let child = machine.command(&args).spawn().unwrap();
    wait_for(|| !request_bodies(&studio, LOAD).is_empty());
    crate::support::interrupt(&child);
    assert_eq!(finish(child).code, Some(130));
    let assert_none_loaded = || {
        let ps = machine.run(&["ps", "--engine", &url, "--json"]);
        assert_eq!(ps.json()["instances"], json!([]), "{ps:?}");
    };
    assert_none_loaded();
    assert_eq!(
        request_bodies(&studio, UNLOAD),
        [json!({"instance_id": "cold"})]
    );
    let run = machine.run(&[&args[..], &["--probe-timeout", "300ms"]].concat());
    assert!(run.stderr.contains("timed out"), "{run:?}");
    assert_none_loaded();
}

#[test]
fn more_context_than_declared_is_refused_without_force() {
    let machine = Machine::new();
    let studio = FakeStudio::start(setup_with_cold_model(Duration::ZERO));
    let url = studio.url();
    let load = ["load", "cold", "--engine", &url, "--context", "99999999"];
    let run = machine.run(&load);
    let stderr = run.fails(2);
    assert!(
        stderr.contains("99999999 tokens exceeds the model's declared context of 32768"),
        "{stderr}"
    );
    assert_eq!(studio.load_count(), 0);
    // Usage errors do not count as failures of the model.
    infer(&machine, &studio, &["-m", "cold", "--context", "40000"]).fails(2);
    let long = "word ".repeat(50_000);
    let args = ["infer", "Say: {{text}}", "--engine", &url, "-m", "cold"];
    let run = machine.run_with_stdin(&args, long.as_bytes());
    run.fails(6);
    assert_eq!(machine.run(&["list", "--ids", "--failed"]).ok(), "");
    machine.run(&[&load[..], &["--force"]].concat()).ok();
    assert_eq!(
        request_bodies(&studio, LOAD).last().unwrap()["context_length"],
        99_999_999
    );
}

#[test]
fn localhost_and_127_0_0_1_are_the_same_server() {
    let machine = Machine::new();
    let studio = FakeStudio::start(setup_with_cold_model(Duration::ZERO));
    let by_name = studio.url().replace("127.0.0.1", "localhost");
    machine.run(&["load", "cold", "--engine", &by_name]).ok();
    machine
        .run(&["load", "cold", "--engine", &studio.url()])
        .ok();
    assert_eq!(studio.load_count(), 1);
    let ps = machine.run(&["ps", "--engine", &by_name, "--json"]);
    assert_eq!(ps.json()["instances"][0]["ours"], true, "{ps:?}");
}

#[test]
fn scan_import_fills_only_missing_facts() {
    let machine = Machine::new();
    let studio = FakeStudio::start(setup_with_cold_model(Duration::ZERO));
    let url = studio.url();
    machine.run(&["scan", "--engine", &url]).ok();
    let old = json!({"llms": {"pub/cold.gguf": {
        "id": "cold", "ctx_in": 32_768, "tested_max_context": 30_000, "tps": 42.0,
        "keywords": ["chat"], "context_test_status": "completed",
    }}});
    let file = machine.write("lmstrix.json", old.to_string());
    let args = [
        "scan",
        "--engine",
        &url,
        "--json",
        "--import",
        file.to_str().unwrap(),
    ];
    let run = machine.run(&args);
    run.ok();
    assert_eq!(run.json()["imported"], 1, "{run:?}");
    let known = registry(&machine)["engines"][&url]["models"]["cold"].clone();
    assert_eq!(
        (
            &known["tested"]["context"],
            &known["path"],
            &known["speeds"]["decode"][0],
            &known["keywords"],
        ),
        (
            &json!(30_000),
            &json!("pub/cold.gguf"),
            &json!(42.0),
            &json!(["chat"])
        )
    );
    let run = machine.run(&args);
    assert_eq!(run.json()["imported"], 0, "{run:?}");
    assert!(run.stderr.contains("already known"), "{run:?}");
    // Without a running server, the import uses the port of LM Studio's own config.
    let user = machine.work().join("user");
    let internal = user.join(".lmstudio/.internal");
    std::fs::create_dir_all(&internal).unwrap();
    let config = internal.join("http-server-config.json");
    std::fs::write(config, r#"{"port": 4321}"#).unwrap();
    let args = ["scan", "--import", file.to_str().unwrap()];
    finish(machine.command(&args).env("HOME", &user).spawn().unwrap()).ok();
    let engines = registry(&machine)["engines"].clone();
    assert_eq!(
        engines["http://127.0.0.1:4321"]["models"]["cold"]["tested"]["context"],
        30_000
    );
}

#[test]
fn scan_without_files_keeps_models_of_lm_studios_folder() {
    let machine = Machine::new();
    let user = machine.work().join("user");
    let folder = user.join(".lmstudio/models/pub/repo");
    std::fs::create_dir_all(&folder).unwrap();
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gguf/assets/demo.gguf");
    std::fs::copy(gguf, folder.join("model.gguf")).unwrap();
    let listed = |args: &[&str]| {
        let child = machine.command(args).env("HOME", &user).spawn().unwrap();
        finish(child).ok();
        machine.run(&["list", "--ids"]).ok().contains("model.gguf")
    };
    assert!(listed(&["scan"]));
    assert!(listed(&["scan", "--no-files"]));
    std::fs::remove_file(folder.join("model.gguf")).unwrap();
    assert!(!listed(&["scan"]));
}

#[test]
fn a_router_load_started_by_another_program_is_not_owned() {
    use crate::servers::scripted::{
        ScriptedServer, json_response as reply, not_found, response, sse_head, stream_end,
        text_chunk,
    };
    for is_listed in [false, true] {
        let machine = Machine::new();
        let loading = AtomicBool::new(is_listed);
        let server = ScriptedServer::start(move |request, before| match request.path.as_str() {
            "/props" => reply(json!({"role": "router", "build_info": "b1"})),
            "/models" => {
                let value = match loading.load(Ordering::SeqCst) {
                    false => "unloaded",
                    true if before < 5 => "loading",
                    true => "loaded",
                };
                reply(json!({"data": [{"id": "m", "status": {"value": value}}]}))
            }
            "/models/load" => {
                loading.store(true, Ordering::SeqCst);
                let text = json!({"error": {"message": "model is already running", "code": 400}});
                response(400, "application/json", text.to_string())
            }
            "/props?model=m" => reply(json!({"default_generation_settings": {"n_ctx": 4096}})),
            "/v1/chat/completions" => vec![sse_head(), text_chunk("hi"), stream_end("stop")],
            _ => not_found(),
        });
        let run = machine.run(&infer_args(&server.url(), &["-m", "m", "--unload"]));
        run.ok();
        assert!(run.stderr.contains("did not load it"), "{run:?}");
        let paths = |path: &str| {
            server
                .requests()
                .iter()
                .filter(|request| request.path == path)
                .count()
        };
        assert_eq!(paths("/models/load"), usize::from(!is_listed));
        assert_eq!(paths("/models/unload"), 0);
        let ps = machine.run(&["ps", "--engine", &server.url(), "--json"]);
        assert_eq!(ps.json()["instances"][0]["ours"], false, "{ps:?}");
    }
}

#[test]
fn doctor_prints_the_version_of_lm_studio() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup::default());
    let run = machine.run(&["doctor", "--engine", &studio.url()]);
    assert!(run.text().contains("0.4.23"), "{run:?}");
}

#[cfg(unix)]
#[test]
#[ignore = "needs bash"]
fn bash_completes_names_with_a_colon() {
    let machine = Machine::new();
    let names = ["llama3.2:1b", "llama3.2:latest", "phi", "odd;name"];
    let models: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), json!({})))
        .collect();
    let all = json!({"schema": 1, "engines": {"http://127.0.0.1:1": {"kind": "ollama", "models": models}}});
    let data = machine.home().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("registry.json"), all.to_string()).unwrap();
    let script = machine.run(&["completions", "bash"]);
    machine.write("script.bash", script.ok());
    // As bash calls it: with its words, split at colons, and the last of them.
    for (line, words, current, expected) in [
        ("lmstrix-host load ph", "lmstrix-host load ph", "ph", "phi"),
        ("lmstrix-host load odd", "lmstrix-host load odd", "odd", ""),
        (
            "lmstrix-host load ll",
            "lmstrix-host load ll",
            "ll",
            "llama3.2:1b llama3.2:latest",
        ),
        (
            "lmstrix-host load llama3.2:",
            "lmstrix-host load llama3.2 :",
            "",
            "1b latest",
        ),
        (
            "lmstrix-host load llama3.2:la",
            "lmstrix-host load llama3.2 : la",
            "la",
            "latest",
        ),
        (
            "lmstrix-host infer x -m llama3.2:1",
            "lmstrix-host infer x -m llama3.2 : 1",
            "1",
            "1b",
        ),
    ] {
        let ask = format!(
            "source ./script.bash; COMP_LINE='{line}'; COMP_WORDS=({words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; \
             _lmstrix_host lmstrix-host '{current}' load; echo ${{COMPREPLY[*]}}"
        );
        let mut command = std::process::Command::new("bash");
        command
            .args(["--norc", "-c", &ask])
            .env("LMSTRIX_HOST_HOME", machine.home())
            .current_dir(machine.work())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let run = finish(command.spawn().unwrap());
        assert_eq!(run.text().trim(), expected, "{line}: {run:?}");
    }
}
