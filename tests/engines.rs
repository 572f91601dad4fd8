//! Engine selection, requests to servers, and their answers.

use std::io::Read;

use serde_json::{Value, json};

use crate::servers::scripted::{
    Request, ScriptedServer, Step, json_response as reply, not_found, response, sse_head,
    stream_end, text_chunk,
};
use crate::servers::studio::{Answer, ContextRule, FakeStudio, Model, Setup};
use crate::support::{Machine, Run, finish};

fn infer(machine: &Machine, url: &str, more: &[&str]) -> Run {
    let mut args = vec!["infer", "Say: {{text}}", "--text", "hello", "--engine", url];
    args.extend(more);
    machine.run(&args)
}

fn request_bodies(studio: &FakeStudio, path: &str) -> Vec<Value> {
    let requests = studio.requests().into_iter();
    requests
        .filter(|request| request.path == path)
        .map(|request| request.body)
        .collect()
}

#[test]
fn lm_studio_receives_every_setting() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup::default());
    let run = infer(
        &machine,
        &format!("{}/v1", studio.url()),
        &[
            "-s",
            "Be brief.",
            "--temperature",
            "0.3",
            "--top-k",
            "20",
            "--seed",
            "7",
            "--stop",
            "END",
            "--max-tokens",
            "50%",
        ],
    );
    assert_eq!(run.ok(), "Bonjour tout le monde.\n");
    let body = request_bodies(&studio, "/v1/chat/completions").remove(0);
    let expected = json!({
        "model": "qwen/qwen3-4b",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Say: hello"},
        ],
        "stream": true, "stream_options": {"include_usage": true},
        "temperature": 0.3, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.1,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 7, "max_tokens": 4096,
        "stop": ["END"],
    });
    assert_eq!(body, expected);
    assert!(run.stderr.contains("8192 of its 32768 tokens"), "{run:?}");
}

#[test]
fn min_p_and_reasoning_use_the_endpoint_that_honours_them() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![Model {
            reasoning: true,
            loaded: vec![("r".to_owned(), 4096)],
            ..Model::llm("r", 4096)
        }],
        answer: Answer::Thinking {
            reasoning: "Let me see.".to_owned(),
            text: "Four.".to_owned(),
        },
        ..Setup::default()
    });
    let run = infer(&machine, &studio.url(), &["--min-p", "0.2", "--json"]);
    run.ok();
    let body = request_bodies(&studio, "/api/v1/chat").remove(0);
    assert_eq!(
        (&body["min_p"], &body["store"]),
        (&json!(0.2), &json!(false))
    );
    // At most what the context has left.
    let max_tokens = body["max_output_tokens"].as_u64().unwrap();
    assert!((3000..4096).contains(&max_tokens), "{body}");
    for key in ["stop", "seed", "presence_penalty"] {
        assert!(body.get(key).is_none(), "{body}");
    }
    assert_eq!(run.json()["reasoning"], "Let me see.");
    assert_eq!(run.json()["text"], "Four.");
    // That endpoint does not support stop strings.
    infer(&machine, &studio.url(), &["--min-p", "0.2", "--stop", "X"]).ok();
    assert_eq!(request_bodies(&studio, "/v1/chat/completions").len(), 1);
}

#[test]
fn reasoning_fields_and_tags_are_kept_out_of_stdout() {
    for (answer, field) in [
        (
            Answer::Thinking {
                reasoning: "hm".to_owned(),
                text: "yes".to_owned(),
            },
            "reasoning_content",
        ),
        (
            Answer::Thinking {
                reasoning: "hm".to_owned(),
                text: "yes".to_owned(),
            },
            "reasoning",
        ),
        (
            Answer::Text("<think>hm</think>\n\nyes".to_owned()),
            "reasoning",
        ),
    ] {
        let machine = Machine::new();
        let studio = FakeStudio::start(Setup {
            answer,
            reasoning_field: field,
            ..Setup::default()
        });
        let run = infer(&machine, &studio.url(), &[]);
        assert_eq!(run.ok(), "yes\n");
        let run = infer(&machine, &studio.url(), &["--json"]);
        assert_eq!(
            run.json()["reasoning"].as_str().unwrap().trim(),
            "hm",
            "{field}"
        );
        let run = infer(&machine, &studio.url(), &["--show-reasoning"]);
        assert_eq!(run.ok(), "hm\n\nyes\n", "{field}");
    }
}

