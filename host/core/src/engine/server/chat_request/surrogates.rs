//! Repairs escapes of half characters in JSON.
//!
//! A server that splits its text between tokens may split a character into two escapes of
//! surrogates, `\ud83d` in one frame and `\ude00` in the next. Neither is valid JSON.

/// Reads the frames of one stream. The first half of a character at the end of a text is
/// kept until the frame that begins with its second half.
#[derive(Debug, Default)]
pub(super) struct SurrogateRepair {
    /// The first half of a character.
    pending: Option<u16>,
}

impl SurrogateRepair {
    /// Reads a frame with `read`, again if it has half of a character. A half without its other
    /// half becomes U+FFFD.
    ///
    /// # Errors
    /// Returns an error if the frame is not JSON.
    pub(super) fn read(
        &mut self,
        frame: &str,
        mut read: impl FnMut(&str) -> Result<(), serde_json::Error>,
    ) -> Result<(), serde_json::Error> {
        match read(frame) {
            Err(error) if frame.contains("\\u") => {
                let pending = self.pending;
                read(&self.repair(frame)).map_err(|_| {
                    self.pending = pending;
                    error
                })
            }
            read => read,
        }
    }

    /// Ends the stream. Returns the replacement of a half that is left.
    pub(super) fn finish(&mut self) -> Option<String> {
        self.pending.take().map(|_| "\u{fffd}".to_owned())
    }

    fn repair(&mut self, data: &str) -> String {
        let mut repaired = String::with_capacity(data.len());
        let mut rest = data;
        while let Some(at) = rest.find('\\') {
            let (before, escape) = rest.split_at(at);
            repaired.push_str(before);
            let next = escape.get(6..).unwrap_or_default();
            let length = match unit(escape) {
                Some(0xD800..=0xDBFF) if matches!(unit(next), Some(0xDC00..=0xDFFF)) => 12,
                Some(high @ 0xD800..=0xDBFF) if next.starts_with('"') => {
                    self.pending = Some(high);
                    rest = next;
                    continue;
                }
                Some(low @ 0xDC00..=0xDFFF) if before.ends_with('"') && self.pending.is_some() => {
                    let high = self.pending.take().unwrap_or_default();
                    let pair = char::decode_utf16([high, low]).next();
                    repaired.push(pair.and_then(Result::ok).unwrap_or('\u{fffd}'));
                    rest = next;
                    continue;
                }
                Some(0xD800..=0xDFFF) => {
                    repaired.push('\u{fffd}');
                    rest = next;
                    continue;
                }
                // Skip the escaped character, which may be a backslash itself.
                _ => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
            };
            let Some((escape, tail)) = escape.split_at_checked(length) else {
                break;
            };
            repaired.push_str(escape);
            rest = tail;
        }
        repaired.push_str(rest);
        repaired
    }
}

/// Returns the UTF-16 unit of an escape at the beginning of a text.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(frames: &[&str]) -> String {
        let mut repair = SurrogateRepair::default();
        let mut text: String = frames
            .iter()
            .map(|frame| {
                let mut text = String::new();
                let frame = format!("{{\"text\":\"{frame}\"}}");
                let read = |frame: &str| {
                    let value: serde_json::Value = serde_json::from_str(frame)?;
                    value["text"].as_str().unwrap().clone_into(&mut text);
                    Ok(())
                };
                repair.read(&frame, read).unwrap();
                text
            })
            .collect();
        text.extend(repair.finish());
        text
    }

    #[test]
    fn halves_of_a_character_are_joined_or_replaced() {
        for (frames, text) in [
            (&["a\\ud83d", "\\ude00b"][..], "a😀b"),
            (&["a\\ud83d", "", "\\ude00"], "a😀"),
            (&["\\ud83d\\ude00\\ud83d", "\\ude01"], "😀😁"),
            (&["a\\ud83d"], "a\u{fffd}"),
            (&["\\ude00\\\\ud83d"], "\u{fffd}\\ud83d"),
            (&["\\ud83d\\ude00\\udc00"], "😀\u{fffd}"),
            (&["\\ud83dx", "\\ude00"], "\u{fffd}x\u{fffd}"),
        ] {
            assert_eq!(texts(frames), text, "{frames:?}");
        }
    }

    #[test]
    fn other_errors_stay_errors() {
        for frame in ["{\"choices\": [\\ud83d", "{\"a\": \"\\u12\"}"] {
            let mut repair = SurrogateRepair::default();
            let read = |frame: &str| serde_json::from_str::<serde_json::Value>(frame).map(drop);
            assert!(repair.read(frame, read).is_err(), "{frame}");
        }
    }
}
