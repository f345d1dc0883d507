//! How this worker is: what is away, what went wrong lately, and how long an answer takes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lapidary_engine::{Class, Engine, GenerateInput, Message, Prompt, Role, Sampling};
use lapidary_schemas::metrics::{self, Metrics};
use serde::Serialize;

use crate::filter::Filters;

/// How old a measured response time may be before it is measured again.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// A response that takes longer makes the worker degraded.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(5);
/// A response that takes longer counts as none.
const PROBE_TIMEOUT: Duration = Duration::from_mins(1);
/// Tokens the probe generates.
const PROBE_TOKENS: usize = 10;
/// Errors that are remembered.
const ERRORS_KEPT: usize = 10;
/// How long an error makes a worker look degraded.
const ERROR_AGE_MAX: Duration = Duration::from_mins(1);

/// Something the worker depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Where jobs wait.
    Queue,
    /// Where results rest.
    Results,
}

impl Part {
    /// The name in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Results => "results",
        }
    }
}

/// In one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All is well.
    Healthy,
    /// It works, slowly or with something away.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// What `/health` answers.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// In one word.
    pub status: Status,
    /// Whether the model can answer.
    pub model_loaded: bool,
    /// Whether it reads images.
    pub multimodal_enabled: bool,
    /// Seconds a real short generation took, at most half a minute ago.
    pub response_time: Option<f64>,
    /// Resident memory, in megabytes of 2^20 bytes.
    pub memory_usage: Option<f64>,
    /// What is wrong now, and what went wrong in the last minute.
    pub errors: Vec<String>,
}

impl Report {
    /// While the model is being loaded.
    pub fn loading() -> Self {
        Self {
            status: Status::Unhealthy,
            model_loaded: false,
            multimodal_enabled: false,
            response_time: None,
            memory_usage: resident_bytes().map(megabytes),
            errors: vec!["the model is being loaded".to_owned()],
        }
    }
}

/// What serves once the models are loaded.
#[derive(Debug)]
pub struct Serving {
    /// The served model.
    pub engine: Engine,
    /// The policy, with the models that judge for it.
    pub filters: Filters,
}

impl Serving {
    /// What broke down without which no job is served here: only a new process helps.
    pub fn broken(&self) -> Option<String> {
        if let lapidary_engine::Health::Failed { message } = self.engine.health() {
            return Some(message);
        }
        let mut lost = self.filters.lost_judges().into_iter();
        lost.find(|lost| !lost.passable)
            .map(|lost| lost.to_string())
    }
}

#[derive(Debug, Default)]
struct State {
    away: BTreeMap<Part, String>,
    errors: VecDeque<(Instant, String)>,
}

/// How this worker is.
#[derive(Debug)]
pub struct Health {
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// The last probe; held while one runs, so that there is never more than one.
    probed: tokio::sync::Mutex<Option<(Instant, Result<Duration, String>)>>,
}

impl Health {
    /// Nothing is away and nothing went wrong; what will be is counted.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            state: Mutex::default(),
            probed: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part does not answer. Logs when that is news.
    pub fn away(&self, part: Part, error: &dyn std::fmt::Display) {
        let message = error.to_string();
        if self.state().away.insert(part, message.clone()).is_none() {
            self.metrics
                .set(&metrics::STORE_AWAY, &[part.as_str()], 1.0);
            tracing::warn!(
                ?part,
                error = message,
                "away; trying again until it is back"
            );
        }
    }

    /// A part answered. Logs when that is news.
    pub fn here(&self, part: Part) {
        if self.state().away.remove(&part).is_some() {
            self.metrics
                .set(&metrics::STORE_AWAY, &[part.as_str()], 0.0);
            self.metrics
                .add(&metrics::RECONNECTS, &[part.as_str()], 1.0);
            tracing::info!(?part, "back");
        }
    }

    /// What is away.
    pub fn parts_away(&self) -> Vec<Part> {
        self.state().away.keys().copied().collect()
    }

    /// Something went wrong that a person should see.
    pub fn error(&self, now: Instant, message: String) {
        let errors = &mut self.state().errors;
        errors.push_back((now, message));
        if errors.len() > ERRORS_KEPT {
            errors.pop_front();
        }
    }

