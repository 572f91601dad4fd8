//! Odd environments, limits and terminals: the program does not panic, does not report success
//! after a failure, and prints no escape sequences of models, servers and files.

use crate::guests::component;
use crate::support::{Machine, Run, finish, wait_until};

const TEXT: &str = "The shop is closed on Mondays. It opens on Tuesday.";

#[track_caller]
fn assert_no_panic(run: &Run) {
    assert!(!run.stderr.contains("panicked"), "{run:?}");
}

/// Runs the program by a shell, after a command of the shell.
fn run_in_shell(machine: &Machine, before: &str, args: &str) -> Run {
    let mut command = machine.command_of(std::path::Path::new("/bin/sh"), &["-c"]);
    let program = env!("CARGO_BIN_EXE_lmstrix-host");
    command.arg(format!("{before} exec '{program}' {args}"));
    finish(command.spawn().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_are_no_panic() {
    use std::os::unix::ffi::OsStrExt;

    let machine = Machine::new();
    machine.write("d/a.md", TEXT);
    let odd = std::path::Path::new(std::ffi::OsStr::from_bytes(b"d/\xff.md"));
    std::fs::write(machine.work().join(odd), TEXT).unwrap();
    for flag in ["--text-file", "--inputs"] {
        let out = format!("out{flag}");
        let run = machine.run(&[
            "batch", "-P", "tldr", "--engine", "embedded", "-m", "demo", "-o", &out, flag, "d/*",
        ]);
        assert_no_panic(&run);
        run.ok();
        // The journal keeps the plan, so that the name is refused before anything is written.
        let mut command = machine.command(&[
            "batch", "-P", "tldr", "--engine", "embedded", "-o", "no", flag,
        ]);
        let run = finish(command.arg(odd).spawn().unwrap());
        assert!(run.fails(2).contains("is not UTF-8"), "{run:?}");
    }
    let mut command = machine.command(&["infer", "tldr", "--engine", "embedded", "--text-file"]);
    finish(command.arg(odd).spawn().unwrap()).ok();
    assert!(!machine.work().join("no/batch.journal.jsonl").exists());
}

#[test]
fn too_few_open_files_are_an_error() {
    let machine = Machine::new();
    for limit in [6, 12, 20] {
        let run = run_in_shell(&machine, &format!("ulimit -n {limit};"), "list");
        assert_no_panic(&run);
        let message = format!("the limit of open files is {limit}");
        assert!(run.fails(1).contains(&message), "{run:?}");
    }
    run_in_shell(&machine, "ulimit -n 64;", "list").ok();
}

/// Clusters limit the address space; each pack used to reserve 4 GiB.
#[cfg(target_os = "linux")]
#[test]
fn packs_run_in_little_address_space() {
    let machine = Machine::without_cache();
    let args = format!("infer tldr --engine embedded --text '{TEXT}'");
    let run = run_in_shell(&machine, "ulimit -v 2000000;", &args);
    assert!(run.ok().contains("Mondays"), "{run:?}");
    let run = run_in_shell(&machine, "ulimit -v 300000;", &args);
    assert!(
        run.fails(1).contains("the limit of address space is"),
        "{run:?}"
    );
}

#[test]
fn a_home_that_is_a_file_has_no_config() {
    let machine = Machine::new();
    let home = machine.write("home-file", "");
    let mut command = machine.command(&["render", "Say {{text}}", "--text", "x"]);
    command.env_remove("LMSTRIX_HOST_HOME").env("HOME", home);
    assert_eq!(finish(command.spawn().unwrap()).ok(), "Say x\n");
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_no_success() {
    let machine = Machine::new();
    for args in [
        "--help",
        "--version",
        "infer --help",
        "about",
        "batch -P tldr --engine embedded -m demo --text x -o out --progress json",
    ] {
        let run = run_in_shell(&machine, "exec >/dev/full;", args);
        assert_eq!(run.code, Some(1), "{args}: {run:?}");
        assert!(run.stderr.contains("No space left"), "{args}: {run:?}");
    }
    // A reader may close the pipe.
    assert_eq!(run_in_shell(&machine, "", "--help | true").code, Some(0));
}

#[test]
fn a_journal_that_is_removed_while_a_batch_runs_is_an_error() {
    use std::time::Duration;

    use crate::servers::studio::{Answer, FakeStudio, Model, Setup};

    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        models: vec![Model::llm("m", 8192)],
        answer: Answer::Tokens(40),
        token_pause: Duration::from_millis(10),
        ..Setup::default()
    });
    let url = studio.url();
    let args = [
        "batch",
        "-P",
        "Say {{text}}",
        "--engine",
        &url,
        "-m",
        "m",
        "-o",
        "out",
        "--text",
        "x",
    ];
    let child = machine.command(&args).spawn().unwrap();
    let journal = machine.work().join("out/batch.journal.jsonl");
    wait_until(|| journal.exists());
    std::fs::remove_file(&journal).unwrap();
    let run = finish(child);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.stderr
            .contains("removed or replaced while the batch ran"),
        "{run:?}"
    );
}

