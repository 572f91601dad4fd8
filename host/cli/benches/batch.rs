//! Measures the overhead of a batch with a mock LM Studio server: 10,000 jobs of
//! one token each, a second run of the finished batch, and 80 jobs on four slots.
//!
//! ```text
//! cargo bench --profile dev --bench batch
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "../../../tests/servers/mod.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "mock server of the tests, which may panic"
)]
mod servers;

use servers::studio::{Answer, FakeStudio, Model, Setup};

type Failure = Box<dyn std::error::Error>;

/// Jobs of the large batch.
const JOBS: usize = 10_000;
/// Slots of the server.
const SLOTS: u32 = 4;
/// Jobs of the batch that uses all slots.
const SLOT_JOBS: usize = 80;

/// Resources used by one run of the program.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    wall: Duration,
    /// CPU time of the program without the server.
    cpu_s: f64,
    peak_mib: f64,
}

fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir_all(folder.path().join("home"))?;
    let config = "[defaults]\ndiscover = false\n";
    std::fs::write(folder.path().join("home/config.toml"), config)?;
    let rows: String = (0..JOBS)
        .map(|number| format!("{{\"text\":\"word {number}\"}}\n"))
        .collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows)?;

    let studio = FakeStudio::start(Setup {
        models: vec![Model::llm("m", 32_768)],
        answer: Answer::Tokens(1),
        slots: Some(SLOTS),
        ..Setup::default()
    });
    let args = |out: &'static str, rows: &'static str| {
        let url = studio.url();
        [
            "batch",
            "-P",
            "Say {{text}}",
            "-m",
            "m",
            "--engine",
            &url,
            "--inputs",
            rows,
            "-o",
            out,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let jobs = u32::try_from(JOBS)?;
    // The first run compiles the standard pack.
    std::fs::write(folder.path().join("one.jsonl"), "{\"text\":\"x\"}\n")?;
    run(folder.path(), &args("warm", "one.jsonl"))?;
    let cost = run(folder.path(), &args("out", "rows.jsonl"))?;
    println!(
        "{JOBS} jobs of one token: {:.2} s, {:.2} ms each ({:.2} ms CPU), {:.0} MiB peak",
        cost.wall.as_secs_f64(),
        cost.wall.as_secs_f64() * 1e3 / f64::from(jobs),
        cost.cpu_s * 1e3 / f64::from(jobs),
        cost.peak_mib,
    );
    for _ in 0..3 {
        let cost = run(folder.path(), &args("out", "rows.jsonl"))?;
        println!(
            "run of the finished batch: {:.2} s, {:.0} MiB peak",
            cost.wall.as_secs_f64(),
            cost.peak_mib
        );
    }
    drop(studio);

    let studio = FakeStudio::start(Setup {
        models: vec![Model::llm("m", 32_768)],
        answer: Answer::Tokens(25),
        token_pause: Duration::from_millis(20),
        slots: Some(SLOTS),
        ..Setup::default()
    });
    let rows: String = (0..SLOT_JOBS)
        .map(|number| format!("{{\"text\":\"word {number}\"}}\n"))
        .collect();
    std::fs::write(folder.path().join("eighty.jsonl"), rows)?;
    let rows: String = (0..8)
        .map(|number| format!("{{\"text\":\"word {number}\"}}\n"))
        .collect();
    std::fs::write(folder.path().join("eight.jsonl"), rows)?;
    let url = studio.url();
    for round in 0..3 {
        let args = |out: String, rows: &str, concurrency: &str| {
            [
                "batch",
                "-P",
                "Say {{text}}",
                "-m",
                "m",
                "--engine",
                &url,
                "--inputs",
                rows,
                "-o",
                &out,
                "-j",
                concurrency,
            ]
            .map(str::to_owned)
            .to_vec()
        };
        let sequential = run(
            folder.path(),
            &args(format!("alone-{round}"), "eight.jsonl", "1"),
        )?;
        let concurrent = run(
            folder.path(),
            &args(format!("slots-{round}"), "eighty.jsonl", "auto"),
        )?;
        // The sequential run has eight jobs.
        let ideal =
            sequential.wall.as_secs_f64() / 8.0 * f64::from(u32::try_from(SLOT_JOBS)? / SLOTS);
        println!(
            "{SLOT_JOBS} jobs on {SLOTS} slots: {:.2} s, {:.3} of the ideal ({ideal:.2} s)",
            concurrent.wall.as_secs_f64(),
            concurrent.wall.as_secs_f64() / ideal,
        );
    }
    Ok(())
}

fn run(folder: &Path, args: &[String]) -> Result<Cost, Failure> {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lmstrix-host"))
        .args(args)
        .env_clear()
        .env("LMSTRIX_HOST_HOME", folder.join("home"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut cost = Cost::default();
    loop {
        let current = process_cost(child.id());
        cost.peak_mib = cost.peak_mib.max(current.peak_mib);
        cost.cpu_s = cost.cpu_s.max(current.cpu_s);
        if let Some(status) = child.try_wait()? {
            cost.wall = start.elapsed();
            if !status.success() {
                return Err(format!("the batch ended with {status}").into());
            }
            return Ok(cost);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads the CPU time and peak memory of a process from `/proc`. Both are 0 on
/// other systems than Linux.
fn process_cost(process: u32) -> Cost {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}"));
    let peak = read("status").ok().and_then(|status| {
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    });
    // utime and stime, in hundredths of a second.
    let cpu = read("stat").ok().and_then(|stat| {
        let rest = stat.rsplit_once(") ")?.1.to_owned();
        let fields: Vec<f64> = rest
            .split(' ')
            .skip(11)
            .take(2)
            .flat_map(str::parse)
            .collect();
        Some(fields.iter().sum::<f64>() / 100.0)
    });
    Cost {
        wall: Duration::ZERO,
        cpu_s: cpu.unwrap_or(0.0),
        peak_mib: peak.unwrap_or(0.0) / 1024.0,
    }
}
