//! Faults of servers: exit codes, messages, and the partial text that is kept.

use std::time::Duration;

use crate::servers::scripted::{
    ScriptedServer, Step, json_response, not_found, response, sse_head, stream_end, text_chunk,
};
use crate::servers::studio::{Answer, FakeStudio, Fault, Model, Setup};
use crate::support::{Machine, Run};

/// The answer of the fake server; faults in mid-stream occur after two tokens.
const TEXT: &str = "Bonjour tout le monde.";

fn infer(machine: &Machine, url: &str, more: &[&str]) -> Run {
    let mut args = vec!["infer", "Say: {{text}}", "--text", "hello", "--engine", url];
    args.extend(more);
    machine.run(&args)
}

/// Asserts which files are in the folder after a run with `-o out.txt`.
fn assert_output_files(machine: &Machine, run: &Run, partial: &str, case: &str) {
    if run.code == Some(0) {
        assert_eq!(machine.file_names(), ["out.txt"], "{case}: {run:?}");
        return;
    }
    let mut names = vec!["out.txt.error.txt"];
    if !partial.is_empty() {
        names.push("out.txt.partial");
        assert_eq!(machine.read("out.txt.partial"), partial, "{case}");
        assert!(run.stderr.contains("out.txt.partial"), "{case}: {run:?}");
    }
    assert_eq!(machine.file_names(), names, "{case}: {run:?}");
    assert!(!run.stderr.contains("panicked"), "{case}: {run:?}");
}

#[test]
fn server_faults_have_exit_codes_and_keep_partial_text() {
    let part = "Bonjour tout";
    // Short, since no token ever arrives.
    let first: &[&str] = &["--first-token-timeout", "400ms"];
    // Long enough for two tokens on a slow machine.
    let next: &[&str] = &["--stream-timeout", "2s"];
    let none: &[&str] = &[];
    for (fault, more, code, message, partial) in [
        (Fault::None, none, 0, "", ""),
        (
            Fault::SilentBeforeFirstByte,
            first,
            124,
            "--first-token-timeout",
            "",
        ),
        (
            Fault::PingsOnly,
            first,
            124,
            "no first token within 0.4 s",
            "",
        ),
        (Fault::OverflowString, none, 6, "context", ""),
        (Fault::OverflowInStream, none, 6, "context", ""),
        // The prompt is too short to be an overflow.
        (Fault::OverflowEmpty, none, 7, "no text", ""),
        (Fault::ErrorEvent, none, 1, "LM Studio at", part),
        (Fault::ErrorData, none, 1, "LM Studio at", part),
        (Fault::ErrorObject, none, 1, "LM Studio at", part),
        (Fault::ErrorField, none, 1, "LM Studio at", part),
        (Fault::NoFinish, none, 1, "without a finish reason", part),
        (Fault::NoDone, none, 0, "", ""),
        (Fault::HangMidStream, next, 124, "--stream-timeout", part),
        (Fault::Split, none, 0, "", ""),
        (Fault::Crlf, none, 0, "", ""),
        (Fault::Html500, none, 1, "HTTP 500: ", ""),
        (Fault::EvictedMidStream, none, 5, "nload", part),
        (
            Fault::WrongModel("gemma-27b".to_owned()),
            none,
            5,
            "answered with model `gemma-27b` instead of",
            "",
        ),
        (Fault::RefusesStream, none, 0, "one piece", ""),
        (Fault::PlainBody, none, 0, "", ""),
        (
            Fault::Busy {
                times: 2,
                retry_after: Some(0),
            },
            none,
            0,
            "busy; retrying in",
            "",
        ),
        (
            Fault::Busy {
                times: 1,
                retry_after: None,
            },
            none,
            0,
            "busy; retrying in",
            "",
        ),
        (
            Fault::Busy {
                times: 1,
                retry_after: Some(9999),
            },
            none,
            4,
            "run the command again later",
            "",
        ),
        (Fault::LoadingFor(2), none, 0, "", ""),
        (
            Fault::LoadingFor(usize::MAX),
            &["--load-timeout", "700ms"],
            124,
            "--load-timeout",
            "",
        ),
    ] {
        let machine = Machine::new();
        let studio = FakeStudio::start(Setup {
            fault: fault.clone(),
            ..Setup::default()
        });
        let case = format!("{fault:?}");
        let run = infer(
            &machine,
            &studio.url(),
            &[more, &["-o", "out.txt"]].concat(),
        );
        assert_eq!(run.code, Some(code), "{case}: {run:?}");
        assert!(run.stderr.contains(message), "{case}: {run:?}");
        assert_output_files(&machine, &run, partial, &case);
        if code == 0 {
            assert_eq!(machine.read("out.txt"), TEXT, "{case}");
        }
        if matches!(
            fault,
            Fault::HangMidStream | Fault::SilentBeforeFirstByte | Fault::PingsOnly
        ) {
            let timeout = Duration::from_secs(20);
            assert!(studio.wait_cancelled(timeout), "{case}: not cancelled");
        }
        drop(studio);
        let studio = FakeStudio::start(Setup {
            fault: fault.clone(),
            ..Setup::default()
        });
        // Without `-o` stdout contains the text that was received, and nothing else.
        let run = infer(&machine, &studio.url(), more);
        let expected = match run.code {
            Some(0) => TEXT,
            _ => partial,
        };
        assert_eq!(run.text().trim_end(), expected, "{case}: {run:?}");
    }
}

