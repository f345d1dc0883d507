//! What somebody should look at, worst first; nothing where all is well.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::ids;
use super::pulse::{Look, Seen};

/// Time without any result of a model over which it does not look well.
const STILL_MAX: TimeDelta = TimeDelta::minutes(2);
/// Time for which a batch that has ended is spoken of.
const ENDED_SPOKEN_OF: TimeDelta = TimeDelta::minutes(15);
/// Failures among a hundred requests from which a batch is spoken of, and from which it is a problem.
const FAILURES_PERCENT: [u64; 2] = [5, 50];

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// Work stands still or is lost.
    Problem,
    /// Worth a look.
    Attention,
}

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ConcernKind")]
pub(crate) enum Kind {
    /// A store does not answer.
    StoreAway,
    /// No worker serves a model that is asked for.
    ModelUnserved,
    /// Nothing comes of a model.
    ModelStill,
    /// Requests of a batch fail.
    BatchFailing,
    /// Jobs have died.
    DeadLetters,
}

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Concern {
    pub(super) kind: Kind,
    pub(super) level: Level,
    pub(crate) message: String,
    /// The batch that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) batch_id: Option<String>,
}

impl Concern {
    fn new(kind: Kind, level: Level, message: String) -> Self {
        Self {
            kind,
            level,
            message,
            batch_id: None,
        }
    }
}

/// What one who sees these batches should look at; an operator also sees what waits besides them, and
/// what has died.
pub(crate) fn concerns(look: &Look, batches: &[&Seen], is_operator: bool) -> Vec<Concern> {
    let away = look.away.iter();
    let mut found: Vec<Concern> = away
        .map(|away| Concern::new(Kind::StoreAway, Level::Problem, away.clone()))
        .collect();
    let waiting = waiting(look, batches, is_operator);
    found.extend(waiting.into_iter().filter_map(|(model, count)| {
        unserved(look, model, count).or_else(|| still(look, batches, model, count))
    }));
    found.extend(batches.iter().filter_map(|seen| failing(look, seen)));
    if let Some(dead) = look.dead.as_ref().filter(|_| is_operator) {
        let message = format!("there are dead letters, the newest: {}", dead.reason);
        found.push(Concern::new(Kind::DeadLetters, Level::Attention, message));
    }
    found.sort_by_key(|concern| concern.level);
    found
}

