use std::path::Path;

use lmstrix_import::{Format, import};

use crate::{check_valid, convert_one, report, resolve_prompt};

/// Compares a text with a file of `data`. If they differ, writes the actual text to the folder
/// for temporary files of the build, and returns its path.
fn difference(name: &str, actual: &str) -> Option<String> {
    let expected = std::fs::read_to_string(Path::new("tests/data").join(name));
    if expected.is_ok_and(|expected| expected == actual) {
        return None;
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, actual).unwrap_or_else(|error| panic!("{error}"));
    Some(path.display().to_string())
}

fn check_folder(format: Format) {
    let imported = import(format, &Path::new("tests/data").join(format.name()))
        .unwrap_or_else(|error| panic!("{error}"));
    check_valid(&imported);
    assert!(imported.prompts.len() >= 10, "{:?}", imported.prompts);
    let differences = [
        difference(&format!("{format}.toml"), &imported.toml),
        difference(&format!("{format}.report"), &(report(&imported) + "\n")),
    ];
    let changed: Vec<String> = differences.into_iter().flatten().collect();
    assert!(changed.is_empty(), "tests/data differs from {changed:?}");
}

#[test]
fn fabric_patterns() {
    check_folder(Format::Fabric);
}

#[test]
fn llm_templates() {
    check_folder(Format::Llm);
}

#[test]
fn prompty_files() {
    check_folder(Format::Prompty);
}

#[test]
fn dotprompt_files() {
    check_folder(Format::Dotprompt);
}

/// Converts a file, resolves its prompt with `value of NAME` for each parameter, and compares
/// the messages: `SYSTEM | USER`, with `⏎` for newlines.
fn check(format: Format, text: &str, params: &[&str], expected: &str) {
    let imported = convert_one(format, text);
    let values: Vec<(&str, String)> = params
        .iter()
        .map(|name| (*name, format!("<{name}>")))
        .collect();
    let values: Vec<(&str, &str)> = values
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    assert_eq!(imported.prompts.len(), 1, "{text}\n{}", report(&imported));
    let prompt = imported.prompts[0].clone();
    let resolved = resolve_prompt(&imported.toml, &prompt, &values);
    assert_eq!(resolved.warnings, Vec::<String>::new(), "{text}");
    let system = resolved.system.unwrap_or_else(|| "-".to_owned());
    let actual = format!("{system} | {}", resolved.user).replace('\n', "⏎");
    assert_eq!(actual, expected, "{text}\n{}", imported.toml);
}

#[test]
fn llm_sends_the_input_as_llm_does() {
    for (text, params, expected) in [
        ("prompt: a", &["text"][..], "- | a⏎<text>"),
        ("prompt: a $input", &["text"], "- | a <text>"),
        ("prompt: a\nsystem: b $input", &["text"], "b <text> | a"),
        ("system: b", &["text"], "b | <text>"),
        ("system: b $input", &["text"], "b <text> | <text>"),
        ("prompt: ''\nsystem: b", &["text"], "b | <text>"),
        ("model: x", &["text"], "- | <text>"),
        ("prompt: a ${input} b", &["text"], "- | a  b⏎<text>"),
        ("prompt: ${input} $input", &["text"], "- | <text> <text>"),
        (
            "prompt: $x${y}z $X_1é",
            &["text", "x", "y", "X_1"],
            "- | <x><y>z <X_1>é⏎<text>",
        ),
        ("prompt: $$x ${x $1 $", &["text"], "- | $x ${x $1 $⏎<text>"),
        (
            "prompt: $text $input",
            &["text", "text_2"],
            "- | <text_2> <text>",
        ),
        ("prompt: $text", &["text", "text_2"], "- | <text_2>⏎<text>"),
        ("prompt: '{{x}} $x'", &["text", "x"], "- | {{x}} <x>⏎<text>"),
        (
            "prompt: '{{open}} $x'",
            &["text", "x"],
            "- | {{open}} <x>⏎<text>",
        ),
        (
            "prompt: '{{x}} $open'",
            &["text", "open"],
            "- | {{x}} <open>⏎<text>",
        ),
        ("prompt: '{{p}} $p'", &["text", "p"], "- | {{p}} <p>⏎<text>"),
        ("prompt: $input\ndefaults: {a: b}", &["text"], "- | <text>"),
        (
            "prompt: $a\ndefaults: {a: no}",
            &["text"],
            "- | False⏎<text>",
        ),
        (
            "prompt: Summarize\ndefaults: {text: STALE}",
            &["text"],
            "- | Summarize⏎<text>",
        ),
        (
            "prompt: $a\ndefaults: {a: '{{text}}'}",
            &["text"],
            "- | {{text}}⏎<text>",
        ),
    ] {
        check(Format::Llm, text, params, expected);
    }
}

