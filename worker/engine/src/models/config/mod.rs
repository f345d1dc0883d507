//! A model's configuration, from Hugging Face's `config.json` or from GGUF metadata.

mod gguf;
mod hf;
mod vision;

pub(crate) use gguf::{Metadata, from_gguf};
pub(crate) use hf::{eos_tokens, from_hf};
pub use vision::VisionConfig;
pub(crate) use vision::{Mmproj, from_hf as vision_from_hf, from_mmproj};

use crate::batch::TokenId;

/// Layers that a model may have; the largest Gemma has 62.
const LAYERS_MAX: usize = 1_024;
/// Largest width, count or length in a configuration: what is computed of a few of them is a number still.
const SIZE_MAX: usize = 1 << 24;

/// Refuses sizes that no model has.
fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), ConfigError> {
    for (key, size) in sizes {
        if *size == 0 {
            return Err(ConfigError::invalid(key, "is 0"));
        }
        if *size > SIZE_MAX {
            let message = format!("is {size}, the limit is {SIZE_MAX}");
            return Err(ConfigError::invalid(key, &message));
        }
    }
    Ok(())
}

/// Refuses more layers than any model has.
fn check_layers(count: usize) -> Result<(), ConfigError> {
    if count <= LAYERS_MAX {
        return Ok(());
    }
    let message = format!("is {count}, the limit is {LAYERS_MAX}");
    Err(ConfigError::invalid("number of layers", &message))
}

/// Which keys a layer's queries see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// All earlier positions.
    Global,
    /// The last [`GemmaConfig::window`] positions.
    Local,
}

/// Rotary embedding of one kind of layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wave lengths.
    pub base: f32,
    /// Positions are divided by this.
    pub factor: f32,
}

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerConfig {
    /// Which keys it sees.
    pub kind: LayerKind,
    /// Width of a head.
    pub head_dim: usize,
    /// Key and value heads.
    pub kv_heads: usize,
}

/// The text part of a Gemma 2 or Gemma 3 model.
#[derive(Debug, Clone, PartialEq)]
pub struct GemmaConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// The layers in order.
    pub layers: Vec<LayerConfig>,
    /// Entries of the vocabulary; `None` if only the embedding table tells.
    pub vocab: Option<usize>,
    /// Longest sequence, in tokens.
    pub context_tokens_max: usize,
    /// Keys that a [`LayerKind::Local`] layer sees, the query's own included.
    pub window: usize,
    /// Rotary embedding of global layers.
    pub rope_global: RopeConfig,
    /// Rotary embedding of local layers.
    pub rope_local: RopeConfig,
    /// What attention scores are multiplied by.
    pub query_scale: f32,
    /// Whether query and key heads are normed, as in Gemma 3.
    pub head_norms: bool,
    /// What attention scores stay below, as in Gemma 2; see [`crate::ops::softcap`].
    pub attention_softcap: Option<f32>,
    /// What logits stay below, likewise.
    pub logit_softcap: Option<f32>,
    /// Added to the mean square in every norm.
    pub rms_eps: f32,
    /// Tokens that end an answer, where the source names them.
    pub eos: Vec<TokenId>,
}

impl GemmaConfig {
    /// The layers of a kind, with their places in the stack.
    pub fn layers_of(&self, kind: LayerKind) -> impl Iterator<Item = &LayerConfig> {
        self.layers.iter().filter(move |layer| layer.kind == kind)
    }

    /// Rotary embedding of a kind of layer.
    pub fn rope(&self, kind: LayerKind) -> RopeConfig {
        match kind {
            LayerKind::Global => self.rope_global,
            LayerKind::Local => self.rope_local,
        }
    }

    fn check(self) -> Result<Self, ConfigError> {
        check_sizes(&[
            ("hidden size", self.hidden),
            ("feed-forward size", self.ffn),
            ("number of heads", self.heads),
            ("number of layers", self.layers.len()),
            ("context length", self.context_tokens_max),
            ("sliding window", self.window),
            ("vocabulary size", self.vocab.unwrap_or(1)),
        ])?;
        for (key, cap) in [
            ("attention soft cap", self.attention_softcap),
            ("logit soft cap", self.logit_softcap),
        ] {
            if cap.is_some_and(|cap| !(cap > 0.0 && cap.is_finite())) {
                return Err(ConfigError::invalid(key, "is not above 0"));
            }
        }
        for layer in &self.layers {
            check_sizes(&[
                ("width of a head", layer.head_dim),
                ("number of key heads", layer.kv_heads),
            ])?;
            let odd = !layer.head_dim.is_multiple_of(2);
            if odd || !self.heads.is_multiple_of(layer.kv_heads) {
                return Err(ConfigError::Invalid {
                    key: "attention heads".to_owned(),
                    message: format!(
                        "{} query heads of {} over {} key heads",
                        self.heads, layer.head_dim, layer.kv_heads
                    ),
                });
            }
        }
        Ok(self)
    }
}

/// Every `pattern`-th layer is global.
fn kind_by_pattern(layer: usize, pattern: usize) -> LayerKind {
    if (layer + 1).is_multiple_of(pattern) {
        LayerKind::Global
    } else {
        LayerKind::Local
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Another model family.
    #[error("architecture `{name}` is not supported, supported are Gemma 2 and Gemma 3")]
    UnsupportedArchitecture {
        /// As the source names it.
        name: String,
    },
    /// A key that has no default is not there.
    #[error("`{key}` is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// A value that no model of the family has.
    #[error("`{key}` {message}")]
    Invalid {
        /// The key.
        key: String,
        /// What is wrong with its value.
        message: String,
    },
}

impl ConfigError {
    fn invalid(key: &str, message: &str) -> Self {
        Self::Invalid {
            key: key.to_owned(),
            message: message.to_owned(),
        }
    }
}
