//! The log of finished runs. A run appends one line with one write, without waiting
//! for the disk. `scan`, `test` and the end of a batch merge the lines into the
//! registry, each exactly once: the registry stores the ID of the log file and the
//! position up to which it has been merged.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{LastUsedModel, MergePosition, PLAUSIBLE_TOKENS_PER_BYTE, Registry};
use crate::store::unused_path;

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The time at which the run ended.
    pub at: Timestamp,
    /// A server's address, or `embedded`.
    pub engine: String,
    /// `lmstudio`, `ollama`, …
    pub kind: String,
    /// The model's name on this engine.
    pub model: String,
    /// The size of all messages, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_bytes: Option<u64>,
    /// The tokens of the prompt, as the engine counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// The tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u32>,
    /// The load time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_s: Option<f64>,
    /// Seconds from the request to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_s: Option<f64>,
    /// Prompt tokens per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<f64>,
    /// Answer tokens per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<f64>,
    /// The error, if the model or its server caused a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The first line of the log.
#[derive(Serialize, Deserialize)]
struct ObservationsHeader {
    schema: u32,
    /// A random ID of this file, so that a position in one file is not applied to
    /// another.
    file: u64,
}

const SCHEMA: u32 = 1;
/// A log of at least this size is removed after all of it has been merged.
const ROTATE_BYTES: u64 = 1 << 20;
/// Failure messages are truncated to this size, so that a line is written at once.
const MAX_FAILURE_BYTES: usize = 500;
/// The first line is shorter than this.
const MAX_HEADER_BYTES: u64 = 1024;
/// In shorter prompts, the chat template affects the tokens per byte too much.
const MIN_PROMPT_BYTES: u64 = 400;
/// Shorter answers are too short to measure speed.
const MIN_COMPLETION_TOKENS: u32 = 8;

/// Appends one line. The caller must hold the lock of the log. A file without a valid
/// header is renamed, since its lines would never be merged.
pub(super) fn append(path: &Path, observation: &Observation) -> std::io::Result<()> {
    if !has_valid_header(path)? {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::rename(path, unused_path(folder, "observations.corrupt", "jsonl"))?;
    }
    let mut file = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let mut line = Vec::new();
    if !ends_with_newline(&mut file)? {
        // A line cut by a full disk must not damage the next one.
        line.push(b'\n');
    }
    if file.metadata()?.len() == 0 {
        let file = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        serde_json::to_writer(
            &mut line,
            &ObservationsHeader {
                schema: SCHEMA,
                file,
            },
        )?;
        line.push(b'\n');
    }
    let mut observation = observation.clone();
    if let Some(failure) = &mut observation.failure {
        failure.truncate(failure.floor_char_boundary(MAX_FAILURE_BYTES));
    }
    serde_json::to_writer(&mut line, &observation)?;
    line.push(b'\n');
    file.write_all(&line)
}

/// Returns whether the file has a valid header, or is empty or missing, so that the next
/// write creates one.
fn has_valid_header(path: &Path) -> std::io::Result<bool> {
    let mut head = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(MAX_HEADER_BYTES).read_to_end(&mut head)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(e),
    };
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // Without a newline, the ID may be truncated even if the line parses.
    let is_complete = head.len() > line.len();
    Ok(head.is_empty()
        || (is_complete && serde_json::from_slice::<ObservationsHeader>(line).is_ok()))
}

fn ends_with_newline(file: &mut fs::File) -> std::io::Result<bool> {
    let bytes = file.seek(SeekFrom::End(0))?;
    let Some(last) = bytes.checked_sub(1) else {
        return Ok(true);
    };
    file.seek(SeekFrom::Start(last))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte == [b'\n'])
}

/// Merges new lines into `registry`. Returns whether a large log has been merged
/// completely, so that it can be removed once the registry has been written.
pub(super) fn merge(path: &Path, registry: &mut Registry) -> std::io::Result<bool> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let Some(header_end) = text.iter().position(|byte| *byte == b'\n') else {
        return Ok(false);
    };
    let header: ObservationsHeader = match text.get(..header_end).map(serde_json::from_slice) {
        Some(Ok(header)) => header,
        _ => return Ok(false),
    };
    let start = registry
        .merged_observations
        .as_ref()
        .filter(|position| position.file == header.file)
        .and_then(|position| usize::try_from(position.bytes).ok())
        .unwrap_or(header_end + 1);
    let new = text.get(start..).unwrap_or_default();
    // A last line without a newline is still being written.
    let end = new
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |index| index + 1);
    for line in new
        .get(..end)
        .unwrap_or_default()
        .split(|byte| *byte == b'\n')
    {
        // A line cut by a full disk is skipped.
        if let Ok(observation) = serde_json::from_slice::<Observation>(line) {
            apply_observation(registry, &observation);
        }
    }
    let bytes = (start + end) as u64;
    registry.merged_observations = Some(MergePosition {
        file: header.file,
        bytes,
    });
    Ok(bytes >= ROTATE_BYTES && file.seek(SeekFrom::End(0))? == bytes)
}

