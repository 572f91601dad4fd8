use lmstrix_pack::ProcessorRef;
use lmstrix_pack_standard::describe::describe;
use lmstrix_pack_standard::resolve::ResolvedPrompt;

use crate::{file, resolve_prompt};

const STOCK: &str = include_str!("../stock.toml");

fn stock(prompt: &str, params: &[(&str, &str)]) -> ResolvedPrompt {
    let resolved = resolve_prompt(STOCK, prompt, params);
    assert_eq!(resolved.warnings, Vec::<String>::new(), "{prompt}");
    resolved
}

#[test]
fn all_prompts_have_a_description_and_parameters() {
    let (prompts, _) = describe(&[file("stock.toml", STOCK)]).expect("stock.toml");
    let lines: Vec<String> = prompts
        .iter()
        .map(|prompt| {
            assert!(!prompt.summary.is_empty() && prompt.summary.len() < 70);
            prompt
                .params
                .iter()
                .fold(prompt.name.clone(), |line, param| {
                    let default = param.default.as_ref().map(|text| format!("={text}"));
                    format!("{line} {}{}", param.name, default.unwrap_or_default())
                })
        })
        .collect();
    assert_eq!(
        lines,
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
fn tldr_is_the_prompt_of_the_demo_model() {
    let resolved = stock("tldr", &[("text", "TEXT")]);
    assert_eq!(
        resolved,
        ResolvedPrompt {
            user: "Summarize the text below in one short sentence. Answer with that sentence \
                   and nothing else.\n\nTEXT\n"
                .to_owned(),
            ..ResolvedPrompt::default()
        }
    );
}

#[test]
fn translate_defaults_to_english() {
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
fn think_precedes_a_task_and_extracts_its_output_tag() {
    for task in ["aps", "humanize", "tldr", "tts_optimize", "translate"] {
        let resolved = stock(&format!("think,{task}"), &[("text", "TEXT")]);
        let names = |processors: &[ProcessorRef]| {
            processors
                .iter()
                .map(|processor| processor.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&resolved.processors), ["reasoning", "tag"]);
        let alone = stock(task, &[("text", "TEXT")]).user;
        assert!(resolved.user.ends_with(&format!("\nThe task:\n\n{alone}")));
    }
}
