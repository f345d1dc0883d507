//! A short run of `tests/soak`.

use std::time::Duration;

use lapidary_schemas::worker::INSTANT;
use lapidary_tests::soak::{Options, run};

async fn short(on_servers: bool) {
    let options = Options {
        on_servers,
        model: INSTANT.to_owned(),
        jobs: 1_000,
        faults: 8,
        seed: 4,
        workers: 2,
        within: Duration::from_mins(2),
    };
    let report = run(&options).await.unwrap();
    let said = report.json(&options);
    assert!(report.holds(), "{said:#}");
    assert_eq!(
        (report.findings.jobs, report.faults()),
        (1_000, 8),
        "{said:#}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_on_one_file_lose_double_and_leak_nothing() {
    short(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_on_servers_lose_double_and_leak_nothing() {
    short(true).await;
}
