use lmstrix_pack::Request;
use lmstrix_pack_standard::resolve::ResolvedPrompt;
use lmstrix_pack_standard::resolve::resolve;
use serde_json::Value;

use crate::{entries, error_of, file, resolve_prompt, try_resolve};

/// The cases that deliberately differ from the Python program, with the expected result.
const DIFFERENCES: [(&str, Expected); 6] = [
    ("spaced external NOT resolved", Expected::Text("[T]")),
    ("undefined stays literal", Expected::Error("missing: nope")),
    (
        "internal shadows external",
        Expected::Error("t: set as a parameter and also defined in p.toml:2; rename one of them"),
    ),
    (
        "later param expands inside earlier value",
        Expected::Text("<{{t}}>|T"),
    ),
    (
        "self reference",
        Expected::Error("p.toml:1:1: the prompt refers to itself: a -> a"),
    ),
    (
        "growing self reference, 10 passes",
        Expected::Error("p.toml:1:1: the prompt refers to itself: a -> a"),
    ),
];

#[derive(Clone, Copy)]
enum Expected<'a> {
    Text(&'a str),
    Error(&'a str),
}

#[test]
fn matches_the_python_program_except_for_deliberate_differences() {
    let mut difference_count = 0;
    for line in include_str!("resolver.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect("valid test case");
        let name = case["case"].as_str().expect("case");
        let difference = DIFFERENCES.iter().find(|(case, _)| *case == name);
        difference_count += usize::from(difference.is_some());
        let expected = match difference {
            Some((_, expected)) => *expected,
            None => Expected::Text(case["resolved"].as_str().expect("resolved")),
        };
        let file = toml(&case["data"]);
        let params: Vec<(&str, &str)> = case["params"]
            .as_array()
            .expect("params")
            .iter()
            .map(|pair| {
                (
                    pair[0].as_str().expect("key"),
                    pair[1].as_str().expect("value"),
                )
            })
            .collect();
        let result = try_resolve(&file, case["name"].as_str().expect("name"), &params);
        match expected {
            Expected::Text(text) => assert_eq!(result.expect(name).user, text, "{name}"),
            Expected::Error(error) => assert_eq!(error_of(result), error, "{name}"),
        }
    }
    assert_eq!(difference_count, DIFFERENCES.len());
}

/// Converts JSON to TOML. The strings of the test data are valid in both.
fn toml(data: &Value) -> String {
    let mut strings = String::new();
    let mut tables = String::new();
    for (key, value) in data.as_object().expect("object") {
        match value {
            Value::Object(_) => tables += &format!("[{key}]\n{}", toml(value)),
            other => strings += &format!("{key} = {other}\n"),
        }
    }
    strings + &tables
}

#[test]
fn scalars_are_written_in_toml_syntax() {
    let file = r#"
        p = "{{a}} {{b}} {{c}} {{d}} {{e}} {{f}} {{g}} {{h}} {{i}}"
        a = true
        b = 1.50
        c = 0xff
        d = 2026-01-02 03:04:05Z
        e = -inf
        f = 1_000.0
        g = [1, 'two', { x = "a\"b" }]
        h = 07:30:00
        i = 1e300
    "#;
    assert_eq!(
        resolve_prompt(file, "p", &[]).user,
        "true 1.5 255 2026-01-02T03:04:05Z -inf 1000.0 [1, \"two\", {\"x\" = \"a\\\"b\"}] 07:30:00 1e300"
    );
}

#[test]
fn missing_parameters_are_listed_once_in_order_of_appearance() {
    let file = r#"
        a = "{{z}} {{b}} {{ y }}"
        b = "{{x}} {{z}}"
        [c]
        prompt = "{{w}} {{z}}"
        system = "{{v}}"
    "#;
    assert_eq!(
        error_of(try_resolve(file, "a,c", &[("y", "")])),
        "missing: z x w v"
    );
}

#[test]
fn a_prompt_table_is_addressed_by_its_path_or_the_path_of_its_text() {
    let file = "[g]\ntemplate = 'hi'\ntemperature = 0.5\n[h]\nprompt = 'a'\ntemplate = 'b'";
    let check = |name: &str, text: &str, settings: usize| {
        let ResolvedPrompt {
            user,
            settings: actual_settings,
            ..
        } = resolve_prompt(file, name, &[]);
        assert_eq!(
            (user.as_str(), actual_settings.len()),
            (text, settings),
            "{name}"
        );
    };
    check("g", "hi", 1);
    check("g.template", "hi", 1);
    check("h.prompt", "a", 0);
    check("h.template", "b", 0);
    assert_eq!(
        resolve_prompt(file, "h", &[]).warnings,
        ["p.toml:6: `template` is ignored because `prompt` is set"]
    );
}

#[test]
fn cycles_are_reported_at_their_first_prompt() {
    let file = "x = 'see {{a}}'\na = '{{b}}'\n[b]\nprompt = '{{c}}'\n[c]\ntemplate = '{{a}}'\n";
    assert_eq!(
        error_of(try_resolve(file, "x", &[])),
        "p.toml:2:1: the prompt refers to itself: a -> b -> c -> a"
    );
    assert_eq!(
        error_of(try_resolve(file, "b", &[])),
        "p.toml:3:2: the prompt refers to itself: b -> c -> a -> b"
    );
}

#[test]
fn a_parameter_that_the_file_also_defines_is_an_error_only_if_used() {
    let file = "a = '{{t}}'\nt = 'INT'\nb = 'plain'";
    assert_eq!(resolve_prompt(file, "a", &[]).user, "INT");
    assert_eq!(resolve_prompt(file, "b", &[("t", "EXT")]).user, "plain");
    // A table that is not a prompt does not define the name.
    assert_eq!(
        resolve_prompt("a = '{{t}}'\n[t]\nx = 'y'", "a", &[("t", "EXT")]).user,
        "EXT"
    );
}

#[test]
fn parameter_values_are_not_expanded() {
    let params = [("x", "{{t}}{{b}}"), ("t", "{{x}}")];
    let resolved = resolve_prompt("a = '{{x}}|{{t}}|{{b}}'\nb = 'B'", "a", &params);
    assert_eq!(resolved.user, "{{t}}{{b}}|{{x}}|B");
}

#[test]
fn unused_parameters_in_single_braces_get_a_hint() {
    let resolved = resolve_prompt(
        "a = 'about {topic} {other}'",
        "a",
        &[("topic", "AI"), ("x", "")],
    );
    assert_eq!(resolved.user, "about {topic} {other}");
    assert_eq!(
        resolved.warnings,
        [
            "the parameter `topic` is not used: the prompt contains `{topic}`, which is plain text; \
             did you mean `{{topic}}`?",
            "the parameter `x` is not used by the prompt",
        ]
    );
    let both = resolve_prompt("a = '{{topic}} {topic}'", "a", &[("topic", "AI")]);
    assert_eq!((both.user.as_str(), both.warnings.len()), ("AI {topic}", 0));
}

#[test]
fn optional_params_may_be_unused() {
    let request = Request {
        prompt: "a".to_owned(),
        params: entries(&[("topic", "AI"), ("x", ""), ("place", "Rome"), ("y", "")]),
        files: vec![file("p.toml", "a = 'about {{topic}}, not {place}'")],
        extra: entries(&[("optional-params", "topic\nx\nplace")]),
        model: None,
    };
    assert_eq!(
        resolve(&request).unwrap().warnings,
        [
            "the parameter `place` is not used: the prompt contains `{place}`, which is plain text; \
             did you mean `{{place}}`?",
            "the parameter `y` is not used by the prompt",
        ]
    );
}
