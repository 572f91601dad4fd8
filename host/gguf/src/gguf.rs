//! Reads the header of a GGUF file: the metadata and the tensor table.
//!
//! candle's reader is not used because model files are untrusted: it divides by an alignment
//! taken from the file, does not name unknown tensor types, and needs 24 bytes of memory for
//! every byte of an array. This reader never allocates more than about three times the size
//! of the header, and reports the position of an error. It does not interpret the keys.

use std::io::Read;

use super::header::{GgufError, Header, MetadataValue, TensorInfo};
use super::tensor_type::TensorType;

/// Maximum size of a header in bytes. Headers of real models stay below 20 MiB, even with a
/// vocabulary of 260,000 tokens and its merges.
const HEADER_BYTES_MAX: u64 = 64 << 20;
/// Maximum number of tensors. Real models (with many experts) have up to some thousands.
const TENSORS_MAX: u64 = 1 << 16;
/// Maximum number of metadata keys. Real files have some dozens.
const KEYS_MAX: u64 = 1 << 12;
/// Maximum number of elements of an array. The largest real arrays have half a million merges.
const ARRAY_ELEMENTS_MAX: u64 = 1 << 22;
/// Maximum length in bytes of a key or tensor name. llama.cpp allows 64 for tensors.
const NAME_BYTES_MAX: u64 = 1 << 12;
/// Maximum number of dimensions of a tensor, as in llama.cpp.
const DIMENSIONS_MAX: u32 = 4;
/// Maximum alignment in bytes. Alignments are powers of two; the default is 32.
const ALIGNMENT_MAX: u64 = 1 << 20;

/// Reads the header. `size` is the size of the whole file in bytes.
///
/// # Errors
/// Returns an error if the input cannot be read, is not GGUF version 2 or 3, exceeds a limit,
/// or has a tensor that is not within the file.
pub(super) fn read_header(input: &mut dyn Read, size: u64) -> Result<Header, GgufError> {
    let mut input = HeaderReader {
        input,
        position: 0,
        limit: size.min(HEADER_BYTES_MAX),
        limit_is_file_end: size <= HEADER_BYTES_MAX,
    };
    if size < 4 || &input.byte_array::<4>("the magic number")? != b"GGUF" {
        return Err(GgufError::NotGguf);
    }
    let version = input.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Invalid(format!(
            "GGUF version {version:#x} is not supported, only 2 and 3"
        )));
    }
    let tensor_count = input.count("the number of tensors", TENSORS_MAX)?;
    let key_count = input.count("the number of keys", KEYS_MAX)?;

    let mut header = Header::default();
    for _ in 0..key_count {
        let key = input.string("a key", NAME_BYTES_MAX)?;
        let value_type = input.u32(&key)?;
        let value = input.value(&key, value_type)?;
        header.metadata.insert(key, value);
    }
    for _ in 0..tensor_count {
        let (name, info) = input.tensor()?;
        if header.tensors.insert(name.clone(), info).is_some() {
            return Err(input.invalid(format!("duplicate tensor `{name}`")));
        }
    }

    let alignment = header.unsigned("general.alignment").unwrap_or(32);
    if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
        return Err(input.invalid(format!("invalid alignment of {alignment} bytes")));
    }
    let data_start = input.position.next_multiple_of(alignment);
    let mut total_bytes = 0u64;
    for (name, info) in &mut header.tensors {
        total_bytes = total_bytes.saturating_add(info.bytes.unwrap_or(0));
        let start = data_start.checked_add(info.offset);
        let end = start.and_then(|start| start.checked_add(info.bytes.unwrap_or(0)));
        match (start, end) {
            (Some(start), Some(end)) if end <= size => info.offset = start,
            _ => {
                return Err(GgufError::Invalid(format!(
                    "tensor `{name}` exceeds the end of the file ({size} bytes)"
                )));
            }
        }
    }
    // With tensors that overlap, a small file could require any amount of memory.
    if total_bytes > size.saturating_sub(data_start) {
        return Err(GgufError::Invalid(format!(
            "the tensors have {total_bytes} bytes together, more than the file ({size} bytes)"
        )));
    }
    Ok(header)
}

/// Reads values from a header and tracks the position.
struct HeaderReader<'a> {
    input: &'a mut dyn Read,
    position: u64,
    /// The position up to which bytes are read.
    limit: u64,
    /// True if `limit` is the end of the file rather than [`HEADER_BYTES_MAX`].
    limit_is_file_end: bool,
}

