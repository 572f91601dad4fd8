//! `infer`: the main job with the demo model; what goes where, and with which
//! exit code.

use std::io::Read;

use crate::guests::component;
use crate::support::{Machine, finish};

const TEXT: &str = "The library opens at nine on weekdays. On Saturdays it opens at ten, \
                    and on Sundays it is closed.";
const FIRST: &str = "The library opens at nine on weekdays.";

const DEMO: [&str; 2] = ["--engine", "embedded"];

fn tldr(more: &[&'static str]) -> Vec<&'static str> {
    [&["infer", "tldr", "--text", TEXT][..], &DEMO, more].concat()
}

#[test]
fn the_first_sentence_and_nothing_else_is_on_stdout() {
    // Also on a machine where the program never ran.
    let machine = Machine::bare();
    let run = machine.run(&tldr(&[]));
    assert_eq!(run.ok(), format!("{FIRST}\n"));
    for part in [
        "demo model",
        "-m FILE.gguf",
        "tokens/s",
        "ended by the model",
    ] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert_eq!(machine.names(), Vec::<String>::new());
    let run = machine.run(&tldr(&["-q"]));
    assert_eq!(run.ok(), format!("{FIRST}\n"));
    assert_eq!(run.stderr, "");
}

#[test]
fn stdin_a_file_and_the_original_spellings_give_the_same() {
    let machine = Machine::new();
    machine.write("t.txt", TEXT);
    machine.write("adam.toml", "tldr = 'Summarize the text below in one short sentence. Answer with that sentence and nothing else.\n\n{{text}}\n'".replace('\'', "'''"));
    let from_stdin =
        machine.run_with_stdin(&["infer", "tldr", "--engine", "embedded"], TEXT.as_bytes());
    assert_eq!(from_stdin.ok().trim(), FIRST);
    let old = [
        "infer",
        "tldr",
        "--engine",
        "embedded",
        "--verbose",
        "--model_id",
        "demo",
        "--file_prompt",
        "adam.toml",
        "--text_file",
        "t.txt",
        "--in_ctx",
        "50%",
        "--out_ctx",
        "200",
        "--param_temp",
        "0",
        "--param_top_k",
        "40",
        "--param_top_p",
        "0.95",
        "--param_min_p",
        "0.05",
        "--param_repeat",
        "1.0",
        "--stream",
    ];
    assert_eq!(machine.run(&old).ok().trim(), FIRST);
}

#[test]
fn json_is_one_object_with_everything() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["--json", "--seed", "7"]));
    run.ok();
    let json = run.json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["text"].as_str().unwrap().trim(), FIRST);
    assert_eq!(json["raw"].as_str().unwrap().trim(), FIRST);
    assert_eq!(json["reasoning"], "");
    assert_eq!(json["finish"], "end");
    assert_eq!(json["engine"], "embedded");
    assert_eq!(json["model"], "demo");
    assert_eq!(json["settings"]["seed"]["value"], 7);
    assert_eq!(json["settings"]["temperature"]["origin"], "model-file");
    assert_eq!(json["settings"]["temperature"]["value"], 0.0);
    assert_eq!(json["packs"][0]["name"], "standard");
    assert!(
        json["usage"]["prompt_tokens"].as_u64().unwrap() > 10,
        "{json}"
    );
    assert!(
        json["usage"]["completion_tokens"].as_u64().unwrap() > 3,
        "{json}"
    );
    assert!(
        json["timings"]["first_token_s"].as_f64().unwrap() > 0.0,
        "{json}"
    );
    assert!(
        json["instance"]["context"].as_u64().unwrap() > 100,
        "{json}"
    );
    assert!(json.get("error").is_none());
}

#[test]
fn events_are_lines_that_end_exactly_once() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["--events"]));
    let events: Vec<serde_json::Value> = run
        .ok()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = events
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.first(), Some(&"loading"));
    assert_eq!(kinds.last(), Some(&"finished"));
    assert_eq!(kinds.iter().filter(|it| **it == "finished").count(), 1);
    assert!(
        kinds.contains(&"prefill") && kinds.contains(&"usage"),
        "{kinds:?}"
    );
    let text: String = events
        .iter()
        .filter(|it| it["kind"] == "text")
        .map(|it| it["text"].as_str().unwrap())
        .collect();
    assert_eq!(text.trim(), FIRST);
}

#[test]
fn a_file_is_complete_or_absent() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["-o", "out.txt"]));
    assert_eq!(run.ok(), "");
    assert_eq!(machine.read("out.txt").trim(), FIRST);
    assert_eq!(machine.names(), ["out.txt"]);
    // A failure keeps the old file, and says why beside it.
    let run = machine.run(&tldr(&["-o", "out.txt", "--post", "json", "--strict"]));
    let stderr = run.fails(7);
    assert!(stderr.contains("out.txt.partial"), "{stderr}");
    assert_eq!(machine.read("out.txt").trim(), FIRST);
    // It is no JSON from its first word on, so the model was stopped there.
    let partial = machine.read("out.txt.partial");
    assert!(
        !partial.is_empty() && FIRST.starts_with(partial.trim()),
        "{partial}"
    );
    assert!(machine.read("out.txt.error.txt").contains("rejected"));
    assert_eq!(
        machine.names(),
        ["out.txt", "out.txt.error.txt", "out.txt.partial"]
    );
    // The next success clears up.
    let _ = machine.run(&tldr(&["-o", "out.txt"])).ok();
    assert_eq!(machine.names(), ["out.txt"]);
    // What cannot be written is said before any model is loaded.
    let run = machine.run(&tldr(&["-o", "no/such/folder/x.txt"]));
    assert!(run.fails(2).contains("no/such/folder/x.txt"));
    assert!(!run.stderr.contains("demo model"), "{}", run.stderr);
    let run = machine.run(&tldr(&["-o", "/dev/full"]));
    assert!(run.fails(1).contains("/dev/full"), "{run:?}");
}

