//! Failures of jobs, models, servers and disks, and interrupted runs.

use std::time::Duration;

use serde_json::Value;

use super::support::*;
use crate::servers::studio::{FakeStudio, Fault, Setup};
use crate::support::{Machine, finish};

#[test]
fn a_failing_job_does_not_affect_others() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        prompt_faults: vec![("POISON", Fault::ErrorEvent)],
        ..echo_models(&["a", "b"])
    });
    let url = studio.url();
    for (name, text) in [("bad", "POISON"), ("fine", "fine"), ("good", "good")] {
        machine.write(&format!("in/{name}.txt"), text);
    }
    let args = batch_args(
        &url,
        &[
            "-P",
            "Say {{text}}",
            "-m",
            "all",
            "--inputs",
            "in/*.txt",
            "--name",
            "{model}--{input}",
        ],
    );
    let run = machine.run(&args);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("2 of 6 jobs failed"), "{run:?}");
    let found = results(&machine.work().join("out"));
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["a--fine.txt", "a--good.txt", "b--fine.txt", "b--good.txt"]
    );
    let error = machine.read("out/a--bad.txt.error.txt");
    assert!(
        error.starts_with("lmstrix-host could not finish"),
        "{error}"
    );
    assert!(machine.file_names().contains(&"out".to_owned()));
    assert!(!machine.read("out/a--bad.txt.partial").is_empty());
    // Two attempts on the instance, two on a fresh one, then the job itself is blamed.
    let attempts = chat_counts(&studio)
        .iter()
        .filter(|((_, prompt), _)| prompt.contains("POISON"))
        .map(|(_, count)| *count)
        .max();
    assert_eq!(attempts, Some(4));
    assert_eq!(
        (studio.load_count(), studio.loaded_instances().len()),
        (4, 0)
    );
    let status = machine.run(&["batch", "status", "out"]);
    assert!(status.ok().contains("a--bad.txt"), "{status:?}");
    // A retry sends only the failed jobs.
    let before = request_bodies(&studio, CHAT).len();
    let run = machine.run(&["batch", "retry", "out"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let again = request_bodies(&studio, CHAT).split_off(before);
    assert!(
        again.iter().all(|body| body.to_string().contains("POISON")),
        "{again:?}"
    );
}

#[test]
fn a_hanging_model_is_set_aside() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        fault: Fault::HangMidStream,
        ..echo_models(&["a", "b"])
    });
    let url = studio.url();
    machine.write("p.toml", TWO_PROMPTS);
    let run = machine.run(&batch_args(
        &url,
        &[
            "--prompts",
            "p.toml",
            "-P",
            "one",
            "-P",
            "two",
            "--text",
            "x",
            "-m",
            "all",
            "--stream-timeout",
            "0.2",
        ],
    ));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("set aside"), "{run:?}");
    assert!(results(&machine.work().join("out")).is_empty());
    for name in ["one--a", "two--a", "one--b", "two--b"] {
        let error = machine.read(&format!("out/{name}.txt.error.txt"));
        assert!(
            error.contains("set aside") && error.contains("no further token within"),
            "{error}"
        );
    }
    // Each of the two rounds loads each model twice, and none stays loaded.
    assert_eq!(
        (studio.load_count(), studio.loaded_instances().len()),
        (8, 0)
    );
    let set_aside = count_records(&read_journal(&machine, "out"), "aside");
    assert_eq!(set_aside, 4);
    // After the server recovers, a retry completes all jobs.
    studio.set_fault(Fault::None);
    machine.run(&["batch", "retry", "out"]).ok();
    assert_eq!(results(&machine.work().join("out")).len(), 4);
    let entries = std::fs::read_dir(machine.work().join("out")).unwrap();
    let files: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !files
            .iter()
            .any(|name| name.ends_with(".error.txt") || name.ends_with(".partial")),
        "{files:?}"
    );
}

