//! `render`: resolved prompts.

use crate::support::Machine;

const FLAT: &str = r#"
think = '''
Think first.
'''
aps = '''
Rewrite as short sentences:

{{text}}
'''
"#;

const GROUPED: &str = r#"
[pre]
think = '''
Think first.
'''
[tasks]
aps = '''
Rewrite as short sentences:

{{text}}
'''
"#;

#[test]
fn prompts_compose_as_in_the_python_program() {
    let machine = Machine::new();
    machine.write("flat.toml", FLAT);
    machine.write("grouped.toml", GROUPED);
    // Each prompt is resolved separately, and they are joined by a blank line. A multi-line
    // string keeps its final newline.
    let expected = "Think first.\n\n\nRewrite as short sentences:\n\nT\n";
    for (prompt, file) in [
        ("think,aps", "flat.toml"),
        ("pre.think,tasks.aps", "grouped.toml"),
    ] {
        let run = machine.run(&["render", prompt, "--prompts", file, "--text", "T"]);
        assert_eq!(run.ok(), expected, "{file}");
        assert_eq!(run.stderr, "");
    }
    let old = [
        "render",
        "think,aps",
        "--file_prompt",
        "flat.toml",
        "--dict",
        "text=T",
    ];
    assert_eq!(machine.run(&old).ok(), expected);
}

#[test]
fn errors_in_prompts_and_parameters_exit_with_2_and_one_message() {
    let machine = Machine::new();
    machine.write(
        "p.toml",
        "a = 'hi {{name}} and {{other}}'\nx = '{{y}}'\ny = '{{x}}'\nboth = '{{a}}'\n",
    );
    machine.write("broken.toml", "good = 'x'\nbad = = 'y'\n");
    machine.write("latin1.toml", b"a = 'caf\xe9'");
    machine.write("one/p.toml", "good = 'x'\n");
    machine.write("two/p.toml", "bad = = 'x'\n");
    machine.write("latin1.txt", b"caf\xe9");
    let with_file = |prompt: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        [&["render", prompt, "--prompts", "p.toml"], more].concat()
    };
    for (args, messages) in [
        (
            with_file("a", &[]),
            vec!["`name`", "`other`", "-p name=VALUE"],
        ),
        (
            with_file("x", &[]),
            vec!["p.toml:2:", "x -> y -> x", "2 | x = '{{y}}'", "^"],
        ),
        (with_file("aa", &[]), vec!["has no prompt `aa`", "`a`"]),
        (with_file("both", &["-p", "a=1"]), vec!["`a`", "p.toml:1"]),
        (with_file("a", &["-p", "name"]), vec!["KEY=VALUE"]),
        (
            vec!["render", "good", "--prompts", "broken.toml"],
            vec!["broken.toml:2:7: ", "2 | bad = = 'y'\n    |       ^"],
        ),
        (
            vec!["render", "a", "--prompts", "latin1.toml"],
            vec!["latin1.toml is not UTF-8", "offset 8"],
        ),
        (
            vec!["render", "tldr", "--text-file", "latin1.txt"],
            vec!["latin1.txt is not UTF-8", "offset 3"],
        ),
        (
            vec!["render", "tldr", "--text-file", "none.txt"],
            vec!["none.txt"],
        ),
        (vec!["render", "tldr"], vec!["`text`", "--text-file"]),
        (vec!["render", "tldrr"], vec!["`tldr`"]),
        (
            vec!["render", "tldr", "--text", "x", "--post", "trimm"],
            vec![],
        ),
        (
            vec!["render", "tldr", "--text", "x", "--temperature", "-5"],
            vec![],
        ),
        (
            vec!["render", "tldr", "--text", "x", "--top-p", "5"],
            vec!["--top-p"],
        ),
        (
            vec!["render", "tldr", "--text", "x", "--config", "no.toml"],
            vec!["no.toml"],
        ),
        (
            vec!["render", "tldr", "--text-file", "/dev/zero"],
            vec!["/dev/zero is larger than 16 MiB"],
        ),
        (
            vec![
                "render",
                "bad",
                "--prompts",
                "one/p.toml",
                "--prompts",
                "two/p.toml",
            ],
            vec!["two/p.toml:1:"],
        ),
        (vec!["render", "x", "-p", "a=@none"], vec!["none", "@@"]),
    ] {
        let run = machine.run(&args);
        if messages.is_empty() {
            // Processors are opened only by `infer`; clap has its own messages.
            assert!(matches!(run.code, Some(0 | 2)), "{run:?}");
            continue;
        }
        let stderr = run.fails(2);
        for part in messages {
            assert!(stderr.contains(part), "{args:?}: {part}\n{stderr}");
        }
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    }
}

#[test]
fn a_text_of_one_megabyte_is_read_from_a_file_and_from_stdin() {
    let machine = Machine::new();
    let megabyte = "0123456789abcdef".repeat(1 << 16);
    machine.write("big.txt", &megabyte);
    let expected = format!("<{megabyte}>\n");
    let prompt = "<{{text}}>";
    let from_file = machine.run(&["render", prompt, "--text-file", "big.txt"]);
    assert!(from_file.ok() == expected);
    for args in [
        &["render", prompt][..],
        &["render", prompt, "--text-file", "-"],
    ] {
        let from_stdin = machine.run_with_stdin(args, megabyte.as_bytes());
        assert!(from_stdin.ok() == expected, "{args:?}");
    }
    let invalid = machine.run_with_stdin(&["render", prompt], b"ab\xffcd");
    assert!(
        invalid
            .fails(2)
            .contains("stdin is not UTF-8: invalid byte at offset 2"),
        "{invalid:?}"
    );
}

