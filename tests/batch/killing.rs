//! Killed at any moment, and run again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::support::*;
use crate::servers::studio::{Setup, Studio};
use crate::support::Machine;

/// A plan, and when its runs are killed.
#[derive(Clone, Debug)]
struct Ordeal {
    models: usize,
    inputs: usize,
    prompts: usize,
    slots: u32,
    processed: bool,
    kills_ms: Vec<u64>,
}

fn ordeal() -> impl Strategy<Value = Ordeal> {
    (
        1..=3_usize,
        1..=5_usize,
        1..=2_usize,
        1..=3_u32,
        any::<bool>(),
        proptest::collection::vec(20..600_u64, 2..6),
    )
        .prop_map(
            |(models, inputs, prompts, slots, processed, kills_ms)| Ordeal {
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

    /// Killed at any moment and run again until it is done: every job ends once,
    /// and what was finished is never sent again.
    #[test]
    fn nothing_is_paid_twice_whatever_is_killed(ordeal in ordeal()) {
        let machine = Machine::new();
        let names = ["a", "b", "c"];
        let studio = Studio::start(Setup {
            slots: Some(ordeal.slots),
            token_pause: Duration::from_millis(8),
            load_time: Duration::from_millis(30),
            ..cold(&names[..ordeal.models])
        });
        let url = studio.url();
        machine.write("p.toml", TWO_PROMPTS);
        for number in 0..ordeal.inputs {
            machine.write(&format!("in/{number}.txt"), format!("text {number}"));
        }
        let mut more = vec!["--prompts", "p.toml", "-P", "one", "-m", "all", "--inputs", "in/*.txt", "--name", "{model}-{prompt}-{input}"];
        if ordeal.prompts > 1 {
            more.extend(["-P", "two"]);
        }
        if ordeal.processed {
            // The finished text is another than the raw one.
            more.extend(["--post", "replace:from=Echo,to=Say"]);
        }
        let args = batch(&url, &more);
        let out = machine.work().join("out");
        let jobs = ordeal.models * ordeal.inputs * ordeal.prompts;
        // Each name with what was asked for it so far, when it was first seen.
        let mut finished: BTreeMap<String, String> = BTreeMap::new();
        let mut sent: BTreeMap<String, usize> = BTreeMap::new();
        for pause in &ordeal.kills_ms {
            let mut child = machine.command(&args).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(*pause));
            let _ended = child.kill();
            child.wait().unwrap();
            // Whoever the server was still talking to is gone.
            std::thread::sleep(Duration::from_millis(30));
            let counts = asked(&studio);
            for (name, text) in results(&out) {
                let count = of_name(&counts, &text, &name);
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
        let all = results(&out);
        prop_assert_eq!(all.len(), jobs, "{:?}", all.keys());
        let counts = asked(&studio);
        for (name, text) in &finished {
            prop_assert_eq!(&all[name], text);
            prop_assert_eq!(sent[name], of_name(&counts, text, name), "{} was sent again", name);
        }
        // The journal, too, has each job done once, and nothing stays loaded.
        let journal = journal_of_kills(&machine);
        let mut done: BTreeMap<String, usize> = BTreeMap::new();
        for it in journal.iter().filter(|it| it["kind"] == "done") {
            *done.entry(it["job"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        prop_assert_eq!(done.len(), jobs);
        prop_assert!(done.values().all(|it| *it == 1), "{:?}", done);
        prop_assert_eq!(studio.loaded().len(), 0);
        // Each model once, and once more for each kill at most.
        prop_assert!(studio.loads() <= ordeal.models + ordeal.kills_ms.len());
        let again = machine.run(&args);
        prop_assert_eq!(again.code, Some(0));
        prop_assert_eq!(asked(&studio), counts);
        let left: Vec<PathBuf> = std::fs::read_dir(&out).unwrap().map(|it| it.unwrap().path()).collect();
        prop_assert!(left.iter().all(|it| !it.to_string_lossy().ends_with(".error.txt")), "{:?}", left);
    }
}

/// How often the prompt of a result was asked of its model.
fn of_name(counts: &BTreeMap<(String, String), usize>, text: &str, name: &str) -> usize {
    let prompt = text.split_once(": ").unwrap().1;
    let model = name.split('-').next().unwrap();
    let own = counts
        .iter()
        .filter(|((m, p), _)| m.starts_with(model) && p.trim() == prompt.trim());
    own.map(|it| it.1).sum()
}

/// A kill may tear a line.
fn journal_of_kills(machine: &Machine) -> Vec<Value> {
    let text = std::fs::read(machine.work().join("out/batch.journal.jsonl")).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines()
        .filter_map(|it| serde_json::from_str(it).ok())
        .collect()
}
