//! Token embeddings, read from the same packed matrix as the output head.

use super::linear::Linear;
use crate::batch::TokenId;
use candle_core::{Device, Result, Tensor};
use std::ops::Range;

/// Rows that are not read from the table: their token ids mean nothing.
pub struct SoftRows<'a> {
    /// Which.
    pub rows: Range<usize>,
    /// What they are, `[rows, D]`; not scaled.
    pub values: &'a [f32],
}

/// Rows of `table` for `tokens`, times `scale`, and `soft` in their places: `[T, D]` f32.
pub fn embed(
    table: &Linear,
    tokens: &[TokenId],
    scale: f32,
    soft: &[SoftRows<'_>],
) -> Result<Tensor> {
    let (vocab, width) = (table.n(), table.k());
    let mut values = vec![0.0; tokens.len() * width];
    let mut next = soft.iter().peekable();
    for (index, row) in values.chunks_exact_mut(width).enumerate() {
        next.next_if(|soft| soft.rows.end <= index);
        if next.peek().is_some_and(|soft| soft.rows.contains(&index)) {
            continue;
        }
        let token = usize::try_from(tokens[index]).unwrap_or(usize::MAX);
        if token >= vocab {
            candle_core::bail!("token {token} is outside the vocabulary of {vocab}");
        }
        table.row(token, row);
        for value in row {
            *value *= scale;
        }
    }
    for SoftRows { rows, values: soft } in soft {
        let place = &mut values[rows.start * width..rows.end * width];
        if place.len() != soft.len() {
            candle_core::bail!("{} soft values for rows {rows:?} of {width}", soft.len());
        }
        place.copy_from_slice(soft);
    }
    Tensor::from_vec(values, (tokens.len(), width), &Device::Cpu)
}
