//! `lapidary submit`: a file of requests becomes a batch.
//!
//! The file is read once, line by line. Full shards go to the media store as they fill, where nobody
//! looks at them; the batch is opened only once the last line is known to be good.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use lapidary_schemas::batch::{ManifestItem, Shard};
use lapidary_schemas::batch_line::{BatchLine, read_batch_line};
use lapidary_schemas::limits::{
    ATTEMPTS_DEFAULT, ENVELOPE_BYTES_MAX, INLINE_MEDIA_BYTES_MAX, MEDIA_BYTES_MAX,
    QUEUE_MESSAGE_BYTES_MAX, RETENTION_DEFAULT_S,
};
use lapidary_schemas::request::{Content, FileRef};
use lapidary_schemas::validate::{validate_batch, validate_item};
use lapidary_schemas::{
    Batch, BatchId, Class, Failure, FailureCode, JobId, MediaRef, Part, Policy, Request, Work,
};
use lapidary_transport::{Media as _, Results as _};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio_util::sync::CancellationToken;

use crate::cli::Submit;
use crate::config::{Config, Stores};
use crate::digest::short;
use crate::exit::{Exit, Stop};
use crate::progress::say;
use crate::run::manifest_lines;

/// Items of a shard: few enough that one fits memory, whatever its lines are.
const SHARD_ITEMS: usize = 500;
/// Bytes a line may have.
const LINE_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a request from which its texts travel by reference.
const INLINE_REQUEST_BYTES_MAX: usize = INLINE_MEDIA_BYTES_MAX / 2;
/// Bytes of a text that travels by reference then.
const REFERENCED_TEXT_BYTES_MIN: usize = 4 << 10;
/// Mistakes after which reading stops.
const MISTAKES_MAX: usize = 20;

/// Submits a file; see `lapidary submit --help`.
pub(super) async fn run(args: Submit, stop: CancellationToken) -> Result<Exit, Stop> {
    let mut lines = open(&args.file).await?;
    let config = Config::resolve(&args.place)?;
    let stores = config.open().await?;
    let mut submission = Submission::new(stores, config.tenant, &args, Utc::now());
    let read = stop.run_until_cancelled(submission.read(&mut lines)).await;
    let Some(read) = read else {
        submission.abandon().await?;
        say("interrupted; nothing was submitted");
        return Ok(Exit::Interrupted);
    };
    read?;
    if let Some(refusal) = submission.refusal(&args.file) {
        submission.abandon().await?;
        return Err(refusal);
    }
    let id = submission.commit().await?;
    writeln!(std::io::stdout(), "{id}")?;
    Ok(Exit::Well)
}

