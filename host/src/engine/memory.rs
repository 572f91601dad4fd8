//! What a model needs of memory, and what there is. An estimate: the weights
//! as they lie in the file, and keys and values for each token of context.

use super::Error;

/// Bytes of a machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All there is.
    pub total: u64,
    /// What can be had without taking it from somebody.
    pub available: u64,
}

impl Memory {
    /// Asks this machine; a container's limits count.
    #[must_use]
    pub fn here() -> Self {
        let Ok(mut system) = sysinfo::System::new() else {
            // Who cannot see refuses nothing.
            return Self {
                total: u64::MAX,
                available: u64::MAX,
            };
        };
        system.refresh_memory();
        let here = Self {
            total: system.total_memory(),
            available: system.available_memory(),
        };
        match system.cgroup_limits() {
            Some(limits) if limits.total_memory > 0 => Self {
                total: here.total.min(limits.total_memory),
                available: here.available.min(limits.free_memory),
            },
            _ => here,
        }
    }
}

/// When a process of this machine began, in seconds since 1970; `None` where
/// that cannot be seen.
#[must_use]
pub fn process_began(process: u32) -> Option<i64> {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
    let mut system = System::new().ok()?;
    let process = Pid::from_u32(process);
    let only = ProcessesToUpdate::Some(std::slice::from_ref(&process));
    system.refresh_processes_specifics(only, false, ProcessRefreshKind::nothing());
    let began = system.process(process)?.start_time();
    i64::try_from(began).ok().filter(|it| *it > 0)
}

/// What a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// For the weights.
    pub(super) weights: u64,
    /// For each token of context; absent where no file told its shape.
    pub(super) per_token: Option<u64>,
}

/// Programs need more than their data.
const OVERHEAD: u64 = 64 << 20;
/// Contexts are given in steps of this many tokens.
const STEP: u32 = 256;

impl Need {
    /// What two estimates for two contexts say together: bytes that do not
    /// depend on the context, and those of each token. `None` when they do not
    /// grow with it.
    pub(super) fn of_two(small: (u32, u64), large: (u32, u64)) -> Option<Self> {
        let tokens = u64::from(large.0.checked_sub(small.0)?);
        let per_token = large.1.checked_sub(small.1)?.checked_div(tokens)?;
        let fixed = small.1.checked_sub(per_token * u64::from(small.0))?;
        (per_token > 0).then_some(Self {
            // Estimates count the overhead already.
            weights: fixed.saturating_sub(OVERHEAD),
            per_token: Some(per_token),
        })
    }

    /// Bytes with a context; without the shape, the weights alone.
    pub(super) fn bytes(self, context: u32) -> u64 {
        let per_token = self.per_token.unwrap_or(0);
        self.weights
            .saturating_add(per_token.saturating_mul(context.into()))
            .saturating_add(OVERHEAD)
    }

    /// The largest context that fits into so many bytes; `None` when not even
    /// the weights do.
    pub(super) fn largest(self, bytes: u64, declared: u32) -> Option<u32> {
        let left = bytes.checked_sub(self.weights)?.checked_sub(OVERHEAD)?;
        let tokens = match self.per_token {
            None | Some(0) => return Some(declared),
            Some(per_token) => u32::try_from(left / per_token).unwrap_or(u32::MAX),
        };
        if tokens >= declared {
            return Some(declared);
        }
        let stepped = tokens / STEP * STEP;
        (stepped > 0).then_some(stepped)
    }

    /// Refuses what does not fit into `bytes`.
    pub(super) fn check(
        self,
        model: &str,
        context: u32,
        declared: u32,
        bytes: u64,
    ) -> Result<(), Error> {
        let need = self.bytes(context);
        if need <= bytes {
            return Ok(());
        }
        Err(Error::Memory {
            model: model.to_owned(),
            context,
            need,
            have: bytes,
            largest: self.largest(bytes, declared),
        })
    }
}

/// Bytes as people say them.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_context_is_what_is_left_after_the_weights() {
        let need = Need {
            weights: 1 << 30,
            per_token: Some(1 << 17),
        };
        for (bytes, expected) in [
            (1 << 30, None),
            ((1 << 30) + OVERHEAD, None),
            ((2 << 30) + OVERHEAD, Some(8192)),
            ((2 << 30) + OVERHEAD - 1, Some(8192 - STEP)),
            (u64::MAX, Some(131_072)),
        ] {
            assert_eq!(need.largest(bytes, 131_072), expected, "{bytes}");
        }
        assert!(need.check("m", 8192, 131_072, (2 << 30) + OVERHEAD).is_ok());
        let refused = need
            .check("m", 8193, 131_072, (2 << 30) + OVERHEAD)
            .unwrap_err();
        assert!(matches!(
            refused,
            Error::Memory {
                largest: Some(8192),
                ..
            }
        ));
        let of_two = Need::of_two((1000, 1_000_000_000), (5000, 1_400_000_000)).unwrap();
        assert_eq!(of_two.per_token, Some(100_000));
        assert_eq!(of_two.largest(1_300_000_000, 9999), Some(3840));
        assert_eq!(Need::of_two((1000, 5), (5000, 5)), None);
        let unknown = Need {
            per_token: None,
            ..need
        };
        assert_eq!(unknown.largest(2 << 30, 131_072), Some(131_072));
    }

    #[test]
    fn this_machine_has_memory() {
        let here = Memory::here();
        assert!(here.total > 0 && here.available <= here.total, "{here:?}");
    }
}
