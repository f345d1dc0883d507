//! The model against stored values of the reference implementation.
//!
//! Values: `../reference/make_fixtures.py`; what each one exposes: `../reference/README.md`.

#[path = "../common/mod.rs"]
mod common;
mod golden;
mod steps;
mod tiny;
