use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lmstrix_pack_standard::describe::describe;
use lmstrix_pack_standard::resolve::resolve;
use lmstrix_pack_standard::types::{Entry, Request};

use crate::{failure, file, one, shown, try_one};

#[test]
fn windows_line_ends_and_byte_order_mark() {
    let text = "\u{feff}a = \"\"\"\r\nx\r\ny\r\n\"\"\"\r\nb = 'z'\r\nc = oops\r\n";
    assert_eq!(
        failure(try_one(text, "a", &[])),
        "p.toml:6:5: string values must be quoted, expected literal string"
    );
    let text = text.replace("c = oops\r\n", "");
    assert_eq!(one(&text, "a", &[]).user, "x\ny\n");
    assert_eq!(one(&text, "b", &[]).user, "z");
}

#[test]
fn empty_file() {
    assert_eq!(failure(try_one("", "a", &[])), "unknown prompt, close: ");
    assert_eq!(
        failure(try_one("\u{feff}", "a", &[])),
        "unknown prompt, close: "
    );
    assert_eq!(
        failure(try_one("a = 'x'", "", &[])),
        "unknown prompt, close: a"
    );
    assert_eq!(
        failure(try_one("a = 'x'", " , ", &[])),
        "unknown prompt, close: a"
    );
}

#[test]
fn keys_with_dots_quotes_and_foreign_letters() {
    let text = r#"
        "a.b" = "dotted"
        'say "hi"' = "quoted"
        "größe" = "{{名前}} {{a.b}} {{x.y.z}}"
        "名前" = "unicode"
        [x]
        "y.z" = "deep"
        y = { w = "walk" }
    "#;
    assert_eq!(one(text, "a.b", &[]).user, "dotted");
    assert_eq!(one(text, "say \"hi\"", &[]).user, "quoted");
    assert_eq!(one(text, "größe", &[]).user, "unicode dotted deep");
    assert_eq!(one(text, "x.y.w", &[]).user, "walk");
    // What can be walked to wins over a quoted key.
    assert_eq!(one("a.b = '1'\n\"a.b\" = '2'", "a.b", &[]).user, "1");
}

#[test]
fn broken_toml_is_reported_where_it_is_broken() {
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
        let found = failure(try_one(text, "a", &[]));
        assert!(found.starts_with(expected), "{text}: {found}");
        assert!(!found.contains('\n'), "{found}");
    }
    let files = [file("p.toml", "a = "), file("notes.txt", "= = =")];
    let error = describe(&files).expect_err("broken");
    assert!(shown(&error).starts_with("p.toml:1:5"));
}

#[test]
fn unclosed_braces_are_plain_text() {
    let resolved = one("a = '{{x} {{ {{x}}{{y'", "a", &[("x", "X")]);
    assert_eq!(resolved.user, "{{x} {{ X{{y");
}

#[test]
fn a_megabyte_of_text_is_quick() {
    let text = "{{a}} }}{{ word ".repeat(70_000);
    let started = Instant::now();
    let resolved = one("p = 'Text: {{text}}'", "p", &[("text", &text)]);
    assert_eq!(resolved.user.len(), text.len() + 6);
    let started_file = Instant::now();
    let long = format!("p = '''{}'''", "{{ text }} {".repeat(5_000));
    assert_eq!(one(&long, "p", &[("text", "")]).user.len(), 10_000);
    let many: String = (0..20_000)
        .map(|n| format!("p{n} = 'x {{{{p0}}}}'\n"))
        .collect();
    let many = many.replacen("{{p0}}", "", 1);
    assert_eq!(one(&many, "p19999", &[]).user, "x x ");
    let took = started_file.duration_since(started) + started_file.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn doubling_files_are_stopped() {
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
        failure(try_one(
            &doubling("laughter ".repeat(1000).as_str()),
            "a0",
            &[]
        )),
        "p.toml:1:1: the prompt grows beyond 16 MiB"
    );
    assert_eq!(
        failure(try_one(&doubling(""), "a1", &[])),
        "p.toml:2:1: more than 100000 placeholders to fill in"
    );
    let (prompts, _) = describe(&[file("p.toml", &doubling("{{text}}"))]).expect("described");
    assert_eq!(prompts[0].params[0].name, "text");
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn inline_prompts_have_the_same_limits() {
    let request = Request {
        prompt: "inline".to_owned(),
        files: vec![file("p.toml", &format!("x = '{}'", "y".repeat(100_000)))],
        extra: vec![Entry::new("template", "{{x}}".repeat(1000))],
        ..Request::default()
    };
    assert_eq!(
        failure(resolve(&request)),
        "inline:::  the prompt grows beyond 16 MiB".replace("  ", " ")
    );
}

#[test]
fn deep_references_are_stopped() {
    let chain = |length: usize| {
        let mut text = format!("a{length} = 'end'\n");
        for n in 0..length {
            let _ = writeln!(text, "a{n} = '{{{{a{}}}}}'", n + 1);
        }
        text
    };
    assert_eq!(one(&chain(63), "a0", &[]).user, "end");
    let found = failure(try_one(&chain(5_000), "a0", &[]));
    assert!(
        found.ends_with("references go more than 64 levels deep"),
        "{found}"
    );
    assert!(describe(&[file("p.toml", &chain(500))]).is_ok());
}

#[test]
fn deep_tables_are_an_error_and_not_a_crash() {
    for text in [
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
    ] {
        let found = failure(try_one(&text, "a", &[]));
        assert!(found.starts_with("p.toml:"), "{found}");
    }
}
