//! Attention over the paged cache.
//!
//! Every query reduces its keys in the same absolute blocks of [`BLOCK_TOKENS`] positions, with a
//! running maximum (online softmax), always reading what the cache holds. Its result therefore
//! does not depend on how its sequence was cut into steps or on what else is in the step.
//! Source of the recurrence: Milakov and Gimelshein, *Online normalizer calculation for softmax*.
#![expect(unsafe_code, reason = "vector kernel over paged memory")]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]
#![expect(
    clippy::needless_range_loop,
    reason = "register tiles are indexed alike"
)]

use super::math::{exp, soft_cap};
use super::parallel::{self, Shared};
use super::rows_of;
use super::simd::{Element, Kernel, LANES, Simd, Tier, load_part, store_part};
use crate::batch::{BLOCK_TOKENS, BlockId};
use crate::kv::cache::{LayerBlocks, LayerCache};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use std::ops::Range;

/// Queries that share one pass over the keys, at most.
const QUERIES: usize = 24;
/// Bytes of their weighted sums of values: a part of what the nearest cache holds.
const VALUES_BYTES: usize = 12 << 10;

/// One sequence's part of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpanKeys {
    /// Rows of the packed tensor.
    pub rows: Range<usize>,
    /// For each row, the positions its query sees.
    pub ranges: Vec<Range<usize>>,
    /// Blocks by position; `None` where no row looks.
    pub blocks: Vec<Option<BlockId>>,
}

/// Attention of one layer.
pub(crate) struct Attention<'a> {
    pub cache: &'a LayerCache,
    pub spans: &'a [SpanKeys],
    /// Query heads.
    pub heads: usize,
    /// What scores stay below, if anything.
    pub softcap: Option<f32>,
    pub tier: Tier,
}

impl Attention<'_> {
    /// Queries, scaled, are the first `N H` columns of `[T, (N + 2K) H]`; gives `[T, N H]`.
    pub(crate) fn forward(&self, qkv: &Tensor) -> Result<Tensor> {
        qkv.apply_op1_no_bwd(self)
    }

    fn run<E: Element>(&self, cache: &LayerBlocks<E>, qkv: &[f32], out: Shared<f32>) {
        let (kv_heads, head_dim) = (cache.shape.kv_heads, cache.shape.head_dim);
        let group = self.heads / kv_heads;
        let query_bytes = cache.shape.value_width() * size_of::<f32>();
        let together = (VALUES_BYTES / query_bytes).clamp(1, QUERIES);
        let mut tasks = Vec::new();
        let mut work = 0;
        for span in self.spans {
            work += span
                .ranges
                .iter()
                .map(ExactSizeIterator::len)
                .sum::<usize>();
            for kv_head in 0..kv_heads {
                let queries = span.rows.len() * group;
                for first in (0..queries).step_by(together) {
                    tasks.push((span, kv_head, first..queries.min(first + together)));
                }
            }
        }
        parallel::for_each(tasks.len(), work * self.heads * head_dim * 2, |index| {
            let (span, kv_head, queries) = tasks[index].clone();
            self.tier.run_over::<E, _>(QueryTile {
                cache,
                span,
                kv_head,
                heads: self.heads,
                softcap: self.softcap,
                queries,
                qkv,
                out,
            });
        });
    }
}

impl CustomOp1 for Attention<'_> {
    fn name(&self) -> &'static str {
        "paged-attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = match self.cache {
            LayerCache::F32(blocks) => blocks.shape,
            LayerCache::Bf16(blocks) => blocks.shape,
        };
        let width = (self.heads + 2 * shape.kv_heads) * shape.head_dim;
        let qkv = rows_of(storage, layout, width)?;
        let (rows, width) = (qkv.len() / width, self.heads * shape.head_dim);
        // SAFETY: the spans cover all rows, and their tasks write all heads of each.
        let out = unsafe {
            parallel::filled(rows * width, |out| match self.cache {
                LayerCache::F32(blocks) => self.run(blocks, qkv, out),
                LayerCache::Bf16(blocks) => self.run(blocks, qkv, out),
            })
        };
        Ok((CpuStorage::F32(out), Shape::from((rows, width))))
    }
}

/// Some queries of one sequence that share a key head: query `i` is head `i % group` of the
/// group, of row `i / group` of the span.
struct QueryTile<'a, E> {
    cache: &'a LayerBlocks<E>,
    span: &'a SpanKeys,
    kv_head: usize,
    heads: usize,
    softcap: Option<f32>,
    queries: Range<usize>,
    qkv: &'a [f32],
    out: Shared<f32>,
}

