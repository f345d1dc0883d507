//! How jobs come: durable, in order, on their own lane, many at once.

use lapidary_schemas::limits::QUEUE_MESSAGE_BYTES_MAX;
use lapidary_schemas::{Class, Job, JobId, Message};

use super::samples::{job, jobs, lane, model};
use super::{Case, QueueEnvironment, cases, until};
use crate::queue::{Delivery, Lane, Queue, QueueError, Settle};

pub(super) fn cases<E: QueueEnvironment>() -> Vec<Case<E>> {
    cases![
        a_published_job_survives_a_crash,
        a_job_arrives_as_it_was_published,
        jobs_come_in_order,
        no_more_come_than_asked_for,
        classes_and_models_have_lanes_of_their_own,
        a_waiting_receiver_wakes_for_another_handles_job,
        a_dropped_receive_loses_nothing,
        a_job_over_the_limit_is_refused_by_name,
        a_thousand_jobs_in_a_call,
        depth_counts_what_waits,
    ]
}

/// Receives until `count` have come.
pub(super) async fn receive_all(queue: &impl Queue, lane: &Lane, count: usize) -> Vec<Delivery> {
    let mut received = Vec::new();
    while received.len() < count {
        let more = queue.receive(lane, count - received.len()).await.unwrap();
        assert!(!more.is_empty(), "receive came back with nothing");
        received.extend(more);
    }
    received
}

/// Ids in order of delivery.
pub(super) fn ids(deliveries: &[Delivery]) -> Vec<JobId> {
    deliveries
        .iter()
        .map(|delivery| delivery.body.as_ref().unwrap().id)
        .collect()
}

/// Settles all of them alike.
pub(super) async fn settle_all(queue: &impl Queue, deliveries: Vec<Delivery>, how: &Settle) {
    let settled = deliveries
        .into_iter()
        .map(|delivery| (delivery.receipt, how.clone()))
        .collect();
    for ended in queue.settle(settled).await {
        ended.unwrap();
    }
}

/// Waits until as many wait on the lane: a broker may count a moment later.
pub(super) async fn until_depth(queue: &impl Queue, lane: &Lane, depth: u64) {
    until(|| async { queue.depth(lane).await.unwrap() == depth }).await;
}

async fn a_published_job_survives_a_crash<E: QueueEnvironment>(environment: &E) {
    let (model, first) = (model(), environment.open().await);
    let published = jobs(&model, 5);
    first.publish(&published).await.unwrap();
    environment.crash(first).await;
    let second = environment.open().await;
    let received = receive_all(&second, &lane(&model, Class::Bulk), 5).await;
    assert_eq!(
        ids(&received),
        published.iter().map(|job| job.id).collect::<Vec<_>>()
    );
}

async fn a_job_arrives_as_it_was_published<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let mut published = job(&model, Class::Interactive);
    published
        .request
        .messages
        .push(Message::user("Zażółć gęślą jaźń\u{0}🙂\n"));
    published.request.temperature = Some(0.1);
    queue
        .publish(std::slice::from_ref(&published))
        .await
        .unwrap();
    queue.publish(&[]).await.unwrap();
    let received = receive_all(&queue, &lane(&model, Class::Interactive), 1).await;
    assert_eq!(received[0].body.as_ref().unwrap(), &published);
}

async fn jobs_come_in_order<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let published = jobs(&model, 60);
    for some in published.chunks(7) {
        queue.publish(some).await.unwrap();
    }
    let mut received = Vec::new();
    while received.len() < 60 {
        let some = queue.receive(&lane(&model, Class::Bulk), 11).await.unwrap();
        received.extend(ids(&some));
        settle_all(&queue, some, &Settle::Done).await;
    }
    assert_eq!(
        received,
        published.iter().map(|job| job.id).collect::<Vec<_>>()
    );
}

async fn no_more_come_than_asked_for<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    queue.publish(&jobs(&model, 5)).await.unwrap();
    let received = queue.receive(&lane(&model, Class::Bulk), 2).await.unwrap();
    assert!(
        matches!(received.len(), 1 | 2),
        "{} came for 2",
        received.len()
    );
}

