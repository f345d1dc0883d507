//! A weight matrix in blocks of 8-bit quants, packed for the processor.
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use crate::ops::buffer::Buffer;
use crate::ops::simd::{Tier, TileLayout};
use crate::weights::blocks::{self, BLOCK_WEIGHTS, Block, Form};
use crate::weights::{RawTensor, WeightError};
use half::f16;
use rayon::prelude::*;

/// A weight matrix `[n, k]` in blocks of 8-bit quants: tiles of as many columns as a vector of the
/// tier's holds sums of. Weights are unsigned (see [`Form`]), as the dot-product instructions want them.
#[derive(Debug)]
pub(super) struct Int8Tiles {
    n: usize,
    k: usize,
    layout: TileLayout,
    /// Units of a tile.
    units: usize,
    /// `[tiles, units]`, each as the layout says.
    bytes: Buffer,
}

impl Int8Tiles {
    /// Packs a stored matrix: as it is where a [`Form`] holds its format, else in 8 bits, or in 4
    /// bits if `four_bit`.
    pub(super) fn pack(
        raw: &RawTensor<'_>,
        four_bit: bool,
        tier: Tier,
    ) -> Result<Self, WeightError> {
        let rounded = if four_bit {
            Form::FOUR_BIT
        } else {
            Form::EIGHT_BIT
        };
        let layout = TileLayout {
            columns: tier.int8_columns(),
            form: Form::exact(raw.dtype).unwrap_or(rounded),
        };
        let units = raw
            .cols
            .div_ceil(BLOCK_WEIGHTS)
            .div_ceil(layout.unit_blocks());
        let tile_bytes = units * layout.unit_bytes();
        let tiles = raw.rows.div_ceil(layout.columns);
        let mut bytes =
            Buffer::zeroed(tiles * tile_bytes).map_err(|source| WeightError::Memory {
                name: raw.name.clone(),
                source,
            })?;
        bytes
            .as_mut_slice()
            .par_chunks_mut(tile_bytes)
            .enumerate()
            .try_for_each(|(tile, bytes)| {
                let first = tile * layout.columns;
                let rows = layout.columns.min(raw.rows - first);
                let source = TileSource::open(raw, first, rows, four_bit)?;
                let units = bytes.chunks_exact_mut(layout.unit_bytes()).enumerate();
                for (index, unit) in units {
                    for column in 0..rows {
                        let first = index * layout.unit_blocks();
                        scatter(&source, layout, column, first, unit);
                    }
                }
                Ok(())
            })?;
        Ok(Self {
            n: raw.rows,
            k: raw.cols,
            layout,
            units,
            bytes,
        })
    }

    #[inline(always)]
    pub(super) fn n(&self) -> usize {
        self.n
    }

    pub(super) fn k(&self) -> usize {
        self.k
    }

    #[inline(always)]
    pub(super) fn layout(&self) -> TileLayout {
        self.layout
    }

    /// Units of a tile.
    #[inline(always)]
    pub(super) fn units(&self) -> usize {
        self.units
    }

    /// The units of a tile.
    #[inline(always)]
    pub(super) fn tile(&self, tile: usize) -> &[u8] {
        let bytes = self.units * self.layout.unit_bytes();
        &self.bytes.as_slice()[tile * bytes..][..bytes]
    }

    /// Row `index` of the matrix as f32, into `out` `[k]`.
    pub(super) fn row(&self, index: usize, out: &mut [f32]) {
        let layout = self.layout;
        let form = layout.form;
        let (tile, column) = (index / layout.columns, index % layout.columns);
        let units = self.tile(tile).chunks_exact(layout.unit_bytes());
        let values = out.chunks_mut(layout.unit_blocks() * BLOCK_WEIGHTS);
        for (values, unit) in values.zip(units) {
            let common = [0, 1].map(|which| common(layout, unit, which, column));
            for (block, values) in values.chunks_mut(BLOCK_WEIGHTS).enumerate() {
                let quants = &unit[block * layout.quant_bytes()..];
                let factors = &unit[layout.factors_of(block)..];
                let factor = |at| layout.factor(factors, at, column);
                let scales =
                    [0, form.scales() - 1].map(|part| common[0] * factor(layout.scales_of(part)));
                let min = if form.min {
                    common[1] * factor(layout.mins())
                } else {
                    0.0
                };
                for (within, value) in values.iter_mut().enumerate() {
                    let scale = scales[within * 2 / BLOCK_WEIGHTS];
                    *value = form.value(layout.quant(quants, column, within), scale, min);
                }
            }
        }
    }
}

