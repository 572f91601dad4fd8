//! The demo model on sixty texts of everyday English, with the stock prompt `tldr` and default
//! settings. The texts were written by hand before the model was trained.

use serde::Deserialize;

use crate::support::Machine;

#[derive(Deserialize)]
struct Case {
    text: String,
    first: String,
}

/// Minimum share of exact answers; the README has the measured one.
const EXACT_PERCENT_MIN: usize = 90;

#[test]
fn the_demo_model_answers_with_the_first_sentence() {
    let machine = Machine::new();
    let cases: Vec<Case> = include_str!("data/tldr.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(cases.len(), 60);
    let mut wrong = Vec::new();
    for Case { text, first } in &cases {
        let run = machine.run(&[
            "infer", "tldr", "--engine", "embedded", "-q", "--text", text,
        ]);
        if run.ok().trim() != first {
            wrong.push(format!("{first}\n  {}", run.text().trim()));
        }
    }
    let exact = cases.len() - wrong.len();
    println!(
        "the demo model is exact on {exact} of {} texts; wrong answers:",
        cases.len()
    );
    println!("{}", wrong.join("\n"));
    assert!(
        exact * 100 >= cases.len() * EXACT_PERCENT_MIN,
        "only {exact} exact answers; wrong ones:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_run_says_that_the_tested_context_is_smaller_than_the_declared_one() {
    let machine = Machine::new();
    let test = ["test", "demo", "--engine", "embedded", "--level", "loads"];
    let test = machine.run(&[&test[..], &["--max-context", "256"]].concat());
    assert_eq!(test.code, Some(0), "{test:?}");
    let run = machine.run(&[
        "infer",
        "tldr",
        "--engine",
        "embedded",
        "--text",
        "One. Two.",
    ]);
    assert!(!run.ok().is_empty());
    assert!(run.stderr.contains("context limited to 256"), "{run:?}");
}