impl HeaderReader<'_> {
    fn invalid(&self, problem: impl std::fmt::Display) -> GgufError {
        GgufError::Invalid(format!("{problem} (at byte {})", self.position))
    }

    /// Returns an error unless `bytes` more bytes are available. Called before any allocation.
    /// `item` describes the value for errors, as in the other methods.
    fn ensure_available(&self, item: &str, bytes: u64) -> Result<(), GgufError> {
        if bytes <= self.limit - self.position {
            Ok(())
        } else if self.limit_is_file_end {
            Err(self.invalid(format!("unexpected end of file in {item}")))
        } else {
            Err(self.invalid(format!(
                "the header exceeds {HEADER_BYTES_MAX} bytes at {item}"
            )))
        }
    }

    fn bytes(&mut self, item: &str, count: u64) -> Result<Vec<u8>, GgufError> {
        self.ensure_available(item, count)?;
        // `count` is at most HEADER_BYTES_MAX here, which fits into any usize.
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
        self.input.read_exact(&mut bytes).map_err(GgufError::Io)?;
        self.position += count;
        Ok(bytes)
    }

    fn byte_array<const N: usize>(&mut self, item: &str) -> Result<[u8; N], GgufError> {
        self.ensure_available(item, N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(GgufError::Io)?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, item: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.byte_array(item)?))
    }

    fn u64(&mut self, item: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.byte_array(item)?))
    }

    /// Reads a number of elements. Returns an error if it exceeds `max`.
    fn count(&mut self, item: &str, max: u64) -> Result<u64, GgufError> {
        let count = self.u64(item)?;
        if count > max {
            return Err(self.invalid(format!("{item} is {count}, the limit is {max}")));
        }
        Ok(count)
    }

    /// Reads a string. Returns an error if it has more than `bytes_max` bytes.
    fn string(&mut self, item: &str, bytes_max: u64) -> Result<String, GgufError> {
        let length = self.u64(item)?;
        if length > bytes_max {
            return Err(self.invalid(format!(
                "{item} has {length} bytes, the limit is {bytes_max}"
            )));
        }
        let bytes = self.bytes(item, length)?;
        // Some real vocabularies contain invalid UTF-8. Such tokens are never matched, and
        // their text is the replacement character.
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Reads a metadata value of this GGUF value type.
    fn value(&mut self, key: &str, value_type: u32) -> Result<MetadataValue, GgufError> {
        Ok(match value_type {
            0 => MetadataValue::Unsigned(u64::from(u8::from_le_bytes(self.byte_array(key)?))),
            1 => MetadataValue::Signed(i64::from(i8::from_le_bytes(self.byte_array(key)?))),
            2 => MetadataValue::Unsigned(u64::from(u16::from_le_bytes(self.byte_array(key)?))),
            3 => MetadataValue::Signed(i64::from(i16::from_le_bytes(self.byte_array(key)?))),
            4 => MetadataValue::Unsigned(u64::from(self.u32(key)?)),
            5 => MetadataValue::Signed(i64::from(i32::from_le_bytes(self.byte_array(key)?))),
            6 => MetadataValue::Float(f32_to_f64_shortest(f32::from_le_bytes(
                self.byte_array(key)?,
            ))),
            7 => match self.byte_array::<1>(key)? {
                [0] => MetadataValue::Bool(false),
                [1] => MetadataValue::Bool(true),
                [other] => {
                    return Err(
                        self.invalid(format!("`{key}` has the invalid boolean value {other}"))
                    );
                }
            },
            8 => MetadataValue::String(self.string(key, HEADER_BYTES_MAX)?),
            9 => self.array_value(key)?,
            10 => MetadataValue::Unsigned(self.u64(key)?),
            11 => MetadataValue::Signed(i64::from_le_bytes(self.byte_array(key)?)),
            12 => MetadataValue::Float(f64::from_le_bytes(self.byte_array(key)?)),
            other => {
                return Err(self.invalid(format!("`{key}` has the unknown value type {other}")));
            }
        })
    }

    fn array_value(&mut self, key: &str) -> Result<MetadataValue, GgufError> {
        let element_type = self.u32(key)?;
        let count = self.count(key, ARRAY_ELEMENTS_MAX)?;
        let element_bytes_min = match element_type {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err(self.invalid(format!("`{key}` is an array of arrays"))),
            other => {
                return Err(self.invalid(format!("`{key}` has the unknown value type {other}")));
            }
        };
        self.ensure_available(key, count * element_bytes_min)?;
        Ok(match element_type {
            8 => {
                let mut strings = Vec::new();
                for _ in 0..count {
                    strings.push(self.string(key, HEADER_BYTES_MAX)?);
                }
                MetadataValue::Strings(strings)
            }
            4 | 5 => MetadataValue::Integers(
                self.bytes(key, count * 4)?
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| i32::from_le_bytes(*bytes))
                    .collect(),
            ),
            6 => MetadataValue::Floats(
                self.bytes(key, count * 4)?
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes))
                    .collect(),
            ),
            _ => {
                self.bytes(key, count * element_bytes_min)?;
                MetadataValue::OtherArray
            }
        })
    }

    /// Reads an entry of the tensor table. Its offset is relative to the start of the data.
    fn tensor(&mut self) -> Result<(String, TensorInfo), GgufError> {
        let name = self.string("a tensor's name", NAME_BYTES_MAX)?;
        let dimensions = self.u32(&name)?;
        if dimensions == 0 || dimensions > DIMENSIONS_MAX {
            return Err(self.invalid(format!("tensor `{name}` has {dimensions} dimensions")));
        }
        let mut shape = Vec::new();
        let mut elements = 1usize;
        for _ in 0..dimensions {
            let size = usize::try_from(self.u64(&name)?).unwrap_or(usize::MAX);
            // candle panics on empty tensors.
            elements = match elements.checked_mul(size) {
                Some(product) if product > 0 && product <= isize::MAX as usize => product,
                _ => {
                    return Err(self.invalid(format!(
                        "tensor `{name}` has a dimension of invalid size {size}"
                    )));
                }
            };
            shape.push(size);
        }
        shape.reverse();
        let tensor_type = TensorType::from_id(self.u32(&name)?);
        let row_length = shape.last().copied().unwrap_or(0);
        let bytes = match tensor_type.row_bytes(row_length) {
            Some(row_bytes) => (elements / row_length).checked_mul(row_bytes),
            None if tensor_type.layout().is_some() => {
                return Err(self.invalid(format!(
                    "tensor `{name}` has rows of {row_length} elements, which is not a multiple of the block size of {tensor_type}"
                )));
            }
            None => None,
        };
        let offset = self.u64(&name)?;
        Ok((
            name,
            TensorInfo {
                tensor_type,
                shape,
                offset,
                bytes: bytes.map(|bytes| bytes as u64),
            },
        ))
    }
}

/// Converts an f32 to the f64 that has the same shortest decimal representation, so that 0.7
/// in the file stays 0.7 and does not become 0.699999988.
fn f32_to_f64_shortest(number: f32) -> f64 {
    number
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(number))
}
