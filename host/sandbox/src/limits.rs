//! Resource limits of a pack, and the meter that enforces them.
//!
//! Every limit can be changed in the config file. Time is measured as CPU time of
//! the calling thread, so that a busy machine does not cause failures; wall-clock
//! time is limited to ten times the CPU time.

use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer};
use wasmtime::ResourceLimiter;

/// Interval at which the time limit of a running guest is checked.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Wall-clock limit of a call, as a multiple of its CPU time limit.
const WALL_PER_CPU: u32 = 10;

/// Resource limits of a pack. The defaults were tested with packs written in Rust
/// and Python.
///
/// In a file they are a table whose keys have the units, such as `pack_push_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxLimits {
    /// Linear memory in bytes, summed over all memories of one store. QuickJS has
    /// three memories; CPython starts with 12 MiB.
    #[serde(rename = "pack_memory_bytes")]
    pub memory_bytes: usize,
    /// Table elements, summed over one store. CPython needs 5,700.
    #[serde(rename = "pack_table_elements")]
    pub table_elements: usize,
    /// The maximum number of instances, of memories and of tables in one store.
    /// QuickJS needs three memories; nested components multiply instances.
    #[serde(rename = "pack_instances")]
    pub instances: usize,
    /// CPU time of one instantiation, and of one `describe`.
    #[serde(rename = "pack_describe_ms", deserialize_with = "milliseconds")]
    pub describe_time: Duration,
    /// CPU time of one `resolve` or `open`, which may parse files.
    #[serde(rename = "pack_resolve_ms", deserialize_with = "milliseconds")]
    pub resolve_time: Duration,
    /// CPU time of one `push`, which delays the output of a token.
    #[serde(rename = "pack_push_ms", deserialize_with = "milliseconds")]
    pub push_time: Duration,
    /// CPU time of one `finish`, which may process the whole answer.
    #[serde(rename = "pack_finish_ms", deserialize_with = "milliseconds")]
    pub finish_time: Duration,
    /// Bytes that one call may copy out of the guest, or four times the size of
    /// the call's input, whichever is larger.
    #[serde(rename = "pack_call_bytes")]
    pub call_bytes: usize,
    /// Bytes that one processor may return in total, or eight times the size of
    /// its input, whichever is larger.
    #[serde(rename = "pack_output_bytes")]
    pub output_bytes: usize,
    /// Entries of each list that a pack returns.
    #[serde(rename = "pack_list_entries")]
    pub list_entries: usize,
    /// Live component handles in one store; a processor needs one.
    #[serde(rename = "pack_handles")]
    pub handles: usize,
    /// Size of a pack file in bytes. CPython with a prompt has 18 MB.
    #[serde(rename = "pack_file_bytes")]
    pub file_bytes: u64,
    /// Address space in bytes of the process that compiles a pack. An 18 MB
    /// component needed 410 MB of memory when measured.
    #[serde(rename = "pack_compile_memory_bytes")]
    pub compile_memory_bytes: u64,
    /// Wall-clock time of compiling a pack. An 18 MB component needs 15 s of CPU
    /// time.
    #[serde(rename = "pack_compile_seconds", deserialize_with = "seconds")]
    pub compile_time: Duration,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            instances: 64,
            describe_time: Duration::from_millis(100),
            resolve_time: Duration::from_secs(1),
            push_time: Duration::from_millis(250),
            finish_time: Duration::from_secs(1),
            call_bytes: 4 << 20,
            output_bytes: 4 << 20,
            list_entries: 1_000,
            handles: 1_024,
            file_bytes: 64 << 20,
            compile_memory_bytes: 4 << 30,
            compile_time: Duration::from_secs(180),
        }
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

/// Allowed output bytes per input byte of one call.
const CALL_BYTES_PER_INPUT_BYTE: usize = 4;
/// Allowed output bytes per input byte of a processor in total.
const OUTPUT_BYTES_PER_INPUT_BYTE: usize = 8;

impl SandboxLimits {
    /// Returns the number of bytes that a call with `input` bytes of input may copy
    /// out of the guest.
    pub(super) fn call_bytes_for(&self, input: usize) -> usize {
        self.call_bytes
            .max(input.saturating_mul(CALL_BYTES_PER_INPUT_BYTE))
    }

    /// Returns the number of bytes that a processor may have returned after
    /// receiving `input` bytes.
    pub(super) fn output_bytes_for(&self, input: usize) -> usize {
        self.output_bytes
            .max(input.saturating_mul(OUTPUT_BYTES_PER_INPUT_BYTE))
    }
}

