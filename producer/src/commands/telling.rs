//! Telling a collector of traces while a command runs.

use std::sync::Arc;

use lapidary_schemas::metrics::Metrics;
use lapidary_transport::traces::{TraceOptions, Traces};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::TraceArgs;
use crate::exit::{Exit, Stop};

/// Where traces are told, and what sends them, if anybody wants them.
#[derive(Debug, Default)]
pub(super) struct Telling {
    pub(super) traces: Traces,
    sending: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Telling {
    /// Tells the traces of this program from now on.
    pub(super) fn start(
        args: &TraceArgs,
        program: &'static str,
        metrics: &Arc<Metrics>,
        tasks: &TaskTracker,
    ) -> Result<Self, Stop> {
        let Some(collector) = args.otlp.clone().filter(|url| !url.is_empty()) else {
            return Ok(Self::default());
        };
        let options = TraceOptions {
            collector,
            share: args.trace_share,
        };
        let instance = std::process::id().to_string();
        let made = Traces::new(&options, program, &instance, metrics);
        let (traces, export) = made.map_err(|error| Stop::usage(format!("--otlp: {error}")))?;
        let end = CancellationToken::new();
        let sending = tasks.spawn(export.run(end.clone()));
        Ok(Self {
            traces,
            sending: Some((end, sending)),
        })
    }

    /// The same for a command that counts nothing.
    pub(super) fn of_command(args: &TraceArgs, tasks: &TaskTracker) -> Result<Self, Stop> {
        let metrics = Metrics::new("lapidary", env!("CARGO_PKG_VERSION"), &[], &[]);
        let metrics = metrics.map_err(|error| Stop::new(Exit::Failed, error.to_string()))?;
        Self::start(args, "lapidary", &Arc::new(metrics), tasks)
    }

    /// Sends what was told so far, for a short while.
    pub(super) async fn end(self) {
        let Some((end, sending)) = self.sending else {
            return;
        };
        end.cancel();
        // It has an end of its own; what it might report is that it was aborted.
        let _ = sending.await;
    }
}
