//! One layer: attention, then feed forward, each added to what came in.

use candle_core::quantized::QMatMul;
use candle_core::{Module, Result as Computed, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};

use super::super::Error;
use super::cache::Cache;
use super::rope::{Angles, Rope};
use super::shape::Shape;
use super::weights::Weights;

/// A matrix, and what is added to its products.
#[derive(Debug)]
struct Linear {
    matrix: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    fn read(weights: &mut Weights, name: &str, rows: usize, row: usize) -> Result<Self, Error> {
        Ok(Self {
            matrix: weights.matrix(&format!("{name}.weight"), rows, row)?,
            bias: weights.vector_if(&format!("{name}.bias"), rows)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        let y = self.matrix.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// The batch that goes through the layers.
pub(super) struct Batch {
    /// The position of its first token.
    pub(super) start: usize,
    pub(super) angles: Angles,
    /// What forbids looking ahead: (tokens, positions), 0 or minus infinity.
    /// Absent for a single token, which is the last position anyway.
    pub(super) mask: Option<Tensor>,
}

/// The weights of one layer, and what it remembers.
#[derive(Debug)]
pub(super) struct Layer {
    shape: Shape,
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    feed_forward_norm: Tensor,
    gate: QMatMul,
    up: QMatMul,
    down: QMatMul,
    keys: Cache,
    values: Cache,
}

impl Layer {
    pub(super) fn read(
        weights: &mut Weights,
        shape: &Shape,
        index: usize,
        context: usize,
    ) -> Result<Self, Error> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (wide, narrow) = (shape.heads * shape.head, shape.kv_heads * shape.head);
        let size = shape.embedding;
        let inner = shape.feed_forward;
        let mut norm = |part: &str| match shape.traits.head_norms {
            true => weights.vector(&name(part), shape.head).map(Some),
            false => Ok(None),
        };
        let query_norm = norm("attn_q_norm.weight")?;
        let key_norm = norm("attn_k_norm.weight")?;
        Ok(Self {
            query_norm,
            key_norm,
            attention_norm: weights.vector(&name("attn_norm.weight"), size)?,
            query: Linear::read(weights, &name("attn_q"), wide, size)?,
            key: Linear::read(weights, &name("attn_k"), narrow, size)?,
            value: Linear::read(weights, &name("attn_v"), narrow, size)?,
            output: Linear::read(weights, &name("attn_output"), size, wide)?,
            feed_forward_norm: weights.vector(&name("ffn_norm.weight"), size)?,
            gate: weights.matrix(&name("ffn_gate.weight"), inner, size)?,
            up: weights.matrix(&name("ffn_up.weight"), inner, size)?,
            down: weights.matrix(&name("ffn_down.weight"), size, inner)?,
            keys: Cache::new(shape.kv_heads, shape.head, context)?,
            values: Cache::new(shape.kv_heads, shape.head, context)?,
            shape: shape.clone(),
        })
    }

    /// `x` is (tokens, embedding).
    pub(super) fn forward(&mut self, x: &Tensor, rope: &Rope, batch: &Batch) -> Computed<Tensor> {
        let normed = rms_norm(x, &self.attention_norm, self.shape.epsilon)?;
        let x = (x + self.attend(&normed, rope, batch)?)?;
        let normed = rms_norm(&x, &self.feed_forward_norm, self.shape.epsilon)?;
        let inner = (silu(&self.gate.forward(&normed)?)? * self.up.forward(&normed)?)?;
        &x + self.down.forward(&inner)?
    }

    fn attend(&mut self, x: &Tensor, rope: &Rope, batch: &Batch) -> Computed<Tensor> {
        let shape = &self.shape;
        let count = x.dim(0)?;
        // (tokens, heads * head) to (heads, tokens, head).
        let heads = |x: Tensor, heads: usize, norm: &Option<Tensor>| -> Computed<Tensor> {
            let x = x.reshape((count, heads, shape.head))?;
            let x = match norm {
                Some(norm) => rms_norm(&x, norm, shape.epsilon)?,
                None => x,
            };
            x.transpose(0, 1)?.contiguous()
        };
        let query = heads(self.query.forward(x)?, shape.heads, &self.query_norm)?;
        let key = heads(self.key.forward(x)?, shape.kv_heads, &self.key_norm)?;
        let value = heads(self.value.forward(x)?, shape.kv_heads, &None)?;
        let query = (rope.turn(&query, &batch.angles)? * (1.0 / (shape.head as f64).sqrt()))?;
        let key = rope.turn(&key, &batch.angles)?;
        let keys = self.keys.put(&key, batch.start)?;
        let values = self.values.put(&value, batch.start)?;

        // Query heads that share a key head lie together, as more rows.
        let sharing = shape.heads / shape.kv_heads;
        let query = query.reshape((shape.kv_heads, sharing * count, shape.head))?;
        let attended = match &batch.mask {
            None => {
                let scores = query.matmul(&keys.transpose(1, 2)?)?;
                softmax_last_dim(&scores)?.matmul(&values)?
            }
            // One key head after the other, because the scores of a batch
            // against a long context are by far the largest thing in memory.
            Some(mask) => {
                let mut attended = Vec::with_capacity(shape.kv_heads);
                for head in 0..shape.kv_heads {
                    let one = |x: &Tensor| x.narrow(0, head, 1);
                    let scores = one(&query)?.matmul(&one(&keys)?.transpose(1, 2)?)?;
                    let positions = scores.dim(2)?;
                    let scores = scores.reshape((sharing, count, positions))?;
                    let shares = softmax_last_dim(&scores.broadcast_add(mask)?)?;
                    let shares = shares.reshape((1, sharing * count, positions))?;
                    attended.push(shares.matmul(&one(&values)?)?);
                }
                Tensor::cat(&attended, 0)?
            }
        };
        let attended = attended
            .reshape((shape.heads, count, shape.head))?
            .transpose(0, 1)?
            .reshape((count, shape.heads * shape.head))?;
        self.output.forward(&attended)
    }
}
