//! Layer norms, with mean and bias.
#![expect(
    unsafe_code,
    reason = "vector kernel; rows are written from several threads"
)]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use super::parallel::{self, Shared};
use super::simd::{Kernel, LANES, Simd, Tier, load_part, store_part};
use super::{rows_of, rows_shape};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`.
///
/// Source: `torch.nn.LayerNorm`.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
    tier: Tier,
}

impl LayerNorm {
    /// A norm over rows of `weight.len()` values; `bias` has as many.
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, eps: f32, tier: Tier) -> Self {
        Self {
            weight,
            bias,
            eps,
            tier,
        }
    }

    /// `[T, D]` f32 → `[T, D]` f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = self.weight.len();
        let x = rows_of(storage, layout, width)?;
        // SAFETY: the tasks write every row.
        let out = unsafe {
            parallel::filled(x.len(), |out| {
                parallel::for_each(x.len() / width, x.len() * 3, |row| {
                    self.tier.run(NormRow {
                        norm: self,
                        x: &x[row * width..(row + 1) * width],
                        out,
                        at: row * width,
                    });
                });
            })
        };
        Ok((CpuStorage::F32(out), rows_shape(x, width)))
    }
}

struct NormRow<'a> {
    norm: &'a LayerNorm,
    x: &'a [f32],
    out: Shared<f32>,
    at: usize,
}

impl Kernel for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, width) = (self.x.as_ptr(), self.x.len());
        #[expect(clippy::cast_precision_loss, reason = "row widths are far below 2^24")]
        let count = width as f32;
        let mut sums = s.splat(0.0);
        for at in (0..width).step_by(LANES) {
            // SAFETY: at most the rest of the row is read.
            sums = s.add(sums, unsafe { load_part(s, x.add(at), width - at) });
        }
        let mean = s.splat(s.sum(sums) / count);
        let mut squares = s.splat(0.0);
        for at in (0..width).step_by(LANES) {
            // SAFETY: as above.
            let lanes = s.sub(unsafe { load_part(s, x.add(at), width - at) }, mean);
            let lanes = s.keep(lanes, s.splat(0.0), 0, LANES.min(width - at));
            squares = s.fma(lanes, lanes, squares);
        }
        let factor = s.splat(1.0 / (s.sum(squares) / count + self.norm.eps).sqrt());
        for at in (0..width).step_by(LANES) {
            let left = width - at;
            // SAFETY: at most the rest of the row is read and written; this task alone writes it.
            unsafe {
                let lanes = s.mul(s.sub(load_part(s, x.add(at), left), mean), factor);
                let weight = load_part(s, self.norm.weight.as_ptr().add(at), left);
                let bias = load_part(s, self.norm.bias.as_ptr().add(at), left);
                let scaled = s.fma(lanes, weight, bias);
                store_part(s, self.out.at(self.at + at), scaled, left);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn rows_have_the_mean_and_spread_of_weight_and_bias() {
        let width = 19;
        let x: Vec<f32> = (0..2 * width)
            .map(|i| ((i * 7 % 11) as f32) * 0.3 - 1.0)
            .collect();
        let weight: Vec<f32> = (0..width).map(|i| 0.5 + i as f32 * 0.1).collect();
        let bias: Vec<f32> = (0..width).map(|i| i as f32 * 0.01).collect();
        for tier in Tier::available() {
            let norm = LayerNorm::new(weight.clone(), bias.clone(), 1e-6, tier);
            let tensor = Tensor::from_slice(&x, (2, width), &Device::Cpu).unwrap();
            let rows: Vec<Vec<f32>> = norm.forward(&tensor).unwrap().to_vec2().unwrap();
            for (row, x) in rows.iter().zip(x.chunks_exact(width)) {
                let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                let mean = wide.iter().sum::<f64>() / width as f64;
                let variance = wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                for (i, got) in row.iter().enumerate() {
                    let expected = (wide[i] - mean) / (variance + 1e-6).sqrt()
                        * f64::from(weight[i])
                        + f64::from(bias[i]);
                    assert!(
                        (f64::from(*got) - expected).abs() < 1e-5,
                        "{got} {expected}"
                    );
                }
            }
        }
    }
}
