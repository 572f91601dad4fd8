//! `pack test`: cases from a TOML file, without a model or with one.

mod case;
mod live;
mod outcome;

use std::path::{Path, PathBuf};

use fs_err as fs;
use lmstrix::error_chain::error_chain;
use lmstrix::quantity::count;
use toml_edit::{DocumentMut, Item, Table};

use super::Setup;
use crate::args::PackTestArgs;
use crate::command::models::print;
use crate::environment::Env;
use crate::error::{Exit, Failure};
use case::{Case, TestFile};
use live::LiveModel;
use outcome::{Outcome, differences, fault};

/// The end of the names of test files.
const SUFFIX: &str = ".test.toml";

/// Runs `pack test`.
///
/// # Errors
/// Returns an error if a file is invalid, if a pack cannot be loaded, or if a case fails.
pub(super) async fn test(args: PackTestArgs, env: &Env) -> Result<Exit, Failure> {
    let mut files = Vec::new();
    for path in &args.paths {
        files.extend(test_files(path)?);
    }
    let live = LiveModel::new(&args, env)?;
    let mut results = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).map_err(|error| Failure::usage(error.to_string()))?;
        let file = TestFile::parse(&text, &path)?;
        let outcomes = outcomes(&file, &path, Setup::new(&args.common, env)?).await?;
        if args.update {
            update(&path, &text, &outcomes)?;
        }
        for (case, outcome) in file.cases.iter().zip(&outcomes) {
            let result = report(&path, case, outcome, args.update)?;
            let has_prompt = outcome
                .iter()
                .any(|(key, _)| ["messages", "raw"].contains(key));
            let answered = match &live {
                Some(model) if has_prompt => show_answer(model, &file, case, &path).await?,
                _ => true,
            };
            results.push(if answered {
                result
            } else {
                CaseResult::NoAnswer
            });
        }
    }
    let failed = |result: &&CaseResult| **result != CaseResult::Ok;
    let failed = results.iter().filter(failed).count();
    if failed == 0 {
        return Ok(Exit::Done);
    }
    let text = format!("{failed} of {} failed", count(results.len(), "case"));
    let failure = Failure::new(Exit::Broken, text);
    Err(if results.contains(&CaseResult::Differs) && !args.update {
        failure.hint("`--update` makes the present results the expected ones")
    } else {
        failure
    })
}

/// The result of a case.
#[derive(Clone, Copy, PartialEq)]
enum CaseResult {
    Ok,
    /// The values differ from the expected ones, or no case should have them.
    Differs,
    /// The model gave no answer.
    NoAnswer,
}

/// Prints the result of a case. After an update, only values that were not written count.
fn report(
    path: &Path,
    case: &Case,
    outcome: &Outcome,
    is_update: bool,
) -> Result<CaseResult, Failure> {
    let differences = differences(case.expect.as_ref(), outcome);
    let (word, result) = match (differences.is_empty(), fault(outcome)) {
        (true, _) => ("ok", CaseResult::Ok),
        (false, None) if is_update => ("updated", CaseResult::Ok),
        (false, _) => ("failed", CaseResult::Differs),
    };
    let (name, label) = (path.display(), case.label());
    print(&format!("{word:<8} {name}: {label}\n{differences}"))?;
    Ok(result)
}

/// Sends the prompt of a case to a model and prints the answer or the error. Returns true if
/// there is an answer.
async fn show_answer(
    model: &LiveModel<'_>,
    file: &TestFile,
    case: &Case,
    path: &Path,
) -> Result<bool, Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let answer = model.answer(file, case, folder).await;
    let (word, text) = match &answer {
        Ok(answer) => ("answer", answer.clone()),
        Err(error) => ("failed", error_chain(error)),
    };
    let text = text.trim_end().replace('\n', "\n         ");
    print(&format!("{word:<8} {text}\n"))?;
    Ok(answer.is_ok())
}

/// Returns a file, or the test files of a folder.
fn test_files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::usage(error.to_string());
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        if path.extension().is_none_or(|extension| extension != "toml") {
            let text = format!("{} is not a TOML file with cases", path.display());
            return Err(Failure::usage(text).hint(format!(
                "name a file or a folder with files that end with `{SUFFIX}`"
            )));
        }
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(failed)?.flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(SUFFIX))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::usage(format!(
            "no test file in {}: their names end with `{SUFFIX}`",
            path.display()
        )));
    }
    Ok(files)
}

/// Runs all cases of a file.
async fn outcomes(file: &TestFile, path: &Path, setup: Setup) -> Result<Vec<Outcome>, Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let cases: Vec<Case> = file.cases.clone();
    let files: Vec<_> = cases.iter().map(|case| case.files(folder)).collect();
    let files = files.into_iter().collect::<Result<Vec<_>, Failure>>()?;
    let pack = file.pack_in(folder);
    setup
        .with_packs(&[], move |packs| {
            let pack = packs.take(&pack)?;
            let run = |(case, files)| outcome::run(packs, &pack, case, files);
            Ok(cases.iter().zip(files).map(run).collect())
        })
        .await
}

/// Writes the results into the file as the expected ones, and keeps its other text. Results that
/// no case should expect are not written.
fn update(path: &Path, text: &str, outcomes: &[Outcome]) -> Result<(), Failure> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| Failure::usage(error.to_string()))?;
    let cases = document
        .get_mut("case")
        .and_then(Item::as_array_of_tables_mut);
    for (case, outcome) in cases
        .into_iter()
        .flat_map(|cases| cases.iter_mut())
        .zip(outcomes)
    {
        if fault(outcome).is_some() {
            continue;
        }
        let expected = case.entry("expect").or_insert(Item::Table(Table::new()));
        let Some(expected) = expected.as_table_like_mut() else {
            continue;
        };
        let known: Vec<String> = expected.iter().map(|(key, _)| key.to_owned()).collect();
        for key in known {
            if !outcome.iter().any(|(kept, _)| **kept == key) {
                expected.remove(&key);
            }
        }
        for (key, value) in outcome {
            let mut value = value.clone();
            let old = expected.get(key).and_then(Item::as_value);
            // A comment after the value is in its decoration.
            if let Some(old) = old {
                *value.decor_mut() = old.decor().clone();
            }
            match expected.get_mut(key) {
                Some(item) => *item = Item::Value(value),
                None => {
                    expected.insert(key, Item::Value(value));
                }
            }
        }
    }
    let written = lmstrix::store::AtomicFile::replace(path, document.to_string().as_bytes());
    written.map_err(|error| Failure::new(Exit::Broken, error.to_string()))
}
