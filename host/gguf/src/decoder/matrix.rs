//! A weight matrix of a linear layer.
//!
//! candle multiplies quantized weights with code that is chosen when the program is built, which
//! is slow for processors in general. Its products of f32 matrices are chosen at run time. So a
//! batch of tokens is multiplied with blocks of the weights that are converted to f32; the
//! conversion of a block is shared by all tokens. A single token is not worth it.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Result, Tensor};
use rayon::prelude::*;

/// Minimum number of tokens for which the weights are converted.
const BATCH_TOKENS_MIN: usize = 8;

/// Number of weights per block: the f32 values fit into the cache of a core (512 KiB).
const BLOCK_WEIGHTS: usize = 128 << 10;

/// A matrix of shape (output, input).
#[derive(Debug)]
pub(super) enum Matrix {
    /// Weights of type f32.
    Float(Tensor),
    /// Weights as in the file.
    Quantized(Arc<QTensor>, QMatMul),
}

impl Matrix {
    /// Creates a matrix from the weights of a file. `dequantize` converts them to f32.
    pub(super) fn new(weights: Arc<QTensor>, dequantize: bool) -> Result<Self> {
        if dequantize {
            return Ok(Self::Float(weights.dequantize(&Device::Cpu)?));
        }
        Ok(Self::Quantized(
            Arc::clone(&weights),
            QMatMul::QTensor(weights),
        ))
    }

    /// Returns the product of `x`, of shape (tokens, input), with the transposed matrix: the
    /// shape is (tokens, output).
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Float(weights) => x.matmul(&weights.t()?),
            Self::Quantized(_, product) if x.dim(0)? < BATCH_TOKENS_MIN => product.forward(x),
            Self::Quantized(weights, _) => multiply_by_blocks(x, weights),
        }
    }
}

fn multiply_by_blocks(x: &Tensor, weights: &QTensor) -> Result<Tensor> {
    let (rows, columns) = weights.shape().dims2()?;
    let rows = u32::try_from(rows)?;
    let block_rows = u32::try_from(BLOCK_WEIGHTS / columns)?.max(1);
    let starts: Vec<u32> = (0..rows).step_by(block_rows as usize).collect();
    let products = starts.into_par_iter().map(|start| {
        let end = rows.min(start + block_rows);
        let block = weights.embedding(&Tensor::arange(start, end, &Device::Cpu)?)?;
        x.matmul(&block.t()?)
    });
    Tensor::cat(&products.collect::<Result<Vec<_>>>()?, 1)
}
