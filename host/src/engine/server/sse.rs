//! Server-sent events, as servers send them and not only as the specification
//! has them (<https://html.spec.whatwg.org/multipage/server-sent-events.html>):
//! a frame that the end of the body completes counts, and `error:` as a field's
//! name, which llama.cpp once used, is an error.

use super::lines::{BYTES_MAX, Lines, TooLong};

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its name; empty when the stream gave none.
    pub(super) event: String,
    /// Its data, lines joined by a line end.
    pub(super) data: String,
}

/// Takes bytes in any pieces and gives the same frames for every way of cutting.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    lines: Lines,
    fields: Fields,
}

#[derive(Debug, Default)]
struct Fields {
    started: bool,
    event: String,
    data: Option<String>,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        let Self { lines, fields } = self;
        lines.push(bytes, |line| fields.line(line, frames))
    }

    /// The body has ended: what is pending is given out, too.
    pub(super) fn finish(&mut self, frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        if let Some(line) = self.lines.rest() {
            self.fields.line(&line, frames)?;
        }
        self.fields.give(frames);
        Ok(())
    }
}

impl Fields {
    fn line(&mut self, line: &str, frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        let line = if std::mem::replace(&mut self.started, true) {
            line
        } else {
            line.strip_prefix('\u{feff}').unwrap_or(line)
        };
        if line.is_empty() {
            self.give(frames);
            return Ok(());
        }
        // A comment's name is empty.
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => self.add(value)?,
            "event" => value.clone_into(&mut self.event),
            "error" => {
                "error".clone_into(&mut self.event);
                self.add(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, value: &str) -> Result<(), TooLong> {
        match &mut self.data {
            None => self.data = Some(value.to_owned()),
            Some(data) => {
                if data.len() + value.len() > BYTES_MAX {
                    return Err(TooLong);
                }
                data.push('\n');
                data.push_str(value);
            }
        }
        Ok(())
    }

    fn give(&mut self, frames: &mut Vec<Frame>) {
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

    fn decode(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece, &mut frames).unwrap();
        }
        decoder.finish(&mut frames).unwrap();
        frames.into_iter().map(|it| (it.event, it.data)).collect()
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
    fn the_cut_does_not_matter() {
        for (body, expected) in FIXTURES {
            let expected: Vec<(String, String)> = expected
                .iter()
                .map(|(event, data)| ((*event).to_owned(), (*data).to_owned()))
                .collect();
            let bytes = body.as_bytes();
            assert_eq!(decode(&[bytes]), expected, "{body:?}");
            for at in 0..=bytes.len() {
                let cut = decode(&[&bytes[..at], &bytes[at..]]);
                assert_eq!(cut, expected, "{body:?} cut at {at}");
            }
            let each: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(decode(&each), expected, "{body:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_endless_lines_refused() {
        assert_eq!(
            decode(&[b"data: a\xffb\n\n"]),
            [(String::new(), "a\u{fffd}b".to_owned())]
        );
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        let long = vec![b'x'; BYTES_MAX];
        assert_eq!(decoder.push(b"data: ", &mut frames), Ok(()));
        assert_eq!(decoder.push(&long, &mut frames), Err(TooLong));
    }

    proptest! {
        #[test]
        fn random_streams_in_random_pieces(
            which in prop::collection::vec(0..FIXTURES.len(), 1..6),
            cuts in prop::collection::vec(0..400_usize, 0..20),
        ) {
            let body: String = which.iter().map(|at| FIXTURES[*at].0).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|at| *at <= body.len()).collect();
            cuts.sort_unstable();
            let bytes = body.as_bytes();
            let mut pieces = Vec::new();
            let mut from = 0;
            for at in cuts {
                pieces.push(&bytes[from..at]);
                from = at;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(decode(&pieces), decode(&[bytes]));
        }
    }
}