/// The limit that a pack exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// Linear memory, in bytes.
    #[error("memory limit of {} exceeded (limits.pack_memory_bytes)", ByteSize(*.0 as u64))]
    Memory(usize),
    /// Table elements.
    #[error("table limit of {0} elements exceeded (limits.pack_table_elements)")]
    Table(usize),
    /// CPU time of one call, and the middle part of the limit's config key.
    #[error("CPU time limit of {} ms exceeded (limits.pack_{}_ms)", .0.as_millis(), .1)]
    CpuTime(Duration, &'static str),
    /// Wall-clock time of one call, and the middle part of the limit's config key.
    #[error("wall-clock limit of {} ms exceeded (ten times limits.pack_{}_ms)", .0.as_millis(), .1)]
    WallTime(Duration, &'static str),
    /// Bytes returned by one call.
    #[error("returned more than {} in one call (limits.pack_call_bytes)", ByteSize(*.0 as u64))]
    CallBytes(usize),
    /// Bytes of text returned by one processor in total.
    #[error("returned more than {} of text in total (limits.pack_output_bytes)", ByteSize(*.0 as u64))]
    Output(usize),
    /// Entries of one list.
    #[error("the list of {kind} has {len} entries, the limit is {max} (limits.pack_list_entries)")]
    List {
        /// Plural name of the entries, such as `prompts`.
        kind: &'static str,
        /// Number of entries.
        len: usize,
        /// Maximum number of entries.
        max: usize,
    },
}

/// A number of bytes, displayed in KiB or MiB if it is large.
pub struct ByteSize(pub u64);

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        match self.0 {
            n if n >= MIB && n.is_multiple_of(MIB) => write!(f, "{} MiB", n / MIB),
            n if n >= MIB => write!(f, "{:.1} MiB", n as f64 / MIB as f64),
            n if n >= KIB => write!(f, "{:.1} KiB", n as f64 / KIB as f64),
            n => write!(f, "{n} bytes"),
        }
    }
}

/// Enforces the limits of one store: its allocations and the time of its current
/// call.
#[derive(Debug)]
pub(super) struct Meter {
    limits: SandboxLimits,
    memory_bytes: usize,
    table_elements: usize,
    /// The limit exceeded most recently. It explains the plain `unreachable` trap
    /// with which most guests abort when an allocation is denied.
    pub(super) exceeded: Option<LimitExceeded>,
    call: Option<CurrentCall>,
}

/// The call that is running.
#[derive(Clone, Copy, Debug)]
struct CurrentCall {
    cpu_budget: Duration,
    /// Middle part of the limit's config key, such as `resolve`.
    key: &'static str,
    /// CPU time and wall-clock time at the call's first tick. Clocks are not read
    /// at the start of the call, because that would cost more than most calls;
    /// a call therefore gets up to one tick more than its budget.
    first_tick: Option<(Duration, Instant)>,
}

impl Meter {
    pub(super) fn new(limits: SandboxLimits) -> Self {
        Self {
            limits,
            memory_bytes: 0,
            table_elements: 0,
            exceeded: None,
            call: None,
        }
    }

    pub(super) fn limits(&self) -> &SandboxLimits {
        &self.limits
    }

    /// Starts the time limit of a call. `key` is the middle part of the limit's
    /// config key.
    pub(super) fn start(&mut self, cpu_budget: Duration, key: &'static str) {
        self.exceeded = None;
        self.call = Some(CurrentCall {
            cpu_budget,
            key,
            first_tick: None,
        });
    }

    /// Returns an error if the current call exceeded its time limit. Called at every
    /// epoch tick while the guest runs.
    pub(super) fn check_time(&mut self) -> Result<(), LimitExceeded> {
        let Some(call) = &mut self.call else {
            return Ok(());
        };
        let cpu_now = thread_cpu_time();
        let (cpu_start, wall_start) = *call
            .first_tick
            .get_or_insert_with(|| (cpu_now, Instant::now()));
        let cpu_used = cpu_now.saturating_sub(cpu_start);
        let wall_budget = call.cpu_budget * WALL_PER_CPU;
        let limit = if cpu_used > call.cpu_budget {
            LimitExceeded::CpuTime(call.cpu_budget, call.key)
        } else if wall_start.elapsed() > wall_budget {
            LimitExceeded::WallTime(wall_budget, call.key)
        } else {
            return Ok(());
        };
        self.exceeded = Some(limit);
        Err(limit)
    }

    /// Adds the growth from `current` to `desired` to `used` and returns true, unless
    /// the sum exceeds `limit`.
    fn grow(used: &mut usize, current: usize, desired: usize, limit: usize) -> bool {
        let new_total = used.saturating_add(desired.saturating_sub(current));
        let allowed = new_total <= limit;
        if allowed {
            *used = new_total;
        }
        allowed
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let limit = self.limits.memory_bytes;
        let allowed = Self::grow(&mut self.memory_bytes, current, desired, limit);
        if !allowed {
            self.exceeded = Some(LimitExceeded::Memory(limit));
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let limit = self.limits.table_elements;
        let allowed = Self::grow(&mut self.table_elements, current, desired, limit);
        if !allowed {
            self.exceeded = Some(LimitExceeded::Table(limit));
        }
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.instances
    }

    fn memories(&self) -> usize {
        self.limits.instances
    }
}

/// Returns the CPU time that the current thread has used.
#[cfg(unix)]
fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Without a per-thread CPU clock only the wall-clock limit applies.
#[cfg(not(unix))]
fn thread_cpu_time() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_summed_over_all_memories_of_a_store() {
        let mut meter = Meter::new(SandboxLimits {
            memory_bytes: 100,
            ..SandboxLimits::default()
        });
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(!meter.memory_growing(0, 60, None).unwrap());
        assert_eq!(meter.exceeded, Some(LimitExceeded::Memory(100)));
        assert!(meter.memory_growing(0, 40, None).unwrap());
        assert!(!meter.memory_growing(60, 61, None).unwrap());
    }

    #[test]
    fn byte_sizes_are_displayed_in_binary_units() {
        for (bytes, text) in [(12, "12 bytes"), (1536, "1.5 KiB"), (4 << 20, "4 MiB")] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}
