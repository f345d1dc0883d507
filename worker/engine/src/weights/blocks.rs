//! Stored weights as blocks of 32: the forms the 8-bit kernel can hold exactly, and the way there
//! for all others.
//!
//! Formats: <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>.

use super::{RawTensor, WeightError};
use candle_core::quantized::{GgmlDType, ggml_file};
use candle_core::{Device, Shape};
use half::{bf16, f16};

/// Weights that share a scale.
pub(crate) const BLOCK_WEIGHTS: usize = 32;
/// Blocks that share what their scales are multiples of, where a [`Form`] has such.
pub(crate) const SUPER_BLOCK: usize = 8;

/// How the blocks of a matrix are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Quants are below `2^bits`: 4, 5, 6 or 8. Those of 6 bits have a scale for each half of a block.
    pub bits: u32,
    /// Whether blocks have minima; where they have none, half of `2^bits` stands for zero.
    pub min: bool,
    /// Whether scales and minima are 8-bit multiples of those of their super-block of eight blocks.
    pub multiples: bool,
}

impl Form {
    /// What values are rounded to by [`quantize_block`].
    pub(crate) const EIGHT_BIT: Self = Self {
        bits: 8,
        min: false,
        multiples: false,
    };
    /// What values are rounded to by [`quantize_block_4`].
    pub(crate) const FOUR_BIT: Self = Self {
        bits: 4,
        min: true,
        multiples: false,
    };

    /// The form that holds a stored format exactly, if there is one.
    pub(crate) fn exact(dtype: GgmlDType) -> Option<Self> {
        let (bits, min, multiples) = match dtype {
            GgmlDType::Q8_0 => (8, false, false),
            GgmlDType::Q6K => (6, false, true),
            GgmlDType::Q5_0 => (5, false, false),
            GgmlDType::Q5_1 => (5, true, false),
            GgmlDType::Q5K => (5, true, true),
            GgmlDType::Q4_0 => (4, false, false),
            GgmlDType::Q4_1 => (4, true, false),
            GgmlDType::Q4K => (4, true, true),
            _ => return None,
        };
        Some(Self {
            bits,
            min,
            multiples,
        })
    }

    /// Scales of a block: one, or one for each half.
    #[inline]
    pub(crate) const fn scales(self) -> usize {
        if self.bits == 6 { 2 } else { 1 }
    }

    /// What a quant stands for.
    pub(crate) fn value(self, quant: u8, scale: f32, min: f32) -> f32 {
        if self.min {
            scale * f32::from(quant) - min
        } else {
            scale * (f32::from(quant) - f32::from(1_u8 << (self.bits - 1)))
        }
    }
}

/// 32 weights of a row; `min` counts if the [`Form`] has minima. Scales and minima are to be multiplied
/// by those of the super-block ([`common`]) if the form has such.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Block {
    pub quants: [u8; BLOCK_WEIGHTS],
    /// Of each half; the same where the [`Form`] has one.
    pub scales: [f32; 2],
    pub min: f32,
}

/// Block `index` of a row in one of the exact formats.
pub(crate) fn exact_block(dtype: GgmlDType, row: &[u8], index: usize) -> Block {
    let size = dtype.type_size();
    let part = |bytes: usize, at: usize| &row[at * bytes..(at + 1) * bytes];
    match dtype {
        GgmlDType::Q8_0 => q8_0(part(size, index)),
        GgmlDType::Q4_0 => legacy(part(size, index), &LEGACY_Q4_0),
        GgmlDType::Q4_1 => legacy(part(size, index), &LEGACY_Q4_1),
        GgmlDType::Q5_0 => legacy(part(size, index), &LEGACY_Q5_0),
        GgmlDType::Q5_1 => legacy(part(size, index), &LEGACY_Q5_1),
        GgmlDType::Q6K => q6_k(part(size, index / SUPER_BLOCK), index % SUPER_BLOCK),
        GgmlDType::Q4K | GgmlDType::Q5K => {
            k_quant(dtype, part(size, index / SUPER_BLOCK), index % SUPER_BLOCK)
        }
        other => unreachable!("{other:?} is not an exact format"),
    }
}

