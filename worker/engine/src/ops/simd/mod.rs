//! Sixteen lanes of f32 on several instruction tiers, chosen at run time.
//!
//! Kernels are written once over `Simd` and run by `Tier::run`. Each operation is one IEEE
//! operation a lane (fused multiply-add included) and reductions follow one fixed tree, so all
//! tiers give the same bits. The one exception is far from any value of a model: the instruction
//! for pairs of bf16 takes numbers below 2^-126 as 0.
#![expect(unsafe_code, reason = "vector intrinsics and raw loads")]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod tile;
mod unpack;

use crate::weights::blocks::BLOCK_WEIGHTS;
use half::{bf16, f16};

pub(crate) use tile::{BlockWeights, GROUP, GROUPS, TileLayout};
pub(crate) use unpack::expand;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// An instruction set that kernels are compiled for and that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// That, and products of pairs of bf16.
    Avx512Bf16,
    /// AVX-512 with VNNI: 512-bit vectors, 8-bit dot products.
    Avx512Vnni,
    /// AVX2 with FMA: 256-bit vectors.
    Avx2Fma,
    /// No vector instructions assumed.
    Portable,
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Tier {
    /// The best tier this processor has.
    pub fn detect() -> Self {
        Self::available()
            .into_iter()
            .next()
            .unwrap_or(Self(Level::Portable))
    }

    /// All tiers this processor can run, best first.
    pub fn available() -> Vec<Self> {
        let mut tiers = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("fma")
            {
                if is_x86_feature_detected!("avx512bf16") {
                    tiers.push(Self(Level::Avx512Bf16));
                }
                tiers.push(Self(Level::Avx512Vnni));
            }
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                tiers.push(Self(Level::Avx2Fma));
            }
        }
        tiers.push(Self(Level::Portable));
        tiers
    }

    /// Name as recorded in results.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Avx512Bf16 => "avx512-bf16",
            Level::Avx512Vnni => "avx512-vnni",
            Level::Avx2Fma => "avx2-fma",
            Level::Portable => "portable",
        }
    }

    /// Columns of a tile of 8-bit weights.
    pub(crate) fn int8_columns(self) -> usize {
        struct Columns;
        impl Kernel for Columns {
            type Output = usize;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> usize {
                S::INT8_COLUMNS
            }
        }
        self.run(Columns)
    }

    /// Runs a kernel compiled for this tier, which need not have the instructions for bf16.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Tier` value is made by `available`, which checked these features.
            Level::Avx512Bf16 | Level::Avx512Vnni => unsafe { run_avx512(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx2Fma => unsafe { run_avx2(kernel) },
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx512Bf16 | Level::Avx512Vnni | Level::Avx2Fma => {
                unreachable!("an x86 tier on another processor")
            }
            Level::Portable => kernel.run(portable::Portable),
        }
    }

    /// Runs a kernel over numbers held as `E`, compiled for all that this tier has for them.
    #[inline]
    pub(crate) fn run_over<E: Element, K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Tier` value is made by `available`, which checked these features.
            Level::Avx512Bf16 if E::TOGETHER > 1 => unsafe { run_avx512_bf16(kernel) },
            _ => self.run(kernel),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma")]
unsafe fn run_avx512_bf16<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's target features are the token's condition.
    kernel.run(unsafe { avx512::Avx512::<true>::new() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's target features are the token's condition.
    kernel.run(unsafe { avx512::Avx512::<false>::new() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's target features are the token's condition.
    kernel.run(unsafe { avx2::Avx2::new() })
}

/// Work written over [`Simd`]. `run` and all it calls must be `#[inline(always)]`, or the vector
/// code is compiled without the tier's features and becomes slow.
pub(crate) trait Kernel {
    /// What the kernel returns.
    type Output;
    /// Does the work with the tier's vectors.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Vector operations of one tier. A value is proof that the processor has the tier.
///
/// Pointers need no alignment; the pointed-to range must be valid for the lanes named.
pub(crate) trait Simd: Copy {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen pairs of bf16.
    type Pairs: Copy;
    /// f32 sums of the columns that the 8-bit kernel takes together.
    type Sums: Copy;
    /// Four bytes of each of those columns.
    type Bytes: Copy;

    /// Columns of `Sums`, and of a tile of 8-bit weights.
    const INT8_COLUMNS: usize;
    /// Rows and tiles of columns that the 8-bit kernel takes together.
    const INT8_TILE: (usize, usize);
    /// Rows and vectors of columns that the float kernel keeps in registers.
    const FLOAT_TILE: (usize, usize);
    /// Queries and sixteen-key (or sixteen-value) vectors that attention keeps in registers.
    const ATTENTION_TILE: (usize, usize);

