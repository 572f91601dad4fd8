use lmstrix_pack_standard::describe::describe;
use lmstrix_pack_standard::processor::KINDS;
use lmstrix_pack_standard::setting;
use lmstrix_pack_standard::types::Stop;

use crate::processors::run;
use crate::{file, one};

const README: &str = include_str!("../README.md");

/// The examples in order.
fn examples() -> Vec<&'static str> {
    let after_marks = README.split("```toml\n").skip(1);
    after_marks
        .filter_map(|text| text.split("\n```").next())
        .collect()
}

#[test]
fn the_examples_do_what_is_said() {
    let [flat, haiku, fix] = examples()[..] else {
        panic!("three examples");
    };
    let (prompts, _) = describe(&[file("p.toml", flat)]).expect("flat");
    let params = |index: usize| {
        let params = prompts[index].params.iter();
        params.map(|param| param.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(prompts.len(), 3);
    assert_eq!(
        (params(0), params(1)),
        (vec!["text"], vec!["style", "text"])
    );
    let mended = flat.replace("{{style}}", "{{work.style}}");
    assert!(
        one(&mended, "work.reply", &[("text", "Hi")])
            .user
            .contains("Be brief.")
    );

    let poem = one(haiku, "haiku", &[("topic", "rain")]);
    assert_eq!(poem.user, "Write a haiku about rain in English.");
    assert_eq!(
        (poem.settings.len(), poem.post.len(), poem.warnings.len()),
        (2, 2, 0)
    );

    let fixed = one(fix, "fix", &[("text", "")]);
    let options = |index: usize| {
        let options = fixed.post[index].options.iter();
        options
            .map(|option| option.value.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(options(0), ["rust|rs"]);
    assert_eq!(options(1), ["a,b", "a, b"]);
    assert_eq!(options(2), ["\t", "    "]);
}

#[test]
fn names_every_property_processor_and_option() {
    for name in setting::NAMES {
        assert!(README.contains(&format!("`{name}`")), "{name}");
    }
    for kind in &KINDS {
        // The property `reasoning` has a row too, further up.
        let row = README
            .lines()
            .rfind(|line| line.starts_with(&format!("| `{}` |", kind.name)));
        let row = row.unwrap_or_else(|| panic!("no row for {}", kind.name));
        for option in kind.options {
            assert!(
                row.contains(&format!("`{}", option.name)),
                "{} {}",
                kind.name,
                option.name
            );
        }
    }
}

#[test]
fn an_answer_of_the_readme_runs_through() {
    let answer = "Sure!\n```rs\nf(a,b)\n```\nBye";
    let block = run("fence", &[("lang", "rust|rs")], &[answer], Stop::Complete).expect("block");
    let spaced = [("from", "a,b"), ("to", "a, b")];
    let spaced = run("replace", &spaced, &[&block.text], Stop::Complete).expect("text");
    assert_eq!(spaced.text, "f(a, b)\n");
}
