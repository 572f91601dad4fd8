//! One call into a guest, held to its limits, and what its failure means.

use std::time::Duration;

use wasmtime::{Store, Trap, WasmBacktrace};

use super::error::Cause;
use super::limits::Limit;
use super::wasi::{Exit, State};

/// How many functions of a trap's backtrace an error names.
const FRAMES: usize = 3;

/// Runs `call` with a CPU budget and a limit on what it copies out of the
/// guest; `key` is the middle of the limit's name in the config.
pub(super) fn guarded<R>(
    store: &mut Store<State>,
    budget: Duration,
    key: &'static str,
    input_bytes: usize,
    call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<R>,
) -> Result<R, Cause> {
    let call_bytes = store.data().limits().call_bytes_for(input_bytes);
    store.data_mut().meter.start(budget, key);
    store.set_hostcall_fuel(call_bytes);
    store.set_epoch_deadline(1);
    call(store).map_err(|error| cause(&error, store.data().meter.hit, call_bytes))
}

fn cause(error: &wasmtime::Error, hit: Option<Limit>, call_bytes: usize) -> Cause {
    if let Some(limit) = error.downcast_ref::<Limit>() {
        return Cause::Limit(*limit);
    }
    // A guest that is refused memory aborts with a trap of its own.
    if let Some(limit) = hit {
        return Cause::Limit(limit);
    }
    if let Some(Exit(status)) = error.downcast_ref::<Exit>() {
        return Cause::Exit(*status);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Cause::Stack,
        Some(trap) => Cause::Trap(match functions(error) {
            Some(functions) => format!("{trap}, in {functions}"),
            None => trap.to_string(),
        }),
        None => {
            let text = error.root_cause().to_string();
            // wasmtime has no public type for this error, so its text must do;
            // a test with a guest that returns too much holds it in place.
            if text.contains("too much data is being copied") {
                Cause::Limit(Limit::CallBytes(call_bytes))
            } else {
                Cause::Sandbox(text)
            }
        }
    }
}

/// The innermost functions of the guest, where it kept its names.
fn functions(error: &wasmtime::Error) -> Option<String> {
    let backtrace = error.downcast_ref::<WasmBacktrace>()?;
    let names: Vec<&str> = backtrace
        .frames()
        .iter()
        .filter_map(|frame| frame.func_name())
        .take(FRAMES)
        .collect();
    (!names.is_empty()).then(|| names.join(" < "))
}
