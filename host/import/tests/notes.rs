use lmstrix_import::{Format, convert};

use crate::{check_valid, convert_one, messages, source};

/// Checks the notes of each file, which is converted. Lists all differences.
fn check(rows: &[(Format, &str, &[&str])]) {
    let mut differences = String::new();
    for (format, text, expected) in rows {
        let imported = convert_one(*format, text);
        assert_eq!(imported.prompts, ["p"], "{text}");
        check_valid(&imported);
        let actual = messages(&imported);
        if actual != *expected {
            differences.push_str(&format!("{format} {text:?}: {actual:#?}\n"));
        }
    }
    assert_eq!(differences, "");
}

#[test]
fn lines_of_literal_blocks() {
    for (text, line) in [
        ("prompt: $", 1),
        ("prompt: '\n\n  $'", 1),
        ("prompt: |\n  $", 2),
        ("prompt: |\n  a\n  b $", 3),
        ("prompt: |\n\n\n  a $", 4),
        ("prompt: |\n\n  a\n\n  b $", 5),
        ("prompt: |+2\n\n    a\n  $\n\n", 4),
        ("name: x\nprompt:\n  |\n  a\n  $", 5),
        ("name: x\nprompt: |-\n  $", 3),
    ] {
        let imported = convert_one(Format::Llm, text);
        let expected = format!("{line}: a `$` without a name is plain text here; llm rejects it");
        assert_eq!(messages(&imported), [expected], "{text:?}");
    }
}

#[test]
fn lines_of_partials() {
    let partials = [
        source("_m.prompt", "_m", "1\n2\n3\n{{media url=a}}\n{{history}}"),
        source("_n.prompt", "_n", "1\n{{>m}}\n"),
        source("_u.prompt", "_u", "1\n2\n{{role \"user\"}}3"),
        source("_s.prompt", "_s", "{{role \"system\"}}\n\n4"),
        source("_o.prompt", "_o", "\n\n{{role \"model\"}}4"),
        source("_i.prompt", "_i", "\n\n{{#if a}}"),
    ];
    let media = "`{{media url=a}}` is left out; send the image with `--attach`";
    let history = "`{{history}}` is left out; a prompt has no earlier messages";
    for (text, expected) in [
        (
            "a\n{{>m}}{{role \"user\"}}b",
            vec![
                format!("2: in the partial `m`: {media}"),
                format!("2: in the partial `m`: {history}"),
                "2: joined with the user message before it".to_owned(),
            ],
        ),
        (
            "a\n\n{{>n}}\n{{media url=a}}{{role \"system\"}}b",
            vec![
                format!("3: in the partial `n`: {media}"),
                format!("3: in the partial `n`: {history}"),
                format!("4: {media}"),
                "4: the system message moves before the user message".to_owned(),
            ],
        ),
        (
            "a\n{{>u}}",
            vec!["2: in the partial `u`: joined with the user message before it".to_owned()],
        ),
        (
            "a\n{{>s}}",
            vec![
                "2: in the partial `s`: the system message moves before the user message"
                    .to_owned(),
            ],
        ),
        (
            "\n{{>s}}",
            vec![
                "2: in the partial `s`: the only message is the user message, not the system message"
                    .to_owned(),
            ],
        ),
        (
            "a\n{{>o}}",
            vec![
                "2: in the partial `o`: a message of the role `model`; a prompt has a system and a user message"
                    .to_owned(),
            ],
        ),
        (
            "a\n{{>i}}",
            vec!["2: in the partial `i`: `{{#if a}}` is template logic".to_owned()],
        ),
    ] {
        let mut sources = partials.to_vec();
        sources.push(source("p.prompt", "p", text));
        let imported = convert(Format::Dotprompt, &sources);
        assert_eq!(messages(&imported), expected, "{text}");
    }
}

