//! Hugging Face `config.json`, as transformers 4 and 5 write it.
//!
//! Defaults are those of `transformers` `Gemma3TextConfig` and `Gemma2Config`; published checkpoints
//! rely on them.

use super::{
    ConfigError, GemmaConfig, LayerConfig, LayerKind, RopeConfig, check_layers, kind_by_pattern,
};
use crate::batch::TokenId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The keys of a text model's configuration that matter here.
#[derive(Deserialize)]
#[serde(default)]
struct TextConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    hidden_activation: String,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    query_pre_attn_scalar: f32,
    sliding_window: Option<usize>,
    sliding_window_pattern: usize,
    layer_types: Option<Vec<String>>,
    /// transformers 5.
    rope_parameters: Option<RopeParameters>,
    /// transformers 4.
    rope_theta: f32,
    rope_local_base_freq: f32,
    rope_scaling: Option<Rope>,
    attn_logit_softcapping: Option<f32>,
    final_logit_softcapping: Option<f32>,
    use_bidirectional_attention: Option<bool>,
    attention_bias: bool,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 262_208,
            hidden_size: 2304,
            intermediate_size: 9216,
            num_hidden_layers: 26,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            head_dim: 256,
            hidden_activation: "gelu_pytorch_tanh".to_owned(),
            max_position_embeddings: 131_072,
            rms_norm_eps: 1e-6,
            query_pre_attn_scalar: 256.0,
            sliding_window: Some(4096),
            sliding_window_pattern: 6,
            layer_types: None,
            rope_parameters: None,
            rope_theta: 1_000_000.0,
            rope_local_base_freq: 10_000.0,
            rope_scaling: None,
            attn_logit_softcapping: None,
            final_logit_softcapping: None,
            use_bidirectional_attention: None,
            attention_bias: false,
        }
    }
}

#[derive(Deserialize)]
struct RopeParameters {
    full_attention: Option<Rope>,
    sliding_attention: Option<Rope>,
    /// Where all layers are alike.
    #[serde(flatten)]
    all: Rope,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the file's names")]
struct Rope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f32>,
}

impl Rope {
    fn config(&self, base: f32) -> Result<RopeConfig, ConfigError> {
        let base = self.rope_theta.unwrap_or(base);
        match self.rope_type.as_deref() {
            None | Some("default") => Ok(RopeConfig { base, factor: 1.0 }),
            Some("linear") => match self.factor {
                Some(factor) if factor >= 1.0 => Ok(RopeConfig { base, factor }),
                _ => Err(ConfigError::invalid(
                    "rope factor",
                    "is not a number of at least 1",
                )),
            },
            Some(other) => Err(ConfigError::invalid(
                "rope_type",
                &format!("`{other}` is not supported"),
            )),
        }
    }
}

/// Reads a `config.json`: a text model's, or a multimodal model's with its `text_config`.
pub(crate) fn from_hf(json: &Value) -> Result<GemmaConfig, ConfigError> {
    let model_type = json
        .get("model_type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let text = match model_type {
        "gemma2" | "gemma3_text" => json,
        "gemma3" | "shieldgemma2" => {
            json.get("text_config")
                .ok_or_else(|| ConfigError::Missing {
                    key: "text_config".to_owned(),
                })?
        }
        "" => {
            return Err(ConfigError::Missing {
                key: "model_type".to_owned(),
            });
        }
        other => {
            return Err(ConfigError::UnsupportedArchitecture {
                name: other.to_owned(),
            });
        }
    };
    let second = model_type == "gemma2";
    let parsed = if second {
        serde_json::from_value(over_gemma2(text))
    } else {
        TextConfig::deserialize(text)
    };
    let parsed = parsed.map_err(|error| {
        ConfigError::invalid("config.json", &format!("is not understood: {error}"))
    })?;
    parsed.refuse_variants()?;
    let (rope_global, mut rope_local) = parsed.ropes()?;
    if second {
        rope_local = rope_global;
    }
    GemmaConfig {
        hidden: parsed.hidden_size,
        ffn: parsed.intermediate_size,
        heads: parsed.num_attention_heads,
        layers: parsed.layers()?,
        vocab: Some(parsed.vocab_size),
        context_tokens_max: parsed.max_position_embeddings,
        window: parsed
            .sliding_window
            .unwrap_or(parsed.max_position_embeddings),
        rope_global,
        rope_local,
        query_scale: parsed.query_pre_attn_scalar.powf(-0.5),
        head_norms: !second,
        attention_softcap: parsed.attn_logit_softcapping,
        logit_softcap: parsed.final_logit_softcapping,
        rms_eps: parsed.rms_norm_eps,
        eos: eos_tokens(json)
            .or_else(|| eos_tokens(text))
            .unwrap_or_default(),
    }
    .check()
}

