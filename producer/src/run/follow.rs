//! Following one batch: its results as they come, until the last one.

use std::time::Duration;

use lapidary_schemas::{BatchId, BatchState, JobResult};
use lapidary_transport::Results as _;
use lapidary_transport::results::ResultsError;
use tokio::sync::mpsc;

use crate::stores::Stores;

/// Results asked for at once.
const PAGE_ITEMS_MAX: usize = 500;
/// Longest wait for a hint that something changed.
const CHANGED_MAX: Duration = Duration::from_secs(2);
/// Time between two attempts to reach the store.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Attempts to reach the store before giving up: five minutes.
pub(super) const RETRIES_MAX: u32 = 300;

/// News of a batch.
#[derive(Debug)]
pub(super) enum News {
    /// Results.
    Page(Vec<JobResult>),
    /// No more results will come; how the batch ended.
    Ended(BatchId, BatchState),
    /// The store could not be reached; it is tried again.
    Retry(String),
    /// The store cannot be used any more.
    Lost(ResultsError),
}

/// Sends news until the batch has ended or nobody listens.
pub(super) async fn follow(place: Stores, batch: BatchId, items: usize, news: mpsc::Sender<News>) {
    let mut cursor = String::new();
    let mut missing = items;
    let mut failures = 0;
    loop {
        let (page, ended) = match next_page(&place, batch, &cursor).await {
            Ok(next) => next,
            Err(error @ ResultsError::Unreachable { .. }) if failures < RETRIES_MAX => {
                failures += 1;
                if news.send(News::Retry(error.to_string())).await.is_err() {
                    return;
                }
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
            Err(error) => {
                // Nobody listening is the end as well.
                let _ = news.send(News::Lost(error)).await;
                return;
            }
        };
        failures = 0;
        cursor = page.cursor;
        missing = missing.saturating_sub(page.results.len());
        let nothing = page.results.is_empty();
        if !nothing && news.send(News::Page(page.results)).await.is_err() {
            return;
        }
        match ended {
            Some(state) if nothing || missing == 0 => {
                let _ = news.send(News::Ended(batch, state)).await;
                return;
            }
            _ => (),
        }
        if nothing {
            // A hint only: an error shows up again on the next page.
            let _ = place.results.changed(batch, &cursor, CHANGED_MAX).await;
        }
    }
}

/// The next page, and how the batch had ended before that page was read: then the page holds the
/// last of its results.
async fn next_page(
    place: &Stores,
    batch: BatchId,
    cursor: &str,
) -> Result<(lapidary_transport::results::Page, Option<BatchState>), ResultsError> {
    let state = place.results.progress(batch).await?.state;
    let page = place.results.tail(batch, cursor, PAGE_ITEMS_MAX).await?;
    let ended = !matches!(state, BatchState::Open | BatchState::InProgress);
    Ok((page, ended.then_some(state)))
}
