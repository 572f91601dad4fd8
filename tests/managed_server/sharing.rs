//! Who uses a server, who may, and when it ends. Linux only: the tests look at `/proc`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::processes::{command_line, kill, processes_with, signal, state_of};
use super::real_models::{FIRST, configure_script, machine_with};
use super::{demo, infer_args};
use crate::support::{Machine, Random, finish, seeds, wait_until};

/// A machine whose servers end with the test, also with one that fails.
struct LoadedMachine(Machine);

impl Deref for LoadedMachine {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.0
    }
}

impl Drop for LoadedMachine {
    fn drop(&mut self) {
        let _nothing_loaded = self.0.run(&["unload", "--all", "--force"]);
    }
}

/// Creates a machine with a copy of the demo model, whose path no other process names.
fn machine_with_model() -> (LoadedMachine, String) {
    let machine = LoadedMachine(machine_with(""));
    let model = machine.write("model.gguf", std::fs::read(demo()).unwrap());
    let model = model.to_str().unwrap().to_owned();
    (machine, model)
}

/// Returns the processes of llama-servers for a model file.
fn servers(model: &str) -> Vec<u32> {
    processes_with(&format!("--model {model}"))
}

/// Returns the number of files in a folder with an extension.
fn count_files(folder: &Path, extension: &str) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|of_path| of_path == extension))
        .count()
}

