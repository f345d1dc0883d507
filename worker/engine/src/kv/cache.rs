//! The keys and values themselves: paged memory of two pools.
//!
//! A block holds [`BLOCK_TOKENS`] positions of one layer. Keys lie by dimension, `[K, H, 32]`, so
//! that the scores of a block's positions are one vector; values by position, `[K, 32, H]`, each
//! row padded to whole vectors. Of bf16 two neighbours along what is summed up lie together:
//! `[K, H / 2, 32, 2]` and `[K, 16, H, 2]`. Positions not yet written are zero.
#![expect(unsafe_code, reason = "blocks are written from several threads")]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use crate::batch::{BLOCK_TOKENS, BlockId};
use crate::models::config::{GemmaConfig, LayerKind};
use crate::ops::buffer::Buffer;
use crate::ops::linear::Storage;
use crate::ops::parallel;
use crate::ops::simd::{Element, Kernel, LANES, Simd, Tier, load_part, place};
use half::bf16;
use std::marker::PhantomData;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheType {
    /// Exactly as computed.
    F32,
    /// Rounded to bfloat16.
    Bf16,
}

impl CacheType {
    /// What is precise enough beside weights that are held so.
    pub(crate) fn beside(weights: Storage) -> Self {
        if weights == Storage::F32 {
            Self::F32
        } else {
            Self::Bf16
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::Bf16 => size_of::<bf16>(),
        }
    }
}

/// Widths of one layer's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockShape {
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl BlockShape {
    /// Values a position's row is padded to.
    pub(crate) fn value_width(self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Dimensions a head's keys are padded to: whole pairs.
    pub(crate) fn key_width(self) -> usize {
        self.head_dim.next_multiple_of(2)
    }

    /// Elements of a block's keys.
    pub(crate) fn key_elements(self) -> usize {
        self.kv_heads * self.key_width() * BLOCK_TOKENS
    }

    /// Elements of a block's values.
    pub(crate) fn value_elements(self) -> usize {
        self.kv_heads * self.value_width() * BLOCK_TOKENS
    }

    fn elements(self) -> usize {
        self.key_elements() + self.value_elements()
    }
}

/// Rows of a step that go to one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockWrite {
    pub block: BlockId,
    /// First position within the block.
    pub slot: usize,
    /// First row of the packed tensor.
    pub row: usize,
    pub rows: usize,
}

/// One layer's blocks: each its keys, then its values.
#[derive(Debug)]
pub(crate) struct LayerBlocks<E> {
    pub shape: BlockShape,
    blocks: usize,
    tier: Tier,
    memory: Buffer,
    element: PhantomData<E>,
}

/// One layer's blocks in either type.
#[derive(Debug)]
pub(crate) enum LayerCache {
    F32(LayerBlocks<f32>),
    Bf16(LayerBlocks<bf16>),
}

/// All layers' keys and values.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    global_blocks: usize,
    local_blocks: usize,
}

impl KvCache {
    /// Zeroed memory for so many blocks of each pool; pages are taken when first written.
    pub fn new(
        config: &GemmaConfig,
        cache_type: CacheType,
        tier: Tier,
        global_blocks: usize,
        local_blocks: usize,
    ) -> std::io::Result<Self> {
        let layers = config.layers.iter().map(|layer| {
            let shape = BlockShape {
                kv_heads: layer.kv_heads,
                head_dim: layer.head_dim,
            };
            let blocks = match layer.kind {
                LayerKind::Global => global_blocks,
                LayerKind::Local => local_blocks,
            };
            LayerCache::new(shape, blocks, cache_type, tier)
        });
        let layers = layers.collect::<std::io::Result<_>>()?;
        Ok(Self {
            layers,
            global_blocks,
            local_blocks,
        })
    }

    /// Bytes of one block of a pool, all its layers together.
    pub fn block_bytes(config: &GemmaConfig, kind: LayerKind, cache_type: CacheType) -> usize {
        config
            .layers_of(kind)
            .map(|layer| BlockShape {
                kv_heads: layer.kv_heads,
                head_dim: layer.head_dim,
            })
            .map(|shape| shape.elements() * cache_type.bytes())
            .sum()
    }

    /// Blocks of a pool.
    pub fn blocks(&self, kind: LayerKind) -> usize {
        match kind {
            LayerKind::Global => self.global_blocks,
            LayerKind::Local => self.local_blocks,
        }
    }

    pub(crate) fn layer(&self, index: usize) -> &LayerCache {
        &self.layers[index]
    }

    /// Stores the keys and values of `writes`' rows in layer `index`.
    ///
    /// `qkv` is `[T, width]`; keys, then values, are its last columns. No two writes name the
    /// same block.
    pub(crate) fn store(&mut self, index: usize, qkv: &[f32], width: usize, writes: &[BlockWrite]) {
        self.layers[index].store(qkv, width, writes);
    }
}

