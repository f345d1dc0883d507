//! The 8-bit product: integer dots of blocks of 32, exact, then scales in a fixed order.
//!
//! Layout: tiles of as many columns as a vector of the tier's holds sums of; a tile holds one
//! [`TileBlock`] for each block of 32 along k. Weights are unsigned (see [`Form`]) and activations
//! signed, as the dot-product instructions want them.
#![expect(unsafe_code, reason = "vector kernel over packed memory")]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]
#![expect(
    clippy::needless_range_loop,
    reason = "register tiles are indexed alike"
)]

use super::Columns;
use super::rows::{QuantRows, rows_at_once};
use crate::ops::buffer::Buffer;
use crate::ops::simd::{BlockInputs, GROUP, Kernel, LANES, Simd, Tier, TileBlock};
use crate::weights::blocks::{self, BLOCK_WEIGHTS, Block, Form};
use crate::weights::{RawTensor, WeightError};
use rayon::prelude::*;

/// Bytes of activations that are used for all tiles of a task before the next are: a part of what
/// the nearest cache holds.
const INPUT_CACHE_BYTES: usize = 16 << 10;
/// What the processor fetches from memory at once.
const CACHE_LINE: usize = 64;

/// A weight matrix `[n, k]` in blocks of 8-bit quants.
#[derive(Debug)]
pub(crate) struct Int8Tiles {
    n: usize,
    k: usize,
    /// Blocks of 32 along k.
    blocks: usize,
    layout: TileBlock,
    /// `[tiles, blocks]` of [`TileBlock`].
    bytes: Buffer,
}

impl Int8Tiles {
    /// Packs a stored matrix: as it is where a [`Form`] holds its format, else in 8 bits, or in 4
    /// bits if `four_bit`.
    pub(crate) fn pack(
        raw: &RawTensor<'_>,
        four_bit: bool,
        tier: Tier,
    ) -> Result<Self, WeightError> {
        let rounded = if four_bit {
            Form::FOUR_BIT
        } else {
            Form::EIGHT_BIT
        };
        let form = Form::exact(raw.dtype).unwrap_or(rounded);
        let layout = TileBlock {
            columns: tier.int8_columns(),
            form,
        };
        let blocks = raw.cols.div_ceil(BLOCK_WEIGHTS);
        let tile_bytes = blocks * layout.bytes();
        let tiles = raw.rows.div_ceil(layout.columns);
        let mut bytes =
            Buffer::zeroed(tiles * tile_bytes).map_err(|source| WeightError::Memory {
                name: raw.name.clone(),
                source,
            })?;
        bytes
            .as_mut_slice()
            .par_chunks_mut(tile_bytes)
            .enumerate()
            .try_for_each(|(tile, bytes)| {
                let first = tile * layout.columns;
                let rows = layout.columns.min(raw.rows - first);
                let source = TileSource::open(raw, first, rows, four_bit)?;
                for (index, bytes) in bytes.chunks_exact_mut(layout.bytes()).enumerate() {
                    for column in 0..rows {
                        scatter(&source.block(column, index), layout, column, bytes);
                    }
                }
                Ok(())
            })?;
        Ok(Self {
            n: raw.rows,
            k: raw.cols,
            blocks,
            layout,
            bytes,
        })
    }

