//! A results store that lost what was last written, and believes of workers what has ended.

use super::*;

/// A job that was begun and taken off the queue, of which there is no result.
async fn begun(bench: &Bench) -> JobId {
    bench.batch("acme", 1, 1).await;
    bench.steward("first", 8).tick(after(0)).await;
    let jobs = bench.lose(1).await;
    bench.results.begin(&jobs, "busy").await.unwrap();
    jobs[0].id
}

/// Jobs published again after each of some seconds, while their worker lives and says that it has these.
async fn republished(bench: &Bench, jobs: Option<Vec<JobId>>, seconds: [i64; 2]) -> [u64; 2] {
    let ttl = Duration::from_hours(1);
    let announced = worker("busy", jobs);
    bench.results.announce(&announced, ttl).await.unwrap();
    let mut steward = bench.steward("first", 8);
    steward.tick(after(0)).await;
    let mut counts = [0; 2];
    for (count, seconds) in counts.iter_mut().zip(seconds) {
        *count = steward.tick(after(seconds)).await.republished;
    }
    counts
}

#[tokio::test]
async fn what_a_worker_says_to_be_under_way_is_left_alone() {
    let bench = Bench::open().await;
    let job = begun(&bench).await;
    assert_eq!(republished(&bench, None, [40, 60]).await, [0, 0]);
    assert_eq!(republished(&bench, Some(vec![job]), [40, 60]).await, [0, 0]);
    // It may have begun it since it last said so.
    assert_eq!(
        republished(&bench, Some(Vec::new()), [40, 60]).await,
        [0, 1]
    );
    assert_eq!(bench.work(1).await[0].id, job);
}
