//! Stopping in two steps: no new jobs, then no jobs.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two steps. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// No more jobs are taken; running ones go on.
    pub fetching: CancellationToken,
    /// What still runs is handed back, uncounted.
    pub working: CancellationToken,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on the signals no longer end the process by themselves.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one; returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Takes both steps: the first at the first signal or when [`Stop::fetching`] is cancelled by
/// another; the second when `soft_stop` is over or at another signal. Returns early when
/// `finished`, that is when nothing runs any more.
pub async fn stop_in_steps(
    mut signals: Signals,
    stop: Stop,
    soft_stop: Duration,
    finished: CancellationToken,
) {
    tokio::select! {
        name = signals.next() => tracing::info!(signal = name, "stopping: no new jobs"),
        () = stop.fetching.cancelled() => {}
    }
    stop.fetching.cancel();
    tokio::select! {
        () = finished.cancelled() => return,
        () = tokio::time::sleep(soft_stop) => {
            tracing::info!(soft_stop_s = soft_stop.as_secs(), "handing back what still runs");
        }
        name = signals.next() => tracing::info!(signal = name, "handing back at once"),
    }
    stop.working.cancel();
}
