//! What must hold at a place once its work is done, whatever broke on the way.

use std::collections::{BTreeMap, HashMap, HashSet};

use lapidary_schemas::{BatchId, BatchState, Class, Job, JobId, JobResult, Status};
use lapidary_transport::results::JobState;
use lapidary_transport::{Lane, Media as _, Place, Queue as _, Results as _};

/// Results read at once.
const PAGE: usize = 500;
/// Dead letters looked at.
const LETTERS_MAX: usize = 10_000;

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Accepted jobs.
    pub jobs: u64,
    /// Jobs that have a result, by status and code.
    pub results: BTreeMap<String, u64>,
    /// Jobs without a result.
    pub lost: u64,
    /// Results beyond a job's first.
    pub duplicated: u64,
    /// Everything else that does not hold, in words.
    pub wrong: Vec<String>,
}

impl Findings {
    /// Whether every job has exactly one result, and all else holds.
    pub fn hold(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.wrong.is_empty()
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }
}

/// Looks at a place where nobody works any more: every job of these batches has exactly one terminal
/// result, counters equal results, nothing waits or runs, nothing is in two places, and no media is
/// there that nobody needs.
///
/// # Errors
/// If the place cannot be asked.
pub async fn check(place: &Place, batches: &[BatchId]) -> Result<Findings, String> {
    let said = |error: &dyn std::error::Error| error.to_string();
    let mut findings = Findings::default();
    let mut models = HashSet::new();
    let mut finished = HashMap::new();
    for id in batches {
        let batch = place
            .results
            .batch(*id)
            .await
            .map_err(|error| said(&error))?;
        let Some(batch) = batch else {
            findings.wrong.push(format!("batch {id} is not there"));
            continue;
        };
        models.insert(batch.model);
        let rows = rows(place, *id).await.map_err(|error| said(&error))?;
        counters(place, *id, &rows, &mut findings)
            .await
            .map_err(|error| said(&error))?;
        finished.extend(rows.into_iter().map(|row| (row.job_id, row)));
    }
    states(place, &finished, &mut findings)
        .await
        .map_err(|error| said(&error))?;
    letters(place, &finished, &mut findings)
        .await
        .map_err(|error| said(&error))?;
    for model in models {
        for class in Class::ALL {
            let model = model.clone();
            let lane = Lane::Jobs { model, class };
            let depth = place
                .queue
                .depth(&lane)
                .await
                .map_err(|error| said(&error))?;
            findings.expect(depth == 0, || format!("{depth} jobs wait on {lane:?}"));
        }
    }
    // Two days from now all that is not pinned is too old to be kept.
    let later = chrono::Utc::now() + chrono::TimeDelta::days(2);
    let orphans = place
        .media
        .collect(later)
        .await
        .map_err(|error| said(&error))?;
    let count = orphans.objects;
    findings.expect(count == 0, || {
        format!("{count} media objects belong to nobody")
    });
    Ok(findings)
}

async fn rows(
    place: &Place,
    batch: BatchId,
) -> Result<Vec<JobResult>, lapidary_transport::results::ResultsError> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = place.results.tail(batch, &cursor, PAGE).await?;
        if page.results.is_empty() {
            return Ok(rows);
        }
        cursor = page.cursor;
        rows.extend(page.results);
    }
}

/// A batch's counters, and that each of its items has one result.
async fn counters(
    place: &Place,
    id: BatchId,
    rows: &[JobResult],
    findings: &mut Findings,
) -> Result<(), lapidary_transport::results::ResultsError> {
    let progress = place.results.progress(id).await?;
    findings.jobs += progress.total;
    findings.expect(progress.state == BatchState::Completed, || {
        format!("batch {id} is {:?}: {progress:?}", progress.state)
    });
    let jobs: HashSet<JobId> = rows.iter().map(|row| row.job_id).collect();
    let items: HashSet<Option<u64>> = rows.iter().map(|row| row.item).collect();
    let distinct = jobs.len().min(items.len());
    findings.duplicated += (rows.len() - distinct) as u64;
    findings.lost += progress.total.saturating_sub(distinct as u64);
    let count = |status: Status| rows.iter().filter(|row| row.status == status).count() as u64;
    for (status, counted) in [
        (Status::Succeeded, progress.succeeded),
        (Status::Filtered, progress.filtered),
        (Status::Failed, progress.failed),
        (Status::Cancelled, progress.cancelled),
        (Status::Expired, progress.expired),
    ] {
        let rows = count(status);
        findings.expect(rows == counted, || {
            format!("batch {id} counts {counted} {status:?}, {rows} results are that")
        });
    }
    let tokens = |of: fn(&JobResult) -> u32| rows.iter().map(|row| u64::from(of(row))).sum::<u64>();
    let read = tokens(|row| row.usage.prompt_tokens);
    let written = tokens(|row| row.usage.completion_tokens);
    let counted = (progress.prompt_tokens, progress.completion_tokens);
    findings.expect(counted == (read, written), || {
        format!("batch {id} counts tokens {counted:?}, its results have {read} and {written}")
    });
    for row in rows {
        let code = row
            .failure
            .as_ref()
            .map_or("", |failure| failure.code.as_str());
        let name = format!("{:?} {code}", row.status).trim_end().to_owned();
        *findings.results.entry(name).or_default() += 1;
    }
    let mut index = 0;
    while place.results.shard(id, index).await?.is_some() {
        let open = place.results.unfinished(id, index).await?.len();
        findings.expect(open == 0, || {
            format!("shard {index} of batch {id} has {open} items without a result")
        });
        index += 1;
    }
    Ok(())
}

/// Where each job stands: it has the result that its batch shows.
async fn states(
    place: &Place,
    finished: &HashMap<JobId, JobResult>,
    findings: &mut Findings,
) -> Result<(), lapidary_transport::results::ResultsError> {
    let ids: Vec<JobId> = finished.keys().copied().collect();
    for some in ids.chunks(PAGE) {
        let states = place.results.get(some).await?;
        for (id, state) in some.iter().zip(states) {
            // What has moved beside its batch stands nowhere else.
            let same = match &state {
                None => true,
                Some(JobState::Finished(result)) => Some(&**result) == finished.get(id),
                Some(_) => false,
            };
            findings.expect(same, || format!("job {id} stands elsewhere too: {state:?}"));
        }
    }
    Ok(())
}

/// Whoever is dead has failed.
async fn letters(
    place: &Place,
    finished: &HashMap<JobId, JobResult>,
    findings: &mut Findings,
) -> Result<(), lapidary_transport::results::ResultsError> {
    let (letters, _) = place.results.dead_letters("", LETTERS_MAX).await?;
    for letter in letters {
        let Some(result) = finished.get(&letter.job_id) else {
            continue;
        };
        let of = |job: &Job| job.id == letter.job_id;
        let sound = result.status == Status::Failed && letter.job.as_ref().is_none_or(of);
        findings.expect(sound, || {
            format!("{result:?} has the dead letter {letter:?}")
        });
    }
    Ok(())
}
