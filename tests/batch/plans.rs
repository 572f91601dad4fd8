//! Which jobs run, in which order, and how plans are read and printed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::support::*;
use crate::guests;
use crate::servers::studio::{Answer, FakeStudio, Model, Setup};
use crate::support::{Machine, Run};

#[test]
fn each_model_is_loaded_once_and_unloaded() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        slots: Some(2),
        ..echo_models(&["a", "b", "c"])
    });
    machine.write("p.toml", TWO_PROMPTS);
    for name in ["x", "y"] {
        machine.write(&format!("in/{name}.txt"), format!("text {name}"));
    }
    let url = studio.url();
    let args = batch_args(
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
        (
            studio.load_count(),
            machine.file_names().contains(&"out".to_owned())
        ),
        (0, false)
    );

    let run = machine.run(&args);
    assert!(run.ok().contains("MODEL"), "{run:?}");
    assert_eq!(studio.load_count(), 3);
    assert_eq!(
        studio.loaded_instances(),
        [""; 0],
        "all models are unloaded"
    );
    // Jobs are grouped by model, so the model changes twice.
    let models = chat_models(&studio);
    assert_eq!(models.len(), 12);
    let changes = models.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 2, "{models:?}");
    assert!(studio.max_concurrent_answers() <= 2);
    let found = results(&machine.work().join("out"));
    assert_eq!(found.len(), 12, "{found:?}");
    assert!(
        found["two--b--y.txt"].contains("Second text y, longer."),
        "{found:?}"
    );
    // The context length fits the largest job and is the same for all models.
    let contexts: BTreeSet<u64> = request_bodies(&studio, LOAD)
        .iter()
        .map(|body| body["context_length"].as_u64().unwrap())
        .collect();
    assert_eq!(contexts.len(), 1, "{contexts:?}");
    assert!(contexts.first().unwrap() < &8192);

    // A second run sends, loads and writes nothing.
    let before = studio.requests().len();
    let run = machine.run(&args);
    assert_eq!(run.ok(), "", "{run:?}");
    assert_eq!(
        (studio.load_count(), request_bodies(&studio, CHAT).len()),
        (3, 12)
    );
    assert!(studio.requests().len() > before, "the models are listed");
    assert_eq!(results(&machine.work().join("out")), found);
    let status = machine.run(&["batch", "status", "out", "--json"]);
    status.ok();
    assert_eq!(status.json()["models"]["a"]["done"], 4, "{status:?}");
    assert_eq!(status.json()["models"]["a"]["left"], 0);
}

#[test]
fn loaded_models_run_first_and_stay_loaded() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
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
        .run(&batch_args(
            &url,
            &["-P", "Say {{text}}", "--text", "x", "-m", "*"],
        ))
        .ok();
    assert_eq!(chat_models(&studio), ["zz", "aa"]);
    assert_eq!(
        (studio.load_count(), studio.loaded_instances()),
        (1, vec!["zz".to_owned()])
    );
    assert!(
        request_bodies(&studio, UNLOAD)
            .iter()
            .all(|body| body["instance_id"] == "aa")
    );
}

#[test]
fn invalid_arguments_fail_before_any_model_is_loaded() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a"]));
    let url = studio.url();
    machine.write("p.toml", "g = \"Say {{text}} to {{name}} in {{lang}}.\"\n");
    machine.write(
        "rows.jsonl",
        "{\"text\":\"x\",\"name\":\"Ada\"}\n{\"text\":\"y\",\"lang\":\"pl\"}\n",
    );
    let args = batch_args(
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
    let stderr = run.fails(2);
    assert!(
        stderr.contains("`lang`") && stderr.contains("`name`"),
        "{stderr}"
    );
    assert!(
        stderr.contains("rows-0001`") && stderr.contains("rows-0002`"),
        "{stderr}"
    );
    assert_eq!(
        (studio.load_count(), request_bodies(&studio, CHAT).len()),
        (0, 0)
    );
    for (more, code, message) in [
        (
            &["-P", "nosuch", "-m", "a"][..],
            2,
            "has no prompt `nosuch`",
        ),
        (
            &["-P", "tldr", "--text", "x", "-m", "nosuch*"],
            5,
            "nosuch*",
        ),
        (
            &["-P", "tldr", "--text", "x", "-m", "b"],
            5,
            "available models: a",
        ),
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
        let run = machine.run(&batch_args(&url, more));
        assert!(run.fails(code).contains(message), "{more:?}: {run:?}");
    }
    assert_eq!(
        (studio.load_count(), request_bodies(&studio, CHAT).len()),
        (0, 0)
    );
    let run = machine.run(&["batch", "-P", "tldr", "--engine", &url]);
    assert!(run.fails(2).contains("-o DIR"), "{run:?}");
}

