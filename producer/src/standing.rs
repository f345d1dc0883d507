//! Standing for election as the steward: with only workers that do not, nobody else would feed the
//! queue.

use std::time::Duration;

use lapidary_transport::{Steward, StewardOptions, TickReport, Traces};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::stores::Stores;

/// Time the steward gets to give its election up.
const RETIRE_MAX: Duration = Duration::from_secs(1);

/// A steward that may be elected to feed the queue.
#[derive(Debug)]
pub(crate) struct Standing {
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

impl Standing {
    /// Stands for election from now on; tells the traces of what it feeds, and leaves `hot_results` of a
    /// batch in memory. `report` hears of every tick.
    pub(crate) fn start(
        stores: &Stores,
        traces: Traces,
        tasks: &TaskTracker,
        hot_results: usize,
        report: impl Fn(&TickReport) + Send + Sync + 'static,
    ) -> Self {
        let stop = CancellationToken::new();
        let options = StewardOptions {
            hot_results,
            ..StewardOptions::new(format!("lapidary-{}", std::process::id()))
        };
        let Stores {
            queue,
            results,
            media,
        } = stores.clone();
        let steward = Steward::new(queue, results, media, options).traced(traces);
        let ended = tasks.spawn(steward.run(stop.clone(), report));
        Self { stop, ended }
    }

    /// Gives the election up, so that the next one is won at once.
    pub(crate) async fn retire(self) {
        self.stop.cancel();
        // If it takes longer, the election ends by itself.
        let _ = tokio::time::timeout(RETIRE_MAX, self.ended).await;
    }
}
