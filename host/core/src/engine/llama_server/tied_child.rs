//! A child process that does not outlive its parent, also not one that is killed.
//!
//! On Linux the child first runs this program, which asks the system for a signal at the
//! parent's death and then becomes the wanted program. On Windows the parent puts itself and
//! its children into a job object. Elsewhere the next run ends what a killed parent left.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;

/// The hidden command that ties a program to the process that started it:
/// `run-tied PARENT PROGRAM ARGUMENT…`, where `PARENT` is the ID of that process.
pub const TIED_COMMAND: &str = "run-tied";

/// Returns a command for `program` that ends with this process. `helper` is a program that
/// calls [`run_tied`].
pub(super) fn tied_command(helper: &Path, program: &Path) -> Command {
    let mut command = if cfg!(target_os = "linux") {
        let mut command = Command::new(helper);
        command
            .arg(TIED_COMMAND)
            .arg(std::process::id().to_string())
            .arg(program);
        command
    } else {
        without_window(Command::new(program))
    };
    lead_group(&mut command);
    command
}

/// Lets [`end_group`] end the program with the processes that it starts.
pub(super) fn lead_group(command: &mut Command) {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    #[cfg(not(unix))]
    let _ = command;
}

/// Ends a process that [`lead_group`] prepared, and those that it started. On Windows the job
/// object ends them.
pub(super) fn end_group(process: u32) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process_group};

        if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
            let _already_ended = kill_process_group(process, Signal::KILL);
        }
    }
    #[cfg(not(unix))]
    let _ = process;
}

/// Keeps the program from opening a window of its own.
#[cfg(windows)]
fn without_window(mut command: Command) -> Command {
    use std::os::windows::process::CommandExt;

    /// `CREATE_NO_WINDOW`.
    const FLAGS: u32 = 0x0800_0000;
    command.creation_flags(FLAGS);
    command
}

#[cfg(not(windows))]
fn without_window(command: Command) -> Command {
    command
}

/// Becomes the program of the arguments after [`TIED_COMMAND`], and is killed when the parent
/// ends. Returns only if that is not possible.
#[cfg(target_os = "linux")]
pub fn run_tied(parent: u32, program: &Path, args: &[OsString]) -> io::Error {
    use std::os::unix::process::CommandExt;

    use rustix::process::{Signal, getppid, set_parent_process_death_signal};

    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // A parent that ended before sends no signal.
    let current = getppid().map(|parent| parent.as_raw_nonzero().get().cast_unsigned());
    if current != Some(parent) {
        return io::Error::other("the parent process has ended");
    }
    Command::new(program).args(args).exec()
}

/// Is not needed on this system.
#[cfg(not(target_os = "linux"))]
pub fn run_tied(_parent: u32, _program: &Path, _args: &[OsString]) -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// Becomes `program` without the files that this process inherited, except stdin, stdout and
/// stderr: a lock of the user (`flock`) or a pipe must not stay with a server. Returns only if
/// that is not possible.
#[cfg(unix)]
pub fn restart_without_inherited_files(program: &Path, args: &[&str]) -> io::Error {
    use std::os::unix::process::CommandExt;

    close_fds::set_fds_cloexec(3, &[]);
    Command::new(program).args(args).exec()
}

/// Is not possible on this system.
#[cfg(not(unix))]
pub fn restart_without_inherited_files(_program: &Path, _args: &[&str]) -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// Makes this process independent of the terminal and the process that started it, and lets
/// its children end with it where the system offers that.
///
/// # Errors
/// Returns an error if the system refuses.
pub(super) fn detach_and_tie_children() -> io::Result<()> {
    #[cfg(unix)]
    rustix::process::setsid()?;
    #[cfg(windows)]
    windows_job()?;
    Ok(())
}

/// Puts this process into a job object whose processes end when its last handle is closed,
/// which the end of this process does.
#[cfg(windows)]
fn windows_job() -> io::Result<()> {
    let mut limits = win32job::ExtendedLimitInfo::new();
    limits.limit_kill_on_job_close();
    let job = win32job::Job::create_with_limit_info(&limits).map_err(io::Error::other)?;
    job.assign_current_process().map_err(io::Error::other)?;
    // Closing the handle would end this process at once.
    std::mem::forget(job);
    Ok(())
}