#[test]
fn infer_loads_a_model_once_and_reports_its_effective_context() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![Model::llm("a", 32_768), Model::llm("ab", 32_768)],
        context: ContextRule::Smaller(2048),
        ..Setup::default()
    });
    let run = infer(
        &machine,
        &studio.url(),
        &["-m", "a", "--context", "4096", "--json"],
    );
    run.ok();
    assert!(
        run.stderr
            .contains("requested a context of 4096 tokens, but the model is loaded with 2048"),
        "{run:?}"
    );
    assert_eq!(run.json()["instance"]["context"], 2048);
    let body = request_bodies(&studio, "/api/v1/models/load").remove(0);
    assert_eq!(
        body,
        json!({"model": "a", "context_length": 4096, "echo_load_config": true})
    );
    // A loaded model is used, with and without its name.
    infer(&machine, &studio.url(), &["-m", "a"]).ok();
    infer(&machine, &studio.url(), &[]).ok();
    assert_eq!(studio.load_count(), 1);
    // A model is never loaded by a part of its name.
    let run = infer(&machine, &studio.url(), &["-m", "A"]);
    assert!(run.fails(5).contains("did you mean"), "{run:?}");
    assert_eq!(studio.load_count(), 1);
}

#[test]
fn an_ambiguous_model_is_an_error_that_lists_all_models() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![
            Model {
                loaded: vec![("a".to_owned(), 100)],
                ..Model::llm("a", 100)
            },
            Model {
                loaded: vec![("b".to_owned(), 100)],
                ..Model::llm("b", 100)
            },
            Model::llm("c", 100),
            Model {
                kind: "embedding",
                ..Model::llm("embed", 100)
            },
        ],
        ..Setup::default()
    });
    let run = infer(&machine, &studio.url(), &[]);
    let stderr = run.fails(2);
    assert!(
        stderr.contains("`a`, `b`") && stderr.contains("not loaded: `c`"),
        "{stderr}"
    );
    assert!(!stderr.contains("embed"), "{stderr}");
    machine.write("c.toml", "[defaults]\nmodel = 'b'\n");
    infer(&machine, &studio.url(), &["--config", "c.toml"]).ok();
    assert_eq!(
        request_bodies(&studio, "/v1/chat/completions")[0]["model"],
        "b"
    );
}

#[test]
fn engine_auto_selects_the_server_that_has_the_model() {
    let machine = Machine::new();
    let first = FakeStudio::start(Setup {
        models: vec![Model::llm("a", 100)],
        ..Setup::default()
    });
    let second = FakeStudio::start(Setup {
        has_v1: false,
        models: vec![Model {
            loaded: vec![("b".to_owned(), 100)],
            ..Model::llm("b", 100)
        }],
        ..Setup::default()
    });
    let config = format!(
        "[defaults]\ndiscover = false\n[engines.one]\nurl = '{}'\n[engines.two]\nurl = '{}'\ndialect = 'lmstudio'\n[engines.gone]\nurl = 'http://127.0.0.1:1'\n",
        first.url(),
        second.url()
    );
    machine.write("c.toml", config);
    let base = [
        "infer",
        "Say: {{text}}",
        "--text",
        "x",
        "--config",
        "c.toml",
    ];
    machine.run(&[&base[..], &["-m", "b"]].concat()).ok();
    machine.run(&base).ok();
    assert_eq!(request_bodies(&second, "/v1/chat/completions").len(), 2);
    machine
        .run(&[&base[..], &["-m", "a", "--engine", "one"]].concat())
        .ok();
    assert_eq!((first.load_count(), second.load_count()), (1, 0));
    let run = machine.run(&[&base[..], &["--engine", "gone"]].concat());
    assert!(run.fails(4).contains("refused"), "{run:?}");
    let run = machine.run(&[&base[..], &["--engine", "tow"]].concat());
    assert!(run.fails(4).contains("did you mean two?"), "{run:?}");
}

