//! The 8-bit product: integer dots of blocks of 32, exact, then scales in a fixed order.
//!
//! Layout: tiles of 16 columns; a tile holds, for each block of 32 along k, eight groups of 64
//! bytes: four k-values of each column. Weights are unsigned (see [`Block`]) and activations
//! signed, as the dot-product instruction wants them. Where quants have four bits, a byte holds two:
//! the lower half of group `i` and the upper half of group `i + 4`.
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

/// K-values a group holds of each column.
const GROUP: usize = 4;
/// Groups of a block.
const GROUPS: usize = BLOCK_WEIGHTS / GROUP;
/// Bytes of one group.
const GROUP_BYTES: usize = LANES * GROUP;

/// A weight matrix `[n, k]` in blocks of 8-bit quants.
#[derive(Debug)]
pub(crate) struct Int8Tiles {
    n: usize,
    k: usize,
    /// Blocks of 32 along k.
    blocks: usize,
    /// Whether a byte holds two quants.
    nibbles: bool,
    /// `[tiles, blocks, 8, 16, 4]`, or 4 groups of pairs.
    quants: Buffer,
    /// `[tiles, blocks, 16]`.
    scales: Vec<f32>,
    /// `[tiles, blocks, 16]`; empty if the format has none.
    mins: Vec<f32>,
}

