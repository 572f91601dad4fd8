//! What real servers do differently, by public bug reports of other clients: addresses, lists
//! of models, refusals, compression, token counts.

use std::ops::ControlFlow;
use std::time::Duration;

use lmstrix::{Output, Request};
use serde_json::{Value, json};

use crate::servers::scripted::{
    Request as Received, ScriptedServer, Step, json_response, not_found, response, sse_head,
    stream_end, text_chunk,
};
use crate::servers::studio::{FakeStudio, Setup};
use crate::support::{Machine, Random, Run};

const ANSWER: &str = "Good morning.";

fn models() -> Value {
    json!({"object": "list", "data": [{"id": "m", "object": "model"}]})
}

fn answer() -> Vec<Step> {
    vec![sse_head(), text_chunk(ANSWER), stream_end("stop")]
}

fn refusal(status: u16, message: &str) -> Vec<Step> {
    let body = json!({"object": "error", "message": message, "code": status});
    response(status, "application/json", body.to_string())
}

/// Starts a server whose chat is `chat`.
fn server_with(chat: impl Fn(&Value) -> Vec<Step> + Send + Sync + 'static) -> ScriptedServer {
    ScriptedServer::start(move |request, _| match request.path.as_str() {
        "/v1/models" => json_response(models()),
        "/v1/chat/completions" => chat(&request.body),
        _ => not_found(),
    })
}

fn infer(machine: &Machine, url: &str, more: &[&str]) -> Run {
    let mut args = vec!["infer", "Say: {{text}}", "--text", "x", "--engine", url];
    args.extend(more);
    machine.run(&args)
}

fn chats(server: &ScriptedServer) -> Vec<Received> {
    let mut requests = server.requests();
    requests.retain(|request| request.path.ends_with("/chat/completions"));
    requests
}

#[test]
fn an_address_is_tried_as_given_before_it_is_shortened() {
    for (api, address) in [
        ("/v1", ""),
        ("/v1", "/v1/chat/completions"),
        ("/api/v1", "/api/v1"),
        ("/api/v1", "/api/v1/chat/completions"),
        ("/v3", "/v3/"),
        ("/openai/v1", "/openai"),
        ("/openai/v1", "/openai/v1/models"),
        // Nothing is there as given.
        ("/v1", "/api/v1"),
    ] {
        let server = ScriptedServer::start(move |request, _| {
            match request.path.strip_prefix(api).unwrap_or_default() {
                "/models" => json_response(models()),
                "/chat/completions" => answer(),
                _ => not_found(),
            }
        });
        let run = infer(&Machine::new(), &format!("{}{address}", server.url()), &[]);
        assert_eq!(run.ok().trim(), ANSWER, "{api} {address}");
    }
}

#[test]
fn lists_of_models_have_many_forms() {
    let list = json!({"data": [{"id": "m"}], "error": null}).to_string();
    for body in [
        list.clone(),
        format!("\u{feff}{list}"),
        json!({"object": "list", "data": [{"id": "m", "max_model_len": 4096.0}]}).to_string(),
    ] {
        let shown = body.clone();
        let server = ScriptedServer::start(move |request, _| match request.path.as_str() {
            "/v1/models" => response(200, "application/json", &body),
            "/v1/chat/completions" => answer(),
            _ => not_found(),
        });
        let run = infer(&Machine::new(), &server.url(), &[]);
        assert_eq!(run.ok().trim(), ANSWER, "{shown}");
    }
}

#[test]
fn a_dialect_in_the_config_is_used_behind_a_gateway_and_without_a_list() {
    let server = ScriptedServer::start(|request, _| match request.path.as_str() {
        "/gateway/v1/chat/completions" => {
            let top_k = &request.body["top_k"];
            vec![
                sse_head(),
                text_chunk(&format!("top_k {top_k}")),
                stream_end("stop"),
            ]
        }
        _ => response(401, "text/html", "<title>Sign in</title>"),
    });
    let machine = Machine::new();
    let config = format!(
        "[defaults]\ndiscover = false\n[engines.web]\nurl = '{}/gateway'\ndialect = 'llama-server'\n",
        server.url()
    );
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    let run = infer(&machine, "web", &["-m", "any", "--top-k", "5"]);
    assert_eq!(run.ok(), "top_k 5\n");
    let run = infer(&machine, "web", &["--top-k", "5"]);
    assert!(run.fails(4).contains("Sign in"), "{run:?}");
    // A server that lists the model is preferred.
    let other = server_with(|_| answer());
    let config = format!(
        "[defaults]\ndiscover = false\n\
         [engines.a]\nurl = '{}/gateway'\ndialect = 'llama-server'\n[engines.b]\nurl = '{}'\n",
        server.url(),
        other.url()
    );
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    let run = machine.run(&["infer", "Say x {{a}}", "-pa=b", "-m", "m"]);
    assert_eq!(run.ok().trim(), ANSWER);
    assert_eq!(chats(&other).len(), 1);
}

