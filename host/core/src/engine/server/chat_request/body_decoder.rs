//! Splits the body of a response into frames.

use crate::engine::server::dialect::Framing;
use crate::engine::server::{ndjson, sse};

/// Maximum size in bytes of an answer that is not streamed.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Splits a response body into frames.
#[derive(Debug)]
pub(super) enum BodyDecoder {
    /// Only whitespace so far; the format is not known yet.
    Undetermined(Framing),
    Sse(sse::SseDecoder),
    Lines(ndjson::NdjsonDecoder),
    /// The body is one JSON value or a page, although a stream was requested.
    SingleBody(Vec<u8>),
}

/// The rest of a body at its end.
#[derive(Debug)]
pub(super) enum BodyRest {
    /// The frames that the end completes.
    Frames(Vec<sse::Frame>),
    /// The whole body, which has no frames.
    SingleBody(Vec<u8>),
}

impl BodyDecoder {
    pub(super) fn new(framing: Framing) -> Self {
        Self::Undetermined(framing)
    }

    /// Appends the frames that `bytes` complete to `frames`.
    ///
    /// # Errors
    /// Returns the reason if a part of the body is too long. The frames before it have
    /// been appended.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        frames: &mut Vec<sse::Frame>,
    ) -> Result<(), String> {
        self.determine(bytes);
        match self {
            Self::Undetermined(_) => Ok(()),
            Self::Sse(decoder) => decoder
                .push(bytes, frames)
                .map_err(|error| error.to_string()),
            Self::Lines(decoder) => {
                let mut lines = Vec::new();
                let result = decoder.push(bytes, &mut lines);
                frames.extend(lines.into_iter().map(frame_from_line));
                result.map_err(|error| error.to_string())
            }
            Self::SingleBody(body) => {
                body.extend_from_slice(bytes);
                if body.len() > MAX_BODY_BYTES {
                    return Err("answer larger than 64 MiB".to_owned());
                }
                Ok(())
            }
        }
    }

    /// Determines the format by the first byte that is not whitespace.
    fn determine(&mut self, bytes: &[u8]) {
        let Self::Undetermined(framing) = *self else {
            return;
        };
        // A server may answer with a single body although a stream was
        // requested. No event stream starts with a brace; a page of a proxy
        // has no frames.
        let first_byte = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        match (first_byte, framing) {
            (None, _) => {}
            (Some(b'{' | b'[' | b'<'), Framing::ServerSentEvents)
            | (Some(b'<' | b'['), Framing::NdjsonLines) => {
                *self = Self::SingleBody(Vec::new());
            }
            (Some(_), Framing::ServerSentEvents) => {
                *self = Self::Sse(sse::SseDecoder::default());
            }
            (Some(_), Framing::NdjsonLines) => {
                *self = Self::Lines(ndjson::NdjsonDecoder::default());
            }
        }
    }

    /// Ends the body and returns what is left of it.
    pub(super) fn finish(&mut self) -> BodyRest {
        let mut frames = Vec::new();
        match self {
            Self::Undetermined(_) => {}
            Self::Sse(decoder) => {
                // A frame that is too long is treated as one that was cut off.
                let _too_long = decoder.finish(&mut frames);
            }
            Self::Lines(decoder) => {
                let mut lines = Vec::new();
                decoder.finish(&mut lines);
                frames.extend(lines.into_iter().map(frame_from_line));
            }
            Self::SingleBody(body) => return BodyRest::SingleBody(std::mem::take(body)),
        }
        BodyRest::Frames(frames)
    }
}

fn frame_from_line(line: String) -> sse::Frame {
    sse::Frame {
        event: String::new(),
        data: line,
    }
}
