//! The float product: one chain of fused multiply-adds along k for each row and column.
//!
//! Weights of bf16 are multiplied by activations rounded to bf16, and summed up in f32.
#![expect(unsafe_code, reason = "vector kernel over packed memory")]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use super::Columns;
use super::rows::rows_at_once;
use crate::ops::buffer::Buffer;
use crate::ops::parallel::{self, Shared};
use crate::ops::simd::{Element, Kernel, LANES, Simd, Tier, load_part, place, store_part};
use crate::weights::{RawTensor, WeightError, blocks};
use rayon::prelude::*;
use std::marker::PhantomData;

/// A weight matrix `[n, k]` of f32 or bf16, in tiles of 16 columns: `[tiles, steps, 16, together]`.
#[derive(Debug)]
pub(crate) struct DenseTiles<E> {
    n: usize,
    k: usize,
    /// Neighbours along k of all columns that are multiplied at once: `k / together`, the last filled
    /// up with 0.
    steps: usize,
    values: Buffer,
    element: PhantomData<E>,
}

impl<E: Element> DenseTiles<E> {
    /// Packs a stored matrix, rounding it to `E`.
    pub(crate) fn pack(raw: &RawTensor<'_>) -> Result<Self, WeightError> {
        let steps = raw.cols.div_ceil(E::TOGETHER);
        let tile_bytes = steps * E::TOGETHER * LANES * size_of::<E>();
        let mut values =
            Buffer::zeroed(raw.rows.div_ceil(LANES) * tile_bytes).map_err(|source| {
                WeightError::Memory {
                    name: raw.name.clone(),
                    source,
                }
            })?;
        values
            .as_mut_slice()
            .par_chunks_mut(tile_bytes)
            .enumerate()
            .try_for_each(|(tile, bytes)| {
                // SAFETY: pages are aligned for any E, and any bytes are valid f32 or bf16.
                let (_, packed, _) = unsafe { bytes.align_to_mut::<E>() };
                let first = tile * LANES;
                let rows = LANES.min(raw.rows - first);
                let source = blocks::rows_f32(raw, first, rows)?;
                for (lane, row) in source.chunks_exact(raw.cols).enumerate() {
                    for (i, x) in row.iter().enumerate() {
                        packed[place::<E>(i, lane, LANES)] = E::from_f32(*x);
                    }
                }
                Ok(())
            })?;
        Ok(Self {
            n: raw.rows,
            k: raw.cols,
            steps,
            values,
            element: PhantomData,
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
        for (i, value) in out.iter_mut().enumerate() {
            // SAFETY: index < n and i < k.
            *value = unsafe { *self.tile(tile).add(place::<E>(i, lane, LANES)) }.to_f32();
        }
    }

    /// The first value of a tile.
    ///
    /// # Safety
    /// `tile` is below the number of tiles.
    #[inline(always)]
    unsafe fn tile(&self, tile: usize) -> *const E {
        let values = self.steps * E::TOGETHER * LANES;
        // SAFETY: the caller's promise.
        unsafe { self.values.as_ptr().cast::<E>().add(tile * values) }
    }
}

/// Activations `[rows, k]` as `E`, each row filled up with 0 to whole steps.
pub(super) fn rows_as<E: Element>(tier: Tier, x: &[f32], k: usize) -> Vec<E> {
    let (rows, padded) = (x.len() / k, k.next_multiple_of(E::TOGETHER));
    // SAFETY: every row's task writes the row.
    unsafe {
        parallel::filled(rows * padded, |out| {
            parallel::for_each(rows, x.len(), |row| {
                tier.run_over::<E, _>(Convert {
                    x: &x[row * k..(row + 1) * k],
                    out,
                    first: row * padded,
                    padded,
                });
            });
        })
    }
}

/// Converts one row.
struct Convert<'a, E> {
    x: &'a [f32],
    out: Shared<E>,
    /// Where the row begins.
    first: usize,
    /// What it is filled up to.
    padded: usize,
}

impl<E: Element> Kernel for Convert<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for from in (0..self.padded).step_by(LANES) {
            let mut converted = [E::default(); LANES];
            let width = LANES.min(self.padded - from);
            // SAFETY: as many values of the row as there are, and its own part of the output.
            unsafe {
                let values = load_part(s, self.x.as_ptr().add(from), self.x.len() - from);
                E::store(s, converted.as_mut_ptr(), values);
                let out = self.out.at(self.first + from);
                out.copy_from_nonoverlapping(converted.as_ptr(), width);
            }
        }
    }
}