/// What a tile's queries have seen so far.
struct Running<E> {
    /// Largest score.
    max: [f32; QUERIES],
    /// Sums of `e^(score - max)`, of every sixteenth position.
    sums: [[f32; LANES]; QUERIES],
    /// `[QUERIES, 32]`: the current block's scores.
    scores: [[f32; BLOCK_TOKENS]; QUERIES],
    /// `[QUERIES, 32]`: its weights.
    weights: [[E; BLOCK_TOKENS]; QUERIES],
    /// What earlier blocks' results are multiplied by.
    rescale: [f32; QUERIES],
    /// `[queries, padded H]`: weighted sums of values.
    values: Vec<f32>,
}

impl<E: Element> Kernel for QueryTile<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let shape = self.cache.shape;
        let padded = shape.value_width();
        let count = self.queries.len();
        let mut running = Running {
            max: [f32::NEG_INFINITY; QUERIES],
            sums: [[0.0; LANES]; QUERIES],
            scores: [[0.0; BLOCK_TOKENS]; QUERIES],
            weights: [[E::default(); BLOCK_TOKENS]; QUERIES],
            rescale: [1.0; QUERIES],
            values: vec![0.0; count * padded],
        };
        let queries = self.queries(s);
        let seen: Vec<Range<usize>> = (0..count).map(|i| self.range(i).clone()).collect();
        let from = seen.iter().map(|range| range.start).min().unwrap_or(0);
        let to = seen.iter().map(|range| range.end).max().unwrap_or(0);
        let keys_at = self.kv_head * shape.key_width() * BLOCK_TOKENS;
        let values_at = shape.key_elements() + self.kv_head * BLOCK_TOKENS * padded;
        for index in from / BLOCK_TOKENS..to.div_ceil(BLOCK_TOKENS) {
            let Some(id) = self.span.blocks[index] else {
                unreachable!("block {index} was checked when the step was laid out");
            };
            let block = self.cache.block(id);
            // SAFETY: the block holds its keys and then its values, head after head.
            let (keys, values) = unsafe { (block.add(keys_at), block.add(values_at)) };
            let next = match self.span.blocks.get(index + 1) {
                Some(Some(id)) => self.cache.block(*id).wrapping_add(keys_at),
                _ => keys,
            };
            let mut first = 0;
            while first < count {
                let rows = S::ATTENTION_TILE.0.min(count - first);
                let pass = Pass {
                    tile: &self,
                    index,
                    keys,
                    values,
                    next,
                    queries: &queries,
                    seen: &seen,
                    first,
                };
                match rows {
                    1 => pass.run::<S, 1>(s, &mut running),
                    2 => pass.run::<S, 2>(s, &mut running),
                    3 => pass.run::<S, 3>(s, &mut running),
                    4 => pass.run::<S, 4>(s, &mut running),
                    5 => pass.run::<S, 5>(s, &mut running),
                    6 => pass.run::<S, 6>(s, &mut running),
                    7 => pass.run::<S, 7>(s, &mut running),
                    _ => pass.run::<S, 8>(s, &mut running),
                }
                first += rows;
            }
        }
        for i in 0..count {
            // SAFETY: the array is a vector.
            let sum = s.sum(unsafe { s.load(running.sums[i].as_ptr()) });
            let factor = s.splat(1.0 / sum);
            let at = self.output(i);
            for d in (0..shape.head_dim).step_by(LANES) {
                // SAFETY: within the query's part of the output, which this task alone writes.
                unsafe {
                    let values = s.load(running.values.as_ptr().add(i * padded + d));
                    store_part(
                        s,
                        self.out.at(at + d),
                        s.mul(values, factor),
                        shape.head_dim - d,
                    );
                }
            }
        }
    }
}

