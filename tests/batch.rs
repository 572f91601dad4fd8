//! `batch`: what runs, in which order, what is written, and what survives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value;

use crate::guests;
use crate::javascript;
use crate::servers::studio::{Answer, Fault, Model, Setup, Studio};
use crate::support::{Machine, Run, finish};

const LOAD: &str = "/api/v1/models/load";
const UNLOAD: &str = "/api/v1/models/unload";
const CHAT: &str = "/v1/chat/completions";

fn models(names: &[&str]) -> Vec<Model> {
    names.iter().map(|it| Model::llm(it, 32_768)).collect()
}

/// Cold models that answer with what they were asked.
fn cold(names: &[&str]) -> Setup {
    Setup {
        models: models(names),
        answer: Answer::Echo,
        ..Setup::default()
    }
}

fn posted(studio: &Studio, path: &str) -> Vec<Value> {
    let asked = studio.requests().into_iter().filter(|it| it.path == path);
    asked.map(|it| it.body).collect()
}

/// The models of all answers that were asked for, in their order.
fn asked_models(studio: &Studio) -> Vec<String> {
    let all = posted(studio, CHAT).into_iter();
    all.filter_map(|it| it["model"].as_str().map(str::to_owned))
        .collect()
}

/// How often each prompt was asked of each model.
fn asked(studio: &Studio) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for body in posted(studio, CHAT) {
        let model = body["model"].as_str().unwrap().to_owned();
        let prompt = body["messages"][0]["content"].as_str().unwrap().to_owned();
        *counts.entry((model, prompt)).or_default() += 1;
    }
    counts
}

/// The results in a folder: everything that is none of the program's own.
fn results(folder: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    let ours = [".partial", ".error.txt", ".finished", ".jsonl", ".lock"];
    entries
        .map(|it| it.unwrap())
        .map(|it| (it.file_name().into_string().unwrap(), it.path()))
        .filter(|(name, _)| !ours.iter().any(|it| name.ends_with(it)))
        .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn journal(machine: &Machine, out: &str) -> Vec<Value> {
    let text = machine.read(&format!("{out}/batch.journal.jsonl"));
    text.lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect()
}

fn count(journal: &[Value], kind: &str) -> usize {
    journal.iter().filter(|it| it["kind"] == kind).count()
}

/// `batch` at a server, into `out`.
fn batch<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["batch", "--engine", url, "-o", "out"];
    args.extend(more);
    args
}

const TWO_PROMPTS: &str = "one = \"First {{text}}.\"\ntwo = \"Second {{text}}, longer.\"\n";

#[test]
fn each_model_is_loaded_once_and_none_stays() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        slots: Some(2),
        ..cold(&["a", "b", "c"])
    });
    machine.write("p.toml", TWO_PROMPTS);
    for name in ["x", "y"] {
        machine.write(&format!("in/{name}.txt"), format!("text {name}"));
    }
    let url = studio.url();
    let args = batch(
        &url,
        &[
            "--prompts",
            "p.toml",
            "-P",
            "one",
            "-P",
            "two",
            "-m",
            "all",
            "--inputs",
            "in/*",
        ],
    );
    let dry: Vec<&str> = args.iter().copied().chain(["--dry-run"]).collect();
    let run = machine.run(&dry);
    assert!(run.ok().contains("one--a--x.txt"), "{run:?}");
    assert!(run.text().contains("12 jobs in out"), "{run:?}");
    assert_eq!(
        (studio.loads(), machine.names().contains(&"out".to_owned())),
        (0, false)
    );

    let run = machine.run(&args);
    assert!(run.ok().contains("MODEL"), "{run:?}");
    assert_eq!(studio.loads(), 3);
    assert_eq!(studio.loaded(), [""; 0], "what was loaded goes");
    // Grouped by model: it changes twice in all.
    let models = asked_models(&studio);
    assert_eq!(models.len(), 12);
    let changes = models.windows(2).filter(|it| it[0] != it[1]).count();
    assert_eq!(changes, 2, "{models:?}");
    assert!(studio.most_at_once() <= 2);
    let found = results(&machine.work().join("out"));
    assert_eq!(found.len(), 12, "{found:?}");
    assert!(
        found["two--b--y.txt"].contains("Second text y, longer."),
        "{found:?}"
    );
    // The context is what the largest job needs, and the same for all.
    let contexts: BTreeSet<u64> = posted(&studio, LOAD)
        .iter()
        .map(|it| it["context_length"].as_u64().unwrap())
        .collect();
    assert_eq!(contexts.len(), 1, "{contexts:?}");
    assert!(contexts.first().unwrap() < &8192);

    // Once more: nothing is sent, nothing loaded, nothing written anew.
    let before = studio.requests().len();
    let run = machine.run(&args);
    assert_eq!(run.ok(), "", "{run:?}");
    assert_eq!((studio.loads(), posted(&studio, CHAT).len()), (3, 12));
    assert!(studio.requests().len() > before, "the models are asked for");
    assert_eq!(results(&machine.work().join("out")), found);
    let status = machine.run(&["batch", "status", "out", "--json"]);
    status.ok();
    assert_eq!(status.json()["models"]["a"]["done"], 4, "{status:?}");
    assert_eq!(status.json()["models"]["a"]["left"], 0);
}

