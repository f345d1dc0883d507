//! The float product: one chain of fused multiply-adds along k for each row and column.
#![expect(unsafe_code, reason = "vector kernel over packed memory")]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use crate::ops::buffer::Buffer;
use crate::ops::parallel::Shared;
use crate::ops::simd::{Element, Kernel, LANES, Simd, store_part};
use crate::weights::{RawTensor, WeightError, blocks};
use rayon::prelude::*;
use std::marker::PhantomData;

/// A weight matrix `[n, k]` of f32 or bf16, in tiles of 16 columns: `[tiles, k, 16]`.
#[derive(Debug)]
pub(crate) struct DenseTiles<E> {
    n: usize,
    k: usize,
    values: Buffer,
    element: PhantomData<E>,
}

impl<E: Element> DenseTiles<E> {
    /// Packs a stored matrix, rounding it to `E`.
    pub(crate) fn pack(raw: &RawTensor<'_>) -> Result<Self, WeightError> {
        let tile_bytes = raw.cols * LANES * size_of::<E>();
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
                        packed[i * LANES + lane] = E::from_f32(*x);
                    }
                }
                Ok(())
            })?;
        Ok(Self {
            n: raw.rows,
            k: raw.cols,
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
            *value = unsafe { *self.tile(tile).add(i * LANES + lane) }.to_f32();
        }
    }

    /// The first value of a tile.
    ///
    /// # Safety
    /// `tile` is below the number of tiles.
    #[inline(always)]
    unsafe fn tile(&self, tile: usize) -> *const E {
        // SAFETY: the caller's promise.
        unsafe { self.values.as_ptr().cast::<E>().add(tile * self.k * LANES) }
    }
}

/// All rows of `x` times some tiles of `weights`.
pub(super) struct DenseProduct<'a, E> {
    pub weights: &'a DenseTiles<E>,
    /// `[rows, k]`.
    pub x: &'a [f32],
    /// Tiles `first .. last` of `weights`.
    pub first: usize,
    pub last: usize,
    /// `[rows, stride]`; the product of `weights` begins at column `column`.
    pub out: Shared<f32>,
    pub stride: usize,
    pub column: usize,
}

impl<E: Element> Kernel for DenseProduct<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (rows_max, columns_max) = S::FLOAT_TILE;
        let rows_all = self.x.len() / self.weights.k;
        let mut tile = self.first;
        while tile < self.last {
            let columns = columns_max.min(self.last - tile);
            let mut row = 0;
            while row < rows_all {
                let rows = rows_max.min(rows_all - row);
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
        let k = self.weights.k;
        let mut sums = [[s.splat(0.0); C]; R];
        let mut columns = [self.weights.values.as_ptr().cast::<E>(); C];
        for (c, column) in columns.iter_mut().enumerate() {
            // SAFETY: tile + c is below the number of tiles.
            *column = unsafe { self.weights.tile(tile + c) };
        }
        let mut rows = [self.x.as_ptr(); R];
        for (r, pointer) in rows.iter_mut().enumerate() {
            // SAFETY: row + r is below the number of rows.
            *pointer = unsafe { pointer.add((row + r) * k) };
        }
        for i in 0..k {
            // SAFETY: a tile holds k vectors of sixteen.
            let mut w = [unsafe { E::load(s, columns[0].add(i * LANES)) }; C];
            for c in 1..C {
                // SAFETY: as above.
                w[c] = unsafe { E::load(s, columns[c].add(i * LANES)) };
            }
            for r in 0..R {
                // SAFETY: a row holds k values.
                let x = s.splat(unsafe { *rows[r].add(i) });
                for c in 0..C {
                    sums[r][c] = s.fma(w[c], x, sums[r][c]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                let from = (tile + c) * LANES;
                let width = LANES.min(self.weights.n - from);
                let at = (row + r) * self.stride + self.column + from;
                // SAFETY: within row `row + r` of the output; other tasks write other tiles.
                unsafe { store_part(s, self.out.at(at), *sum, width) };
            }
        }
    }
}
