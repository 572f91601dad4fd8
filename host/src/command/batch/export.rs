//! `batch export`: the finished jobs with their results, a row each.

use std::collections::BTreeMap;
use std::io::Write;

use fs_err as fs;
use serde_json::{Map, Value, json};

use crate::args::ExportArgs;
use crate::batch::{self, DoneRecord, ExportFormat, Record};
use crate::error::{Exit, Failure};
use crate::sink;

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

pub(super) fn export(args: &ExportArgs) -> Result<Exit, Failure> {
    let form = match args.format.as_str() {
        "jsonl" => ExportFormat::Jsonl,
        "csv" => ExportFormat::Csv,
        other => {
            return Err(Failure::usage(format!(
                "--as is `{other}`; it takes jsonl or csv"
            )));
        }
    };
    let mut done: BTreeMap<String, Box<DoneRecord>> = BTreeMap::new();
    batch::visit_records(&args.dir, |record| match record {
        Record::Done(it) => {
            done.insert(it.job.clone(), it);
        }
        // The text of an error stands in its place now.
        Record::Failed(it) if it.inline.is_some() => {
            done.remove(&it.job);
        }
        _ => {}
    })?;
    let mut missing = Vec::new();
    let rows = done.into_values().filter_map(|it| {
        let path = args.dir.join(&it.job);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let mut it = it;
                let digest = batch::sha256_hex(text.as_bytes());
                if digest != it.sha256 {
                    it.warnings
                        .push("the file was changed since it was written".to_owned());
                    it.sha256 = digest;
                }
                Some(row(*it, text))
            }
            Err(e) => {
                missing.push(format!("{}: {e}", it.job));
                None
            }
        }
    });
    match &args.output {
        None => {
            let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
            let written =
                batch::write_rows(form, &COLUMNS, rows, &mut stdout).and_then(|()| stdout.flush());
            match written {
                Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                    return Err(sink::Error::Stdout(e).into());
                }
                _ => {}
            }
        }
        Some(path) => {
            let failed = |source| {
                Failure::usage(crate::error_chain::error_chain(&sink::Error::File {
                    path: path.clone(),
                    source,
                }))
            };
            let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
            let folder = folder.unwrap_or(std::path::Path::new("."));
            let mut file = tempfile::Builder::new()
                .prefix(".lmstrix-")
                .tempfile_in(folder)
                .map_err(failed)?;
            let mut writer = std::io::BufWriter::new(&mut file);
            batch::write_rows(form, &COLUMNS, rows, &mut writer).map_err(failed)?;
            writer.flush().map_err(failed)?;
            drop(writer);
            file.persist(path).map_err(|e| failed(e.error))?;
        }
    }
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Failure::new(
        Exit::Broken,
        format!(
            "{} cannot be read: {}",
            super::super::models::format_count(missing.len(), "finished result"),
            missing.join("; ")
        ),
    )
    .hint("the same `batch` command makes those again that have gone"))
}

fn row(it: DoneRecord, text: String) -> Map<String, Value> {
    let params: Map<String, Value> = it
        .labels
        .params
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    let values = [
        json!(it.job),
        json!(it.labels.prompt),
        json!(it.labels.model),
        json!(it.labels.engine),
        json!(it.labels.quantization),
        json!(it.labels.input),
        json!(params),
        json!(text),
        json!(it.finish),
        json!(it.prompt_tokens),
        json!(it.completion_tokens),
        json!(it.first_token_s),
        json!(it.seconds),
        json!(it.seed),
        json!(it.attempts),
        json!(it.at),
        json!(it.sha256),
        json!(it.packs),
        json!(it.warnings),
    ];
    let names = COLUMNS.iter().map(|it| (*it).to_owned());
    names.zip(values).collect()
}
