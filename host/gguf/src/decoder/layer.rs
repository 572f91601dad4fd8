//! A transformer layer: attention, then feed-forward network, each with a residual connection.

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use rayon::prelude::*;

use super::super::Error;
use super::cache::KvCache;
use super::hyperparameters::Hyperparameters;
use super::matrix::Matrix;
use super::rope::{Rope, RopeAngles};
use super::softmax::CausalSoftmax;
use super::weights::WeightReader;

/// A linear layer: a matrix and an optional bias.
#[derive(Debug)]
struct Linear {
    matrix: Matrix,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads the tensors `name.weight` and `name.bias`. The matrix has the shape (output,
    /// input).
    fn read(
        weights: &mut WeightReader,
        name: &str,
        output: usize,
        input: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            matrix: weights.matrix(&format!("{name}.weight"), output, input)?,
            bias: weights.optional_vector(&format!("{name}.bias"), output)?,
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let y = self.matrix.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// Position data of a batch of tokens, the same for all layers.
pub(super) struct TokenBatch {
    /// Position of the first token.
    pub(super) start: usize,
    pub(super) angles: RopeAngles,
}

/// The weights and the KV cache of a layer.
#[derive(Debug)]
pub(super) struct Layer {
    hyperparameters: Hyperparameters,
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    feed_forward_norm: Tensor,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
    keys: KvCache,
    values: KvCache,
}

impl Layer {
    pub(super) fn read(
        weights: &mut WeightReader,
        hyperparameters: &Hyperparameters,
        index: usize,
        context: usize,
    ) -> Result<Self, Error> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let head_size = hyperparameters.head_size;
        let query_size = hyperparameters.head_count * head_size;
        let kv_size = hyperparameters.kv_head_count * head_size;
        let embedding = hyperparameters.embedding_length;
        let feed_forward = hyperparameters.feed_forward_length;
        let mut norm = |part: &str| match hyperparameters.traits.qk_norm {
            true => weights.vector(&name(part), head_size).map(Some),
            false => Ok(None),
        };
        let query_norm = norm("attn_q_norm.weight")?;
        let key_norm = norm("attn_k_norm.weight")?;
        Ok(Self {
            query_norm,
            key_norm,
            attention_norm: weights.vector(&name("attn_norm.weight"), embedding)?,
            query: Linear::read(weights, &name("attn_q"), query_size, embedding)?,
            key: Linear::read(weights, &name("attn_k"), kv_size, embedding)?,
            value: Linear::read(weights, &name("attn_v"), kv_size, embedding)?,
            output: Linear::read(weights, &name("attn_output"), embedding, query_size)?,
            feed_forward_norm: weights.vector(&name("ffn_norm.weight"), embedding)?,
            gate: weights.matrix(&name("ffn_gate.weight"), feed_forward, embedding)?,
            up: weights.matrix(&name("ffn_up.weight"), feed_forward, embedding)?,
            down: weights.matrix(&name("ffn_down.weight"), embedding, feed_forward)?,
            keys: KvCache::new(hyperparameters.kv_head_count, head_size, context)?,
            values: KvCache::new(hyperparameters.kv_head_count, head_size, context)?,
            hyperparameters: hyperparameters.clone(),
        })
    }

    /// Computes the output of the layer. The shape of `x` and of the result is (tokens,
    /// embedding).
    pub(super) fn forward(
        &mut self,
        x: &Tensor,
        rope: &Rope,
        batch: &TokenBatch,
    ) -> CandleResult<Tensor> {
        let normed = rms_norm(x, &self.attention_norm, self.hyperparameters.epsilon)?;
        let x = (x + self.attention(&normed, rope, batch)?)?;
        let normed = rms_norm(&x, &self.feed_forward_norm, self.hyperparameters.epsilon)?;
        let inner = (silu(&self.gate.forward(&normed)?)? * self.up.forward(&normed)?)?;
        &x + self.down.forward(&inner)?
    }

    /// Computes grouped-query attention. The shape of `x` and of the result is (tokens,
    /// embedding).
    fn attention(&mut self, x: &Tensor, rope: &Rope, batch: &TokenBatch) -> CandleResult<Tensor> {
        let Hyperparameters {
            head_count,
            kv_head_count,
            head_size,
            epsilon,
            ..
        } = self.hyperparameters;
        let count = x.dim(0)?;
        // Converts (tokens, heads * head size) to (heads, tokens, head size).
        let split_heads =
            |x: Tensor, heads: usize, norm: &Option<Tensor>| -> CandleResult<Tensor> {
                let x = x.reshape((count, heads, head_size))?;
                let x = match norm {
                    Some(norm) => rms_norm(&x, norm, epsilon)?,
                    None => x,
                };
                x.transpose(0, 1)?.contiguous()
            };
        let query = split_heads(self.query.forward(x)?, head_count, &self.query_norm)?;
        let key = split_heads(self.key.forward(x)?, kv_head_count, &self.key_norm)?;
        let value = split_heads(self.value.forward(x)?, kv_head_count, &None)?;
        let query = (rope.apply(&query, &batch.angles)? * (1.0 / (head_size as f64).sqrt()))?;
        let key = rope.apply(&key, &batch.angles)?;
        let keys = self.keys.write(&key, batch.start)?;
        let values = self.values.write(&value, batch.start)?;

        // Several query heads share a key head.
        let group_size = head_count / kv_head_count;
        let attended = match count {
            1 => {
                // They become rows of one matrix.
                let query = query.reshape((kv_head_count, group_size, head_size))?;
                let scores = query.matmul(&keys.transpose(1, 2)?)?;
                softmax_last_dim(&scores)?.matmul(&values)?
            }
            // A head per thread at a time: the scores of a batch against a long context need by
            // far the most memory.
            _ => {
                let softmax = CausalSoftmax { start: batch.start };
                let attend = |head: usize| {
                    let scores = query
                        .get(head)?
                        .matmul(&keys.get(head / group_size)?.t()?)?;
                    scores.inplace_op1(&softmax)?;
                    scores.matmul(&values.get(head / group_size)?)
                };
                let attended = (0..head_count).into_par_iter().map(attend);
                Tensor::stack(&attended.collect::<CandleResult<Vec<_>>>()?, 1)?
            }
        };
        let attended = attended.reshape((count, head_count * head_size))?;
        self.output.forward(&attended)
    }
}
