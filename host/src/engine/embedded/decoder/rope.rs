//! Rotary positions. Angles are computed for the positions at hand, so that
//! no table limits the context.

use candle_core::{Device, Result, Tensor};
use candle_nn::rotary_emb;

use super::shape::Shape;

/// How positions turn queries and keys.
#[derive(Debug)]
pub(super) struct Rope {
    interleaved: bool,
    /// Radians per position, for each pair of a head.
    frequencies: Vec<f64>,
}

/// Cosines and sines of some positions.
pub(super) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// `factors` divide the frequencies (Llama 3.1's way to a long context).
    pub(super) fn new(shape: &Shape, factors: Option<&[f32]>) -> Self {
        let frequencies = (0..shape.head / 2)
            .map(|pair| {
                let exponent = -2.0 * pair as f64 / shape.head as f64;
                let factor = factors.and_then(|factors| factors.get(pair));
                let factor = factor.map_or(1.0, |factor| f64::from(*factor));
                shape.rope_base.powf(exponent) * shape.rope_scale / factor
            })
            .collect();
        Self {
            interleaved: shape.traits.interleaved,
            frequencies,
        }
    }

    /// The angles of `count` positions from `start` on.
    pub(super) fn angles(&self, start: usize, count: usize) -> Result<Angles> {
        let pairs = self.frequencies.len();
        let mut cos = Vec::with_capacity(count * pairs);
        let mut sin = Vec::with_capacity(count * pairs);
        for position in start..start + count {
            for frequency in &self.frequencies {
                let (s, c) = (position as f64 * frequency).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        Ok(Angles {
            cos: Tensor::from_vec(cos, (count, pairs), &Device::Cpu)?,
            sin: Tensor::from_vec(sin, (count, pairs), &Device::Cpu)?,
        })
    }

    /// Turns `x` (heads, positions, head).
    pub(super) fn turn(&self, x: &Tensor, angles: &Angles) -> Result<Tensor> {
        let x = x.unsqueeze(0)?;
        let turned = if self.interleaved {
            rotary_emb::rope_i(&x, &angles.cos, &angles.sin)
        } else {
            rotary_emb::rope(&x, &angles.cos, &angles.sin)
        };
        turned?.squeeze(0)
    }
}
