//! Packs that misbehave, at every entry: each ends in a clear error within its
//! limit, and the host goes on.

use std::sync::OnceLock;
use std::time::Duration;

use lmstrix_host::inference::FinishReason;
use lmstrix_host::pack::{
    CompiledPackCache, Compiler, Error, Pack, PackLoader, Processor, ProcessorContext,
    ResolveRequest, SandboxLimits, StopReason, TextFile,
};

use crate::guests::component;

/// Small, so that the tests do not wait; far above what honest packs need.
fn limits() -> SandboxLimits {
    SandboxLimits {
        describe_time: Duration::from_millis(200),
        resolve_time: Duration::from_millis(200),
        push_time: Duration::from_millis(200),
        finish_time: Duration::from_millis(200),
        ..SandboxLimits::default()
    }
}

fn packs(limits: SandboxLimits) -> PackLoader {
    static CACHE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let cache = CACHE.get_or_init(|| tempfile::tempdir().unwrap());
    let cache = CompiledPackCache::new(cache.path().join("packs"));
    PackLoader::new(limits, cache, Compiler::InProcess, |_| {}).unwrap()
}

fn hostile_within(limits: SandboxLimits) -> Pack {
    packs(limits)
        .load_file(&component("hostile").with_file_name("lmstrix_test_hostile.wasm"))
        .unwrap()
}

fn hostile() -> Pack {
    hostile_within(limits())
}

fn describe(pack: &Pack, what: &str) -> Result<String, Error> {
    let file = TextFile {
        name: "describe".into(),
        display_path: String::new(),
        text: what.into(),
    };
    pack.describe(&[file]).map(|it| it.summary)
}

fn resolve(pack: &Pack, what: &str) -> Result<lmstrix_host::pack::ResolvedPrompt, Error> {
    pack.resolve(&ResolveRequest {
        prompt: what.into(),
        ..ResolveRequest::default()
    })
}

fn open(pack: &Pack, name: &str) -> Result<Processor, Error> {
    pack.open(&ProcessorContext {
        processor: name.into(),
        ..ProcessorContext::default()
    })
}

fn run(pack: &Pack, name: &str, chunks: &[&str]) -> Result<(String, Option<Error>), Error> {
    let mut processor = open(pack, name)?;
    let mut text = String::new();
    for chunk in chunks {
        let pushed = processor.push(chunk)?;
        text.push_str(&pushed.text);
        if pushed.done {
            break;
        }
    }
    let (outcome, dropped) = processor.finish(&StopReason::Finished(FinishReason::End))?;
    Ok((text + &outcome.tail, dropped))
}

/// What works at every entry, and what the error says.
const EVERYWHERE: [(&str, &str); 9] = [
    ("trap", "this pack panics on purpose"),
    ("loop", "CPU time"),
    ("sleep", "waited for a clock"),
    ("poll", "CPU time"),
    ("exit", "called exit("),
    ("allocate", "memory limit of 64 MiB"),
    ("recurse", "stack overflow"),
    ("random", "random bytes"),
    ("handle", "handle"),
];

#[track_caller]
fn check<T>(result: Result<T, Error>, function: &str, asked: &str, says: &str) {
    let Err(error) = result else {
        panic!("{function} {asked} succeeded")
    };
    assert!(matches!(error, Error::Guest(_)), "{error:?}");
    let text = error.to_string();
    for part in [
        "pack `lmstrix_test_hostile`",
        &format!("failed in {function}"),
        says,
    ] {
        assert!(text.contains(part), "{function} {asked}: {part}\n{text}");
    }
}

#[test]
fn every_misbehaviour_at_every_entry_is_a_signed_error() {
    let pack = hostile();
    for (what, says) in EVERYWHERE {
        if what != "handle" {
            check(describe(&pack, what), "describe", what, says);
            check(resolve(&pack, what), "resolve", what, says);
            check(
                open(&pack, &format!("open:{what}")).map(|_| ()),
                "open",
                what,
                says,
            );
        }
        check(
            run(&pack, &format!("push:{what}"), &["a"]),
            "push",
            what,
            says,
        );
        check(
            run(&pack, &format!("finish:{what}"), &["a"]),
            "finish",
            what,
            says,
        );
        // By the time of the destructor the text is whole, so it is a warning.
        let (text, dropped) = run(&pack, &format!("drop:{what}"), &["a", "b"]).unwrap();
        assert_eq!(text, "ab", "{what}");
        // The handle is gone by then, whoever dropped it.
        match dropped {
            Some(error) => check::<()>(Err(error), "the destructor", what, says),
            None => assert_eq!(what, "handle"),
        }
    }
    // The host goes on.
    assert_eq!(run(&pack, "pass", &["a", "b"]).unwrap().0, "ab");
}

