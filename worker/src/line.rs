//! What every job of this worker goes through, and how each ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lapidary_engine::Engine;
use lapidary_schemas::metrics::{self, Metrics};
use lapidary_schemas::{
    Class, Failure, FailureCode, Job, JobId, JobResult, ModelInfo, Policy, TraceId,
};
use lapidary_transport::failpoint::{self, Failpoint};
use lapidary_transport::queue::{QueueError, Undecodable};
use lapidary_transport::results::{DeadLetter, Finished, Put};
use lapidary_transport::traces::{KeyValue, Traces};
use lapidary_transport::{Receipt, Settle};

use crate::compute::Compute;
use crate::filter::Filters;
use crate::health::{Health, Part};
use crate::media::Loader;
use crate::outcome::Outcome;
use crate::running::Running;
use crate::settle::{Decision, RetryPolicy};
use crate::shutdown::Stop;
use crate::store::{Refused, Store, Stores};
use crate::trace::{Begun, Trace};
use crate::translate::{self, Made};
use crate::turns::Turns;

/// When a job comes back that was delivered while it runs here.
pub(crate) const RUNNING_HERE_DELAY: Duration = Duration::from_secs(5);
/// When a job comes back whose state the results store refused to change.
const REFUSED_DELAY: Duration = Duration::from_mins(1);
/// Bytes of an unreadable message that are kept.
const DEAD_BODY_BYTES_MAX: usize = 4096;

/// What every job of this worker goes through.
#[derive(Debug)]
pub(crate) struct Line {
    /// Name of this worker.
    pub(crate) worker: Arc<str>,
    /// What it serves.
    pub(crate) model: ModelInfo,
    /// What a request may ask of it.
    pub(crate) request_policy: Policy,
    pub(crate) engine: Engine,
    pub(crate) stores: Stores,
    pub(crate) store: Store,
    pub(crate) media: Loader,
    pub(crate) running: Arc<Running>,
    pub(crate) turns: Turns,
    pub(crate) compute: Compute,
    pub(crate) filters: Filters,
    pub(crate) policy: RetryPolicy,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) traces: Traces,
    pub(crate) stop: Stop,
}

/// An attempt that ended, and what becomes of the job.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) begun: Begun<'a>,
    pub(crate) outcome: Outcome,
    pub(crate) decision: Decision,
}

impl Line {
    /// Whether the engine broke down: what has no answer then gets none here.
    pub(crate) fn engine_failed(&self) -> bool {
        matches!(self.engine.health(), lapidary_engine::Health::Failed { .. })
    }

