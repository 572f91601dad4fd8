//! Files as an earlier build wrote them, kept in `data/compatibility`: this build
//! reads and continues them. The README there says how each was made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::servers::studio::{Answer, FakeStudio, Model, Setup};
use crate::support::{Machine, Run, finish};

/// Placeholder for the folder that the files were written in.
const ROOT: &str = "@ROOT@";
/// Placeholder for the address of the server that the files were written with.
const SERVER: &str = "@SERVER@";

/// Results in the old folder: of finished jobs, and of jobs whose answer was complete
/// when the run was killed (the second to the fourth).
const FINISHED: [&str; 7] = [
    "greet--demo--bakery--name=Ada~f4b05d61.txt",
    "greet--demo--bakery--name=Bo~17f1b735.txt",
    "greet--demo--library--name=Bo~17f1b735.txt",
    "greet--demo--notes--name=Bo~17f1b735.txt",
    "loud--demo--notes--none.txt",
    "tldr--demo--library--none.txt",
    "tldr--demo--notes--none.txt",
];

/// Jobs of the old folder that failed, that a kill interrupted or that never started,
/// with their expected results.
const OPEN: [(&str, &str); 5] = [
    (
        "greet--demo--library--name=Ada~f4b05d61.txt",
        "Hello, Ada, and welcome to the pack! (7 words)",
    ),
    (
        "greet--demo--notes--name=Ada~f4b05d61.txt",
        "Hello, Ada, and welcome to the pack! (7 words)",
    ),
    (
        "loud--demo--bakery--none.txt",
        "HELLO, CLEO, AND WELCOME TO THE PACK!",
    ),
    (
        "loud--demo--library--none.txt",
        "HELLO, CLEO, AND WELCOME TO THE PACK!",
    ),
    (
        "tldr--demo--bakery--none.txt",
        "The bakery on Mill Street opens at six every morning.",
    ),
];

fn fixture(name: &str) -> PathBuf {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/compatibility");
    all.join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Copies a file or a folder, and replaces the placeholders in text files.
fn copy(from: &Path, to: &Path, placeholders: &[(&str, &str)]) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            copy(&path, &to.join(path.file_name().unwrap()), placeholders);
        }
        return;
    }
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    match String::from_utf8(std::fs::read(from).unwrap()) {
        Ok(text) => std::fs::write(to, filled(text, placeholders)).unwrap(),
        Err(binary) => std::fs::write(to, binary.as_bytes()).unwrap(),
    }
}

fn filled(text: String, placeholders: &[(&str, &str)]) -> String {
    let replace = |text: String, (name, value): &(&str, &str)| text.replace(name, value);
    placeholders.iter().fold(text, replace)
}

/// Returns an expected output, with the placeholders replaced.
fn expected(name: &str, placeholders: &[(&str, &str)]) -> String {
    filled(read(&fixture(name)), placeholders)
}

/// Asserts that `found` has everything that `expected` has. Keys may be added.
#[track_caller]
fn assert_has(found: &Value, expected: &Value) {
    fn has(found: &Value, expected: &Value) -> bool {
        match (found, expected) {
            (Value::Object(found), Value::Object(expected)) => expected
                .iter()
                .all(|(key, value)| found.get(key).is_some_and(|other| has(other, value))),
            (Value::Array(found), Value::Array(expected)) => {
                found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| has(a, b))
            }
            _ => found == expected,
        }
    }
    assert!(
        has(found, expected),
        "found:\n{found:#}\nexpected:\n{expected:#}"
    );
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(parsed).collect()
}

/// Returns a machine with the old batch folder in its work folder.
fn with_batch() -> Machine {
    let machine = Machine::new();
    let work = machine.work();
    copy(&fixture("batch"), &work, &[(ROOT, work.to_str().unwrap())]);
    machine
}

/// Returns the files of a batch folder, except the journal and the lock: their bytes
/// and the time of their last change.
fn files(folder: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| !name.ends_with(".jsonl") && !name.ends_with(".lock"))
        .map(|(name, path)| {
            let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
            (name, (std::fs::read(&path).unwrap(), changed))
        })
        .collect()
}

