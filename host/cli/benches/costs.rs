//! Measures the start of the program, `list`, and the pack sandbox. Prints the
//! median and the minimum of many batches, in microseconds per call:
//!
//! ```text
//! cargo bench --profile dev
//! ```
//!
//! (`--profile dev` reuses the dependencies of the development build.)

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod timing;

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lmstrix_inference::FinishReason;
use lmstrix_sandbox::{
    CompiledPackCache, Compiler, PackLoader, ProcessorContext, SandboxLimits, StopReason,
};

use serde_json::{Value, json};

use timing::Failure;

fn main() -> Result<(), Failure> {
    println!("operation                                         median    minimum");
    let program = env!("CARGO_BIN_EXE_lmstrix-host");
    measure("start of `lmstrix-host --version`", 1, || {
        let status = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(status.to_string().into())
        }
    })?;

    let folder = tempfile::tempdir()?;
    write_registry(folder.path(), 1000)?;
    measure("`list` of 1,000 models", 1, || {
        let status = Command::new(program)
            .args(["list", "--sort", "smart"])
            .env("LMSTRIX_HOST_HOME", folder.path())
            .stdout(Stdio::null())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(status.to_string().into())
        }
    })?;
    let cache = || CompiledPackCache::new(folder.path().join("packs"));
    let packs = PackLoader::new(
        SandboxLimits::default(),
        cache(),
        Compiler::InProcess,
        |_| {},
    )?;
    let standard = packs.load_standard()?;
    measure("load of a cached pack (the standard pack)", 1, || {
        black_box(packs.load_standard()?);
        Ok(())
    })?;
    measure("start of the sandbox and load of a cached pack", 1, || {
        let packs = PackLoader::new(
            SandboxLimits::default(),
            cache(),
            Compiler::InProcess,
            |_| {},
        )?;
        black_box(packs.load_standard()?);
        Ok(())
    })?;

    let context = ProcessorContext {
        processor: "trim".to_owned(),
        ..Default::default()
    };
    measure("fresh store and instance, and `open`", 20, || {
        black_box(standard.open(&context)?);
        Ok(())
    })?;
    let mut processor = standard.open(&context)?;
    measure("`push` of 4 bytes", 1_000, || {
        black_box(processor.push(black_box("abcd"))?);
        Ok(())
    })?;
    let kilobyte = "abcd".repeat(256);
    measure("`push` of 1,024 bytes", 1_000, || {
        black_box(processor.push(black_box(&kilobyte))?);
        Ok(())
    })?;
    processor.finish(&StopReason::Finished(FinishReason::End))?;
    Ok(())
}

/// Writes a registry of `count` models with test results and speeds.
fn write_registry(home: &Path, count: u32) -> Result<(), Failure> {
    let models: serde_json::Map<String, Value> = (0..count)
        .map(|number| {
            let samples = vec![20.5; 15];
            let model = json!({
                "architecture": "llama", "quantization": "Q4_K_M",
                "size_bytes": 1_000_000_000_u64 + u64::from(number), "declared_context": 131_072,
                "path": format!("publisher/repository-{number}/model-{number}-Q4_K_M.gguf"),
                "tested": {"context": 32_768, "level": "recalls", "complete": true, "at": "2026-01-01T00:00:00Z"},
                "trials": {"recalls": {"good": 32_768, "bad": 33_792, "why": "answered wrongly"}},
                "speeds": {"first_token_s": samples, "prefill": samples, "decode": samples, "load_s": samples},
                "tokens_per_byte": samples, "runs": number,
            });
            (format!("publisher/model-{number}"), model)
        })
        .collect();
    let registry = json!({"schema": 1, "engines": {"http://127.0.0.1:1234": {"kind": "lmstudio", "models": models}}});
    std::fs::create_dir_all(home.join("data"))?;
    std::fs::write(home.join("data/registry.json"), registry.to_string())?;
    Ok(())
}

/// Prints the median and the minimum time of one call of `operation`.
fn measure(
    name: &str,
    calls: u32,
    operation: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let times = timing::measure(calls, operation)?;
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{name:<46} {:>8.1} µs {:>8.1} µs",
        us(timing::median(&times)),
        us(times[0])
    );
    Ok(())
}