#[test]
fn rejected_keys_are_left_out_or_renamed() {
    type Chat = fn(&Value) -> Vec<Step>;
    let cases: [(&[&str], Chat, &str); 3] = [
        (
            &["--max-tokens", "50"],
            |body| {
                if body.get("max_tokens").is_some() {
                    return refusal(
                        400,
                        "Unsupported parameter: 'max_tokens' is not supported with this model. \
                         Use 'max_completion_tokens' instead.",
                    );
                }
                assert_eq!(body["max_completion_tokens"], 50);
                answer()
            },
            "",
        ),
        (
            &["--seed", "5"],
            |body| {
                if body.get("seed").is_some() {
                    return refusal(
                        422,
                        "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': \
                         'Extra inputs are not permitted', 'input': 5}]",
                    );
                }
                answer()
            },
            "rejects the setting `seed`",
        ),
        (
            &["--max-tokens", "2000"],
            |body| {
                if body["max_tokens"] != 1096 {
                    return refusal(
                        400,
                        "This model's maximum context length is 4096 tokens. However, you \
                         requested 5000 tokens (3000 in the messages, 2000 in the completion).",
                    );
                }
                answer()
            },
            "leaves 1096 tokens",
        ),
    ];
    for (flags, chat, warning) in cases {
        let server = server_with(chat);
        let run = infer(&Machine::new(), &server.url(), flags);
        assert_eq!(run.ok().trim(), ANSWER, "{flags:?}");
        assert!(run.stderr.contains(warning), "{run:?}");
        assert_eq!(chats(&server).len(), 2, "{flags:?}");
    }
    // vLLM counts the prompt up to the limit only, so that the limit is left out.
    let server = server_with(|body| match body.get("max_tokens") {
        Some(_) => refusal(
            400,
            "This model's maximum context length is 8192 tokens. However, you requested 2048 \
             output tokens and your prompt contains at least 6145 input tokens, for a total of \
             at least 8193 tokens.",
        ),
        None => answer(),
    });
    let run = infer(&Machine::new(), &server.url(), &["--max-tokens", "2048"]);
    assert_eq!(run.ok().trim(), ANSWER);
    assert!(
        run.stderr.contains("leaves less than 2048 tokens"),
        "{run:?}"
    );
    // A limit that stays too large is an error with the numbers.
    let server = server_with(|_| {
        refusal(
            400,
            "maximum context length is 4096 tokens. you requested 5000 tokens (3000 in the \
             messages, 2000 in the completion).",
        )
    });
    let run = infer(&Machine::new(), &server.url(), &["--max-tokens", "2000"]);
    let stderr = run.fails(6);
    assert!(
        stderr.contains("3000 tokens and answer of 2000 tokens"),
        "{stderr}"
    );
}

#[test]
fn settings_that_were_not_given_are_not_sent_to_a_generic_server() {
    let server = server_with(|_| answer());
    infer(&Machine::new(), &server.url(), &["--top-p", "0.5"]).ok();
    let chats = chats(&server);
    let mut keys: Vec<&String> = chats[0].body.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        ["messages", "model", "stream", "stream_options", "top_p"]
    );
    let encoding = chats[0]
        .headers
        .iter()
        .find(|(name, _)| name == "accept-encoding");
    assert_eq!(encoding.unwrap().1, "identity");
}

/// The files are an event stream with the answer.
#[test]
fn a_compressed_answer_is_read() {
    let gzip = include_bytes!("data/answer.sse.gz");
    let zstd = include_bytes!("data/answer.sse.zst");
    let brotli = include_bytes!("data/answer.sse.br");
    for (encoding, body) in [("gzip", &gzip[..]), ("zstd", zstd), ("br", brotli)] {
        let server = server_with(move |_| {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                 content-encoding: {encoding}\r\nconnection: close\r\n\r\n"
            );
            vec![Step::Send(head.into_bytes()), Step::Send(body.to_vec())]
        });
        let run = infer(&Machine::new(), &server.url(), &[]);
        assert_eq!(run.ok().trim(), ANSWER, "{encoding}");
    }
}

