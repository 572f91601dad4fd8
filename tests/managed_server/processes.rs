//! Processes by their command lines, from `/proc`.

use rustix::process::{Pid, Signal, kill_process};

/// Returns the IDs of the processes, also ended ones that were not waited for, whose command
/// line contains `text`.
pub(super) fn processes_with(text: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| command_line(*id).is_some_and(|line| line.contains(text)))
        .collect()
}

/// Returns the command line of a process, its arguments separated by blanks.
pub(super) fn command_line(process: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

pub(super) fn kill(process: u32) {
    signal(process, Signal::KILL);
}

pub(super) fn signal(process: u32, signal: Signal) {
    let id = process.cast_signed();
    // It may have ended by itself.
    let _already_ended = kill_process(Pid::from_raw(id).unwrap(), signal);
}

/// Returns the state of a process: `R` is running, `T` stopped, `Z` ended.
pub(super) fn state_of(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program, in parentheses, may contain anything.
    stat.rsplit_once(") ")?.1.chars().next()
}
