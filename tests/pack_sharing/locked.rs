//! Runs that refuse packs which are not locked or pinned.

use crate::guests::component;
use crate::support::Machine;

use super::{PROMPT_FILE, sha256, tree, write_pack};

/// A batch over packs with the demo model.
const PLAN: &str = r#"
locked = true
engine = "embedded"
out = "out"
[[prompt]]
name = "adam/greet"
params = { name = "Ada" }
[[prompt]]
name = "glossary/translate"
post = ["shout/upper"]
params = { text = "The server has a key." }
"#;

/// Writes a project with three packs, their lock file and a plan.
fn project() -> Machine {
    let machine = Machine::new();
    write_pack(&machine, "packs");
    machine.install_pack("shout", &component("shout"));
    machine.write("packs/adam.toml", PROMPT_FILE);
    machine.write("plan.toml", PLAN);
    machine.run(&["pack", "lock", "--pack-dir", "packs"]).ok();
    machine
}

/// Returns the packs and digests in the journal of `out`.
fn packs_in_journal(machine: &Machine) -> Vec<serde_json::Value> {
    let journal = machine.read("out/batch.journal.jsonl");
    let records = journal
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut packs: Vec<_> = records
        .filter(|record| record["kind"] == "done")
        .map(|record| record["packs"].clone())
        .collect();
    packs.sort_by_key(ToString::to_string);
    packs
}

#[test]
fn a_project_in_an_archive_runs_on_another_home_with_the_same_digests() {
    let machine = project();
    machine.run(&["batch", "plan.toml"]).ok();
    let digests = packs_in_journal(&machine);
    assert_eq!(digests.len(), 2);
    std::fs::remove_dir_all(machine.work().join("out")).unwrap();
    // An archive keeps the names and the contents, and perhaps nothing else.
    let other = Machine::new();
    for (path, content) in tree(&machine.work()) {
        other.write(&path, content);
    }
    other.run(&["pack", "verify"]).ok();
    other.run(&["batch", "plan.toml"]).ok();
    assert_eq!(packs_in_journal(&other), digests);
    assert_eq!(
        tree(&other.work().join("packs")),
        tree(&machine.work().join("packs"))
    );
}

#[test]
fn a_changed_pack_is_refused_before_any_job_runs() {
    for (change, content, message) in [
        (
            "packs/adam.toml",
            Some("[greet]\nprompt = \"Hi {{name}}.\"\n"),
            "`adam.toml` has sha256:",
        ),
        (
            "packs/glossary/more.csv",
            Some("term,translation\n"),
            "`glossary/more.csv` has sha256:",
        ),
        (
            "packs/glossary/new.csv",
            Some(""),
            "`glossary/new.csv` was added",
        ),
        ("packs/glossary.csv", None, "`glossary.csv` is missing"),
        (
            "packs/packs.lock",
            None,
            "`packs/packs.lock` does not exist",
        ),
        (
            "packs/packs.lock",
            Some("version = 1\n"),
            "it is not in `packs/packs.lock`",
        ),
    ] {
        let machine = project();
        match content {
            Some(content) => drop(machine.write(change, content)),
            None => std::fs::remove_file(machine.work().join(change)).unwrap(),
        }
        let run = machine.run(&["batch", "plan.toml"]);
        let stderr = run.fails(2);
        assert!(stderr.contains(message), "{change}: {stderr}");
        assert!(
            stderr.contains("is refused") && stderr.contains("(--locked)"),
            "{stderr}"
        );
        assert!(
            stderr.contains("lmstrix-host pack verify --pack-dir packs"),
            "{stderr}"
        );
        assert!(
            !machine.work().join("out/batch.journal.jsonl").exists(),
            "{change}"
        );
        // Without the key, the same plan runs.
        machine.write("plan.toml", PLAN.replace("locked = true", ""));
        if change != "packs/glossary.csv" {
            machine.run(&["batch", "plan.toml"]).ok();
        }
    }
}