#[test]
fn a_truncated_prompt_is_a_warning_and_with_strict_an_error() {
    // The server counts 3 tokens.
    let server = server_with(|_| answer());
    let machine = Machine::new();
    let text = "The quick brown fox jumps over the lazy dog near the river. ".repeat(20);
    let url = server.url();
    let args = ["infer", "Say: {{text}}", "--text", &text, "--engine", &url];
    let run = machine.run(&args);
    assert_eq!(run.ok().trim(), ANSWER);
    assert!(
        run.stderr
            .contains("truncated the prompt: it read 3 tokens"),
        "{run:?}"
    );
    let strict = machine.run(&[&args[..], &["--strict"]].concat());
    assert_eq!(strict.code, Some(6), "{strict:?}");
    assert!(strict.stderr.contains("at least"), "{strict:?}");
    // The count is not learned.
    let log = std::fs::read_to_string(machine.home().join("data/observations.jsonl")).unwrap();
    assert!(!log.contains("prompt_tokens"), "{log}");
}

#[test]
fn reasoning_on_stdout_gets_a_warning_and_a_file_does_not_have_it() {
    let server = server_with(|_| {
        vec![
            sse_head(),
            text_chunk("They greet me."),
            text_chunk("\n</think>\n\nHello!"),
            stream_end("stop"),
        ]
    });
    let machine = Machine::new();
    let run = infer(&machine, &server.url(), &[]);
    assert!(run.ok().ends_with("Hello!\n"), "{run:?}");
    assert!(run.stderr.contains("--post reasoning:open=true"), "{run:?}");
    infer(&machine, &server.url(), &["-o", "a.txt"]).ok();
    assert_eq!(machine.read("a.txt"), "Hello!");
    let run = infer(&machine, &server.url(), &["--post", "reasoning:open=true"]);
    assert_eq!(run.ok(), "Hello!\n");
    // A processor sees the answer only.
    let run = infer(
        &machine,
        &server.url(),
        &["--post", "replace:from=e,to=E", "--json"],
    );
    run.ok();
    assert_eq!(run.json()["text"], "HEllo!");
    assert_eq!(run.json()["reasoning"], "They greet me.\n");
}

