//! Programs that are not a usable llama-server. The scripts print what a llama-server prints;
//! its own failures are in `real_models`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{TEXT, configure, demo, infer_args};
use crate::support::{Machine, finish, wait_until};

/// The part of llama-server's `--help` that the program reads.
const HELP: &str = "-m,    --model FNAME     model path to load
-c,    --ctx-size N      size of the prompt context
-np,   --parallel N      number of server slots
--host HOST              ip address to listen
--port PORT              port to listen
--api-key KEY            (env: LLAMA_API_KEY)";

/// Writes a script that prints `help` and then runs `body`.
fn script(machine: &Machine, name: &str, help: &str, body: &str) -> PathBuf {
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in --help) cat <<'END'\n{help}\nEND\nexit;; --version) exit;; esac\n{body}\n"
    );
    let path = machine.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Returns the demo model with another architecture, which the embedded engine refuses.
fn unsupported_model(machine: &Machine) -> PathBuf {
    let mut bytes = std::fs::read(demo()).unwrap();
    let key = b"general.architecture";
    let at = bytes
        .windows(key.len())
        .position(|part| part == key)
        .unwrap();
    // After the key: the type, and the length of the text.
    let value = at + key.len() + 4 + 8;
    assert_eq!(&bytes[value..value + 5], b"llama");
    bytes[value..value + 5].copy_from_slice(b"gemma");
    machine.write("gemma.gguf", bytes)
}

