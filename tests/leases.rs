//! Models that several processes use, and instances that go away while they are used.

use std::time::Duration;

use crate::servers::studio::{Answer, FakeStudio, Model, Setup};
use crate::support::{Machine, Run, finish};

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
    let start = std::time::Instant::now();
    loop {
        let entries = std::fs::read_dir(machine.work().join(out));
        let results = entries.into_iter().flatten().flatten().filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.ends_with(".txt")
        });
        if results.count() >= count {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "timed out");
        std::thread::sleep(Duration::from_millis(5));
    }
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
        assert_complete(&run);
        assert!(run.stderr.contains("loading it again"), "{jit}: {run:?}");
        // What the server loads by itself, it unloads by itself.
        let left = studio.loaded_instances();
        assert!(left.len() <= usize::from(jit), "{jit}: {left:?} {run:?}");
    }
}
