//! Elementary functions over [`Simd`] lanes.

use super::simd::Simd;

/// Largest magnitude whose exponential is a normal f32.
const EXP_ARGUMENT_MAX: f32 = 87.0;

/// `e^x`, within 2e-7 of it relatively; arguments beyond ±87 count as ±87.
///
/// Range reduction by the nearest multiple of ln 2, then the Taylor polynomial of degree 7 on
/// `|r| <= ln 2 / 2`.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const TAYLOR: [f32; 8] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let x = s.min(
        s.max(x, s.splat(-EXP_ARGUMENT_MAX)),
        s.splat(EXP_ARGUMENT_MAX),
    );
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    let r = s.fma(n, s.splat(-LN2_LOW), r);
    let mut power = s.splat(TAYLOR[0]);
    for coefficient in &TAYLOR[1..] {
        power = s.fma(power, r, s.splat(*coefficient));
    }
    s.mul(power, s.pow2(n))
}

/// GELU in its tanh form, `x/2 (1 + tanh u)` with `u = √(2/π)(x + 0.044715 x³)`, computed as
/// `x / (1 + e^(-2u))`.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    const MINUS_TWO_ROOT: f32 = -1.595_769;
    let cubic = s.fma(s.mul(s.mul(x, x), x), s.splat(0.044_715), x);
    let one = s.splat(1.0);
    s.div(x, s.add(one, exp(s, s.mul(cubic, s.splat(MINUS_TWO_ROOT)))))
}

/// `cap * tanh(x / cap)`, within 1e-7 of it relatively to `cap`: what stays below `cap`, and nearly
/// itself far below it.
#[expect(clippy::inline_always, reason = "kernels inline all they call")]
#[inline(always)]
pub(crate) fn soft_cap<S: Simd>(s: S, x: S::F, cap: f32) -> S::F {
    let (one, cap_lanes) = (s.splat(1.0), s.splat(cap));
    // tanh u = (1 - e^(-2u)) / (1 + e^(-2u))
    let decay = exp(s, s.mul(s.div(x, cap_lanes), s.splat(-2.0)));
    s.mul(cap_lanes, s.div(s.sub(one, decay), s.add(one, decay)))
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Kernel, LANES, Tier};
    use super::*;

    struct Apply<'a> {
        x: &'a mut [f32; LANES],
        gelu: bool,
    }

    impl Kernel for Apply<'_> {
        type Output = ();
        #[expect(clippy::inline_always, reason = "kernels inline all they call")]
        #[inline(always)]
        #[expect(unsafe_code, reason = "loads and stores sixteen values of an array")]
        fn run<S: Simd>(self, s: S) {
            // SAFETY: the array holds sixteen values.
            let x = unsafe { s.load(self.x.as_ptr()) };
            let y = if self.gelu {
                gelu_tanh(s, x)
            } else {
                exp(s, x)
            };
            // SAFETY: as above.
            unsafe { s.store(self.x.as_mut_ptr(), y) };
        }
    }

    fn apply(tier: Tier, x: f32, gelu: bool) -> f32 {
        let mut lanes = [x; LANES];
        tier.run(Apply {
            x: &mut lanes,
            gelu,
        });
        lanes[7]
    }

    #[test]
    fn exp_and_gelu_are_precise_and_equal_on_every_tier() {
        for step in -8000..8000_i16 {
            let x = f32::from(step) * 0.01;
            let wide = f64::from(x);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
            let expected = [wide.exp(), wide / (1.0 + (-2.0 * u).exp())];
            for (gelu, expected) in [false, true].into_iter().zip(expected) {
                let got = apply(Tier::detect(), x, gelu);
                let error = (f64::from(got) - expected).abs();
                // Far below zero GELU is a tiny number whose exponent is a rounded cube.
                let negligible = if gelu { 1e-9 } else { 0.0 };
                assert!(
                    error <= 1e-6 * expected.abs() + negligible,
                    "{x}, gelu {gelu}: {got}"
                );
                for tier in Tier::available() {
                    assert_eq!(
                        got.to_bits(),
                        apply(tier, x, gelu).to_bits(),
                        "{tier:?} at {x}"
                    );
                }
            }
        }
    }
}
