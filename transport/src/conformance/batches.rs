//! A batch's life and its counters.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lapidary_schemas::{Batch, BatchState, Job, JobId, Progress, Status};

use super::jobs::{begin, state};
use super::samples::{batch, done, ended, item, shard};
use super::{Case, ResultsEnvironment, cases};
use crate::results::{Begin, JobState, Results, ResultsError};

pub(super) fn cases<E: ResultsEnvironment>() -> Vec<Case<E>> {
    cases![
        an_unknown_batch_is_named,
        a_batch_is_opened_once,
        shards_are_appended_in_order,
        a_sealed_batch_completes_with_its_last_item,
        an_open_batch_waits_for_its_seal,
        unfinished_batches_are_listed_oldest_first,
        counters_move_with_the_results,
        results_are_read_by_cursor_while_they_are_written,
        the_newest_results_are_read_first,
        waiting_ends_with_a_result_or_a_state,
        a_replaced_item_reopens_its_batch,
        only_a_finished_job_can_be_replaced_and_once,
    ]
}

/// A sealed batch of `items` items and their jobs.
pub(super) async fn sealed(results: &impl Results, items: u32) -> (Batch, Vec<Job>) {
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    results
        .append_shard(batch.id, &shard(0, items))
        .await
        .unwrap();
    results.seal_batch(batch.id).await.unwrap();
    let jobs = (0..u64::from(items)).map(|n| item(&batch, n)).collect();
    (batch, jobs)
}

/// State and the counters of succeeded, filtered, failed, cancelled and expired.
pub(super) async fn counted(results: &impl Results, batch: &Batch) -> (BatchState, [u64; 5]) {
    let Progress {
        state,
        succeeded,
        filtered,
        failed,
        cancelled,
        expired,
        ..
    } = results.progress(batch.id).await.unwrap();
    (state, [succeeded, filtered, failed, cancelled, expired])
}

pub(super) fn is_conflict<T: std::fmt::Debug>(answer: &Result<T, ResultsError>) -> bool {
    matches!(answer, Err(ResultsError::Conflict { message }) if !message.is_empty())
}

async fn an_unknown_batch_is_named<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let id = batch().id;
    assert_eq!(results.batch(id).await.unwrap(), None);
    let refused = [
        results.progress(id).await.map(|_| ()),
        results.append_shard(id, &shard(0, 1)).await,
        results.seal_batch(id).await,
        results.tail(id, "", 10).await.map(|_| ()),
        results.latest(id, "", 10).await.map(|_| ()),
        results.cancel_batch(id).await.map(|_| ()),
        results.feed_position(id).await.map(|_| ()),
        results.unfinished(id, 0).await.map(|_| ()),
    ];
    for answer in refused {
        assert!(
            matches!(answer, Err(ResultsError::NoSuchBatch { batch_id }) if batch_id == id),
            "{answer:?}"
        );
    }
}

async fn a_batch_is_opened_once<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let mut batch = batch();
    batch.metadata.insert("who".to_owned(), "me".to_owned());
    results.open_batch(&batch).await.unwrap();
    results.append_shard(batch.id, &shard(0, 3)).await.unwrap();
    results.open_batch(&batch).await.unwrap();
    let progress = results.progress(batch.id).await.unwrap();
    assert_eq!(
        (progress.state, progress.total, progress.fed),
        (BatchState::Open, 3, 0)
    );
    assert_eq!(progress.finished_at, None);
    assert_eq!(
        environment.open().await.batch(batch.id).await.unwrap(),
        Some(batch)
    );
}

