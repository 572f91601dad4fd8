//! Random changes of components, journals, registries, plans and answers of servers: no
//! panic, no hang, and no changed file outside the folders of a command.
//!
//! Each seed is one changed file; a failed test keeps it:
//! `LMSTRIX_MUTATIONS=SEED:COUNT cargo test --locked --test main mutations`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use lmstrix_inference::FinishReason;
use lmstrix_sandbox::{
    CompiledPackCache, Compiler, PackLoader, ProcessorContext, ResolveRequest, SandboxLimits,
    StopReason, TextFile,
};
use serde_json::{Value, json};

use crate::guests::component;
use crate::servers::scripted::{
    ScriptedServer, Step, json_response, not_found, response, sse_head, stream_end, text_chunk,
};
use crate::servers::studio::{Answer, FakeStudio, Model, Setup};
use crate::support::{Machine, Random, Run, seeds};

const VARIABLE: &str = "LMSTRIX_MUTATIONS";

/// The number of changed files of each kind without the variable.
const COUNT: u64 = 500;
/// The same for components, which run in this process.
const COMPONENTS: u64 = 1000;

/// No command of this file takes longer, also on a slow machine.
const HANG: Duration = Duration::from_secs(120);

/// The file that no command may change.
const KEPT: &str = "keep.txt";

/// Values in place of others, as JSON and TOML write them.
const VALUES: [&str; 22] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "0.1",
    "18446744073709551616",
    "9223372036854775807",
    "[]",
    "{}",
    "[[[[[[[[]]]]]]]]",
    "\"\"",
    "\" \"",
    "\".\"",
    "\"..\"",
    "\"../keep.txt\"",
    "\"batch.journal.jsonl\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\u001b[2J\"",
    "\"{{text}}{model}*[\"",
    "\"9999-99-99T99:99:99Z\"",
];

/// The changed file of a seed, which a test that fails keeps.
struct Changed {
    name: String,
    bytes: Vec<u8>,
}

impl Changed {
    fn new(kind: &str, seed: u64, bytes: Vec<u8>) -> Self {
        let name = format!("mutations-{kind}-{seed}");
        Self { name, bytes }
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&self.name);
            println!("the changed file is kept as {}", path.display());
            drop(std::fs::write(path, &self.bytes));
        }
    }
}

/// Changes a file: its form in half of the cases, in up to five places, else one byte or
/// value. `values` replace quoted texts and numbers; a binary file has none.
fn mutated(random: &mut Random, original: &[u8], values: &[String]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    if random.below(2) == 0 {
        let at = random.below(bytes.len());
        if values.is_empty() {
            bytes[at] ^= 1 << random.below(8);
        } else {
            replace_value(&mut bytes, at, &values[random.below(values.len())]);
        }
        return bytes;
    }
    for _ in 0..=random.below(5) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(32)).min(bytes.len());
        match random.below(if values.is_empty() { 6 } else { 8 }) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'9'][random.below(8)];
                }
            }
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            4 => {
                if random.below(8) == 0 {
                    bytes.truncate(at);
                }
            }
            5 => {
                let other = random.below(bytes.len() + 1);
                if at.max(other) < bytes.len() {
                    bytes.swap(at, other);
                }
            }
            6 => change_line(random, &mut bytes, at),
            _ => replace_value(&mut bytes, at, &values[random.below(values.len())]),
        }
    }
    bytes
}

/// Removes or repeats the line at a position.
fn change_line(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let is_end = |byte: &u8| *byte == b'\n';
    let start = bytes[..at]
        .iter()
        .rposition(is_end)
        .map_or(0, |end| end + 1);
    let end = bytes[at..].iter().position(is_end);
    let end = end.map_or(bytes.len(), |end| at + end + 1);
    if random.below(2) == 0 {
        drop(bytes.drain(start..end));
    } else {
        let line = bytes[start..end].to_vec();
        drop(bytes.splice(end..end, line));
    }
}

