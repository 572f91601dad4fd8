use lmstrix_pack::{Entry, ParamInfo, ProcessorRef, Request, Setting};
use lmstrix_pack_standard::describe::describe;
use lmstrix_pack_standard::resolve::resolve;

use crate::{entries, error_of, file, resolve_prompt, try_resolve};

const FULL: &str = r#"
[full]
prompt = "Say {{what}} {{how}}."
system = "You are {{who}}."
description = "All properties"
defaults = { who = "a poet", n = 1, how = "now" }
post = ["fence:lang=rust", { name = "replace", options = { from = "a:b", to = "c", count = 2 } }, "other/thing:x=1"]
extension = "md"
temperature = 1
top_k = 40
top_p = 0.95
min_p = 0.05
repeat_penalty = 1.1
presence_penalty = -0.5
frequency_penalty = 0
seed = 18446744073709551615
max_tokens = -1
stop = ["</s>", "END"]
reasoning = "low"
other = { mirostat = 2, grammar = "root ::= x", logit = [1, "a"] }
json_schema = { type = "object", required = ["a"], additionalProperties = false }
"#;

#[test]
fn all_properties_are_read() {
    let resolved = resolve_prompt(FULL, "full", &[("what", "hi"), ("how", "loudly")]);
    assert_eq!(resolved.warnings, Vec::<String>::new());
    assert_eq!(resolved.user, "Say hi loudly.");
    assert_eq!(resolved.system.as_deref(), Some("You are a poet."));
    assert_eq!(resolved.extension.as_deref(), Some("md"));
    let processor = |name: &str, options| ProcessorRef {
        name: name.to_owned(),
        options: entries(options),
    };
    assert_eq!(
        resolved.processors,
        [
            processor("fence", &[("lang", "rust")]),
            processor("replace", &[("count", "2"), ("from", "a:b"), ("to", "c")]),
            processor("other/thing", &[("x", "1")]),
        ]
    );
    let stop = |text: &str| Setting::Stop(text.to_owned());
    let other = |key, value| Setting::Other(Entry::new(key, value));
    assert_eq!(
        resolved.settings,
        [
            Setting::Temperature(1.0),
            Setting::TopK(40),
            Setting::TopP(0.95),
            Setting::MinP(0.05),
            Setting::RepeatPenalty(1.1),
            Setting::PresencePenalty(-0.5),
            Setting::FrequencyPenalty(0.0),
            Setting::Seed(u64::MAX),
            Setting::MaxTokens(None),
            stop("</s>"),
            stop("END"),
            Setting::Reasoning("low".to_owned()),
            other("mirostat", "2"),
            other("grammar", "root ::= x"),
            other("logit", "[1, \"a\"]"),
            Setting::JsonSchema(
                "{\"type\": \"object\", \"required\": [\"a\"], \"additionalProperties\": false}"
                    .to_owned()
            ),
        ]
    );
}

