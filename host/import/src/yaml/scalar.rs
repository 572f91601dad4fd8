//! The types of plain scalars.

use super::Value;

/// The rules that give a plain scalar its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// YAML 1.1 as PyYAML reads it: `yes` and `on` are booleans, `010` is octal.
    Yaml11,
    /// The core schema of YAML 1.2.
    Core,
}

/// Returns the value of a plain scalar.
pub(super) fn plain(text: &str, schema: Schema) -> Value {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    if let Some(boolean) = boolean(text, schema) {
        return Value::Boolean(boolean);
    }
    if let Some(number) = integer(text, schema) {
        return Value::Integer(number);
    }
    match float(text, schema) {
        Some(number) => Value::Float(number),
        None => Value::Text(text.to_owned()),
    }
}

fn boolean(text: &str, schema: Schema) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" if schema == Schema::Yaml11 => Some(true),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" if schema == Schema::Yaml11 => Some(false),
        _ => None,
    }
}

fn integer(text: &str, schema: Schema) -> Option<i64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (digits, radix) = match schema {
        _ if unsigned.starts_with("0x") => (unsigned.get(2..)?, 16),
        Schema::Core if unsigned.starts_with("0o") => (unsigned.get(2..)?, 8),
        Schema::Yaml11 if unsigned.starts_with("0b") => (unsigned.get(2..)?, 2),
        Schema::Yaml11 if unsigned.len() > 1 && unsigned.starts_with('0') => {
            (unsigned.get(1..)?, 8)
        }
        _ => (unsigned, 10),
    };
    let digits = match schema {
        Schema::Yaml11 if unsigned.starts_with(|c: char| c.is_ascii_digit()) => {
            digits.replace('_', "")
        }
        _ => digits.to_owned(),
    };
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    let sign = if text.starts_with('-') { "-" } else { "" };
    match is_number {
        true => i64::from_str_radix(&format!("{sign}{digits}"), radix).ok(),
        false => None,
    }
}

fn float(text: &str, schema: Schema) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if unsigned == text => return Some(f64::NAN),
        _ => {}
    }
    let is_float = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+'))
        && (schema == Schema::Core || unsigned.contains('.'));
    match is_float {
        true => text.parse().ok(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Schema, plain};

    #[test]
    fn types_of_plain_scalars() {
        for (text, yaml11, core) in [
            ("", "Null", "Null"),
            ("~", "Null", "Null"),
            ("true", "Boolean(true)", "Boolean(true)"),
            ("yes", "Boolean(true)", "Text(\"yes\")"),
            ("off", "Boolean(false)", "Text(\"off\")"),
            ("12", "Integer(12)", "Integer(12)"),
            ("-12", "Integer(-12)", "Integer(-12)"),
            ("010", "Integer(8)", "Integer(10)"),
            ("0x1F", "Integer(31)", "Integer(31)"),
            ("0o17", "Text(\"0o17\")", "Integer(15)"),
            ("1_000", "Integer(1000)", "Text(\"1_000\")"),
            ("1.10", "Float(1.1)", "Float(1.1)"),
            ("1e3", "Text(\"1e3\")", "Float(1000.0)"),
            ("-.inf", "Float(-inf)", "Float(-inf)"),
            (".", "Text(\".\")", "Text(\".\")"),
            ("1.2.3", "Text(\"1.2.3\")", "Text(\"1.2.3\")"),
            ("_1", "Text(\"_1\")", "Text(\"_1\")"),
            (
                "99999999999999999999",
                "Text(\"99999999999999999999\")",
                "Float(1e20)",
            ),
            ("2024-01-31", "Text(\"2024-01-31\")", "Text(\"2024-01-31\")"),
        ] {
            assert_eq!(
                format!("{:?}", plain(text, Schema::Yaml11)),
                yaml11,
                "{text}"
            );
            assert_eq!(format!("{:?}", plain(text, Schema::Core)), core, "{text}");
        }
    }
}
