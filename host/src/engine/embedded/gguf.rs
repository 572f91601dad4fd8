//! Reads the header of a GGUF file: metadata and the table of tensors.
//!
//! Our own reader, because files come from strangers: candle's divides by an
//! alignment that the file gives, does not name the tensor types that it does
//! not know, and needs 24 bytes for every byte of an array. This one never
//! allocates more than about three times the header, and says where a file is
//! broken. What the keys mean is decided elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

use super::tensor_kind::TensorKind;

/// Headers of real models, vocabularies of 260,000 tokens with their merges
/// included, stay below 20 MiB.
const HEADER_BYTES_MAX: u64 = 64 << 20;
/// The largest tensor count in the wild (many experts) is some thousands.
const TENSORS_MAX: u64 = 1 << 16;
/// Real files have some dozens of keys.
const KEYS_MAX: u64 = 1 << 12;
/// The largest arrays are merges, half a million in the wild.
const ARRAY_ELEMENTS_MAX: u64 = 1 << 22;
/// Names of keys and tensors; llama.cpp itself allows 64 for tensors.
const NAME_BYTES_MAX: u64 = 1 << 12;
/// What llama.cpp's own tensors have.
const DIMENSIONS_MAX: u32 = 4;
/// Alignments are powers of two; 32 is the default.
const ALIGNMENT_MAX: u64 = 1 << 20;

/// Why a header could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The system does not let us.
    Io(io::Error),
    /// The magic number is not there.
    NotGguf,
    /// Where and what.
    Broken(String),
}

/// One value of the metadata, in the widest type of its family.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i32>),
    Floats(Vec<f32>),
    /// An array of a kind that no key of ours has; read over, not kept.
    OtherArray,
}

/// Where one tensor lies.
#[derive(Clone, Debug)]
pub(super) struct TensorInfo {
    pub(super) kind: TensorKind,
    /// Rows first, as candle wants them (GGUF has them the other way round).
    pub(super) dims: Vec<usize>,
    /// From the start of the file.
    pub(super) start: u64,
    /// How many bytes; absent for kinds whose layout we do not know.
    pub(super) bytes: Option<u64>,
}

/// The header of a GGUF file.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

impl Header {
    /// How many numbers all tensors have together.
    pub(super) fn parameters(&self) -> u64 {
        let tensors = self.tensors.values();
        tensors
            .map(|tensor| tensor.dims.iter().product::<usize>() as u64)
            .fold(0, u64::saturating_add)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn unsigned(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(super) fn float(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key)? {
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        match self.metadata.get(key)? {
            Value::Bool(yes) => Some(*yes),
            _ => None,
        }
    }

    pub(super) fn texts(&self, key: &str) -> Option<&[String]> {
        match self.metadata.get(key)? {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    pub(super) fn integers(&self, key: &str) -> Option<&[i32]> {
        match self.metadata.get(key)? {
            Value::Integers(numbers) => Some(numbers),
            _ => None,
        }
    }

    pub(super) fn floats(&self, key: &str) -> Option<&[f32]> {
        match self.metadata.get(key)? {
            Value::Floats(numbers) => Some(numbers),
            _ => None,
        }
    }
}

/// Reads the header. `size` is the size of the whole file in bytes; every
/// tensor must lie within it.
pub(super) fn read(input: &mut dyn Read, size: u64) -> Result<Header, Fault> {
    let mut input = Input {
        input,
        position: 0,
        end: size.min(HEADER_BYTES_MAX),
        cut: size <= HEADER_BYTES_MAX,
    };
    if size < 4 || &input.array::<4>("the magic number")? != b"GGUF" {
        return Err(Fault::NotGguf);
    }
    let version = input.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(Fault::Broken(format!(
            "GGUF version {version:#x} is neither 2 nor 3"
        )));
    }
    let tensor_count = input.count("the number of tensors", TENSORS_MAX)?;
    let key_count = input.count("the number of keys", KEYS_MAX)?;

    let mut header = Header::default();
    for _ in 0..key_count {
        let key = input.text("a key", NAME_BYTES_MAX)?;
        let kind = input.u32(&key)?;
        let value = input.value(&key, kind)?;
        header.metadata.insert(key, value);
    }
    let mut offsets = Vec::new();
    for _ in 0..tensor_count {
        let (name, info) = input.tensor()?;
        offsets.push((name.clone(), info.start));
        if header.tensors.insert(name.clone(), info).is_some() {
            return Err(input.broken(format!("there are two tensors `{name}`")));
        }
    }

    let alignment = header.unsigned("general.alignment").unwrap_or(32);
    if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
        return Err(input.broken(format!("an alignment of {alignment} bytes")));
    }
    let data_start = input.position.next_multiple_of(alignment);
    let mut total = 0u64;
    for (name, info) in &mut header.tensors {
        total = total.saturating_add(info.bytes.unwrap_or(0));
        let start = data_start.checked_add(info.start);
        let end = start.and_then(|start| start.checked_add(info.bytes.unwrap_or(0)));
        match (start, end) {
            (Some(start), Some(end)) if end <= size => info.start = start,
            _ => {
                return Err(Fault::Broken(format!(
                    "tensor `{name}` ends behind the end of the file ({size} bytes)"
                )));
            }
        }
    }
    // Tensors that share their bytes would let a small file claim any amount
    // of memory.
    if total > size.saturating_sub(data_start) {
        return Err(Fault::Broken(format!(
            "its tensors have {total} bytes together, more than the file ({size} bytes)"
        )));
    }
    Ok(header)
}

/// The bytes of a header, counted.
struct Input<'a> {
    input: &'a mut dyn Read,
    position: u64,
    /// No byte behind this one is read.
    end: u64,
    /// Whether `end` is the end of the file rather than our limit.
    cut: bool,
}

impl Input<'_> {
    fn broken(&self, what: impl std::fmt::Display) -> Fault {
        Fault::Broken(format!("{what} (at byte {})", self.position))
    }

