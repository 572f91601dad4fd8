//! `infer`, `test` and `batch` with llama.cpp's own HTTP server and the demo model.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::batch::plans;
use crate::python;
use crate::support::{Machine, finish};

const TEXT: &str = "The library opens at nine on weekdays. On Saturdays it opens at ten, \
                    and on Sundays it is closed.";
const FIRST: &str = "The library opens at nine on weekdays.";

struct LlamaServer {
    child: Child,
    url: String,
}

impl LlamaServer {
    fn start(model: &Path, context: u32, key: Option<&str>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/llama_server.py");
        let mut child = Command::new(python::environment())
            .arg(script)
            .arg(model)
            .arg(context.to_string())
            .args(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let url = stdout.lines().find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("listening ").map(str::to_owned)
        });
        Self {
            child,
            url: url.unwrap(),
        }
    }

    fn demo_model() -> Self {
        Self::start(&demo(), 1024, None)
    }

    /// Sends a GET request without an HTTP library.
    fn get(&self, path: &str) -> Value {
        let host = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let body = response.split_once("\r\n\r\n").unwrap().1;
        let start = body.find(['[', '{']).unwrap();
        let mut values = serde_json::Deserializer::from_str(&body[start..]).into_iter();
        values.next().unwrap().unwrap()
    }

    fn is_processing(&self) -> bool {
        self.get("/slots")[0]["is_processing"] == true
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        // Closing its stdin would stop the server, too, but only later.
        let _already_stopped = self.child.kill();
        let _already_stopped = self.child.wait();
    }
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gguf/assets/demo.gguf")
}

