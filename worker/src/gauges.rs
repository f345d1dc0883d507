//! What the engine and the process tell of themselves: each step as it happens, the rest read once in
//! a while.

use std::collections::VecDeque;
use std::time::Duration;

use lapidary_engine::{Engine, Stats, StepReport};
use lapidary_schemas::metrics;

use crate::health::resident_bytes;
use crate::metrics::{Metrics, number};

/// How often it is read.
const INTERVAL: Duration = Duration::from_millis(250);
/// Busy time that the decode rate is taken over.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Records a step.
pub(crate) fn record_step(step: &StepReport, metrics: &Metrics) {
    let tokens = step.prefill_tokens + step.decode_tokens + step.rejected_tokens;
    metrics.observe(&metrics::BATCH_SIZE, &[], number(step.sequences as u64));
    metrics.observe(&metrics::STEP_TOKENS, &[], number(tokens as u64));
    metrics.observe(&metrics::STEP_DURATION, &[], step.duration.as_secs_f64());
}

/// Reads for ever.
pub(crate) async fn read(engine: &Engine, metrics: &Metrics) {
    let mut gauges = Gauges::default();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        gauges.record(engine.stats(), metrics);
    }
}

#[derive(Debug, Default)]
struct Gauges {
    last: Stats,
    /// Busy time and decoded tokens so far, one entry a reading that found the engine busy.
    readings: VecDeque<(Duration, u64)>,
}

impl Gauges {
    fn record(&mut self, stats: Stats, metrics: &Metrics) {
        let since = |now: u64, before: u64| number(now.saturating_sub(before));
        let last = std::mem::replace(&mut self.last, stats);
        metrics.add(
            &metrics::BUSY,
            &[],
            (stats.busy.saturating_sub(last.busy)).as_secs_f64(),
        );
        metrics.add(
            &metrics::VISION_BUSY,
            &[],
            (stats.vision_busy.saturating_sub(last.vision_busy)).as_secs_f64(),
        );
        metrics.add(
            &metrics::VIEWS_ENCODED,
            &[],
            since(stats.views_encoded, last.views_encoded),
        );
        metrics.add(
            &metrics::PREEMPTIONS,
            &[],
            since(stats.preemptions, last.preemptions),
        );
        metrics.add(
            &metrics::PREFIX_CACHE_QUERIES,
            &[],
            since(stats.prompt_tokens, last.prompt_tokens),
        );
        metrics.add(
            &metrics::PREFIX_CACHE_HITS,
            &[],
            since(stats.cached_tokens, last.cached_tokens),
        );
        let accepted = since(stats.accepted_tokens, last.accepted_tokens);
        let drafted = since(stats.drafted_tokens, last.drafted_tokens);
        metrics.add(&metrics::DRAFTED_TOKENS, &["accepted"], accepted);
        metrics.add(&metrics::DRAFTED_TOKENS, &["rejected"], drafted - accepted);
        for (metric, labels, count) in [
            (&metrics::SEQUENCES_RUNNING, &[][..], stats.running),
            (&metrics::SEQUENCES_WAITING, &[][..], stats.waiting),
            (
                &metrics::KV_BLOCKS_USED,
                &["global"][..],
                stats.kv_global_used,
            ),
            (&metrics::KV_BLOCKS, &["global"][..], stats.kv_global_total),
            (
                &metrics::KV_BLOCKS_USED,
                &["local"][..],
                stats.kv_local_used,
            ),
            (&metrics::KV_BLOCKS, &["local"][..], stats.kv_local_total),
        ] {
            metrics.set(metric, labels, number(count as u64));
        }
        if let Some(bytes) = resident_bytes() {
            metrics.set(&metrics::RESIDENT_MEMORY, &[], number(bytes));
        }
        if stats.steps > last.steps
            && let Some(rate) = self.decode_rate(stats.busy, stats.decode_tokens)
        {
            metrics.set(&metrics::DECODE_RATE, &[], rate);
        }
    }

    /// Tokens a second of busy time, over the last ten busy seconds.
    fn decode_rate(&mut self, busy: Duration, tokens: u64) -> Option<f64> {
        self.readings.push_back((busy, tokens));
        while self.readings.len() > 2 && busy.saturating_sub(self.readings[1].0) >= RATE_WINDOW {
            self.readings.pop_front();
        }
        let (busy_before, tokens_before) = *self.readings.front()?;
        let seconds = busy.saturating_sub(busy_before).as_secs_f64();
        let decoded = number(tokens.saturating_sub(tokens_before));
        (seconds > 0.0).then(|| decoded / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decode_rate_is_taken_over_the_last_busy_seconds() {
        let mut gauges = Gauges::default();
        let second = Duration::from_secs;
        assert_eq!(gauges.decode_rate(second(1), 100), None);
        assert_eq!(gauges.decode_rate(second(2), 200), Some(100.0));
        for later in 3..=20 {
            gauges.decode_rate(second(later), 200 + (later - 2) * 10);
        }
        assert_eq!(gauges.decode_rate(second(21), 390), Some(10.0));
    }
}
