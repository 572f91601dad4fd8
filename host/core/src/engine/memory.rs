//! The available memory, and an estimate of the memory that a model needs: the
//! size of the weights in the file, and the keys and values of each token of
//! context.

use super::Error;

/// The memory of a machine, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The total memory.
    pub total: u64,
    /// The memory that can be used without taking it from other processes.
    pub available: u64,
}

impl Memory {
    /// Returns the memory of this machine, or the limits of its container. If it
    /// cannot be determined, both values are `u64::MAX`, so that no check fails.
    #[must_use]
    pub fn detect() -> Self {
        let Ok(mut system) = sysinfo::System::new() else {
            return Self {
                total: u64::MAX,
                available: u64::MAX,
            };
        };
        system.refresh_memory();
        let machine = Self {
            total: system.total_memory(),
            available: system.available_memory(),
        };
        match system.cgroup_limits() {
            Some(limits) if limits.total_memory > 0 => Self {
                total: machine.total.min(limits.total_memory),
                available: machine.available.min(limits.free_memory),
            },
            _ => machine,
        }
    }
}

/// Returns the start time of a process on this machine, in seconds since the Unix
/// epoch, or `None` if it cannot be determined.
#[must_use]
pub fn process_start_time(process: u32) -> Option<i64> {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
    let mut system = System::new().ok()?;
    let process = Pid::from_u32(process);
    let only = ProcessesToUpdate::Some(std::slice::from_ref(&process));
    system.refresh_processes_specifics(only, false, ProcessRefreshKind::nothing());
    let seconds = system.process(process)?.start_time();
    i64::try_from(seconds).ok().filter(|seconds| *seconds > 0)
}

/// The memory that a model needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryNeed {
    /// Memory for the weights.
    pub(super) weight_bytes: u64,
    /// Memory for each token of context; absent if no model file was read.
    pub(super) bytes_per_token: Option<u64>,
}

/// Memory that an engine needs beside weights and context.
const OVERHEAD_BYTES: u64 = 64 << 20;
/// Suggested contexts are multiples of this number of tokens.
const CONTEXT_STEP: u32 = 256;

impl MemoryNeed {
    /// Derives the memory for weights and per token from two estimates of the
    /// total, each with its context: `(tokens, bytes)`. Returns `None` if the
    /// estimate does not grow with the context.
    pub(super) fn from_two_estimates(small: (u32, u64), large: (u32, u64)) -> Option<Self> {
        let tokens = u64::from(large.0.checked_sub(small.0)?);
        let per_token = large.1.checked_sub(small.1)?.checked_div(tokens)?;
        let fixed = small.1.checked_sub(per_token * u64::from(small.0))?;
        (per_token > 0).then_some(Self {
            // The estimates include the overhead.
            weight_bytes: fixed.saturating_sub(OVERHEAD_BYTES),
            bytes_per_token: Some(per_token),
        })
    }

    /// Returns the bytes needed with a context. If `bytes_per_token` is unknown, the
    /// context counts as 0.
    pub(super) fn bytes(self, context: u32) -> u64 {
        let bytes_per_token = self.bytes_per_token.unwrap_or(0);
        self.weight_bytes
            .saturating_add(bytes_per_token.saturating_mul(context.into()))
            .saturating_add(OVERHEAD_BYTES)
    }

    /// Returns the largest context, up to `declared`, that fits into `bytes`, or
    /// `None` if none does.
    pub(super) fn largest_context(self, bytes: u64, declared: u32) -> Option<u32> {
        let bytes_left = bytes
            .checked_sub(self.weight_bytes)?
            .checked_sub(OVERHEAD_BYTES)?;
        let tokens = match self.bytes_per_token {
            None | Some(0) => return Some(declared),
            Some(bytes_per_token) => {
                u32::try_from(bytes_left / bytes_per_token).unwrap_or(u32::MAX)
            }
        };
        if tokens >= declared {
            return Some(declared);
        }
        let rounded = tokens / CONTEXT_STEP * CONTEXT_STEP;
        (rounded > 0).then_some(rounded)
    }

    /// Checks that the model with a context fits into `bytes`.
    ///
    /// # Errors
    /// Returns `Error::InsufficientMemory` if it does not fit.
    pub(super) fn check(
        self,
        model: &str,
        context: u32,
        declared: u32,
        bytes: u64,
    ) -> Result<(), Error> {
        let required_bytes = self.bytes(context);
        if required_bytes <= bytes {
            return Ok(());
        }
        Err(Error::InsufficientMemory {
            model: model.to_owned(),
            context,
            required_bytes,
            available_bytes: bytes,
            largest_context: self.largest_context(bytes, declared),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_context_uses_the_memory_left_after_the_weights() {
        let need = MemoryNeed {
            weight_bytes: 1 << 30,
            bytes_per_token: Some(1 << 17),
        };
        for (bytes, expected) in [
            (1 << 30, None),
            ((1 << 30) + OVERHEAD_BYTES, None),
            ((2 << 30) + OVERHEAD_BYTES, Some(8192)),
            ((2 << 30) + OVERHEAD_BYTES - 1, Some(8192 - CONTEXT_STEP)),
            (u64::MAX, Some(131_072)),
        ] {
            assert_eq!(need.largest_context(bytes, 131_072), expected, "{bytes}");
        }
        assert!(
            need.check("m", 8192, 131_072, (2 << 30) + OVERHEAD_BYTES)
                .is_ok()
        );
        let error = need
            .check("m", 8193, 131_072, (2 << 30) + OVERHEAD_BYTES)
            .unwrap_err();
        assert!(matches!(
            error,
            Error::InsufficientMemory {
                largest_context: Some(8192),
                ..
            }
        ));
        let estimated =
            MemoryNeed::from_two_estimates((1000, 1_000_000_000), (5000, 1_400_000_000)).unwrap();
        assert_eq!(estimated.bytes_per_token, Some(100_000));
        assert_eq!(estimated.largest_context(1_300_000_000, 9999), Some(3840));
        assert_eq!(MemoryNeed::from_two_estimates((1000, 5), (5000, 5)), None);
        let unknown = MemoryNeed {
            bytes_per_token: None,
            ..need
        };
        assert_eq!(unknown.largest_context(2 << 30, 131_072), Some(131_072));
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = Memory::detect();
        assert!(
            memory.total > 0 && memory.available <= memory.total,
            "{memory:?}"
        );
    }
}