#[test]
fn raw_prompts_continue_the_document_and_the_chat_template_prevents_it() {
    // A bug of lmstrix: it sent prompts without the chat template. Instruct models continued
    // the document and only closed its tag.
    let machine = Machine::new();
    machine.write(
        "p.toml",
        "[translate]\nprompt = \"<translate>\\n{{text}}\"\n",
    );
    let studio = FakeStudio::start(Setup::default());
    let url = studio.url();
    let args = [
        "infer",
        "translate",
        "--prompts",
        "p.toml",
        "--text",
        "Hello world",
        "--engine",
        &url,
    ];
    let run = machine.run(&args);
    assert_eq!(run.ok(), "Bonjour tout le monde.\n");
    let run = machine.run(&[&args[..], &["--raw"]].concat());
    assert_eq!(run.ok().trim(), "</translate>");
    assert!(run.stderr.contains("chat template"), "{run:?}");
    assert_eq!(
        request_bodies(&studio, "/v1/completions")[0]["prompt"],
        "<translate>\nHello world"
    );
}

#[test]
fn the_lm_studio_token_is_sent_only_to_lm_studio_and_is_redacted() {
    let machine = Machine::new();
    let token = "sk-lm-abcd1234:abcdefghij0123456789";
    let studio = FakeStudio::start(Setup {
        token: Some(token.to_owned()),
        ..Setup::default()
    });
    let with = |name: &str, value: &str, url: &str, more: &[&str]| {
        let args = ["infer", "Say: {{text}}", "--text", "x", "--engine", url];
        let mut command = machine.command(&[&args[..], more].concat());
        finish(command.env(name, value).spawn().unwrap())
    };
    let run = infer(&machine, &studio.url(), &[]);
    assert!(run.fails(4).contains("LM_API_TOKEN"), "{run:?}");
    let run = with(
        "LM_API_TOKEN",
        token,
        &studio.url(),
        &["--json", "-vvv", "--show-request"],
    );
    run.ok();
    assert!(
        !run.text().contains("abcdefghij") && !run.stderr.contains("abcdefghij"),
        "{run:?}"
    );
    let wrong_token = "sk-lm-zzzz9999:zyxwvutsrq9876543210";
    let run = with("LM_API_TOKEN", wrong_token, &studio.url(), &["-vvv"]);
    assert!(!run.fails(4).contains("zyxwvu"), "{run:?}");
    let greeting = studio
        .requests()
        .into_iter()
        .filter(|request| request.path == "/lmstudio-greeting");
    for request in greeting {
        assert!(
            request
                .headers
                .iter()
                .all(|(name, _)| name != "authorization")
        );
    }
    // Another kind of server, and one that echoes the key in its error.
    let other = openai_server(vec![sse_head(), text_chunk("hi"), stream_end("stop")]);
    with("LM_API_TOKEN", token, &other.url(), &[]).ok();
    let count_keys = |requests: Vec<Request>| {
        requests
            .into_iter()
            .flat_map(|request| request.headers)
            .filter(|(name, _)| name == "authorization")
            .count()
    };
    assert_eq!(count_keys(other.requests()), 0);
    let echoing = ScriptedServer::start(|request, _| match request.path.as_str() {
        "/v1/models" => reply(json!({"object": "list", "data": [{"id": "m"}]})),
        "/v1/chat/completions" => {
            let key = request
                .headers
                .iter()
                .find(|(name, _)| name == "authorization");
            let key = key.map_or("none", |(_, value)| value).to_owned();
            response(
                400,
                "application/json",
                json!({"error": {"message": format!("bad key {key}")}}).to_string(),
            )
        }
        _ => not_found(),
    });
    let run = with(
        "LMSTRIX_HOST_API_KEY",
        "secret-0815-key",
        &echoing.url(),
        &["-vvv", "-o", "out.txt"],
    );
    assert!(run.stderr.contains("bad key Bearer ****"), "{run:?}");
    assert!(!run.stderr.contains("secret-0815"), "{run:?}");
    assert!(!machine.read("out.txt.error.txt").contains("secret-0815"));
    // A URL with a password is rejected, and the password is not printed.
    let run = infer(&machine, "http://me:hunter2@127.0.0.1:1", &["-vvv"]);
    assert!(!run.fails(2).contains("hunter2"), "{run:?}");
}

