//! The demo model on sixty texts of everyday English that were written by hand
//! before it was trained, through the stock `tldr` prompt with nothing set.

use serde::Deserialize;

use crate::support::Machine;

#[derive(Deserialize)]
struct Case {
    text: String,
    first: String,
}

/// What is promised; the README gives the measured number.
const EXACT_PERCENT_MIN: usize = 90;

#[test]
fn it_answers_with_the_first_sentence() {
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
        "the demo model is exact on {exact} of {} texts; the others:",
        cases.len()
    );
    println!("{}", wrong.join("\n"));
    assert!(
        exact * 100 >= cases.len() * EXACT_PERCENT_MIN,
        "only {exact}:\n{}",
        wrong.join("\n")
    );
}