#[test]
fn what_is_loaded_already_comes_first_and_stays() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        models: vec![
            Model::llm("aa", 32_768),
            Model {
                loaded: vec![("zz".to_owned(), 32_768)],
                ..Model::llm("zz", 32_768)
            },
        ],
        answer: Answer::Echo,
        ..Setup::default()
    });
    let url = studio.url();
    machine
        .run(&batch(
            &url,
            &["-P", "Say {{text}}", "--text", "x", "-m", "*"],
        ))
        .ok();
    assert_eq!(asked_models(&studio), ["zz", "aa"]);
    assert_eq!(
        (studio.loads(), studio.loaded()),
        (1, vec!["zz".to_owned()])
    );
    assert!(
        posted(&studio, UNLOAD)
            .iter()
            .all(|it| it["instance_id"] == "aa")
    );
}

#[test]
fn a_missing_parameter_costs_nothing() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["a"]));
    let url = studio.url();
    machine.write("p.toml", "g = \"Say {{text}} to {{name}} in {{lang}}.\"\n");
    machine.write(
        "rows.jsonl",
        "{\"text\":\"x\",\"name\":\"Ada\"}\n{\"text\":\"y\",\"lang\":\"pl\"}\n",
    );
    let args = batch(
        &url,
        &[
            "--prompts",
            "p.toml",
            "-P",
            "g",
            "-m",
            "a",
            "--inputs",
            "rows.jsonl",
        ],
    );
    let run = machine.run(&args);
    let said = run.fails(2);
    assert!(said.contains("`lang`") && said.contains("`name`"), "{said}");
    assert!(
        said.contains("rows-0001`") && said.contains("rows-0002`"),
        "{said}"
    );
    assert_eq!((studio.loads(), posted(&studio, CHAT).len()), (0, 0));
    for (more, code, says) in [
        (&["-P", "nosuch", "-m", "a"][..], 2, "no prompt named"),
        (
            &["-P", "tldr", "--text", "x", "-m", "nosuch*"],
            5,
            "nosuch*",
        ),
        (&["-P", "tldr", "--text", "x", "-m", "b"], 5, "there are: a"),
        (
            &["-P", "tldr", "--text-file", "no.txt", "-m", "a"],
            2,
            "no.txt",
        ),
        (
            &[
                "-P",
                "tldr",
                "--text",
                "x",
                "-m",
                "a",
                "--post",
                "fence:langg=x",
            ],
            2,
            "langg",
        ),
        (&["-m", "a"], 2, "no prompts"),
        (
            &["-P", "tldr", "--text", "x", "-m", "a", "--name", "{promt}"],
            2,
            "{prompt}",
        ),
        (
            &["-P", "tldr", "--text", "x", "-m", "a", "--name", "fixed"],
            2,
            "",
        ),
        (
            &["-P", "tldr", "--text", "x", "-m", "a", "--shard", "2/2"],
            2,
            "--shard",
        ),
    ] {
        let run = machine.run(&batch(&url, more));
        assert!(run.fails(code).contains(says), "{more:?}: {run:?}");
    }
    assert_eq!((studio.loads(), posted(&studio, CHAT).len()), (0, 0));
    let run = machine.run(&["batch", "-P", "tldr", "--engine", &url]);
    assert!(run.fails(2).contains("-o DIR"), "{run:?}");
}

