use std::path::Path;
use std::process::Command;

use lmstrix_gguf::{Model, ModelFile};
use serde_json::json;

use super::llama_cpp_comparison::{difference, parse};
use crate::managed_server::llama_cpp;
use crate::outside_program::run;
use crate::python;

/// The number of positions of the text that are compared.
const POSITIONS: usize = 500;

/// The largest difference of log probabilities, among the most probable tokens of all positions.
/// Both engines round what quantized weights are multiplied with to 8 bits, each in its own way.
const TOLERANCE: f64 = 1.5;

/// The largest mean difference.
const MEAN_TOLERANCE: f64 = 0.15;

/// The largest margin of llama.cpp's best token over the second one where the engines may choose
/// different tokens.
const TIE: f64 = 0.3;

/// llama.cpp's most probable tokens at one position, with their log probabilities.
type Position = Vec<(u32, f64)>;

/// Returns the tokens of a text, and the next tokens at each position.
fn llama_cpp_positions(file: &Path) -> (Vec<u32>, Vec<Position>) {
    let text = include_str!("../data/tldr.jsonl");
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/embedded/llama_cpp_logits.py");
    let mut command = Command::new(python::environment());
    command.arg(script).arg(file).arg(POSITIONS.to_string());
    let output = run(&mut command, text).unwrap();
    let mut lines = output.lines();
    let tokens = serde_json::from_str(lines.next().unwrap()).unwrap();
    let positions = lines.map(|line| serde_json::from_str(line).unwrap());
    (tokens, positions.collect())
}

/// The differences between the engines over some positions.
#[derive(Debug, Default)]
struct Differences {
    max: f64,
    sum: f64,
    count: u32,
    /// Positions where another token is the most probable one, with llama.cpp's margin.
    other_tokens: Vec<(usize, f64)>,
}

impl Differences {
    fn add(&mut self, at: usize, logits: &[f32], position: &Position) {
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits
            .iter()
            .map(|logit| f64::from(logit - max).exp())
            .sum();
        let log_probability = |token: u32| f64::from(logits[token as usize] - max) - sum.ln();
        for (token, expected) in position {
            let difference = (log_probability(*token) - expected).abs();
            self.max = self.max.max(difference);
            self.sum += difference;
            self.count += 1;
        }
        let (best, second) = (position[0], position[1]);
        if logits[best.0 as usize] < max {
            self.other_tokens.push((at, best.1 - second.1));
        }
    }

    fn check(&self, what: &str) {
        let mean = self.sum / f64::from(self.count);
        eprintln!("{what}: mean {mean:.4}, {self:?}");
        assert!(
            self.max < TOLERANCE && mean < MEAN_TOLERANCE,
            "{what}: {mean}, {self:?}"
        );
        let is_near_tie = |(_, margin): &(usize, f64)| *margin < TIE;
        assert!(
            self.other_tokens.iter().all(is_near_tie),
            "{what}: {self:?}"
        );
    }
}

fn load(file: &Path) -> Model {
    ModelFile::open(file).unwrap().load(2048).unwrap()
}

#[test]
#[ignore = "needs llama.cpp and a model from PyPI"]
fn logits_of_a_trained_model_are_those_of_llama_cpp() {
    let file = &llama_cpp().smollm2;
    let (tokens, positions) = llama_cpp_positions(file);
    assert_eq!((tokens.len(), positions.len()), (POSITIONS, POSITIONS));
    let mut model = load(file);

    let mut differences = Differences::default();
    for (at, position) in positions.iter().enumerate() {
        let logits = model.logits(&tokens[at..=at], at).unwrap();
        differences.add(at, &logits, position);
    }
    differences.check("token by token");

    // Batches of every length up to 30, which are computed in another way.
    let mut differences = Differences::default();
    let mut start = 0;
    for length in 2..=30 {
        let end = start + length;
        let logits = model.logits(&tokens[start..end], start).unwrap();
        differences.add(end - 1, &logits, &positions[end - 1]);
        start = end;
    }
    let logits = model.logits(&tokens, 0).unwrap();
    differences.add(POSITIONS - 1, &logits, &positions[POSITIONS - 1]);
    differences.check("in batches");
}

#[test]
#[ignore = "needs llama.cpp and a model from PyPI"]
fn greedy_answers_of_a_trained_model_are_those_of_llama_cpp() {
    let file = &llama_cpp().smollm2;
    let prompts = [
        "What is the capital of France?",
        "List three fruits.",
        "Write a haiku about the sea.",
        "Explain photosynthesis to a child.",
    ];
    let prompts = prompts.map(|text| json!({"chat": true, "text": text}));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/embedded/llama_cpp.py");
    let mut command = Command::new(python::environment());
    command.arg(script).arg("--one").arg(file);
    let answers = run(&mut command, &json!(prompts).to_string()).unwrap();
    let mut model = load(file);
    for answers in parse(&answers).into_values() {
        let answers = answers.unwrap();
        assert_eq!(answers.len(), prompts.len());
        for answer in answers {
            let difference = difference(&mut model, &answer, TIE, true);
            assert_eq!(difference, None);
        }
    }
}