    /// How it is, measuring the response time if the last one is too old. `measured` is told of it
    /// then.
    pub async fn report(
        &self,
        Serving { engine, filters }: &Serving,
        measured: impl Fn(Duration),
    ) -> Report {
        let model_loaded = engine.health() == lapidary_engine::Health::Running;
        let response = if model_loaded {
            Some(self.probe(engine, measured).await)
        } else {
            None
        };
        let mut errors = Vec::new();
        let mut status = Status::Healthy;
        match engine.health() {
            lapidary_engine::Health::Running => {}
            lapidary_engine::Health::Stopped => errors.push("the engine stopped".to_owned()),
            lapidary_engine::Health::Failed { message } => errors.push(message),
        }
        let response_time = match response {
            Some(Ok(time)) => {
                if time > RESPONSE_TIME_MAX {
                    status = Status::Degraded;
                    errors.push(format!(
                        "response time is {:.1} s, the limit is {} s",
                        time.as_secs_f64(),
                        RESPONSE_TIME_MAX.as_secs()
                    ));
                }
                Some(time.as_secs_f64())
            }
            Some(Err(message)) => {
                status = Status::Unhealthy;
                errors.push(message);
                None
            }
            None => None,
        };
        for lost in filters.lost_judges() {
            let worse = if lost.passable {
                Status::Degraded
            } else {
                Status::Unhealthy
            };
            status = status.max(worse);
            errors.push(lost.to_string());
        }
        let state = self.state();
        let recent = state
            .errors
            .iter()
            .filter(|(at, _)| at.elapsed() < ERROR_AGE_MAX);
        let before = errors.len();
        errors.extend(state.away.values().cloned());
        errors.extend(recent.map(|(_, message)| message.clone()));
        if errors.len() > before && status == Status::Healthy {
            status = Status::Degraded;
        }
        if !model_loaded {
            status = Status::Unhealthy;
        }
        Report {
            status,
            model_loaded,
            multimodal_enabled: false,
            response_time,
            memory_usage: resident_bytes().map(megabytes),
            errors,
        }
    }

    async fn probe(
        &self,
        engine: &Engine,
        measured: impl Fn(Duration),
    ) -> Result<Duration, String> {
        let mut probed = self.probed.lock().await;
        if let Some((at, result)) = &*probed
            && at.elapsed() < PROBE_INTERVAL
        {
            return result.clone();
        }
        let started = Instant::now();
        let result = match tokio::time::timeout(PROBE_TIMEOUT, greeting(engine)).await {
            Ok(Ok(())) => Ok(started.elapsed()),
            Ok(Err(message)) => Err(format!("health probe failed: {message}")),
            Err(_) => Err(format!(
                "health probe had no answer within {} s",
                PROBE_TIMEOUT.as_secs()
            )),
        };
        if let Ok(time) = result {
            measured(time);
        }
        *probed = Some((Instant::now(), result.clone()));
        result
    }
}

/// A real short generation, on a slot that bulk jobs may not take.
async fn greeting(engine: &Engine) -> Result<(), String> {
    let input = GenerateInput {
        prompt: Prompt::Chat {
            messages: vec![Message::text(Role::User, "Hello")],
        },
        sampling: Sampling::GREEDY,
        max_tokens: PROBE_TOKENS,
        stop: Vec::new(),
        end_loops: false,
        grammar: None,
        logprobs: None,
        class: Class::Interactive,
    };
    let generation = engine.submit(input).map_err(|error| error.to_string())?;
    generation
        .finish()
        .await
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// A line of `/proc/self/status`, in bytes.
fn status_bytes(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Memory this process has resident now.
pub fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS")
}

/// The most memory this process ever had resident.
pub fn peak_resident_bytes() -> Option<u64> {
    status_bytes("VmHWM")
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::metrics::Source;

    #[test]
    fn a_store_that_is_away_and_back_is_counted_once() {
        let metrics = Metrics::new("worker", "1", &[Source::Worker], &[]).unwrap();
        let health = Health::new(Arc::new(metrics));
        let shows = |lines: [&str; 2]| {
            let text = health.metrics.exposition().unwrap();
            for line in lines {
                assert!(text.contains(line), "{line} is not in\n{text}");
            }
        };
        health.away(Part::Results, &"gone");
        health.away(Part::Results, &"still gone");
        shows([
            "lapidary_store_away{store=\"results\"} 1",
            "lapidary_store_away{store=\"queue\"} 0",
        ]);
        health.here(Part::Results);
        health.here(Part::Results);
        shows([
            "lapidary_store_away{store=\"results\"} 0",
            "lapidary_reconnects_total{store=\"results\"} 1",
        ]);
    }
}
