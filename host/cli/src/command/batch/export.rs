//! `batch export`: writes the finished jobs and their results as rows.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use fs_err as fs;
use lmstrix::batch::{self, DoneRecord, ExportFormat, Record};
use lmstrix::quantity::count;
use lmstrix::sink;
use lmstrix::store::{AtomicFile, read_plain, sha256_hex};
use serde_json::{Map, Value, json};

use super::super::models::print;
use crate::args::{ExportArgs, RowFormat};
use crate::environment::Env;
use crate::error::{Exit, Failure};
use crate::ui::Messages;

/// The columns of every row.
const COLUMNS: [&str; 19] = [
    "job",
    "prompt",
    "model",
    "engine",
    "quantization",
    "input",
    "params",
    "text",
    "finish",
    "prompt_tokens",
    "completion_tokens",
    "first_token_s",
    "seconds",
    "seed",
    "attempts",
    "at",
    "sha256",
    "packs",
    "warnings",
];

/// Runs `batch export`.
///
/// # Errors
/// Returns an error if the journal or a result cannot be read, or the output cannot be
/// written.
pub(super) fn export(args: &ExportArgs, env: &Env) -> Result<Exit, Failure> {
    let format = match args.format {
        RowFormat::Jsonl => ExportFormat::Jsonl,
        RowFormat::Csv => ExportFormat::Csv,
    };
    let mut done: BTreeMap<String, Box<DoneRecord>> = BTreeMap::new();
    let skipped = batch::visit_records(&args.dir, |record| match record {
        Record::Done(record) => {
            done.insert(record.job.clone(), record);
        }
        // The text of the failure replaced the result.
        Record::Failed(failed) if failed.inline.is_some() => {
            done.remove(&failed.job);
        }
        _ => {}
    })?;
    let messages = Messages::new(args.common.quiet, env.stderr_is_terminal, env.colour);
    if let Some(warning) = skipped.warning(&args.dir) {
        messages.warning(&warning);
    }
    let mut missing = Vec::new();
    let rows = done.into_values().filter_map(|mut record| {
        let path = args.dir.join(&record.job);
        let read = read_plain(&path).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| std::io::Error::other(error.utf8_error()))
        });
        match read {
            Ok(text) => {
                let digest = sha256_hex(text.as_bytes());
                if digest != record.sha256 {
                    record
                        .warnings
                        .push("the file was changed since it was written".to_owned());
                    record.sha256 = digest;
                }
                Some(row(*record, text))
            }
            Err(error) => {
                missing.push(format!("{}: {error}", record.job));
                None
            }
        }
    });
    match &args.output {
        None if env.stdout_is_terminal => {
            let mut text = Vec::new();
            let failed = |source| Failure::from(sink::Error::Stdout(source));
            batch::write_rows(format, &COLUMNS, rows, &mut text).map_err(failed)?;
            print(&String::from_utf8_lossy(&text))?;
        }
        None => {
            let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
            let written = batch::write_rows(format, &COLUMNS, rows, &mut stdout)
                .and_then(|()| stdout.flush());
            match written {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    return Err(sink::Error::Stdout(error).into());
                }
                _ => {}
            }
        }
        Some(path) => {
            let failed = |source| {
                Failure::usage(lmstrix::error_chain::error_chain(&sink::Error::File {
                    path: path.clone(),
                    source,
                }))
            };
            write_file(path, format, rows).map_err(failed)?;
        }
    }
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Failure::new(
        Exit::Broken,
        format!(
            "{} cannot be read: {}",
            count(missing.len(), "finished result"),
            missing.join("; ")
        ),
    )
    .hint("run the same `batch` command again to restore missing results"))
}

/// Writes rows to a file that is complete or absent. A device or a pipe is written to, and
/// not replaced.
fn write_file(
    path: &Path,
    format: ExportFormat,
    rows: impl Iterator<Item = Map<String, Value>>,
) -> std::io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let device = fs::OpenOptions::new().write(true).open(path)?;
        let mut writer = std::io::BufWriter::new(device);
        batch::write_rows(format, &COLUMNS, rows, &mut writer)?;
        return writer.flush();
    }
    let mut file = AtomicFile::create(path)?;
    let mut writer = std::io::BufWriter::new(&mut file);
    batch::write_rows(format, &COLUMNS, rows, &mut writer)?;
    writer.flush()?;
    drop(writer);
    file.commit()
}

fn row(record: DoneRecord, text: String) -> Map<String, Value> {
    let params: Map<String, Value> = record
        .labels
        .params
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    let values = [
        json!(record.job),
        json!(record.labels.prompt),
        json!(record.labels.model),
        json!(record.labels.engine),
        json!(record.labels.quantization),
        json!(record.labels.input),
        json!(params),
        json!(text),
        json!(record.finish),
        json!(record.prompt_tokens),
        json!(record.completion_tokens),
        json!(record.first_token_s),
        json!(record.seconds),
        json!(record.seed),
        json!(record.attempts),
        json!(record.at),
        json!(record.sha256),
        json!(record.packs),
        json!(record.warnings),
    ];
    let names = COLUMNS.iter().map(|column| (*column).to_owned());
    names.zip(values).collect()
}
