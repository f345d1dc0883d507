//! What `RabbitMQ` can do to a queue of ours.

use std::time::{Duration, Instant};

use chrono::Utc;
use lapidary_schemas::{Class, Job, JobId};
use lapidary_tests::Broker;
use lapidary_transport::queue::QueueError;
use lapidary_transport::queue::amqp::{AmqpOptions, AmqpQueue};
use lapidary_transport::{Delivery, Lane, Queue, Receipt, Settle};
use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};

use crate::samples::{job, jobs, lane};

/// Longer than anything here takes; a test that reaches it hangs.
pub(crate) const LONG: Duration = Duration::from_mins(1);

async fn open(broker: &Broker) -> AmqpQueue {
    AmqpQueue::open(&broker.url()).await.unwrap()
}

pub(crate) fn impatient() -> AmqpOptions {
    AmqpOptions {
        open_within: Duration::from_secs(5),
        reconnect_within: Duration::from_secs(2),
        confirm_within: Duration::from_secs(2),
    }
}

/// Waits, within bounds, for deliveries.
pub(crate) async fn receive(queue: &AmqpQueue, lane: &Lane, max: usize) -> Vec<Delivery> {
    let received = tokio::time::timeout(LONG, queue.receive(lane, max)).await;
    received.expect("nothing was received in time").unwrap()
}

/// Collects exactly `count` deliveries.
pub(crate) async fn receive_all(queue: &AmqpQueue, lane: &Lane, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(receive(queue, lane, count - all.len()).await);
    }
    all
}

pub(crate) async fn settle(queue: &AmqpQueue, deliveries: Vec<Delivery>, how: &Settle) {
    let settled = deliveries
        .into_iter()
        .map(|one| (one.receipt, how.clone()))
        .collect();
    for answer in queue.settle(settled).await {
        answer.unwrap();
    }
}

pub(crate) async fn settle_one(
    queue: &AmqpQueue,
    receipt: Receipt,
    how: Settle,
) -> Result<(), QueueError> {
    queue.settle(vec![(receipt, how)]).await.pop().unwrap()
}

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

pub(crate) fn received_ids(deliveries: &[Delivery]) -> Vec<JobId> {
    deliveries
        .iter()
        .map(|delivery| delivery.body.as_ref().unwrap().id)
        .collect()
}

/// Ids made within one millisecond do not sort by their making.
fn sorted(mut ids: Vec<JobId>) -> Vec<JobId> {
    ids.sort_unstable();
    ids
}

/// Publishes bytes as they are, as another program would.
pub(crate) async fn publish_raw(url: &str, queue: &str, body: &[u8], properties: BasicProperties) {
    let options = ConnectionProperties::default();
    let connection = Connection::connect(url, options).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(lapin::options::ConfirmSelectOptions::default())
        .await
        .unwrap();
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let confirm = channel
        .basic_publish("".into(), queue.into(), mandatory, body, properties)
        .await
        .unwrap();
    assert!(
        confirm.await.unwrap().take_message().is_none(),
        "no queue `{queue}`"
    );
}

/// Deletes a queue with all that is in it.
async fn delete(broker: &Broker, queue: &str) {
    let options = ConnectionProperties::default();
    let connection = Connection::connect(&broker.url(), options).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await
        .unwrap();
}

