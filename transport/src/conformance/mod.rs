//! What every maker promises, as cases that run on each of them.
//!
//! A behaviour that no case shows is not promised. A maker is examined through its
//! [`QueueEnvironment`], [`ResultsEnvironment`] or [`MediaEnvironment`]: a store of its own, and what
//! the world may do to it. Each case gets a new environment; cases run side by side.

#![expect(clippy::unwrap_used, reason = "a broken promise ends its case")]

mod allowances;
mod batches;
mod cancelling;
mod delivery;
mod elections;
#[cfg(test)]
mod embedded;
mod environment;
mod feeding;
mod jobs;
mod media;
mod pausing;
mod racing;
mod records;
pub mod samples;
mod settling;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

pub use environment::{MediaEnvironment, QueueEnvironment, ResultsEnvironment};

/// Longest time a case may take.
const CASE_TIME_MAX: Duration = Duration::from_mins(1);
/// Cases under way at once.
const CASES_AT_ONCE: usize = 4;
/// Distance of two looks at something that becomes true by itself.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A case: its name and its steps, which panic where the maker breaks a promise.
struct Case<E> {
    name: &'static str,
    run: for<'a> fn(&'a E) -> BoxFuture<'a, ()>,
}

/// Lists functions as cases under their own names.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        vec![$($crate::conformance::Case {
            name: stringify!($case),
            run: |environment| futures::FutureExt::boxed($case(environment)),
        }),*]
    };
}
pub(crate) use cases;

/// Runs every case of the queue; panics with the names of those that failed and why.
pub async fn exercise_queue<E, F>(environment: impl Fn() -> F)
where
    E: QueueEnvironment,
    F: Future<Output = E>,
{
    let cases = [delivery::cases(), settling::cases(), racing::queue_cases()];
    exercise("queue", cases.into_iter().flatten(), environment).await;
}

/// Runs every case of the results store; panics with the names of those that failed and why.
pub async fn exercise_results<E, F>(environment: impl Fn() -> F)
where
    E: ResultsEnvironment,
    F: Future<Output = E>,
{
    let cases = [
        jobs::cases(),
        cancelling::cases(),
        pausing::cases(),
        batches::cases(),
        feeding::cases(),
        elections::cases(),
        records::cases(),
        allowances::cases(),
        racing::results_cases(),
    ];
    exercise("results", cases.into_iter().flatten(), environment).await;
}

/// Runs every case of the media store; panics with the names of those that failed and why.
pub async fn exercise_media<E, F>(environment: impl Fn() -> F)
where
    E: MediaEnvironment,
    F: Future<Output = E>,
{
    exercise("media", media::cases().into_iter(), environment).await;
}

async fn exercise<E, F>(
    seam: &str,
    cases: impl Iterator<Item = Case<E>>,
    environment: impl Fn() -> F,
) where
    F: Future<Output = E>,
{
    let run = cases.map(|case| {
        let environment = environment();
        async move {
            let steps = async {
                let environment = environment.await;
                (case.run)(&environment).await;
            };
            match tokio::time::timeout(CASE_TIME_MAX, AssertUnwindSafe(steps).catch_unwind()).await
            {
                Ok(Ok(())) => None,
                Ok(Err(panic)) => Some(format!("{}: {}", case.name, reason(&*panic))),
                Err(_) => Some(format!("{}: not done in {CASE_TIME_MAX:?}", case.name)),
            }
        }
    });
    let failed: Vec<String> = futures::stream::iter(run)
        .buffer_unordered(CASES_AT_ONCE)
        .filter_map(|one| async { one })
        .collect()
        .await;
    assert!(
        failed.is_empty(),
        "{seam} breaks {} promises:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

fn reason(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panicked without a message".to_owned())
}

/// Waits until `look` answers true; the case's own time limit ends it.
async fn until<F: Future<Output = bool>>(mut look: impl FnMut() -> F) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while !look().await {
        looks.tick().await;
    }
}
