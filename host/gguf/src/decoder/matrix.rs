//! A weight matrix of a linear layer.
//!
//! candle multiplies quantized weights with code that is chosen when the program is built, which
//! is slow for processors in general. Its products of f32 matrices are chosen at run time. So a
//! batch of tokens is multiplied with blocks of the weights that are converted to f32; the
//! conversion of a block is shared by all tokens. For a few tokens it takes longer than it saves.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
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
    Quantized(Arc<QTensor>),
}

impl Matrix {
    /// Creates a matrix from the weights of a file. `dequantize` converts them to f32; 16-bit
    /// weights, which candle multiplies slowly, are always converted.
    pub(super) fn new(weights: Arc<QTensor>, dequantize: bool) -> Result<Self> {
        let is_float = matches!(
            weights.dtype(),
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16
        );
        if dequantize || is_float {
            return Ok(Self::Float(weights.dequantize(&Device::Cpu)?));
        }
        Ok(Self::Quantized(weights))
    }

    /// Returns the product of `x`, of shape (tokens, input), with the transposed matrix: the
    /// shape is (tokens, output).
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Float(weights) => x.matmul(&weights.t()?),
            Self::Quantized(weights) if x.dim(0)? < BATCH_TOKENS_MIN => {
                QMatMul::QTensor(Arc::clone(weights)).forward(x)
            }
            Self::Quantized(weights) => multiply_by_blocks(x, weights, BLOCK_WEIGHTS),
        }
    }
}

/// Multiplies `x` with the transposed weights, `block_weights` at a time.
fn multiply_by_blocks(x: &Tensor, weights: &QTensor, block_weights: usize) -> Result<Tensor> {
    let (rows, columns) = weights.shape().dims2()?;
    let rows = u32::try_from(rows)?;
    let block_rows = u32::try_from(block_weights / columns)?.max(1);
    let starts: Vec<u32> = (0..rows).step_by(block_rows as usize).collect();
    let products = starts.into_par_iter().map(|start| {
        let end = rows.min(start + block_rows);
        let block = weights.embedding(&Tensor::arange(start, end, &Device::Cpu)?)?;
        x.matmul(&block.t()?)
    });
    Tensor::cat(&products.collect::<Result<Vec<_>>>()?, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_do_not_depend_on_the_number_of_tokens_or_on_the_blocks() {
        let (rows, columns) = (37, 256);
        let values = |count: usize, factor: f32| -> Vec<f32> {
            (0..count)
                .map(|index| ((index * 7919 % 1009) as f32 / 504.5 - 1.0) * factor)
                .collect()
        };
        let weights = Tensor::from_vec(values(rows * columns, 0.1), (rows, columns), &Device::Cpu);
        for dtype in [
            GgmlDType::Q4_0,
            GgmlDType::Q4_1,
            GgmlDType::Q5_0,
            GgmlDType::Q8_0,
            GgmlDType::Q4K,
            GgmlDType::Q6K,
            GgmlDType::F16,
        ] {
            let weights = Arc::new(QTensor::quantize(weights.as_ref().unwrap(), dtype).unwrap());
            let exact = weights.dequantize(&Device::Cpu).unwrap().t().unwrap();
            let matrix = Matrix::new(Arc::clone(&weights), false).unwrap();
            for tokens in [1, BATCH_TOKENS_MIN - 1, BATCH_TOKENS_MIN, 33] {
                let x = values(tokens * columns, 1.0);
                let x = Tensor::from_vec(x, (tokens, columns), &Device::Cpu).unwrap();
                let expected = x.matmul(&exact).unwrap();
                let check = |product: Tensor, tolerance: f32, what: &str| {
                    assert_eq!(product.dims(), [tokens, rows]);
                    let difference = (product - &expected).unwrap().abs().unwrap();
                    let largest: f32 = difference.max_all().unwrap().to_scalar().unwrap();
                    assert!(
                        largest < tolerance,
                        "{dtype:?}, {tokens}, {what}: {largest}"
                    );
                };
                // candle rounds what it multiplies quantized weights with.
                let tolerance = if tokens < BATCH_TOKENS_MIN { 0.1 } else { 1e-4 };
                check(matrix.forward(&x).unwrap(), tolerance, "matrix");
                for block_weights in [1, 5 * columns, 36 * columns + 1, rows * columns] {
                    let product = multiply_by_blocks(&x, &weights, block_weights).unwrap();
                    check(product, 1e-4, "blocks");
                }
            }
        }
    }
}
