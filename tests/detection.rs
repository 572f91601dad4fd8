//! Servers that were detected before are confirmed by their lists, and others at the same address
//! are detected.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::servers::scripted::{
    Request, ScriptedServer, Step, json_response as reply, not_found, response, sse_head,
    stream_end, text_chunk,
};
use crate::support::{Machine, Run};

const ANSWER: &str = "Good morning.";

/// An address at which servers of several kinds listen, one after the other.
struct Address {
    server: ScriptedServer,
    kind: Arc<Mutex<&'static str>>,
}

impl Address {
    fn start() -> Self {
        let kind = Arc::new(Mutex::new(""));
        let current = Arc::clone(&kind);
        let server = ScriptedServer::start(move |request, _| {
            let kind = *current.lock().unwrap();
            match request.path.as_str() {
                "/api/chat" => ollama_answer(),
                "/v1/chat/completions" => {
                    vec![sse_head(), text_chunk(ANSWER), stream_end("stop")]
                }
                path => answer(kind, path).unwrap_or_else(not_found),
            }
        });
        Self { server, kind }
    }

    /// Runs a prompt with a kind of server. Returns the paths of its requests.
    fn run(&self, machine: &Machine, kind: &'static str) -> (Run, Vec<String>) {
        self.run_as(machine, kind, &self.server.url())
    }

    /// Runs a prompt as [`Address::run`] does, with this engine.
    fn run_as(&self, machine: &Machine, kind: &'static str, engine: &str) -> (Run, Vec<String>) {
        *self.kind.lock().unwrap() = kind;
        let earlier = self.server.requests().len();
        let args = [
            "infer",
            "Say: {{text}}",
            "--text",
            "x",
            "--json",
            "-m",
            "m",
            "--engine",
            engine,
        ];
        let run = machine.run(&args);
        let requests: Vec<Request> = self.server.requests().split_off(earlier);
        (
            run,
            requests.into_iter().map(|request| request.path).collect(),
        )
    }
}

fn ollama_answer() -> Vec<Step> {
    let line = json!({"message": {"content": ANSWER}, "done": true, "done_reason": "stop"});
    response(200, "application/x-ndjson", format!("{line}\n"))
}

/// Returns the answer of a kind of server to a GET request; `None` if it has no such path.
fn answer(kind: &str, path: &str) -> Option<Vec<Step>> {
    let openai_list =
        |owner: &str| json!({"object": "list", "data": [{"id": "m", "owned_by": owner}]});
    let body: Value = match (kind, path) {
        ("lmstudio", "/lmstudio-greeting") => json!({"lmstudio": true}),
        ("lmstudio", "/lms-status") => json!({"version": "0.4.0"}),
        ("lmstudio", "/api/v1/models") => json!({"models": [
            {"type": "llm", "key": "m", "max_context_length": 8192,
             "loaded_instances": [{"id": "m", "config": {"context_length": 4096}}]},
        ]}),
        ("lmstudio", "/api/v0/models") => json!({"data": [{"id": "m", "state": "loaded"}]}),
        ("lmstudio", "/v1/models") => openai_list("organization_owner"),
        ("ollama" | "ollama-new", "/") => {
            return Some(response(200, "text/plain", "Ollama is running"));
        }
        ("ollama" | "ollama-new", "/api/version") => json!({"version": "0.12.0"}),
        ("ollama" | "ollama-new", "/api/tags") => {
            json!({"models": [{"model": "m", "digest": kind, "details": {"family": "llama"}}]})
        }
        ("ollama" | "ollama-new", "/api/ps") => {
            json!({"models": [{"model": "m", "context_length": 4096}]})
        }
        ("ollama" | "ollama-new", "/api/show") => json!({
            "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
            "capabilities": ["completion"],
        }),
        ("llama-server" | "llama-server-new", "/v1/models") => openai_list("llamacpp"),
        ("llama-server" | "llama-server-new", "/props") => json!({
            "default_generation_settings": {"n_ctx": 4096}, "build_info": "b1",
            "model_path": format!("/models/{kind}.gguf"), "model_alias": "m",
        }),
        ("vllm", "/version") => json!({"version": "0.11.0"}),
        ("vllm", "/v1/models") => openai_list("vllm"),
        ("openai", "/v1/models") => openai_list("me"),
        _ => return None,
    };
    Some(reply(body))
}

/// The requests of a run with a server that is remembered.
const CONFIRMED: [(&str, &[&str]); 5] = [
    (
        "lmstudio",
        &["/api/v1/models", "/api/v0/models", "/v1/chat/completions"],
    ),
    ("ollama", &["/api/tags", "/api/ps", "/api/chat"]),
    ("llama-server", &["/props", "/v1/chat/completions"]),
    ("vllm", &["/v1/models", "/v1/chat/completions"]),
    ("openai", &["/v1/models", "/v1/chat/completions"]),
];