/// Replaces the next quoted text or number after a position.
fn replace_value(bytes: &mut Vec<u8>, at: usize, value: &str) {
    let is_start = |byte: &u8| *byte == b'"' || byte.is_ascii_digit();
    let Some(start) = bytes[at..].iter().position(is_start) else {
        return;
    };
    let start = at + start;
    let rest = &bytes[start + 1..];
    let end = if bytes[start] == b'"' {
        rest.iter()
            .position(|byte| *byte == b'"')
            .map(|end| end + 1)
    } else {
        rest.iter().position(|byte| !byte.is_ascii_digit())
    };
    let end = end.map_or(bytes.len(), |end| start + 1 + end);
    drop(bytes.splice(start..end, value.bytes()));
}

/// A machine with a file that no command may change.
struct Target {
    machine: Machine,
    values: Vec<String>,
    /// The folders in the work folder that commands may write.
    folders: &'static [&'static str],
}

impl Target {
    fn new(folders: &'static [&'static str]) -> Self {
        let machine = Machine::new();
        let config = "[defaults]\ndiscover = false\n[timeouts]\nload = \"5s\"\n";
        std::fs::write(machine.home().join("config.toml"), config).unwrap();
        let kept = machine.write(KEPT, "mine");
        let mut values = VALUES.map(str::to_owned).to_vec();
        values.push(Value::from(kept.to_str().unwrap()).to_string());
        Self {
            machine,
            values,
            folders,
        }
    }

    /// Returns the files of the work folder outside the folders of commands.
    fn files_outside(&self) -> Vec<(String, Vec<u8>)> {
        let names = self.machine.file_names().into_iter();
        let outside = names.filter(|name| !self.folders.contains(&name.as_str()));
        outside
            .map(|name| {
                let content = std::fs::read(self.machine.work().join(&name));
                (name, content.unwrap_or_default())
            })
            .collect()
    }

    /// Runs a command. It must end with an exit code that the README lists, and must not
    /// have changed a file outside its folders.
    fn run(&self, args: &[&str]) -> Run {
        let before = self.files_outside();
        let run = run_until(&self.machine, args);
        assert!(!run.stderr.contains("panicked"), "{args:?}: {run:?}");
        let code = run.code.unwrap_or(-1);
        assert!((0..=7).contains(&code) || code == 124, "{args:?}: {run:?}");
        assert_eq!(self.files_outside(), before, "{args:?}");
        run
    }

    /// Runs the commands on files without a change, so that a change is what fails.
    fn check(&self, commands: &[&[&str]]) {
        for args in commands {
            self.run(args).ok();
        }
    }

    fn remove(&self, name: &str) {
        drop(std::fs::remove_dir_all(self.machine.work().join(name)));
    }
}

