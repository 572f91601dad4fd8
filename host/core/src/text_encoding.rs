//! Decodes text files. UTF-8 with or without a byte order mark, and UTF-16 with one, which
//! Windows programs write.

/// Decodes a text, without its byte order mark.
///
/// # Errors
/// Returns the offset of the first invalid byte.
pub(crate) fn decode_text(bytes: Vec<u8>) -> Result<String, usize> {
    const UTF8_MARK: usize = 3;
    const UTF16_MARK: usize = 2;
    match bytes[..] {
        [0xEF, 0xBB, 0xBF, ..] => decode_utf8(bytes).map(|mut text| {
            text.drain(..UTF8_MARK);
            text
        }),
        [0xFF, 0xFE, ..] => decode_utf16(&bytes, UTF16_MARK, u16::from_le_bytes),
        [0xFE, 0xFF, ..] => decode_utf16(&bytes, UTF16_MARK, u16::from_be_bytes),
        _ => decode_utf8(bytes),
    }
}

fn decode_utf8(bytes: Vec<u8>) -> Result<String, usize> {
    String::from_utf8(bytes).map_err(|error| error.utf8_error().valid_up_to())
}

fn decode_utf16(bytes: &[u8], start: usize, unit: fn([u8; 2]) -> u16) -> Result<String, usize> {
    let (pairs, rest) = bytes.get(start..).unwrap_or_default().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(bytes.len() - 1);
    }
    let mut offset = start;
    let mut text = String::with_capacity(bytes.len() / 2);
    for c in char::decode_utf16(pairs.iter().copied().map(unit)) {
        let c = c.map_err(|_| offset)?;
        offset += 2 * c.len_utf16();
        text.push(c);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_by_their_byte_order_mark() {
        let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            "\u{feff}"
                .encode_utf16()
                .chain(text.encode_utf16())
                .flat_map(bytes)
                .collect()
        };
        for text in ["", "Zażółć 😀\r\n"] {
            let marked = format!("\u{feff}{text}").into_bytes();
            for bytes in [
                text.as_bytes().to_vec(),
                marked,
                utf16(text, u16::to_le_bytes),
                utf16(text, u16::to_be_bytes),
            ] {
                assert_eq!(decode_text(bytes.clone()), Ok(text.to_owned()), "{bytes:?}");
            }
        }
        for (bytes, offset) in [
            (&b"ab\xff"[..], 2),
            (b"\xef\xbb\xbfa\xff", 4),
            (b"\xff\xfea", 2),
            (b"\xff\xfea\0\x3d\xd8b\0", 4),
        ] {
            assert_eq!(decode_text(bytes.to_vec()), Err(offset), "{bytes:?}");
        }
    }
}
