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
mod counted;
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
mod server;
mod single;
mod telling;
mod upload;
mod waiting;
mod webhooks;

use std::num::NonZeroU64;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};
use lapidary_schemas::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Stores;
use crate::submission::Ceiling;
use error::ApiError;
pub(crate) use ops::serve as serve_ops;
use page::Page;
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
    /// Submissions that a tenant may make in an hour; as many as it wants without it.
    pub(crate) requests_per_hour: Option<NonZeroU64>,
    /// Who sends webhooks; without it, none are sent.
    pub(crate) sender: Option<Arc<Sender>>,
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
    requests_per_hour: Option<NonZeroU64>,
    sender: Option<Arc<Sender>>,
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
        requests_per_hour: options.requests_per_hour,
        sender: options.sender,
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
    server::serve(listener, &router(gateway), &metrics, &tasks, (&stop, &end)).await;
    end.cancel();
}

fn router(gateway: Shared) -> Router {
    let submissions = Router::new()
        .route("/v1/files", post(upload::create))
        .route("/v1/media", post(media::create))
        .route("/v1/batches", post(batches::create))
        .route("/v1/batches/{id}/retry", post(retry::create))
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/moderations", post(moderations::create))
        .route("/v1/jobs", post(jobs::create))
        .route_layer(from_fn_with_state(Arc::clone(&gateway), admission::admit));
    submissions
        .route("/v1/files", get(files::list))
        .route("/v1/files/{id}", get(files::show).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/batches", get(batches::list))
        .route("/v1/batches/{id}", get(batches::show))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/v1/batches/{id}/results", get(results::show))
        .route("/v1/batches/{id}/report", get(report::show))
        .route("/v1/jobs/{id}", get(jobs::show).delete(jobs::cancel))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::show))
        .route("/v1/usage", get(admission::usage))
        .merge(page::routes())
        .route("/v1/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/v1/webhooks/{id}", delete(webhooks::delete))
        .route("/v1/webhooks/deliveries", get(webhooks::deliveries))
        .route(
            "/v1/webhooks/deliveries/{id}/replay",
            post(webhooks::replay),
        )
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        // Each reader of a body has limits of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(drain::refusals_are_heard))
        .layer(from_fn_with_state(
            Arc::clone(&gateway.metrics),
            counted::requests,
        ))
        .with_state(gateway)
}

async fn nowhere(uri: Uri) -> ApiError {
    ApiError::unknown("address", uri.path())
}

async fn not_so(method: Method, uri: Uri) -> ApiError {
    let message = format!("`{}` does not take {method}", uri.path());
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}