#[test]
fn one_bad_job_costs_itself_alone() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        poison: vec![("POISON", Fault::ErrorEvent)],
        ..cold(&["a", "b"])
    });
    let url = studio.url();
    for (name, text) in [("bad", "POISON"), ("fine", "fine"), ("good", "good")] {
        machine.write(&format!("in/{name}.txt"), text);
    }
    let args = batch(
        &url,
        &[
            "-P",
            "Say {{text}}",
            "-m",
            "all",
            "--inputs",
            "in/*.txt",
            "--name",
            "{model}--{input}",
        ],
    );
    let run = machine.run(&args);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("2 of 6 jobs failed"), "{run:?}");
    let found = results(&machine.work().join("out"));
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["a--fine.txt", "a--good.txt", "b--fine.txt", "b--good.txt"]
    );
    let error = machine.read("out/a--bad.txt.error.txt");
    assert!(
        error.starts_with("lmstrix-host could not finish"),
        "{error}"
    );
    assert!(machine.names().contains(&"out".to_owned()));
    assert!(!machine.read("out/a--bad.txt.partial").is_empty());
    // Twice on the instance, twice on a fresh one, and then it is its own.
    let bad = asked(&studio)
        .iter()
        .filter(|it| it.0.1.contains("POISON"))
        .map(|it| *it.1)
        .max();
    assert_eq!(bad, Some(4));
    assert_eq!((studio.loads(), studio.loaded().len()), (4, 0));
    let status = machine.run(&["batch", "status", "out"]);
    assert!(status.ok().contains("a--bad.txt"), "{status:?}");
    // Again: only what failed is sent.
    let before = posted(&studio, CHAT).len();
    let run = machine.run(&["batch", "retry", "out"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let again = posted(&studio, CHAT).split_off(before);
    assert!(
        again.iter().all(|it| it.to_string().contains("POISON")),
        "{again:?}"
    );
}

#[test]
fn a_model_that_hangs_is_set_aside_and_every_job_says_so() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        fault: Fault::HangMidStream,
        ..cold(&["a", "b"])
    });
    let url = studio.url();
    machine.write("p.toml", TWO_PROMPTS);
    let run = machine.run(&batch(
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
            "all",
            "--stream-timeout",
            "0.2",
        ],
    ));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("set aside"), "{run:?}");
    assert!(results(&machine.work().join("out")).is_empty());
    for name in ["one--a", "two--a", "one--b", "two--b"] {
        let error = machine.read(&format!("out/{name}.txt.error.txt"));
        assert!(
            error.contains("set aside") && error.contains("stood still"),
            "{error}"
        );
    }
    // Each of two rounds loads it twice, and nothing stays.
    assert_eq!((studio.loads(), studio.loaded().len()), (8, 0));
    let asides = count(&journal(&machine, "out"), "aside");
    assert_eq!(asides, 4);
    // When it is well again, the same command does it all.
    studio.set_fault(Fault::None);
    machine.run(&["batch", "retry", "out"]).ok();
    assert_eq!(results(&machine.work().join("out")).len(), 4);
    let left = std::fs::read_dir(machine.work().join("out")).unwrap();
    let left: Vec<String> = left
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !left
            .iter()
            .any(|it| it.ends_with(".error.txt") || it.ends_with(".partial")),
        "{left:?}"
    );
}

#[test]
fn busy_servers_and_cut_limits() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        fault: Fault::Busy {
            times: 3,
            retry_after: Some(0),
        },
        slots: Some(4),
        ..cold(&["a"])
    });
    let url = studio.url();
    machine.write("rows.csv", "id,text\n1,x\n2,y\n3,z\n4,w\n5,\"v, w\"\n");
    let args = batch(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "rows.csv"],
    );
    let run = machine.run(&args);
    run.ok();
    assert!(
        !run.stderr.contains("not used"),
        "columns are none of a prompt's business: {run:?}"
    );
    let found = results(&machine.work().join("out"));
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(
        found.values().any(|it| it.contains("Say v, w")),
        "{found:?}"
    );
    let run = machine.run(&["batch", "export", "out", "--as", "csv"]);
    assert_eq!(run.ok().lines().count(), 6, "{run:?}");
    let run = machine.run(&["batch", "export", "out"]);
    let rows: Vec<Value> = run
        .ok()
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert!(
        rows.iter()
            .all(|it| found[it["job"].as_str().unwrap()] == it["text"].as_str().unwrap())
    );
}

