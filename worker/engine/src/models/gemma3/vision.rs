//! The vision tower: pixels to soft tokens.
//!
//! A `SigLIP` encoder over patches, every patch attending to every other one of its view; then the
//! patches are averaged in squares, normed and projected to the width of the text model.
//! Source: `transformers` `models/siglip/modeling_siglip.py` (`SiglipVisionTransformer`) and
//! `models/gemma3/modeling_gemma3.py` (`Gemma3MultiModalProjector`).
//!
//! Letters in shape comments: `B` views, `P` patches of a view, `D` width of the tower, `F` its
//! feed-forward width, `S` soft tokens of a view.

use crate::batch::{BLOCK_TOKENS, BlockId};
use crate::image::View;
use crate::kv::cache::{BlockShape, BlockWrite, CacheType, LayerCache};
use crate::models::config::VisionConfig;
use crate::ops::attention::{Attention, SpanKeys};
use crate::ops::bias::Bias;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::linear::{Linear, Storage};
use crate::ops::norm::RmsNorm;
use crate::ops::simd::Tier;
use crate::weights::{RawTensor, WeightError, Weights};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Colours of a pixel.
const CHANNELS: usize = 3;
/// What a colour is normalised by: 0 becomes -1, 255 becomes 1.
const MIDDLE: f32 = 127.5;

/// The vision tower and the projector behind it.
#[derive(Debug)]
pub struct VisionTower {
    config: VisionConfig,
    patches: Linear,
    /// `[P, D]`: position embeddings, with the patch embedding's bias.
    positions: Vec<f32>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    soft_norm: RmsNorm,
    projection: Linear,
    cache_type: CacheType,
    tier: Tier,
}

#[derive(Debug)]
struct Layer {
    attention_norm: LayerNorm,
    qkv: Linear,
    /// Queries are scaled here.
    qkv_bias: Bias,
    output: Linear,
    output_bias: Bias,
    feedforward_norm: LayerNorm,
    up: Linear,
    up_bias: Bias,
    down: Linear,
    down_bias: Bias,
}

impl VisionTower {
    /// Packs all weights of the tower; soft tokens are `text_hidden` wide.
    pub(crate) fn load(
        config: &VisionConfig,
        text_hidden: usize,
        weights: &Weights,
        storage: Storage,
        tier: Tier,
    ) -> std::result::Result<Self, WeightError> {
        weights.require(names(config))?;
        // 4 bits would cost more of the picture than memory.
        let storage = match storage {
            Storage::Int4 => Storage::Int8,
            other => other,
        };
        let loader = Loader {
            config,
            weights,
            storage,
            tier,
        };
        let VisionConfig { hidden, patch, .. } = *config;
        let kernel = weights.kernel(
            "vision.embeddings.patch_embedding.weight",
            [hidden, CHANNELS, patch, patch],
        )?;
        let projection =
            weights.turned("projector.mm_input_projection_weight", text_hidden, hidden)?;
        let soft_norm = weights.norm("projector.mm_soft_emb_norm.weight", hidden)?;
        let layers = (0..config.layers).map(|index| loader.layer(index));
        Ok(Self {
            patches: Linear::new(&[kernel], storage, tier)?,
            positions: loader.positions()?,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            norm: loader.norm("post_layernorm")?,
            soft_norm: RmsNorm::new(soft_norm, config.norm_eps, tier),
            projection: Linear::new(&[projection], storage, tier)?,
            config: config.clone(),
            cache_type: CacheType::beside(storage),
            tier,
        })
    }

    /// Soft tokens of each view, `[S, text width]` f32, row-major.
    pub fn encode(&self, views: &[&View]) -> Result<Vec<Vec<f32>>> {
        let hidden = self.hidden_states(views)?; // [B P, D]
        let pooled = self.pooled(&hidden)?; // [B S, D]
        let soft = self.projection.forward(&self.soft_norm.forward(&pooled)?)?;
        let soft: Vec<f32> = soft.flatten_all()?.to_vec1()?;
        let values = self.config.tokens * self.projection.n();
        Ok(soft.chunks_exact(values).map(<[f32]>::to_vec).collect())
    }

    /// What the encoder makes of the patches of `views`: `[B P, D]`.
    pub fn hidden_states(&self, views: &[&View]) -> Result<Tensor> {
        let mut x = self.embedded(views)?;
        let mut keys = Keys::new(&self.config, views.len(), self.cache_type, self.tier)?;
        for layer in &self.layers {
            x = layer.forward(&x, &mut keys, self)?;
        }
        self.norm.forward(&x)
    }

