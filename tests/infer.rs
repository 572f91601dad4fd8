//! `infer` with the demo model: outputs and exit codes.

use std::io::{BufRead, Read, Write};

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
fn stdout_contains_only_the_answer() {
    // Also on the first run on a machine.
    let machine = Machine::without_cache();
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
    assert_eq!(machine.file_names(), Vec::<String>::new());
    let run = machine.run(&tldr(&["-q"]));
    assert_eq!(run.ok(), format!("{FIRST}\n"));
    assert_eq!(run.stderr, "");
}

#[test]
fn a_silent_stdin_is_announced() {
    let machine = Machine::new();
    let mut command = machine.command(&["infer", "tldr", "--engine", "embedded"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("waiting for the text on stdin") {
        assert_ne!(stderr.read_line(&mut seen).unwrap(), 0, "{seen}");
    }
    child
        .stdin
        .take()
        .unwrap()
        .write_all(TEXT.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), FIRST);
}

/// Opening a named pipe blocks until it has a writer.
#[cfg(unix)]
#[test]
fn a_pipe_without_a_writer_obeys_the_timeout() {
    let machine = Machine::new();
    crate::support::make_pipe(&machine.work().join("pipe"));
    for args in [
        ["--text-file", "pipe"],
        ["-p", "text=@pipe"],
        ["--prompts", "pipe"],
        ["--attach", "pipe"],
        ["--json-schema", "@pipe"],
    ] {
        let mut all = vec![
            "infer",
            "tldr",
            "--engine",
            "embedded",
            "--timeout",
            "300ms",
        ];
        all.extend(args);
        let stderr = machine.run(&all).fails(124).to_owned();
        assert!(stderr.contains("input files not read within"), "{stderr}");
        assert!(
            stderr.contains("--timeout sets this limit"),
            "{args:?}: {stderr}"
        );
    }
}

#[test]
fn a_silent_stdin_obeys_the_timeout() {
    let machine = Machine::new();
    for more in [&[][..], &["--text-file", "-"]] {
        let mut args = vec![
            "infer",
            "tldr",
            "--engine",
            "embedded",
            "--timeout",
            "300ms",
        ];
        args.extend(more);
        let mut command = machine.command(&args);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        // Open, and silent.
        let stdin = child.stdin.take();
        let run = finish(child);
        drop(stdin);
        assert!(
            run.fails(124).contains("--timeout sets this limit"),
            "{run:?}"
        );
    }
}

#[test]
fn utf16_files_are_read() {
    let machine = Machine::new();
    let text = "\u{feff}Zażółć gęślą jaźń.";
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    machine.write("t.txt", bytes);
    let run = machine.run(&["render", "{{text}}", "--text-file", "t.txt"]);
    assert_eq!(run.ok(), "Zażółć gęślą jaźń.\n");
}

#[test]
fn stdin_files_and_flags_of_the_python_program_are_accepted() {
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
fn json_prints_one_object_with_the_result() {
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
fn events_are_json_lines_with_one_finished_event() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["--events"]));
    let events: Vec<serde_json::Value> = run
        .ok()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.first(), Some(&"loading"));
    assert_eq!(kinds.last(), Some(&"finished"));
    let finished = kinds.iter().filter(|kind| **kind == "finished");
    assert_eq!(finished.count(), 1);
    assert!(
        kinds.contains(&"prefill") && kinds.contains(&"usage"),
        "{kinds:?}"
    );
    let text: String = events
        .iter()
        .filter(|event| event["kind"] == "text")
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!(text.trim(), FIRST);
}

#[test]
fn an_output_file_is_replaced_only_by_a_complete_answer() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["-o", "out.txt"]));
    assert_eq!(run.ok(), "");
    assert_eq!(machine.read("out.txt").trim(), FIRST);
    assert_eq!(machine.file_names(), ["out.txt"]);
    // A failure keeps the old file and writes the error beside it.
    let run = machine.run(&tldr(&["-o", "out.txt", "--post", "json", "--strict"]));
    let stderr = run.fails(7);
    assert!(stderr.contains("out.txt.partial"), "{stderr}");
    assert_eq!(machine.read("out.txt").trim(), FIRST);
    // The processor rejects the first word, so the inference was stopped there.
    let partial = machine.read("out.txt.partial");
    assert!(
        !partial.is_empty() && FIRST.starts_with(partial.trim()),
        "{partial}"
    );
    assert!(machine.read("out.txt.error.txt").contains("rejected"));
    assert_eq!(
        machine.file_names(),
        ["out.txt", "out.txt.error.txt", "out.txt.partial"]
    );
    // The next success removes the files of the failure.
    let _ = machine.run(&tldr(&["-o", "out.txt"])).ok();
    assert_eq!(machine.file_names(), ["out.txt"]);
    // An unwritable path is an error before a model is loaded.
    let run = machine.run(&tldr(&["-o", "no/such/folder/x.txt"]));
    assert!(run.fails(2).contains("no/such/folder/x.txt"));
    assert!(!run.stderr.contains("demo model"), "{}", run.stderr);
    let run = machine.run(&tldr(&["-o", "/dev/full"]));
    assert!(run.fails(1).contains("/dev/full"), "{run:?}");
}

