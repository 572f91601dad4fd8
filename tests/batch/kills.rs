//! Runs that are killed at arbitrary times and repeated.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::support::*;
use crate::servers::studio::{FakeStudio, Setup};
use crate::support::Machine;

/// The size of a plan, and the times at which its runs are killed.
#[derive(Clone, Debug)]
struct KillSchedule {
    models: usize,
    inputs: usize,
    prompts: usize,
    slots: u32,
    processed: bool,
    kills_ms: Vec<u64>,
}

fn kill_schedule() -> impl Strategy<Value = KillSchedule> {
    (
        1..=3_usize,
        1..=5_usize,
        1..=2_usize,
        1..=3_u32,
        any::<bool>(),
        proptest::collection::vec(20..600_u64, 2..6),
    )
        .prop_map(
            |(models, inputs, prompts, slots, processed, kills_ms)| KillSchedule {
                models,
                inputs,
                prompts,
                slots,
                processed,
                kills_ms,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Repeats a run that is killed until it is complete. Every job is done once, and
    /// finished jobs are never sent again.
    #[test]
    fn finished_jobs_are_never_repeated_after_kills(schedule in kill_schedule()) {
        let machine = Machine::new();
        let names = ["a", "b", "c"];
        let studio = FakeStudio::start(Setup {
            slots: Some(schedule.slots),
            token_pause: Duration::from_millis(8),
            load_time: Duration::from_millis(30),
            ..echo_models(&names[..schedule.models])
        });
        let url = studio.url();
        machine.write("p.toml", TWO_PROMPTS);
        for number in 0..schedule.inputs {
            machine.write(&format!("in/{number}.txt"), format!("text {number}"));
        }
        let mut more = vec!["--prompts", "p.toml", "-P", "one", "-m", "all", "--inputs", "in/*.txt", "--name", "{model}-{prompt}-{input}"];
        if schedule.prompts > 1 {
            more.extend(["-P", "two"]);
        }
        if schedule.processed {
            // The final text differs from the raw answer.
            more.extend(["--post", "replace:from=Echo,to=Say"]);
        }
        let args = batch_args(&url, &more);
        let out = machine.work().join("out");
        let jobs = schedule.models * schedule.inputs * schedule.prompts;
        // The text of each result when it was first found, and the number of requests for
        // it at that time.
        let mut finished: BTreeMap<String, String> = BTreeMap::new();
        let mut sent: BTreeMap<String, usize> = BTreeMap::new();
        for pause in &schedule.kills_ms {
            let mut child = machine.command(&args).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(*pause));
            let _ended = child.kill();
            child.wait().unwrap();
            // Give the server time to notice closed connections.
            std::thread::sleep(Duration::from_millis(30));
            let counts = chat_counts(&studio);
            for (name, text) in results(&out) {
                let count = requests_of(&counts, &text, &name);
                match finished.get(&name) {
                    Some(before) => {
                        prop_assert_eq!(before, &text, "a finished result changed");
                        prop_assert_eq!(sent[&name], count, "{} was sent again", name);
                    }
                    None => {
                        finished.insert(name.clone(), text);
                        sent.insert(name, count);
                    }
                }
            }
        }
        let run = machine.run(&args);
        prop_assert_eq!(run.code, Some(0), "{:?}", run);
        let found = results(&out);
        prop_assert_eq!(found.len(), jobs, "{:?}", found.keys());
        let counts = chat_counts(&studio);
        for (name, text) in &finished {
            prop_assert_eq!(&found[name], text);
            prop_assert_eq!(sent[name], requests_of(&counts, text, name), "{} was sent again", name);
        }
        // The journal also has one `done` record per job, and no model stays loaded.
        let journal = journal_after_kills(&machine);
        let mut done: BTreeMap<String, usize> = BTreeMap::new();
        for record in journal.iter().filter(|record| record["kind"] == "done") {
            *done.entry(record["job"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        prop_assert_eq!(done.len(), jobs);
        prop_assert!(done.values().all(|count| *count == 1), "{:?}", done);
        prop_assert_eq!(studio.loaded_instances().len(), 0);
        // Each model is loaded once, and at most once more per kill.
        prop_assert!(studio.load_count() <= schedule.models + schedule.kills_ms.len());
        let again = machine.run(&args);
        prop_assert_eq!(again.code, Some(0));
        prop_assert_eq!(chat_counts(&studio), counts);
        let files: Vec<PathBuf> =
            std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
        prop_assert!(
            files.iter().all(|path| !path.to_string_lossy().ends_with(".error.txt")),
            "{:?}",
            files
        );
    }
}

/// Returns the number of requests for a result, by its prompt and model.
fn requests_of(counts: &BTreeMap<(String, String), usize>, text: &str, name: &str) -> usize {
    let prompt = text.split_once(": ").unwrap().1;
    let model = name.split('-').next().unwrap();
    counts
        .iter()
        .filter(|((model_id, text), _)| model_id.starts_with(model) && text.trim() == prompt.trim())
        .map(|(_, count)| count)
        .sum()
}

/// Returns the valid records of the journal. A kill may leave an incomplete line.
fn journal_after_kills(machine: &Machine) -> Vec<Value> {
    let text = std::fs::read(machine.work().join("out/batch.journal.jsonl")).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
