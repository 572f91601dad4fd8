use lmstrix_import::{Format, convert};

use crate::{convert_one, messages, report, source};

/// Checks the only note on each file, which is not converted: `LINE: REASON`. Lists all
/// differences.
fn check(rows: &[(Format, &str, &str)]) {
    let mut differences = String::new();
    for (format, text, expected) in rows {
        let imported = convert_one(*format, text);
        assert_eq!(imported.prompts, Vec::<String>::new(), "{text}");
        let actual = messages(&imported).join("\n");
        if actual != *expected {
            differences.push_str(&format!("{format} {text:?}: {actual}\n"));
        }
    }
    assert_eq!(differences, "");
}

#[test]
fn invalid_yaml_has_a_line_and_a_column() {
    check(&[
        (
            Format::Llm,
            "a: b: c",
            "1: invalid YAML at line 1, column 5: mapping values are not allowed in this context",
        ),
        (
            Format::Llm,
            "prompt: x\n\tsystem: y",
            "1: invalid YAML at line 1, column 9: while scanning a plain scalar, found a tab",
        ),
        (
            Format::Llm,
            "prompt: [a",
            "2: invalid YAML at line 2, column 1: while parsing a flow sequence, expected ',' or ']'",
        ),
        (
            Format::Llm,
            "prompt: 'a",
            "1: invalid YAML at line 1, column 9: while scanning a quoted scalar, found unexpected end of stream",
        ),
        (
            Format::Llm,
            "prompt: *x",
            "1: invalid YAML at line 1, column 9: while parsing node, found unknown anchor",
        ),
        (
            Format::Llm,
            "prompt: &x [*x]",
            "1: invalid YAML at line 1, column 13: the alias refers to a value that contains it",
        ),
        (
            Format::Llm,
            "prompt: a\nprompt: b",
            "2: invalid YAML at line 2, column 1: the key `prompt` occurs twice",
        ),
        (
            Format::Llm,
            "prompt: !!python/object:os.system a",
            "1: invalid YAML at line 1, column 9: the tag `tag:yaml.org,2002:!python/object:os.system` is not supported",
        ),
        (
            Format::Llm,
            "<<: {prompt: a}",
            "1: invalid YAML at line 1, column 1: merge keys (`<<`) are not supported",
        ),
        (
            Format::Llm,
            "? [a]\n: b",
            "1: invalid YAML at line 1, column 3: a key must be a text",
        ),
        (
            Format::Llm,
            "prompt: \"\\q\"",
            "1: invalid YAML at line 1, column 9: while parsing a quoted scalar, found unknown escape character",
        ),
        (
            Format::Llm,
            "prompt: a\n---\nprompt: b",
            "2: invalid YAML at line 2, column 1: more than one document",
        ),
        (
            Format::Llm,
            "%YAML 3.0\n%YAML 3.0\n---\na: b",
            "2: invalid YAML at line 2, column 1: duplicate version directive",
        ),
        (
            Format::Llm,
            "prompt: {a: b}",
            "1: `prompt` must be a string, not a map",
        ),
        (
            Format::Llm,
            "system: 12",
            "1: `system` must be a string, not a number",
        ),
        (
            Format::Llm,
            "12",
            "1: the file must be a map or a string, not a number",
        ),
        (
            Format::Llm,
            "",
            "1: the file must be a map or a string, not null",
        ),
    ]);
}

#[test]
fn invalid_front_matter() {
    check(&[
        (
            Format::Prompty,
            "",
            "1: the file does not begin with front matter between `---` lines",
        ),
        (
            Format::Prompty,
            "---\n",
            "1: the front matter is not closed by a line `---`",
        ),
        (Format::Prompty, "---\n---\n", "the prompt has no text"),
        (
            Format::Prompty,
            "---\n- a\n---\nx",
            "2: the front matter must be a map, not a list",
        ),
        (
            Format::Prompty,
            "\n\n---\na: 1\nb: [\n---\nx",
            "6: invalid YAML at line 6, column 1: while parsing a node, did not find expected node content",
        ),
        (Format::Dotprompt, "", "the prompt has no text"),
        (
            Format::Dotprompt,
            "---\nname: x\n",
            "1: the front matter is not closed by a line `---`",
        ),
        (
            Format::Dotprompt,
            "---\na: 'b\n---\nx",
            "2: invalid YAML at line 2, column 4: while scanning a quoted scalar, found unexpected end of stream",
        ),
    ]);
}

