//! What a wire to `RabbitMQ` that breaks does to those at its end.

use std::time::{Duration, Instant};

use lapidary_tests::{Broker, Proxy, Wire};
use lapidary_transport::queue::QueueError;
use lapidary_transport::queue::amqp::AmqpQueue;
use lapidary_transport::{Queue, Settle};

use crate::amqp::{LONG, impatient, receive, receive_all, received_ids, settle, settle_one};
use crate::samples::{jobs, lane};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_breaks_is_noticed_and_answered() {
    let broker = Broker::start();
    a_silent_wire_is_noticed(&broker).await;
    loans_that_end_with_the_connection_are_answered(&broker).await;
}

async fn a_silent_wire_is_noticed(broker: &Broker) {
    let proxy = Proxy::start(broker.port()).await;
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", proxy.port());
    let (queue, lane) = (
        AmqpQueue::open_with(&url, impatient()).await.unwrap(),
        lane("silent"),
    );
    queue.publish(&jobs("silent", 1)).await.unwrap();
    proxy.set(Wire::Silent);
    let start = Instant::now();
    let lost = queue.publish(&jobs("silent", 1)).await;
    assert!(
        matches!(lost, Err(QueueError::Unreachable { .. })),
        "{lost:?}"
    );
    assert!(start.elapsed() < LONG, "took {:?}", start.elapsed());
    proxy.cut_once();
    queue.publish(&jobs("silent", 1)).await.unwrap();
    let first = receive(&queue, &lane, 1).await;
    proxy.cut_once();
    // What had arrived before the cut may come first; then it is lent anew to the same worker.
    let mut again = receive(&queue, &lane, 1).await;
    while received_ids(&again) != received_ids(&first) {
        again = receive(&queue, &lane, 1).await;
    }
    let ending = queue.settle(
        first
            .into_iter()
            .map(|one| (one.receipt, Settle::Done))
            .collect(),
    );
    assert!(matches!(
        ending.await.as_slice(),
        [Err(QueueError::LoanEnded)]
    ));
    again.extend(receive(&queue, &lane, 8).await);
    settle(&queue, again, &Settle::Done).await;
}

/// Ends loans one after the other, while their connection breaks half-way. The pauses spread them over
/// the moment of the break; nothing is waited for with them.
async fn loans_that_end_with_the_connection_are_answered(broker: &Broker) {
    const ROUNDS: usize = 5;
    const LOANS: u32 = 200;
    const BETWEEN: Duration = Duration::from_micros(100);
    let proxy = Proxy::start(broker.port()).await;
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", proxy.port());
    let (queue, lane) = (AmqpQueue::open(&url).await.unwrap(), lane("breaking"));
    for _ in 0..ROUNDS {
        queue
            .publish(&jobs("breaking", LOANS as usize))
            .await
            .unwrap();
        let lent = receive_all(&queue, &lane, LOANS as usize).await;
        let ending = (0..LOANS).zip(lent).map(|(number, one)| {
            let queue = &queue;
            async move {
                tokio::time::sleep(BETWEEN * number).await;
                settle_one(queue, one.receipt, Settle::Done).await
            }
        });
        let breaking = async {
            tokio::time::sleep(BETWEEN * (LOANS / 2)).await;
            proxy.cut_once();
        };
        let ended = async { tokio::join!(futures::future::join_all(ending), breaking).0 };
        let ended = tokio::time::timeout(LONG, ended).await;
        for answer in ended.expect("a loan that ended with its connection had no answer") {
            assert!(
                matches!(answer, Ok(()) | Err(QueueError::LoanEnded)),
                "{answer:?}"
            );
        }
    }
}
