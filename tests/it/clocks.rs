//! Clocks that jump while work is under way: what runs out by time runs out by none of them.

use std::path::{Path, PathBuf};

use lapidary_tests::{Broker, Redis};
use tempfile::TempDir;
use tokio::task::block_in_place;

use crate::place::{Followed, Place, requests};

const DOCUMENTS: usize = 5_000;
/// Results after which a worker's clock jumps, and where to.
const JUMPS: [(usize, &str); 3] = [(400, "+1h"), (1_800, "-1h"), (3_200, "+0")];

/// A clock that its programs look at, and that a test can set.
struct Clock {
    file: PathBuf,
}

impl Clock {
    fn new(folder: &Path) -> Self {
        let clock = Self {
            file: folder.join("clock"),
        };
        clock.set("+0");
        clock
    }

    /// How far it is from the true time.
    fn set(&self, offset: &str) {
        // In one step: nobody must read half of it.
        let written = self.file.with_extension("new");
        std::fs::write(&written, offset).unwrap();
        std::fs::rename(written, &self.file).unwrap();
    }

    /// The place, for programs that go by this clock.
    fn at(&self, place: &Place) -> Place {
        let library = std::fs::read_dir("/usr/lib")
            .unwrap()
            .map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.exists())
            .expect("libfaketime is not installed: run tests/setup");
        let variables = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            // A machine may be done with all the work before a cached offset runs out.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // What a machine measures time by does not jump.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        Place {
            variables: variables.to_vec(),
            ..place.clone()
        }
    }
}

async fn a_clock_jumps(place: Place) {
    let folder = TempDir::new().unwrap();
    let batch = place.submit(&requests(folder.path(), DOCUMENTS));
    let clock = Clock::new(folder.path());
    let mut jumping = clock.at(&place).worker(&["--threads", "1"]);
    let mut steady = place.worker(&["--threads", "1"]);
    let results = place.results().await;
    let mut followed = Followed::new(&results, batch);
    for (count, offset) in JUMPS {
        followed.until(count).await;
        clock.set(offset);
    }
    followed.ended().await;
    let hour = chrono::TimeDelta::minutes(50);
    let moments = followed.rows().iter().map(|row| row.finished_at);
    let (first, last) = (moments.clone().min().unwrap(), moments.max().unwrap());
    assert!(last - first > hour, "no clock jumped: {first} to {last}");
    for row in followed.rows() {
        assert_eq!(row.attempt, 1, "{row:?}");
    }
    followed.texts(DOCUMENTS).await;
    block_in_place(|| jumping.stop());
    place.ends(&mut steady);
    place.holds(&[batch]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_on_one_file_ends_no_loan() {
    let folder = TempDir::new().unwrap();
    a_clock_jumps(Place::on_file(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_on_servers_ends_no_loan() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    a_clock_jumps(Place::on_servers(broker.url(), redis.url(), folder.path())).await;
}
