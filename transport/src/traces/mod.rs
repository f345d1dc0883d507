//! Traces: what became of a job and when, told to a collector over OTLP. Never what a job asks for or is
//! answered.
//!
//! A trace goes on wherever its job does: what belongs to it follows from the job alone. Whoever tells a
//! span never waits; a span that finds no room is counted and gone.

mod export;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lapidary_schemas::metrics::{self, Metrics};
use lapidary_schemas::{Batch, Job, TraceContext, TraceId};
use opentelemetry::trace::{Link, SpanContext, SpanId, Status, TraceFlags, TraceState};
use opentelemetry::{Array, Value};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanLinks};
use tokio::sync::mpsc;
use uuid::Uuid;

pub use export::{Export, ExportError};
pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanKind;

/// Spans that may wait for the collector.
const SPANS_MAX: usize = 4_096;

/// Whom traces are told to.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceOptions {
    /// Base address of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`.
    pub collector: String,
    /// The share of traces that is told, where who submits does not decide it: from 0 to 1.
    pub share: f64,
}

/// A share, as an option of the command line.
pub fn parse_share(written: &str) -> Result<f64, String> {
    let share: f64 = written.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=1.0).contains(&share) {
        return Ok(share);
    }
    Err(format!("{share} is not from 0 to 1"))
}

/// Something that took a while.
#[derive(Debug)]
pub struct Span {
    /// What it was.
    pub name: Cow<'static, str>,
    /// Its part in the traffic between programs.
    pub kind: SpanKind,
    /// Its place.
    pub context: TraceContext,
    /// The span that it is part of, or that led to it.
    pub parent: Option<u64>,
    /// What led to it in another trace.
    pub link: Option<TraceContext>,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What is known about it.
    pub attributes: Vec<KeyValue>,
    /// The code of the failure that it ended with.
    pub failure: Option<&'static str>,
}

/// Where spans are told.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Telling>>);

#[derive(Debug)]
struct Telling {
    spans: mpsc::Sender<SpanData>,
    share: f64,
    metrics: Arc<Metrics>,
}

impl Traces {
    /// Nobody is told anything.
    pub fn off() -> Self {
        Self::default()
    }

    /// Traces of this program, and what sends them, which has to be run.
    pub fn new(
        options: &TraceOptions,
        program: &'static str,
        instance: &str,
        metrics: &Arc<Metrics>,
    ) -> Result<(Self, Export), ExportError> {
        let (spans, waiting) = mpsc::channel(SPANS_MAX);
        let export = Export::new(&options.collector, (program, instance), waiting, metrics)?;
        let telling = Telling {
            spans,
            share: options.share,
            metrics: Arc::clone(metrics),
        };
        Ok((Self(Some(Arc::new(telling))), export))
    }

    /// The context of what is submitted under this id, by whoever has this context. While nobody is told
    /// anything, the submitter's own: others may go on with it.
    pub fn submission(&self, id: Uuid, submitter: Option<TraceContext>) -> Option<TraceContext> {
        let Some(telling) = &self.0 else {
            return submitter;
        };
        let sampled = match submitter {
            Some(submitter) => submitter.sampled,
            None => TraceId(id.as_u128()).is_among(telling.share),
        };
        Some(TraceContext::of(id, submitter, sampled))
    }

    /// Tells that a job is on the queue, or that an item of a batch is, which `link` leads back to.
    pub fn submitted(
        &self,
        job: &Job,
        submitter: Option<TraceContext>,
        link: Option<TraceContext>,
    ) {
        let Some(context) = self.sampled(job.traceparent.as_deref()) else {
            return;
        };
        let mut attributes = about(job);
        attributes.push(KeyValue::new("gen_ai.request.model", job.model.clone()));
        self.tell(Span {
            link,
            attributes,
            ..submission(context, submitter, job.created_at)
        });
    }