#[test]
fn an_empty_answer_to_a_long_prompt_is_a_context_overflow() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        fault: Fault::OverflowEmpty,
        ..Setup::default()
    });
    machine.write("long.txt", "many words in it ".repeat(3000));
    let args = ["infer", "Say: {{text}}", "--text-file", "long.txt"];
    let run = machine.run(&[&args[..], &["--engine", &studio.url()]].concat());
    assert!(run.fails(6).contains("8192"), "{run:?}");
}

/// An OpenAI-compatible server with one model and scripted chat responses. `chat` receives
/// the number of earlier chat requests.
fn openai_server(chat: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> ScriptedServer {
    ScriptedServer::start(move |request, before| match request.path.as_str() {
        "/v1/models" => json_response(serde_json::json!({
            "object": "list", "data": [{"id": "m", "object": "model", "owned_by": "me"}]
        })),
        "/v1/chat/completions" => chat(before),
        _ => not_found(),
    })
}

fn response_with_length(length: usize, body: &str) -> Step {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {length}\r\n\r\n"
    );
    Step::Send((head + body).into_bytes())
}

fn step_text(step: Step) -> String {
    match step {
        Step::Send(bytes) => String::from_utf8(bytes).unwrap(),
        _ => String::new(),
    }
}

#[test]
fn connection_faults_keep_partial_text() {
    type Script = fn(usize) -> Vec<Step>;
    let cases: [(&str, Script, i32, &str, &str); 10] = [
        (
            "reset in mid-stream",
            |_| {
                vec![
                    sse_head(),
                    text_chunk("half"),
                    Step::Pause(Duration::from_secs(2)),
                    Step::Reset,
                ]
            },
            1,
            "lost: ",
            "half",
        ),
        (
            "reset before the first byte, once",
            |before| match before {
                0 => vec![Step::Reset],
                _ => vec![sse_head(), text_chunk("whole"), stream_end("stop")],
            },
            0,
            "retrying in",
            "whole",
        ),
        (
            "reset after the head, once",
            |before| match before {
                0 => vec![
                    sse_head(),
                    Step::Pause(Duration::from_millis(50)),
                    Step::Reset,
                ],
                _ => vec![sse_head(), text_chunk("whole"), stream_end("stop")],
            },
            0,
            "retrying in",
            "whole",
        ),
        (
            "reset always",
            |_| vec![Step::Reset],
            4,
            "run the command again",
            "",
        ),
        (
            "content-length longer than the body",
            |_| vec![response_with_length(9000, &step_text(text_chunk("half")))],
            1,
            "lost: ",
            "half",
        ),
        (
            "content-length shorter than the stream",
            |_| {
                let body = step_text(text_chunk("half")) + &step_text(stream_end("stop"));
                vec![response_with_length(
                    step_text(text_chunk("half")).len() + 5,
                    &body,
                )]
            },
            1,
            "without a finish reason",
            "half",
        ),
        (
            "invalid JSON in the stream",
            |_| {
                vec![
                    sse_head(),
                    text_chunk("half"),
                    Step::Send(b"data: {oops\n\ndata: x\n\n".to_vec()),
                ]
            },
            1,
            "invalid response",
            "half",
        ),
        (
            "HTML page",
            |_| response(200, "text/html", "<html><title>Sign in</title></html>"),
            1,
            "Sign in",
            "",
        ),
        (
            "error as a JSON response",
            |_| json_response(serde_json::json!({"error": "model 'm' not found"})),
            5,
            "not found",
            "",
        ),
        (
            "redirect",
            |_| {
                vec![Step::Send(b"HTTP/1.1 302 Found\r\nlocation: http://example.com/\r\ncontent-length: 0\r\n\r\n".to_vec())]
            },
            4,
            "example.com",
            "",
        ),
    ];
    for (case, script, code, message, text) in cases {
        let machine = Machine::new();
        let server = openai_server(script);
        let run = infer(&machine, &server.url(), &["-o", "out.txt"]);
        assert_eq!(run.code, Some(code), "{case}: {run:?}");
        assert!(run.stderr.contains(message), "{case}: {run:?}");
        assert_output_files(&machine, &run, text, case);
        if code == 0 {
            assert_eq!(machine.read("out.txt"), text, "{case}");
        }
    }
}

