//! A description of the machine for the head of the table.

use std::process::Command;

/// Returns the date, the build, the processor and the operating system.
pub(crate) fn description() -> String {
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let build = if cfg!(debug_assertions) {
        "development build"
    } else {
        "release build"
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let version = env!("CARGO_PKG_VERSION");
    let (processor, system) = (processor(), operating_system());
    format!(
        "Measured on {date}, lmstrix-host {version} ({build}), {processor}, {cores} cores, {system}."
    )
}

fn processor() -> String {
    let model = match std::env::consts::OS {
        "linux" => line_value("/proc/cpuinfo", "model name"),
        "macos" => output("sysctl", &["-n", "machdep.cpu.brand_string"]),
        _ => None,
    };
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn operating_system() -> String {
    let name = match std::env::consts::OS {
        "linux" => line_value("/etc/os-release", "PRETTY_NAME"),
        "macos" => {
            output("sw_vers", &["-productVersion"]).map(|version| format!("macOS {version}"))
        }
        _ => None,
    };
    name.unwrap_or_else(|| std::env::consts::OS.to_owned())
}

/// Returns the value of the first `key: value` or `key="value"` line of a file.
fn line_value(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut lines = text.lines();
    let rest = lines.find_map(|line| line.strip_prefix(key))?;
    let value = rest.trim_start_matches([' ', '\t', ':', '=']).trim();
    Some(value.trim_matches('"').to_owned())
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
