//! The 8-bit product: integer dots of blocks of 32, exact, then scales in a fixed order.
#![expect(unsafe_code, reason = "vector kernel over packed memory")]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]
#![expect(
    clippy::needless_range_loop,
    reason = "register tiles are indexed alike"
)]

use super::Columns;
use super::rows::{QuantRows, rows_at_once};
use super::tiles::Int8Tiles;
use crate::ops::simd::{BlockInputs, BlockWeights, Kernel, LANES, Simd, TileLayout};
use crate::weights::blocks::Form;

/// Bytes of activations that are used for all tiles of a task before the next are: a part of what
/// the nearest cache holds.
const INPUT_CACHE_BYTES: usize = 16 << 10;
/// What the processor fetches from memory at once.
const CACHE_LINE: usize = 64;

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
        let Form {
            bits,
            min,
            multiples,
        } = self.weights.layout().form;
        match (bits, min, multiples) {
            (8, false, false) => self.tiles::<S, 8, false, false>(s),
            (6, false, true) => self.tiles::<S, 6, false, true>(s),
            (5, false, false) => self.tiles::<S, 5, false, false>(s),
            (5, true, false) => self.tiles::<S, 5, true, false>(s),
            (5, true, true) => self.tiles::<S, 5, true, true>(s),
            (4, false, false) => self.tiles::<S, 4, false, false>(s),
            (4, true, false) => self.tiles::<S, 4, true, false>(s),
            (4, true, true) => self.tiles::<S, 4, true, true>(s),
            other => unreachable!("no form has {other:?}"),
        }
    }
}

impl Int8Product<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const BITS: u32, const MIN: bool, const MULTIPLES: bool>(&self, s: S) {
        let (rows_max, tiles_max) = S::INT8_TILE;
        let layout = const { TileLayout::of::<S, BITS, MIN, MULTIPLES>() };
        let blocks = self.weights.units() * layout.unit_blocks();
        let near = (INPUT_CACHE_BYTES / (blocks * size_of::<BlockInputs>()))
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
                let bytes = tiles * self.weights.units() * layout.unit_bytes();
                let share = if first == 0 {
                    bytes.div_ceil(CACHE_LINE * blocks * passes)
                } else {
                    0
                };
                let mut next = self.weights.tile(tile).as_ptr().wrapping_add(bytes);
                let mut row = first;
                while row < last {
                    let rows = rows_at_once(last - row, rows_max);
                    let ahead = Ahead { next, lines: share };
                    next = next.wrapping_add(share * blocks * CACHE_LINE);
                    match (rows, tiles) {
                        (1, 1) => self.tile::<S, 1, 1, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (2, 1) => self.tile::<S, 2, 1, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (3, 1) => self.tile::<S, 3, 1, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (4, 1) => self.tile::<S, 4, 1, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (5, 1) => self.tile::<S, 5, 1, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (6, 1) => self.tile::<S, 6, 1, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (1, 2) => self.tile::<S, 1, 2, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (2, 2) => self.tile::<S, 2, 2, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (3, 2) => self.tile::<S, 3, 2, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (4, 2) => self.tile::<S, 4, 2, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (5, 2) => self.tile::<S, 5, 2, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
                        (6, 2) => self.tile::<S, 6, 2, BITS, MIN, MULTIPLES>(s, row, tile, ahead),
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
    fn tile<
        S: Simd,
        const R: usize,
        const C: usize,
        const BITS: u32,
        const MIN: bool,
        const MULTIPLES: bool,
    >(
        &self,
        s: S,
        row: usize,
        tile: usize,
        mut ahead: Ahead,
    ) {
        let layout = const { TileLayout::of::<S, BITS, MIN, MULTIPLES>() };
        // Tiles lie behind one another.
        let tile_bytes = self.weights.tile(tile + C - 1).len();
        let mut unit = self.weights.tile(tile).as_ptr();
        let mut sums = [[s.int8_zero(); C]; R];
        let mut inputs = [self.x.row(row); R];
        for r in 1..R {
            inputs[r] = self.x.row(row + r);
        }
        for _ in 0..self.weights.units() {
            let mut common = [[s.int8_zero(); 2]; C];
            if MULTIPLES {
                for c in 0..C {
                    let tile = unit.wrapping_add(c * tile_bytes);
                    // SAFETY: a unit of this form has them.
                    unsafe {
                        common[c][0] = s.int8_common(tile.add(layout.common(0)).cast());
                        if MIN {
                            common[c][1] = s.int8_common(tile.add(layout.common(1)).cast());
                        }
                    }
                }
            }
            let mut quants = unit;
            let mut factors = unit.wrapping_add(layout.factors_of(0));
            for _ in 0..layout.unit_blocks() {
                for _ in 0..ahead.lines {
                    s.prefetch(ahead.next);
                    ahead.next = ahead.next.wrapping_add(CACHE_LINE);
                }
                let mut weights = [BlockWeights {
                    quants,
                    factors,
                    common: common[0],
                }; C];
                for c in 1..C {
                    weights[c] = BlockWeights {
                        quants: quants.wrapping_add(c * tile_bytes),
                        factors: factors.wrapping_add(c * tile_bytes),
                        common: common[c],
                    };
                }
                // SAFETY: the tiles and rows have so many blocks, and this is their form.
                unsafe {
                    sums = s.int8_block::<R, C, BITS, MIN, MULTIPLES>(sums, weights, inputs);
                }
                quants = quants.wrapping_add(layout.quant_bytes());
                factors = factors.wrapping_add(layout.factors_bytes());
                for inputs in &mut inputs {
                    *inputs = inputs.wrapping_add(1);
                }
            }
            unit = unit.wrapping_add(layout.unit_bytes());
        }
        for r in 0..R {
            for c in 0..C {
                let from = (tile + c) * S::INT8_COLUMNS;
                let width = S::INT8_COLUMNS.min(self.weights.n() - from);
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
