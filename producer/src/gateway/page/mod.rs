//! The page at `/`, and the addresses that show what it shows: how the place does, the latest results
//! with their requests, and dead letters. Everything that the page does can be done over them.

mod concerns;
mod dead;
mod history;
mod manifests;
mod overview;
mod pulse;
mod results;
mod served;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::limits::WATCHERS_MAX;
use super::routes::Routes;
use crate::stores::Stores;
pub(crate) use concerns::concerns;
use manifests::Manifests;
use pulse::Pulse;
pub(crate) use pulse::{Look, Seen, Watcher};

/// What those who look at the page share.
#[derive(Debug)]
pub(super) struct Page {
    pulse: Pulse,
    manifests: Manifests,
    /// Seats of those who watch.
    seats: Arc<Semaphore>,
    /// With it, those who watch are let go.
    stop: CancellationToken,
}

impl Page {
    /// Nobody has looked so far.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self {
            pulse: Pulse::default(),
            manifests: Manifests::default(),
            seats: Arc::new(Semaphore::new(WATCHERS_MAX)),
            stop,
        }
    }

    /// Looks at the place until the gateway stops.
    pub(super) async fn run(&self, stores: &Stores) {
        self.pulse.run(stores, &self.stop).await;
    }
}

/// Every address of it.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/", "The page", served::index)
        .get("/page/{name}", "A file of the page", served::file)
        .get("/v1/overview", "Shows how the place does", overview::show)
        .get(
            "/v1/overview/events",
            "Tells how the place does, as it changes",
            overview::events,
        )
        .get(
            "/v1/batches/{id}/latest",
            "Reads a batch's results from the newest back",
            results::latest,
        )
        .get(
            "/v1/results/{id}",
            "Shows the result of a job",
            results::show,
        )
        .get("/v1/media/{reference}", "Reads media", results::media)
        .get("/v1/dead-letters", "Lists jobs that have died", dead::list)
        .get(
            "/v1/dead-letters/{id}",
            "Shows a job that has died",
            dead::show,
        )
        .delete(
            "/v1/dead-letters/{id}",
            "Forgets a job that has died",
            dead::forget,
        )
        .post(
            "/v1/dead-letters/{id}/replay",
            "Brings a job back that has died",
            dead::replay,
        )
}
