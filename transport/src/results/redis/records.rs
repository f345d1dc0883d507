//! Records that producers keep.

use std::time::Duration;

use super::RedisResults;
use super::keys::collection as keys_of;
use super::letters::milliseconds;
use crate::results::{Record, ResultsError, check_record};

impl RedisResults {
    pub(super) async fn put_record_(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
    ) -> Result<(), ResultsError> {
        self.keep(collection, record, ttl, "put").await?;
        Ok(())
    }

    pub(super) async fn add_record_(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
    ) -> Result<Option<String>, ResultsError> {
        self.keep(collection, record, ttl, "add").await
    }

    async fn keep(
        &self,
        collection: &str,
        record: &Record,
        ttl: Option<Duration>,
        how: &str,
    ) -> Result<Option<String>, ResultsError> {
        check_record(collection, record)?;
        let ttl = ttl.map_or_else(|| "-".to_owned(), milliseconds);
        let args = [
            record.name.clone(),
            record.body.clone(),
            ttl,
            how.to_owned(),
        ];
        let keys = keys_of(collection);
        let there = self
            .store
            .run(&self.scripts.put_record, &keys, &args)
            .await?;
        self.store.replicated().await?;
        Ok(there)
    }

    pub(super) async fn record_(
        &self,
        collection: &str,
        name: &str,
    ) -> Result<Option<String>, ResultsError> {
        let only = format!("[{name}");
        let found = self.range(collection, [only.clone(), only], 1).await?;
        Ok(found.into_iter().next().map(|record| record.body))
    }

    pub(super) async fn records_(
        &self,
        collection: &str,
        before: &str,
        max: usize,
    ) -> Result<Vec<Record>, ResultsError> {
        let high = match before {
            "" => "+".to_owned(),
            before => format!("({before}"),
        };
        self.range(collection, [high, "-".to_owned()], max).await
    }

    async fn range(
        &self,
        collection: &str,
        [high, low]: [String; 2],
        max: usize,
    ) -> Result<Vec<Record>, ResultsError> {
        let args = [high, low, max.to_string()];
        let found: Vec<(String, String)> = self
            .store
            .run(&self.scripts.records, &keys_of(collection), &args)
            .await?;
        let record = |(name, body)| Record { name, body };
        Ok(found.into_iter().map(record).collect())
    }

    pub(super) async fn remove_record_(
        &self,
        collection: &str,
        name: &str,
    ) -> Result<bool, ResultsError> {
        let there = self.record_(collection, name).await?.is_some();
        let [bodies, names, ends] = keys_of(collection);
        let mut all = redis::pipe();
        all.atomic()
            .hdel(bodies, name)
            .ignore()
            .zrem(names, name)
            .ignore()
            .zrem(ends, name)
            .ignore();
        self.store.query_pipe::<()>(&all).await?;
        self.store.replicated().await?;
        Ok(there)
    }
}