#[test]
fn failures_have_exit_codes_and_hints() {
    let machine = Machine::new();
    machine.write("huge.txt", "word ".repeat(200_000));
    machine.write("not.gguf", "hello");
    for (args, code, messages) in [
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
            vec!["infer", "tldr", "--text", "x", "--engine", "lmstudoi"],
            4,
            vec!["`lmstudoi`", "did you mean lmstudio?"],
        ),
        (
            tldr(&["-m", "dem"]),
            5,
            vec!["model `dem` not found", "`demo`"],
        ),
        (tldr(&["-m", "no.gguf"]), 5, vec!["no.gguf"]),
        (
            tldr(&["-m", "./not.gguf"]),
            5,
            vec!["not.gguf` is not a GGUF file"],
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
        for part in messages {
            assert!(
                run.stderr.contains(part),
                "{args:?}: {part}\n{}",
                run.stderr
            );
        }
    }
}

#[test]
fn a_crashing_processor_keeps_the_raw_answer() {
    let machine = Machine::new();
    machine.install_pack("hostile", &component("hostile"));
    for name in ["push\\:trap", "finish\\:trap"] {
        let post = format!("hostile/{name}");
        let args = [&tldr(&[])[..], &["--post", &post, "-o", "out.txt"]].concat();
        let run = machine.run(&args);
        let stderr = run.fails(3);
        assert!(stderr.contains("this pack panics on purpose"), "{stderr}");
        assert!(stderr.contains("out.txt.partial"), "{stderr}");
        // The inference continues to its end.
        assert_eq!(machine.read("out.txt.partial").trim(), FIRST);
    }
    // Without `-o` the raw answer is kept in the state folder.
    let run = machine.run(&tldr(&["--post", "hostile/push\\:trap"]));
    let answers = machine.home().join("state/answers");
    let kept: Vec<_> = std::fs::read_dir(answers)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(kept.len(), 1, "{run:?}");
    assert!(run.stderr.contains(kept[0].to_str().unwrap()), "{run:?}");
    assert_eq!(std::fs::read_to_string(&kept[0]).unwrap().trim(), FIRST);
}

#[test]
fn unknown_settings_of_a_pack_are_ignored_and_invalid_ones_are_errors() {
    let machine = Machine::new();
    machine.install_pack("hostile", &component("hostile"));
    let run = machine.run(&[&["infer", "hostile/other", "--json"][..], &DEMO].concat());
    run.ok();
    let json = run.json();
    assert_eq!(json["model"], "demo");
    assert_eq!(
        json["text"].as_str().unwrap().trim(),
        "The pack says hello."
    );
    for key in ["model", "integrations"] {
        assert!(run.stderr.contains(&format!("`{key}`")), "{run:?}");
    }
    // An invalid value is an error of the pack.
    let run = machine.run(&[&["infer", "hostile/range"][..], &DEMO].concat());
    assert!(
        run.fails(2).contains("invalid value `7` for `top_p`"),
        "{run:?}"
    );
}

#[test]
fn a_processor_that_stops_early_ends_the_inference_successfully() {
    let machine = Machine::new();
    machine.install_pack("hostile", &component("hostile"));
    let first = ["--post", "hostile/first-word", "--json"];
    let run = machine.run(&tldr(&first));
    run.ok();
    let json = run.json();
    assert_eq!(json["text"], "The");
    assert_eq!(json["finish"], "enough");
    // Processors before it are finished with `enough`, and their rejection is ignored.
    let before = [
        "--post",
        "replace:from=The,to=[1\\, ",
        "--post",
        "json",
        "--post",
        "hostile/first-word",
    ];
    assert_eq!(machine.run(&tldr(&before)).ok(), "[1,\n");
    // Processors receive the stop reason.
    let reason = ["--post", "hostile/first-word", "--post", "hostile/reason"];
    assert_eq!(machine.run(&tldr(&reason)).ok(), "The [Stop::Enough]\n");
    assert!(
        machine
            .run(&tldr(&["--post", "hostile/reason"]))
            .ok()
            .ends_with("[Stop::End]\n")
    );
    let cut = ["--post", "hostile/reason", "--max-tokens", "2"];
    assert!(machine.run(&tldr(&cut)).ok().ends_with("[Stop::Length]\n"));
}

#[test]
fn an_answer_is_kept_when_stdout_fails() {
    let machine = Machine::new();
    let to_full = |args: &[&str]| {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        finish(machine.command(args).stdout(full).spawn().unwrap())
    };
    for (index, args) in [tldr(&[]), tldr(&["--json"])].iter().enumerate() {
        let run = to_full(args);
        assert_eq!(run.code, Some(1), "{run:?}");
        let answers = machine.home().join("state/answers");
        assert!(run.stderr.contains(answers.to_str().unwrap()), "{run:?}");
        assert_eq!(std::fs::read_dir(answers).unwrap().count(), index + 1);
    }
    // Events fail with the first one, before there is an answer.
    let run = to_full(&tldr(&["--raw", "--events"]));
    assert_eq!(run.code, Some(1), "{run:?}");
    // The file is written although the reader of the events has closed the pipe.
    let mut child = machine
        .command(&tldr(&["--events", "-o", "out.txt"]))
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(finish(child).code, Some(0));
    assert_eq!(machine.read("out.txt").trim(), FIRST);
}

