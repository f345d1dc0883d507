//! The 8-bit product: integer dots of blocks of 32, exact, then scales in a fixed order.
//!
//! Layout: tiles of 16 columns; a tile holds, for each block of 32 along k, eight groups of 64
//! bytes: four k-values of each column. Weights are unsigned (see [`Block`]) and activations
//! signed, as the dot-product instruction wants them.
#![expect(unsafe_code, reason = "vector kernel over packed memory")]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]
#![expect(
    clippy::needless_range_loop,
    reason = "register tiles are indexed alike"
)]

use super::rows::QuantRows;
use crate::ops::buffer::Buffer;
use crate::ops::parallel::Shared;
use crate::ops::simd::{Kernel, LANES, Simd, store_part};
use crate::weights::blocks::{self, BLOCK_WEIGHTS, Block, ZERO_POINT};
use crate::weights::{RawTensor, WeightError};
use rayon::prelude::*;

/// Bytes of one block of one tile.
const TILE_BLOCK_BYTES: usize = LANES * BLOCK_WEIGHTS;
/// K-values a group holds of each column.
const GROUP: usize = 4;

/// A weight matrix `[n, k]` in blocks of 8-bit quants.
#[derive(Debug)]
pub(crate) struct Int8Tiles {
    n: usize,
    k: usize,
    /// Blocks of 32 along k.
    blocks: usize,
    /// `[tiles, blocks, 8, 16, 4]`.
    quants: Buffer,
    /// `[tiles, blocks, 16]`.
    scales: Vec<f32>,
    /// `[tiles, blocks, 16]`; empty if the format has none.
    mins: Vec<f32>,
}

impl Int8Tiles {
    /// Packs a stored matrix, exactly where [`Block`] can hold its format.
    pub(crate) fn pack(raw: &RawTensor<'_>) -> Result<Self, WeightError> {
        let tiles = raw.rows.div_ceil(LANES);
        let blocks = raw.cols.div_ceil(BLOCK_WEIGHTS);
        let with_min = blocks::has_min(raw.dtype);
        let mut quants = Buffer::zeroed(tiles * blocks * TILE_BLOCK_BYTES).map_err(|source| {
            WeightError::Memory {
                name: raw.name.clone(),
                source,
            }
        })?;
        let mut scales = vec![0.0; tiles * blocks * LANES];
        let mut mins = vec![0.0; if with_min { scales.len() } else { tiles }];
        let mins_a_tile = mins.len() / tiles;
        quants
            .as_mut_slice()
            .par_chunks_mut(blocks * TILE_BLOCK_BYTES)
            .zip(scales.par_chunks_mut(blocks * LANES))
            .zip(mins.par_chunks_mut(mins_a_tile))
            .enumerate()
            .try_for_each(|(tile, ((quants, scales), mins))| {
                let first = tile * LANES;
                let rows = LANES.min(raw.rows - first);
                let source = TileSource::open(raw, first, rows)?;
                for lane in 0..rows {
                    for index in 0..blocks {
                        let block = source.block(lane, index);
                        scatter(&block, lane, &mut quants[index * TILE_BLOCK_BYTES..]);
                        scales[index * LANES + lane] = block.scale;
                        if with_min {
                            mins[index * LANES + lane] = block.min;
                        }
                    }
                }
                Ok(())
            })?;
        if !with_min {
            mins.clear();
        }
        Ok(Self {
            n: raw.rows,
            k: raw.cols,
            blocks,
            quants,
            scales,
            mins,
        })
    }

    pub(crate) fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// Row `index` of the matrix as f32, into `out` `[k]`.
    pub(crate) fn row(&self, index: usize, out: &mut [f32]) {
        let (tile, lane) = (index / LANES, index % LANES);
        let quants = self.quants.as_slice();
        for (i, value) in out.iter_mut().enumerate() {
            let (block, within) = (i / BLOCK_WEIGHTS, i % BLOCK_WEIGHTS);
            let at = tile * self.blocks + block;
            let byte = at * TILE_BLOCK_BYTES + offset_in_block(lane, within);
            let scale = self.scales[at * LANES + lane];
            let quant = f32::from(quants[byte]);
            *value = match self.mins.get(at * LANES + lane) {
                Some(min) => scale * quant - min,
                None => scale * (quant - f32::from(ZERO_POINT)),
            };
        }
    }
}

/// Where a block's value `within` of column `lane` lies among the tile block's bytes.
fn offset_in_block(lane: usize, within: usize) -> usize {
    within / GROUP * LANES * GROUP + lane * GROUP + within % GROUP
}

fn scatter(block: &Block, lane: usize, tile_block: &mut [u8]) {
    for (within, quant) in block.quants.iter().enumerate() {
        tile_block[offset_in_block(lane, within)] = *quant;
    }
}

/// The rows that make one tile: stored blocks, or f32 still to be quantised.
enum TileSource<'a> {
    Exact {
        raw: &'a RawTensor<'a>,
        first: usize,
    },
    Float {
        cols: usize,
        values: Vec<f32>,
    },
}

impl<'a> TileSource<'a> {
    fn open(raw: &'a RawTensor<'a>, first: usize, rows: usize) -> Result<Self, WeightError> {
        if blocks::is_exact(raw.dtype) {
            Ok(Self::Exact { raw, first })
        } else {
            Ok(Self::Float {
                cols: raw.cols,
                values: blocks::rows_f32(raw, first, rows)?,
            })
        }
    }

