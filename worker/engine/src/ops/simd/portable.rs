//! Plain Rust: the reference the vector tiers are tested against.
#![expect(unsafe_code, reason = "raw loads, as the trait has them")]
#![expect(clippy::inline_always, reason = "the trait's rule")]

use super::{BlockInputs, BlockWeights, GROUP, LANES, Simd, TileLayout};
use crate::weights::blocks::BLOCK_WEIGHTS;
use half::{bf16, f16};
use std::array::from_fn;

/// Runs everywhere.
#[derive(Clone, Copy)]
pub(super) struct Portable;

// SAFETY of every block below: pointers are the caller's promise.
impl Simd for Portable {
    type F = [f32; LANES];
    type Pairs = [Self::F; 2];
    type Sums = Self::F;
    type Bytes = [u8; LANES * GROUP];

    const INT8_COLUMNS: usize = LANES;
    const INT8_TILE: (usize, usize) = (2, 1);
    const FLOAT_TILE: (usize, usize) = (2, 1);
    const ATTENTION_TILE: (usize, usize) = (2, 1);

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        unsafe { p.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        unsafe { p.cast::<Self::F>().write_unaligned(x) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn pow2(self, n: Self::F) -> Self::F {
        n.map(|n| f32::from_bits((to_i32(n) + 127).cast_unsigned() << 23))
    }
    #[inline(always)]
    fn keep(self, a: Self::F, fill: Self::F, from: usize, to: usize) -> Self::F {
        from_fn(|i| {
            if (from..to).contains(&i) {
                a[i]
            } else {
                fill[i]
            }
        })
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        let eight: [f32; 8] = from_fn(|i| a[i] + a[i + 8]);
        let four: [f32; 4] = from_fn(|i| eight[i] + eight[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: Self::F) -> i32 {
        #[expect(clippy::cast_possible_truncation, reason = "lanes hold -128 ..= 127")]
        let bytes = a.map(|x| x.round_ties_even() as i8);
        unsafe { p.cast::<[i8; LANES]>().write_unaligned(bytes) };
        bytes.map(i32::from).into_iter().sum()
    }

    #[inline(always)]
    unsafe fn load_pairs(self, p: *const bf16) -> Self::Pairs {
        let pairs = unsafe { p.cast::<[[bf16; 2]; LANES]>().read_unaligned() };
        from_fn(|part| pairs.map(|pair| pair[part].to_f32()))
    }
    #[inline(always)]
    unsafe fn splat_pair(self, p: *const bf16) -> Self::Pairs {
        let pair = unsafe { p.cast::<[bf16; 2]>().read_unaligned() };
        pair.map(|value| [value.to_f32(); LANES])
    }
    #[inline(always)]
    fn fma_pairs(self, a: Self::Pairs, b: Self::Pairs, c: Self::F) -> Self::F {
        self.fma(a[0], b[0], self.fma(a[1], b[1], c))
    }
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}
    #[inline(always)]
    unsafe fn bytes_load(self, p: *const u8) -> Self::Bytes {
        unsafe { p.cast::<Self::Bytes>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn bytes_store(self, p: *mut u8, a: Self::Bytes) {
        unsafe { p.cast::<Self::Bytes>().write_unaligned(a) }
    }
    #[inline(always)]
    fn bytes_or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn bytes_bits(self, a: Self::Bytes, left: i32, mask: u8) -> Self::Bytes {
        a.map(|byte| if left < 0 { byte >> -left } else { byte << left } & mask)
    }
    #[inline(always)]
    fn int8_zero(self) -> Self::Sums {
        [0.0; LANES]
    }
    #[inline(always)]
    unsafe fn int8_common(self, p: *const f16) -> Self::Sums {
        let halves = unsafe { p.cast::<[f16; LANES]>().read_unaligned() };
        halves.map(f16::to_f32)
    }
    #[inline(always)]
    unsafe fn int8_factors<const MULTIPLES: bool>(
        self,
        p: *const u8,
        common: Self::Sums,
    ) -> Self::Sums {
        if MULTIPLES {
            let factors = unsafe { p.cast::<[i8; LANES]>().read_unaligned() };
            self.mul(factors.map(f32::from), common)
        } else {
            unsafe { self.load(p.cast()) }
        }
    }
    #[inline(always)]
    unsafe fn int8_block<
        const R: usize,
        const C: usize,
        const BITS: u32,
        const MIN: bool,
        const MULTIPLES: bool,
    >(
        self,
        mut sums: [[Self::Sums; C]; R],
        weights: [BlockWeights<Self::Sums>; C],
        inputs: [*const BlockInputs; R],
    ) -> [[Self::Sums; C]; R] {
        let layout = const { TileLayout::of::<Self, BITS, MIN, MULTIPLES>() };
        let parts = layout.form.scales();
        let part_values = BLOCK_WEIGHTS / parts;
        for (sums, x) in sums.iter_mut().zip(inputs) {
            let x = unsafe { &*x };
            for (sums, block) in sums.iter_mut().zip(weights) {
                let bytes = |p, count| unsafe { std::slice::from_raw_parts(p, count) };
                let quants: &[u8] = bytes(block.quants, layout.quant_bytes());
                let factors = |at, common| unsafe {
                    self.int8_factors::<MULTIPLES>(block.factors.wrapping_add(at), common)
                };
                let mut products = [0.0; LANES];
                for part in 0..parts {
                    let scales = factors(layout.scales_of(part), block.common[0]);
                    let within = part * part_values..(part + 1) * part_values;
                    let raised = if MIN {
                        0
                    } else {
                        x.minus_part(part, parts) << (BITS - 1)
                    };
                    for (lane, product) in products.iter_mut().enumerate() {
                        let quant = |i: usize| i32::from(layout.quant(quants, lane, i));
                        let dot: i32 = within
                            .clone()
                            .map(|i| quant(i) * i32::from(x.quants[i]))
                            .sum();
                        #[expect(
                            clippy::cast_precision_loss,
                            reason = "sums of 32 products stay below 2^24"
                        )]
                        let dot = (dot + raised) as f32;
                        *product = if part == 0 {
                            dot * scales[lane]
                        } else {
                            dot.mul_add(scales[lane], *product)
                        };
                    }
                }
                *sums = self.fma(products, self.splat(x.scale), *sums);
                if MIN {
                    let mins = factors(layout.mins(), block.common[1]);
                    *sums = self.fma(mins, self.splat(x.minus_sum), *sums);
                }
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn int8_store(self, p: *mut f32, sums: Self::Sums) {
        unsafe { self.store(p, sums) }
    }
}

/// An integral value in the range of a shift.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "callers pass -126 ..= 127")]
fn to_i32(n: f32) -> i32 {
    n as i32
}
