//! What a user can say, a file each.

mod batch;
mod caption;
mod dead;
mod doctor;
mod keys;
mod report;
mod serve;
mod status;
mod submit;
mod telling;
mod templates;
mod top;

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Stop};
use crate::isolate;
use crate::progress::say;

/// Carries a command out and answers with its exit code; errors are on standard error by then.
pub fn run(cli: Cli) -> ExitCode {
    if let Command::ReadDocument(read) = &cli.command {
        return isolate::serve(read.task, &read.path).into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: cannot start: {error}"));
            return u8::from(Exit::Failed).into();
        }
    };
    let exit = match runtime.block_on(carry_out(cli.command)) {
        Ok(exit) => exit,
        Err(stop) => {
            say(&format!("error: {stop}"));
            if let Some(hint) = &stop.hint {
                say(&format!("hint: {hint}"));
            }
            stop.exit
        }
    };
    // Reads of files cannot be interrupted; nothing they hold is needed any more.
    runtime.shutdown_background();
    u8::from(exit).into()
}

async fn carry_out(command: Command) -> Result<Exit, Stop> {
    let stop = on_interrupt()?;
    match command {
        Command::Caption(args) => caption::run(*args, stop).await,
        Command::Submit(args) => submit::run(args, stop).await,
        Command::Watch(args) => batch::watch(args, stop).await,
        Command::Results(args) => batch::results(args, stop).await,
        Command::Cancel(args) => batch::cancel(args).await,
        Command::Pause(args) => batch::pause(args, true).await,
        Command::Resume(args) => batch::pause(args, false).await,
        Command::Serve(args) => serve::run(args, stop).await,
        Command::Keys(args) => keys::run(args).await,
        Command::Workers(args) => status::workers(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Dead(args) => dead::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Report(args) => report::run(args).await,
        Command::Top(args) => top::run(args, stop).await,
        Command::Templates(args) => templates::run(&args),
        // Answered before there was a runtime.
        Command::ReadDocument(_) => Ok(Exit::Usage),
    }
}

/// A token that the first Ctrl-C or SIGTERM cancels; the second one ends the process at once.
fn on_interrupt() -> Result<CancellationToken, Stop> {
    use tokio::signal::unix::{SignalKind, signal};
    let cannot = |error: std::io::Error| {
        Stop::new(Exit::Failed, format!("cannot listen for signals: {error}"))
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
            }
            if token.is_cancelled() {
                std::process::exit(i32::from(u8::from(Exit::Interrupted)));
            }
            token.cancel();
        }
    });
    Ok(stop)
}
