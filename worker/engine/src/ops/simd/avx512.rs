//! AVX-512 with VNNI, and with or without instructions for bf16.
#![expect(unsafe_code, reason = "vector intrinsics and raw loads")]
#![expect(
    clippy::inline_always,
    reason = "intrinsics must end in a function that has their features"
)]

use super::avx2::sum_i8;
use super::unpack::load_group;
use super::{BlockInputs, BlockWeights, GROUP, LANES, Simd, TileLayout, store_rounded};
use half::{bf16, f16};
use std::arch::x86_64::{
    __m256bh, __m512, __m512bh, __m512i, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T1, _mm_add_ps,
    _mm_add_ss, _mm_cvtsi32_si128, _mm_cvtss_f32, _mm_loadu_si128, _mm_movehl_ps, _mm_prefetch,
    _mm_shuffle_ps, _mm_storeu_si128, _mm256_add_ps, _mm256_castps256_ps128, _mm256_extractf128_ps,
    _mm256_loadu_si256, _mm512_abs_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_castps512_ps256, _mm512_castsi512_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_epi8,
    _mm512_cvtepi32_ps, _mm512_cvtneps_pbh, _mm512_cvtph_ps, _mm512_cvtps_epi32, _mm512_div_ps,
    _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_extractf32x8_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_blend_ps, _mm512_max_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_or_si512, _mm512_reduce_max_ps, _mm512_roundscale_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_sll_epi16,
    _mm512_slli_epi32, _mm512_srl_epi16, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};
use std::mem::transmute;

/// Proof that the processor has avx512f, bw, vl, dq, vnni and fma, and avx512bf16 if `BF16`.
#[derive(Clone, Copy)]
pub(super) struct Avx512<const BF16: bool>(());

impl<const BF16: bool> Avx512<BF16> {
    /// # Safety
    /// The processor has the features named on the type.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY of every block below: `self` proves the features; pointers are the caller's promise.
impl<const BF16: bool> Simd for Avx512<BF16> {
    type F = __m512;
    type Pairs = __m512i;
    type Sums = __m512;
    type Bytes = __m512i;