#[test]
fn unknown_keys_and_wrong_types_are_noted() {
    check(&[
        (
            Format::Dotprompt,
            "---\nmaxTokens: 5\ntoolChoice: none\nvariant: a\n---\nx",
            &[
                "2: the unknown key `maxTokens` is left out",
                "3: the unknown key `toolChoice` is left out",
            ],
        ),
        (
            Format::Dotprompt,
            "---\nconfig: fast\ninput: x\noutput: json\n---\nx",
            &[
                "2: `config` is left out; it must be a map, not a string",
                "3: `input` is left out; it must be a map, not a string",
                "4: `output` is left out; it must be a map, not a string",
            ],
        ),
        (
            Format::Dotprompt,
            "---\ninput: {default: 1}\noutput: {format: [json]}\n---\nx",
            &[
                "2: `default` is left out; it must be a map, not a number",
                "3: `format` is left out; it must be a string, not a list",
            ],
        ),
        (
            Format::Llm,
            "prompt: x\noptions: [a]\ndefaults: [b]\nextract: 1\nextract_last: 'yes'",
            &[
                "2: `options` is left out; it must be a map, not a list",
                "5: `extract_last` is left out; it must be a boolean, not a string",
                "4: `extract` is left out; it must be a boolean, not a number",
                "3: `defaults` is left out; it must be a map, not a list",
            ],
        ),
        (
            Format::Llm,
            "prompt: x\noptions:\ndefaults:\nextract: no\nextract_last:",
            &[],
        ),
        (
            Format::Prompty,
            "---\nmodel:\n  options: temperature\n  api: responses\ninputs: {city: Paris, day: string, n: 1}\noutputs: x\n---\nuser:\nx",
            &[
                "2: `model` is left out; choose the model with `-m`",
                "3: `options` is left out; it must be a map, not a string",
                "5: the value of the input `city` is left out; it must be a map with `default`",
                "5: the value of the input `n` is left out; it must be a map with `default`",
                "6: `outputs` is left out; it must be a map or a list, not a string",
            ],
        ),
        (
            Format::Prompty,
            "---\ninputs: [{name: a}, {name: b}, {name: a}]\noutputs:\n- {name: c, kind: string}\n- {name: c, kind: integer}\n---\nuser:\nx",
            &["2: a second `a` is left out", "5: a second `c` is left out"],
        ),
    ]);
}

#[test]
fn references_of_prompty_are_not_resolved() {
    let refers = "refers to a value outside the file";
    let text = "---
description: ${env:D}
model:
  api: ${env:API}
  connection: {key: '${env:KEY}'}
  options:
    stopSequences: ${env:STOP}
    temperature: 0.5
inputs:
  a: {default: 'in ${file:a.txt}'}
outputs: ${file:o.json}
template: ${env:T}
---
user:
{{a}} ${env:X}";
    let imported = convert_one(Format::Prompty, text);
    let resolved = check_valid(&imported);
    assert_eq!(resolved[0].user, "value ${env:X}");
    assert!(!imported.toml.contains("stop"), "{}", imported.toml);
    assert_eq!(
        messages(&imported),
        [
            format!("2: `description` is left out; `${{env:D}}` {refers}"),
            format!("4: `api` is left out; `${{env:API}}` {refers}"),
            format!("7: `stopSequences` is left out; `${{env:STOP}}` {refers}"),
            format!("10: `default` is left out; `in ${{file:a.txt}}` {refers}"),
            format!("11: `outputs` is left out; `${{file:o.json}}` {refers}"),
            format!("12: `template` is left out; `${{env:T}}` {refers}"),
            "3: `model` is left out; choose the model with `-m`".to_owned(),
        ]
    );
}

#[test]
fn a_reference_does_not_change_the_version() {
    let text = "---\nmodel:\n  api: ${env:API}\noutputs: {a: {type: string}}\n---\nuser:\nx";
    let imported = convert_one(Format::Prompty, text);
    let expected = "4: `outputs` is left out; the model does not receive it";
    assert_eq!(messages(&imported).last().unwrap(), expected);
}

#[test]
fn limits_of_settings_are_named() {
    check(&[
        (
            Format::Llm,
            "prompt: x\noptions:\n  seed: 4294967296\n  top_k: -1\n  max_tokens: 0",
            &[
                "3: the option `seed` is left out; it must be an integer from 0 to 4294967295",
                "4: the option `top_k` is left out; it must be an integer from 0 to 4294967295",
                "5: the option `max_tokens` is left out; it must be -1 or an integer from 1 to 4294967295",
            ],
        ),
        (
            Format::Llm,
            "prompt: x\noptions: {seed: 4294967295, max_tokens: -1}",
            &[],
        ),
    ]);
}

#[test]
fn an_invalid_json_schema_is_left_out() {
    for format in ["json_schema", "{type: json_schema, json_schema: a}"] {
        let text =
            format!("---\nmodel: {{parameters: {{response_format: {format}}}}}\n---\nuser:\nx");
        let imported = convert_one(Format::Prompty, &text);
        assert!(!imported.toml.contains("json"), "{}", imported.toml);
        let expected = "2: the option `response_format` is left out; its value has no equivalent";
        assert_eq!(messages(&imported).last().unwrap(), expected);
    }
}