#[test]
fn requests_to_busy_servers_are_repeated() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        fault: Fault::Busy {
            times: 3,
            retry_after: Some(0),
        },
        slots: Some(4),
        ..echo_models(&["a"])
    });
    let url = studio.url();
    machine.write("rows.csv", "id,text\n1,x\n2,y\n3,z\n4,w\n5,\"v, w\"\n");
    let args = batch_args(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "rows.csv"],
    );
    let run = machine.run(&args);
    run.ok();
    assert!(
        !run.stderr.contains("not used"),
        "unused columns cause no warning: {run:?}"
    );
    let found = results(&machine.work().join("out"));
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(
        found.values().any(|text| text.contains("Say v, w")),
        "{found:?}"
    );
    // A pipe is written to, and not replaced by a file.
    #[cfg(unix)]
    {
        use std::io::Read;
        use std::os::unix::fs::FileTypeExt;

        let pipe = machine.work().join("pipe");
        crate::support::make_pipe(&pipe);
        // Open for both, so that neither side waits for the other.
        let mut options = std::fs::OpenOptions::new();
        let mut reader = options.read(true).write(true).open(&pipe).unwrap();
        let export = machine.run(&["batch", "export", "out", "--as", "csv", "-o", "pipe"]);
        assert_eq!(export.ok(), "");
        assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let mut head = [0; 4];
        reader.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"job,");
    }
    let run = machine.run(&["batch", "export", "out", "--as", "csv"]);
    assert_eq!(run.ok().lines().count(), 6, "{run:?}");
    let run = machine.run(&["batch", "export", "out"]);
    let rows: Vec<Value> = run
        .ok()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        rows.iter()
            .all(|row| found[row["job"].as_str().unwrap()] == row["text"].as_str().unwrap())
    );
}

#[test]
fn failure_limits_end_the_run() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        prompt_faults: vec![("POISON", Fault::OverflowEmpty)],
        ..echo_models(&["a"])
    });
    let url = studio.url();
    for number in 0..6 {
        // Short jobs run first, and the failing ones are the shortest.
        let text = if number < 3 {
            "POISON"
        } else {
            "a longer text that is fine"
        };
        machine.write(&format!("in/{number}.txt"), text);
    }
    let common = [
        "-P",
        "Say {{text}}",
        "-m",
        "a",
        "--inputs",
        "in/*.txt",
        "-j",
        "1",
    ];
    for (limit, sent) in [
        (&["--fail-fast"][..], 1),
        (&["--max-failures", "1"], 2),
        (&["--max-failures", "40%"], 3),
    ] {
        let before = request_bodies(&studio, CHAT).len();
        let more: Vec<&str> = common.iter().chain(limit).copied().collect();
        let run = machine.run(&batch_args(&url, &more));
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("stopped early"), "{run:?}");
        assert_eq!(
            request_bodies(&studio, CHAT).len() - before,
            sent,
            "{limit:?}"
        );
        assert_eq!(studio.loaded_instances().len(), 0);
    }
    let run = machine.run(&batch_args(&url, &common));
    assert!(run.stderr.contains("3 of 6 jobs failed"), "{run:?}");
    assert_eq!(results(&machine.work().join("out")).len(), 3);
}

#[test]
fn a_server_that_restarts_is_awaited() {
    let machine = Machine::new();
    let setup = Setup {
        token_pause: Duration::from_millis(30),
        ..echo_models(&["a"])
    };
    let studio = FakeStudio::start(setup.clone());
    let url = studio.url();
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    for number in 0..6 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch_args(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "in/*.txt"],
    );
    let child = WatchedRun::start(&machine, &args);
    wait_until(|| results(&machine.work().join("out")).len() >= 2);
    let before: usize = chat_counts(&studio).values().sum();
    let done = results(&machine.work().join("out"));
    drop(studio);
    // Before this message, the request is repeated for some seconds.
    child.wait_for_stderr("waiting up to 60 s for");
    let studio = FakeStudio::start(Setup { port, ..setup });
    let run = child.finish();
    run.ok();
    assert_eq!(results(&machine.work().join("out")).len(), 6);
    assert!(before >= done.len());
    // Finished jobs are not sent again.
    for text in done.values() {
        let prompt = text.split_once(": ").unwrap().1;
        assert!(
            chat_counts(&studio).keys().all(|(_, sent)| sent != prompt),
            "{prompt}"
        );
    }
    assert_eq!(studio.loaded_instances().len(), 0);
    // The jobs of a server that does not return fail.
    drop(studio);
    machine.write("in/7.txt", "text 7");
    let without_waiting: Vec<&str> = args
        .iter()
        .copied()
        .chain(["--server-timeout", "0"])
        .collect();
    let run = machine.run(&without_waiting);
    assert_eq!(run.code, Some(4), "{run:?}");
}

