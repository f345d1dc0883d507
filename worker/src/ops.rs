//! The operations endpoint: metrics, and health for people and for orchestrators.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use lapidary_engine::Engine;
use lapidary_schemas::metrics::{self, EXPOSITION_TYPE, Metrics};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::{Health, Report, Status};
use crate::shutdown::Stop;

/// What the endpoint tells of.
#[derive(Debug)]
pub struct Ops {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What is away and what went wrong.
    pub health: Arc<Health>,
    /// The engine, once the model is loaded.
    pub engine: OnceLock<Engine>,
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
    let report = match ops.engine.get() {
        Some(engine) => {
            let measured = |time: std::time::Duration| {
                ops.metrics
                    .observe(&metrics::RESPONSE_TIME, &["probe"], time.as_secs_f64());
            };
            ops.health.report(engine, measured).await
        }
        None => Report::loading(),
    };
    let code = match report.status {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(report)).into_response()
}

/// Alive unless the engine broke down: then only a new process helps.
async fn live(State(ops): State<Arc<Ops>>) -> Response {
    match ops.engine.get().map(Engine::health) {
        Some(lapidary_engine::Health::Failed { message }) => {
            (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
        }
        _ => (StatusCode::OK, "alive").into_response(),
    }
}

/// Ready while it takes jobs: loaded, not stopping, queue and results within reach.
async fn ready(State(ops): State<Arc<Ops>>) -> Response {
    let refuse = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    match ops.engine.get().map(Engine::health) {
        None => return refuse("the model is being loaded".to_owned()),
        Some(lapidary_engine::Health::Running) => {}
        Some(_) => return refuse("the engine does not run".to_owned()),
    }
    if ops.stop.fetching.is_cancelled() {
        return refuse("stopping".to_owned());
    }
    match ops.health.parts_away().as_slice() {
        [] => (StatusCode::OK, "ready").into_response(),
        away => refuse(format!("away: {away:?}")),
    }
}
