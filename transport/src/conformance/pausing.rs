//! Pausing: nothing more of a batch is begun, what runs goes on, and no attempt is lost.

use lapidary_schemas::BatchState;

use super::batches::{counted, sealed};
use super::jobs::begin;
use super::samples::{batch, done, job};
use super::{Case, ResultsEnvironment, cases};
use crate::results::{Begin, JobState, Results, ResultsError};

pub(super) fn cases<E: ResultsEnvironment>() -> Vec<Case<E>> {
    cases![
        nothing_of_a_paused_batch_is_begun,
        an_item_that_was_handed_back_waits_for_its_batch,
        an_item_whose_worker_was_lost_runs_no_more,
        an_item_whose_worker_was_lost_is_suspect_when_its_batch_goes_on,
        what_has_ended_is_not_paused,
    ]
}

async fn is_paused(results: &impl Results, batch: lapidary_schemas::BatchId) -> [bool; 2] {
    let counted = results.progress(batch).await.unwrap().paused;
    [counted, results.feed_position(batch).await.unwrap().paused]
}

async fn nothing_of_a_paused_batch_is_begun<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    let (batch, items) = sealed(&results, 3).await;
    assert_eq!(begin(&results, &items[0]).await, Begin::Attempt(1));
    assert_eq!(is_paused(&other, batch.id).await, [false; 2]);
    for _ in 0..2 {
        assert!(results.pause_batch(batch.id, true).await.unwrap());
        assert_eq!(is_paused(&other, batch.id).await, [true; 2]);
    }
    let begun = other.begin(&items[1..], "w").await.unwrap();
    assert_eq!(begun, [Begin::Paused, Begin::Paused]);
    // Others are not concerned, and what runs ends as it would have.
    let single = job("m", lapidary_schemas::Class::Interactive);
    assert_eq!(begin(&other, &single).await, Begin::Attempt(1));
    assert_eq!(results.cancelled(&[items[0].id]).await.unwrap(), [false]);
    results.put_once(&[done(&items[0])]).await.unwrap();
    assert_eq!(begin(&results, &items[0]).await, Begin::Finished);
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::InProgress, [1, 0, 0, 0, 0])
    );
    assert!(other.pause_batch(batch.id, false).await.unwrap());
    assert_eq!(is_paused(&results, batch.id).await, [false; 2]);
    let begun = results.begin(&items[1..], "w").await.unwrap();
    assert_eq!(begun, [Begin::Attempt(1), Begin::Attempt(1)]);
    let rest = [done(&items[1]), done(&items[2])];
    results.put_once(&rest).await.unwrap();
    let (state, _) = counted(&results, &batch).await;
    assert_eq!(state, BatchState::Completed);
}

async fn an_item_that_was_handed_back_waits_for_its_batch<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, items) = sealed(&results, 1).await;
    results.begin(&items, "w").await.unwrap();
    results.pause_batch(batch.id, true).await.unwrap();
    results.interrupt(&[items[0].id], "w").await.unwrap();
    assert_eq!(begin(&results, &items[0]).await, Begin::Paused);
    results.pause_batch(batch.id, false).await.unwrap();
    assert_eq!(begin(&results, &items[0]).await, Begin::Attempt(1));
}

async fn an_item_whose_worker_was_lost_runs_no_more<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, items) = sealed(&results, 2).await;
    results.begin(&items, "lost").await.unwrap();
    results.pause_batch(batch.id, true).await.unwrap();
    // It comes back from the queue, and that attempt stays counted.
    assert_eq!(begin(&results, &items[0]).await, Begin::Paused);
    let states = results.get(&[items[0].id, items[1].id]).await.unwrap();
    assert_eq!(states[0], Some(JobState::Waiting { attempts: 1 }));
    assert!(matches!(states[1], Some(JobState::Running { .. })));
    // Nobody will begin it: it is over with its batch.
    assert!(results.cancel_batch(batch.id).await.unwrap());
    assert_eq!(counted(&results, &batch).await.1, [0, 0, 0, 1, 0]);
    assert_eq!(begin(&results, &items[0]).await, Begin::Cancelled);
    assert_eq!(counted(&results, &batch).await.1, [0, 0, 0, 1, 0]);
    results.put_once(&[done(&items[1])]).await.unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [1, 0, 0, 1, 0])
    );
}

async fn an_item_whose_worker_was_lost_is_suspect_when_its_batch_goes_on<E: ResultsEnvironment>(
    environment: &E,
) {
    let results = environment.open().await;
    let (batch, items) = sealed(&results, 1).await;
    results.begin(&items, "lost").await.unwrap();
    results.pause_batch(batch.id, true).await.unwrap();
    for _ in 0..2 {
        assert_eq!(begin(&results, &items[0]).await, Begin::Paused);
    }
    results.pause_batch(batch.id, false).await.unwrap();
    let (attempt, lost) = (2, 1);
    let suspect = Begin::Suspect { attempt, lost };
    assert_eq!(begin(&results, &items[0]).await, suspect);
}

async fn what_has_ended_is_not_paused<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let unknown = results.pause_batch(batch().id, true).await;
    assert!(matches!(unknown, Err(ResultsError::NoSuchBatch { .. })));
    let (cancelled, _) = sealed(&results, 1).await;
    results.pause_batch(cancelled.id, true).await.unwrap();
    assert!(results.cancel_batch(cancelled.id).await.unwrap());
    assert!(!results.pause_batch(cancelled.id, true).await.unwrap());
    let (completed, items) = sealed(&results, 1).await;
    results.put_once(&[done(&items[0])]).await.unwrap();
    assert!(!results.pause_batch(completed.id, false).await.unwrap());
    for ended in [cancelled.id, completed.id] {
        assert!(!results.progress(ended).await.unwrap().paused);
    }
}
