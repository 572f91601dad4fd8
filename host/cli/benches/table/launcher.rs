//! Starts a program and measures its time and memory, in a process of its own.
//!
//! On Linux the peak memory of a process is at least that of the process that started it. The
//! benchmark with its server is large, so it starts itself as a small launcher for every run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wait4::Wait4 as _;

use crate::timing::Failure;

/// The first argument of the launcher. A result file, a program and its arguments follow.
pub(crate) const FLAG: &str = "--launch";

/// Resources used by one run of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// User and system time of the program and of the processes that it waited for.
    pub(crate) cpu: Duration,
    pub(crate) peak_bytes: u64,
}

/// Runs a program with the environment and the streams of this process, and writes its cost and
/// its exit status to the result file.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let [result, program, args @ ..] = args else {
        return Err(format!("{FLAG} takes a result file and a program").into());
    };
    let start = Instant::now();
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .spawn()?;
    let used = child.wait4()?;
    let wall = start.elapsed();
    let cpu = used.rusage.utime + used.rusage.stime;
    let value = json!({
        "wall_s": wall.as_secs_f64(), "cpu_s": cpu.as_secs_f64(),
        "peak_bytes": used.rusage.maxrss,
        "failure": (!used.status.success()).then(|| used.status.to_string()),
    });
    std::fs::write(result, value.to_string())?;
    Ok(())
}

/// Reads a result file. Errors if the program failed.
pub(crate) fn read_cost(result: &Path) -> Result<Cost, Failure> {
    let value: Value = serde_json::from_slice(&std::fs::read(result)?)?;
    if let Some(failure) = value["failure"].as_str() {
        return Err(failure.into());
    }
    let seconds = |key: &str| {
        let seconds = value[key].as_f64().ok_or("result without a time")?;
        Ok::<_, Failure>(Duration::try_from_secs_f64(seconds)?)
    };
    Ok(Cost {
        wall: seconds("wall_s")?,
        cpu: seconds("cpu_s")?,
        peak_bytes: value["peak_bytes"].as_u64().unwrap_or_default(),
    })
}
