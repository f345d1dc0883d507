//! What follows a matrix product with a bias: the bias, and an activation, a factor or a residual.
#![expect(
    unsafe_code,
    reason = "vector kernel; rows are written from several threads"
)]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use super::math::gelu_tanh;
use super::parallel::{self, Shared};
use super::simd::{Kernel, LANES, Simd, Tier, load_part, store_part};
use super::{pair_of_rows, rows_of, rows_shape};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

/// A bias and a factor for each column.
#[derive(Debug)]
pub struct Bias {
    values: Vec<f32>,
    /// `None`: all 1.
    factor: Option<Vec<f32>>,
    tier: Tier,
}

impl Bias {
    /// Adds `values` to rows as wide.
    pub fn new(values: Vec<f32>, tier: Tier) -> Self {
        Self {
            values,
            factor: None,
            tier,
        }
    }

    /// The same, with every column multiplied by its factor afterwards.
    #[must_use]
    pub fn with_factor(mut self, factor: Vec<f32>) -> Self {
        debug_assert_eq!(factor.len(), self.values.len());
        self.factor = Some(factor);
        self
    }

    /// `(x + bias) * factor`, `[T, D]` f32 → `[T, D]` f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(&Biased {
            bias: self,
            gelu: false,
        })
    }

    /// `gelu_tanh((x + bias) * factor)`, `[T, D]` f32 → `[T, D]` f32.
    pub fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(&Biased {
            bias: self,
            gelu: true,
        })
    }

    /// `(x + bias) * factor + residual`, all `[T, D]` f32.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let biased = Biased {
            bias: self,
            gelu: false,
        };
        x.apply_op2_no_bwd(residual, &biased)
    }
}

struct Biased<'a> {
    bias: &'a Bias,
    gelu: bool,
}

impl Biased<'_> {
    fn rows(&self, x: &[f32], residual: Option<&[f32]>) -> (CpuStorage, Shape) {
        let width = self.bias.values.len();
        let cost = if self.gelu { 8 } else { 1 };
        // SAFETY: the tasks write every row.
        let out = unsafe {
            parallel::filled(x.len(), |out| {
                parallel::for_each(x.len() / width, x.len() * cost, |row| {
                    let at = row * width;
                    self.bias.tier.run(BiasRow {
                        op: self,
                        x: &x[at..at + width],
                        residual: residual.map(|residual| &residual[at..at + width]),
                        out,
                        at,
                    });
                });
            })
        };
        (CpuStorage::F32(out), rows_shape(x, width))
    }
}

impl CustomOp1 for Biased<'_> {
    fn name(&self) -> &'static str {
        "bias"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(self.rows(rows_of(storage, layout, self.bias.values.len())?, None))
    }
}

impl CustomOp2 for Biased<'_> {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let width = self.bias.values.len();
        let (x, residual) = pair_of_rows((x, x_layout), (residual, residual_layout), width)?;
        Ok(self.rows(x, Some(residual)))
    }
}

struct BiasRow<'a> {
    op: &'a Biased<'a>,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    out: Shared<f32>,
    at: usize,
}

impl Kernel for BiasRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Bias { values, factor, .. } = self.op.bias;
        for at in (0..self.x.len()).step_by(LANES) {
            let left = self.x.len() - at;
            // SAFETY: at most the rest of the row is read and written; this task alone writes it.
            unsafe {
                let mut lanes = s.add(
                    load_part(s, self.x.as_ptr().add(at), left),
                    load_part(s, values.as_ptr().add(at), left),
                );
                if let Some(factor) = factor {
                    lanes = s.mul(lanes, load_part(s, factor.as_ptr().add(at), left));
                }
                if self.op.gelu {
                    lanes = gelu_tanh(s, lanes);
                }
                if let Some(residual) = self.residual {
                    lanes = s.add(lanes, load_part(s, residual.as_ptr().add(at), left));
                }
                store_part(s, self.out.at(self.at + at), lanes, left);
            }
        }
    }
}
