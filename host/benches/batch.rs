//! What a batch costs besides its models: 10,000 jobs of one token each at a
//! double of LM Studio, the same command again when all is done, and 80 jobs over
//! four slots.
//!
//! ```text
//! cargo bench --profile dev --bench batch
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "../../tests/servers/mod.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "the tests' double, which may stop where it likes"
)]
mod servers;

use servers::studio::{Answer, Model, Setup, Studio};

type Failure = Box<dyn std::error::Error>;

/// Jobs of the large batch.
const JOBS: usize = 10_000;
/// Jobs and slots of the small one.
const SLOTS: u32 = 4;
const OF_SLOTS: usize = 80;

/// What a run of the program took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    wall: Duration,
    /// Of the program alone; the server is another process.
    cpu_s: f64,
    peak_mib: f64,
}

fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir_all(folder.path().join("home"))?;
    let config = "[defaults]\ndiscover = false\n";
    std::fs::write(folder.path().join("home/config.toml"), config)?;
    let rows: String = (0..JOBS)
        .map(|it| format!("{{\"text\":\"word {it}\"}}\n"))
        .collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows)?;

    let studio = Studio::start(Setup {
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
        "{JOBS} jobs of one token: {:.2} s, {:.2} ms each ({:.2} ms of the program's own time), {:.0} MiB at most",
        cost.wall.as_secs_f64(),
        cost.wall.as_secs_f64() * 1e3 / f64::from(jobs),
        cost.cpu_s * 1e3 / f64::from(jobs),
        cost.peak_mib,
    );
    for _ in 0..3 {
        let cost = run(folder.path(), &args("out", "rows.jsonl"))?;
        println!(
            "the same again, all done: {:.2} s, {:.0} MiB at most",
            cost.wall.as_secs_f64(),
            cost.peak_mib
        );
    }
    drop(studio);

    let studio = Studio::start(Setup {
        models: vec![Model::llm("m", 32_768)],
        answer: Answer::Tokens(25),
        token_pause: Duration::from_millis(20),
        slots: Some(SLOTS),
        ..Setup::default()
    });
    let rows: String = (0..OF_SLOTS)
        .map(|it| format!("{{\"text\":\"word {it}\"}}\n"))
        .collect();
    std::fs::write(folder.path().join("eighty.jsonl"), rows)?;
    let rows: String = (0..8)
        .map(|it| format!("{{\"text\":\"word {it}\"}}\n"))
        .collect();
    std::fs::write(folder.path().join("eight.jsonl"), rows)?;
    let url = studio.url();
    for round in 0..3 {
        let args = |out: String, rows: &str, at_once: &str| {
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
                at_once,
            ]
            .map(str::to_owned)
            .to_vec()
        };
        let one = run(
            folder.path(),
            &args(format!("alone-{round}"), "eight.jsonl", "1"),
        )?;
        let all = run(
            folder.path(),
            &args(format!("slots-{round}"), "eighty.jsonl", "auto"),
        )?;
        // Eight jobs one after the other are eight jobs' time.
        let ideal = one.wall.as_secs_f64() / 8.0 * f64::from(u32::try_from(OF_SLOTS)? / SLOTS);
        println!(
            "{OF_SLOTS} jobs over {SLOTS} slots: {:.2} s, {:.3} of the ideal ({ideal:.2} s)",
            all.wall.as_secs_f64(),
            all.wall.as_secs_f64() / ideal,
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
        let seen = looked(child.id());
        cost.peak_mib = cost.peak_mib.max(seen.peak_mib);
        cost.cpu_s = cost.cpu_s.max(seen.cpu_s);
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

/// What Linux says of a process; elsewhere nothing.
fn looked(process: u32) -> Cost {
    let read = |what: &str| std::fs::read_to_string(format!("/proc/{process}/{what}"));
    let peak = read("status").ok().and_then(|it| {
        let line = it.lines().find(|it| it.starts_with("VmHWM:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    });
    // utime and stime, in hundredths of a second.
    let cpu = read("stat").ok().and_then(|it| {
        let rest = it.rsplit_once(") ")?.1.to_owned();
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
