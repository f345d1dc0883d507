//! The engine thread: takes requests in, steps while there are any, and says how it is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::ForwardError;
use crate::request::Request;
use crate::step::{Core, StepReport};

/// Whether the engine works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It takes requests.
    Running,
    /// It was stopped.
    Stopped,
    /// It broke down and takes no more requests.
    Failed {
        /// What happened.
        message: String,
    },
}

/// What the engine did since it started, and what it is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sequences that run.
    pub running: usize,
    /// Sequences that wait.
    pub waiting: usize,
    /// Steps so far.
    pub steps: u64,
    /// Prompt tokens read so far, repeats after preemption included.
    pub prefill_tokens: u64,
    /// Tokens that answers were continued from, so far, drafts that held included.
    pub decode_tokens: u64,
    /// Tokens drafted for answers, so far.
    pub drafted_tokens: u64,
    /// How many of those were then drawn.
    pub accepted_tokens: u64,
    /// Time spent in steps so far.
    pub busy: Duration,
    /// Time spent so far in steps that only continue answers.
    pub decode_busy: Duration,
    /// Tokens continued in those steps.
    pub decode_only_tokens: u64,
    /// Views of pictures encoded so far.
    pub views_encoded: u64,
    /// Time spent on those so far, between steps.
    pub vision_busy: Duration,
    /// Blocks of the global pool in use by sequences.
    pub kv_global_used: usize,
    /// All blocks of the global pool.
    pub kv_global_total: usize,
    /// Blocks of the local pool in use by sequences.
    pub kv_local_used: usize,
    /// All blocks of the local pool.
    pub kv_local_total: usize,
    /// Times a running sequence was sent back to wait for blocks.
    pub preemptions: u64,
    /// Prompt tokens of the sequences that ran.
    pub prompt_tokens: u64,
    /// How many of those were taken over from earlier sequences.
    pub cached_tokens: u64,
}

impl Stats {
    fn record(&mut self, core: &Core, report: Option<StepReport>) {
        let scheduler = &core.scheduler;
        let (kv, counts) = (scheduler.kv(), scheduler.counts());
        self.running = scheduler.running_count();
        self.waiting = scheduler.waiting_count();
        self.kv_global_used = kv.global().held();
        self.kv_global_total = kv.global().total();
        self.kv_local_used = kv.local().held();
        self.kv_local_total = kv.local().total();
        self.preemptions = counts.preemptions;
        self.prompt_tokens = counts.prompt_tokens;
        self.cached_tokens = counts.cached_tokens;
        self.drafted_tokens = counts.drafted_tokens;
        self.accepted_tokens = counts.accepted_tokens;
        self.views_encoded = core.vision.views;
        self.vision_busy = core.vision.busy;
        let Some(report) = report else { return };
        self.steps += 1;
        self.prefill_tokens += report.prefill_tokens as u64;
        self.decode_tokens += report.decode_tokens as u64;
        self.busy += report.duration;
        if report.prefill_tokens == 0 {
            self.decode_busy += report.duration;
            self.decode_only_tokens += report.decode_tokens as u64;
        }
    }
}

type StepObserver = Box<dyn Fn(&StepReport) + Send + Sync>;

/// Who hears of every step.
#[derive(Default)]
struct Observer(OnceLock<StepObserver>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let there = self.0.get().is_some();
        f.debug_tuple("Observer").field(&there).finish()
    }
}

/// What the thread shows to the outside.
#[derive(Debug)]
pub(crate) struct Shared {
    health: Mutex<Health>,
    stats: Mutex<Stats>,
    /// Since when a step has been under way.
    stepping: Mutex<Option<Instant>>,
    observer: Observer,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(core: &Core) -> Self {
        let mut stats = Stats::default();
        stats.record(core, None);
        Self {
            health: Mutex::new(Health::Running),
            stats: Mutex::new(stats),
            stepping: Mutex::new(None),
            observer: Observer::default(),
        }
    }

    /// From here on `observer` hears of every step. Whoever comes first stays.
    pub(crate) fn observe(&self, observer: impl Fn(&StepReport) + Send + Sync + 'static) {
        self.observer.0.get_or_init(|| Box::new(observer));
    }

    pub(crate) fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    /// Counts the engine as broken down, unless it has ended.
    pub(crate) fn give_up(&self, message: String) {
        let mut health = lock(&self.health);
        if *health == Health::Running {
            *health = Health::Failed { message };
        }
    }

    /// How long the step has taken that is under way; nothing between steps.
    pub(crate) fn step_time(&self) -> Duration {
        lock(&self.stepping).map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(crate) fn stats(&self) -> Stats {
        *lock(&self.stats)
    }
}

/// Serves until the other end of `requests` is gone, or the engine breaks down. Either way every
/// request that is left then is told so.
pub(crate) fn run(mut core: Core, requests: &Receiver<Box<Request>>, shared: &Shared) {
    // A panic leaves the core in an unknown state: nothing of it is used again but the replies.
    let served = catch_unwind(AssertUnwindSafe(|| serve(&mut core, requests, shared)));
    let health = match served {
        Ok(Ok(())) => Health::Stopped,
        Ok(Err(error)) => Health::Failed {
            message: error.to_string(),
        },
        Err(panic) => Health::Failed {
            message: format!("engine thread panicked: {}", panic_text(&*panic)),
        },
    };
    if let Health::Failed { message } = &health {
        tracing::error!(message, "engine failed");
    }
    *lock(&shared.health) = health;
    core.requests.clear();
}

fn serve(
    core: &mut Core,
    requests: &Receiver<Box<Request>>,
    shared: &Shared,
) -> Result<(), ForwardError> {
    loop {
        if core.requests.is_empty() {
            match requests.recv() {
                Ok(request) => core.submit(*request),
                Err(_) => return Ok(()),
            }
        }
        loop {
            match requests.try_recv() {
                Ok(request) => core.submit(*request),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        *lock(&shared.stepping) = Some(Instant::now());
        let report = core.step()?;
        *lock(&shared.stepping) = None;
        lock(&shared.stats).record(core, report);
        if let (Some(report), Some(observer)) = (report, shared.observer.0.get()) {
            observer(&report);
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