#[test]
fn a_lock_that_another_process_holds_costs_no_job_its_time() {
    let machine = Machine::new();
    let args = [
        "batch", "-P", "tldr", "--engine", "embedded", "-m", "demo", "-o", "out", "--text", TEXT,
    ];
    machine.run(&args).ok();
    let lock = machine.home().join("data/observations.lock");
    let file = std::fs::File::options().write(true).open(&lock).unwrap();
    file.lock().unwrap();
    let run = machine.run(&[&args[..], &["-P", "caps", "--changed", "rerun"]].concat());
    assert!(run.stderr.contains("for more than 0.5 s"), "{run:?}");
}

#[test]
fn escape_sequences_of_others_are_visible_on_terminals_and_in_messages() {
    use crate::servers::studio::{Answer, FakeStudio, Model, Setup};

    let machine = Machine::new();
    machine.install_pack("evil", &component("hostile"));
    let run = machine.run(&["infer", "evil/escape", "--engine", "embedded"]);
    let stderr = run.fails(3);
    assert!(
        !stderr.contains('\x1b') && !stderr.contains('\x07'),
        "{stderr:?}"
    );
    let studio = FakeStudio::start(Setup {
        models: vec![Model::llm("m", 8192)],
        answer: Answer::Text("red \x1b[31malert".to_owned()),
        ..Setup::default()
    });
    let url = studio.url();
    let args = [
        "batch",
        "-P",
        "Say {{text}}",
        "--engine",
        &url,
        "-m",
        "m",
        "-o",
        "o\x1bx",
        "--text",
        "x",
    ];
    let dry_run = [&args[..], &["--dry-run"]].concat();
    let print_plan = [&args[..], &["--print-plan"]].concat();
    machine.run(&args).ok();
    let exported = machine.run(&["batch", "export", "o\x1bx", "--as", "csv"]);
    assert!(
        exported.ok().contains("red \x1b[31malert"),
        "a pipe gets the exact bytes"
    );
    for args in [
        &dry_run[..],
        &print_plan,
        &["batch", "export", "o\x1bx"],
        &["batch", "export", "o\x1bx", "--as", "csv"],
        &["batch", "status", "o\x1bx"],
        &["list", "--no\x1bflag"],
    ] {
        let (_, shown) = machine.run_on_terminal(args);
        assert!(!shown.contains('\x1b'), "{args:?}: {shown:?}");
    }
}

#[test]
fn a_dumb_terminal_gets_no_colours() {
    let machine = Machine::new();
    for (terminal, has_colours) in [("xterm", true), ("dumb", false)] {
        let args = ["infer", "none/such", "--engine", "embedded"];
        let (_, shown) = machine.run_on_terminal_with(&args, ("TERM", terminal));
        assert!(shown.contains("error"), "{shown:?}");
        assert_eq!(shown.contains('\x1b'), has_colours, "{terminal}: {shown:?}");
    }
}

/// A server that repeats the key in every way.
#[test]
fn a_key_that_a_server_repeats_is_shown_and_written_nowhere() {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use serde_json::json;

    use crate::servers::scripted::{ScriptedServer, Step, json_response, response, sse_head};

    const KEY: &str = "sk-0815/Zz+key:9";
    let forms = || {
        let percent: String = KEY.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let json: String = KEY.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
        let base64 = BASE64_STANDARD.encode(format!("Bearer {KEY}"));
        [KEY.to_owned(), percent, json, base64]
    };
    for form in forms() {
        for kind in [
            "error",
            "text error",
            "redirect",
            "model",
            "answer model",
            "finish",
        ] {
            let shown = form.clone();
            let server = ScriptedServer::start(move |request, _| {
                let is_authorized = request
                    .headers
                    .iter()
                    .any(|(name, _)| name == "authorization");
                match request.path.as_str() {
                    "/v1/models" if is_authorized && kind == "model" => {
                        json_response(json!({"object": "list", "data": [{"id": shown}]}))
                    }
                    "/v1/models" => json_response(json!({"object": "list", "data": [{"id": "m"}]})),
                    _ if kind == "error" => response(
                        400,
                        "application/json",
                        format!("{{\"error\": {{\"message\": \"wrong {shown}\"}}}}"),
                    ),
                    _ if kind == "text error" => response(400, "text/plain", &shown),
                    _ if kind == "redirect" => vec![Step::Send(
                        format!(
                            "HTTP/1.1 302 Found\r\nlocation: http://h/?k={shown}\r\n\
                             content-length: 0\r\nconnection: close\r\n\r\n"
                        )
                        .into_bytes(),
                    )],
                    _ => {
                        let model = if kind == "answer model" { &shown } else { "m" };
                        let finish = if kind == "finish" { &shown } else { "stop" };
                        let chunk = format!(
                            "data: {{\"model\": \"{model}\", \"choices\": [{{\"index\": 0, \
                             \"delta\": {{\"content\": \"hi\"}}, \"finish_reason\": \
                             \"{finish}\"}}]}}\n\ndata: [DONE]\n\n"
                        );
                        vec![sse_head(), Step::Send(chunk.into_bytes())]
                    }
                }
            });
            let machine = Machine::new();
            let config = format!(
                "[defaults]\ndiscover = false\n[engines.s]\nurl = '{}'\nkey_env = 'KEY'\n",
                server.url()
            );
            std::fs::write(machine.home().join("config.toml"), config).unwrap();
            let run = |args: &[&str]| {
                let mut command = machine.command(args);
                finish(command.env("KEY", KEY).spawn().unwrap())
            };
            let runs = [
                run(&["infer", "Hi there", "--engine", "s", "--json", "-vv"]),
                run(&["infer", "Hi there", "--engine", "s", "--events"]),
                run(&[
                    "batch", "-P", "Hi there", "--engine", "s", "-m", "all", "-o", "out",
                ]),
                run(&["scan", "--engine", "s"]),
                run(&["list", "--json"]),
            ];
            let mut all: Vec<String> = runs
                .iter()
                .flat_map(|run| [run.text().to_owned(), run.stderr.clone()])
                .collect();
            for folder in [
                machine.work().join("out"),
                machine.home().join("data"),
                machine.home().join("state"),
            ] {
                for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                    all.push(std::fs::read_to_string(entry.path()).unwrap_or_default());
                }
            }
            // A part of the key in base64.
            let secrets = forms().map(|form| form[form.len() / 3..form.len() * 2 / 3].to_owned());
            for text in all {
                for secret in &secrets {
                    assert!(!text.contains(secret), "{kind}: {form}: {secret}: {text}");
                }
            }
        }
    }
}

