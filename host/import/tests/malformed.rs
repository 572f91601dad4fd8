use lmstrix_import::{Format, convert};

use crate::{convert_one, report, source};

/// Checks the only line of the report of each file, which is not converted. Lists all
/// differences.
fn check(rows: &[(Format, &str, &str)]) {
    let mut differences = String::new();
    for (format, text, expected) in rows {
        let imported = convert_one(*format, text);
        assert_eq!(imported.prompts, Vec::<String>::new(), "{text}");
        let actual = report(&imported);
        let (_, actual) = actual.split_once(" skipped: ").unwrap_or(("", &actual));
        if actual != *expected {
            differences.push_str(&format!("{format} {text:?}: {actual}\n"));
        }
    }
    assert_eq!(differences, "");
}

#[test]
fn invalid_yaml_has_a_line_and_a_column() {
    check(&[
        (Format::Llm, "a: b: c", ""),
        (Format::Llm, "prompt: x\n\tsystem: y", ""),
        (Format::Llm, "prompt: [a", ""),
        (Format::Llm, "prompt: 'a", ""),
        (Format::Llm, "prompt: *x", ""),
        (Format::Llm, "prompt: &x [*x]", ""),
        (Format::Llm, "prompt: a\nprompt: b", ""),
        (Format::Llm, "prompt: !!python/object:os.system a", ""),
        (Format::Llm, "<<: {prompt: a}", ""),
        (Format::Llm, "? [a]\n: b", ""),
        (Format::Llm, "prompt: \"\\q\"", ""),
        (Format::Llm, "prompt: a\n---\nprompt: b", ""),
        (Format::Llm, "%YAML 3.0\n%YAML 3.0\n---\na: b", ""),
        (Format::Llm, "prompt: {a: b}", ""),
        (Format::Llm, "system: 12", ""),
        (Format::Llm, "12", ""),
        (Format::Llm, "", ""),
    ]);
}

#[test]
fn invalid_front_matter() {
    check(&[
        (Format::Prompty, "", ""),
        (Format::Prompty, "---\n", ""),
        (Format::Prompty, "---\n---\n", ""),
        (Format::Prompty, "---\n- a\n---\nx", ""),
        (Format::Prompty, "\n\n---\na: 1\nb: [\n---\nx", ""),
        (Format::Dotprompt, "", ""),
        (Format::Dotprompt, "---\nname: x\n", ""),
        (Format::Dotprompt, "---\na: 'b\n---\nx", ""),
    ]);
}

#[test]
fn template_logic_is_skipped() {
    check(&[
        (Format::Fabric, "{{plugin:text:upper:x}}", ""),
        (Format::Fabric, "a\n{{ext:x:y}}", ""),
        (Format::Fabric, "{{#if x}}", ""),
        (Format::Fabric, "{{a{{b}}}}", ""),
        (Format::Dotprompt, "{{#if a}}b{{/if}}", ""),
        (Format::Dotprompt, "a\n{{^a}}", ""),
        (Format::Dotprompt, "{{else}}", ""),
        (Format::Dotprompt, "{{{{raw}}}}x{{{{/raw}}}}", ""),
        (Format::Dotprompt, "{{a", ""),
        (Format::Dotprompt, "{{{a}}", ""),
        (Format::Dotprompt, "{{role \"a}}", ""),
        (Format::Dotprompt, "{{}}", ""),
        (Format::Dotprompt, "{{role r}}", ""),
        (Format::Dotprompt, "{{section \"code\"}}", ""),
        (Format::Dotprompt, "{{json a}}", ""),
        (Format::Dotprompt, "{{@root.a}}", ""),
        (Format::Dotprompt, "{{../a}}", ""),
        (Format::Dotprompt, "{{this}}", ""),
        (Format::Dotprompt, "{{#>a}}", ""),
        (Format::Dotprompt, "{{> (a)}}", ""),
        (Format::Dotprompt, "{{role \"tool\"}}x", ""),
        (Format::Dotprompt, "a{{history}}b", ""),
        (Format::Prompty, "---\n---\n{% if a %}b{% endif %}", ""),
        (Format::Prompty, "---\n---\n{{a", ""),
        (Format::Prompty, "---\n---\n{{a()}}", ""),
        (Format::Prompty, "---\n---\n{{a[0]}}", ""),
        (Format::Prompty, "---\n---\n{{a|b}}", ""),
        (Format::Prompty, "---\n---\n{{not a}}", ""),
        (Format::Prompty, "---\n---\n{# a", ""),
        (
            Format::Prompty,
            "---\ntemplate: {format: mustache}\n---\n{{>a}}",
            "",
        ),
        (
            Format::Prompty,
            "---\ntemplate: {format: mustache}\n---\n{{=<% %>=}}",
            "",
        ),
        (
            Format::Prompty,
            "---\nmodel: {api: chat}\n---\nfunction:\nx",
            "",
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
    ] {
        let imported = convert_one(format, &text);
        assert!(imported.notes.len() <= 101, "{format}");
    }
    // A quadratic step takes minutes.
    assert!(started.elapsed().as_secs() < 60);
}