    /// A job's attempt has begun.
    pub(crate) fn begun<'a>(&self, job: &'a Job, number: u32, at: DateTime<Utc>) -> Begun<'a> {
        let class = job.class.as_str();
        self.metrics.add(&metrics::ATTEMPTS, &[class], 1.0);
        if number > 1 {
            self.metrics.add(&metrics::REDELIVERIES, &[class], 1.0);
        }
        let waited = (at - job.created_at).to_std().unwrap_or_default();
        self.metrics
            .observe(&metrics::QUEUE_WAIT, &[class], waited.as_secs_f64());
        Begun {
            job,
            number,
            at,
            trace: Trace::begin(&self.traces, job, number, at),
        }
    }

    /// Ends an attempt: result first, settle second.
    pub(crate) async fn end(&self, ended: Ended<'_>, receipt: Receipt) {
        let Ended {
            mut begun,
            outcome,
            decision,
        } = ended;
        let Decision {
            settle,
            result,
            dead_letter,
        } = decision;
        let (job, trace_id) = (begun.job, begun.trace.id);
        match &outcome {
            Outcome::Interrupted => self.store.interrupt(job.id).await,
            // What is handed back while jobs are still taken would come back here.
            Outcome::Lost => self.stop.fetching.cancelled().await,
            Outcome::Failed(failure) if !result => {
                let attempt = begun.number;
                tracing::warn!(job_id = %job.id, %trace_id, attempt, %failure, ?settle, "attempt failed");
                begun.trace.failed(failure.code);
                self.store.end_attempt(job.id).await;
            }
            _ => {}
        }
        if let Some(is_better) = outcome.is_second_better() {
            let word = if is_better { "better" } else { "poor" };
            self.metrics.add(&metrics::SECOND_ANSWERS, &[word], 1.0);
        }
        let mut tokens = 0;
        if result {
            failpoint::reached(Failpoint::Answered);
            let finished = self.finished(&begun, outcome, dead_letter);
            begun.trace.answered(&finished.result);
            let usage = finished.result.usage;
            let started = Instant::now();
            let stored = self.put(job.class, trace_id, finished).await;
            begun.trace.stage("store", started, []);
            match stored {
                Ok(true) => {
                    tokens = u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens);
                }
                Ok(false) => {}
                Err(refused) => {
                    self.hand_back(job, receipt, &refused).await;
                    return begun.end(&self.worker);
                }
            }
            failpoint::reached(Failpoint::Stored);
        }
        let started = Instant::now();
        let said = KeyValue::new("lapidary.settle", settle_word(&settle));
        let spending = self.store.spend(&job.tenant, tokens);
        tokio::join!(spending, self.settle(job.class, receipt, settle));
        begun.trace.stage("settle", started, [said]);
        begun.end(&self.worker);
    }

    /// What is stored of an attempt whose outcome is the job's result.
    fn finished(
        &self,
        begun: &Begun<'_>,
        outcome: Outcome,
        dead_letter: Option<String>,
    ) -> Finished {
        let (job, now) = (begun.job, Utc::now());
        let made = Made {
            worker: &self.worker,
            model: &self.model,
            attempt: begun.number,
            begun_at: begun.at,
            now,
        };
        Finished {
            result: translate::result(job, outcome, &made),
            dead_letter: dead_letter.map(|reason| DeadLetter {
                job_id: job.id,
                job: Some(job.clone()),
                body: None,
                reason,
                attempts: begun.number,
                at: now,
            }),
        }
    }

    /// Stores a result; whether it is the job's first one.
    async fn put(
        &self,
        class: Class,
        trace_id: TraceId,
        finished: Finished,
    ) -> Result<bool, Refused> {
        let started = Instant::now();
        let (finished, stored) = self.store.put_once(finished).await?;
        self.metrics.observe(
            &metrics::STAGE_DURATION,
            &["store"],
            started.elapsed().as_secs_f64(),
        );
        match stored {
            Put::Stored => {
                self.count(class, trace_id, &finished.result);
                Ok(true)
            }
            Put::Already(_) => {
                tracing::info!(job_id = %finished.result.job_id, %trace_id, "had its result already");
                Ok(false)
            }
        }
    }

    /// Hands a job back whose attempt could not be counted, or whose result could not be stored.
    pub(crate) async fn hand_back(&self, job: &Job, receipt: Receipt, refused: &Refused) {
        if self.stop.working.is_cancelled() {
            self.store.interrupt(job.id).await;
            return self.settle(job.class, receipt, Settle::Interrupted).await;
        }
        let trace_id = TraceId::of(job);
        tracing::error!(job_id = %job.id, %trace_id, error = %refused, "the results store refuses this job");
        self.health
            .error(Instant::now(), format!("job {}: {refused}", job.id));
        self.settle(
            job.class,
            receipt,
            Settle::Retry {
                after: REFUSED_DELAY,
            },
        )
        .await;
    }

    /// A message that is no job: a failed result for whoever waits, a dead letter for the operator.
    pub(crate) async fn bury(&self, class: Class, unreadable: Undecodable, receipt: Receipt) {
        let now = Utc::now();
        let job_id = unreadable.job_id.unwrap_or_else(|| JobId::new(now));
        let body = &unreadable.body[..unreadable.body.len().min(DEAD_BODY_BYTES_MAX)];
        let reason = format!("unreadable message: {}", unreadable.message);
        tracing::error!(%job_id, reason, "dead");
        let failure = Failure::new(FailureCode::ValidationError, unreadable.message);
        let finished = Finished {
            result: translate::unreadable(job_id, failure, &self.worker, now),
            dead_letter: Some(DeadLetter {
                job_id,
                job: None,
                body: Some(String::from_utf8_lossy(body).into_owned()),
                reason: reason.clone(),
                attempts: 0,
                at: now,
            }),
        };
        let settle = match self.put(class, TraceId(job_id.0.as_u128()), finished).await {
            Ok(_) => Settle::Dead { reason },
            Err(_) if self.stop.working.is_cancelled() => Settle::Interrupted,
            Err(_) => Settle::Retry {
                after: REFUSED_DELAY,
            },
        };
        self.settle(class, receipt, settle).await;
    }

    /// Ends a loan. Too late or out of reach is no fault: the job comes back and finds its result.
    pub(crate) async fn settle(&self, class: Class, receipt: Receipt, settle: Settle) {
        let kind = settle_word(&settle);
        match self.store.settle(receipt, settle).await {
            Ok(()) => self
                .metrics
                .add(&metrics::SETTLES, &[class.as_str(), kind], 1.0),
            Err(error) => {
                self.metrics
                    .add(&metrics::SETTLE_ERRORS, &[class.as_str()], 1.0);
                if matches!(*error, QueueError::Unreachable { .. }) {
                    self.health.away(Part::Queue, &error);
                }
                tracing::warn!(kind, %error, "loan not ended; the job comes back");
            }
        }
    }

    fn count(&self, class: Class, trace_id: TraceId, result: &JobResult) {
        let metrics = &self.metrics;
        let class = class.as_str();
        let code = result
            .failure
            .as_ref()
            .map_or("NONE", |failure| failure.code.as_str());
        metrics.add(&metrics::JOBS, &[class, result.status.as_str(), code], 1.0);
        tracing::debug!(
            job_id = %result.job_id,
            %trace_id,
            status = result.status.as_str(),
            code,
            attempt = result.attempt,
            prompt_tokens = result.usage.prompt_tokens,
            completion_tokens = result.usage.completion_tokens,
            total_s = result.timings.total,
            "job"
        );
        self.count_verdicts(result);
        let timings = &result.timings;
        if class == Class::Interactive.as_str() {
            metrics.observe(&metrics::RESPONSE_TIME, &["job"], timings.total);
        }
        let Some(finish_reason) = result.finish_reason else {
            return;
        };
        for (stage, seconds) in [
            ("media", timings.media),
            ("filter", timings.filter),
            ("prefill", timings.prefill),
            ("decode", timings.decode),
        ] {
            metrics.observe(&metrics::STAGE_DURATION, &[stage], seconds);
        }
        metrics.observe(&metrics::TIME_TO_FIRST_TOKEN, &[class], timings.first_token);
        let usage = &result.usage;
        let (read, written) = (
            f64::from(usage.prompt_tokens),
            f64::from(usage.completion_tokens),
        );
        if let Some(rate) = result.tokens_per_second {
            metrics.observe(&metrics::TIME_PER_TOKEN, &[class], 1.0 / rate);
            metrics.observe(&metrics::JOB_RATE, &[class], rate);
        }
        metrics.add(&metrics::PROMPT_TOKENS, &[], read);
        metrics.add(&metrics::GENERATED_TOKENS, &[], written);
        metrics.add(&metrics::IMAGE_TOKENS, &[], f64::from(usage.image_tokens));
        metrics.observe(&metrics::PROMPT_LENGTH, &[class], read);
        metrics.observe(
            &metrics::ANSWER_LENGTH,
            &[class, finish_word(finish_reason)],
            written,
        );
    }

    fn count_verdicts(&self, result: &JobResult) {
        for verdict in &result.filter {
            let mode = if verdict.shadow { "shadow" } else { "enforced" };
            let labels = [&*verdict.stage, &*verdict.detector, &*verdict.action, mode];
            self.metrics.add(&metrics::FILTER_VERDICTS, &labels, 1.0);
        }
        let verdicts = result.filter.iter();
        let flaws: BTreeSet<&str> = verdicts
            .flat_map(|verdict| self.filters.flaws(verdict))
            .collect();
        for flaw in flaws {
            self.metrics.add(&metrics::POOR_ANSWERS, &[flaw], 1.0);
        }
    }
}

fn settle_word(settle: &Settle) -> &'static str {
    match settle {
        Settle::Done => "done",
        Settle::Retry { .. } => "retry",
        Settle::Interrupted => "interrupted",
        Settle::Dead { .. } => "dead",
    }
}

/// The name of a reason on the wire.
pub(crate) fn finish_word(reason: lapidary_schemas::FinishReason) -> &'static str {
    use lapidary_schemas::FinishReason;
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::ToolCalls => "tool_calls",
    }
}