#[test]
fn what_comes_back_is_limited_in_bytes_and_entries() {
    let pack = hostile();
    check(
        resolve(&pack, "overlap"),
        "resolve",
        "overlap",
        "4 MiB in one call",
    );
    check(
        resolve(&pack, "warnings"),
        "resolve",
        "warnings",
        "list of warnings has 2000 entries",
    );
    check(
        resolve(&pack, "no-messages"),
        "resolve",
        "no-messages",
        "has no messages",
    );
    check(
        run(&pack, "finish:warnings", &["a"]),
        "finish",
        "warnings",
        "2000 entries",
    );
    check(
        run(&pack, "multiply", &["abcdefgh"; 10]),
        "push",
        "multiply",
        "in total",
    );
    // A gigabyte needs a pack that may have one.
    let roomy = hostile_within(SandboxLimits {
        memory_bytes: 2 << 30,
        ..limits()
    });
    for entry in ["push", "finish"] {
        check(
            run(&roomy, &format!("{entry}:gigabyte"), &["a"]),
            entry,
            "gigabyte",
            "4 MiB in one call",
        );
    }
    check(
        describe(&roomy, "gigabyte"),
        "describe",
        "gigabyte",
        "4 MiB in one call",
    );
    check(
        resolve(&roomy, "messages"),
        "resolve",
        "messages",
        "4 MiB in one call",
    );
    check(
        resolve(&roomy, "gigabyte"),
        "resolve",
        "gigabyte",
        "4 MiB in one call",
    );
}

#[test]
fn a_flood_on_stderr_costs_its_own_time_only() {
    let pack = hostile_within(SandboxLimits::default());
    assert!(describe(&pack, "flood").is_ok());
    assert!(resolve(&pack, "flood").is_ok());
    assert_eq!(run(&pack, "push:flood", &["a"]).unwrap().0, "a");
}

#[test]
fn no_state_survives_a_call() {
    let pack = hostile();
    for _ in 0..3 {
        let resolved = resolve(&pack, "count").unwrap();
        assert_eq!(
            resolved.prompt,
            lmstrix_host::inference::Prompt::Chat(vec![lmstrix_host::inference::Message {
                role: lmstrix_host::inference::Role::User,
                content: "call 1".into(),
            }])
        );
    }
}

#[test]
fn odd_values_are_dropped_with_a_warning() {
    let pack = hostile();
    let resolved = resolve(&pack, "nan").unwrap();
    assert_eq!(resolved.settings.temperature, None);
    assert!(
        resolved
            .warnings
            .iter()
            .any(|it| it.contains("temperature")),
        "{resolved:?}"
    );
    // Nobody gets an .exe.
    assert_eq!(resolved.extension, None);
    assert!(
        resolved.warnings.iter().any(|it| it.contains("`exe`")),
        "{resolved:?}"
    );
}

#[test]
fn a_pack_may_answer_that_it_does_not_want_to() {
    check(
        resolve(&hostile(), "code"),
        "resolve",
        "code",
        "I do not want to (code `E42`)",
    );
}

#[test]
fn splitting_oddly_changes_nothing() {
    let pack = hostile();
    for chunks in [
        &["aä漢🙂b"][..],
        &["a", "ä", "漢", "🙂", "b"],
        &["", "aä", "", "漢🙂b", ""],
    ] {
        for name in ["odd", "hold", "pass"] {
            assert_eq!(
                run(&pack, name, chunks).unwrap().0,
                "aä漢🙂b",
                "{name} {chunks:?}"
            );
        }
    }
}

#[test]
fn a_module_that_misbehaves_as_it_starts_is_ended() {
    let packs = packs(limits());
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str, module: &str| {
        let wat = format!(
            r#"(component
                 (core module $m {module})
                 (core instance (instantiate $m))
                 (instance $i)
                 (export "lmstrix:prompts/catalog@0.1.0" (instance $i)))"#
        );
        let path = folder.path().join(format!("{name}.wasm"));
        std::fs::write(&path, wat::parse_str(wat).unwrap()).unwrap();
        let error = packs.load_file(&path).unwrap_err();
        assert!(matches!(error, Error::Load { .. }), "{error:?}");
        error.to_string()
    };
    for (name, module, says) in [
        ("quiet", "", "differ from lmstrix:prompts@0.1.0"),
        ("loop", "(func $f (loop br 0)) (start $f)", "CPU time"),
        ("trap", "(func $f unreachable) (start $f)", "crashed ("),
        ("recurse", "(func $f call $f) (start $f)", "stack overflow"),
        ("memory", "(memory 2000)", "memory limit of 64 MiB"),
        (
            "memories",
            "(memory 600) (memory 600)",
            "memory limit of 64 MiB",
        ),
        (
            "table",
            "(table 200000 funcref)",
            "table limit of 100000 elements",
        ),
        (
            "grow",
            "(memory 1) (func $f (if (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)) (then unreachable))) (start $f)",
            "memory limit of 64 MiB",
        ),
    ] {
        let text = load(name, module);
        assert!(text.contains(says), "{name}: {text}");
        assert!(text.contains(&format!("pack `{name}`")), "{text}");
    }
}
