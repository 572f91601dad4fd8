//! The tensor types of GGUF files: their ids, names and block layouts, and which of them
//! candle supports.

use std::fmt;

use candle_core::quantized::GgmlDType;

/// The type of a tensor's elements; wraps the id in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TensorType(u32);

/// Id in the file, name, elements per block, bytes per block, candle's type. The block sizes
/// of unsupported types are 0.
const TENSOR_TYPES: &[(u32, &str, usize, usize, Option<GgmlDType>)] = &[
    (0, "F32", 1, 4, Some(GgmlDType::F32)),
    (1, "F16", 1, 2, Some(GgmlDType::F16)),
    (2, "Q4_0", 32, 18, Some(GgmlDType::Q4_0)),
    (3, "Q4_1", 32, 20, Some(GgmlDType::Q4_1)),
    (6, "Q5_0", 32, 22, Some(GgmlDType::Q5_0)),
    (7, "Q5_1", 32, 24, Some(GgmlDType::Q5_1)),
    (8, "Q8_0", 32, 34, Some(GgmlDType::Q8_0)),
    (10, "Q2_K", 256, 84, Some(GgmlDType::Q2K)),
    (11, "Q3_K", 256, 110, Some(GgmlDType::Q3K)),
    (12, "Q4_K", 256, 144, Some(GgmlDType::Q4K)),
    (13, "Q5_K", 256, 176, Some(GgmlDType::Q5K)),
    (14, "Q6_K", 256, 210, Some(GgmlDType::Q6K)),
    (30, "BF16", 1, 2, Some(GgmlDType::BF16)),
    (9, "Q8_1", 0, 0, None),
    (15, "Q8_K", 0, 0, None),
    (16, "IQ2_XXS", 0, 0, None),
    (17, "IQ2_XS", 0, 0, None),
    (18, "IQ3_XXS", 0, 0, None),
    (19, "IQ1_S", 0, 0, None),
    (20, "IQ4_NL", 0, 0, None),
    (21, "IQ3_S", 0, 0, None),
    (22, "IQ2_S", 0, 0, None),
    (23, "IQ4_XS", 0, 0, None),
    (24, "I8", 0, 0, None),
    (25, "I16", 0, 0, None),
    (26, "I32", 0, 0, None),
    (27, "I64", 0, 0, None),
    (28, "F64", 0, 0, None),
    (29, "IQ1_M", 0, 0, None),
    (34, "TQ1_0", 0, 0, None),
    (35, "TQ2_0", 0, 0, None),
    (39, "MXFP4", 0, 0, None),
    (40, "NVFP4", 0, 0, None),
];

impl TensorType {
    pub(super) fn from_id(id: u32) -> Self {
        Self(id)
    }

    /// Returns the elements per block, the bytes per block and candle's type, or `None` if the
    /// type is not supported.
    pub(super) fn layout(self) -> Option<(usize, usize, GgmlDType)> {
        TENSOR_TYPES
            .iter()
            .find(|entry| entry.0 == self.0)
            .and_then(|&(_, _, elements, bytes, dtype)| Some((elements, bytes, dtype?)))
    }

    /// Returns the bytes of a row of `row_length` elements, or `None` if the type is not
    /// supported or the row is not a multiple of the block size.
    pub(super) fn row_bytes(self, row_length: usize) -> Option<usize> {
        let (elements, bytes, _) = self.layout()?;
        if row_length.is_multiple_of(elements) {
            (row_length / elements).checked_mul(bytes)
        } else {
            None
        }
    }

    /// Returns the names of the supported types, separated by commas.
    pub(super) fn supported_names() -> String {
        let names: Vec<_> = TENSOR_TYPES
            .iter()
            .filter(|entry| entry.4.is_some())
            .map(|entry| entry.1)
            .collect();
        names.join(", ")
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TENSOR_TYPES.iter().find(|entry| entry.0 == self.0) {
            Some(entry) => f.write_str(entry.1),
            None => write!(f, "number {}", self.0),
        }
    }
}

/// Returns llama.cpp's name of a `general.file_type`, or `None` if it is unknown.
pub(super) fn file_type_name(id: u64) -> Option<&'static str> {
    Some(match id {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        _ => return None,
    })
}
