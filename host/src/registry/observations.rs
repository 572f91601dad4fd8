//! What a finished run leaves behind: one line, by one write, without waiting
//! for the disk. `scan`, `test` and the end of a batch fold the lines into the
//! registry, each exactly once: the registry remembers the file's own number
//! and how far it has read.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{Registry, Seen};
use super::store::free_name;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When it ended.
    pub at: Timestamp,
    /// A server's address, or `embedded`.
    pub engine: String,
    /// `lmstudio`, `ollama`, …
    pub kind: String,
    /// The model's name there.
    pub model: String,
    /// Bytes of all messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_bytes: Option<u64>,
    /// Tokens that the engine counted in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u32>,
    /// Seconds of loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_s: Option<f64>,
    /// Seconds from the request to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_s: Option<f64>,
    /// Tokens of the prompt per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<f64>,
    /// Tokens of the answer per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<f64>,
    /// Why there is no answer, when the model or its server is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// How far the observations have been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Folded {
    file: u64,
    bytes: u64,
}

/// The first line of the file.
#[derive(Serialize, Deserialize)]
struct Head {
    schema: u32,
    /// Drawn anew for each file, so that a place in one file is never taken
    /// for a place in another.
    file: u64,
}

const SCHEMA: u32 = 1;
/// A file larger than this is begun anew once all of it is folded in.
const ROTATE_BYTES: u64 = 1 << 20;
/// The texts of failures are cut to this many bytes: the line is one write.
const FAILURE_BYTES: usize = 500;
/// The first line is far shorter than this.
const HEAD_BYTES_MAX: u64 = 1024;
/// Prompts shorter than this say more of the chat template than of the text.
const PROMPT_BYTES_MIN: u64 = 400;
/// Answers shorter than this say nothing of speed.
const COMPLETION_TOKENS_MIN: u32 = 8;

/// Appends one line. The caller holds the lock of this file.
pub(super) fn append(path: &Path, observation: &Observation) -> std::io::Result<()> {
    if !has_head(path)? {
        // Nobody would ever read what comes behind it.
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::rename(path, free_name(folder, "observations.corrupt", "jsonl"))?;
    }
    let mut file = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let mut line = Vec::new();
    if !ends_with_line(&mut file)? {
        // Half a line of a full disk must cost itself alone.
        line.push(b'\n');
    }
    if file.metadata()?.len() == 0 {
        let file = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        serde_json::to_writer(
            &mut line,
            &Head {
                schema: SCHEMA,
                file,
            },
        )?;
        line.push(b'\n');
    }
    let mut observation = observation.clone();
    if let Some(failure) = &mut observation.failure {
        failure.truncate(failure.floor_char_boundary(FAILURE_BYTES));
    }
    serde_json::to_writer(&mut line, &observation)?;
    line.push(b'\n');
    file.write_all(&line)
}

/// Whether the file begins as ours do; one that is empty or not there will.
fn has_head(path: &Path) -> std::io::Result<bool> {
    let mut head = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(HEAD_BYTES_MAX).read_to_end(&mut head)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(e),
    };
    let line = head.split(|it| *it == b'\n').next().unwrap_or_default();
    // One that is cut may be read, but not the number that was cut.
    let is_whole = head.len() > line.len();
    Ok(head.is_empty() || (is_whole && serde_json::from_slice::<Head>(line).is_ok()))
}

fn ends_with_line(file: &mut fs::File) -> std::io::Result<bool> {
    let bytes = file.seek(SeekFrom::End(0))?;
    let Some(last) = bytes.checked_sub(1) else {
        return Ok(true);
    };
    file.seek(SeekFrom::Start(last))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte == [b'\n'])
}

