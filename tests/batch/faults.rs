//! What goes wrong with jobs, models, servers and disks, and the user who has had enough.

use std::time::Duration;

use serde_json::Value;

use super::support::*;
use crate::servers::studio::{Answer, Fault, Setup, Studio};
use crate::support::{Machine, finish};

#[test]
fn one_bad_job_costs_itself_alone() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        poison: vec![("POISON", Fault::ErrorEvent)],
        ..cold(&["a", "b"])
    });
    let url = studio.url();
    for (name, text) in [("bad", "POISON"), ("fine", "fine"), ("good", "good")] {
        machine.write(&format!("in/{name}.txt"), text);
    }
    let args = batch(
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
    assert!(machine.names().contains(&"out".to_owned()));
    assert!(!machine.read("out/a--bad.txt.partial").is_empty());
    // Twice on the instance, twice on a fresh one, and then it is its own.
    let bad = asked(&studio)
        .iter()
        .filter(|it| it.0.1.contains("POISON"))
        .map(|it| *it.1)
        .max();
    assert_eq!(bad, Some(4));
    assert_eq!((studio.loads(), studio.loaded().len()), (4, 0));
    let status = machine.run(&["batch", "status", "out"]);
    assert!(status.ok().contains("a--bad.txt"), "{status:?}");
    // Again: only what failed is sent.
    let before = posted(&studio, CHAT).len();
    let run = machine.run(&["batch", "retry", "out"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let again = posted(&studio, CHAT).split_off(before);
    assert!(
        again.iter().all(|it| it.to_string().contains("POISON")),
        "{again:?}"
    );
}

#[test]
fn a_model_that_hangs_is_set_aside_and_every_job_says_so() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        fault: Fault::HangMidStream,
        ..cold(&["a", "b"])
    });
    let url = studio.url();
    machine.write("p.toml", TWO_PROMPTS);
    let run = machine.run(&batch(
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
            error.contains("set aside") && error.contains("stood still"),
            "{error}"
        );
    }
    // Each of two rounds loads it twice, and nothing stays.
    assert_eq!((studio.loads(), studio.loaded().len()), (8, 0));
    let asides = count(&journal(&machine, "out"), "aside");
    assert_eq!(asides, 4);
    // When it is well again, the same command does it all.
    studio.set_fault(Fault::None);
    machine.run(&["batch", "retry", "out"]).ok();
    assert_eq!(results(&machine.work().join("out")).len(), 4);
    let left = std::fs::read_dir(machine.work().join("out")).unwrap();
    let left: Vec<String> = left
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !left
            .iter()
            .any(|it| it.ends_with(".error.txt") || it.ends_with(".partial")),
        "{left:?}"
    );
}

#[test]
fn busy_servers_and_cut_limits() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        fault: Fault::Busy {
            times: 3,
            retry_after: Some(0),
        },
        slots: Some(4),
        ..cold(&["a"])
    });
    let url = studio.url();
    machine.write("rows.csv", "id,text\n1,x\n2,y\n3,z\n4,w\n5,\"v, w\"\n");
    let args = batch(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "rows.csv"],
    );
    let run = machine.run(&args);
    run.ok();
    assert!(
        !run.stderr.contains("not used"),
        "columns are none of a prompt's business: {run:?}"
    );
    let found = results(&machine.work().join("out"));
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(
        found.values().any(|it| it.contains("Say v, w")),
        "{found:?}"
    );
    let run = machine.run(&["batch", "export", "out", "--as", "csv"]);
    assert_eq!(run.ok().lines().count(), 6, "{run:?}");
    let run = machine.run(&["batch", "export", "out"]);
    let rows: Vec<Value> = run
        .ok()
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert!(
        rows.iter()
            .all(|it| found[it["job"].as_str().unwrap()] == it["text"].as_str().unwrap())
    );
}

