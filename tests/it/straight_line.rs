//! A batch through the real programs, on both kinds of place, with workers killed on the way.

use std::collections::BTreeMap;

use lapidary_tests::{Broker, Redis};
use tempfile::TempDir;

use crate::place::{Followed, Place, RUN_MAX, requests};

const DOCUMENTS: usize = 1_000;
/// Finished documents after which a worker is killed and another one takes its place. Once: what a
/// second worker is lost on is taken for its cause (see `poison`).
const KILL_AT: usize = 300;

/// Runs a batch with two workers, one of which is killed on the way; the other one ends by itself when
/// there is nothing to do any more. The text of each document.
async fn run(place: &Place) -> BTreeMap<String, String> {
    let folder = TempDir::new().unwrap();
    let batch = place.submit(&requests(folder.path(), DOCUMENTS));
    let results = place.results().await;
    // Whichever is the steward moves results on while others read them.
    let few = ["--hot-results", "100"];
    let mut steady = place.worker(&[&few[..], &["--exit-when-idle", "1s"]].concat());
    let mut killed = place.worker(&few);
    let mut followed = Followed::new(&results, batch);
    followed.until(KILL_AT).await;
    killed.kill();
    killed = place.worker(&few);
    let texts = followed.texts(DOCUMENTS).await;
    assert_eq!(steady.wait(RUN_MAX).code(), Some(0));
    killed.stop();
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_and_every_place_gives_the_same_text() {
    let folder = TempDir::new().unwrap();
    let on_file = run(&Place::on_file(folder.path())).await;
    let (broker, redis) = (Broker::start(), Redis::start());
    let servers = Place::on_servers(broker.url(), redis.url(), folder.path());
    let on_servers = run(&servers).await;
    assert_eq!(on_file, on_servers, "the same request gave another text");
}
