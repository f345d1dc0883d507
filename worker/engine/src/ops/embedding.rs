//! Token embeddings, read from the same packed matrix as the output head.

use super::linear::Linear;
use crate::batch::TokenId;
use candle_core::{Device, Result, Tensor};

/// Rows of `table` for `tokens`, times `scale`: `[T, D]` f32.
pub fn embed(table: &Linear, tokens: &[TokenId], scale: f32) -> Result<Tensor> {
    let (vocab, width) = (table.n(), table.k());
    let mut values = vec![0.0; tokens.len() * width];
    for (token, row) in tokens.iter().zip(values.chunks_exact_mut(width)) {
        let index = usize::try_from(*token).unwrap_or(usize::MAX);
        if index >= vocab {
            candle_core::bail!("token {token} is outside the vocabulary of {vocab}");
        }
        table.row(index, row);
        for value in row {
            *value *= scale;
        }
    }
    Tensor::from_vec(values, (tokens.len(), width), &Device::Cpu)
}