async fn shards_are_appended_in_order<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    assert_eq!(results.shard(batch.id, 0).await.unwrap(), None);
    assert!(
        is_conflict(&results.append_shard(batch.id, &shard(1, 3)).await),
        "not the next"
    );
    results.append_shard(batch.id, &shard(0, 3)).await.unwrap();
    results.append_shard(batch.id, &shard(0, 3)).await.unwrap();
    assert!(
        is_conflict(&results.append_shard(batch.id, &shard(0, 2)).await),
        "another shard 0"
    );
    assert!(
        is_conflict(&results.append_shard(batch.id, &shard(1, 4)).await),
        "larger"
    );
    results.append_shard(batch.id, &shard(1, 3)).await.unwrap();
    results.append_shard(batch.id, &shard(2, 1)).await.unwrap();
    assert!(
        is_conflict(&results.append_shard(batch.id, &shard(3, 1)).await),
        "behind the last"
    );
    assert_eq!(results.shard(batch.id, 1).await.unwrap(), Some(shard(1, 3)));
    assert_eq!(results.progress(batch.id).await.unwrap().total, 7);
    results.seal_batch(batch.id).await.unwrap();
    results.seal_batch(batch.id).await.unwrap();
    assert!(
        is_conflict(&results.append_shard(batch.id, &shard(3, 1)).await),
        "sealed"
    );
    results.append_shard(batch.id, &shard(2, 1)).await.unwrap();
    assert_eq!(results.progress(batch.id).await.unwrap().total, 7);
}

async fn a_sealed_batch_completes_with_its_last_item<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, jobs) = sealed(&results, 2).await;
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::InProgress, [0; 5])
    );
    results.begin(&jobs, "w").await.unwrap();
    results.put_once(&[done(&jobs[0])]).await.unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::InProgress, [1, 0, 0, 0, 0])
    );
    results
        .put_once(&[ended(&jobs[1], Status::Failed)])
        .await
        .unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Completed, [1, 0, 1, 0, 0])
    );
    assert!(
        results
            .progress(batch.id)
            .await
            .unwrap()
            .finished_at
            .is_some()
    );
    assert!(
        !results.cancel_batch(batch.id).await.unwrap(),
        "it has ended"
    );
    assert!(
        !results.expire_batch(batch.id).await.unwrap(),
        "it has ended"
    );
}

async fn an_open_batch_waits_for_its_seal<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    results.append_shard(batch.id, &shard(0, 1)).await.unwrap();
    results.put_once(&[done(&item(&batch, 0))]).await.unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Open, [1, 0, 0, 0, 0])
    );
    results.seal_batch(batch.id).await.unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Completed, [1, 0, 0, 0, 0])
    );
    let empty = super::samples::batch();
    results.open_batch(&empty).await.unwrap();
    results.seal_batch(empty.id).await.unwrap();
    assert_eq!(
        counted(&results, &empty).await,
        (BatchState::Completed, [0; 5])
    );
}

async fn unfinished_batches_are_listed_oldest_first<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let mut expected = Vec::new();
    for minute in 0..4 {
        let mut batch = batch();
        batch.created_at += Duration::from_mins(minute);
        results.open_batch(&batch).await.unwrap();
        expected.push(batch.id);
    }
    results.seal_batch(expected.remove(1)).await.unwrap();
    assert_eq!(results.open_batches(10).await.unwrap(), expected);
    assert_eq!(results.open_batches(2).await.unwrap(), expected[..2]);
    results.cancel_batch(expected.remove(0)).await.unwrap();
    assert_eq!(
        environment.open().await.open_batches(10).await.unwrap(),
        expected
    );
}

async fn counters_move_with_the_results<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, jobs) = sealed(&results, 10).await;
    results.begin(&jobs, "w").await.unwrap();
    let finished: Vec<_> = jobs
        .iter()
        .zip(Status::ALL.into_iter().cycle())
        .map(|(job, status)| ended(job, status))
        .collect();
    for some in finished.chunks(3) {
        results.put_once(some).await.unwrap();
        results.put_once(some).await.unwrap();
    }
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Completed, [2; 5])
    );
    let progress = results.progress(batch.id).await.unwrap();
    assert_eq!(
        (progress.prompt_tokens, progress.completion_tokens),
        (20, 8)
    );
    let tail = results.tail(batch.id, "", 100).await.unwrap().results;
    let expected: Vec<_> = finished.into_iter().map(|one| one.result).collect();
    assert_eq!(tail, expected, "in order of completion");
}

