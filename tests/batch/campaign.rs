//! Random disturbances of two batches that use one server. The timing of processes is part of
//! a round, so that a seed does not repeat it exactly:
//! `LMSTRIX_CAMPAIGN=SEED:ROUNDS cargo test --locked --test main -- --ignored campaign`.

#![cfg(unix)]

use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::support::*;
use crate::servers::studio::{FakeStudio, Model, Setup};
use crate::support::{Machine, Random, finish, seeds};

/// The number of rounds without the variable.
const ROUNDS: u64 = 3;

/// The disturbances of a round.
const DISTURBANCES: u64 = 6;

fn setup(port: u16) -> Setup {
    Setup {
        models: ["a", "b"].map(|name| Model::llm(name, 16_384)).to_vec(),
        slots: Some(2),
        jit: false,
        token_pause: Duration::from_millis(5),
        load_time: Duration::from_millis(40),
        port,
        ..echo_models(&[])
    }
}

/// A batch of the round: its folder and its process while it runs.
struct Batch {
    out: &'static str,
    child: Option<Child>,
    is_stopped: bool,
}

impl Batch {
    fn args<'a>(&self, url: &'a str) -> Vec<&'a str> {
        vec![
            "batch",
            "--prompts",
            "p.toml",
            "-P",
            "one",
            "-P",
            "two",
            "--engine",
            url,
            "-m",
            "a",
            "-m",
            "b",
            "--inputs",
            "in/*.txt",
            "--server-timeout",
            "20s",
            "-o",
            self.out,
        ]
    }

    fn start(&mut self, machine: &Machine, url: &str) {
        let has_ended = match &mut self.child {
            Some(child) => child.try_wait().unwrap().is_some(),
            None => true,
        };
        if has_ended {
            if let Some(ended) = self.child.take() {
                let run = finish(ended);
                assert!(!run.stderr.contains("panicked"), "{run:?}");
            }
            self.child = Some(machine.command(&self.args(url)).spawn().unwrap());
            self.is_stopped = false;
        }
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(child) = &mut self.child
            && child.try_wait().unwrap().is_none()
        {
            // A stopped process gets other signals once it continues.
            if self.is_stopped && signal != Signal::CONT {
                kill_process(Pid::from_child(child), Signal::CONT).unwrap();
            }
            kill_process(Pid::from_child(child), signal).unwrap();
            self.is_stopped = signal == Signal::STOP;
        }
    }
}

fn round(seed: u64) {
    let machine = Machine::new();
    let mut random = Random(seed);
    machine.write("p.toml", TWO_PROMPTS);
    for number in 0..4 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let mut studio = FakeStudio::start(setup(0));
    let url = studio.url();
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    let mut batches = ["left", "right"].map(|out| Batch {
        out,
        child: None,
        is_stopped: false,
    });
    for batch in &mut batches {
        batch.start(&machine, &url);
    }
    for _ in 0..DISTURBANCES {
        std::thread::sleep(Duration::from_millis(20 + random.below(250) as u64));
        let which = random.below(2);
        match random.below(8) {
            0 => studio.evict("a"),
            1 => studio.evict("b"),
            2 => batches[which].signal(Signal::KILL),
            3 => batches[which].signal(Signal::TERM),
            4 => batches[which].signal(Signal::INT),
            5 => batches[which].signal(Signal::STOP),
            6 => {
                drop(studio);
                std::thread::sleep(Duration::from_millis(random.below(300) as u64));
                studio = FakeStudio::start(setup(port));
            }
            _ => {
                // A stopped batch may hold the lock of the server.
                let run = machine.run(&[
                    "infer",
                    "Hi there",
                    "--engine",
                    &url,
                    "-m",
                    "a",
                    "--unload",
                    "--load-timeout",
                    "2s",
                ]);
                assert!(!run.stderr.contains("panicked"), "{run:?}");
            }
        }
        batches[which].start(&machine, &url);
    }
    // All of them first: one may hold the lock of the server, for which another one waits.
    for batch in &mut batches {
        batch.signal(Signal::CONT);
    }
    for batch in &mut batches {
        let child = batch.child.take().unwrap();
        let run = finish(child);
        assert!(!run.stderr.contains("panicked"), "seed {seed}: {run:?}");
    }
    for batch in &batches {
        // A run that an eviction disturbed in mid-answer may leave a job to the next one.
        let run = machine.run(&batch.args(&url));
        assert_eq!(run.code, Some(0), "seed {seed}: {run:?}");
        assert_complete(&machine, batch.out, seed);
        let exported = machine.run(&["batch", "export", batch.out, "--as", "jsonl"]);
        assert_eq!(exported.ok().lines().count(), 16, "seed {seed}");
        assert!(!exported.text().contains("was changed"), "seed {seed}");
    }
    // A stopped process that holds the lock may keep another one from unloading, which says so.
    machine.run(&["unload", "--all", "--engine", &url]).ok();
    assert_eq!(
        studio.loaded_instances(),
        Vec::<String>::new(),
        "seed {seed}"
    );
}

/// Asserts that a folder has every result, whole, and nothing of an attempt.
fn assert_complete(machine: &Machine, out: &str, seed: u64) {
    let folder = machine.work().join(out);
    let found = results(&folder);
    assert_eq!(found.len(), 16, "seed {seed}: {:?}", found.keys());
    for (name, text) in found {
        let prompt = if name.starts_with("one") {
            "First"
        } else {
            "Second"
        };
        assert!(
            text.starts_with("Echo ") && text.contains(prompt),
            "seed {seed}: {name}: {text}"
        );
        let whole = if name.starts_with("one") {
            "."
        } else {
            ", longer."
        };
        assert!(
            text.trim_end().ends_with(whole),
            "seed {seed}: {name}: {text}"
        );
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            !name.ends_with(".error.txt") && !name.ends_with(".partial"),
            "seed {seed}: {name}"
        );
    }
}

#[test]
#[ignore = "needs minutes"]
fn two_batches_on_one_server_survive_random_disturbances() {
    for seed in seeds("LMSTRIX_CAMPAIGN", ROUNDS) {
        println!("round with seed {seed}");
        round(seed);
    }
}