/// Runs a command, and kills it after [`HANG`].
fn run_until(machine: &Machine, args: &[&str]) -> Run {
    let output = |name: &str| machine.home().join(name);
    let file = |name: &str| std::fs::File::create(output(name)).unwrap();
    let mut child = machine
        .command(args)
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > HANG {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{args:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    Run {
        code: status.code(),
        stdout: std::fs::read(output("stdout")).unwrap(),
        stderr: std::fs::read_to_string(output("stderr")).unwrap(),
    }
}

#[test]
fn components() {
    let originals = ["hello", "shout"].map(|name| std::fs::read(component(name)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pack.wasm");
    let time = Duration::from_millis(100);
    let limits = SandboxLimits {
        describe_time: time,
        resolve_time: time,
        push_time: time,
        finish_time: time,
        ..SandboxLimits::default()
    };
    let mut loaded = 0;
    for seed in seeds(VARIABLE, COMPONENTS) {
        let mut random = Random(seed);
        let original = &originals[random.below(originals.len())];
        let changed = Changed::new("component", seed, mutated(&mut random, original, &[]));
        std::fs::write(&path, &changed.bytes).unwrap();
        // A loader keeps what it loaded.
        let cache = CompiledPackCache::new(folder.path().join("cache"));
        let loader = PackLoader::new(limits, cache, Compiler::InProcess, |_| {}).unwrap();
        let start = Instant::now();
        loaded += usize::from(use_component(&loader, &path).is_some());
        assert!(start.elapsed() < HANG, "seed {seed}");
        drop(std::fs::remove_dir_all(folder.path().join("cache")));
    }
    assert!(loaded > 0, "no changed component can be loaded");
}

/// Calls all functions of a component. Errors are allowed; `None` if it does not load.
fn use_component(loader: &PackLoader, path: &Path) -> Option<()> {
    let pack = loader.load_file(path).ok()?;
    let file = TextFile {
        name: "names.txt".into(),
        display_path: String::new(),
        text: "Ada\nBo\n".into(),
    };
    let files = vec![file];
    let Ok(contents) = pack.describe(&files) else {
        return Some(());
    };
    for prompt in contents.prompts.iter().take(3) {
        let request = ResolveRequest {
            prompt: prompt.name.clone(),
            params: vec![("text".into(), "A text.".into())],
            files: files.clone(),
            ..ResolveRequest::default()
        };
        drop(pack.resolve(&request));
    }
    for item in contents.processors.iter().take(3) {
        let opened = pack.open(&ProcessorContext {
            processor: item.name.clone(),
            ..ProcessorContext::default()
        });
        let Ok(mut processor) = opened else { continue };
        if ["One ", "two.\n"]
            .iter()
            .all(|piece| processor.push(piece).is_ok())
        {
            drop(processor.finish(&StopReason::Finished(FinishReason::End)));
        }
    }
    Some(())
}

/// Returns the names and contents of a folder's files.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn studio() -> FakeStudio {
    let model = |name: &str| Model {
        loaded: vec![(name.to_owned(), 8192)],
        ..Model::llm(name, 8192)
    };
    FakeStudio::start(Setup {
        models: vec![model("m"), model("n")],
        answer: Answer::Echo,
        ..Setup::default()
    })
}

#[test]
fn journals() {
    const JOURNAL: &str = "out/batch.journal.jsonl";
    let target = Target::new(&["out", "all"]);
    let studio = studio();
    let url = studio.url();
    target.machine.write("a.txt", "text");
    let batch = [
        "batch",
        "--engine",
        &url,
        "-m",
        "all",
        "-P",
        "tldr",
        "-P",
        "Say {{text}}",
        "--text",
        "x",
        "--inputs",
        "a.txt",
        "-o",
        "out",
        "--server-timeout",
        "2s",
        "-q",
    ];
    target.machine.run(&batch).ok();
    let originals = files(&target.machine.work().join("out"));
    let original = target.machine.read(JOURNAL);
    let commands: [&[&str]; 6] = [
        &["batch", "status", "out", "--json"],
        &["batch", "export", "out", "--as", "jsonl"],
        &["batch", "export", "out", "--as", "csv"],
        &["batch", "merge", "out", "-o", "all"],
        &[
            "batch",
            "retry",
            "out",
            "--server-timeout",
            "2s",
            "--load-timeout",
            "5s",
        ],
        &batch,
    ];
    target.check(&commands);
    for seed in seeds(VARIABLE, COUNT) {
        let mut random = Random(seed);
        target.remove("out");
        target.remove("all");
        for (name, content) in &originals {
            target.machine.write(&format!("out/{name}"), content);
        }
        let journal = mutated(&mut random, original.as_bytes(), &target.values);
        let changed = Changed::new("journal", seed, journal);
        target.machine.write(JOURNAL, &changed.bytes);
        // `retry` asks the server that the plan in the journal names, which must be this one.
        let text = String::from_utf8_lossy(&changed.bytes);
        let is_url_kept = text.matches(&url).count() == original.matches(&url).count();
        let usable: Vec<&&[&str]> = commands
            .iter()
            .filter(|args| is_url_kept || args[1] != "retry")
            .collect();
        drop(target.run(usable[random.below(usable.len())]));
    }
}

#[test]
fn registries() {
    let target = Target::new(&[]);
    let studio = studio();
    let url = studio.url();
    let infer = ["infer", "Say hi", "--engine", &url, "-m", "m"];
    target.machine.run(&["scan", "--engine", &url]).ok();
    target.machine.run(&infer).ok();
    let data = target.machine.home().join("data");
    let originals = files(&data);
    let commands: [&[&str]; 7] = [
        &["list", "--json"],
        &["list", "--sort", "smart", "--all"],
        &["about", "--json"],
        &["doctor", "--engine", &url],
        &["scan", "--engine", &url],
        &["reset", "m", "--engine", &url],
        &infer,
    ];
    target.check(&commands);
    for seed in seeds(VARIABLE, COUNT) {
        let mut random = Random(seed);
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        for (name, content) in &originals {
            std::fs::write(data.join(name), content).unwrap();
        }
        let name = ["registry.json", "registry.json", "observations.jsonl"][random.below(3)];
        let (_, original) = originals.iter().find(|(other, _)| other == name).unwrap();
        let bytes = mutated(&mut random, original, &target.values);
        let changed = Changed::new("registry", seed, bytes);
        std::fs::write(data.join(name), &changed.bytes).unwrap();
        let before = std::fs::read(data.join("registry.json")).unwrap();
        drop(target.run(commands[random.below(commands.len())]));
        if serde_json::from_slice::<Value>(&before).is_err() {
            let is_kept = files(&data).iter().any(|(_, content)| *content == before);
            assert!(is_kept, "a registry that cannot be read is lost");
        }
    }
}

#[test]
fn plans() {
    let target = Target::new(&[]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data/compatibility/plans/every-key.toml");
    let every_key = std::fs::read(path).unwrap();
    let simple = b"engine = \"embedded\"\nmodels = \"demo\"\nout = \"out\"\njobs = 2\n\
        params = { lang = [\"pl\", \"de\"] }\n[[prompt]]\nname = \"tldr\"\n\
        [[prompt]]\nname = \"Say {{text}} in {{lang}}\"\nmax_tokens = 10\n[[input]]\ntext = \"A text.\"\n[[input]]\nfile = \"keep.txt\"\n";
    // No command asks a server that a changed plan names.
    let commands: [(&[u8], &[&str]); 2] = [
        (&every_key, &["batch", "plan.toml", "--print-plan"]),
        (
            simple,
            &["batch", "plan.toml", "--dry-run", "--engine", "embedded"],
        ),
    ];
    for (original, args) in &commands {
        target.machine.write("plan.toml", original);
        target.check(&[args]);
    }
    for seed in seeds(VARIABLE, COUNT) {
        let mut random = Random(seed);
        let (original, args) = commands[random.below(commands.len())];
        let plan = mutated(&mut random, original, &target.values);
        let changed = Changed::new("plan", seed, plan);
        target.machine.write("plan.toml", &changed.bytes);
        drop(target.run(args));
    }
}

/// Answers by path, as bytes with their HTTP head.
type Answers = BTreeMap<&'static str, Vec<u8>>;

fn bytes(steps: Vec<Step>) -> Vec<u8> {
    let bytes = steps.into_iter().map(|step| match step {
        Step::Send(bytes) => bytes,
        _ => Vec::new(),
    });
    bytes.collect::<Vec<_>>().concat()
}

fn openai_answers() -> Answers {
    let list = json!({"object": "list", "data": [{"id": "m", "object": "model"}]});
    let props = json!({"default_generation_settings": {"n_ctx": 4096}, "total_slots": 2,
        "model_path": "/m.gguf", "chat_template": "{{ messages }}"});
    let chat = vec![
        sse_head(),
        text_chunk("Good "),
        text_chunk("morning."),
        stream_end("stop"),
    ];
    BTreeMap::from([
        ("/v1/models", bytes(json_response(list))),
        ("/props", bytes(json_response(props))),
        ("/v1/chat/completions", bytes(chat)),
    ])
}

fn ollama_answers() -> Answers {
    let model = json!({"name": "m", "model": "m", "size": 1000, "details": {"family": "llama"}});
    let show = json!({"capabilities": ["completion"], "template": "{{ .Prompt }}",
        "model_info": {"general.architecture": "llama", "llama.context_length": 8192}});
    let running = json!({"models": [{"model": "m", "context_length": 4096, "size_vram": 10}]});
    let chat = [
        json!({"model": "m", "message": {"role": "assistant", "content": "Good "}, "done": false}),
        json!({"model": "m", "message": {"role": "assistant", "content": "morning."},
            "done": true, "done_reason": "stop", "prompt_eval_count": 4, "eval_count": 2,
            "eval_duration": 100, "load_duration": 1}),
    ];
    let chat = chat.map(|line| format!("{line}\n")).concat();
    BTreeMap::from([
        ("/", bytes(response(200, "text/plain", "Ollama is running"))),
        (
            "/api/version",
            bytes(json_response(json!({"version": "0.12.0"}))),
        ),
        (
            "/api/tags",
            bytes(json_response(json!({ "models": [model] }))),
        ),
        ("/api/ps", bytes(json_response(running))),
        ("/api/show", bytes(json_response(show))),
        (
            "/api/chat",
            bytes(response(200, "application/x-ndjson", chat)),
        ),
    ])
}

/// Returns the answers of the double of LM Studio.
fn studio_answers() -> Answers {
    let studio = studio();
    let chat = json!({"model": "m", "input": "Say hi", "stream": true});
    let openai = json!({"model": "m", "messages": [{"role": "user", "content": "Say hi"}],
        "stream": true});
    let load = json!({"model": "m", "context_length": 4096});
    let requests = [
        ("/api/v1/models", None),
        ("/api/v0/models", None),
        ("/v1/models", None),
        ("/api/v1/models/load", Some(load)),
        ("/api/v1/chat", Some(chat)),
        ("/v1/chat/completions", Some(openai)),
    ];
    requests
        .into_iter()
        .map(|(path, body)| (path, recorded(&studio.url(), path, body.as_ref())))
        .collect()
}

/// Returns the bytes of an answer.
fn recorded(url: &str, path: &str, body: Option<&Value>) -> Vec<u8> {
    use std::io::{Read, Write};

    let host = url.strip_prefix("http://").unwrap();
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{path}");
    answer
}

#[test]
fn answers_of_servers() {
    let target = Target::new(&[]);
    let dialects = [openai_answers(), ollama_answers(), studio_answers()];
    let commands: [&[&str]; 5] = [
        &["infer", "Say hi", "-m", "m", "--timeout", "20s"],
        &["infer", "Say hi", "-m", "m", "--timeout", "20s", "--json"],
        &["ps"],
        &["scan"],
        &["load", "m"],
    ];
    let run = |args: &[&str], answers: Answers| {
        let server =
            ScriptedServer::start(move |request, _| match answers.get(request.path.as_str()) {
                Some(answer) => vec![Step::Send(answer.clone())],
                None => not_found(),
            });
        let url = server.url();
        target.run(&[args, &["--engine", &url]].concat())
    };
    for answers in &dialects {
        // No server of OpenAI's dialect loads models.
        for args in &commands[..4] {
            run(args, answers.clone()).ok();
        }
    }
    for seed in seeds(VARIABLE, COUNT) {
        let mut random = Random(seed);
        let mut answers = dialects[random.below(dialects.len())].clone();
        let path = *answers.keys().nth(random.below(answers.len())).unwrap();
        let answer = mutated(&mut random, &answers[path], &target.values);
        let _kept = Changed::new("answer", seed, answer.clone());
        answers.insert(path, answer);
        drop(run(commands[random.below(commands.len())], answers));
    }
}
