//! Soft caps: what keeps the logits of Gemma 2 below a limit.
#![expect(unsafe_code, reason = "vector kernel")]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use super::math::soft_cap;
use super::simd::{Kernel, LANES, Simd, Tier, load_part, store_part};
use rayon::prelude::*;

/// Values that a task takes.
const CHUNK: usize = 16 << 10;

/// Each of `values` becomes `cap * tanh(value / cap)`.
pub fn cap_all(values: &mut [f32], cap: f32, tier: Tier) {
    values
        .par_chunks_mut(CHUNK)
        .for_each(|values| tier.run(Capped { values, cap }));
}

struct Capped<'a> {
    values: &'a mut [f32],
    cap: f32,
}

impl Kernel for Capped<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for from in (0..self.values.len()).step_by(LANES) {
            let rest = &mut self.values[from..];
            // SAFETY: at most the rest of the values is read and written.
            unsafe {
                let lanes = load_part(s, rest.as_ptr(), rest.len());
                store_part(
                    s,
                    rest.as_mut_ptr(),
                    soft_cap(s, lanes, self.cap),
                    rest.len(),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_below_the_cap_on_every_tier() {
        let values: Vec<f32> = (-1000..1000_i16).map(|n| f32::from(n) * 0.17).collect();
        for tier in Tier::available() {
            let mut capped = values.clone();
            cap_all(&mut capped, 30.0, tier);
            for (value, capped) in values.iter().zip(capped) {
                let expected = 30.0 * (f64::from(*value) / 30.0).tanh();
                let error = (f64::from(capped) - expected).abs();
                assert!(error <= 1e-5, "{value} on {tier}: {capped}, not {expected}");
            }
        }
    }
}
