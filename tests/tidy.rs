//! The structure of the source: which module may use which, read from `crate::` paths,
//! and which crates have one home.

use std::path::{Path, PathBuf};

/// The modules of the crate, from the bottom to the top. A module may use modules of
/// lower layers only, not of its own layer.
const LAYERS: &[&[&str]] = &[
    &[
        "duration",
        "error_chain",
        "quantity",
        "secret",
        "source_snippet",
        "suggest",
        "token_estimate",
    ],
    &["environment", "inference", "registry", "studio_settings"],
    &["engine", "pack", "sink"],
    &["config", "job"],
    &["error", "report"],
    &["client"],
    &["batch", "context_probe"],
    &["ui"],
    &["args"],
    &["command"],
];

/// Modules that know less than their layer allows.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("engine", &["registry", "environment"]),
    ("pack", &["registry", "environment"]),
    ("sink", &["registry", "environment"]),
    (
        "args",
        &[
            "batch",
            "client",
            "config",
            "engine",
            "environment",
            "error",
            "job",
            "sink",
        ],
    ),
];

/// Crates that only one module uses.
const ONE_HOME: [(&str, &str); 13] = [
    ("csv", "batch"),
    ("glob", "batch"),
    ("unicode_normalization", "batch"),
    ("reqwest", "engine"),
    ("rustls", "engine"),
    ("indicatif", "ui"),
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
            } else if path.extension().is_some_and(|extension| extension == "rs") {
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

/// Returns the module of a file: its folder, or its own name.
fn module_of(path: &Path) -> String {
    let first = path
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns every module that a source names through `crate::`.
fn modules_used(text: &str) -> Vec<String> {
    let word = |rest: &str| -> String {
        rest.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut used = Vec::new();
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
                        ',' if depth == 0 => used.push(word(std::mem::take(&mut item).trim())),
                        c if depth == 0 => item.push(c),
                        _ => {}
                    }
                }
                used.push(word(item.trim()));
            }
            None => used.push(word(rest)),
        }
    }
    used
}

#[test]
fn modules_use_lower_layers_only() {
    let sources = sources();
    assert!(sources.len() > 30, "found only {} sources", sources.len());
    for module in LAYERS.concat() {
        let is_there = sources.iter().any(|(path, _)| module_of(path) == module);
        assert!(is_there, "the module {module} of the layers does not exist");
    }
    let layer_of = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    for (path, text) in &sources {
        let module = module_of(path);
        let Some(layer) = layer_of(&module) else {
            assert!(
                ["lib", "main"].contains(&module.as_str()),
                "{module} has no layer"
            );
            continue;
        };
        let forbidden = FORBIDDEN
            .iter()
            .find(|(name, _)| *name == module)
            .map_or(&[][..], |(_, forbidden)| *forbidden);
        for used in modules_used(text) {
            let is_allowed = used == module
                || layer_of(&used).is_none_or(|used_layer| used_layer < layer)
                    && !forbidden.contains(&used.as_str());
            assert!(is_allowed, "{} uses {used}", path.display());
        }
    }
}

#[test]
fn crate_paths_are_found() {
    let text = "use crate::pack::{self, Answer};\nuse crate::{config, engine::{a, b}, sink};\nlet x = crate::report::y;";
    assert_eq!(
        modules_used(text),
        ["pack", "config", "engine", "sink", "report"]
    );
}

#[test]
fn crates_are_used_in_one_module() {
    for (path, text) in sources() {
        for (name, home) in ONE_HOME {
            let used = text.contains(&format!("{name}::"));
            let is_entry = name == "clap" && path == Path::new("main.rs");
            assert!(
                !used || module_of(&path) == home || is_entry,
                "{} uses the crate {name}",
                path.display()
            );
        }
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    let found: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| text.contains("unsafe {") || text.contains("unsafe fn"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_eq!(found, ["pack/cache.rs"]);
}

#[test]
fn the_contract_is_frozen() {
    // Packs of other authors are built from these bytes; a change would break them.
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