    fn splat(self, x: f32) -> Self::F;
    unsafe fn load(self, p: *const f32) -> Self::F;
    unsafe fn store(self, p: *mut f32, x: Self::F);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `2^n` for integral `n` in `-126 ..= 127`.
    fn pow2(self, n: Self::F) -> Self::F;
    /// Lanes `from .. to` of `a`, the others `fill`.
    fn keep(self, a: Self::F, fill: Self::F, from: usize, to: usize) -> Self::F;
    /// Sum by halving: lane `i` takes lane `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    fn sum(self, a: Self::F) -> f32;
    fn max_lane(self, a: Self::F) -> f32;
    /// Stores lanes as bytes: to the nearest integer, ties to even, which is in `-128 ..= 127`. Returns
    /// their sum.
    unsafe fn store_i8(self, p: *mut i8, a: Self::F) -> i32;
    /// Stores lanes as [`rounded`].
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16, a: Self::F) {
        // SAFETY: the caller's promise.
        unsafe { store_rounded(self, p, a) }
    }
    unsafe fn load_pairs(self, p: *const bf16) -> Self::Pairs;
    /// The pair at `p` in every lane.
    unsafe fn splat_pair(self, p: *const bf16) -> Self::Pairs;
    /// `a.0 * b.0 + (a.1 * b.1 + c)`, rounded once each.
    fn fma_pairs(self, a: Self::Pairs, b: Self::Pairs, c: Self::F) -> Self::F;

    /// Sends for the memory at `p`, which need not be there, to a cache that holds some tiles.
    fn prefetch(self, p: *const u8);

    unsafe fn bytes_load(self, p: *const u8) -> Self::Bytes;
    unsafe fn bytes_store(self, p: *mut u8, a: Self::Bytes);
    fn bytes_or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// The bits of each byte that are in `mask`, after a shift of each byte by `left`, or by `-left` to
    /// the right: at most 7, and what is shifted in must not be in the mask.
    fn bytes_bits(self, a: Self::Bytes, left: i32, mask: u8) -> Self::Bytes;

    fn int8_zero(self) -> Self::Sums;
    /// What the scales or minima of a super-block are multiples of, exactly.
    unsafe fn int8_common(self, p: *const f16) -> Self::Sums;
    /// A factor of each column: an f32, or with `MULTIPLES` a signed byte times what is in common.
    unsafe fn int8_factors<const MULTIPLES: bool>(
        self,
        p: *const u8,
        common: Self::Sums,
    ) -> Self::Sums;
    /// Adds the products of one block along k of `R` rows and `C` tiles of columns.
    ///
    /// The integer dot product is exact; then `sum = fma(dot * weight scale, input scale, sum)`, where a
    /// second part of the block that has its own scale is `fma(dot, weight scale, the first part)`; and,
    /// with `MIN`, `sum = fma(min, minus_sum, sum)`. With `MULTIPLES`, scale and minimum are products
    /// with those in common, which are exact.
    ///
    /// # Safety
    /// The pointers are valid for a block, weights laid out as [`TileLayout::of`] the tier says.
    unsafe fn int8_block<
        const R: usize,
        const C: usize,
        const BITS: u32,
        const MIN: bool,
        const MULTIPLES: bool,
    >(
        self,
        sums: [[Self::Sums; C]; R],
        weights: [BlockWeights<Self::Sums>; C],
        inputs: [*const BlockInputs; R],
    ) -> [[Self::Sums; C]; R];
    unsafe fn int8_store(self, p: *mut f32, sums: Self::Sums);
}

/// 32 activations of a row.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct BlockInputs {
    pub quants: [i8; BLOCK_WEIGHTS],
    pub scale: f32,
    /// `-Σ quants`.
    pub minus_quants: i32,
    /// `-Σ quants` of the first half.
    pub minus_first: i32,
    /// `-scale * Σ quants`.
    pub minus_sum: f32,
}

impl BlockInputs {
    /// `-Σ quants` of part `part` of `parts`.
    #[inline(always)]
    pub(crate) fn minus_part(&self, part: usize, parts: usize) -> i32 {
        match (part, parts) {
            (_, 1) => self.minus_quants,
            (0, _) => self.minus_first,
            _ => self.minus_quants.wrapping_sub(self.minus_first),
        }
    }
}

