//! The vision tower's configuration, from `config.json` or from an mmproj file's metadata.

use candle_core::quantized::gguf_file::Value as GgufValue;
use serde::Deserialize;
use serde_json::Value;

use super::gguf::{Keys, Metadata};
use super::{ConfigError, check_layers, check_sizes};

/// The vision tower of a Gemma 3 model, a `SigLIP` encoder, and what its output is made into.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Attention heads.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Width and height of a view, in pixels.
    pub side: usize,
    /// Width and height of a patch, in pixels.
    pub patch: usize,
    /// Added to the variance in every norm.
    pub norm_eps: f32,
    /// Soft tokens that a view becomes.
    pub tokens: usize,
}

/// Largest view, in pixels of a side: bounds what a configuration may ask for.
const SIDE_MAX: usize = 4096;

impl VisionConfig {
    /// Patches in a row of a view.
    pub fn patches_a_side(&self) -> usize {
        self.side / self.patch
    }

    /// Patches of a view.
    pub fn patches(&self) -> usize {
        self.patches_a_side() * self.patches_a_side()
    }

    /// Patches that are averaged into one soft token, of a row.
    pub fn pool(&self) -> usize {
        self.patches_a_side() / self.tokens.isqrt()
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    fn check(self) -> Result<Self, ConfigError> {
        check_sizes(&[
            ("vision hidden size", self.hidden),
            ("vision feed-forward size", self.ffn),
            ("vision heads", self.heads),
            ("vision layers", self.layers),
            ("patch size", self.patch),
            ("tokens of an image", self.tokens),
        ])?;
        check_layers(self.layers)?;
        if !self.hidden.is_multiple_of(self.heads) {
            let message = format!("{} do not divide a width of {}", self.heads, self.hidden);
            return Err(ConfigError::invalid("vision heads", &message));
        }
        if self.side > SIDE_MAX || self.side < self.patch {
            let message = format!("is {}, it must be {} to {SIDE_MAX}", self.side, self.patch);
            return Err(ConfigError::invalid("image size", &message));
        }
        let tokens_a_side = self.tokens.isqrt();
        let square = tokens_a_side * tokens_a_side == self.tokens;
        if !square || !self.patches_a_side().is_multiple_of(tokens_a_side) {
            let message = format!(
                "is {}, which no square of {} patches a side is averaged into",
                self.tokens,
                self.patches_a_side()
            );
            return Err(ConfigError::invalid("tokens of an image", &message));
        }
        Ok(self)
    }
}

/// The keys of `vision_config`; defaults are those of `transformers` `SiglipVisionConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct HfVision {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    layer_norm_eps: f32,
    hidden_act: String,
}

impl Default for HfVision {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 16,
            layer_norm_eps: 1e-6,
            hidden_act: "gelu_pytorch_tanh".to_owned(),
        }
    }
}

/// Soft tokens of a view where `config.json` does not say.
const TOKENS: usize = 256;

/// Reads a `config.json`; `None` for a model of text only.
pub(crate) fn from_hf(json: &Value) -> Result<Option<VisionConfig>, ConfigError> {
    let Some(vision) = json.get("vision_config").filter(|vision| !vision.is_null()) else {
        return Ok(None);
    };
    let parsed = HfVision::deserialize(vision).map_err(|error| {
        ConfigError::invalid("vision_config", &format!("is not understood: {error}"))
    })?;
    if parsed.hidden_act != "gelu_pytorch_tanh" {
        let message = format!("`{}` is not supported", parsed.hidden_act);
        return Err(ConfigError::invalid("vision_config.hidden_act", &message));
    }
    if parsed.num_channels != 3 {
        let message = format!("is {}, it must be 3", parsed.num_channels);
        return Err(ConfigError::invalid("vision_config.num_channels", &message));
    }
    let tokens = match json
        .get("mm_tokens_per_image")
        .filter(|value| !value.is_null())
    {
        None => TOKENS,
        Some(value) => value
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| ConfigError::invalid("mm_tokens_per_image", "is not a count"))?,
    };
    VisionConfig {
        hidden: parsed.hidden_size,
        ffn: parsed.intermediate_size,
        heads: parsed.num_attention_heads,
        layers: parsed.num_hidden_layers,
        side: parsed.image_size,
        patch: parsed.patch_size,
        norm_eps: parsed.layer_norm_eps,
        tokens,
    }
    .check()
    .map(Some)
}

