//! What workers export, read from their operations endpoints.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::future::join_all;
use lapidary_schemas::WorkerInfo;
use lapidary_schemas::metrics::{
    DECODE_TOKENS, KV_BLOCKS, KV_BLOCKS_USED, RESIDENT_MEMORY, RESPONSE_TIME, SEQUENCES_RUNNING,
};

use super::meter::{LONG, Meter, SHORT};
use super::{Figures, WorkerRow};
use crate::report::{self, Exposition, MEGABYTE};

/// Workers whose endpoints are asked.
const ASKED_MAX: usize = 32;
/// Longest time until a worker has answered.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// What is known of workers from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Workers(HashMap<String, Counters>);

#[derive(Debug)]
struct Counters {
    tokens: Meter,
    responses: Meter,
    response_seconds: Meter,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            tokens: Meter::over(SHORT),
            responses: Meter::over(LONG),
            response_seconds: Meter::over(LONG),
        }
    }
}

impl Workers {
    /// Asks all that can be asked, at once.
    pub(super) async fn look(&mut self, workers: &[WorkerInfo]) -> Vec<WorkerRow> {
        let asked = workers.iter().take(ASKED_MAX).map(ask);
        let mut answers = join_all(asked).await.into_iter();
        self.0
            .retain(|id, _| workers.iter().any(|worker| worker.id == *id));
        let now = Utc::now();
        let rows = workers.iter().map(|worker| {
            let exposition = answers.next().flatten();
            WorkerRow {
                id: worker.id.clone(),
                model: worker.model.name.clone(),
                slots: worker.slots,
                up_s: (now - worker.started_at).as_seconds_f64().max(0.0),
                figures: exposition.map(|exposition| {
                    let counters = self.0.entry(worker.id.clone()).or_default();
                    counters.read(Instant::now(), &exposition)
                }),
            }
        });
        rows.collect()
    }
}

/// What a worker exports, if its endpoint answers from here.
async fn ask(worker: &WorkerInfo) -> Option<Exposition> {
    let address = format!("http://{}", worker.listen.as_ref()?);
    let asked = tokio::time::timeout(ANSWER_TIME_MAX, report::exposition(&address)).await;
    asked.ok()?.ok()
}

impl Counters {
    fn read(&mut self, at: Instant, exposition: &Exposition) -> Figures {
        let sum = |name: &str| exposition.sum(name);
        self.tokens.read(at, sum(DECODE_TOKENS.name));
        let response = |part| sum(&format!("{}{part}", RESPONSE_TIME.name));
        self.responses.read(at, response("_count"));
        self.response_seconds.read(at, response("_sum"));
        let means = self.response_seconds.grown().zip(self.responses.grown());
        let ratio = |part: f64, whole: f64| (whole > 0.0).then_some(part / whole);
        Figures {
            running: sum(SEQUENCES_RUNNING.name),
            tokens_per_second: self.tokens.per_second(),
            response_s: means.and_then(|((seconds, _), (count, _))| ratio(seconds, count)),
            cache: ratio(sum(KV_BLOCKS_USED.name), sum(KV_BLOCKS.name)),
            memory_mb: sum(RESIDENT_MEMORY.name) / MEGABYTE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposition(tokens: u32, responses: u32, seconds: u32) -> Exposition {
        Exposition::read(&format!(
            "lapidary_engine_decode_tokens_total {tokens}\n\
             lapidary_response_time_seconds_count{{origin=\"job\"}} {responses}\n\
             lapidary_response_time_seconds_sum{{origin=\"job\"}} {seconds}\n\
             lapidary_sequences_running 3\n\
             lapidary_kv_blocks{{pool=\"global\"}} 100\n\
             lapidary_kv_blocks{{pool=\"local\"}} 100\n\
             lapidary_kv_blocks_used{{pool=\"global\"}} 50\n\
             lapidary_resident_memory_bytes 1048576\n"
        ))
    }

    #[test]
    fn figures_are_of_late() {
        let (start, mut counters) = (Instant::now(), Counters::default());
        let first = counters.read(start, &exposition(1_000, 10, 500));
        assert_eq!((first.tokens_per_second, first.response_s), (None, None));
        let later = start + Duration::from_secs(2);
        let then = counters.read(later, &exposition(1_050, 14, 502));
        let expected = Figures {
            running: 3.0,
            tokens_per_second: Some(25.0),
            response_s: Some(0.5),
            cache: Some(0.25),
            memory_mb: 1.0,
        };
        assert_eq!(then, expected);
    }
}
