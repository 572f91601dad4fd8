//! What the rooms may know of each other, read from their `use crate::` lines,
//! and a few things that no lint can say.

use std::path::{Path, PathBuf};

/// All rooms, for those that know none.
const ROOMS: &[&str] = &[
    "args",
    "batch",
    "command",
    "config",
    "engine",
    "environment",
    "error",
    "inference",
    "pack",
    "job",
    "registry",
    "report",
    "sink",
    "studio_settings",
];

/// All rooms but those of what lies on the disk: these know themselves alone.
const OUTSIDE: &[&str] = &[
    "args",
    "batch",
    "command",
    "config",
    "engine",
    "environment",
    "error",
    "inference",
    "pack",
    "job",
    "report",
    "sink",
];

/// Rooms that never import one another, and what else they must not know.
const MUST_NOT_KNOW: [(&str, &[&str]); 15] = [
    ("secret", ROOMS),
    ("duration", ROOMS),
    ("token_estimate", ROOMS),
    ("studio_settings", OUTSIDE),
    ("registry", OUTSIDE),
    // What jobs there are is plain data: it knows the words of an inference, and
    // no more.
    (
        "batch",
        &[
            "args",
            "command",
            "config",
            "engine",
            "environment",
            "error",
            "pack",
            "job",
            "registry",
            "report",
            "sink",
        ],
    ),
    (
        "pack",
        &[
            "batch",
            "engine",
            "sink",
            "job",
            "command",
            "args",
            "config",
            "report",
            "error",
            "environment",
        ],
    ),
    (
        "engine",
        &[
            "batch",
            "pack",
            "sink",
            "job",
            "command",
            "args",
            "config",
            "report",
            "error",
            "environment",
        ],
    ),
    (
        "sink",
        &[
            "batch",
            "pack",
            "engine",
            "job",
            "command",
            "args",
            "config",
            "report",
            "error",
            "environment",
        ],
    ),
    (
        "inference",
        &[
            "batch", "pack", "engine", "sink", "job", "command", "args", "config", "report",
            "error",
        ],
    ),
    (
        "job",
        &[
            "batch",
            "command",
            "args",
            "config",
            "error",
            "environment",
            "report",
        ],
    ),
    (
        "report",
        &[
            "batch",
            "command",
            "args",
            "config",
            "engine",
            "sink",
            "error",
            "environment",
        ],
    ),
    (
        "config",
        &[
            "batch",
            "command",
            "args",
            "engine",
            "sink",
            "job",
            "report",
            "error",
            "environment",
        ],
    ),
    (
        "args",
        &[
            "batch",
            "engine",
            "sink",
            "job",
            "config",
            "report",
            "error",
            "environment",
            "command",
        ],
    ),
    (
        "environment",
        &[
            "batch", "command", "args", "engine", "sink", "job", "config", "report", "error",
            "pack",
        ],
    ),
];

/// Crates that have one home.
const ONE_HOME: [(&str, &str); 13] = [
    ("csv", "batch"),
    ("glob", "batch"),
    ("unicode_normalization", "batch"),
    ("reqwest", "engine"),
    ("rustls", "engine"),
    ("indicatif", "sink"),
    ("sysinfo", "engine"),
    ("similar", "studio_settings"),
    ("clap_complete", "args"),
    ("wasmtime", "pack"),
    ("wasmparser", "pack"),
    ("candle_core", "engine"),
    ("clap", "args"),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|it| it == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.strip_prefix(&root).unwrap().to_owned(), text)
        })
        .collect()
}

/// The room that a file belongs to: its folder, or its own name.
fn room(path: &Path) -> String {
    let first = path
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Every room that a source names through `crate::`.
fn rooms_named(text: &str) -> Vec<String> {
    let word = |rest: &str| -> String {
        rest.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut named = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            // `use crate::{a, b::{c, d}}`: names at the first level.
            Some(list) => {
                let mut depth = 0;
                let mut item = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => named.push(word(std::mem::take(&mut item).trim())),
                        c if depth == 0 => item.push(c),
                        _ => {}
                    }
                }
                named.push(word(item.trim()));
            }
            None => named.push(word(rest)),
        }
    }
    named
}

#[test]
fn rooms_know_only_what_they_may() {
    let sources = sources();
    assert!(sources.len() > 30, "the walk found only {}", sources.len());
    for (path, text) in &sources {
        let room = room(path);
        let Some((_, forbidden)) = MUST_NOT_KNOW.iter().find(|(it, _)| *it == room) else {
            continue;
        };
        for named in rooms_named(text) {
            assert!(
                !forbidden.contains(&named.as_str()),
                "{} knows {named}",
                path.display()
            );
        }
    }
}

#[test]
fn the_reader_of_use_lines_reads_them() {
    let text = "use crate::pack::{self, Answer};\nuse crate::{config, engine::{a, b}, sink};\nlet x = crate::report::y;";
    assert_eq!(
        rooms_named(text),
        ["pack", "config", "engine", "sink", "report"]
    );
}

#[test]
fn languages_have_one_home() {
    for (path, text) in sources() {
        for (name, home) in ONE_HOME {
            let used = text.contains(&format!("{name}::"));
            let is_door = name == "clap" && path == Path::new("main.rs");
            assert!(
                !used || room(&path) == home || is_door,
                "{} speaks {name}",
                path.display()
            );
        }
    }
}

#[test]
fn unsafe_code_stands_in_one_place() {
    let found: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| text.contains("unsafe {") || text.contains("unsafe fn"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_eq!(found, ["pack/cache.rs"]);
}

#[test]
fn the_contract_is_the_frozen_one() {
    // Strangers' packs are built from these bytes: whoever changes them breaks
    // those, and must not do it by accident.
    let wit = include_bytes!("../wit/prompts.wit");
    let digest = {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(wit);
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(
        digest,
        "6b26aa450b8f520766cee09a74e2cbe9d48eb23261008056267ec33ded3fef19"
    );
}
