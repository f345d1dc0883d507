//! Plain Rust: the reference the vector tiers are tested against.
#![expect(unsafe_code, reason = "raw loads, as the trait has them")]
#![expect(clippy::inline_always, reason = "the trait's rule")]

use super::{LANES, Simd};
use half::bf16;
use std::array::from_fn;

/// Runs everywhere.
#[derive(Clone, Copy)]
pub(super) struct Portable;

// SAFETY of every block below: pointers are the caller's promise.
impl Simd for Portable {
    type F = [f32; LANES];
    type W = [[u8; 4]; LANES];
    type A = [i8; 4];
    type Acc = [i32; LANES];

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
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F {
        unsafe { p.cast::<[bf16; LANES]>().read_unaligned() }.map(bf16::to_f32)
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
    unsafe fn store_i8(self, p: *mut i8, a: Self::F) {
        #[expect(clippy::cast_possible_truncation, reason = "lanes hold -128 ..= 127")]
        let bytes = a.map(|x| x as i8);
        unsafe { p.cast::<[i8; LANES]>().write_unaligned(bytes) }
    }

    #[inline(always)]
    unsafe fn load_weights(self, p: *const u8) -> Self::W {
        unsafe { p.cast::<Self::W>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_nibbles(self, p: *const u8, upper: bool) -> Self::W {
        let shift = if upper { 4 } else { 0 };
        unsafe { self.load_weights(p) }.map(|column| column.map(|pair| pair >> shift & 0xF))
    }
    #[inline(always)]
    unsafe fn load_activations(self, p: *const i8) -> Self::A {
        unsafe { p.cast::<Self::A>().read_unaligned() }
    }
    #[inline(always)]
    fn acc(self, start: i32) -> Self::Acc {
        [start; LANES]
    }
    #[inline(always)]
    fn dot(self, acc: Self::Acc, w: Self::W, a: Self::A) -> Self::Acc {
        from_fn(|c| {
            let product = |i: usize| i32::from(w[c][i]) * i32::from(a[i]);
            acc[c] + product(0) + product(1) + product(2) + product(3)
        })
    }
    #[inline(always)]
    fn acc_to_f32(self, acc: Self::Acc) -> Self::F {
        #[expect(
            clippy::cast_precision_loss,
            reason = "sums of 32 products stay below 2^24"
        )]
        acc.map(|x| x as f32)
    }
}

/// An integral value in the range of a shift.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "callers pass -126 ..= 127")]
fn to_i32(n: f32) -> i32 {
    n as i32
}
