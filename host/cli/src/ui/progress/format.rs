//! Formats jobs, counts and times.

use std::time::Duration;

use lmstrix::batch::JobInfo;
use lmstrix::quantity::count;
use lmstrix::sink::escape_controls;

use super::view::RunCounts;

/// Limit for the name of a prompt, a model or an input.
const MAX_NAME_CHARS: usize = 100;
/// Limit for the reason of a failure.
const MAX_REASON_CHARS: usize = 500;
/// Limit for the name of a prompt in a terminal row.
const MAX_SHORT_PROMPT_CHARS: usize = 20;
/// Limit for the name of a model in a terminal row.
const MAX_SHORT_MODEL_CHARS: usize = 28;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Time between two steps of the spinner.
const SPINNER_STEP: Duration = Duration::from_millis(200);
/// Columns of a bar in a row.
const BAR_COLUMNS: usize = 30;

/// Returns `PROMPT × MODEL`, or `PROMPT × MODEL × INPUT` for a job with an
/// input.
pub(super) fn label(job: &JobInfo, is_terminal: bool) -> String {
    let [prompt, model] = [&job.prompt, &job.model].map(|text| name(text, is_terminal));
    with_input(&prompt, &model, job, is_terminal)
}

/// Returns the label for a terminal row. The prompt is shortened at its end. The
/// model is shortened at its start, since model names differ mostly at the end.
pub(super) fn short_label(job: &JobInfo) -> String {
    let prompt = one_line(&job.prompt, MAX_SHORT_PROMPT_CHARS, true);
    let excess = job
        .model
        .chars()
        .count()
        .saturating_sub(MAX_SHORT_MODEL_CHARS);
    let model = match excess {
        0 => name(&job.model, true),
        _ => {
            let end: String = job.model.chars().skip(excess).collect();
            format!("…{}", name(&end, true))
        }
    };
    with_input(&prompt, &model, job, true)
}

fn with_input(prompt: &str, model: &str, job: &JobInfo, is_terminal: bool) -> String {
    let mut label = format!("{prompt} × {model}");
    if let Some(input) = &job.input {
        label += &format!(" × {}", name(input, is_terminal));
    }
    label
}

/// Returns a name on one line, shortened to `MAX_NAME_CHARS`.
pub(super) fn name(text: &str, is_terminal: bool) -> String {
    one_line(text, MAX_NAME_CHARS, is_terminal)
}

/// Returns the first non-empty line of a reason.
pub(super) fn reason(text: &str, is_terminal: bool) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty());
    one_line(
        line.unwrap_or("no reason given"),
        MAX_REASON_CHARS,
        is_terminal,
    )
}

fn one_line(text: &str, limit: usize, is_terminal: bool) -> String {
    let text = text.trim();
    let mut line: String = text
        .chars()
        .take(limit)
        // `escape_controls` keeps line ends and tabs, which have no fixed width.
        .map(|c| {
            if matches!(c, '\n' | '\r' | '\t') {
                ' '
            } else {
                c
            }
        })
        .filter(|c| !is_terminal || !is_joiner(*c))
        .collect();
    if text.chars().nth(limit).is_some() {
        line.push('…');
    }
    if is_terminal {
        escape_controls(&line)
    } else {
        line
    }
}

/// Returns true for joiners and variation selectors. Terminals disagree on the
/// width of the combined character, and a row that wraps is not erased.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// Returns a message or a warning, without line ends at its end.
pub(super) fn message(text: &str, is_warning: bool, is_terminal: bool) -> String {
    let prefix = if is_warning { "warning: " } else { "" };
    let text = text.trim_end();
    if is_terminal {
        // A tab has no fixed width.
        format!("{prefix}{}", escape_controls(text).replace('\t', "    "))
    } else {
        format!("{prefix}{text}")
    }
}

/// Returns for example `loading qwen3-4b, context 8192: 40 %`.
pub(super) fn loading(
    model: &str,
    context: Option<u32>,
    progress: Option<f32>,
    is_terminal: bool,
) -> String {
    let mut text = format!("loading {}", name(model, is_terminal));
    if let Some(context) = context {
        text += &format!(", context {context}");
    }
    if let Some(progress) = progress.filter(|progress| *progress > 0.0) {
        text += &format!(": {} %", percent(progress));
    }
    text
}

/// Returns a fraction in percent.
pub(super) fn percent(fraction: f32) -> String {
    format!("{:.0}", clamp(fraction) * 100.0)
}

