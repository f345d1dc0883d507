//! Single requests: checked, put on the queue as interactive jobs, and waited for.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use lapidary_schemas::chat_body::{ChatBody, read_chat_body};
use lapidary_schemas::job::ENVELOPE_VERSION;
use lapidary_schemas::limits::ATTEMPTS_DEFAULT;
use lapidary_schemas::validate::validate_job;
use lapidary_schemas::{
    BatchId, Class, Failure, FailureCode, Job, JobId, MediaRef, Request, TraceContext, Work,
};
use lapidary_transport::media::MediaError;
use lapidary_transport::results::JobState;
use lapidary_transport::{Lane, Media as _, Queue as _, Results as _};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::body::JsonBody;
use super::error::{ApiError, Code};
use super::traced::Traced;
use super::{Gateway, Shared};
use crate::submission::{INLINE_REQUEST_BYTES_MAX, Keeper, named_media, served};

/// What a client asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    request: Request,
    work: Work,
    /// The answer shall be told as it comes.
    pub(super) stream: bool,
    /// And in the end, how many tokens it took.
    pub(super) include_usage: bool,
    is_heavy: bool,
    trace: Option<TraceContext>,
}

/// The body of a chat completion as it is written: that of batches, and whether the answer is told as
/// it comes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct AskedBody(Value);

impl JsonSchema for AskedBody {
    fn schema_name() -> Cow<'static, str> {
        "ChatCompletionRequest".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ChatBody::json_schema(generator);
        let yes_or_no = json!({"type": ["boolean", "null"]});
        schema.ensure_object();
        if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            let options = json!({
                "type": ["object", "null"],
                "properties": {"include_usage": yes_or_no},
            });
            fields.insert("stream".to_owned(), yes_or_no);
            fields.insert("stream_options".to_owned(), options);
        }
        schema
    }
}

impl Asked {
    /// Reads the body of a chat completion, which is part of a trace.
    pub(super) fn read(
        body: &JsonBody<AskedBody>,
        Traced(trace): Traced,
    ) -> Result<Self, ApiError> {
        let AskedBody(mut value) = body.read()?;
        let (stream, options) = match value.as_object_mut() {
            Some(fields) => (fields.remove("stream"), fields.remove("stream_options")),
            None => (None, None),
        };
        let stream = yes_or_no("stream", &stream.unwrap_or_default())?;
        let include_usage = &options.unwrap_or_default()["include_usage"];
        let include_usage = yes_or_no("stream_options", include_usage)?;
        let (model, request) = read_chat_body(value)?;
        Ok(Self {
            stream,
            include_usage,
            trace,
            ..Self::of(model, request, Work::Chat, body.bytes.len())
        })
    }

    /// A request that was read of so many bytes, and what is to be done with it.
    pub(super) fn of(model: String, request: Request, work: Work, bytes: usize) -> Self {
        Self {
            model,
            request,
            work,
            stream: false,
            include_usage: false,
            is_heavy: bytes > INLINE_REQUEST_BYTES_MAX,
            trace: None,
        }
    }
}

fn yes_or_no(param: &'static str, value: &Value) -> Result<bool, ApiError> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(yes) => Ok(*yes),
        other => {
            let message = format!("`{param}` is {other}, it must be true or false");
            Err(ApiError::parameter(param, message))
        }
    }
}

impl Gateway {
    /// Makes an interactive job of a request and puts it on the queue.
    pub(super) async fn submit(
        &self,
        tenant: &str,
        asked: Asked,
        now: DateTime<Utc>,
        within: TimeDelta,
    ) -> Result<Job, ApiError> {
        let submitter = asked.trace;
        let job = self.job(tenant, asked, now, within).await?;
        self.refuse_if_full(&job.model, Class::Interactive, self.queue_max)
            .await?;
        let results = &self.stores.results;
        results.register(std::slice::from_ref(&job)).await?;
        if let Err(error) = self.stores.queue.publish(std::slice::from_ref(&job)).await {
            // What is registered would be published later, for nobody.
            if let Err(error) = results.cancel_jobs(&[job.id]).await {
                tracing::warn!(job_id = %job.id, %error, "a job that was refused may run");
            }
            return Err(error.into());
        }
        self.traces.submitted(&job, submitter, None);
        Ok(job)
    }

