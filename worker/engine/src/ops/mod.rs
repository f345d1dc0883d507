//! Compute kernels, each behind a candle custom op or a small type of its own.
//!
//! Every kernel computes a row by the same sequence of float operations for any number of rows
//! beside it and on every instruction tier, so a row's result is bit-equal however it is batched.

pub mod attention;
pub mod embedding;
pub mod geglu;
pub mod linear;
mod math;
pub mod norm;
mod parallel;
pub mod rope;
pub mod simd;
