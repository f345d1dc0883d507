//! The model against stored values of the reference implementation.
//!
//! Values: `../reference/make_fixtures.py`; what each one exposes: `../reference/README.md`.

mod golden;
mod steps;
mod tiny;