/// Scale and minimum of the super-block of block `index` of a row, in a format that has such.
pub(crate) fn common(dtype: GgmlDType, row: &[u8], index: usize) -> [f16; 2] {
    let size = dtype.type_size();
    let block = &row[index / SUPER_BLOCK * size..][..size];
    if dtype == GgmlDType::Q6K {
        [half_at(block, size - 2), f16::ZERO]
    } else {
        [half_at(block, 0), half_at(block, 2)]
    }
}

/// The nearest block to these values: scale `max |x| / 127`, quants to the nearest.
pub(crate) fn quantize_block(values: &[f32]) -> Block {
    let largest = values
        .iter()
        .fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 127.0 / largest } else { 0.0 };
    let mut quants = [unsigned(0); BLOCK_WEIGHTS];
    for (quant, x) in quants.iter_mut().zip(values) {
        #[expect(clippy::cast_possible_truncation, reason = "at most 127 in magnitude")]
        let signed = (x * inverse).round_ties_even() as i8;
        *quant = unsigned(signed);
    }
    Block {
        quants,
        scales: [scale; 2],
        min: 0.0,
    }
}

/// The nearest block of 4-bit quants with a minimum: 16 even steps from the least value to the
/// greatest.
pub(crate) fn quantize_block_4(values: &[f32]) -> Block {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (greatest - least) / 15.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut quants = [0; BLOCK_WEIGHTS];
    for (quant, x) in quants.iter_mut().zip(values) {
        #[expect(clippy::cast_possible_truncation, reason = "clamped to 0 ..= 15")]
        #[expect(clippy::cast_sign_loss, reason = "clamped to 0 ..= 15")]
        let step = ((x - least) * inverse).round_ties_even().clamp(0.0, 15.0) as u8;
        *quant = step;
    }
    Block {
        quants,
        scales: [scale; 2],
        min: -least,
    }
}

/// Rows `first .. first + count` as f32, `[count, cols]`.
pub(crate) fn rows_f32(
    raw: &RawTensor<'_>,
    first: usize,
    count: usize,
) -> Result<Vec<f32>, WeightError> {
    let row_bytes = raw.row_bytes();
    let bytes = &raw.bytes[first * row_bytes..(first + count) * row_bytes];
    let f16s = |convert: fn([u8; 2]) -> f32| {
        bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| convert(*pair))
            .collect()
    };
    match raw.dtype {
        GgmlDType::F32 => Ok(bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect()),
        GgmlDType::F16 => Ok(f16s(|pair| f16::from_le_bytes(pair).to_f32())),
        GgmlDType::BF16 => Ok(f16s(|pair| bf16::from_le_bytes(pair).to_f32())),
        dtype => {
            let dims = Shape::from((count, raw.cols)).into_dims();
            ggml_file::qtensor_from_ggml(dtype, bytes, dims, &Device::Cpu)
                .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1())
                .map_err(|source| WeightError::Undecodable {
                    name: raw.name.clone(),
                    source: Box::new(source),
                })
        }
    }
}

/// A quant of 8 bits: 128 stands for zero.
fn unsigned(signed: i8) -> u8 {
    signed.cast_unsigned() ^ 0x80
}