    /// Makes sure that there are `bytes` more, before anything is allocated.
    fn need(&self, what: &str, bytes: u64) -> Result<(), Fault> {
        if bytes <= self.end - self.position {
            Ok(())
        } else if self.cut {
            Err(self.broken(format!("the file ends within {what}")))
        } else {
            Err(self.broken(format!(
                "the header is longer than {HEADER_BYTES_MAX} bytes, at {what}"
            )))
        }
    }

    fn bytes(&mut self, what: &str, count: u64) -> Result<Vec<u8>, Fault> {
        self.need(what, count)?;
        // `need` bounds it by HEADER_BYTES_MAX, which fits everywhere.
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
        self.input.read_exact(&mut bytes).map_err(Fault::Io)?;
        self.position += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        self.need(what, N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(Fault::Io)?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn count(&mut self, what: &str, most: u64) -> Result<u64, Fault> {
        let count = self.u64(what)?;
        if count > most {
            return Err(self.broken(format!("{what} is {count}, more than {most}")));
        }
        Ok(count)
    }

    fn text(&mut self, what: &str, most: u64) -> Result<String, Fault> {
        let length = self.u64(what)?;
        if length > most {
            return Err(self.broken(format!("{what} is {length} bytes long")));
        }
        let bytes = self.bytes(what, length)?;
        // Some vocabularies in the wild hold bytes that are not UTF-8; such
        // tokens are never matched and print as the replacement character.
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<Value, Fault> {
        Ok(match kind {
            0 => Value::Unsigned(u64::from(u8::from_le_bytes(self.array(key)?))),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.array(key)?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array(key)?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.array(key)?))),
            4 => Value::Unsigned(u64::from(self.u32(key)?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.array(key)?))),
            6 => Value::Float(widen(f32::from_le_bytes(self.array(key)?))),
            7 => match self.array::<1>(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(self.broken(format!("`{key}` is the truth value {other}"))),
            },
            8 => Value::Text(self.text(key, HEADER_BYTES_MAX)?),
            9 => self.value_array(key)?,
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            other => return Err(self.broken(format!("`{key}` is of the unknown kind {other}"))),
        })
    }

    fn value_array(&mut self, key: &str) -> Result<Value, Fault> {
        let kind = self.u32(key)?;
        let count = self.count(key, ARRAY_ELEMENTS_MAX)?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err(self.broken(format!("`{key}` is an array of arrays"))),
            other => return Err(self.broken(format!("`{key}` is of the unknown kind {other}"))),
        };
        self.need(key, count * least)?;
        Ok(match kind {
            8 => {
                let mut texts = Vec::new();
                for _ in 0..count {
                    texts.push(self.text(key, HEADER_BYTES_MAX)?);
                }
                Value::Texts(texts)
            }
            4 | 5 => Value::Integers(
                self.bytes(key, count * 4)?
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| i32::from_le_bytes(*bytes))
                    .collect(),
            ),
            6 => Value::Floats(
                self.bytes(key, count * 4)?
                    .as_chunks()
                    .0
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes))
                    .collect(),
            ),
            _ => {
                self.bytes(key, count * least)?;
                Value::OtherArray
            }
        })
    }

    fn tensor(&mut self) -> Result<(String, TensorInfo), Fault> {
        let name = self.text("a tensor's name", NAME_BYTES_MAX)?;
        let count = self.u32(&name)?;
        if count == 0 || count > DIMENSIONS_MAX {
            return Err(self.broken(format!("tensor `{name}` has {count} dimensions")));
        }
        let mut dims = Vec::new();
        let mut elements = 1usize;
        for _ in 0..count {
            let dim = usize::try_from(self.u64(&name)?).unwrap_or(usize::MAX);
            // An empty tensor has no use, and candle asserts on it.
            elements = match elements.checked_mul(dim) {
                Some(product) if product > 0 && product <= isize::MAX as usize => product,
                _ => return Err(self.broken(format!("tensor `{name}` is {dim} long"))),
            };
            dims.push(dim);
        }
        dims.reverse();
        let kind = TensorKind::from_id(self.u32(&name)?);
        let row = dims.last().copied().unwrap_or(0);
        let bytes = match kind.bytes_of(row) {
            Some(row_bytes) => (elements / row).checked_mul(row_bytes),
            None if kind.layout().is_some() => {
                return Err(self.broken(format!(
                    "tensor `{name}` has rows of {row}, which does not divide into blocks of {kind}"
                )));
            }
            None => None,
        };
        let start = self.u64(&name)?;
        Ok((
            name,
            TensorInfo {
                kind,
                dims,
                start,
                bytes: bytes.map(|bytes| bytes as u64),
            },
        ))
    }
}

/// A float as its shortest decimal says it: a file's 0.7 stays 0.7, and does
/// not become 0.699999988.
fn widen(number: f32) -> f64 {
    number
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(number))
}