/// Requests that are not through, by model.
fn waiting<'a>(look: &'a Look, batches: &[&'a Seen], is_operator: bool) -> BTreeMap<&'a str, u64> {
    let mut waiting: BTreeMap<&str, u64> = BTreeMap::new();
    let going = |seen: &&&Seen| !seen.has_ended() && !seen.counts.paused;
    for seen in batches.iter().filter(going) {
        let left = seen.counts.total.saturating_sub(seen.counts.finished());
        *waiting.entry(&seen.batch.model).or_default() += left;
    }
    for depth in look.queues.iter().filter(|_| is_operator) {
        // Those of batches are in both.
        let known = waiting.entry(&depth.model).or_default();
        *known = (*known).max(depth.waiting);
    }
    waiting.retain(|_, count| *count > 0);
    waiting
}

fn unserved(look: &Look, model: &str, waiting: u64) -> Option<Concern> {
    if look.workers.iter().any(|worker| worker.model.name == model) {
        return None;
    }
    let wait = if waiting == 1 {
        "request waits"
    } else {
        "requests wait"
    };
    let message = format!("no worker serves `{model}`; {waiting} {wait} for it");
    Some(Concern::new(Kind::ModelUnserved, Level::Problem, message))
}

/// A model of which nothing has come for long, although there are workers and batches.
fn still(look: &Look, batches: &[&Seen], model: &str, waiting: u64) -> Option<Concern> {
    let of_model = batches.iter().filter(|seen| seen.batch.model == model);
    let moved_at = of_model.map(|seen| seen.moved_at).max()?;
    let started = look
        .workers
        .iter()
        .filter(|worker| worker.model.name == model);
    let started_at = started.map(|worker| worker.started_at).max()?;
    let still = look.at - moved_at.max(started_at);
    if still < STILL_MAX {
        return None;
    }
    let seconds = still.num_seconds();
    let message =
        format!("`{model}` has finished nothing for {seconds} s; {waiting} requests wait");
    Some(Concern::new(Kind::ModelStill, Level::Attention, message))
}

fn failing(look: &Look, seen: &Seen) -> Option<Concern> {
    let (counts, failed) = (&seen.counts, seen.counts.failed);
    if seen
        .ended_at()
        .is_some_and(|at| look.at - at > ENDED_SPOKEN_OF)
    {
        return None;
    }
    let tried = counts.succeeded + failed;
    let [attention, problem] = FAILURES_PERCENT;
    if failed == 0 || failed * 100 < tried * attention {
        return None;
    }
    let level = if failed * 100 < tried * problem {
        Level::Attention
    } else {
        Level::Problem
    };
    let id = ids::of_batch(seen.batch.id);
    let message = format!(
        "{failed} of {tried} requests of a batch of `{}` failed",
        seen.batch.model
    );
    Some(Concern {
        batch_id: Some(id),
        ..Concern::new(Kind::BatchFailing, level, message)
    })
}

#[cfg(test)]
mod tests {
    use lapidary_schemas::{ModelInfo, Progress, WorkerInfo};

    use super::super::history::History;
    use super::super::pulse::Depth;
    use super::super::pulse::tests::{at, counts, seen};
    use super::*;

    fn look(workers: Vec<WorkerInfo>) -> Look {
        Look {
            at: at(0),
            away: None,
            workers,
            queues: Vec::new(),
            batches: Vec::new(),
            dead: None,
            history: History::default(),
        }
    }

    fn worker() -> WorkerInfo {
        let model = ModelInfo {
            name: "m".to_owned(),
            weights_sha256: String::new(),
            quantization: "q8".to_owned(),
            template_sha256: String::new(),
            chat: true,
            context_tokens_max: 2_048,
            modalities: Vec::new(),
            pan_and_scan: false,
            fetch: Vec::new(),
            tier: "avx2".to_owned(),
        };
        WorkerInfo {
            id: "w".to_owned(),
            model,
            listen: None,
            slots: 4,
            started_at: at(-1_000),
            jobs: None,
        }
    }

    /// Levels and messages for one batch with these counts.
    fn found(look: &Look, counts: Progress) -> Vec<(Level, String)> {
        let mut seen = seen(&counts);
        seen.counts = counts;
        let found = concerns(look, &[&seen], false);
        found
            .into_iter()
            .map(|one| (one.level, one.message))
            .collect()
    }

    #[test]
    fn nothing_is_said_where_all_is_well() {
        assert_eq!(found(&look(vec![worker()]), counts(100, 50, 2)), []);
        assert_eq!(found(&look(Vec::new()), counts(100, 100, 0)), []);
        assert_eq!(concerns(&look(Vec::new()), &[], true), []);
    }

    #[test]
    fn what_nobody_serves_is_a_problem() {
        let (level, message) = found(&look(Vec::new()), counts(100, 1, 0)).remove(0);
        assert_eq!(level, Level::Problem);
        assert_eq!(message, "no worker serves `m`; 99 requests wait for it");
        let queues = vec![Depth {
            model: "other".to_owned(),
            class: lapidary_schemas::Class::Interactive,
            waiting: 1,
        }];
        let look = Look {
            queues,
            ..look(Vec::new())
        };
        assert_eq!(concerns(&look, &[], false), []);
        let of_all = concerns(&look, &[], true);
        assert_eq!(
            of_all[0].message,
            "no worker serves `other`; 1 request waits for it"
        );
    }

    #[test]
    fn failures_are_told_from_a_share_on() {
        let look = look(vec![worker()]);
        assert_eq!(found(&look, counts(1_000, 96, 4)), []);
        let some = found(&look, counts(1_000, 95, 5)).remove(0);
        assert_eq!(some.0, Level::Attention);
        assert_eq!(some.1, "5 of 100 requests of a batch of `m` failed");
        let many = found(&look, counts(1_000, 50, 50)).remove(0);
        assert_eq!(many.0, Level::Problem);
        let later = Look {
            at: at(100) + ENDED_SPOKEN_OF + TimeDelta::seconds(1),
            ..look
        };
        assert_eq!(found(&later, counts(100, 50, 50)), []);
    }

    #[test]
    fn what_stands_still_is_told() {
        let mut look = look(vec![worker()]);
        look.at = at(119);
        assert_eq!(found(&look, counts(100, 50, 0)), []);
        look.at = at(120);
        let (level, message) = found(&look, counts(100, 50, 0)).remove(0);
        assert_eq!(level, Level::Attention);
        assert_eq!(
            message,
            "`m` has finished nothing for 120 s; 50 requests wait"
        );
        look.workers[0].started_at = at(100);
        assert_eq!(found(&look, counts(100, 50, 0)), []);
    }

    #[test]
    fn the_worst_comes_first() {
        let mut look = look(vec![worker()]);
        look.at = at(200);
        look.away = Some("the store is away".to_owned());
        let found = found(&look, counts(100, 50, 0));
        assert_eq!(found[0].1, "the store is away");
        assert_eq!(found.len(), 2);
    }
}
