use lmstrix_pack_standard::types::Resolved;
use serde_json::Value;

use crate::{failure, one, try_one};

/// The cases in which we decided otherwise, and what happens instead.
const DIFFERENT: [(&str, Expected); 6] = [
    ("spaced external NOT resolved", Expected::Text("[T]")),
    ("undefined stays literal", Expected::Error("missing: nope")),
    (
        "internal shadows external",
        Expected::Error("t: given by you, and defined in p.toml:2; rename one of the two"),
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
fn resolves_as_the_original_but_for_the_deliberate_differences() {
    let mut different = 0;
    for line in include_str!("resolver.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let name = case["case"].as_str().expect("a name");
        let difference = DIFFERENT.iter().find(|(case, _)| *case == name);
        different += usize::from(difference.is_some());
        let expected = match difference {
            Some((_, expected)) => *expected,
            None => Expected::Text(case["resolved"].as_str().expect("a text")),
        };
        let file = toml(&case["data"]);
        let params: Vec<(&str, &str)> = case["params"]
            .as_array()
            .expect("parameters")
            .iter()
            .map(|pair| {
                (
                    pair[0].as_str().expect("key"),
                    pair[1].as_str().expect("value"),
                )
            })
            .collect();
        let result = try_one(&file, case["name"].as_str().expect("a prompt"), &params);
        match expected {
            Expected::Text(text) => assert_eq!(result.expect(name).user, text, "{name}"),
            Expected::Error(error) => assert_eq!(failure(result), error, "{name}"),
        }
    }
    assert_eq!(different, DIFFERENT.len());
}

/// JSON strings are TOML strings, as long as they hold nothing exotic.
fn toml(data: &Value) -> String {
    let mut strings = String::new();
    let mut tables = String::new();
    for (key, value) in data.as_object().expect("a table") {
        match value {
            Value::Object(_) => tables += &format!("[{key}]\n{}", toml(value)),
            other => strings += &format!("{key} = {other}\n"),
        }
    }
    strings + &tables
}

#[test]
fn writes_scalars_as_toml_does() {
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
        one(file, "p", &[]).user,
        "true 1.5 255 2026-01-02T03:04:05Z -inf 1000.0 [1, \"two\", {\"x\" = \"a\\\"b\"}] 07:30:00 1e300"
    );
}

#[test]
fn lists_every_missing_parameter_once_in_order() {
    let file = r#"
        a = "{{z}} {{b}} {{ y }}"
        b = "{{x}} {{z}}"
        [c]
        prompt = "{{w}} {{z}}"
        system = "{{v}}"
    "#;
    assert_eq!(
        failure(try_one(file, "a,c", &[("y", "")])),
        "missing: z x w v"
    );
}

#[test]
fn addresses_a_table_by_its_own_name_and_by_that_of_its_text() {
    let file = "[g]\ntemplate = 'hi'\ntemperature = 0.5\n[h]\nprompt = 'a'\ntemplate = 'b'";
    let check = |name: &str, text: &str, settings: usize| {
        let Resolved {
            user,
            settings: found,
            ..
        } = one(file, name, &[]);
        assert_eq!((user.as_str(), found.len()), (text, settings), "{name}");
    };
    check("g", "hi", 1);
    check("g.template", "hi", 1);
    check("h.prompt", "a", 0);
    check("h.template", "b", 0);
    assert_eq!(
        one(file, "h", &[]).warnings,
        ["p.toml:6: `template` is ignored beside `prompt`"]
    );
}

#[test]
fn shows_a_cycle_where_it_begins() {
    let file = "x = 'see {{a}}'\na = '{{b}}'\n[b]\nprompt = '{{c}}'\n[c]\ntemplate = '{{a}}'\n";
    assert_eq!(
        failure(try_one(file, "x", &[])),
        "p.toml:2:1: the prompt refers to itself: a -> b -> c -> a"
    );
    assert_eq!(
        failure(try_one(file, "b", &[])),
        "p.toml:3:2: the prompt refers to itself: b -> c -> a -> b"
    );
}

#[test]
fn a_name_given_twice_is_an_error_only_where_it_is_used() {
    let file = "a = '{{t}}'\nt = 'INT'\nb = 'plain'";
    assert_eq!(one(file, "a", &[]).user, "INT");
    assert_eq!(one(file, "b", &[("t", "EXT")]).user, "plain");
    // A table that is no prompt has nothing to say for the name.
    assert_eq!(
        one("a = '{{t}}'\n[t]\nx = 'y'", "a", &[("t", "EXT")]).user,
        "EXT"
    );
}

#[test]
fn parameters_are_put_in_all_at_once() {
    let params = [("x", "{{t}}{{b}}"), ("t", "{{x}}")];
    let resolved = one("a = '{{x}}|{{t}}|{{b}}'\nb = 'B'", "a", &params);
    assert_eq!(resolved.user, "{{t}}{{b}}|{{x}}|B");
}

#[test]
fn single_braces_get_a_hint_when_the_parameter_was_given() {
    let resolved = one(
        "a = 'about {topic} {other}'",
        "a",
        &[("topic", "AI"), ("x", "")],
    );
    assert_eq!(resolved.user, "about {topic} {other}");
    assert_eq!(
        resolved.warnings,
        [
            "the parameter `topic` is not used: the prompt says `{topic}`, which is plain text; \
             did you mean `{{topic}}`?",
            "the parameter `x` is not used by the prompt",
        ]
    );
    let both = one("a = '{{topic}} {topic}'", "a", &[("topic", "AI")]);
    assert_eq!((both.user.as_str(), both.warnings.len()), ("AI {topic}", 0));
}