/// Messages ready on a queue of the broker.
async fn ready(broker: &Broker, queue: &str) -> u32 {
    let options = ConnectionProperties::default();
    let connection = Connection::connect(&broker.url(), options).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await
        .unwrap()
        .message_count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_in_order_keeps_every_promise() {
    let broker = Broker::start();
    loans_come_back_by_every_way(&broker).await;
    a_retry_waits_on_the_ladder(&broker).await;
    the_dead_rest(&broker).await;
    what_is_no_job_is_handed_over(&broker).await;
    prefetch_follows_what_is_asked(&broker).await;
    a_message_that_is_not_due_waits_on(&broker).await;
    a_dropped_receive_loses_nothing(&broker).await;
    a_lane_without_a_queue_is_empty(&broker).await;
}

async fn loans_come_back_by_every_way(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("loans/of a model"));
    let sent = jobs("loans/of a model", 5);
    queue.publish(&sent).await.unwrap();
    assert_eq!(queue.depth(&lane).await.unwrap(), 5);
    let mut lent = receive_all(&queue, &lane, 5).await;
    assert_eq!(received_ids(&lent), ids(&sent));
    assert_eq!(queue.depth(&lane).await.unwrap(), 0);
    settle(&queue, lent.split_off(4), &Settle::Done).await;
    settle(&queue, lent.split_off(2), &Settle::Interrupted).await;
    let back = receive_all(&queue, &lane, 2).await;
    assert_eq!(sorted(received_ids(&back)), sorted(ids(&sent[2..4])));
    // A handle that goes away gives back what it was lent.
    drop(queue);
    let queue = open(broker).await;
    let back = received_ids(&receive_all(&queue, &lane, 4).await);
    assert_eq!(sorted(back), sorted(ids(&sent[..4])));
}

async fn a_retry_waits_on_the_ladder(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("retries"));
    let sent = jobs("retries", 2);
    queue.publish(&sent).await.unwrap();
    let lent = receive_all(&queue, &lane, 2).await;
    let after = Duration::from_millis(700);
    let start = Instant::now();
    settle(&queue, lent, &Settle::Retry { after }).await;
    assert_eq!(
        queue.depth(&lane).await.unwrap(),
        2,
        "those that wait for their retry count"
    );
    let back = receive_all(&queue, &lane, 2).await;
    assert!(
        start.elapsed() >= after,
        "came back after {:?}",
        start.elapsed()
    );
    assert_eq!(received_ids(&back), ids(&sent));
    settle(
        &queue,
        back,
        &Settle::Retry {
            after: Duration::ZERO,
        },
    )
    .await;
    let back = receive_all(&queue, &lane, 2).await;
    settle(&queue, back, &Settle::Done).await;
    assert_eq!(queue.depth(&lane).await.unwrap(), 0);
}

async fn the_dead_rest(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("dead"));
    queue.publish(&jobs("dead", 1)).await.unwrap();
    let lent = receive(&queue, &lane, 1).await;
    settle(
        &queue,
        lent,
        &Settle::Dead {
            reason: "three attempts failed".to_owned(),
        },
    )
    .await;
    assert_eq!(ready(broker, "lapidary.dead").await, 1);
    assert_eq!(queue.depth(&lane).await.unwrap(), 0);
}

async fn what_is_no_job_is_handed_over(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("raw"));
    let good = job("raw", Class::Bulk);
    queue.publish(std::slice::from_ref(&good)).await.unwrap();
    let id = JobId::new(Utc::now());
    let named = BasicProperties::default().with_message_id(id.to_string().into());
    publish_raw(&broker.url(), "lapidary.jobs.raw.bulk", b"{}", named).await;
    let mut lent = receive_all(&queue, &lane, 2).await;
    let bad = lent.pop().unwrap();
    let refused = bad.body.unwrap_err();
    assert_eq!(
        (refused.job_id, refused.body.as_slice()),
        (Some(id), b"{}".as_slice())
    );
    assert_eq!(
        received_ids(&lent),
        [good.id],
        "it does not stop the others"
    );
    settle_one(
        &queue,
        bad.receipt,
        Settle::Dead {
            reason: refused.message,
        },
    )
    .await
    .unwrap();
}

async fn prefetch_follows_what_is_asked(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("prefetch"));
    let sent = jobs("prefetch", 60);
    queue.publish(&sent).await.unwrap();
    let first = receive(&queue, &lane, 1).await;
    assert_eq!(first.len(), 1);
    assert!(
        ready(broker, "lapidary.jobs.prefetch.bulk").await >= 58,
        "lent more than two at once"
    );
    assert_eq!(queue.depth(&lane).await.unwrap(), 59);
    let rest = receive_all(&queue, &lane, 59).await;
    assert_eq!(
        received_ids(&rest),
        ids(&sent[1..]),
        "in order, though subscribed again"
    );
    settle(&queue, first, &Settle::Done).await;
    settle(&queue, rest, &Settle::Done).await;
}