fn journal(machine: &Machine, out: &str) -> Vec<Value> {
    lines(&machine.read(&format!("{out}/batch.journal.jsonl")))
}

/// Returns the jobs of all records of a kind, in the journal's order.
fn jobs(journal: &[Value], kind: &str) -> Vec<String> {
    let records = journal.iter().filter(|record| record["kind"] == kind);
    records
        .map(|record| record["job"].as_str().unwrap().to_owned())
        .collect()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn open_names() -> Vec<String> {
    OPEN.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Asserts that a folder holds all results: the finished ones as `before`, the open
/// ones with their expected text.
#[track_caller]
fn assert_complete(folder: &Path, before: &BTreeMap<String, (Vec<u8>, SystemTime)>) {
    let after = files(folder);
    for name in FINISHED {
        assert_eq!(after.get(name), before.get(name), "{name}");
        let raw = format!("{name}.raw.txt");
        assert_eq!(after.get(&raw), before.get(&raw), "{raw}");
    }
    for (name, text) in OPEN {
        assert_eq!(String::from_utf8_lossy(&after[name].0), text, "{name}");
    }
    // Each result with its raw answer, and nothing else.
    let names: BTreeSet<String> = FINISHED
        .iter()
        .copied()
        .chain(OPEN.map(|(name, _)| name))
        .flat_map(|name| [name.to_owned(), format!("{name}.raw.txt")])
        .collect();
    assert_eq!(after.into_keys().collect::<BTreeSet<_>>(), names);
}

/// Returns the warnings of a run that name a job of this prompt.
fn warnings_of<'a>(run: &'a Run, prompt: &str) -> Vec<&'a str> {
    let start = format!("{prompt}--");
    run.stderr
        .lines()
        .filter(|line| line.starts_with("warning: ") && line.contains(&start))
        .collect()
}

/// Returns the digest of the standard pack in the old journal, and in this build.
fn standard_digests(machine: &Machine) -> (String, String) {
    let of = |packs: &Value, name: fn(&Value) -> &Value, digest: fn(&Value) -> &Value| {
        let packs = packs.as_array().unwrap();
        let standard = packs.iter().find(|pack| *name(pack) == "standard");
        digest(standard.unwrap()).as_str().unwrap().to_owned()
    };
    let journal = lines(&read(&fixture("batch/out/batch.journal.jsonl")));
    let done = journal
        .iter()
        .find(|record| record["kind"] == "done" && record["of"]["prompt"] == "tldr");
    let old = of(&done.unwrap()["packs"], |pack| &pack[0], |pack| &pack[1]);
    let render = machine.run(&["render", "tldr", "--text", "x", "--json"]);
    let new = of(
        &render.json()["packs"],
        |pack| &pack["name"],
        |pack| &pack["digest"],
    );
    (old, new)
}

#[test]
fn an_old_batch_folder_resumes_where_it_stopped() {
    let machine = with_batch();
    let out = machine.work().join("out");
    let before = files(&out);
    let old = journal(&machine, "out");
    let run = machine.run(&["batch", "plan.toml"]);
    run.ok();
    assert_complete(&out, &before);
    let new = journal(&machine, "out")[old.len()..].to_vec();
    assert_eq!(sorted(jobs(&new, "start")), open_names());
    // Answers that were complete become results without another request.
    let answered = &FINISHED[1..4];
    let adopted: Vec<Value> = new
        .iter()
        .filter(|record| record["adopted"] == true)
        .cloned()
        .collect();
    assert_eq!(jobs(&adopted, "done"), answered);
    assert_eq!(jobs(&new, "done").len(), answered.len() + OPEN.len());
    // The packs beside the plan are unchanged; the built-in pack may differ.
    for prompt in ["greet", "loud"] {
        assert_eq!(warnings_of(&run, prompt), [""; 0], "{run:?}");
    }
    let (old_digest, new_digest) = standard_digests(&machine);
    let warned = !warnings_of(&run, "tldr").is_empty();
    assert_eq!(warned, old_digest != new_digest, "{run:?}");

    let before = files(&out);
    let started = jobs(&journal(&machine, "out"), "start");
    assert_eq!(machine.run(&["batch", "plan.toml"]).ok(), "");
    assert_eq!(files(&out), before);
    assert_eq!(jobs(&journal(&machine, "out"), "start"), started);
    // With another setting the old results stay, with a warning.
    let run = machine.run(&["batch", "plan.toml", "--temperature", "0.5"]);
    assert_eq!(run.ok(), "");
    assert!(!warnings_of(&run, "greet").is_empty(), "{run:?}");
    assert_eq!(files(&out), before);
    assert_eq!(jobs(&journal(&machine, "out"), "start"), started);
}

