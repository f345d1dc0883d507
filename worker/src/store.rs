//! The calls a job makes on queue and results: gathered, and repeated while a store is away.
//!
//! While results cannot be reached, jobs wait where they are and keep what they have. Their number
//! is bounded by the consumers, who take no more then, so nothing is lost and nothing grows.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapidary_schemas::limits::CALL_ITEMS_MAX;
use lapidary_schemas::metrics::{self, Metrics};
use lapidary_schemas::{Job, JobId};
use lapidary_transport::media::MediaError;
use lapidary_transport::queue::QueueError;
use lapidary_transport::results::{Allowance, Begin, Finished, Put, ResultsError};
use lapidary_transport::{
    AnyMedia, AnyQueue, AnyResults, OpenError, Place, PlaceUrls, Queue, Receipt, Results, Settle,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gather::Gather;
use crate::health::{Health, Part};

/// Waits between tries while a store is away: doubling from the first to the last.
const AWAY_FIRST: Duration = Duration::from_millis(200);
const AWAY_LONGEST: Duration = Duration::from_secs(5);
/// How long handing one's jobs back may take.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The three stores, shared.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    pub(crate) queue: Arc<AnyQueue>,
    pub(crate) results: Arc<AnyResults>,
    pub(crate) media: Arc<AnyMedia>,
}

impl From<Place> for Stores {
    fn from(
        Place {
            queue,
            results,
            media,
        }: Place,
    ) -> Self {
        Self {
            queue: Arc::new(queue),
            results: Arc::new(results),
            media: Arc::new(media),
        }
    }
}

impl Stores {
    /// Opens them. One that is out of reach is waited for, no longer than `patience` and one more
    /// try.
    pub(crate) async fn open(urls: &PlaceUrls, patience: Duration) -> Result<Self, OpenError> {
        let until = Instant::now() + patience;
        let mut wait = AWAY_FIRST;
        loop {
            let error = match Place::open(urls).await {
                Ok(place) => return Ok(place.into()),
                Err(error) => error,
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !is_out_of_reach(&error) {
                return Err(error);
            }
            tracing::warn!(%error, give_up_in_s = left.as_secs(), "trying again");
            tokio::time::sleep(wait.min(left)).await;
            wait = (wait * 2).min(AWAY_LONGEST);
        }
    }
}

/// Whether a store that could not be opened may be there later.
pub(crate) fn is_out_of_reach(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Queue(QueueError::Unreachable { .. })
            | OpenError::Results(ResultsError::Unreachable { .. })
            | OpenError::Media(MediaError::Unreachable { .. })
    )
}

/// The store refused, or the worker stopped before it answered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(Arc<ResultsError>);

/// The calls a job makes.
#[derive(Debug)]
pub(crate) struct Store {
    begin: Gather<Job, Result<Begin, Refused>>,
    put: Gather<Finished, (Finished, Result<Put, Refused>)>,
    interrupt: Gather<JobId, ()>,
    end_attempt: Gather<JobId, ()>,
    settle: Gather<(Receipt, Settle), Result<(), Arc<QueueError>>>,
    spend: Gather<(String, u64), ()>,
}

/// What the calls are made with.
#[derive(Debug, Clone)]
pub(crate) struct StoreParts {
    /// Queue and results.
    pub(crate) stores: Stores,
    /// Name of this worker.
    pub(crate) worker: Arc<str>,
    /// Where it is said that a store is away.
    pub(crate) health: Arc<Health>,
    /// Where it is said how long a call took.
    pub(crate) metrics: Arc<Metrics>,
    /// After this a call is tried once more and then given up.
    pub(crate) stop_working: CancellationToken,
}

