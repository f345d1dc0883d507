//! Cancelling and expiring: at once for what waits, soon for what runs, never for what is finished.

use lapidary_schemas::{BatchState, Class, JobId, Status};

use super::batches::{counted, is_conflict, sealed};
use super::jobs::{begin, state};
use super::samples::{batch, done, ended, item, job, jobs, shard};
use super::{Case, ResultsEnvironment, cases};
use crate::results::{Begin, JobState, Put, Results};

pub(super) fn cases<E: ResultsEnvironment>() -> Vec<Case<E>> {
    cases![
        cancelling_never_relabels_a_finished_job,
        a_waiting_job_is_cancelled_at_once,
        a_running_job_is_asked_to_stop,
        a_redelivered_job_that_shall_stop_is_cancelled,
        the_rest_of_a_cancelled_batch_counts_at_once,
        running_items_of_a_cancelled_batch_count_when_they_end,
        a_handed_back_item_of_a_cancelled_batch_counts_as_cancelled,
        the_rest_of_an_expired_batch_counts_at_once,
        an_open_batch_can_be_cancelled,
    ]
}

/// How a job ended.
async fn status(results: &impl Results, job: JobId) -> Status {
    match state(results, job).await {
        Some(JobState::Finished(result)) => result.status,
        other => panic!("job {job} is not finished: {other:?}"),
    }
}

async fn cancelling_never_relabels_a_finished_job<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, items) = sealed(&results, 2).await;
    results.put_once(&[done(&items[0])]).await.unwrap();
    assert_eq!(results.cancel_jobs(&[items[0].id]).await.unwrap(), [false]);
    assert!(results.cancel_batch(batch.id).await.unwrap());
    assert_eq!(status(&results, items[0].id).await, Status::Succeeded);
    assert_eq!(begin(&results, &items[0]).await, Begin::Finished);
    assert_eq!(results.cancelled(&[items[0].id]).await.unwrap(), [false]);
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [1, 0, 0, 1, 0])
    );
}

async fn a_waiting_job_is_cancelled_at_once<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let jobs = jobs("m", 3);
    results.register(&jobs[..2]).await.unwrap();
    results.put_once(&[done(&jobs[1])]).await.unwrap();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    assert_eq!(
        results.cancel_jobs(&ids).await.unwrap(),
        [true, false, false]
    );
    let Some(JobState::Finished(result)) = state(&results, ids[0]).await else {
        panic!("it has no result");
    };
    assert_eq!((result.status, result.attempt), (Status::Cancelled, 0));
    assert_eq!(result.custom_id, jobs[0].custom_id);
    assert_eq!(begin(&results, &jobs[0]).await, Begin::Finished);
    assert_eq!(
        results.cancel_jobs(&ids[..1]).await.unwrap(),
        [false],
        "finished by now"
    );
    assert_eq!(state(&results, ids[2]).await, None, "nobody knows it");
}

async fn a_running_job_is_asked_to_stop<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    let jobs = jobs("m", 2);
    results.begin(&jobs, "w").await.unwrap();
    assert_eq!(other.cancel_jobs(&[jobs[1].id]).await.unwrap(), [true]);
    let ids = [jobs[0].id, jobs[1].id];
    assert_eq!(results.cancelled(&ids).await.unwrap(), [false, true]);
    assert!(matches!(
        state(&other, ids[1]).await,
        Some(JobState::Running { .. })
    ));
    // Its worker was faster than the request: the result stands.
    assert_eq!(
        results.put_once(&[done(&jobs[1])]).await.unwrap(),
        [Put::Stored]
    );
    assert_eq!(status(&other, ids[1]).await, Status::Succeeded);
}

async fn a_redelivered_job_that_shall_stop_is_cancelled<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let job = job("m", Class::Interactive);
    begin(&results, &job).await;
    results.cancel_jobs(&[job.id]).await.unwrap();
    assert_eq!(begin(&results, &job).await, Begin::Cancelled);
    assert_eq!(status(&results, job.id).await, Status::Cancelled);
    assert_eq!(begin(&results, &job).await, Begin::Finished);
}

