//! Batches that nobody ever said to be whole.

use super::*;

#[tokio::test]
async fn a_batch_whose_submission_broke_off_is_cancelled_after_a_while() {
    let bench = Bench::open().await;
    let broken_off = batch("acme");
    bench.results.open_batch(&broken_off).await.unwrap();
    let whole = bench.batch("acme", 1, 1).await;
    let mut steward = bench.steward("a", 8);
    let state = async |id| bench.results.progress(id).await.unwrap().state;
    for (seconds, expected) in [
        (0, BatchState::Open),
        (86_300, BatchState::Open),
        (86_500, BatchState::Cancelled),
    ] {
        steward.tick(after(seconds)).await;
        assert_eq!(state(broken_off.id).await, expected, "after {seconds} s");
    }
    assert_eq!(state(whole).await, BatchState::InProgress);
}
