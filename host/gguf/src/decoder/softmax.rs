//! The softmax of the attention scores of a batch.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, bail};

/// Replaces each row of scores by its softmax over the positions that its token attends to: all
/// up to its own. The other positions get 0. The shape is (tokens, positions).
///
/// candle would add a mask first, in an operation that all threads share: threads that attend
/// with different heads would wait for each other.
pub(super) struct CausalSoftmax {
    /// Position of the first token.
    pub(super) start: usize,
}

impl InplaceOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (_, positions) = layout.shape().dims2()?;
        let (CpuStorage::F32(scores), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            bail!("the scores are not contiguous f32 values");
        };
        let rows = scores.get_mut(start..end).unwrap_or_default();
        for (token, row) in rows.chunks_exact_mut(positions).enumerate() {
            let visible = (self.start + token + 1).min(positions);
            let (visible, hidden) = row.split_at_mut(visible);
            softmax(visible);
            hidden.fill(0.0);
        }
        Ok(())
    }
}

fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}