/// An OpenAI-compatible server with one model.
fn openai_server(chat: Vec<Step>) -> ScriptedServer {
    let chat: Vec<Vec<u8>> = chat
        .into_iter()
        .filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes),
            _ => None,
        })
        .collect();
    ScriptedServer::start(move |request, _| match request.path.as_str() {
        "/v1/models" => reply(json!({"object": "list", "data": [{"id": "m", "owned_by": "me"}]})),
        "/v1/chat/completions" => chat.iter().cloned().map(Step::Send).collect(),
        _ => not_found(),
    })
}

#[test]
fn an_openai_server_receives_only_standard_settings_and_may_reject_one() {
    let machine = Machine::new();
    let server = openai_server(vec![sse_head(), text_chunk("hi"), stream_end("stop")]);
    let run = infer(&machine, &server.url(), &["--top-k", "5", "--seed", "1"]);
    run.ok();
    assert!(
        run.stderr.contains("does not honour the setting `top_k`"),
        "{run:?}"
    );
    let body = server
        .requests()
        .into_iter()
        .find(|request| request.path.contains("chat"))
        .unwrap()
        .body;
    for key in ["top_k", "min_p", "repeat_penalty", "max_tokens"] {
        assert!(body.get(key).is_none(), "{body}");
    }
    let run = infer(&machine, &server.url(), &["--top-k", "5", "--strict"]);
    assert!(run.fails(2).contains("top_k"), "{run:?}");

    // After a server rejects a key, the request is repeated without it.
    let rejecting = ScriptedServer::start(|request, _| match request.path.as_str() {
        "/v1/models" => reply(json!({"object": "list", "data": [{"id": "m"}]})),
        "/v1/chat/completions" if request.body.get("seed").is_some() => response(
            400,
            "application/json",
            json!({"error": {"message": "Unrecognized request argument supplied: seed"}})
                .to_string(),
        ),
        "/v1/chat/completions" => vec![sse_head(), text_chunk("hi"), stream_end("stop")],
        _ => not_found(),
    });
    let run = infer(&machine, &rejecting.url(), &["--seed", "1"]);
    assert_eq!(run.ok(), "hi\n");
    assert!(run.stderr.contains("rejects the setting `seed`"), "{run:?}");
    let run = infer(&machine, &rejecting.url(), &[]);
    run.ok();
    assert!(!run.stderr.contains("seed"), "{run:?}");
    assert!(
        infer(&machine, &rejecting.url(), &["--seed", "1", "--strict"])
            .fails(2)
            .contains("seed")
    );
}

fn ndjson_line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// A fake Ollama server with two models that are not loaded.
fn ollama_server(chat: fn(&Request) -> Vec<Step>) -> ScriptedServer {
    let loaded = std::sync::Mutex::new(None::<u64>);
    ScriptedServer::start(move |request, _| match request.path.as_str() {
        "/" => response(200, "text/plain", "Ollama is running"),
        "/api/version" => reply(json!({"version": "0.12.0"})),
        "/api/tags" => reply(json!({"models": [
            {"name": "llama3.2:latest", "model": "llama3.2:latest", "details": {"family": "llama"}},
            {"name": "qwen3:4b", "model": "qwen3:4b", "details": {"family": "qwen3"}},
        ]})),
        "/api/ps" => {
            let loaded = *loaded.lock().unwrap();
            let models = loaded
                .map(|context| json!({"model": "llama3.2:latest", "context_length": context}));
            reply(json!({"models": models.into_iter().collect::<Vec<_>>()}))
        }
        "/api/show" => reply(json!({
            "model_info": {"general.architecture": "llama", "llama.context_length": 131_072},
            "capabilities": ["completion"],
        })),
        "/api/generate" if request.body.get("prompt").is_none() => {
            *loaded.lock().unwrap() = request.body["options"]["num_ctx"].as_u64().or(Some(4096));
            reply(
                json!({"model": request.body["model"], "response": "", "done": true, "done_reason": "load"}),
            )
        }
        "/api/chat" | "/api/generate" => {
            let mut steps = vec![Step::Send(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n".to_vec(),
            )];
            steps.extend(chat(request));
            steps
        }
        _ => response(404, "text/plain", "404 page not found"),
    })
}

