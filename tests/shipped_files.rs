//! Files that crates carry although they are made from others in this repository: a crate
//! that is published has only the files in its own folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use lmstrix_inference::FinishReason;
use lmstrix_sandbox::{
    CompiledPackCache, Compiler, Error, Pack, PackLoader, ProcessorContext, ResolveRequest,
    STANDARD_WASM, STOCK_PROMPTS, SandboxLimits, StopReason, TextFile,
};
use serde_json::Value;
use wasmparser::{KnownCustom, Parser, Payload};

use crate::guests;

/// Files, and their copies.
const COPIES: [(&str, &[&str]); 3] = [
    (
        "wit/prompts.wit",
        &[
            "host/sandbox/wit/prompts.wit",
            "guest-prompts/standard/wit/prompts.wit",
            "guest-prompts/hello/wit/prompts.wit",
            "guest-prompts/shout/wit/prompts.wit",
            "tests/guests/hostile/wit/prompts.wit",
        ],
    ),
    (
        "guest-prompts/standard/stock.toml",
        &["host/sandbox/assets/stock.toml"],
    ),
    (
        "LICENSE",
        &[
            "host/cli/LICENSE",
            "host/core/LICENSE",
            "host/gguf/LICENSE",
            "host/inference/LICENSE",
            "host/sandbox/LICENSE",
        ],
    ),
];

const SHIPPED_PACK: &str = "host/sandbox/assets/standard.wasm";

#[test]
fn copies_are_current() {
    let read = |name: &str| std::fs::read(root().join(name)).unwrap();
    for (original, copies) in COPIES {
        for copy in copies {
            assert!(
                read(copy) == read(original),
                "{copy} is out of date: cp {original} {copy}"
            );
        }
    }
}

/// Returns the compiler that a pack names in its metadata, as `rustc --version` prints it.
fn compiler_of(pack: &[u8]) -> String {
    let mut versions = Vec::new();
    for payload in Parser::new(0).parse_all(pack) {
        let Payload::CustomSection(section) = payload.unwrap() else {
            continue;
        };
        let KnownCustom::Producers(fields) = section.as_known() else {
            continue;
        };
        for field in fields {
            for tool in field.unwrap().values {
                let tool = tool.unwrap();
                if tool.name == "rustc" {
                    versions.push(format!("rustc {}", tool.version));
                }
            }
        }
    }
    versions.dedup();
    assert_eq!(versions.len(), 1, "{versions:?}");
    versions.remove(0)
}

#[test]
fn the_standard_pack_contains_no_paths_of_the_machine_that_built_it() {
    let text = String::from_utf8_lossy(STANDARD_WASM);
    for part in [
        "registry", ".cargo", ".rustup", "/home", "/root", "/Users", ":\\",
    ] {
        let at = text.find(part);
        let excerpt = at.map(|at| text[at..].chars().take(80).collect::<String>());
        assert_eq!(excerpt, None);
    }
    // The paths that it contains instead.
    assert!(text.contains("guest-prompts/standard/src/"));
}

/// A build gives the same bytes only with the same compiler. With another one the shipped
/// pack must still behave as its source.
#[test]
fn the_standard_pack_is_current() {
    let built = guests::component("standard");
    let out_of_date = format!(
        "{SHIPPED_PACK} is out of date: cp {} {SHIPPED_PACK}",
        built.display()
    );
    assert_same_behaviour(&built, &out_of_date);
    let rustc = Command::new("rustc").arg("--version").output().unwrap();
    let is_same_compiler = rustc.stdout.trim_ascii() == compiler_of(STANDARD_WASM).as_bytes();
    let is_equal = std::fs::read(&built).unwrap() == STANDARD_WASM;
    assert!(is_equal || !is_same_compiler, "{out_of_date}");
}

/// Asserts that the shipped pack and a component that was built from its source have the same
/// prompts and processors, and give the same results.
fn assert_same_behaviour(built: &Path, out_of_date: &str) {
    let cache = tempfile::tempdir().unwrap();
    let cache = CompiledPackCache::new(cache.path().join("packs"));
    let loader =
        PackLoader::new(SandboxLimits::default(), cache, Compiler::InProcess, |_| {}).unwrap();
    let shipped = loader.load_standard().unwrap();
    let built = loader.load_file(built).unwrap();

    let stock = text_file("stock.toml", STOCK_PROMPTS);
    let describe = |pack: &Pack| pack.describe(std::slice::from_ref(&stock)).unwrap();
    assert_eq!(describe(&shipped), describe(&built), "{out_of_date}");

    let cases = golden_cases();
    assert!(cases.len() > 10);
    for case in &cases {
        let resolve = |pack: &Pack| contract_error(pack.resolve(case));
        assert_eq!(
            resolve(&shipped),
            resolve(&built),
            "{out_of_date}: {case:?}"
        );
    }

    for processor in describe(&built).processors {
        for (options, text) in PROCESSOR_CASES {
            let context = ProcessorContext {
                processor: processor.name.clone(),
                options: options
                    .iter()
                    .filter(|(key, _)| processor.params.iter().any(|option| option.name == *key))
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
                ..ProcessorContext::default()
            };
            let process = |pack: &Pack| contract_error(process(pack, &context, text));
            let expected = process(&built);
            assert_eq!(process(&shipped), expected, "{out_of_date}: {context:?}");
        }
    }
}

/// Options, of which a processor gets those that it has, and an answer.
const PROCESSOR_CASES: [(&[(&str, &str)], &str); 3] = [
    (
        &[
            ("from", "a"),
            ("to", "b"),
            ("start", "START"),
            ("end", "END"),
        ],
        "<think>hm</think>\nSTART\n<output>\na banana\n</output>\nEND\n```rust\nlet a = 1;\n```\n",
    ),
    (
        &[("from", "1"), ("indent", "2"), ("end", "}")],
        " {\"a\": [1, 2, {\"b\": null}]} and more",
    ),
    (
        &[("from", "x"), ("required", "true"), ("start", "x")],
        "none",
    ),
];

fn process(pack: &Pack, context: &ProcessorContext, text: &str) -> Result<String, Error> {
    let mut processor = pack.open(context)?;
    let pushed = processor.push(text)?;
    let reason = StopReason::Finished(FinishReason::End);
    let (finished, _) = processor.finish(&reason)?;
    Ok(format!("{pushed:?} {finished:?}"))
}

/// Returns the error of the contract without the name of the pack, as text.
fn contract_error<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Contract { error, .. }) => format!("{error:?}"),
        other => format!("{:?}", other.unwrap()),
    }
}

/// Returns the cases of the standard pack's own tests, which run them natively.
fn golden_cases() -> Vec<ResolveRequest> {
    include_str!("../guest-prompts/standard/tests/resolver.jsonl")
        .lines()
        .map(|line| {
            let case: Value = serde_json::from_str(line).unwrap();
            let params: Vec<(String, String)> =
                serde_json::from_value(case["params"].clone()).unwrap();
            let file = toml::to_string(&case["data"]).unwrap();
            ResolveRequest {
                prompt: case["name"].as_str().unwrap().to_owned(),
                params,
                files: vec![text_file("p.toml", &file)],
                ..ResolveRequest::default()
            }
        })
        .collect()
}

fn text_file(name: &str, text: &str) -> TextFile {
    TextFile {
        name: name.to_owned(),
        display_path: name.to_owned(),
        text: text.to_owned(),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