    /// Tells that a batch was taken.
    pub fn batch_submitted(&self, batch: &Batch, submitter: Option<TraceContext>) {
        let Some(context) = self.sampled(batch.traceparent.as_deref()) else {
            return;
        };
        self.tell(Span {
            attributes: vec![
                KeyValue::new("lapidary.batch.id", batch.id.to_string()),
                KeyValue::new("gen_ai.request.model", batch.model.clone()),
            ],
            ..submission(context, submitter, batch.created_at)
        });
    }

    /// The place of what was submitted, if anybody is told about it.
    fn sampled(&self, traceparent: Option<&str>) -> Option<TraceContext> {
        self.0.as_ref()?;
        let context = TraceContext::parse(traceparent?)?;
        context.sampled.then_some(context)
    }

    /// Where an attempt at a job belongs: its own context and the span that led to it. `None` if nobody is
    /// told.
    pub fn attempt(&self, job: &Job) -> Option<(TraceContext, Option<u64>)> {
        let telling = self.0.as_ref()?;
        let submitted = job.traceparent.as_deref().and_then(TraceContext::parse);
        let trace = TraceId::of(job);
        let sampled = match submitted {
            Some(submitted) => submitted.sampled,
            None => trace.is_among(telling.share),
        };
        let context = TraceContext {
            trace_id: trace.0,
            span_id: span_id(),
            sampled,
        };
        sampled.then_some((context, submitted.map(|submitted| submitted.span_id)))
    }

    /// Tells a span.
    pub fn tell(&self, span: Span) {
        let Some(telling) = &self.0 else {
            return;
        };
        if telling.spans.try_send(data(span)).is_err() {
            telling.metrics.add(&metrics::SPANS, &["dropped"], 1.0);
        }
    }
}

/// An attribute that is a list of words.
pub fn words(name: &'static str, words: &[&'static str]) -> KeyValue {
    let words = words.iter().map(|word| (*word).into()).collect();
    KeyValue::new(name, Value::Array(Array::String(words)))
}

/// The place of a new span within another one.
pub fn within(context: TraceContext) -> TraceContext {
    TraceContext {
        span_id: span_id(),
        ..context
    }
}

/// From the moment something is submitted until now.
fn submission(context: TraceContext, submitter: Option<TraceContext>, at: DateTime<Utc>) -> Span {
    Span {
        name: "submit".into(),
        kind: SpanKind::Producer,
        context,
        parent: submitter.map(|submitter| submitter.span_id),
        link: None,
        started: at.into(),
        ended: SystemTime::now(),
        attributes: Vec::new(),
        failure: None,
    }
}

fn span_id() -> u64 {
    u64::from_be_bytes(RandomIdGenerator::default().new_span_id().to_bytes())
}

/// What every span of a job's own says about the job.
pub fn about(job: &Job) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("lapidary.job.id", job.id.to_string()),
        KeyValue::new("lapidary.job.class", job.class.as_str()),
    ];
    if let Some(batch) = job.batch_id {
        attributes.push(KeyValue::new("lapidary.batch.id", batch.to_string()));
    }
    if let Some(replaced) = job.replaces {
        attributes.push(KeyValue::new("lapidary.job.replaces", replaced.to_string()));
    }
    attributes
}

/// A span as the library has it.
fn data(span: Span) -> SpanData {
    let mut links = SpanLinks::default();
    let link = span
        .link
        .map(|context| Link::new(place(context), Vec::new(), 0));
    links.links.extend(link);
    SpanData {
        span_context: place(span.context),
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: false,
        span_kind: span.kind,
        name: span.name,
        start_time: span.started,
        // Clocks are set back.
        end_time: span.ended.max(span.started),
        attributes: span.attributes,
        dropped_attributes_count: 0,
        events: opentelemetry_sdk::trace::SpanEvents::default(),
        links,
        status: span.failure.map_or(Status::Unset, Status::error),
        instrumentation_scope: opentelemetry::InstrumentationScope::builder("lapidary").build(),
    }
}

fn place(context: TraceContext) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(context.sampled);
    let (trace, span) = (context.trace_id.into(), context.span_id.into());
    SpanContext::new(trace, span, flags, false, TraceState::default())
}

#[cfg(test)]
mod tests;