    fn block(&self, row: usize, index: usize) -> Block {
        match self {
            Self::Exact { raw, first } => {
                let bytes = raw.row_bytes();
                let stored = &raw.bytes[(first + row) * bytes..][..bytes];
                blocks::exact_block(raw.dtype, stored, index)
            }
            Self::Float { cols, values } => {
                let row = &values[row * cols..(row + 1) * cols];
                let end = (index + 1) * BLOCK_WEIGHTS;
                blocks::quantize_block(&row[index * BLOCK_WEIGHTS..end.min(*cols)])
            }
        }
    }
}

/// All rows of `x` times some tiles of `weights`.
pub(super) struct Int8Product<'a> {
    pub weights: &'a Int8Tiles,
    pub x: &'a QuantRows,
    /// Tiles `first .. last` of `weights`.
    pub first: usize,
    pub last: usize,
    /// `[rows, stride]`; the product of `weights` begins at column `column`.
    pub out: Shared<f32>,
    pub stride: usize,
    pub column: usize,
}

impl Kernel for Int8Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.weights.mins.is_empty() {
            self.tiles::<S, false>(s);
        } else {
            self.tiles::<S, true>(s);
        }
    }
}

impl Int8Product<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const MIN: bool>(&self, s: S) {
        let (rows_max, columns_max) = S::INT8_TILE;
        let mut tile = self.first;
        while tile < self.last {
            let columns = columns_max.min(self.last - tile);
            let mut row = 0;
            while row < self.x.rows() {
                let rows = rows_max.min(self.x.rows() - row);
                match (rows, columns) {
                    (1, 1) => self.tile::<S, 1, 1, MIN>(s, row, tile),
                    (2, 1) => self.tile::<S, 2, 1, MIN>(s, row, tile),
                    (3, 1) => self.tile::<S, 3, 1, MIN>(s, row, tile),
                    (4, 1) => self.tile::<S, 4, 1, MIN>(s, row, tile),
                    (5, 1) => self.tile::<S, 5, 1, MIN>(s, row, tile),
                    (6, 1) => self.tile::<S, 6, 1, MIN>(s, row, tile),
                    (1, 2) => self.tile::<S, 1, 2, MIN>(s, row, tile),
                    (2, 2) => self.tile::<S, 2, 2, MIN>(s, row, tile),
                    (3, 2) => self.tile::<S, 3, 2, MIN>(s, row, tile),
                    (4, 2) => self.tile::<S, 4, 2, MIN>(s, row, tile),
                    (5, 2) => self.tile::<S, 5, 2, MIN>(s, row, tile),
                    (6, 2) => self.tile::<S, 6, 2, MIN>(s, row, tile),
                    other => unreachable!("no kernel for a tile of {other:?}"),
                }
                row += rows;
            }
            tile += columns;
        }
    }

    /// `R` rows by `C` tiles, all of k.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize, const MIN: bool>(
        &self,
        s: S,
        row: usize,
        tile: usize,
    ) {
        let (weights, x) = (self.weights, self.x);
        let blocks = weights.blocks;
        let mut sums = [[s.splat(0.0); C]; R];
        for block in 0..blocks {
            let mut acc = [[s.acc(0); C]; R];
            if !MIN {
                for (r, acc) in acc.iter_mut().enumerate() {
                    *acc = [s.acc(x.start(row + r, block)); C];
                }
            }
            let mut columns = [weights.quants.as_ptr(); C];
            for (c, column) in columns.iter_mut().enumerate() {
                // SAFETY: tile + c is below the number of tiles, block below that of blocks.
                *column = unsafe { column.add(((tile + c) * blocks + block) * TILE_BLOCK_BYTES) };
            }
            for group in 0..BLOCK_WEIGHTS / GROUP {
                // SAFETY: a tile block holds eight groups of 64 bytes.
                let mut w = [unsafe { s.load_weights(columns[0].add(group * 64)) }; C];
                for c in 1..C {
                    // SAFETY: as above.
                    w[c] = unsafe { s.load_weights(columns[c].add(group * 64)) };
                }
                for r in 0..R {
                    // SAFETY: a row holds `blocks` blocks of 32 activations.
                    let a =
                        unsafe { s.load_activations(x.block(row + r, block).add(group * GROUP)) };
                    for c in 0..C {
                        acc[r][c] = s.dot(acc[r][c], w[c], a);
                    }
                }
            }
            for c in 0..C {
                let at = ((tile + c) * blocks + block) * LANES;
                // SAFETY: sixteen scales a tile block.
                let scale = unsafe { s.load(weights.scales.as_ptr().add(at)) };
                for r in 0..R {
                    let factor = s.mul(scale, s.splat(x.scale(row + r, block)));
                    sums[r][c] = s.fma(s.acc_to_f32(acc[r][c]), factor, sums[r][c]);
                }
                if MIN {
                    // SAFETY: sixteen minima a tile block.
                    let min = unsafe { s.load(weights.mins.as_ptr().add(at)) };
                    for r in 0..R {
                        let sum = s.splat(x.minus_sum(row + r, block));
                        sums[r][c] = s.fma(min, sum, sums[r][c]);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                let from = (tile + c) * LANES;
                let width = LANES.min(weights.n - from);
                let at = (row + r) * self.stride + self.column + from;
                // SAFETY: within row `row + r` of the output; other tasks write other tiles.
                unsafe { store_part(s, self.out.at(at), *sum, width) };
            }
        }
    }
}
