//! Measures packs in several languages: each file must have the prompt `greet` and the processor
//! `upper` of `pack new`. Prints a line for each, with medians:
//!
//! ```text
//! cargo bench --profile dev --bench packs -- rust/hello.wasm js/hello.wasm
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod timing;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lmstrix_sandbox::{
    CompiledPackCache, Compiler, PackLoader, ProcessorContext, ResolveRequest, SandboxLimits,
};
use timing::{Failure, measure, median};

fn main() -> Result<(), Failure> {
    // Cargo passes `--bench`.
    let files = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"));
    let files: Vec<PathBuf> = files.map(PathBuf::from).collect();
    if files.is_empty() {
        println!("no files: cargo bench --bench packs -- FILE.wasm...");
        return Ok(());
    }
    println!(
        "file, size, compile, load from cache, open, resolve, push of 4 bytes, of 1,024 bytes"
    );
    for file in &files {
        measure_pack(file)?;
    }
    Ok(())
}

fn measure_pack(file: &Path) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let loader = || {
        let cache = CompiledPackCache::new(folder.path().join("packs"));
        PackLoader::new(SandboxLimits::default(), cache, Compiler::InProcess, |_| {})
    };
    let compiling = loader()?;
    let start = Instant::now();
    let pack = compiling.load_file(file)?;
    let compiled = start.elapsed();

    // Each loader keeps what it has loaded.
    let mut loaders = (0..100).map(|_| loader()).collect::<Result<Vec<_>, _>>()?;
    let loaded = measure(1, || {
        let fresh = loaders.pop().ok_or("too few loaders")?;
        black_box(fresh.load_file(file)?);
        Ok(())
    })?;
    let context = ProcessorContext {
        processor: "upper".to_owned(),
        ..ProcessorContext::default()
    };
    let opened = measure(5, || {
        black_box(pack.open(&context)?);
        Ok(())
    })?;
    let request = ResolveRequest {
        prompt: "greet".to_owned(),
        params: [("name", "Ada"), ("style", "friendly")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        ..ResolveRequest::default()
    };
    let resolved = measure(5, || {
        black_box(pack.resolve(&request)?);
        Ok(())
    })?;
    let kilobyte = "abcd".repeat(256);
    let push = |text: &str| {
        // A processor returns a limited amount of text in all.
        let mut processor = pack.open(&context)?;
        measure(20, || {
            black_box(processor.push(black_box(text))?);
            Ok(())
        })
    };
    let (short, long) = (push("abcd")?, push(&kilobyte)?);
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{}: {:.2} MB, {:.2} s, {:.1} ms, {:.0} µs, {:.0} µs, {:.1} µs, {:.1} µs",
        file.display(),
        std::fs::metadata(file)?.len() as f64 / 1e6,
        compiled.as_secs_f64(),
        us(median(&loaded)) / 1e3,
        us(median(&opened)),
        us(median(&resolved)),
        us(median(&short)),
        us(median(&long)),
    );
    Ok(())
}
