//! `lapidary workers` and `status`: what there is at a place.

use std::collections::BTreeSet;
use std::io::Write as _;

use chrono::Utc;
use lapidary_schemas::{Class, WorkerInfo};
use lapidary_transport::{Lane, Queue as _, Results as _};

use super::batch;
use crate::cli::PlaceArgs;
use crate::config::Config;
use crate::exit::{Exit, Stop};
use crate::stores::Stores;

/// Unfinished batches shown.
const BATCHES_MAX: usize = 50;

/// Lists the workers alive.
pub(super) async fn workers(args: PlaceArgs) -> Result<Exit, Stop> {
    let place = Config::resolve(&args)?.open().await?;
    let workers = place.results.workers().await?;
    let mut out = std::io::stdout().lock();
    write_workers(&mut out, &workers)?;
    Ok(if workers.is_empty() {
        Exit::Unavailable
    } else {
        Exit::Well
    })
}

/// Shows queues, workers and unfinished batches.
pub(super) async fn run(args: PlaceArgs) -> Result<Exit, Stop> {
    let place = Config::resolve(&args)?.open().await?;
    let workers = place.results.workers().await?;
    let batches = place.results.open_batches(BATCHES_MAX).await?;
    let mut models: BTreeSet<String> = workers
        .iter()
        .map(|worker| worker.model.name.clone())
        .collect();
    let mut lines = Vec::new();
    for id in batches {
        let Some(batch) = place.results.batch(id).await? else {
            continue;
        };
        let counts = place.results.progress(id).await?;
        models.insert(batch.model.clone());
        lines.push(format!(
            "{id}  {}  {}",
            batch.model,
            batch::summary(&counts)[0]
        ));
    }
    let depths = depths(&place, &models).await?;
    let mut out = std::io::stdout().lock();
    write_workers(&mut out, &workers)?;
    for depth in depths {
        writeln!(out, "{depth}")?;
    }
    match lines.len() {
        0 => writeln!(out, "no unfinished batches")?,
        BATCHES_MAX => writeln!(out, "unfinished batches, the oldest {BATCHES_MAX}:")?,
        count => writeln!(out, "unfinished batches: {count}")?,
    }
    for line in lines {
        writeln!(out, "  {line}")?;
    }
    Ok(Exit::Well)
}

async fn depths(place: &Stores, models: &BTreeSet<String>) -> Result<Vec<String>, Stop> {
    let mut lines = Vec::new();
    for model in models {
        for class in Class::ALL {
            let lane = Lane::Jobs {
                model: model.clone(),
                class,
            };
            let waiting = place.queue.depth(&lane).await?;
            lines.push(format!(
                "queue {model} {}: {waiting} waiting",
                class.as_str()
            ));
        }
    }
    Ok(lines)
}

fn write_workers(out: &mut impl std::io::Write, workers: &[WorkerInfo]) -> Result<(), Stop> {
    if workers.is_empty() {
        writeln!(out, "no workers")?;
    }
    for worker in workers {
        let model = &worker.model;
        let up = Utc::now()
            .signed_duration_since(worker.started_at)
            .num_seconds()
            .max(0);
        writeln!(
            out,
            "worker {}: {} {}, context {} tokens, {} slots, up {up} s{}",
            worker.id,
            model.name,
            model.quantization,
            model.context_tokens_max,
            worker.slots,
            worker
                .listen
                .as_ref()
                .map(|at| format!(", listens on {at}"))
                .unwrap_or_default(),
        )?;
    }
    Ok(())
}
