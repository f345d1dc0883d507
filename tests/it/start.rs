//! A worker that starts before what it needs is there.

use std::time::Duration;

use lapidary_tests::{Broker, Proxy, Redis, Wire, free_port};
use tempfile::TempDir;

use crate::place::Place;

/// Longest time until a worker says what it is waited for.
const SAY_MAX: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_stores_and_then_says_which_is_missing() {
    let (broker, redis, folder) = (Broker::start(), Redis::start(), TempDir::new().unwrap());
    let to_redis = Proxy::start(redis.port()).await;
    let results = format!("redis://127.0.0.1:{}", to_redis.port());
    let mut place = Place::on_servers(broker.url(), results, folder.path());
    to_redis.set(Wire::Cut);
    let mut patient = place.worker(&[]);
    patient.wait_for("trying again", SAY_MAX);
    to_redis.set(Wire::Open);
    patient.wait_for("serving", SAY_MAX);
    patient.stop();

    let nobody = free_port();
    place.broker = format!("amqp://guest:guest@127.0.0.1:{nobody}/%2f");
    let mut hasty = place.worker(&["--store-wait", "1s"]);
    let gave_up = format!("error: gave up after 1 s: queue at amqp://127.0.0.1:{nobody}");
    hasty.wait_for(&gave_up, SAY_MAX);
    assert_eq!(hasty.wait(SAY_MAX).code(), Some(3));
}
