//! How 8-bit weights lie in a tile of columns.
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use super::Simd;
use crate::weights::blocks::{BLOCK_WEIGHTS, Form, SUPER_BLOCK};
use half::f16;

/// K-values a group holds of each column.
pub(crate) const GROUP: usize = 4;
/// Groups of a block.
pub(crate) const GROUPS: usize = BLOCK_WEIGHTS / GROUP;
/// Which bit of the stored fifth bits is that of each group.
pub(super) const FIFTH: [i32; GROUPS] = [0, 1, 2, 3, 4, 5, 6, 7];

/// How the bytes of a tile of columns lie: its units along k, each of one block or, where scales are
/// multiples, of the eight of a super-block. A unit is its blocks' quants, then its blocks' factors:
/// the columns' scales (those of the second halves after those of the first), then their minima if
/// there are any; as f32, or as signed bytes behind which the unit has the columns' scales in common,
/// then the minima in common, as f16.
///
/// A group is of four k-values a column, and stored with other groups as the bits of a quant allow:
///
/// - 4 bits: the lower halves of the bytes of stored group `i` are group `i`, the upper group `i + 4`;
/// - 5 bits with multiples: those, and a stored group whose bit `i` is the fifth of group `i`;
/// - 6 bits with multiples: groups 0, 1, 2 and 4, 5, 6 are stored, and in the upper two bits of either
///   three groups 3 and 7, the highest bits with the first;
/// - else a byte each.
///
/// What a quant means is the [`Form`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileLayout {
    pub columns: usize,
    pub form: Form,
}

/// Where the weights of a block of a tile are, and what its factors are multiples of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockWeights<V> {
    pub quants: *const u8,
    pub factors: *const u8,
    /// The scales and the minima in common; nothing where factors are no multiples.
    pub common: [V; 2],
}

impl TileLayout {
    /// The layout that a tier's kernel reads.
    #[inline(always)]
    pub(crate) const fn of<S: Simd, const BITS: u32, const MIN: bool, const MULTIPLES: bool>()
    -> Self {
        let form = Form {
            bits: BITS,
            min: MIN,
            multiples: MULTIPLES,
        };
        Self {
            columns: S::INT8_COLUMNS,
            form,
        }
    }

    #[inline(always)]
    pub(crate) const fn group_bytes(self) -> usize {
        self.columns * GROUP
    }

    /// Bytes of a block's quants, from the unit's beginning.
    #[inline(always)]
    pub(crate) const fn quant_bytes(self) -> usize {
        // Eight groups of so many bits fill as many groups of bytes.
        let groups = if self.packed() {
            self.form.bits as usize
        } else {
            GROUPS
        };
        groups * self.group_bytes()
    }

    /// Where the scales of part `part` of a block begin in its factors.
    #[inline(always)]
    pub(crate) const fn scales_of(self, part: usize) -> usize {
        part * self.columns * self.factor_bytes()
    }

    /// Where a block's minima begin in its factors.
    #[inline(always)]
    pub(crate) const fn mins(self) -> usize {
        self.scales_of(self.form.scales())
    }

    /// Bytes of all factors of a block.
    #[inline(always)]
    pub(crate) const fn factors_bytes(self) -> usize {
        let mins = if self.form.min { self.columns } else { 0 };
        self.mins() + mins * self.factor_bytes()
    }

    /// Blocks of a unit.
    #[inline(always)]
    pub(crate) const fn unit_blocks(self) -> usize {
        if self.form.multiples { SUPER_BLOCK } else { 1 }
    }

    /// Where the factors of block `block` of a unit begin.
    #[inline(always)]
    pub(crate) const fn factors_of(self, block: usize) -> usize {
        self.unit_blocks() * self.quant_bytes() + block * self.factors_bytes()
    }

