//! The pack sandbox, called as a library.

use std::hint::black_box;

use lmstrix_inference::FinishReason;
use lmstrix_sandbox::{
    CompiledPackCache, Compiler, PackLoader, ProcessorContext, SandboxLimits, StopReason,
};

use crate::peers::Peers;
use crate::report::{Figure, Row};
use crate::timing::{Failure, measure, median};

pub(crate) fn rows(_: &Peers) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir()?;
    let loader = || {
        let cache = CompiledPackCache::new(folder.path().join("packs"));
        PackLoader::new(SandboxLimits::default(), cache, Compiler::InProcess, |_| {})
    };
    let packs = loader()?;
    let standard = packs.load_standard()?;
    let context = ProcessorContext {
        processor: "trim".to_owned(),
        ..ProcessorContext::default()
    };
    let mut rows = vec![
        row("start of the sandbox and load of a cached pack", 1, || {
            black_box(loader()?.load_standard()?);
            Ok(())
        })?,
        row("new instance and `open` of a processor", 20, || {
            black_box(standard.open(&context)?);
            Ok(())
        })?,
    ];
    let mut processor = standard.open(&context)?;
    rows.push(row("`push` of 4 bytes", 1_000, || {
        black_box(processor.push(black_box("abcd"))?);
        Ok(())
    })?);
    let kilobyte = "abcd".repeat(256);
    rows.push(row("`push` of 1,024 bytes", 1_000, || {
        black_box(processor.push(black_box(&kilobyte))?);
        Ok(())
    })?);
    processor.finish(&StopReason::Finished(FinishReason::End))?;
    Ok(rows)
}

fn row(
    what: &str,
    calls: u32,
    operation: impl FnMut() -> Result<(), Failure>,
) -> Result<Row, Failure> {
    let times = measure(calls, operation)?;
    let time = Figure::WallSeconds(median(&times).as_secs_f64());
    Ok(Row::ours(&format!("sandbox: {what}"), vec![time], ""))
}
