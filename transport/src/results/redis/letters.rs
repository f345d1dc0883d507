//! Dead letters, workers and elections.

use std::time::Duration;

use lapidary_schemas::{JobId, WorkerInfo};

use super::RedisResults;
use super::codec::{read, write};
use super::keys::{DEAD, Home, WORKERS, lease};
use crate::results::{DeadLetter, Lease, ResultsError};

pub(super) fn milliseconds(ttl: Duration) -> String {
    ttl.as_millis().max(1).to_string()
}

impl RedisResults {
    pub(super) async fn dead_letters_(
        &self,
        cursor: &str,
        max: usize,
    ) -> Result<(Vec<DeadLetter>, String), ResultsError> {
        let (mut letters, mut cursor) = (Vec::new(), cursor.to_owned());
        while letters.len() < max {
            let page = self.letter_entries(&cursor, max - letters.len()).await?;
            let Some((last, score)) = page.last().cloned() else {
                break;
            };
            let located: Vec<_> = page
                .iter()
                .filter_map(|(entry, _)| Home::of_entry(entry))
                .collect();
            let mut pipe = redis::pipe();
            for (home, id) in &located {
                pipe.hget(&home.keys()[6], id.to_string());
            }
            let texts: Vec<Option<String>> = self.store.query_pipe(&pipe).await?;
            for text in texts.into_iter().flatten() {
                letters.push(read("dead letter", &text)?);
            }
            cursor = format!("{score} {last}");
        }
        Ok((letters, cursor))
    }

    /// Entries of the index behind the cursor, newest first, each with its moment in ms.
    async fn letter_entries(
        &self,
        cursor: &str,
        max: usize,
    ) -> Result<Vec<(String, i64)>, ResultsError> {
        let (newest, after) = match cursor.split_once(' ') {
            Some((score, entry)) => (score.to_owned(), Some(entry)),
            None => ("+inf".to_owned(), None),
        };
        let mut entries: Vec<(String, i64)> = Vec::new();
        // Those of the very moment of the cursor are read again, to pass over the ones seen.
        let mut start = 0;
        while entries.len() < max {
            let mut range = redis::cmd("ZRANGE");
            range
                .arg(DEAD)
                .arg(&newest)
                .arg("-inf")
                .arg("BYSCORE")
                .arg("REV");
            range.arg("LIMIT").arg(start).arg(max).arg("WITHSCORES");
            let found: Vec<(String, i64)> = self.store.query(&range).await?;
            if found.is_empty() {
                break;
            }
            start += max;
            entries.extend(found.into_iter().filter(|(entry, score)| {
                after.is_none_or(|after| newest.parse() != Ok(*score) || entry.as_str() < after)
            }));
        }
        entries.truncate(max);
        Ok(entries)
    }

    pub(super) async fn dead_letter_(
        &self,
        job: JobId,
    ) -> Result<Option<DeadLetter>, ResultsError> {
        let home = self.home(job).await?;
        let mut get = redis::cmd("HGET");
        get.arg(&home.keys()[6]).arg(job.to_string());
        let text: Option<String> = self.store.query(&get).await?;
        text.map(|text| read("dead letter", &text)).transpose()
    }

    pub(super) async fn take_dead_letter_(
        &self,
        job: JobId,
    ) -> Result<Option<DeadLetter>, ResultsError> {
        let home = self.home(job).await?;
        let args = [job.to_string()];
        let text: Option<String> = self
            .store
            .run_once(&self.scripts.take_letter, &home.keys(), &args)
            .await?;
        let mut unlist = redis::cmd("ZREM");
        unlist.arg(DEAD).arg(home.entry(job));
        self.store.query::<()>(&unlist).await?;
        text.map(|text| read("dead letter", &text)).transpose()
    }

    async fn announcements(&self, args: [String; 3]) -> Result<Vec<WorkerInfo>, ResultsError> {
        let keys = [WORKERS.to_owned()];
        let living: Vec<String> = self.store.run(&self.scripts.workers, &keys, &args).await?;
        living.iter().map(|text| read("worker", text)).collect()
    }

    pub(super) async fn announce_(
        &self,
        worker: &WorkerInfo,
        ttl: Duration,
    ) -> Result<(), ResultsError> {
        let args = [
            worker.id.clone(),
            write("worker", worker)?,
            milliseconds(ttl),
        ];
        self.announcements(args).await.map(|_| ())
    }

    pub(super) async fn retire_(&self, worker: &str) -> Result<(), ResultsError> {
        let args = [worker.to_owned(), String::new(), "0".to_owned()];
        self.announcements(args).await.map(|_| ())
    }

    pub(super) async fn workers_(&self) -> Result<Vec<WorkerInfo>, ResultsError> {
        self.announcements([String::new(), String::new(), String::new()])
            .await
    }

    pub(super) async fn lease_(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, ResultsError> {
        let args = [holder.to_owned(), milliseconds(ttl)];
        let token: Option<u64> = self
            .store
            .run(&self.scripts.lease, &lease(name), &args)
            .await?;
        let won = |token| Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            token,
        };
        Ok(token.map(won))
    }

    pub(super) async fn release_(&self, held: &Lease) -> Result<(), ResultsError> {
        let args = [held.holder.clone(), held.token.to_string()];
        self.store
            .run(&self.scripts.release, &lease(&held.name), &args)
            .await
    }
}
