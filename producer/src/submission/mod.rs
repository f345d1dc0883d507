//! Files of requests: read once, line by line, checked whole, and then a batch.
//!
//! Full shards go to the media store as they fill, where nobody looks at them; the batch is opened
//! only once the last line is known to be good.

mod mistake;
mod reference;
mod terms;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_schemas::batch_line::{BatchLine, read_batch_line};
use lapidary_schemas::limits::{
    ATTEMPTS_DEFAULT, ENVELOPE_BYTES_MAX, QUEUE_MESSAGE_BYTES_MAX, RETENTION_DEFAULT_S,
};
use lapidary_schemas::validate::{validate_batch, validate_item};
use lapidary_schemas::{Batch, BatchId, Class, JobId, MediaRef, Policy, Work};
use lapidary_transport::failpoint::{self, Failpoint};
use lapidary_transport::media::MediaError;
use lapidary_transport::results::ResultsError;
use lapidary_transport::{Media as _, Results as _};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use crate::catalogue::{self, BatchRecord};
use crate::digest::short;
use crate::manifest;
use crate::stores::Stores;

pub(crate) use mistake::{MODEL_MISMATCH, Mistake};
pub(crate) use reference::{INLINE_REQUEST_BYTES_MAX, Keeper, named_media};
pub(crate) use terms::{Ceiling, served};

/// Items of a shard: few enough that one fits memory, whatever its lines are.
const SHARD_ITEMS: usize = 500;
/// Bytes a line may have.
pub(crate) const LINE_BYTES_MAX: u64 = 32 << 20;
/// Mistakes after which reading stops.
pub(crate) const MISTAKES_MAX: usize = 20;
/// How long the record of a batch that nothing bounds is kept, beyond its results.
const UNBOUNDED_S_MAX: u64 = 365 * 24 * 3600;

/// Why reading or storing a submission cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    /// The source broke off.
    #[error("cannot read line {line}: {error}")]
    Read {
        /// The line that was being read.
        line: u64,
        /// What happened.
        error: std::io::Error,
    },
    /// The results store.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The media store.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A request cannot be written.
    #[error("a request cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
}

/// How a submission is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// What its requests may ask for.
    pub(crate) ceiling: Ceiling,
    /// Requests it may have.
    pub(crate) items_max: u64,
    /// Nothing is stored: it is only looked whether all is well.
    pub(crate) check_only: bool,
}

/// A bulk batch of a tenant, its model not known yet.
pub(crate) fn bulk(tenant: &str, now: DateTime<Utc>, deadline: Option<TimeDelta>) -> Batch {
    Batch {
        id: BatchId::new(now),
        tenant: tenant.to_owned(),
        model: String::new(),
        class: Class::Bulk,
        attempts_max: ATTEMPTS_DEFAULT,
        created_at: now,
        deadline: deadline.map(|deadline| now + deadline),
        retention_s: RETENTION_DEFAULT_S,
        metadata: BTreeMap::default(),
        traceparent: None,
    }
}

/// How long from `now` on a batch's record is of use: until its results have gone.
pub(crate) fn kept(batch: &Batch, now: DateTime<Utc>) -> Duration {
    let ends_s = batch.deadline.map_or(UNBOUNDED_S_MAX, |deadline| {
        u64::try_from((deadline - now).num_seconds()).unwrap_or(0)
    });
    Duration::from_secs(batch.retention_s.saturating_add(ends_s))
}

/// A batch in the making.
#[derive(Debug)]
pub(crate) struct Submission {
    stores: Stores,
    batch: Batch,
    terms: Terms,
    /// One model serves all lines, whatever they name.
    model_given: bool,
    policy: Option<Policy>,
    names: HashSet<u128>,
    items: Vec<ManifestItem>,
    items_count: u64,
    /// What the gathered items name, and the line that names it first.
    media: BTreeMap<MediaRef, u64>,
    shards: Vec<Shard>,
    mistakes: Vec<Mistake>,
}

impl Submission {
    /// A batch without requests so far. Its model is that of its lines unless it has one.
    pub(crate) fn new(stores: Stores, batch: Batch, terms: Terms) -> Self {
        Self {
            model_given: !batch.model.is_empty(),
            stores,
            batch,
            terms,
            policy: None,
            names: HashSet::new(),
            items: Vec::new(),
            items_count: 0,
            media: BTreeMap::new(),
            shards: Vec::new(),
            mistakes: Vec::new(),
        }
    }

    /// The model that all lines so far name.
    pub(crate) fn model(&self) -> &str {
        &self.batch.model
    }

    /// Requests so far that are well.
    pub(crate) fn items_count(&self) -> u64 {
        self.items_count
    }

