//! The program `lapidary-worker`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lapidary_worker::cli::{Cli, Command};
use lapidary_worker::config::Config;
use lapidary_worker::{bench, score, telemetry, worker};

/// The exit status of a wrong command line; clap's own.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(message) = telemetry::start(&cli.log) {
        eprintln!("error: {message}");
        return ExitCode::from(USAGE);
    }
    let done = match &cli.command {
        Command::Run(args) => match Config::new(args) {
            Ok(config) => run(config),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::from(USAGE);
            }
        },
        Command::Bench(args) => bench::bench(args),
        Command::Score(args) => score::score(args),
    };
    done.map_or_else(failed, |()| ExitCode::SUCCESS)
}

/// Runs a worker on two threads: connections need few, the engine has its own.
fn run(config: Config) -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(worker::run(config));
    // A model that is still being loaded is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(done?)
}

#[expect(clippy::needless_pass_by_value, reason = "it is the end of the error")]
fn failed(error: anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