#[test]
fn template_logic_is_skipped() {
    check(&[
        (
            Format::Fabric,
            "{{plugin:text:upper:x}}",
            "1: `{{plugin:text:upper:x}}` calls a template plugin",
        ),
        (
            Format::Fabric,
            "a\n{{ext:x:y}}",
            "2: `{{ext:x:y}}` calls a template plugin",
        ),
        (
            Format::Fabric,
            "{{#if x}}",
            "1: `{{#if x}}` is not the name of a variable",
        ),
        (
            Format::Fabric,
            "{{a{{b}}}}",
            "a variable inside of another `{{…}}`",
        ),
        (
            Format::Dotprompt,
            "{{#if a}}b{{/if}}",
            "1: `{{#if a}}` is template logic",
        ),
        (
            Format::Dotprompt,
            "a\n{{^a}}",
            "2: `{{^a}}` is template logic",
        ),
        (
            Format::Dotprompt,
            "{{else}}",
            "1: `{{else}}` is a helper or template logic",
        ),
        (
            Format::Dotprompt,
            "{{{{raw}}}}x{{{{/raw}}}}",
            "1: a raw block `{{{{…}}}}`",
        ),
        (Format::Dotprompt, "{{a", "1: a tag that is not closed"),
        (Format::Dotprompt, "{{{a}}", "1: a tag that is not closed"),
        (
            Format::Dotprompt,
            "{{role \"a}}",
            "1: a tag that is not closed",
        ),
        (Format::Dotprompt, "{{}}", "1: `{{}}` is empty"),
        (
            Format::Dotprompt,
            "{{role r}}",
            "1: `{{role r}}` is not the name of a role",
        ),
        (
            Format::Dotprompt,
            "{{section \"code\"}}",
            "1: `{{section \"code\"}}` is a helper or template logic",
        ),
        (
            Format::Dotprompt,
            "{{json a}}",
            "1: `{{json a}}` is a helper or template logic",
        ),
        (
            Format::Dotprompt,
            "{{@root.a}}",
            "1: `{{@root.a}}` is a context variable",
        ),
        (
            Format::Dotprompt,
            "{{../a}}",
            "1: `{{../a}}` is more than a variable",
        ),
        (
            Format::Dotprompt,
            "{{this}}",
            "1: `{{this}}` is a helper or template logic",
        ),
        (
            Format::Dotprompt,
            "{{#>a}}",
            "1: `{{#>a}}` is template logic",
        ),
        (
            Format::Dotprompt,
            "{{> (a)}}",
            "1: the partial `(a)` has arguments",
        ),
        (
            Format::Dotprompt,
            "{{role \"tool\"}}x",
            "1: a message of the role `tool`; a prompt has a system and a user message",
        ),
        (
            Format::Dotprompt,
            "a{{history}}b",
            "1: a message of the role `model`; a prompt has a system and a user message",
        ),
        (
            Format::Prompty,
            "---\n---\n{% if a %}b{% endif %}",
            "3: `{% if a %}` is template logic",
        ),
        (
            Format::Prompty,
            "---\n---\n{{a",
            "3: a tag that is not closed",
        ),
        (
            Format::Prompty,
            "---\n---\n{{a()}}",
            "3: `{{a()}}` is more than a variable",
        ),
        (
            Format::Prompty,
            "---\n---\n{{ 'a\\'}}' }}",
            "3: `{{ 'a\\'}}' }}` is more than a variable",
        ),
        (
            Format::Prompty,
            "---\n---\n{{a[0]}}",
            "3: `{{a[0]}}` is more than a variable",
        ),
        (
            Format::Prompty,
            "---\n---\n{{a|b}}",
            "3: `{{a|b}}` contains a filter",
        ),
        (
            Format::Prompty,
            "---\n---\n{{not a}}",
            "3: `{{not a}}` is more than a variable",
        ),
        (
            Format::Prompty,
            "---\n---\n{# a",
            "3: a tag that is not closed",
        ),
        (
            Format::Prompty,
            "---\ntemplate: {format: mustache}\n---\n{{>a}}",
            "4: no partial `a`",
        ),
        (
            Format::Prompty,
            "---\ntemplate: {format: mustache}\n---\n{{=<% %>=}}",
            "4: `{{=<% %>=}}` is template logic",
        ),
        (
            Format::Prompty,
            "---\nname: x\nmodel:\n  api: embedding\n---\nx",
            "4: the API `embedding` has no equivalent",
        ),
        (
            Format::Prompty,
            "---\nmodel: {api: chat}\n---\nfunction:\nx",
            "4: a message of the role `function`; a prompt has a system and a user message",
        ),
    ]);
}

