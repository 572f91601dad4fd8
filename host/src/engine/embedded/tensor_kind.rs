//! The ways in which GGUF files store weights: their numbers in the file,
//! their names, and which of them candle computes with.

use std::fmt;

use candle_core::quantized::GgmlDType;

/// How a tensor's numbers are stored; wraps the number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TensorKind(u32);

/// Number in the file, name, elements per block, bytes per block, candle's
/// word for it. Blocks of 0 are those whose layout we need not know.
const KINDS: &[(u32, &str, usize, usize, Option<GgmlDType>)] = &[
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

impl TensorKind {
    pub(super) fn from_id(id: u32) -> Self {
        Self(id)
    }

    /// Elements per block, bytes per block, candle's word.
    pub(super) fn layout(self) -> Option<(usize, usize, GgmlDType)> {
        KINDS
            .iter()
            .find(|kind| kind.0 == self.0)
            .and_then(|&(_, _, elements, bytes, dtype)| Some((elements, bytes, dtype?)))
    }

    /// The bytes of one row; absent when we do not know the kind, or when the
    /// row does not consist of whole blocks.
    pub(super) fn bytes_of(self, row: usize) -> Option<usize> {
        let (elements, bytes, _) = self.layout()?;
        if row.is_multiple_of(elements) {
            (row / elements).checked_mul(bytes)
        } else {
            None
        }
    }

    /// The names of the kinds that work.
    pub(super) fn works() -> String {
        let names: Vec<_> = KINDS
            .iter()
            .filter(|kind| kind.4.is_some())
            .map(|kind| kind.1)
            .collect();
        names.join(", ")
    }
}

impl fmt::Display for TensorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KINDS.iter().find(|kind| kind.0 == self.0) {
            Some(kind) => f.write_str(kind.1),
            None => write!(f, "number {}", self.0),
        }
    }
}

/// The name of `general.file_type`, as llama.cpp and its users write it.
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