#[test]
fn a_removed_model_fails_only_its_own_jobs() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        token_pause: Duration::from_millis(30),
        ..echo_models(&["a", "b"])
    });
    let url = studio.url();
    for number in 0..4 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch_args(
        &url,
        &["-P", "Say {{text}}", "-m", "all", "--inputs", "in/*.txt"],
    );
    let child = machine.command(&args).spawn().unwrap();
    wait_until(|| !request_bodies(&studio, CHAT).is_empty());
    studio.remove("b");
    // The input of a queued job.
    std::fs::remove_file(machine.work().join("in/3.txt")).unwrap();
    let run = finish(child);
    assert_eq!(run.code, Some(1), "{run:?}");
    let found = results(&machine.work().join("out"));
    assert!(
        found.len() >= 3 && found.keys().all(|name| name.contains("--a--")),
        "{found:?}"
    );
    let prompt = found
        .keys()
        .next()
        .unwrap()
        .split("--")
        .next()
        .unwrap()
        .to_owned();
    let error = machine.read(&format!("out/{prompt}--b--0.txt.error.txt"));
    assert!(error.contains("model `b` not found"), "{error}");
}

#[cfg(unix)]
#[test]
fn full_disks_and_unwritable_folders_are_errors() {
    use std::os::unix::fs::PermissionsExt;

    use crate::servers::studio::Answer;
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        answer: Answer::Tokens(3000),
        ..echo_models(&["a"])
    });
    let url = studio.url();
    for number in 0..4 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch_args(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "in/*.txt"],
    );
    // Files are limited to 8 KiB, and an answer has 16.
    let mut shell = std::process::Command::new("sh");
    let program = machine.command(&args);
    shell
        .arg("-c")
        .arg("ulimit -f 16; exec \"$0\" \"$@\"")
        .arg(program.get_program())
        .args(program.get_args())
        .env_clear()
        .env("LMSTRIX_HOST_HOME", machine.home())
        .current_dir(machine.work())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let run = finish(shell.spawn().unwrap());
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.stderr.contains("cannot write") && run.stderr.contains("too large"),
        "{run:?}"
    );
    assert!(run.text().contains("FAILED  LEFT"), "{run:?}");
    assert!(
        run.stderr.contains("run the same command to continue"),
        "{run:?}"
    );
    assert!(results(&machine.work().join("out")).is_empty());
    assert_eq!(studio.loaded_instances().len(), 0, "the model is unloaded");
    machine.run(&args).ok();
    assert_eq!(results(&machine.work().join("out")).len(), 4);

    let locked = machine.work().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = machine.command_without_root(&[
        "batch", "--engine", &url, "-P", "tldr", "--text", "x", "-m", "a", "-o", "locked",
    ]);
    let run = finish(command.spawn().unwrap());
    assert!(run.fails(1).contains("cannot write"), "{run:?}");
}

#[cfg(unix)]
#[test]
fn a_complete_batch_in_a_read_only_folder_has_nothing_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a"]));
    let url = studio.url();
    let args = batch_args(&url, &["-P", "Say {{text}}", "-m", "a", "--text", "x"]);
    machine.run(&args).ok();
    let out = machine.work().join("out");
    for entry in std::fs::read_dir(&out).unwrap() {
        let open = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(entry.unwrap().path(), open).unwrap();
    }
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o555)).unwrap();
    let run = finish(machine.command_without_root(&args).spawn().unwrap());
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(run.ok(), "");
    assert!(run.stderr.contains("1 skipped"), "{run:?}");
}