    pub(crate) fn n(&self) -> usize {
        self.n
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// Columns of a tile.
    pub(crate) fn columns(&self) -> usize {
        self.layout.columns
    }

    /// Row `index` of the matrix as f32, into `out` `[k]`.
    pub(crate) fn row(&self, index: usize, out: &mut [f32]) {
        let TileBlock { columns, form } = self.layout;
        let (tile, column) = (index / columns, index % columns);
        let mut blocks = self.tile(tile).chunks_exact(self.layout.bytes());
        for (values, block) in out.chunks_mut(BLOCK_WEIGHTS).zip(&mut blocks) {
            let scales = [0, form.scales() - 1]
                .map(|part| float(block, self.layout.scales_of(part), column));
            let min = if form.min {
                float(block, self.layout.mins(), column)
            } else {
                0.0
            };
            for (within, value) in values.iter_mut().enumerate() {
                let (byte, upper) = place(self.layout, column, within);
                let quant = match (form.bits, upper) {
                    (4, false) => block[byte] & 0xF,
                    (4, true) => block[byte] >> 4,
                    _ => block[byte],
                };
                let scale = scales[within * 2 / BLOCK_WEIGHTS];
                *value = form.value(quant, scale, min);
            }
        }
    }

    /// The blocks of a tile.
    #[inline(always)]
    fn tile(&self, tile: usize) -> &[u8] {
        let bytes = self.blocks * self.layout.bytes();
        &self.bytes.as_slice()[tile * bytes..][..bytes]
    }
}

/// The byte of a block's value `within` of a column, and whether it is the upper half.
fn place(layout: TileBlock, column: usize, within: usize) -> (usize, bool) {
    let at = within / GROUP * layout.group_bytes() + column * GROUP + within % GROUP;
    (at % layout.scales(), at >= layout.scales())
}

/// The float of a column in the floats that begin at byte `at`.
fn float(block: &[u8], at: usize, column: usize) -> f32 {
    let (floats, _) = block[at..].as_chunks();
    f32::from_ne_bytes(floats[column])
}

fn scatter(block: &Block, layout: TileBlock, column: usize, bytes: &mut [u8]) {
    for (within, quant) in block.quants.iter().enumerate() {
        let (byte, upper) = place(layout, column, within);
        bytes[byte] |= if upper { quant << 4 } else { *quant };
    }
    let mut set = |at: usize, value: f32| {
        let at = at + column * size_of::<f32>();
        bytes[at..at + size_of::<f32>()].copy_from_slice(&value.to_ne_bytes());
    };
    for (part, scale) in block.scales.iter().take(layout.form.scales()).enumerate() {
        set(layout.scales_of(part), *scale);
    }
    if layout.form.min {
        set(layout.mins(), block.min);
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
        if Form::exact(raw.dtype).is_some() {
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
    pub to: Columns,
}

/// Memory that a pass over tiles sends for.
struct Ahead {
    /// Where it begins; it may lie behind the last tile.
    next: *const u8,
    /// Cache lines with each block.
    lines: usize,
}

impl Kernel for Int8Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Form { bits, min } = self.weights.layout.form;
        match (bits, min) {
            (8, false) => self.tiles::<S, 8, false>(s),
            (6, false) => self.tiles::<S, 6, false>(s),
            (5, false) => self.tiles::<S, 5, false>(s),
            (5, true) => self.tiles::<S, 5, true>(s),
            (4, false) => self.tiles::<S, 4, false>(s),
            (4, true) => self.tiles::<S, 4, true>(s),
            other => unreachable!("no form has {other:?}"),
        }
    }
}

impl Int8Product<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const BITS: u32, const MIN: bool>(&self, s: S) {
        let (rows_max, tiles_max) = S::INT8_TILE;
        let row_bytes = self.weights.blocks * size_of::<BlockInputs>();
        let near = (INPUT_CACHE_BYTES / row_bytes)
            .max(1)
            .next_multiple_of(rows_max);
        for first in (0..self.x.rows()).step_by(near) {
            let last = self.x.rows().min(first + near);
            let mut tile = self.to.tiles.start;
            while tile < self.to.tiles.end {
                let tiles = tiles_max.min(self.to.tiles.end - tile);
                // Only the first rows' passes over tiles wait for memory; each sends for a share of
                // the tiles that come next.
                let passes = last.div_ceil(rows_max);
                let bytes = tiles * self.weights.blocks * self.weights.layout.bytes();
                let share = if first == 0 {
                    bytes.div_ceil(CACHE_LINE * self.weights.blocks * passes)
                } else {
                    0
                };
                let mut next = self.weights.tile(tile).as_ptr().wrapping_add(bytes);
                let mut row = first;
                while row < last {
                    let rows = rows_at_once(last - row, rows_max);
                    let ahead = Ahead { next, lines: share };
                    next = next.wrapping_add(share * self.weights.blocks * CACHE_LINE);
                    match (rows, tiles) {
                        (1, 1) => self.tile::<S, 1, 1, BITS, MIN>(s, row, tile, ahead),
                        (2, 1) => self.tile::<S, 2, 1, BITS, MIN>(s, row, tile, ahead),
                        (3, 1) => self.tile::<S, 3, 1, BITS, MIN>(s, row, tile, ahead),
                        (4, 1) => self.tile::<S, 4, 1, BITS, MIN>(s, row, tile, ahead),
                        (5, 1) => self.tile::<S, 5, 1, BITS, MIN>(s, row, tile, ahead),
                        (6, 1) => self.tile::<S, 6, 1, BITS, MIN>(s, row, tile, ahead),
                        (1, 2) => self.tile::<S, 1, 2, BITS, MIN>(s, row, tile, ahead),
                        (2, 2) => self.tile::<S, 2, 2, BITS, MIN>(s, row, tile, ahead),
                        (3, 2) => self.tile::<S, 3, 2, BITS, MIN>(s, row, tile, ahead),
                        (4, 2) => self.tile::<S, 4, 2, BITS, MIN>(s, row, tile, ahead),
                        (5, 2) => self.tile::<S, 5, 2, BITS, MIN>(s, row, tile, ahead),
                        (6, 2) => self.tile::<S, 6, 2, BITS, MIN>(s, row, tile, ahead),
                        other => unreachable!("no kernel for a tile of {other:?}"),
                    }
                    row += rows;
                }
                tile += tiles;
            }
        }
    }

