//! The way in for applications: `OpenAI`'s Files, Batches and Chat Completions over HTTP, so that
//! its clients work unchanged, and jobs that are asked about later.
//!
//! A tenant sees only its own: what is another one's is unknown. Everything durable rests in the
//! place itself, so any number of gateways may serve it and one may die anywhere.

mod access;
mod admission;
mod batch_object;
mod batches;
mod body;
mod chat;
mod codes;
mod counted;
mod describe;
mod drain;
mod error;
mod files;
mod form;
mod found;
mod ids;
mod input_order;
mod jobs;
mod limits;
mod manifest;
mod media;
mod models;
mod moderations;
mod once;
mod ops;
mod output;
mod page;
mod pieces;
mod report;
mod results;
mod retry;
mod routes;
mod server;
mod single;
mod telling;
mod traced;
mod upload;
mod waiting;
mod webhooks;

use std::sync::Arc;

use lapidary_schemas::metrics::Metrics;
use lapidary_transport::Traces;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::keys::Limits;
use crate::stores::Stores;
use crate::submission::Ceiling;
use error::ApiError;
pub(crate) use ops::serve as serve_ops;
use page::Page;
pub(crate) use page::{Look, Seen, Watcher, concerns};
use waiting::Waiting;
pub(crate) use webhooks::Sender;

/// How a gateway serves.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Whose requests they are while there are no keys.
    pub(crate) tenant: String,
    /// Only programs on this machine can connect.
    pub(crate) is_local: bool,
    /// What requests may ask for.
    pub(crate) ceiling: Ceiling,
    /// Single jobs waiting for a model over which no more are taken.
    pub(crate) queue_max: u64,
    /// What it counts.
    pub(crate) metrics: Arc<Metrics>,
    /// How much a tenant may ask for, unless its key says otherwise.
    pub(crate) limits: Limits,
    /// Who sends webhooks; without it, none are sent.
    pub(crate) sender: Option<Arc<Sender>>,
    /// Where traces are told.
    pub(crate) traces: Traces,
}

/// What all requests share.
#[derive(Debug)]
struct Gateway {
    stores: Stores,
    tenant: String,
    is_local: bool,
    ceiling: Ceiling,
    queue_max: u64,
    metrics: Arc<Metrics>,
    limits: Limits,
    sender: Option<Arc<Sender>>,
    traces: Traces,
    /// Room for bodies of JSON.
    bodies: Arc<Semaphore>,
    /// Turns in reading files of requests.
    reading: Arc<Semaphore>,
    /// Places for clients that follow a batch.
    followers: Arc<Semaphore>,
    waiting: Waiting,
    page: Page,
    tasks: TaskTracker,
    /// No more connections are accepted, and nobody is told anything more that could wait.
    stopping: CancellationToken,
}

type Shared = Arc<Gateway>;

impl Gateway {
    /// Waits for a turn in reading a file of requests.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let turn = Arc::clone(&self.reading).acquire_owned();
        match tokio::time::timeout(limits::READING_WAIT_MAX, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(ApiError::busy(format!(
                "{} files are being read, try again later",
                limits::READING_MAX
            ))),
        }
    }
}

/// Serves until `stop`; requests under way have a while to end.
pub(crate) async fn serve(
    listener: TcpListener,
    stores: Stores,
    options: Options,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let gateway = Arc::new(Gateway {
        stores,
        tenant: options.tenant,
        is_local: options.is_local,
        ceiling: options.ceiling,
        queue_max: options.queue_max,
        metrics: options.metrics,
        limits: options.limits,
        sender: options.sender,
        traces: options.traces,
        bodies: Arc::new(Semaphore::new(body::ROOM_PIECES)),
        reading: Arc::new(Semaphore::new(limits::READING_MAX)),
        followers: Arc::new(Semaphore::new(limits::FOLLOWERS_MAX)),
        waiting: Waiting::default(),
        page: Page::new(stop.clone()),
        tasks: tasks.clone(),
        stopping: stop.clone(),
    });
    let end = CancellationToken::new();
    let looking = {
        let (gateway, end) = (Arc::clone(&gateway), end.clone());
        async move { gateway.waiting.run(&gateway.stores.results, &end).await }
    };
    tasks.spawn(looking);
    if let Some(sender) = &gateway.sender {
        let results = Arc::clone(&gateway.stores.results);
        let rounds = webhooks::Rounds::new(results, Arc::clone(sender));
        tasks.spawn(rounds.run(stop.clone()));
    }
    let watching = Arc::clone(&gateway);
    tasks.spawn(async move { watching.page.run(&watching.stores).await });
    let metrics = Arc::clone(&gateway.metrics);
    server::serve(
        listener,
        &routes::router(gateway),
        &metrics,
        &tasks,
        (&stop, &end),
    )
    .await;
    end.cancel();
}
