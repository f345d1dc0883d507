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
use crate::ops::simd::{BlockInputs, BlockWeights, Kernel, LANES, Simd, TileLayout, expand};
use crate::weights::blocks::Form;
use std::cell::Cell;
use std::ops::Range;

/// Bytes of activations that are used for all tiles of a task before the next are: a part of what
/// the nearest cache holds.
const INPUT_CACHE_BYTES: usize = 16 << 10;
/// What the processor fetches from memory at once.
const CACHE_LINE: usize = 64;
/// How far ahead of a single pass tiles are sent for: over the page's end, where the processor stops
/// guessing, but not so far that the nearest caches lose them again.
const AHEAD_BYTES: usize = 5 << 10;
/// From so many rows on, quants that take long to unpack are unpacked once for all.
const EXPANDED_ROWS_MIN: usize = 48;
/// Bytes of tiles that are unpacked at once, if those of one pass are no more: a part of what the second
/// cache of a processor core holds.
const EXPANDED_BYTES: usize = 512 << 10;

thread_local! {
    /// Room for unpacked tiles, kept from product to product.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// All rows of `x` times some tiles of `weights`.
pub(super) struct Int8Product<'a> {
    pub weights: &'a Int8Tiles,
    pub x: &'a QuantRows,
    pub to: Columns,
}

/// Tiles of one form that lie behind one another, as many as a product uses.
#[derive(Clone, Copy)]
struct Tiles {
    at: *const u8,
    /// Of each.
    bytes: usize,
    /// Blocks of each.
    blocks: usize,
}

/// Memory that is sent for while tiles are used, because it is used next. It may lie behind the matrix.
struct Next {
    at: *const u8,
    /// For each tile that is used.
    bytes: usize,
}

/// A pass of some rows over some tiles.
struct Pass {
    /// The first row, and the first tile of the matrix.
    row: usize,
    tile: usize,
    /// Where the tiles lie, from the first on.
    tiles: Tiles,
    /// What to send for, and how many cache lines of it with each block.
    ahead: *const u8,
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
        let often = self.x.rows() >= EXPANDED_ROWS_MIN;
        match (bits, min, multiples) {
            (8, false, false) => self.stored::<S, 8, false, false>(s),
            (6, false, true) if often => self.expanded::<S, 6, false>(s),
            (6, false, true) => self.stored::<S, 6, false, true>(s),
            (5, false, false) => self.stored::<S, 5, false, false>(s),
            (5, true, false) => self.stored::<S, 5, true, false>(s),
            (5, true, true) if often => self.expanded::<S, 5, true>(s),
            (5, true, true) => self.stored::<S, 5, true, true>(s),
            (4, false, false) => self.stored::<S, 4, false, false>(s),
            (4, true, false) => self.stored::<S, 4, true, false>(s),
            (4, true, true) => self.stored::<S, 4, true, true>(s),
            other => unreachable!("no form has {other:?}"),
        }
    }
}