#[test]
fn a_config_that_others_can_write_is_a_warning_if_it_names_keys() {
    use std::os::unix::fs::PermissionsExt;

    let machine = Machine::new();
    let config = machine.home().join("config.toml");
    let text = "[defaults]\ndiscover = false\n[engines.s]\nurl = 'http://127.0.0.1:9'\n";
    for (more, mode, warns) in [
        ("", 0o777, false),
        ("key_env = 'K'\n", 0o700, false),
        ("key_env = 'K'\n", 0o770, true),
        ("key_env = 'K'\n", 0o777, true),
    ] {
        std::fs::write(&config, format!("{text}{more}")).unwrap();
        std::fs::set_permissions(&config, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::set_permissions(machine.home(), PermissionsExt::from_mode(mode)).unwrap();
        let run = machine.run(&["infer", "tldr", "--engine", "embedded", "--text", TEXT]);
        assert_eq!(
            run.stderr.contains("other users can change"),
            warns,
            "{run:?}"
        );
    }
}

#[test]
fn answers_that_are_kept_are_private_and_do_not_grow_without_bound() {
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    let machine = Machine::new();
    machine.install_pack("evil", &component("hostile"));
    let answers = machine.home().join("state/answers");
    std::fs::create_dir_all(&answers).unwrap();
    let old = answers.join("1-1.txt");
    std::fs::write(&old, "old").unwrap();
    let year_ago = SystemTime::now() - Duration::from_secs(365 * 24 * 60 * 60);
    let times = std::fs::FileTimes::new()
        .set_modified(year_ago)
        .set_accessed(year_ago);
    let file = std::fs::File::options().write(true).open(&old).unwrap();
    file.set_times(times).unwrap();
    let run = machine.run(&[
        "infer",
        "tldr",
        "--engine",
        "embedded",
        "--text",
        TEXT,
        "--post",
        "evil/push\\:trap",
    ]);
    assert!(
        run.stderr.contains("the model's output is kept in"),
        "{run:?}"
    );
    assert!(!old.exists());
    let kept: Vec<_> = std::fs::read_dir(&answers).unwrap().collect();
    assert_eq!(kept.len(), 1);
    let mode = kept[0]
        .as_ref()
        .unwrap()
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let doctor = machine.run(&["doctor", "--engine", "embedded"]);
    assert!(
        doctor.text().contains("state (") && doctor.text().contains("cache ("),
        "{doctor:?}"
    );
}

/// The fake sends tokens without end; the answer ends at a limit.
#[test]
fn an_endless_answer_ends() {
    use crate::servers::scripted::{
        ScriptedServer, Step, json_response, not_found, sse_head, text_chunk,
    };
    use serde_json::json;

    let machine = Machine::new();
    let server = ScriptedServer::start(|request, _| match request.path.as_str() {
        "/v1/models" => json_response(json!({"object": "list", "data": [{"id": "m"}]})),
        "/v1/chat/completions" => {
            let mut steps = vec![sse_head()];
            for number in 0..40 {
                // No text repeats.
                let text: String = (0..80_000)
                    .map(|word| format!("{number}.{word} "))
                    .collect();
                steps.push(text_chunk(&text));
            }
            steps.push(Step::Hang);
            steps
        }
        _ => not_found(),
    });
    let run = machine.run(&[
        "infer",
        "Count to it",
        "--engine",
        &server.url(),
        "-o",
        "a.txt",
    ]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let length = std::fs::metadata(machine.work().join("a.txt"))
        .unwrap()
        .len();
    assert!((16 << 20..18 << 20).contains(&length), "{length}");
}