fn ollama_chunk(text: &str) -> Step {
    Step::Send(ndjson_line(
        &json!({"model": "llama3.2:latest", "message": {"role": "assistant", "content": text}, "done": false}),
    ))
}

fn ollama_end(reason: &str) -> Step {
    Step::Send(ndjson_line(
        &json!({"model": "llama3.2:latest", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": reason, "prompt_eval_count": 9, "eval_count": 2}),
    ))
}

#[test]
fn ollama_loads_with_the_context_and_uses_its_native_api() {
    let machine = Machine::new();
    let server = ollama_server(|_| {
        vec![
            ollama_chunk("Hi "),
            ollama_chunk("there"),
            ollama_end("stop"),
        ]
    });
    let run = infer(
        &machine,
        &server.url(),
        &[
            "-m",
            "llama3.2",
            "--context",
            "8192",
            "--json",
            "--max-tokens",
            "100",
        ],
    );
    run.ok();
    assert_eq!(run.json()["text"], "Hi there");
    assert_eq!(
        run.json()["usage"],
        json!({"prompt_tokens": 9, "completion_tokens": 2})
    );
    assert_eq!(run.json()["instance"]["context"], 8192);
    assert_eq!(run.json()["engine"], "ollama");
    let requests = server.requests();
    let find = |path: &str| {
        requests
            .iter()
            .find(|request| request.path == path)
            .unwrap()
    };
    let load = find("/api/generate");
    assert_eq!(load.body["options"], json!({"num_ctx": 8192}));
    let chat = find("/api/chat");
    let options = &chat.body["options"];
    assert_eq!(
        (
            &options["num_ctx"],
            &options["num_predict"],
            &options["top_k"],
            &options["repeat_penalty"]
        ),
        (&json!(8192), &json!(100), &json!(40), &json!(1.1))
    );
    assert_eq!(
        (&chat.body["truncate"], &chat.body["shift"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(
        chat.body["messages"],
        json!([{"role": "user", "content": "Say: hello"}])
    );
    // The model is loaded now and need not be named.
    let run = infer(
        &machine,
        &server.url(),
        &[
            "--json-schema",
            "{\"type\":\"object\"}",
            "--reasoning",
            "high",
        ],
    );
    run.ok();
    assert!(run.stderr.contains("`reasoning`"), "{run:?}");
    let chat = server
        .requests()
        .into_iter()
        .rfind(|request| request.path == "/api/chat")
        .unwrap();
    assert_eq!(chat.body["format"], json!({"type": "object"}));
    assert!(chat.body.get("think").is_none(), "{}", chat.body);
    let run = infer(&machine, &server.url(), &["--raw"]);
    run.ok();
    let raw = server
        .requests()
        .into_iter()
        .rfind(|request| request.path == "/api/generate")
        .unwrap();
    assert_eq!(
        (&raw.body["raw"], &raw.body["prompt"]),
        (&json!(true), &json!("Say: hello"))
    );
}

#[test]
fn faults_of_ollama_streams_are_reported() {
    type Script = fn(&Request) -> Vec<Step>;
    let cases: [(Script, i32, &str, &str); 5] = [
        (
            |_| {
                vec![
                    ollama_chunk("half"),
                    Step::Send(ndjson_line(&json!({"error": "an error was encountered"}))),
                ]
            },
            1,
            "encountered",
            "half",
        ),
        (
            |_| vec![ollama_chunk("half")],
            1,
            "without a finish reason",
            "half",
        ),
        (
            |_| vec![ollama_chunk("half"), ollama_end("length")],
            0,
            "token limit",
            "half",
        ),
        (|_| vec![ollama_end("stop")], 7, "no text", ""),
        (
            |_| {
                vec![
                    Step::Send(b"{\"model\":\"llama3.2:latest\",\"mess".to_vec()),
                    Step::Pause(std::time::Duration::from_millis(30)),
                    Step::Send(b"age\":{\"content\":\"\xc3".to_vec()),
                    Step::Pause(std::time::Duration::from_millis(30)),
                    Step::Send(b"\xa4\"},\"done\":false}\r\n".to_vec()),
                    ollama_end("stop"),
                ]
            },
            0,
            "",
            "ä",
        ),
    ];
    for (script, code, message, text) in cases {
        let machine = Machine::new();
        let server = ollama_server(script);
        let run = infer(&machine, &server.url(), &["-m", "llama3.2"]);
        assert_eq!(run.code, Some(code), "{run:?}");
        assert!(run.stderr.contains(message), "{message}: {run:?}");
        assert_eq!(run.text().trim_end(), text);
    }
}

#[test]
fn infer_waits_until_the_router_has_loaded_the_model() {
    let machine = Machine::new();
    let server = ScriptedServer::start(|request, before| match request.path.as_str() {
        "/props" => {
            reply(json!({"role": "router", "build_info": "b7000", "models_autoload": true}))
        }
        "/models" => {
            let value = match before {
                // Listed twice before the load: for the selection and under the lock.
                0 | 1 => "unloaded",
                2 | 3 => "loading",
                _ => "loaded",
            };
            reply(json!({"data": [
                {"id": "org/small:Q4", "status": {"value": value}},
                {"id": "org/broken", "status": {"value": "unloaded", "failed": before > 0, "exit_code": 1}},
            ]}))
        }
        "/models/load" => reply(json!({"success": true})),
        "/props?model=org/small:Q4" => {
            reply(json!({"default_generation_settings": {"n_ctx": 4096}}))
        }
        "/v1/chat/completions" => vec![sse_head(), text_chunk("hi"), stream_end("stop")],
        _ => not_found(),
    });
    let run = infer(&machine, &server.url(), &["-m", "org/small:Q4", "--json"]);
    run.ok();
    assert_eq!(run.json()["instance"]["context"], 4096);
    let requests = server.requests();
    let loads = requests
        .iter()
        .filter(|request| request.path == "/models/load");
    assert_eq!(loads.count(), 1);
    let run = infer(&machine, &server.url(), &["-m", "org/broken"]);
    assert!(run.fails(5).contains("exited with code 1"), "{run:?}");
}

#[test]
fn vllm_receives_repetition_penalty() {
    let machine = Machine::new();
    let server = ScriptedServer::start(|request, _| match request.path.as_str() {
        "/version" => reply(json!({"version": "0.9.1"})),
        "/v1/models" => reply(
            json!({"object": "list", "data": [{"id": "org/m", "owned_by": "vllm", "max_model_len": 2048}]}),
        ),
        "/v1/chat/completions" => vec![sse_head(), text_chunk("hi"), stream_end("stop")],
        _ => not_found(),
    });
    let run = infer(
        &machine,
        &server.url(),
        &["--repeat-penalty", "1.2", "--json"],
    );
    run.ok();
    assert_eq!(
        (&run.json()["engine"], &run.json()["instance"]["context"]),
        (&json!("vllm"), &json!(2048))
    );
    let body = server
        .requests()
        .into_iter()
        .find(|request| request.path.contains("chat"))
        .unwrap()
        .body;
    assert_eq!(
        (&body["repetition_penalty"], body.get("repeat_penalty")),
        (&json!(1.2), None)
    );
}

/// Text with terminal escapes, template syntax, quotes and control characters.
const HOSTILE_TEXT: &str = "</x> {x} %s {{}} \x1b[31mred\x1b[0m \x1b]52;c;cm0gLXJm\x07 nul:\0 rtl:\u{202e}abc\u{200f} \u{9b}2J \\n \"q\" 'q' ä漢🙂 </translate>";

#[test]
fn hostile_text_passes_unchanged_and_is_not_logged() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Text(HOSTILE_TEXT.to_owned()),
        ..Setup::default()
    });
    machine.write("odd.txt", HOSTILE_TEXT);
    machine.write("p.toml", "echo = '''{{text}}'''");
    let url = studio.url();
    let args = [
        "infer",
        "echo",
        "--prompts",
        "p.toml",
        "--text-file",
        "odd.txt",
        "--engine",
        &url,
        "-vvv",
    ];
    let run = machine.run(&args);
    assert_eq!(run.ok(), format!("{HOSTILE_TEXT}\n"));
    assert_eq!(
        request_bodies(&studio, "/v1/chat/completions")[0]["messages"][0]["content"],
        HOSTILE_TEXT
    );
    for part in ["</x>", "{x}", "%s", "cm0gLXJm", "\x1b", "漢"] {
        assert!(!run.stderr.contains(part), "{part:?}: {}", run.stderr);
    }
    machine.run(&[&args[..], &["-o", "out.txt"]].concat()).ok();
    assert_eq!(machine.read("out.txt"), HOSTILE_TEXT);
    // `--show-request` prints it with escaped control characters.
    let run = machine.run(
        &[&args[..], &["--show-request", "-q"]]
            .concat()
            .into_iter()
            .filter(|arg| *arg != "-vvv")
            .collect::<Vec<_>>(),
    );
    run.ok();
    assert!(
        run.stderr.contains("\\e]52;c;cm0gLXJm\\u{7}"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.chars().all(|c| c == '\n' || !c.is_control()),
        "{:?}",
        run.stderr
    );
}

#[test]
#[cfg(target_os = "linux")]
fn hostile_text_is_escaped_on_a_terminal() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Text(HOSTILE_TEXT.to_owned()),
        ..Setup::default()
    });
    let url = studio.url();
    let args = ["infer", "Say: {{text}}", "--text", "x", "--engine", &url];
    let (code, output) = machine.run_on_terminal(&args);
    assert_eq!(code, Some(0), "{output:?}");
    assert!(
        output.contains("␛]52;c;cm0gLXJm␇") && output.contains("<U+202E>"),
        "{output:?}"
    );
    assert!(
        output
            .chars()
            .all(|c| c == '\n' || c == '\r' || !c.is_control()),
        "{output:?}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn an_answer_of_200_000_tokens_needs_constant_memory() {
    let machine = Machine::new();
    let tokens = 200_000;
    let studio = FakeStudio::start(Setup {
        models: vec![Model {
            loaded: vec![("m".to_owned(), 1_000_000)],
            ..Model::llm("m", 1_000_000)
        }],
        answer: Answer::Tokens(tokens),
        ..Setup::default()
    });
    let url = studio.url();
    let mut child = machine
        .command(&[
            "infer",
            "Say: {{text}}",
            "--text",
            "x",
            "--engine",
            &url,
            "--post",
            "trim",
            "--post",
            "replace:from=zzz,to=y",
        ])
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    // VmHWM is the peak of the resident memory.
    let mut peak_kib = 0_u64;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok());
        peak_kib = peak_kib.max(kib.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let text = reader.join().unwrap();
    let run = finish(child);
    assert_eq!(run.code, Some(0), "{run:?}");
    let expected: Vec<String> = (0..tokens).map(|n| format!("t{n}")).collect();
    assert!(
        text.trim_end() == expected.join(" "),
        "{} bytes",
        text.len()
    );
    eprintln!("{tokens} tokens, peak memory {peak_kib} KiB");
    assert!((1000..60 << 10).contains(&peak_kib), "{peak_kib} KiB");
}

#[test]
fn progress_without_a_terminal_is_printed_as_lines() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![Model::llm("a", 100)],
        ..Setup::default()
    });
    let run = infer(&machine, &studio.url(), &["-m", "a", "--show-progress"]);
    assert_eq!(run.ok(), "Bonjour tout le monde.\n");
    for part in [
        "loading the model\n",
        "waiting for the first token\n",
        "first token after ",
    ] {
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }
    assert!(!run.stderr.contains('\x1b') && !run.stderr.contains('\r'));
    let run = infer(
        &machine,
        &studio.url(),
        &["-m", "a", "--show-progress", "-q"],
    );
    run.ok();
    assert_eq!(run.stderr, "");
}

