//! How many jobs a second the embedded file carries on this machine: `throughput FOLDER`.

#![expect(clippy::print_stdout, reason = "its figures are its output")]

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use lapidary_schemas::Class;
use lapidary_transport::conformance::samples::{done, jobs, lane};
use lapidary_transport::queue::EmbeddedQueue;
use lapidary_transport::results::{Begin, EmbeddedResults};
use lapidary_transport::{Queue, Results, Settle};

const MODEL: &str = "m";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("throughput FOLDER")?;
    let path = Path::new(&folder).join("throughput.db");
    let path = path.as_path();
    let queue = EmbeddedQueue::open_path(path).await?;
    publish(&queue, 10_000, 100).await?;
    let started = Instant::now();
    let (one, two) = futures::join!(work(path, 5_000), work(path, 5_000));
    report(
        "receive, begin, put_once, settle by 32 on two handles",
        one? + two?,
        started,
    );
    publish(&queue, 1_000_000, 1_000).await?;
    let started = Instant::now();
    report(
        "the same with a million waiting",
        work(path, 3_200).await?,
        started,
    );
    let started = Instant::now();
    let depth = queue.depth(&lane(MODEL, Class::Bulk)).await?;
    println!(
        "depth of {depth}: {:.1} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

async fn publish(queue: &EmbeddedQueue, count: usize, a_call: usize) -> anyhow::Result<()> {
    let jobs = jobs(MODEL, count);
    let started = Instant::now();
    for some in jobs.chunks(a_call) {
        queue.publish(some).await?;
    }
    report(&format!("publish by {a_call}"), count, started);
    Ok(())
}

/// Works `count` jobs off on a handle of its own.
async fn work(path: &Path, count: usize) -> anyhow::Result<usize> {
    let queue = EmbeddedQueue::open_path(path).await?;
    let results = EmbeddedResults::open_path(path).await?;
    let mut worked = 0;
    while worked < count {
        let lent = queue
            .receive(&lane(MODEL, Class::Bulk), 32.min(count - worked))
            .await?;
        worked += lent.len();
        let (receipts, jobs): (Vec<_>, Vec<_>) = lent
            .into_iter()
            .filter_map(|one| Some((one.receipt, one.body.ok()?)))
            .unzip();
        let begun = results.begin(&jobs, "w").await?;
        anyhow::ensure!(
            begun.iter().all(|one| *one == Begin::Attempt(1)),
            "begun before"
        );
        results
            .put_once(&jobs.iter().map(done).collect::<Vec<_>>())
            .await?;
        let settled = receipts
            .into_iter()
            .map(|receipt| (receipt, Settle::Done))
            .collect();
        queue
            .settle(settled)
            .await
            .into_iter()
            .collect::<Result<Vec<()>, _>>()?;
    }
    Ok(worked)
}

fn report(what: &str, count: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds;
    println!("{what}: {count} jobs in {seconds:.2} s, {rate:.0} a second");
}
