use lmstrix_pack::Stop;
use lmstrix_pack_standard::describe::describe;
use lmstrix_pack_standard::processor::PROCESSORS;
use lmstrix_pack_standard::setting;

use crate::processors::run_processor;
use crate::{file, resolve_prompt};

const README: &str = include_str!("../README.md");

/// Returns the TOML examples in order.
fn examples() -> Vec<&'static str> {
    let after_fences = README.split("```toml\n").skip(1);
    after_fences
        .filter_map(|text| text.split("\n```").next())
        .collect()
}

#[test]
fn examples_match_their_description() {
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
    let corrected = flat.replace("{{style}}", "{{work.style}}");
    assert!(
        resolve_prompt(&corrected, "work.reply", &[("text", "Hi")])
            .user
            .contains("Be brief.")
    );

    let poem = resolve_prompt(haiku, "haiku", &[("topic", "rain")]);
    assert_eq!(poem.user, "Write a haiku about rain in English.");
    assert_eq!(
        (
            poem.settings.len(),
            poem.processors.len(),
            poem.warnings.len()
        ),
        (2, 2, 0)
    );

    let fixed = resolve_prompt(fix, "fix", &[("text", "")]);
    let options = |index: usize| {
        let options = fixed.processors[index].options.iter();
        options
            .map(|option| option.value.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(options(0), ["rust|rs"]);
    assert_eq!(options(1), ["a,b", "a, b"]);
    assert_eq!(options(2), ["\t", "    "]);
}

#[test]
fn all_properties_processors_and_options_are_documented() {
    for name in setting::SETTING_NAMES {
        assert!(README.contains(&format!("`{name}`")), "{name}");
    }
    for kind in &PROCESSORS {
        // The property `reasoning` also has a row, before that of the processor.
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
fn the_processors_of_the_last_example_work() {
    let answer = "Sure!\n```rs\nf(a,b)\n```\nBye";
    let block =
        run_processor("fence", &[("lang", "rust|rs")], &[answer], &Stop::End).expect("block");
    let spaced = [("from", "a,b"), ("to", "a, b")];
    let spaced = run_processor("replace", &spaced, &[&block.text], &Stop::End).expect("text");
    assert_eq!(spaced.text, "f(a, b)\n");
}
