//! Jobs that workers were lost on, and a worker whose engine breaks down.

use lapidary_schemas::{FailureCode, Status};
use lapidary_transport::Results as _;
use lapidary_transport::results::{Begin, JobState};

use super::{Bench, PATIENCE, job};

#[tokio::test]
async fn a_job_that_workers_were_lost_on_runs_once_more_and_then_no_more() {
    let bench = Bench::start().await;
    let (once, twice) = (job("Describe a lake.", 4), job("Describe a hill.", 4));
    let jobs = [once.clone(), twice.clone()];
    let results = &bench.line.stores.results;
    results.begin(&jobs, "first").await.unwrap();
    let begun = results.begin(&jobs[1..], "second").await.unwrap();
    let (attempt, lost) = (2, 1);
    assert_eq!(begun, [Begin::Suspect { attempt, lost }]);
    bench.publish(&jobs).await;
    bench.consume();
    let once = bench.result(once.id).await;
    assert_eq!((once.status, once.attempt), (Status::Succeeded, 2));
    let twice = bench.result(twice.id).await;
    let failure = twice.failure.unwrap();
    assert_eq!(failure.code, FailureCode::WorkerLost, "{failure}");
    let dead = results.dead_letter(twice.job_id).await.unwrap();
    assert_eq!(dead.unwrap().attempts, 3);
    bench.drain().await;
}

#[tokio::test]
async fn nothing_is_begun_once_the_engine_has_broken_down() {
    let bench = Bench::start().await;
    let (fresh, suspect) = (job("Describe a lake.", 4), job("Describe a hill.", 4));
    let results = &bench.line.stores.results;
    let suspected = std::slice::from_ref(&suspect);
    results.begin(suspected, "lost").await.unwrap();
    bench.line.engine.give_up("it hangs");
    bench.publish(&[fresh.clone(), suspect.clone()]).await;
    bench.consume();
    let both_there = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
        while bench.line.running.entered() < 2 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, both_there).await.unwrap();
    bench.drain().await;
    let waiting = JobState::Waiting { attempts: 0 };
    assert_eq!(bench.state(fresh.id).await, waiting);
    // As whoever was lost on it left it.
    let state = bench.state(suspect.id).await;
    let left = matches!(&state, JobState::Running { worker, attempt: 1, .. } if worker == "lost");
    assert!(left, "{state:?}");
}
