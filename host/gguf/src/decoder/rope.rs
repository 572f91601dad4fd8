//! Rotary position embeddings (RoPE). Angles are computed for each batch, so no table limits the
//! context.

use candle_core::{Device, Result, Tensor};
use candle_nn::rotary_emb;

use super::hyperparameters::Hyperparameters;

/// Rotates queries and keys according to their positions.
#[derive(Debug)]
pub(super) struct Rope {
    interleaved: bool,
    /// Radians per position, for each pair of elements of a head.
    frequencies: Vec<f64>,
}

/// Cosines and sines of a range of positions, each of shape (positions, pairs).
pub(super) struct RopeAngles {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// `frequency_factors` divide the frequencies of the pairs, as in Llama 3.1 for long
    /// contexts.
    pub(super) fn new(
        hyperparameters: &Hyperparameters,
        frequency_factors: Option<&[f32]>,
    ) -> Self {
        let head_size = hyperparameters.head_size;
        let frequencies = (0..head_size / 2)
            .map(|pair| {
                let exponent = -2.0 * pair as f64 / head_size as f64;
                let factor = frequency_factors.and_then(|factors| factors.get(pair));
                let factor = factor.map_or(1.0, |factor| f64::from(*factor));
                hyperparameters.rope_base.powf(exponent) * hyperparameters.rope_scale / factor
            })
            .collect();
        Self {
            interleaved: hyperparameters.traits.interleaved_rope,
            frequencies,
        }
    }

    /// Returns the angles of `count` positions from `start` on.
    pub(super) fn angles(&self, start: usize, count: usize) -> Result<RopeAngles> {
        let pairs = self.frequencies.len();
        let mut cos = Vec::with_capacity(count * pairs);
        let mut sin = Vec::with_capacity(count * pairs);
        for position in start..start + count {
            for frequency in &self.frequencies {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                cos.push(cosine as f32);
                sin.push(sine as f32);
            }
        }
        Ok(RopeAngles {
            cos: Tensor::from_vec(cos, (count, pairs), &Device::Cpu)?,
            sin: Tensor::from_vec(sin, (count, pairs), &Device::Cpu)?,
        })
    }

    /// Rotates `x`, of shape (heads, positions, head size).
    pub(super) fn apply(&self, x: &Tensor, angles: &RopeAngles) -> Result<Tensor> {
        let x = x.unsqueeze(0)?;
        let rotated = if self.interleaved {
            rotary_emb::rope_i(&x, &angles.cos, &angles.sin)
        } else {
            rotary_emb::rope(&x, &angles.cos, &angles.sin)
        };
        rotated?.squeeze(0)
    }
}