#[test]
fn deep_and_large_yaml_is_refused() {
    let mut bomb = "a0: &a0 lolololololol\n".to_owned();
    for level in 1..40 {
        let alias = format!("*a{}", level - 1);
        let aliases = vec![alias; 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let mut tower = "a0: &a0 []\n".to_owned();
    for level in 1..2000 {
        tower.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let huge = 1_000_000;
    let dashes: String = (0..2000)
        .map(|level| format!("{}-\n", " ".repeat(level)))
        .collect();
    for (name, text) in [
        ("lists", "[".repeat(huge)),
        ("maps", "{".repeat(huge)),
        ("nested maps", "{a: ".repeat(huge / 4)),
        ("questions", "? ".repeat(huge / 2)),
        ("dashes", "- ".repeat(huge / 2)),
        ("indented dashes", dashes),
        ("aliases", bomb),
        ("a tower of aliases", tower),
        ("anchors", "&a ".repeat(huge / 3)),
        ("tags", "!a ".repeat(huge / 3)),
        ("quotes", "'".repeat(huge - 1)),
        ("items", format!("[{}]", "1,".repeat(huge / 2))),
    ] {
        let imported = convert_one(Format::Llm, &text);
        assert_eq!(imported.prompts, Vec::<String>::new(), "{name}");
        let line = report(&imported);
        assert!(line.contains("invalid YAML at line "), "{name}: {line}");
    }
}

#[test]
fn endless_partials_are_refused() {
    let doubling = |name: &str, next: &str| {
        let text = format!("{{{{>{next}}}}}{{{{>{next}}}}}");
        source(&format!("_{name}.prompt"), &format!("_{name}"), &text)
    };
    let mut sources = vec![source("p.prompt", "p", "x{{>a0}}")];
    for level in 0..14 {
        sources.push(doubling(&format!("a{level}"), &format!("a{}", level + 1)));
    }
    sources.push(source("_a14.prompt", "_a14", &"y".repeat(1000)));
    let imported = convert(Format::Dotprompt, &sources);
    assert_eq!(imported.prompts, Vec::<String>::new());
    assert!(
        report(&imported).contains("the partials are too large"),
        "{}",
        report(&imported)
    );
}

#[test]
fn large_files_take_linear_time() {
    let repeated = |text: &str| text.repeat(1_000_000 / text.len());
    let numbered = |row: fn(usize) -> String| (0..45_000).map(row).collect::<String>();
    let started = std::time::Instant::now();
    for (format, text) in [
        (Format::Fabric, repeated("{{a}}")),
        (Format::Fabric, repeated("{{ a }}")),
        (Format::Fabric, repeated("{{a ")),
        (Format::Llm, format!("prompt: |\n  {}", repeated("$ "))),
        (
            Format::Llm,
            format!("prompt: |\n  {}", repeated("{{a}}$b ")),
        ),
        (Format::Dotprompt, repeated("{{a}}")),
        (Format::Dotprompt, repeated("\\{{a}}")),
        (Format::Dotprompt, repeated("{{role \"user\"}}x")),
        (Format::Dotprompt, repeated("\n{{!a}}\n")),
        (Format::Dotprompt, repeated("{{\"")),
        (Format::Prompty, format!("---\n---\n{}", repeated("{{a}}"))),
        (
            Format::Prompty,
            format!("---\n---\n{}", repeated("user:\nx\n")),
        ),
        (Format::Prompty, format!("---\n---\n{}", repeated("{#a#}{"))),
        (Format::Dotprompt, repeated("{{!--a--}}")),
        (Format::Dotprompt, format!("{{{{{}a}}}}", repeated("a."))),
        (
            Format::Prompty,
            format!("---\n---\n{{{{{}a}}}}", repeated("a.")),
        ),
        (
            Format::Dotprompt,
            format!(
                "---\ninput:\n  schema:\n{}---\nx",
                numbered(|n| format!("    a{n}?: string\n"))
            ),
        ),
        (
            Format::Prompty,
            format!(
                "---\ninputs:\n{}---\n{}",
                numbered(|n| format!("  a{n}: \n")),
                repeated("{{b}}")
            ),
        ),
        (
            Format::Prompty,
            format!(
                "---\ninputs:\n{}---\nx",
                numbered(|n| format!("- {{name: a{n}}}\n"))
            ),
        ),
    ] {
        let imported = convert_one(format, &text);
        assert!(imported.notes.len() <= 101, "{format}");
    }
    let files: Vec<_> = (0..20_000)
        .map(|_| source("p.yaml", "…", "prompt: x"))
        .collect();
    assert_eq!(convert(Format::Llm, &files).prompts.len(), files.len());
    // A quadratic step takes minutes.
    assert!(started.elapsed().as_secs() < 60);
}
