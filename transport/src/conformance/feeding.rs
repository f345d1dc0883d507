//! The feeder's position: fenced, in order, never past the end.

use std::time::Duration;

use lapidary_schemas::{Batch, Status};

use super::batches::is_conflict;
use super::samples::{batch, done, ended, item, shard};
use super::{Case, ResultsEnvironment, cases};
use crate::results::{FeedPosition, Lease, Results};

pub(super) fn cases<E: ResultsEnvironment>() -> Vec<Case<E>> {
    cases![
        the_position_walks_through_the_shards,
        only_the_holder_may_feed,
        a_position_is_left_once,
        unfinished_items_are_those_fed_without_a_result,
        items_may_be_finished_before_they_are_marked_as_fed,
    ]
}

/// An unsealed batch of shards with these sizes, and the feeder's lease.
async fn fed_batch(results: &impl Results, sizes: &[u32]) -> (Batch, Lease) {
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    for (index, items) in (0..).zip(sizes) {
        results
            .append_shard(batch.id, &shard(index, *items))
            .await
            .unwrap();
    }
    let lease = results
        .lease("steward", "me", Duration::from_mins(1))
        .await
        .unwrap()
        .unwrap();
    (batch, lease)
}

async fn position(results: &impl Results, batch: &Batch) -> FeedPosition {
    results.feed_position(batch.id).await.unwrap()
}

async fn the_position_walks_through_the_shards<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, lease) = fed_batch(&results, &[3, 2]).await;
    for (index, offset, items) in [(0, 0, 2), (0, 2, 1), (1, 0, 2)] {
        let position = position(&results, &batch).await;
        assert_eq!(position.batch, batch);
        assert_eq!(
            position.shard.as_ref().map(|shard| shard.index),
            Some(index)
        );
        assert_eq!(position.offset, offset);
        results.mark_fed(&lease, &position, items).await.unwrap();
    }
    let end = position(&results, &batch).await;
    assert_eq!((end.shard, end.outstanding), (None, 5));
    assert_eq!(results.progress(batch.id).await.unwrap().fed, 5);
    results.put_once(&[done(&item(&batch, 0))]).await.unwrap();
    assert_eq!(position(&results, &batch).await.outstanding, 4);
}

async fn only_the_holder_may_feed<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, old) = fed_batch(&results, &[3]).await;
    let position = position(&results, &batch).await;
    results.release(&old).await.unwrap();
    let new = results
        .lease("steward", "other", Duration::from_mins(1))
        .await
        .unwrap()
        .unwrap();
    assert!(
        is_conflict(&results.mark_fed(&old, &position, 1).await),
        "an old lease"
    );
    assert_eq!(
        results.progress(batch.id).await.unwrap().fed,
        0,
        "nothing was changed"
    );
    results.mark_fed(&new, &position, 1).await.unwrap();
}

async fn a_position_is_left_once<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, lease) = fed_batch(&results, &[3]).await;
    let start = position(&results, &batch).await;
    assert!(
        is_conflict(&results.mark_fed(&lease, &start, 4).await),
        "past the shard's end"
    );
    results.mark_fed(&lease, &start, 2).await.unwrap();
    assert!(
        is_conflict(&results.mark_fed(&lease, &start, 2).await),
        "left before"
    );
    assert_eq!(results.progress(batch.id).await.unwrap().fed, 2);
    let next = position(&results, &batch).await;
    results.mark_fed(&lease, &next, 1).await.unwrap();
    let end = position(&results, &batch).await;
    assert!(
        is_conflict(&results.mark_fed(&lease, &end, 1).await),
        "nothing is left"
    );
    // A shard that comes later is fed from its start.
    results.append_shard(batch.id, &shard(1, 2)).await.unwrap();
    let more = position(&results, &batch).await;
    assert_eq!((more.shard, more.offset), (Some(shard(1, 2)), 0));
}

async fn unfinished_items_are_those_fed_without_a_result<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, lease) = fed_batch(&results, &[4, 4]).await;
    let unfinished = async |shard| results.unfinished(batch.id, shard).await.unwrap();
    assert_eq!(unfinished(0).await, [0; 0]);
    let start = position(&results, &batch).await;
    results.mark_fed(&lease, &start, 4).await.unwrap();
    let next = position(&results, &batch).await;
    results.mark_fed(&lease, &next, 3).await.unwrap();
    let begun = [item(&batch, 2), item(&batch, 5)];
    results.begin(&begun, "w").await.unwrap();
    let failed = item(&batch, 6);
    results
        .put_once(&[
            done(&item(&batch, 1)),
            done(&item(&batch, 4)),
            ended(&failed, Status::Failed),
        ])
        .await
        .unwrap();
    assert_eq!(unfinished(0).await, [0, 2, 3]);
    assert_eq!(unfinished(1).await, [1]);
    let again = lapidary_schemas::Job {
        replaces: Some(failed.id),
        ..item(&batch, 6)
    };
    results.replace(&again).await.unwrap();
    assert_eq!(unfinished(1).await, [1, 2]);
}

/// A feeder may die between publishing and marking, and workers are quick.
async fn items_may_be_finished_before_they_are_marked_as_fed<E: ResultsEnvironment>(
    environment: &E,
) {
    let results = environment.open().await;
    let (batch, lease) = fed_batch(&results, &[3]).await;
    let items = [done(&item(&batch, 0)), done(&item(&batch, 1))];
    results.put_once(&items).await.unwrap();
    let start = position(&results, &batch).await;
    assert_eq!((start.offset, start.outstanding), (0, 0));
    results.mark_fed(&lease, &start, 3).await.unwrap();
    assert_eq!(position(&results, &batch).await.outstanding, 1);
}
