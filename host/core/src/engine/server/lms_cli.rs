//! LM Studio's command-line program `lms`. It can set the context length of a
//! load where the server is too old for that, and it estimates the memory of a
//! load.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Time limit for an estimate, which only reads the header of a model file.
const ESTIMATE_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum length of a repeated error message in characters.
const MAX_ERROR_CHARS: usize = 300;

/// Loads a model, without a time limit. Dropping the future kills the program.
///
/// # Errors
/// Returns the output of the program, or its exit status if there is none.
pub(super) async fn load(
    lms: &Path,
    base_url: &str,
    model: &str,
    context: Option<u32>,
) -> Result<(), String> {
    run(load_command(lms, base_url, model, context)).await
}

/// Unloads an instance, without a time limit. Dropping the future kills the
/// program.
///
/// # Errors
/// Returns the output of the program, or its exit status if there is none.
pub(super) async fn unload(lms: &Path, base_url: &str, instance: &str) -> Result<(), String> {
    let mut command = command(lms);
    command.args(["unload", instance]);
    add_server_args(&mut command, base_url);
    run(command).await
}

async fn run(mut command: Command) -> Result<(), String> {
    let output = command.output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let message = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    let message: String = message.trim().chars().take(MAX_ERROR_CHARS).collect();
    Err(if message.is_empty() {
        output.status.to_string()
    } else {
        message
    })
}

/// Returns the memory that a load would need in bytes, if the program can
/// estimate it.
pub(super) async fn estimate_memory(
    lms: &Path,
    base_url: &str,
    model: &str,
    context: u32,
) -> Option<u64> {
    let mut command = load_command(lms, base_url, model, Some(context));
    command.arg("--estimate-only");
    let output = tokio::time::timeout(ESTIMATE_TIMEOUT, command.output());
    let output = output.await.ok()?.ok()?;
    let text = [output.stdout, output.stderr].concat();
    parse_estimate(&String::from_utf8_lossy(&text))
}

fn load_command(lms: &Path, base_url: &str, model: &str, context: Option<u32>) -> Command {
    let mut command = command(lms);
    command.args(["load", model, "-y"]);
    if let Some(context) = context {
        command.args(["--context-length", &context.to_string()]);
    }
    add_server_args(&mut command, base_url);
    command
}

/// Adds the arguments that select the server at `base_url`.
fn add_server_args(command: &mut Command, base_url: &str) {
    let address = base_url
        .split_once("://")
        .map_or(base_url, |(_, rest)| rest);
    if let Some((host, port)) = address.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        command.args(["--host", host, "--port", port]);
    }
}

fn command(lms: &Path) -> Command {
    let mut command = Command::new(lms);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Parses the line `Estimated Total Memory: 4.39 GiB` in the output and returns
/// the number of bytes.
fn parse_estimate(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("Estimated Total Memory:")?;
    let mut words = rest.split_whitespace();
    let number = words.next()?;
    let unit = words.next()?;
    // For example `65.72 GB` or `3,456 MiB`, both possibly with colour codes.
    let digits: String = strip_ansi(number)
        .chars()
        .filter(|char| char.is_ascii_digit() || *char == '.')
        .collect();
    let factor = match strip_ansi(unit).as_str() {
        "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => return None,
    };
    let value = digits.parse::<f64>().ok()? * factor;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "digits alone yield no negative number, and casts saturate"
    )]
    Some(value as u64)
}

/// Removes colour codes (`ESC [ … m`) from a word.
fn strip_ansi(word: &str) -> String {
    let mut parts = word.split('\u{1b}');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_estimate_reads_every_unit() {
        for (text, expected) in [
            (
                "Model: x\nEstimated GPU Memory:   65.68 GB\nEstimated Total Memory: 65.72 GB\n\nEstimate: This",
                Some(65_720_000_000),
            ),
            ("Estimated Total Memory: 12 GiB", Some(12 << 30)),
            ("Estimated Total Memory: 3,456 MiB", Some(3456 << 20)),
            (
                "Estimated Total Memory: \u{1b}[36m2.00\u{1b}[39m \u{1b}[1mGiB\u{1b}[22m",
                Some(2 << 30),
            ),
            ("Estimated Total Memory: unknown", None),
            ("Estimated Total Memory: 7 apples", None),
            ("", None),
        ] {
            assert_eq!(parse_estimate(text), expected, "{text}");
        }
    }
}
