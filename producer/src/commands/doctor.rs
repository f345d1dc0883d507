//! `lapidary doctor`: what is wrong with a place, and what to do.

mod held;
mod policies;

use std::collections::BTreeMap;
use std::io::Write as _;

use lapidary_schemas::WorkerInfo;
use lapidary_transport::doctor::{Finding, Verdict, examine};
use lapidary_transport::results::ResultsError;
use lapidary_transport::{AnyResults, Results as _};
use serde_json::json;

use crate::cli::Doctor;
use crate::config::Config;
use crate::exit::{Exit, Stop};

/// Examines a place; see `lapidary doctor --help`.
pub(super) async fn run(args: Doctor) -> Result<Exit, Stop> {
    let urls = Config::resolve(&args.place)?.urls;
    let mut findings = examine(&urls).await;
    let mut consumer_timeout_s = None;
    let is_amqp = urls.broker.starts_with("amqp");
    if is_amqp {
        let told = policies::told(args.management.as_deref(), &urls.broker).await;
        findings.extend(told.findings);
        consumer_timeout_s = told.consumer_timeout_s;
    }
    let results = urls.results.as_ref().unwrap_or(&urls.broker);
    // One that loses what it confirms is asked all the same.
    match AnyResults::open(results, true).await {
        Ok(results) => {
            if is_amqp {
                findings.push(held::judged(&results, consumer_timeout_s).await);
            }
            findings.push(workers(&results).await);
        }
        Err(error) => findings.push(unasked(&error)),
    }
    let worst = findings.iter().map(|finding| finding.verdict).max();
    let is_bad = worst == Some(Verdict::Bad);
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json!({"ok": !is_bad, "findings": findings}))?;
    } else {
        for finding in &findings {
            write_finding(&mut out, finding)?;
        }
    }
    Ok(if is_bad { Exit::Failed } else { Exit::Well })
}

fn write_finding(out: &mut impl std::io::Write, finding: &Finding) -> std::io::Result<()> {
    let mark = match finding.verdict {
        Verdict::Good => "good   ",
        Verdict::Unknown => "unknown",
        Verdict::Warning => "warning",
        Verdict::Bad => "bad    ",
    };
    writeln!(out, "{mark}  {}: {}", finding.check, finding.message)?;
    if let Some(advice) = &finding.advice {
        writeln!(out, "         {advice}")?;
    }
    Ok(())
}

/// Who serves.
async fn workers(results: &AnyResults) -> Finding {
    match results.workers().await {
        Ok(workers) => judged(&workers),
        Err(error) => unasked(&error),
    }
}

fn unasked(error: &ResultsError) -> Finding {
    let message = format!("cannot be asked for: {error}");
    Finding::unknown("workers", message, "mend what is bad above")
}

fn judged(workers: &[WorkerInfo]) -> Finding {
    let mut weights: BTreeMap<&str, &str> = BTreeMap::new();
    for worker in workers {
        let model = &worker.model;
        let first = weights.entry(&model.name).or_insert(&model.weights_sha256);
        if *first != model.weights_sha256 {
            return Finding::warning(
                "workers",
                format!("workers serve `{}` with different weights", model.name),
                "give every worker of a model the same files: the same request gets different answers",
            );
        }
    }
    if workers.is_empty() {
        let advice = "start one: `lapidary-worker run`";
        return Finding::warning("workers", "there is none, so nothing is answered", advice);
    }
    let models: Vec<&str> = weights.into_keys().collect();
    let count = workers.len();
    Finding::good("workers", format!("{count} serve {}", models.join(", ")))
}