#[test]
fn infer_reports_the_context_that_the_server_loaded() {
    for (rule, context) in [
        (ContextRule::Exact, 5000),
        (ContextRule::RoundedTo64, 5056),
        (ContextRule::Larger(16_384), 16_384),
    ] {
        let machine = Machine::new();
        let studio = FakeStudio::start(Setup {
            models: vec![Model::llm("a", 32_768)],
            context: rule,
            answer: Answer::Echo,
            ..Setup::default()
        });
        let infer_with_seed = |seed: &str| {
            let more = ["-m", "a", "--context", "5000", "--seed", seed, "--json"];
            let run = infer(&machine, &studio.url(), &more);
            run.ok();
            assert_eq!(run.json()["instance"]["context"], context);
            run.json()["text"].as_str().unwrap().to_owned()
        };
        let first = infer_with_seed("1");
        assert!(first.ends_with("Say: hello"), "{first}");
        assert_eq!(first, infer_with_seed("1"));
        assert_ne!(first, infer_with_seed("2"));
    }
}

#[test]
fn a_closed_stdout_cancels_the_request_even_with_progress() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![Model {
            loaded: vec![("m".to_owned(), 100_000_000)],
            ..Model::llm("m", 100_000_000)
        }],
        answer: Answer::Tokens(50_000_000),
        ..Setup::default()
    });
    let url = studio.url();
    let mut child = machine
        .command(&[
            "infer",
            "Say: {{text}}",
            "--text",
            "x",
            "--engine",
            &url,
            "--show-progress",
        ])
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    assert_eq!(finish(child).code, Some(0));
    assert!(studio.wait_cancelled(std::time::Duration::from_secs(20)));
}

