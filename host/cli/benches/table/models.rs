//! The embedded engine against a llama-server that lmstrix-host starts, on the same model file.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::compare::median_of;
use crate::machine::{Call, Machine};
use crate::model_files::{WEIGHT_TYPES, Weights, write_model};
use crate::peers::{Peer, Peers, variable};
use crate::report::{Figure, Row};
use crate::timing::Failure;

/// Each engine runs the prompt of each file this many times.
const ROUNDS: usize = 3;

/// The number of sentences of the prompt, of about 14 tokens each.
const SENTENCES: usize = 60;

/// The variable that names the model file whose weights are converted: one of the architecture
/// `llama`, such as SmolLM2 135M.
pub(crate) const MODEL_VARIABLE: &str = "LMSTRIX_BENCH_MODEL";

/// Tokens per second of one run.
#[derive(Clone, Copy, Debug)]
struct Speed {
    prompt: f64,
    decode: f64,
}

pub(crate) fn rows(peers: &Peers) -> Result<Vec<Row>, Failure> {
    let Some(source) = variable(MODEL_VARIABLE).map(PathBuf::from) else {
        return Ok(Vec::new());
    };
    let machine = Machine::new()?;
    let sentence = "The history of the city begins with a small settlement by the river. ";
    machine.write("prompt.txt", sentence.repeat(SENTENCES))?;
    let mut rows = Vec::new();
    for weight_type in WEIGHT_TYPES {
        let file = machine.folder().join(format!("{}.gguf", weight_type.name));
        let weights = match write_model(&source, weight_type, &file)? {
            Weights::OfSource => weight_type.name.to_owned(),
            Weights::Random => format!("{} (random weights)", weight_type.name),
        };
        rows.extend(rows_of_file(&machine, peers, &file, &weights)?);
        std::fs::remove_file(&file)?;
    }
    Ok(rows)
}

fn rows_of_file(
    machine: &Machine,
    peers: &Peers,
    file: &Path,
    weights: &str,
) -> Result<Vec<Row>, Failure> {
    let has_server = peers.path(Peer::LlamaServer).is_some();
    let (mut embedded, mut managed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        embedded.push(speed(machine, file, "embedded")?);
        if has_server {
            managed.push(speed(machine, file, "llama.cpp")?);
        }
    }
    let row = |what: &str, rate: fn(&Speed) -> f64| {
        let figure = |speeds: &[Speed]| {
            let rates: Vec<f64> = speeds.iter().map(rate).collect();
            median_of(rates).map(Figure::TokensPerSecond)
        };
        Row {
            what: format!("{what}, {weights}"),
            ours: figure(&embedded).into_iter().collect(),
            peer: Some((
                Peer::LlamaServer.name(),
                figure(&managed).into_iter().collect(),
            )),
            commands: vec![shown("embedded"), shown("llama.cpp")],
        }
    };
    Ok(vec![
        row("embedded engine: prompt", |speed| speed.prompt),
        row("embedded engine: decode", |speed| speed.decode),
    ])
}

fn shown(engine: &str) -> String {
    format!("lmstrix-host infer '{{{{text}}}}' --raw --text-file FILE -m FILE --engine {engine}")
}

/// Runs a prompt once and returns the speeds that its report gives.
fn speed(machine: &Machine, file: &Path, engine: &str) -> Result<Speed, Failure> {
    let file = file.to_string_lossy();
    let args = [
        "infer",
        "{{text}}",
        "--raw",
        "--text-file",
        "prompt.txt",
        "-m",
        &file,
        "--engine",
        engine,
        "--json",
        "--context",
        "2048",
        "--max-tokens",
        "48",
        "--temperature",
        "0",
        "--repeat-penalty",
        "1",
    ];
    machine.run(&Call::ours(&args, &shown(engine)))?;
    let report: Value = serde_json::from_str(&machine.stdout()?)?;
    let number = |pointer: &str| {
        let number = report.pointer(pointer).and_then(Value::as_f64);
        number.ok_or_else(|| Failure::from(format!("the report has no {pointer}")))
    };
    let first = number("/timings/first_token_s")?;
    Ok(Speed {
        prompt: number("/usage/prompt_tokens")? / (first - number("/timings/load_s")?),
        // The first token is a part of the prompt's time.
        decode: (number("/usage/completion_tokens")? - 1.0) / (number("/timings/total_s")? - first),
    })
}