#[test]
fn fabric_places_the_input() {
    for (text, params, expected) in [
        ("a", &["text"][..], "a | <text>"),
        ("a {{input}} b\n", &["text"], "- | a <text> b"),
        ("a {{x}} b", &["text", "x"], "a <x> b | <text>"),
        (
            "{{text}} {{input}}",
            &["text", "text_2"],
            "- | <text_2> <text>",
        ),
        ("{{text}}", &["text", "text_2"], "<text_2> | <text>"),
        ("{{{input}}}", &["text"], "- | {<text>}"),
        ("{{}} {{ }} {{", &["text"], "{{}} {{ }} {{ | <text>"),
    ] {
        check(Format::Fabric, text, params, expected);
    }
}

#[test]
fn prompty_splits_messages() {
    for (body, params, expected) in [
        ("user:\na\n", &[][..], "- | a"),
        ("system:\na\nuser:\nb", &[], "a | b"),
        (" # System : \n\na\n\n\nUSER:\nb\n", &[], "a | b"),
        ("system[a=\"b\", c=1]:\na\nuser:\nb", &[], "a | b"),
        ("system[a]:\na\nuser:\nb", &[], "system[a]:⏎a | b"),
        ("a user:\nb", &[], "- | a user:⏎b"),
        ("a\nuser:\nb", &[], "a | b"),
        ("user:\n{{a}}:\nuser: b\n", &["a"], "- | <a>:⏎user: b"),
        ("user:\n{# x\nsystem:\n#}b", &[], "- | b"),
        ("user:\na {{- b -}} c", &["b"], "- | a<b>c"),
        ("user:\n{{input}}", &["text"], "- | <text>"),
        (
            "user:\n{{input}} {{text}}",
            &["input", "text"],
            "- | <input> <text>",
        ),
        ("user:\n{{a.b}} {{ '}}' }}", &["a.b"], "- | <a.b> }}"),
    ] {
        let text = format!("---\nname: x\n---\n{body}");
        check(Format::Prompty, &text, params, expected);
    }
}

#[test]
fn prompty_defaults_are_as_jinja_prints_them() {
    for (inputs, params, expected) in [
        ("{a: {default: true}}", &[][..], "- | True!"),
        ("{a: {default: no}}", &[], "- | False!"),
        ("{a: {default: 1.5}}", &[], "- | 1.5!"),
        ("{a: {required: false}}", &[], "- | !"),
        ("{a: {default: '${env:A}'}}", &["a"], "- | <a>!"),
        ("{a: {default: '${file:a.txt}'}}", &["a"], "- | <a>!"),
        (
            "[{name: a, default: 1}, {name: a, default: 2}]",
            &[],
            "- | 1!",
        ),
    ] {
        let text = format!("---\ninputs: {inputs}\n---\nuser:\n{{{{a}}}}!");
        check(Format::Prompty, &text, params, expected);
    }
}

#[test]
fn prompty_template_languages() {
    for (template, expected) in [
        ("jinja2", "- | <a> <b>"),
        (
            "{format: {kind: nunjucks}, parser: {kind: prompty}}",
            "- | <a> <b>",
        ),
        ("{type: jinja2}", "- | <a> <b>"),
        ("{format: mustache}", "- | <a> <b>"),
    ] {
        let text = format!("---\ntemplate: {template}\n---\nuser:\n{{{{a}}}} {{{{ b }}}}");
        check(Format::Prompty, &text, &["a", "b"], expected);
    }
}