impl<E: Element> QueryTile<'_, E> {
    fn group(&self) -> usize {
        self.heads / self.cache.shape.kv_heads
    }

    /// Row of the span and head of query `i` of the tile.
    fn place(&self, i: usize) -> (usize, usize) {
        let query = self.queries.start + i;
        (
            query / self.group(),
            self.kv_head * self.group() + query % self.group(),
        )
    }

    fn range(&self, i: usize) -> &Range<usize> {
        &self.span.ranges[self.place(i).0]
    }

    /// `[queries, padded H]`, as keys are held.
    #[inline(always)]
    fn queries<S: Simd>(&self, s: S) -> Vec<E> {
        let shape = self.cache.shape;
        let (width, padded) = (shape.head_dim, shape.value_width());
        let row_width = (self.heads + 2 * shape.kv_heads) * width;
        let mut queries = vec![E::default(); self.queries.len() * padded];
        for (i, out) in queries.chunks_exact_mut(padded).enumerate() {
            let (row, head) = self.place(i);
            let at = (self.span.rows.start + row) * row_width + head * width;
            let query = &self.qkv[at..at + width];
            for from in (0..padded).step_by(LANES) {
                // SAFETY: the rest of a query, and a vector of the padded output.
                unsafe {
                    let values = load_part(s, query.as_ptr().add(from), width - from);
                    E::store(s, out.as_mut_ptr().add(from), values);
                }
            }
        }
        queries
    }

    fn output(&self, i: usize) -> usize {
        let (row, head) = self.place(i);
        ((self.span.rows.start + row) * self.heads + head) * self.cache.shape.head_dim
    }
}

impl<E: Element> Running<E> {
    /// Turns query `i`'s scores into weights of keys `from .. to`, and all other weights into 0.
    #[inline(always)]
    fn weigh<S: Simd>(
        &mut self,
        s: S,
        i: usize,
        Range {
            start: from,
            end: to,
        }: Range<usize>,
        softcap: Option<f32>,
    ) {
        if from >= to {
            self.weights[i] = [E::default(); BLOCK_TOKENS];
            self.rescale[i] = 1.0;
            return;
        }
        let scores = self.scores[i].as_ptr();
        // SAFETY: a block has two vectors of scores.
        let (mut low, mut high) = unsafe { (s.load(scores), s.load(scores.add(LANES))) };
        if let Some(cap) = softcap {
            (low, high) = (soft_cap(s, low, cap), soft_cap(s, high, cap));
        }
        let whole = from == 0 && to == BLOCK_TOKENS;
        let seen = |[low, high]: [S::F; 2], otherwise: f32| {
            if whole {
                return [low, high];
            }
            let otherwise = s.splat(otherwise);
            let (high_from, high_to) = (from.saturating_sub(LANES), to.saturating_sub(LANES));
            [
                s.keep(low, otherwise, from, to),
                s.keep(high, otherwise, high_from, high_to),
            ]
        };
        let [known_low, known_high] = seen([low, high], f32::NEG_INFINITY);
        let largest = s.max_lane(s.max(known_low, known_high));
        // Most blocks have no larger score than those before.
        let mut rescale = 1.0;
        if largest > self.max[i] {
            let mut lanes = [0.0; LANES];
            // SAFETY: sixteen lanes of an array.
            unsafe { s.store(lanes.as_mut_ptr(), exp(s, s.splat(self.max[i] - largest))) };
            rescale = lanes[0];
            self.max[i] = largest;
        }
        let shift = s.splat(self.max[i]);
        let weights = [exp(s, s.sub(low, shift)), exp(s, s.sub(high, shift))];
        let [low, high] = seen(weights, 0.0);
        let (weights, sums) = (self.weights[i].as_mut_ptr(), self.sums[i].as_mut_ptr());
        // SAFETY: two vectors of weights, and one of sums.
        unsafe {
            E::store(s, weights, low);
            E::store(s, weights.add(LANES), high);
            s.store(
                sums,
                s.fma(s.load(sums), s.splat(rescale), s.add(low, high)),
            );
        }
        self.rescale[i] = rescale;
    }
}

/// One block of keys and values for some of a tile's queries.
struct Pass<'a, E> {
    tile: &'a QueryTile<'a, E>,
    /// Which block of the sequence.
    index: usize,
    /// `[padded H, 32]`.
    keys: *const E,
    /// `[32, padded H]`.
    values: *const E,
    /// The keys that are read next.
    next: *const E,
    /// `[queries, padded H]`.
    queries: &'a [E],
    /// The positions that each query sees.
    seen: &'a [Range<usize>],
    /// The first of the queries.
    first: usize,
}