#[test]
fn status_and_export_read_an_old_journal() {
    let machine = with_batch();
    let status = machine.run(&["batch", "status", "out", "--json"]);
    status.ok();
    assert_has(&status.json(), &parsed(&expected("batch/status.json", &[])));
    assert_eq!(status.stderr, "");
    let rows = lines(machine.run(&["batch", "export", "out"]).ok());
    let old_rows = lines(&expected("batch/export.jsonl", &[]));
    assert_eq!(rows.len(), old_rows.len(), "{rows:#?}");
    for (row, old_row) in rows.iter().zip(&old_rows) {
        assert_has(row, old_row);
    }
    let csv = machine.run(&["batch", "export", "out", "--as", "csv"]);
    let columns: BTreeSet<&str> = csv.ok().lines().next().unwrap().split(',').collect();
    for column in old_rows[0].as_object().unwrap().keys() {
        assert!(columns.contains(column.as_str()), "{column}: {csv:?}");
    }
    assert_eq!(csv.text().lines().count(), 1 + old_rows.len(), "{csv:?}");
}

#[test]
fn a_retry_runs_the_plan_in_an_old_journal() {
    let machine = with_batch();
    let out = machine.work().join("out");
    let before = files(&out);
    let old = journal(&machine, "out");
    // The journal has the plan of the last run, so that a retry needs no plan file.
    std::fs::remove_file(machine.work().join("plan.toml")).unwrap();
    std::fs::create_dir(machine.work().join("elsewhere")).unwrap();
    let mut command = machine.command(&["batch", "retry", "../out"]);
    command.current_dir(machine.work().join("elsewhere"));
    finish(command.spawn().unwrap()).ok();
    assert_complete(&out, &before);
    let new = journal(&machine, "out")[old.len()..].to_vec();
    assert_eq!(sorted(jobs(&new, "start")), open_names());
}

#[test]
fn an_old_folder_merges_and_the_merged_one_resumes() {
    let machine = with_batch();
    let out = machine.work().join("out");
    let old = files(&out);
    machine.run(&["batch", "merge", "out", "-o", "merged"]).ok();
    assert_eq!(files(&out), old);
    let status = machine.run(&["batch", "status", "merged", "--json"]);
    assert_has(&status.json(), &parsed(&expected("batch/status.json", &[])));
    let merged = machine.work().join("merged");
    let before = files(&merged);
    let done = [0, 4, 5, 6].map(|index| FINISHED[index]);
    for name in done {
        assert_eq!(before[name].0, old[name].0, "{name}");
    }
    let count = journal(&machine, "merged").len();
    machine.run(&["batch", "plan.toml", "-o", "merged"]).ok();
    let after = files(&merged);
    for name in done {
        assert_eq!(after[name], before[name], "{name}");
    }
    for (name, text) in OPEN {
        assert_eq!(String::from_utf8_lossy(&after[name].0), text, "{name}");
    }
    // A merge takes the finished jobs only: all others run, each once.
    let new = journal(&machine, "merged")[count..].to_vec();
    let started = jobs(&new, "start");
    assert_eq!(started.len(), FINISHED.len() + OPEN.len() - done.len());
    assert!(
        done.iter()
            .all(|name| !started.contains(&(*name).to_owned()))
    );
}

/// Returns the tables of a plan, each with its lines sorted, since the order of keys has
/// no meaning.
fn tables(plan: &str) -> Vec<Vec<&str>> {
    plan.split("\n\n")
        .map(|table| {
            let mut lines: Vec<&str> = table.lines().collect();
            lines.sort_unstable();
            lines
        })
        .collect()
}

