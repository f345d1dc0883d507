//! What breaks while work is under way: stores out of reach and killed, workers stopped and killed.
//! Nothing is lost, and nothing is there twice.

use std::time::{Duration, Instant};

use lapidary_schemas::{BatchId, Class, Job, JobId};
use lapidary_tests::{Broker, Redis, Wire};
use lapidary_transport::results::{AnyResults, JobState};
use lapidary_transport::{Queue as _, Results as _};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::place::{Followed, MODEL, Place, RUN_MAX, requests};
use crate::samples::job;
use crate::wired::Wired;

const DOCUMENTS: usize = 1_000;
/// Longest time until a worker says what it is waited for.
const SAY_MAX: Duration = Duration::from_mins(1);
/// A worker from which nothing has come for this long waits for a store.
const SILENCE: Duration = Duration::from_secs(3);
/// How long jobs may go on once a worker is told to end, and how long handing them back may take.
const SOFT_STOP: Duration = Duration::from_millis(100);
const HAND_BACK_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_cut_off_from_its_stores_goes_on_where_it_was() {
    let servers = Wired::start().await;
    let direct = servers.direct();
    let results = direct.results().await;
    let batch = direct.submit(&requests(servers.folder.path(), DOCUMENTS));
    let mut worker = servers.behind().worker(&["--exit-when-idle", "1s"]);
    let mut followed = Followed::new(&results, batch);

    followed.until(100).await;
    servers.to_redis.set(Wire::Cut);
    worker.wait_for("part=Results", SAY_MAX);
    servers.to_redis.set(Wire::Open);

    followed.until(400).await;
    servers.to_broker.set(Wire::Cut);
    followed.until_silent(SILENCE).await;
    servers.to_broker.set(Wire::Open);

    followed.until(700).await;
    servers.to_redis.cut_once();
    servers.to_broker.cut_once();

    followed.texts(DOCUMENTS).await;
    assert_eq!(worker.wait(RUN_MAX).code(), Some(0));
    holds(&direct, batch).await;
}

/// Nothing is lost, and nothing is there twice.
async fn holds(place: &Place, batch: BatchId) {
    place.holds(&[batch]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_are_killed_lose_nothing() {
    let mut servers = Wired::start().await;
    let place = servers.direct();
    let batch = place.submit(&requests(servers.folder.path(), DOCUMENTS));
    let mut worker = place.worker(&["--exit-when-idle", "1s"]);

    let results = place.results().await;
    let mut followed = Followed::new(&results, batch);
    followed.until(200).await;
    servers.broker.kill();
    followed.until_silent(SILENCE).await;
    servers.broker.run();
    followed.until(600).await;
    servers.redis.crash();
    // The test's own connection broke with the server, which is there again.
    let results_again = place.results().await;
    followed.through(&results_again).texts(DOCUMENTS).await;
    assert_eq!(worker.wait(RUN_MAX).code(), Some(0));
    holds(&place, batch).await;
}

/// Jobs that take seconds.
fn long_jobs(count: usize) -> Vec<Job> {
    let long = |_| {
        let mut long = job(MODEL, Class::Interactive);
        long.request.max_tokens = Some(1_500);
        long.request.temperature = Some(0.0);
        long
    };
    (0..count).map(long).collect()
}

async fn publish(place: &Place, jobs: &[Job]) -> AnyResults {
    let stores = place.open().await;
    stores.results.register(jobs).await.unwrap();
    stores.queue.publish(jobs).await.unwrap();
    stores.results
}

/// Waits until every one of the jobs is in such a state.
async fn until_all(results: &AnyResults, jobs: &[JobId], reached: impl Fn(&JobState) -> bool) {
    let look = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            let states = results.get(jobs).await.unwrap();
            if states
                .iter()
                .flatten()
                .filter(|state| reached(state))
                .count()
                == jobs.len()
            {
                return;
            }
        }
    };
    tokio::time::timeout(RUN_MAX, look).await.unwrap();
}

async fn a_second_signal_hands_everything_back(place: &Place) {
    let jobs = long_jobs(8);
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let results = publish(place, &jobs).await;
    let mut worker = place.worker(&["--threads", "1", "--soft-stop", "10m"]);
    let running = |state: &JobState| matches!(state, JobState::Running { .. });
    until_all(&results, &ids, running).await;
    worker.signal(Signal::SIGTERM);
    worker.wait_for("stopping: no new jobs", SAY_MAX);
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait(SAY_MAX).code(), Some(0));
    for state in results.get(&ids).await.unwrap() {
        assert_eq!(state, Some(JobState::Waiting { attempts: 0 }));
    }
    // They are on the queue again at once, and no attempt was lost.
    another_finishes(place, &results, &ids).await;
}

/// Another worker finishes these jobs, as their first attempt.
async fn another_finishes(place: &Place, results: &AnyResults, ids: &[JobId]) {
    let mut other = place.worker(&[]);
    let finished = |state: &JobState| matches!(state, JobState::Finished(_));
    until_all(results, ids, finished).await;
    for state in results.get(ids).await.unwrap() {
        let Some(JobState::Finished(result)) = state else {
            panic!("{state:?}")
        };
        assert_eq!((result.attempt, result.failure), (1, None));
    }
    other.stop();
}

/// What has not finished in the time that it gets is handed back, and the worker ends.
async fn a_drain_ends_in_its_time(place: &Place) {
    let jobs = long_jobs(16);
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let results = publish(place, &jobs).await;
    let soft_stop = format!("{}ms", SOFT_STOP.as_millis());
    let mut worker = place.worker(&["--threads", "1", "--soft-stop", &soft_stop]);
    let running = |state: &JobState| matches!(state, JobState::Running { .. });
    until_all(&results, &ids, running).await;
    let told = Instant::now();
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait(RUN_MAX).code(), Some(0));
    let took = told.elapsed();
    assert!(took < SOFT_STOP + HAND_BACK_MAX, "it took {took:?}");
    let mut handed_back = 0;
    for state in results.get(&ids).await.unwrap() {
        match state {
            Some(JobState::Waiting { attempts: 0 }) => handed_back += 1,
            Some(JobState::Finished(result)) => assert_eq!(result.attempt, 1),
            other => panic!("{other:?}"),
        }
    }
    assert!(handed_back > 0, "all were done within {SOFT_STOP:?}");
    eprintln!(
        "drained in {took:?}, {handed_back} of {} handed back",
        ids.len()
    );
    another_finishes(place, &results, &ids).await;
}

/// The first signal lets what runs finish.
async fn a_first_signal_waits_for_what_runs(place: &Place) {
    let jobs = long_jobs(2);
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let results = publish(place, &jobs).await;
    let mut worker = place.worker(&["--soft-stop", "10m"]);
    let running = |state: &JobState| matches!(state, JobState::Running { .. });
    until_all(&results, &ids, running).await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait(RUN_MAX).code(), Some(0));
    let finished = |state: &JobState| matches!(state, JobState::Finished(_));
    until_all(&results, &ids, finished).await;
    assert_eq!(results.workers().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_stop_in_two_steps_on_one_file() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    a_first_signal_waits_for_what_runs(&place).await;
    a_second_signal_hands_everything_back(&place).await;
    a_drain_ends_in_its_time(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_stop_in_two_steps_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    let place = Place::on_servers(broker.url(), redis.url(), folder.path());
    a_first_signal_waits_for_what_runs(&place).await;
    a_second_signal_hands_everything_back(&place).await;
    a_drain_ends_in_its_time(&place).await;
}
