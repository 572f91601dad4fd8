//! How the board puts things in words: the name of a job on one line, and time.

use std::time::Duration;

use super::super::visible;
use super::{JobName, Load, Run};

/// Of a prompt's, a model's or an input's name.
const NAME_CHARS: usize = 100;
/// Of the reason why a job failed.
const REASON_CHARS: usize = 500;
/// Of a prompt's name, where lines are short.
const SHORT_PROMPT_CHARS: usize = 20;
/// Of a model's name there.
const SHORT_MODEL_CHARS: usize = 28;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Prompt × model, and × input where there is one.
pub(super) fn label(job: &JobName<'_>, is_terminal: bool) -> String {
    let [prompt, model] = [job.prompt, job.model].map(|it| name(it, is_terminal));
    with_input(&prompt, &model, job.input, is_terminal)
}

/// The same for one line of a terminal, where a long prompt should not push the
/// model off the screen. How models differ is mostly at the end of their names.
pub(super) fn short_label(job: &JobName<'_>) -> String {
    let prompt = one_line(job.prompt, SHORT_PROMPT_CHARS, true);
    let surplus = job.model.chars().count().saturating_sub(SHORT_MODEL_CHARS);
    let model = match surplus {
        0 => name(job.model, true),
        _ => {
            let end: String = job.model.chars().skip(surplus).collect();
            format!("…{}", name(&end, true))
        }
    };
    with_input(&prompt, &model, job.input, true)
}

fn with_input(prompt: &str, model: &str, input: Option<&str>, is_terminal: bool) -> String {
    let input = input.map_or_else(String::new, |it| format!(" × {}", name(it, is_terminal)));
    format!("{prompt} × {model}{input}")
}

/// A stranger's name, on one line.
pub(super) fn name(text: &str, is_terminal: bool) -> String {
    one_line(text, NAME_CHARS, is_terminal)
}

/// The first line of a reason that says something.
pub(super) fn reason(text: &str, is_terminal: bool) -> String {
    let line = text.lines().find(|it| !it.trim().is_empty());
    one_line(line.unwrap_or("no reason given"), REASON_CHARS, is_terminal)
}

fn one_line(text: &str, limit: usize, is_terminal: bool) -> String {
    let text = text.trim();
    let mut line: String = text
        .chars()
        .take(limit)
        // Line ends and tabs are harmless to `visible`, but not to a line whose
        // width has to be known.
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
    if is_terminal { visible(&line) } else { line }
}

/// Characters that merge their neighbours into one picture, of whose width
/// terminals have different ideas: a line that wraps is not wiped off.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// `loading qwen3-4b, context 8192: 40 %`
pub(super) fn loading(load: Load<'_>, is_terminal: bool) -> String {
    let mut text = format!("loading {}", name(load.model, is_terminal));
    if let Some(context) = load.context {
        text += &format!(", context {context}");
    }
    if let Some(done) = load.progress.filter(|it| *it > 0.0) {
        text += &format!(": {} %", percent(done));
    }
    text
}

/// Servers are asked for a share between 0 and 1, and may say anything.
pub(super) fn percent(share: f32) -> String {
    let share = if share.is_finite() { share } else { 0.0 };
    format!("{:.0}", share.clamp(0.0, 1.0) * 100.0)
}

/// Said once, when there are any.
pub(super) fn skipped(run: &Run) -> String {
    let jobs = if run.total == 1 { "job" } else { "jobs" };
    format!(
        "{} {jobs}; {} done before are skipped",
        run.total, run.skipped
    )
}

pub(super) fn tokens(count: u32) -> String {
    match count {
        1 => "1 token".to_owned(),
        _ => format!("{count} tokens"),
    }
}

/// `3:12`, `1:03:12`
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes) = (seconds / HOUR, seconds / MINUTE % 60);
    match hours {
        0 => format!("{minutes}:{:02}", seconds % 60),
        _ => format!("{hours}:{minutes:02}:{:02}", seconds % 60),
    }
}

/// `about 12 min left`, no more exact than an estimate is.
pub(super) fn left(time: Duration) -> String {
    let seconds = time.as_secs();
    // To the nearest, of what is counted in such steps.
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
    fn time_is_told_as_people_tell_it() {
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
            assert_eq!(left(Duration::from_secs(seconds)), shown);
        }
        assert_eq!(clock(Duration::from_secs(192)), "3:12");
        assert_eq!(clock(Duration::from_secs(3792)), "1:03:12");
    }

    #[test]
    fn names_stay_on_one_line_and_end() {
        assert_eq!(name(" a\n\tb\x1b[2J ", true), "a  b␛[2J");
        // Bytes for a file, but no second line.
        assert_eq!(name("a\nb\x1b", false), "a b\x1b");
        assert_eq!(name(&"x".repeat(5000), true).chars().count(), 101);
        assert_eq!(name("a\u{200d}b\u{fe0f}", true), "ab");
        assert_eq!(reason("\n first\nsecond", true), "first");
        assert_eq!(reason("", true), "no reason given");
        assert_eq!(percent(f32::NAN) + &percent(7.0), "0100");
    }
}