#[test]
fn failures_can_end_the_run() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        poison: vec![("POISON", Fault::OverflowEmpty)],
        ..cold(&["a"])
    });
    let url = studio.url();
    for number in 0..6 {
        // Short ones first: the failing ones are the shortest.
        let text = if number < 3 {
            "POISON"
        } else {
            "a longer text that is fine"
        };
        machine.write(&format!("in/{number}.txt"), text);
    }
    let common = [
        "-P",
        "Say {{text}}",
        "-m",
        "a",
        "--inputs",
        "in/*.txt",
        "-j",
        "1",
    ];
    for (limit, sent) in [
        (&["--fail-fast"][..], 1),
        (&["--max-failures", "1"], 2),
        (&["--max-failures", "40%"], 3),
    ] {
        let before = posted(&studio, CHAT).len();
        let more: Vec<&str> = common.iter().chain(limit).copied().collect();
        let run = machine.run(&batch(&url, &more));
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("ended early"), "{run:?}");
        assert_eq!(posted(&studio, CHAT).len() - before, sent, "{limit:?}");
        assert_eq!(studio.loaded().len(), 0);
    }
    let run = machine.run(&batch(&url, &common));
    assert!(run.stderr.contains("3 of 6 jobs failed"), "{run:?}");
    assert_eq!(results(&machine.work().join("out")).len(), 3);
}

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

/// A run whose stderr is watched.
struct Watched {
    child: Child,
    said: std::sync::Arc<std::sync::Mutex<String>>,
    reading: std::thread::JoinHandle<()>,
}

impl Watched {
    fn start(machine: &Machine, args: &[&str]) -> Self {
        let mut child = machine.command(args).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let said = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let heard = std::sync::Arc::clone(&said);
        let reading = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = std::io::Read::read(&mut stderr, &mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                heard.lock().unwrap().push_str(&text);
            }
        });
        Self {
            child,
            said,
            reading,
        }
    }

    fn wait_until_said(&self, text: &str) {
        wait_for(|| self.said.lock().unwrap().contains(text));
    }

    fn finish(self) -> Run {
        let mut run = finish(self.child);
        self.reading.join().unwrap();
        run.stderr = self.said.lock().unwrap().clone();
        run
    }
}

fn wait_for(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_plan_file_says_what_flags_say_and_prints_the_same() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["qwen/qwen3-4b", "google/gemma-3-4b"]));
    let url = studio.url();
    machine.write("p.toml", TWO_PROMPTS);
    machine.write("in/a.txt", "alpha");
    machine.write("in/b.txt", "beta");
    let plan = format!(
        r#"
schema = 1
engine = "{url}"
out = "out"
prompts = "p.toml"
models = "all"
temperature = 0.5

[[prompt]]
name = "one"
models = "gemma*"

[[prompt]]
name = "two {{{{text}}}} {{{{n}}}}"
label = "two"
params = {{ n = [1, "B"] }}
temperature = 0.25

[[input]]
file = "in/*.txt"

[[model]]
match = "qwen*"
context = 4096
top_k = 7
"#
    );
    machine.write("plans/plan.toml", &plan);
    let wrong = machine.write("plans/wrong.toml", plan.replace("label", "lable"));
    let run = machine.run(&["batch", wrong.to_str().unwrap()]);
    let said = run.fails(2);
    assert!(
        said.contains("wrong.toml:15:1: unknown key `lable`; did you mean `label`?"),
        "{said}"
    );
    for name in ["p.toml", "in/a.txt", "in/b.txt"] {
        machine.write(&format!("plans/{name}"), machine.read(name));
    }
    machine.run(&["batch", "plans/plan.toml"]).ok();
    let found = results(&machine.work().join("plans/out"));
    // One prompt for one model, the other for both with two values.
    assert_eq!(found.len(), 2 + 8, "{found:?}");
    assert!(
        found.keys().any(|it| it.starts_with("two--qwen_qwen3-4b~")
            && it.ends_with(".txt")
            && it.contains("--a--n=1")),
        "{found:?}"
    );
    let bodies = posted(&studio, CHAT);
    let of = |model: &str, key: &str| -> BTreeSet<String> {
        let own = bodies.iter().filter(|it| it["model"] == model);
        own.map(|it| it[key].to_string()).collect()
    };
    assert_eq!(
        of("qwen/qwen3-4b", "temperature"),
        ["0.25".to_owned()].into()
    );
    assert_eq!(
        of("google/gemma-3-4b", "temperature"),
        ["0.25".to_owned(), "0.5".to_owned()].into()
    );
    assert_eq!(of("qwen/qwen3-4b", "top_k"), ["7".to_owned()].into());
    let qwen = posted(&studio, LOAD)
        .into_iter()
        .find(|it| it["model"] == "qwen/qwen3-4b");
    assert_eq!(qwen.unwrap()["context_length"], 4096);

    let flags = [
        "batch",
        "--engine",
        &url,
        "-o",
        "o",
        "--prompts",
        "p.toml",
        "-P",
        "one",
        "-P",
        "two",
        "-m",
        "gemma*",
        "--text-file",
        "in/*.txt",
        "-p",
        "n=1",
        "-p",
        "n=2",
        "--temperature",
        "0.1",
        "--context",
        "50%",
    ];
    let printed = machine.run(
        &flags
            .iter()
            .copied()
            .chain(["--print-plan"])
            .collect::<Vec<_>>(),
    );
    machine.write("printed.toml", printed.ok());
    let again = machine.run(&["batch", "printed.toml", "--print-plan"]);
    assert_eq!(again.ok(), printed.text());
    machine.run(&["batch", "printed.toml"]).ok();
    assert_eq!(results(&machine.work().join("o")).len(), 8);
    let run = machine.run(&flags);
    assert_eq!(run.ok(), "", "the same jobs: {run:?}");
}