/// What factors of a sum of products are held as: weights, activations, cached keys and values.
///
/// Neighbours along the sum lie together: of a matrix whose columns are lanes, `TOGETHER` of the
/// first column, then of the second, and so on.
pub(crate) trait Element: Copy + Send + Sync + Default + 'static {
    /// Neighbours that are multiplied at once.
    const TOGETHER: usize;
    /// Sixteen times so many values.
    type Lanes<S: Simd>: Copy;
    /// From `p` on.
    unsafe fn load<S: Simd>(simd: S, p: *const Self) -> Self::Lanes<S>;
    /// Those at `p`, in every lane.
    unsafe fn splat<S: Simd>(simd: S, p: *const Self) -> Self::Lanes<S>;
    /// Adds products to `c`, the last of the neighbours first.
    fn fma<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>, c: S::F) -> S::F;
    /// Stores sixteen values.
    unsafe fn store<S: Simd>(simd: S, p: *mut Self, values: S::F);
    fn from_f32(x: f32) -> Self;
    fn to_f32(self) -> f32;
}

impl Element for f32 {
    const TOGETHER: usize = 1;
    type Lanes<S: Simd> = S::F;

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const Self) -> S::F {
        // SAFETY: the caller's promise.
        unsafe { simd.load(p) }
    }
    #[inline(always)]
    unsafe fn splat<S: Simd>(simd: S, p: *const Self) -> S::F {
        // SAFETY: the caller's promise.
        simd.splat(unsafe { *p })
    }
    #[inline(always)]
    fn fma<S: Simd>(simd: S, a: S::F, b: S::F, c: S::F) -> S::F {
        simd.fma(a, b, c)
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, p: *mut Self, values: S::F) {
        // SAFETY: the caller's promise.
        unsafe { simd.store(p, values) }
    }
    fn from_f32(x: f32) -> Self {
        x
    }
    fn to_f32(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    const TOGETHER: usize = 2;
    type Lanes<S: Simd> = S::Pairs;

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const Self) -> S::Pairs {
        // SAFETY: the caller's promise.
        unsafe { simd.load_pairs(p) }
    }
    #[inline(always)]
    unsafe fn splat<S: Simd>(simd: S, p: *const Self) -> S::Pairs {
        // SAFETY: the caller's promise.
        unsafe { simd.splat_pair(p) }
    }
    #[inline(always)]
    fn fma<S: Simd>(simd: S, a: S::Pairs, b: S::Pairs, c: S::F) -> S::F {
        simd.fma_pairs(a, b, c)
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, p: *mut Self, values: S::F) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_bf16(p, values) }
    }
    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }
}

/// Where value `along` the sum of column `column` lies among values of `columns` columns.
#[inline]
pub(crate) fn place<E: Element>(along: usize, column: usize, columns: usize) -> usize {
    (along / E::TOGETHER * columns + column) * E::TOGETHER + along % E::TOGETHER
}

/// Stores lanes as [`rounded`], with the operations that every processor has.
///
/// # Safety
/// `p` is valid for sixteen values.
#[inline(always)]
unsafe fn store_rounded<S: Simd>(s: S, p: *mut bf16, a: S::F) {
    let mut lanes = [0.0; LANES];
    // SAFETY: the array is a vector; the caller's promise.
    unsafe {
        s.store(lanes.as_mut_ptr(), a);
        p.cast::<[bf16; LANES]>()
            .write_unaligned(lanes.map(rounded));
    }
}

/// The nearest bf16, ties to even; 0 of the same sign below 2^-126.
#[inline(always)]
fn rounded(x: f32) -> bf16 {
    if x.abs() < f32::MIN_POSITIVE {
        bf16::ZERO.copysign(bf16::from_f32(x))
    } else {
        bf16::from_f32(x)
    }
}

/// The first `width` lanes from `p`, zero in the others.
///
/// # Safety
/// `p` is valid for `width` values.
#[inline(always)]
pub(crate) unsafe fn load_part<S: Simd>(s: S, p: *const f32, width: usize) -> S::F {
    if width >= LANES {
        // SAFETY: the caller's promise.
        unsafe { s.load(p) }
    } else {
        let mut lanes = [0.0; LANES];
        // SAFETY: `width` values are readable at `p` and fit the array.
        unsafe {
            lanes.as_mut_ptr().copy_from_nonoverlapping(p, width);
            s.load(lanes.as_ptr())
        }
    }
}

/// Stores the first `width` lanes at `p`.
///
/// # Safety
/// `p` is valid for `width` values.
#[inline(always)]
pub(crate) unsafe fn store_part<S: Simd>(s: S, p: *mut f32, values: S::F, width: usize) {
    if width >= LANES {
        // SAFETY: the caller's promise.
        unsafe { s.store(p, values) };
    } else {
        let mut lanes = [0.0; LANES];
        // SAFETY: the array holds sixteen values; `width` of them fit at `p`.
        unsafe {
            s.store(lanes.as_mut_ptr(), values);
            p.copy_from_nonoverlapping(lanes.as_ptr(), width);
        }
    }
}