    const INT8_COLUMNS: usize = LANES;
    const INT8_TILE: (usize, usize) = (6, 2);
    const FLOAT_TILE: (usize, usize) = (6, 2);
    const ATTENTION_TILE: (usize, usize) = (8, 2);

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        unsafe { _mm512_storeu_ps(p, x) }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(a) }
    }
    #[inline(always)]
    fn pow2(self, n: Self::F) -> Self::F {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn keep(self, a: Self::F, fill: Self::F, from: usize, to: usize) -> Self::F {
        let mask = lane_bits(to) & !lane_bits(from);
        unsafe { _mm512_mask_blend_ps(mask, fill, a) }
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        unsafe {
            let halves = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
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
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: Self::F) -> i32 {
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a));
            _mm_storeu_si128(p.cast(), bytes);
            sum_i8(bytes)
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16, a: Self::F) {
        unsafe {
            if BF16 {
                p.cast::<__m256bh>().write_unaligned(_mm512_cvtneps_pbh(a));
            } else {
                store_rounded(self, p, a);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_pairs(self, p: *const bf16) -> Self::Pairs {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_pair(self, p: *const bf16) -> Self::Pairs {
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    fn fma_pairs(self, a: Self::Pairs, b: Self::Pairs, c: Self::F) -> Self::F {
        unsafe {
            if BF16 {
                // Adds the upper products first, rounding after each, as the other branch does.
                let [a, b] = [a, b].map(|x| transmute::<__m512i, __m512bh>(x));
                return _mm512_dpbf16_ps(c, a, b);
            }
            let upper = |x| _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(!0xFFFF)));
            let lower = |x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x));
            let sum = _mm512_fmadd_ps(upper(a), upper(b), c);
            _mm512_fmadd_ps(lower(a), lower(b), sum)
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn bytes_load(self, p: *const u8) -> Self::Bytes {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn bytes_store(self, p: *mut u8, a: Self::Bytes) {
        unsafe { _mm512_storeu_si512(p.cast(), a) }
    }
    #[inline(always)]
    fn bytes_or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn bytes_bits(self, a: Self::Bytes, left: i32, mask: u8) -> Self::Bytes {
        unsafe {
            // Of pairs of bytes: the mask keeps nothing of the neighbour.
            let shifted = if left < 0 {
                _mm512_srl_epi16(a, _mm_cvtsi32_si128(-left))
            } else {
                _mm512_sll_epi16(a, _mm_cvtsi32_si128(left))
            };
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask.cast_signed()))
        }
    }
    #[inline(always)]
    fn int8_zero(self) -> Self::Sums {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn int8_common(self, p: *const f16) -> Self::Sums {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn int8_factors<const MULTIPLES: bool>(
        self,
        p: *const u8,
        common: Self::Sums,
    ) -> Self::Sums {
        unsafe {
            if MULTIPLES {
                let factors = _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()));
                _mm512_mul_ps(_mm512_cvtepi32_ps(factors), common)
            } else {
                _mm512_loadu_ps(p.cast())
            }
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
        unsafe {
            let mut products = [[_mm512_setzero_ps(); C]; R];
            let dots = self.part_dots::<0, R, C, BITS, MIN, MULTIPLES>(weights, inputs);
            for c in 0..C {
                let scales = weights[c].factors.wrapping_add(layout.scales_of(0));
                let scales = self.int8_factors::<MULTIPLES>(scales, weights[c].common[0]);
                for r in 0..R {
                    products[r][c] = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[r][c]), scales);
                }
            }
            if layout.form.scales() > 1 {
                let dots = self.part_dots::<1, R, C, BITS, MIN, MULTIPLES>(weights, inputs);
                for c in 0..C {
                    let scales = weights[c].factors.wrapping_add(layout.scales_of(1));
                    let scales = self.int8_factors::<MULTIPLES>(scales, weights[c].common[0]);
                    for r in 0..R {
                        let dot = _mm512_cvtepi32_ps(dots[r][c]);
                        products[r][c] = _mm512_fmadd_ps(dot, scales, products[r][c]);
                    }
                }
            }
            for r in 0..R {
                let scale = _mm512_set1_ps((*inputs[r]).scale);
                for c in 0..C {
                    sums[r][c] = _mm512_fmadd_ps(products[r][c], scale, sums[r][c]);
                }
            }
            if MIN {
                for c in 0..C {
                    let mins = weights[c].factors.wrapping_add(layout.mins());
                    let mins = self.int8_factors::<MULTIPLES>(mins, weights[c].common[1]);
                    for r in 0..R {
                        let sum = _mm512_set1_ps((*inputs[r]).minus_sum);
                        sums[r][c] = _mm512_fmadd_ps(mins, sum, sums[r][c]);
                    }
                }
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn int8_store(self, p: *mut f32, sums: Self::Sums) {
        unsafe { _mm512_storeu_ps(p, sums) }
    }
}

impl<const BF16: bool> Avx512<BF16> {
    /// Dot products of part `PART` of a block, whose groups are named one by one: each is another shift.
    #[inline(always)]
    unsafe fn part_dots<
        const PART: usize,
        const R: usize,
        const C: usize,
        const BITS: u32,
        const MIN: bool,
        const MULTIPLES: bool,
    >(
        self,
        weights: [BlockWeights<__m512>; C],
        inputs: [*const BlockInputs; R],
    ) -> [[__m512i; C]; R] {
        let parts = const { TileLayout::of::<Self, BITS, MIN, MULTIPLES>().form.scales() };
        unsafe {
            let mut dots = [[_mm512_setzero_si512(); C]; R];
            if !MIN {
                for r in 0..R {
                    let raised = (*inputs[r]).minus_part(PART, parts) << (BITS - 1);
                    dots[r] = [_mm512_set1_epi32(raised); C];
                }
            }
            if PART == 0 {
                dots = self.add_group::<0, R, C, BITS, MULTIPLES>(dots, weights, inputs);
                dots = self.add_group::<1, R, C, BITS, MULTIPLES>(dots, weights, inputs);
                dots = self.add_group::<2, R, C, BITS, MULTIPLES>(dots, weights, inputs);
                dots = self.add_group::<3, R, C, BITS, MULTIPLES>(dots, weights, inputs);
            }
            if PART + 1 == parts {
                dots = self.add_group::<4, R, C, BITS, MULTIPLES>(dots, weights, inputs);
                dots = self.add_group::<5, R, C, BITS, MULTIPLES>(dots, weights, inputs);
                dots = self.add_group::<6, R, C, BITS, MULTIPLES>(dots, weights, inputs);
                dots = self.add_group::<7, R, C, BITS, MULTIPLES>(dots, weights, inputs);
            }
            dots
        }
    }

    /// Adds the products of a group.
    #[inline(always)]
    unsafe fn add_group<
        const AT: usize,
        const R: usize,
        const C: usize,
        const BITS: u32,
        const MULTIPLES: bool,
    >(
        self,
        mut dots: [[__m512i; C]; R],
        weights: [BlockWeights<__m512>; C],
        inputs: [*const BlockInputs; R],
    ) -> [[__m512i; C]; R] {
        unsafe {
            let mut quants = [_mm512_setzero_si512(); C];
            for c in 0..C {
                quants[c] = load_group::<_, BITS, MULTIPLES>(self, weights[c].quants, AT);
            }
            for r in 0..R {
                let quants_at = (*inputs[r]).quants.as_ptr().wrapping_add(AT * GROUP);
                let four = load_four(quants_at);
                for c in 0..C {
                    dots[r][c] = _mm512_dpbusd_epi32(dots[r][c], quants[c], four);
                }
            }
            dots
        }
    }
}

/// Four activations, for every column.
#[inline(always)]
unsafe fn load_four(x: *const i8) -> __m512i {
    unsafe { _mm512_set1_epi32(x.cast::<i32>().read_unaligned()) }
}

/// The lowest `count` of sixteen bits.
#[inline(always)]
fn lane_bits(count: usize) -> u16 {
    if count >= 16 {
        u16::MAX
    } else {
        (1 << count) - 1
    }
}