    /// Where a unit's scales in common begin (0), or its minima in common (1).
    #[inline(always)]
    pub(crate) const fn common(self, which: usize) -> usize {
        self.factors_of(self.unit_blocks()) + which * self.columns * size_of::<f16>()
    }

    /// Bytes of a unit.
    #[inline(always)]
    pub(crate) const fn unit_bytes(self) -> usize {
        let kinds = match (self.form.multiples, self.form.min) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        self.common(kinds).next_multiple_of(self.group_bytes())
    }

    /// Value `within` of a column among a block's quants.
    #[inline(always)]
    pub(crate) fn quant(self, quants: &[u8], column: usize, within: usize) -> u8 {
        let get = |piece: Piece| (quants[piece.byte] >> piece.shift & piece.mask()) << piece.from;
        self.pieces(column, within)
            .into_iter()
            .fold(0, |quant, piece| quant | get(piece))
    }

    /// Sets value `within` of a column among a block's quants, which were 0.
    pub(crate) fn set_quant(self, quants: &mut [u8], column: usize, within: usize, quant: u8) {
        for piece in self.pieces(column, within) {
            quants[piece.byte] |= (quant >> piece.from & piece.mask()) << piece.shift;
        }
    }

    /// Where the bits of a value are.
    #[inline(always)]
    fn pieces(self, column: usize, within: usize) -> [Piece; 3] {
        let group = within / GROUP;
        let byte = |group| group * self.group_bytes() + column * GROUP + within % GROUP;
        let piece = |group, shift, bits, from| Piece {
            byte: byte(group),
            shift,
            bits,
            from,
        };
        let none = piece(0, 0, 0, 0);
        let low = piece(group % 4, if group < 4 { 0 } else { 4 }, 4, 0);
        match (self.form.bits, self.form.multiples) {
            (4, _) => [low, none, none],
            (5, true) => [low, piece(4, FIFTH[group].cast_unsigned(), 1, 4), none],
            (6, true) if group % 4 < 3 => [piece(group / 4 * 3 + group % 4, 0, 6, 0), none, none],
            (6, true) => {
                let first = group / 4 * 3;
                [
                    piece(first, 6, 2, 4),
                    piece(first + 1, 6, 2, 2),
                    piece(first + 2, 6, 2, 0),
                ]
            }
            _ => [piece(group, 0, u8::BITS, 0), none, none],
        }
    }

    /// The factor of a column among those of a block that begin at `at`.
    #[inline(always)]
    pub(crate) fn factor(self, factors: &[u8], at: usize, column: usize) -> f32 {
        if self.form.multiples {
            return f32::from(factors[at + column].cast_signed());
        }
        let (floats, _) = factors[at..].as_chunks();
        f32::from_ne_bytes(floats[column])
    }

    /// Sets that factor; a multiple is a whole number in the range of a byte.
    pub(crate) fn set_factor(self, factors: &mut [u8], at: usize, column: usize, factor: f32) {
        if self.form.multiples {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "whole, in the range of a byte"
            )]
            let multiple = factor as i8;
            factors[at + column] = multiple.cast_unsigned();
        } else {
            let (floats, _) = factors[at..].as_chunks_mut();
            floats[column] = factor.to_ne_bytes();
        }
    }

    #[inline(always)]
    const fn packed(self) -> bool {
        self.form.bits == 4 || self.form.multiples
    }

    #[inline(always)]
    const fn factor_bytes(self) -> usize {
        if self.form.multiples {
            size_of::<i8>()
        } else {
            size_of::<f32>()
        }
    }
}

/// Some bits of a value.
#[derive(Clone, Copy)]
struct Piece {
    /// Where they are stored, and from which bit on.
    byte: usize,
    shift: u32,
    /// How many there are; there may be none.
    bits: u32,
    /// Which the first is in the value.
    from: u32,
}

impl Piece {
    #[inline(always)]
    fn mask(self) -> u8 {
        u8::try_from((1_u32 << self.bits) - 1).unwrap_or(u8::MAX)
    }
}
