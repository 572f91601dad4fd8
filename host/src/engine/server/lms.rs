//! LM Studio's own program, `lms`: it loads with a context where the server
//! is too old to, and it knows what a load would take.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// An estimate reads the head of a file; it is no reason to wait long.
const ESTIMATE_LIMIT: Duration = Duration::from_secs(20);
/// How much of its words is repeated.
const WORDS_MAX: usize = 300;

/// Loads a model. Waits as long as it takes; dropped, it ends the program.
///
/// # Errors
/// What the program said.
pub(super) async fn load(
    lms: &Path,
    base: &str,
    model: &str,
    context: Option<u32>,
) -> Result<(), String> {
    done(loading(lms, base, model, context)).await
}

/// Unloads an instance. Waits as long as it takes; dropped, it ends the program.
///
/// # Errors
/// What the program said.
pub(super) async fn unload(lms: &Path, base: &str, instance: &str) -> Result<(), String> {
    let mut command = command(lms);
    command.args(["unload", instance]);
    at(&mut command, base);
    done(command).await
}

async fn done(mut command: Command) -> Result<(), String> {
    let output = command.output().await.map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    let said: String = said.trim().chars().take(WORDS_MAX).collect();
    Err(if said.is_empty() {
        output.status.to_string()
    } else {
        said
    })
}

/// Bytes that a load would take, where the program knows.
pub(super) async fn estimate(lms: &Path, base: &str, model: &str, context: u32) -> Option<u64> {
    let mut command = loading(lms, base, model, Some(context));
    command.arg("--estimate-only");
    let output = tokio::time::timeout(ESTIMATE_LIMIT, command.output());
    let output = output.await.ok()?.ok()?;
    let said = [output.stdout, output.stderr].concat();
    bytes(&String::from_utf8_lossy(&said))
}

fn loading(lms: &Path, base: &str, model: &str, context: Option<u32>) -> Command {
    let mut command = command(lms);
    command.args(["load", model, "-y"]);
    if let Some(context) = context {
        command.args(["--context-length", &context.to_string()]);
    }
    at(&mut command, base);
    command
}

/// Says which server is meant.
fn at(command: &mut Command, base: &str) {
    let address = base.split_once("://").map_or(base, |(_, rest)| rest);
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

/// `Estimated Total Memory: 4.39 GiB`, among colours and other lines.
fn bytes(said: &str) -> Option<u64> {
    let (_, rest) = said.split_once("Estimated Total Memory:")?;
    let mut words = rest.split_whitespace();
    let number = words.next()?;
    let unit = words.next()?;
    // `65.72 GB`, `3,456 MiB`, and colours around either.
    let digits: String = plain(number)
        .chars()
        .filter(|it| it.is_ascii_digit() || *it == '.')
        .collect();
    let factor = match plain(unit).as_str() {
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
        reason = "digits alone make no negative number, and casts saturate"
    )]
    Some(value as u64)
}

/// A word without its colours: `ESC [ … m`.
fn plain(word: &str) -> String {
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
    fn estimates_are_read_in_every_unit() {
        for (said, expected) in [
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
            assert_eq!(bytes(said), expected, "{said}");
        }
    }
}
