//! The output of packs on stdout and stderr, and the messages of packs that fail.

use crate::guests::component;
use crate::support::Machine;

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

/// The mistakes that packs make in other languages. Unix only: so are the builds.
#[cfg(unix)]
mod mistakes {
    use super::Machine;
    use crate::new_packs::build;

    /// Runs a prompt for each mistake of a pack, and asserts what its error says.
    fn assert_prompts(machine: &Machine, pack: &str, mistakes: &[(&str, &str)]) {
        for (prompt, expected) in mistakes {
            let run = machine.run(&["render", &format!("{pack}/{prompt}")]);
            let stderr = run.fails(3);
            assert!(stderr.contains(expected), "{prompt}: {expected}\n{stderr}");
        }
    }

    /// Runs a processor for each mistake of a pack, and asserts what its error says.
    fn assert_processors(machine: &Machine, pack: &str, mistakes: &[(&str, &str)]) {
        for (processor, expected) in mistakes {
            let post = format!("{pack}/{processor}");
            let text = ["--text", "One sentence.", "--engine", "embedded"];
            let run = machine.run(&[&["infer", "tldr", "--post", &post][..], &text].concat());
            let stderr = run.fails(3);
            assert!(
                stderr.contains(expected),
                "{processor}: {expected}\n{stderr}"
            );
        }
    }

    /// Asserts that the build of a source file fails, and what it prints.
    fn assert_build_fails(language: &str, file: &str, source: &str, expected: &str) {
        let output = build(language, "broken", "both", &[(file, source)]).unwrap_err();
        assert!(output.contains(expected), "{expected}\n{output}");
    }

    #[test]
    #[ignore = "needs Node.js, and componentize-qjs from npm"]
    fn a_mistake_in_javascript_names_its_line_or_the_field() {
        let machine = Machine::new();
        let script = include_str!("guests/mistakes/pack.js");
        let component = build("js", "mistakes", "both", &[("pack.js", script)]).unwrap();
        machine.install_pack("js", &component);
        let log = machine.run(&["render", "js/log", "--show-pack-output"]);
        assert_eq!(log.ok(), "Hello.\n");
        let written = "js wrote:\n  resolving {\"prompt\":\"log\"} [\"grün\"]";
        assert!(log.stderr.contains(written), "{log:?}");
        let prompts = [
            (
                "typo",
                "ReferenceError: goood is not defined at typo (/pack.js:4:15)",
            ),
            ("throw", "Error: no such term at throw (/pack.js:6:15)"),
            (
                "content",
                "messages[0].content must be a string, not the number 5",
            ),
            (
                "tag",
                "settings has the unknown key `temprature`; did you mean `temperature`?",
            ),
            (
                "setting",
                "settings.temperature must be a finite number, not the string \"hot\"",
            ),
            (
                "range",
                "settings.topK must be an integer from 0 to 4294967295, not the number -1.5",
            ),
            (
                "nothing",
                "the result of `resolve` must be a string or an object, not undefined",
            ),
            ("value", "thrown: {\"tag\":\"rejected\"}"),
            ("recursion", "stack overflow"),
            (
                "loop",
                "CPU time limit of 1000 ms exceeded (limits.pack_resolve_ms)",
            ),
            (
                "promise",
                "not a Promise (async functions are not supported)",
            ),
        ];
        assert_prompts(&machine, "js", &prompts);
        let processors = [
            (
                "push",
                "the result of `push` must be a string or an object, not the number 5",
            ),
            (
                "missing",
                "`push` of the processor that `open` returns must be a function",
            ),
        ];
        assert_processors(&machine, "js", &processors);
        for (source, expected) in [
            ("\nnull.x;", "at <anonymous> (/pack.js:2:"),
            ("export default {\n  a: 1\n  b: 2 }", "at /pack.js:3:3"),
            (
                "const pack = {};",
                "pack.js must have `export default { … }`",
            ),
            (
                "export default { prompts: { ask: { reslove: () => 1 } } }",
                "prompts.ask has the unknown key `reslove`; did you mean `resolve`?",
            ),
        ] {
            assert_build_fails("js", "pack.js", source, expected);
        }
    }

    #[test]
    #[ignore = "needs Python with componentize-py from PyPI"]
    fn a_mistake_in_python_names_its_line_or_the_field() {
        let machine = Machine::new();
        let app = include_str!("guests/mistakes/app.py");
        let component = build("python", "mistakes", "both", &[("app.py", app)]).unwrap();
        machine.install_pack("py", &component);
        let good = machine.run(&["render", "py/good", "--show-pack-output"]);
        assert_eq!(good.ok(), "Hello.\n");
        assert!(good.stderr.contains("py wrote:\n  resolving"), "{good:?}");
        let prompts = [
            ("typo", "NameError: name 'goood' is not defined (app.py:20)"),
            ("throw", "ValueError: no such term (app.py:25)"),
            ("key", "KeyError: 'missing' (app.py:30)"),
            ("type", "messages[0].content must be a string, not 5"),
            ("tag", "unknown setting 'temprature'; use temperature"),
            (
                "setting",
                "settings['temperature'] must be a number, not 'hot'",
            ),
            (
                "range",
                "settings['top_k'] must be between 0 and 4294967295, not -1",
            ),
            (
                "loop",
                "CPU time limit of 1000 ms exceeded (limits.pack_resolve_ms)",
            ),
            (
                "file",
                "No such file or directory: '/etc/passwd' (app.py:61)",
            ),
            ("socket", "(app.py:66)"),
            ("sleep", "packs must not wait for a clock (app.py:71)"),
            (
                "coroutine",
                "must be a string or Resolved, not a coroutine; remove `async`",
            ),
            (
                "nothing",
                "the result must be a string or Resolved, not None",
            ),
        ];
        assert_prompts(&machine, "py", &prompts);
        let push = "the result of push must be a string or a tuple (TEXT, DONE), not";
        assert_processors(&machine, "py", &[("push_type", push)]);
        for (source, expected) in [
            (
                "\nraise ValueError('no terms')",
                "app.py\", line 2, in <module>",
            ),
            (
                "def greet(request):\n    return ''",
                "app.py must create one Pack, not 0",
            ),
        ] {
            assert_build_fails("python", "app.py", source, expected);
        }
    }
}
