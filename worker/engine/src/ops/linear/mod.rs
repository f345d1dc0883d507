//! Matrix products with stored weights: the one place that knows how weights are held.
#![expect(
    unsafe_code,
    reason = "the output is written by several tasks, each its own columns"
)]

mod dense;
mod int8;
mod rows;
#[cfg(test)]
mod tests;
mod tiles;

use crate::ops::parallel::{self, Shared};
use crate::ops::simd::{LANES, Tier};
use crate::weights::{RawTensor, WeightError};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use dense::{DenseProduct, DenseTiles, rows_as};
use half::bf16;
use int8::Int8Product;
use rows::QuantRows;
use std::ops::Range;
use tiles::Int8Tiles;

/// Tasks that a product is divided into for each thread.
const TASKS_A_THREAD: usize = 8;
/// Columns of a task, at least and at most, rounded down to whole tiles.
const COLUMNS_MIN: usize = 32;
const COLUMNS_MAX: usize = 512;

/// How a model's matrices are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// 32-bit floats: the reference.
    F32,
    /// bfloat16 weights and activations, sums in f32.
    Bf16,
    /// Blocks of 32 weights of at most 8 bits; activations are quantised too.
    Int8,
    /// Blocks of 32 weights of 4 bits, but quants that are stored already stay as they are.
    Int4,
}

/// One matrix `[n, k]`.
#[derive(Debug)]
enum Packed {
    F32(DenseTiles<f32>),
    Bf16(DenseTiles<bf16>),
    Int8(Int8Tiles),
}

impl Packed {
    fn new(
        raw: &RawTensor<'_>,
        storage: Storage,
        tier: Tier,
    ) -> std::result::Result<Self, WeightError> {
        Ok(match storage {
            Storage::F32 => Self::F32(DenseTiles::pack(raw)?),
            Storage::Bf16 => Self::Bf16(DenseTiles::pack(raw)?),
            Storage::Int8 => Self::Int8(Int8Tiles::pack(raw, false, tier)?),
            Storage::Int4 => Self::Int8(Int8Tiles::pack(raw, true, tier)?),
        })
    }

    fn n(&self) -> usize {
        match self {
            Self::F32(tiles) => tiles.n(),
            Self::Bf16(tiles) => tiles.n(),
            Self::Int8(tiles) => tiles.n(),
        }
    }

    /// Columns of a tile.
    fn tile_columns(&self) -> usize {
        match self {
            Self::F32(_) | Self::Bf16(_) => LANES,
            Self::Int8(tiles) => tiles.layout().columns,
        }
    }

    fn k(&self) -> usize {
        match self {
            Self::F32(tiles) => tiles.k(),
            Self::Bf16(tiles) => tiles.k(),
            Self::Int8(tiles) => tiles.k(),
        }
    }
}

/// `x W^T` for one or more matrices `[n, k]` that share their input: `[T, k]` → `[T, Σ n]`.
///
/// A row's result is bit-equal for any number of rows and on every tier.
#[derive(Debug)]
pub struct Linear {
    parts: Vec<Packed>,
    tier: Tier,
    k: usize,
    n: usize,
}

impl Linear {
    /// Packs `matrices`, whose outputs lie side by side in the result.
    pub fn new(
        matrices: &[RawTensor<'_>],
        storage: Storage,
        tier: Tier,
    ) -> std::result::Result<Self, WeightError> {
        let parts: Vec<_> = matrices
            .iter()
            .map(|raw| Packed::new(raw, storage, tier))
            .collect::<std::result::Result<_, _>>()?;
        let k = parts.first().map_or(0, Packed::k);
        if let Some(odd) = matrices.iter().find(|raw| raw.cols != k) {
            return Err(WeightError::Shape {
                name: odd.name.clone(),
                expected: vec![odd.rows, k],
                found: vec![odd.rows, odd.cols],
            });
        }
        let n = parts.iter().map(Packed::n).sum();
        Ok(Self { parts, tier, k, n })
    }

    /// Width of the output.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Width of the input.
    pub fn k(&self) -> usize {
        self.k
    }

    /// `[T, k]` f32 → `[T, n]` f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(self)
    }

