use lmstrix_pack_standard::processor::open;
use lmstrix_pack_standard::types::{Error, Stop};

use crate::{entries, shown};

/// What became of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// What went out, and in brackets what only the end released.
    pub(crate) text: String,
    pub(crate) tail: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) done: bool,
}

pub(crate) fn run(
    name: &str,
    options: &[(&str, &str)],
    chunks: &[&str],
    stop: Stop,
) -> Result<Run, Error> {
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
    let stop = if done { Stop::Complete } else { stop };
    let outcome = processor.finish(stop)?;
    Ok(Run {
        text,
        tail: outcome.tail,
        warnings: outcome.warnings,
        done,
    })
}

/// `text[tail]`, ` done`, and the warnings after `!`.
fn check(name: &str, options: &[(&str, &str)], answer: &str, expected: &str) {
    let shown = match run(name, options, &[answer], Stop::Complete) {
        Err(error) => shown(&error),
        Ok(run) => {
            let tail = if run.tail.is_empty() {
                String::new()
            } else {
                format!("[{}]", run.tail)
            };
            let done = if run.done { " done" } else { "" };
            let warnings: String = run.warnings.iter().map(|it| format!(" ! {it}")).collect();
            format!("{}{tail}{done}{warnings}", run.text)
        }
    };
    assert_eq!(shown, expected, "{name} {options:?} {answer:?}");
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
        "from: it must be given (options: from, to, count)",
    );
    check(
        "replace",
        &[("from", "a"), ("count", "-1")],
        "",
        "count: must be a whole number from 0 to 4294967295, not `-1` (options: from, to, count)",
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
        "[no tag <out] ! no <output> in the answer: it is passed on whole",
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
        "name: `<x>` is not a tag's name; write it without brackets (options: name, required, quiet)",
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
        "nmae: there is no such option (options: name, required, quiet)",
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
        "[a\r\n```rust\r\nb\r\n```\r\nc] ! no code block in c in the answer: it is passed on whole",
    );
    check(
        "fence",
        &[],
        "no ``` here\n``\n",
        "[no ``` here\n``\n] ! no code block in the answer: it is passed on whole",
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
        "[a\nb] ! no line `BEGIN` in the answer: it is passed on whole",
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
        "a\nb ! no line `---` in the answer: it is passed on whole",
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
        "end: every line begins with nothing (options: start, end, match, required, quiet)",
    );
    check(
        "lines",
        &[],
        "",
        "start: give start, end, or both (options: start, end, match, required, quiet)",
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
        " ! <think> is not closed in the answer: what follows it is left out",
    );
    check(
        "reasoning",
        &[],
        "Write <think> first",
        "Write [<think> first] ! <think> is not closed in the answer: it is kept",
    );
    check(
        "reasoning",
        &[],
        "hm</think>A",
        "hm</think>A ! </think> closes nothing; if the answer begins with thinking, set open=true",
    );
    check("reasoning", &[("open", "true")], "hm <a></think>\nA", "A");
    check(
        "reasoning",
        &[("open", "true")],
        "A",
        "[A] ! no </think> or </thinking> or </reasoning> or </thought> in the answer: it is passed on whole",
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
        "names: there is nothing to look for (options: names, start, end, open)",
    );
    check(
        "reasoning",
        &[("start", "[")],
        "",
        "end: must be given with start (options: names, start, end, open)",
    );
}

#[test]
fn an_answer_cut_while_thinking_is_no_answer() {
    let run = run("reasoning", &[("open", "true")], &["hm, "], Stop::Cut).expect("no error");
    assert_eq!(run.text, "");
    assert!(
        run.warnings[0].contains("cut before </think>"),
        "{:?}",
        run.warnings
    );
}

#[test]
fn reasoning_in_a_cut_answer_is_left_out() {
    let run = run("reasoning", &[], &["A <think>b"], Stop::Cut).expect("no error");
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
        ("", "it ends where a value is expected"),
        (
            "Sure! {}",
            "line 1, column 1: `S` where a value is expected",
        ),
        (
            "{\"a\": 1,\n}",
            "line 2, column 1: `}` where a key is expected",
        ),
        (
            "{a}",
            "line 1, column 2: `a` where a key or `}` is expected",
        ),
        ("{\"a\" 1}", "line 1, column 6: `1` where `:` is expected"),
        (
            "[1 2]",
            "line 1, column 4: `2` where `,` or `]` is expected",
        ),
        ("[1,]", "line 1, column 4: `]` where a value is expected"),
        ("[01]", "line 1, column 3: `1` where `,` or `]` is expected"),
        ("[1.]", "line 1, column 4: `]` where a digit is expected"),
        ("[-]", "line 1, column 3: `]` where a digit is expected"),
        ("tru", "it ends where the rest of a word is expected"),
        (
            "nul!",
            "line 1, column 4: `!` where true, false or null is expected",
        ),
        ("12x", "line 1, column 3: `x` where the end is expected"),
        (
            "\"a\" said she",
            "line 1, column 5: `s` where the end is expected",
        ),
        (
            "[\"a\nb\"]",
            "line 1, column 4: `\\n` where an escape such as `\\n` is expected",
        ),
        (
            "[\"\\x\"]",
            "line 1, column 4: `x` where one of `\"\\/bfnrtu` is expected",
        ),
        (
            "[\"\\u12g4\"]",
            "line 1, column 7: `g` where a hexadecimal digit is expected",
        ),
        ("[\"abc", "it ends where the end of the string is expected"),
        ("[1", "it ends where `,` or `]` is expected"),
        ("{\"a\"", "it ends where `:` is expected"),
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
        "rejected: not JSON: line 1, column 513: `[` where a less deep value is expected",
    );
    check(
        "json",
        &[("indent", "9")],
        "",
        "indent: must be a whole number from 0 to 8, not `9` (options: indent)",
    );
    let cut = run("json", &[], &["[1"], Stop::Cut).expect_err("rejected");
    assert!(shown(&cut).ends_with("; the answer was cut"));
}

#[test]
fn unknown_processors_get_suggestions() {
    check("fense", &[], "", "unknown processor, close: fence");
    check(
        "zzz",
        &[],
        "",
        "unknown processor, close: reasoning tag fence lines trim json replace",
    );
}

/// How much has gone out after each piece.
fn streams(name: &str, options: &[(&str, &str)], pieces: &[(&str, &str)]) {
    let mut processor = open(name, &entries(options)).expect(name);
    for (chunk, expected) in pieces {
        assert_eq!(
            processor.push(chunk).expect(name).text,
            *expected,
            "{name} after {chunk:?}"
        );
    }
}

#[test]
fn holds_back_only_what_is_undecided() {
    streams(
        "trim",
        &[],
        &[("  a", "a"), (" ", ""), ("b \n", " b"), ("c", " \nc")],
    );
    streams(
        "replace",
        &[("from", "abc")],
        &[("xab", "x"), ("d", "abd"), ("ab", ""), ("c!", "!")],
    );
    streams(
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
    streams(
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
    streams(
        "lines",
        &[("start", ">"), ("end", "END")],
        &[(">\na", "a"), ("b\nE", "b\n"), ("x", "Ex")],
    );
    streams(
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
    streams(
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
fn is_done_as_soon_as_nothing_more_matters() {
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
