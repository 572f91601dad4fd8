use lmstrix_pack::{Error, Stop};
use lmstrix_pack_standard::processor::open;

use crate::{entries, error_line};

/// The output of a processor for one answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProcessorRun {
    /// The output before the end of the answer.
    pub(crate) text: String,
    /// The output at the end of the answer.
    pub(crate) tail: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) done: bool,
}

pub(crate) fn run_processor(
    name: &str,
    options: &[(&str, &str)],
    chunks: &[&str],
    stop: &Stop,
) -> Result<ProcessorRun, Error> {
    let mut processor = open(name, &entries(options))?;
    let mut text = String::new();
    let mut done = false;
    for chunk in chunks {
        let pushed = processor.push(chunk)?;
        text += &pushed.text;
        done = pushed.done;
        if done {
            break;
        }
    }
    let stop = if done { &Stop::Enough } else { stop };
    let outcome = processor.finish(stop.clone())?;
    Ok(ProcessorRun {
        text,
        tail: outcome.tail,
        warnings: outcome.warnings,
        done,
    })
}

/// Compares the output, formatted as `text[tail] done ! warning`, with `expected`.
fn check(name: &str, options: &[(&str, &str)], answer: &str, expected: &str) {
    let formatted = match run_processor(name, options, &[answer], &Stop::End) {
        Err(error) => error_line(&error),
        Ok(run) => {
            let tail = if run.tail.is_empty() {
                String::new()
            } else {
                format!("[{}]", run.tail)
            };
            let done = if run.done { " done" } else { "" };
            let warnings: String = run
                .warnings
                .iter()
                .map(|warning| format!(" ! {warning}"))
                .collect();
            format!("{}{tail}{done}{warnings}", run.text)
        }
    };
    assert_eq!(formatted, expected, "{name} {options:?} {answer:?}");
}

#[test]
fn trim() {
    check("trim", &[], " \n a b \n\n c\t\n", "a b \n\n c");
    check("trim", &[], " \n ", "");
    check("trim", &[("side", "start")], " a ", "a ");
    check("trim", &[("side", "end")], " a ", " a");
    check(
        "trim",
        &[("side", "left")],
        "",
        "side: must be start, end or both, not `left` (options: side)",
    );
}

#[test]
fn replace() {
    check(
        "replace",
        &[("from", "a"), ("to", "bb")],
        "banana",
        "bbbnbbnbb",
    );
    check("replace", &[("from", "aab")], "aaab aab", "a ");
    check("replace", &[("from", "ab"), ("to", "ab")], "xaba", "xab[a]");
    check(
        "replace",
        &[("from", "aa"), ("to", "b"), ("count", "1")],
        "aaaa",
        "baa",
    );
    check(
        "replace",
        &[("from", "a"), ("to", "b"), ("count", "0")],
        "aaaa",
        "aaaa",
    );
    check("replace", &[("from", "é"), ("to", "ü")], "éèé", "üèü");
    check(
        "replace",
        &[("from", "\n\n"), ("to", "\n")],
        "a\n\nb\n",
        "a\nb[\n]",
    );
    check(
        "replace",
        &[("from", "")],
        "",
        "from: must not be empty (options: from, to, count)",
    );
    check(
        "replace",
        &[("to", "")],
        "",
        "from: this option is required (options: from, to, count)",
    );
    check(
        "replace",
        &[("from", "a"), ("count", "-1")],
        "",
        "count: must be an integer from 0 to 4294967295, not `-1` (options: from, to, count)",
    );
}

#[test]
fn tag() {
    check(
        "tag",
        &[],
        "I think.\n<output>\n\nA\n\nB\n</output>\nDone.",
        "A\n\nB done",
    );
    check("tag", &[], "<OUTPUT>a</Output>", "a done");
    check("tag", &[], "<output></output>x", " done");
    check(
        "tag",
        &[],
        "<output> a < b </outpu </output>",
        " a < b </outpu  done",
    );
    check(
        "tag",
        &[("name", "answer")],
        "<output>a</output><answer>b</answer>",
        "b done",
    );
    check(
        "tag",
        &[],
        "<output>\ncut off\n</out",
        "cut off[\n</out] ! <output> is not closed in the answer",
    );
    check(
        "tag",
        &[],
        "no tag <out",
        "[no tag <out] ! no <output> in the answer; it is passed through unchanged",
    );
    check("tag", &[("quiet", "true")], "no tag", "[no tag]");
    check(
        "tag",
        &[("required", "true")],
        "no tag",
        "rejected: no <output> in the answer",
    );
    check(
        "tag",
        &[("required", "true")],
        "<output>x",
        "x ! <output> is not closed in the answer",
    );
    check(
        "tag",
        &[("name", "<x>")],
        "",
        "name: `<x>` is not a tag name; write it without brackets (options: name, required, quiet)",
    );
    check(
        "tag",
        &[("required", "yes")],
        "",
        "required: must be true or false, not `yes` (options: name, required, quiet)",
    );
    check(
        "tag",
        &[("nmae", "x")],
        "",
        "nmae: unknown option (options: name, required, quiet)",
    );
}

