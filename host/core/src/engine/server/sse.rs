//! Decodes server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), with two
//! deviations for real servers: the end of the body completes a pending frame,
//! and a field named `error`, which older llama.cpp builds send, is an `error`
//! event.

use super::line_decoder::{LineDecoder, LineTooLong, MAX_LINE_BYTES};

/// One frame of a stream: a server-sent event or a line of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// The name of the event; empty if the stream gave none.
    pub(super) event: String,
    /// The data, with multiple lines joined by LF.
    pub(super) data: String,
}

/// Splits a byte stream into frames, independent of its chunks.
#[derive(Debug, Default)]
pub(super) struct SseDecoder {
    lines: LineDecoder,
    fields: FrameBuilder,
}

#[derive(Debug, Default)]
struct FrameBuilder {
    started: bool,
    event: String,
    data: Option<String>,
}

impl SseDecoder {
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        frames: &mut Vec<Frame>,
    ) -> Result<(), LineTooLong> {
        let Self { lines, fields } = self;
        lines.push(bytes, |line| fields.push_line(line, frames))
    }

    /// Ends the stream and completes the pending frame.
    pub(super) fn finish(&mut self, frames: &mut Vec<Frame>) -> Result<(), LineTooLong> {
        if let Some(line) = self.lines.take_rest() {
            self.fields.push_line(&line, frames)?;
        }
        self.fields.finish_frame(frames);
        Ok(())
    }
}

impl FrameBuilder {
    fn push_line(&mut self, line: &str, frames: &mut Vec<Frame>) -> Result<(), LineTooLong> {
        let line = if std::mem::replace(&mut self.started, true) {
            line
        } else {
            line.strip_prefix('\u{feff}').unwrap_or(line)
        };
        if line.is_empty() {
            self.finish_frame(frames);
            return Ok(());
        }
        // The field name of a comment is empty.
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => self.append_data(value)?,
            "event" => value.clone_into(&mut self.event),
            "error" => {
                "error".clone_into(&mut self.event);
                self.append_data(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn append_data(&mut self, value: &str) -> Result<(), LineTooLong> {
        match &mut self.data {
            None => self.data = Some(value.to_owned()),
            Some(data) => {
                if data.len() + value.len() > MAX_LINE_BYTES {
                    return Err(LineTooLong);
                }
                data.push('\n');
                data.push_str(value);
            }
        }
        Ok(())
    }

    fn finish_frame(&mut self, frames: &mut Vec<Frame>) {
        let event = std::mem::take(&mut self.event);
        if let Some(data) = self.data.take() {
            frames.push(Frame { event, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let (mut decoder, mut frames) = (SseDecoder::default(), Vec::new());
        for chunk in chunks {
            decoder.push(chunk, &mut frames).unwrap();
        }
        decoder.finish(&mut frames).unwrap();
        frames
            .into_iter()
            .map(|frame| (frame.event, frame.data))
            .collect()
    }

    const FIXTURES: [(&str, &[(&str, &str)]); 12] = [
        (
            "data: {\"a\":1}\n\ndata: [DONE]\n\n",
            &[("", "{\"a\":1}"), ("", "[DONE]")],
        ),
        (
            "data:{\"a\":1}\r\n\r\ndata:  [DONE]\r\n\r\n",
            &[("", "{\"a\":1}"), ("", " [DONE]")],
        ),
        (
            "data: a\rdata: b\r\rdata: c\r\r",
            &[("", "a\nb"), ("", "c")],
        ),
        (": ping\n\n: ping\ndata: ä漢🙂\n\n", &[("", "ä漢🙂")]),
        (
            "event: error\ndata: {\"error\":{\"message\":\"x\"}}\n\n",
            &[("error", "{\"error\":{\"message\":\"x\"}}")],
        ),
        ("error: {\"code\":500}\n\n", &[("error", "{\"code\":500}")]),
        (
            "\u{feff}id: 1\nretry: 5\nnonsense\ndata: x\n\n",
            &[("", "x")],
        ),
        ("event: a\n\ndata: x\n\n", &[("", "x")]),
        ("data\n\n", &[("", "")]),
        ("data: without an end", &[("", "without an end")]),
        ("data: one line end\n", &[("", "one line end")]),
        ("\n\n\r\n", &[]),
    ];

    #[test]
    fn frames_do_not_depend_on_chunk_boundaries() {
        for (body, expected) in FIXTURES {
            let expected: Vec<(String, String)> = expected
                .iter()
                .map(|(event, data)| ((*event).to_owned(), (*data).to_owned()))
                .collect();
            let bytes = body.as_bytes();
            assert_eq!(decode(&[bytes]), expected, "{body:?}");
            for at in 0..=bytes.len() {
                let split = decode(&[&bytes[..at], &bytes[at..]]);
                assert_eq!(split, expected, "{body:?} split at {at}");
            }
            let single_bytes: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(decode(&single_bytes), expected, "{body:?}");
        }
    }

    #[test]
    fn invalid_utf8_is_replaced_and_long_lines_are_rejected() {
        assert_eq!(
            decode(&[b"data: a\xffb\n\n"]),
            [(String::new(), "a\u{fffd}b".to_owned())]
        );
        let (mut decoder, mut frames) = (SseDecoder::default(), Vec::new());
        let long = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(decoder.push(b"data: ", &mut frames), Ok(()));
        assert_eq!(decoder.push(&long, &mut frames), Err(LineTooLong));
    }

    proptest! {
        #[test]
        fn random_chunking_yields_the_same_frames(
            fixtures in prop::collection::vec(0..FIXTURES.len(), 1..6),
            splits in prop::collection::vec(0..400_usize, 0..20),
        ) {
            let body: String = fixtures.iter().map(|index| FIXTURES[*index].0).collect();
            let mut splits: Vec<usize> = splits.into_iter().filter(|at| *at <= body.len()).collect();
            splits.sort_unstable();
            let bytes = body.as_bytes();
            let mut chunks = Vec::new();
            let mut start = 0;
            for at in splits {
                chunks.push(&bytes[start..at]);
                start = at;
            }
            chunks.push(&bytes[start..]);
            prop_assert_eq!(decode(&chunks), decode(&[bytes]));
        }
    }
}
