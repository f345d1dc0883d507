//! `lapidary`: captions documents in bulk; submits and follows batches.

use std::process::ExitCode;

use clap::Parser as _;
use lapidary_producer::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::run(Cli::parse())
}
