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
use outcome::{Outcome, differences};

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
    let (mut cases, mut failed) = (0, 0);
    for path in files {
        let text = fs::read_to_string(&path).map_err(|error| Failure::usage(error.to_string()))?;
        let file = TestFile::parse(&text, &path)?;
        let outcomes = outcomes(&file, &path, Setup::new(&args.common, env)?).await?;
        if args.update {
            update(&path, &text, &outcomes)?;
        }
        for (case, outcome) in file.cases.iter().zip(&outcomes) {
            let differences = if args.update {
                String::new()
            } else {
                differences(case.expect.as_ref(), outcome)
            };
            let is_ok = differences.is_empty();
            let word = if is_ok { "ok" } else { "failed" };
            let (name, label) = (path.display(), case.label());
            print(&format!("{word:<8} {name}: {label}\n{differences}"))?;
            let has_prompt = outcome
                .iter()
                .any(|(key, _)| ["messages", "raw"].contains(key));
            let answered = match &live {
                Some(model) if has_prompt => show_answer(model, &file, case, &path).await?,
                _ => true,
            };
            cases += 1;
            failed += usize::from(!is_ok || !answered);
        }
    }
    if failed == 0 {
        return Ok(Exit::Done);
    }
    let text = format!("{failed} of {} failed", count(cases, "case"));
    Err(Failure::new(Exit::Broken, text)
        .hint("`--update` makes the present results the expected ones"))
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
    let answer = model.answer(file.pack_in(folder), case, folder).await;
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

/// Writes the results into the file as the expected ones, and keeps its other text.
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
        let mut expected = Table::new();
        for (key, value) in outcome {
            expected.insert(key, Item::Value(value.clone()));
        }
        case.insert("expect", Item::Table(expected));
    }
    let written = lmstrix::store::AtomicFile::replace(path, document.to_string().as_bytes());
    written.map_err(|error| Failure::new(Exit::Broken, error.to_string()))
}
