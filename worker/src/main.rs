//! The program `lapidary-worker`.

use std::process::ExitCode;

use clap::Parser;
use lapidary_engine::memory::Counted;
use lapidary_worker::cli::{Cli, Command};
use lapidary_worker::config::Config;
use lapidary_worker::worker::WorkerError;
use lapidary_worker::{bench, filter_trial, score, telemetry, verify, worker};
use mimalloc::MiMalloc;

/// Jobs are made of many small pieces that one thread makes and another one drops; decoders of pictures are held
/// to what was foretold.
#[global_allocator]
static ALLOCATOR: Counted<MiMalloc> = Counted(MiMalloc);

/// The exit status of a wrong command line; clap's own.
const USAGE: u8 = 2;
/// The exit status when a store stayed out of reach.
const OUT_OF_REACH: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(message) = telemetry::start(&cli.log) {
        eprintln!("error: {message}");
        return ExitCode::from(USAGE);
    }
    let done = match &cli.command {
        Command::Run(args) => match Config::new(args) {
            Ok(config) => worker::run_blocking(config).map_err(Into::into),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::from(USAGE);
            }
        },
        Command::Bench(args) => bench::bench(args),
        Command::Score(args) => score::score(args),
        Command::Verify(args) => verify::verify(args),
        Command::Filter(command) => filter_trial::filter(command),
    };
    if let Err(error) = done {
        eprintln!("error: {error:#}");
        return match error.downcast_ref() {
            Some(WorkerError::OutOfReach { .. }) => ExitCode::from(OUT_OF_REACH),
            _ => ExitCode::FAILURE,
        };
    }
    ExitCode::SUCCESS
}
