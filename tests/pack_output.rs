//! The output of packs on stdout and stderr, and the messages of packs that fail.

use crate::guests::component;
use crate::support::Machine;
use crate::{javascript, python};

#[test]
fn the_output_of_a_pack_is_shown_on_request_and_with_errors() {
    let machine = Machine::new();
    machine.install_pack("evil", &component("hostile"));
    let flood = "flood flood flood";
    let left_out = "bytes left out]";
    let quiet = machine.run(&["render", "evil/flood"]);
    quiet.ok();
    assert!(!quiet.stderr.contains(flood), "{quiet:?}");
    let shown = machine.run(&["render", "evil/flood", "--show-pack-output", "-q"]);
    shown.ok();
    assert!(
        shown.stderr.starts_with("evil wrote:\n  flood"),
        "{shown:?}"
    );
    assert!(shown.stderr.contains(left_out), "{shown:?}");
    let report = machine.run(&["render", "evil/flood", "--json"]).json();
    let written = &report["pack_output"];
    assert_eq!(written["from"], "evil", "{written}");
    assert!(
        written["text"].as_str().unwrap().contains(left_out),
        "{written}"
    );

    let infer = [
        "infer",
        "evil/text",
        "--engine",
        "embedded",
        "--post",
        "evil/finish\\:flood",
    ];
    let quiet = machine.run(&infer);
    quiet.ok();
    assert!(!quiet.stderr.contains(flood), "{quiet:?}");
    let shown = machine.run(&[&infer[..], &["--show-pack-output"]].concat());
    assert_eq!(shown.ok(), quiet.text());
    let heading = "evil/finish:flood wrote:\n  flood";
    assert!(shown.stderr.contains(heading), "{shown:?}");
    let report = machine.run(&[&infer[..], &["--json"]].concat()).json();
    assert_eq!(report["pack_output"][0]["from"], "evil/finish:flood");
    let events = machine.run(&[&infer[..], &["--events"]].concat());
    let kinds: Vec<String> = events
        .ok()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "pack-output").count(),
        1,
        "{kinds:?}"
    );
    assert_eq!(kinds.last().unwrap(), "finished");

    // A crash says the reason first, then all that was written.
    let crashed = machine.run(&["render", "evil/trap"]);
    let stderr = crashed.fails(3);
    let reason = "failed in resolve for `trap`: crashed: this pack panics on purpose (wasm trap: ";
    assert!(stderr.contains(reason), "{stderr}");
    assert!(stderr.contains(", in "), "{stderr}");
    assert!(stderr.contains("\n  the pack wrote:\n"), "{stderr}");
    assert!(stderr.contains("panicked at"), "{stderr}");
}

/// Runs a prompt for each mistake of a pack, and asserts what its error says.
fn assert_mistakes(machine: &Machine, pack: &str, mistakes: &[(&str, &[&str])]) {
    for (prompt, expected) in mistakes {
        let run = machine.run(&["render", &format!("{pack}/{prompt}")]);
        let stderr = run.fails(3);
        for part in *expected {
            assert!(stderr.contains(part), "{prompt}: {part}\n{stderr}");
        }
    }
}

#[test]
#[ignore = "needs Node.js, and componentize-qjs from npm"]
fn a_mistake_in_javascript_names_its_line_or_the_value() {
    let machine = Machine::new();
    let script = include_str!("guests/mistakes/pack.js");
    machine.install_pack("js", &javascript::build("mistakes", script));
    assert_mistakes(
        &machine,
        "js",
        &[
            (
                "typo",
                &["crashed: ", "goood is not defined", "/mistakes.js:41:"],
            ),
            ("throw", &["crashed: ", "no such term", "/mistakes.js:44:"]),
            ("log", &["console is not defined", "/mistakes.js:47:"]),
            ("tag", &["unknown variant tag: chatt"]),
            ("setting", &["expected number", "string"]),
            (
                "loop",
                &["CPU time limit of 1000 ms", "limits.pack_resolve_ms"],
            ),
        ],
    );
}

#[test]
#[ignore = "needs Python with componentize-py from PyPI"]
fn a_mistake_in_python_names_its_line() {
    let machine = Machine::new();
    let app = include_str!("guests/mistakes/app.py");
    machine.install_pack("py", &python::component("mistakes", app));
    let good = machine.run(&["render", "py/good", "--show-pack-output"]);
    assert_eq!(good.ok().trim_end(), "Hello.");
    assert!(
        good.stderr.contains("py wrote:\n  resolving good"),
        "{good:?}"
    );
    assert_mistakes(
        &machine,
        "py",
        &[
            (
                "typo",
                &["crashed: NameError: name 'goood' is not defined", "line 26"],
            ),
            ("throw", &["crashed: ValueError: no such term", "line 28"]),
            ("key", &["crashed: KeyError: 'missing'", "line 30"]),
            (
                "file",
                &["crashed: FileNotFoundError: ", "/etc/passwd", "line 32"],
            ),
            ("socket", &["crashed: ", "line 34"]),
            ("sleep", &["waited for a clock"]),
            (
                "loop",
                &["CPU time limit of 1000 ms", "limits.pack_resolve_ms"],
            ),
        ],
    );
}
