//! Connections: how many there are, how long one may take to say what it wants, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use lapidary_schemas::metrics::{self, Metrics};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::{
    CONNECTIONS_MAX, GOODBYE_TIME_MAX, HEADER_BYTES_MAX, HEADER_TIME_MAX, READ_AHEAD_BYTES,
    STOP_TIME_MAX,
};

/// Pause after a connection could not be accepted: the machine has no more of something.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Accepts connections until `stop`; then those that are busy have a while to end. With `end` those
/// that wait for an answer are told that none will come.
pub(super) async fn serve(
    listener: TcpListener,
    router: &Router,
    metrics: &Arc<Metrics>,
    tasks: &TaskTracker,
    (stop, end): (&CancellationToken, &CancellationToken),
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_header_size(HEADER_BYTES_MAX)
        .max_buf_size(READ_AHEAD_BYTES);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let accepting = async {
        loop {
            // Fails only once the semaphore is closed, which it never is.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    continue;
                }
            };
            let service = TowerToHyperService::new(router.clone());
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            let metrics = Arc::clone(metrics);
            tasks.spawn(async move {
                metrics.shift(&metrics::CONNECTIONS, &[], 1.0);
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended early");
                }
                metrics.shift(&metrics::CONNECTIONS, &[], -1.0);
                drop(place);
            });
        }
    };
    stop.run_until_cancelled(accepting).await;
    drop(listener);
    let mut ending = std::pin::pin!(graceful.shutdown());
    if tokio::time::timeout(STOP_TIME_MAX, &mut ending)
        .await
        .is_ok()
    {
        return;
    }
    end.cancel();
    if tokio::time::timeout(GOODBYE_TIME_MAX, ending)
        .await
        .is_err()
    {
        tracing::warn!("connections were still busy {STOP_TIME_MAX:?} after the stop");
    }
}