/// Takes what is new into `registry`; gives whether all of a large file is in,
/// so that it may go once the registry is on the disk.
pub(super) fn fold(path: &Path, registry: &mut Registry) -> std::io::Result<bool> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let Some(head_end) = text.iter().position(|it| *it == b'\n') else {
        return Ok(false);
    };
    let head: Head = match text.get(..head_end).map(serde_json::from_slice) {
        Some(Ok(head)) => head,
        // Nobody's file: it is left as it is.
        _ => return Ok(false),
    };
    let known = registry.folded.as_ref().filter(|it| it.file == head.file);
    let start = known
        .and_then(|it| usize::try_from(it.bytes).ok())
        .unwrap_or(head_end + 1);
    let new = text.get(start..).unwrap_or_default();
    // A last line without its end is still being written.
    let end = new
        .iter()
        .rposition(|it| *it == b'\n')
        .map_or(0, |it| it + 1);
    for line in new.get(..end).unwrap_or_default().split(|it| *it == b'\n') {
        // Half a line can be there after a full disk; it costs itself alone.
        if let Ok(observation) = serde_json::from_slice::<Observation>(line) {
            observed(registry, &observation);
        }
    }
    let bytes = (start + end) as u64;
    registry.folded = Some(Folded {
        file: head.file,
        bytes,
    });
    Ok(bytes >= ROTATE_BYTES && file.seek(SeekFrom::End(0))? == bytes)
}

fn observed(registry: &mut Registry, seen: &Observation) {
    let engine = registry.engines.entry(seen.engine.clone()).or_default();
    if engine.kind.is_empty() {
        engine.kind.clone_from(&seen.kind);
    }
    let model = registry.model_mut(&seen.engine, &seen.model);
    if let Some(failure) = &seen.failure {
        model.failures += 1;
        model.last_failure = Some(failure.clone());
    } else {
        model.runs += 1;
        if let (Some(bytes @ PROMPT_BYTES_MIN..), Some(tokens)) =
            (seen.prompt_bytes, seen.prompt_tokens)
        {
            #[expect(
                clippy::cast_precision_loss,
                reason = "prompts are far below 2^52 bytes"
            )]
            model.tokens_per_byte.add(f64::from(tokens) / bytes as f64);
        }
        let is_long = seen
            .completion_tokens
            .is_some_and(|it| it >= COMPLETION_TOKENS_MIN);
        let speeds = &mut model.speeds;
        let measures = [
            (&mut speeds.first_token_s, seen.first_token_s),
            (&mut speeds.prefill, seen.prefill),
            (&mut speeds.decode, seen.decode.filter(|_| is_long)),
            (&mut speeds.load_s, seen.load_s),
        ];
        for (samples, value) in measures {
            if let Some(value) = value {
                samples.add(value);
            }
        }
    }
    if registry
        .last_used
        .as_ref()
        .is_none_or(|it| it.at <= seen.at)
        && seen.failure.is_none()
    {
        registry.last_used = Some(Seen {
            engine: seen.engine.clone(),
            model: seen.model.clone(),
            at: seen.at,
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
    fn each_line_counts_once_whatever_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.jsonl");
        for _ in 0..3 {
            append(&path, &example("m")).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        let mut registry = Registry::default();
        // The file as it is seen at every moment of being written.
        for end in 0..=whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            fold(&path, &mut registry).unwrap();
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
        // A torn line costs itself alone, and a torn head not what follows.
        let runs = |registry: &Registry| registry.model("embedded", "m").map_or(0, |it| it.runs);
        fs::write(&path, &whole[..whole.len() - 10]).unwrap();
        let mut fresh = Registry::default();
        append(&path, &example("m")).unwrap();
        fold(&path, &mut fresh).unwrap();
        assert_eq!(runs(&fresh), 3);
        for head in ["{\"schema\":1,\"fi", "{\"schema\":1,\"file\":7}", "what\n"] {
            fs::write(&path, head).unwrap();
            let mut fresh = Registry::default();
            append(&path, &example("m")).unwrap();
            append(&path, &example("m")).unwrap();
            fold(&path, &mut fresh).unwrap();
            assert_eq!(runs(&fresh), 2, "{head}");
        }
        let aside = fs::read_dir(folder.path()).unwrap().filter(|it| {
            let name = it.as_ref().unwrap().file_name();
            name.to_str().unwrap().contains("corrupt")
        });
        assert_eq!(aside.count(), 3);
        // Another file with another number starts at its beginning.
        fs::remove_file(&path).unwrap();
        append(
            &path,
            &Observation {
                failure: Some("no".to_owned()),
                ..example("m")
            },
        )
        .unwrap();
        fold(&path, &mut registry).unwrap();
        assert_eq!(registry.model("embedded", "m").unwrap().failures, 1);
    }
}