async fn the_rest_of_a_cancelled_batch_counts_at_once<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, items) = sealed(&results, 10).await;
    results
        .put_once(&[done(&items[0]), ended(&items[1], Status::Filtered)])
        .await
        .unwrap();
    assert!(results.cancel_batch(batch.id).await.unwrap());
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [1, 1, 0, 8, 0])
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
    // One that was on the queue by then is drawn later, and counts once.
    assert_eq!(begin(&results, &items[2]).await, Begin::Cancelled);
    assert_eq!(begin(&results, &items[2]).await, Begin::Finished);
    assert_eq!(status(&results, items[2].id).await, Status::Cancelled);
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [1, 1, 0, 8, 0])
    );
    assert_eq!(
        results.tail(batch.id, "", 100).await.unwrap().results.len(),
        3
    );
    let again = lapidary_schemas::Job {
        replaces: Some(items[0].id),
        ..item(&batch, 0)
    };
    assert!(
        is_conflict(&results.replace(&again).await),
        "its batch was cut short"
    );
}

async fn running_items_of_a_cancelled_batch_count_when_they_end<E: ResultsEnvironment>(
    environment: &E,
) {
    let results = environment.open().await;
    let (batch, items) = sealed(&results, 5).await;
    results.begin(&items[..3], "w").await.unwrap();
    assert!(results.cancel_batch(batch.id).await.unwrap());
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [0, 0, 0, 2, 0])
    );
    assert_eq!(results.progress(batch.id).await.unwrap().finished_at, None);
    let ids: Vec<JobId> = items[..3].iter().map(|job| job.id).collect();
    assert_eq!(results.cancelled(&ids).await.unwrap(), [true; 3]);
    results
        .put_once(&[ended(&items[0], Status::Cancelled), done(&items[1])])
        .await
        .unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [1, 0, 0, 3, 0])
    );
    // The third one's worker was killed; the job is drawn again.
    assert_eq!(begin(&results, &items[2]).await, Begin::Cancelled);
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [1, 0, 0, 4, 0])
    );
    assert!(
        results
            .progress(batch.id)
            .await
            .unwrap()
            .finished_at
            .is_some()
    );
}

async fn a_handed_back_item_of_a_cancelled_batch_counts_as_cancelled<E: ResultsEnvironment>(
    environment: &E,
) {
    let results = environment.open().await;
    let (batch, items) = sealed(&results, 3).await;
    results.begin(&items[..2], "w").await.unwrap();
    results.interrupt(&[items[0].id], "w").await.unwrap();
    assert!(results.cancel_batch(batch.id).await.unwrap());
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [0, 0, 0, 2, 0])
    );
    results.interrupt(&[items[1].id], "w").await.unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [0, 0, 0, 3, 0])
    );
    for item in &items {
        assert_eq!(begin(&results, item).await, Begin::Cancelled);
    }
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [0, 0, 0, 3, 0])
    );
}

async fn the_rest_of_an_expired_batch_counts_at_once<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let (batch, items) = sealed(&results, 4).await;
    begin(&results, &items[0]).await;
    assert!(results.expire_batch(batch.id).await.unwrap());
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Expired, [0, 0, 0, 0, 3])
    );
    assert!(
        !results.cancel_batch(batch.id).await.unwrap(),
        "it has ended"
    );
    for item in &items[..2] {
        assert_eq!(begin(&results, item).await, Begin::Cancelled);
        assert_eq!(status(&results, item.id).await, Status::Expired);
    }
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Expired, [0, 0, 0, 0, 4])
    );
}

async fn an_open_batch_can_be_cancelled<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    results.append_shard(batch.id, &shard(0, 3)).await.unwrap();
    assert!(results.cancel_batch(batch.id).await.unwrap());
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [0, 0, 0, 3, 0])
    );
    assert!(
        is_conflict(&results.append_shard(batch.id, &shard(1, 3)).await),
        "it has ended"
    );
    results.seal_batch(batch.id).await.unwrap();
    assert_eq!(
        counted(&results, &batch).await,
        (BatchState::Cancelled, [0, 0, 0, 3, 0])
    );
    assert_eq!(results.feed_position(batch.id).await.unwrap().shard, None);
}
