//! Parameters and options compared with the description of their pack: declared defaults are
//! applied, missing ones are errors, and unknown ones get a warning. Then packs need no checks
//! of their own.

use lmstrix_sandbox::{PackItemInfo, ParamInfo};

use super::Warning;
use crate::suggest::similar_names;

/// Adds the declared defaults of parameters that are not set. Returns the names of required
/// ones that are missing.
pub(super) fn apply_defaults(
    declared: &PackItemInfo,
    values: &mut Vec<(String, String)>,
) -> Vec<String> {
    let mut missing = Vec::new();
    for ParamInfo {
        name,
        required,
        default,
        ..
    } in &declared.params
    {
        if values.iter().any(|(known, _)| known == name) {
            continue;
        }
        match default {
            Some(default) => values.push((name.clone(), default.clone())),
            None if *required => missing.push(name.clone()),
            None => {}
        }
    }
    missing
}

/// Returns a warning for each value whose name is not declared. `kind` is `parameter` or
/// `option`, `of` the prompt or processor with its pack. Names in `optional` may be unused:
/// they are the columns of a table.
pub(super) fn unknown_values(
    declared: &PackItemInfo,
    values: &[(String, String)],
    optional: &[String],
    kind: &str,
    of: &str,
) -> Vec<Warning> {
    if declared.any_params {
        return Vec::new();
    }
    let names = || declared.params.iter().map(|param| param.name.as_str());
    let is_unknown = |name: &&String| !names().any(|known| known == *name);
    let mut unknown: Vec<&String> = values
        .iter()
        .map(|(name, _)| name)
        .filter(is_unknown)
        .filter(|name| !optional.contains(name))
        .collect();
    unknown.sort();
    unknown.dedup();
    unknown
        .into_iter()
        .map(|name| {
            let similar = similar_names(name, names());
            let known: Vec<String> = names().map(|name| format!("`{name}`")).collect();
            let help = match (similar.first(), &known[..]) {
                (Some(similar), _) => format!("did you mean `{similar}`?"),
                (None, []) => format!("it has no {kind}s"),
                (None, known) => format!("its {kind}s are {}", known.join(", ")),
            };
            Warning::Resolver(format!("{of} has no {kind} `{name}`; {help}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> PackItemInfo {
        let param = |name: &str, required, default: Option<&str>| ParamInfo {
            name: name.to_owned(),
            summary: String::new(),
            required,
            default: default.map(str::to_owned),
        };
        PackItemInfo {
            name: "greet".to_owned(),
            summary: String::new(),
            params: vec![
                param("name", true, None),
                param("style", false, Some("warm")),
                param("place", false, None),
            ],
            any_params: false,
        }
    }

    fn values(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn defaults_are_added_and_required_values_are_missed() {
        for (given, expected, missing) in [
            (values(&[]), values(&[("style", "warm")]), vec!["name"]),
            (
                values(&[("name", ""), ("style", "cold")]),
                values(&[("name", ""), ("style", "cold")]),
                vec![],
            ),
        ] {
            let mut applied = given;
            assert_eq!(apply_defaults(&declared(), &mut applied), missing);
            assert_eq!(applied, expected);
        }
    }

    #[test]
    fn a_prompt_of_any_parameters_has_no_unknown_ones() {
        let declared = PackItemInfo {
            any_params: true,
            ..declared()
        };
        let unknown = unknown_values(&declared, &values(&[("x", "")]), &[], "parameter", "p/g");
        assert!(unknown.is_empty());
    }

    #[test]
    fn unknown_values_get_a_warning_unless_they_are_columns() {
        let given = values(&[("nam", "x"), ("nam", "y"), ("zzz", "z"), ("column", "c")]);
        let warnings: Vec<String> = unknown_values(
            &declared(),
            &given,
            &["column".to_owned()],
            "parameter",
            "p/greet",
        )
        .iter()
        .map(ToString::to_string)
        .collect();
        assert_eq!(
            warnings,
            [
                "p/greet has no parameter `nam`; did you mean `name`?",
                "p/greet has no parameter `zzz`; its parameters are `name`, `style`, `place`",
            ]
        );
    }
}
