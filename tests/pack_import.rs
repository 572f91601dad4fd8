//! `pack import`: prompts of other programs become a prompt file that the program can use. The
//! formats themselves are tested in `host/import`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::support::Machine;

/// Returns the folder with prompts of a format.
fn prompts(format: &str) -> String {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../import/tests/data");
    data.join(format).to_str().unwrap().to_owned()
}

/// Returns the parameters of each prompt of a file.
fn params(machine: &Machine, file: &str) -> BTreeMap<String, Vec<String>> {
    let shown = machine.run(&["pack", "show", file, "--json"]).json();
    let prompts = shown["prompts"].as_array().unwrap().iter();
    let params = prompts.map(|prompt| {
        let params = prompt["params"].as_array().unwrap().iter();
        let names = params.map(|param| param["name"].as_str().unwrap().to_owned());
        (prompt["name"].as_str().unwrap().to_owned(), names.collect())
    });
    params.collect()
}

#[test]
fn all_imported_prompts_can_be_rendered() {
    for format in ["fabric", "llm", "prompty", "dotprompt"] {
        let machine = Machine::new();
        let run = machine.run(&["pack", "import", format, &prompts(format), "-o", "p.toml"]);
        assert_eq!(run.ok(), "");
        let prompts = params(&machine, "p.toml");
        assert!(prompts.len() >= 10, "{format}: {prompts:?}");
        let converted = format!("{} of ", prompts.len());
        assert!(run.stderr.contains(&converted), "{run:?}");
        assert!(run.stderr.contains("skipped: "), "{run:?}");
        machine.run(&["pack", "check", "p.toml"]).ok();
        for (prompt, params) in prompts {
            let values = params.iter().map(|param| format!("{param}=VALUE"));
            let values: Vec<String> = values.collect();
            let mut args = vec!["render", &prompt, "--prompts", "p.toml", "--text", "TEXT"];
            for value in values.iter().filter(|value| !value.starts_with("text=")) {
                args.extend(["-p", value]);
            }
            let rendered = machine.run(&args);
            assert_eq!(rendered.code, Some(0), "{format} {prompt}: {rendered:?}");
        }
    }
}

#[test]
fn a_pattern_is_imported_to_stdout_or_to_a_new_file() {
    let machine = Machine::new();
    let pattern = machine.write(
        "patterns/summarize/system.md",
        "# PURPOSE\nSummarize the text in {{style}} style.\n\n# INPUT\nINPUT:\n",
    );
    let pattern = pattern.to_str().unwrap();
    let run = machine.run(&["pack", "import", "fabric", pattern]);
    assert!(run.ok().contains("[summarize]"), "{run:?}");
    machine
        .run(&["pack", "import", "fabric", "patterns", "-o", "packs.toml"])
        .ok();
    assert_eq!(machine.read("packs.toml"), run.text());
    let rendered = machine.run(&[
        "render",
        "summarize",
        "--prompts",
        "packs.toml",
        "-p",
        "style=plain",
        "--text",
        "A cat.",
    ]);
    for part in ["Summarize the text in plain style.", "A cat."] {
        assert!(rendered.ok().contains(part), "{rendered:?}");
    }
    let missing = machine.run(&["pack", "import", "fabric", "patterns", "-o", "no/a.toml"]);
    assert!(missing.fails(2).contains("mkdir -p no"), "{missing:?}");
    machine.write("packs.toml", "mine");
    let args = ["pack", "import", "fabric", "patterns", "-o", "packs.toml"];
    let refused = machine.run(&args);
    assert!(
        refused.fails(2).contains("`packs.toml` exists"),
        "{refused:?}"
    );
    assert_eq!(machine.read("packs.toml"), "mine");
    machine.run(&[&args[..], &["--force"]].concat()).ok();
    assert_eq!(machine.read("packs.toml"), run.text());
}

#[test]
fn sources_that_cannot_be_imported_are_errors() {
    let machine = Machine::new();
    machine.write("empty/notes.txt", "x");
    machine.write("loop.prompt", "{{#each items}}{{this}}{{/each}}\n");
    for (args, message) in [
        (["fabric", "none"], "none"),
        (["fabric", "empty"], "in `empty`"),
        (
            ["dotprompt", "loop.prompt"],
            "no prompt of `loop.prompt` can be converted",
        ),
        (["other", "empty"], "fabric"),
    ] {
        let run = machine.run(&[&["pack", "import"][..], &args].concat());
        assert!(run.fails(2).contains(message), "{args:?}: {run:?}");
    }
}
