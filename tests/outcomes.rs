//! A job has the same outcome in `infer`, the library and `batch`.

use std::ops::ControlFlow;
use std::time::Duration;

use lmstrix::{Output, Request};
use serde_json::{Value, json};

use crate::guests;
use crate::servers::scripted::{
    ScriptedServer, Step, json_response as reply, not_found, sse_head, stream_end, text_chunk,
};
use crate::support::{Machine, finish};

/// The outcome of a job, as far as `infer`, the library and `batch` all report it.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The exit code that `infer` has.
    exit: u8,
    text: Option<String>,
    warnings: Vec<String>,
}

/// A scenario and its expected outcome.
struct Scenario {
    name: &'static str,
    model: &'static str,
    raw: bool,
    strict: bool,
    post: Option<&'static str>,
    settings: &'static [(&'static str, &'static str)],
    /// The chunks of the answer; the last one ends it.
    answer: fn() -> Vec<Step>,
    is_cancelled: bool,
    expected: (u8, Option<&'static str>, &'static [&'static str]),
}

const MODEL: &str = "some-model-instruct";
const PATH: &str = "/models/some-model-instruct.gguf";

const COMPLETE_ANSWER: Scenario = Scenario {
    name: "a complete answer",
    model: MODEL,
    raw: false,
    strict: false,
    post: None,
    settings: &[],
    answer: || {
        vec![
            text_chunk("Good "),
            text_chunk("morning."),
            stream_end("stop"),
        ]
    },
    is_cancelled: false,
    expected: (0, Some("Good morning."), &[]),
};

fn reasoning(text: &str) -> Step {
    frame(&json!({ "reasoning_content": text }), &Value::Null)
}

fn chunk(text: &str, finish_reason: &Value) -> Step {
    frame(&json!({ "content": text }), finish_reason)
}

fn frame(delta: &Value, finish_reason: &Value) -> Step {
    let chunk = json!({
        "id": "c", "object": "chat.completion.chunk", "created": 1,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    });
    Step::Send(format!("data: {chunk}\n\n").into_bytes())
}

fn scenarios() -> Vec<Scenario> {
    let cut = || vec![text_chunk("Good "), stream_end("length")];
    vec![
        COMPLETE_ANSWER,
        Scenario {
            name: "a raw prompt to an instruct model",
            raw: true,
            expected: (0, Some("Good morning."), &["without its chat template"]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "a cut answer",
            answer: cut,
            expected: (0, Some("Good "), &["cut at the token limit"]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "a cut answer with strict",
            answer: cut,
            strict: true,
            expected: (7, None, &[]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "an empty answer",
            answer: || vec![stream_end("stop")],
            expected: (7, None, &[]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "reasoning only",
            answer: || vec![reasoning("Hm."), stream_end("stop")],
            expected: (7, None, &[]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "reasoning of which only the end is marked",
            answer: || {
                vec![
                    text_chunk("Hm. They greet"),
                    text_chunk(" me.\n</THI"),
                    text_chunk("NK>\n\nGood morning."),
                    stream_end("stop"),
                ]
            },
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "a finish reason in every chunk",
            answer: || {
                vec![
                    chunk("Good ", &json!("stop")),
                    chunk("morning.", &json!("stop")),
                    Step::Send(b"data: [DONE]\n\n".to_vec()),
                ]
            },
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "an end without a finish reason",
            answer: || {
                vec![
                    chunk("Good morning.", &json!("null")),
                    Step::Send(b"data: [DONE]\n\n".to_vec()),
                ]
            },
            expected: (0, Some("Good morning."), &["without a finish reason"]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "an end without a finish reason with strict",
            answer: || {
                vec![
                    text_chunk("Good morning."),
                    Step::Send(b"data: [DONE]\n\n".to_vec()),
                ]
            },
            strict: true,
            expected: (7, None, &[]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "an unknown finish reason",
            answer: || vec![text_chunk("Good morning."), stream_end("paused")],
            expected: (
                0,
                Some("Good morning."),
                &["unknown finish reason `paused`"],
            ),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "a content filter",
            answer: || vec![text_chunk("Good "), stream_end("content_filter")],
            expected: (0, Some("Good "), &["content filter"]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "an answer that the server gave up",
            answer: || vec![text_chunk("Good "), stream_end("abort")],
            expected: (1, None, &[]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "an unsupported setting",
            settings: &[("top_k", "7")],
            expected: (0, Some("Good morning."), &["top_k"]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "an unsupported setting with strict",
            settings: &[("top_k", "7")],
            strict: true,
            expected: (2, None, &[]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "a model that is named by its path",
            model: PATH,
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "an unknown model",
            model: "another-model",
            expected: (5, None, &[]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "a processor that rejects",
            post: Some("hostile/reject"),
            expected: (7, None, &[]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "a processor that crashes",
            post: Some(r"hostile/push\:trap"),
            expected: (3, None, &[]),
            ..COMPLETE_ANSWER
        },
        Scenario {
            name: "a cancellation",
            answer: || vec![text_chunk("Good "), Step::Hang],
            is_cancelled: true,
            expected: (130, None, &[]),
            ..COMPLETE_ANSWER
        },
    ]
}

/// An OpenAI-compatible server that sends the answer of a scenario.
fn server(answer: fn() -> Vec<Step>) -> ScriptedServer {
    ScriptedServer::start(move |request, _| match request.path.as_str() {
        "/v1/models" => reply(json!({"object": "list", "data": [
            {"id": MODEL, "object": "model"},
            {"id": PATH, "object": "model"},
        ]})),
        "/v1/chat/completions" => {
            let mut steps = vec![sse_head()];
            steps.extend(answer());
            steps
        }
        // A raw prompt: the same text in the fields of a completion.
        "/v1/completions" => {
            let mut steps = vec![sse_head()];
            steps.extend(answer().into_iter().map(as_completion));
            steps
        }
        _ => not_found(),
    })
}

fn as_completion(step: Step) -> Step {
    match step {
        Step::Send(bytes) => {
            let text = String::from_utf8(bytes).unwrap();
            let text = text
                .replace(r#""delta":{"content":"#, r#""text":"#)
                .replace(r#"},"finish_reason":null"#, r#","finish_reason":null"#)
                .replace(r#""delta":{}"#, r#""text":"""#);
            Step::Send(text.into_bytes())
        }
        other => other,
    }
}

fn machine() -> Machine {
    let machine = Machine::new();
    machine.install_pack("hostile", &guests::component("hostile"));
    machine
}

/// The flags of a scenario that `infer` and `batch` share.
fn flags<'a>(scenario: &'a Scenario, url: &'a str) -> Vec<&'a str> {
    let mut flags = vec!["--engine", url, "-m", scenario.model, "--text", "hello"];
    if scenario.raw {
        flags.push("--raw");
    }
    if scenario.strict {
        flags.push("--strict");
    }
    flags.extend(scenario.post.iter().flat_map(|post| ["--post", *post]));
    for (name, value) in scenario.settings {
        assert_eq!(*name, "top_k");
        flags.extend(["--top-k", *value]);
    }
    flags
}

/// Waits until the answer has started, sends SIGINT `signals` times, and returns the exit code.
fn interrupt_after_start(
    machine: &Machine,
    server: &ScriptedServer,
    args: &[&str],
    signals: u32,
) -> Option<i32> {
    let child = machine.command(args).spawn().unwrap();
    let has_started = || {
        let requests = server.requests();
        requests
            .iter()
            .any(|request| request.path.ends_with("/completions"))
    };
    let mut waits = 0;
    while !has_started() {
        waits += 1;
        assert!(waits < 3000, "no request in 60 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..signals {
        std::thread::sleep(Duration::from_millis(300));
        crate::support::interrupt(&child);
    }
    finish(child).code
}

fn by_infer(scenario: &Scenario) -> Outcome {
    let machine = machine();
    let server = server(scenario.answer);
    let url = server.url();
    let mut args = vec!["infer", "Say: {{text}}", "--json"];
    args.extend(flags(scenario, &url));
    if scenario.is_cancelled {
        let code = interrupt_after_start(&machine, &server, &args, 1);
        return Outcome {
            exit: u8::try_from(code.unwrap()).unwrap(),
            text: None,
            warnings: Vec::new(),
        };
    }
    let run = machine.run(&args);
    let exit = u8::try_from(run.code.unwrap()).unwrap();
    let report: Value = serde_json::from_slice(&run.stdout).unwrap_or_default();
    outcome(
        exit,
        report["text"].as_str(),
        report["warnings"].as_array().into_iter().flatten(),
    )
}

/// Failed jobs have no text, and their warnings are not compared: where a failure comes
/// before the model, there is no report.
fn outcome<'a>(exit: u8, text: Option<&str>, warnings: impl Iterator<Item = &'a Value>) -> Outcome {
    let is_done = exit == 0;
    Outcome {
        exit,
        text: text.filter(|_| is_done).map(str::to_owned),
        warnings: warnings
            .filter(|_| is_done)
            .map(|warning| warning.as_str().unwrap().to_owned())
            .collect(),
    }
}

fn by_library(scenario: &Scenario) -> Outcome {
    let machine = machine();
    let server = server(scenario.answer);
    let client = machine.client();
    let mut request = Request::new("Say: {{text}}")
        .text("hello")
        .engine(server.url())
        .model(scenario.model);
    request.raw = scenario.raw;
    request.strict = scenario.strict;
    request.pack_dirs = vec![machine.work().join("packs")];
    request.processors = scenario.post.map(|post| {
        vec![lmstrix_sandbox::ProcessorRef {
            // Escaped for the command line.
            name: post.replace('\\', ""),
            options: Vec::new(),
        }]
    });
    for (_, value) in scenario.settings {
        request.settings.top_k = Some(value.parse().unwrap());
    }
    let answered = client.run(request, |output| match output {
        Output::Text(_) if scenario.is_cancelled => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    match answered {
        Ok(answer) => Outcome {
            exit: 0,
            text: Some(answer.text),
            warnings: answer.warnings.iter().map(ToString::to_string).collect(),
        },
        Err(failure) => Outcome {
            exit: lmstrix::batch::exit_code(failure.kind),
            text: None,
            warnings: Vec::new(),
        },
    }
}

fn by_batch(scenario: &Scenario) -> Outcome {
    let machine = machine();
    let server = server(scenario.answer);
    let url = server.url();
    let mut args = vec!["batch", "-P", "Say: {{text}}", "-o", "out"];
    args.extend(flags(scenario, &url));
    if scenario.is_cancelled {
        let code = interrupt_after_start(&machine, &server, &args, 2);
        return outcome(u8::try_from(code.unwrap()).unwrap(), None, [].iter());
    }
    let run = machine.run(&args);
    let journal = machine.work().join("out/batch.journal.jsonl");
    let journal = std::fs::read_to_string(journal).unwrap_or_default();
    let records: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = |kind: &str| records.iter().rfind(|record| record["kind"] == kind);
    if let Some(done) = last("done") {
        let name = done["job"].as_str().unwrap();
        let text = machine.read(&format!("out/{name}"));
        let warnings = done["warnings"].as_array().into_iter().flatten();
        return outcome(0, Some(&text), warnings);
    }
    let exit = match last("failed") {
        Some(failed) => u8::try_from(failed["exit"].as_u64().unwrap()).unwrap(),
        // The run ended before any job.
        None => u8::try_from(run.code.unwrap()).unwrap(),
    };
    outcome(exit, None, [].iter())
}

#[test]
fn infer_the_library_and_batch_have_the_same_outcome() {
    for scenario in scenarios() {
        let name = scenario.name;
        let (exit, text, warnings) = scenario.expected;
        let infer = by_infer(&scenario);
        assert_eq!(
            (infer.exit, infer.text.as_deref()),
            (exit, text),
            "{name}: {infer:?}"
        );
        for part in warnings {
            let has = infer.warnings.iter().any(|warning| warning.contains(part));
            assert!(has, "{name}: {infer:?}");
        }
        assert_eq!(by_library(&scenario), infer, "the library: {name}");
        assert_eq!(by_batch(&scenario), infer, "batch: {name}");
    }
}