#[test]
fn invalid_values_are_reported_with_their_position() {
    for (line, expected) in [
        (
            "temperature = \"hot\"",
            "15: `temperature` must be a number from 0 to 100, not a string",
        ),
        (
            "temperature = -1",
            "15: `temperature` must be a number from 0 to 100, not -1",
        ),
        (
            "temperature = nan",
            "15: `temperature` must be a number from 0 to 100, not nan",
        ),
        (
            "top_p = 1.5",
            "9: `top_p` must be a number from 0 to 1, not 1.5",
        ),
        (
            "presence_penalty = true",
            "20: `presence_penalty` must be a number from -2 to 2, not a boolean",
        ),
        (
            "frequency_penalty = inf",
            "21: `frequency_penalty` must be a number from -2 to 2, not inf",
        ),
        ("top_k = 1.5", "9: `top_k` must be an integer >= 0, not 1.5"),
        (
            "top_k = 4294967296",
            "9: `top_k` must be an integer >= 0, not 4294967296",
        ),
        ("seed = -1", "8: `seed` must be an integer >= 0, not -1"),
        (
            "max_tokens = 0",
            "14: `max_tokens` must be an integer >= 1, or -1 for no limit, not 0",
        ),
        (
            "stop = [\"a\", 1]",
            "14: `stop` must be a non-empty string or an array of non-empty strings, not 1",
        ),
        ("stop = \"\"", "8: a stop string must not be empty"),
        (
            "reasoning = \"lots\"",
            "13: `reasoning` must be one of off, on, low, medium, high, not `lots`",
        ),
        (
            "reasoning = true",
            "13: `reasoning` must be one of off, on, low, medium, high, not a boolean",
        ),
        ("other = 1", "9: `other` must be a table, not 1"),
        (
            "json_schema = \"{\"",
            "15: `json_schema` is not JSON: unexpected end, expected a key",
        ),
        (
            "json_schema = \"{} x\"",
            "15: `json_schema` is not JSON: line 1, column 4: unexpected `x`, expected the end of the text",
        ),
        (
            "json_schema = 1",
            "15: `json_schema` must be a table or a JSON string, not 1",
        ),
        (
            "system = 1",
            "10: `system` must be a string, not an integer",
        ),
        (
            "description = []",
            "15: `description` must be a string, not an array",
        ),
        (
            "raw = \"yes\"",
            "7: `raw` must be true or false, not a string",
        ),
        (
            "defaults = 1",
            "12: `defaults` must be a table, not an integer",
        ),
        (
            "defaults = { a = {} }",
            "18: the default of `a` must be a scalar or an array, not a table",
        ),
        (
            "post = 1",
            "8: `post` must be a processor or an array of processors, not an integer",
        ),
        (
            "post = [\"tag:quiet\"]",
            "9: `quiet` in `tag:quiet` is not `key=value`",
        ),
        (
            "post = [\"fense\"]",
            "9: unknown processor `fense`; did you mean `fence`?",
        ),
        (
            "post = [\"trim\", \"trim:sid=x\"]",
            "17: invalid option `sid` of `trim`: unknown option (options: side)",
        ),
        (
            "post = [{ options = {} }]",
            "9: a processor in `post` has no `name`",
        ),
        (
            "post = [{ name = \"trim\", options = 1 }]",
            "9: `options` must be a table",
        ),
        (
            "post = [{ name = \"trim\", options = { side = [] } }]",
            "45: option `side` must be a scalar, not an array",
        ),
    ] {
        let text = format!("# é\n[a]\nprompt = 'x'\n{line}\n");
        assert_eq!(
            error_of(try_resolve(&text, "a", &[])),
            format!("p.toml:4:{expected}"),
            "{line}"
        );
        assert!(describe(&[file("p.toml", &text)]).is_err(), "{line}");
    }
    assert_eq!(
        error_of(try_resolve("[a]\nprompt = 5", "a", &[])),
        "p.toml:2:10: the text of the prompt must be a string, not an integer"
    );
}

#[test]
fn unknown_properties_are_warnings_with_their_line() {
    let text =
        "[a]\nprompt = 'x'\ntemprature = 1\nzzzzzz = 2\npost = [{ name = 'trim', opts = 1 }]";
    assert_eq!(
        resolve_prompt(text, "a,a", &[]).warnings,
        [
            "p.toml:3: unknown property `temprature`; did you mean `temperature`?",
            "p.toml:4: unknown property `zzzzzz`",
            "p.toml:5: unknown key `opts` in `post`",
        ]
    );
}

#[test]
fn raw_prompts_are_not_expanded() {
    let text = "a = '{{b}} {{x}}'\n[b]\nprompt = '{{x}} {{y}}'\nsystem = '{{z}}'\nraw = true";
    let resolved = resolve_prompt(text, "b", &[]);
    assert_eq!(
        (resolved.user.as_str(), resolved.system.as_deref()),
        ("{{x}} {{y}}", Some("{{z}}"))
    );
    assert_eq!(
        resolve_prompt(text, "a", &[("x", "X")]).user,
        "{{x}} {{y}} X"
    );
}

