//! The trace of one attempt at a job: a span for every stage it goes through, and one around them. Never
//! what is asked or answered.

use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use lapidary_schemas::{FailureCode, Job, JobResult, TraceContext, TraceId};
use lapidary_transport::traces::{KeyValue, Span, SpanKind, Traces, about, within, words};

use crate::line::finish_word;

/// An attempt that has begun.
#[derive(Debug)]
pub(crate) struct Begun<'a> {
    pub(crate) job: &'a Job,
    /// Which attempt, from 1.
    pub(crate) number: u32,
    pub(crate) at: DateTime<Utc>,
    pub(crate) trace: Trace,
}

/// The trace of an attempt.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The job's trace; logs name it too.
    pub(crate) id: TraceId,
    traces: Traces,
    /// The attempt's own place; nobody is told without it.
    place: Option<TraceContext>,
    /// The span that led to the attempt.
    parent: Option<u64>,
    /// The same moment by both clocks.
    begun: (Instant, SystemTime),
    attributes: Vec<KeyValue>,
    failure: Option<&'static str>,
}

impl Trace {
    /// The trace of an attempt that begins at `at`; tells how long its job has waited.
    pub(crate) fn begin(traces: &Traces, job: &Job, number: u32, at: DateTime<Utc>) -> Self {
        let (place, parent) = traces.attempt(job).unzip();
        let trace = Self {
            id: TraceId::of(job),
            traces: traces.clone(),
            place,
            parent: parent.flatten(),
            begun: (Instant::now(), at.into()),
            attributes: Vec::new(),
            failure: None,
        };
        if let Some(place) = trace.place {
            trace.traces.tell(Span {
                name: "queue".into(),
                kind: SpanKind::Internal,
                context: within(place),
                parent: trace.parent,
                link: None,
                started: job.created_at.into(),
                ended: at.into(),
                attributes: vec![KeyValue::new("lapidary.job.attempt", i64::from(number))],
                failure: None,
            });
        }
        trace
    }

    /// Tells that a stage has ended just now.
    pub(crate) fn stage<const N: usize>(
        &self,
        name: &'static str,
        started: Instant,
        said: [KeyValue; N],
    ) {
        self.took(name, (started, Instant::now()), said);
    }

    /// Tells what the engine made of what it was given at `submitted`.
    pub(crate) fn generated(&self, submitted: Instant, made: &lapidary_engine::Outcome) {
        let timings = &made.timings;
        let first = submitted + timings.first_token;
        let count = |tokens: usize| i64::try_from(tokens).unwrap_or(i64::MAX);
        let (read, cached) = (made.usage.prompt_tokens, made.usage.cached_tokens);
        self.took(
            "prefill",
            (submitted + timings.queued, first),
            [
                KeyValue::new("gen_ai.usage.input_tokens", count(read)),
                KeyValue::new("gen_ai.usage.cache_read.input_tokens", count(cached)),
            ],
        );
        let written = count(made.usage.completion_tokens);
        self.took(
            "decode",
            (first, first + timings.decode),
            [KeyValue::new("gen_ai.usage.output_tokens", written)],
        );
    }

    fn took<const N: usize>(
        &self,
        name: &'static str,
        (started, ended): (Instant, Instant),
        said: [KeyValue; N],
    ) {
        let Some(place) = self.place else {
            return;
        };
        self.traces.tell(Span {
            name: name.into(),
            kind: SpanKind::Internal,
            context: within(place),
            parent: Some(place.span_id),
            link: None,
            started: self.on_the_wall(started),
            ended: self.on_the_wall(ended),
            attributes: said.into(),
            failure: None,
        });
    }

    fn on_the_wall(&self, moment: Instant) -> SystemTime {
        let (instant, wall) = self.begun;
        wall + moment
            .checked_duration_since(instant)
            .unwrap_or(Duration::ZERO)
    }

    /// The attempt has failed, and another one may follow.
    pub(crate) fn failed(&mut self, code: FailureCode) {
        self.failure = Some(code.as_str());
    }

    /// The attempt's outcome is the job's result.
    pub(crate) fn answered(&mut self, result: &JobResult) {
        if self.place.is_none() {
            return;
        }
        self.failure = result.failure.as_ref().map(|failure| failure.code.as_str());
        let said = &mut self.attributes;
        said.push(KeyValue::new("lapidary.job.status", result.status.as_str()));
        if let Some(model) = &result.model {
            said.push(KeyValue::new("gen_ai.response.model", model.name.clone()));
        }
        let Some(reason) = result.finish_reason else {
            return;
        };
        said.push(words(
            "gen_ai.response.finish_reasons",
            &[finish_word(reason)],
        ));
        let usage = &result.usage;
        for (name, tokens) in [
            ("gen_ai.usage.input_tokens", usage.prompt_tokens),
            ("gen_ai.usage.output_tokens", usage.completion_tokens),
            ("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens),
            ("lapidary.usage.image_tokens", usage.image_tokens),
        ] {
            said.push(KeyValue::new(name, i64::from(tokens)));
        }
    }
}

impl Begun<'_> {
    /// Tells the attempt, which is settled now.
    pub(crate) fn end(self, worker: &str) {
        let Trace {
            traces,
            place: Some(context),
            parent,
            begun: (_, started),
            attributes,
            failure,
            ..
        } = self.trace
        else {
            return;
        };
        let job = self.job;
        let mut said = about(job);
        said.extend(asked(job));
        said.push(KeyValue::new(
            "lapidary.job.attempt",
            i64::from(self.number),
        ));
        said.push(KeyValue::new("lapidary.worker", worker.to_owned()));
        said.extend(attributes);
        said.extend(failure.map(|code| KeyValue::new("error.type", code)));
        traces.tell(Span {
            name: format!("{} {}", job.work.as_str(), job.model).into(),
            kind: SpanKind::Consumer,
            context,
            parent,
            link: None,
            started,
            ended: SystemTime::now(),
            attributes: said,
            failure,
        });
    }
}

/// What was asked of the model, as far as it is no content.
fn asked(job: &Job) -> Vec<KeyValue> {
    let request = &job.request;
    let mut said = vec![
        KeyValue::new("gen_ai.operation.name", job.work.as_str()),
        KeyValue::new("gen_ai.provider.name", "lapidary"),
        KeyValue::new("gen_ai.request.model", job.model.clone()),
        KeyValue::new("gen_ai.response.id", job.id.to_string()),
    ];
    let whole = [
        (
            "gen_ai.request.max_tokens",
            request.max_tokens.map(i64::from),
        ),
        ("gen_ai.request.top_k", request.top_k.map(i64::from)),
        (
            "gen_ai.request.seed",
            request.seed.and_then(|seed| i64::try_from(seed).ok()),
        ),
    ];
    for (name, value) in whole {
        said.extend(value.map(|value| KeyValue::new(name, value)));
    }
    let parts = [
        ("gen_ai.request.temperature", request.temperature),
        ("gen_ai.request.top_p", request.top_p),
    ];
    for (name, value) in parts {
        said.extend(value.map(|value| KeyValue::new(name, f64::from(value))));
    }
    said
}