fn infer_args<'a>(server: &'a LlamaServer, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["infer", "tldr", "--text", TEXT, "--engine", &server.url];
    args.extend(more);
    args
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn answers_stream_and_settings_are_honoured() {
    let server = LlamaServer::demo_model();
    let machine = Machine::new();
    let run = machine.run(&infer_args(&server, &["--temperature", "0", "--events"]));
    let lines: Vec<Value> = run
        .ok()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |kind: &str| lines.iter().filter(|event| event["kind"] == kind).count();
    assert!(count("text") > 5, "{lines:?}");
    assert!(count("prefill") > 1 && count("usage") >= 1, "{lines:?}");
    assert_eq!(count("finished"), 1);
    let text: String = lines
        .iter()
        .filter_map(|event| event["text"].as_str())
        .collect();
    assert_eq!(text.trim(), FIRST);

    // The name of the file selects the model.
    for model in ["demo", "demo.gguf"] {
        let run = machine.run(&infer_args(&server, &["-m", model, "--temperature", "0"]));
        assert_eq!(run.ok().trim(), FIRST, "{model}");
    }
    let run = machine.run(&infer_args(&server, &["-m", "dem"]));
    assert!(run.fails(5).contains("demo.gguf"), "{run:?}");

    let run = machine.run(&infer_args(
        &server,
        &["--temperature", "0", "--stop", "nine"],
    ));
    assert_eq!(run.ok().trim(), "The library opens at");
    let run = machine.run(&infer_args(
        &server,
        &["--temperature", "0", "--max-tokens", "3", "--json"],
    ));
    run.ok();
    assert_eq!(run.json()["finish"], "length");
    assert_eq!(run.json()["usage"]["completion_tokens"], 3);
    assert_eq!(run.json()["engine"], "llama-server");
    assert_eq!(run.json()["instance"]["context"], 1024);

    let infer_with_seed = |seed: &'static str| {
        let settings = [
            "--temperature",
            "3",
            "--top-k",
            "0",
            "--top-p",
            "1",
            "--min-p",
            "0",
            "--max-tokens",
            "40",
            "--seed",
            seed,
        ];
        machine.run(&infer_args(&server, &settings)).ok().to_owned()
    };
    let (first, again, other) = (
        infer_with_seed("1"),
        infer_with_seed("1"),
        infer_with_seed("2"),
    );
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn llama_cpp_and_the_embedded_engine_give_the_same_greedy_answers() {
    let server = LlamaServer::demo_model();
    let machine = Machine::new();
    let data = include_str!("data/tldr.jsonl");
    for line in data.lines().take(8) {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = row["text"].as_str().unwrap();
        let answer = |engine: &str| {
            let run = machine.run(&[
                "infer",
                "tldr",
                "--text",
                text,
                "--engine",
                engine,
                "--temperature",
                "0",
                "-q",
            ]);
            run.ok().to_owned()
        };
        assert_eq!(answer(&server.url), answer("embedded"), "{text}");
    }
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn a_json_schema_is_enforced_and_an_invalid_one_is_an_error() {
    let server = LlamaServer::demo_model();
    let machine = Machine::new();
    let schema = r#"{"type":"object","properties":{"open":{"type":"boolean"}},"required":["open"],"additionalProperties":false}"#;
    let run = machine.run(&infer_args(&server, &["--json-schema", schema, "--strict"]));
    let answer: Value = serde_json::from_str(run.ok()).unwrap();
    assert!(answer["open"].is_boolean(), "{answer}");
    let run = machine.run(&infer_args(
        &server,
        &["--json-schema", r#"{"type":"nonsense"}"#],
    ));
    assert!(run.fails(2).contains("nonsense"));
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn a_prompt_that_exceeds_the_context_exits_with_6_and_both_sizes() {
    let server = LlamaServer::demo_model();
    let machine = Machine::new();
    machine.write("long.txt", "word ".repeat(3000));
    let run = machine.run(&[
        "infer",
        "tldr",
        "--text-file",
        "long.txt",
        "--engine",
        &server.url,
        "-o",
        "out.txt",
    ]);
    let stderr = run.fails(6);
    assert!(stderr.contains("exceeds the context of 1024"), "{stderr}");
    let count = stderr.split("prompt of ").nth(1).unwrap();
    let tokens: u32 = count.split(' ').next().unwrap().parse().unwrap();
    assert!(tokens > 3000, "{stderr}");
    assert_eq!(machine.file_names(), ["long.txt", "out.txt.error.txt"]);
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn a_raw_prompt_is_continued_and_the_chat_template_gives_an_answer() {
    let server = LlamaServer::demo_model();
    let machine = Machine::new();
    let run = machine.run(&infer_args(
        &server,
        &["--raw", "--temperature", "0", "--max-tokens", "8"],
    ));
    assert_ne!(run.ok().trim(), FIRST);
    assert!(run.stderr.contains("chat template"), "{}", run.stderr);
    let run = machine.run(&infer_args(
        &server,
        &["--show-request", "--temperature", "0"],
    ));
    assert_eq!(run.ok().trim(), FIRST);
    for part in [
        "<|im_start|>user\\n",
        "instance: 1024 tokens",
        "temperature        0            flag         honoured",
        "(differs)",
        "stop texts: none",
    ] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
}

/// Writes a copy of the demo model that declares a longer context, so that an answer can take
/// long.
fn long_context_model(machine: &Machine) -> PathBuf {
    let mut bytes = std::fs::read(demo()).unwrap();
    let key = b".context_length";
    let at = bytes
        .windows(key.len())
        .position(|window| window == key)
        .unwrap()
        + key.len();
    // The type of the value (4: unsigned, 32 bits), and the value.
    assert_eq!(bytes[at..at + 4], 4_u32.to_le_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&100_000_u32.to_le_bytes());
    machine.write("long-context.gguf", bytes)
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn an_interrupt_frees_the_slot_of_the_server() {
    let machine = Machine::new();
    let model = long_context_model(&machine);
    let server = LlamaServer::start(&model, 60_000, None);
    // A grammar that requires a long answer.
    let schema = r#"{"type":"array","minItems":300,"items":{"type":"array","minItems":300,"items":{"type":"boolean"}}}"#;
    let mut child = machine
        .command(&infer_args(
            &server,
            &["--json-schema", schema, "-o", "out.txt"],
        ))
        .spawn()
        .unwrap();
    let start = Instant::now();
    let partial = machine.work().join("out.txt.partial");
    while std::fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < 200 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no text received"
        );
        assert!(
            child.try_wait().unwrap().is_none(),
            "the program ended by itself: {:?}",
            finish(child)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(server.is_processing());
    crate::support::interrupt(&child);
    let cancelled = Instant::now();
    let run = finish(child);
    run.fails(130);
    while server.is_processing() {
        // Usually within two seconds; longer on a busy machine.
        assert!(
            cancelled.elapsed() < Duration::from_secs(20),
            "the slot is still busy"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("the slot was free after {:?}", cancelled.elapsed());
    assert!(machine.read("out.txt.partial").len() >= 200);
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn an_api_key_is_required_sent_and_redacted() {
    let key = "sk-test-7a1c9e55d0";
    let server = LlamaServer::start(&demo(), 1024, Some(key));
    let machine = Machine::new();
    let run = machine.run(&infer_args(&server, &[]));
    assert!(run.fails(4).contains("LMSTRIX_HOST_API_KEY"));
    let with = |name: &str, value: &str, more: &[&str]| {
        let mut command = machine.command(&infer_args(&server, more));
        command.env(name, value);
        finish(command.spawn().unwrap())
    };
    let run = with("LMSTRIX_HOST_API_KEY", "sk-wrong-1234567890", &["-vvv"]);
    let stderr = run.fails(4);
    assert!(!stderr.contains("sk-wrong"), "{stderr}");
    let run = with(
        "LMSTRIX_HOST_API_KEY",
        key,
        &["--json", "-vvv", "--show-request", "--temperature", "0"],
    );
    run.ok();
    assert_eq!(run.json()["text"].as_str().unwrap().trim(), FIRST);
    assert!(!run.text().contains(key) && !run.stderr.contains(key));
    machine.write(
        "c.toml",
        format!(
            "[engines.mine]\nurl = '{}/v1'\nkey_env = 'MY_KEY'\n",
            server.url
        ),
    );
    let run = {
        let mut command = machine.command(&[
            "infer",
            "tldr",
            "--text",
            TEXT,
            "--config",
            "c.toml",
            "--engine",
            "mine",
            "--temperature",
            "0",
        ]);
        command.env("MY_KEY", key);
        finish(command.spawn().unwrap())
    };
    assert_eq!(run.ok().trim(), FIRST);
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn test_finds_the_context_of_the_server() {
    let server = LlamaServer::start(&demo(), 768, None);
    let machine = Machine::new();
    let model = demo();
    let model = model.file_stem().unwrap().to_str().unwrap();
    let run = machine.run(&["test", model, "--engine", &server.url, "--json"]);
    run.ok();
    let found = &run.json()["results"][0];
    assert_eq!(found["level"], "accepts", "{found}");
    assert!(run.stderr.contains("cannot recall"), "{run:?}");
    let context = found["context"].as_u64().unwrap();
    assert!((730..=768).contains(&context), "{found}");
    // One prompt fills the context, as counted by the server; a context that is a few percent
    // larger is refused below.
    let probes = found["probes"].as_array().unwrap();
    let longest_prompt = probes
        .iter()
        .filter_map(|probe| probe["prompt_tokens"].as_u64())
        .max();
    assert!(longest_prompt.unwrap() >= context * 93 / 100, "{found}");
    // The model can be named by any of its own names.
    machine.run(&["scan", "--engine", &server.url]).ok();
    machine.run(&["reset", model, "--engine", &server.url]).ok();
    let run = machine.run(&["unload", model, "--force", "--engine", &server.url]);
    assert!(run.fails(5).contains("cannot unload it"), "{run:?}");
    let more = machine.run(&[
        "test",
        model,
        "--engine",
        &server.url,
        "--context",
        "800",
        "--level",
        "accepts",
        "--force",
        "--json",
    ]);
    assert_eq!(more.code, Some(5), "{more:?}");
    assert_eq!(
        more.json()["results"][0]["probes"][0]["outcome"],
        "loaded-with-less"
    );
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn a_batch_runs_the_six_stock_prompts() {
    let server = LlamaServer::demo_model();
    let machine = Machine::new();
    machine.write("text.md", TEXT);
    let args = plans::six_prompts(&server.url, "text.md");
    let run = machine.run(&args);
    plans::check_six(&machine, &run);
    // A second run repeats no job that is done.
    let status = machine.run(&["batch", "status", "out", "--json"]);
    status.ok();
    let total = |status: &Value, key: &str| {
        let models = status["models"].as_object().unwrap();
        models
            .values()
            .filter_map(|model| model[key].as_u64())
            .sum::<u64>()
    };
    let done = total(&status.json(), "done");
    assert!(done >= 1, "{status:?}");
    assert_eq!(total(&status.json(), "jobs"), 6, "{status:?}");
    let run = machine.run(&args);
    plans::check_six(&machine, &run);
    let again = machine.run(&["batch", "status", "out", "--json"]);
    assert!(total(&again.json(), "done") >= done, "{again:?}");
}

/// Without an alias, the server calls its model by the path of the file.
#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn all_commands_name_the_model_of_the_server_and_use_it() {
    let server = LlamaServer::demo_model();
    let machine = Machine::new();
    let url = &server.url;
    let infer = machine.run(&infer_args(&server, &["--temperature", "0", "--json"]));
    assert_eq!(infer.json()["text"].as_str().unwrap().trim(), FIRST);
    machine.run(&["scan", "--engine", url]).ok();
    for args in [&["list"][..], &["ps", "--engine", url]] {
        let run = machine.run(args);
        assert!(run.ok().contains("demo"), "{args:?}: {run:?}");
    }
    let args = [
        "batch",
        "-P",
        "tldr",
        "--text",
        TEXT,
        "--engine",
        url,
        "-m",
        "all",
        "-o",
        "out",
        "--temperature",
        "0",
    ];
    machine.run(&args).ok();
    assert_eq!(machine.read("out/tldr--demo.txt").trim(), FIRST);
    let test = machine.run(&["test", "demo", "--engine", url, "--level", "accepts"]);
    assert_eq!(test.code, Some(0), "{test:?}");
}