/// A Gemma 2's keys over the defaults that are not Gemma 3's.
fn over_gemma2(text: &Value) -> Value {
    let mut all = Map::new();
    let defaults = json!({
        "vocab_size": 256_000, "max_position_embeddings": 8192, "rope_theta": 10_000.0,
        "sliding_window_pattern": 2,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    });
    for keys in [&defaults, text] {
        all.extend(
            keys.as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
    }
    Value::Object(all)
}

/// `eos_token_id` of a configuration: one id or a list.
pub(crate) fn eos_tokens(json: &Value) -> Option<Vec<TokenId>> {
    let id = |value: &Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
    match json.get("eos_token_id")? {
        Value::Array(ids) => ids.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    }
}

impl TextConfig {
    fn layers(&self) -> Result<Vec<LayerConfig>, ConfigError> {
        check_layers(self.num_hidden_layers)?;
        let kinds: Vec<_> = match &self.layer_types {
            Some(types) => {
                if types.len() != self.num_hidden_layers {
                    let message =
                        format!("names {} layers of {}", types.len(), self.num_hidden_layers);
                    return Err(ConfigError::invalid("layer_types", &message));
                }
                types
                    .iter()
                    .map(|name| kind_named(name))
                    .collect::<Result<_, _>>()?
            }
            None if self.sliding_window_pattern == 0 => {
                return Err(ConfigError::invalid("sliding_window_pattern", "is 0"));
            }
            None => (0..self.num_hidden_layers)
                .map(|layer| kind_by_pattern(layer, self.sliding_window_pattern))
                .collect(),
        };
        let (head_dim, kv_heads) = (self.head_dim, self.num_key_value_heads);
        Ok(kinds
            .into_iter()
            .map(|kind| LayerConfig {
                kind,
                head_dim,
                kv_heads,
            })
            .collect())
    }

    fn ropes(&self) -> Result<(RopeConfig, RopeConfig), ConfigError> {
        let plain = |base| RopeConfig { base, factor: 1.0 };
        let read = |rope: Option<&Rope>, base| match rope {
            Some(rope) => rope.config(base),
            None => Ok(plain(base)),
        };
        match &self.rope_parameters {
            Some(parameters) => Ok((
                read(
                    Some(
                        parameters
                            .full_attention
                            .as_ref()
                            .unwrap_or(&parameters.all),
                    ),
                    self.rope_theta,
                )?,
                read(
                    Some(
                        parameters
                            .sliding_attention
                            .as_ref()
                            .unwrap_or(&parameters.all),
                    ),
                    self.rope_local_base_freq,
                )?,
            )),
            None => Ok((
                read(self.rope_scaling.as_ref(), self.rope_theta)?,
                plain(self.rope_local_base_freq),
            )),
        }
    }

    /// Options of the family that no checkpoint uses.
    fn refuse_variants(&self) -> Result<(), ConfigError> {
        if self.hidden_activation != "gelu_pytorch_tanh" {
            let message = format!("`{}` is not supported", self.hidden_activation);
            return Err(ConfigError::invalid("hidden_activation", &message));
        }
        for (key, used) in [
            (
                "use_bidirectional_attention",
                self.use_bidirectional_attention == Some(true),
            ),
            ("attention_bias", self.attention_bias),
        ] {
            if used {
                return Err(ConfigError::invalid(key, "is not supported"));
            }
        }
        Ok(())
    }
}

fn kind_named(name: &str) -> Result<LayerKind, ConfigError> {
    match name {
        "full_attention" => Ok(LayerKind::Global),
        "sliding_attention" => Ok(LayerKind::Local),
        other => Err(ConfigError::invalid(
            "layer_types",
            &format!("`{other}` is not supported"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn published_4b_config_relies_on_defaults() {
        let config = from_hf(&json!({
            "model_type": "gemma3", "eos_token_id": [1, 106],
            "text_config": {
                "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                "num_hidden_layers": 34, "sliding_window": 1024,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"}
            }
        }))
        .unwrap();
        assert_eq!(
            (config.heads, config.layers[0].kv_heads, config.window),
            (8, 4, 1024)
        );
        assert_eq!(config.layers_of(LayerKind::Global).count(), 5);
        assert_eq!(
            config.rope_global,
            RopeConfig {
                base: 1e6,
                factor: 8.0
            }
        );
        assert_eq!(
            config.rope_local,
            RopeConfig {
                base: 1e4,
                factor: 1.0
            }
        );
        assert!((config.query_scale - 0.0625).abs() < 1e-9);
        assert_eq!(config.eos, [1, 106]);
    }

    #[test]
    fn both_styles_of_rope_and_layers_agree() {
        let old = json!({
            "model_type": "gemma3_text", "num_hidden_layers": 4, "sliding_window_pattern": 2,
            "rope_theta": 5e5, "rope_local_base_freq": 2e4,
            "rope_scaling": {"factor": 8.0, "type": "linear"}, "query_pre_attn_scalar": 168
        });
        let new = json!({
            "model_type": "gemma3_text", "num_hidden_layers": 4, "query_pre_attn_scalar": 168,
            "layer_types": ["sliding_attention", "full_attention",
                            "sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}
            }
        });
        assert_eq!(from_hf(&old).unwrap(), from_hf(&new).unwrap());
    }

    #[test]
    fn published_gemma_2_configs_rely_on_defaults() {
        let config = from_hf(&json!({
            "model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336,
            "num_attention_heads": 16, "num_hidden_layers": 42, "num_key_value_heads": 8,
            "query_pre_attn_scalar": 256, "eos_token_id": 1
        }))
        .unwrap();
        let plain = RopeConfig {
            base: 1e4,
            factor: 1.0,
        };
        assert_eq!((config.rope_global, config.rope_local), (plain, plain));
        assert_eq!((config.window, config.context_tokens_max), (4096, 8192));
        assert_eq!(config.layers_of(LayerKind::Global).count(), 21);
        assert_eq!(config.layers[0].kind, LayerKind::Local);
        assert!(!config.head_norms);
        assert_eq!(
            (config.attention_softcap, config.logit_softcap),
            (Some(50.0), Some(30.0))
        );
        let new = from_hf(&json!({
            "model_type": "gemma2", "final_logit_softcapping": null,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}
        }));
        let new = new.unwrap();
        assert_eq!(new.logit_softcap, None);
        assert!((new.rope_local.base - 5e5).abs() < 1.0);
    }

    #[test]
    fn others_are_refused_by_name() {
        let message = |json| from_hf(&json).unwrap_err().to_string();
        assert_eq!(
            message(json!({"model_type": "llama"})),
            "architecture `llama` is not supported, supported are Gemma 2 and Gemma 3"
        );
        assert_eq!(message(json!({})), "`model_type` is missing");
        assert_eq!(
            message(json!({"model_type": "gemma3_text", "attention_bias": true})),
            "`attention_bias` is not supported"
        );
        assert_eq!(
            message(json!({"model_type": "gemma2", "final_logit_softcapping": 0.0})),
            "`logit soft cap` is not above 0"
        );
    }
}