#[test]
fn a_request_is_not_retried_after_text_was_printed() {
    let machine = Machine::new();
    let server = openai_server(|_| {
        vec![
            sse_head(),
            text_chunk("half"),
            Step::Pause(Duration::from_secs(2)),
            Step::Reset,
        ]
    });
    let run = infer(&machine, &server.url(), &[]);
    assert_eq!((run.code, run.text()), (Some(1), "half\n"), "{run:?}");
    let requests = server.requests();
    let chats = requests
        .iter()
        .filter(|request| request.path.contains("chat"));
    assert_eq!(chats.count(), 1);
}

#[test]
fn an_unreachable_or_unknown_server_is_an_engine_error() {
    let machine = Machine::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let run = infer(&machine, &format!("127.0.0.1:{port}"), &[]);
    assert!(run.fails(4).contains("refused"), "{run:?}");
    // A web server that is not an engine, and a server that never responds.
    let web = ScriptedServer::start(|_, _| response(200, "text/html", "<html>hello</html>"));
    assert!(
        infer(&machine, &web.url(), &[])
            .fails(4)
            .contains("not a supported server at")
    );
    let silent = ScriptedServer::start(|_, _| vec![Step::Hang]);
    let run = infer(&machine, &silent.url(), &["--connect-timeout", "1s"]);
    assert!(run.fails(4).contains("no response within"), "{run:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_cancels_the_request_and_keeps_partial_text() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        fault: Fault::HangMidStream,
        ..Setup::default()
    });
    let url = studio.url();
    let args = [
        "infer",
        "Say: {{text}}",
        "--text",
        "x",
        "--engine",
        &url,
        "-o",
        "out.txt",
    ];
    let mut child = machine.command(&args).spawn().unwrap();
    let partial = machine.work().join("out.txt.partial");
    while std::fs::metadata(&partial).map_or(0, |metadata| metadata.len()) == 0 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the program ended by itself"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    crate::support::interrupt(&child);
    crate::support::finish(child).fails(130);
    assert!(studio.wait_cancelled(Duration::from_secs(20)));
    assert_eq!(machine.read("out.txt.partial"), "Bonjour tout");
}

#[test]
fn a_processor_that_stops_early_cancels_the_request_and_succeeds() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Text(format!("<output>yes</output>{}", " more".repeat(2_000_000))),
        ..Setup::default()
    });
    let run = infer(&machine, &studio.url(), &["--post", "tag"]);
    assert_eq!(run.ok().trim(), "yes");
    assert!(run.stderr.contains("stopped by a processor"), "{run:?}");
    assert!(studio.wait_cancelled(Duration::from_secs(20)));
}

