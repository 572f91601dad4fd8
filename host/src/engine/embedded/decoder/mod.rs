//! The computation: a decoder with rotary positions, grouped attention and a
//! gated feed forward, which is what `llama`, `qwen2` and `qwen3` share.
//!
//! Our own instead of candle's models, because those have tables of fixed
//! length (a context of 4,096, silently), do not know Llama 3.1's frequency
//! factors, and copy keys and values once per token. Matrices, quantised or
//! not, are candle's.

mod cache;
mod layer;
mod rope;
mod shape;
mod weights;

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Result as Computed, Tensor};
use candle_nn::ops::rms_norm;

use super::Error;
use super::gguf::Header;
use layer::{Batch, Layer};
use rope::Rope;
pub(super) use shape::Shape;
pub(super) use weights::ReadSeek;
use weights::Weights;

/// Tokens that are computed together at most; between batches an inference
/// can be cancelled, and says how far it is.
pub(super) const BATCH_TOKENS_MAX: usize = 256;

/// A model that can compute.
#[derive(Debug)]
pub(super) struct Decoder {
    embedding: Arc<QTensor>,
    layers: Vec<Layer>,
    norm: Tensor,
    output: QMatMul,
    rope: Rope,
    epsilon: f32,
}

impl Decoder {
    /// Reads all weights. `tokens` is the size of the vocabulary.
    pub(super) fn read(
        file: &str,
        header: &Header,
        shape: &Shape,
        tokens: usize,
        context: usize,
        input: &mut dyn ReadSeek,
    ) -> Result<Self, Error> {
        let mut weights = Weights::new(file, header, input);
        let embedding = weights.stored("token_embd.weight", &[tokens, shape.embedding])?;
        let factors = weights.vector_if("rope_freqs.weight", shape.head / 2)?;
        let factors = factors
            .map(|factors| factors.to_vec1::<f32>())
            .transpose()?;
        let layers = (0..shape.layers)
            .map(|index| Layer::read(&mut weights, shape, index, context))
            .collect::<Result<_, _>>()?;
        let norm = weights.vector("output_norm.weight", shape.embedding)?;
        let output = match weights.has("output.weight") {
            true => weights.matrix("output.weight", tokens, shape.embedding)?,
            // Small models use the same matrix for reading and writing.
            false => weights.multiplier(embedding.clone())?,
        };
        weights.finish()?;
        Ok(Self {
            embedding,
            layers,
            norm,
            output,
            rope: Rope::new(shape, factors.as_deref()),
            epsilon: shape.epsilon,
        })
    }

    /// Reads tokens that stand at `start` and behind. What was read there
    /// before is forgotten.
    pub(super) fn read_on(&mut self, tokens: &[u32], start: usize) -> Computed<()> {
        self.forward(tokens, start).map(|_| ())
    }

    /// Reads on, and gives the scores of all tokens to come next.
    pub(super) fn scores(&mut self, tokens: &[u32], start: usize) -> Computed<Vec<f32>> {
        let x = self.forward(tokens, start)?;
        let last = x.narrow(0, tokens.len() - 1, 1)?.contiguous()?;
        let last = rms_norm(&last, &self.norm, self.epsilon)?;
        self.output.forward(&last)?.squeeze(0)?.to_vec1()
    }

    fn forward(&mut self, tokens: &[u32], start: usize) -> Computed<Tensor> {
        let count = tokens.len();
        let batch = Batch {
            start,
            angles: self.rope.angles(start, count)?,
            mask: match count {
                1 => None,
                _ => Some(mask(start, count)?),
            },
        };
        let tokens = Tensor::new(tokens, &Device::Cpu)?;
        let mut x = self.embedding.embedding(&tokens)?;
        for layer in &mut self.layers {
            x = layer.forward(&x, &self.rope, &batch)?;
        }
        Ok(x)
    }
}

/// Token i of a batch sees the positions up to its own.
fn mask(start: usize, count: usize) -> Computed<Tensor> {
    let positions = start + count;
    let mask: Vec<f32> = (0..count)
        .flat_map(|token| {
            (0..positions).map(move |position| match position <= start + token {
                true => 0.0,
                false => f32::NEG_INFINITY,
            })
        })
        .collect();
    Tensor::from_vec(mask, (count, positions), &Device::Cpu)
}

#[cfg(test)]
#[path = "../../../../../tests/embedded/tiny.rs"]
#[expect(dead_code, reason = "the black-box tests change it, this one does not")]
mod tiny;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::gguf;
    use super::tiny::Tiny;
    use super::*;

    #[test]
    fn how_the_prompt_is_cut_into_batches_does_not_matter() {
        let bytes = Tiny::new().bytes();
        let header = gguf::read(&mut Cursor::new(&bytes), bytes.len() as u64).unwrap();
        let shape = Shape::read(&header, "llama").unwrap();
        let mut input = Cursor::new(&bytes);
        let mut decoder = Decoder::read("tiny", &header, &shape, 258, 600, &mut input).unwrap();
        let tokens: Vec<u32> = (0..600).map(|n| n * n % 251).collect();
        for length in [2, 255, 256, 257, 511, 513, 600] {
            let tokens = &tokens[..length];
            let whole = decoder.scores(tokens, 0).unwrap();
            for batch in [1, 7, 256] {
                let mut scores = Vec::new();
                for (index, piece) in tokens.chunks(batch).enumerate() {
                    scores = decoder.scores(piece, index * batch).unwrap();
                }
                let differences = whole.iter().zip(&scores).map(|(a, b)| (a - b).abs());
                let most = differences.fold(0.0, f32::max);
                assert!(most < 1e-3, "{length} in {batch}: {most}");
            }
        }
    }
}
