//! AVX2 with FMA: a vector of sixteen lanes is two registers.
#![expect(unsafe_code, reason = "vector intrinsics and raw loads")]
#![expect(
    clippy::inline_always,
    reason = "intrinsics must end in a function that has their features"
)]

use super::Simd;
use half::bf16;
use std::arch::x86_64::{
    __m256, __m256i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_add_ps, _mm_add_ss,
    _mm_and_si128, _mm_cvtss_f32, _mm_loadu_si128, _mm_max_ps, _mm_max_ss, _mm_movehl_ps,
    _mm_packs_epi16, _mm_set1_epi8, _mm_set1_epi32, _mm_shuffle_ps, _mm_srli_epi16,
    _mm_storeu_si128, _mm256_add_epi32, _mm256_add_ps, _mm256_andnot_ps, _mm256_andnot_si256,
    _mm256_blendv_ps, _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_castsi256_si128,
    _mm256_cmpgt_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16,
    _mm256_cvtepu16_epi32, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_extractf128_ps,
    _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_hadd_epi32, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_packs_epi32, _mm256_permute4x64_epi64, _mm256_round_ps, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
};

/// Proof that the processor has avx2 and fma.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The processor has the features named on the type.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY of every block below: `self` proves the features; pointers are the caller's promise.
impl Simd for Avx2 {
    type F = [__m256; 2];
    /// Widened to 16 bits, four columns a register: the 8-bit multiply-add of AVX2 saturates.
    type W = [__m256i; 4];
    type A = __m256i;
    /// Four columns a register, two partial sums a column.
    type Acc = [__m256i; 4];

    const INT8_TILE: (usize, usize) = (2, 1);
    const FLOAT_TILE: (usize, usize) = (6, 1);
    const ATTENTION_TILE: (usize, usize) = (4, 1);

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F {
        unsafe {
            let all = _mm256_loadu_si256(p.cast());
            let low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(all));
            let high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(all));
            [low, high].map(|half| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(half)))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        unsafe {
            _mm256_storeu_ps(p, x[0]);
            _mm256_storeu_ps(p.add(8), x[1]);
        }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        }
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        unsafe {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            [
                _mm256_round_ps::<NEAREST>(a[0]),
                _mm256_round_ps::<NEAREST>(a[1]),
            ]
        }
    }
    #[inline(always)]
    fn pow2(self, n: Self::F) -> Self::F {
        unsafe {
            [n[0], n[1]].map(|half| {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(half), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
            })
        }
    }
    #[inline(always)]
    fn keep(self, a: Self::F, fill: Self::F, from: usize, to: usize) -> Self::F {
        let lane = |i: usize| i32::try_from(i).unwrap_or(i32::MAX);
        unsafe {
            let (from, to) = (_mm256_set1_epi32(lane(from)), _mm256_set1_epi32(lane(to)));
            let pick = |index: __m256i, a: __m256, fill: __m256| {
                let inside = _mm256_andnot_si256(
                    _mm256_cmpgt_epi32(from, index),
                    _mm256_cmpgt_epi32(to, index),
                );
                _mm256_blendv_ps(fill, a, _mm256_castsi256_ps(inside))
            };
            [
                pick(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), a[0], fill[0]),
                pick(
                    _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15),
                    a[1],
                    fill[1],
                ),
            ]
        }
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        unsafe {
            let halves = _mm256_add_ps(a[0], a[1]);
            let quarters = _mm_add_ps(
                _mm256_castps256_ps128(halves),
                _mm256_extractf128_ps::<1>(halves),
            );
            let pairs = _mm_add_ps(quarters, _mm_movehl_ps(quarters, quarters));
            _mm_cvtss_f32(_mm_add_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
        }
    }
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        unsafe {
            let halves = _mm256_max_ps(a[0], a[1]);
            let quarters = _mm_max_ps(
                _mm256_castps256_ps128(halves),
                _mm256_extractf128_ps::<1>(halves),
            );
            let pairs = _mm_max_ps(quarters, _mm_movehl_ps(quarters, quarters));
            _mm_cvtss_f32(_mm_max_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: Self::F) {
        unsafe {
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
            let ordered = _mm256_permute4x64_epi64::<0b1101_1000>(words);
            let bytes = _mm_packs_epi16(
                _mm256_castsi256_si128(ordered),
                _mm256_extracti128_si256::<1>(ordered),
            );
            _mm_storeu_si128(p.cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn load_weights(self, p: *const u8) -> Self::W {
        unsafe {
            let four = |at: usize| _mm256_cvtepu8_epi16(_mm_loadu_si128(p.add(at).cast()));
            [four(0), four(16), four(32), four(48)]
        }
    }
    #[inline(always)]
    unsafe fn load_nibbles(self, p: *const u8, upper: bool) -> Self::W {
        unsafe {
            let four = |at: usize| {
                let pairs = _mm_loadu_si128(p.add(at).cast());
                let shifted = if upper {
                    _mm_srli_epi16::<4>(pairs)
                } else {
                    pairs
                };
                _mm256_cvtepu8_epi16(_mm_and_si128(shifted, _mm_set1_epi8(0xF)))
            };
            [four(0), four(16), four(32), four(48)]
        }
    }
    #[inline(always)]
    unsafe fn load_activations(self, p: *const i8) -> Self::A {
        unsafe { _mm256_cvtepi8_epi16(_mm_set1_epi32(p.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    fn acc(self, start: i32) -> Self::Acc {
        unsafe { [_mm256_setr_epi32(start, 0, start, 0, start, 0, start, 0); 4] }
    }
    #[inline(always)]
    fn dot(self, acc: Self::Acc, w: Self::W, a: Self::A) -> Self::Acc {
        let mut sums = acc;
        for (sum, four) in sums.iter_mut().zip(w) {
            *sum = unsafe { _mm256_add_epi32(*sum, _mm256_madd_epi16(four, a)) };
        }
        sums
    }
    #[inline(always)]
    fn acc_to_f32(self, acc: Self::Acc) -> Self::F {
        unsafe {
            let eight = |a, b| {
                let pairs = _mm256_hadd_epi32(a, b);
                _mm256_cvtepi32_ps(_mm256_permute4x64_epi64::<0b1101_1000>(pairs))
            };
            [eight(acc[0], acc[1]), eight(acc[2], acc[3])]
        }
    }
}
