//! The operations endpoint: metrics, and health for people and for orchestrators.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use lapidary_schemas::metrics::{self, EXPOSITION_TYPE, Metrics};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::{Health, Report, Serving, Status};
use crate::shutdown::Stop;

/// What the endpoint tells of.
#[derive(Debug)]
pub struct Ops {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What is away and what went wrong.
    pub health: Arc<Health>,
    /// What serves, once the models are loaded.
    pub serving: OnceLock<Serving>,
    /// Whether the worker is stopping.
    pub stop: Stop,
}

/// Serves until `end`; requests under way are finished.
pub async fn serve(
    listener: TcpListener,
    ops: Arc<Ops>,
    end: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(exposition))
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .with_state(ops);
    axum::serve(listener, router)
        .with_graceful_shutdown(end.cancelled_owned())
        .await
}

async fn exposition(State(ops): State<Arc<Ops>>) -> Response {
    match ops.metrics.exposition() {
        Ok(text) => ([(header::CONTENT_TYPE, EXPOSITION_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn health(State(ops): State<Arc<Ops>>) -> Response {
    let report = match ops.serving.get() {
        Some(serving) => {
            let measured = |time: std::time::Duration| {
                ops.metrics
                    .observe(&metrics::RESPONSE_TIME, &["probe"], time.as_secs_f64());
            };
            ops.health.report(serving, measured).await
        }
        None => Report::loading(),
    };
    let code = match report.status {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(report)).into_response()
}

/// Alive unless an engine broke down without which nothing is served: then only a new process helps.
async fn live(State(ops): State<Arc<Ops>>) -> Response {
    match ops.serving.get().and_then(Serving::broken) {
        Some(message) => (StatusCode::SERVICE_UNAVAILABLE, message).into_response(),
        None => (StatusCode::OK, "alive").into_response(),
    }
}

/// Ready while it takes jobs: loaded, not stopping, queue and results within reach.
async fn ready(State(ops): State<Arc<Ops>>) -> Response {
    let refuse = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    let Some(serving) = ops.serving.get() else {
        return refuse("the model is being loaded".to_owned());
    };
    if let Some(message) = serving.broken() {
        return refuse(message);
    }
    if serving.engine.health() != lapidary_engine::Health::Running {
        return refuse("the engine does not run".to_owned());
    }
    if ops.stop.fetching.is_cancelled() {
        return refuse("stopping".to_owned());
    }
    match ops.health.parts_away().as_slice() {
        [] => (StatusCode::OK, "ready").into_response(),
        away => refuse(format!("away: {away:?}")),
    }
}