/// Returns a bar of `BAR_COLUMNS` columns.
pub(super) fn bar(fraction: f32) -> String {
    let columns = (0..BAR_COLUMNS).map(|column| {
        let is_done = (column as f32) < clamp(fraction) * BAR_COLUMNS as f32;
        if is_done { '█' } else { '░' }
    });
    columns.collect()
}

/// Servers can report values outside 0 to 1.
fn clamp(fraction: f32) -> f32 {
    if fraction.is_finite() {
        fraction.clamp(0.0, 1.0)
    } else {
        0.0
    }
}

pub(super) fn spinner(elapsed: Duration) -> &'static str {
    let step = elapsed.as_millis() / SPINNER_STEP.as_millis();
    SPINNER[step as usize % SPINNER.len()]
}

/// Returns for example `36 jobs; 4 skipped`.
pub(super) fn skipped(run: &RunCounts) -> String {
    format!("{}; {} skipped", count(run.total, "job"), run.skipped)
}

/// Returns for example `, 1 failed`; nothing if no job failed.
pub(super) fn failed(run: &RunCounts) -> String {
    match run.failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    }
}

/// Returns the speed of a job that ended, where known.
pub(super) fn tokens_per_s(tokens: u32, seconds: f64) -> Option<f64> {
    let rate = f64::from(tokens) / seconds;
    (tokens > 0 && rate.is_finite()).then_some(rate)
}

/// Returns for example `43.1 tokens/s`.
pub(super) fn rate(tokens_per_s: f64) -> String {
    format!("{tokens_per_s:.1} tokens/s")
}

/// Returns for example `3:12` or `1:03:12`.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes) = (seconds / HOUR, seconds / MINUTE % 60);
    match hours {
        0 => format!("{minutes}:{:02}", seconds % 60),
        _ => format!("{hours}:{minutes:02}:{:02}", seconds % 60),
    }
}

/// Returns for example `about 12 min left`, rounded to the precision of an
/// estimate.
pub(super) fn time_left(time: Duration) -> String {
    let seconds = time.as_secs();
    // The number of steps, rounded to the nearest.
    let round = |step: u64| (seconds + step / 2) / step;
    match seconds {
        0..10 => "a few seconds left".to_owned(),
        10..85 => format!("about {} s left", round(10) * 10),
        85..5370 => format!("about {} min left", round(MINUTE)),
        5370..129_600 => {
            let minutes = round(10 * MINUTE) * 10;
            match (minutes / 60, minutes % 60) {
                (hours, 0) => format!("about {hours} h left"),
                (hours, minutes) => format!("about {hours} h {minutes} min left"),
            }
        }
        _ => format!("about {} days left", round(DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded() {
        for (seconds, shown) in [
            (0, "a few seconds left"),
            (14, "about 10 s left"),
            (84, "about 80 s left"),
            (85, "about 1 min left"),
            (720, "about 12 min left"),
            (5369, "about 89 min left"),
            (5400, "about 1 h 30 min left"),
            (7201, "about 2 h left"),
            (129_600, "about 2 days left"),
        ] {
            assert_eq!(time_left(Duration::from_secs(seconds)), shown);
        }
        assert_eq!(clock(Duration::from_secs(192)), "3:12");
        assert_eq!(clock(Duration::from_secs(3792)), "1:03:12");
    }

    #[test]
    fn names_are_single_lines_of_limited_length() {
        assert_eq!(name(" a\n\tb\x1b[2J ", true), "a  b␛[2J");
        // Control characters are kept, but not line ends.
        assert_eq!(name("a\nb\x1b", false), "a b\x1b");
        assert_eq!(name(&"x".repeat(5000), true).chars().count(), 101);
        assert_eq!(name("a\u{200d}b\u{fe0f}", true), "ab");
        assert_eq!(reason("\n first\nsecond", true), "first");
        assert_eq!(reason("", true), "no reason given");
    }

    #[test]
    fn fractions_outside_0_to_1_are_clamped() {
        let full = "█".repeat(BAR_COLUMNS);
        let empty = "░".repeat(BAR_COLUMNS);
        for (fraction, shown, columns) in [
            (f32::NAN, "0", &empty),
            (-1.0, "0", &empty),
            (1.0, "100", &full),
            (7.0, "100", &full),
        ] {
            assert_eq!(
                (percent(fraction), bar(fraction)),
                (shown.to_owned(), columns.clone())
            );
        }
        assert_eq!(bar(0.5).matches('█').count(), 15);
    }
}