async fn open(file: &Path) -> Result<Box<dyn AsyncBufRead + Unpin + Send>, Stop> {
    let path = if file == Path::new("-") {
        Path::new("/dev/stdin")
    } else {
        file
    };
    let opened = tokio::fs::File::open(path).await;
    let opened =
        opened.map_err(|error| Stop::usage(format!("cannot read {}: {error}", file.display())))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// A batch in the making.
struct Submission {
    stores: Stores,
    batch: Batch,
    /// The model was named on the command line.
    model_given: bool,
    policy: Option<Policy>,
    names: HashSet<u128>,
    items: Vec<ManifestItem>,
    media: Vec<MediaRef>,
    shards: Vec<Shard>,
    mistakes: Vec<String>,
    now: DateTime<Utc>,
}

impl Submission {
    fn new(stores: Stores, tenant: String, args: &Submit, now: DateTime<Utc>) -> Self {
        let deadline = args
            .deadline
            .and_then(|seconds| TimeDelta::try_seconds(i64::try_from(seconds).ok()?));
        Self {
            stores,
            batch: Batch {
                id: BatchId::new(now),
                tenant,
                model: args.model.clone().unwrap_or_default(),
                class: Class::Bulk,
                attempts_max: ATTEMPTS_DEFAULT,
                created_at: now,
                deadline: deadline.map(|deadline| now + deadline),
                retention_s: RETENTION_DEFAULT_S,
                metadata: std::collections::BTreeMap::default(),
            },
            model_given: args.model.is_some(),
            policy: None,
            names: HashSet::new(),
            items: Vec::new(),
            media: Vec::new(),
            shards: Vec::new(),
            mistakes: Vec::new(),
            now,
        }
    }

    async fn read(&mut self, lines: &mut (dyn AsyncBufRead + Unpin + Send)) -> Result<(), Stop> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let mut limited = (&mut *lines).take(LINE_BYTES_MAX);
            let bytes = limited.read_until(b'\n', &mut line).await;
            let bytes = bytes.map_err(|error| {
                Stop::new(Exit::Failed, format!("cannot read line {number}: {error}"))
            })?;
            if bytes == 0 || self.mistakes.len() >= MISTAKES_MAX {
                break;
            }
            if bytes as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                self.mistakes.push(format!(
                    "line {number}: it is longer than the limit of {LINE_BYTES_MAX} bytes"
                ));
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            match self.take(number, &line).await? {
                Ok(()) => (),
                Err(failure) => self.mistakes.push(failure.message),
            }
        }
        if !self.items.is_empty() {
            self.store_shard().await?;
        }
        Ok(())
    }

    /// One line; the inner error is a mistake in it.
    async fn take(&mut self, number: u64, line: &[u8]) -> Result<Result<(), Failure>, Stop> {
        let invalid = |message: String| {
            Failure::new(
                FailureCode::ValidationError,
                format!("line {number}: {message}"),
            )
        };
        let text = match std::str::from_utf8(line) {
            Ok(text) => text.trim_end(),
            Err(error) => return Ok(Err(invalid(format!("it is not UTF-8: {error}")))),
        };
        let line = match read_batch_line(number, text) {
            Ok(line) => line,
            Err(failure) => return Ok(Err(failure)),
        };
        if !self.names.insert(short(line.custom_id.as_bytes())) {
            return Ok(Err(invalid(format!(
                "`custom_id` `{}` was used before",
                line.custom_id
            ))));
        }
        if let Err(message) = self.agree_on_model(&line) {
            return Ok(Err(invalid(message)));
        }
        let policy = self.policy().await?;
        let item = ManifestItem {
            id: JobId::new(self.now),
            custom_id: line.custom_id,
            work: Work::Chat,
            request: self.by_reference(line.request).await?,
        };
        if let Err(failure) = validate_item(&item, &policy) {
            return Ok(Err(invalid(failure.message)));
        }
        let bytes = serde_json::to_vec(&item).map_or(0, |bytes| bytes.len());
        if bytes > QUEUE_MESSAGE_BYTES_MAX - ENVELOPE_BYTES_MAX {
            return Ok(Err(invalid(format!(
                "the request is {bytes} bytes, the limit is {}",
                QUEUE_MESSAGE_BYTES_MAX - ENVELOPE_BYTES_MAX
            ))));
        }
        self.items.push(item);
        if self.items.len() == SHARD_ITEMS {
            self.store_shard().await?;
        }
        Ok(Ok(()))
    }

    /// A batch has one model.
    fn agree_on_model(&mut self, line: &BatchLine) -> Result<(), String> {
        if self.batch.model.is_empty() {
            self.batch.model.clone_from(&line.model);
        }
        if self.model_given || line.model == self.batch.model {
            return Ok(());
        }
        Err(format!(
            "`model` is `{}`, lines before name `{}`; a batch has one model, which --model can name for all",
            line.model, self.batch.model
        ))
    }

    /// What the model serves, if a worker says so; otherwise what every model does.
    async fn policy(&mut self) -> Result<Policy, Stop> {
        if self.policy.is_none() {
            let workers = self.stores.results.workers().await?;
            let serving = workers
                .iter()
                .find(|worker| worker.model.name == self.batch.model);
            self.policy = Some(match serving {
                Some(worker) => Policy::of_model(&worker.model),
                None => Policy {
                    message_chars_max: MEDIA_BYTES_MAX,
                    ..Policy::text(&self.batch.model)
                },
            });
        }
        Ok(self
            .policy
            .clone()
            .unwrap_or_else(|| Policy::text(&self.batch.model)))
    }

    /// Long texts go to the media store.
    async fn by_reference(&mut self, mut request: Request) -> Result<Request, Stop> {
        let bytes = serde_json::to_vec(&request).map_or(0, |bytes| bytes.len());
        if bytes <= INLINE_REQUEST_BYTES_MAX {
            return Ok(request);
        }
        for message in &mut request.messages {
            let parts = match std::mem::replace(&mut message.content, Content::Parts(Vec::new())) {
                Content::Text(text) => vec![Part::Text { text }],
                Content::Parts(parts) => parts,
            };
            let mut lighter = Vec::with_capacity(parts.len());
            for part in parts {
                lighter.push(match part {
                    Part::Text { text } if text.len() > REFERENCED_TEXT_BYTES_MIN => {
                        let media = self
                            .stores
                            .media
                            .put(&self.batch.tenant, text.into_bytes())
                            .await?;
                        let file = FileRef {
                            filename: None,
                            file_data: media.to_string(),
                        };
                        self.media.push(media);
                        Part::File { file }
                    }
                    part => part,
                });
            }
            message.content = Content::Parts(lighter);
        }
        Ok(request)
    }

    /// The gathered items as the next shard.
    async fn store_shard(&mut self) -> Result<(), Stop> {
        let items = std::mem::take(&mut self.items);
        let lines = self
            .stores
            .media
            .put(&self.batch.tenant, manifest_lines(&items)?)
            .await?;
        self.media.push(lines.clone());
        let pinned = std::mem::take(&mut self.media);
        self.stores
            .media
            .pin(&self.batch.tenant, self.batch.id, &pinned)
            .await?;
        self.shards.push(Shard {
            index: u32::try_from(self.shards.len()).unwrap_or(u32::MAX),
            items: u32::try_from(items.len()).unwrap_or(u32::MAX),
            lines,
        });
        Ok(())
    }

    /// Why nothing is submitted, if so.
    fn refusal(&self, file: &Path) -> Option<Stop> {
        let name = if file == Path::new("-") {
            "standard input".into()
        } else {
            file.display().to_string()
        };
        if self.mistakes.is_empty() && self.shards.is_empty() {
            return Some(Stop::usage(format!("{name} has no requests")));
        }
        if let Err(failure) = validate_batch(&self.batch)
            && self.mistakes.is_empty()
        {
            return Some(Stop::usage(failure.message));
        }
        if self.mistakes.is_empty() {
            return None;
        }
        let more = if self.mistakes.len() >= MISTAKES_MAX {
            "\n  (reading stopped here)"
        } else {
            ""
        };
        let list: Vec<String> = self
            .mistakes
            .iter()
            .map(|mistake| format!("  {mistake}"))
            .collect();
        Some(Stop::usage(format!(
            "{name} has mistakes, nothing was submitted:\n{}{more}",
            list.join("\n")
        )))
    }

    async fn abandon(&self) -> Result<(), Stop> {
        Ok(self.stores.media.unpin(self.batch.id).await?)
    }

    async fn commit(&self) -> Result<BatchId, Stop> {
        let results = &self.stores.results;
        results.open_batch(&self.batch).await?;
        for shard in &self.shards {
            results.append_shard(self.batch.id, shard).await?;
        }
        results.seal_batch(self.batch.id).await?;
        Ok(self.batch.id)
    }
}
