//! Time limits such as `90`, `90s`, `5m`, `1.5h` and `500ms`.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::toml_file::from_scalar;

/// A time limit; `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimit(pub Option<Duration>);

impl FromStr for TimeLimit {
    type Err = String;

    /// Parses seconds, or a number with a unit; 0 is off.
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || "expected seconds, or a number with ms, s, m or h; 0 disables".to_owned();
        let trimmed = text.trim();
        let number = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let seconds_per_unit = match trimmed.get(number.len()..).unwrap_or_default() {
            "" | "s" | "sec" => 1.0,
            "ms" => 0.001,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(invalid()),
        };
        // `f64::from_str` also accepts `inf` and `1e9`.
        if !number
            .chars()
            .all(|c| c.is_ascii_digit() || c == '.' || c == ' ')
        {
            return Err(invalid());
        }
        let number: f64 = number.trim().parse().map_err(|_| invalid())?;
        let duration =
            Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| invalid())?;
        Ok(Self((!duration.is_zero()).then_some(duration)))
    }
}

impl<'de> Deserialize<'de> for TimeLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_scalar(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_numbers_with_units() {
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
            let limit: TimeLimit = text.parse().unwrap();
            assert_eq!(limit.0, ms.map(Duration::from_millis), "{text}");
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
            assert!(text.parse::<TimeLimit>().is_err(), "{text}");
        }
    }
}
