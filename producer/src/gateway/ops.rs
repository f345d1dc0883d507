//! The gateway's operations endpoint: metrics, and health for orchestrators. It has an address of its
//! own, so that who may ask the gateway is not thereby told how it is.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lapidary_schemas::metrics::{EXPOSITION_TYPE, Metrics};
use lapidary_transport::{AnyResults, Results as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Time in which the results store must answer for the gateway to be ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// What the endpoint tells of.
#[derive(Debug)]
struct Ops {
    metrics: Arc<Metrics>,
    results: Arc<AnyResults>,
}

/// Serves until `end`.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    results: Arc<AnyResults>,
    end: CancellationToken,
) {
    let router = Router::new()
        .route("/metrics", get(exposition))
        .route("/health/live", get(|| async { "alive" }))
        .route("/health/ready", get(ready))
        .with_state(Arc::new(Ops { metrics, results }));
    let served = axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the operations endpoint ended");
    }
}

async fn exposition(State(ops): State<Arc<Ops>>) -> Response {
    match ops.metrics.exposition() {
        Ok(text) => ([(header::CONTENT_TYPE, EXPOSITION_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Ready while the results store answers, in which everything is that it serves.
async fn ready(State(ops): State<Arc<Ops>>) -> Response {
    let refuse = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    match tokio::time::timeout(READY_WITHIN, ops.results.workers()).await {
        Ok(Ok(_)) => "ready".into_response(),
        Ok(Err(error)) => refuse(error.to_string()),
        Err(_) => refuse(format!(
            "no answer from the results store within {READY_WITHIN:?}"
        )),
    }
}
