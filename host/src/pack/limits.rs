//! How much a pack may use, and the meter that holds it to that.
//!
//! Every number has a name and a reason, and the config can change it. Time is
//! counted as CPU time of the calling thread, so that a loaded machine does not
//! make a good pack look bad; ten times that on the clock is the backstop.

use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;

/// How often the clock of a running guest is looked at.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Wall time may be this many times the CPU budget before a call is ended.
const WALL_PER_CPU: u32 = 10;

/// What a pack may use. The defaults were tried with packs in Rust and Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, summed over all memories of one store, in bytes. QuickJS
    /// has three memories and CPython starts with 12 MiB.
    pub memory_bytes: usize,
    /// Table elements, summed over one store. CPython needs 5,700.
    pub table_elements: usize,
    /// Instances, memories and tables in one store, each. QuickJS needs three
    /// memories; nested components multiply instances.
    pub instances: usize,
    /// CPU time of instantiating, and of one `describe`.
    pub describe_time: Duration,
    /// CPU time of one `resolve` or `open`, which may parse a user's file.
    pub resolve_time: Duration,
    /// CPU time of one `push`, which stands between a token and the screen.
    pub push_time: Duration,
    /// CPU time of one `finish`, which may work on the whole answer.
    pub finish_time: Duration,
    /// Bytes copied out of the guest in one call, at the least; four times the
    /// call's input is allowed when that is more.
    pub call_bytes: usize,
    /// Bytes that one processor may give in total, at the least; eight times
    /// what it was given is allowed when that is more.
    pub output_bytes: usize,
    /// Entries of any list that a pack returns.
    pub list_entries: usize,
    /// Live handles in one store; one processor needs one.
    pub handles: usize,
    /// Size of a pack's file, in bytes. CPython with a prompt is 18 MB.
    pub file_bytes: u64,
    /// Address space of the process that compiles a pack. An 18 MB component
    /// was seen to need 410 MB of memory.
    pub compile_memory_bytes: u64,
    /// How long compiling may take on the clock. An 18 MB component needs 15 s
    /// of CPU time.
    pub compile_time: Duration,
    /// How much of a pack's stdout and stderr is kept for error messages.
    pub stderr_bytes: usize,
}

impl Default for Limits {
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
            stderr_bytes: 16 << 10,
        }
    }
}

/// Times more output than input that a call may give.
const CALL_BYTES_PER_INPUT_BYTE: usize = 4;
/// Times more text than it was given that a processor may give in total.
const OUTPUT_BYTES_PER_INPUT_BYTE: usize = 8;

impl Limits {
    /// Bytes that a call with `input` bytes may copy out of the guest.
    pub(super) fn call_bytes_for(&self, input: usize) -> usize {
        self.call_bytes
            .max(input.saturating_mul(CALL_BYTES_PER_INPUT_BYTE))
    }

    /// Bytes that a processor may have given after it took `input` bytes.
    pub(super) fn output_bytes_for(&self, input: usize) -> usize {
        self.output_bytes
            .max(input.saturating_mul(OUTPUT_BYTES_PER_INPUT_BYTE))
    }
}

/// The limit that a pack ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// Linear memory.
    #[error("it wanted more than {} of memory (limits.pack_memory_bytes)", Bytes(*.0 as u64))]
    Memory(usize),
    /// Table elements.
    #[error("it wanted tables of more than {0} elements (limits.pack_table_elements)")]
    Table(usize),
    /// CPU time of one call.
    #[error("it ran for more than {} ms of CPU time (limits.pack_{}_ms)", .0.as_millis(), .1)]
    CpuTime(Duration, &'static str),
    /// Time on the clock of one call.
    #[error("it ran for more than {} ms (ten times limits.pack_{}_ms)", .0.as_millis(), .1)]
    WallTime(Duration, &'static str),
    /// Bytes out of one call.
    #[error("it returned more than {} in one call (limits.pack_call_bytes)", Bytes(*.0 as u64))]
    CallBytes(usize),
    /// Text of one processor in total.
    #[error("it gave more than {} of text in total (limits.pack_output_bytes)", Bytes(*.0 as u64))]
    Output(usize),
    /// Entries of one list.
    #[error(
        "its list of {what} has {found} entries; the most is {most} (limits.pack_list_entries)"
    )]
    List {
        /// What the list holds.
        what: &'static str,
        /// How many there were.
        found: usize,
        /// How many there may be.
        most: usize,
    },
}

/// A size as people read it.
pub(crate) struct Bytes(pub(crate) u64);

impl std::fmt::Display for Bytes {
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

/// Watches one store: what it allocates, and how long its current call takes.
#[derive(Debug)]
pub(super) struct Meter {
    limits: Limits,
    memory_bytes: usize,
    table_elements: usize,
    /// The limit that was hit last; a guest that is refused memory usually
    /// aborts with a plain `unreachable`, which alone would say nothing.
    pub(super) hit: Option<Limit>,
    call: Option<Call>,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    budget: Duration,
    key: &'static str,
    /// CPU time and wall time at the call's first tick. Reading clocks at every
    /// call would cost more than most calls; so a call gets up to one tick more
    /// than its budget.
    first_tick: Option<(Duration, Instant)>,
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            memory_bytes: 0,
            table_elements: 0,
            hit: None,
            call: None,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Starts the clock of a call; `key` is the middle of the limit's name in
    /// the config.
    pub(super) fn start(&mut self, budget: Duration, key: &'static str) {
        self.hit = None;
        self.call = Some(Call {
            budget,
            key,
            first_tick: None,
        });
    }

    /// Called at every epoch tick while the guest runs.
    pub(super) fn check_time(&mut self) -> Result<(), Limit> {
        let Some(call) = &mut self.call else {
            return Ok(());
        };
        let now = thread_cpu_time();
        let (cpu, wall) = *call.first_tick.get_or_insert_with(|| (now, Instant::now()));
        let cpu = now.saturating_sub(cpu);
        let wall_budget = call.budget * WALL_PER_CPU;
        let limit = if cpu > call.budget {
            Limit::CpuTime(call.budget, call.key)
        } else if wall.elapsed() > wall_budget {
            Limit::WallTime(wall_budget, call.key)
        } else {
            return Ok(());
        };
        self.hit = Some(limit);
        Err(limit)
    }

    fn grow(used: &mut usize, current: usize, desired: usize, most: usize) -> bool {
        let wanted = used.saturating_add(desired.saturating_sub(current));
        let fits = wanted <= most;
        if fits {
            *used = wanted;
        }
        fits
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let most = self.limits.memory_bytes;
        let fits = Self::grow(&mut self.memory_bytes, current, desired, most);
        if !fits {
            self.hit = Some(Limit::Memory(most));
        }
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let most = self.limits.table_elements;
        let fits = Self::grow(&mut self.table_elements, current, desired, most);
        if !fits {
            self.hit = Some(Limit::Table(most));
        }
        Ok(fits)
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

/// CPU time that this thread has used.
#[cfg(unix)]
fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Without a per-thread clock only the backstop on the wall clock holds.
#[cfg(not(unix))]
fn thread_cpu_time() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_summed_over_all_memories_of_a_store() {
        let mut meter = Meter::new(Limits {
            memory_bytes: 100,
            ..Limits::default()
        });
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(!meter.memory_growing(0, 60, None).unwrap());
        assert_eq!(meter.hit, Some(Limit::Memory(100)));
        assert!(meter.memory_growing(0, 40, None).unwrap());
        assert!(!meter.memory_growing(60, 61, None).unwrap());
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [(12, "12 bytes"), (1536, "1.5 KiB"), (4 << 20, "4 MiB")] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
