//! Takes deliveries from a lane, as many as there is room for, each worked on by a task of its own.

use std::sync::Arc;
use std::time::Duration;

use lapidary_schemas::Class;
use lapidary_schemas::metrics;
use lapidary_transport::{Lane, Queue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::health::Part;
use crate::job::work_job;
use crate::line::Line;

/// Waits between tries while the queue is away: doubling from the first to the last.
const AWAY_FIRST: Duration = Duration::from_millis(200);
const AWAY_LONGEST: Duration = Duration::from_secs(5);

/// Takes jobs of one class until the worker stops taking any. At most `in_flight_max` are under way
/// at once, results that cannot be stored yet included.
pub(crate) async fn consume(
    line: Arc<Line>,
    class: Class,
    in_flight_max: usize,
    jobs: TaskTracker,
) {
    let source = Lane::Jobs {
        model: line.model.name.clone(),
        class,
    };
    let room = Arc::new(Semaphore::new(in_flight_max));
    let mut wait = AWAY_FIRST;
    loop {
        let (mut permits, received) = tokio::select! {
            () = line.stop.fetching.cancelled() => return,
            received = receive(&line, &source, &room) => received,
        };
        match received {
            Ok(deliveries) => {
                line.health.here(Part::Queue);
                wait = AWAY_FIRST;
                for delivery in deliveries {
                    let permit = permits.split(1);
                    let line = line.clone();
                    jobs.spawn(async move {
                        let _permit = permit;
                        line.metrics
                            .shift(&metrics::JOBS_RUNNING, &[class.as_str()], 1.0);
                        work_job(&line, class, delivery).await;
                        line.metrics
                            .shift(&metrics::JOBS_RUNNING, &[class.as_str()], -1.0);
                    });
                }
            }
            Err(error) => {
                line.health.away(Part::Queue, &error);
                tokio::select! {
                    () = line.stop.fetching.cancelled() => return,
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(AWAY_LONGEST),
                }
            }
        }
    }
}

type Received = Result<Vec<lapidary_transport::Delivery>, lapidary_transport::queue::QueueError>;

/// Waits for room and then for deliveries, at most as many as there is room for.
async fn receive(
    line: &Line,
    source: &Lane,
    room: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, Received) {
    // The semaphore is never closed.
    let Ok(mut permits) = room.clone().acquire_owned().await else {
        return std::future::pending().await;
    };
    while let Ok(more) = room.clone().try_acquire_owned() {
        permits.merge(more);
    }
    let received = line
        .stores
        .queue
        .receive(source, permits.num_permits())
        .await;
    (permits, received)
}