#[test]
fn fence() {
    let two = "Here:\n```rust\nfn a() {}\n\n```\nand\n~~~python\nx = '```'\n~~~\n";
    check("fence", &[], two, "fn a() {}\n\n done");
    check("fence", &[("lang", "python")], two, "x = '```'\n done");
    check("fence", &[("lang", "py | Python")], two, "x = '```'\n done");
    check(
        "fence",
        &[("all", "true")],
        two,
        "fn a() {}\n\n\nx = '```'\n",
    );
    check(
        "fence",
        &[("lang", "c")],
        "a\r\n```rust\r\nb\r\n```\r\nc",
        "[a\r\n```rust\r\nb\r\n```\r\nc] ! no code block in language c in the answer; it is passed through unchanged",
    );
    check(
        "fence",
        &[],
        "no ``` here\n``\n",
        "[no ``` here\n``\n] ! no code block in the answer; it is passed through unchanged",
    );
    check("fence", &[("quiet", "true")], "none", "[none]");
    check(
        "fence",
        &[("required", "true")],
        "none",
        "rejected: no code block in the answer",
    );
    check(
        "fence",
        &[],
        "```\nx",
        "x ! the code block is not closed in the answer",
    );
    check("fence", &[], "```\nx\n```", "x\n");
    check(
        "fence",
        &[],
        "````\n```\nx\n```\n````\n",
        "```\nx\n```\n done",
    );
    check(
        "fence",
        &[],
        "1. do\n   ```sh\n   ls\n     -l\n\n   ```\n",
        "ls\n  -l\n\n done",
    );
    check("fence", &[], "```rust,ignore\nx\n```  \ny", "x\n done");
    check("fence", &[], "```\nx\n``` y\n```\n", "x\n``` y\n done");
    check("fence", &[], "```x``` is code\n```\na\n```\n", "a\n done");
    check("fence", &[], "```\n```\n", " done");
    check(
        "fence",
        &[("lang", "sh")],
        "```rust\n```sh\n```\n```sh\nls\n```\n",
        "ls\n done",
    );
}

#[test]
fn lines() {
    let both = [("start", "BEGIN"), ("end", "END")];
    check("lines", &both, "a\n BEGIN \nb\nc\nEND\nd", "b\nc\n done");
    check("lines", &both, "BEGIN\r\nb\r\nEND\r\n", "b\r\n done");
    check("lines", &both, "BEGIN\nb\nENDED\nEND", "b\nENDED\n");
    check(
        "lines",
        &both,
        "BEGIN\nb\nE",
        "b\n[E] ! no line `END` in the answer after the first marker",
    );
    check(
        "lines",
        &both,
        "a\nb",
        "[a\nb] ! no line `BEGIN` in the answer; it is passed through unchanged",
    );
    check("lines", &[("start", "-"), ("quiet", "true")], "a", "[a]");
    check(
        "lines",
        &[("start", "-"), ("required", "true")],
        "a\nb",
        "rejected: no line `-` in the answer",
    );
    check(
        "lines",
        &[("end", "---"), ("required", "true")],
        "a\nb",
        "rejected: no line `---` in the answer",
    );
    check(
        "lines",
        &[("end", "---")],
        "a\nb",
        "a\nb ! no line `---` in the answer; it is passed through unchanged",
    );
    check("lines", &[("end", "---")], "a\n---", "a\n");
    check(
        "lines",
        &[("start", "")],
        "Sure!\n\nthe text\n\nmore",
        "the text\n\nmore",
    );
    check(
        "lines",
        &[("start", "Here"), ("match", "prefix")],
        "Here is it:\na\n",
        "a\n",
    );
    check(
        "lines",
        &[("end", "Note:"), ("match", "prefix")],
        "a\nNote: b",
        "a\n done",
    );
    check(
        "lines",
        &[("end", ""), ("match", "prefix")],
        "",
        "end: must not be empty with match=prefix (options: start, end, match, required, quiet)",
    );
    check(
        "lines",
        &[],
        "",
        "start: set `start`, `end` or both (options: start, end, match, required, quiet)",
    );
}