impl Store {
    /// Starts the tasks that make the calls.
    pub(crate) fn start(tasks: &TaskTracker, parts: &StoreParts) -> Self {
        let (begin, put) = (Begun(parts.clone()), Stored(parts.clone()));
        let (interrupt, ended, settle) = (parts.clone(), parts.clone(), parts.clone());
        let spend = parts.clone();
        Self {
            begin: Gather::start(tasks, CALL_ITEMS_MAX, move |jobs| {
                let begin = begin.clone();
                async move { each(&begin, &jobs).await }
            }),
            put: Gather::start(tasks, CALL_ITEMS_MAX, move |finished: Vec<_>| {
                let put = put.clone();
                async move {
                    let answers = each(&put, &finished).await;
                    finished.into_iter().zip(answers).collect()
                }
            }),
            interrupt: Gather::start(tasks, CALL_ITEMS_MAX, move |jobs: Vec<JobId>| {
                let parts = interrupt.clone();
                async move { parts.interrupt(&jobs).await }
            }),
            spend: Gather::start(tasks, CALL_ITEMS_MAX, move |spent| {
                let parts = spend.clone();
                async move { parts.spend(spent).await }
            }),
            end_attempt: Gather::start(tasks, CALL_ITEMS_MAX, move |jobs: Vec<JobId>| {
                let parts = ended.clone();
                async move { parts.end_attempt(&jobs).await }
            }),
            settle: Gather::start(tasks, CALL_ITEMS_MAX, move |settled| {
                let parts = settle.clone();
                async move {
                    let settling = parts.stores.queue.settle(settled);
                    let answers = parts.timed("settle", settling).await;
                    answers
                        .into_iter()
                        .map(|answer| answer.map_err(Arc::new))
                        .collect()
                }
            }),
        }
    }

    /// Counts an attempt, see [`Results::begin`].
    pub(crate) async fn begin(&self, job: Job) -> Result<Begin, Refused> {
        self.begin
            .call(job)
            .await
            .unwrap_or_else(|| Err(Refused::unanswered()))
    }

    /// Stores a job's result, see [`Results::put_once`]; gives it back with what became of it.
    pub(crate) async fn put_once(&self, finished: Finished) -> Result<(Finished, Put), Refused> {
        let (finished, stored) = self
            .put
            .call(finished)
            .await
            .ok_or_else(Refused::unanswered)?;
        Ok((finished, stored?))
    }

    /// Counts tokens against what a tenant may use, as well as it can be done at once.
    pub(crate) async fn spend(&self, tenant: &str, tokens: u64) {
        if tokens > 0 {
            self.spend.call((tenant.to_owned(), tokens)).await;
        }
    }

    /// Says that an attempt is over, see [`Results::end_attempt`], as well as it can be done in a short
    /// time.
    pub(crate) async fn end_attempt(&self, job: JobId) {
        self.end_attempt.call(job).await;
    }

    /// Undoes `begin`, as well as it can be done in a short time.
    pub(crate) async fn interrupt(&self, job: JobId) {
        self.interrupt.call(job).await;
    }

    /// Ends a loan. A receipt is good once, so there is no second try: a loan that was not ended
    /// brings the job back, and `begin` finds its result.
    pub(crate) async fn settle(
        &self,
        receipt: Receipt,
        settle: Settle,
    ) -> Result<(), Arc<QueueError>> {
        self.settle
            .call((receipt, settle))
            .await
            .unwrap_or(Err(Arc::new(QueueError::LoanEnded)))
    }
}

impl Refused {
    fn unanswered() -> Self {
        Self(Arc::new(ResultsError::Conflict {
            message: "the call was not answered".to_owned(),
        }))
    }
}

/// A call on the results store that takes many items and answers each in order.
trait Call: Sync {
    const NAME: &'static str;
    type Item: Sync;
    type Answer: Send;

    fn parts(&self) -> &StoreParts;

    fn make(
        &self,
        items: &[Self::Item],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, ResultsError>> + Send;
}

/// [`Results::begin`].
#[derive(Debug, Clone)]
struct Begun(StoreParts);

impl Call for Begun {
    const NAME: &'static str = "begin";
    type Item = Job;
    type Answer = Begin;

    fn parts(&self) -> &StoreParts {
        &self.0
    }

    async fn make(&self, jobs: &[Job]) -> Result<Vec<Begin>, ResultsError> {
        self.0.stores.results.begin(jobs, &self.0.worker).await
    }
}

/// [`Results::put_once`].
#[derive(Debug, Clone)]
struct Stored(StoreParts);

impl Call for Stored {
    const NAME: &'static str = "put_once";
    type Item = Finished;
    type Answer = Put;

