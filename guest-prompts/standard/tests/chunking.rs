use lmstrix_pack::Stop;
use proptest::prelude::*;

use crate::error_line;
use crate::processors::run_processor;

/// Every processor, with options that cover its branches.
const CASES: &[(&str, &[(&str, &str)])] = &[
    ("trim", &[]),
    ("trim", &[("side", "start")]),
    ("trim", &[("side", "end")]),
    ("replace", &[("from", "a"), ("to", "")]),
    ("replace", &[("from", "aab"), ("to", "<a")]),
    ("replace", &[("from", "\n\n"), ("to", "\n")]),
    ("replace", &[("from", "éa"), ("to", "→"), ("count", "2")]),
    ("tag", &[]),
    ("tag", &[("name", "a")]),
    ("tag", &[("name", "a"), ("required", "true")]),
    ("tag", &[("name", "a"), ("quiet", "true")]),
    ("fence", &[]),
    ("fence", &[("lang", "a|rust")]),
    ("fence", &[("all", "true")]),
    ("fence", &[("all", "true"), ("lang", "a")]),
    ("fence", &[("required", "true")]),
    ("lines", &[("start", "a")]),
    ("lines", &[("end", "aa")]),
    ("lines", &[("start", ""), ("end", "")]),
    (
        "lines",
        &[("start", "a"), ("end", "a"), ("required", "true")],
    ),
    (
        "lines",
        &[("start", "a"), ("end", "<"), ("match", "prefix")],
    ),
    ("reasoning", &[]),
    ("reasoning", &[("names", "a aa")]),
    ("reasoning", &[("names", "a"), ("open", "true")]),
    (
        "reasoning",
        &[("names", "a"), ("start", "aa"), ("end", "```")],
    ),
    ("json", &[]),
    ("json", &[("indent", "0")]),
    ("json", &[("indent", "2")]),
];

/// Checks that the output, the warnings and the rejections are the same for the whole
/// answer, for these chunks, and for single characters.
fn check(name: &str, options: &[(&str, &str)], pieces: &[&str], stop: &Stop) {
    let whole: String = pieces.concat();
    let outcome = |pieces: &[&str]| match run_processor(name, options, pieces, stop) {
        Ok(run) => Ok((run.text + &run.tail, run.warnings, run.done)),
        Err(error) => Err(error_line(&error)),
    };
    let chars: Vec<String> = whole.chars().map(String::from).collect();
    let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
    let expected = outcome(&[&whole]);
    assert_eq!(outcome(pieces), expected, "{name} {options:?} {pieces:?}");
    assert_eq!(outcome(&chars), expected, "{name} {options:?} {chars:?}");
}

/// Generates answers from the texts that the processors search for, and parts of them.
fn answer() -> impl Strategy<Value = Vec<&'static str>> {
    let piece = prop::sample::select(vec![
        "a",
        "aa",
        "b",
        "é",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\n\n",
        "<",
        ">",
        "/",
        "<a>",
        "</a>",
        "<aa>",
        "</aa>",
        "<output>",
        "</output>",
        "</out",
        "put>",
        "`",
        "``",
        "```",
        "````",
        "~~~",
        "```a",
        "```rust\n",
        "```\n",
        "<think>",
        "</think>",
        "<thinking>",
        "</thinking>",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"a\"",
        "1",
        "-0.5e1",
        "true",
        "nul",
        "",
    ]);
    prop::collection::vec(piece, 0..24)
}

/// Generates JSON texts, some of them invalid.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "-2.5E-3",
        "\"a\\u00e9\\\"\"",
        "true",
        "null",
        "01",
    ]);
    let leaf = leaf.prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_flat_map(|items| {
            let array = format!("[{}]", items.join(" , "));
            let members: Vec<String> = items.iter().map(|item| format!("\"k\": {item}")).collect();
            prop_oneof![Just(array), Just(format!("{{{}}}", members.join(",\n")))]
        })
    })
}

fn split(text: &str, sizes: &[usize]) -> Vec<String> {
    let mut chars = text.chars().peekable();
    let mut sizes = sizes.iter().cycle();
    let mut pieces = Vec::new();
    while chars.peek().is_some() {
        let size = sizes.next().copied().unwrap_or(1);
        pieces.push(chars.by_ref().take(size).collect());
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chunks_do_not_change_the_output_of_generated_answers(pieces in answer(), is_truncated in any::<bool>()) {
        let stop = if is_truncated { &Stop::Length } else { &Stop::End };
        for (name, options) in CASES {
            check(name, options, &pieces, stop);
        }
    }

    #[test]
    fn chunks_do_not_change_the_output_of_any_text(text in "\\PC{0,40}", sizes in prop::collection::vec(1usize..7, 1..5)) {
        let pieces = split(&text, &sizes);
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        for (name, options) in CASES {
            check(name, options, &pieces, &Stop::End);
        }
    }

    #[test]
    fn json_agrees_with_serde_json(text in json(), indent in "[028]", sizes in prop::collection::vec(1usize..9, 1..5)) {
        let pieces = split(&text, &sizes);
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        for options in [&[][..], &[("indent", indent.as_str())]] {
            check("json", options, &pieces, &Stop::End);
            let ours = run_processor("json", options, &[&text], &Stop::End);
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}", text);
            if let (Ok(run), Ok(value)) = (ours, theirs) {
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&run.text).ok(), Some(value));
            }
        }
    }

    #[test]
    fn replace_agrees_with_str_replace(text in "[ab]{0,40}", from in "[ab]{1,4}", to in "[ab]{0,3}") {
        let run = run_processor("replace", &[("from", &from), ("to", &to)], &[&text], &Stop::End).expect("runs");
        prop_assert_eq!(run.text + &run.tail, text.replace(&from, &to));
    }
}

#[test]
fn long_texts_in_single_characters_take_linear_time() {
    let texts = ["\n", " ", "a", "<", "`", "<a", "[", "{\"a\":", "aab"]
        .map(|unit| unit.repeat(100_000 / unit.len()));
    let started = std::time::Instant::now();
    for text in &texts {
        for (name, options) in CASES {
            let Ok(mut processor) =
                lmstrix_pack_standard::processor::open(name, &crate::entries(options))
            else {
                panic!("{name}");
            };
            let mut buffer = [0; 4];
            for c in text.chars() {
                match processor.push(c.encode_utf8(&mut buffer)) {
                    Ok(pushed) if !pushed.done => {}
                    _ => break,
                }
            }
        }
    }
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}