#[test]
fn stdin_is_read_only_when_the_prompt_lacks_its_text() {
    let machine = Machine::new();
    let run = machine.run_with_stdin(&["render", "<{{text}}>", "--text", "flag"], b"stdin");
    assert_eq!(run.ok(), "<flag>\n");
    let run = machine.run_with_stdin(&["render", "no text here"], b"stdin");
    assert_eq!(run.ok(), "no text here\n");
    let run = machine.run_with_stdin(&["render", "<{{text}}>"], b"");
    assert!(run.fails(2).contains("stdin: it is empty"));
    // A byte order mark is removed.
    let run = machine.run_with_stdin(&["render", "<{{text}}>"], "\u{feff}x".as_bytes());
    assert_eq!(run.ok(), "<x>\n");
}

#[test]
fn text_is_never_interpreted() {
    let machine = Machine::new();
    for text in [
        "</x> {x} %s {{y}} \\n",
        "\x1b]0;t\x07",
        "a,b=c:d",
        "-5",
        "",
        "#!$'\"`",
    ] {
        let run = machine.run(&["render", "[{{text}}]", "--text", text]);
        assert_eq!(run.ok(), format!("[{text}]\n"));
    }
}

#[test]
fn every_setting_has_its_value_and_origin() {
    let machine = Machine::new();
    machine.write(
        "p.toml",
        "[a]\nprompt = 'x'\ntemperature = 0.3\ntop_k = 7\nstop = ['P']\nextension = 'md'\n",
    );
    machine.write("c.toml", "[defaults]\ntop_k = 1\nmin_p = 0.5\n");
    let args = [
        "render",
        "a",
        "--prompts",
        "p.toml",
        "--config",
        "c.toml",
        "--json",
    ];
    let mut command = machine.command(&[&args[..], &["--param_temp", "0.9"]].concat());
    command.env("LMSTRIX_HOST_TOP_P", "0.5");
    let run = crate::support::finish(command.spawn().unwrap());
    let json = run.json();
    for (name, value, origin) in [
        ("temperature", serde_json::json!(0.9), "flag"),
        ("top_p", serde_json::json!(0.5), "environment"),
        ("top_k", serde_json::json!(7), "prompt"),
        ("stop", serde_json::json!(["P"]), "prompt"),
        ("min_p", serde_json::json!(0.5), "config"),
        ("repeat_penalty", serde_json::json!(1.1), "default"),
    ] {
        assert_eq!(json["settings"][name]["value"], value, "{name}: {json}");
        assert_eq!(json["settings"][name]["origin"], origin, "{name}: {json}");
    }
    assert_eq!(json["schema"], 1);
    assert_eq!(json["extension"], "md");
    assert_eq!(json["packs"][0]["name"], "standard");
    assert_eq!(json["packs"][0]["digest"].as_str().unwrap().len(), 64);
}

#[test]
fn system_and_raw_change_the_rendered_prompt() {
    let machine = Machine::new();
    machine.write(
        "p.toml",
        "[a]\nprompt = 'ask {{text}}'\nsystem = 'be brief'\n",
    );
    let base = ["render", "a", "--prompts", "p.toml", "--text", "me"];
    let with = |more: &[&'static str]| machine.run(&[&base[..], more].concat());
    assert_eq!(
        with(&[]).ok(),
        "--- system ---\nbe brief\n--- user ---\nask me\n"
    );
    assert_eq!(
        with(&["-s", "shout"]).ok(),
        "--- system ---\nshout\n--- user ---\nask me\n"
    );
    assert_eq!(with(&["-s", "", "--raw"]).ok(), "ask me\n");
    let json = with(&["-s", "", "--raw", "--json"]).json();
    assert_eq!(json["input"]["raw"], "ask me");
    let json = with(&["--json"]).json();
    assert_eq!(json["input"]["chat"][1]["content"], "ask me");
    assert!(with(&["--raw"]).fails(2).contains("system, user"));
}

#[test]
fn an_unknown_or_invalid_environment_variable_is_reported() {
    let machine = Machine::new();
    let mut command = machine.command(&["render", "x y"]);
    command
        .env("LMSTRIX_HOST_TEMPRATURE", "1")
        .env("LMSTRIX_HOST_TOP_K", "");
    let run = crate::support::finish(command.spawn().unwrap());
    run.ok();
    assert!(
        run.stderr
            .contains("did you mean LMSTRIX_HOST_TEMPERATURE?"),
        "{run:?}"
    );
    let mut command = machine.command(&["render", "x y"]);
    command.env("LMSTRIX_HOST_SEED", "many");
    let run = crate::support::finish(command.spawn().unwrap());
    assert!(
        run.fails(2)
            .contains("LMSTRIX_HOST_SEED: invalid value `many`"),
        "{run:?}"
    );
}
