//! GGUF metadata.
//!
//! Keys: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Files made before a key
//! existed rely on the defaults below, which are those of every published Gemma 2 or Gemma 3.

use super::{ConfigError, GemmaConfig, LayerConfig, RopeConfig, check_layers, kind_by_pattern};
use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;

/// What no key of a file states, or not of an old one.
struct Family {
    /// The architecture, which its keys begin with.
    name: &'static str,
    /// Every so many layers one is global.
    pattern: usize,
    rope_global: f32,
    rope_local: f32,
    /// Layers of the one model whose scores are scaled by `(hidden / heads)^-1/2`.
    layers_of_27b: usize,
    head_norms: bool,
    attention_softcap: Option<f32>,
    logit_softcap: Option<f32>,
    window: Option<usize>,
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "gemma2",
        pattern: 2,
        rope_global: 10_000.0,
        rope_local: 10_000.0,
        layers_of_27b: 46,
        head_norms: false,
        attention_softcap: Some(50.0),
        logit_softcap: Some(30.0),
        window: Some(4096),
    },
    Family {
        name: "gemma3",
        pattern: 6,
        rope_global: 1_000_000.0,
        rope_local: 10_000.0,
        layers_of_27b: 62,
        head_norms: true,
        attention_softcap: None,
        logit_softcap: None,
        window: None,
    },
];

/// Reads a GGUF file's metadata.
pub(crate) fn from_gguf(metadata: &Metadata) -> Result<GemmaConfig, ConfigError> {
    let Some(Ok(name)) = metadata.get("general.architecture").map(Value::to_string) else {
        return Err(ConfigError::Missing {
            key: "general.architecture".to_owned(),
        });
    };
    let Some(family) = FAMILIES.iter().find(|family| family.name == name) else {
        return Err(ConfigError::UnsupportedArchitecture { name: name.clone() });
    };
    let keys = Keys::new(family.name, metadata);
    let hidden = keys.count("embedding_length")?;
    let heads = keys.count("attention.head_count")?;
    let layers = keys.count("block_count")?;
    check_layers(layers)?;
    let head_dim = keys.count("attention.key_length")?;
    let kv_heads = keys.count("attention.head_count_kv")?;
    let pattern = keys
        .count_or("attention.sliding_window_pattern", family.pattern)?
        .max(1);
    let query_dim = if layers == family.layers_of_27b {
        hidden / heads.max(1)
    } else {
        head_dim
    };
    #[expect(clippy::cast_precision_loss, reason = "head widths are small")]
    let query_scale = (query_dim as f32).powf(-0.5);
    let window = "attention.sliding_window";
    let softcap =
        |key: &str, default: Option<f32>| default.map(|cap| keys.float_or(key, cap)).transpose();
    GemmaConfig {
        hidden,
        ffn: keys.count("feed_forward_length")?,
        heads,
        layers: (0..layers)
            .map(|layer| LayerConfig {
                kind: kind_by_pattern(layer, pattern),
                head_dim,
                kv_heads,
            })
            .collect(),
        vocab: None,
        context_tokens_max: keys.count("context_length")?,
        window: match family.window {
            Some(default) => keys.count_or(window, default)?,
            None => keys.count(window)?,
        },
        rope_global: RopeConfig {
            base: keys.float_or("rope.freq_base", family.rope_global)?,
            factor: keys.rope_factor()?,
        },
        rope_local: RopeConfig {
            base: keys.float_or("rope.freq_base_swa", family.rope_local)?,
            factor: 1.0,
        },
        query_scale,
        head_norms: family.head_norms,
        attention_softcap: softcap("attn_logit_softcapping", family.attention_softcap)?,
        logit_softcap: softcap("final_logit_softcapping", family.logit_softcap)?,
        rms_eps: keys.float_or("attention.layer_norm_rms_epsilon", 1e-6)?,
        eos: metadata
            .get("tokenizer.ggml.eos_token_id")
            .and_then(|id| id.to_u32().ok())
            .into_iter()
            .collect(),
    }
    .check()
}

/// Metadata of a GGUF file by key.
pub(crate) type Metadata = HashMap<String, Value>;

/// Metadata under a prefix.
pub(super) struct Keys<'a> {
    prefix: &'static str,
    metadata: &'a Metadata,
}

