//! Activations quantised for the 8-bit product: each row alone, in blocks of 32.
#![expect(
    unsafe_code,
    reason = "vector kernel; unchecked reads of what it wrote"
)]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use crate::ops::parallel::{self, Shared};
use crate::ops::simd::{BlockInputs, Kernel, LANES, Simd, Tier, load_part};
use crate::weights::blocks::BLOCK_WEIGHTS;

/// How many of the `left` rows to take next, at most `most`: nearly as many each time, because a few
/// cost nearly what `most` cost.
#[inline(always)]
pub(super) fn rows_at_once(left: usize, most: usize) -> usize {
    left.div_ceil(left.div_ceil(most))
}

/// `[rows, k]` activations as signed bytes with a scale a block.
#[derive(Debug)]
pub(super) struct QuantRows {
    rows: usize,
    count: usize,
    /// `[rows, count]`, zero beyond k.
    blocks: Vec<BlockInputs>,
}

impl QuantRows {
    /// Quantises `x` `[rows, k]`: scale `max |x| / 127` a block, to the nearest even.
    pub(super) fn new(tier: Tier, x: &[f32], k: usize) -> Self {
        let rows = x.len() / k;
        let count = k.div_ceil(BLOCK_WEIGHTS);
        // SAFETY: every row's task writes the row's blocks.
        let blocks = unsafe {
            parallel::filled(rows * count, |blocks| {
                parallel::for_each(rows, x.len(), |row| {
                    tier.run(Quantize {
                        x: &x[row * k..(row + 1) * k],
                        blocks,
                        first: row * count,
                    });
                });
            })
        };
        Self {
            rows,
            count,
            blocks,
        }
    }

    #[inline(always)]
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The blocks of a row that exists.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> *const BlockInputs {
        self.blocks[row * self.count..].as_ptr()
    }
}

/// Quantises one row.
struct Quantize<'a> {
    x: &'a [f32],
    blocks: Shared<BlockInputs>,
    /// Where the row's blocks begin.
    first: usize,
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (index, values) in self.x.chunks(BLOCK_WEIGHTS).enumerate() {
            let (from, rest) = (values.as_ptr(), values.len().saturating_sub(LANES));
            // SAFETY: no more than the block's values are read.
            let low = unsafe { load_part(s, from, values.len()) };
            let high = unsafe { load_part(s, from.wrapping_add(LANES), rest) };
            let largest = s.max_lane(s.max(s.abs(low), s.abs(high)));
            let inverse = s.splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
            let scale = largest / 127.0;
            let (low, high) = (s.mul(low, inverse), s.mul(high, inverse));
            let mut quants = [0; BLOCK_WEIGHTS];
            let to: *mut i8 = quants.as_mut_ptr();
            // SAFETY: two vectors are the block's quants.
            let (first, second) = unsafe { (s.store_i8(to, low), s.store_i8(to.add(LANES), high)) };
            #[expect(
                clippy::cast_precision_loss,
                reason = "a whole number of at most 32 * 127"
            )]
            let whole = (first + second) as f32;
            let block = BlockInputs {
                quants,
                scale,
                minus_quants: -first - second,
                minus_first: -first,
                minus_sum: -scale * whole,
            };
            // SAFETY: this task alone writes the row's blocks.
            unsafe { self.blocks.at(self.first + index).write(block) };
        }
    }
}
