//! Gemma 3.

pub mod text;
pub mod vision;