#[test]
fn the_plan_of_the_readme_is_one() {
    let machine = Machine::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (_, rest) = readme.split_once("**Plan files**").unwrap();
    let (_, rest) = rest.split_once("```toml\n").unwrap();
    let (plan, rest) = rest.split_once("```").unwrap();
    machine.write("plan.toml", plan);
    let printed = machine.run(&["batch", "plan.toml", "--print-plan"]);
    assert!(printed.ok().contains("label = \"greet\""), "{printed:?}");
    // And all keys that it names besides are keys.
    let (keys, _) = rest.split_once("An unknown key").unwrap();
    for key in keys
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|it| !it.starts_with("[["))
    {
        machine.write("one.toml", format!("{key} = {{}}\n"));
        let run = machine.run(&["batch", "one.toml", "--print-plan"]);
        assert!(!run.stderr.contains("unknown key"), "{key}: {run:?}");
    }
}

#[test]
fn a_server_that_goes_away_is_waited_for() {
    let machine = Machine::new();
    let setup = Setup {
        token_pause: Duration::from_millis(30),
        ..cold(&["a"])
    };
    let studio = Studio::start(setup.clone());
    let url = studio.url();
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    for number in 0..6 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "in/*.txt"],
    );
    let child = Watched::start(&machine, &args);
    wait_for(|| results(&machine.work().join("out")).len() >= 2);
    let before: usize = asked(&studio).values().sum();
    let done = results(&machine.work().join("out"));
    drop(studio);
    // A single request is tried again for some seconds.
    child.wait_until_said("waiting 60 s for");
    let studio = Studio::start(Setup { port, ..setup });
    let run = child.finish();
    run.ok();
    assert_eq!(results(&machine.work().join("out")).len(), 6);
    assert!(before >= done.len());
    // Nothing that was done is asked again.
    for text in done.values() {
        let prompt = text.split_once(": ").unwrap().1;
        assert!(
            asked(&studio).keys().all(|(_, it)| it != prompt),
            "{prompt}"
        );
    }
    assert_eq!(studio.loaded().len(), 0);
    // One that stays away costs its jobs, and they say so.
    drop(studio);
    machine.write("in/7.txt", "text 7");
    let gone: Vec<&str> = args
        .iter()
        .copied()
        .chain(["--server-timeout", "0"])
        .collect();
    let run = machine.run(&gone);
    assert_eq!(run.code, Some(4), "{run:?}");
}

