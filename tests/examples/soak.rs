//! Many jobs through real programs while they and their servers are harmed:
//! see `tests/soak --help`. Exit status 0 if nothing was lost, duplicated or leaked.

#![expect(clippy::print_stdout, reason = "its report is its output")]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use lapidary_schemas::worker::INSTANT;
use lapidary_tests::soak::{Options, Report, run};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut options = Options {
        on_servers: false,
        model: INSTANT.to_owned(),
        jobs: 2_000,
        faults: 20,
        seed: 1,
        workers: 3,
        within: Duration::from_mins(10),
    };
    let mut as_json = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--json" {
            as_json = true;
            continue;
        }
        let value = arguments
            .next()
            .with_context(|| format!("{name} has no value"))?;
        match name.as_str() {
            "--transport" => {
                options.on_servers = match value.as_str() {
                    "amqp" => true,
                    "file" => false,
                    _ => bail!("--transport is `{value}`, it must be amqp or file"),
                }
            }
            "--model" => options.model = value,
            "--jobs" => options.jobs = value.parse().context(name)?,
            "--faults" => options.faults = value.parse().context(name)?,
            "--seed" => options.seed = value.parse().context(name)?,
            "--workers" => options.workers = value.parse().context(name)?,
            "--minutes" => {
                let minutes: u64 = value.parse().context(name)?;
                options.within = Duration::from_secs(60 * minutes);
            }
            _ => bail!("{name} is not known: see tests/soak --help"),
        }
    }
    let report = run(&options).await.map_err(anyhow::Error::msg)?;
    if as_json {
        println!("{}", report.json(&options));
    } else {
        print(&report, &options);
    }
    Ok(if report.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(report: &Report, options: &Options) {
    let transport = if options.on_servers { "amqp" } else { "file" };
    let (findings, seconds) = (&report.findings, report.took.as_secs());
    println!(
        "{transport}, model {}, seed {}: {} jobs, {} faults in {seconds} s",
        options.model,
        options.seed,
        findings.jobs,
        report.faults()
    );
    for (kind, count) in &report.faults {
        println!("  {kind}: {count}");
    }
    for (what, count) in &findings.results {
        println!("results {what}: {count}");
    }
    println!(
        "lost: {}\nduplicated: {}",
        findings.lost, findings.duplicated
    );
    println!(
        "leaked: {} MiB of memory, {} files, {} connections, {} KV blocks",
        report.leaked_memory_mib,
        report.leaked_files,
        report.leaked_connections,
        report.leaked_blocks
    );
    for what in &findings.wrong {
        println!("wrong: {what}");
    }
}