impl Int8Product<'_> {
    /// Whether all rows go through the registers at once. Then only memory is waited for, and it is
    /// fastest as one stream: the tiles one after the other.
    #[inline(always)]
    fn one_pass<S: Simd>(&self) -> bool {
        self.x.rows() <= S::INT8_TILE.0
    }

    /// Multiplies with the tiles as they are stored.
    #[inline(always)]
    fn stored<S: Simd, const BITS: u32, const MIN: bool, const MULTIPLES: bool>(&self, s: S) {
        let layout = const { TileLayout::of::<S, BITS, MIN, MULTIPLES>() };
        let first = self.weights.tile(self.to.tiles.start);
        let tiles = Tiles {
            at: first.as_ptr(),
            bytes: first.len(),
            blocks: self.weights.units() * layout.unit_blocks(),
        };
        let ahead = if self.one_pass::<S>() {
            AHEAD_BYTES
        } else {
            S::INT8_TILE.1 * tiles.bytes
        };
        let next = Next {
            at: tiles.at.wrapping_add(ahead),
            bytes: tiles.bytes,
        };
        self.product::<S, BITS, MIN, MULTIPLES>(s, tiles, self.to.tiles.clone(), &next);
    }

    /// Unpacks as many tiles as a cache holds, multiplies with them, and goes on.
    #[inline(always)]
    fn expanded<S: Simd, const BITS: u32, const MIN: bool>(&self, s: S) {
        let layout = const { TileLayout::of::<S, BITS, MIN, true>() };
        let plain = const { TileLayout::of::<S, BITS, MIN, false>() };
        let blocks = self.weights.units() * layout.unit_blocks();
        let bytes = blocks * plain.unit_bytes();
        let tiles_max = S::INT8_TILE.1;
        let most = (EXPANDED_BYTES / (tiles_max * bytes)).max(1) * tiles_max;
        let mut room = ROOM.take();
        let enough = room.len().max(most * bytes + CACHE_LINE);
        room.resize(enough, 0);
        let at = room.as_mut_ptr();
        let at = at.wrapping_add(at.align_offset(CACHE_LINE));
        for first in self.to.tiles.clone().step_by(most) {
            let tiles = first..self.to.tiles.end.min(first + most);
            for tile in tiles.clone() {
                let stored = self.weights.tile(tile).chunks_exact(layout.unit_bytes());
                let tile_at = at.wrapping_add((tile - first) * bytes);
                for (unit, stored) in stored.enumerate() {
                    let to = unit * layout.unit_blocks() * plain.unit_bytes();
                    // SAFETY: the unit is of this form; there is room for `most` tiles.
                    unsafe { expand::<S, BITS, MIN>(s, stored.as_ptr(), tile_at.wrapping_add(to)) };
                }
            }
            let stored = self.weights.tile(tiles.end - 1);
            let next = Next {
                at: stored.as_ptr_range().end,
                bytes: stored.len(),
            };
            let expanded = Tiles { at, bytes, blocks };
            self.product::<S, BITS, MIN, false>(s, expanded, tiles, &next);
        }
        ROOM.set(room);
    }

    /// All rows times some tiles of the matrix, which lie at `tiles`; `columns` says which they are.
    #[inline(always)]
    fn product<S: Simd, const BITS: u32, const MIN: bool, const MULTIPLES: bool>(
        &self,
        s: S,
        tiles: Tiles,
        columns: Range<usize>,
        next: &Next,
    ) {
        let rows_max = S::INT8_TILE.0;
        let tiles_max = if self.one_pass::<S>() {
            1
        } else {
            S::INT8_TILE.1
        };
        let near = (INPUT_CACHE_BYTES / (tiles.blocks * size_of::<BlockInputs>()))
            .max(1)
            .next_multiple_of(rows_max);
        for first in (0..self.x.rows()).step_by(near) {
            let last = self.x.rows().min(first + near);
            for tile in columns.clone().step_by(tiles_max) {
                let count = tiles_max.min(columns.end - tile);
                let before = tile - columns.start;
                // Only the first rows' passes over tiles wait for memory; each sends for a share of
                // what comes next.
                let passes = last.div_ceil(rows_max);
                let lines = if first == 0 {
                    (count * next.bytes).div_ceil(CACHE_LINE * tiles.blocks * passes)
                } else {
                    0
                };
                let mut pass = Pass {
                    row: first,
                    tile,
                    tiles: Tiles {
                        at: tiles.at.wrapping_add(before * tiles.bytes),
                        ..tiles
                    },
                    ahead: next.at.wrapping_add(before * next.bytes),
                    lines,
                };
                while pass.row < last {
                    let rows = rows_at_once(last - pass.row, rows_max);
                    match (rows, count) {
                        (1, 1) => self.tile::<S, 1, 1, BITS, MIN, MULTIPLES>(s, &pass),
                        (2, 1) => self.tile::<S, 2, 1, BITS, MIN, MULTIPLES>(s, &pass),
                        (3, 1) => self.tile::<S, 3, 1, BITS, MIN, MULTIPLES>(s, &pass),
                        (4, 1) => self.tile::<S, 4, 1, BITS, MIN, MULTIPLES>(s, &pass),
                        (5, 1) => self.tile::<S, 5, 1, BITS, MIN, MULTIPLES>(s, &pass),
                        (6, 1) => self.tile::<S, 6, 1, BITS, MIN, MULTIPLES>(s, &pass),
                        (1, 2) => self.tile::<S, 1, 2, BITS, MIN, MULTIPLES>(s, &pass),
                        (2, 2) => self.tile::<S, 2, 2, BITS, MIN, MULTIPLES>(s, &pass),
                        (3, 2) => self.tile::<S, 3, 2, BITS, MIN, MULTIPLES>(s, &pass),
                        (4, 2) => self.tile::<S, 4, 2, BITS, MIN, MULTIPLES>(s, &pass),
                        (5, 2) => self.tile::<S, 5, 2, BITS, MIN, MULTIPLES>(s, &pass),
                        (6, 2) => self.tile::<S, 6, 2, BITS, MIN, MULTIPLES>(s, &pass),
                        other => unreachable!("no kernel for a tile of {other:?}"),
                    }
                    pass.row += rows;
                    pass.ahead = pass.ahead.wrapping_add(lines * tiles.blocks * CACHE_LINE);
                }
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
        pass: &Pass,
    ) {
        let layout = const { TileLayout::of::<S, BITS, MIN, MULTIPLES>() };
        let &Pass {
            row,
            tile,
            tiles,
            lines,
            mut ahead,
        } = pass;
        let mut unit = tiles.at;
        let mut sums = [[s.int8_zero(); C]; R];
        let mut inputs = [self.x.row(row); R];
        for r in 1..R {
            inputs[r] = self.x.row(row + r);
        }
        for _ in 0..tiles.blocks / layout.unit_blocks() {
            let mut common = [[s.int8_zero(); 2]; C];
            if MULTIPLES {
                for c in 0..C {
                    let tile = unit.wrapping_add(c * tiles.bytes);
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
                for _ in 0..lines {
                    s.prefetch(ahead);
                    ahead = ahead.wrapping_add(CACHE_LINE);
                }
                let mut weights = [BlockWeights {
                    quants,
                    factors,
                    common: common[0],
                }; C];
                for c in 1..C {
                    weights[c] = BlockWeights {
                        quants: quants.wrapping_add(c * tiles.bytes),
                        factors: factors.wrapping_add(c * tiles.bytes),
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
