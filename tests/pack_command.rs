//! `pack`: lists, shows and checks packs, and prints the contract.

use crate::guests::component;
use crate::support::Machine;

#[test]
fn packs_are_listed_with_what_they_hide_and_what_is_not_used() {
    let machine = Machine::new();
    machine.install_pack("hello", &component("hello"));
    machine.install_pack("Bad name", &component("hello"));
    machine.install_pack("stock", &component("hello"));
    machine.write("more/hello.wasm", "hidden");
    machine.write(
        "more/shout.wasm",
        std::fs::read(component("shout")).unwrap(),
    );
    let args = ["pack", "list", "--pack-dir", "more"];
    let run = machine.run(&args);
    let rows: Vec<Vec<&str>> = run
        .ok()
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["PACK", "SIZE", "COMPILED", "FILE"]);
    assert_eq!(rows[1][0], "standard");
    assert_eq!(rows[1][3..], ["yes", "built", "in"]);
    assert_eq!(rows[2][0], "hello");
    assert_eq!(rows[2][3..], ["no", "packs/hello.wasm"]);
    assert_eq!(rows[3][3..], ["no", "more/shout.wasm"]);
    assert_eq!(rows.len(), 4);
    for warning in [
        "packs/Bad name.wasm is not used: only a-z",
        "packs/stock.wasm is not used: the name is reserved",
        "more/hello.wasm is not used: packs/hello.wasm has the same name",
    ] {
        assert!(run.stderr.contains(warning), "{warning}: {run:?}");
    }
    machine
        .run(&["render", "hello/greet", "-p", "name=Ada"])
        .ok();
    let list = machine.run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(list["packs"][1]["name"], "hello");
    assert_eq!(list["packs"][1]["compiled"], true);
    assert_eq!(list["packs"][1]["hides"][0], "more/hello.wasm");
    assert_eq!(list["unused"].as_array().unwrap().len(), 2);
    assert_eq!(machine.run(&["packs", "list"]).ok().lines().count(), 3);
}

#[test]
fn a_pack_is_shown_with_its_prompts_processors_and_files() {
    let machine = Machine::new();
    let path = machine.install_pack("shout", &component("shout"));
    machine.write("packs/shout/notes.txt", "x");
    let by_name = machine.run(&["pack", "show", "shout"]);
    for part in [
        "shout: Example processors",
        "\nfile      packs/shout.wasm\n",
        "lmstrix:prompts/post-processor@0.1.0",
        "\nfiles     packs/shout/notes.txt\n",
        "\nprocessors\n  shout/upper: Converts the answer to upper case\n",
    ] {
        assert!(by_name.ok().contains(part), "{part}: {by_name:?}");
    }
    let by_file = machine.run(&["pack", "show", path.to_str().unwrap()]);
    assert!(by_file.ok().contains("shout/count"), "{by_file:?}");
    let standard = machine.run(&["pack", "show", "standard"]);
    for part in [
        "\nfile      built in\n",
        "\n    -p to [default: English]\n    -p text [required]\n",
        "\n    option name: name of the tag [default: output]\n",
    ] {
        assert!(standard.ok().contains(part), "{part}: {standard:?}");
    }
    let shown = machine.run(&["pack", "show", "standard", "--json"]).json();
    assert_eq!(shown["prompts"][0]["params"][0]["default"], "English");
    let missing = machine.run(&["pack", "show", "shoot"]);
    assert!(
        missing.fails(2).contains("did you mean `shout`?"),
        "{missing:?}"
    );
}

