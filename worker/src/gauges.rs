//! What the engine and the process tell of themselves: each step as it happens, the rest read once in
//! a while.

use std::collections::VecDeque;
use std::time::Duration;

use lapidary_engine::{Engine, Stats, StepReport};
use lapidary_schemas::metrics::{self, Metrics, number};

use crate::health::{peak_resident_bytes, resident_bytes};
use crate::running::Running;

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
pub(crate) async fn read(engine: &Engine, running: &Running, metrics: &Metrics) {
    let mut gauges = Gauges::default();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        gauges.record(engine.stats(), metrics);
        metrics.set(&metrics::OLDEST_JOB, &[], running.longest().as_secs_f64());
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
        let spent = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64();
        for (counter, more) in [
            (&metrics::BUSY, spent(stats.busy, last.busy)),
            (
                &metrics::VISION_BUSY,
                spent(stats.vision_busy, last.vision_busy),
            ),
            (
                &metrics::VIEWS_ENCODED,
                since(stats.views_encoded, last.views_encoded),
            ),
            (
                &metrics::PREFILL_TOKENS,
                since(stats.prefill_tokens, last.prefill_tokens),
            ),
            (
                &metrics::DECODE_TOKENS,
                since(stats.decode_tokens, last.decode_tokens),
            ),
            (
                &metrics::PREEMPTIONS,
                since(stats.preemptions, last.preemptions),
            ),
            (
                &metrics::PREFIX_CACHE_QUERIES,
                since(stats.prompt_tokens, last.prompt_tokens),
            ),
            (
                &metrics::PREFIX_CACHE_HITS,
                since(stats.cached_tokens, last.cached_tokens),
            ),
        ] {
            metrics.add(counter, &[], more);
        }
        let accepted = since(stats.accepted_tokens, last.accepted_tokens);
        let drafted = since(stats.drafted_tokens, last.drafted_tokens);
        for (outcome, more) in [("accepted", accepted), ("rejected", drafted - accepted)] {
            metrics.add(&metrics::DRAFTED_TOKENS, &[outcome], more);
        }
        show(&stats, metrics);
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

/// Shows what is so at this moment.
fn show(stats: &Stats, metrics: &Metrics) {
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
    for (metric, bytes) in [
        (&metrics::RESIDENT_MEMORY, resident_bytes()),
        (&metrics::PEAK_MEMORY, peak_resident_bytes()),
    ] {
        if let Some(bytes) = bytes {
            metrics.set(metric, &[], number(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use lapidary_schemas::metrics::Source;

    use super::*;

    /// A hundredth of a step of 32 sequences of the smallest Gemma (270M), which takes 65 ms where
    /// docs/BENCHMARKS.md was measured.
    const RECORDING_MAX: Duration = Duration::from_micros(650);

    #[test]
    fn recording_a_step_takes_less_than_a_hundredth_of_it() {
        const STEPS: u32 = 10_000;
        let metrics = Metrics::new("worker", "1", &[Source::Worker], &[]).unwrap();
        let step = StepReport {
            sequences: 32,
            prefill_tokens: 480,
            decode_tokens: 32,
            rejected_tokens: 0,
            duration: Duration::from_millis(65),
        };
        let started = Instant::now();
        for _ in 0..STEPS {
            record_step(&step, &metrics);
        }
        let took = started.elapsed() / STEPS;
        eprintln!("recording a step takes {took:?}");
        assert!(took < RECORDING_MAX, "{took:?}");
    }

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
