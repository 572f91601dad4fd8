//! The decoder: a transformer with rotary position embeddings, grouped-query attention and a
//! gated feed-forward network, as used by `llama`, `qwen2` and `qwen3`.
//!
//! candle's own models are not used, because they silently limit the context to tables of 4,096
//! positions, do not support Llama 3.1's frequency factors, and copy all keys and values for
//! every token. Matrix operations, quantized or not, are candle's.

mod cache;
mod hyperparameters;
mod layer;
mod matrix;
mod rope;
mod softmax;
mod weights;

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{Device, Result as CandleResult, Tensor};
use candle_nn::ops::rms_norm;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::Error;
use super::header::Header;
pub(super) use hyperparameters::Hyperparameters;
use layer::{Layer, TokenBatch};
use matrix::Matrix;
use rope::Rope;
pub(super) use weights::ReadSeek;
use weights::WeightReader;

/// Maximum number of tokens per batch. Between batches, an inference can be cancelled and
/// reports its progress.
pub(super) const BATCH_TOKENS_MAX: usize = 256;

/// Model parameters per thread. Small models run on one thread: handing over work that takes
/// microseconds does not pay off, and on a busy machine the wait for the other thread took a
/// hundred times as long.
const PARAMETERS_PER_THREAD: u64 = 20_000_000;

/// A transformer decoder with loaded weights.
#[derive(Debug)]
pub(super) struct Decoder {
    embedding: Arc<QTensor>,
    layers: Vec<Layer>,
    norm: Tensor,
    output: Matrix,
    rope: Rope,
    epsilon: f32,
    /// The threads for batches of tokens. For the products of quantized weights with a single
    /// token, candle has threads; its other operations on one gain nothing from more threads.
    threads: ThreadPool,
}

impl Decoder {
    /// Reads all weights. `vocabulary_size` is the number of tokens of the vocabulary, `context`
    /// the context length in tokens.
    ///
    /// # Errors
    /// Returns an error if a tensor is missing, invalid or unknown, or cannot be read.
    pub(super) fn load(
        file: &str,
        header: &Header,
        hyperparameters: &Hyperparameters,
        vocabulary_size: usize,
        context: usize,
        input: &mut dyn ReadSeek,
    ) -> Result<Self, Error> {
        let mut weights = WeightReader::new(file, header, input);
        let embedding = weights.quantized_tensor(
            "token_embd.weight",
            &[vocabulary_size, hyperparameters.embedding_length],
        )?;
        let frequency_factors =
            weights.optional_vector("rope_freqs.weight", hyperparameters.head_size / 2)?;
        let frequency_factors = frequency_factors
            .map(|factors| factors.to_vec1::<f32>())
            .transpose()?;
        let layers = (0..hyperparameters.layer_count)
            .map(|index| Layer::read(&mut weights, hyperparameters, index, context))
            .collect::<Result<_, _>>()?;
        let norm = weights.vector("output_norm.weight", hyperparameters.embedding_length)?;
        let output = match weights.has("output.weight") {
            true => weights.matrix(
                "output.weight",
                vocabulary_size,
                hyperparameters.embedding_length,
            )?,
            // Small models use the embedding matrix for the output as well (tied embeddings).
            false => weights.to_matrix(embedding.clone())?,
        };
        weights.check_all_read()?;
        Ok(Self {
            embedding,
            layers,
            norm,
            output,
            rope: Rope::new(hyperparameters, frequency_factors.as_deref()),
            epsilon: hyperparameters.epsilon,
            threads: thread_pool(header.parameter_count())?,
        })
    }

    /// Processes tokens at the positions from `start` on. Earlier results for these and all later
    /// positions are discarded.
    pub(super) fn prefill(&mut self, tokens: &[u32], start: usize) -> CandleResult<()> {
        self.forward(tokens, start).map(|_| ())
    }

    /// Processes tokens as [`Decoder::prefill`] does, and returns the logits of the next token:
    /// one for each token of the vocabulary.
    pub(super) fn logits(&mut self, tokens: &[u32], start: usize) -> CandleResult<Vec<f32>> {
        let x = self.forward(tokens, start)?;
        let last = x.narrow(0, tokens.len() - 1, 1)?.contiguous()?;
        let last = rms_norm(&last, &self.norm, self.epsilon)?;
        self.output.forward(&last)?.squeeze(0)?.to_vec1()
    }

    /// Computes the output of the last layer, of shape (tokens, embedding).
    fn forward(&mut self, tokens: &[u32], start: usize) -> CandleResult<Tensor> {
        let count = tokens.len();
        let batch = TokenBatch {
            start,
            angles: self.rope.angles(start, count)?,
        };
        let tokens = Tensor::new(tokens, &Device::Cpu)?;
        let x = self.embedding.embedding(&tokens)?;
        let Self { layers, rope, .. } = self;
        let pass = || {
            layers
                .iter_mut()
                .try_fold(x, |x, layer| layer.forward(&x, rope, &batch))
        };
        match count {
            1 => pass(),
            _ => self.threads.install(pass),
        }
    }
}

/// Starts the threads for a model with this number of parameters.
///
/// # Errors
/// Returns an error if a thread cannot be created.
fn thread_pool(parameters: u64) -> Result<ThreadPool, Error> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = usize::try_from(parameters / PARAMETERS_PER_THREAD).unwrap_or(usize::MAX);
    ThreadPoolBuilder::new()
        .num_threads(threads.clamp(1, cores))
        .thread_name(|_| "model".to_owned())
        .build()
        .map_err(|error| Error::Compute(error.to_string()))
}

#[cfg(test)]
#[path = "../../../../tests/embedded/tiny_model.rs"]
#[expect(dead_code, reason = "the black-box tests change it, this one does not")]
mod tiny;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::gguf;
    use super::tiny::TinyModel;
    use super::*;

    #[test]
    fn logits_do_not_depend_on_the_batch_size() {
        let bytes = TinyModel::new().bytes();
        let header = gguf::read_header(&mut Cursor::new(&bytes), bytes.len() as u64).unwrap();
        let hyperparameters = Hyperparameters::read(&header, "llama").unwrap();
        let mut input = Cursor::new(&bytes);
        let mut decoder =
            Decoder::load("tiny", &header, &hyperparameters, 258, 600, &mut input).unwrap();
        let tokens: Vec<u32> = (0..600).map(|n| n * n % 251).collect();
        for length in [2, 255, 256, 257, 511, 513, 600] {
            let tokens = &tokens[..length];
            let expected = decoder.logits(tokens, 0).unwrap();
            for batch in [1, 7, 256] {
                let mut logits = Vec::new();
                for (index, piece) in tokens.chunks(batch).enumerate() {
                    logits = decoder.logits(piece, index * batch).unwrap();
                }
                let differences = expected.iter().zip(&logits).map(|(a, b)| (a - b).abs());
                let max = differences.fold(0.0, f32::max);
                assert!(max < 1e-3, "{length} in {batch}: {max}");
            }
        }
    }
}