#[cfg(unix)]
#[test]
fn the_first_interrupt_finishes_jobs_and_the_second_cancels_them() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        token_pause: Duration::from_millis(500),
        ..echo_models(&["a"])
    });
    let url = studio.url();
    for number in 0..4 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch_args(
        &url,
        &[
            "-P",
            "Say {{text}}",
            "-m",
            "a",
            "--inputs",
            "in/*.txt",
            "-j",
            "1",
        ],
    );
    let start_after = |sent: usize| {
        let child = WatchedRun::start(&machine, &args);
        wait_until(|| request_bodies(&studio, CHAT).len() > sent);
        child
    };
    let child = start_after(0);
    crate::support::interrupt(&child.child);
    let run = child.finish();
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(
        run.stderr.contains("Ctrl-C again")
            && run.stderr.contains("run the same command to continue"),
        "{run:?}"
    );
    assert_eq!(
        (
            results(&machine.work().join("out")).len(),
            studio.loaded_instances().len()
        ),
        (1, 0)
    );
    assert!(studio.requests().iter().all(|request| !request.cancelled));

    let child = start_after(1);
    crate::support::interrupt(&child.child);
    child.wait_for_stderr("Ctrl-C again");
    crate::support::interrupt(&child.child);
    let run = child.finish();
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(studio.wait_cancelled(Duration::from_secs(20)));
    assert_eq!(
        (
            results(&machine.work().join("out")).len(),
            studio.loaded_instances().len()
        ),
        (1, 0)
    );
    machine.run(&args).ok();
    assert_eq!(results(&machine.work().join("out")).len(), 4);
    // Only the cancelled job was sent twice.
    let sent_twice = chat_counts(&studio)
        .values()
        .filter(|count| **count > 1)
        .count();
    assert_eq!(sent_twice, 1);
}

#[test]
fn inline_errors_are_replaced_by_results() {
    let machine = Machine::new();
    let studio = FakeStudio::start(Setup {
        fault: Fault::OverflowEmpty,
        ..echo_models(&["a"])
    });
    let url = studio.url();
    let args = batch_args(
        &url,
        &[
            "-P",
            "Say {{text}}",
            "--text",
            "x",
            "-m",
            "a",
            "--errors",
            "inline",
            "--name",
            "{model}",
        ],
    );
    assert_eq!(machine.run(&args).code, Some(1));
    assert!(
        machine
            .read("out/a.txt")
            .starts_with("lmstrix-host could not finish")
    );
    studio.set_fault(Fault::None);
    // An error text in a result file is not a result.
    machine.run(&args).ok();
    assert!(
        machine.read("out/a.txt").starts_with("Echo"),
        "{}",
        machine.read("out/a.txt")
    );
}

#[test]
fn a_failure_never_replaces_a_result() {
    let machine = Machine::new();
    let studio = FakeStudio::start(echo_models(&["a"]));
    let url = studio.url();
    let args = |more: &[&'static str]| {
        let mut args = vec![
            "-P",
            "Say {{text}}",
            "--text",
            "x",
            "-m",
            "a",
            "--name",
            "{model}",
            "--errors",
            "inline",
        ];
        args.extend(more);
        machine.run(&batch_args(&url, &args))
    };
    args(&["--seed", "1"]).ok();
    let good = machine.read("out/a.txt");
    studio.set_fault(Fault::OverflowEmpty);
    let run = args(&["--seed", "2", "--changed", "rerun"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(machine.read("out/a.txt"), good);
    assert!(machine.read("out/a.txt.error.txt").contains("no text"));
    // The job is failed in the journal, and its result is missing.
    std::fs::remove_file(machine.work().join("out/a.txt")).unwrap();
    assert_eq!(args(&["--seed", "2"]).code, Some(1));
    assert!(
        machine
            .read("out/a.txt")
            .starts_with("lmstrix-host could not finish")
    );
    std::fs::remove_file(machine.work().join("out/a.txt")).unwrap();
    // An inline error text is recognized as written by a run, whatever was recorded after
    // it.
    let error = "lmstrix-host could not finish this answer\n\nx\n";
    machine.write("out/a.txt", error);
    let lines = machine.read("out/batch.journal.jsonl");
    let length = error.len();
    let failed = lines
        .lines()
        .rfind(|line| line.contains("\"failed\""))
        .unwrap();
    let mut failed: Value = serde_json::from_str(failed).unwrap();
    failed["inline"] = length.into();
    let start = r#"{"kind":"start","job":"a.txt","identity":"x","attempt":1}"#;
    machine.write(
        "out/batch.journal.jsonl",
        format!("{lines}{failed}\n{start}\n"),
    );
    let run = machine.run(&["batch", "export", "out"]);
    assert_eq!(run.ok(), "", "an error text is not exported: {run:?}");
    studio.set_fault(Fault::None);
    args(&["--seed", "2"]).ok();
    assert!(machine.read("out/a.txt").starts_with("Echo"));
}