#[test]
fn without_a_llama_server_the_embedded_engine_runs_what_it_can() {
    let machine = Machine::new();
    let model = demo();
    let model = model.to_str().unwrap();
    machine.run(&infer_args(model, &[])).ok();
    unsupported_model(&machine);
    let run = machine.run(&infer_args("gemma.gguf", &[]));
    let stderr = run.fails(4);
    for part in [
        "does not support the architecture `gemma`",
        "and llama-server not found",
        "hint: install the newest llama.cpp: ",
        "[llama_server] command",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let run = machine.run(&infer_args(model, &["--engine", "llama.cpp"]));
    assert!(
        run.fails(4).contains("error: llama-server not found"),
        "{run:?}"
    );
    let run = machine.run(&["doctor"]);
    assert!(
        run.text()
            .contains("gguf files: run in the embedded engine"),
        "{run:?}"
    );
    assert!(
        run.text().contains("install the newest llama.cpp"),
        "{run:?}"
    );
}

#[test]
fn a_program_that_cannot_be_used_is_named_with_the_reason() {
    let machine = Machine::new();
    let model = demo();
    let model = model.to_str().unwrap();
    let old = "-m, --model FNAME\n-c, --ctx-size N\n--host H\n--port N";
    script(&machine, "old", old, "");
    let no_key = HELP.rsplit_once('\n').unwrap().0;
    script(&machine, "no-key", no_key, "");
    machine.write("not-executable", "#!/bin/sh\n");
    for (command, parts) in [
        (
            "missing",
            "cannot start `WORK/missing`: No such file or directory",
        ),
        (
            "not-executable",
            "cannot start `WORK/not-executable`: Permission denied",
        ),
        (
            "old",
            "`WORK/old` is not a llama-server, or too old: it has no --parallel",
        ),
        ("no-key", "it has no API key by environment or file"),
    ] {
        let path = machine.work().join(command);
        configure(&machine, &format!("command = '{}'", path.display()));
        let expected = parts.replace("WORK", machine.work().to_str().unwrap());
        let run = machine.run(&infer_args(model, &[]));
        assert!(run.fails(4).contains(&expected), "{expected}: {run:?}");
        let run = machine.run(&["doctor"]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.text().contains(&expected), "{expected}: {run:?}");
    }
    // One that was not chosen, but is on the PATH, is replaced by the embedded engine.
    std::fs::write(
        machine.home().join("config.toml"),
        "[defaults]\ndiscover = false\n",
    )
    .unwrap();
    script(&machine, "bin/llama-server", old, "");
    let mut command = machine.command(&["infer", "tldr", "--text", TEXT, "-m", model]);
    let path = format!("{}:/usr/bin:/bin", machine.work().join("bin").display());
    command.env("PATH", path);
    let run = finish(command.spawn().unwrap());
    run.ok();
    assert!(
        run.stderr
            .contains("it has no --parallel; using the embedded engine"),
        "{run:?}"
    );
}

#[test]
fn a_failed_start_shows_the_last_lines_and_leaves_no_process() {
    let machine = Machine::new();
    let model = demo();
    let model = model.to_str().unwrap();
    for (name, body, code, parts) in [
        (
            "crashing",
            "echo loading; echo 'GGML_ASSERT(x) failed' >&2; kill -ABRT $$",
            5,
            &[
                "llama-server cannot load model `demo.gguf` (signal: 6",
                "; its last lines:\n",
                "| loading\n",
                "| GGML_ASSERT(x) failed\n",
                "hint: its whole output is in ",
            ][..],
        ),
        (
            "short-of-memory",
            "echo 'ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 9'; exit 1",
            5,
            &[
                "(exit status: 1)",
                "failed to allocate buffer of size 9",
                "hint: unload other models, or use a smaller --context",
            ],
        ),
        (
            "outdated",
            "echo \"error loading model: unknown model architecture: 'new'\"; exit 1",
            5,
            &[
                "unknown model architecture: 'new'",
                "hint: install the newest llama.cpp",
            ],
        ),
        (
            "slow",
            "echo $$ >> \"$HOME/slow.pid\"; echo 'loading tensors'; exec sleep 600",
            124,
            &[
                "llama-server did not load model `demo.gguf` within 4 s",
                "| loading tensors\n",
                "hint: --load-timeout, or `load` in [timeouts] of the config, sets this limit",
            ],
        ),
        (
            // Text of the model file, which is in the output, too, names another port.
            "slow-with-another-port",
            "echo $$ >> \"$HOME/slow.pid\"; echo 'server is listening on http://127.0.0.1:9'; \
             exec sleep 600",
            124,
            &["did not load model `demo.gguf` within 4 s"],
        ),
        (
            "port-taken",
            "echo x >> \"$HOME/attempts\"; echo \"couldn't bind HTTP server socket\"; exit 1",
            5,
            &["| couldn't bind HTTP server socket"],
        ),
        (
            "loud",
            // More than a pipe holds.
            "i=0; while [ $i -lt 3000 ]; do echo 'a line of output that says nothing of use, again'; \
             i=$((i+1)); done; echo 'the last line'; exit 3",
            5,
            &["(exit status: 3)", "| the last line\n"],
        ),
    ] {
        let path = script(&machine, name, HELP, body);
        configure(&machine, &format!("command = '{}'", path.display()));
        // Servers that would stay, too, end when they cannot be used.
        for args in [
            infer_args(model, &[]),
            infer_args(model, &["--ttl", "10m"]),
            vec!["load", model],
        ] {
            let mut command = machine.command(&args);
            // Enough for the start of a script on a slow machine; the others do not time out.
            let limit = if name.starts_with("slow") { "4s" } else { "5m" };
            command.env("LMSTRIX_HOST_LOAD_TIMEOUT", limit);
            command.env("HOME", machine.work());
            command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
            let run = finish(command.spawn().unwrap());
            let stderr = run.fails(code);
            for part in parts {
                assert!(stderr.contains(part), "{name}: {args:?}: {part}: {stderr}");
            }
        }
    }
    // Each of the three commands tries three ports.
    assert_eq!(machine.read("attempts").lines().count(), 9);
    let processes = machine.read("slow.pid");
    assert_eq!(processes.lines().count(), 6);
    for process in processes.lines() {
        let is_running = || {
            let mut command = Command::new("kill");
            command.args(["-0", process]).stderr(Stdio::null());
            command.status().unwrap().success()
        };
        wait_until(|| !is_running());
    }
    let kinds = || {
        let files = std::fs::read_dir(machine.home().join("state/servers/llama.cpp")).unwrap();
        let mut kinds: Vec<String> = files
            .map(|entry| {
                let path = entry.unwrap().path();
                path.extension().unwrap().to_str().unwrap().to_owned()
            })
            .collect();
        kinds.sort();
        kinds.dedup();
        kinds
    };
    // Nothing but the logs, and the lock of the model file.
    wait_until(|| kinds() == ["log", "start"]);
}
