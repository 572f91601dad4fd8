use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use lmstrix_gguf::{Error, Model, ModelFile, supported};
use lmstrix_inference::{
    Event, FinishReason, MaxTokens, Message, Origin, Prompt, Role, Settings, SettingsLayer,
};
use serde_json::Value;

use crate::outside_program::run;
use crate::python;

/// Texts that tokenizers split differently.
const PROMPTS: &[&str] = &[
    "The quick brown fox jumps over the lazy dog.",
    "Hello world! It's 12345 o'clock, isn't it? WE'LL SEE, YOU'RE RIGHT, I'D'VE",
    "  leading,   runs  of    blanks\t\ttabs \t mixed   ",
    "\n\nlines\r\n\r\n  indented\n\n\n   \n",
    "naïve café Straße Ærøskøbing Łódź ÀÉÎ",
    "Привет, как дела? Κόσμε",
    "你好，世界！今天天气很好。日本語のテキスト、カタカナ。안녕하세요",
    "مرحبا ١٢٣ नमस्ते १२३ שלום e\u{301}",
    "🦀🎉👩‍👩‍👧👍🏽 ½²③№™…—“quotes”",
    "1 12 123 1234 12345 123456 3.14159 2026-11-23 1e-9 0xFF",
    "x=1+2*3/4; if(a!=b){return foo_bar(Baz,qux)}//c\n\tself.CamelCaseWord->HTTPServer",
    "a\u{a0}b\u{3000}c\u{2003} d\u{200b}e\u{85}f",
    "<|im_start|>user\nhi<|im_end|>\n<|im_end|>  <tool> <tool>x<unused0><|im_end",
    "'s 'S 't're'Ve 'ſ ''' \"' s",
    " ",
    "z",
];

/// llama.cpp's result for one prompt.
pub(super) struct LlamaCppAnswer {
    prompt: Prompt,
    rendered: String,
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
    /// The difference of log probability between each token and the second best one.
    margins: Vec<f64>,
    text: String,
}

struct Setup {
    folder: PathBuf,
    answers: BTreeMap<String, Result<Vec<LlamaCppAnswer>, String>>,
}

/// Generates the models and llama.cpp's answers, once. Fails the test if that fails.
fn setup() -> &'static Setup {
    static SETUP: OnceLock<Result<Setup, String>> = OnceLock::new();
    match SETUP.get_or_init(prepare) {
        Ok(setup) => setup,
        Err(reason) => panic!("cannot compare with llama.cpp: {reason}"),
    }
}

fn prepare() -> Result<Setup, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let scripts = root.join("tests/embedded");
    let work = root.join("target/embedded");
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let python = python::environment();
    let folder = work.join("gguf");
    let demo = lmstrix_gguf::DEMO_MODEL;
    let prompts = prompts().to_string();
    let answers = work.join("answers.jsonl");

    // llama.cpp takes a minute, so its answers are cached with everything they depend on.
    let read = |name: &str| std::fs::read_to_string(scripts.join(name)).unwrap();
    let mut hash = DefaultHasher::new();
    demo.hash(&mut hash);
    let cache_key = [
        &hash.finish().to_string(),
        &read("make_gguf.py"),
        &read("llama_cpp.py"),
        &prompts,
        &python::PACKAGES.concat(),
    ]
    .map(String::as_str)
    .join("\n");
    let cache_key_file = work.join("asked.txt");
    if std::fs::read_to_string(&cache_key_file).ok().as_ref() != Some(&cache_key) {
        let _ = std::fs::remove_dir_all(&folder);
        run(
            Command::new(python)
                .arg(scripts.join("make_gguf.py"))
                .arg(&folder),
            "",
        )?;
        std::fs::write(folder.join("demo.gguf"), demo).map_err(|error| error.to_string())?;
        let script = scripts.join("llama_cpp.py");
        let output = run(Command::new(python).arg(script).arg(&folder), &prompts)?;
        std::fs::write(&answers, output).map_err(|error| error.to_string())?;
        std::fs::write(&cache_key_file, cache_key).map_err(|error| error.to_string())?;
    }
    let answers = std::fs::read_to_string(&answers).map_err(|error| error.to_string())?;
    Ok(Setup {
        folder,
        answers: parse(&answers),
    })
}

fn prompts() -> Value {
    // One prompt is longer than a batch.
    let long = PROMPTS[..12].join(" ");
    let texts = PROMPTS.iter().map(|text| (*text).to_owned()).chain([long]);
    let raw = texts.map(|text| serde_json::json!({"chat": false, "text": text}));
    let chat = PROMPTS[..2]
        .iter()
        .map(|text| serde_json::json!({"chat": true, "text": text}));
    raw.chain(chat).collect()
}

pub(super) fn parse(lines: &str) -> BTreeMap<String, Result<Vec<LlamaCppAnswer>, String>> {
    let mut answers: BTreeMap<String, Result<Vec<LlamaCppAnswer>, String>> = BTreeMap::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let model = line["model"].as_str().unwrap().to_owned();
        if let Some(fault) = line["fault"].as_str() {
            answers.insert(model, Err(fault.to_owned()));
            continue;
        }
        let tokens = |key: &str| serde_json::from_value(line[key].clone()).unwrap();
        let text = line["prompt"]["text"].as_str().unwrap().to_owned();
        let answer = LlamaCppAnswer {
            prompt: match line["prompt"]["chat"] == true {
                true => Prompt::Chat(vec![Message::new(Role::User, text)]),
                false => Prompt::Raw(text),
            },
            rendered: line["rendered"].as_str().unwrap().to_owned(),
            prompt_tokens: tokens("prompt_tokens"),
            tokens: tokens("answer_tokens"),
            margins: serde_json::from_value(line["margins"].clone()).unwrap(),
            text: line["answer"].as_str().unwrap().to_owned(),
        };
        if let Ok(list) = answers.entry(model).or_insert_with(|| Ok(Vec::new())) {
            list.push(answer);
        }
    }
    answers
}

