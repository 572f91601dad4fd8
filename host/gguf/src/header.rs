//! The header of a GGUF file: the metadata and the tensor table.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::tensor_type::TensorType;

/// An error from reading a header.
#[derive(Debug)]
pub(super) enum GgufError {
    /// The file cannot be read.
    Io(io::Error),
    /// The file does not start with the magic number.
    NotGguf,
    /// The header is invalid. Contains the problem and its location.
    Invalid(String),
}

/// A metadata value. Numbers are widened to 64 bits.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MetadataValue {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    Integers(Vec<i32>),
    Floats(Vec<f32>),
    /// An array of another element type, which no known key has. Its elements are skipped.
    OtherArray,
}

/// Type, shape and location of a tensor.
#[derive(Clone, Debug)]
pub(super) struct TensorInfo {
    pub(super) tensor_type: TensorType,
    /// Dimensions in candle's order, which is the reverse of GGUF's.
    pub(super) shape: Vec<usize>,
    /// Offset in bytes from the start of the file.
    pub(super) offset: u64,
    /// Size in bytes, or `None` if the tensor type is not supported.
    pub(super) bytes: Option<u64>,
}

/// The header of a GGUF file.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) metadata: HashMap<String, MetadataValue>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

impl Header {
    /// Returns the number of elements of all tensors.
    pub(super) fn parameter_count(&self) -> u64 {
        let tensors = self.tensors.values();
        tensors
            .map(|tensor| tensor.shape.iter().product::<usize>() as u64)
            .fold(0, u64::saturating_add)
    }

    pub(super) fn string(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            MetadataValue::String(string) => Some(string),
            _ => None,
        }
    }

    pub(super) fn unsigned(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            MetadataValue::Unsigned(number) => Some(*number),
            MetadataValue::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(super) fn float(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key)? {
            MetadataValue::Float(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        match self.metadata.get(key)? {
            MetadataValue::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn strings(&self, key: &str) -> Option<&[String]> {
        match self.metadata.get(key)? {
            MetadataValue::Strings(strings) => Some(strings),
            _ => None,
        }
    }

    pub(super) fn integers(&self, key: &str) -> Option<&[i32]> {
        match self.metadata.get(key)? {
            MetadataValue::Integers(numbers) => Some(numbers),
            _ => None,
        }
    }

    pub(super) fn floats(&self, key: &str) -> Option<&[f32]> {
        match self.metadata.get(key)? {
            MetadataValue::Floats(numbers) => Some(numbers),
            _ => None,
        }
    }
}
