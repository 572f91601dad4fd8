//! `pull`: downloads from a hub that fails in every way.

use std::path::PathBuf;
use std::process::Child;

use serde_json::{Value, json};
use sha2::Digest;

use crate::servers::scripted::{Request, ScriptedServer, Step};
use crate::support::{Machine, Run, finish};

fn gguf() -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/demo.gguf");
    std::fs::read(path).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the hub says of a file.
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
    let found = request.headers.iter().find(|(it, _)| it == name);
    found.map(|(_, value)| value.as_str())
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

/// A hub with one repository; `file` answers for its files.
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
fn a_file_with_the_built_in_models_name_or_an_endless_one_is_refused() {
    let bytes = gguf();
    let mut endless = entry("endless.gguf", &bytes);
    endless["lfs"]["size"] = json!(u64::MAX);
    let hub = hub(vec![entry("demo.gguf", &bytes), endless], whole(bytes));
    let machine = Machine::new();
    for (args, code, says) in [
        (["pull", "me/demo-GGUF:demo.gguf"], 2, "built-in model"),
        (["pull", "me/demo-GGUF:endless.gguf"], 1, "are free"),
    ] {
        let mut command = machine.command(&args);
        let run = finish(command.env("HF_ENDPOINT", hub.url()).spawn().unwrap());
        assert!(run.fails(code).contains(says), "{run:?}");
    }
}

#[test]
fn what_was_pulled_runs() {
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
    let unclear = pull(&machine, &hub, &[]);
    let stderr = unclear.fails(2);
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
    assert!(again.stderr.contains("there already"), "{again:?}");
    let gone = finish({
        let mut command = machine.command(&["pull", "me/nothing"]);
        command.env("HF_ENDPOINT", hub.url()).spawn().unwrap()
    });
    assert!(gone.fails(5).contains("Repository not found"), "{gone:?}");
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let bytes = gguf();
    let served = bytes.clone();
    // A third of the rest each time, then the connection breaks.
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
        let some = if rest.len() > 300_000 {
            rest.len() / 3
        } else {
            rest.len()
        };
        vec![Step::Send([head.as_bytes(), &rest[..some]].concat())]
    });
    let machine = Machine::without_cache();
    assert_eq!(pull(&machine, &hub, &[]).ok(), "m\n");
    let path = machine.home().join("data/models/m.gguf");
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    let asked: Vec<Option<usize>> = hub
        .requests()
        .iter()
        .filter(|request| request.path.contains("resolve"))
        .map(range)
        .collect();
    assert!(
        asked.len() > 2 && asked[0].is_none() && asked[1..].iter().all(Option::is_some),
        "{asked:?}"
    );
}

#[test]
fn a_killed_download_goes_on_and_never_with_another_file() {
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
    while std::fs::metadata(&partial).map_or(0, |it| it.len()) < 500_000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let busy = pull(&machine, &slow, &[]);
    assert!(busy.fails(1).contains("another process"), "{busy:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    // The repository has another file of that name now: nothing of the old one
    // may be in it.
    let mut newer = bytes.clone();
    newer.extend(b"more");
    let other = hub(vec![entry("m.gguf", &newer)], whole(newer.clone()));
    pull(&machine, &other, &[]).ok();
    assert!(other.requests().iter().all(|it| range(it).is_none()));
    let path = machine.home().join("data/models/m.gguf");
    assert_eq!(std::fs::read(&path).unwrap(), newer);
    // A file that is there is not replaced unasked.
    let first = hub(vec![entry("m.gguf", &bytes)], whole(bytes.clone()));
    assert!(pull(&machine, &first, &[]).fails(2).contains("--force"));
    assert_eq!(std::fs::read(&path).unwrap(), newer);
    pull(&machine, &first, &["--force"]).ok();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn what_is_not_what_the_hub_has_is_never_installed() {
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
fn the_token_does_not_follow_to_another_host() {
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
            .all(|it| header(it, "authorization") == Some("Bearer hf_secret"))
    );
    assert!(
        store
            .requests()
            .iter()
            .all(|it| header(it, "authorization").is_none())
    );
}
