//! How many jobs a second the whole line carries on this machine with a model that answers at once:
//! `line [COUNT…]`. The real programs, on the embedded file and on a private `RabbitMQ` and Redis that
//! sync every write; from `lapidary submit` until `lapidary results --follow` has read the last result.

#![expect(clippy::print_stdout, reason = "its figures are its output")]

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lapidary_schemas::worker::INSTANT;
use lapidary_tests::{Broker, Program, Redis, own};
use serde_json::{Value, json};

/// Sequences of the worker; it has twice as many jobs in hand.
const SLOTS: &str = "128";
const COUNTS: [usize; 3] = [1_000, 20_000, 200_000];
const START_MAX: Duration = Duration::from_mins(1);

fn main() -> anyhow::Result<()> {
    let counts = std::env::args().skip(1).map(|count| count.parse());
    let mut counts = counts.collect::<Result<Vec<usize>, _>>()?;
    if counts.is_empty() {
        counts = COUNTS.to_vec();
    }
    let folder = tempfile::tempdir()?;
    let file = format!("file:{}", folder.path().join("lapidary.db").display());
    measure("embedded file", &["--broker", &file], &counts)?;
    let (broker, redis) = (Broker::start(), Redis::start());
    let media = format!("file://{}", folder.path().join("media").display());
    let (broker, results) = (broker.url(), redis.url());
    let servers = [
        "--broker",
        &broker,
        "--results",
        &results,
        "--media",
        &media,
    ];
    measure("RabbitMQ and Redis", &servers, &counts)?;
    let memory = redis.cli(&["INFO", "memory"]);
    let held = memory
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"))
        .and_then(|bytes| bytes.trim().parse::<f64>().ok())
        .context("Redis does not say what it holds")?;
    println!("Redis holds {:.0} MB", held / 1e6);
    Ok(())
}

/// Runs batches of these sizes, one after the other, through one worker.
fn measure(name: &str, place: &[&str], counts: &[usize]) -> anyhow::Result<()> {
    let mut worker = own("lapidary-worker");
    worker.args([
        "run",
        "--model",
        INSTANT,
        "--slots",
        SLOTS,
        "--threads",
        "1",
    ]);
    let mut worker = Program::start(worker.args(place), "lapidary-worker");
    worker.wait_for("serving", START_MAX);
    for count in counts {
        let folder = tempfile::tempdir()?;
        let (requests, rows) = (folder.path().join("in"), folder.path().join("out"));
        write_requests(&requests, *count)?;
        let (started, used) = (Instant::now(), cpu_seconds(worker.id())?);
        let said = own("lapidary")
            .arg("submit")
            .arg(&requests)
            .args(place)
            .output()?;
        let batch = String::from_utf8(said.stdout)?;
        ensure!(
            said.status.success(),
            String::from_utf8_lossy(&said.stderr).into_owned()
        );
        let mut follow: Command = own("lapidary");
        follow
            .args(["results", batch.trim(), "--follow"])
            .args(place);
        let followed = follow
            .stdout(File::create(&rows)?)
            .stderr(Stdio::null())
            .status()?;
        ensure!(followed.success(), "results failed");
        let seconds = started.elapsed().as_secs_f64();
        check(&rows, *count)?;
        let jobs = f64::from(u32::try_from(*count)?);
        let cpu = (cpu_seconds(worker.id())? - used) / jobs * 1e6;
        let resident = resident_mib(worker.id())?;
        println!(
            "{name}: {count} jobs in {seconds:.2} s, {:.0} a second; worker: {cpu:.0} µs of processor \
             a job, {resident} MiB resident",
            jobs / seconds
        );
    }
    Ok(())
}

fn write_requests(path: &Path, count: usize) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for number in 0..count {
        let text = format!("What number {number} of the list is, in one or two plain words.");
        let body = json!({
            "model": INSTANT,
            "max_tokens": 8,
            "messages": [{"role": "user", "content": text}],
        });
        let url = "/v1/chat/completions";
        let id = number.to_string();
        let line = json!({"custom_id": id, "method": "POST", "url": url, "body": body});
        writeln!(file, "{line}")?;
    }
    Ok(file.flush()?)
}

/// Every job has one result, and it is an answer.
fn check(rows: &Path, count: usize) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    for line in std::fs::read_to_string(rows)?.lines() {
        let row: Value = serde_json::from_str(line)?;
        ensure!(row["status"] == "succeeded", "not an answer: {line}");
        let id = row["custom_id"]
            .as_str()
            .context("a row has no custom_id")?;
        ensure!(seen.insert(id.to_owned()), "twice: {line}");
    }
    ensure!(
        seen.len() == count,
        "{} results of {count} jobs",
        seen.len()
    );
    Ok(())
}

/// User and system time of a process.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("no process name")?.1;
    // proc(5): utime and stime, fields 14 and 15, in hundredths of a second.
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks = times.map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    Ok(f64::from(ticks.iter().sum::<u32>()) / 100.0)
}

fn resident_mib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmRSS")?;
    Ok(kib.parse::<u64>()? / 1024)
}
