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

use axum::Router;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::limits::WATCHERS_MAX;
use crate::config::Stores;
use manifests::Manifests;
use pulse::Pulse;

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
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(served::index))
        .route("/page/{name}", get(served::file))
        .route("/v1/overview", get(overview::show))
        .route("/v1/overview/events", get(overview::events))
        .route("/v1/batches/{id}/latest", get(results::latest))
        .route("/v1/results/{id}", get(results::show))
        .route("/v1/media/{reference}", get(results::media))
        .route("/v1/dead-letters", get(dead::list))
        .route(
            "/v1/dead-letters/{id}",
            get(dead::show).delete(dead::forget),
        )
        .route("/v1/dead-letters/{id}/replay", post(dead::replay))
}