#[test]
fn a_check_finds_what_does_not_match_the_description_or_the_contract() {
    let machine = Machine::new();
    for name in ["hello", "shout"] {
        machine.install_pack(name, &component(name));
        machine.run(&["pack", "check", name]).ok();
    }
    let standard = machine.run(&["pack", "check", "standard"]);
    assert!(!standard.ok().contains("wrong"), "{standard:?}");
    machine.install_pack("evil", &component("hostile"));
    machine.write("packs/evil/describe", "faults");
    let run = machine.run(&["pack", "check", "evil"]);
    assert_eq!(run.code, Some(3), "{run:?}");
    for finding in [
        "ok       prompt `text`: resolves\n",
        "wrong    prompt `secret-param`: needs `secret`, which `describe` does not have\n",
        "wrong    prompt `secret-processor`: uses the processor `nowhere`, which neither",
        "warning  prompt `assistant`: ends with a message of the assistant; some models",
        "wrong    prompt `range`: invalid value `7` for `top_p`: expected a number from 0 to 1\n",
        "wrong    prompt `a name`: the name is taken for the text of a prompt\n",
        "wrong    a prompt that does not exist: the error must be `unknown-prompt`, but is: no error\n",
        "ok       processor `pass`: processes answers, however they are cut\n",
        "wrong    processor `count-pieces`: the output depends on how the answer is cut: ",
        "wrong    processor `push:trap`: the answer ",
        "wrong    a processor that does not exist: the error must be `unknown-processor`",
    ] {
        assert!(run.text().contains(finding), "{finding}: {}", run.text());
    }
    assert!(run.stderr.contains("error: pack `evil` has "), "{run:?}");
    for once in ["for `top_p`", "`count-pieces`", "`push:trap`: the answer"] {
        assert_eq!(run.text().matches(once).count(), 1, "{}", run.text());
    }
    // A failure in `describe` is a finding, too.
    machine.write("packs/evil/describe", "trap");
    let run = machine.run(&["pack", "check", "evil"]);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(
        run.text().starts_with("wrong    describe: pack `evil`"),
        "{run:?}"
    );
}

#[test]
fn the_contract_is_part_of_the_program() {
    let machine = Machine::new();
    let contract = include_str!("../wit/prompts.wit");
    assert_eq!(machine.run(&["pack", "wit"]).ok(), contract);
}

const CASES: &str = r#"# Tests of two packs.
pack = "evil.wasm"

[[case]]
name = "a prompt"  # kept
prompt = "model"
context = 4096
model = { id = "qwen", vision = "true" }

[[case]]
processor = "odd"
answer = "Grüße, 漢字"

[[case]]
processor = "reason"
answer = "cut"
stop = "length"

[[case]]
prompt = "code"
"#;

#[test]
fn cases_of_a_test_file_are_run_compared_and_updated() {
    let machine = Machine::new();
    let pack = std::fs::read(component("hostile")).unwrap();
    machine.write("t/evil.wasm", pack);
    machine.write("t/evil.test.toml", CASES);
    let new = machine.run(&["pack", "test", "t"]);
    assert_eq!(new.code, Some(1), "{new:?}");
    let present = "no expected values; the present ones are\n         text = Grüße, 漢字\n";
    assert!(new.text().contains(present), "{}", new.text());
    assert_eq!(machine.read("t/evil.test.toml"), CASES);
    let update = machine.run(&["pack", "test", "t", "--update"]);
    assert_eq!(update.ok().matches("updated  ").count(), 4, "{update:?}");
    let updated = machine.read("t/evil.test.toml");
    for part in [
        "# Tests of two packs.\n",
        "name = \"a prompt\"  # kept\n",
        "context-length: Some(4096)",
        "id: \"qwen\"",
        "text = \"Grüße, 漢字\"\n",
        "text = \"cut [Stop::Length]\"\n",
        "error = \"unsupported on purpose (code `E42`)\"\n",
    ] {
        assert!(updated.contains(part), "{part}: {updated}");
    }
    let same = machine.run(&["pack", "test", "t/evil.test.toml"]);
    assert_eq!(same.ok().lines().count(), 4);
    assert!(
        same.text()
            .starts_with("ok       t/evil.test.toml: a prompt\n"),
        "{same:?}"
    );
    machine.write(
        "t/evil.test.toml",
        updated.replace(
            "Grüße, 漢字\"\n\n[[case]]",
            "Grüße\\nfrom afar\"\n\n[[case]]",
        ),
    );
    let changed = machine.run(&["pack", "test", "t"]);
    assert_eq!(changed.code, Some(1), "{changed:?}");
    let difference = "failed   t/evil.test.toml: odd\n         text\n         - Grüße\n         \
        - from afar\n         + Grüße, 漢字\n";
    assert!(changed.text().contains(difference), "{}", changed.text());
    assert!(
        changed.stderr.contains("error: 1 of 4 cases failed"),
        "{changed:?}"
    );
}