#[test]
fn defaults_of_the_outer_prompt_take_precedence() {
    let text = "[a]\nprompt = '{{b}} {{y}}'\ndefaults = { x = 'outer', b = 'never' }\n\
                [b]\nprompt = '{{x}}{{z}}'\ndefaults = { x = 'inner', z = 7, y = 'no' }";
    assert_eq!(error_of(try_resolve(text, "a", &[])), "missing: y");
    assert_eq!(resolve_prompt(text, "a", &[("y", "Y")]).user, "outer7 Y");
    assert_eq!(
        resolve_prompt(text, "b", &[("z", "{{x}}")]).user,
        "inner{{x}}"
    );
}

#[test]
fn multiple_prompts_are_joined() {
    let text = r#"
a = """
A
"""
[b]
prompt = "B"
system = "one\n"
temperature = 0.5
stop = ["x", "y"]
seed = 1
post = ["trim", "tag"]
extension = "md"
other = { k = 1, l = 1 }
[c]
prompt = "C"
system = "two"
temperature = 0.7
stop = "x"
seed = 1
post = ["tag", "trim", "trim:side=end"]
extension = "txt"
other = { k = 2 }
[d]
prompt = "D"
system = " \n"
"#;
    let resolved = resolve_prompt(text, " a,, b ,c,d", &[]);
    assert_eq!(resolved.user, "A\n\n\nB\n\nC\n\nD");
    assert_eq!(resolved.system.as_deref(), Some("one\n\n\ntwo"));
    let other = |key, value| Setting::Other(Entry::new(key, value));
    assert_eq!(
        resolved.settings,
        [
            other("l", "1"),
            Setting::Temperature(0.7),
            Setting::Stop("x".to_owned()),
            Setting::Seed(1),
            other("k", "2"),
        ]
    );
    let processors: Vec<(&str, usize)> = resolved
        .processors
        .iter()
        .map(|processor| (processor.name.as_str(), processor.options.len()))
        .collect();
    assert_eq!(processors, [("trim", 0), ("tag", 0), ("trim", 1)]);
    assert_eq!(resolved.extension.as_deref(), Some("txt"));
    assert_eq!(
        resolved.warnings,
        [
            "`c` replaces the setting `temperature` of `b`",
            "`c` replaces the setting `stop` of `b`",
            "`c` replaces the setting `other.k` of `b`",
            "`c` replaces the extension `md` of `b` with `txt`",
        ]
    );
    assert_eq!(resolve_prompt(text, "a", &[]).user, "A\n");
    assert_eq!(resolve_prompt(text, "d", &[]).system, None);
}

fn request(prompt: &str, extra: &[(&str, &str)]) -> Request {
    Request {
        prompt: prompt.to_owned(),
        params: entries(&[("t", "T")]),
        model: None,
        files: vec![
            file("one.toml", "a = '1{{x}}'\nx = 'one'\nboth = '1'"),
            file("notes.md", "a = broken"),
            file(
                "two.TOML",
                "b = '2{{x}}{{t}}'\nx = 'two'\nboth = '2'\nonly = '{{a}}'",
            ),
        ],
        extra: entries(extra),
    }
}

#[test]
fn files_are_searched_in_order() {
    let mut request = request("a,b,both", &[]);
    let resolved = resolve(&request).expect("resolved");
    assert_eq!(resolved.user, "1one\n\n2twoT\n\n1");
    assert_eq!(
        resolved.warnings,
        ["`both` is defined in one.toml and in two.TOML; using the first"]
    );
    request.prompt = "only".to_owned();
    assert_eq!(error_of(resolve(&request)), "missing: a");
    let (prompts, _) = describe(&request.files).expect("valid file");
    let names: Vec<&str> = prompts.iter().map(|prompt| prompt.name.as_str()).collect();
    assert_eq!(names, ["a", "x", "both", "b", "only"]);
}

