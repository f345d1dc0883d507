//! Root-mean-square norms.
#![expect(
    unsafe_code,
    reason = "vector kernel; rows are written from several threads"
)]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use super::parallel::{self, Shared};
use super::simd::{Kernel, LANES, Simd, Tier, load_part, store_part};
use super::{pair_of_rows, rows_of, rows_shape};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

/// `x / sqrt(mean(x²) + eps) * weight`; `weight` is the whole factor, one included.
///
/// Source: `transformers` `Gemma3RMSNorm`.
#[derive(Debug)]
pub struct RmsNorm {
    weight: Vec<f32>,
    eps: f32,
    tier: Tier,
}

impl RmsNorm {
    /// A norm over rows of `weight.len()` values.
    pub fn new(weight: Vec<f32>, eps: f32, tier: Tier) -> Self {
        Self { weight, eps, tier }
    }

    /// `[T, D]` f32 → `[T, D]` f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(self)
    }

    /// `residual + norm(x)`, both `[T, D]` f32.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        x.apply_op2_no_bwd(residual, &AddNorm(self))
    }

    fn rows(&self, x: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
        let width = self.weight.len();
        // SAFETY: the tasks write every row.
        unsafe {
            parallel::filled(x.len(), |out| {
                parallel::for_each(x.len() / width, x.len(), |row| {
                    let at = row * width;
                    self.tier.run(NormRow {
                        x: &x[at..at + width],
                        residual: residual.map(|residual| &residual[at..at + width]),
                        weight: &self.weight,
                        eps: self.eps,
                        out,
                        at,
                    });
                });
            })
        }
    }
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = rows_of(storage, layout, self.weight.len())?;
        Ok((
            CpuStorage::F32(self.rows(x, None)),
            rows_shape(x, self.weight.len()),
        ))
    }
}

struct AddNorm<'a>(&'a RmsNorm);

impl CustomOp2 for AddNorm<'_> {
    fn name(&self) -> &'static str {
        "add-rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = self.0.weight.len();
        let (x, residual) = pair_of_rows((x, x_layout), (residual, residual_layout), width)?;
        Ok((
            CpuStorage::F32(self.0.rows(x, Some(residual))),
            rows_shape(x, width),
        ))
    }
}

struct NormRow<'a> {
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    weight: &'a [f32],
    eps: f32,
    out: Shared<f32>,
    at: usize,
}

impl Kernel for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the output has this row, and this task alone writes it.
        unsafe { normalize(s, self.x, self.weight, self.eps, self.out.at(self.at)) };
        if let Some(residual) = self.residual {
            for at in (0..residual.len()).step_by(LANES) {
                let width = residual.len() - at;
                // SAFETY: as above; the residual is as long as the row.
                unsafe {
                    let out = self.out.at(self.at + at);
                    let residual = load_part(s, residual.as_ptr().add(at), width);
                    store_part(s, out, s.add(load_part(s, out, width), residual), width);
                }
            }
        }
    }
}

/// Writes the norm of `x` to `out`.
///
/// # Safety
/// `out` is valid for `x.len()` values and `weight` as long as `x`.
#[inline(always)]
pub(super) unsafe fn normalize<S: Simd>(s: S, x: &[f32], weight: &[f32], eps: f32, out: *mut f32) {
    let mut squares = s.splat(0.0);
    for at in (0..x.len()).step_by(LANES) {
        // SAFETY: at most the rest of the row is read.
        let lanes = unsafe { load_part(s, x.as_ptr().add(at), x.len() - at) };
        squares = s.fma(lanes, lanes, squares);
    }
    #[expect(clippy::cast_precision_loss, reason = "row widths are far below 2^24")]
    let mean = s.sum(squares) / x.len() as f32;
    let factor = s.splat(1.0 / (mean + eps).sqrt());
    for at in (0..x.len()).step_by(LANES) {
        let width = x.len() - at;
        // SAFETY: at most the rest of the row is read and written.
        unsafe {
            let lanes = s.mul(load_part(s, x.as_ptr().add(at), width), factor);
            let scaled = s.mul(lanes, load_part(s, weight.as_ptr().add(at), width));
            store_part(s, out.add(at), scaled, width);
        }
    }
}