#[test]
fn a_model_that_is_removed_costs_its_own_jobs() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        token_pause: Duration::from_millis(30),
        ..cold(&["a", "b"])
    });
    let url = studio.url();
    for number in 0..4 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch(
        &url,
        &["-P", "Say {{text}}", "-m", "all", "--inputs", "in/*.txt"],
    );
    let child = machine.command(&args).spawn().unwrap();
    wait_for(|| !posted(&studio, CHAT).is_empty());
    studio.remove("b");
    // The input of a job that waits.
    std::fs::remove_file(machine.work().join("in/3.txt")).unwrap();
    let run = finish(child);
    assert_eq!(run.code, Some(1), "{run:?}");
    let found = results(&machine.work().join("out"));
    assert!(
        found.len() >= 3 && found.keys().all(|it| it.contains("--a--")),
        "{found:?}"
    );
    let prompt = found
        .keys()
        .next()
        .unwrap()
        .split("--")
        .next()
        .unwrap()
        .to_owned();
    let error = machine.read(&format!("out/{prompt}--b--0.txt.error.txt"));
    assert!(error.contains("no model named `b`"), "{error}");
}

#[cfg(unix)]
#[test]
fn disks_that_are_full_and_folders_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        answer: Answer::Tokens(3000),
        ..cold(&["a"])
    });
    let url = studio.url();
    for number in 0..4 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "in/*.txt"],
    );
    // Every file may have 8 KiB: an answer has 16.
    let mut shell = std::process::Command::new("sh");
    let program = machine.command(&args);
    shell
        .arg("-c")
        .arg("ulimit -f 16; exec \"$0\" \"$@\"")
        .arg(program.get_program())
        .args(program.get_args())
        .env_clear()
        .env("LMSTRIX_HOST_HOME", machine.home())
        .current_dir(machine.work())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let run = finish(shell.spawn().unwrap());
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.stderr.contains("cannot write") && run.stderr.contains("too large"),
        "{run:?}"
    );
    assert!(results(&machine.work().join("out")).is_empty());
    assert_eq!(studio.loaded().len(), 0, "what was loaded goes");
    machine.run(&args).ok();
    assert_eq!(results(&machine.work().join("out")).len(), 4);

    if rustix::process::getuid().is_root() {
        // Nothing is read-only for root; a file in the folder's place is.
        machine.write("file", "x");
        let run = machine.run(&[
            "batch", "--engine", &url, "-P", "tldr", "--text", "x", "-m", "a", "-o", "file",
        ]);
        assert!(run.fails(1).contains("cannot write"), "{run:?}");
        return;
    }
    let locked = machine.work().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    let run = machine.run(&[
        "batch", "--engine", &url, "-P", "tldr", "--text", "x", "-m", "a", "-o", "locked",
    ]);
    assert!(run.fails(1).contains("cannot write"), "{run:?}");
}