fn half_at(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn q8_0(block: &[u8]) -> Block {
    let mut quants = [0; BLOCK_WEIGHTS];
    for (quant, byte) in quants.iter_mut().zip(&block[2..]) {
        *quant = unsigned(byte.cast_signed());
    }
    Block {
        quants,
        scales: [half_at(block, 0).to_f32(); 2],
        min: 0.0,
    }
}

/// The four formats of 16 nibble bytes: scale, then a minimum, then fifth bits, as each has them.
struct Legacy {
    min: bool,
    fifth_bits: bool,
}

const LEGACY_Q4_0: Legacy = Legacy {
    min: false,
    fifth_bits: false,
};
const LEGACY_Q4_1: Legacy = Legacy {
    min: true,
    fifth_bits: false,
};
const LEGACY_Q5_0: Legacy = Legacy {
    min: false,
    fifth_bits: true,
};
const LEGACY_Q5_1: Legacy = Legacy {
    min: true,
    fifth_bits: true,
};

fn legacy(block: &[u8], format: &Legacy) -> Block {
    let mut at = 2;
    let min = if format.min {
        at += 2;
        -half_at(block, 2).to_f32()
    } else {
        0.0
    };
    let mut fifth = 0;
    if format.fifth_bits {
        fifth = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        at += 4;
    }
    let mut quants = [0; BLOCK_WEIGHTS];
    for (j, byte) in block[at..at + 16].iter().enumerate() {
        let bit = |i: usize| if fifth >> i & 1 == 1 { 16 } else { 0 };
        quants[j] = (byte & 0xF) | bit(j);
        quants[j + 16] = (byte >> 4) | bit(j + 16);
    }
    Block {
        quants,
        scales: [half_at(block, 0).to_f32(); 2],
        min,
    }
}

/// Sub-block `index` of eight in a block of 256 of `Q4_K` or `Q5_K`: 6-bit scales and minima
/// under a common f16 pair.
fn k_quant(dtype: GgmlDType, block: &[u8], index: usize) -> Block {
    let packed = &block[4..16];
    let (scale, min) = if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        (
            (packed[index + 4] & 0xF) | ((packed[index - 4] >> 6) << 4),
            (packed[index + 4] >> 4) | ((packed[index] >> 6) << 4),
        )
    };
    let nibbles_at = if dtype == GgmlDType::Q5K { 48 } else { 16 };
    let nibbles = &block[nibbles_at + index / 2 * 32..][..BLOCK_WEIGHTS];
    let mut quants = [0; BLOCK_WEIGHTS];
    for (j, quant) in quants.iter_mut().enumerate() {
        let fifth = if dtype == GgmlDType::Q5K {
            (block[16 + j] >> index & 1) << 4
        } else {
            0
        };
        *quant = (nibbles[j] >> (index % 2 * 4) & 0xF) | fifth;
    }
    Block {
        quants,
        scales: [f32::from(scale); 2],
        min: f32::from(min),
    }
}

/// Sub-block `index` of eight in a block of 256 of `Q6_K`: 128 bytes of four low bits, 64 of two high
/// bits, an 8-bit scale for each 16 weights, a common f16 scale.
fn q6_k(block: &[u8], index: usize) -> Block {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let scales = &rest[..16];
    let (half, quarter) = (index / 4, index % 4);
    let low = &low[half * 64 + quarter % 2 * 32..][..BLOCK_WEIGHTS];
    let high = &high[half * 32..][..BLOCK_WEIGHTS];
    let mut quants = [0; BLOCK_WEIGHTS];
    for (quant, (low, high)) in quants.iter_mut().zip(low.iter().zip(high)) {
        *quant = (low >> (quarter / 2 * 4) & 0xF) | (high >> (quarter * 2) & 3) << 4;
    }
    let scale = |which: usize| f32::from(scales[index * 2 + which].cast_signed());
    Block {
        quants,
        scales: [scale(0), scale(1)],
        min: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use candle_core::quantized::QTensor;

    #[test]
    fn exact_blocks_hold_what_candle_decodes() {
        let rows = 3;
        let cols = 512;
        let values: Vec<f32> = (0..rows * cols)
            .map(|i| f32::from(u16::try_from(i * 7919 % 1009).unwrap()) / 500.0 - 0.8)
            .collect();
        let tensor = Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap();
        for dtype in [
            GgmlDType::Q8_0,
            GgmlDType::Q4_0,
            GgmlDType::Q4_1,
            GgmlDType::Q5_0,
            GgmlDType::Q5_1,
            GgmlDType::Q4K,
            GgmlDType::Q5K,
            GgmlDType::Q6K,
        ] {
            let quantized = QTensor::quantize(&tensor, dtype).unwrap();
            let bytes = quantized.data().unwrap();
            let raw = RawTensor::new("w", rows, cols, dtype, &bytes);
            let expected = rows_f32(&raw, 0, rows).unwrap();
            let form = Form::exact(dtype).unwrap();
            for row in 0..rows {
                let stored = &bytes[row * raw.row_bytes()..][..raw.row_bytes()];
                for index in 0..cols / BLOCK_WEIGHTS {
                    let block = exact_block(dtype, stored, index);
                    let [scale, min] = if form.multiples {
                        common(dtype, stored, index).map(f16::to_f32)
                    } else {
                        [1.0; 2]
                    };
                    for (j, quant) in block.quants.iter().enumerate() {
                        let scale = scale * block.scales[j * 2 / BLOCK_WEIGHTS];
                        let value = form.value(*quant, scale, min * block.min);
                        let at = row * cols + index * BLOCK_WEIGHTS + j;
                        assert_eq!(value.to_bits(), expected[at].to_bits(), "{dtype:?} {at}");
                    }
                }
            }
        }
    }
}