async fn a_message_that_is_not_due_waits_on(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("due"));
    let sent = jobs("due", 2);
    queue.publish(&sent[..1]).await.unwrap();
    let due = Utc::now() + Duration::from_millis(400);
    let mut headers = FieldTable::default();
    headers.insert(
        "lapidary-due-ms".into(),
        AMQPValue::LongLongInt(due.timestamp_millis()),
    );
    let properties = BasicProperties::default()
        .with_message_id(sent[1].id.to_string().into())
        .with_headers(headers);
    let body = serde_json::to_vec(&sent[1]).unwrap();
    publish_raw(&broker.url(), "lapidary.jobs.due.bulk", &body, properties).await;
    let lent = receive_all(&queue, &lane, 2).await;
    assert!(Utc::now() >= due);
    assert_eq!(received_ids(&lent), ids(&sent));
    settle(&queue, lent, &Settle::Done).await;
}

async fn a_dropped_receive_loses_nothing(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("impatient"));
    for wait_us in [0, 100, 1_000, 5_000, 20_000] {
        let waiting = queue.receive(&lane, 4 + usize::try_from(wait_us).unwrap());
        drop(tokio::time::timeout(Duration::from_micros(wait_us), waiting).await);
    }
    let sent = jobs("impatient", 20);
    queue.publish(&sent).await.unwrap();
    let lent = receive_all(&queue, &lane, 20).await;
    assert_eq!(received_ids(&lent), ids(&sent));
    settle(&queue, lent, &Settle::Done).await;
}

async fn a_lane_without_a_queue_is_empty(broker: &Broker) {
    let queue = open(broker).await;
    assert_eq!(
        queue.depth(&lane("nobody has asked for it")).await.unwrap(),
        0
    );
    assert_eq!(queue.depth(&Lane::Dropped).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_in_trouble_loses_nothing() {
    let mut broker = Broker::start();
    closed_connections_end_loans(&broker).await;
    a_queue_deleted_under_us_is_made_again(&broker).await;
    a_rung_deleted_under_us_is_made_again(&broker).await;
    a_memory_alarm_is_told_in_time(&broker).await;
    what_the_broker_drops_comes_out(&broker).await;
    a_restart_is_survived(&mut broker).await;
    a_broker_that_stays_away_is_told(&mut broker).await;
    a_new_queue_that_a_crash_loses_is_made_again(&mut broker).await;
    a_queue_without_a_leader_is_left_alone(&broker).await;
}

async fn closed_connections_end_loans(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("closed"));
    queue.publish(&jobs("closed", 2)).await.unwrap();
    let mut lent = receive_all(&queue, &lane, 2).await;
    broker.ctl(&["close_all_connections", "a test"]);
    let again = receive_all(&queue, &lane, 2).await;
    let ended = settle_one(&queue, lent.pop().unwrap().receipt, Settle::Done).await;
    assert!(matches!(ended, Err(QueueError::LoanEnded)), "{ended:?}");
    let retry = Settle::Retry {
        after: Duration::ZERO,
    };
    let ended = settle_one(&queue, lent.pop().unwrap().receipt, retry).await;
    assert!(matches!(ended, Err(QueueError::LoanEnded)), "{ended:?}");
    settle(&queue, again, &Settle::Done).await;
    assert_eq!(
        queue.depth(&lane).await.unwrap(),
        0,
        "a late retry makes no second copy"
    );
}

async fn a_queue_deleted_under_us_is_made_again(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("deleted"));
    queue.publish(&jobs("deleted", 1)).await.unwrap();
    settle(&queue, receive(&queue, &lane, 1).await, &Settle::Done).await;
    delete(broker, "lapidary.jobs.deleted.bulk").await;
    // The publishing connection still believes in the queue: the return must be seen.
    let sent = jobs("deleted", 1);
    queue.publish(&sent).await.unwrap();
    assert_eq!(received_ids(&receive(&queue, &lane, 1).await), ids(&sent));
}