impl LayerCache {
    /// Zeroed memory for so many blocks.
    pub(crate) fn new(
        shape: BlockShape,
        blocks: usize,
        cache_type: CacheType,
        tier: Tier,
    ) -> std::io::Result<Self> {
        Ok(match cache_type {
            CacheType::F32 => Self::F32(LayerBlocks::new(shape, blocks, tier)?),
            CacheType::Bf16 => Self::Bf16(LayerBlocks::new(shape, blocks, tier)?),
        })
    }

    /// As [`KvCache::store`].
    pub(crate) fn store(&mut self, qkv: &[f32], width: usize, writes: &[BlockWrite]) {
        match self {
            Self::F32(blocks) => blocks.store(qkv, width, writes),
            Self::Bf16(blocks) => blocks.store(qkv, width, writes),
        }
    }
}

impl<E: Element> LayerBlocks<E> {
    fn new(shape: BlockShape, blocks: usize, tier: Tier) -> std::io::Result<Self> {
        let bytes = shape
            .elements()
            .checked_mul(blocks * size_of::<E>())
            .ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            shape,
            blocks,
            tier,
            memory: Buffer::zeroed(bytes)?,
            element: PhantomData,
        })
    }

    /// A block's keys, `[K, padded H, 32]`; its values, `[K, 32, padded H]`, follow.
    ///
    /// # Panics
    /// If there is no such block.
    pub(crate) fn block(&self, block: BlockId) -> *const E {
        let index = block.0 as usize;
        assert!(index < self.blocks, "block {index} of {}", self.blocks);
        // SAFETY: the memory holds `blocks` blocks of `elements` values.
        unsafe {
            self.memory
                .as_ptr()
                .cast::<E>()
                .add(index * self.shape.elements())
        }
    }

    fn store(&mut self, qkv: &[f32], width: usize, writes: &[BlockWrite]) {
        let rows: usize = writes.iter().map(|write| write.rows).sum();
        let (shape, blocks, tier) = (self.shape, self.blocks, self.tier);
        let kv = shape.kv_heads * shape.head_dim;
        let keys_at = width - 2 * kv;
        let memory = parallel::shared_at(self.memory.as_mut_ptr().cast::<E>());
        parallel::for_each(writes.len(), rows * kv, |index| {
            let write = writes[index];
            let block = write.block.0 as usize;
            assert!(block < blocks, "block {block} of {blocks}");
            assert!(
                write.slot + write.rows <= BLOCK_TOKENS,
                "{write:?} leaves its block"
            );
            // SAFETY: the block lies within the memory, which is initialised, and no other task
            // writes it.
            let block = unsafe {
                let first = memory.at(block * shape.elements());
                std::slice::from_raw_parts_mut(first, shape.elements())
            };
            if write.slot == 0 && write.rows < BLOCK_TOKENS {
                // A reused block: what its former owner left must not be seen by anyone.
                block.fill(E::default());
            }
            let (keys, values) = block.split_at_mut(shape.key_elements());
            for row in 0..write.rows {
                tier.run_over::<E, _>(StoreRow {
                    shape,
                    row: &qkv[(write.row + row) * width + keys_at..][..2 * kv],
                    slot: write.slot + row,
                    keys: &mut *keys,
                    values: &mut *values,
                });
            }
        });
    }
}

/// Stores one position's keys and values in its block.
struct StoreRow<'a, E> {
    shape: BlockShape,
    /// `[2, K, H]`: keys, then values.
    row: &'a [f32],
    slot: usize,
    keys: &'a mut [E],
    values: &'a mut [E],
}

impl<E: Element> Kernel for StoreRow<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (head_dim, slot) = (self.shape.head_dim, self.slot);
        let (key_width, value_width) = (self.shape.key_width(), self.shape.value_width());
        let (row_keys, row_values) = self.row.split_at(self.shape.kv_heads * head_dim);
        for (head, row) in row_keys.chunks_exact(head_dim).enumerate() {
            let keys = &mut self.keys[head * key_width * BLOCK_TOKENS..];
            scatter(s, row, |d, key| {
                keys[place::<E>(d, slot, BLOCK_TOKENS)] = key;
            });
        }
        for (head, row) in row_values.chunks_exact(head_dim).enumerate() {
            let values = &mut self.values[head * value_width * BLOCK_TOKENS..];
            scatter(s, row, |d, value| {
                values[place::<E>(slot, d, value_width)] = value;
            });
        }
    }
}

/// Hands over each value as it is held, with its index.
#[inline(always)]
fn scatter<E: Element, S: Simd>(s: S, row: &[f32], mut put: impl FnMut(usize, E)) {
    for from in (0..row.len()).step_by(LANES) {
        let width = row.len() - from;
        let mut lanes = [E::default(); LANES];
        // SAFETY: at most the rest of the row is read; the array is a vector.
        unsafe {
            let values = load_part(s, row.as_ptr().add(from), width);
            E::store(s, lanes.as_mut_ptr(), values);
        }
        for (lane, value) in lanes.iter().take(width).enumerate() {
            put(from + lane, *value);
        }
    }
}