#[test]
fn a_server_that_was_detected_before_is_confirmed_by_its_list() {
    for (kind, confirmed) in CONFIRMED {
        let machine = Machine::new();
        let address = Address::start();
        let (first, requests) = address.run(&machine, kind);
        assert!(requests.len() > confirmed.len() + 2, "{kind}: {requests:?}");
        for _ in 0..2 {
            let (run, requests) = address.run(&machine, kind);
            assert_eq!(requests, confirmed, "{kind}");
            for key in ["text", "engine", "instance"] {
                assert_eq!(run.json()[key], first.json()[key], "{kind}: {key}");
            }
        }
    }
}

#[test]
fn another_server_at_the_address_is_detected() {
    let kinds = [
        "lmstudio",
        "ollama",
        "ollama-new",
        "llama-server",
        "llama-server-new",
        "vllm",
        "openai",
    ];
    let machine = Machine::new();
    let address = Address::start();
    for before in kinds {
        for after in kinds.into_iter().filter(|after| *after != before) {
            address.run(&machine, before).0.ok();
            let (run, requests) = address.run(&machine, after);
            let report = run.json();
            assert_eq!(report["text"], ANSWER, "{before}, {after}");
            let name = after.trim_end_matches("-new");
            assert_eq!(report["engine"], name, "{before}, {after}: {requests:?}");
        }
    }
}

#[test]
fn another_dialect_for_an_address_detects_its_server_again() {
    let machine = Machine::new();
    let address = Address::start();
    address.run(&machine, "openai").0.ok();
    let config = format!(
        "[engines.mine]\nurl = \"{}\"\ndialect = \"vllm\"\n",
        address.server.url()
    );
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    let (run, requests) = address.run_as(&machine, "openai", "mine");
    assert_eq!(run.json()["engine"], "vllm");
    assert!(requests.contains(&"/props".to_owned()), "{requests:?}");
}

#[test]
fn a_server_that_gets_a_key_is_detected_in_each_run() {
    const KEY: &str = "secret-key";
    let machine = Machine::new();
    let address = Address::start();
    let config = format!(
        "[engines.mine]\nurl = \"{}\"\nkey_env = \"KEY\"\n",
        address.server.url()
    );
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    // Without the key, the server would be remembered.
    address.run(&machine, "vllm").0.ok();
    for _ in 0..2 {
        let earlier = address.server.requests().len();
        let args = [
            "infer",
            "Say: {{text}}",
            "--text",
            "x",
            "-m",
            "m",
            "--engine",
            "mine",
        ];
        let mut command = machine.command(&args);
        let output = command.env("KEY", KEY).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let requests = address.server.requests().split_off(earlier);
        assert!(requests.len() > 3, "{requests:?}");
        let has_key = |request: &Request| {
            let mut headers = request.headers.iter();
            headers.any(|(name, value)| name == "authorization" && value.contains(KEY))
        };
        // Only a server whose kind is known gets it.
        assert!(!has_key(requests.first().unwrap()));
        assert!(has_key(requests.last().unwrap()));
    }
}

#[test]
fn a_path_that_is_given_with_the_address_is_tried_again() {
    let machine = Machine::new();
    let address = Address::start();
    address.run(&machine, "openai").0.ok();
    let url = format!("{}/api/v1", address.server.url());
    let (run, requests) = address.run_as(&machine, "openai", &url);
    assert_eq!(run.json()["text"], ANSWER);
    let given = "/api/v1/models".to_owned();
    assert!(requests.contains(&given), "{requests:?}");
}

#[test]
fn a_server_is_detected_again_if_its_file_is_damaged_or_missing() {
    let machine = Machine::new();
    let address = Address::start();
    address.run(&machine, "vllm").0.ok();
    let folder = machine.home().join("state/servers/detected");
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(files.len(), 1);
    let file = files.into_iter().next().unwrap().unwrap().path();
    let remembered: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let mut outdated = remembered.clone();
    outdated["detected_at"] = json!(1);
    let mut future = remembered.clone();
    future["detected_at"] = json!(u64::MAX);
    let mut other = remembered.clone();
    other["server"] = json!("http://127.0.0.1:1");
    for content in [
        b"".to_vec(),
        b"{\"schema\":1}".to_vec(),
        outdated.to_string().into_bytes(),
        future.to_string().into_bytes(),
        other.to_string().into_bytes(),
    ] {
        std::fs::write(&file, &content).unwrap();
        let (run, requests) = address.run(&machine, "vllm");
        assert_eq!(run.json()["text"], ANSWER);
        assert!(requests.len() > 3, "{content:?}: {requests:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    assert_eq!(address.run(&machine, "vllm").0.json()["text"], ANSWER);
}