/// A vision tower as an mmproj file describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mmproj {
    pub vision: VisionConfig,
    /// Width of the text model it was made for.
    pub text_hidden: usize,
}

/// Patches averaged into a soft token, of a row, where the file does not say.
const POOL: usize = 4;
/// What the tower expects pixels to be normalised by.
const MEAN_AND_DEVIATION: f32 = 0.5;

/// Reads an mmproj file's metadata.
pub(crate) fn from_mmproj(metadata: &Metadata) -> Result<Mmproj, ConfigError> {
    let text = |key: &str| metadata.get(key).and_then(|value| value.to_string().ok());
    match text("general.architecture").map(String::as_str) {
        Some("clip") => {}
        other => {
            return Err(ConfigError::UnsupportedArchitecture {
                name: other.unwrap_or_default().to_owned(),
            });
        }
    }
    let projector = text("clip.projector_type").or_else(|| text("clip.vision.projector_type"));
    if projector.map(String::as_str) != Some("gemma3") {
        let named = projector.cloned().unwrap_or_default();
        let message = format!("is `{named}`, supported is `gemma3`");
        return Err(ConfigError::invalid("clip.projector_type", &message));
    }
    for key in ["clip.vision.image_mean", "clip.vision.image_std"] {
        check_normalisation(key, metadata.get(key))?;
    }
    let keys = Keys::new("clip.vision", metadata);
    let (side, patch) = (keys.count("image_size")?, keys.count("patch_size")?);
    let pool = keys.count_or("projector.scale_factor", POOL)?;
    let tokens_a_side = side / patch.max(1) / pool.max(1);
    let vision = VisionConfig {
        hidden: keys.count("embedding_length")?,
        ffn: keys.count("feed_forward_length")?,
        heads: keys.count("attention.head_count")?,
        layers: keys.count("block_count")?,
        side,
        patch,
        norm_eps: keys.float_or("attention.layer_norm_epsilon", 1e-6)?,
        tokens: tokens_a_side.saturating_mul(tokens_a_side),
    };
    Ok(Mmproj {
        vision: vision.check()?,
        text_hidden: keys.count("projection_dim")?,
    })
}

fn check_normalisation(key: &str, value: Option<&GgufValue>) -> Result<(), ConfigError> {
    let Some(GgufValue::Array(values)) = value else {
        return Ok(());
    };
    let usual = |value: &GgufValue| {
        value
            .to_f32()
            .is_ok_and(|value| (value - MEAN_AND_DEVIATION).abs() < 1e-6)
    };
    if values.iter().all(usual) {
        Ok(())
    } else {
        Err(ConfigError::invalid(key, "is not 0.5 for every channel"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn published_4b_config_relies_on_defaults() {
        let config = from_hf(&json!({
            "model_type": "gemma3", "mm_tokens_per_image": 256,
            "vision_config": {
                "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304,
                "model_type": "siglip_vision_model", "num_attention_heads": 16,
                "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": false
            }
        }));
        let config = config.unwrap().unwrap();
        assert_eq!(
            (config.patches(), config.pool(), config.head_dim()),
            (4096, 4, 72)
        );
        assert_eq!(from_hf(&json!({"model_type": "gemma3"})).unwrap(), None);
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let message = |tokens: u32, heads: u32, side: u32| {
            from_hf(&json!({
                "mm_tokens_per_image": tokens,
                "vision_config": {
                    "hidden_size": 24, "num_attention_heads": heads, "image_size": side,
                    "patch_size": 7,
                }
            }))
            .unwrap_err()
            .to_string()
        };
        assert_eq!(
            message(5, 2, 28),
            "`tokens of an image` is 5, which no square of 4 patches a side is averaged into"
        );
        assert_eq!(
            message(4, 5, 28),
            "`vision heads` 5 do not divide a width of 24"
        );
        assert_eq!(
            message(4, 2, 5000),
            "`image size` is 5000, it must be 7 to 4096"
        );
    }
}