    /// Patches with their positions: `[B P, D]`.
    fn embedded(&self, views: &[&View]) -> Result<Tensor> {
        let VisionConfig { side, patch, .. } = self.config;
        let (count, width) = (self.config.patches(), CHANNELS * patch * patch);
        let mut pixels = vec![0.0; views.len() * count * width];
        let a_side = self.config.patches_a_side();
        if let Some(view) = views
            .iter()
            .find(|view| view.rgb().len() != side * side * CHANNELS)
        {
            candle_core::bail!(
                "a view of {} bytes for {side}x{side} pixels",
                view.rgb().len()
            );
        }
        let patches = pixels.par_chunks_exact_mut(width).enumerate();
        patches.for_each(|(index, out)| {
            let (rgb, place) = (views[index / count].rgb(), index % count);
            let (top, left) = (place / a_side * patch, place % a_side * patch);
            // By channel, row and column, as the convolution's kernel lies.
            for (to, value) in out.iter_mut().enumerate() {
                let (channel, within) = (to / (patch * patch), to % (patch * patch));
                let (row, col) = (top + within / patch, left + within % patch);
                let at = (row * side + col) * CHANNELS + channel;
                *value = (f32::from(rgb[at]) - MIDDLE) / MIDDLE;
            }
        });
        let pixels = Tensor::from_vec(pixels, (views.len() * count, width), &Device::Cpu)?;
        let mut embedded: Vec<f32> = self.patches.forward(&pixels)?.flatten_all()?.to_vec1()?;
        for view in embedded.chunks_exact_mut(self.positions.len()) {
            for (value, position) in view.iter_mut().zip(&self.positions) {
                *value += position;
            }
        }
        Tensor::from_vec(
            embedded,
            (views.len() * count, self.config.hidden),
            &Device::Cpu,
        )
    }

    /// Means of squares of patches: `[B P, D]` → `[B S, D]`.
    fn pooled(&self, hidden: &Tensor) -> Result<Tensor> {
        let (a_side, pool, width) = (
            self.config.patches_a_side(),
            self.config.pool(),
            self.config.hidden,
        );
        let values: Vec<f32> = hidden.flatten_all()?.to_vec1()?;
        let per_side = a_side / pool;
        let rows = values.len() / width / (pool * pool);
        #[expect(clippy::cast_precision_loss, reason = "a few patches")]
        let share = 1.0 / (pool * pool) as f32;
        let mut pooled = vec![0.0; rows * width];
        for (index, out) in pooled.chunks_exact_mut(width).enumerate() {
            let (view, place) = (index / (per_side * per_side), index % (per_side * per_side));
            for (row, col) in (0..pool).flat_map(|row| (0..pool).map(move |col| (row, col))) {
                let (y, x) = (place / per_side * pool + row, place % per_side * pool + col);
                let patch = (view * a_side + y) * a_side + x;
                for (sum, value) in out.iter_mut().zip(&values[patch * width..]) {
                    *sum += value;
                }
            }
            for value in out {
                *value *= share;
            }
        }
        Tensor::from_vec(pooled, (rows, width), &Device::Cpu)
    }
}

impl Layer {
    /// `[B P, D]` → `[B P, D]`.
    fn forward(&self, x: &Tensor, keys: &mut Keys, tower: &VisionTower) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.attention_norm.forward(x)?)?; // [B P, 3 D]
        let qkv = self.qkv_bias.forward(&qkv)?;
        keys.store(&qkv)?;
        let attended = Attention {
            softcap: None,
            cache: &keys.cache,
            spans: &keys.spans,
            heads: tower.config.heads,
            tier: tower.tier,
        }
        .forward(&qkv)?; // [B P, D]
        let attended = self.output.forward(&attended)?;
        let x = self.output_bias.forward_add(&attended, x)?;

        let fed = self.up.forward(&self.feedforward_norm.forward(&x)?)?; // [B P, F]
        let fed = self.down.forward(&self.up_bias.forward_gelu(&fed)?)?; // [B P, D]
        self.down_bias.forward_add(&fed, &x)
    }
}

/// The keys and values of one layer for all views, in the blocks that attention reads.
struct Keys {
    cache: LayerCache,
    spans: Vec<SpanKeys>,
    writes: Vec<BlockWrite>,
}

impl Keys {
    fn new(config: &VisionConfig, views: usize, cache_type: CacheType, tier: Tier) -> Result<Self> {
        let patches = config.patches();
        let blocks = patches.div_ceil(BLOCK_TOKENS);
        let id = |view: usize, block: usize| {
            BlockId(u32::try_from(view * blocks + block).unwrap_or(u32::MAX))
        };
        let spans = (0..views).map(|view| SpanKeys {
            rows: view * patches..(view + 1) * patches,
            ranges: vec![0..patches; patches],
            blocks: (0..blocks).map(|block| Some(id(view, block))).collect(),
        });
        let places = (0..views).flat_map(|view| (0..blocks).map(move |block| (view, block)));
        let writes = places.map(|(view, block)| BlockWrite {
            block: id(view, block),
            slot: 0,
            row: view * patches + block * BLOCK_TOKENS,
            rows: BLOCK_TOKENS.min(patches - block * BLOCK_TOKENS),
        });
        let shape = BlockShape {
            kv_heads: config.heads,
            head_dim: config.head_dim(),
        };
        Ok(Self {
            cache: LayerCache::new(shape, views * blocks, cache_type, tier)?,
            spans: spans.collect(),
            writes: writes.collect(),
        })
    }

