//! The model against stored values of the reference implementation.
//!
//! Values: `../reference/make_fixtures.py`; what each one exposes: `../reference/README.md`.

#![expect(clippy::unwrap_used, reason = "helpers fail the test they serve")]
#![expect(clippy::print_stdout, reason = "measured figures are shown")]

mod golden;
mod judge;
mod steps;
mod tiny;
mod vision;
