//! Misbehaving packs: every call ends with an error within its limit, and the host continues
//! to work.

use std::sync::OnceLock;
use std::time::Duration;

use lmstrix_inference::FinishReason;
use lmstrix_sandbox::{
    CompiledPackCache, Compiler, Error, Pack, PackLoader, Processor, ProcessorContext,
    ResolveRequest, SandboxLimits, StopReason, TextFile,
};

use crate::guests::component;

/// The same time for every call.
fn limits(time: Duration) -> SandboxLimits {
    SandboxLimits {
        describe_time: time,
        resolve_time: time,
        push_time: time,
        finish_time: time,
        ..SandboxLimits::default()
    }
}

/// More time than a call takes on a slow machine, so that another limit ends it.
const PATIENT: Duration = Duration::from_secs(60);

/// Little time, for calls that only the limit of their time ends.
const IMPATIENT: Duration = Duration::from_millis(200);

fn pack_loader(limits: SandboxLimits) -> PackLoader {
    static CACHE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let cache = CACHE.get_or_init(|| tempfile::tempdir().unwrap());
    let cache = CompiledPackCache::new(cache.path().join("packs"));
    PackLoader::new(limits, cache, Compiler::InProcess, |_| {}).unwrap()
}

fn hostile_with_limits(limits: SandboxLimits) -> Pack {
    pack_loader(limits)
        .load_file(&component("hostile").with_file_name("lmstrix_test_hostile.wasm"))
        .unwrap()
}

fn hostile() -> Pack {
    hostile_with_limits(limits(PATIENT))
}

fn describe(pack: &Pack, misbehaviour: &str) -> Result<String, Error> {
    let file = TextFile {
        name: "describe".into(),
        display_path: String::new(),
        text: misbehaviour.into(),
    };
    pack.describe(&[file]).map(|contents| contents.summary)
}

