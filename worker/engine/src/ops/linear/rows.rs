//! Activations quantised for the 8-bit product: each row alone, in blocks of 32.
#![expect(
    unsafe_code,
    reason = "vector kernel; unchecked reads of what it wrote"
)]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use crate::ops::parallel::{self, Shared, shared};
use crate::ops::simd::{Kernel, LANES, Simd, Tier};
use crate::weights::blocks::{BLOCK_WEIGHTS, ZERO_POINT};

/// `[rows, k]` activations as signed bytes with a scale a block.
#[derive(Debug)]
pub(super) struct QuantRows {
    rows: usize,
    blocks: usize,
    /// `[rows, blocks, 32]`, zero beyond k.
    quants: Vec<i8>,
    /// `[rows, blocks]`.
    scales: Vec<f32>,
    /// `[rows, blocks]`: `-ZERO_POINT * Σ quants`, where an integer sum must start if weights are
    /// raised by [`ZERO_POINT`].
    starts: Vec<i32>,
    /// `[rows, blocks]`: `-scale * Σ quants`, what a weight's minimum is multiplied by.
    minus_sums: Vec<f32>,
}

impl QuantRows {
    /// Quantises `x` `[rows, k]`: scale `max |x| / 127` a block, to the nearest even.
    pub(super) fn new(tier: Tier, x: &[f32], k: usize) -> Self {
        let rows = x.len() / k;
        let blocks = k.div_ceil(BLOCK_WEIGHTS);
        let mut all = Self {
            rows,
            blocks,
            quants: vec![0; rows * blocks * BLOCK_WEIGHTS],
            scales: vec![0.0; rows * blocks],
            starts: vec![0; rows * blocks],
            minus_sums: vec![0.0; rows * blocks],
        };
        let job = Quantize {
            x,
            k,
            blocks,
            quants: shared(&mut all.quants),
            scales: shared(&mut all.scales),
            starts: shared(&mut all.starts),
            minus_sums: shared(&mut all.minus_sums),
            row: 0,
        };
        parallel::for_each(rows, x.len(), |row| tier.run(Quantize { row, ..job }));
        all
    }

    #[inline(always)]
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The 32 quants of a block.
    #[inline(always)]
    pub(super) fn block(&self, row: usize, block: usize) -> *const i8 {
        // SAFETY: callers pass row < rows and block < blocks, as the constructor sized them.
        unsafe {
            self.quants
                .as_ptr()
                .add((row * self.blocks + block) * BLOCK_WEIGHTS)
        }
    }

    #[inline(always)]
    pub(super) fn scale(&self, row: usize, block: usize) -> f32 {
        // SAFETY: as in `block`.
        unsafe { *self.scales.get_unchecked(row * self.blocks + block) }
    }

    #[inline(always)]
    pub(super) fn start(&self, row: usize, block: usize) -> i32 {
        // SAFETY: as in `block`.
        unsafe { *self.starts.get_unchecked(row * self.blocks + block) }
    }

    #[inline(always)]
    pub(super) fn minus_sum(&self, row: usize, block: usize) -> f32 {
        // SAFETY: as in `block`.
        unsafe { *self.minus_sums.get_unchecked(row * self.blocks + block) }
    }
}

/// Quantises one row.
#[derive(Clone, Copy)]
struct Quantize<'a> {
    x: &'a [f32],
    k: usize,
    blocks: usize,
    quants: Shared<i8>,
    scales: Shared<f32>,
    starts: Shared<i32>,
    minus_sums: Shared<f32>,
    row: usize,
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let row = &self.x[self.row * self.k..(self.row + 1) * self.k];
        for block in 0..self.blocks {
            let values = &row[block * BLOCK_WEIGHTS..self.k.min((block + 1) * BLOCK_WEIGHTS)];
            let mut padded = [0.0_f32; BLOCK_WEIGHTS];
            let from = if values.len() == BLOCK_WEIGHTS {
                values.as_ptr()
            } else {
                padded[..values.len()].copy_from_slice(values);
                padded.as_ptr()
            };
            // SAFETY: `from` points at 32 values.
            let (low, high) = unsafe { (s.load(from), s.load(from.add(LANES))) };
            let largest = s.max_lane(s.max(s.abs(low), s.abs(high)));
            let inverse = s.splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
            let scale = largest / 127.0;
            let (low, high) = (s.round(s.mul(low, inverse)), s.round(s.mul(high, inverse)));
            // Whole numbers of at most 32 * 127: exact in f32.
            let sum = s.sum(s.add(low, high));
            let at = self.row * self.blocks + block;
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^13")]
            let whole = sum as i32;
            // SAFETY: `at` lies within each array, and this task alone writes this row.
            unsafe {
                s.store_i8(self.quants.at(at * BLOCK_WEIGHTS), low);
                s.store_i8(self.quants.at(at * BLOCK_WEIGHTS + LANES), high);
                *self.scales.at(at) = scale;
                *self.starts.at(at) = -i32::from(ZERO_POINT) * whole;
                *self.minus_sums.at(at) = -scale * sum;
            }
        }
    }
}
