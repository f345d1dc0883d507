//! The text decoder.
//!
//! Source: `transformers` `models/gemma3/modeling_gemma3.py` (`Gemma3TextModel`) and
//! `models/gemma2/modeling_gemma2.py`, which caps scores and logits where the other norms heads.

use crate::kv::cache::KvCache;
use crate::models::config::{GemmaConfig, LayerConfig, LayerKind};
use crate::models::step::StepLayout;
use crate::ops::attention::Attention;
use crate::ops::embedding::{SoftRows, embed};
use crate::ops::geglu::geglu;
use crate::ops::linear::{Linear, Storage};
use crate::ops::norm::RmsNorm;
use crate::ops::rope::{HeadNorms, RopeTable};
use crate::ops::simd::Tier;
use crate::ops::softcap::cap_all;
use crate::weights::{WeightError, Weights};
use candle_core::{Device, Result, Tensor};

/// The decoder with its embedding table and head.
#[derive(Debug)]
pub struct TextModel {
    embedding: Linear,
    /// Where the head is not the embedding table.
    head: Option<Linear>,
    embedding_scale: f32,
    layers: Vec<Layer>,
    norm: RmsNorm,
    rope_global: RopeTable,
    rope_local: RopeTable,
    attention_softcap: Option<f32>,
    logit_softcap: Option<f32>,
    tier: Tier,
}

#[derive(Debug)]
struct Layer {
    /// Place in the stack.
    index: usize,
    kind: LayerKind,
    heads: usize,
    input_norm: RmsNorm,
    qkv: Linear,
    head_norms: HeadNorms,
    output: Linear,
    post_attention_norm: RmsNorm,
    pre_feedforward_norm: RmsNorm,
    gate_up: Linear,
    down: Linear,
    post_feedforward_norm: RmsNorm,
}

impl TextModel {
    /// Packs all text weights.
    pub(crate) fn load(
        config: &GemmaConfig,
        weights: &Weights,
        storage: Storage,
        tier: Tier,
    ) -> std::result::Result<Self, WeightError> {
        weights.require(names(config))?;
        let vocab = config
            .vocab
            .or_else(|| weights.rows(EMBEDDING))
            .unwrap_or(0);
        // 4 bits in the table would cost more text than memory.
        let table_storage = match storage {
            Storage::Int4 => Storage::Int8,
            other => other,
        };
        let whole = |name: &str| {
            let table = weights.matrix(name, vocab, config.hidden)?;
            Linear::new(&[table], table_storage, tier)
        };
        let loader = Loader {
            config,
            weights,
            storage,
            tier,
        };
        let layers = (0..config.layers.len()).map(|index| loader.layer(index));
        let head_dim = |kind| {
            config
                .layers_of(kind)
                .next()
                .map_or(2, |layer| layer.head_dim)
        };
        let rope = |kind| RopeTable::new(config.rope(kind), head_dim(kind));
        Ok(Self {
            embedding: whole(EMBEDDING)?,
            head: if weights.has(HEAD) {
                Some(whole(HEAD)?)
            } else {
                None
            },
            embedding_scale: embedding_scale(config.hidden, storage),
            layers: layers.collect::<std::result::Result<_, _>>()?,
            norm: loader.norm("norm.weight", config.hidden)?,
            rope_global: rope(LayerKind::Global),
            rope_local: rope(LayerKind::Local),
            attention_softcap: config.attention_softcap,
            logit_softcap: config.logit_softcap,
            tier,
        })
    }

    /// Entries of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.embedding.n()
    }

    /// Stores all rows' keys and values in `cache`, and the logits of `logit_rows`, `[rows, V]` f32, in
    /// the place of what is in `logits`. `soft`: the soft tokens of the step's pictures in order, `[S, D]` each.
    pub(crate) fn forward(
        &self,
        step: &StepLayout<'_>,
        soft: &[&[f32]],
        cache: &mut KvCache,
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        let soft: Vec<SoftRows> = step
            .images
            .iter()
            .zip(soft)
            .map(|((rows, _), values)| SoftRows {
                rows: rows.clone(),
                values,
            })
            .collect();
        let mut x = embed(&self.embedding, step.tokens, self.embedding_scale, &soft)?; // [T, D]
        for layer in &self.layers {
            x = layer.forward(&x, step, cache, self)?;
        }
        let rows: Vec<u32> = step
            .logit_rows
            .iter()
            .map(|row| u32::try_from(*row).unwrap_or(u32::MAX))
            .collect();
        let count = rows.len();
        let wanted = x.index_select(&Tensor::from_vec(rows, count, &Device::Cpu)?, 0)?;
        let wanted: Vec<f32> = self.norm.forward(&wanted)?.flatten_all()?.to_vec1()?;
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        head.product_into(&wanted, logits);
        if let Some(cap) = self.logit_softcap {
            cap_all(logits, cap, self.tier);
        }
        Ok(())
    }

    fn rope(&self, kind: LayerKind) -> &RopeTable {
        match kind {
            LayerKind::Global => &self.rope_global,
            LayerKind::Local => &self.rope_local,
        }
    }
}