#[test]
fn an_inline_prompt_can_reference_all_files() {
    let resolved = resolve(&request(
        "inline",
        &[("template", "{{b}} {{both}} {{ t }} {t}")],
    ));
    let resolved = resolved.expect("resolved");
    assert_eq!(resolved.user, "2twoT 1 T {t}");
    assert_eq!(
        resolved.warnings,
        ["`{{both}}` is defined in one.toml:3 and in two.TOML; using the first"]
    );
    let missing = resolve(&request("inline", &[("template", "{{nope}}")]));
    assert_eq!(error_of(missing), "missing: nope");
    let mut conflicting = request("inline", &[("template", "{{x}}")]);
    conflicting.params = entries(&[("x", "X")]);
    assert_eq!(
        error_of(resolve(&conflicting)),
        "x: set as a parameter and also defined in one.toml:2; rename one of them"
    );
    let without_files = resolve(&Request {
        files: vec![],
        ..request("inline", &[("template", "Hi {{t}}")])
    });
    assert_eq!(without_files.expect("resolved").user, "Hi T");
}

#[test]
fn unknown_prompts_get_suggestions() {
    let text =
        "translate = 'x'\nn = 1\nlist = ['x']\n[work]\nreply = 'x'\ntranslate = 'x'\n[empty]\n";
    for (prompt, expected) in [
        ("tranlate", "translate work.translate"),
        ("work", "work.reply work.translate"),
        ("reply", "work.reply"),
        ("translate,repli", "translate,work.reply"),
        ("n", "translate work.reply work.translate"),
        ("list", "translate work.reply work.translate"),
        ("empty", "translate work.reply work.translate"),
        ("translate.x", "translate"),
    ] {
        assert_eq!(
            error_of(try_resolve(text, prompt, &[])),
            format!("unknown prompt, similar: {expected}"),
            "{prompt}"
        );
    }
    let invalid = format!("{text}\n[bad]\nprompt = 1");
    assert_eq!(
        error_of(try_resolve(&invalid, "tranlate", &[])),
        "unknown prompt, similar: "
    );
}

#[test]
fn prompts_are_described_in_file_order() {
    let text = format!(
        "{FULL}\n[g]\nz = '''\n\n  First line of {{{{text}}}}\nmore'''\n[g.deep]\na = \"{}\"\n\
         [user]\nprompt = '{{{{g.z}}}} {{{{full}}}} {{{{ text }}}}'\nsystem = '{{{{lang}}}}'\n\
         defaults = {{ lang = 'en' }}\n[loop]\nprompt = '{{{{loop}}}}'\n[raw]\nprompt = '{{{{x}}}}'\nraw = true\n",
        "é".repeat(80)
    );
    let (prompts, processors) = describe(&[file("p.toml", &text)]).expect("valid file");
    let lines: Vec<String> = prompts
        .iter()
        .map(|prompt| {
            let param = |param: &ParamInfo| match &param.default {
                Some(default) => format!(" {}={default}", param.name),
                None => format!(" {}", param.name),
            };
            let params: String = prompt.params.iter().map(param).collect();
            format!("{}:{params} | {}", prompt.name, prompt.summary)
        })
        .collect();
    assert_eq!(
        lines,
        [
            "full: what how=now who=a poet | All properties".to_owned(),
            "g.z: text | First line of {{text}}".to_owned(),
            format!("g.deep.a: | {}…", "é".repeat(59)),
            "user: text what how=now lang=en | {{g.z}} {{full}} {{ text }}".to_owned(),
            "loop: | {{loop}}".to_owned(),
            "raw: | {{x}}".to_owned(),
        ]
    );
    assert_eq!(
        prompts[0].extra,
        entries(&[("file", "p.toml"), ("line", "2")])
    );
    assert_eq!(processors.len(), 7);
}
