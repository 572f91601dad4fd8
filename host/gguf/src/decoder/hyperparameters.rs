//! The hyperparameters of a model, read from its metadata. Models with features that the decoder
//! does not compute as llama.cpp does are rejected with the name of the feature.

use super::super::header::{Header, MetadataValue};
use super::super::tokenizer::MetadataError;

/// Maximum number of layers, far above that of real models. It bounds the work that a hostile
/// file can cause.
const LAYERS_MAX: usize = 1024;

/// The differences between the supported architectures.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArchitectureTraits {
    /// True if RoPE rotates the pairs (2i, 2i+1) rather than (i, i+n/2).
    pub(super) interleaved_rope: bool,
    /// True if queries and keys are normalized per head.
    pub(super) qk_norm: bool,
}

/// Returns the traits of an architecture, or `None` if it is not supported.
fn architecture_traits(architecture: &str) -> Option<ArchitectureTraits> {
    let (interleaved, head_norms) = match architecture {
        "llama" => (true, false),
        "qwen2" => (false, false),
        "qwen3" => (false, true),
        _ => return None,
    };
    Some(ArchitectureTraits {
        interleaved_rope: interleaved,
        qk_norm: head_norms,
    })
}

/// The hyperparameters of a model.
#[derive(Clone, Debug)]
pub(in super::super) struct Hyperparameters {
    pub(super) traits: ArchitectureTraits,
    pub(super) layer_count: usize,
    pub(super) embedding_length: usize,
    pub(super) feed_forward_length: usize,
    pub(super) head_count: usize,
    /// Number of key and value heads; several query heads share one.
    pub(super) kv_head_count: usize,
    pub(super) head_size: usize,
    /// Epsilon of the RMS norms.
    pub(super) epsilon: f32,
    pub(super) rope_base: f64,
    /// Factor by which positions are multiplied.
    pub(super) rope_scale: f64,
}

impl Hyperparameters {
    /// Reads and checks the hyperparameters.
    ///
    /// # Errors
    /// Returns an error if a value is missing or invalid, or if the model needs a feature that is
    /// not supported.
    pub(in super::super) fn read(
        header: &Header,
        architecture: &str,
    ) -> Result<Self, MetadataError> {
        let traits = architecture_traits(architecture).ok_or_else(|| {
            MetadataError::Unsupported(format!("the architecture `{architecture}`"))
        })?;
        let key = |name: &str| format!("{architecture}.{name}");
        let size = |name: &str| {
            let key = key(name);
            match header.metadata.get(&key) {
                Some(MetadataValue::Integers(_)) => Err(MetadataError::Unsupported(format!(
                    "layers of different sizes (`{key}`)"
                ))),
                None => Ok(None),
                Some(_) => match header.unsigned(&key).map(usize::try_from) {
                    Some(Ok(size)) if (1..1 << 24).contains(&size) => Ok(Some(size)),
                    _ => Err(MetadataError::Invalid(format!(
                        "`{key}` is not a valid size"
                    ))),
                },
            }
        };
        let required_size = |name: &str| {
            size(name)?.ok_or_else(|| MetadataError::Invalid(format!("`{}` is missing", key(name))))
        };
        let layer_count = required_size("block_count")?;
        let embedding_length = required_size("embedding_length")?;
        let head_count = required_size("attention.head_count")?;
        let kv_head_count = size("attention.head_count_kv")?.unwrap_or(head_count);
        let head_size = size("attention.key_length")?.unwrap_or(embedding_length / head_count);
        let invalid = |problem: &str| Err(MetadataError::Invalid(problem.into()));
        if layer_count > LAYERS_MAX {
            return invalid("too many layers");
        }
        if !head_count.is_multiple_of(kv_head_count) || head_count > 1 << 12 {
            return invalid("invalid number of attention heads");
        }
        if head_size == 0 || !head_size.is_multiple_of(2) || head_size > 1 << 12 {
            return invalid("invalid size of attention heads");
        }
        if size("attention.value_length")?.unwrap_or(head_size) != head_size {
            return Err(MetadataError::Unsupported(
                "keys and values of different sizes".into(),
            ));
        }
        if size("rope.dimension_count")?.unwrap_or(head_size) != head_size {
            return Err(MetadataError::Unsupported(
                "RoPE on a part of each head".into(),
            ));
        }
        let experts = header.unsigned(&key("expert_count")).unwrap_or(0);
        if experts > 0 {
            return Err(MetadataError::Unsupported(format!(
                "mixtures of experts ({experts})"
            )));
        }
        let epsilon = header.float(&key("attention.layer_norm_rms_epsilon"));
        let Some(epsilon) = epsilon.filter(|epsilon| (0.0..1.0).contains(epsilon)) else {
            return invalid("`attention.layer_norm_rms_epsilon` is missing or invalid");
        };
        let rope_base = header.float(&key("rope.freq_base")).unwrap_or(10_000.0);
        if !(rope_base.is_finite() && rope_base > 0.0) {
            return invalid("`rope.freq_base` is invalid");
        }
        Ok(Self {
            traits,
            layer_count,
            embedding_length,
            feed_forward_length: required_size("feed_forward_length")?,
            head_count,
            kv_head_count,
            head_size,
            epsilon: epsilon as f32,
            rope_base,
            rope_scale: rope_scale(header, architecture)?,
        })
    }

    /// Returns the memory in bytes of the keys and values of one token, as f32.
    pub(in super::super) fn kv_cache_bytes_per_token(&self) -> u64 {
        (2 * self.layer_count * self.kv_head_count * self.head_size * size_of::<f32>()) as u64
    }
}

/// Returns the factor by which positions are scaled, for models whose context is longer than
/// that of their training. Only linear scaling is supported.
fn rope_scale(header: &Header, architecture: &str) -> Result<f64, MetadataError> {
    let scaling_type = header.string(&format!("{architecture}.rope.scaling.type"));
    match scaling_type {
        Some("none") => return Ok(1.0),
        None | Some("linear") => {}
        Some(other) => {
            return Err(MetadataError::Unsupported(format!(
                "RoPE scaling `{other}`"
            )));
        }
    }
    let factor = ["rope.scaling.factor", "rope.scale_linear"]
        .iter()
        .find_map(|name| header.float(&format!("{architecture}.{name}")));
    match factor {
        // llama.cpp treats a factor of 0 as missing.
        None | Some(0.0) => Ok(1.0),
        Some(factor) if factor.is_finite() && factor > 0.0 => Ok(1.0 / factor),
        Some(factor) => Err(MetadataError::Invalid(format!(
            "invalid RoPE scaling factor {factor}"
        ))),
    }
}
