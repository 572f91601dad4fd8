//! The list of many saved models.

use serde_json::{Value, json};

use crate::compare;
use crate::machine::{Call, Machine};
use crate::peers::Peers;
use crate::report::{Row, times_and_memory};
use crate::timing::Failure;

/// The list is printed this many times.
const ROUNDS: usize = 15;

pub(crate) fn rows(_: &Peers) -> Result<Vec<Row>, Failure> {
    let machine = Machine::new()?;
    write_registry(&machine, 1000)?;
    let shown = "lmstrix-host list --sort smart";
    let call = Call::ours(&["list", "--sort", "smart"], shown).expecting("model-999");
    let what = "list of 1,000 models";
    compare::rows(&machine, what, ROUNDS, (&call, &[]), times_and_memory)
}

/// Writes a registry of `count` models with test results and speeds.
fn write_registry(machine: &Machine, count: u32) -> Result<(), Failure> {
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
    machine.write("home/data/registry.json", registry.to_string())
}
