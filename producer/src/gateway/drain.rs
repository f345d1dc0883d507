//! Reading on where a request was refused before all of it was read: a client that is still sending
//! would miss why, because closing a connection with bytes unread takes back what was said on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures::stream::{self, StreamExt as _};

use super::limits::{DRAIN_BYTES_MAX, DRAIN_TIME_MAX};

/// A body that can be read on after its request was answered.
type Shared = Arc<Mutex<BodyDataStream>>;

/// Lets a request through, and reads what is left of its body if it was refused.
pub(super) async fn refusals_are_heard(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body: Shared = Arc::new(Mutex::new(body.into_data_stream()));
    let handed = Arc::clone(&body);
    let handed = Body::from_stream(stream::poll_fn(move |context| poll(&handed, context)));
    let response = next.run(Request::from_parts(parts, handed)).await;
    if response.status().is_client_error() {
        // Whoever sends more than this may miss why.
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, drain(&body)).await;
    }
    response
}

fn poll(body: &Shared, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
    body.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .poll_next_unpin(context)
}

async fn drain(body: &Shared) {
    let mut bytes = 0;
    while bytes < DRAIN_BYTES_MAX {
        match std::future::poll_fn(|context| poll(body, context)).await {
            Some(Ok(chunk)) => bytes += chunk.len(),
            Some(Err(_)) | None => return,
        }
    }
}