/// Returns the first difference between the engines, if any.
///
/// With quantized weights both engines also quantize the activations, each in its own way.
/// Then a token may differ if llama.cpp's margin for it is less than `min_margin`.
pub(super) fn difference(
    model: &mut Model,
    answer: &LlamaCppAnswer,
    min_margin: f64,
    greedy: bool,
) -> Option<String> {
    let rendered = match model.render(&answer.prompt, None) {
        // llama.cpp uses a default template; this engine does not.
        Err(Error::NoChatTemplate) => return None,
        rendered => rendered.unwrap(),
    };
    let tokens = model.tokenize(&rendered).unwrap();
    // llama.cpp removes the BOS token from a rendered template if its tokenizer adds one.
    if !rendered.ends_with(&answer.rendered) {
        return Some(format!("rendered {rendered:?}, not {:?}", answer.rendered));
    }
    if tokens != answer.prompt_tokens {
        return Some(format!("tokens {tokens:?}, not {:?}", answer.prompt_tokens));
    }
    if !greedy {
        return None;
    }
    let layer = SettingsLayer {
        temperature: Some(0.0),
        repeat_penalty: Some(1.0),
        max_tokens: Some(MaxTokens::Tokens(32)),
        ..SettingsLayer::default()
    };
    let settings = Settings::resolve(&[(Origin::Flag, &layer)]);
    let mut text = String::new();
    let mut emit = |event| {
        if let Event::Text(piece) = event {
            text.push_str(&piece);
        }
    };
    let outcome = model.infer(&answer.prompt, &settings, &|| false, &mut emit);
    let outcome = outcome.unwrap();
    let ended = u32::from(outcome.finish == FinishReason::End);
    let count = (outcome.usage.completion_tokens + ended) as usize;
    // llama.cpp omits an incomplete character at the end.
    let trim = |text: &str| text.trim_end_matches('\u{fffd}').to_owned();
    if trim(&text) == trim(&answer.text) && count == answer.tokens.len() {
        return None;
    }
    let margin = divergence_margin(model, &text, answer);
    if margin < min_margin {
        return None;
    }
    Some(format!(
        "answer {text:?} ({count} tokens), not {:?} ({} tokens); margin {margin:?}",
        answer.text,
        answer.tokens.len()
    ))
}

/// Returns llama.cpp's margin for the token at which our text diverges from its text. If that
/// token is a part of a character, only a later one shows it; then returns the smallest
/// margin of them.
fn divergence_margin(model: &Model, text: &str, answer: &LlamaCppAnswer) -> f64 {
    let mut bytes = Vec::new();
    let mut smallest = f64::INFINITY;
    for (token, margin) in answer.tokens.iter().zip(&answer.margins) {
        model.detokenize_token(*token, &mut bytes);
        smallest = smallest.min(*margin);
        let prefix = String::from_utf8_lossy(&bytes);
        if !text.starts_with(prefix.trim_end_matches('\u{fffd}')) {
            break;
        }
        if !prefix.ends_with('\u{fffd}') {
            smallest = f64::INFINITY;
        }
    }
    smallest
}

fn compare_model(
    name: &str,
    file: &Path,
    answers: &Result<Vec<LlamaCppAnswer>, String>,
) -> Vec<String> {
    let answers = match answers {
        Ok(answers) => answers,
        Err(fault) => return vec![format!("{name}: llama.cpp cannot load it: {fault}")],
    };
    let file = ModelFile::open(file).unwrap();
    let mut model = file.load(4096).unwrap();
    let min_margin = match file.quantization().as_str() {
        "F32" => 0.0,
        // Scores spread over tens of units, and a margin is usually some units.
        _ => 0.6,
    };
    let differences = answers.iter().enumerate().filter_map(|(index, answer)| {
        // Compare the tokens of all prompts, and the answers of every third prompt, of chats
        // and of the prompt with several batches.
        let is_chat = matches!(answer.prompt, Prompt::Chat(_));
        let greedy = index % 3 == 0 || is_chat || answer.prompt_tokens.len() > 256;
        let difference = difference(&mut model, answer, min_margin, greedy)?;
        Some(format!("{name}: {:?}: {difference}", answer.prompt))
    });
    differences.collect()
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn every_supported_model_gives_the_same_tokens_and_answers_as_llama_cpp() {
    let setup = setup();
    let mut differences = Vec::new();
    for (name, answers) in &setup.answers {
        let path = setup.folder.join(format!("{name}.gguf"));
        let file = ModelFile::open(&path).unwrap();
        match file.check_supported() {
            Err(unsupported) => eprintln!("{name}: {unsupported}"),
            Ok(()) => {
                let model_differences = compare_model(name, &path, answers);
                eprintln!("{name}: {} differences", model_differences.len());
                differences.extend(model_differences);
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
#[ignore = "needs Python with llama.cpp from PyPI"]
fn every_supported_architecture_and_tokenizer_is_compared() {
    let setup = setup();
    let compared: Vec<(String, String)> = setup
        .answers
        .keys()
        .map(|name| ModelFile::open(&setup.folder.join(format!("{name}.gguf"))).unwrap())
        .map(|file| (file.architecture().to_owned(), file.tokenizer_name()))
        .collect();
    for (architecture, tokenizer) in supported() {
        assert!(
            compared.contains(&(architecture.to_owned(), tokenizer.clone())),
            "no model with architecture {architecture} and tokenizer {tokenizer} is compared"
        );
    }
}
