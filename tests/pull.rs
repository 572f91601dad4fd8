//! `pull`: downloads, and faults of the hub.

use std::path::PathBuf;
use std::process::Child;

use serde_json::{Value, json};
use sha2::Digest;

use crate::servers::scripted::{Request, ScriptedServer, Step};
use crate::support::{Machine, Run, finish};

fn gguf() -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../gguf/assets/demo.gguf");
    std::fs::read(path).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the hub's description of a file.
fn entry(path: &str, bytes: &[u8]) -> Value {
    let oid = sha256(bytes);
    json!({"type": "file", "path": path, "size": bytes.len(), "oid": "x",
        "lfs": {"oid": oid, "size": bytes.len()}})
}

fn answer(status: &str, head: &str, body: &[u8]) -> Vec<Step> {
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{head}connection: close\r\n\r\n",
        body.len()
    );
    vec![Step::Send([text.as_bytes(), body].concat())]
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let mut headers = request.headers.iter();
    let header = headers.find(|(header, _)| header == name);
    header.map(|(_, value)| value.as_str())
}

fn range(request: &Request) -> Option<usize> {
    let range = header(request, "range")?;
    range
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

fn pull(machine: &Machine, hub: &ScriptedServer, more: &[&str]) -> Run {
    finish(start(machine, hub, more))
}

fn start(machine: &Machine, hub: &ScriptedServer, more: &[&str]) -> Child {
    let args = [&["pull", "me/demo-GGUF"][..], more].concat();
    let mut command = machine.command(&args);
    command
        .env("HF_ENDPOINT", hub.url())
        .env("HF_TOKEN", "hf_secret");
    command.spawn().unwrap()
}

fn models(machine: &Machine) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(machine.home().join("data/models"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A fake hub with one repository; `file` responds to requests for its files.
fn hub(
    entries: Vec<Value>,
    file: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static,
) -> ScriptedServer {
    ScriptedServer::start(move |request, _| {
        if request
            .path
            .starts_with("/api/models/me/demo-GGUF/tree/main")
        {
            answer(
                "200 OK",
                "",
                Value::from(entries.clone()).to_string().as_bytes(),
            )
        } else if request.path.starts_with("/api/") {
            answer("404 Not Found", "", br#"{"error":"Repository not found"}"#)
        } else {
            file(request)
        }
    })
}

fn whole(bytes: Vec<u8>) -> impl Fn(&Request) -> Vec<Step> + Send + Sync {
    move |request| match range(request) {
        None => answer("200 OK", "", &bytes),
        Some(at) => answer("206 Partial Content", "", &bytes[at..]),
    }
}

#[test]
fn a_file_named_like_the_built_in_model_or_too_large_is_refused() {
    let bytes = gguf();
    let mut endless = entry("endless.gguf", &bytes);
    endless["lfs"]["size"] = json!(u64::MAX);
    let hub = hub(vec![entry("demo.gguf", &bytes), endless], whole(bytes));
    let machine = Machine::new();
    for (args, code, message) in [
        (["pull", "me/demo-GGUF:demo.gguf"], 2, "built-in model"),
        (["pull", "me/demo-GGUF:endless.gguf"], 1, "are free"),
    ] {
        let mut command = machine.command(&args);
        let run = finish(command.env("HF_ENDPOINT", hub.url()).spawn().unwrap());
        assert!(run.fails(code).contains(message), "{run:?}");
    }
}

#[test]
fn a_pulled_model_runs() {
    let bytes = gguf();
    let other = b"other".to_vec();
    let entries = vec![
        entry("demo-Q8_0.gguf", &bytes),
        entry("demo-Q4_0.gguf", &other),
        entry("README.md", b"x"),
        entry("../../evil.gguf", &bytes),
    ];
    let hub = hub(entries, whole(bytes));
    let machine = Machine::new();
    let ambiguous = pull(&machine, &hub, &[]);
    let stderr = ambiguous.fails(2);
    assert!(
        stderr.contains("pull me/demo-GGUF:demo-Q8_0.gguf"),
        "{stderr}"
    );
    assert!(
        !stderr.contains("evil") && !stderr.contains("README"),
        "{stderr}"
    );
    let run = finish({
        let mut command = machine.command(&["pull", "me/demo-GGUF:q8_0"]);
        command.env("HF_ENDPOINT", hub.url()).spawn().unwrap()
    });
    assert_eq!(run.ok(), "demo-Q8_0\n");
    assert_eq!(models(&machine), ["demo-Q8_0.gguf"]);
    let run = machine.run(&[
        "infer",
        "tldr",
        "-m",
        "demo-Q8_0",
        "--text",
        "The cat sat. It purred.",
        "--temperature",
        "0",
    ]);
    assert_eq!(run.ok(), "The cat sat.\n");
    let again = finish({
        let mut command = machine.command(&["pull", "me/demo-GGUF:q8_0"]);
        command.env("HF_ENDPOINT", hub.url()).spawn().unwrap()
    });
    assert!(again.stderr.contains("already exists"), "{again:?}");
    let missing = finish({
        let mut command = machine.command(&["pull", "me/nothing"]);
        command.env("HF_ENDPOINT", hub.url()).spawn().unwrap()
    });
    assert!(
        missing.fails(5).contains("Repository not found"),
        "{missing:?}"
    );
}

#[test]
fn an_interrupted_download_resumes_within_the_run() {
    let bytes = gguf();
    let served = bytes.clone();
    // Each response is a third of the rest, then the connection is closed.
    let hub = hub(vec![entry("m.gguf", &bytes)], move |request| {
        let at = range(request).unwrap_or(0);
        let rest = &served[at..];
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            if at == 0 {
                "200 OK"
            } else {
                "206 Partial Content"
            },
            rest.len()
        );
        let sent = if rest.len() > 300_000 {
            rest.len() / 3
        } else {
            rest.len()
        };
        vec![Step::Send([head.as_bytes(), &rest[..sent]].concat())]
    });
    let machine = Machine::without_cache();
    assert_eq!(pull(&machine, &hub, &[]).ok(), "m\n");
    let path = machine.home().join("data/models/m.gguf");
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    let ranges: Vec<Option<usize>> = hub
        .requests()
        .iter()
        .filter(|request| request.path.contains("resolve"))
        .map(range)
        .collect();
    assert!(
        ranges.len() > 2 && ranges[0].is_none() && ranges[1..].iter().all(Option::is_some),
        "{ranges:?}"
    );
}

#[test]
fn a_killed_download_restarts_if_the_file_has_changed() {
    let bytes = gguf();
    let served = bytes.clone();
    let slow = hub(vec![entry("m.gguf", &bytes)], move |_| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            served.len()
        );
        vec![
            Step::Send([head.as_bytes(), &served[..500_000]].concat()),
            Step::Hang,
        ]
    });
    let machine = Machine::without_cache();
    let partial = machine.home().join("data/models/m.gguf.partial");
    let mut child = start(&machine, &slow, &[]);
    while std::fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < 500_000 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the program ended by itself"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let busy = pull(&machine, &slow, &[]);
    assert!(busy.fails(1).contains("another process"), "{busy:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    // The repository has a different file of the same name now: the partial download must
    // not be resumed.
    let mut newer = bytes.clone();
    newer.extend(b"more");
    let other = hub(vec![entry("m.gguf", &newer)], whole(newer.clone()));
    pull(&machine, &other, &[]).ok();
    assert!(
        other
            .requests()
            .iter()
            .all(|request| range(request).is_none())
    );
    let path = machine.home().join("data/models/m.gguf");
    assert_eq!(std::fs::read(&path).unwrap(), newer);
    // An existing file is replaced only with --force.
    let first = hub(vec![entry("m.gguf", &bytes)], whole(bytes.clone()));
    assert!(pull(&machine, &first, &[]).fails(2).contains("--force"));
    assert_eq!(std::fs::read(&path).unwrap(), newer);
    pull(&machine, &first, &["--force"]).ok();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_file_with_a_wrong_checksum_is_not_installed() {
    let bytes = gguf();
    let mut bad = bytes.clone();
    bad[1000] ^= 1;
    let hub = hub(vec![entry("m.gguf", &bytes)], whole(bad));
    let machine = Machine::without_cache();
    let run = pull(&machine, &hub, &[]);
    assert!(run.fails(1).contains("checksum"), "{run:?}");
    assert_eq!(models(&machine), Vec::<String>::new());
}

#[test]
fn the_hub_token_is_not_sent_to_another_host() {
    let bytes = gguf();
    let store = ScriptedServer::start({
        let bytes = bytes.clone();
        move |_, _| answer("200 OK", "", &bytes)
    });
    let elsewhere = format!("location: {}/blob\r\n", store.url());
    let hub = hub(vec![entry("m.gguf", &bytes)], move |_| {
        answer("302 Found", &elsewhere, b"")
    });
    let machine = Machine::without_cache();
    let run = pull(&machine, &hub, &["-q"]);
    assert_eq!((run.ok(), run.stderr.contains("hf_secret")), ("m\n", false));
    assert!(
        hub.requests()
            .iter()
            .all(|request| header(request, "authorization") == Some("Bearer hf_secret"))
    );
    assert!(
        store
            .requests()
            .iter()
            .all(|request| header(request, "authorization").is_none())
    );
}