impl Int8Tiles {
    /// Packs a stored matrix: as it is where [`Block`] can hold its format, else in 8 bits, or in
    /// 4 bits if `four_bit`.
    pub(crate) fn pack(raw: &RawTensor<'_>, four_bit: bool) -> Result<Self, WeightError> {
        let tiles = raw.rows.div_ceil(LANES);
        let blocks = raw.cols.div_ceil(BLOCK_WEIGHTS);
        let four_bit = four_bit && !blocks::is_exact(raw.dtype);
        let nibbles = four_bit || blocks::is_four_bit(raw.dtype);
        let with_min = four_bit || blocks::has_min(raw.dtype);
        let block_bytes = block_bytes(nibbles);
        let mut quants =
            Buffer::zeroed(tiles * blocks * block_bytes).map_err(|source| WeightError::Memory {
                name: raw.name.clone(),
                source,
            })?;
        let mut scales = vec![0.0; tiles * blocks * LANES];
        let mut mins = vec![0.0; if with_min { scales.len() } else { tiles }];
        let mins_a_tile = mins.len() / tiles;
        quants
            .as_mut_slice()
            .par_chunks_mut(blocks * block_bytes)
            .zip(scales.par_chunks_mut(blocks * LANES))
            .zip(mins.par_chunks_mut(mins_a_tile))
            .enumerate()
            .try_for_each(|(tile, ((quants, scales), mins))| {
                let first = tile * LANES;
                let rows = LANES.min(raw.rows - first);
                let source = TileSource::open(raw, first, rows, four_bit)?;
                for lane in 0..rows {
                    for index in 0..blocks {
                        let block = source.block(lane, index);
                        scatter(
                            &block,
                            lane,
                            &mut quants[index * block_bytes..][..block_bytes],
                        );
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
            nibbles,
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
        let block_bytes = block_bytes(self.nibbles);
        for (i, value) in out.iter_mut().enumerate() {
            let at = tile * self.blocks + i / BLOCK_WEIGHTS;
            let block = &self.quants.as_slice()[at * block_bytes..][..block_bytes];
            let (byte, upper) = place(block_bytes, lane, i % BLOCK_WEIGHTS);
            let quant = match (self.nibbles, upper) {
                (false, _) => block[byte],
                (true, false) => block[byte] & 0xF,
                (true, true) => block[byte] >> 4,
            };
            let (scale, quant) = (self.scales[at * LANES + lane], f32::from(quant));
            *value = match self.mins.get(at * LANES + lane) {
                Some(min) => scale * quant - min,
                None => scale * (quant - f32::from(ZERO_POINT)),
            };
        }
    }
}

/// Bytes of one block of one tile.
fn block_bytes(nibbles: bool) -> usize {
    if nibbles {
        GROUPS / 2 * GROUP_BYTES
    } else {
        GROUPS * GROUP_BYTES
    }
}

/// The byte of a block's value `within` of column `lane`, and whether it is the upper half.
fn place(block_bytes: usize, lane: usize, within: usize) -> (usize, bool) {
    let at = within / GROUP * GROUP_BYTES + lane * GROUP + within % GROUP;
    (at % block_bytes, at >= block_bytes)
}

fn scatter(block: &Block, lane: usize, tile_block: &mut [u8]) {
    for (within, quant) in block.quants.iter().enumerate() {
        let (byte, upper) = place(tile_block.len(), lane, within);
        tile_block[byte] |= if upper { quant << 4 } else { *quant };
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
        four_bit: bool,
    },
}

impl<'a> TileSource<'a> {
    fn open(
        raw: &'a RawTensor<'a>,
        first: usize,
        rows: usize,
        four_bit: bool,
    ) -> Result<Self, WeightError> {
        if blocks::is_exact(raw.dtype) {
            Ok(Self::Exact { raw, first })
        } else {
            let values = blocks::rows_f32(raw, first, rows)?;
            Ok(Self::Float {
                cols: raw.cols,
                values,
                four_bit,
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
            Self::Float {
                cols,
                values,
                four_bit,
            } => {
                let row = &values[row * cols..(row + 1) * cols];
                let end = (index + 1) * BLOCK_WEIGHTS;
                let values = &row[index * BLOCK_WEIGHTS..end.min(*cols)];
                if *four_bit {
                    blocks::quantize_block_4(values)
                } else {
                    blocks::quantize_block(values)
                }
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
        if self.weights.nibbles {
            self.tiles::<S, true, true>(s);
        } else if self.weights.mins.is_empty() {
            self.tiles::<S, false, false>(s);
        } else {
            self.tiles::<S, true, false>(s);
        }
    }
}

impl Int8Product<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const MIN: bool, const NIBBLES: bool>(&self, s: S) {
        let (rows_max, columns_max) = S::INT8_TILE;
        let mut tile = self.first;
        while tile < self.last {
            let columns = columns_max.min(self.last - tile);
            let mut row = 0;
            while row < self.x.rows() {
                let rows = rows_max.min(self.x.rows() - row);
                match (rows, columns) {
                    (1, 1) => self.tile::<S, 1, 1, MIN, NIBBLES>(s, row, tile),
                    (2, 1) => self.tile::<S, 2, 1, MIN, NIBBLES>(s, row, tile),
                    (3, 1) => self.tile::<S, 3, 1, MIN, NIBBLES>(s, row, tile),
                    (4, 1) => self.tile::<S, 4, 1, MIN, NIBBLES>(s, row, tile),
                    (5, 1) => self.tile::<S, 5, 1, MIN, NIBBLES>(s, row, tile),
                    (6, 1) => self.tile::<S, 6, 1, MIN, NIBBLES>(s, row, tile),
                    (1, 2) => self.tile::<S, 1, 2, MIN, NIBBLES>(s, row, tile),
                    (2, 2) => self.tile::<S, 2, 2, MIN, NIBBLES>(s, row, tile),
                    (3, 2) => self.tile::<S, 3, 2, MIN, NIBBLES>(s, row, tile),
                    (4, 2) => self.tile::<S, 4, 2, MIN, NIBBLES>(s, row, tile),
                    (5, 2) => self.tile::<S, 5, 2, MIN, NIBBLES>(s, row, tile),
                    (6, 2) => self.tile::<S, 6, 2, MIN, NIBBLES>(s, row, tile),
                    other => unreachable!("no kernel for a tile of {other:?}"),
                }
                row += rows;
            }
            tile += columns;
        }
    }

    /// `R` rows by `C` tiles, all of k.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize, const MIN: bool, const NIBBLES: bool>(
        &self,
        s: S,
        row: usize,
        tile: usize,
    ) {
        let (weights, x) = (self.weights, self.x);
        let (blocks, block_bytes) = (weights.blocks, block_bytes(NIBBLES));
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
                let at = ((tile + c) * blocks + block) * block_bytes;
                // SAFETY: tile + c is below the number of tiles, block below that of blocks.
                *column = unsafe { column.add(at) };
            }
            for group in 0..GROUPS {
                // SAFETY: a tile block holds eight groups, or four of pairs.
                let mut w = [unsafe { load_group::<S, NIBBLES>(s, columns[0], group) }; C];
                for c in 1..C {
                    // SAFETY: as above.
                    w[c] = unsafe { load_group::<S, NIBBLES>(s, columns[c], group) };
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

/// One group of a tile block.
///
/// # Safety
/// `block` is valid for a tile block's bytes.
#[inline(always)]
unsafe fn load_group<S: Simd, const NIBBLES: bool>(s: S, block: *const u8, group: usize) -> S::W {
    const HALF: usize = GROUPS / 2;
    // SAFETY: the caller's promise.
    unsafe {
        if NIBBLES {
            s.load_nibbles(block.add(group % HALF * GROUP_BYTES), group >= HALF)
        } else {
            s.load_weights(block.add(group * GROUP_BYTES))
        }
    }
}