#[test]
fn dotprompt_splits_messages() {
    for (text, params, expected) in [
        ("a", &[][..], "- | a"),
        ("---\n---\na", &[], "- | a"),
        ("{{role \"system\"}}a{{role \"user\"}}b", &[], "a | b"),
        ("a{{role \"system\"}}b", &[], "b | a"),
        ("{{role \"system\"}}{{role \"user\"}}b", &[], "- | b"),
        (
            "{{role \"user\"}}{{history}}{{role \"user\"}}b",
            &[],
            "- | b",
        ),
        (
            "{{a}}{{{b}}}{{&c}}{{this.d}}",
            &["a", "b", "c", "d"],
            "- | <a><b><c><d>",
        ),
        ("\\{{a}} {{a}}", &["a"], "- | {{a}} <a>"),
        ("\\\\{{a}}", &["a"], "- | \\<a>"),
        ("\\{{a}} \\{{b}}", &[], "- | {{a}} {{b}}"),
        ("x\n  {{! c }}  \ny", &[], "- | x⏎y"),
        ("x {{!-- }} --}} y", &[], "- | x  y"),
        ("x  {{~a~}}  y", &["a"], "- | x<a>y"),
        ("{{input}}", &["text"], "- | <text>"),
        ("{{! a }}\n{{! b }}\nx", &[], "- | x"),
        ("x{{! a }}\n{{! b }}  ", &[], "- | x"),
        ("{{! a }} {{! b }}\nx", &[], "- |  ⏎x"),
        ("\\\\\\{{a}}", &["a"], "- | \\\\<a>"),
        ("x {{~! c ~}} y", &[], "- | xy"),
        ("{{ role \"system\" }}a{{{role 'user'}}}b", &[], "a | b"),
        ("{{a-b.c}}", &["a-b.c"], "- | <a-b.c>"),
        ("{{!-- }} --~}}  {{!----}}x", &[], "- | x"),
        (
            "---\ninput: {default: {input: A, text: B}}\n---\n{{input}}",
            &[],
            "- | A",
        ),
        (
            "---\ninput: {schema: {type: object, properties: {a: {type: string}, b: {type: string}}, required: [a]}}\n---\n{{a}}{{b}}!",
            &["a"],
            "- | <a>!",
        ),
        (
            "---\ninput: {schema: {properties: {a: {type: string}}}}\n---\n{{a}}!",
            &[],
            "- | !",
        ),
    ] {
        check(Format::Dotprompt, text, params, expected);
    }
}

#[test]
fn partials_keep_their_lines() {
    let sources = [
        crate::source("p.prompt", "p", "a\n  {{>x}}\nb {{>x}} c\n"),
        crate::source("_x.prompt", "_x", "1\n2\n"),
    ];
    let imported = lmstrix_import::convert(Format::Dotprompt, &sources);
    let resolved = resolve_prompt(&imported.toml, "p", &[]);
    // As the JavaScript library renders it.
    assert_eq!(resolved.user, "a\n  1\n  2\nb 1\n2\n c");
}

#[test]
fn settings_and_schemas_reach_the_model() {
    let imported = convert_one(
        Format::Dotprompt,
        "---\nconfig: {temperature: 0.5, maxOutputTokens: 10, stopSequences: [a, b], topK: 40.0, topP: 2}\noutput: {schema: {a: string, b?: 'integer, a number'}}\n---\nx",
    );
    let resolved = resolve_prompt(&imported.toml, "p", &[]);
    assert_eq!(resolved.extension.as_deref(), Some("json"));
    let settings = format!("{:?}", resolved.settings);
    for expected in [
        "Temperature(0.5)",
        "TopK(40)",
        "MaxTokens(Some(10))",
        "Stop(\"a\")",
        "Stop(\"b\")",
    ] {
        assert!(settings.contains(expected), "{settings}");
    }
    assert!(imported.toml.contains("\"a number\""), "{}", imported.toml);
    assert_eq!(
        report(&imported),
        "p.prompt:2: p: the option `topP` is left out; it must be a number from 0 to 1"
    );
}