impl Layer {
    /// `[T, D]` → `[T, D]`.
    fn forward(
        &self,
        x: &Tensor,
        step: &StepLayout<'_>,
        cache: &mut KvCache,
        model: &TextModel,
    ) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.input_norm.forward(x)?)?; // [T, (N + 2K) H]
        let qkv = self
            .head_norms
            .forward(&qkv, &step.positions, model.rope(self.kind))?;
        step.store(cache, self.index, self.kind, &qkv)?;
        let attended = Attention {
            cache: cache.layer(self.index),
            spans: step.spans(self.kind),
            heads: self.heads,
            softcap: model.attention_softcap,
            tier: model.tier,
        }
        .forward(&qkv)?; // [T, N H]
        let attended = self.output.forward(&attended)?; // [T, D]
        let x = self.post_attention_norm.forward_add(&attended, x)?;

        let gate_up = self
            .gate_up
            .forward(&self.pre_feedforward_norm.forward(&x)?)?; // [T, 2F]
        let fed = self.down.forward(&geglu(&gate_up, model.tier)?)?; // [T, D]
        self.post_feedforward_norm.forward_add(&fed, &x)
    }
}

const EMBEDDING: &str = "embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// √hidden, rounded as the reference rounds it: to the type of the weights, which is bfloat16 in
/// every published checkpoint.
fn embedding_scale(hidden: usize, storage: Storage) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "model widths are small")]
    let scale = (hidden as f32).sqrt();
    match storage {
        Storage::F32 => scale,
        Storage::Bf16 | Storage::Int8 | Storage::Int4 => half::bf16::from_f32(scale).to_f32(),
    }
}

/// Names of all tensors that a model of this configuration must have.
fn names(config: &GemmaConfig) -> impl Iterator<Item = String> {
    const OF_LAYER: [&str; 11] = [
        "input_layernorm",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
        "post_feedforward_layernorm",
    ];
    const OF_HEADS: &[&str] = &["self_attn.q_norm", "self_attn.k_norm"];
    let of_heads = if config.head_norms { OF_HEADS } else { &[] };
    let layers = (0..config.layers.len()).flat_map(move |layer| {
        let parts = OF_LAYER.iter().chain(of_heads);
        parts.map(move |part| format!("layers.{layer}.{part}.weight"))
    });
    [EMBEDDING, "norm.weight"]
        .into_iter()
        .map(str::to_owned)
        .chain(layers)
}

/// Reads layers.
struct Loader<'a> {
    config: &'a GemmaConfig,
    weights: &'a Weights,
    storage: Storage,
    tier: Tier,
}

impl Loader<'_> {
    fn norm(&self, name: &str, width: usize) -> std::result::Result<RmsNorm, WeightError> {
        Ok(RmsNorm::new(
            self.weights.norm(name, width)?,
            self.config.rms_eps,
            self.tier,
        ))
    }

    /// Matrices of one layer that share their input of width `k`: `(name, n)`.
    fn linear(
        &self,
        layer: usize,
        parts: &[(&str, usize)],
        k: usize,
    ) -> std::result::Result<Linear, WeightError> {
        let matrices = parts.iter().map(|(part, n)| {
            self.weights
                .matrix(&format!("layers.{layer}.{part}.weight"), *n, k)
        });
        let matrices = matrices.collect::<std::result::Result<Vec<_>, _>>()?;
        Linear::new(&matrices, self.storage, self.tier)
    }

    fn layer(&self, index: usize) -> std::result::Result<Layer, WeightError> {
        let GemmaConfig {
            hidden, ffn, heads, ..
        } = *self.config;
        let LayerConfig {
            kind,
            head_dim,
            kv_heads,
        } = self.config.layers[index];
        let (query, kv) = (heads * head_dim, kv_heads * head_dim);
        let norm = |part: &str| self.norm(&format!("layers.{index}.{part}.weight"), hidden);
        let head_norm = |part: &str| {
            let name = format!("layers.{index}.self_attn.{part}.weight");
            if self.config.head_norms {
                self.weights.norm(&name, head_dim)
            } else {
                Ok(vec![1.0; head_dim])
            }
        };
        let scale = self.config.query_scale;
        Ok(Layer {
            index,
            kind,
            heads,
            input_norm: norm("input_layernorm")?,
            qkv: self.linear(
                index,
                &[
                    ("self_attn.q_proj", query),
                    ("self_attn.k_proj", kv),
                    ("self_attn.v_proj", kv),
                ],
                hidden,
            )?,
            head_norms: HeadNorms {
                heads,
                kv_heads,
                query: head_norm("q_norm")?
                    .into_iter()
                    .map(|weight| weight * scale)
                    .collect(),
                key: head_norm("k_norm")?,
                eps: self.config.head_norms.then_some(self.config.rms_eps),
                tier: self.tier,
            },
            output: self.linear(index, &[("self_attn.o_proj", hidden)], query)?,
            post_attention_norm: norm("post_attention_layernorm")?,
            pre_feedforward_norm: norm("pre_feedforward_layernorm")?,
            gate_up: self.linear(
                index,
                &[("mlp.gate_proj", ffn), ("mlp.up_proj", ffn)],
                hidden,
            )?,
            down: self.linear(index, &[("mlp.down_proj", hidden)], ffn)?,
            post_feedforward_norm: norm("post_feedforward_layernorm")?,
        })
    }
}