#[test]
fn a_plan_file_and_printed_flags_give_the_same_jobs() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["qwen/qwen3-4b", "google/gemma-3-4b"]));
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
    let invalid = machine.write("plans/invalid.toml", plan.replace("label", "lable"));
    let run = machine.run(&["batch", invalid.to_str().unwrap()]);
    let stderr = run.fails(2);
    assert!(
        stderr.contains("invalid.toml:15:1: unknown key `lable`; did you mean `label`?"),
        "{stderr}"
    );
    for name in ["p.toml", "in/a.txt", "in/b.txt"] {
        machine.write(&format!("plans/{name}"), machine.read(name));
    }
    machine.run(&["batch", "plans/plan.toml"]).ok();
    let found = results(&machine.work().join("plans/out"));
    // One prompt runs on one model, the other on both with two values.
    assert_eq!(found.len(), 2 + 8, "{found:?}");
    assert!(
        found
            .keys()
            .any(|name| name.starts_with("two--qwen_qwen3-4b~")
                && name.ends_with(".txt")
                && name.contains("--a--n=1")),
        "{found:?}"
    );
    let bodies = request_bodies(&studio, CHAT);
    let values = |model: &str, key: &str| -> BTreeSet<String> {
        let bodies = bodies.iter().filter(|body| body["model"] == model);
        bodies.map(|body| body[key].to_string()).collect()
    };
    assert_eq!(
        values("qwen/qwen3-4b", "temperature"),
        ["0.25".to_owned()].into()
    );
    assert_eq!(
        values("google/gemma-3-4b", "temperature"),
        ["0.25".to_owned(), "0.5".to_owned()].into()
    );
    assert_eq!(values("qwen/qwen3-4b", "top_k"), ["7".to_owned()].into());
    let qwen = request_bodies(&studio, LOAD)
        .into_iter()
        .find(|body| body["model"] == "qwen/qwen3-4b");
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
fn the_plan_in_the_readme_is_valid() {
    let machine = Machine::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (_, rest) = readme.split_once("**Plan files**").unwrap();
    let (_, rest) = rest.split_once("```toml\n").unwrap();
    let (plan, rest) = rest.split_once("```").unwrap();
    machine.write("plan.toml", plan);
    let printed = machine.run(&["batch", "plan.toml", "--print-plan"]);
    assert!(printed.ok().contains("label = \"greet\""), "{printed:?}");
    // All other keys that the README names are valid.
    let (keys, _) = rest.split_once("An unknown key").unwrap();
    for key in keys
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|key| !key.starts_with("[["))
    {
        machine.write("one.toml", format!("{key} = {{}}\n"));
        let run = machine.run(&["batch", "one.toml", "--print-plan"]);
        assert!(!run.stderr.contains("unknown key"), "{key}: {run:?}");
    }
}

#[test]
fn concurrency_equals_the_slots_of_the_server() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        slots: Some(4),
        token_pause: Duration::from_millis(10),
        ..echo_models(&["a"])
    });
    let url = studio.url();
    let rows: String = (0..40)
        .map(|number| format!("{{\"text\":\"word {number}\"}}\n"))
        .collect();
    machine.write("rows.jsonl", rows);
    let args = batch_args(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "rows.jsonl"],
    );
    machine.run(&args).ok();
    assert_eq!(
        (studio.max_concurrent_answers(), studio.load_count()),
        (4, 1)
    );
    assert_eq!(results(&machine.work().join("out")).len(), 40);
    assert!(chat_counts(&studio).values().all(|count| *count == 1));
}

