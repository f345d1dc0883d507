//! How many jobs a second a private `RabbitMQ` and a private Redis carry on this machine.

#![expect(clippy::print_stdout, reason = "its figures are its output")]

use std::time::Instant;

use lapidary_schemas::{Class, Job};
use lapidary_tests::{Broker, Redis};
use lapidary_transport::conformance::samples::{done, jobs, lane};
use lapidary_transport::queue::amqp::AmqpQueue;
use lapidary_transport::results::redis::RedisResults;
use lapidary_transport::{Queue, Results, Settle};

const A_CALL: usize = 100;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (broker, redis) = (Broker::start(), Redis::start());
    let queue = AmqpQueue::open(&broker.url()).await?;
    let results = RedisResults::open(&redis.url(), false).await?;
    for count in [1_000, 10_000] {
        let jobs = jobs("m", count);
        publish(&queue, &jobs).await?;
        work(&queue, count).await?;
        store(&results, &jobs).await?;
    }
    Ok(())
}

async fn publish(queue: &AmqpQueue, jobs: &[Job]) -> anyhow::Result<()> {
    let started = Instant::now();
    for some in jobs.chunks(A_CALL) {
        queue.publish(some).await?;
    }
    report("publish", jobs.len(), started);
    Ok(())
}

async fn work(queue: &AmqpQueue, count: usize) -> anyhow::Result<()> {
    let (lane, started) = (lane("m", Class::Bulk), Instant::now());
    let mut rest = count;
    while rest > 0 {
        let lent = queue.receive(&lane, A_CALL.min(rest)).await?;
        rest -= lent.len();
        let settled = lent.into_iter().map(|one| (one.receipt, Settle::Done));
        for answer in queue.settle(settled.collect()).await {
            answer?;
        }
    }
    report("receive and settle", count, started);
    Ok(())
}

async fn store(results: &RedisResults, jobs: &[Job]) -> anyhow::Result<()> {
    let started = Instant::now();
    for some in jobs.chunks(A_CALL) {
        results.begin(some, "w").await?;
    }
    report("begin", jobs.len(), started);
    let finished: Vec<_> = jobs.iter().map(done).collect();
    let started = Instant::now();
    for some in finished.chunks(A_CALL) {
        results.put_once(some).await?;
    }
    report("put_once", jobs.len(), started);
    Ok(())
}

fn report(what: &str, count: usize, started: Instant) {
    let took = started.elapsed();
    let rate = count as u128 * 1_000_000 / took.as_micros().max(1);
    println!("{what}, {count} by {A_CALL}: {rate} jobs a second");
}