async fn a_rung_deleted_under_us_is_made_again(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("rung"));
    let sent = jobs("rung", 1);
    queue.publish(&sent).await.unwrap();
    let soon = Settle::Retry {
        after: Duration::from_millis(500),
    };
    settle(&queue, receive(&queue, &lane, 1).await, &soon).await;
    let back = receive(&queue, &lane, 1).await;
    // Its exchange is still there and routes to nobody.
    delete(broker, "lapidary.delay.1s").await;
    settle(&queue, back, &soon).await;
    assert_eq!(received_ids(&receive(&queue, &lane, 1).await), ids(&sent));
}

async fn a_memory_alarm_is_told_in_time(broker: &Broker) {
    let (queue, lane) = (
        AmqpQueue::open_with(&broker.url(), impatient())
            .await
            .unwrap(),
        lane("alarm"),
    );
    queue.publish(&jobs("alarm", 3)).await.unwrap();
    let mut lent = receive_all(&queue, &lane, 3).await;
    broker.ctl(&["set_vm_memory_high_watermark", "0.00001"]);
    for _ in 0..2 {
        let start = Instant::now();
        let refused = queue.publish(&jobs("alarm", 1)).await;
        assert!(
            matches!(refused, Err(QueueError::Full { .. })),
            "{refused:?}"
        );
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    // What needs no publishing still works.
    settle(&queue, lent.split_off(2), &Settle::Done).await;
    settle(&queue, lent.split_off(1), &Settle::Interrupted).await;
    let back = receive(&queue, &lane, 1).await;
    let retry = Settle::Retry {
        after: Duration::from_secs(1),
    };
    let refused = settle_one(&queue, lent.pop().unwrap().receipt, retry).await;
    assert!(
        matches!(refused, Err(QueueError::Full { .. })),
        "{refused:?}"
    );
    broker.ctl(&["set_vm_memory_high_watermark", "0.4"]);
    settle(&queue, back, &Settle::Done).await;
    let sent = job("alarm", Class::Bulk);
    let until = Instant::now() + LONG;
    while let Err(error) = queue.publish(std::slice::from_ref(&sent)).await {
        assert!(
            matches!(error, QueueError::Full { .. }) && Instant::now() < until,
            "{error}"
        );
    }
    let mut found = false;
    while !found {
        let lent = receive(&queue, &lane, 8).await;
        found = received_ids(&lent).contains(&sent.id);
        settle(&queue, lent, &Settle::Done).await;
    }
}

async fn what_the_broker_drops_comes_out(broker: &Broker) {
    let (queue, lane) = (open(broker).await, lane("dropped"));
    let limit = r#"{"delivery-limit": 2}"#;
    broker.ctl(&[
        "set_policy",
        "--apply-to",
        "queues",
        "limit",
        "dropped",
        limit,
    ]);
    let sent = jobs("dropped", 1);
    queue.publish(&sent).await.unwrap();
    for _ in 0..3 {
        let lent = receive(&queue, &lane, 1).await;
        settle(&queue, lent, &Settle::Interrupted).await;
    }
    let dropped = receive(&queue, &Lane::Dropped, 1).await;
    assert_eq!(received_ids(&dropped), ids(&sent));
    settle(&queue, dropped, &Settle::Done).await;
    broker.ctl(&["clear_policy", "limit"]);
}

async fn a_restart_is_survived(broker: &mut Broker) {
    let (queue, lane) = (open(broker).await, lane("restart"));
    // Made before the restart: what is made while a broker stops may be made after it, and be new (see below).
    queue.publish(&jobs("restart", 1)).await.unwrap();
    settle(&queue, receive(&queue, &lane, 1).await, &Settle::Done).await;
    let waiting = async {
        let lent = receive(&queue, &lane, 4).await;
        let found = received_ids(&lent);
        settle(&queue, lent, &Settle::Done).await;
        found
    };
    let restarting = async {
        tokio::task::block_in_place(|| broker.restart());
        let other = open(broker).await;
        let sent = jobs("restart", 1);
        other.publish(&sent).await.unwrap();
        sent
    };
    let (found, sent) = tokio::join!(waiting, restarting);
    assert_eq!(found, ids(&sent));
}

async fn a_broker_that_stays_away_is_told(broker: &mut Broker) {
    // A queue the broker has stopped with before: a new one may be lost (see below).
    let (queue, lane) = (
        AmqpQueue::open_with(&broker.url(), impatient())
            .await
            .unwrap(),
        lane("restart"),
    );
    let sent = jobs("restart", 2);
    queue.publish(&sent).await.unwrap();
    tokio::task::block_in_place(|| broker.kill());
    let lost = queue.receive(&lane, 1).await;
    let Err(QueueError::Unreachable { url, .. }) = lost else {
        panic!("{lost:?}")
    };
    assert!(!url.contains("guest"), "shows credentials: {url}");
    let lost = queue.publish(&sent).await;
    assert!(
        matches!(lost, Err(QueueError::Unreachable { .. })),
        "{lost:?}"
    );
    tokio::task::block_in_place(|| broker.run());
    assert_eq!(
        received_ids(&receive_all(&queue, &lane, 2).await),
        ids(&sent),
        "after a crash"
    );
}

/// The broker writes the place of a new queue down some time after it was made. Killed before that it
/// starts the queue from nothing, with no leader: jobs on it are lost (the steward feeds them again),
/// and nothing would ever come through it again.
async fn a_new_queue_that_a_crash_loses_is_made_again(broker: &mut Broker) {
    let (queue, lane) = (open(broker).await, lane("new"));
    queue.publish(&jobs("new", 1)).await.unwrap();
    tokio::task::block_in_place(|| {
        broker.kill();
        broker.run();
    });
    let start = Instant::now();
    let sent = job("new", Class::Bulk);
    let publishing = async {
        while let Err(error) = queue.publish(std::slice::from_ref(&sent)).await {
            assert!(start.elapsed() < LONG, "{error}");
        }
    };
    let receiving = async {
        let mut found = false;
        while !found {
            let lent = receive(&queue, &lane, 8).await;
            found = received_ids(&lent).contains(&sent.id);
            settle(&queue, lent, &Settle::Done).await;
        }
    };
    tokio::join!(publishing, receiving);
    assert!(start.elapsed() < LONG, "took {:?}", start.elapsed());
}

/// Its other nodes may be back at any time, with jobs that only they have.
async fn a_queue_without_a_leader_is_left_alone(broker: &Broker) {
    let (queue, lane) = (
        AmqpQueue::open_with(&broker.url(), impatient())
            .await
            .unwrap(),
        lane("leaderless"),
    );
    let sent = jobs("leaderless", 1);
    queue.publish(&sent).await.unwrap();
    let server = "{'%2F_lapidary.jobs.leaderless.bulk', node()}";
    broker.ctl(&["eval", &format!("ra:stop_server(quorum_queues, {server}).")]);
    let lost = queue.publish(&jobs("leaderless", 1)).await;
    assert!(matches!(lost, Err(QueueError::Full { .. })), "{lost:?}");
    broker.ctl(&[
        "eval",
        &format!("ra:restart_server(quorum_queues, {server})."),
    ]);
    let found = received_ids(&receive(&queue, &lane, 1).await);
    assert_eq!(found, ids(&sent));
}

#[tokio::test]
async fn an_address_that_cannot_work_says_why() {
    for (url, part) in [
        ("amqps://guest:secret@127.0.0.1:1", "is unreachable"),
        ("amqp://guest:secret@127.0.0.1:1/%2f", "is unreachable"),
    ] {
        let options = AmqpOptions {
            open_within: Duration::from_millis(100),
            ..impatient()
        };
        let message = AmqpQueue::open_with(url, options)
            .await
            .unwrap_err()
            .to_string();
        assert!(message.contains(part), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}
