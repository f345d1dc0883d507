//! `lapidary dead`: jobs that will not come back by themselves.

use std::io::Write as _;

use chrono::{DateTime, Utc};
use lapidary_schemas::JobId;
use lapidary_transport::Results as _;
use lapidary_transport::results::DeadLetter;

use crate::cli::{Dead, DeadCommand, DeadFilter};
use crate::config::Config;
use crate::dead;
use crate::exit::{Exit, Stop};
use crate::progress::say;
use crate::stores::Stores;

/// Dead letters asked for at once.
const PAGE_ITEMS_MAX: usize = 100;

/// Lists, shows, replays or forgets; see `lapidary dead --help`.
pub(super) async fn run(args: Dead) -> Result<Exit, Stop> {
    match args.command {
        DeadCommand::List { max, filter, place } => {
            list(&Config::resolve(&place)?.open().await?, max, &filter).await
        }
        DeadCommand::Show { job, place } => {
            show(&Config::resolve(&place)?.open().await?, job).await
        }
        DeadCommand::Replay { job, place } => {
            replay(&Config::resolve(&place)?.open().await?, job).await
        }
        DeadCommand::Drop {
            jobs,
            all: _,
            filter,
            place,
        } => forget(&Config::resolve(&place)?.open().await?, jobs, &filter).await,
    }
}

async fn list(place: &Stores, max: usize, filter: &DeadFilter) -> Result<Exit, Stop> {
    let now = Utc::now();
    let mut cursor = String::new();
    let mut left = max;
    let mut out = std::io::stdout().lock();
    while left > 0 {
        let (letters, next) = place.results.dead_letters(&cursor, PAGE_ITEMS_MAX).await?;
        if letters.is_empty() {
            break;
        }
        let matching = letters
            .iter()
            .filter(|letter| is_meant(letter, filter, now));
        for letter in matching.take(left) {
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
            left -= 1;
        }
        cursor = next;
    }
    if left == max {
        say("no dead letters");
    }
    Ok(Exit::Well)
}

/// Whether a filter means a letter.
fn is_meant(letter: &DeadLetter, filter: &DeadFilter, now: DateTime<Utc>) -> bool {
    let DeadFilter {
        batch,
        model,
        reason,
        older_than,
    } = filter;
    let job = letter.job.as_ref();
    let age = (now - letter.at).to_std().unwrap_or_default();
    batch.is_none_or(|batch| job.and_then(|job| job.batch_id) == Some(batch))
        && model
            .as_ref()
            .is_none_or(|model| job.is_some_and(|job| job.model == *model))
        && reason
            .as_ref()
            .is_none_or(|reason| letter.reason.contains(reason))
        && older_than.is_none_or(|older_than| age > older_than)
}

/// Forgets those that are named, or all that a filter means.
async fn forget(place: &Stores, mut jobs: Vec<JobId>, filter: &DeadFilter) -> Result<Exit, Stop> {
    for job in &jobs {
        dead::letter(place, *job).await?;
    }
    if jobs.is_empty() {
        let (now, mut cursor) = (Utc::now(), String::new());
        loop {
            let (letters, next) = place.results.dead_letters(&cursor, PAGE_ITEMS_MAX).await?;
            if letters.is_empty() {
                break;
            }
            let meant = letters
                .iter()
                .filter(|letter| is_meant(letter, filter, now));
            jobs.extend(meant.map(|letter| letter.job_id));
            cursor = next;
        }
    }
    let mut forgotten = 0_u64;
    for job in jobs {
        // Somebody else may have taken it meanwhile.
        let taken = place.results.take_dead_letter(job).await?;
        forgotten += u64::from(taken.is_some());
    }
    say(&format!("{forgotten} dead letters forgotten"));
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
