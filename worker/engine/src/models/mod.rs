//! Gemma models, written from the published architecture.
//!
//! Letters in shape comments: `T` rows (tokens of all sequences in the step), `D` model width,
//! `N` query heads, `K` key heads, `H` head width, `F` feed-forward width, `V` vocabulary.

pub mod config;
pub mod gemma3;
pub(crate) mod step;
