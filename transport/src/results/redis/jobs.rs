//! Jobs: registered, begun, handed back, finished, cancelled, replaced.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use lapidary_schemas::{Job, JobId, Status};
use redis::Script;
use uuid::Uuid;

use super::RedisResults;
use super::batches::now;
use super::codec::{About, LiveJob, Unworked, home_of, home_of_result, read, write, write_result};
use super::keys::{DEAD, Home, OPEN, REGISTERED};
use crate::results::{Begin, Finished, JobState, Put, ResultsError};

/// Registered jobs looked at in one step when listing the stale ones.
const LOOK: isize = 256;

/// What the script says of a job that was begun: the attempt, and how many workers were lost on it.
fn begun(numbers: &str) -> Result<Begin, ResultsError> {
    let (attempt, lost) = numbers.split_once(' ').unwrap_or((numbers, "0"));
    let attempt = read("attempt", attempt)?;
    Ok(match read("workers lost", lost)? {
        0 => Begin::Attempt(attempt),
        lost => Begin::Suspect { attempt, lost },
    })
}

/// Positions of the calls' items by home, homes in order of appearance.
fn by_home(homes: impl IntoIterator<Item = Home>) -> Vec<(Home, Vec<usize>)> {
    let mut groups: Vec<(Home, Vec<usize>)> = Vec::new();
    let mut seen: HashMap<Home, usize> = HashMap::new();
    for (index, home) in homes.into_iter().enumerate() {
        let group = *seen.entry(home).or_insert_with(|| {
            groups.push((home, Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(index);
    }
    groups
}

/// Answers of the groups in the order of the call.
fn in_order<T>(groups: &[(Home, Vec<usize>)], answers: Vec<Vec<T>>) -> Vec<T> {
    let indexes = groups
        .iter()
        .flat_map(|(_, indexes)| indexes.iter().copied());
    let mut all: Vec<(usize, T)> = indexes.zip(answers.into_iter().flatten()).collect();
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, answer)| answer).collect()
}

impl RedisResults {
    pub(super) async fn register_(&self, jobs: &[Job]) -> Result<(), ResultsError> {
        let mut index = redis::cmd("ZADD");
        index.arg(REGISTERED).arg("NX");
        for job in jobs {
            index.arg(now()).arg(home_of(job).entry(job.id));
        }
        if jobs.is_empty() {
            return Ok(());
        }
        self.store.query::<()>(&index).await?;
        let groups = by_home(jobs.iter().map(home_of));
        try_join_all(groups.iter().map(|(home, indexes)| async move {
            let mut args = Vec::with_capacity(indexes.len() * 2);
            for index in indexes {
                args.extend([jobs[*index].id.to_string(), write("job", &jobs[*index])?]);
            }
            self.store
                .run::<()>(&self.scripts.register, &home.keys(), &args)
                .await
        }))
        .await?;
        self.locate(jobs.iter().map(|job| (job.id, home_of(job))))
            .await?;
        self.store.replicated().await
    }

    pub(super) async fn stale_(
        &self,
        before: DateTime<Utc>,
        max: usize,
    ) -> Result<Vec<Job>, ResultsError> {
        let mut stale = Vec::new();
        let mut start = 0;
        while stale.len() < max {
            let mut range = redis::cmd("ZRANGE");
            range
                .arg(REGISTERED)
                .arg("-inf")
                .arg(format!("({}", before.timestamp_millis()));
            range.arg("BYSCORE").arg("LIMIT").arg(start).arg(LOOK);
            let entries: Vec<String> = self.store.query(&range).await?;
            if entries.is_empty() {
                break;
            }
            start += LOOK;
            let known: Vec<_> = entries
                .iter()
                .filter_map(|entry| Home::of_entry(entry))
                .collect();
            let rows = self.rows(&known).await?;
            let mut gone = redis::cmd("ZREM");
            gone.arg(REGISTERED);
            let mut removed = 0;
            for ((home, id), [result, live, _, job]) in known.into_iter().zip(rows) {
                // The entry is written first: without a job its registration is under way or failed.
                if !result.is_empty() {
                    gone.arg(home.entry(id));
                    removed += 1;
                    continue;
                }
                let live: LiveJob = if live.is_empty() {
                    LiveJob::default()
                } else {
                    read("job", &live)?
                };
                if live.r.is_none() && !job.is_empty() {
                    stale.push(read("job", &job)?);
                }
            }
            if removed > 0 {
                self.store.query::<()>(&gone).await?;
                start -= removed;
            }
        }
        stale.truncate(max);
        Ok(stale)
    }

    pub(super) async fn begin_(
        &self,
        jobs: &[Job],
        worker: &str,
    ) -> Result<Vec<Begin>, ResultsError> {
        let call = Uuid::now_v7().to_string();
        let groups = by_home(jobs.iter().map(home_of));
        let answers = try_join_all(groups.iter().map(|(home, indexes)| {
            let call = call.clone();
            async move {
                let mut args = vec![worker.to_owned(), call];
                for job in indexes.iter().map(|index| &jobs[*index]) {
                    args.extend([job.id.to_string(), write("job", &LiveJob::of(job))?]);
                }
                self.store
                    .run::<Vec<String>>(&self.scripts.begin, &home.keys(), &args)
                    .await
            }
        }))
        .await?;
        self.locate(jobs.iter().map(|job| (job.id, home_of(job))))
            .await?;
        let answers = in_order(&groups, answers);
        let ended = jobs.iter().zip(&answers).filter_map(|(job, answer)| {
            let status = match answer.as_str() {
                "cancelled" => Status::Cancelled,
                "expired" => Status::Expired,
                _ => return None,
            };
            Some(Finished {
                result: Unworked::of_job(job).result(status, Utc::now()),
                dead_letter: None,
            })
        });
        // A crash before this leaves them as they are: they end when they are begun again.
        let ended: Vec<Finished> = ended.collect();
        if !ended.is_empty() {
            self.put_once_(&ended).await?;
        }
        let answers = answers.into_iter().map(|answer| match answer.as_str() {
            "F" => Ok(Begin::Finished),
            "paused" => Ok(Begin::Paused),
            "cancelled" | "expired" => Ok(Begin::Cancelled),
            numbers => begun(numbers),
        });
        answers.collect()
    }

    /// Runs a script on the jobs that it is given after their worker's name.
    pub(super) async fn of_worker(
        &self,
        script: &Script,
        jobs: &[JobId],
        worker: &str,
    ) -> Result<(), ResultsError> {
        let groups = by_home(self.homes(jobs).await?);
        try_join_all(groups.iter().map(|(home, indexes)| async move {
            let mut args = vec![worker.to_owned()];
            args.extend(indexes.iter().map(|index| jobs[*index].to_string()));
            self.store.run::<()>(script, &home.keys(), &args).await
        }))
        .await?;
        Ok(())
    }

    pub(super) async fn put_once_(&self, finished: &[Finished]) -> Result<Vec<Put>, ResultsError> {
        self.index_letters(finished).await?;
        let groups = by_home(finished.iter().map(|one| home_of_result(&one.result)));
        let answers = try_join_all(groups.iter().map(|(home, indexes)| async move {
            let mut args = vec![now()];
            for one in indexes.iter().map(|index| &finished[*index]) {
                let letter = one.dead_letter.as_ref();
                args.extend([
                    one.result.job_id.to_string(),
                    write("result", &About::of_result(&one.result))?,
                    write_result(&one.result)?,
                    letter.map_or(Ok(String::new()), |letter| write("dead letter", letter))?,
                ]);
            }
            self.store
                .run::<Vec<String>>(&self.scripts.put, &home.keys(), &args)
                .await
        }))
        .await?;
        let homes = finished
            .iter()
            .map(|one| (one.result.job_id, home_of_result(&one.result)));
        // Those begun here were written down then.
        let unknown: Vec<_> = {
            let remembered = self.remembered();
            let unknown = homes.filter(|(id, _)| !remembered.contains_key(id));
            unknown.collect()
        };
        self.locate(unknown.into_iter()).await?;
        self.store.replicated().await?;
        let put = |answer: String| match answer.as_str() {
            "" => Ok(Put::Stored),
            "@" => Ok(Put::Already(None)),
            result => read("result", result).map(|result| Put::Already(Some(Box::new(result)))),
        };
        in_order(&groups, answers).into_iter().map(put).collect()
    }

    /// The index first: a letter that is stored can always be listed.
    async fn index_letters(&self, finished: &[Finished]) -> Result<(), ResultsError> {
        let mut index = redis::cmd("ZADD");
        index.arg(DEAD).arg("NX");
        let mut letters = 0;
        for one in finished {
            if let Some(letter) = &one.dead_letter {
                let home = home_of_result(&one.result);
                index
                    .arg(letter.at.timestamp_millis())
                    .arg(home.entry(letter.job_id));
                letters += 1;
            }
        }
        if letters == 0 {
            Ok(())
        } else {
            self.store.query(&index).await
        }
    }

    pub(super) async fn append_tokens_(
        &self,
        job: JobId,
        offset: usize,
        text: &str,
    ) -> Result<(), ResultsError> {
        let home = self.home(job).await?;
        let args = [job.to_string(), offset.to_string(), text.to_owned()];
        let length: i64 = self
            .store
            .run(&self.scripts.append, &home.keys(), &args)
            .await?;
        if length >= 0 && i64::try_from(offset).is_ok_and(|offset| offset > length) {
            let message = format!("text of job {job} has {length} bytes, not {offset}");
            return Err(ResultsError::Conflict { message });
        }
        Ok(())
    }

    /// Result, live entry, partial text and registered job of each.
    async fn rows(&self, jobs: &[(Home, JobId)]) -> Result<Vec<[String; 4]>, ResultsError> {
        let groups = by_home(jobs.iter().map(|(home, _)| *home));
        let answers = try_join_all(groups.iter().map(|(home, indexes)| async move {
            let ids: Vec<String> = indexes.iter().map(|i| jobs[*i].1.to_string()).collect();
            let flat: Vec<String> = self
                .store
                .run(&self.scripts.job, &home.keys(), &ids)
                .await?;
            let mut flat = flat.into_iter();
            Ok::<_, ResultsError>(
                ids.iter()
                    .map(|_| std::array::from_fn(|_| flat.next().unwrap_or_default()))
                    .collect::<Vec<[String; 4]>>(),
            )
        }))
        .await?;
        Ok(in_order(&groups, answers))
    }

    async fn located(&self, jobs: &[JobId]) -> Result<Vec<(Home, JobId)>, ResultsError> {
        Ok(self
            .homes(jobs)
            .await?
            .into_iter()
            .zip(jobs.iter().copied())
            .collect())
    }

    pub(super) async fn get_(&self, jobs: &[JobId]) -> Result<Vec<Option<JobState>>, ResultsError> {
        let located = self.located(jobs).await?;
        let rows = self
            .rows(&located)
            .await?
            .into_iter()
            .map(|[result, live, partial, job]| {
                if !result.is_empty() {
                    return Ok(Some(JobState::Finished(Box::new(read("result", &result)?))));
                }
                if live.is_empty() {
                    return Ok((!job.is_empty()).then_some(JobState::Waiting { attempts: 0 }));
                }
                let live: LiveJob = read("job", &live)?;
                Ok(Some(match live.r {
                    Some(worker) => JobState::Running {
                        worker,
                        attempt: live.a,
                        partial,
                    },
                    None => JobState::Waiting { attempts: live.a },
                }))
            });
        rows.collect()
    }

    pub(super) async fn cancel_jobs_(&self, jobs: &[JobId]) -> Result<Vec<bool>, ResultsError> {
        let moment = Utc::now();
        let located = self.located(jobs).await?;
        let rows = self.rows(&located).await?;
        let cancelling =
            located
                .into_iter()
                .zip(rows)
                .map(|((home, id), [_, live, _, job])| async move {
                    let unworked = if !job.is_empty() {
                        Unworked::of_job(&read("job", &job)?)
                    } else if live.is_empty() {
                        Unworked {
                            id,
                            home,
                            item: None,
                            custom_id: None,
                        }
                    } else {
                        let live: LiveJob = read("job", &live)?;
                        let item = live.i.and_then(|item| u64::try_from(item).ok());
                        Unworked {
                            id,
                            home,
                            item,
                            custom_id: live.c,
                        }
                    };
                    let result = unworked.result(Status::Cancelled, moment);
                    let args = [
                        now(),
                        id.to_string(),
                        write("result", &About::of_result(&result))?,
                        write("result", &result)?,
                    ];
                    self.store
                        .run::<bool>(&self.scripts.cancel_job, &home.keys(), &args)
                        .await
                });
        try_join_all(cancelling).await
    }

    pub(super) async fn cancelled_(&self, jobs: &[JobId]) -> Result<Vec<bool>, ResultsError> {
        let groups = by_home(self.homes(jobs).await?);
        let answers = try_join_all(groups.iter().map(|(home, indexes)| async move {
            let ids: Vec<String> = indexes
                .iter()
                .map(|index| jobs[*index].to_string())
                .collect();
            self.store
                .run::<Vec<bool>>(&self.scripts.cancelled, &home.keys(), &ids)
                .await
        }))
        .await?;
        Ok(in_order(&groups, answers))
    }

    pub(super) async fn replace_(&self, job: &Job) -> Result<(), ResultsError> {
        let conflict = |message| Err(ResultsError::Conflict { message });
        let Some(old) = job.replaces else {
            return conflict(format!("job {} replaces no job", job.id));
        };
        let home = match home_of(job) {
            Home::Single(_) => Home::Single(old),
            batch @ Home::Batch(_) => batch,
        };
        let rows = self.rows(&[(home, old)]).await?;
        let result = match rows.into_iter().next() {
            Some([result, ..]) if !result.is_empty() => Some(read("result", &result)?),
            _ => self.moved(job.batch_id, job.item, old).await?,
        };
        let Some(result) = result else {
            return conflict(format!(
                "job {old} is not finished, so nothing can replace it"
            ));
        };
        let about = About::of_result(&result);
        let is_batch = matches!(home, Home::Batch(_));
        if let Home::Batch(batch) = home {
            let mut open = redis::cmd("ZADD");
            open.arg(OPEN).arg("NX").arg(now()).arg(batch.to_string());
            self.store.query::<()>(&open).await?;
        }
        let args = [
            now(),
            old.to_string(),
            job.id.to_string(),
            write("job", job)?,
            write("result", &about)?,
            if is_batch { "1" } else { "0" }.to_owned(),
        ];
        let answer: String = self
            .store
            .run(&self.scripts.replace, &home.keys(), &args)
            .await?;
        if answer != "OK" {
            return conflict(format!("job {old} {answer}"));
        }
        self.register_(std::slice::from_ref(job)).await
    }
}