    fn parts(&self) -> &StoreParts {
        &self.0
    }

    async fn make(&self, finished: &[Finished]) -> Result<Vec<Put>, ResultsError> {
        self.0.stores.results.put_once(finished).await
    }
}

/// One call for all items; where the store refuses it, one call each, so that an item that cannot be
/// stored stands alone.
async fn each<C: Call>(call: &C, items: &[C::Item]) -> Vec<Result<C::Answer, Refused>> {
    match until_answered(call, items).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) if items.len() == 1 || is_away(&error) => {
            let refused = Refused(Arc::new(error));
            items.iter().map(|_| Err(refused.clone())).collect()
        }
        Err(_) => {
            let mut answers = Vec::with_capacity(items.len());
            for item in items {
                let answer = until_answered(call, std::slice::from_ref(item)).await;
                answers.push(match answer.map(|mut answers| answers.pop()) {
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => Err(Refused::unanswered()),
                    Err(error) => Err(Refused(Arc::new(error))),
                });
            }
            answers
        }
    }
}

/// Repeats a call while the store is away, until the worker stops.
async fn until_answered<C: Call>(
    call: &C,
    items: &[C::Item],
) -> Result<Vec<C::Answer>, ResultsError> {
    let parts = call.parts();
    let mut wait = AWAY_FIRST;
    loop {
        let error = match parts.timed(C::NAME, call.make(items)).await {
            Ok(answers) => {
                parts.health.here(Part::Results);
                return Ok(answers);
            }
            Err(error) if is_away(&error) => error,
            Err(error) => return Err(error),
        };
        parts.health.away(Part::Results, &error);
        tokio::select! {
            () = parts.stop_working.cancelled() => return Err(error),
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(AWAY_LONGEST),
        }
    }
}

impl StoreParts {
    /// Makes a call and records how long it took.
    async fn timed<T>(&self, name: &str, call: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let answer = call.await;
        let took = started.elapsed().as_secs_f64();
        self.metrics.observe(&metrics::STORE_CALL, &[name], took);
        answer
    }

    async fn spend(&self, spent: Vec<(String, u64)>) -> Vec<()> {
        let answers = vec![(); spent.len()];
        let mut tenants: BTreeMap<String, u64> = BTreeMap::new();
        for (tenant, tokens) in spent {
            *tenants.entry(tenant).or_default() += tokens;
        }
        for (tenant, tokens) in tenants {
            let allowance = Allowance::tokens(&tenant, Allowance::UNLIMITED);
            let call = self.stores.results.take(&allowance, tokens);
            if let Err(error) = self.timed("spend", call).await {
                tracing::warn!(tokens, %error, "tokens of a tenant are not counted");
            }
        }
        answers
    }

    async fn end_attempt(&self, jobs: &[JobId]) -> Vec<()> {
        let call = self.stores.results.end_attempt(jobs, &self.worker);
        let call = tokio::time::timeout(INTERRUPT_TIMEOUT, call);
        if !matches!(self.timed("end_attempt", call).await, Ok(Ok(()))) {
            tracing::warn!(
                jobs = jobs.len(),
                "not said that attempts are over; the jobs will be suspected"
            );
        }
        vec![(); jobs.len()]
    }

    async fn interrupt(&self, jobs: &[JobId]) -> Vec<()> {
        let call = self.stores.results.interrupt(jobs, &self.worker);
        let call = tokio::time::timeout(INTERRUPT_TIMEOUT, call);
        match self.timed("interrupt", call).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(jobs = jobs.len(), %error, "attempts of jobs handed back count");
            }
            Err(_) => {
                tracing::warn!(
                    jobs = jobs.len(),
                    "attempts of jobs handed back count: no answer"
                );
            }
        }
        vec![(); jobs.len()]
    }
}

/// Whether the same call may succeed later.
fn is_away(error: &ResultsError) -> bool {
    matches!(
        error,
        ResultsError::Unreachable { .. } | ResultsError::StorageFull { .. }
    )
}
