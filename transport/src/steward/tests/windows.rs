//! How much of a batch is on the queue.

use super::*;

#[tokio::test]
async fn the_window_grows_with_the_slots_of_workers() {
    let bench = Bench::open().await;
    let announced = worker("large", None);
    let ttl = Duration::from_mins(1);
    bench.results.announce(&announced, ttl).await.unwrap();
    bench.batch("a", 100, 100).await;
    let mut steward = bench.steward("one", 10);
    assert_eq!(steward.tick(after(0)).await.fed, 20);
    bench.results.retire("large").await.unwrap();
    bench.work(20).await;
    assert_eq!(steward.tick(after(3)).await.fed, 10);
}

#[test]
fn a_clock_that_was_set_is_told_from_time_that_passed() {
    let by = TimeDelta::seconds;
    let took = Duration::from_secs;
    assert!(!was_set(by(60), took(60)));
    assert!(!was_set(by(2), took(4)));
    assert!(was_set(by(3_600), took(1)));
    assert!(was_set(by(-3_599), took(1)));
}