#[test]
fn commands_refuse_packs_that_are_not_locked() {
    let machine = project();
    let greet = ["render", "adam/greet", "-p", "name=Ada"];
    machine.run(&[&greet[..], &["--locked"]].concat()).ok();
    // The built-in pack is a part of the program.
    machine
        .run(&["render", "tldr", "--text", "x", "--locked"])
        .ok();
    machine.write("elsewhere/eve.toml", PROMPT_FILE);
    let infer = [
        "infer",
        "greet",
        "--pack",
        "elsewhere/eve.toml",
        "-p",
        "name=Ada",
    ];
    let infer = [&infer[..], &["--engine", "embedded"]].concat();
    machine.run(&infer).ok();
    let refused = machine.run(&[&infer[..], &["--locked"]].concat());
    let stderr = refused.fails(2);
    assert!(
        stderr.contains(
            "pack `eve` (elsewhere/eve.toml) is refused: `elsewhere/packs.lock` does not exist"
        ),
        "{stderr}"
    );
    // A component that is not locked is not even compiled.
    machine.write("packs/evil.wasm", "no component");
    let evil = machine.run(&["infer", "evil/x", "--engine", "embedded", "--locked"]);
    assert!(
        evil.fails(2)
            .contains("pack `evil` (packs/evil.wasm) is refused: it is not in"),
        "{evil:?}"
    );
    machine.write("packs/shout.wasm", "no component");
    let shout = [
        "render",
        "tldr",
        "--text",
        "x",
        "--post",
        "shout/upper",
        "--locked",
    ];
    let shout = machine.run(&shout);
    assert!(
        shout.fails(2).contains("`shout.wasm` has sha256:"),
        "{shout:?}"
    );
    machine.write("packs/adam.toml", "[greet]\nprompt = \"Hi {{name}}.\"\n");
    machine.run(&greet).ok();
    let refused = machine.run(&[&greet[..], &["--locked"]].concat());
    assert!(
        refused
            .fails(2)
            .contains("it differs from `packs/packs.lock`"),
        "{refused:?}"
    );
}

#[test]
fn a_plan_pins_digests_by_itself() {
    let machine = project();
    std::fs::remove_file(machine.work().join("packs/packs.lock")).unwrap();
    let digest = |name: &str| {
        let shown = machine.run(&["pack", "show", name, "--json"]).json();
        shown["digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest("adam"), sha256(PROMPT_FILE.as_bytes()));
    let pins = ["adam", "glossary", "shout", "standard"];
    let pins = pins
        .map(|name| format!("{name} = \"{}\"", digest(name)))
        .join("\n");
    let plan = |locked: &str, pins: &str| {
        let (head, prompts) = PLAN.split_once("[[prompt]]").unwrap();
        let head = head.replace("locked = true", locked);
        machine.write(
            "plan.toml",
            format!("{head}[pins]\n{pins}\n[[prompt]]{prompts}"),
        );
        let _absent = std::fs::remove_dir_all(machine.work().join("out"));
        machine.run(&["batch", "plan.toml"])
    };
    plan("locked = true", &pins).ok();
    // The kept plan has the pins.
    assert!(
        machine
            .read("out/batch.journal.jsonl")
            .contains(&digest("shout"))
    );
    let only_adam = pins.lines().next().unwrap();
    plan("", only_adam).ok();
    let stderr = plan("locked = true", only_adam).fails(2).to_owned();
    assert!(stderr.contains("pack `glossary`"), "{stderr}");
    let wrong = format!("standard = \"{}\"", sha256(b"x"));
    let stderr = plan("", &wrong).fails(2).to_owned();
    assert!(
        stderr.contains("pack `adam`")
            && stderr.contains("it needs the pack `standard`, which has sha256:"),
        "{stderr}"
    );
    let stock = "engine = \"embedded\"\nout = \"out\"\n[[prompt]]\nname = \"tldr\"\nparams = { text = \"x\" }\n[pins]\n";
    machine.write("stock.toml", format!("{stock}{wrong}"));
    let stderr = machine.run(&["batch", "stock.toml"]).fails(2).to_owned();
    assert!(
        stderr.contains("pack `standard` is refused: it has sha256:"),
        "{stderr}"
    );
    let wrong = format!("adam = \"{}\"", sha256(b"x"));
    let stderr = plan("", &wrong).fails(2).to_owned();
    assert!(
        stderr.contains("pack `adam`") && stderr.contains("(pins)"),
        "{stderr}"
    );
    let stderr = plan("", &format!("adm = \"{}\"", sha256(b"x")))
        .fails(2)
        .to_owned();
    assert!(
        stderr.contains("the plan pins the pack `adm`, which is in none of its pack folders"),
        "{stderr}"
    );
    let stderr = plan("", "adam = \"sha256:12\"").fails(2).to_owned();
    assert!(
        stderr.contains("plan.toml:6:8") && stderr.contains("64 hex digits"),
        "{stderr}"
    );
    let stderr = plan("locked = 1", "").fails(2).to_owned();
    assert!(stderr.contains("plan.toml:2:10"), "{stderr}");
}
