//! The straight line of one job, from its delivery to its settlement.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use lapidary_engine::{GenerateInput, Prompt, SubmitError};
use lapidary_schemas::validate::validate_job;
use lapidary_schemas::{Class, Failure, FailureCode, Job, ValidRequest, Work, metrics};
use lapidary_transport::failpoint::{self, Failpoint};
use lapidary_transport::traces::KeyValue;
use lapidary_transport::{Delivery, Settle};

use crate::filter::{Asked, Decision, Manner, Ruling, Shown, Stage};
use crate::line::{Ended, Line, RUNNING_HERE_DELAY};
use crate::media::Loaded;
use crate::outcome::{Answer, Outcome};
use crate::settle::{Attempt, settle_for};
use crate::trace::Begun;
use crate::turns::{Tries, Turn};
use crate::{stream, translate};

/// Works on one delivery until it is settled.
pub(crate) async fn work_job(line: &Line, class: Class, delivery: Delivery) {
    let Delivery { body, receipt } = delivery;
    let job = match body {
        Ok(job) => job,
        Err(unreadable) => return line.bury(class, unreadable, receipt).await,
    };
    let Some(watch) = line.running.enter(job.id) else {
        // Its first loan ended while it runs here; it will find its result when it comes back.
        let settle = Settle::Retry {
            after: RUNNING_HERE_DELAY,
        };
        return line.settle(class, receipt, settle).await;
    };
    failpoint::reached(Failpoint::Received);
    let (turn, tries) = match line.turn(&job).await {
        Ok(Turn::Mine { held, tries }) => (held, tries),
        Ok(Turn::Over(settle)) => return line.settle(class, receipt, settle).await,
        Err(refused) => return line.hand_back(&job, receipt, &refused).await,
    };
    failpoint::reached(Failpoint::Begun);
    let number = tries.attempt;
    let begun = line.begun(&job, number, Utc::now());
    let outcome = tokio::select! {
        biased;
        () = watch.cancelled.cancelled() => Outcome::Cancelled,
        () = passed(job.deadline) => Outcome::Expired,
        () = line.stop.working.cancelled() => Outcome::Interrupted,
        outcome = attempt(line, &begun, tries) => outcome,
    };
    drop(turn);
    let outcome = match outcome {
        Outcome::Failed(_) | Outcome::Interrupted if line.engine_failed() => Outcome::Lost,
        other => other,
    };
    let which = Attempt {
        job: job.id,
        number,
        max: job.attempts_max,
    };
    let decision = settle_for(&outcome, which, &line.policy);
    let ended = Ended {
        begun,
        outcome,
        decision,
    };
    line.end(ended, receipt).await;
}

/// One attempt: preparation, filters, generation.
async fn attempt(line: &Line, begun: &Begun<'_>, tries: Tries) -> Outcome {
    if let Some(message) = tries.given_up(begun.job.attempts_max) {
        return Outcome::Failed(Failure::new(FailureCode::WorkerLost, message));
    }
    // The one place where a panic is caught: it is one job's, and the queue serves others too.
    match AssertUnwindSafe(answer(line, begun)).catch_unwind().await {
        Ok(Ok(answer)) => Outcome::Answered(Box::new(answer)),
        Ok(Err(outcome)) => outcome,
        Err(panic) => Outcome::Failed(panicked(panic.as_ref())),
    }
}

/// The answer to a job.
async fn answer(line: &Line, begun: &Begun<'_>) -> Result<Answer, Outcome> {
    let (job, started) = (begun.job, Instant::now());
    let request = validate_job(job, &line.request_policy).map_err(Outcome::Failed)?;
    let loaded = line.media.load(job, request.messages()).await;
    begun.trace.stage("media", started, []);
    let Loaded { media, held: _held } = loaded.map_err(Outcome::Failed)?;
    let mut answer = Answer {
        media: started.elapsed(),
        ..Answer::default()
    };
    let mut prompt = translate::prompt(&request, media, line.filters.fences_documents());
    let asked = check_request(line, begun, &mut prompt, &mut answer).await?;
    if job.work == Work::Moderation {
        return Ok(answer);
    }
    let input = prepare(line, job, &request, prompt)
        .await
        .map_err(Outcome::Failed)?;
    answer.prepared = started.elapsed();
    let again = line.filters.tries_again();
    let second = again.then(|| translate::once_more(job, input.clone()));
    let mut poor = generate(line, begun, (input, &asked), &mut answer).await?;
    if let (Some(Poor { again: true, .. }), Some(input)) = (&poor, second) {
        answer.second = true;
        poor = generate(line, begun, (input, &asked), &mut answer).await?;
    }
    match poor {
        Some(poor) => Err(Outcome::Poor(Box::new((poor.failure, answer)))),
        None => Ok(answer),
    }
}

/// Shows what is asked to the filters; returns what the answer is looked at by.
async fn check_request(
    line: &Line,
    begun: &Begun<'_>,
    prompt: &mut Prompt,
    answer: &mut Answer,
) -> Result<Asked, Outcome> {
    let class = translate::class(begun.job);
    let mut shown = Shown::to(class);
    shown.texts = translate::take_texts(prompt);
    let passed = check(line, begun, (Stage::InputText, shown), answer).await?;
    let asked = line.filters.asked(&passed.texts);
    translate::put_texts(prompt, passed.texts);
    let mut shown = Shown::to(class);
    shown.images = translate::images(prompt);
    if !shown.images.is_empty() && line.filters.looks_at(Stage::InputImage) {
        check(line, begun, (Stage::InputImage, shown), answer).await?;
    }
    Ok(asked)
}