impl<'a> Keys<'a> {
    pub(super) fn new(prefix: &'static str, metadata: &'a Metadata) -> Self {
        Self { prefix, metadata }
    }

    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&self.name(key))
    }

    fn invalid(&self, key: &str, message: &str) -> ConfigError {
        ConfigError::invalid(&self.name(key), message)
    }

    pub(super) fn count(&self, key: &str) -> Result<usize, ConfigError> {
        let value = self.get(key).ok_or_else(|| ConfigError::Missing {
            key: self.name(key),
        })?;
        value
            .to_u64()
            .ok()
            .and_then(|value| usize::try_from(value).ok())
            .ok_or_else(|| self.invalid(key, "is not a count"))
    }

    pub(super) fn count_or(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        if self.get(key).is_some() {
            self.count(key)
        } else {
            Ok(default)
        }
    }

    pub(super) fn float_or(&self, key: &str, default: f32) -> Result<f32, ConfigError> {
        match self.get(key) {
            Some(value) => value
                .to_f32()
                .map_err(|_| self.invalid(key, "is not a 32-bit float")),
            None => Ok(default),
        }
    }

    fn rope_factor(&self) -> Result<f32, ConfigError> {
        match self.get("rope.scaling.type").map(Value::to_string) {
            None => Ok(1.0),
            Some(Ok(kind)) if kind == "none" => Ok(1.0),
            Some(Ok(kind)) if kind == "linear" => {
                let factor = self.float_or("rope.scaling.factor", 0.0)?;
                if factor >= 1.0 {
                    Ok(factor)
                } else {
                    Err(self.invalid("rope.scaling.factor", "is not a number of at least 1"))
                }
            }
            Some(_) => Err(self.invalid("rope.scaling.type", "is neither `none` nor `linear`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::LayerKind;
    use super::*;

    fn metadata(layers: u32, extra: &[(&str, Value)]) -> HashMap<String, Value> {
        let mut all: HashMap<String, Value> = [
            ("embedding_length", 5376),
            ("attention.head_count", 32),
            ("attention.head_count_kv", 16),
            ("attention.key_length", 128),
            ("block_count", layers),
            ("feed_forward_length", 21504),
            ("context_length", 131_072),
            ("attention.sliding_window", 1024),
        ]
        .map(|(key, value)| (format!("gemma3.{key}"), Value::U32(value)))
        .into();
        all.insert(
            "general.architecture".to_owned(),
            Value::String("gemma3".to_owned()),
        );
        all.extend(
            extra
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone())),
        );
        all
    }

    #[test]
    fn old_files_rely_on_defaults() {
        let config = from_gguf(&metadata(12, &[])).unwrap();
        assert_eq!(
            config.rope_local,
            RopeConfig {
                base: 10_000.0,
                factor: 1.0
            }
        );
        assert_eq!(
            config.rope_global,
            RopeConfig {
                base: 1e6,
                factor: 1.0
            }
        );
        assert_eq!(config.layers[5].kind, LayerKind::Global);
        assert_eq!(config.layers_of(LayerKind::Global).count(), 2);
        assert!((config.query_scale - 128_f32.powf(-0.5)).abs() < 1e-9);
    }

    #[test]
    fn gemma_2_has_its_own_defaults() {
        let second: HashMap<String, Value> = metadata(46, &[])
            .into_iter()
            .filter(|(key, _)| !key.ends_with("sliding_window"))
            .map(|(key, value)| (key.replace("gemma3.", "gemma2."), value))
            .chain([(
                "general.architecture".to_owned(),
                Value::String("gemma2".to_owned()),
            )])
            .collect();
        let config = from_gguf(&second).unwrap();
        assert_eq!(config.layers_of(LayerKind::Global).count(), 23);
        assert_eq!(config.window, 4096);
        assert_eq!(config.rope_global, config.rope_local);
        assert!(!config.head_norms);
        assert_eq!(
            (config.attention_softcap, config.logit_softcap),
            (Some(50.0), Some(30.0))
        );
        assert!((config.query_scale - 168_f32.powf(-0.5)).abs() < 1e-9);
    }

    #[test]
    fn scaling_and_the_27b_query_scale_are_read() {
        let linear = [
            (
                "gemma3.rope.scaling.type",
                Value::String("linear".to_owned()),
            ),
            ("gemma3.rope.scaling.factor", Value::F32(8.0)),
        ];
        let config = from_gguf(&metadata(62, &linear)).unwrap();
        assert!((config.rope_global.factor - 8.0).abs() < f32::EPSILON);
        assert!((config.query_scale - 168_f32.powf(-0.5)).abs() < 1e-9);
    }

    #[test]
    fn sizes_that_no_model_has_are_refused() {
        for (layers, key, size, said) in [
            (
                4_000_000_000,
                "embedding_length",
                64,
                "`number of layers` is 4000000000, the limit is 1024",
            ),
            (
                2,
                "feed_forward_length",
                u64::MAX,
                "`feed-forward size` is 18446744073709551615, the limit is 16777216",
            ),
            (2, "attention.key_length", 0, "`width of a head` is 0"),
        ] {
            let key = format!("gemma3.{key}");
            let sizes = [(key.as_str(), Value::U64(size))];
            let refused = from_gguf(&metadata(layers, &sizes)).unwrap_err();
            assert_eq!(refused.to_string(), said);
        }
    }

    #[test]
    fn others_are_refused_by_name() {
        let llama = [("general.architecture", Value::String("llama".to_owned()))];
        let error = from_gguf(&metadata(2, &llama)).unwrap_err();
        assert!(matches!(error, ConfigError::UnsupportedArchitecture { name } if name == "llama"));
    }
}