    /// `[T * k]` → `[T * n]`.
    pub fn product(&self, x: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        self.product_into(x, &mut out);
        out
    }

    /// `[T * k]` → `[T * n]`, in the place of what is in `out`, whose memory is used again: of a large
    /// product, memory that is new costs as much as some of the computing.
    pub fn product_into(&self, x: &[f32], out: &mut Vec<f32>) {
        let rows = x.len() / self.k;
        let any = |held: fn(&Packed) -> bool| self.parts.iter().any(held);
        let quantized = any(|part| matches!(part, Packed::Int8(_)))
            .then(|| QuantRows::new(self.tier, x, self.k));
        let halved = any(|part| matches!(part, Packed::Bf16(_)))
            .then(|| rows_as::<bf16>(self.tier, x, self.k));
        let tasks = self.tasks();
        // SAFETY: the tasks cover every tile of every part, and each writes its columns of all rows.
        unsafe {
            parallel::refill(out, rows * self.n, |out| {
                parallel::for_each(tasks.len(), rows * self.n * self.k, |index| {
                    let Task {
                        part,
                        tiles,
                        column,
                    } = tasks[index].clone();
                    let to = Columns {
                        tiles,
                        out,
                        stride: self.n,
                        column,
                    };
                    match (&self.parts[part], &halved, &quantized) {
                        (Packed::F32(weights), _, _) => {
                            self.tier
                                .run_over::<f32, _>(DenseProduct { weights, x, to });
                        }
                        (Packed::Bf16(weights), Some(x), _) => {
                            self.tier
                                .run_over::<bf16, _>(DenseProduct { weights, x, to });
                        }
                        (Packed::Int8(weights), _, Some(x)) => {
                            self.tier.run(Int8Product { weights, x, to });
                        }
                        (Packed::Bf16(_) | Packed::Int8(_), _, _) => unreachable!("made above"),
                    }
                });
            });
        }
    }

    /// Row `index` of the first matrix, as an embedding table has it, into `out` `[k]`.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        match &self.parts[0] {
            Packed::F32(tiles) => tiles.row(index, out),
            Packed::Bf16(tiles) => tiles.row(index, out),
            Packed::Int8(tiles) => tiles.row(index, out),
        }
    }

    /// Groups of tiles: some for each thread, so that none waits long for the last, but not small
    /// ones, which would read the input again and again.
    fn tasks(&self) -> Vec<Task> {
        let enough = TASKS_A_THREAD * parallel::threads();
        let columns = (self.n / enough).clamp(COLUMNS_MIN, COLUMNS_MAX);
        let mut tasks = Vec::new();
        let mut column = 0;
        for (part, packed) in self.parts.iter().enumerate() {
            let width = packed.tile_columns();
            let tiles = packed.n().div_ceil(width);
            for first in (0..tiles).step_by(columns / width) {
                tasks.push(Task {
                    part,
                    tiles: first..tiles.min(first + columns / width),
                    column,
                });
            }
            column += packed.n();
        }
        tasks
    }
}

/// Tiles of a part whose output begins at `column`.
#[derive(Clone)]
struct Task {
    part: usize,
    tiles: Range<usize>,
    column: usize,
}

/// Some tiles of a matrix, and where their products go.
struct Columns {
    tiles: Range<usize>,
    /// `[rows, stride]`; the product of the matrix begins at column `column`.
    out: Shared<f32>,
    stride: usize,
    column: usize,
}

impl CustomOp1 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = super::rows_of(storage, layout, self.k)?;
        let rows = x.len() / self.k;
        Ok((
            CpuStorage::F32(self.product(x)),
            Shape::from((rows, self.n)),
        ))
    }
}
