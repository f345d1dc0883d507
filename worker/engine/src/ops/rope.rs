//! Rotary position embedding in its half-rotation form, and the head norms before it.
#![expect(
    unsafe_code,
    reason = "vector kernel; rows are written from several threads"
)]
#![expect(clippy::inline_always, reason = "kernels inline all they call")]

use super::norm::normalize;
use super::parallel::{self, Shared};
use super::simd::{Kernel, LANES, Simd, Tier, load_part, store_part};
use super::{rows_of, rows_shape};
use crate::models::config::RopeConfig;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use std::sync::{Arc, PoisonError, RwLock};

/// Cosines and sines by position, computed as far as positions have been seen.
///
/// One table serves all layers of a kind.
#[derive(Debug)]
pub struct RopeTable {
    /// Radians a position, for each pair of a head.
    frequencies: Vec<f32>,
    /// `[positions, 2, H / 2]`: cosines, then sines.
    rows: RwLock<Arc<Vec<f32>>>,
}

impl RopeTable {
    /// An empty table for heads of `head_dim`.
    pub fn new(config: RopeConfig, head_dim: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "head widths are small")]
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounded to f32 as the reference does"
        )]
        let frequency = |pair: usize| {
            let exponent = (2 * pair) as f64 / head_dim as f64;
            (1.0 / f64::from(config.base).powf(exponent)) as f32 / config.factor
        };
        Self {
            frequencies: (0..head_dim / 2).map(frequency).collect(),
            rows: RwLock::default(),
        }
    }

    /// The table for at least `positions` positions.
    pub fn rows(&self, positions: usize) -> Arc<Vec<f32>> {
        let width = 2 * self.frequencies.len();
        let known = self
            .rows
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if known.len() >= positions * width {
            return known;
        }
        let mut rows = known.to_vec();
        for position in rows.len() / width..positions.next_power_of_two() {
            #[expect(clippy::cast_precision_loss, reason = "positions are below 2^24")]
            let angles = self
                .frequencies
                .iter()
                .map(|frequency| position as f32 * frequency);
            rows.extend(angles.clone().map(f32::cos));
            rows.extend(angles.map(f32::sin));
        }
        let rows = Arc::new(rows);
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&rows);
        rows
    }
}

/// Norms and scales each query and key head of `[T, (N + 2K) H]` rows, then rotates it to its position;
/// values pass unchanged.
#[derive(Debug)]
pub struct HeadNorms {
    /// Query heads.
    pub heads: usize,
    /// Key heads, and as many value heads.
    pub kv_heads: usize,
    /// `[H]`, the attention scale included.
    pub query: Vec<f32>,
    /// `[H]`.
    pub key: Vec<f32>,
    /// Added to the mean square; `None`: heads are scaled and not normed.
    pub eps: Option<f32>,
    /// Tier to compute on.
    pub tier: Tier,
}

impl HeadNorms {
    /// `[T, (N + 2K) H]` f32 → the same shape; row `i` is at `positions[i]`.
    pub fn forward(&self, qkv: &Tensor, positions: &[usize], table: &RopeTable) -> Result<Tensor> {
        let last = positions.iter().max().copied().unwrap_or(0);
        let rows = table.rows(last + 1);
        qkv.apply_op1_no_bwd(&NormAndRotate {
            norms: self,
            positions,
            table: &rows,
        })
    }

    fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.query.len()
    }
}

struct NormAndRotate<'a> {
    norms: &'a HeadNorms,
    positions: &'a [usize],
    table: &'a [f32],
}

impl CustomOp1 for NormAndRotate<'_> {
    fn name(&self) -> &'static str {
        "head-norms-and-rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = self.norms.width();
        let x = rows_of(storage, layout, width)?;
        let head_dim = self.norms.query.len();
        // SAFETY: the tasks write every row.
        let out = unsafe {
            parallel::filled(x.len(), |out| {
                parallel::for_each(self.positions.len(), x.len(), |row| {
                    self.norms.tier.run(HeadsOfRow {
                        norms: self.norms,
                        x: &x[row * width..(row + 1) * width],
                        angles: &self.table[self.positions[row] * head_dim..][..head_dim],
                        out,
                        at: row * width,
                    });
                });
            })
        };
        Ok((CpuStorage::F32(out), rows_shape(x, width)))
    }
}

struct HeadsOfRow<'a> {
    norms: &'a HeadNorms,
    x: &'a [f32],
    /// `[2, H / 2]`.
    angles: &'a [f32],
    out: Shared<f32>,
    at: usize,
}

impl Kernel for HeadsOfRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let HeadNorms {
            heads,
            kv_heads,
            query,
            key,
            eps,
            ..
        } = self.norms;
        let head_dim = query.len();
        let (cos, sin) = self.angles.split_at(head_dim / 2);
        // SAFETY: the output has this row, and this task alone writes it; the copy makes every
        // value of it initialised.
        let out = unsafe {
            let out = self.out.at(self.at);
            out.copy_from_nonoverlapping(self.x.as_ptr(), self.x.len());
            std::slice::from_raw_parts_mut(out, self.x.len())
        };
        let rows = self
            .x
            .chunks_exact(head_dim)
            .zip(out.chunks_exact_mut(head_dim));
        for (head, (x, out)) in rows.take(heads + kv_heads).enumerate() {
            let weight = if head < *heads { query } else { key };
            match *eps {
                // SAFETY: `out` and `weight` are as long as `x`.
                Some(eps) => unsafe { normalize(s, x, weight, eps, out.as_mut_ptr()) },
                None => out
                    .iter_mut()
                    .zip(weight)
                    .for_each(|(out, weight)| *out *= weight),
            }
            let (low, high) = out.split_at_mut(head_dim / 2);
            rotate(s, low, high, cos, sin);
        }
    }
}

/// Turns each pair of a value in `low` and its partner in `high`. All four are of one length.
#[inline(always)]
fn rotate<S: Simd>(s: S, low: &mut [f32], high: &mut [f32], cos: &[f32], sin: &[f32]) {
    for at in (0..low.len()).step_by(LANES) {
        let width = low.len() - at;
        // SAFETY: at most the rest of each is read and written.
        unsafe {
            let load = |values: &[f32]| load_part(s, values.as_ptr().add(at), width);
            let (a, b, cos, sin) = (load(low), load(high), load(cos), load(sin));
            let turned_low = s.sub(s.mul(a, cos), s.mul(b, sin));
            let turned_high = s.add(s.mul(b, cos), s.mul(a, sin));
            store_part(s, low.as_mut_ptr().add(at), turned_low, width);
            store_part(s, high.as_mut_ptr().add(at), turned_high, width);
        }
    }
}
