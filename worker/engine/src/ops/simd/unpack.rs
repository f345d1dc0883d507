//! Quants of less than a byte, as bytes.
#![expect(unsafe_code, reason = "raw loads and stores of vectors")]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use super::Simd;
use super::tile::{FIFTH, GROUPS, TileLayout};

/// Group `group` of a block's quants: four k-values of each column. The group is to be a constant where
/// this is inlined.
///
/// # Safety
/// The block is laid out as the tier's layout of this form says.
#[inline(always)]
pub(super) unsafe fn load_group<S: Simd, const BITS: u32, const MULTIPLES: bool>(
    s: S,
    quants: *const u8,
    group: usize,
) -> S::Bytes {
    // SAFETY: the caller's promise.
    unsafe {
        match (BITS, MULTIPLES) {
            (4, _) => load_low(s, quants, group),
            (5, true) => {
                let fifth = s.bytes_bits(load(s, quants, GROUPS / 2), 4 - FIFTH[group], 0x10);
                s.bytes_or(load_low(s, quants, group), fifth)
            }
            (6, true) => load_six(s, quants, group),
            _ => load(s, quants, group),
        }
    }
}

/// Stored group `group`.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, quants: *const u8, group: usize) -> S::Bytes {
    let at = const { TileLayout::of::<S, 8, false, false>().group_bytes() } * group;
    // SAFETY: the caller's promise.
    unsafe { s.bytes_load(quants.wrapping_add(at)) }
}

/// The four low bits of group `group`, of which two are stored together.
#[inline(always)]
unsafe fn load_low<S: Simd>(s: S, quants: *const u8, group: usize) -> S::Bytes {
    const HALF: usize = GROUPS / 2;
    // SAFETY: the caller's promise.
    let pairs = unsafe { load(s, quants, group % HALF) };
    s.bytes_bits(pairs, if group < HALF { 0 } else { -4 }, 0xF)
}

/// Group `group` of quants of six bits, four of which are stored as three.
#[inline(always)]
unsafe fn load_six<S: Simd>(s: S, quants: *const u8, group: usize) -> S::Bytes {
    let first = group / 4 * 3;
    // SAFETY: the caller's promise.
    unsafe {
        if group % 4 < 3 {
            return s.bytes_bits(load(s, quants, first + group % 4), 0, 0x3F);
        }
        let upper = s.bytes_bits(load(s, quants, first), -2, 0x30);
        let middle = s.bytes_bits(load(s, quants, first + 1), -4, 0xC);
        let lower = s.bytes_bits(load(s, quants, first + 2), -6, 3);
        s.bytes_or(s.bytes_or(upper, middle), lower)
    }
}

/// Writes the blocks of a unit with a byte a quant and with factors as f32: as the layout of the form
/// without multiples says, where that has such quants.
///
/// # Safety
/// `unit` is one of this form, and `to` is valid for its blocks in the other.
#[inline(always)]
pub(crate) unsafe fn expand<S: Simd, const BITS: u32, const MIN: bool>(
    s: S,
    unit: *const u8,
    to: *mut u8,
) {
    let layout = const { TileLayout::of::<S, BITS, MIN, true>() };
    let plain = const { TileLayout::of::<S, BITS, MIN, false>() };
    let kinds = layout.form.scales() + usize::from(MIN);
    // SAFETY: the caller's promise.
    unsafe {
        let mut common = [s.int8_common(unit.add(layout.common(0)).cast()); 2];
        if MIN {
            common[1] = s.int8_common(unit.add(layout.common(1)).cast());
        }
        for block in 0..layout.unit_blocks() {
            let quants = unit.wrapping_add(block * layout.quant_bytes());
            let to = to.wrapping_add(block * plain.unit_bytes());
            for group in 0..GROUPS {
                let bytes = load_group::<S, BITS, true>(s, quants, group);
                s.bytes_store(to.wrapping_add(group * plain.group_bytes()), bytes);
            }
            for kind in 0..kinds {
                let common = common[usize::from(MIN && kind + 1 == kinds)];
                let from = unit.wrapping_add(layout.factors_of(block) + layout.scales_of(kind));
                let factors = s.int8_factors::<true>(from, common);
                let to = to.wrapping_add(plain.factors_of(0) + plain.scales_of(kind));
                s.int8_store(to.cast(), factors);
            }
        }
    }
}
