//! The structure of the source: which crate and which module may use which. Dependencies
//! of crates are read from `cargo metadata`, those of modules from `crate::` paths.

use std::path::{Path, PathBuf};

/// The crates of the host and the crates that they may use. The compiler refuses others.
const CRATES: &[(&str, &[&str])] = &[
    ("lmstrix-inference", &[]),
    ("lmstrix-gguf", &["lmstrix-inference"]),
    ("lmstrix-sandbox", &["lmstrix-inference"]),
    (
        "lmstrix",
        &["lmstrix-gguf", "lmstrix-inference", "lmstrix-sandbox"],
    ),
    ("lmstrix-distribution", &["lmstrix", "lmstrix-sandbox"]),
    ("lmstrix-import", &[]),
    (
        "lmstrix-host",
        &[
            "lmstrix",
            "lmstrix-distribution",
            "lmstrix-import",
            "lmstrix-inference",
            "lmstrix-sandbox",
        ],
    ),
];

/// Crates from elsewhere that only one crate of the host may have as a normal dependency.
const ONE_CRATE: &[(&str, &str)] = &[
    ("candle-core", "lmstrix-gguf"),
    ("candle-nn", "lmstrix-gguf"),
    ("minijinja", "lmstrix-gguf"),
    ("wasmtime", "lmstrix-sandbox"),
    ("wasmtime-wasi", "lmstrix-sandbox"),
    ("wasmparser", "lmstrix-sandbox"),
    ("oci-client", "lmstrix-distribution"),
    ("docker_credential", "lmstrix-distribution"),
    ("clap", "lmstrix-host"),
    ("clap_complete", "lmstrix-host"),
    ("indicatif", "lmstrix-host"),
    ("comfy-table", "lmstrix-host"),
];

/// The folders of these crates.
pub(crate) const SOURCES: [&str; 7] = [
    "cli",
    "core",
    "distribution",
    "gguf",
    "import",
    "inference",
    "sandbox",
];

/// The modules of the library, from the bottom to the top. A module may use modules of
/// lower layers only, not of its own layer.
const LAYERS: &[&[&str]] = &[
    &[
        "distinct_name",
        "error_chain",
        "quantity",
        "secret",
        "store",
        "source_snippet",
        "suggest",
        "text_encoding",
        "token_estimate",
    ],
    &[
        "attachment",
        "environment",
        "registry",
        "studio_settings",
        "toml_file",
    ],
    &["duration"],
    &["engine", "sink"],
    &["config", "job"],
    &["error"],
    &["client"],
    &["batch", "context_probe"],
];

/// The modules of the program, in the same order.
const CLI_LAYERS: &[&[&str]] = &[
    &["environment", "error", "report"],
    &["signals", "ui"],
    &["args"],
    &["command"],
];

/// Modules that know less than their layer allows.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("engine", &["registry", "environment"]),
    ("sink", &["registry", "environment"]),
];

/// Crates that only one module of the library or the program uses.
const ONE_MODULE: [(&str, &str, &str); 10] = [
    ("core", "csv", "batch"),
    ("core", "glob", "batch"),
    ("core", "unicode_normalization", "batch"),
    ("core", "reqwest", "engine"),
    ("core", "rustls", "engine"),
    ("core", "sysinfo", "engine"),
    ("core", "similar", "studio_settings"),
    ("cli", "clap", "args"),
    ("cli", "clap_complete", "args"),
    ("cli", "indicatif", "ui"),
];

/// Returns the sources of a crate of the host, with paths relative to its `src`.
pub(crate) fn sources(of: &str) -> Vec<(PathBuf, String)> {
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
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = host.join(of).join("src");
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
    check_layers("core", LAYERS);
    check_layers("cli", CLI_LAYERS);
}

fn check_layers(of: &str, layers: &[&[&str]]) {
    let sources = sources(of);
    assert!(sources.len() > 30, "found only {} sources", sources.len());
    for module in layers.concat() {
        let is_there = sources.iter().any(|(path, _)| module_of(path) == module);
        assert!(is_there, "the module {module} of the layers does not exist");
    }
    let layer_of = |module: &str| layers.iter().position(|layer| layer.contains(&module));
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
    for (of, name, home) in ONE_MODULE {
        for (path, text) in sources(of) {
            let used = text.contains(&format!("{name}::"));
            let is_entry = name == "clap" && path == Path::new("main.rs");
            assert!(
                !used || module_of(&path) == home || is_entry,
                "{of}/{} uses the crate {name}",
                path.display()
            );
        }
    }
}

#[test]
fn dependencies_point_downwards_and_have_one_home() {
    let metadata = std::process::Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let dependencies = |package: &str| -> Vec<String> {
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|known| known["name"] == package);
        let all = package.unwrap()["dependencies"].as_array().unwrap();
        all.iter()
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
            .collect()
    };
    for (package, allowed) in CRATES {
        for used in dependencies(package) {
            let is_ours = CRATES.iter().any(|(name, _)| *name == used);
            assert!(
                !is_ours || allowed.contains(&used.as_str()),
                "{package} uses {used}"
            );
            let home = ONE_CRATE.iter().find(|(name, _)| *name == used);
            assert!(
                home.is_none_or(|(_, home)| home == package),
                "{package} uses {used}"
            );
        }
    }
    for (name, home) in ONE_CRATE {
        assert!(
            dependencies(home).iter().any(|used| used == name),
            "{home} lacks {name}"
        );
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    for of in SOURCES {
        for (path, text) in sources(of) {
            if path.to_str().unwrap().ends_with("tests.rs") {
                continue;
            }
            let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
            let lines = code.lines().count();
            assert!(lines <= 400, "{of}/{} has {lines} lines", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    let found: Vec<String> = SOURCES
        .into_iter()
        .flat_map(|of| {
            sources(of)
                .into_iter()
                .map(move |(path, text)| (of, path, text))
        })
        .filter(|(_, _, text)| text.contains("unsafe {") || text.contains("unsafe fn"))
        .map(|(of, path, _)| format!("{of}/{}", path.display()))
        .collect();
    assert_eq!(found, ["sandbox/cache.rs"]);
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