/// Returns the records of the running servers.
fn records(machine: &Machine) -> Vec<(PathBuf, Value)> {
    let folder = machine.home().join("state/servers/llama.cpp");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let records = paths.filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        let is_record = name.ends_with(".json") && !name.ends_with(".control.json");
        let text = std::fs::read_to_string(&path).ok().filter(|_| is_record)?;
        Some((path, serde_json::from_str(&text).ok()?))
    });
    records.collect()
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn runs_at_once_share_a_server_that_stays_for_its_time() {
    let (machine, model) = machine_with_model();
    let args = infer_args(&model, &["--ttl", "10m"]);
    let runs: Vec<_> = (0..8)
        .map(|_| machine.command(&args).spawn().unwrap())
        .collect();
    for run in runs {
        assert_eq!(finish(run).ok().trim(), FIRST);
    }
    let started = servers(&model);
    assert_eq!(started.len(), 1);
    // One log for each server that was ever started.
    let logs = count_files(&machine.home().join("state/servers/llama.cpp"), "log");
    assert_eq!(logs, 1);

    // The next commands use it, also without a time of their own, and do not wait for its end.
    let mut args = infer_args(&model, &[]);
    args.retain(|arg| *arg != "-q");
    let run = machine.run(&args);
    run.ok();
    assert!(!run.stderr.contains("warning"), "{run:?}");
    // A shorter time does not end what another command wants to stay.
    machine.run(&infer_args(&model, &["--ttl", "1s"])).ok();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(servers(&model), started);
    let ps = machine.run(&["ps", "--json"]);
    ps.ok();
    let instances = ps.json()["instances"].clone();
    assert_eq!(instances.as_array().unwrap().len(), 1, "{instances}");
    assert_eq!(instances[0]["engine"], "llama.cpp");
    assert_eq!(instances[0]["model"], model.as_str());
    assert_eq!(instances[0]["ours"], true);
    // More context than it has is another server in its place.
    let run = machine.run(&infer_args(&model, &["--ttl", "10m", "--context", "1000"]));
    run.ok();
    assert_eq!(servers(&model), started);
    let run = machine.run(&["unload", "--all"]);
    run.ok();
    assert!(servers(&model).is_empty());
    let ps = machine.run(&["ps"]);
    assert!(ps.stderr.contains("no instance is loaded"), "{ps:?}");

    // A short time ends it without a command.
    machine.run(&infer_args(&model, &["--ttl", "1s"])).ok();
    wait_until(|| servers(&model).is_empty());
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn load_keeps_a_server_until_it_is_unloaded() {
    let (machine, model) = machine_with_model();
    let run = machine.run(&["load", &model, "--context", "512"]);
    run.ok();
    assert!(run.stderr.contains("with 512 tokens of context"), "{run:?}");
    let loaded = servers(&model);
    assert_eq!(loaded.len(), 1);
    machine.run(&infer_args(&model, &[])).ok();
    assert_eq!(servers(&model), loaded);
    // Without a model, the only running server is meant; a file name alone names it, and a
    // path in another folder does not.
    for engine in ["llama.cpp", "auto"] {
        let mut args = infer_args(&model, &["--engine", engine]);
        args.retain(|arg| *arg != "-m" && *arg != model);
        assert_eq!(machine.run(&args).ok().trim(), FIRST, "{engine}");
    }
    let elsewhere = |name: &str| {
        let mut command = machine.command(&infer_args(name, &[]));
        finish(command.current_dir("/").spawn().unwrap())
    };
    assert_eq!(elsewhere("model.gguf").ok().trim(), FIRST);
    assert!(
        elsewhere("none/model.gguf")
            .fails(5)
            .contains("none/model.gguf")
    );
    assert_eq!(servers(&model), loaded);
    let run = machine.run(&["unload", "--all", "--engine", "embedded"]);
    assert!(
        run.stderr.contains("no instance is loaded by this program"),
        "{run:?}"
    );
    // More context replaces it.
    let run = machine.run(&["load", &model, "--context", "768"]);
    run.ok();
    let replaced = servers(&model);
    assert_eq!(replaced.len(), 1);
    assert_ne!(replaced, loaded);
    // A command that needs more replaces it, too, and leaves the new one loaded.
    machine
        .run(&infer_args(&model, &["--context", "1000"]))
        .ok();
    assert_eq!(servers(&model).len(), 1);
    assert_ne!(servers(&model), replaced);
    let replaced = servers(&model);
    // So does another file of the same name.
    let mut content = std::fs::read(&model).unwrap();
    content.push(0);
    std::fs::write(&model, content).unwrap();
    machine.run(&["load", &model]).ok();
    assert_eq!(servers(&model).len(), 1);
    assert_ne!(servers(&model), replaced);
    let run = machine.run(&["unload", &model]);
    run.ok();
    assert!(servers(&model).is_empty());
    let run = machine.run(&["unload", &model]);
    assert!(run.fails(5).contains("is loaded"), "{run:?}");
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn a_server_holds_no_file_of_its_starter() {
    let (machine, model) = machine_with_model();
    let marker = machine.work().join("lock");
    // As the program `flock` does.
    let mut shell = machine.command_of(Path::new("/bin/sh"), &["-c"]);
    shell.arg("exec 9>lock; exec \"$0\" \"$@\"");
    shell.arg(env!("CARGO_BIN_EXE_lmstrix-host"));
    shell.args(["load", &model]);
    finish(shell.spawn().unwrap()).ok();
    let supervisors = processes_with("supervise-server").into_iter();
    let supervisors = supervisors.filter(|process| environment_names(*process, &machine));
    let processes: Vec<u32> = supervisors.chain(servers(&model)).collect();
    assert_eq!(processes.len(), 2);
    for process in processes {
        let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        let mut targets = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        assert!(targets.all(|target| target != marker), "{process}");
    }
    machine.run(&["unload", "--all"]).ok();
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn a_server_behind_a_script_ends_with_it() {
    let (machine, model) = machine_with_model();
    // Without `exec`, the script stays the parent of the server.
    configure_script(&machine, "PROGRAM \"$@\"");
    machine.run(&infer_args(&model, &[])).ok();
    assert!(servers(&model).is_empty());
    machine.run(&["load", &model]).ok();
    machine.run(&["unload", "--all"]).ok();
    assert!(servers(&model).is_empty());
    let mut user = machine
        .command(&infer_args(&model, &["--max-tokens", "900"]))
        .spawn()
        .unwrap();
    wait_until(|| !servers(&model).is_empty());
    user.kill().unwrap();
    user.wait().unwrap();
    wait_until(|| servers(&model).is_empty());
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn an_unload_does_not_end_what_a_command_has_begun_to_use() {
    let (machine, model) = machine_with_model();
    for round in 0..12 {
        machine.run(&["load", &model]).ok();
        let user = machine.command(&infer_args(&model, &[])).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(10 * round));
        // It succeeds only when no command uses the server.
        let unloaded = machine.run(&["unload", "--all"]);
        let run = finish(user);
        assert_eq!(run.ok().trim(), FIRST, "{round}: {unloaded:?}");
        machine.run(&["unload", "--all", "--force"]).ok();
    }
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn a_server_in_use_is_not_unloaded() {
    let (machine, model) = machine_with_model();
    machine.run(&["load", &model]).ok();
    let state = machine.home().join("state/servers");
    let uses = || count_files(&state, "lease") > 0;
    // Stopped, it uses the server for as long as this test needs.
    let stopped_user = || {
        let mut user = machine.command(&infer_args(&model, &[])).spawn().unwrap();
        while !uses() && user.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        signal(user.id(), Signal::STOP);
        wait_until(|| matches!(state_of(user.id()), Some('T' | 'Z')));
        if uses() {
            return Some(user);
        }
        // It was faster.
        signal(user.id(), Signal::CONT);
        user.wait().unwrap();
        None
    };
    let user = (0..100).find_map(|_| stopped_user()).unwrap();
    let run = machine.run(&["unload", &model]);
    assert!(run.fails(5).contains("another process uses it"), "{run:?}");
    signal(user.id(), Signal::CONT);
    finish(user).ok();
    // It ends with its last user.
    wait_until(|| servers(&model).is_empty());
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn kills_leave_no_server() {
    let (machine, model) = machine_with_model();
    for seed in seeds("KILLS", 20) {
        let mut random = Random(seed);
        let mut user = machine
            .command(&["infer", "{{text}}", "--text", "x", "-m", &model, "-q"])
            .args(["--max-tokens", "900", "--temperature", "2"])
            .spawn()
            .unwrap();
        // Every other time another command waits for the same server.
        let waiting = (seed % 2 == 0).then(|| machine.command(&infer_args(&model, &[])).spawn());
        std::thread::sleep(Duration::from_millis(random.below(900) as u64));
        // Every third time the supervisor is killed, too.
        if seed % 3 == 0 {
            processes_with("supervise-server")
                .into_iter()
                .filter(|process| environment_names(*process, &machine))
                .for_each(kill);
        }
        // It may have ended by itself.
        let _already_ended = user.kill();
        user.wait().unwrap();
        if let Some(waiting) = waiting {
            let run = finish(waiting.unwrap());
            // Unless the server was killed while it was used.
            assert!(run.code == Some(0) || seed % 3 == 0, "{seed}: {run:?}");
        }
        wait_until(|| servers(&model).is_empty());
    }
    let supervisors = || {
        let all = processes_with("supervise-server").into_iter();
        all.filter(|process| environment_names(*process, &machine))
            .count()
    };
    wait_until(|| supervisors() == 0);
    // The next run works, and removes what is left.
    machine.run(&infer_args(&model, &[])).ok();
    assert_eq!(records(&machine).len(), 0);
}

/// Returns whether the environment of a process names the home folder of a machine.
fn environment_names(process: u32, machine: &Machine) -> bool {
    let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    String::from_utf8_lossy(&environment).contains(machine.home().to_str().unwrap())
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn other_users_of_the_machine_cannot_use_the_server() {
    let (machine, model) = machine_with_model();
    machine.run(&["load", &model]).ok();
    // The next command finds it.
    let [(path, record)] = <[_; 1]>::try_from(records(&machine)).unwrap();
    let key = record["key"].as_str().unwrap();
    assert_eq!(key.len(), 64);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let is_private = mode(&path).trailing_zeros() >= 6;
        let is_empty = std::fs::metadata(&path).unwrap().len() == 0;
        assert!(is_private || is_empty, "{}", path.display());
    }
    let processes = processes_with("");
    let lines = processes
        .iter()
        .filter_map(|process| command_line(*process));
    assert!(lines.into_iter().all(|line| !line.contains(key)));

    let url = record["url"].as_str().unwrap();
    let address = url.strip_prefix("http://").unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let ask = |authorization: &str| {
        let body = r#"{"messages":[{"role":"user","content":"x"}],"max_tokens":1}"#;
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask(""), "401");
    assert_eq!(ask("Authorization: Bearer guess\r\n"), "401");
    assert_eq!(ask(&format!("Authorization: Bearer {key}\r\n")), "200");
    machine.run(&["unload", "--all"]).ok();
}

#[test]
#[ignore = "needs llama-server from PyPI"]
fn a_server_that_crashes_costs_one_attempt_of_a_batch() {
    let (machine, model) = machine_with_model();
    for number in 0..30 {
        machine.write(
            &format!("in/{number}.txt"),
            format!("Number {number} is here. {FIRST}"),
        );
    }
    let args = [
        "batch",
        "-P",
        "tldr",
        "--inputs",
        "in/*.txt",
        "-m",
        &model,
        "-o",
        "out",
        "--temperature",
        "0",
    ];
    let batch = machine.command(&args).spawn().unwrap();
    let out = machine.work().join("out");
    let results = || count_files(&out, "txt");
    wait_until(|| results() > 2);
    let before = servers(&model);
    before.iter().copied().for_each(kill);
    let run = finish(batch);
    run.ok();
    assert_eq!(results(), 30, "{run:?}");
    assert!(
        run.stderr
            .contains("llama-server ended while it ran model `model.gguf`"),
        "{run:?}"
    );
    assert!(servers(&model).is_empty());
}
