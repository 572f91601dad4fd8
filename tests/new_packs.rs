//! `pack new`: projects in all languages, built by the commands of docs/packs.md and of their
//! READMEs, and the examples.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::guests;
use crate::outside_program::{download, run};
use crate::support::Machine;

const GUIDE: &str = include_str!("../docs/packs.md");

/// Languages, and the folders that their installers write.
const LANGUAGES: [(&str, &[&str]); 4] = [
    ("rust", &[]),
    ("js", &["node_modules"]),
    ("python", &[".venv"]),
    ("c", &[".venv", "node_modules"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns a command that runs a script of the shell in a folder, with the program on the PATH.
fn shell(script: &str, folder: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_lmstrix-host"));
    let folder_of_program = program.parent().unwrap().display();
    let script = format!("PATH='{folder_of_program}':\"$PATH\"\n{script}");
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(folder)
        .env("LMSTRIX_HOST_HOME", folder.join("home"))
        .env("npm_config_prefer_offline", "true")
        .env("npm_config_fetch_retries", "0");
    for name in ["CARGO_TARGET_DIR", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
}

/// Returns the commands of the first block after a line.
fn commands<'a>(text: &'a str, line: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("{line}\n")).unwrap();
    let (_, rest) = rest.split_once("```sh\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// Runs the commands of the guide for a language in an empty folder. Returns the folder of the
/// project and the output of the last command. Fails the test if they fail.
fn first_pack(language: &str) -> (PathBuf, String) {
    static BUILT: Mutex<Option<HashMap<String, (PathBuf, String)>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap();
    let build = || {
        let folder = root().join("target/new-packs").join(language);
        let script = commands(GUIDE, &format!("<!-- first pack: {language} -->"));
        let (install, show) = script.trim_end().rsplit_once('\n').unwrap();
        let clean = format!("rm -rf {language} && mkdir {language} && cd {language}");
        let parent = folder.parent().unwrap();
        std::fs::create_dir_all(parent).unwrap();
        let built = download(&mut shell(&format!("{clean}\n{install}"), parent));
        built.unwrap_or_else(|reason| panic!("the commands for {language} fail: {reason}"));
        let folder = folder.canonicalize().unwrap();
        let shown = run(&mut shell(show, &folder), "").unwrap();
        (folder.join("hello"), shown)
    };
    let entry = built.get_or_insert_default().entry(language.to_owned());
    entry.or_insert_with(build).clone()
}

/// Builds a pack: the project of `pack new` with these files, by the commands of its README.
/// Returns the component, or the output of a build that failed.
pub(crate) fn build(
    language: &str,
    name: &str,
    kind: &str,
    files: &[(&str, &str)],
) -> Result<PathBuf, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    let (first, _) = first_pack(language);
    let languages = first.parent().unwrap();
    let project = languages.join(name);
    if project.exists() {
        std::fs::remove_dir_all(&project).unwrap();
    }
    let new = format!("lmstrix-host pack new {name} --lang {language} --kind {kind}");
    run(&mut shell(&new, languages), "").unwrap();
    for (file, text) in files {
        std::fs::write(project.join(file), text).unwrap();
    }
    // What the installers wrote is used again.
    let (_, installed) = LANGUAGES
        .iter()
        .find(|(name, _)| *name == language)
        .unwrap();
    for folder in *installed {
        std::os::unix::fs::symlink(first.join(folder), project.join(folder)).unwrap();
    }
    let readme = std::fs::read_to_string(project.join("README.md")).unwrap();
    let is_installer = |line: &&str| ["venv .venv", "install"].iter().any(|it| line.contains(it));
    let lines = commands(&readme, "## Build").lines();
    let script: Vec<&str> = lines.filter(|line| !is_installer(line)).collect();
    run(&mut shell(&script.join("\n"), &project), "")?;
    Ok(project.join(format!("{name}.wasm")))
}

/// Builds an example: the files of its folder in the project of `pack new`.
fn example(language: &str, name: &str, kind: &str) -> PathBuf {
    let folder = root().join("guest-prompts/examples").join(name);
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    let files: Vec<(String, String)> = std::fs::read_dir(folder).unwrap().map(read).collect();
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    build(language, name, kind, &files).unwrap()
}

/// Runs the commands of the guide for a language, and asserts that the pack works and passes its
/// tests, and that the guide has the commands of the project's README.
fn assert_first_pack(language: &str) {
    let (project, shown) = first_pack(language);
    assert_eq!(shown, "Write a friendly greeting for Ada.\n");
    assert_eq!(assert_cases(&project.join("hello.wasm")), 3);
    let readme = std::fs::read_to_string(project.join("README.md")).unwrap();
    let guide = commands(GUIDE, &format!("<!-- first pack: {language} -->"));
    let of_readme = commands(&readme, "## Build");
    assert!(guide.contains(of_readme), "{of_readme}\n{guide}");
    for kind in ["resolver", "processor"] {
        assert_cases(&build(language, kind, kind, &[]).unwrap());
    }
}

/// Asserts that a component passes `pack check` and the cases beside it. Returns their number.
fn assert_cases(component: &Path) -> usize {
    let folder = component.parent().unwrap();
    let name = component.file_name().unwrap().to_str().unwrap();
    let check = format!("lmstrix-host pack check {name}");
    run(&mut shell(&check, folder), "").unwrap();
    let tested = run(&mut shell("lmstrix-host pack test", folder), "").unwrap();
    tested.matches("ok  ").count()
}

#[test]
#[ignore = "needs crates.io and bash"]
fn the_guide_builds_a_pack_in_rust() {
    assert_first_pack("rust");
    let (project, _) = first_pack("rust");
    run(&mut shell("cargo test && cargo fmt --check", &project), "").unwrap();
}

#[test]
#[ignore = "needs Node.js, and componentize-qjs from npm"]
fn the_guide_builds_a_pack_in_javascript() {
    assert_first_pack("js");
}

#[test]
#[ignore = "needs Python with componentize-py from PyPI"]
fn the_guide_builds_a_pack_in_python() {
    assert_first_pack("python");
}

#[test]
#[ignore = "needs Python with ziglang from PyPI, and Node.js with jco from npm"]
fn the_guide_builds_a_pack_in_c() {
    assert_first_pack("c");
}

/// Copies the example in Rust to a packs folder, with its files.
fn install_glossary(machine: &Machine) -> PathBuf {
    for name in ["glossary.csv", "glossary.test.toml"] {
        let path = root().join("guest-prompts/examples/glossary").join(name);
        machine.write(&format!("packs/{name}"), std::fs::read(path).unwrap());
    }
    machine.install_pack("glossary", &guests::component("glossary"))
}

#[test]
fn the_example_in_rust_passes_its_cases() {
    let machine = Machine::new();
    install_glossary(&machine);
    let tested = machine.run(&["pack", "test", "packs"]);
    assert_eq!(tested.ok().matches("ok  ").count(), 4, "{tested:?}");
    machine.run(&["pack", "check", "glossary"]).ok();
}

#[test]
#[ignore = "needs Node.js, Python, and packages from npm and PyPI"]
fn one_batch_mixes_the_examples_of_four_languages() {
    let fewshot = example("js", "fewshot", "both");
    let chunk = example("python", "chunk", "both");
    let upper = example("c", "upper", "processor");
    assert_eq!(assert_cases(&fewshot), 6);
    assert_eq!(assert_cases(&chunk), 9);
    assert_eq!(assert_cases(&upper), 8);
    let unit_tests = "python3 -m unittest";
    run(&mut shell(unit_tests, chunk.parent().unwrap()), "").unwrap();

    let machine = Machine::new();
    install_glossary(&machine);
    for component in [&fewshot, &chunk, &upper] {
        let name = component.file_stem().unwrap().to_str().unwrap();
        machine.install_pack(name, component);
    }
    let examples = std::fs::read(fewshot.with_file_name("fewshot.json")).unwrap();
    machine.write("packs/fewshot.json", examples);
    machine.write(
        "plan.toml",
        r#"
        engine = "embedded"
        models = "demo"
        out = "out"
        temperature = 0
        context = 448
        [[prompt]]
        name = "tldr"
        post = ["trim", "upper/upper"]
        [[prompt]]
        name = "glossary/translate"
        label = "glossary"
        [[prompt]]
        name = "fewshot/classify"
        label = "fewshot"
        post = []
        [[prompt]]
        name = "chunk/summarize"
        label = "chunk"
        # Half of the context is left for the answer, so that the text needs two parts.
        max_tokens = 256
        params = { part = ["1", "2"] }
        [[input]]
        text = "The library opens at nine on weekdays. On Saturdays it opens at ten.\n\nThe shop is closed on Mondays. It opens again on Tuesday.\n\nThe ferry leaves at seven every morning. Tickets cost four dollars.\n\nThe museum is free on Sundays. It has three floors and a small garden.\n\nThe market is open on Fridays. It sells fruit and bread.\n\nThe pool is warm in summer. Children swim for free.\n\nThe train stops at noon. It leaves after ten minutes.\n\nThe bakery sells out by noon. It bakes again in the afternoon."
        name = "town"
        "#,
    );
    let batch = machine.run(&["batch", "plan.toml", "--progress", "none"]);
    batch.ok();
    let read = |name: &str| machine.read(&format!("out/{name}"));
    assert_eq!(
        read("tldr--demo--none.txt"),
        "THE LIBRARY OPENS AT NINE ON WEEKDAYS."
    );
    assert!(read("chunk--demo--part=1.txt").starts_with("Part 1 of 2\n\n"));
    assert!(read("chunk--demo--part=2.txt").starts_with("Part 2 of 2\n\n"));
    for name in ["glossary", "fewshot"] {
        assert!(!read(&format!("{name}--demo--none.txt")).is_empty());
    }
}

#[test]
fn a_new_pack_is_complete_in_every_language_and_kind() {
    let machine = Machine::new();
    for (language, _) in LANGUAGES {
        for kind in ["resolver", "processor", "both"] {
            let name = format!("{language}-{kind}.1");
            let new = machine.run(&["pack", "new", &name, "--lang", language, "--kind", kind]);
            assert!(new.ok().starts_with(&format!("created {name}")), "{new:?}");
            let cases = machine.read(&format!("{name}/{name}.test.toml"));
            assert_eq!(cases.contains("prompt ="), kind != "processor", "{cases}");
            assert_eq!(cases.contains("processor ="), kind != "resolver", "{cases}");
            assert_eq!(
                machine.read(&format!("{name}/wit/prompts.wit")),
                lmstrix_sandbox::CONTRACT
            );
            for (path, text) in files(&machine.work().join(&name)) {
                let is_filled = |rest: &str| {
                    !rest.starts_with(|c: char| "#/".contains(c) || c.is_ascii_lowercase())
                };
                let rests = text.split("{{").skip(1);
                assert!(rests.clone().all(is_filled), "{}: {text}", path.display());
                assert!(!text.contains("\n\n\n\n"), "{}", path.display());
            }
        }
    }
    let sources = machine.work().join("rust-both.1/lmstrix-pack/src");
    let count = std::fs::read_dir(root().join("guest-prompts/sdk/src"))
        .unwrap()
        .count();
    assert_eq!(files(&sources).len(), count);
}

/// Returns the files of a folder and the folders in it.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| match path.is_dir() {
        true => files(&path),
        false => {
            let text = std::fs::read_to_string(&path).unwrap();
            vec![(path, text)]
        }
    };
    paths.flat_map(read).collect()
}

#[test]
fn a_new_pack_never_replaces_a_file() {
    let machine = Machine::new();
    machine.write("mine/pack.js", "mine");
    let new = machine.run(&["pack", "new", "mine", "--lang", "js"]);
    assert!(new.fails(2).contains("mine"), "{new:?}");
    assert_eq!(files(&machine.work().join("mine")).len(), 1);
    for name in ["../up", "a b", "Big", "", "standard"] {
        machine.run(&["pack", "new", name, "--lang", "js"]).fails(2);
    }
    assert_eq!(machine.file_names(), ["mine"]);
}