#[test]
fn failures_can_end_the_run() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        poison: vec![("POISON", Fault::OverflowEmpty)],
        ..cold(&["a"])
    });
    let url = studio.url();
    for number in 0..6 {
        // Short ones first: the failing ones are the shortest.
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
        let before = posted(&studio, CHAT).len();
        let more: Vec<&str> = common.iter().chain(limit).copied().collect();
        let run = machine.run(&batch(&url, &more));
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("ended early"), "{run:?}");
        assert_eq!(posted(&studio, CHAT).len() - before, sent, "{limit:?}");
        assert_eq!(studio.loaded().len(), 0);
    }
    let run = machine.run(&batch(&url, &common));
    assert!(run.stderr.contains("3 of 6 jobs failed"), "{run:?}");
    assert_eq!(results(&machine.work().join("out")).len(), 3);
}

#[test]
fn a_server_that_goes_away_is_waited_for() {
    let machine = Machine::new();
    let setup = Setup {
        token_pause: Duration::from_millis(30),
        ..cold(&["a"])
    };
    let studio = Studio::start(setup.clone());
    let url = studio.url();
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    for number in 0..6 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "in/*.txt"],
    );
    let child = Watched::start(&machine, &args);
    wait_for(|| results(&machine.work().join("out")).len() >= 2);
    let before: usize = asked(&studio).values().sum();
    let done = results(&machine.work().join("out"));
    drop(studio);
    // A single request is tried again for some seconds.
    child.wait_until_said("waiting 60 s for");
    let studio = Studio::start(Setup { port, ..setup });
    let run = child.finish();
    run.ok();
    assert_eq!(results(&machine.work().join("out")).len(), 6);
    assert!(before >= done.len());
    // Nothing that was done is asked again.
    for text in done.values() {
        let prompt = text.split_once(": ").unwrap().1;
        assert!(
            asked(&studio).keys().all(|(_, it)| it != prompt),
            "{prompt}"
        );
    }
    assert_eq!(studio.loaded().len(), 0);
    // One that stays away costs its jobs, and they say so.
    drop(studio);
    machine.write("in/7.txt", "text 7");
    let gone: Vec<&str> = args
        .iter()
        .copied()
        .chain(["--server-timeout", "0"])
        .collect();
    let run = machine.run(&gone);
    assert_eq!(run.code, Some(4), "{run:?}");
}

#[test]
fn a_model_that_is_removed_costs_its_own_jobs() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        token_pause: Duration::from_millis(30),
        ..cold(&["a", "b"])
    });
    let url = studio.url();
    for number in 0..4 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch(
        &url,
        &["-P", "Say {{text}}", "-m", "all", "--inputs", "in/*.txt"],
    );
    let child = machine.command(&args).spawn().unwrap();
    wait_for(|| !posted(&studio, CHAT).is_empty());
    studio.remove("b");
    // The input of a job that waits.
    std::fs::remove_file(machine.work().join("in/3.txt")).unwrap();
    let run = finish(child);
    assert_eq!(run.code, Some(1), "{run:?}");
    let found = results(&machine.work().join("out"));
    assert!(
        found.len() >= 3 && found.keys().all(|it| it.contains("--a--")),
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
    assert!(error.contains("no model named `b`"), "{error}");
}

#[cfg(unix)]
#[test]
fn disks_that_are_full_and_folders_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        answer: Answer::Tokens(3000),
        ..cold(&["a"])
    });
    let url = studio.url();
    for number in 0..4 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch(
        &url,
        &["-P", "Say {{text}}", "-m", "a", "--inputs", "in/*.txt"],
    );
    // Every file may have 8 KiB: an answer has 16.
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
    assert!(results(&machine.work().join("out")).is_empty());
    assert_eq!(studio.loaded().len(), 0, "what was loaded goes");
    machine.run(&args).ok();
    assert_eq!(results(&machine.work().join("out")).len(), 4);

    if rustix::process::getuid().is_root() {
        // Nothing is read-only for root; a file in the folder's place is.
        machine.write("file", "x");
        let run = machine.run(&[
            "batch", "--engine", &url, "-P", "tldr", "--text", "x", "-m", "a", "-o", "file",
        ]);
        assert!(run.fails(1).contains("cannot write"), "{run:?}");
        return;
    }
    let locked = machine.work().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    let run = machine.run(&[
        "batch", "--engine", &url, "-P", "tldr", "--text", "x", "-m", "a", "-o", "locked",
    ]);
    assert!(run.fails(1).contains("cannot write"), "{run:?}");
}