impl<E: Element> Pass<'_, E> {
    /// For queries `first .. first + R`.
    #[inline(always)]
    fn run<S: Simd, const R: usize>(&self, s: S, running: &mut Running<E>) {
        let (_, vectors) = S::ATTENTION_TILE;
        for half in (0..BLOCK_TOKENS / LANES).step_by(vectors) {
            if vectors == 2 {
                self.scores::<S, R, 2>(s, half, running);
            } else {
                self.scores::<S, R, 1>(s, half, running);
            }
        }
        for i in self.first..self.first + R {
            let range = &self.seen[i];
            let start = self.index * BLOCK_TOKENS;
            let from = range.start.saturating_sub(start).min(BLOCK_TOKENS);
            let to = range.end.saturating_sub(start).min(BLOCK_TOKENS);
            running.weigh(s, i, from..to, self.tile.softcap);
        }
        let padded = self.tile.cache.shape.value_width();
        let mut d = 0;
        while d < padded {
            if vectors == 2 && padded - d >= 2 * LANES {
                self.weighted_values::<S, R, 2>(s, d, running);
                d += 2 * LANES;
            } else {
                self.weighted_values::<S, R, 1>(s, d, running);
                d += LANES;
            }
        }
    }

    /// Sends for `C` vectors of what is read next. The first pass over a block does, so that a decoding
    /// step, which reads each block once, does not wait for memory.
    #[inline(always)]
    fn send_for<S: Simd, const C: usize>(&self, s: S, from: *const E, at: usize) {
        if self.first == 0 {
            for c in 0..C {
                let line = from.wrapping_add(at + c * LANES * E::TOGETHER);
                s.prefetch(line.cast());
            }
        }
    }

    /// Scores of `R` queries with `16 C` keys of the block, from vector `half` on.
    #[inline(always)]
    fn scores<S: Simd, const R: usize, const C: usize>(
        &self,
        s: S,
        half: usize,
        running: &mut Running<E>,
    ) {
        let shape = self.tile.cache.shape;
        let mut sums = [[s.splat(0.0); C]; R];
        let mut queries = [self.queries.as_ptr(); R];
        for r in 0..R {
            queries[r] = self.queries[(self.first + r) * shape.value_width()..].as_ptr();
        }
        for d in 0..shape.key_width() / E::TOGETHER {
            // SAFETY: a block's keys are so many rows of 32, and a query is no shorter.
            unsafe {
                let at = (d * BLOCK_TOKENS + half * LANES) * E::TOGETHER;
                self.send_for::<S, C>(s, self.values, at);
                let mut columns = [E::load(s, self.keys.add(at)); C];
                for c in 1..C {
                    columns[c] = E::load(s, self.keys.add(at + c * LANES * E::TOGETHER));
                }
                for r in 0..R {
                    let query = E::splat(s, queries[r].add(d * E::TOGETHER));
                    for c in 0..C {
                        sums[r][c] = E::fma(s, columns[c], query, sums[r][c]);
                    }
                }
            }
        }
        for r in 0..R {
            let out = running.scores[self.first + r].as_mut_ptr();
            for c in 0..C {
                // SAFETY: 32 scores a query.
                unsafe { s.store(out.add((half + c) * LANES), sums[r][c]) };
            }
        }
    }

    /// Adds the block's weighted values, dimensions `d .. d + 16 C`, to what `R` queries have.
    #[inline(always)]
    fn weighted_values<S: Simd, const R: usize, const C: usize>(
        &self,
        s: S,
        d: usize,
        running: &mut Running<E>,
    ) {
        let padded = self.tile.cache.shape.value_width();
        let accumulated = running.values.as_mut_ptr();
        let mut sums = [[s.splat(0.0); C]; R];
        for r in 0..R {
            let rescale = s.splat(running.rescale[self.first + r]);
            for c in 0..C {
                let at = (self.first + r) * padded + d + c * LANES;
                // SAFETY: `padded` values a query.
                let before = unsafe { s.load(accumulated.add(at)) };
                sums[r][c] = s.mul(before, rescale);
            }
        }
        for position in (0..BLOCK_TOKENS).step_by(E::TOGETHER) {
            // SAFETY: a block's values are 32 rows of `padded`.
            unsafe {
                let at = self.values.add(position * padded + d * E::TOGETHER);
                self.send_for::<S, C>(s, self.next, (d + position) * BLOCK_TOKENS);
                let mut columns = [E::load(s, at); C];
                for c in 1..C {
                    columns[c] = E::load(s, at.add(c * LANES * E::TOGETHER));
                }
                for r in 0..R {
                    let weights = running.weights[self.first + r].as_ptr();
                    let weight = E::splat(s, weights.add(position));
                    for c in 0..C {
                        sums[r][c] = E::fma(s, columns[c], weight, sums[r][c]);
                    }
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                let at = (self.first + r) * padded + d + c * LANES;
                // SAFETY: as above.
                unsafe { s.store(accumulated.add(at), sums[r][c]) };
            }
        }
    }
}