/// Why an answer is given to nobody.
struct Poor {
    failure: Failure,
    /// Whether another try may be better.
    again: bool,
}

/// Makes an answer, and shows it to the filters.
async fn generate(
    line: &Line,
    begun: &Begun<'_>,
    (input, asked): (GenerateInput, &Asked),
    answer: &mut Answer,
) -> Result<Option<Poor>, Outcome> {
    let (job, submitted) = (begun.job, Instant::now());
    let refused = |error| Outcome::Failed(translate::refused(&error, &line.model.name));
    failpoint::reached(Failpoint::Prepared);
    let generation = line.engine.submit(input).map_err(refused)?;
    failpoint::reached(Failpoint::Generating);
    let generated = stream::finish(line, job, generation).await;
    let generated = generated.map_err(|error| Outcome::Failed(translate::ungenerated(&error)))?;
    begun.trace.generated(submitted, &generated);
    let shown = Shown {
        texts: vec![generated.text.clone()],
        asked: asked.clone(),
        ..Shown::to(translate::class(job))
    };
    answer.generated = Some(generated);
    let mut passed = check(line, begun, (Stage::OutputText, shown), answer).await?;
    if let Ruling::Poor { failure, again } = passed.ruling {
        return Ok(Some(Poor { failure, again }));
    }
    let Some(generated) = &mut answer.generated else {
        return Ok(None);
    };
    generated.text = passed.texts.pop().unwrap_or_default();
    if passed.redacted {
        // They would tell what was replaced.
        generated.logprobs = None;
    }
    match translate::calls(job, generated) {
        Ok(calls) => {
            answer.calls = calls;
            Ok(None)
        }
        Err(failure) => Ok(Some(Poor {
            failure,
            again: false,
        })),
    }
}

/// Shows something to the filters of a stage.
async fn check(
    line: &Line,
    begun: &Begun<'_>,
    (stage, shown): (Stage, Shown),
    answer: &mut Answer,
) -> Result<Decision, Outcome> {
    let (job, started) = (begun.job, Instant::now());
    let manner = match job.work {
        Work::Moderation => Manner::Report,
        Work::Chat | Work::Score => Manner::Enforce,
    };
    let checking = line.filters.check(&line.compute, (stage, manner), shown);
    let mut decision = checking.await;
    answer.filter += started.elapsed();
    let said = KeyValue::new("lapidary.filter.stage", stage.as_str());
    begun.trace.stage("filter", started, [said]);
    for (detector, took) in &decision.looks {
        let labels = [stage.as_str(), detector];
        line.metrics
            .observe(&metrics::FILTER_DURATION, &labels, took.as_secs_f64());
    }
    for detector in &decision.unable {
        let labels = [stage.as_str(), detector];
        line.metrics.add(&metrics::FILTER_ERRORS, &labels, 1.0);
        tracing::warn!(job_id = %job.id, stage = stage.as_str(), detector, "filter could not tell");
    }
    if let Some(content) = &decision.content {
        tracing::debug!(job_id = %job.id, stage = stage.as_str(), content, "filter found something");
    }
    answer.verdicts.append(&mut decision.verdicts);
    match decision.ruling {
        Ruling::Pass | Ruling::Poor { .. } => Ok(decision),
        Ruling::Refused(failure) => {
            let answer = std::mem::take(answer);
            Err(Outcome::Filtered(Box::new((failure, answer))))
        }
        Ruling::Unavailable(failure) => Err(Outcome::Failed(failure)),
    }
}

/// Makes the tokens of the prompt, and what its answer must keep to.
async fn prepare(
    line: &Line,
    job: &Job,
    request: &ValidRequest,
    prompt: Prompt,
) -> Result<GenerateInput, Failure> {
    let (engine, form) = (line.engine.clone(), translate::form(request));
    let work = move || -> Result<_, SubmitError> {
        let grammar = form.map(|form| engine.grammar(&form)).transpose()?;
        Ok((engine.prepare(&prompt)?, grammar))
    };
    let prepared = line.compute.run(work).await;
    let (prepared, grammar) = prepared
        .map_err(|panic| panicked(panic.as_ref()))?
        .map_err(|error| translate::refused(&error, &line.model.name))?;
    let room = line.engine.sequence_tokens_max();
    let tokens_max = translate::output_tokens(request, prepared.tokens().len(), room);
    let asked = (Prompt::Prepared(prepared), grammar);
    let end_loops = line.filters.refuses_loops();
    Ok(translate::generate_input(
        job, request, asked, tokens_max, end_loops,
    ))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    Failure::new(
        FailureCode::Internal,
        format!("panic while working on it: {}", panic_text(panic)),
    )
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Waits for the deadline; for ever where there is none.
async fn passed(deadline: Option<DateTime<Utc>>) {
    let Some(deadline) = deadline else {
        return std::future::pending().await;
    };
    if let Ok(left) = (deadline - Utc::now()).to_std() {
        tokio::time::sleep(left).await;
    }
}