    async fn job(
        &self,
        tenant: &str,
        asked: Asked,
        now: DateTime<Utc>,
        within: TimeDelta,
    ) -> Result<Job, ApiError> {
        let workers = self.stores.results.workers().await?;
        let policy = served(&workers, &asked.model).ok_or_else(|| {
            let message = format!("no worker serves the model `{}`", asked.model);
            ApiError::new(StatusCode::NOT_FOUND, Code::ModelNotFound, message)
        })?;
        let policy = self.ceiling.lower(policy);
        let id = JobId::new(now);
        let mut request = asked.request;
        let named: Vec<MediaRef> = named_media(&request).collect();
        if asked.is_heavy {
            let keeper = Keeper::new(Some(&self.stores.media), tenant);
            request = keeper.lighten(request, &policy).await??;
        }
        let place = self.traces.submission(id.0, asked.trace);
        let job = Job {
            version: ENVELOPE_VERSION,
            id,
            replaces: None,
            batch_id: None,
            item: None,
            custom_id: None,
            tenant: tenant.to_owned(),
            model: asked.model,
            class: Class::Interactive,
            work: asked.work,
            attempts_max: ATTEMPTS_DEFAULT,
            created_at: now,
            deadline: Some(now + within),
            traceparent: place.map(|place| place.to_string()),
            request,
        };
        validate_job(&job, &policy)?;
        if !named.is_empty() {
            // What it names is kept as long as its answer.
            let pinned = self.stores.media.pin(tenant, BatchId(id.0), &named).await;
            pinned.map_err(|error| match error {
                MediaError::Missing { .. } => {
                    Failure::new(FailureCode::MediaInvalid, error.to_string()).into()
                }
                other => ApiError::from(other),
            })?;
        }
        Ok(job)
    }

    /// Refuses what would wait behind `limit` jobs or more.
    pub(super) async fn refuse_if_full(
        &self,
        model: &str,
        class: Class,
        limit: u64,
    ) -> Result<(), ApiError> {
        let lane = Lane::Jobs {
            model: model.to_owned(),
            class,
        };
        let waiting = self.stores.queue.depth(&lane).await?;
        if waiting < limit {
            return Ok(());
        }
        Err(ApiError::busy(format!(
            "{waiting} requests wait for `{model}`, the limit is {limit}; try again later"
        )))
    }
}

/// What becomes of a job if its client leaves before it is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It is cancelled.
    Cancels,
    /// It is finished for when the client asks again.
    GoesOn,
}

/// A job that a client waits for.
#[derive(Debug)]
pub(super) struct Awaited {
    gateway: Shared,
    job: JobId,
    leaving: Leaving,
    states: watch::Receiver<Option<JobState>>,
    is_finished: bool,
}

impl Awaited {
    /// Waits for a job from now on.
    pub(super) fn new(gateway: &Shared, job: JobId, leaving: Leaving) -> Self {
        Self {
            gateway: Arc::clone(gateway),
            job,
            leaving,
            states: gateway.waiting.watch(job),
            is_finished: false,
        }
    }

    /// The job.
    pub(super) fn job(&self) -> JobId {
        self.job
    }

    /// The next state that it is seen in; `None` if nobody looks any more.
    pub(super) async fn next(&mut self) -> Option<JobState> {
        self.states.changed().await.ok()?;
        let state = self.states.borrow_and_update().clone();
        self.is_finished = matches!(state, Some(JobState::Finished(_)));
        state
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.is_finished || self.leaving == Leaving::GoesOn {
            return;
        }
        let (gateway, job) = (Arc::clone(&self.gateway), self.job);
        self.gateway.tasks.spawn(async move {
            if let Err(error) = gateway.stores.results.cancel_jobs(&[job]).await {
                tracing::warn!(job_id = %job, %error, "a job that nobody waits for may run");
            }
        });
    }
}
