use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lmstrix_pack::{Entry, Request};
use lmstrix_pack_standard::describe::describe;
use lmstrix_pack_standard::resolve::resolve;

use crate::{error_line, error_of, file, resolve_prompt, try_resolve};

#[test]
fn crlf_and_byte_order_mark_are_accepted() {
    let text = "\u{feff}a = \"\"\"\r\nx\r\ny\r\n\"\"\"\r\nb = 'z'\r\nc = oops\r\n";
    assert_eq!(
        error_of(try_resolve(text, "a", &[])),
        "p.toml:6:5: string values must be quoted, expected literal string"
    );
    let text = text.replace("c = oops\r\n", "");
    assert_eq!(resolve_prompt(&text, "a", &[]).user, "x\ny\n");
    assert_eq!(resolve_prompt(&text, "b", &[]).user, "z");
}

#[test]
fn an_empty_file_or_name_is_an_unknown_prompt() {
    assert_eq!(
        error_of(try_resolve("", "a", &[])),
        "unknown prompt, similar: "
    );
    assert_eq!(
        error_of(try_resolve("\u{feff}", "a", &[])),
        "unknown prompt, similar: "
    );
    assert_eq!(
        error_of(try_resolve("a = 'x'", "", &[])),
        "unknown prompt, similar: a"
    );
    assert_eq!(
        error_of(try_resolve("a = 'x'", " , ", &[])),
        "unknown prompt, similar: a"
    );
}

#[test]
fn keys_may_contain_dots_quotes_and_non_ascii_letters() {
    let text = r#"
        "a.b" = "dotted"
        'say "hi"' = "quoted"
        "größe" = "{{名前}} {{a.b}} {{x.y.z}}"
        "名前" = "unicode"
        [x]
        "y.z" = "deep"
        y = { w = "walk" }
    "#;
    assert_eq!(resolve_prompt(text, "a.b", &[]).user, "dotted");
    assert_eq!(resolve_prompt(text, "say \"hi\"", &[]).user, "quoted");
    assert_eq!(
        resolve_prompt(text, "größe", &[]).user,
        "unicode dotted deep"
    );
    assert_eq!(resolve_prompt(text, "x.y.w", &[]).user, "walk");
    // Nested tables take precedence over a quoted key.
    assert_eq!(
        resolve_prompt("a.b = '1'\n\"a.b\" = '2'", "a.b", &[]).user,
        "1"
    );
}

#[test]
fn invalid_toml_is_reported_with_its_position() {
    for (text, expected) in [
        (
            "a = ",
            "p.toml:1:5: string values must be quoted, expected literal string",
        ),
        ("ä = 1\n", "p.toml:1:1: "),
        ("a = 'x'\na = 'y'", "p.toml:2:1: duplicate key"),
        ("a = \"\\q\"", "p.toml:1:7: "),
        ("x = 'é' y", "p.toml:1:9: "),
        (
            "n = 999999999999999999999999999999999999999999",
            "p.toml:1:5: the number is too large",
        ),
    ] {
        let message = error_of(try_resolve(text, "a", &[]));
        assert!(message.starts_with(expected), "{text}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
    let files = [file("p.toml", "a = "), file("notes.txt", "= = =")];
    let error = describe(&files).expect_err("invalid file");
    assert!(error_line(&error).starts_with("p.toml:1:5"));
}

#[test]
fn unclosed_braces_are_plain_text() {
    let resolved = resolve_prompt("a = '{{x} {{ {{x}}{{y'", "a", &[("x", "X")]);
    assert_eq!(resolved.user, "{{x} {{ X{{y");
}

#[test]
fn large_texts_take_linear_time() {
    let text = "{{a}} }}{{ word ".repeat(70_000);
    let started = Instant::now();
    let resolved = resolve_prompt("p = 'Text: {{text}}'", "p", &[("text", &text)]);
    assert_eq!(resolved.user.len(), text.len() + 6);
    let started_file = Instant::now();
    let long = format!("p = '''{}'''", "{{ text }} {".repeat(5_000));
    assert_eq!(
        resolve_prompt(&long, "p", &[("text", "")]).user.len(),
        10_000
    );
    let many: String = (0..20_000)
        .map(|n| format!("p{n} = 'x {{{{p0}}}}'\n"))
        .collect();
    let many = many.replacen("{{p0}}", "", 1);
    assert_eq!(resolve_prompt(&many, "p19999", &[]).user, "x x ");
    let elapsed = started_file.duration_since(started) + started_file.elapsed();
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
}

#[test]
fn files_with_exponential_expansion_are_rejected() {
    let doubling = |last: &str| {
        let mut text = String::new();
        for n in 0..40 {
            let next = n + 1;
            let _ = writeln!(text, "a{n} = '{{{{a{next}}}}}{{{{a{next}}}}}'");
        }
        text + &format!("a40 = '{last}'")
    };
    let started = Instant::now();
    assert_eq!(
        error_of(try_resolve(
            &doubling("laughter ".repeat(1000).as_str()),
            "a0",
            &[]
        )),
        "p.toml:1:1: the expanded prompt exceeds 16 MiB"
    );
    assert_eq!(
        error_of(try_resolve(&doubling(""), "a1", &[])),
        "p.toml:2:1: more than 100000 placeholders to expand"
    );
    let (prompts, _) = describe(&[file("p.toml", &doubling("{{text}}"))]).expect("valid file");
    assert_eq!(prompts[0].params[0].name, "text");
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn inline_prompts_have_the_same_size_limit() {
    let request = Request {
        prompt: "inline".to_owned(),
        files: vec![file("p.toml", &format!("x = '{}'", "y".repeat(100_000)))],
        extra: vec![Entry::new("template", "{{x}}".repeat(1000))],
        ..Request::default()
    };
    assert_eq!(
        error_of(resolve(&request)),
        "inline:::  the expanded prompt exceeds 16 MiB".replace("  ", " ")
    );
}

#[test]
fn deeply_nested_references_are_rejected() {
    let chain = |length: usize| {
        let mut text = format!("a{length} = 'end'\n");
        for n in 0..length {
            let _ = writeln!(text, "a{n} = '{{{{a{}}}}}'", n + 1);
        }
        text
    };
    assert_eq!(resolve_prompt(&chain(63), "a0", &[]).user, "end");
    let message = error_of(try_resolve(&chain(5_000), "a0", &[]));
    assert!(
        message.ends_with("references are nested more than 64 levels deep"),
        "{message}"
    );
    assert!(describe(&[file("p.toml", &chain(500))]).is_ok());
}

#[test]
fn deeply_nested_tables_are_an_error() {
    for text in [
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
    ] {
        let message = error_of(try_resolve(&text, "a", &[]));
        assert!(message.starts_with("p.toml:"), "{message}");
    }
}
