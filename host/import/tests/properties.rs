use lmstrix_import::{Format, convert};
use proptest::prelude::*;

use crate::{check_valid, convert_one, resolve_prompt, source};

/// Texts with many braces, quotes, backslashes, dollar signs and control characters.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[{}a \n.]{0,40}",
        "[\"'\\\\\n\ta]{0,40}",
        "[{}$#%!~>&ab\"'\\\\ \n\r\t\u{0}\u{7f}\u{85}\u{feff}é|:-]{0,60}",
        any::<String>(),
    ]
}

/// Names of prompts and parameters that could be mistaken for each other.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("open".to_owned()),
        Just("text".to_owned()),
        Just("prompt".to_owned()),
        "[a-c]{1,2}",
        any::<String>(),
    ]
}

/// The form in which YAML keeps any text: a double-quoted scalar in the syntax of JSON.
fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            ' '..='~' => c.to_string(),
            c => format!("\\U{:08x}", u32::from(c)),
        })
        .collect();
    format!("\"{escaped}\"")
}

/// Returns true for the lines that Prompty could read as the role of a message.
fn could_be_a_role(line: &str) -> bool {
    let line = line.trim().trim_start_matches('#').trim().to_lowercase();
    let roles = ["system", "developer", "user", "assistant"];
    line.ends_with(':') && roles.iter().any(|role| line.starts_with(role))
}

/// Returns a template of each format with the parameters, and with defaults for the inputs.
fn with_defaults(params: &[&str], inputs: &[&str]) -> [(Format, String); 3] {
    let list: Vec<String> = inputs
        .iter()
        .map(|name| format!("{{name: {name}, default: D-{name}}}"))
        .collect();
    let list = list.join(", ");
    let unique: std::collections::BTreeSet<&str> = inputs.iter().copied().collect();
    let map: Vec<String> = unique
        .iter()
        .map(|name| format!("{name}: D-{name}"))
        .collect();
    let map = map.join(", ");
    let body: String = params
        .iter()
        .map(|name| format!("|{{{{{name}}}}}"))
        .collect();
    let dollars: String = params.iter().map(|name| format!("|${name}")).collect();
    [
        (
            Format::Llm,
            format!("prompt: '{dollars}|$input'\ndefaults: {{{map}}}"),
        ),
        (
            Format::Dotprompt,
            format!("---\ninput: {{default: {{{map}}}}}\n---\n{body}|"),
        ),
        (
            Format::Prompty,
            format!("---\ninputs: [{list}]\n---\nuser:\n{body}|"),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_of_an_llm_template_survives(prompt in text(), system in text()) {
        let dollars = |text: &str| quoted(&text.replace('$', "$$"));
        let yaml = format!("prompt: {}\nsystem: {}", dollars(&prompt), dollars(&system));
        let imported = convert_one(Format::Llm, &yaml);
        check_valid(&imported);
        let name = imported.prompts.concat();
        let resolved = resolve_prompt(&imported.toml, &name, &[("text", "{{input}}")]);
        let expected = match prompt.is_empty() {
            true => "{{input}}".to_owned(),
            false => format!("{prompt}\n{{{{input}}}}"),
        };
        prop_assert_eq!(resolved.user, expected);
        let system = Some(system).filter(|system| !system.trim().is_empty());
        prop_assert_eq!(resolved.system, system);
    }

    #[test]
    fn any_text_between_variables_survives(parts in proptest::collection::vec((text(), "[a-c]|open|text"), 0..5), end in text()) {
        let mut template = String::new();
        let mut expected = String::new();
        for (text, variable) in &parts {
            template.push_str(&format!("{}${{{variable}}}", text.replace('$', "$$")));
            expected.push_str(&format!("{text}<{variable}>"));
        }
        template.push_str(&format!("{}$input", end.replace('$', "$$")));
        expected.push_str(&format!("{end}<input>"));
        let imported = convert_one(Format::Llm, &format!("prompt: {}", quoted(&template)));
        check_valid(&imported);
        let uses_text = parts.iter().any(|(_, variable)| variable == "text");
        let mut params = vec![("text", "<input>")];
        for (name, value) in [("a", "<a>"), ("b", "<b>"), ("c", "<c>"), ("open", "<open>")] {
            if parts.iter().any(|(_, variable)| variable == name) {
                params.push((name, value));
            }
        }
        if uses_text {
            params.push(("text_2", "<text>"));
        }
        let resolved = resolve_prompt(&imported.toml, &imported.prompts.concat(), &params);
        prop_assert_eq!(resolved.user, expected);
    }

    #[test]
    fn any_text_without_double_braces_survives(body in text()) {
        let body = body.replace('{', "{ ").replace('\r', "\r ");
        for (format, text) in [
            (Format::Fabric, format!("x{body}y")),
            (Format::Dotprompt, format!("x{body}y")),
            (Format::Prompty, format!("---\nname: a\n---\nuser:\nx{body}y")),
        ] {
            let has_role = body.lines().any(could_be_a_role);
            if format == Format::Prompty && has_role {
                continue;
            }
            let imported = convert_one(format, &text);
            check_valid(&imported);
            let resolved = resolve_prompt(&imported.toml, &imported.prompts.concat(), &match format {
                Format::Fabric => vec![("text", "z")],
                _ => vec![],
            });
            let actual = match format {
                Format::Fabric => resolved.system.unwrap_or_default(),
                _ => resolved.user,
            };
            prop_assert_eq!(actual, format!("x{body}y"), "{}", format);
        }
    }

    #[test]
    fn any_names_are_valid_and_distinct(names in proptest::collection::vec(name(), 0..6), variable in "[a-c]{1,2}|open|text|open-2") {
        let sources: Vec<_> = names
            .iter()
            .map(|name| {
                let text = format!("prompt: '${{{}}} {{{{x}}}} {{{{{variable}}}}}'", variable.replace('-', "_"));
                source("p.yaml", name, &text)
            })
            .collect();
        let imported = convert(Format::Llm, &sources);
        prop_assert_eq!(imported.prompts.len(), names.len());
        check_valid(&imported);
        for prompt in &imported.prompts {
            prop_assert!(!prompt.contains(['/', ',', '.', ' ', '"']));
        }
    }

    #[test]
    fn defaults_stay_with_their_parameters(
        params in proptest::collection::vec(proptest::sample::select(&["text", "input", "a", "text_2"][..]), 0..4),
        inputs in proptest::collection::vec(proptest::sample::select(&["text", "input", "a", "text_2"][..]), 0..6),
    ) {
        for (format, text) in with_defaults(&params, &inputs) {
            let imported = convert_one(format, &text);
            let mut expected: String = params
                .iter()
                .map(|name| match inputs.contains(name) && (format, *name) != (Format::Llm, "input") {
                    true => format!("|D-{name}"),
                    false => "|value".to_owned(),
                })
                .collect();
            expected.push_str(if format == Format::Llm { "|value" } else { "|" });
            let resolved = check_valid(&imported);
            prop_assert_eq!(&resolved[0].user, &expected, "{}\n{}", text, imported.toml);
        }
    }

    #[test]
    fn any_file_gives_a_valid_prompt_file(text in text(), head in text()) {
        for format in Format::ALL {
            check_valid(&convert_one(format, &text));
            check_valid(&convert_one(format, &format!("---\n{head}\n---\n{text}")));
            check_valid(&convert_one(format, &format!("---\nname: {}\ninput: {{default: {{a: {}}}}}\ninputs: {{a: {{default: {}}}}}\n---\n{text} {{{{a}}}}", quoted(&head), quoted(&head), quoted(&head))));
        }
    }
}
