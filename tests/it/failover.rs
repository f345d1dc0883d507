//! A results store that changes under those who use it: a replica takes over, or it is slow, full or
//! read-only for a while.

use std::time::Duration;

use lapidary_tests::{Redis, free_port};
use tokio::task::block_in_place;

use crate::place::{Followed, requests};
use crate::wired::Wired;

const DOCUMENTS: usize = 1_000;
/// A worker from which nothing has come for this long waits for the store.
const SILENCE: Duration = Duration::from_secs(3);
/// How long a slow store answers nothing, in milliseconds.
const SLOW_MS: &str = "4000";

/// All others see the store through a wire that leads to whoever is the primary.
async fn replicated() -> (Wired, Redis) {
    let servers = Wired::start().await;
    let replica = block_in_place(|| servers.redis.replica());
    (servers, replica)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_takes_nothing_along_that_was_confirmed() {
    let (mut servers, replica) = replicated().await;
    let place = servers.behind();
    let batch = place.submit(&requests(servers.folder.path(), DOCUMENTS));
    let mut worker = place.worker(&[]);
    let results = place.results().await;
    let mut followed = Followed::new(&results, batch);
    followed.until(300).await;
    servers.redis.kill();
    replica.promote();
    servers.to_redis.lead_to(replica.port());
    // The test's own connection broke as well.
    let results = place.results().await;
    followed.through(&results).texts(DOCUMENTS).await;
    place.ends(&mut worker);
    place.holds(&[batch]).await;
}

/// It is promoted while the old primary goes on, as a network does that comes apart: what is written there
/// from then on is lost when all meet again at the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_loses_is_done_again() {
    let (mut servers, replica) = replicated().await;
    let place = servers.behind();
    let batch = place.submit(&requests(servers.folder.path(), DOCUMENTS));
    let mut worker = place.worker(&[]);
    let results = place.results().await;
    let mut followed = Followed::new(&results, batch);
    followed.until(200).await;
    replica.promote();
    followed.until(600).await;
    servers.redis.kill();
    servers.to_redis.lead_to(replica.port());
    let results = place.results().await;
    Followed::new(&results, batch).texts(DOCUMENTS).await;
    place.ends(&mut worker);
    place.holds(&[batch]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_slow_full_or_read_only_is_waited_for() {
    let servers = Wired::start().await;
    let (place, redis) = (servers.direct(), &servers.redis);
    let batch = place.submit(&requests(servers.folder.path(), DOCUMENTS));
    let mut worker = place.worker(&[]);
    let results = place.results().await;
    let mut followed = Followed::new(&results, batch);
    followed.until(100).await;
    redis.cli(&["CLIENT", "PAUSE", SLOW_MS, "ALL"]);
    followed.until(300).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1mb"]);
    followed.until_silent(SILENCE).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    followed.until(500).await;
    // Its primary is a server that does not exist.
    redis.cli(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    followed.until_silent(SILENCE).await;
    redis.promote();
    followed.texts(DOCUMENTS).await;
    place.ends(&mut worker);
    place.holds(&[batch]).await;
}
