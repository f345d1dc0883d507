//! How jobs go: settled once, or back when their worker is gone.

use std::time::{Duration, Instant};

use lapidary_schemas::{Class, JobId};

use super::delivery::{ids, receive_all, settle_all, until_depth};
use super::samples::{job, jobs, lane, model};
use super::{Case, QueueEnvironment, cases};
use crate::queue::{Queue, QueueError, Settle};

pub(super) fn cases<E: QueueEnvironment>() -> Vec<Case<E>> {
    cases![
        a_killed_workers_jobs_come_back,
        a_dropped_handles_jobs_come_back,
        an_interrupted_job_comes_back,
        a_retried_job_comes_back_and_not_earlier,
        done_and_dead_jobs_never_come_back,
        an_undecodable_message_does_not_stop_the_stream,
        a_loan_that_has_ended_cannot_be_settled,
        answers_come_in_the_order_of_the_settlements,
    ]
}

/// Jobs that come back may come in any order.
fn sorted(mut ids: Vec<JobId>) -> Vec<JobId> {
    ids.sort_unstable();
    ids
}

async fn a_killed_workers_jobs_come_back<E: QueueEnvironment>(environment: &E) {
    let model = model();
    let lane = lane(&model, Class::Bulk);
    let killed = environment.open().await;
    let published = jobs(&model, 3);
    killed.publish(&published).await.unwrap();
    let lent = receive_all(&killed, &lane, 2).await;
    environment.crash(killed).await;
    let other = environment.open().await;
    let back = receive_all(&other, &lane, 3).await;
    assert_eq!(
        sorted(ids(&back)),
        sorted(published.iter().map(|job| job.id).collect())
    );
    drop(lent);
}

async fn a_dropped_handles_jobs_come_back<E: QueueEnvironment>(environment: &E) {
    let model = model();
    let lane = lane(&model, Class::Bulk);
    let (one, other) = (environment.open().await, environment.open().await);
    let published = jobs(&model, 2);
    one.publish(&published).await.unwrap();
    drop(receive_all(&one, &lane, 2).await);
    drop(one);
    let back = receive_all(&other, &lane, 2).await;
    assert_eq!(
        sorted(ids(&back)),
        sorted(published.iter().map(|job| job.id).collect())
    );
}

async fn an_interrupted_job_comes_back<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let lane = lane(&model, Class::Bulk);
    let published = jobs(&model, 1);
    queue.publish(&published).await.unwrap();
    let lent = receive_all(&queue, &lane, 1).await;
    settle_all(&queue, lent, &Settle::Interrupted).await;
    assert_eq!(ids(&receive_all(&queue, &lane, 1).await), [published[0].id]);
}

async fn a_retried_job_comes_back_and_not_earlier<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let lane = lane(&model, Class::Bulk);
    let published = jobs(&model, 2);
    queue.publish(&published).await.unwrap();
    let mut lent = receive_all(&queue, &lane, 2).await;
    let after = Duration::from_millis(700);
    let settled = Instant::now();
    settle_all(&queue, lent.split_off(1), &Settle::Retry { after }).await;
    settle_all(&queue, lent, &Settle::Done).await;
    let back = receive_all(&queue, &lane, 1).await;
    assert!(
        settled.elapsed() >= after,
        "came back after {:?}",
        settled.elapsed()
    );
    assert_eq!(back[0].body.as_ref().unwrap(), &published[1]);
}

async fn done_and_dead_jobs_never_come_back<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let lane = lane(&model, Class::Bulk);
    queue.publish(&jobs(&model, 4)).await.unwrap();
    let mut lent = receive_all(&queue, &lane, 4).await;
    let dead = Settle::Dead {
        reason: "three attempts failed".to_owned(),
    };
    settle_all(&queue, lent.split_off(2), &dead).await;
    settle_all(&queue, lent, &Settle::Done).await;
    // On the same handle: a broker may take note of a lost connection before it takes note of what
    // was acknowledged on it, and a job so comes back to find its result.
    let after = jobs(&model, 1);
    queue.publish(&after).await.unwrap();
    assert_eq!(ids(&receive_all(&queue, &lane, 1).await), [after[0].id]);
    until_depth(&queue, &lane, 0).await;
}

async fn an_undecodable_message_does_not_stop_the_stream<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let lane = lane(&model, Class::Bulk);
    let (before, after) = (jobs(&model, 1), jobs(&model, 1));
    let broken = job(&model, Class::Bulk).id;
    queue.publish(&before).await.unwrap();
    environment
        .inject(&lane, broken, b"{\"version\": \xff")
        .await;
    queue.publish(&after).await.unwrap();
    let mut received = receive_all(&queue, &lane, 3).await;
    assert_eq!(received[0].body.as_ref().unwrap().id, before[0].id);
    assert_eq!(received[2].body.as_ref().unwrap().id, after[0].id);
    let undecodable = received[1].body.as_ref().unwrap_err();
    assert_eq!(undecodable.job_id, Some(broken));
    assert_eq!(undecodable.body, b"{\"version\": \xff");
    assert!(!undecodable.message.is_empty());
    let last = received.split_off(2);
    let dead = Settle::Dead {
        reason: "not a job".to_owned(),
    };
    settle_all(&queue, received.split_off(1), &dead).await;
    settle_all(&queue, received, &Settle::Done).await;
    settle_all(&queue, last, &Settle::Done).await;
    until_depth(&queue, &lane, 0).await;
}

async fn a_loan_that_has_ended_cannot_be_settled<E: QueueEnvironment>(environment: &E) {
    let model = model();
    let lane = lane(&model, Class::Bulk);
    let (killed, other) = (environment.open().await, environment.open().await);
    killed.publish(&jobs(&model, 1)).await.unwrap();
    let stale = receive_all(&killed, &lane, 1).await.remove(0);
    environment.crash(killed).await;
    let lent = receive_all(&other, &lane, 1).await;
    let answer = other.settle(vec![(stale.receipt, Settle::Done)]).await;
    assert!(
        matches!(answer.as_slice(), [Err(QueueError::LoanEnded)]),
        "{answer:?}"
    );
    // The one who has it now is not disturbed.
    settle_all(&other, lent, &Settle::Done).await;
}

async fn answers_come_in_the_order_of_the_settlements<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let lane = lane(&model, Class::Bulk);
    let published = jobs(&model, 50);
    queue.publish(&published).await.unwrap();
    let lent = receive_all(&queue, &lane, 50).await;
    let halves: Vec<_> = lent
        .into_iter()
        .enumerate()
        .map(|(index, delivery)| {
            let how = if index % 2 == 0 {
                Settle::Done
            } else {
                Settle::Interrupted
            };
            (delivery.receipt, how)
        })
        .collect();
    let answers = queue.settle(halves).await;
    assert_eq!(answers.len(), 50);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let back = receive_all(&queue, &lane, 25).await;
    let odd = published
        .iter()
        .skip(1)
        .step_by(2)
        .map(|job| job.id)
        .collect();
    assert_eq!(sorted(ids(&back)), sorted(odd));
}