#[test]
fn an_update_keeps_comments_and_writes_no_faults() {
    let machine = Machine::new();
    let pack = std::fs::read(component("hostile")).unwrap();
    machine.write("evil.wasm", pack);
    let cases = r#"pack = "evil.wasm"
[[case]]
processor = "odd"
answer = "new"
[case.expect]
# Why it is so.
text = "old" # and more
warnings = ["none any more"]

[[case]]
processor = "count-pieces"
answer = "abc"

[[case]]
prompt = "range"
[case.expect]
extension = "md"
"#;
    machine.write("evil.test.toml", cases);
    machine.write("shout.wasm", std::fs::read(component("shout")).unwrap());
    let unknown = "pack = \"shout.wasm\"\n[[case]]\nprocessor = \"uper\"\n";
    machine.write("shout.test.toml", unknown);
    let update = machine.run(&["pack", "test", "--update"]);
    assert_eq!(update.code, Some(1), "{update:?}");
    for part in [
        "updated  ./evil.test.toml: odd\n         text\n         - old\n         + new\n",
        "failed   ./evil.test.toml: count-pieces\n         cut after ",
        "failed   ./shout.test.toml: uper\n         no processor `uper`; did you mean `upper`?",
        "failed   ./evil.test.toml: range\n",
    ] {
        assert!(update.text().contains(part), "{part}: {}", update.text());
    }
    assert!(!update.stderr.contains("hint"), "{update:?}");
    let expected = cases
        .replace("\"old\"", "\"new\"")
        .replace("warnings = [\"none any more\"]\n", "");
    assert_eq!(machine.read("evil.test.toml"), expected);
    assert_eq!(machine.read("shout.test.toml"), unknown);
}

#[test]
fn prompts_of_cases_are_sent_to_a_model() {
    let machine = Machine::new();
    machine.write(
        "near.toml",
        "say = 'Repeat the greeting.\\n\\nHello, {{name}}.'\n",
    );
    machine.write(
        "near.test.toml",
        "pack = \"near.toml\"\n[[case]]\nprompt = \"say\"\nparams = { name = \"Ada\" }\n\
         [case.expect]\nextension = \"\"\n[[case]]\nname = \"no name\"\nprompt = \"say\"\n\
         [case.expect]\nerror = \"missing parameters: name\"\n",
    );
    let live = machine.run(&["pack", "test", "--engine", "embedded"]);
    let lines: Vec<&str> = live.text().lines().collect();
    assert_eq!(lines[0], "ok       ./near.test.toml: say");
    assert!(lines[1].starts_with("answer   "), "{lines:?}");
    assert_eq!(lines[2..], ["ok       ./near.test.toml: no name"]);
    live.ok();
    let unknown = machine.run(&["pack", "test", "--engine", "embedded", "-m", "nothing"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.text().contains("\nfailed   "), "{}", unknown.text());
    assert!(!unknown.stderr.contains("--update"), "{unknown:?}");
}

#[test]
fn invalid_test_files_are_errors() {
    let machine = Machine::new();
    for (text, message) in [
        (
            "pack = \"x.wasm\"\ncase = 1\n",
            "t.test.toml: TOML parse error at line 2",
        ),
        (
            "pack = \"x.wasm\"\n[[case]]\npromt = \"x\"\n",
            "unknown field `promt`",
        ),
        (
            "pack = \"x.wasm\"\n[[case]]\n",
            "case 1 (`unnamed`) needs a `prompt` or a `processor`",
        ),
        (
            "pack = \"x.wasm\"\n[[case]]\nprompt = \"x\"\nprocessor = \"y\"\n",
            "case 1 (`x`) has a `prompt` and a `processor`",
        ),
        (
            "pack = \"x.wasm\"\n",
            "t.test.toml: the file has no `[[case]]`",
        ),
        ("pack = \"x.wasm\"\n[[case]]\nprompt = \"x\"\n", "x.wasm"),
        (
            "pack = \"nowhere\"\n[[case]]\nprompt = \"x\"\n",
            "no pack named `nowhere`",
        ),
        ("", "missing field `pack`"),
    ] {
        machine.write("t.test.toml", text);
        let run = machine.run(&["pack", "test"]);
        assert!(run.fails(2).contains(message), "{text}: {run:?}");
    }
    machine.write("some.wasm", b"");
    let other = machine.run(&["pack", "test", "some.wasm"]);
    let message = "some.wasm is not a TOML file with cases";
    assert!(other.fails(2).contains(message), "{other:?}");
    machine.write("empty/x.toml", "");
    let empty = machine.run(&["pack", "test", "empty"]);
    assert!(
        empty.fails(2).contains("no test file in empty"),
        "{empty:?}"
    );
}