#[test]
fn old_plans_are_read_and_printed_as_before() {
    let machine = Machine::new();
    let work = machine.work();
    let root = work.to_str().unwrap();
    copy(&fixture("plans"), &work.join("plans"), &[]);
    for name in ["every-key", "defaults"] {
        let path = format!("{root}/plans/{name}.toml");
        let printed = machine.run(&["batch", &path, "--print-plan"]);
        let old = expected(&format!("plans/{name}.printed.toml"), &[(ROOT, root)]);
        assert_eq!(tables(printed.ok()), tables(&old), "{name}");
        assert_eq!(printed.stderr, "", "{name}");
        // The printed plan prints as itself.
        machine.write("printed.toml", &old);
        let again = machine.run(&["batch", "printed.toml", "--print-plan"]);
        assert_eq!(again.ok(), printed.ok(), "{name}");
    }
}

#[test]
fn flags_on_top_of_an_old_plan_print_as_before() {
    let machine = Machine::new();
    copy(&fixture("plans"), &machine.work(), &[]);
    let flags = [
        ["-P", "tldr"],
        ["-P", "Say {{text}} to {{name}}."],
        ["--prompts", "flag.toml"],
        ["--pack", "hello"],
        ["--pack-dir", "flag-packs"],
        ["--post", "trim"],
        ["-s", "Be brief."],
        ["-m", "demo"],
        ["-m", "gemma*"],
        ["--engine", "embedded"],
        ["--text", "Some text."],
        ["--text-file", "in/*.txt"],
        ["--inputs", "rows.tsv"],
        ["-p", "name=Ada"],
        ["-p", "name=Bo"],
        ["-p", "lang=de"],
        ["--context", "4096"],
        ["--temperature", "0.1"],
        ["--top-k", "3"],
        ["--seed", "9"],
        ["--max-tokens", "5%"],
        ["--reasoning", "high"],
        ["--json-schema", "{\"type\":\"array\"}"],
        ["-o", "flag-out"],
        ["--name", "{model}-{prompt}-{input}-{params}"],
        ["-j", "8"],
    ];
    let mut args = vec!["batch", "every-key.toml", "--no-stop", "--print-plan"];
    args.extend(flags.as_flattened());
    let printed = machine.run(&args);
    let old = expected("plans/flags.printed.toml", &[]);
    assert_eq!(tables(printed.ok()), tables(&old));
}

#[test]
fn old_configs_are_read() {
    for name in ["config", "lists"] {
        let machine = Machine::new();
        copy(&fixture("config"), &machine.home(), &[]);
        std::fs::rename(
            machine.home().join(format!("{name}.toml")),
            machine.home().join("config.toml"),
        )
        .unwrap();
        let small = machine.home().join("models/small.gguf");
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gguf/assets/demo.gguf");
        copy(&demo, &small, &[]);
        let rendered = machine.run(&["render", "greet", "--text", "Ada", "--json"]);
        rendered.ok();
        let mut old = parsed(&expected(&format!("config/{name}.render.json"), &[]));
        // The built-in pack may differ between builds.
        old.as_object_mut().unwrap().remove("packs");
        assert_has(&rendered.json(), &old);
        // Engine, model and prompt file come from the config.
        let run = machine.run(&["infer", "greet", "--text", "Ada", "--json"]);
        run.ok();
        let answer = run.json();
        assert_eq!(answer["text"], "Hello, Ada, and welcome to the config!");
        let model = match name {
            "config" => small.to_str().unwrap(),
            _ => "demo",
        };
        assert_eq!(answer["model"], model, "{answer}");
    }
    // Engines that the config names.
    let machine = Machine::new();
    copy(&fixture("config"), &machine.home(), &[]);
    for engine in ["studio", "other"] {
        let run = machine.run(&["infer", "greet", "--text", "Ada", "--engine", engine]);
        assert!(run.fails(4).contains("http://127.0.0.1:9"), "{run:?}");
    }
}

