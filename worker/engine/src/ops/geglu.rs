//! The gated activation of the feed-forward layer.
#![expect(
    unsafe_code,
    reason = "vector kernel; rows are written from several threads"
)]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use super::math::gelu_tanh;
use super::parallel::{self, Shared};
use super::rows_of;
use super::simd::{Kernel, LANES, Simd, Tier, load_part, store_part};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// `gelu_tanh(gate) * up` for rows of gate and up side by side: `[T, 2F]` → `[T, F]`.
pub fn geglu(gate_up: &Tensor, tier: Tier) -> Result<Tensor> {
    gate_up.apply_op1_no_bwd(&GeGlu { tier })
}

struct GeGlu {
    tier: Tier,
}

impl CustomOp1 for GeGlu {
    fn name(&self) -> &'static str {
        "geglu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let x = rows_of(storage, layout, width)?;
        let width = width / 2;
        // SAFETY: the tasks write every row.
        let out = unsafe {
            parallel::filled(rows * width, |out| {
                parallel::for_each(rows, rows * width * 8, |row| {
                    let (gate, up) = x[row * 2 * width..][..2 * width].split_at(width);
                    self.tier.run(GateRow {
                        gate,
                        up,
                        out,
                        at: row * width,
                    });
                });
            })
        };
        Ok((CpuStorage::F32(out), Shape::from((rows, width))))
    }
}

struct GateRow<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: Shared<f32>,
    at: usize,
}

impl Kernel for GateRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for from in (0..self.gate.len()).step_by(LANES) {
            let width = self.gate.len() - from;
            // SAFETY: at most the rest of the row is read and written; this task alone writes it.
            unsafe {
                let gate = load_part(s, self.gate.as_ptr().add(from), width);
                let up = load_part(s, self.up.as_ptr().add(from), width);
                let gated = s.mul(gelu_tanh(s, gate), up);
                store_part(s, self.out.at(self.at + from), gated, width);
            }
        }
    }
}
