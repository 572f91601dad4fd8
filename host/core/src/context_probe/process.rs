//! Detects whether the process that started a probe is still running.

use crate::registry::PendingProbe;

/// Tolerance between the clocks of a process's start time and of the registry, in seconds.
#[cfg(unix)]
const CLOCK_TOLERANCE_S: i64 = 5;

/// Returns whether the process that started a probe is still running. Process ids are
/// reused, from the first one after a reboot: a process that started later than the probe
/// is a different one.
#[cfg(unix)]
pub(super) fn is_running(pending: &PendingProbe) -> bool {
    let Some(process) = i32::try_from(pending.process)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    pending.process != std::process::id()
        && !matches!(
            rustix::process::test_kill_process(process),
            Err(rustix::io::Errno::SRCH)
        )
        && crate::engine::process_start_time(pending.process)
            .is_none_or(|start| start <= pending.at.as_second().saturating_add(CLOCK_TOLERANCE_S))
}

#[cfg(not(unix))]
pub(super) fn is_running(_pending: &PendingProbe) -> bool {
    false
}