/// What a column's scales (0) or minima (1) in a unit are multiples of.
fn common(layout: TileLayout, unit: &[u8], which: usize, column: usize) -> f32 {
    if !layout.form.multiples || which == 1 && !layout.form.min {
        return 1.0;
    }
    let (halves, _) = unit[layout.common(which)..].as_chunks();
    f16::from_ne_bytes(halves[column]).to_f32()
}

/// Puts the blocks of a unit of one column, from block `first` of its row on, into the unit.
fn scatter(
    source: &TileSource<'_>,
    layout: TileLayout,
    column: usize,
    first: usize,
    unit: &mut [u8],
) {
    let form = layout.form;
    for index in 0..layout.unit_blocks() {
        let block = source.block(column, first + index);
        let quants = &mut unit[index * layout.quant_bytes()..];
        for (within, quant) in block.quants.iter().enumerate() {
            layout.set_quant(quants, column, within, *quant);
        }
        let factors = &mut unit[layout.factors_of(index)..];
        for (part, scale) in block.scales.iter().take(form.scales()).enumerate() {
            layout.set_factor(factors, layout.scales_of(part), column, *scale);
        }
        if form.min {
            layout.set_factor(factors, layout.mins(), column, block.min);
        }
    }
    if form.multiples {
        let common = source.common(column, first);
        for (which, value) in common
            .into_iter()
            .take(1 + usize::from(form.min))
            .enumerate()
        {
            let (halves, _) = unit[layout.common(which)..].as_chunks_mut();
            halves[column] = value.to_ne_bytes();
        }
    }
}

/// The rows that make one tile: stored blocks, or f32 still to be quantised.
enum TileSource<'a> {
    Exact {
        raw: &'a RawTensor<'a>,
        first: usize,
    },
    Float {
        cols: usize,
        values: Vec<f32>,
        four_bit: bool,
    },
}

impl<'a> TileSource<'a> {
    fn open(
        raw: &'a RawTensor<'a>,
        first: usize,
        rows: usize,
        four_bit: bool,
    ) -> Result<Self, WeightError> {
        if Form::exact(raw.dtype).is_some() {
            Ok(Self::Exact { raw, first })
        } else {
            let values = blocks::rows_f32(raw, first, rows)?;
            Ok(Self::Float {
                cols: raw.cols,
                values,
                four_bit,
            })
        }
    }

    fn block(&self, row: usize, index: usize) -> Block {
        match self {
            Self::Exact { raw, first } => {
                blocks::exact_block(raw.dtype, raw.row(first + row), index)
            }
            Self::Float {
                cols,
                values,
                four_bit,
            } => {
                let row = &values[row * cols..(row + 1) * cols];
                let end = (index + 1) * BLOCK_WEIGHTS;
                let values = &row[index * BLOCK_WEIGHTS..end.min(*cols)];
                if *four_bit {
                    blocks::quantize_block_4(values)
                } else {
                    blocks::quantize_block(values)
                }
            }
        }
    }

    /// Scale and minimum of the super-block of block `index`; ones where nothing is stored so.
    fn common(&self, row: usize, index: usize) -> [f16; 2] {
        match self {
            Self::Exact { raw, first } => blocks::common(raw.dtype, raw.row(first + row), index),
            Self::Float { .. } => [f16::ONE; 2],
        }
    }
}