    /// `R` rows by `C` tiles, all of k.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize, const BITS: u32, const MIN: bool>(
        &self,
        s: S,
        row: usize,
        tile: usize,
        mut ahead: Ahead,
    ) {
        let mut sums = [[s.int8_zero(); C]; R];
        let mut weights = [self.weights.tile(tile).as_ptr(); C];
        for c in 1..C {
            weights[c] = self.weights.tile(tile + c).as_ptr();
        }
        let mut inputs = [self.x.row(row); R];
        for r in 1..R {
            inputs[r] = self.x.row(row + r);
        }
        let block_bytes = self.weights.layout.bytes();
        for _ in 0..self.weights.blocks {
            for _ in 0..ahead.lines {
                s.prefetch(ahead.next);
                ahead.next = ahead.next.wrapping_add(CACHE_LINE);
            }
            // SAFETY: the tiles and rows have so many blocks, and this is their form.
            unsafe { sums = s.int8_block::<R, C, BITS, MIN>(sums, weights, inputs) };
            for weights in &mut weights {
                *weights = weights.wrapping_add(block_bytes);
            }
            for inputs in &mut inputs {
                *inputs = inputs.wrapping_add(1);
            }
        }
        for r in 0..R {
            for c in 0..C {
                let from = (tile + c) * S::INT8_COLUMNS;
                let width = S::INT8_COLUMNS.min(self.weights.n - from);
                let at = (row + r) * self.to.stride + self.to.column + from;
                // SAFETY: within row `row + r` of the output; other tasks write other tiles.
                unsafe { store_part(s, self.to.out.at(at), sums[r][c], width) };
            }
        }
    }
}

/// Stores the first `width` sums at `p`.
///
/// # Safety
/// `p` is valid for `width` values.
#[inline(always)]
unsafe fn store_part<S: Simd>(s: S, p: *mut f32, sums: S::Sums, width: usize) {
    if width == S::INT8_COLUMNS {
        // SAFETY: the caller's promise.
        unsafe { s.int8_store(p, sums) };
    } else {
        let mut lanes = [0.0; LANES];
        // SAFETY: the array holds all sums; `width` of them fit at `p`.
        unsafe {
            s.int8_store(lanes.as_mut_ptr(), sums);
            p.copy_from_nonoverlapping(lanes.as_ptr(), width);
        }
    }
}
