use lmstrix_pack_standard::describe::describe;
use lmstrix_pack_standard::types::{ProcessorRef, Resolved};

use crate::{file, one};

const STOCK: &str = include_str!("../stock.toml");

fn stock(prompt: &str, params: &[(&str, &str)]) -> Resolved {
    let resolved = one(STOCK, prompt, params);
    assert_eq!(resolved.warnings, Vec::<String>::new(), "{prompt}");
    resolved
}

#[test]
fn every_prompt_is_described_and_resolves() {
    let (prompts, _) = describe(&[file("stock.toml", STOCK)]).expect("stock.toml");
    let shown: Vec<String> = prompts
        .iter()
        .map(|prompt| {
            assert!(!prompt.summary.is_empty() && prompt.summary.len() < 70);
            prompt
                .params
                .iter()
                .fold(prompt.name.clone(), |shown, param| {
                    let default = param.default.as_ref().map(|text| format!("={text}"));
                    format!("{shown} {}{}", param.name, default.unwrap_or_default())
                })
        })
        .collect();
    assert_eq!(
        shown,
        [
            "translate to=English text",
            "tldr text",
            "aps text",
            "humanize text",
            "tts_optimize text",
            "think",
            "caps",
        ]
    );
}

#[test]
fn tldr_is_what_the_demo_model_was_trained_on() {
    let resolved = stock("tldr", &[("text", "TEXT")]);
    assert_eq!(
        resolved,
        Resolved {
            user: "Summarize the text below in one short sentence. Answer with that sentence \
                   and nothing else.\n\nTEXT\n"
                .to_owned(),
            ..Resolved::default()
        }
    );
}

#[test]
fn translate_has_a_default_language() {
    let user = stock("translate", &[("text", "Hallo")]).user;
    assert!(user.starts_with("Translate the text between the <text> tags into English."));
    assert!(user.ends_with("<text>\nHallo\n</text>\n"));
    let polish = stock("translate,caps", &[("text", "Hallo"), ("to", "Polish")]).user;
    assert!(polish.contains("native writer of Polish"));
    assert!(polish.ends_with(
        "</text>\n\n\nWrite your whole answer in CAPITAL LETTERS. Change nothing else about it."
    ));
}

#[test]
fn think_goes_before_a_task_and_takes_its_answer_out_of_the_tag() {
    for task in ["aps", "humanize", "tldr", "tts_optimize", "translate"] {
        let resolved = stock(&format!("think,{task}"), &[("text", "TEXT")]);
        let names =
            |post: &[ProcessorRef]| post.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&resolved.post), ["reasoning", "tag"]);
        let alone = stock(task, &[("text", "TEXT")]).user;
        assert!(resolved.user.ends_with(&format!("\nThe task:\n\n{alone}")));
    }
}
