//! The straight line of one job, from its delivery to its settlement.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use lapidary_engine::Prompt;
use lapidary_schemas::validate::validate_job;
use lapidary_schemas::{Class, Failure, FailureCode, Job, ValidRequest};
use lapidary_transport::results::Begin;
use lapidary_transport::{Delivery, Settle};

use crate::filter::Stage;
use crate::line::{Ended, Line, RUNNING_HERE_DELAY};
use crate::media::Loaded;
use crate::outcome::{Answer, Outcome};
use crate::settle::{Attempt, settle_for};
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
    let number = match line.store.begin(job.clone()).await {
        Ok(Begin::Attempt(number)) => number,
        Ok(Begin::Finished | Begin::Cancelled) => {
            return line.settle(class, receipt, Settle::Done).await;
        }
        Err(refused) => return line.hand_back(&job, receipt, &refused).await,
    };
    let begun_at = Utc::now();
    line.begun(&job, number, begun_at);
    let outcome = tokio::select! {
        biased;
        () = watch.cancelled.cancelled() => Outcome::Cancelled,
        () = passed(job.deadline) => Outcome::Expired,
        () = line.stop.working.cancelled() => Outcome::Interrupted,
        outcome = attempt(line, &job, number) => outcome,
    };
    let which = Attempt {
        job: job.id,
        number,
        max: job.attempts_max,
    };
    let decision = settle_for(&outcome, which, &line.policy);
    line.end(
        Ended {
            job: &job,
            attempt: number,
            begun_at,
            outcome,
            decision,
        },
        receipt,
    )
    .await;
}

/// One attempt: preparation, filters, generation.
async fn attempt(line: &Line, job: &Job, number: u32) -> Outcome {
    if number > job.attempts_max {
        // Each of them ended with its worker's death: one more would end this one.
        let message = format!("workers died on it in {} attempts", number - 1);
        return Outcome::Failed(Failure::new(FailureCode::WorkerLost, message));
    }
    // The one place where a panic is caught: it is one job's, and the queue serves others too.
    match AssertUnwindSafe(answer(line, job)).catch_unwind().await {
        Ok(Ok(answer)) => Outcome::Answered(Box::new(answer)),
        Ok(Err(outcome)) => outcome,
        Err(panic) => Outcome::Failed(panicked(panic.as_ref())),
    }
}

/// The answer to a job.
async fn answer(line: &Line, job: &Job) -> Result<Answer, Outcome> {
    let started = Instant::now();
    let request = validate_job(job, &line.request_policy).map_err(Outcome::Failed)?;
    let loaded = line.media.load(job, request.messages()).await;
    let Loaded { media, held: _held } = loaded.map_err(Outcome::Failed)?;
    let mut answer = Answer {
        media: started.elapsed(),
        ..Answer::default()
    };
    let prompt = translate::prompt(&request, media);
    check(
        line,
        Stage::InputText,
        &translate::texts(&prompt),
        &mut answer,
    )?;
    let generation = submit(line, job, request, prompt)
        .await
        .map_err(Outcome::Failed)?;
    answer.prepared = started.elapsed();
    let generated = stream::finish(line, job, generation).await;
    let generated = generated.map_err(|error| Outcome::Failed(translate::ungenerated(&error)))?;
    let text = generated.text.clone();
    let calls = translate::calls(job, &generated);
    answer.generated = Some(generated);
    check(line, Stage::OutputText, &[&text], &mut answer)?;
    answer.calls = calls.map_err(Outcome::Failed)?;
    Ok(answer)
}

fn check(line: &Line, stage: Stage, texts: &[&str], answer: &mut Answer) -> Result<(), Outcome> {
    let started = Instant::now();
    let decision = line.filters.check(stage, texts);
    answer.filter += started.elapsed();
    answer.verdicts.extend(decision.verdicts);
    match decision.refusal {
        Some(failure) => Err(Outcome::Filtered(Box::new((
            failure,
            std::mem::take(answer),
        )))),
        None => Ok(()),
    }
}

/// Makes the tokens of the prompt, off the threads that serve connections, and submits them.
async fn submit(
    line: &Line,
    job: &Job,
    request: ValidRequest,
    prompt: Prompt,
) -> Result<lapidary_engine::Generation, Failure> {
    let engine = line.engine.clone();
    let _turn = line.preparing.acquire().await;
    let prepared = tokio::task::spawn_blocking(move || (engine.prepare(&prompt), request)).await;
    let (prepared, request) = prepared.map_err(|error| match error.try_into_panic() {
        Ok(panic) => panicked(panic.as_ref()),
        Err(error) => Failure::new(FailureCode::Internal, error.to_string()),
    })?;
    let prepared = prepared.map_err(|error| translate::unprompted(&error))?;
    let room = line.engine.sequence_tokens_max();
    let tokens_max = translate::output_tokens(&request, prepared.tokens().len(), room);
    let input = translate::generate_input(job, &request, Prompt::Prepared(prepared), tokens_max);
    line.engine
        .submit(input)
        .map_err(|error| translate::refused(&error, &line.model.name))
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
