//! Programs that are stopped, ended and killed at each point of a job's way: whatever happens where, every
//! job has exactly one result.

use std::time::Duration;

use lapidary_schemas::Status;
use lapidary_tests::{Broker, Program, Redis, invariants};
use lapidary_transport::failpoint::Failpoint;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::task::{JoinSet, block_in_place};

use crate::place::{Followed, Place, RUN_MAX};
use crate::poison::{instant_requests, plain, submit};

const JOBS: usize = 20;
/// With a heartbeat this short, a broker soon takes jobs back from a process that stands still.
const HEARTBEAT_S: u32 = 2;
/// Longer than a lease and than a session of the file.
const SILENCE: Duration = Duration::from_secs(25);
const WORKER: [&str; 4] = ["--slots", "8", "--threads", "1"];

/// Who is harmed, and where.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Worker(Failpoint),
    Gateway(Failpoint),
}

/// Workers pass every point but those of a submission; the gateway feeds.
fn victims() -> impl Iterator<Item = Victim> {
    let gateway = [Failpoint::Feeding, Failpoint::Fed].map(Victim::Gateway);
    let submission = [Failpoint::Submitting, Failpoint::Submitted];
    Failpoint::ALL
        .into_iter()
        .filter(move |point| !submission.contains(point))
        .map(Victim::Worker)
        .chain(gateway)
}

impl Victim {
    fn start(self, place: &Place) -> Program {
        match self {
            Self::Worker(point) => {
                let arguments = [&WORKER[..], &["--unsafe-failpoints", point.as_str()]];
                place.instant(&arguments.concat())
            }
            Self::Gateway(point) => place.gateway(&["--unsafe-failpoints", point.as_str()]),
        }
    }
}

/// Harms a program when a job is at its point, and lets a worker that nobody harms do the rest.
async fn harmed(place: Place, victim: Victim, signal: Signal) {
    let folder = TempDir::new().unwrap();
    let batch = submit(&place, &instant_requests(folder.path(), &plain(JOBS)));
    // Before somebody stands still who may be writing the file.
    let results = place.results().await;
    let mut harmed = victim.start(&place);
    // It says so and stops; a point that is not reached fails the test.
    block_in_place(|| harmed.wait_for("failpoint reached", RUN_MAX));
    block_in_place(|| harmed.wait_stopped());
    match signal {
        Signal::SIGKILL => harmed.kill(),
        Signal::SIGTERM => {
            harmed.signal(Signal::SIGTERM);
            harmed.signal(Signal::SIGCONT);
            let status = block_in_place(|| harmed.wait(RUN_MAX));
            assert_eq!(status.code(), Some(0), "{victim:?}");
        }
        // It stands still already.
        _ => {}
    }
    let mut other = place.instant(&WORKER);
    let mut followed = Followed::new(&results, batch);
    if signal == Signal::SIGSTOP {
        // Others take its jobs over, unless it holds the file's lock. Then it goes on.
        followed.ended_or_silent(SILENCE).await;
        harmed.signal(Signal::SIGCONT);
    }
    followed.ended().await;
    for row in followed.rows() {
        let attempts = if signal == Signal::SIGTERM { 1 } else { 2 };
        let sound = row.status == Status::Succeeded && row.attempt <= attempts;
        assert!(sound, "{victim:?}, {signal}: {row:?}");
    }
    if signal == Signal::SIGSTOP {
        block_in_place(|| harmed.stop());
    }
    block_in_place(|| other.stop());
    // What was published twice is still on the queue.
    let last = [&WORKER[..], &["--exit-when-idle", "1s"]].concat();
    let status = block_in_place(|| place.instant(&last).wait(RUN_MAX));
    assert_eq!(status.code(), Some(0), "{victim:?}, {signal}");
    let findings = invariants::check(&place.open().await, &[batch])
        .await
        .unwrap();
    assert!(findings.hold(), "{victim:?}, {signal}: {findings:?}");
    assert_eq!(findings.jobs, JOBS as u64);
}

/// All points at once, one signal after the other.
async fn matrix(place: impl Fn(usize) -> Place) {
    let mut number = 0;
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSTOP] {
        let mut cases = JoinSet::new();
        for victim in victims() {
            cases.spawn(harmed(place(number), victim, signal));
            number += 1;
        }
        cases.join_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harm_at_any_point_on_one_file_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let place = |number: usize| {
        let folder = folder.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        Place::on_file(&folder)
    };
    matrix(place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harm_at_any_point_on_servers_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    let hosts = broker.hosts(3 * victims().count());
    let place = |number: usize| {
        let (port, host) = (broker.port(), &hosts[number]);
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/{host}?heartbeat={HEARTBEAT_S}");
        let folder = folder.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        Place::on_servers(url, redis.database(number), &folder)
    };
    matrix(place).await;
}
