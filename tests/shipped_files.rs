//! Copies and built files in the folders of crates match their originals. A published crate
//! has only the files in its own folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lmstrix_inference::FinishReason;
use lmstrix_sandbox::{
    CompiledPackCache, Compiler, Error, Pack, PackContents, PackLoader, ProcessorContext,
    ResolveRequest, STANDARD_WASM, STOCK_PROMPTS, SandboxLimits, StopReason, TextFile,
};
use serde_json::Value;
use sha2::Digest;
use wasmparser::{KnownCustom, Parser, Payload};

use crate::guests;

/// Folders whose files are copied to another folder.
const COPIED_FOLDERS: [(&str, &str); 1] =
    [("guest-prompts/sdk/src", "host/cli/templates/rust/sdk")];

/// Files, and their copies.
const COPIES: [(&str, &[&str]); 4] = [
    (
        "guest-prompts/sdk/Cargo.toml",
        &["host/cli/templates/rust/sdk/manifest.toml"],
    ),
    (
        "wit/prompts.wit",
        &[
            "host/sandbox/wit/prompts.wit",
            "guest-prompts/sdk/wit/prompts.wit",
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
            "guest-prompts/sdk/LICENSE",
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
    for (folder, copy) in COPIED_FOLDERS {
        let names = |folder: &str| -> BTreeSet<_> {
            let entries = std::fs::read_dir(root().join(folder)).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name());
            names.filter(|name| name != "manifest.toml").collect()
        };
        assert_eq!(
            names(folder),
            names(copy),
            "{copy} has other files than {folder}"
        );
        for name in names(folder) {
            let read = |folder: &str| std::fs::read(root().join(folder).join(&name)).unwrap();
            let is_current = read(folder) == read(copy);
            assert!(is_current, "{copy} is out of date: cp {folder}/* {copy}");
        }
    }
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

/// The platform on which the shipped pack is built. The bytes of a build depend on it, since
/// the names of functions contain a hash of the compiler.
const BUILD_PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// A build gives the same bytes only with the same compiler. With another one the shipped
/// pack must still behave as its source.
#[test]
fn the_standard_pack_is_current() {
    let built = guests::component("standard");
    let out_of_date = format!(
        "{SHIPPED_PACK} is out of date; in the root of the repository: cp {} {SHIPPED_PACK}",
        built.display()
    );
    assert_same_behaviour(&built, &out_of_date);
    let compiler = guests::compiler_version("rustc ");
    let shipped_by = compiler_of(STANDARD_WASM);
    if compiler != shipped_by || guests::compiler_version("host: ") != BUILD_PLATFORM {
        println!("compared the behaviour only: the pack was built by rustc {shipped_by}");
        return;
    }
    let is_equal = std::fs::read(&built).unwrap() == STANDARD_WASM;
    assert!(is_equal, "{out_of_date}");
}

#[test]
fn the_digest_of_the_standard_pack_is_current() {
    let digest = format!("{:x}", sha2::Sha256::digest(STANDARD_WASM));
    let file = format!("{SHIPPED_PACK}.sha256");
    assert!(
        std::fs::read_to_string(root().join(&file)).unwrap() == digest,
        "{file} is out of date: printf {digest} > {file}"
    );
}

/// Returns the version of the compiler that a pack names in its metadata.
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
                    versions.push(tool.version.to_owned());
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
    let is_path_char = |c: char| c.is_ascii_alphanumeric() || "/\\._-+:".contains(c);
    let mut count = 0;
    for (end, _) in text.match_indices(".rs") {
        let before = &text[..end];
        let start = before.rfind(|c| !is_path_char(c)).map_or(0, |at| at + 1);
        let path = &before[start..];
        // Paths follow each other without a separator.
        let prefixes = [
            "/rustc/",
            "/crates/",
            "guest-prompts/standard/src/",
            "guest-prompts/sdk/src/",
        ];
        let last = prefixes
            .iter()
            .filter_map(|prefix| path.rfind(prefix))
            .max();
        let last = last.unwrap_or_else(|| panic!("{path}.rs is a path of a machine"));
        let is_new = last == 0 || path[..last].ends_with(".rs");
        assert!(is_new, "{path}.rs is a path of a machine");
        count += 1;
    }
    assert!(count > 5);
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

    let cases = golden_cases()
        .into_iter()
        .chain(prompt_cases(&describe(&built)));
    for case in &cases.collect::<Vec<_>>() {
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
const PROCESSOR_CASES: [(&[(&str, &str)], &str); 5] = [
    (
        &[
            ("name", "note"),
            ("names", "plan"),
            ("all", "true"),
            ("lang", "rust|c"),
            ("count", "1"),
            ("from", "\n"),
            ("side", "end"),
            ("match", "prefix"),
            ("start", "#"),
            ("indent", "0"),
        ],
        "# a\n<plan>x</plan>\n```c\ny\n```\n<note>z</note>\n```rust\nw\n```\n  ",
    ),
    (
        &[
            ("open", "true"),
            ("quiet", "true"),
            ("start", "("),
            ("end", ")"),
        ],
        "hm</think>(a) <THINK>b",
    ),
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

/// Returns a request for each stock prompt, and for prompts with all properties.
fn prompt_cases(stock: &PackContents) -> Vec<ResolveRequest> {
    let stock_names = stock.prompts.iter().map(|prompt| prompt.name.as_str());
    let stock_cases = stock_names.map(|name| (name, "stock.toml", STOCK_PROMPTS));
    let own_cases = ["all", "all,plain", "wrong"].map(|name| (name, "p.toml", ALL_PROPERTIES));
    stock_cases
        .chain(own_cases)
        .map(|(name, file, text)| ResolveRequest {
            prompt: name.to_owned(),
            params: [("text", "T"), ("to", "French"), ("unused", "u")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .to_vec(),
            files: vec![text_file(file, text)],
            extra: vec![("optional-params".to_owned(), "unused".to_owned())],
            ..ResolveRequest::default()
        })
        .collect()
}

const ALL_PROPERTIES: &str = r#"
plain = "Then repeat: {{text}} {text}"
[all]
prompt = "{{plain}} in {{language}}"
system = "Write {{language}}."
defaults = { language = "English" }
post = ["tag:name=haiku,quiet=true", { name = "trim" }]
extension = "md"
temperature = 0.5
top_k = 3
stop = ["---"]
max_tokens = -1
reasoning = "low"
json_schema = { type = "object" }
other = { mirostat = 2 }
[wrong]
prompt = "x"
temperature = "warm"
"#;

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
        text: text.into(),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