/// All rows of `x` times some tiles of `weights`.
pub(super) struct DenseProduct<'a, E> {
    pub weights: &'a DenseTiles<E>,
    /// `[rows, steps, together]`.
    pub x: &'a [E],
    pub to: Columns,
}

impl<E: Element> Kernel for DenseProduct<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (rows_max, columns_max) = S::FLOAT_TILE;
        let rows_all = self.x.len() / (self.weights.steps * E::TOGETHER);
        let mut tile = self.to.tiles.start;
        while tile < self.to.tiles.end {
            let columns = columns_max.min(self.to.tiles.end - tile);
            let mut row = 0;
            while row < rows_all {
                let rows = rows_at_once(rows_all - row, rows_max);
                match (rows, columns) {
                    (1, 1) => self.tile::<S, 1, 1>(s, row, tile),
                    (2, 1) => self.tile::<S, 2, 1>(s, row, tile),
                    (3, 1) => self.tile::<S, 3, 1>(s, row, tile),
                    (4, 1) => self.tile::<S, 4, 1>(s, row, tile),
                    (5, 1) => self.tile::<S, 5, 1>(s, row, tile),
                    (6, 1) => self.tile::<S, 6, 1>(s, row, tile),
                    (1, 2) => self.tile::<S, 1, 2>(s, row, tile),
                    (2, 2) => self.tile::<S, 2, 2>(s, row, tile),
                    (3, 2) => self.tile::<S, 3, 2>(s, row, tile),
                    (4, 2) => self.tile::<S, 4, 2>(s, row, tile),
                    (5, 2) => self.tile::<S, 5, 2>(s, row, tile),
                    (6, 2) => self.tile::<S, 6, 2>(s, row, tile),
                    other => unreachable!("no kernel for a tile of {other:?}"),
                }
                row += rows;
            }
            tile += columns;
        }
    }
}

impl<E: Element> DenseProduct<'_, E> {
    /// `R` rows by `C` tiles, all of k.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize>(&self, s: S, row: usize, tile: usize) {
        let steps = self.weights.steps;
        let mut sums = [[s.splat(0.0); C]; R];
        let mut columns = [self.weights.values.as_ptr().cast::<E>(); C];
        for (c, column) in columns.iter_mut().enumerate() {
            // SAFETY: tile + c is below the number of tiles.
            *column = unsafe { self.weights.tile(tile + c) };
        }
        let mut rows = [self.x.as_ptr(); R];
        for (r, pointer) in rows.iter_mut().enumerate() {
            // SAFETY: row + r is below the number of rows.
            *pointer = unsafe { pointer.add((row + r) * steps * E::TOGETHER) };
        }
        for step in 0..steps {
            let at = step * LANES * E::TOGETHER;
            // SAFETY: a tile holds so many steps of sixteen columns.
            let mut w = [unsafe { E::load(s, columns[0].add(at)) }; C];
            for c in 1..C {
                // SAFETY: as above.
                w[c] = unsafe { E::load(s, columns[c].add(at)) };
            }
            for r in 0..R {
                // SAFETY: a row holds so many steps.
                let x = unsafe { E::splat(s, rows[r].add(step * E::TOGETHER)) };
                for c in 0..C {
                    sums[r][c] = E::fma(s, w[c], x, sums[r][c]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                let from = (tile + c) * LANES;
                let width = LANES.min(self.weights.n - from);
                let at = (row + r) * self.to.stride + self.to.column + from;
                // SAFETY: within row `row + r` of the output; other tasks write other tiles.
                unsafe { store_part(s, self.to.out.at(at), *sum, width) };
            }
        }
    }
}