async fn results_are_read_by_cursor_while_they_are_written<E: ResultsEnvironment>(environment: &E) {
    let (writer, other, reader) = (
        environment.open().await,
        environment.open().await,
        environment.open().await,
    );
    let (batch, jobs) = sealed(&writer, 200).await;
    let (one, two) = jobs.split_at(100);
    let write = async |results: &E::Results, jobs: &[Job]| {
        for some in jobs.chunks(7) {
            let finished: Vec<_> = some.iter().map(done).collect();
            results.put_once(&finished).await.unwrap();
        }
    };
    let read = async {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        while seen.len() < jobs.len() {
            let page = reader.tail(batch.id, &cursor, 9).await.unwrap();
            assert!(page.results.len() <= 9);
            if page.results.is_empty() {
                // Its cursor may move all the same: over a change of the batch's state.
                reader
                    .changed(batch.id, &page.cursor, Duration::from_secs(5))
                    .await
                    .unwrap();
            }
            seen.extend(page.results.into_iter().map(|result| result.job_id));
            cursor = page.cursor;
        }
        assert_eq!(reader.tail(batch.id, &cursor, 9).await.unwrap().results, []);
        assert!(is_conflict(&reader.tail(batch.id, "no cursor", 9).await));
        seen
    };
    let ((), (), seen) = futures::join!(write(&writer, one), write(&other, two), read);
    assert_eq!(seen.len(), 200, "none twice");
    let all: BTreeSet<JobId> = jobs.iter().map(|job| job.id).collect();
    assert_eq!(
        seen.into_iter().collect::<BTreeSet<_>>(),
        all,
        "none left out"
    );
}

async fn the_newest_results_are_read_first<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, jobs) = sealed(&results, 10).await;
    assert_eq!(results.latest(batch.id, "", 5).await.unwrap().results, []);
    for job in &jobs {
        results.put_once(&[done(job)]).await.unwrap();
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = results.latest(batch.id, &cursor, 3).await.unwrap();
        if page.results.is_empty() {
            break;
        }
        assert!(page.results.len() <= 3);
        seen.extend(page.results.into_iter().map(|result| result.job_id));
        cursor = page.cursor;
    }
    let newest_first: Vec<JobId> = jobs.iter().rev().map(|job| job.id).collect();
    assert_eq!(seen, newest_first);
    for wrong in ["x", "1-x", "-"] {
        assert!(is_conflict(&results.latest(batch.id, wrong, 1).await));
        assert!(is_conflict(&results.tail(batch.id, wrong, 1).await));
    }
    // Its end is no result, and does not hide the newest one.
    for max in 1..=10 {
        let newest = results.latest(batch.id, "", max).await.unwrap().results;
        let newest: Vec<JobId> = newest.iter().map(|result| result.job_id).collect();
        assert_eq!(newest, newest_first[..max]);
    }
}

async fn waiting_ends_with_a_result_or_a_state<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    let (batch, jobs) = sealed(&results, 2).await;
    let started = Instant::now();
    let finished = [done(&jobs[0])];
    let (waited, stored) = futures::join!(
        results.changed(batch.id, "", Duration::from_secs(30)),
        other.put_once(&finished)
    );
    waited.unwrap();
    stored.unwrap();
    let cursor = results.tail(batch.id, "", 10).await.unwrap().cursor;
    let mut waiting = std::pin::pin!(results.changed(batch.id, &cursor, Duration::from_secs(30)));
    // Under way: it has looked at the state before it changes.
    let _still_waiting = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(other.cancel_batch(batch.id).await.unwrap());
    waiting.await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "woke by its time limit only"
    );
    let quiet = Instant::now();
    results
        .changed(batch.id, &cursor, Duration::from_millis(50))
        .await
        .unwrap();
    assert!(
        quiet.elapsed() < Duration::from_secs(10),
        "the time limit holds"
    );
}

