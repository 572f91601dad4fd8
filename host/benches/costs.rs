//! What the sandbox and the start of the program cost. Prints the median of
//! many batches for each, in microseconds:
//!
//! ```text
//! cargo bench --profile dev
//! ```
//!
//! (`--profile dev` uses what the first build has compiled already.)

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lmstrix_host::inference::Finish;
use lmstrix_host::pack::{Cache, Compiler, Limits, Packs, ProcessorContext, Stop};

use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// How many times each batch is run.
const BATCHES: usize = 51;

fn main() -> Result<(), Failure> {
    println!("what                                              median      least");
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
    registry(folder.path(), 1000)?;
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
    let cache = || Cache::new(folder.path().join("packs"));
    let packs = Packs::new(Limits::default(), cache(), Compiler::InProcess, |_| {})?;
    let standard = packs.standard()?;
    measure("load of a cached pack (the standard pack)", 1, || {
        black_box(packs.standard()?);
        Ok(())
    })?;
    measure("start of the sandbox and load of a cached pack", 1, || {
        let packs = Packs::new(Limits::default(), cache(), Compiler::InProcess, |_| {})?;
        black_box(packs.standard()?);
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
    processor.finish(&Stop::Finished(Finish::End))?;
    Ok(())
}

/// A registry of so many models, as runs and tests leave it.
fn registry(home: &Path, count: u32) -> Result<(), Failure> {
    let models: serde_json::Map<String, Value> = (0..count)
        .map(|it| {
            let samples = vec![20.5; 15];
            let model = json!({
                "architecture": "llama", "quantization": "Q4_K_M",
                "size_bytes": 1_000_000_000_u64 + u64::from(it), "declared_context": 131_072,
                "path": format!("publisher/repository-{it}/model-{it}-Q4_K_M.gguf"),
                "tested": {"context": 32_768, "level": "recalls", "complete": true, "at": "2026-01-01T00:00:00Z"},
                "trials": {"recalls": {"good": 32_768, "bad": 33_792, "why": "answered wrongly"}},
                "speeds": {"first_token_s": samples, "prefill": samples, "decode": samples, "load_s": samples},
                "tokens_per_byte": samples, "runs": it,
            });
            (format!("publisher/model-{it}"), model)
        })
        .collect();
    let registry = json!({"schema": 1, "engines": {"http://127.0.0.1:1234": {"kind": "lmstudio", "models": models}}});
    std::fs::create_dir_all(home.join("data"))?;
    std::fs::write(home.join("data/registry.json"), registry.to_string())?;
    Ok(())
}

/// Runs `work` in batches and prints the median and the least time of one run.
fn measure(
    what: &str,
    batch: u32,
    mut work: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut times = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..batch {
            work()?;
        }
        times.push(start.elapsed() / batch);
    }
    times.sort();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{what:<46} {:>8.1} µs {:>8.1} µs",
        us(times[BATCHES / 2]),
        us(times[0])
    );
    Ok(())
}