fn resolve(pack: &Pack, prompt: &str) -> Result<lmstrix_sandbox::ResolvedPrompt, Error> {
    pack.resolve(&ResolveRequest {
        prompt: prompt.into(),
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

/// Misbehaviours that are possible in every function, and a part of their error messages.
const MISBEHAVIOURS: [(&str, &str); 11] = [
    ("trap", "this pack panics on purpose"),
    ("loop", "CPU time"),
    ("sleep", "waited for a clock"),
    ("poll", "CPU time"),
    ("exit", "called exit("),
    ("allocate", "memory limit of 64 MiB"),
    ("recurse", "stack overflow"),
    ("random", "random bytes"),
    ("files", "crashed: 0 of its files were opened"),
    ("sockets", "crashed: 0 of its sockets were opened"),
    ("handle", "handle"),
];

#[track_caller]
fn assert_guest_error<T>(
    result: Result<T, Error>,
    function: &str,
    misbehaviour: &str,
    message: &str,
) {
    let Err(error) = result else {
        panic!("{function} {misbehaviour} succeeded")
    };
    assert!(matches!(error, Error::Guest(_)), "{error:?}");
    let text = error.to_string();
    for part in [
        "pack `lmstrix_test_hostile`",
        &format!("failed in {function}"),
        message,
    ] {
        assert!(
            text.contains(part),
            "{function} {misbehaviour}: {part}\n{text}"
        );
    }
}

#[test]
fn misbehaviour_in_any_function_is_an_error_that_names_the_pack() {
    let patient = hostile();
    let impatient = hostile_with_limits(limits(IMPATIENT));
    for (misbehaviour, message) in MISBEHAVIOURS {
        let pack = match message {
            "CPU time" => &impatient,
            _ => &patient,
        };
        if misbehaviour != "handle" {
            assert_guest_error(
                describe(pack, misbehaviour),
                "describe",
                misbehaviour,
                message,
            );
            assert_guest_error(
                resolve(pack, misbehaviour),
                "resolve",
                misbehaviour,
                message,
            );
            assert_guest_error(
                open(pack, &format!("open:{misbehaviour}")).map(|_| ()),
                "open",
                misbehaviour,
                message,
            );
        }
        assert_guest_error(
            run(pack, &format!("push:{misbehaviour}"), &["a"]),
            "push",
            misbehaviour,
            message,
        );
        assert_guest_error(
            run(pack, &format!("finish:{misbehaviour}"), &["a"]),
            "finish",
            misbehaviour,
            message,
        );
        // The text is complete before the destructor runs, so its failure is a warning.
        let (text, dropped) = run(pack, &format!("drop:{misbehaviour}"), &["a", "b"]).unwrap();
        assert_eq!(text, "ab", "{misbehaviour}");
        // In the destructor the handle no longer exists; dropping it again is not an error.
        match dropped {
            Some(error) => {
                assert_guest_error::<()>(Err(error), "the destructor", misbehaviour, message)
            }
            None => assert_eq!(misbehaviour, "handle"),
        }
    }
    // The host continues to work.
    assert_eq!(run(&impatient, "pass", &["a", "b"]).unwrap().0, "ab");
}

#[test]
fn returned_values_are_limited_in_bytes_and_entries() {
    let pack = hostile();
    assert_guest_error(
        resolve(&pack, "overlap"),
        "resolve",
        "overlap",
        "4 MiB in one call",
    );
    assert_guest_error(
        resolve(&pack, "warnings"),
        "resolve",
        "warnings",
        "list of warnings has 2000 entries",
    );
    assert_guest_error(
        resolve(&pack, "no-messages"),
        "resolve",
        "no-messages",
        "has no messages",
    );
    assert_guest_error(
        run(&pack, "finish:warnings", &["a"]),
        "finish",
        "warnings",
        "2000 entries",
    );
    assert_guest_error(
        run(&pack, "multiply", &["abcdefgh"; 10]),
        "push",
        "multiply",
        "in total",
    );
    // A gigabyte needs a higher memory limit.
    let large = hostile_with_limits(SandboxLimits {
        memory_bytes: 2 << 30,
        ..limits(PATIENT)
    });
    for entry in ["push", "finish"] {
        assert_guest_error(
            run(&large, &format!("{entry}:gigabyte"), &["a"]),
            entry,
            "gigabyte",
            "4 MiB in one call",
        );
    }
    assert_guest_error(
        describe(&large, "gigabyte"),
        "describe",
        "gigabyte",
        "4 MiB in one call",
    );
    assert_guest_error(
        resolve(&large, "messages"),
        "resolve",
        "messages",
        "4 MiB in one call",
    );
    assert_guest_error(
        resolve(&large, "gigabyte"),
        "resolve",
        "gigabyte",
        "4 MiB in one call",
    );
}

#[test]
fn a_flood_of_stderr_output_is_not_an_error() {
    let pack = hostile_with_limits(SandboxLimits::default());
    assert!(describe(&pack, "flood").is_ok());
    assert!(resolve(&pack, "flood").is_ok());
    assert_eq!(run(&pack, "push:flood", &["a"]).unwrap().0, "a");
}

#[test]
fn a_pack_keeps_no_state_between_calls() {
    let pack = hostile();
    for _ in 0..3 {
        let resolved = resolve(&pack, "count").unwrap();
        assert_eq!(
            resolved.prompt,
            lmstrix_inference::Prompt::Chat(vec![lmstrix_inference::Message::new(
                lmstrix_inference::Role::User,
                "call 1",
            )])
        );
    }
}

#[test]
fn invalid_values_are_dropped_with_a_warning() {
    let pack = hostile();
    let resolved = resolve(&pack, "nan").unwrap();
    assert_eq!(resolved.settings.temperature, None);
    assert!(
        resolved
            .warnings
            .iter()
            .any(|warning| warning.contains("temperature")),
        "{resolved:?}"
    );
    // Executable extensions are not allowed.
    assert_eq!(resolved.extension, None);
    assert!(
        resolved
            .warnings
            .iter()
            .any(|warning| warning.contains("`exe`")),
        "{resolved:?}"
    );
}

#[test]
fn an_error_of_a_pack_is_reported_with_its_code() {
    assert_guest_error(
        resolve(&hostile(), "code"),
        "resolve",
        "code",
        "unsupported on purpose (code `E42`)",
    );
}

#[test]
fn the_split_of_chunks_does_not_change_the_output() {
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
fn misbehaviour_at_instantiation_is_a_load_error() {
    let patient = pack_loader(limits(PATIENT));
    let impatient = pack_loader(limits(IMPATIENT));
    let folder = tempfile::tempdir().unwrap();
    let load = |packs: &PackLoader, name: &str, module: &str| {
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
    for (name, module, message) in [
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
        let packs = match message {
            "CPU time" => &impatient,
            _ => &patient,
        };
        let text = load(packs, name, module);
        assert!(text.contains(message), "{name}: {text}");
        assert!(text.contains(&format!("pack `{name}`")), "{text}");
    }
}