#[test]
fn the_loop_guard_stops_a_repeating_answer() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Text("so it goes on ".repeat(200_000)),
        ..Setup::default()
    });
    let run = infer(&machine, &studio.url(), &["-o", "out.txt"]);
    run.ok();
    assert!(run.stderr.contains("--max-repeat"), "{run:?}");
    let length = machine.read("out.txt").len();
    assert!((1024..100_000).contains(&length), "{length}");
    let run = infer(&machine, &studio.url(), &["--strict"]);
    assert_eq!(run.code, Some(7), "{}", run.stderr);
}

#[test]
fn the_total_timeout_stops_the_run() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Tokens(1_000_000),
        token_pause: Duration::from_millis(20),
        ..Setup::default()
    });
    let run = infer(
        &machine,
        &studio.url(),
        &["--timeout", "5", "-o", "out.txt"],
    );
    assert!(
        run.fails(124).contains("--timeout sets this limit"),
        "{run:?}"
    );
    assert!(machine.read("out.txt.partial").starts_with("t0 t1"));
    assert!(studio.wait_cancelled(Duration::from_secs(20)));
}

#[test]
fn a_failed_load_exits_with_5_and_a_load_timeout_with_124() {
    let machine = Machine::new();
    let setup = Setup {
        models: vec![Model::llm("big", 4096)],
        load_error: Some("Failed to load model: insufficient system resources".to_owned()),
        ..Setup::default()
    };
    let studio = FakeStudio::start(setup.clone());
    let run = infer(&machine, &studio.url(), &["-m", "big"]);
    assert!(
        run.fails(5).contains("insufficient system resources"),
        "{run:?}"
    );
    // The failure is part of the model's statistics.
    let observations = machine.home().join("data/observations.jsonl");
    let observations = std::fs::read_to_string(observations).unwrap();
    assert!(
        observations.contains("insufficient system resources"),
        "{observations}"
    );
    let slow = FakeStudio::start(Setup {
        load_time: Duration::from_secs(600),
        load_error: None,
        ..setup
    });
    let run = infer(
        &machine,
        &slow.url(),
        &["-m", "big", "--load-timeout", "500ms"],
    );
    assert!(run.fails(124).contains("--load-timeout"), "{run:?}");
}

#[test]
fn a_stream_timeout_disconnects_and_later_requests_succeed() {
    let machine = Machine::new();
    let server = openai_server(|_| vec![sse_head(), text_chunk("half"), Step::Hang]);
    let run = infer(&machine, &server.url(), &["--stream-timeout", "300ms"]);
    assert_eq!((run.code, run.text()), (Some(124), "half\n"), "{run:?}");
    assert!(server.client_disconnected(Duration::from_secs(20)));
    let studio = FakeStudio::start(Setup {
        fault: Fault::Html500,
        ..Setup::default()
    });
    assert_eq!(infer(&machine, &studio.url(), &[]).code, Some(1));
    studio.set_fault(Fault::None);
    infer(&machine, &studio.url(), &[]).ok();
}

#[test]
fn a_stream_without_end_marker_ends_after_the_finish_reason() {
    // The finish reason, then SSE comments without an end marker.
    let machine = Machine::new();
    let server = openai_server(|_| {
        let last =
            b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        let mut steps = vec![sse_head(), text_chunk("whole"), Step::Send(last.to_vec())];
        for _ in 0..200 {
            steps.push(Step::Pause(Duration::from_millis(300)));
            steps.push(Step::Send(b": ping\n\n".to_vec()));
        }
        steps
    });
    let run = infer(&machine, &server.url(), &[]);
    assert_eq!(run.ok(), "whole\n");
    assert!(server.client_disconnected(Duration::from_secs(20)));
}

#[test]
fn an_old_lm_studio_loads_just_in_time_with_a_warning() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        has_v1: false,
        models: vec![Model::llm("a", 4096)],
        ..Setup::default()
    });
    let run = infer(&machine, &studio.url(), &["-m", "a", "--json"]);
    run.ok();
    assert!(run.stderr.contains("older than 0.4.0"), "{run:?}");
    assert!(
        run.json()["warnings"]
            .to_string()
            .contains("older than 0.4.0")
    );
    assert_eq!(studio.load_count(), 1);
}
