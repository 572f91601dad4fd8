//! Batches: the cost of each job, a run of a finished batch, the use of all slots, and promptfoo.

use serde_json::json;

use crate::compare::{in_turn, one, rows};
use crate::launcher::Cost;
use crate::machine::{Call, Machine};
use crate::peers::{Peer, Peers};
use crate::report::{Figure, Row, memory, times_and_memory};
use crate::servers::studio::{Answer, FakeStudio, Model, Setup};
use crate::timing::Failure;

/// Each batch runs this many times.
const ROUNDS: usize = 3;
/// Slots of the server.
const SLOTS: u32 = 4;
/// Jobs of the large batch.
const JOBS: u32 = 10_000;
/// Jobs of the batch that promptfoo runs, too.
const SMALL_JOBS: u32 = 100;
/// Jobs of the batch that uses all slots.
const SLOT_JOBS: u32 = 80;
/// Jobs of the batch that uses one slot.
const SEQUENTIAL_JOBS: u32 = 8;

/// Measures a large batch, and the same command when all jobs are done.
pub(crate) fn large(_: &Peers) -> Result<Vec<Row>, Failure> {
    let machine = machine()?;
    let studio = FakeStudio::start(setup());
    machine.write_rows("one.jsonl", 1)?;
    machine.write_rows("rows.jsonl", JOBS as usize)?;
    let call = |rows: &str, out: &str| batch(&studio.url(), rows, out, "auto");
    // The first run compiles the standard pack.
    machine.run(&call("one.jsonl", "first"))?;
    let jobs = call("rows.jsonl", "out-{run}");
    let cost = one(&machine, ROUNDS, &jobs)?;
    let finished = call("rows.jsonl", "out");
    machine.run(&finished)?;
    let resumed = one(&machine, ROUNDS, &finished)?;

    let mut figures = per_job(&cost, JOBS);
    figures.push(memory(&cost));
    let what = "batch of 10,000 jobs of one token, per job";
    let run = Row::ours(what, figures, &jobs.shown);
    let what = "batch of 10,000 jobs, run of the finished batch";
    let resumed = Row::ours(what, times_and_memory(&resumed), &finished.shown);
    Ok(vec![run, resumed])
}

/// Measures jobs of half a second on four slots. The ideal is the time of a job that runs alone,
/// times the jobs of a slot.
pub(crate) fn slots(_: &Peers) -> Result<Vec<Row>, Failure> {
    let machine = machine()?;
    let studio = FakeStudio::start(Setup {
        answer: Answer::Tokens(25),
        token_pause: std::time::Duration::from_millis(20),
        ..setup()
    });
    machine.write_rows("one.jsonl", 1)?;
    machine.write_rows("eight.jsonl", SEQUENTIAL_JOBS as usize)?;
    machine.write_rows("eighty.jsonl", SLOT_JOBS as usize)?;
    let call = |rows: &str, out: &str, jobs: &str| batch(&studio.url(), rows, out, jobs);
    machine.run(&call("one.jsonl", "first", "1"))?;
    let alone = call("eight.jsonl", "out-{run}", "1");
    let concurrent = call("eighty.jsonl", "out-{run}", "auto");
    let costs = in_turn(&machine, ROUNDS, &[&alone, &concurrent])?;
    let [alone, cost] = costs.as_slice() else {
        return Err("two commands have two costs".into());
    };
    let job_s = alone.wall.as_secs_f64() / f64::from(SEQUENTIAL_JOBS);
    let ideal_s = job_s * f64::from(SLOT_JOBS / SLOTS);
    Ok(vec![Row {
        what: "batch of 80 jobs on four slots".to_owned(),
        ours: vec![Figure::WallSeconds(cost.wall.as_secs_f64())],
        peer: Some(("ideal", vec![Figure::WallSeconds(ideal_s)])),
        commands: vec![concurrent.shown],
    }])
}

/// Measures a small batch side by side with promptfoo.
pub(crate) fn small(peers: &Peers) -> Result<Vec<Row>, Failure> {
    let machine = machine()?;
    let studio = FakeStudio::start(setup());
    let url = studio.url();
    machine.write_rows("rows.jsonl", SMALL_JOBS as usize)?;
    let tests = (0..SMALL_JOBS).map(|number| json!({"vars": {"text": format!("word {number}")}}));
    let provider = json!({"id": "openai:chat:m", "config": {"apiBaseUrl": format!("{url}/v1")}});
    let config = json!({
        "prompts": ["Say {{text}}"], "providers": [provider], "tests": tests.collect::<Vec<_>>(),
    });
    machine.write("promptfoo.json", config.to_string())?;
    let args = [
        "eval",
        "-c",
        "promptfoo.json",
        "--no-cache",
        "--no-write",
        "--no-progress-bar",
        "-j",
        "4",
        "-o",
        "promptfoo-out.jsonl",
    ];
    let shown = "promptfoo eval -c CONFIG --no-cache --no-write -j 4 -o OUT";
    let promptfoo = peers.call(Peer::Promptfoo, &args, shown);
    let ours = batch(&url, "rows.jsonl", "out-{run}", "4");
    let what = "batch of 100 jobs of one token, per job with the start";
    rows(&machine, what, ROUNDS, (&ours, &[promptfoo]), |cost| {
        let mut figures = per_job(cost, SMALL_JOBS);
        figures.push(memory(cost));
        figures
    })
}

fn machine() -> Result<Machine, Failure> {
    let machine = Machine::new()?;
    machine.write("home/config.toml", "[defaults]\ndiscover = false\n")?;
    Ok(machine)
}

fn setup() -> Setup {
    Setup {
        models: vec![Model::llm("m", 32_768)],
        answer: Answer::Tokens(1),
        slots: Some(SLOTS),
        ..Setup::default()
    }
}

fn batch(url: &str, rows: &str, out: &str, concurrency: &str) -> Call {
    let args = [
        "batch",
        "-P",
        "Say {{text}}",
        "-m",
        "m",
        "--engine",
        url,
        "--inputs",
        rows,
        "-o",
        out,
        "-j",
        concurrency,
    ];
    let shown = format!(
        "lmstrix-host batch -P PROMPT -m m --engine URL --inputs {rows} -o OUT -j {concurrency}"
    );
    Call::ours(&args, &shown)
}

fn per_job(cost: &Cost, jobs: u32) -> Vec<Figure> {
    vec![
        Figure::WallSeconds(cost.wall.as_secs_f64() / f64::from(jobs)),
        Figure::CpuSeconds(cost.cpu.as_secs_f64() / f64::from(jobs)),
    ]
}