#[cfg(unix)]
#[test]
fn the_first_interrupt_lets_jobs_end_and_the_second_does_not() {
    use rustix::process::{Pid, Signal, kill_process};
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        token_pause: Duration::from_millis(500),
        ..cold(&["a"])
    });
    let url = studio.url();
    for number in 0..4 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch(
        &url,
        &[
            "-P",
            "Say {{text}}",
            "-m",
            "a",
            "--inputs",
            "in/*.txt",
            "-j",
            "1",
        ],
    );
    let begin = |sent: usize| {
        let child = Watched::start(&machine, &args);
        wait_for(|| posted(&studio, CHAT).len() > sent);
        child
    };
    let interrupt = |child: &Watched| {
        let pid = Pid::from_raw(i32::try_from(child.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    };
    let child = begin(0);
    interrupt(&child);
    let run = child.finish();
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(
        run.stderr.contains("Ctrl-C again") && run.stderr.contains("the same command goes on"),
        "{run:?}"
    );
    assert_eq!(
        (
            results(&machine.work().join("out")).len(),
            studio.loaded().len()
        ),
        (1, 0)
    );
    assert!(studio.requests().iter().all(|it| !it.cancelled));

    let child = begin(1);
    interrupt(&child);
    child.wait_until_said("Ctrl-C again");
    interrupt(&child);
    let run = child.finish();
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(studio.wait_cancelled(Duration::from_secs(20)));
    assert_eq!(
        (
            results(&machine.work().join("out")).len(),
            studio.loaded().len()
        ),
        (1, 0)
    );
    machine.run(&args).ok();
    assert_eq!(results(&machine.work().join("out")).len(), 4);
    // The one that was cancelled, and no other, was sent twice.
    let twice = asked(&studio).values().filter(|it| **it > 1).count();
    assert_eq!(twice, 1);
}

#[test]
fn slots_of_the_server_are_used_and_not_more() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        slots: Some(4),
        token_pause: Duration::from_millis(10),
        ..cold(&["a"])
    });
    let url = studio.url();
    let rows: String = (0..40)
        .map(|it| format!("{{\"text\":\"word {it}\"}}\n"))
        .collect();
    machine.write("rows.jsonl", rows);
    let args = batch(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "rows.jsonl"],
    );
    machine.run(&args).ok();
    assert_eq!((studio.most_at_once(), studio.loads()), (4, 1));
    assert_eq!(results(&machine.work().join("out")).len(), 40);
    assert!(asked(&studio).values().all(|it| *it == 1));
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
fn packs_of_every_kind_in_one_plan() {
    let machine = Machine::new();
    machine.drop_pack("hello", &guests::component("hello"));
    machine.drop_pack("shout", &guests::component("shout"));
    let script = match javascript::component() {
        Ok(script) => Some(script),
        Err(reason) => {
            eprintln!("not tried with a pack in JavaScript: {reason}");
            None
        }
    };
    let of_script = match &script {
        Some(component) => {
            machine.drop_pack("script", component);
            "[[prompt]]\nname = \"script/ask\"\nlabel = \"script\"\npost = [\"quote\", { name = \"script/stamp\", options = { with = \"END\" } }]\n"
        }
        None => "",
    };
    let plan = format!(
        r#"
engine = "embedded"
models = "demo"
out = "out"
temperature = 0
[[prompt]]
name = "tldr"
post = ["trim"]
[[prompt]]
name = "hello/greet"
label = "hello"
params = {{ name = ["Ada", "Bo"] }}
post = ["shout/upper"]
{of_script}
[[input]]
text = "The library opens at nine on weekdays. On Saturdays it opens at ten."
name = "library"
"#
    );
    machine.write("plan.toml", plan);
    machine.run(&["batch", "plan.toml"]).ok();
    let found = results(&machine.work().join("out"));
    let of = |start: &str| {
        found
            .iter()
            .find(|it| it.0.starts_with(start))
            .map(|it| it.1.as_str())
    };
    assert_eq!(
        of("tldr--demo"),
        Some("The library opens at nine on weekdays.")
    );
    assert_eq!(
        found
            .keys()
            .filter(|it| it.starts_with("hello--demo"))
            .count(),
        2
    );
    let loud = of("hello--demo").unwrap();
    assert_eq!(loud, loud.to_uppercase());
    if script.is_some() {
        assert_eq!(
            of("script--demo"),
            Some("> The library opens at nine on weekdays.\nEND"),
            "{found:?}"
        );
        assert!(
            found
                .keys()
                .any(|it| it.starts_with("script--") && it.ends_with(".md"))
        );
    }
}

/// The six prompts of the original's batch, over the demo model. It is one short
/// command in the README.
#[test]
fn the_six_stock_prompts_run_over_the_demo_model() {
    let machine = Machine::new();
    machine.write(
        "text.md",
        "The library opens at nine on weekdays. On Saturdays it opens at ten.",
    );
    let run = machine.run(&six_prompts("embedded", "text.md"));
    check_six(&machine, &run);
}

pub(crate) fn six_prompts<'a>(engine: &'a str, text: &'a str) -> Vec<&'a str> {
    let mut args = vec![
        "batch",
        "-o",
        "out",
        "--engine",
        engine,
        "--text-file",
        text,
        "--max-tokens",
        "60",
        "-p",
        "to=Polish",
    ];
    for prompt in [
        "think,aps",
        "think,humanize",
        "think,tldr",
        "think,tts_optimize",
        "translate",
        "tldr",
    ] {
        args.extend(["-P", prompt]);
    }
    args
}

/// The toy model answers two of them well, and every one with something or a
/// reason.
pub(crate) fn check_six(machine: &Machine, run: &Run) {
    assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
    let folder = machine.work().join("out");
    let done = results(&folder);
    let all = std::fs::read_dir(&folder)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap());
    let failed = all.filter(|it| it.ends_with(".error.txt")).count();
    assert_eq!(done.len() + failed, 6, "{done:?}");
    let tldr = done.iter().find(|it| it.0.starts_with("tldr--")).unwrap();
    assert!(tldr.1.starts_with("The library opens at nine"), "{tldr:?}");
    assert!(
        done.keys()
            .chain([&String::new()])
            .all(|it| it.is_empty() || it.contains("--")),
        "{done:?}"
    );
}

