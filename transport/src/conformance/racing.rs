//! Several handles at once.

use std::collections::BTreeSet;

use futures::future::join_all;
use lapidary_schemas::{BatchState, Class, JobId, Status};

use super::batches::{counted, sealed};
use super::delivery::{ids, settle_all};
use super::samples::{done, ended, job, jobs, lane, model, result};
use super::{Case, QueueEnvironment, ResultsEnvironment, cases};
use crate::queue::{Queue, Settle};
use crate::results::{Begin, Put, Results};

const HANDLES: usize = 4;

pub(super) fn queue_cases<E: QueueEnvironment>() -> Vec<Case<E>> {
    cases![
        racing_receivers_share_a_lane_without_overlap,
        racing_publishers_lose_nothing
    ]
}

pub(super) fn results_cases<E: ResultsEnvironment>() -> Vec<Case<E>> {
    cases![
        racing_results_have_one_winner,
        racing_attempts_are_counted_apart,
        racing_workers_and_a_cancellation_count_every_item_once,
    ]
}

async fn racing_receivers_share_a_lane_without_overlap<E: QueueEnvironment>(environment: &E) {
    let model = model();
    let lane = lane(&model, Class::Bulk);
    let handles: Vec<_> = join_all((0..HANDLES).map(|_| environment.open())).await;
    let published = jobs(&model, 300);
    handles[0].publish(&published).await.unwrap();
    let drawn = std::sync::Mutex::new(Vec::new());
    let count = || drawn.lock().unwrap().len();
    let draw = async |queue: &E::Queue| {
        loop {
            let some = queue.receive(&lane, 7).await.unwrap();
            drawn.lock().unwrap().extend(ids(&some));
            settle_all(queue, some, &Settle::Done).await;
        }
    };
    let all = join_all(handles.iter().map(draw));
    tokio::select! {
        never = all => drop::<Vec<()>>(never),
        () = super::until(|| async { count() >= published.len() }) => {}
    }
    assert_eq!(count(), published.len(), "none twice");
    let drawn: BTreeSet<JobId> = drawn.into_inner().unwrap().into_iter().collect();
    assert_eq!(drawn, published.iter().map(|job| job.id).collect());
}

async fn racing_publishers_lose_nothing<E: QueueEnvironment>(environment: &E) {
    let model = model();
    let handles: Vec<_> = join_all((0..HANDLES).map(|_| environment.open())).await;
    let parts: Vec<_> = (0..HANDLES).map(|_| jobs(&model, 50)).collect();
    let publishing = handles.iter().zip(&parts).map(|(queue, part)| async move {
        for some in part.chunks(3) {
            queue.publish(some).await.unwrap();
        }
    });
    join_all(publishing).await;
    let lane = lane(&model, Class::Bulk);
    let received = super::delivery::receive_all(&handles[0], &lane, 50 * HANDLES).await;
    let received: BTreeSet<JobId> = ids(&received).into_iter().collect();
    assert_eq!(received, parts.iter().flatten().map(|job| job.id).collect());
}

async fn racing_results_have_one_winner<E: ResultsEnvironment>(environment: &E) {
    let handles: Vec<_> = join_all((0..HANDLES).map(|_| environment.open())).await;
    let jobs = jobs("m", 40);
    let puts = handles.iter().zip(Status::ALL).map(|(results, status)| {
        let finished: Vec<_> = jobs.iter().map(|job| ended(job, status)).collect();
        async move { results.put_once(&finished).await.unwrap() }
    });
    let answers = join_all(puts).await;
    for (index, job) in jobs.iter().enumerate() {
        let mut firsts = Vec::new();
        let mut stored = 0;
        for (answer, status) in answers
            .iter()
            .map(|answers| &answers[index])
            .zip(Status::ALL)
        {
            match answer {
                Put::Stored => {
                    stored += 1;
                    firsts.push(result(job, status).status);
                }
                Put::Already(first) => firsts.push(first.as_ref().unwrap().status),
            }
        }
        assert_eq!(stored, 1, "results stored for one job");
        firsts.dedup();
        assert_eq!(firsts.len(), 1, "everybody is told of the same result");
    }
}

async fn racing_attempts_are_counted_apart<E: ResultsEnvironment>(environment: &E) {
    let handles: Vec<_> = join_all((0..HANDLES).map(|_| environment.open())).await;
    let job = job("m", Class::Bulk);
    let begins = handles.iter().map(|results| {
        let job = std::slice::from_ref(&job);
        async move {
            let mut attempts = Vec::new();
            for _ in 0..5 {
                match results.begin(job, "w").await.unwrap().remove(0) {
                    Begin::Attempt(attempt) => attempts.push(attempt),
                    other => panic!("not begun: {other:?}"),
                }
            }
            attempts
        }
    });
    let mut attempts: Vec<u32> = join_all(begins).await.into_iter().flatten().collect();
    attempts.sort_unstable();
    assert_eq!(attempts, (1..=20).collect::<Vec<u32>>());
}

async fn racing_workers_and_a_cancellation_count_every_item_once<E: ResultsEnvironment>(
    environment: &E,
) {
    let handles: Vec<_> = join_all((0..HANDLES).map(|_| environment.open())).await;
    let (batch, items) = sealed(&handles[0], 80).await;
    let work = handles
        .iter()
        .zip(items.chunks(20))
        .map(|(results, items)| async move {
            for some in items.chunks(2) {
                let begun = results.begin(some, "w").await.unwrap();
                let begun = some.iter().zip(begun);
                let finished: Vec<_> = begun
                    .filter(|(_, begin)| matches!(begin, Begin::Attempt(_)))
                    .map(|(job, _)| done(job))
                    .collect();
                results.put_once(&finished).await.unwrap();
            }
        });
    let cancel = async {
        super::until(|| async { counted(&handles[1], &batch).await.1[0] >= 8 }).await;
        handles[1].cancel_batch(batch.id).await.unwrap();
    };
    futures::join!(join_all(work), cancel);
    let (state, [succeeded, _, _, cancelled, _]) = counted(&handles[2], &batch).await;
    assert!(
        matches!(state, BatchState::Cancelled | BatchState::Completed),
        "{state:?}"
    );
    assert_eq!(
        succeeded + cancelled,
        80,
        "{succeeded} succeeded, {cancelled} were cancelled"
    );
}