async fn a_replaced_item_reopens_its_batch<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, jobs) = sealed(&results, 2).await;
    results
        .put_once(&[done(&jobs[0]), ended(&jobs[1], Status::Failed)])
        .await
        .unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Completed, [1, 0, 1, 0, 0])
    );
    let again = Job {
        replaces: Some(jobs[0].id),
        ..item(&batch, 0)
    };
    results.replace(&again).await.unwrap();
    results.replace(&again).await.unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::InProgress, [0, 0, 1, 0, 0])
    );
    // One at a time: what was replaced, and changes of state, are no results and end no page.
    let named = [(0, jobs[0].id), (1, jobs[1].id)];
    let of_items = results.results_of(batch.id, &named).await.unwrap();
    assert_eq!(of_items[0], None, "its place is taken");
    assert_eq!(of_items[1].as_ref().map(|one| one.job_id), Some(jobs[1].id));
    let first = results.tail(batch.id, "", 1).await.unwrap();
    assert_eq!(first.results[0].job_id, jobs[1].id);
    let rest = results.tail(batch.id, &first.cursor, 1).await.unwrap();
    assert_eq!(rest.results, []);
    let progress = results.progress(batch.id).await.unwrap();
    assert_eq!((progress.prompt_tokens, progress.finished_at), (0, None));
    assert_eq!(results.open_batches(1).await.unwrap(), [batch.id]);
    assert!(
        matches!(
            state(&results, jobs[0].id).await,
            Some(JobState::Finished(_))
        ),
        "the old result stays readable"
    );
    assert_eq!(
        state(&results, again.id).await,
        Some(JobState::Waiting { attempts: 0 })
    );
    assert_eq!(begin(&results, &jobs[0]).await, Begin::Finished);
    assert_eq!(begin(&results, &again).await, Begin::Attempt(1));
    results.put_once(&[done(&again)]).await.unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Completed, [1, 0, 1, 0, 0])
    );
    let next = results.tail(batch.id, &rest.cursor, 1).await.unwrap();
    assert_eq!(
        (next.results[0].job_id, next.results[0].item),
        (again.id, Some(0))
    );
    let of_items = results.results_of(batch.id, &named).await.unwrap();
    let ids: Vec<_> = of_items.iter().flatten().map(|one| one.job_id).collect();
    assert_eq!(ids, [again.id, jobs[1].id], "in the order of the items");
    let all = results.tail(batch.id, "", 10).await.unwrap();
    let ids: Vec<_> = all.results.iter().map(|result| result.job_id).collect();
    assert_eq!(ids, [jobs[1].id, again.id]);
}

async fn only_a_finished_job_can_be_replaced_and_once<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, jobs) = sealed(&results, 1).await;
    let again = Job {
        replaces: Some(jobs[0].id),
        ..item(&batch, 0)
    };
    assert!(is_conflict(&results.replace(&again).await), "unknown");
    begin(&results, &jobs[0]).await;
    assert!(is_conflict(&results.replace(&again).await), "running");
    assert!(
        is_conflict(&results.replace(&jobs[0]).await),
        "it names no job"
    );
    results
        .put_once(&[ended(&jobs[0], Status::Failed)])
        .await
        .unwrap();
    results.replace(&again).await.unwrap();
    let third = Job {
        replaces: Some(jobs[0].id),
        ..item(&batch, 0)
    };
    assert!(
        is_conflict(&results.replace(&third).await),
        "replaced already"
    );
    let of_next = Job {
        replaces: Some(again.id),
        ..item(&batch, 0)
    };
    results
        .put_once(&[ended(&again, Status::Failed)])
        .await
        .unwrap();
    results.replace(&of_next).await.unwrap();
}