#[test]
fn progress_as_json_and_raw_answers_on_request() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        answer: Answer::Thinking {
            reasoning: "let me see".to_owned(),
            text: "  yes  ".to_owned(),
        },
        ..cold(&["a"])
    });
    let url = studio.url();
    let run = machine.run(&batch(
        &url,
        &[
            "-P",
            "Say {{text}}",
            "--text",
            "x",
            "-m",
            "a",
            "--post",
            "trim",
            "--keep-raw",
            "--keep-reasoning",
            "--name",
            "{model}",
            "--progress",
            "json",
        ],
    ));
    let lines: Vec<Value> = run
        .ok()
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let kinds: Vec<&str> = lines.iter().filter_map(|it| it["kind"].as_str()).collect();
    for kind in ["begin", "loaded", "job", "unloaded", "end"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert_eq!(machine.read("out/a.txt"), "yes");
    assert_eq!(machine.read("out/a.txt.raw.txt"), "  yes  ");
    assert_eq!(machine.read("out/a.txt.reasoning.txt"), "let me see");
}

#[test]
fn errors_can_stand_in_the_results_place() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        fault: Fault::OverflowEmpty,
        ..cold(&["a"])
    });
    let url = studio.url();
    let args = batch(
        &url,
        &[
            "-P",
            "Say {{text}}",
            "--text",
            "x",
            "-m",
            "a",
            "--errors",
            "inline",
            "--name",
            "{model}",
        ],
    );
    assert_eq!(machine.run(&args).code, Some(1));
    assert!(
        machine
            .read("out/a.txt")
            .starts_with("lmstrix-host could not finish")
    );
    studio.set_fault(Fault::None);
    // A failure is never taken for a result, wherever it stands.
    machine.run(&args).ok();
    assert!(
        machine.read("out/a.txt").starts_with("Echo"),
        "{}",
        machine.read("out/a.txt")
    );
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
fn a_failure_never_replaces_a_result_and_is_never_one() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["a"]));
    let url = studio.url();
    let args = |more: &[&'static str]| {
        let mut args = vec![
            "-P",
            "Say {{text}}",
            "--text",
            "x",
            "-m",
            "a",
            "--name",
            "{model}",
            "--errors",
            "inline",
        ];
        args.extend(more);
        machine.run(&batch(&url, &args))
    };
    args(&["--seed", "1"]).ok();
    let good = machine.read("out/a.txt");
    studio.set_fault(Fault::OverflowEmpty);
    let run = args(&["--seed", "2", "--changed", "rerun"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(machine.read("out/a.txt"), good);
    assert!(machine.read("out/a.txt.error.txt").contains("no text"));
    // A kill between the journal and the name leaves a failed job.
    std::fs::remove_file(machine.work().join("out/a.txt")).unwrap();
    assert_eq!(args(&["--seed", "2"]).code, Some(1));
    assert!(
        machine
            .read("out/a.txt")
            .starts_with("lmstrix-host could not finish")
    );
    std::fs::remove_file(machine.work().join("out/a.txt")).unwrap();
    // A failure that stands there is known as ours, whatever came after it.
    let error = "lmstrix-host could not finish this answer\n\nx\n";
    machine.write("out/a.txt", error);
    let lines = machine.read("out/batch.journal.jsonl");
    let length = error.len();
    let failed = lines.lines().rfind(|it| it.contains("\"failed\"")).unwrap();
    let mut failed: Value = serde_json::from_str(failed).unwrap();
    failed["inline"] = length.into();
    let start = r#"{"kind":"start","job":"a.txt","identity":"x","attempt":1}"#;
    machine.write(
        "out/batch.journal.jsonl",
        format!("{lines}{failed}\n{start}\n"),
    );
    let run = machine.run(&["batch", "export", "out"]);
    assert_eq!(run.ok(), "", "an error is no result: {run:?}");
    studio.set_fault(Fault::None);
    args(&["--seed", "2"]).ok();
    assert!(machine.read("out/a.txt").starts_with("Echo"));
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
