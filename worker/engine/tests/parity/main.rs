//! The model against stored values of the reference implementation.
//!
//! Values: `../reference/make_fixtures.py`; what each one exposes: `../reference/README.md`.

#![expect(
    clippy::unwrap_used,
    reason = "helpers outside the test functions fail the test"
)]

mod golden;
mod steps;
mod tiny;
