//! What attention remembers: keys and values of the positions so far. The
//! room for them doubles when it is full; a context of 131,072 tokens costs
//! nothing before it is used.

use candle_core::{DType, Device, Result, Tensor};

/// Room for the first positions.
const POSITIONS_MIN: usize = 256;

/// Keys or values of one layer: (heads, positions, head).
#[derive(Debug)]
pub(super) struct Cache {
    room: Tensor,
    /// More will never be needed.
    most: usize,
}

impl Cache {
    pub(super) fn new(heads: usize, head: usize, most: usize) -> Result<Self> {
        let positions = POSITIONS_MIN.min(most);
        let room = Tensor::zeros((heads, positions, head), DType::F32, &Device::Cpu)?;
        Ok(Self { room, most })
    }

    /// Writes `new` (heads, positions, head) at `start`, forgets what was
    /// there and behind, and gives everything up to it.
    pub(super) fn put(&mut self, new: &Tensor, start: usize) -> Result<Tensor> {
        let (heads, count, head) = new.dims3()?;
        let end = start + count;
        let have = self.room.dim(1)?;
        if end > have {
            let positions = end.max(self.most.min(have * 2));
            let room = Tensor::zeros((heads, positions, head), DType::F32, &Device::Cpu)?;
            room.slice_set(&self.room, 1, 0)?;
            self.room = room;
        }
        self.room.slice_set(&new.contiguous()?, 1, start)?;
        self.room.narrow(1, 0, end)
    }
}
