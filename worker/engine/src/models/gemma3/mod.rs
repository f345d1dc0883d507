//! Gemma 3.

pub mod text;
