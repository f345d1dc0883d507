//! AVX2 with FMA: a vector of sixteen lanes is two registers.
#![expect(unsafe_code, reason = "vector intrinsics and raw loads")]
#![expect(
    clippy::inline_always,
    reason = "intrinsics must end in a function that has their features"
)]

use super::unpack::load_group;
use super::{BlockInputs, BlockWeights, GROUP, GROUPS, LANES, Simd, TileLayout};
use half::{bf16, f16};
use std::arch::x86_64::{
    __m128i, __m256, __m256i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T1,
    _mm_add_ps, _mm_add_ss, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_cvtss_f32, _mm_extract_epi32,
    _mm_loadl_epi64, _mm_loadu_si128, _mm_max_ps, _mm_max_ss, _mm_movehl_ps, _mm_packs_epi16,
    _mm_prefetch, _mm_sad_epu8, _mm_set1_epi8, _mm_setzero_si128, _mm_shuffle_ps, _mm_storeu_si128,
    _mm_xor_si128, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_si256, _mm256_andnot_ps, _mm256_andnot_si256, _mm256_blendv_ps,
    _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmpgt_epi32,
    _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_div_ps,
    _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_ps, _mm256_min_ps,
    _mm256_mul_ps, _mm256_or_si256, _mm256_packs_epi32, _mm256_permute4x64_epi64, _mm256_round_ps,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_sll_epi16, _mm256_slli_epi32,
    _mm256_srl_epi16, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps, _mm256_xor_si256,
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
    type Pairs = [Self::F; 2];
    type Sums = __m256;
    type Bytes = __m256i;

    const INT8_COLUMNS: usize = 8;
    const INT8_TILE: (usize, usize) = (3, 2);
    const FLOAT_TILE: (usize, usize) = (6, 1);
    const ATTENTION_TILE: (usize, usize) = (6, 1);

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
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
        unsafe { [pow2(n[0]), pow2(n[1])] }
    }
    #[inline(always)]
    fn keep(self, a: Self::F, fill: Self::F, from: usize, to: usize) -> Self::F {
        unsafe {
            let low = inside(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), from, to);
            let high = inside(_mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15), from, to);
            [
                _mm256_blendv_ps(fill[0], a[0], low),
                _mm256_blendv_ps(fill[1], a[1], high),
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
    unsafe fn store_i8(self, p: *mut i8, a: Self::F) -> i32 {
        unsafe {
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
            let ordered = _mm256_permute4x64_epi64::<0b1101_1000>(words);
            let bytes = _mm_packs_epi16(
                _mm256_castsi256_si128(ordered),
                _mm256_extracti128_si256::<1>(ordered),
            );
            _mm_storeu_si128(p.cast(), bytes);
            sum_i8(bytes)
        }
    }
    #[inline(always)]
    unsafe fn load_pairs(self, p: *const bf16) -> Self::Pairs {
        unsafe {
            pairs([
                _mm256_loadu_si256(p.cast()),
                _mm256_loadu_si256(p.add(LANES).cast()),
            ])
        }
    }
    #[inline(always)]
    unsafe fn splat_pair(self, p: *const bf16) -> Self::Pairs {
        unsafe { pairs([_mm256_set1_epi32(p.cast::<i32>().read_unaligned()); 2]) }
    }
    #[inline(always)]
    fn fma_pairs(self, a: Self::Pairs, b: Self::Pairs, c: Self::F) -> Self::F {
        self.fma(a[0], b[0], self.fma(a[1], b[1], c))
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn bytes_load(self, p: *const u8) -> Self::Bytes {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn bytes_store(self, p: *mut u8, a: Self::Bytes) {
        unsafe { _mm256_storeu_si256(p.cast(), a) }
    }
    #[inline(always)]
    fn bytes_or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    fn bytes_bits(self, a: Self::Bytes, left: i32, mask: u8) -> Self::Bytes {
        unsafe {
            // Of pairs of bytes: the mask keeps nothing of the neighbour.
            let shifted = if left < 0 {
                _mm256_srl_epi16(a, _mm_cvtsi32_si128(-left))
            } else {
                _mm256_sll_epi16(a, _mm_cvtsi32_si128(left))
            };
            _mm256_and_si256(shifted, _mm256_set1_epi8(mask.cast_signed()))
        }
    }
    #[inline(always)]
    fn int8_zero(self) -> Self::Sums {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn int8_common(self, p: *const f16) -> Self::Sums {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn int8_factors<const MULTIPLES: bool>(
        self,
        p: *const u8,
        common: Self::Sums,
    ) -> Self::Sums {
        unsafe {
            if MULTIPLES {
                let factors = _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()));
                _mm256_mul_ps(_mm256_cvtepi32_ps(factors), common)
            } else {
                _mm256_loadu_ps(p.cast())
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
        let mut quants = [weights[0].quants; C];
        for c in 1..C {
            quants[c] = weights[c].quants;
        }
        unsafe {
            let mut products = [[_mm256_setzero_ps(); C]; R];
            for part in 0..layout.form.scales() {
                let dots = if BITS == 8 {
                    dots_8(quants, inputs)
                } else {
                    dots_below_8::<R, C, BITS, MIN, MULTIPLES>(self, quants, inputs, part)
                };
                for c in 0..C {
                    let scales = weights[c].factors.add(layout.scales_of(part));
                    let scales = self.int8_factors::<MULTIPLES>(scales, weights[c].common[0]);
                    for r in 0..R {
                        let dot = _mm256_cvtepi32_ps(dots[r][c]);
                        products[r][c] = if part == 0 {
                            _mm256_mul_ps(dot, scales)
                        } else {
                            _mm256_fmadd_ps(dot, scales, products[r][c])
                        };
                    }
                }
            }
            for r in 0..R {
                let scale = _mm256_set1_ps((*inputs[r]).scale);
                for c in 0..C {
                    sums[r][c] = _mm256_fmadd_ps(products[r][c], scale, sums[r][c]);
                }
            }
            if MIN {
                for c in 0..C {
                    let mins = weights[c].factors.add(layout.mins());
                    let mins = self.int8_factors::<MULTIPLES>(mins, weights[c].common[1]);
                    for r in 0..R {
                        let sum = _mm256_set1_ps((*inputs[r]).minus_sum);
                        sums[r][c] = _mm256_fmadd_ps(mins, sum, sums[r][c]);
                    }
                }
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn int8_store(self, p: *mut f32, sums: Self::Sums) {
        unsafe { _mm256_storeu_ps(p, sums) }
    }
}

/// Dot products of 8-bit quants. A pair of products of magnitudes fits 16 bits (`2 * 128 * 127`), so
/// weights give their signs to the activations; the sum of two pairs would not fit.
#[inline(always)]
unsafe fn dots_8<const R: usize, const C: usize>(
    weights: [*const u8; C],
    inputs: [*const BlockInputs; R],
) -> [[__m256i; C]; R] {
    unsafe {
        let mut dots = [[_mm256_setzero_si256(); C]; R];
        for group in 0..GROUPS {
            let mut signed = [_mm256_setzero_si256(); C];
            let mut magnitude = signed;
            for c in 0..C {
                let raised = _mm256_loadu_si256(weights[c].add(group * GROUP_BYTES).cast());
                signed[c] = _mm256_xor_si256(raised, _mm256_set1_epi8(i8::MIN));
                magnitude[c] = _mm256_abs_epi8(signed[c]);
            }
            for r in 0..R {
                let four = load_four((*inputs[r]).quants.as_ptr().add(group * GROUP));
                for c in 0..C {
                    let pairs =
                        _mm256_maddubs_epi16(magnitude[c], _mm256_sign_epi8(four, signed[c]));
                    let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                    dots[r][c] = _mm256_add_epi32(dots[r][c], fours);
                }
            }
        }
        dots
    }
}

/// Dot products of part `part` of quants of less than 8 bits, several groups of which sum up in 16 bits.
#[inline(always)]
unsafe fn dots_below_8<
    const R: usize,
    const C: usize,
    const BITS: u32,
    const MIN: bool,
    const MULTIPLES: bool,
>(
    s: Avx2,
    weights: [*const u8; C],
    inputs: [*const BlockInputs; R],
    part: usize,
) -> [[__m256i; C]; R] {
    let parts = const { TileLayout::of::<Avx2, BITS, MIN, MULTIPLES>().form.scales() };
    let part_groups = GROUPS / parts;
    // 2 * 2 * 63 * 127, 4 * 2 * 31 * 127 and 8 * 2 * 15 * 127 are below 2^15.
    let groups = match BITS {
        6 => 2,
        5 => 4,
        _ => GROUPS,
    };
    unsafe {
        let mut dots = [[_mm256_setzero_si256(); C]; R];
        if !MIN {
            for r in 0..R {
                let raised = (*inputs[r]).minus_part(part, parts) << (BITS - 1);
                dots[r] = [_mm256_set1_epi32(raised); C];
            }
        }
        for first in (part * part_groups..(part + 1) * part_groups).step_by(groups) {
            let mut sums = [[_mm256_setzero_si256(); C]; R];
            for group in first..first + groups {
                let mut quants = [_mm256_setzero_si256(); C];
                for c in 0..C {
                    quants[c] = load_group::<_, BITS, MULTIPLES>(s, weights[c], group);
                }
                for r in 0..R {
                    let four = load_four((*inputs[r]).quants.as_ptr().add(group * GROUP));
                    for c in 0..C {
                        let pairs = _mm256_maddubs_epi16(quants[c], four);
                        sums[r][c] = _mm256_add_epi16(sums[r][c], pairs);
                    }
                }
            }
            for r in 0..R {
                for c in 0..C {
                    let fours = _mm256_madd_epi16(sums[r][c], _mm256_set1_epi16(1));
                    dots[r][c] = _mm256_add_epi32(dots[r][c], fours);
                }
            }
        }
        dots
    }
}

/// Bytes of four k-values of all columns of a tile.
const GROUP_BYTES: usize = TileLayout::of::<Avx2, 8, false, false>().group_bytes();

/// Four activations, for every column.
#[inline(always)]
unsafe fn load_four(x: *const i8) -> __m256i {
    unsafe { _mm256_set1_epi32(x.cast::<i32>().read_unaligned()) }
}

/// The first and the second bf16 of each of sixteen pairs.
#[inline(always)]
unsafe fn pairs(raw: [__m256i; 2]) -> [[__m256; 2]; 2] {
    unsafe {
        let upper = _mm256_set1_epi32(!0xFFFF);
        [
            raw.map(|raw| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(raw))),
            raw.map(|raw| _mm256_castsi256_ps(_mm256_and_si256(raw, upper))),
        ]
    }
}

/// `2^n` for integral `n`.
#[inline(always)]
unsafe fn pow2(n: __m256) -> __m256 {
    unsafe {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
    }
}

/// A mask of the lanes whose index is in `from .. to`.
#[inline(always)]
unsafe fn inside(index: __m256i, from: usize, to: usize) -> __m256 {
    unsafe {
        let from = _mm256_set1_epi32(i32::try_from(from).unwrap_or(i32::MAX));
        let to = _mm256_set1_epi32(i32::try_from(to).unwrap_or(i32::MAX));
        let outside = _mm256_cmpgt_epi32(from, index);
        _mm256_castsi256_ps(_mm256_andnot_si256(outside, _mm256_cmpgt_epi32(to, index)))
    }
}

/// The sum of sixteen signed bytes: raised by 128, since the processor adds unsigned ones.
///
/// # Safety
/// The processor has SSE4.1.
#[inline(always)]
pub(super) unsafe fn sum_i8(bytes: __m128i) -> i32 {
    const RAISED: i32 = 16 * 128;
    unsafe {
        let raised = _mm_xor_si128(bytes, _mm_set1_epi8(i8::MIN));
        let halves = _mm_sad_epu8(raised, _mm_setzero_si128());
        _mm_cvtsi128_si32(halves) + _mm_extract_epi32::<2>(halves) - RAISED
    }
}
