//! `lapidary dead`: jobs that will not come back by themselves.

use std::io::Write as _;

use chrono::Utc;
use lapidary_schemas::JobId;
use lapidary_transport::Results as _;

use crate::cli::{Dead, DeadCommand};
use crate::config::{Config, Stores};
use crate::dead;
use crate::exit::{Exit, Stop};
use crate::progress::say;

/// Dead letters asked for at once.
const PAGE_ITEMS_MAX: usize = 100;

/// Lists, shows or replays; see `lapidary dead --help`.
pub(super) async fn run(args: Dead) -> Result<Exit, Stop> {
    match args.command {
        DeadCommand::List { max, place } => {
            list(&Config::resolve(&place)?.open().await?, max).await
        }
        DeadCommand::Show { job, place } => {
            show(&Config::resolve(&place)?.open().await?, job).await
        }
        DeadCommand::Replay { job, place } => {
            replay(&Config::resolve(&place)?.open().await?, job).await
        }
    }
}

async fn list(place: &Stores, max: usize) -> Result<Exit, Stop> {
    let mut cursor = String::new();
    let mut left = max;
    let mut out = std::io::stdout().lock();
    while left > 0 {
        let (letters, next) = place
            .results
            .dead_letters(&cursor, left.min(PAGE_ITEMS_MAX))
            .await?;
        if letters.is_empty() {
            break;
        }
        for letter in &letters {
            let name = letter
                .job
                .as_ref()
                .and_then(|job| job.custom_id.as_deref())
                .unwrap_or("-");
            let at = letter.at.format("%Y-%m-%dT%H:%M:%SZ");
            writeln!(
                out,
                "{}  {at}  {} attempts  {name}  {}",
                letter.job_id, letter.attempts, letter.reason
            )?;
        }
        left -= letters.len().min(left);
        cursor = next;
    }
    if left == max {
        say("no dead letters");
    }
    Ok(Exit::Well)
}

async fn show(place: &Stores, id: JobId) -> Result<Exit, Stop> {
    let letter = dead::letter(place, id).await?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &letter).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(Exit::Well)
}

async fn replay(place: &Stores, id: JobId) -> Result<Exit, Stop> {
    let job = dead::replay(place, id, None, Utc::now()).await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", job.id)?;
    Ok(Exit::Well)
}