#[test]
fn each_failure_has_its_exit_code_and_a_hint() {
    let machine = Machine::new();
    machine.write("huge.txt", "word ".repeat(200_000));
    machine.write("not.gguf", "hello");
    for (args, code, says) in [
        (
            vec!["infer", "tldr", "--text", "x"],
            4,
            vec!["no engine", "--engine embedded"],
        ),
        (
            vec!["infer", "tldr", "--text", "x", "-m", "qwen"],
            4,
            vec!["no engine"],
        ),
        (
            vec!["infer", "tldr", "--text", "x", "--engine", "lmstudio"],
            4,
            vec!["`lmstudio`"],
        ),
        (
            tldr(&["-m", "dem"]),
            5,
            vec!["no model named `dem`", "`demo`"],
        ),
        (tldr(&["-m", "no.gguf"]), 5, vec!["no.gguf"]),
        (
            tldr(&["-m", "./not.gguf"]),
            5,
            vec!["not.gguf is not a GGUF file"],
        ),
        (
            vec![
                "infer",
                "tldr",
                "--engine",
                "embedded",
                "--text-file",
                "huge.txt",
            ],
            6,
            vec!["tokens", "context"],
        ),
        (tldr(&["--context", "0"]), 2, vec!["--context"]),
        (tldr(&["--context", "999999"]), 2, vec!["999999"]),
        (tldr(&["--max-tokens", "0"]), 2, vec!["--max-tokens"]),
        (tldr(&["--post", "trimm"]), 2, vec!["trimm", "`trim`"]),
        (tldr(&["--post", "trim:x=1"]), 2, vec!["`x`"]),
        (
            tldr(&["--post", "nopack/x"]),
            2,
            vec!["no pack named `nopack`"],
        ),
        (tldr(&["--post", "json"]), 7, vec!["rejected"]),
        (tldr(&["--stop", "The"]), 7, vec!["no text"]),
        (tldr(&["--max-tokens", "2", "--strict"]), 7, vec!["cut"]),
        (
            tldr(&["--json-schema", "{}", "--strict"]),
            2,
            vec!["json_schema"],
        ),
        (tldr(&["--json-schema", "{"]), 2, vec!["JSON"]),
    ] {
        let run = machine.run(&args);
        assert_eq!(run.code, Some(code), "{args:?}: {run:?}");
        for part in says {
            assert!(
                run.stderr.contains(part),
                "{args:?}: {part}\n{}",
                run.stderr
            );
        }
    }
}

#[test]
fn a_cut_answer_is_an_answer_with_a_warning() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["--max-tokens", "3"]));
    assert!(FIRST.starts_with(run.ok().trim()), "{run:?}");
    assert!(
        run.stderr.contains("warning: the answer was cut"),
        "{run:?}"
    );
}

#[test]
fn a_lost_setting_is_a_warning() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["--json-schema", "{}"]));
    assert_eq!(run.ok().trim(), FIRST);
    assert!(run.stderr.contains("json_schema"), "{run:?}");
}

#[test]
fn whoever_closes_stdout_has_had_enough() {
    let machine = Machine::new();
    let mut child = machine.command(&tldr(&["--no-post"])).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut five = [0; 5];
    stdout.read_exact(&mut five).unwrap();
    drop(stdout);
    assert_eq!(&five, b"The l");
    let run = finish(child);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(!run.stderr.contains("error"), "{run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_what_was_said() {
    use rustix::process::{Pid, Signal, kill_process};
    let machine = Machine::new();
    machine.drop_pack("hostile", &component("hostile"));
    // A slow processor, and a model that rambles.
    let args = [
        &["infer", "tldr", "--text", TEXT][..],
        &DEMO,
        &[
            "--post",
            "hostile/slow",
            "--temperature",
            "3",
            "--min-p",
            "0",
            "-o",
            "out.txt",
        ],
    ]
    .concat();
    let child = machine.command(&args).spawn().unwrap();
    let partial = machine.work().join("out.txt.partial");
    let begun = || std::fs::metadata(&partial).is_ok_and(|it| it.len() > 0);
    for _ in 0..6_000 {
        if begun() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(begun());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let run = finish(child);
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(run.stderr.contains("interrupted"), "{run:?}");
    assert_eq!(
        machine.names(),
        ["out.txt.error.txt", "out.txt.partial", "packs"]
    );
    assert!(!machine.read("out.txt.partial").is_empty());
}

#[test]
fn prompts_and_answers_never_pass_through_the_log() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["-vvv"]));
    assert_eq!(run.ok().trim(), FIRST);
    assert!(!run.stderr.contains("library"), "{}", run.stderr);
}
