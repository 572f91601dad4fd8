//! The KV cache: keys and values of the positions so far. The buffer doubles when it is full,
//! so a context of 131,072 tokens needs memory only for the positions in use.

use candle_core::{DType, Device, Result, Tensor};

/// Initial number of positions.
const POSITIONS_MIN: usize = 256;

/// The keys or the values of one layer. The shape of the buffer is (heads, positions, head
/// size).
#[derive(Debug)]
pub(super) struct KvCache {
    buffer: Tensor,
    /// Maximum number of positions: the context length.
    positions_max: usize,
}

impl KvCache {
    pub(super) fn new(heads: usize, head_size: usize, positions_max: usize) -> Result<Self> {
        let positions = POSITIONS_MIN.min(positions_max);
        let buffer = Tensor::zeros((heads, positions, head_size), DType::F32, &Device::Cpu)?;
        Ok(Self {
            buffer,
            positions_max,
        })
    }

    /// Writes `new`, of shape (heads, positions, head size), at position `start`, which discards
    /// all later positions. Returns the content up to the last written position.
    pub(super) fn write(&mut self, new: &Tensor, start: usize) -> Result<Tensor> {
        let (heads, count, head_size) = new.dims3()?;
        let end = start + count;
        let capacity = self.buffer.dim(1)?;
        if end > capacity {
            let positions = end.max(self.positions_max.min(capacity * 2));
            let buffer = Tensor::zeros((heads, positions, head_size), DType::F32, &Device::Cpu)?;
            buffer.slice_set(&self.buffer, 1, 0)?;
            self.buffer = buffer;
        }
        self.buffer.slice_set(&new.contiguous()?, 1, start)?;
        self.buffer.narrow(1, 0, end)
    }
}