#[cfg(unix)]
#[test]
fn the_first_interrupt_lets_jobs_end_and_the_second_does_not() {
    use rustix::process::{Pid, Signal, kill_process};
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        token_pause: Duration::from_millis(500),
        ..cold(&["a"])
    });
    let url = studio.url();
    for number in 0..4 {
        machine.write(&format!("in/{number}.txt"), format!("text {number}"));
    }
    let args = batch(
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
    let begin = |sent: usize| {
        let child = Watched::start(&machine, &args);
        wait_for(|| posted(&studio, CHAT).len() > sent);
        child
    };
    let interrupt = |child: &Watched| {
        let pid = Pid::from_raw(i32::try_from(child.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    };
    let child = begin(0);
    interrupt(&child);
    let run = child.finish();
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(
        run.stderr.contains("Ctrl-C again") && run.stderr.contains("the same command goes on"),
        "{run:?}"
    );
    assert_eq!(
        (
            results(&machine.work().join("out")).len(),
            studio.loaded().len()
        ),
        (1, 0)
    );
    assert!(studio.requests().iter().all(|it| !it.cancelled));

    let child = begin(1);
    interrupt(&child);
    child.wait_until_said("Ctrl-C again");
    interrupt(&child);
    let run = child.finish();
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(studio.wait_cancelled(Duration::from_secs(20)));
    assert_eq!(
        (
            results(&machine.work().join("out")).len(),
            studio.loaded().len()
        ),
        (1, 0)
    );
    machine.run(&args).ok();
    assert_eq!(results(&machine.work().join("out")).len(), 4);
    // The one that was cancelled, and no other, was sent twice.
    let twice = asked(&studio).values().filter(|it| **it > 1).count();
    assert_eq!(twice, 1);
}

#[test]
fn errors_can_stand_in_the_results_place() {
    let machine = Machine::new();
    let studio = Studio::start(Setup {
        fault: Fault::OverflowEmpty,
        ..cold(&["a"])
    });
    let url = studio.url();
    let args = batch(
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
    // A failure is never taken for a result, wherever it stands.
    machine.run(&args).ok();
    assert!(
        machine.read("out/a.txt").starts_with("Echo"),
        "{}",
        machine.read("out/a.txt")
    );
}

#[test]
fn a_failure_never_replaces_a_result_and_is_never_one() {
    let machine = Machine::new();
    let studio = Studio::start(cold(&["a"]));
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
        machine.run(&batch(&url, &args))
    };
    args(&["--seed", "1"]).ok();
    let good = machine.read("out/a.txt");
    studio.set_fault(Fault::OverflowEmpty);
    let run = args(&["--seed", "2", "--changed", "rerun"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(machine.read("out/a.txt"), good);
    assert!(machine.read("out/a.txt.error.txt").contains("no text"));
    // A kill between the journal and the name leaves a failed job.
    std::fs::remove_file(machine.work().join("out/a.txt")).unwrap();
    assert_eq!(args(&["--seed", "2"]).code, Some(1));
    assert!(
        machine
            .read("out/a.txt")
            .starts_with("lmstrix-host could not finish")
    );
    std::fs::remove_file(machine.work().join("out/a.txt")).unwrap();
    // A failure that stands there is known as ours, whatever came after it.
    let error = "lmstrix-host could not finish this answer\n\nx\n";
    machine.write("out/a.txt", error);
    let lines = machine.read("out/batch.journal.jsonl");
    let length = error.len();
    let failed = lines.lines().rfind(|it| it.contains("\"failed\"")).unwrap();
    let mut failed: Value = serde_json::from_str(failed).unwrap();
    failed["inline"] = length.into();
    let start = r#"{"kind":"start","job":"a.txt","identity":"x","attempt":1}"#;
    machine.write(
        "out/batch.journal.jsonl",
        format!("{lines}{failed}\n{start}\n"),
    );
    let run = machine.run(&["batch", "export", "out"]);
    assert_eq!(run.ok(), "", "an error is no result: {run:?}");
    studio.set_fault(Fault::None);
    args(&["--seed", "2"]).ok();
    assert!(machine.read("out/a.txt").starts_with("Echo"));
}