#[test]
fn output_to_stdout_devices_appends_instead_of_replacing() {
    let machine = Machine::new();
    assert_eq!(machine.run(&tldr(&["-o", "-"])).ok(), format!("{FIRST}\n"));
    let log = machine.write("log", "before\n");
    let stdout = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    let run = finish(
        machine
            .command(&tldr(&["-o", "/dev/stdout"]))
            .stdout(stdout)
            .spawn()
            .unwrap(),
    );
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(machine.read("log").trim_end(), format!("before\n{FIRST}"));
    assert_eq!(machine.file_names(), ["log"]);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_blocked_reads_and_writes() {
    use rustix::process::{Pid, Signal, kill_process};
    let machine = Machine::new();
    crate::support::make_pipe(&machine.work().join("fifo"));
    // A FIFO without a reader, and a full pipe.
    for (args, signal) in [
        (tldr(&["-o", "fifo"]), Signal::INT),
        (tldr(&["-o", "fifo"]), Signal::HUP),
        (
            vec!["render", "{{text}}", "--text-file", "big.txt"],
            Signal::TERM,
        ),
    ] {
        machine.write("big.txt", "x".repeat(3 << 20));
        let mut child = machine.command(&args).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert!(child.try_wait().unwrap().is_none(), "{args:?} did not wait");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{args:?}");
    }
}

#[test]
fn events_and_json_report_a_failure() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["--events", "--post", "json"]));
    assert_eq!(run.code, Some(7));
    let last: serde_json::Value = serde_json::from_str(run.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["kind"], "failed");
    assert_eq!(last["exit"], 7);
    let run = machine.run(&tldr(&["--json", "--post", "json"]));
    assert_eq!(run.code, Some(7));
    assert!(run.json()["error"].as_str().unwrap().contains("rejected"));
}

#[test]
fn models_are_selected_by_name_or_by_path() {
    let machine = Machine::new();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../gguf/assets/demo.gguf");
    let models = machine.home().join("data/models");
    std::fs::create_dir_all(&models).unwrap();
    std::fs::copy(demo, models.join("mine.gguf")).unwrap();
    for model in ["mine", "mine.gguf", demo] {
        let run = machine.run(&["infer", "tldr", "--text", TEXT, "-m", model]);
        assert_eq!(run.ok().trim(), FIRST, "{model}");
        // Only the built-in model gives this warning.
        assert!(!run.stderr.contains("demo model"), "{run:?}");
    }
    let run = machine.run(&[
        "infer", "tldr", "--text", TEXT, "--engine", "embedded", "-m", "min",
    ]);
    assert!(run.fails(5).contains("`mine`"), "{run:?}");
}

#[test]
fn an_answer_cut_by_max_tokens_succeeds_with_a_warning() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["--max-tokens", "3"]));
    assert!(FIRST.starts_with(run.ok().trim()), "{run:?}");
    assert!(
        run.stderr.contains("warning: the answer was cut"),
        "{run:?}"
    );
}

#[test]
fn an_unsupported_setting_is_a_warning() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["--json-schema", "{}"]));
    assert_eq!(run.ok().trim(), FIRST);
    assert!(run.stderr.contains("json_schema"), "{run:?}");
}

#[test]
fn a_closed_stdout_ends_the_run_successfully() {
    let machine = Machine::new();
    let mut child = machine.command(&tldr(&["--no-post"])).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first_bytes = [0; 5];
    stdout.read_exact(&mut first_bytes).unwrap();
    drop(stdout);
    assert_eq!(&first_bytes, b"The l");
    let run = finish(child);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(!run.stderr.contains("error"), "{run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_partial_text() {
    let machine = Machine::new();
    machine.install_pack("hostile", &component("hostile"));
    // A slow processor, and settings for a long answer.
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
    let has_started = || std::fs::metadata(&partial).is_ok_and(|metadata| metadata.len() > 0);
    for _ in 0..6_000 {
        if has_started() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(has_started());
    crate::support::interrupt(&child);
    let run = finish(child);
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(run.stderr.contains("interrupted"), "{run:?}");
    assert_eq!(
        machine.file_names(),
        ["out.txt.error.txt", "out.txt.partial", "packs"]
    );
    assert!(!machine.read("out.txt.partial").is_empty());
}

#[test]
fn prompts_and_answers_are_not_logged() {
    let machine = Machine::new();
    let run = machine.run(&tldr(&["-vvv"]));
    assert_eq!(run.ok().trim(), FIRST);
    assert!(!run.stderr.contains("library"), "{}", run.stderr);
}
