//! The sizes of a model, from its metadata; everything that would make our
//! computation another than llama.cpp's is refused here, by name.

use super::super::gguf::{Header, Value};
use super::super::tokenizer::Fault;

/// No real model comes near; a hostile one cannot make us loop for long.
const LAYERS_MAX: usize = 1024;

/// What an architecture does differently from the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    /// Rotation turns neighbours (2i, 2i+1) rather than halves (i, i+n/2).
    pub(super) interleaved: bool,
    /// Queries and keys are normalised per head.
    pub(super) head_norms: bool,
}

/// What is particular about an architecture that we know.
fn traits(architecture: &str) -> Option<Traits> {
    let (interleaved, head_norms) = match architecture {
        "llama" => (true, false),
        "qwen2" => (false, false),
        "qwen3" => (false, true),
        _ => return None,
    };
    Some(Traits {
        interleaved,
        head_norms,
    })
}

/// The sizes of a model.
#[derive(Clone, Debug)]
pub(in super::super) struct Shape {
    pub(super) traits: Traits,
    pub(super) layers: usize,
    pub(super) embedding: usize,
    pub(super) feed_forward: usize,
    pub(super) heads: usize,
    /// Heads of keys and values; several query heads share one.
    pub(super) kv_heads: usize,
    pub(super) head: usize,
    pub(super) epsilon: f32,
    pub(super) rope_base: f64,
    /// What positions are multiplied by.
    pub(super) rope_scale: f64,
}

impl Shape {
    pub(in super::super) fn read(header: &Header, architecture: &str) -> Result<Self, Fault> {
        let traits = traits(architecture)
            .ok_or_else(|| Fault::Feature(format!("the architecture `{architecture}`")))?;
        let key = |name: &str| format!("{architecture}.{name}");
        let size = |name: &str| {
            let key = key(name);
            match header.metadata.get(&key) {
                Some(Value::Integers(_)) => Err(Fault::Feature(format!(
                    "layers of different sizes (`{key}`)"
                ))),
                None => Ok(None),
                Some(_) => match header.unsigned(&key).map(usize::try_from) {
                    Some(Ok(size)) if (1..1 << 24).contains(&size) => Ok(Some(size)),
                    _ => Err(Fault::Broken(format!("`{key}` is no usable size"))),
                },
            }
        };
        let must = |name: &str| {
            size(name)?.ok_or_else(|| Fault::Broken(format!("`{}` is missing", key(name))))
        };
        let layers = must("block_count")?;
        let embedding = must("embedding_length")?;
        let heads = must("attention.head_count")?;
        let kv_heads = size("attention.head_count_kv")?.unwrap_or(heads);
        let head = size("attention.key_length")?.unwrap_or(embedding / heads);
        let wrong = |what: &str| Err(Fault::Broken(what.into()));
        if layers > LAYERS_MAX {
            return wrong("it has too many layers");
        }
        if !heads.is_multiple_of(kv_heads) || heads > 1 << 12 {
            return wrong("its numbers of heads do not fit together");
        }
        if head == 0 || !head.is_multiple_of(2) || head > 1 << 12 {
            return wrong("its heads have no usable size");
        }
        if size("attention.value_length")?.unwrap_or(head) != head {
            return Err(Fault::Feature("values of another size than keys".into()));
        }
        if size("rope.dimension_count")?.unwrap_or(head) != head {
            return Err(Fault::Feature("rotation of a part of each head".into()));
        }
        let experts = header.unsigned(&key("expert_count")).unwrap_or(0);
        if experts > 0 {
            return Err(Fault::Feature(format!("mixtures of experts ({experts})")));
        }
        let epsilon = header.float(&key("attention.layer_norm_rms_epsilon"));
        let Some(epsilon) = epsilon.filter(|epsilon| (0.0..1.0).contains(epsilon)) else {
            return wrong("`attention.layer_norm_rms_epsilon` is missing or unusable");
        };
        let rope_base = header.float(&key("rope.freq_base")).unwrap_or(10_000.0);
        if !(rope_base.is_finite() && rope_base > 0.0) {
            return wrong("`rope.freq_base` is unusable");
        }
        Ok(Self {
            traits,
            layers,
            embedding,
            feed_forward: must("feed_forward_length")?,
            heads,
            kv_heads,
            head,
            epsilon: epsilon as f32,
            rope_base,
            rope_scale: rope_scale(header, architecture)?,
        })
    }

    /// What one token of context takes in memory: keys and values, as f32.
    pub(in super::super) fn cache_bytes(&self) -> u64 {
        (2 * self.layers * self.kv_heads * self.head * size_of::<f32>()) as u64
    }
}

/// Positions of models with a longer context than they were trained with are
/// scaled; of the ways to do that only the linear one is computed here.
fn rope_scale(header: &Header, architecture: &str) -> Result<f64, Fault> {
    let kind = header.text(&format!("{architecture}.rope.scaling.type"));
    match kind {
        Some("none") => return Ok(1.0),
        None | Some("linear") => {}
        Some(other) => return Err(Fault::Feature(format!("rope scaling `{other}`"))),
    }
    let factor = ["rope.scaling.factor", "rope.scale_linear"]
        .iter()
        .find_map(|name| header.float(&format!("{architecture}.{name}")));
    match factor {
        // llama.cpp takes a factor of 0 for an absent one.
        None | Some(0.0) => Ok(1.0),
        Some(factor) if factor.is_finite() && factor > 0.0 => Ok(1.0 / factor),
        Some(factor) => Err(Fault::Broken(format!("a rope scaling factor of {factor}"))),
    }
}