#[test]
fn old_packs_run() {
    let machine = Machine::new();
    copy(
        &fixture("batch/pack-files"),
        &machine.work().join("packs"),
        &[],
    );
    let args = [
        "infer",
        "hello/greet",
        "-p",
        "name=Ada",
        "--post",
        "shout/upper",
        "--post",
        "shout/count",
        "--engine",
        "embedded",
        "--json",
    ];
    let run = machine.run(&args);
    run.ok();
    let packs = ["hello", "shout"].map(|name| {
        let file = fixture(&format!("batch/pack-files/{name}.wasm"));
        json!({"name": name, "digest": sha256(&std::fs::read(file).unwrap())})
    });
    assert_has(
        &run.json(),
        &json!({
            "text": "HELLO, ADA, AND WELCOME TO THE PACK! (7 words)",
            "raw": "Hello, Ada, and welcome to the pack!",
            "packs": packs,
        }),
    );
    // The host reads the files beside a pack: a warning names one that is not text.
    for name in ["hello.toml", "hello/names.txt"] {
        let run = machine.run(&args);
        assert!(!run.stderr.contains(name), "{run:?}");
        machine.write(&format!("packs/{name}"), [0xFF]);
        let run = machine.run(&args);
        run.ok();
        assert!(run.stderr.contains(name), "{run:?}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The address of the server in the old registry.
const REGISTRY_SERVER: &str = "http://127.0.0.1:46647";

/// Returns the name of the ownership file of a server.
fn ownership_file(server: &str) -> String {
    format!("{}.json", &sha256(server.as_bytes())[..16])
}

/// Copies an old ownership file to where this program looks for that of `server`.
fn place_ownership(machine: &Machine, old: &str, placeholder: &str, server: &str) {
    let folder = machine.home().join("state/servers");
    let to = folder.join(ownership_file(server));
    copy(&fixture(old), &to, &[(placeholder, server)]);
}

/// Returns a machine with the old registry, its observations and the model file that
/// the registry lists.
fn with_registry() -> Machine {
    let machine = Machine::new();
    let data = machine.home().join("data");
    copy(&fixture("registry/data"), &data, &[]);
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gguf/assets/demo.gguf");
    copy(&demo, &data.join("models/second.gguf"), &[]);
    machine
}

/// Returns the models of the old `list --all --json`, without the key that depends on
/// the machine's memory.
fn old_models() -> Vec<Value> {
    let list = parsed(&expected("registry/list.json", &[]));
    let mut models = list["models"].as_array().unwrap().clone();
    for model in &mut models {
        model.as_object_mut().unwrap().remove("fits");
    }
    models
}

/// Asserts that no file of the data folder was set aside.
#[track_caller]
fn assert_nothing_corrupt(machine: &Machine) {
    for entry in std::fs::read_dir(machine.home().join("data")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("corrupt"), "{name}");
    }
}

#[test]
fn an_old_registry_is_read_with_its_observations() {
    let machine = with_registry();
    let list = |more: &[&str]| {
        let run = machine.run(&[&["list", "--all", "--json"], more].concat());
        run.ok();
        assert_eq!(run.stderr, "");
        run.json()["models"].clone()
    };
    assert_eq!(old_models().len(), 6);
    assert_has(&list(&[]), &old_models().into());
    let home = machine.home();
    let mut about = parsed(&expected(
        "registry/about.json",
        &[(ROOT, home.to_str().unwrap())],
    ));
    about.as_object_mut().unwrap().remove("version");
    assert_has(&machine.run(&["about", "--json"]).json(), &about);

    // The registry takes in each observation once.
    for _ in 0..2 {
        let scan = machine.run(&["scan", "--engine", "embedded"]);
        scan.ok();
        assert!(!scan.stderr.contains("warning: "), "{scan:?}");
        assert_has(&list(&[]), &old_models().into());
    }
    assert_nothing_corrupt(&machine);
    // A new run appends to the old file.
    let observations = || read(&machine.home().join("data/observations.jsonl"));
    let old = observations();
    machine
        .run(&[
            "infer",
            "tldr",
            "--engine",
            "embedded",
            "--text",
            "One. Two.",
        ])
        .ok();
    let new = observations();
    assert_eq!(new.strip_prefix(&old).unwrap().lines().count(), 1, "{new}");
    let embedded = list(&["--engine", "embedded", "--filter", "demo"]);
    let runs = old_models()[0]["runs"].as_u64().unwrap();
    assert_eq!(embedded[0]["runs"], runs + 1, "{embedded}");
    assert_nothing_corrupt(&machine);
}

#[test]
fn an_old_registry_backup_is_read() {
    let machine = with_registry();
    std::fs::remove_file(machine.home().join("data/registry.json")).unwrap();
    let ids = machine.run(&["list", "--all", "--ids"]);
    let old: Vec<String> = old_models()
        .iter()
        .map(|model| model["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.ok().lines().collect::<Vec<_>>(), old, "{ids:?}");
}

#[test]
fn an_instance_loaded_by_an_older_build_is_still_owned() {
    let machine = Machine::new();
    let key = "qwen/qwen3-4b";
    let studio = FakeStudio::start(Setup {
        models: vec![Model {
            loaded: vec![(key.to_owned(), 4096)],
            ..Model::llm(key, 32_768)
        }],
        ..Setup::default()
    });
    let url = studio.url();
    let old = format!("registry/servers/{}", ownership_file(REGISTRY_SERVER));
    place_ownership(&machine, &old, REGISTRY_SERVER, &url);
    let ps = machine.run(&["ps", "--engine", &url, "--json"]);
    ps.ok();
    let old = expected("registry/ps.json", &[(REGISTRY_SERVER, &url)]);
    assert_has(&ps.json(), &parsed(&old));
    // An owned instance unloads without `--force`.
    machine.run(&["unload", key, "--engine", &url]).ok();
    assert_eq!(studio.loaded_instances(), [""; 0]);
}

#[test]
fn an_old_batch_folder_of_a_server_resumes_with_the_loaded_model() {
    let machine = Machine::new();
    let work = machine.work();
    let studio = FakeStudio::start(Setup {
        models: vec![
            Model::llm("alpha", 32_768),
            Model {
                // The killed run left this instance loaded.
                loaded: vec![("beta".to_owned(), 3072)],
                ..Model::llm("beta", 32_768)
            },
        ],
        answer: Answer::Echo,
        slots: Some(1),
        ..Setup::default()
    });
    let url = studio.url();
    let placeholders = [(ROOT, work.to_str().unwrap()), (SERVER, url.as_str())];
    copy(&fixture("server-batch"), &work, &placeholders);
    place_ownership(
        &machine,
        "server-batch/servers/ownership.json",
        SERVER,
        &url,
    );
    let status = machine.run(&["batch", "status", "out", "--json"]);
    let old = parsed(&expected("server-batch/status.json", &placeholders));
    assert_has(&status.json(), &old);
    // `errors = "inline"` wrote an error in a result's place: it is not exported.
    let rows = lines(machine.run(&["batch", "export", "out"]).ok());
    let old_rows = lines(&expected("server-batch/export.jsonl", &placeholders));
    assert_eq!(rows.len(), old_rows.len());
    assert_has(&rows[0], &old_rows[0]);

    let out = work.join("out");
    let before = files(&out);
    let old = journal(&machine, "out");
    machine.run(&["batch", "plan.toml"]).ok();
    let after = files(&out);
    let finished = "repeat--alpha--bread.txt";
    assert_eq!(after[finished], before[finished]);
    let open = [
        ("repeat--alpha--milk.txt", "Milk was spilled on the floor."),
        ("repeat--beta--bread.txt", "Bread is baked every morning."),
        ("repeat--beta--milk.txt", "Milk was spilled on the floor."),
    ];
    for (name, text) in open {
        let found = String::from_utf8_lossy(&after[name].0);
        assert!(
            found.starts_with("Echo ") && found.ends_with(text),
            "{name}: {found}"
        );
    }
    assert_eq!(after.len(), 1 + open.len(), "{:?}", after.keys());
    let new = journal(&machine, "out")[old.len()..].to_vec();
    assert_eq!(sorted(jobs(&new, "start")), open.map(|(name, _)| name));
    // The run loads the other model only, and unloads both at its end.
    assert_eq!(studio.load_count(), 1);
    assert_eq!(studio.loaded_instances(), [""; 0]);
}