#[test]
fn reasoning() {
    check(
        "reasoning",
        &[],
        "<think>\nhm\n</think>\n\nAnswer",
        "Answer",
    );
    check(
        "reasoning",
        &[],
        "\n<thinking>hm</Thinking> A\n<think>b</think>\nC",
        "A\nC",
    );
    check("reasoning", &[], "A <think>b</think> C", "A  C");
    check("reasoning", &[], "<think>a</thinking></think>B", "B");
    check("reasoning", &[], "no span < at all", "no span < at all");
    check("reasoning", &[], " \n", "[ \n]");
    check(
        "reasoning",
        &[],
        "<think>cut",
        " ! <think> is not closed in the answer; the text after it is dropped",
    );
    check(
        "reasoning",
        &[],
        "Write <think> first",
        "Write [<think> first] ! <think> is not closed in the answer; it is kept as text",
    );
    check(
        "reasoning",
        &[],
        "hm</think>A",
        "hm</think>A ! </think> has no opening tag; if the answer starts with reasoning, set open=true",
    );
    check("reasoning", &[("open", "true")], "hm <a></think>\nA", "A");
    check(
        "reasoning",
        &[("open", "true")],
        "A",
        "[A] ! no </think> or </thinking> or </reasoning> or </thought> in the answer; it is passed through unchanged",
    );
    check(
        "reasoning",
        &[("names", "plan")],
        "<plan>x</plan><think>y</think>",
        "<think>y</think>",
    );
    let brackets = [("names", ""), ("start", "[THINK]"), ("end", "[/THINK]")];
    check("reasoning", &brackets, "[THINK]x[/THINK]A", "A");
    check(
        "reasoning",
        &[("names", "")],
        "",
        "names: set `names`, or `start` and `end` (options: names, start, end, open)",
    );
    check(
        "reasoning",
        &[("start", "[")],
        "",
        "end: required if `start` is set (options: names, start, end, open)",
    );
}

#[test]
fn an_answer_truncated_inside_reasoning_is_dropped() {
    let run = run_processor("reasoning", &[("open", "true")], &["hm, "], &Stop::Length)
        .expect("no error");
    assert_eq!(run.text, "");
    assert!(
        run.warnings[0].contains("truncated before </think>"),
        "{:?}",
        run.warnings
    );
}

#[test]
fn an_unclosed_span_of_a_truncated_answer_is_dropped() {
    let run = run_processor("reasoning", &[], &["A <think>b"], &Stop::Length).expect("no error");
    assert_eq!(
        (run.text.as_str(), run.tail.as_str(), run.warnings.len()),
        ("A ", "", 1)
    );
}

#[test]
fn json() {
    for text in [
        "{}",
        "[]",
        "[[], {}]",
        "{\"a\": [1, -2.5e+3, true, false, null, \"x\\n\\u00e9\"]}",
        "[0, 0.1, 1E5, 10]",
        "[ 1 ,\n 2 ]",
    ] {
        check("json", &[], text, &format!("{text} done"));
        check(
            "json",
            &[],
            &format!(" \n{text}\nHope this helps!"),
            &format!("{text} done"),
        );
    }
    check("json", &[], " \"a\" \n", "\"a\"");
    check("json", &[], "12 \n", "12");
    check("json", &[], "true", "true");
    let nested = "{\"a\":[1,{\"b\":{}},[]],\"c\" : \"x: y, z\"}";
    check(
        "json",
        &[("indent", "0")],
        nested,
        "{\"a\":[1,{\"b\":{}},[]],\"c\":\"x: y, z\"} done",
    );
    check("json", &[("indent", "0")], "[ 1 , 2 ]", "[1,2] done");
    check(
        "json",
        &[("indent", "2")],
        nested,
        "{\n  \"a\": [\n    1,\n    {\n      \"b\": {}\n    },\n    []\n  ],\n  \"c\": \"x: y, z\"\n} done",
    );
    for (text, expected) in [
        ("", "unexpected end, expected a value"),
        (
            "Sure! {}",
            "line 1, column 1: unexpected `S`, expected a value",
        ),
        (
            "{\"a\": 1,\n}",
            "line 2, column 1: unexpected `}`, expected a key",
        ),
        (
            "{a}",
            "line 1, column 2: unexpected `a`, expected a key or `}`",
        ),
        (
            "{\"a\" 1}",
            "line 1, column 6: unexpected `1`, expected `:`",
        ),
        (
            "[1 2]",
            "line 1, column 4: unexpected `2`, expected `,` or `]`",
        ),
        ("[1,]", "line 1, column 4: unexpected `]`, expected a value"),
        (
            "[01]",
            "line 1, column 3: unexpected `1`, expected `,` or `]`",
        ),
        ("[1.]", "line 1, column 4: unexpected `]`, expected a digit"),
        ("[-]", "line 1, column 3: unexpected `]`, expected a digit"),
        (
            "tru",
            "unexpected end, expected the rest of `true`, `false` or `null`",
        ),
        (
            "nul!",
            "line 1, column 4: unexpected `!`, expected `true`, `false` or `null`",
        ),
        (
            "12x",
            "line 1, column 3: unexpected `x`, expected the end of the text",
        ),
        (
            "\"a\" said she",
            "line 1, column 5: unexpected `s`, expected the end of the text",
        ),
        (
            "[\"a\nb\"]",
            "line 1, column 4: unexpected `\\n`, expected an escape such as `\\n`",
        ),
        (
            "[\"\\x\"]",
            "line 1, column 4: unexpected `x`, expected one of `\"\\/bfnrtu`",
        ),
        (
            "[\"\\u12g4\"]",
            "line 1, column 7: unexpected `g`, expected a hexadecimal digit",
        ),
        ("[\"abc", "unexpected end, expected the end of the string"),
        ("[1", "unexpected end, expected `,` or `]`"),
        ("{\"a\"", "unexpected end, expected `:`"),
    ] {
        check(
            "json",
            &[],
            text,
            &format!("rejected: not JSON: {expected}"),
        );
    }
    check(
        "json",
        &[],
        &"[".repeat(600),
        "rejected: not JSON: line 1, column 513: unexpected `[`, expected at most 512 levels of brackets",
    );
    check(
        "json",
        &[("indent", "9")],
        "",
        "indent: must be an integer from 0 to 8, not `9` (options: indent)",
    );
    let rejection = run_processor("json", &[], &["[1"], &Stop::Length).expect_err("rejected");
    assert!(error_line(&rejection).ends_with("; the answer was truncated"));
}