    /// Replaces what is stored by the last columns of `qkv` `[B P, 3 D]`.
    fn store(&mut self, qkv: &Tensor) -> Result<()> {
        let (_, width) = qkv.dims2()?;
        let (storage, layout) = qkv.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("keys and values lie on another device than the tower");
        };
        let values = crate::ops::rows_of(storage, layout, width)?;
        self.cache.store(values, width, &self.writes);
        Ok(())
    }
}

/// Names of all tensors that a tower of this configuration must have.
fn names(config: &VisionConfig) -> impl Iterator<Item = String> {
    const OF_LAYER: [&str; 8] = [
        "layer_norm1",
        "layer_norm2",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
        "mlp.fc1",
        "mlp.fc2",
    ];
    let layers = (0..config.layers)
        .flat_map(|layer| OF_LAYER.map(|part| format!("encoder.layers.{layer}.{part}")));
    let around = ["embeddings.patch_embedding", "post_layernorm"].map(str::to_owned);
    let both = around
        .into_iter()
        .chain(layers)
        .flat_map(|part| ["weight", "bias"].map(|kind| format!("vision.{part}.{kind}")));
    let single = [
        "vision.embeddings.position_embedding.weight",
        "projector.mm_input_projection_weight",
        "projector.mm_soft_emb_norm.weight",
    ];
    both.chain(single.map(str::to_owned))
}

/// Reads the tower's parts.
struct Loader<'a> {
    config: &'a VisionConfig,
    weights: &'a Weights,
    storage: Storage,
    tier: Tier,
}

impl<'a> Loader<'a> {
    fn vector(&self, part: &str, width: usize) -> std::result::Result<Vec<f32>, WeightError> {
        self.weights.vector(&format!("vision.{part}"), width)
    }

    fn norm(&self, part: &str) -> std::result::Result<LayerNorm, WeightError> {
        let VisionConfig {
            hidden, norm_eps, ..
        } = *self.config;
        let weight = self.vector(&format!("{part}.weight"), hidden)?;
        let bias = self.vector(&format!("{part}.bias"), hidden)?;
        Ok(LayerNorm::new(weight, bias, norm_eps, self.tier))
    }

    /// Position embeddings and the patch embedding's bias, which every patch gets alike.
    fn positions(&self) -> std::result::Result<Vec<f32>, WeightError> {
        let (patches, hidden) = (self.config.patches(), self.config.hidden);
        let bias = self.vector("embeddings.patch_embedding.bias", hidden)?;
        let name = "vision.embeddings.position_embedding.weight";
        let table = self.weights.matrix(name, patches, hidden)?;
        let mut positions = table.to_f32()?;
        for row in positions.chunks_exact_mut(hidden) {
            for (value, bias) in row.iter_mut().zip(&bias) {
                *value += bias;
            }
        }
        Ok(positions)
    }

    fn matrix(
        &self,
        part: &str,
        n: usize,
        k: usize,
    ) -> std::result::Result<RawTensor<'a>, WeightError> {
        self.weights.matrix(&format!("vision.{part}.weight"), n, k)
    }

    /// A matrix `[n, k]` and its bias.
    fn linear(
        &self,
        part: &str,
        n: usize,
        k: usize,
    ) -> std::result::Result<(Linear, Bias), WeightError> {
        let linear = Linear::new(&[self.matrix(part, n, k)?], self.storage, self.tier)?;
        let bias = self.vector(&format!("{part}.bias"), n)?;
        Ok((linear, Bias::new(bias, self.tier)))
    }

    fn layer(&self, index: usize) -> std::result::Result<Layer, WeightError> {
        let VisionConfig { hidden, ffn, .. } = *self.config;
        let part = |name: &str| format!("encoder.layers.{index}.{name}");
        let heads = ["q", "k", "v"].map(|letter| part(&format!("self_attn.{letter}_proj")));
        let matrices = heads.iter().map(|part| self.matrix(part, hidden, hidden));
        let matrices = matrices.collect::<std::result::Result<Vec<_>, _>>()?;
        let biases = heads
            .iter()
            .map(|part| self.vector(&format!("{part}.bias"), hidden));
        let biases = biases.collect::<std::result::Result<Vec<_>, _>>()?.concat();
        #[expect(clippy::cast_precision_loss, reason = "head widths are small")]
        let query_scale = (self.config.head_dim() as f32).powf(-0.5);
        let factor = [vec![query_scale; hidden], vec![1.0; 2 * hidden]].concat();
        let (output, output_bias) = self.linear(&part("self_attn.out_proj"), hidden, hidden)?;
        let (up, up_bias) = self.linear(&part("mlp.fc1"), ffn, hidden)?;
        let (down, down_bias) = self.linear(&part("mlp.fc2"), hidden, ffn)?;
        Ok(Layer {
            attention_norm: self.norm(&part("layer_norm1"))?,
            qkv: Linear::new(&matrices, self.storage, self.tier)?,
            qkv_bias: Bias::new(biases, self.tier).with_factor(factor),
            output,
            output_bias,
            feedforward_norm: self.norm(&part("layer_norm2"))?,
            up,
            up_bias,
            down,
            down_bias,
        })
    }
}
