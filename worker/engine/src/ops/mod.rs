//! Compute kernels, each behind a candle custom op or a small type of its own.
//!
//! Every kernel computes a row by the same sequence of float operations for any number of rows
//! beside it and on every instruction tier, so a row's result is bit-equal however it is batched.

pub mod attention;
pub mod bias;
pub(crate) mod buffer;
pub mod embedding;
pub mod geglu;
pub mod layer_norm;
pub mod linear;
mod math;
pub mod norm;
pub(crate) mod parallel;
pub mod rope;
pub mod simd;
pub mod softcap;

use candle_core::{CpuStorage, Layout, Result, Shape};

/// The values of a contiguous `[T, width]` f32 tensor.
pub(crate) fn rows_of<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    width: usize,
) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    let Some((from, to)) = layout.contiguous_offsets() else {
        candle_core::bail!(
            "rows must lie packed, their strides are {:?}",
            layout.stride()
        );
    };
    match layout.dims() {
        [_, last] if *last == width => Ok(&values[from..to]),
        dims => candle_core::bail!("rows of {width} values expected, the tensor is {dims:?}"),
    }
}

/// The values of two contiguous `[T, width]` f32 tensors that are added.
fn pair_of_rows<'a>(
    (x, x_layout): (&'a CpuStorage, &Layout),
    (residual, residual_layout): (&'a CpuStorage, &Layout),
    width: usize,
) -> Result<(&'a [f32], &'a [f32])> {
    let x = rows_of(x, x_layout, width)?;
    let residual = rows_of(residual, residual_layout, width)?;
    if x.len() != residual.len() {
        candle_core::bail!("{} values cannot be added to {}", x.len(), residual.len());
    }
    Ok((x, residual))
}

/// Shape of `values` as rows of `width`.
fn rows_shape(values: &[f32], width: usize) -> Shape {
    Shape::from((values.len() / width, width))
}