#[test]
fn unknown_processors_get_suggestions() {
    check("fense", &[], "", "unknown processor, similar: fence");
    check(
        "zzz",
        &[],
        "",
        "unknown processor, similar: reasoning tag fence lines trim json replace",
    );
}

/// Checks the output after each chunk.
fn check_streaming(name: &str, options: &[(&str, &str)], chunks: &[(&str, &str)]) {
    let mut processor = open(name, &entries(options)).expect(name);
    for (chunk, expected) in chunks {
        assert_eq!(
            processor.push(chunk).expect(name).text,
            *expected,
            "{name} after {chunk:?}"
        );
    }
}

#[test]
fn only_undecided_text_is_held_back() {
    check_streaming(
        "trim",
        &[],
        &[("  a", "a"), (" ", ""), ("b \n", " b"), ("c", " \nc")],
    );
    check_streaming(
        "replace",
        &[("from", "abc")],
        &[("xab", "x"), ("d", "abd"), ("ab", ""), ("c!", "!")],
    );
    check_streaming(
        "tag",
        &[],
        &[
            ("hm<output>\na", "a"),
            (" <b>", " <b>"),
            ("\n", ""),
            ("<", ""),
            ("c", "\n<c"),
        ],
    );
    check_streaming(
        "fence",
        &[],
        &[
            ("```\n  a", "  a"),
            (" b", " b"),
            ("\n", "\n"),
            (" ``", ""),
            ("x", " ``x"),
        ],
    );
    check_streaming(
        "lines",
        &[("start", ">"), ("end", "END")],
        &[(">\na", "a"), ("b\nE", "b\n"), ("x", "Ex")],
    );
    check_streaming(
        "reasoning",
        &[],
        &[
            ("A", "A"),
            ("<thi", ""),
            ("s", "<this"),
            ("<think>", ""),
            ("b</think>c", "c"),
        ],
    );
    check_streaming(
        "json",
        &[("indent", "1")],
        &[
            ("{\"a", "{\n \"a"),
            ("\":", "\": "),
            ("1,", "1,"),
            ("\"b", "\n \"b"),
        ],
    );
}

#[test]
fn done_is_set_as_early_as_possible() {
    let done_after = |name: &str, options: &[(&str, &str)], before: &str, last: &str| {
        let mut processor = open(name, &entries(options)).expect(name);
        assert!(
            !processor.push(before).expect(name).done,
            "{name} too early"
        );
        assert!(processor.push(last).expect(name).done, "{name} too late");
    };
    done_after("tag", &[], "<output>a</output", ">");
    done_after("fence", &[], "```\na\n```", "\n");
    done_after("lines", &[("end", "END")], "a\nEND", "\n");
    done_after(
        "lines",
        &[("end", "END"), ("match", "prefix")],
        "a\nEN",
        "D",
    );
    done_after("json", &[], "{\"a\": 1", "}");
}
