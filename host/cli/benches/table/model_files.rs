//! Model files with other types of weights, made of a given one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use crate::timing::Failure;

/// A type of weights as llama.cpp names it.
pub(crate) struct WeightType {
    pub(crate) name: &'static str,
    /// The number of this type in `general.file_type`.
    file_type: u32,
    matrices: GgmlDType,
    /// The type of the matrices that need more precision.
    precise: GgmlDType,
}

/// The types that are measured.
pub(crate) const WEIGHT_TYPES: &[WeightType] = &[
    WeightType::plain("Q4_0", 2, GgmlDType::Q4_0),
    WeightType::plain("Q4_1", 3, GgmlDType::Q4_1),
    WeightType::plain("Q8_0", 7, GgmlDType::Q8_0),
    WeightType::plain("F16", 1, GgmlDType::F16),
    WeightType {
        name: "Q4_K_M",
        file_type: 15,
        matrices: GgmlDType::Q4K,
        precise: GgmlDType::Q6K,
    },
];

impl WeightType {
    const fn plain(name: &'static str, file_type: u32, matrices: GgmlDType) -> Self {
        Self {
            name,
            file_type,
            matrices,
            precise: matrices,
        }
    }
}

/// The weights of a model that was written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weights {
    OfSource,
    Random,
}

/// Writes a model with the weights of `source` in another type. The rows of types with blocks of
/// 256 weights must have a multiple of this length, which those of small models do not have; the
/// model then has the tokenizer of `source` and random weights of suitable sizes.
pub(crate) fn write_model(
    source: &Path,
    weight_type: &WeightType,
    target: &Path,
) -> Result<Weights, Failure> {
    let mut input = BufReader::new(File::open(source)?);
    let content = Content::read(&mut input)?;
    let mut metadata = content.metadata.clone();
    let architecture = metadata.get("general.architecture");
    if architecture.and_then(|value| value.to_string().ok()) != Some(&"llama".to_owned()) {
        return Err(format!("{} has not the architecture `llama`", source.display()).into());
    }
    metadata.insert(
        "general.file_type".to_owned(),
        Value::U32(weight_type.file_type),
    );
    let block = weight_type.matrices.block_size();
    let is_suitable = content.tensor_infos.values().all(|info| {
        info.shape
            .dims()
            .last()
            .is_none_or(|row| row.is_multiple_of(block))
    });
    let tensors = match is_suitable {
        true => content
            .tensor_infos
            .keys()
            .map(|name| {
                let tensor = content.tensor(&mut input, name, &Device::Cpu)?;
                Ok((name.clone(), tensor.dequantize(&Device::Cpu)?))
            })
            .collect::<Result<Vec<_>, Failure>>()?,
        false => {
            let vocabulary = content.tensor_infos.get("token_embd.weight");
            let vocabulary = vocabulary.ok_or("no token embedding")?.shape.dims()[0];
            metadata.extend(hyperparameters());
            random_weights(vocabulary)?
        }
    };
    let tensors = tensors.into_iter().map(|(name, tensor)| {
        let is_precise = ["token_embd", "attn_v", "ffn_down"]
            .iter()
            .any(|part| name.contains(part));
        let dtype = match (tensor.rank(), is_precise) {
            (1, _) => GgmlDType::F32,
            (_, true) => weight_type.precise,
            (_, false) => weight_type.matrices,
        };
        Ok((name, QTensor::quantize(&tensor, dtype)?))
    });
    let tensors = tensors.collect::<Result<Vec<_>, Failure>>()?;
    let metadata: Vec<(&str, &Value)> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    gguf_file::write(
        &mut BufWriter::new(File::create(target)?),
        &metadata,
        &tensors,
    )?;
    Ok(match is_suitable {
        true => Weights::OfSource,
        false => Weights::Random,
    })
}

const LAYERS: usize = 16;
const EMBEDDING: usize = 768;
const FEED_FORWARD: usize = 2048;
const HEADS: usize = 12;
const KV_HEADS: usize = 4;

/// Returns the hyperparameters of the model with random weights.
fn hyperparameters() -> HashMap<String, Value> {
    [
        ("block_count", LAYERS),
        ("embedding_length", EMBEDDING),
        ("feed_forward_length", FEED_FORWARD),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
        ("rope.dimension_count", EMBEDDING / HEADS),
    ]
    .into_iter()
    .map(|(key, value)| {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        (format!("llama.{key}"), Value::U32(value))
    })
    .collect()
}

fn random_weights(vocabulary: usize) -> Result<Vec<(String, Tensor)>, Failure> {
    let kv = EMBEDDING / HEADS * KV_HEADS;
    let mut shapes = vec![("token_embd.weight".to_owned(), vec![vocabulary, EMBEDDING])];
    let mut norms = vec!["output_norm.weight".to_owned()];
    for layer in 0..LAYERS {
        for (part, rows, columns) in [
            ("attn_q", EMBEDDING, EMBEDDING),
            ("attn_k", kv, EMBEDDING),
            ("attn_v", kv, EMBEDDING),
            ("attn_output", EMBEDDING, EMBEDDING),
            ("ffn_gate", FEED_FORWARD, EMBEDDING),
            ("ffn_up", FEED_FORWARD, EMBEDDING),
            ("ffn_down", EMBEDDING, FEED_FORWARD),
        ] {
            shapes.push((format!("blk.{layer}.{part}.weight"), vec![rows, columns]));
        }
        norms.extend(["attn_norm", "ffn_norm"].map(|part| format!("blk.{layer}.{part}.weight")));
    }
    let random = shapes
        .into_iter()
        .map(|(name, shape)| Ok((name, Tensor::randn(0_f32, 0.02, shape, &Device::Cpu)?)));
    let norms = norms.into_iter().map(|name| {
        let ones = Tensor::ones(EMBEDDING, candle_core::DType::F32, &Device::Cpu)?;
        Ok((name, ones))
    });
    random.chain(norms).collect()
}