#[test]
fn an_answer_of_reasoning_alone_says_so_and_keeps_it() {
    let server = server_with(|_| {
        vec![
            sse_head(),
            text_chunk("<think>Let me see."),
            stream_end("length"),
        ]
    });
    let machine = Machine::new();
    let run = infer(&machine, &server.url(), &[]);
    let stderr = run.fails(7);
    assert!(
        stderr.contains("only reasoning (2 tokens) and no answer"),
        "{stderr}"
    );
    assert!(
        stderr.contains("--max-tokens") && stderr.contains("--reasoning off"),
        "{stderr}"
    );
    let url = server.url();
    let args = [
        "batch", "-P", "Say: x", "-m", "m", "--engine", &url, "-o", "out",
    ];
    assert_eq!(machine.run(&args).code, Some(1));
    let names: Vec<String> = std::fs::read_dir(machine.work().join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let find = |suffix: &str| names.iter().find(|name| name.ends_with(suffix)).unwrap();
    let kept = machine.read(&format!("out/{}", find(".reasoning.txt")));
    assert_eq!(kept, "Let me see.");
    assert!(
        machine
            .read(&format!("out/{}", find(".error.txt")))
            .contains("only reasoning")
    );
}

#[test]
fn all_leaves_out_models_that_generate_no_text() {
    let server = ScriptedServer::start(|request, _| match request.path.as_str() {
        "/v1/models" => json_response(json!({"object": "list", "data": [
            {"id": "llama"}, {"id": "bge-m3"}, {"id": "org/whisper-small"},
        ]})),
        "/v1/chat/completions" => answer(),
        _ => not_found(),
    });
    let machine = Machine::new();
    let url = server.url();
    let run = machine.run(&[
        "batch", "-P", "Say: x", "-m", "all", "--engine", &url, "-o", "out",
    ]);
    run.ok();
    assert!(
        run.stderr
            .contains("do not generate text: bge-m3, org/whisper-small"),
        "{run:?}"
    );
    assert_eq!(chats(&server).len(), 1);
    // An explicit name is used.
    infer(&machine, &url, &["-m", "bge-m3"]).ok();
}

/// Returns a stream with a random fault, or none.
fn faulty_answer(random: &mut Random) -> Vec<Step> {
    let mut frames: Vec<Vec<u8>> = ["One ", "two ", "three."]
        .map(text_chunk)
        .into_iter()
        .chain([stream_end("stop")])
        .map(|step| match step {
            Step::Send(bytes) => bytes,
            _ => unreachable!("all steps send"),
        })
        .collect();
    // After the first piece, so that the request is not repeated.
    let at = 1 + random.below(frames.len() - 1);
    match random.below(6) {
        0 => {
            // Cut within or after a frame.
            let length = random.below(frames[at].len() + 1);
            frames[at].truncate(length);
            frames.truncate(at + 1);
        }
        1 => frames.insert(
            at,
            b"data: {\"error\": {\"message\": \"out of memory\"}}\n\n".to_vec(),
        ),
        2 => frames.insert(at, b"data: {\"choices\": [{\"delta\n\n".to_vec()),
        3 => frames.insert(at, b"event: error\ndata: broken\n\n".to_vec()),
        4 => frames.truncate(at),
        _ => {}
    }
    let mut steps = vec![sse_head()];
    steps.extend(frames.into_iter().map(Step::Send));
    if random.below(4) == 0 {
        steps.push(Step::Reset);
    }
    steps
}

#[test]
fn no_fault_passes_for_a_complete_answer() {
    const ROUNDS: u64 = 1000;
    let server = ScriptedServer::start(|request, earlier| match request.path.as_str() {
        // The seed of a request selects its fault.
        "/v1/chat/completions" => {
            let seed = request.body["seed"].as_u64().unwrap();
            faulty_answer(&mut Random(seed * 100 + earlier as u64))
        }
        _ => not_found(),
    });
    let machine = Machine::new();
    let config = format!(
        "[engines.x]\nurl = '{}'\ndialect = 'openai'\n",
        server.url()
    );
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    let client = machine.client();
    let mut complete = 0;
    for seed in 0..ROUNDS {
        let mut request = Request::new("Say: {{text}}")
            .text("x")
            .engine("x")
            .model("m");
        request.settings.seed = Some(seed);
        let mut streamed = String::new();
        let answered = client.run(request, |output| {
            if let Output::Text(text) = output {
                streamed.push_str(text);
            }
            ControlFlow::Continue(())
        });
        if let Ok(answer) = answered {
            assert_eq!(answer.text, "One two three.", "seed {seed}");
            complete += 1;
        }
        assert!(
            "One two three.".starts_with(&streamed),
            "seed {seed}: {streamed}"
        );
    }
    assert!(
        (100..900).contains(&complete),
        "{complete} complete answers"
    );
}

#[test]
fn a_model_that_is_named_by_its_path_is_shown_by_its_file_name() {
    const ID: &str = "/home/u/models/smol-q4.gguf";
    let server = ScriptedServer::start(|request, _| match request.path.as_str() {
        "/v1/models" => json_response(json!({"object": "list", "data": [
            {"id": ID, "object": "model", "owned_by": "llamacpp"},
        ]})),
        "/props" => {
            json_response(json!({"default_generation_settings": {"n_ctx": 1024}, "model_path": ID}))
        }
        "/v1/chat/completions" => answer(),
        _ => not_found(),
    });
    let machine = Machine::new();
    let url = server.url();
    machine.run(&["scan", "--engine", &url]).ok();
    for args in [&["list"][..], &["ps", "--engine", &url]] {
        let table = machine.run(args);
        let names_file = table
            .ok()
            .lines()
            .any(|line| line.starts_with("smol-q4.gguf "));
        assert!(names_file, "{table:?}");
    }
    for name in [ID, "smol-q4.gguf", "smol-q4"] {
        infer(&machine, &url, &["-m", name]).ok();
    }
    let args = [
        "batch", "-P", "tldr", "--text", "x", "-m", "all", "--engine", &url, "-o", "out",
    ];
    machine.run(&args).ok();
    assert_eq!(machine.read("out/tldr--smol-q4.txt").trim(), ANSWER);
}

#[test]
fn ttl_is_sent_to_ollama_and_lm_studio_and_is_a_warning_elsewhere() {
    const MODEL: &str = "llama3.2:latest";
    let ollama = ScriptedServer::start(|request, _| match request.path.as_str() {
        "/" => response(200, "text/plain", "Ollama is running"),
        "/api/version" => json_response(json!({"version": "0.12.9"})),
        "/api/tags" => json_response(json!({"models": [{"name": MODEL, "model": MODEL}]})),
        "/api/ps" => json_response(json!({"models": []})),
        "/api/show" => json_response(json!({"capabilities": ["completion"]})),
        "/api/generate" => {
            json_response(json!({"model": MODEL, "done": true, "done_reason": "load"}))
        }
        "/api/chat" => json_response(json!({
            "model": MODEL, "message": {"content": ANSWER}, "done": true, "done_reason": "stop",
        })),
        _ => not_found(),
    });
    let machine = Machine::new();
    let run = infer(&machine, &ollama.url(), &["-m", "llama3.2", "--ttl", "5m"]);
    assert_eq!(run.ok().trim(), ANSWER);
    let requests = ollama.requests();
    for path in ["/api/generate", "/api/chat"] {
        let request = requests
            .iter()
            .find(|request| request.path == path)
            .unwrap();
        assert_eq!(request.body["keep_alive"], 300.0, "{path}");
    }

    let studio = FakeStudio::start(Setup::default());
    infer(&machine, &studio.url(), &["--ttl", "90s"]).ok();
    let chat = studio
        .requests()
        .into_iter()
        .find(|request| request.path == "/v1/chat/completions");
    assert_eq!(chat.unwrap().body["ttl"], 90);

    let other = server_with(|_| answer());
    let run = infer(&machine, &other.url(), &["--ttl", "1h"]);
    assert!(
        run.ok().starts_with(ANSWER) && run.stderr.contains("--ttl has no effect"),
        "{run:?}"
    );
    let both = infer(&machine, &other.url(), &["--ttl", "1h", "--unload"]);
    assert_eq!(both.code, Some(2));
}

#[test]
fn localhost_is_both_loopback_addresses() {
    let server = ScriptedServer::start_on("::1", |request, _| match request.path.as_str() {
        "/v1/models" => json_response(models()),
        "/v1/chat/completions" => answer(),
        _ => not_found(),
    });
    let machine = Machine::new();
    let run = infer(&machine, &format!("localhost:{}", server.port()), &[]);
    assert_eq!(run.ok().trim(), ANSWER);
    let run = infer(&machine, &format!("127.0.0.1:{}", server.port()), &[]);
    run.fails(4);
}

#[test]
fn a_login_page_is_recognised() {
    let server = ScriptedServer::start(|_, _| {
        response(
            200,
            "text/html",
            "<html><head><title>Sign in - Team</title></head></html>",
        )
    });
    let run = infer(&Machine::new(), &server.url(), &[]);
    let stderr = run.fails(4);
    assert!(stderr.contains("asks for a login"), "{stderr}");
    assert!(!stderr.contains("takes the base URL"), "{stderr}");
}

/// LM Studio's native chat names the model at its start and at its end.
#[test]
fn another_model_at_the_end_of_an_answer_is_an_error() {
    for (model, code) in [("m", 0), ("other", 5)] {
        let server = ScriptedServer::start(move |request, _| match request.path.as_str() {
            "/lmstudio-greeting" => json_response(json!({"lmstudio": true})),
            "/api/v1/models" => json_response(json!({"models": [{
                "type": "llm", "key": "m", "max_context_length": 8192,
                "loaded_instances": [{"id": "m", "config": {"context_length": 8192}}],
            }]})),
            "/api/v1/chat" => {
                let events = [
                    json!({"type": "chat.start", "model_instance_id": "m"}),
                    json!({"type": "message.delta", "content": ANSWER}),
                    json!({"type": "chat.end", "result": {"model_instance_id": model,
                        "output": [], "stats": {"input_tokens": 9, "total_output_tokens": 2}}}),
                ];
                let event = |event: &Value| {
                    let name = event["type"].as_str().unwrap();
                    let bytes = format!("event: {name}\ndata: {event}\n\n").into_bytes();
                    // Each is read by itself, so that the first model is checked, too.
                    [Step::Send(bytes), Step::Pause(Duration::from_millis(50))]
                };
                std::iter::once(sse_head())
                    .chain(events.iter().flat_map(event))
                    .collect()
            }
            _ => not_found(),
        });
        let run = infer(
            &Machine::new(),
            &server.url(),
            &["-m", "m", "--min-p", "0.1"],
        );
        assert_eq!(run.code, Some(code), "{run:?}");
    }
}