#[test]
fn requests_to_localhost_ignore_proxies() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup::default());
    let url = studio.url();
    let mut command = machine.command(&["infer", "Say: {{text}}", "--text", "x", "--engine", &url]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    assert_eq!(
        finish(command.spawn().unwrap()).ok(),
        "Bonjour tout le monde.\n"
    );
}

#[test]
fn the_library_streams_text_and_can_be_cancelled() {
    use lmstrix::{ErrorKind, Output, Request};
    use std::ops::ControlFlow;
    let machine = Machine::new();
    let client = machine.client();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Thinking {
            reasoning: "hm".to_owned(),
            text: "one two three".to_owned(),
        },
        ..Setup::default()
    });
    let request = || {
        Request::new("{{text}}")
            .param("text", "@no/such/file")
            .engine(studio.url())
    };
    let (mut pieces, mut events) = (Vec::new(), 0);
    let answer = client.run(request(), |output| {
        match output {
            Output::Text(text) => pieces.push(text.clone()),
            Output::Event(_) => events += 1,
        }
        ControlFlow::Continue(())
    });
    let answer = answer.unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.reasoning.as_str()),
        ("one two three", "hm")
    );
    assert_eq!(pieces, ["one", " two", " three"]);
    assert!(events > 2, "{events}");
    assert_eq!(
        request_bodies(&studio, "/v1/chat/completions")[0]["messages"][0]["content"],
        "@no/such/file"
    );

    let endless = FakeStudio::start(Setup {
        answer: Answer::Tokens(1_000_000),
        token_pause: std::time::Duration::from_millis(5),
        ..Setup::default()
    });
    let error = client
        .run(request().engine(endless.url()), |output| match output {
            Output::Text(_) => ControlFlow::Break(()),
            Output::Event(_) => ControlFlow::Continue(()),
        })
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted);
    assert!(endless.wait_cancelled(std::time::Duration::from_secs(20)));
    // More pieces than the stream keeps, unread: the model must not wait for ever.
    let long = FakeStudio::start(Setup {
        answer: Answer::Tokens(500),
        ..Setup::default()
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let unread =
        runtime.block_on(async { client.start(request().engine(long.url())).finish().await });
    assert!(unread.unwrap().text.starts_with("t0 t1"));
    let stopped = runtime.block_on(async {
        let stream = client.start(request().engine(endless.url()));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        stream.cancel();
        stream.finish().await
    });
    assert_eq!(stopped.unwrap_err().kind, ErrorKind::Interrupted);
    let refused = client.run(request().engine("http://127.0.0.1:1"), |_| {
        ControlFlow::Continue(())
    });
    let error = refused.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Engine);
}