#[test]
fn one_plan_can_use_several_packs() {
    let machine = Machine::new();
    machine.install_pack("hello", &guests::component("hello"));
    machine.install_pack("shout", &guests::component("shout"));
    let found = run_library_plan(
        &machine,
        r#"
[[prompt]]
name = "hello/greet"
label = "hello"
params = { name = ["Ada", "Bo"] }
post = ["shout/upper"]
"#,
    );
    let texts: Vec<(&str, &str)> = found
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    assert_eq!(
        texts,
        [
            (
                "hello--demo--name=Ada~f4b05d61.txt",
                "HELLO, ADA, AND WELCOME TO THE PACK!"
            ),
            (
                "hello--demo--name=Bo~17f1b735.txt",
                "HELLO, BO, AND WELCOME TO THE PACK!"
            ),
            ("tldr--demo--none.txt", FIRST),
        ]
    );
}

/// The first sentence of the input of [`run_library_plan`].
const FIRST: &str = "The library opens at nine on weekdays.";

/// Runs a plan with `tldr` and these prompts on the demo model and returns the results.
fn run_library_plan(machine: &Machine, prompts: &str) -> BTreeMap<String, String> {
    let plan = format!(
        r#"
engine = "embedded"
models = "demo"
out = "out"
temperature = 0
[[prompt]]
name = "tldr"
post = ["trim"]
{prompts}
[[input]]
text = "{FIRST} On Saturdays it opens at ten."
name = "library"
"#
    );
    machine.write("plan.toml", plan);
    machine.run(&["batch", "plan.toml"]).ok();
    results(&machine.work().join("out"))
}

/// The six prompts of the batch script of the Python program, on the demo model. The
/// README shows this command.
#[test]
fn six_stock_prompts_run_on_the_demo_model() {
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

/// Checks a run of [`six_prompts`]: each job has a result or an error file, and the demo
/// model answers `tldr` correctly.
pub(crate) fn check_six(machine: &Machine, run: &Run) {
    assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
    let folder = machine.work().join("out");
    let done = results(&folder);
    let files = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let failed = files.filter(|name| name.ends_with(".error.txt")).count();
    assert_eq!(done.len() + failed, 6, "{done:?}");
    let (_, tldr) = done
        .iter()
        .find(|(name, _)| name.starts_with("tldr--"))
        .unwrap();
    assert!(tldr.starts_with("The library opens at nine"), "{tldr:?}");
    assert!(done.keys().all(|name| name.contains("--")), "{done:?}");
}

#[test]
fn json_progress_raw_answers_and_reasoning_are_written() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Thinking {
            reasoning: "let me see".to_owned(),
            text: "  yes  ".to_owned(),
        },
        ..echo_models(&["a"])
    });
    let url = studio.url();
    let run = machine.run(&batch_args(
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
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["kind"].as_str())
        .collect();
    for kind in ["begin", "loaded", "job", "unloaded", "end"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert_eq!(machine.read("out/a.txt"), "yes");
    assert_eq!(machine.read("out/a.txt.raw.txt"), "  yes  ");
    assert_eq!(machine.read("out/a.txt.reasoning.txt"), "let me see");
}

/// Each prompt had a sandbox with a thread of its own: 3,000 of them never were ready.
#[test]
fn thousands_of_prompts_share_one_sandbox() {
    let machine = Machine::new();
    let prompts: String = (0..3000)
        .map(|number| format!("[[prompt]]\nname = 'Say {{{{text}}}} {number}'\n"))
        .collect();
    machine.write(
        "plan.toml",
        format!("engine = 'embedded'\nmodels = 'demo'\n{prompts}[[input]]\ntext = 'x'\n"),
    );
    let mut command = machine.command(&["batch", "plan.toml", "--dry-run", "-o", "out"]);
    // Nothing reads the table.
    let command = command.stdout(std::process::Stdio::null());
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    #[cfg(target_os = "linux")]
    {
        let status = format!("/proc/{}/status", child.id());
        let mut threads_max = 0;
        while child.try_wait().unwrap().is_none() {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            let threads = status
                .lines()
                .find_map(|line| line.strip_prefix("Threads:"));
            let threads = threads.and_then(|count| count.trim().parse().ok());
            threads_max = threads_max.max(threads.unwrap_or(0));
            assert!(threads_max < 50, "{threads_max} threads");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(threads_max > 0);
    }
    assert!(child.wait().unwrap().success());
}
