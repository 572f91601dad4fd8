//! The plan of a batch without its jobs: the growth of time and memory with the number of jobs.

use crate::compare;
use crate::machine::{Call, Machine};
use crate::peers::Peers;
use crate::report::{Figure, Row, times_and_memory};
use crate::servers::studio::{FakeStudio, Model, Setup};
use crate::timing::Failure;

/// The plan of 10,000 jobs is made this many times; that of 100,000 jobs once.
const ROUNDS: usize = 3;

pub(crate) fn rows(_: &Peers) -> Result<Vec<Row>, Failure> {
    let machine = Machine::new()?;
    let studio = FakeStudio::start(Setup {
        models: vec![Model::llm("m", 32_768)],
        ..Setup::default()
    });
    machine.write_rows("10k.jsonl", 10_000)?;
    machine.write_rows("100k.jsonl", 100_000)?;
    let url = studio.url();
    let call = |rows: &str| {
        let args = [
            "batch",
            "--dry-run",
            "-P",
            "Say {{text}}",
            "-m",
            "m",
            "--engine",
            &url,
            "--inputs",
            rows,
            "-o",
            "out",
        ];
        let shown = format!("lmstrix-host batch --dry-run -P PROMPT -m m --inputs {rows} -o out");
        Call::ours(&args, &shown)
    };
    let (small, large) = (call("10k.jsonl"), call("100k.jsonl"));
    compare::warm_up(&machine, &[&small])?;
    let small_cost = compare::one(&machine, ROUNDS, &small)?;
    let large_cost = compare::one(&machine, 1, &large)?;
    let factor = |large: f64, small: f64| Figure::Factor(large / small.max(1e-9));
    let factors = vec![
        factor(large_cost.wall.as_secs_f64(), small_cost.wall.as_secs_f64()),
        factor(large_cost.cpu.as_secs_f64(), small_cost.cpu.as_secs_f64()),
        factor(large_cost.peak_bytes as f64, small_cost.peak_bytes as f64),
    ];
    let row = |what: &str, cost, call: &Call| Row::ours(what, times_and_memory(cost), &call.shown);
    Ok(vec![
        row("batch --dry-run of 10,000 jobs", &small_cost, &small),
        row("batch --dry-run of 100,000 jobs", &large_cost, &large),
        Row::ours("100,000 jobs to 10,000 (linear: 10 times)", factors, ""),
    ])
}
