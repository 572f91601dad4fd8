//! Spans of time as people write them: `90`, `90s`, `5m`, `1.5h`, `500ms`.

use std::time::Duration;

/// A limit of time; 0 is off, and off is `None`.
///
/// # Errors
/// It is no span; the text says what is allowed.
pub(crate) fn parse(text: &str) -> Result<Option<Duration>, String> {
    let wrong = || {
        format!(
            "`{text}` is no span of time; it takes seconds, or a number with ms, s, m or h, and 0 is off"
        )
    };
    let trimmed = text.trim();
    let digits = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match trimmed.get(digits.len()..).unwrap_or_default() {
        "" | "s" | "sec" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    // Rust reads more as a number than people mean: `inf`, `1e9`.
    if !digits
        .chars()
        .all(|c| c.is_ascii_digit() || c == '.' || c == ' ')
    {
        return Err(wrong());
    }
    let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let span = Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
    Ok((!span.is_zero()).then_some(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, ms) in [
            ("10", Some(10_000)),
            ("90s", Some(90_000)),
            ("5m", Some(300_000)),
            ("1.5h", Some(5_400_000)),
            ("500ms", Some(500)),
            (" 2 s ", Some(2_000)),
            ("0", None),
            ("0s", None),
        ] {
            let span = parse(text).unwrap();
            assert_eq!(span, ms.map(Duration::from_millis), "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "1d",
            "1e9",
            "inf",
            "x",
            "1 2",
            "99999999999999999999h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
