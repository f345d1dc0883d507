//! What Redis can do to results of ours.

use std::time::Duration;

use lapidary_schemas::{Batch, Class, JobId, Status};
use lapidary_tests::Redis;
use lapidary_transport::Results;
use lapidary_transport::results::redis::RedisResults;
use lapidary_transport::results::{Begin, Finished, JobState, Put, ResultsError};

use crate::samples::{batch, done, item, job, jobs, result, shard};

async fn open(redis: &Redis) -> RedisResults {
    RedisResults::open(&redis.url(), false).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_order_keeps_every_promise() {
    let redis = Redis::start();
    let results = open(&redis).await;
    a_batch_is_counted_in_step(&results).await;
    a_cancelled_batch_counts_once(&results).await;
    a_replaced_item_reopens_its_batch(&results).await;
    an_election_has_one_winner(&results).await;
    waiting_ends_with_a_result(&results).await;
    scripts_are_loaded_again(&redis, &results).await;
}

async fn a_batch_is_counted_in_step(results: &RedisResults) {
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    results.append_shard(batch.id, &shard(0, 3)).await.unwrap();
    results.append_shard(batch.id, &shard(0, 3)).await.unwrap();
    assert!(matches!(
        results.append_shard(batch.id, &shard(2, 3)).await,
        Err(ResultsError::Conflict { .. })
    ));
    results.append_shard(batch.id, &shard(1, 1)).await.unwrap();
    results.seal_batch(batch.id).await.unwrap();
    feed_everything(results, &batch).await;
    let items: Vec<_> = (0..4).map(|index| item(&batch, index)).collect();
    let begun = results.begin(&items, "w").await.unwrap();
    assert_eq!(begun, vec![Begin::Attempt(1); 4]);
    results.interrupt(&[items[0].id], "w").await.unwrap();
    assert_eq!(
        results.begin(&items[..1], "w").await.unwrap(),
        [Begin::Attempt(1)]
    );
    assert_eq!(
        results.begin(&items[..1], "v").await.unwrap(),
        [Begin::Suspect {
            attempt: 2,
            lost: 1
        }]
    );
    let stored = results
        .put_once(&[done(&items[0]), done(&items[2])])
        .await
        .unwrap();
    assert_eq!(stored, [Put::Stored, Put::Stored]);
    assert_eq!(results.unfinished(batch.id, 0).await.unwrap(), [1]);
    assert_eq!(results.unfinished(batch.id, 1).await.unwrap(), [0]);
    let mut other = done(&items[0]);
    other.result.text = None;
    let again = results.put_once(&[other]).await.unwrap();
    assert_eq!(
        again,
        [Put::Already(Some(Box::new(
            done_as_stored(results, &items[0]).await
        )))]
    );
    results
        .put_once(&[done(&items[1]), done(&items[3])])
        .await
        .unwrap();
    let progress = results.progress(batch.id).await.unwrap();
    assert_eq!(
        (progress.finished(), progress.succeeded, progress.total),
        (4, 4, 4)
    );
    assert_eq!(
        (progress.prompt_tokens, progress.completion_tokens),
        (40, 16)
    );
    assert!(progress.finished_at.is_some());
    assert!(
        !results
            .open_batches(1_000)
            .await
            .unwrap()
            .contains(&batch.id)
    );
    results_come_in_pages(results, &batch, [items[0].id, items[2].id]).await;
}

/// Of four results, the first two are `first`.
async fn results_come_in_pages(results: &RedisResults, batch: &Batch, first: [JobId; 2]) {
    let page = results.tail(batch.id, "", 2).await.unwrap();
    let order: Vec<_> = page.results.iter().map(|one| one.job_id).collect();
    assert_eq!(order, first, "a change of state takes no place in a page");
    let rest = results.tail(batch.id, &page.cursor, 10).await.unwrap();
    assert_eq!(rest.results.len(), 2);
    let end = results.tail(batch.id, &rest.cursor, 10).await.unwrap();
    assert_eq!((end.results.len(), end.cursor), (0, rest.cursor));
}

/// Feeds shards of three items and of one.
async fn feed_everything(results: &RedisResults, batch: &Batch) {
    let held = results
        .lease("feed", "me", Duration::from_secs(5))
        .await
        .unwrap()
        .unwrap();
    let position = results.feed_position(batch.id).await.unwrap();
    results.mark_fed(&held, &position, 3).await.unwrap();
    let position = results.feed_position(batch.id).await.unwrap();
    assert_eq!(
        (position.shard.as_ref().unwrap().index, position.offset),
        (1, 0)
    );
    results.mark_fed(&held, &position, 1).await.unwrap();
    let position = results.feed_position(batch.id).await.unwrap();
    assert_eq!((position.shard, position.outstanding), (None, 4));
}

async fn done_as_stored(
    results: &RedisResults,
    job: &lapidary_schemas::Job,
) -> lapidary_schemas::JobResult {
    match results.get(&[job.id]).await.unwrap().pop().unwrap() {
        Some(JobState::Finished(result)) => *result,
        other => panic!("{other:?}"),
    }
}

async fn a_cancelled_batch_counts_once(results: &RedisResults) {
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    results.append_shard(batch.id, &shard(0, 5)).await.unwrap();
    let items: Vec<_> = (0..5).map(|index| item(&batch, index)).collect();
    results.begin(&items[..3], "w").await.unwrap();
    results.put_once(&[done(&items[0])]).await.unwrap();
    assert!(results.cancel_batch(batch.id).await.unwrap());
    assert!(!results.cancel_batch(batch.id).await.unwrap());
    let progress = results.progress(batch.id).await.unwrap();
    assert_eq!(
        (progress.succeeded, progress.cancelled),
        (1, 2),
        "two still run"
    );
    let running = [items[1].id, items[2].id];
    assert_eq!(results.cancelled(&running).await.unwrap(), [true, true]);
    results.interrupt(&[items[1].id], "w").await.unwrap();
    let late = results
        .begin(&[items[1].clone(), items[4].clone()], "w")
        .await
        .unwrap();
    assert_eq!(late, [Begin::Cancelled, Begin::Cancelled]);
    results.put_once(&[done(&items[2])]).await.unwrap();
    let progress = results.progress(batch.id).await.unwrap();
    assert_eq!(
        (progress.succeeded, progress.cancelled, progress.total),
        (2, 3, 5)
    );
    let single = job("m", Class::Interactive);
    results
        .register(std::slice::from_ref(&single))
        .await
        .unwrap();
    assert_eq!(results.cancel_jobs(&[single.id]).await.unwrap(), [true]);
    assert_eq!(results.cancel_jobs(&[single.id]).await.unwrap(), [false]);
    assert_eq!(
        done_as_stored(results, &single).await.status,
        Status::Cancelled
    );
}

async fn a_replaced_item_reopens_its_batch(results: &RedisResults) {
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    results.append_shard(batch.id, &shard(0, 1)).await.unwrap();
    results.seal_batch(batch.id).await.unwrap();
    let first = item(&batch, 0);
    results
        .begin(std::slice::from_ref(&first), "w")
        .await
        .unwrap();
    let failed = Finished {
        result: result(&first, Status::Failed),
        dead_letter: None,
    };
    results.put_once(&[failed]).await.unwrap();
    assert_eq!(results.progress(batch.id).await.unwrap().failed, 1);
    let mut second = item(&batch, 0);
    second.replaces = Some(first.id);
    results.replace(&second).await.unwrap();
    results.replace(&second).await.unwrap();
    let progress = results.progress(batch.id).await.unwrap();
    assert_eq!(
        (progress.failed, progress.finished(), progress.total),
        (0, 0, 1)
    );
    assert!(
        results
            .open_batches(1_000)
            .await
            .unwrap()
            .contains(&batch.id)
    );
    results
        .begin(std::slice::from_ref(&second), "w")
        .await
        .unwrap();
    results.put_once(&[done(&second)]).await.unwrap();
    assert_eq!(results.progress(batch.id).await.unwrap().succeeded, 1);
    assert_eq!(done_as_stored(results, &first).await.status, Status::Failed);
}

async fn an_election_has_one_winner(results: &RedisResults) {
    let ttl = Duration::from_secs(5);
    let won = results.lease("steward", "a", ttl).await.unwrap().unwrap();
    assert_eq!(results.lease("steward", "b", ttl).await.unwrap(), None);
    assert_eq!(
        results.lease("steward", "a", ttl).await.unwrap(),
        Some(won.clone())
    );
    results.release(&won).await.unwrap();
    let next = results.lease("steward", "b", ttl).await.unwrap().unwrap();
    assert!(next.token > won.token);
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    results.append_shard(batch.id, &shard(0, 1)).await.unwrap();
    let position = results.feed_position(batch.id).await.unwrap();
    assert!(matches!(
        results.mark_fed(&won, &position, 1).await,
        Err(ResultsError::Conflict { .. })
    ));
}

async fn waiting_ends_with_a_result(results: &RedisResults) {
    let batch = batch();
    results.open_batch(&batch).await.unwrap();
    results.append_shard(batch.id, &shard(0, 1)).await.unwrap();
    let start = std::time::Instant::now();
    let waiting = results.changed(batch.id, "", Duration::from_secs(20));
    let storing = async {
        let one = item(&batch, 0);
        results
            .begin(std::slice::from_ref(&one), "w")
            .await
            .unwrap();
        results.put_once(&[done(&one)]).await.unwrap();
    };
    let (waited, ()) = tokio::join!(waiting, storing);
    waited.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
}

async fn scripts_are_loaded_again(redis: &Redis, results: &RedisResults) {
    redis.cli(&["SCRIPT", "FLUSH"]);
    let many = jobs("m", 50);
    results.begin(&many, "w").await.unwrap();
    redis.cli(&["SCRIPT", "FLUSH"]);
    let finished: Vec<_> = many.iter().map(done).collect();
    assert_eq!(
        results.put_once(&finished).await.unwrap(),
        vec![Put::Stored; 50]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loses_nothing_that_was_confirmed() {
    let mut redis = Redis::start();
    let results = open(&redis).await;
    let many = jobs("m", 200);
    results.begin(&many, "w").await.unwrap();
    for chunk in many.chunks(40) {
        let finished: Vec<_> = chunk.iter().map(done).collect();
        assert_eq!(
            results.put_once(&finished).await.unwrap(),
            vec![Put::Stored; 40]
        );
        tokio::task::block_in_place(|| redis.crash());
        let ids: Vec<_> = chunk.iter().map(|job| job.id).collect();
        let states = results.get(&ids).await.unwrap();
        assert!(
            states
                .iter()
                .all(|state| matches!(state, Some(JobState::Finished(_))))
        );
    }
    let again = results.begin(&many, "w").await.unwrap();
    assert_eq!(again, vec![Begin::Finished; 200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_lose_results_is_refused() {
    for (settings, part) in [
        (
            vec![("appendonly", "no"), ("maxmemory-policy", "noeviction")],
            "`appendonly no`",
        ),
        (
            vec![("appendonly", "yes"), ("appendfsync", "everysec")],
            "`appendfsync everysec`",
        ),
        (
            vec![
                ("appendonly", "yes"),
                ("appendfsync", "always"),
                ("maxmemory-policy", "allkeys-lru"),
            ],
            "`maxmemory-policy allkeys-lru`",
        ),
    ] {
        let redis = Redis::start_with(&settings);
        let refused = RedisResults::open(&redis.url(), false).await.unwrap_err();
        assert!(
            matches!(refused, ResultsError::Unusable { .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains(part), "{refused}");
        RedisResults::open(&redis.url(), true).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_says_so() {
    let redis = Redis::start();
    let results = open(&redis).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "2mb"]);
    let one = job("m", Class::Interactive);
    let mut large = done(&one);
    large.result.text = Some("x".repeat(1_000_000));
    let mut refused = None;
    for _ in 0..4 {
        let other = job("m", Class::Interactive);
        let mut next = large.clone();
        next.result.job_id = other.id;
        refused = results.put_once(&[next]).await.err();
    }
    assert!(
        matches!(refused, Some(ResultsError::StorageFull { .. })),
        "{refused:?}"
    );
    large.result.text = Some("x".repeat(5 * 1024 * 1024));
    let refused = results.put_once(&[large]).await.unwrap_err().to_string();
    assert!(refused.contains("the limit is 4194304"), "{refused}");
}

#[tokio::test]
async fn an_address_that_cannot_work_says_why() {
    for (url, part) in [
        ("rediss://127.0.0.1:1", "is unreachable"),
        (
            "redis+sentinel://localhost",
            "`redis+sentinel` is not supported",
        ),
        (
            "redis+cluster://localhost",
            "`redis+cluster` is not supported",
        ),
        ("redis://:secret@127.0.0.1:1", "is unreachable"),
    ] {
        let message = RedisResults::open(url, false)
            .await
            .unwrap_err()
            .to_string();
        assert!(message.contains(part), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}