    /// Reads lines to the end, or until there are too many mistakes.
    pub(crate) async fn read(
        &mut self,
        lines: &mut (dyn AsyncBufRead + Unpin + Send),
    ) -> Result<(), SubmitError> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let mut limited = (&mut *lines).take(LINE_BYTES_MAX);
            let bytes = limited.read_until(b'\n', &mut line).await;
            let bytes = bytes.map_err(|error| SubmitError::Read {
                line: number,
                error,
            })?;
            if bytes == 0 || self.mistakes.len() >= MISTAKES_MAX {
                break;
            }
            if bytes as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                self.mistakes.push(Mistake::too_long(number));
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            if self.items_count >= self.terms.items_max {
                self.mistakes
                    .push(Mistake::too_many(number, self.terms.items_max));
                break;
            }
            match self.item(number, &line).await? {
                Ok(item) => self.add(item).await?,
                Err(mistake) => self.mistakes.push(mistake),
            }
        }
        self.store_shard().await
    }

    /// One line as an item; the inner error is a mistake in it.
    async fn item(
        &mut self,
        number: u64,
        line: &[u8],
    ) -> Result<Result<ManifestItem, Mistake>, SubmitError> {
        let read = match self.parse(number, line) {
            Ok(read) => read,
            Err(mistake) => return Ok(Err(mistake)),
        };
        let policy = self.policy().await?;
        let is_heavy = line.len() > INLINE_REQUEST_BYTES_MAX;
        let mut request = read.request;
        if is_heavy {
            let store = (!self.terms.check_only).then_some(&*self.stores.media);
            let keeper = Keeper::new(store, &self.batch.tenant);
            match keeper.lighten(request, &policy).await? {
                Ok(lighter) => request = lighter,
                Err(failure) => return Ok(Err(Mistake::invalid(number, &failure.message))),
            }
        }
        let item = ManifestItem {
            id: JobId::new(self.batch.created_at),
            custom_id: read.custom_id,
            work: Work::Chat,
            request,
        };
        if let Err(failure) = validate_item(&item, &policy) {
            return Ok(Err(Mistake::invalid(number, &failure.message)));
        }
        let bytes = if is_heavy {
            serde_json::to_vec(&item)?.len()
        } else {
            0
        };
        let bytes_max = QUEUE_MESSAGE_BYTES_MAX - ENVELOPE_BYTES_MAX;
        if bytes > bytes_max {
            let message = format!("the request is {bytes} bytes, the limit is {bytes_max}");
            return Ok(Err(Mistake::invalid(number, &message)));
        }
        for media in named_media(&item.request) {
            self.media.entry(media).or_insert(number);
        }
        Ok(Ok(item))
    }

    /// What the line asks for, under a name and of a model that the batch can have.
    fn parse(&mut self, number: u64, line: &[u8]) -> Result<BatchLine, Mistake> {
        let text = std::str::from_utf8(line)
            .map_err(|error| Mistake::not_utf8(number, &error))?
            .trim_end();
        let read = read_batch_line(number, text).map_err(|failure| Mistake::of(text, failure))?;
        if !self.names.insert(short(read.custom_id.as_bytes())) {
            return Err(Mistake::duplicate(number, &read.custom_id));
        }
        if self.batch.model.is_empty() {
            self.batch.model.clone_from(&read.model);
        }
        if !self.model_given && read.model != self.batch.model {
            return Err(Mistake::other_model(number, &read.model, &self.batch.model));
        }
        Ok(read)
    }

    /// What the model serves, if a worker says so; otherwise what every model does.
    async fn policy(&mut self) -> Result<Policy, SubmitError> {
        if let Some(policy) = &self.policy {
            return Ok(policy.clone());
        }
        let workers = self.stores.results.workers().await?;
        let model = &self.batch.model;
        let policy = served(&workers, model).unwrap_or_else(|| terms::unknown(model));
        let policy = self.terms.ceiling.lower(policy);
        self.policy = Some(policy.clone());
        Ok(policy)
    }

    async fn add(&mut self, item: ManifestItem) -> Result<(), SubmitError> {
        self.items_count += 1;
        if self.terms.check_only {
            self.media.clear();
            return Ok(());
        }
        self.items.push(item);
        if self.items.len() == SHARD_ITEMS {
            self.store_shard().await?;
        }
        Ok(())
    }

    /// The gathered items as the next shard.
    async fn store_shard(&mut self) -> Result<(), SubmitError> {
        if self.items.is_empty() {
            return Ok(());
        }
        let items = std::mem::take(&mut self.items);
        let (tenant, media) = (&self.batch.tenant, &self.stores.media);
        let lines = media.put(tenant, manifest::lines(&items)?).await?;
        let named = std::mem::take(&mut self.media);
        let mut pinned: Vec<MediaRef> = named.keys().cloned().collect();
        pinned.push(lines.clone());
        match media.pin(tenant, self.batch.id, &pinned).await {
            Err(MediaError::Missing { sha256 }) => {
                let line = named.iter().find(|(media, _)| media.sha256 == sha256);
                let Some((media, line)) = line else {
                    return Err(MediaError::Missing { sha256 }.into());
                };
                let message = format!("`{media}` is not in the media store");
                self.mistakes.push(Mistake::invalid(*line, &message));
                return Ok(());
            }
            pinned => pinned?,
        }
        self.shards.push(Shard {
            index: u32::try_from(self.shards.len()).unwrap_or(u32::MAX),
            items: u32::try_from(items.len()).unwrap_or(u32::MAX),
            lines,
        });
        Ok(())
    }

    /// Every mistake, once all is read; none: it can be committed.
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        if !self.mistakes.is_empty() {
            return self.mistakes.clone();
        }
        if self.items_count == 0 {
            return vec![Mistake::empty()];
        }
        match validate_batch(&self.batch) {
            Ok(()) => Vec::new(),
            Err(failure) => vec![Mistake::of_batch(failure.message)],
        }
    }

    /// Lets go of what was stored.
    pub(crate) async fn abandon(&self) -> Result<(), SubmitError> {
        Ok(self.stores.media.unpin(self.batch.id).await?)
    }

    /// Opens the batch with all its items. Its record comes first, so that a batch that runs is never
    /// unknown to its tenant.
    pub(crate) async fn commit(self, record: &BatchRecord) -> Result<Batch, SubmitError> {
        let (results, batch) = (&*self.stores.results, self.batch);
        let kept = kept(&batch, batch.created_at);
        catalogue::keep(results, &batch.tenant, batch.id.0, record, kept).await?;
        results.open_batch(&batch).await?;
        failpoint::reached(Failpoint::Submitting);
        for shard in &self.shards {
            results.append_shard(batch.id, shard).await?;
        }
        results.seal_batch(batch.id).await?;
        failpoint::reached(Failpoint::Submitted);
        Ok(batch)
    }
}
