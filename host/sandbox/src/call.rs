//! Calls a guest function under its limits and classifies the failure.

use std::time::Duration;

use wasmtime::{Store, Trap, WasmBacktrace};

use super::error::GuestFailure;
use super::limits::LimitExceeded;
use super::wasi::{GuestExit, StoreState};

/// Number of functions of a trap's backtrace that an error lists.
const BACKTRACE_FRAMES: usize = 3;

/// Runs `call` with a CPU time limit and a limit on the bytes that it copies out of
/// the guest. `key` is the middle part of the time limit's config key.
pub(super) fn call_with_limits<R>(
    store: &mut Store<StoreState>,
    cpu_budget: Duration,
    key: &'static str,
    input_bytes: usize,
    call: impl FnOnce(&mut Store<StoreState>) -> wasmtime::Result<R>,
) -> Result<R, GuestFailure> {
    let call_bytes = store.data().limits().call_bytes_for(input_bytes);
    store.data_mut().meter.start(cpu_budget, key);
    store.set_hostcall_fuel(call_bytes);
    store.set_epoch_deadline(1);
    call(store).map_err(|error| classify_error(&error, store.data().meter.exceeded, call_bytes))
}

/// Converts an error of wasmtime. `exceeded` is the limit that the call exceeded, if
/// any.
fn classify_error(
    error: &wasmtime::Error,
    exceeded: Option<LimitExceeded>,
    call_bytes: usize,
) -> GuestFailure {
    if let Some(limit) = error.downcast_ref::<LimitExceeded>() {
        return GuestFailure::Limit(*limit);
    }
    // A guest aborts with its own trap when an allocation is denied.
    if let Some(limit) = exceeded {
        return GuestFailure::Limit(limit);
    }
    if let Some(GuestExit(status)) = error.downcast_ref::<GuestExit>() {
        return GuestFailure::Exit(*status);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => GuestFailure::StackOverflow,
        Some(trap) => GuestFailure::Trap(match innermost_functions(error) {
            Some(functions) => format!("{trap}, in {functions}"),
            None => trap.to_string(),
        }),
        None => {
            let text = error.root_cause().to_string();
            // wasmtime has no public type for this error, so its text is matched;
            // a test with a guest that returns too much data covers this.
            if text.contains("too much data is being copied") {
                GuestFailure::Limit(LimitExceeded::CallBytes(call_bytes))
            } else {
                GuestFailure::Sandbox(text)
            }
        }
    }
}

/// Returns the names of the innermost guest functions, or `None` if the component
/// has no name section.
fn innermost_functions(error: &wasmtime::Error) -> Option<String> {
    let backtrace = error.downcast_ref::<WasmBacktrace>()?;
    let names: Vec<&str> = backtrace
        .frames()
        .iter()
        .filter_map(|frame| frame.func_name())
        .take(BACKTRACE_FRAMES)
        .collect();
    (!names.is_empty()).then(|| names.join(" < "))
}