fn apply_observation(registry: &mut Registry, observation: &Observation) {
    let engine = registry
        .engines
        .entry(observation.engine.clone())
        .or_default();
    if engine.kind.is_empty() {
        engine.kind.clone_from(&observation.kind);
    }
    let model = registry.model_mut(&observation.engine, &observation.model);
    if let Some(failure) = &observation.failure {
        model.failures += 1;
        model.last_failure = Some(failure.clone());
    } else {
        model.runs += 1;
        if let (Some(bytes @ MIN_PROMPT_BYTES..), Some(tokens)) =
            (observation.prompt_bytes, observation.prompt_tokens)
        {
            #[expect(
                clippy::cast_precision_loss,
                reason = "prompts are far below 2^52 bytes"
            )]
            let ratio = f64::from(tokens) / bytes as f64;
            if PLAUSIBLE_TOKENS_PER_BYTE.contains(&ratio) {
                model.tokens_per_byte.add(ratio);
            }
        }
        let is_long = observation
            .completion_tokens
            .is_some_and(|tokens| tokens >= MIN_COMPLETION_TOKENS);
        let speeds = &mut model.speeds;
        let measurements = [
            (&mut speeds.first_token_s, observation.first_token_s),
            (&mut speeds.prefill, observation.prefill),
            (&mut speeds.decode, observation.decode.filter(|_| is_long)),
            (&mut speeds.load_s, observation.load_s),
        ];
        for (samples, value) in measurements {
            if let Some(value) = value {
                samples.add(value);
            }
        }
    }
    if registry
        .last_used
        .as_ref()
        .is_none_or(|last_used| last_used.at <= observation.at)
        && observation.failure.is_none()
    {
        registry.last_used = Some(LastUsedModel {
            engine: observation.engine.clone(),
            model: observation.model.clone(),
            at: observation.at,
        });
    }
}

#[cfg(test)]
pub(super) fn example(model: &str) -> Observation {
    Observation {
        at: Timestamp::UNIX_EPOCH,
        engine: "embedded".to_owned(),
        kind: "embedded".to_owned(),
        model: model.to_owned(),
        prompt_bytes: Some(1000),
        prompt_tokens: Some(250),
        completion_tokens: Some(100),
        load_s: None,
        first_token_s: Some(0.5),
        prefill: Some(500.0),
        decode: Some(20.0),
        failure: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_merged_once_for_every_truncation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.jsonl");
        for _ in 0..3 {
            append(&path, &example("m")).unwrap();
        }
        let complete = fs::read(&path).unwrap();
        let mut registry = Registry::default();
        // All states of the file while it is written.
        for end in 0..=complete.len() {
            fs::write(&path, &complete[..end]).unwrap();
            merge(&path, &mut registry).unwrap();
            let saved = serde_json::to_string(&registry).unwrap();
            registry = serde_json::from_str(&saved).unwrap();
        }
        let model = registry.model("embedded", "m").unwrap();
        assert_eq!(
            (model.runs, model.tokens_per_byte.median()),
            (3, Some(0.25))
        );
        assert_eq!(model.speeds.decode.median(), Some(20.0));
        assert_eq!(registry.last_used.as_ref().unwrap().model, "m");
        // A truncated line is lost alone; a truncated header does not lose later lines.
        let runs = |registry: &Registry| {
            registry
                .model("embedded", "m")
                .map_or(0, |model| model.runs)
        };
        fs::write(&path, &complete[..complete.len() - 10]).unwrap();
        let mut fresh = Registry::default();
        append(&path, &example("m")).unwrap();
        merge(&path, &mut fresh).unwrap();
        assert_eq!(runs(&fresh), 3);
        for head in ["{\"schema\":1,\"fi", "{\"schema\":1,\"file\":7}", "what\n"] {
            fs::write(&path, head).unwrap();
            let mut fresh = Registry::default();
            append(&path, &example("m")).unwrap();
            append(&path, &example("m")).unwrap();
            merge(&path, &mut fresh).unwrap();
            assert_eq!(runs(&fresh), 2, "{head}");
        }
        let corrupt_files = fs::read_dir(folder.path()).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().contains("corrupt")
        });
        assert_eq!(corrupt_files.count(), 3);
        // A new file with another ID is merged from its start.
        fs::remove_file(&path).unwrap();
        append(
            &path,
            &Observation {
                failure: Some("no".to_owned()),
                ..example("m")
            },
        )
        .unwrap();
        merge(&path, &mut registry).unwrap();
        assert_eq!(registry.model("embedded", "m").unwrap().failures, 1);
    }
}