async fn classes_and_models_have_lanes_of_their_own<E: QueueEnvironment>(environment: &E) {
    let (one, other, queue) = (model(), model(), environment.open().await);
    let bulk: Vec<Job> = jobs(&one, 3);
    let urgent = job(&one, Class::Interactive);
    let foreign = job(&other, Class::Bulk);
    queue.publish(&bulk).await.unwrap();
    queue
        .publish(&[foreign.clone(), urgent.clone()])
        .await
        .unwrap();
    let received = receive_all(&queue, &lane(&one, Class::Interactive), 1).await;
    assert_eq!(ids(&received), [urgent.id]);
    let received = receive_all(&queue, &lane(&other, Class::Bulk), 1).await;
    assert_eq!(ids(&received), [foreign.id]);
    until_depth(&queue, &lane(&one, Class::Bulk), 3).await;
    until_depth(&queue, &lane(&other, Class::Interactive), 0).await;
}

async fn a_waiting_receiver_wakes_for_another_handles_job<E: QueueEnvironment>(environment: &E) {
    let (model, one, other) = (model(), environment.open().await, environment.open().await);
    let lane = lane(&model, Class::Bulk);
    let published = jobs(&model, 1);
    let mut waiting = std::pin::pin!(one.receive(&lane, 4));
    assert!(futures::poll!(&mut waiting).is_pending());
    let (received, sent) = futures::join!(waiting, other.publish(&published));
    sent.unwrap();
    assert_eq!(ids(&received.unwrap()), [published[0].id]);
}

async fn a_dropped_receive_loses_nothing<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let lane = lane(&model, Class::Bulk);
    let published = jobs(&model, 12);
    for one in &published {
        // Whichever ends first drops the other, at every stage a receive can be in.
        let some = tokio::select! {
            received = queue.receive(&lane, 1) => received.unwrap(),
            sent = queue.publish(std::slice::from_ref(one)) => {
                sent.unwrap();
                Vec::new()
            }
        };
        settle_all(&queue, some, &Settle::Interrupted).await;
    }
    // A publication that was dropped may not have happened; doing it again is safe.
    queue.publish(&published).await.unwrap();
    let mut missing: std::collections::BTreeSet<JobId> =
        published.iter().map(|job| job.id).collect();
    while !missing.is_empty() {
        let some = queue.receive(&lane, 4).await.unwrap();
        for id in ids(&some) {
            missing.remove(&id);
        }
        settle_all(&queue, some, &Settle::Done).await;
    }
}

async fn a_job_over_the_limit_is_refused_by_name<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let small = job(&model, Class::Bulk);
    let mut large = job(&model, Class::Bulk);
    large.request.messages = vec![Message::user("x".repeat(QUEUE_MESSAGE_BYTES_MAX))];
    match queue.publish(&[small, large.clone()]).await {
        Err(QueueError::TooLarge {
            job_id,
            bytes,
            limit,
        }) => {
            assert_eq!((job_id, limit), (large.id, QUEUE_MESSAGE_BYTES_MAX));
            assert!(bytes > limit, "{bytes} is not over {limit}");
        }
        other => panic!("a job over the limit: {other:?}"),
    }
}

async fn a_thousand_jobs_in_a_call<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let lane = lane(&model, Class::Bulk);
    let published = jobs(&model, 1_000);
    queue.publish(&published).await.unwrap();
    until_depth(&queue, &lane, 1_000).await;
    let received = receive_all(&queue, &lane, 1_000).await;
    assert_eq!(
        ids(&received),
        published.iter().map(|job| job.id).collect::<Vec<_>>()
    );
    settle_all(&queue, received, &Settle::Done).await;
    until_depth(&queue, &lane, 0).await;
}

async fn depth_counts_what_waits<E: QueueEnvironment>(environment: &E) {
    let (model, queue) = (model(), environment.open().await);
    let lane = lane(&model, Class::Bulk);
    assert_eq!(queue.depth(&lane).await.unwrap(), 0);
    queue.publish(&jobs(&model, 4)).await.unwrap();
    until_depth(&queue, &lane, 4).await;
    let mut lent = receive_all(&queue, &lane, 2).await;
    let later = Settle::Retry {
        after: std::time::Duration::from_hours(1),
    };
    settle_all(&queue, lent.split_off(1), &later).await;
    // One is lent, one waits for its retry, two are ready.
    until_depth(&queue, &lane, 3).await;
    settle_all(&queue, lent, &Settle::Done).await;
    until_depth(&queue, &lane, 3).await;
}
