//! Progress on standard error: a bar on a terminal, plain lines elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Rates are those of about this last stretch of time.
const RATE_OVER_S: f64 = 10.0;

/// How far something is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reached {
    /// Documents or items that are through.
    pub done: u64,
    /// All there are, once that is known.
    pub total: Option<u64>,
    /// Those among the done that failed.
    pub failed: u64,
    /// Tokens written so far.
    pub tokens: u64,
}

/// Shows how far something is.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    shown: Instant,
    rates: Rates,
}

/// Smoothed rates, so that a time left can be told.
#[derive(Debug, Default)]
struct Rates {
    last: Option<(f64, u64, u64)>,
    done_per_s: f64,
    tokens_per_s: f64,
}

impl Progress {
    /// A bar if standard error is a terminal.
    pub fn new(now: Instant) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{wide_bar} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            bar,
            started: now,
            shown: now,
            rates: Rates::default(),
        }
    }

    /// Shows where it stands; on a terminal at once, elsewhere every few seconds.
    pub fn show(&mut self, reached: Reached, now: Instant) {
        let seconds = now.duration_since(self.started).as_secs_f64();
        self.rates.update(seconds, reached);
        let line = line(reached, &self.rates);
        if let Some(bar) = &self.bar {
            bar.set_length(reached.total.unwrap_or(0).max(reached.done));
            bar.set_position(reached.done);
            bar.set_message(line);
        } else if now.duration_since(self.shown) >= LINE_EVERY {
            self.shown = now;
            say(&line);
        }
    }

    /// Says something beside it.
    pub fn note(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(message)),
            None => say(message),
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Seconds since the beginning.
    pub fn seconds(&self, now: Instant) -> f64 {
        now.duration_since(self.started).as_secs_f64()
    }
}

/// A line on standard error.
pub fn say(message: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{message}");
}

impl Rates {
    fn update(&mut self, seconds: f64, reached: Reached) {
        let Some((then, done, tokens)) = self.last else {
            self.last = Some((seconds, reached.done, reached.tokens));
            return;
        };
        let passed = seconds - then;
        if passed < 0.2 {
            return;
        }
        // Exponential smoothing with a time constant; the first stretch stands as it is.
        let weight = if self.done_per_s == 0.0 {
            1.0
        } else {
            1.0 - (-passed / RATE_OVER_S).exp()
        };
        let rate = |new: u64, old: u64| to_f64(new.saturating_sub(old)) / passed;
        self.done_per_s += weight * (rate(reached.done, done) - self.done_per_s);
        self.tokens_per_s += weight * (rate(reached.tokens, tokens) - self.tokens_per_s);
        self.last = Some((seconds, reached.done, reached.tokens));
    }
}

/// Counts are far below 2^52.
fn to_f64(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

fn line(reached: Reached, rates: &Rates) -> String {
    // Writing to a string cannot fail.
    let mut line = match reached.total {
        Some(total) => format!("{}/{total}", reached.done),
        None => format!("{}/?", reached.done),
    };
    if reached.failed > 0 {
        let _ = write!(line, ", {} failed", reached.failed);
    }
    if rates.done_per_s > 0.0 {
        let _ = write!(
            line,
            ", {:.1}/s, {:.0} tokens/s",
            rates.done_per_s, rates.tokens_per_s
        );
        if let Some(left) = reached
            .total
            .map(|total| total.saturating_sub(reached.done))
        {
            let _ = write!(line, ", {} left", duration(to_f64(left) / rates.done_per_s));
        }
    }
    line
}

/// A duration in its two largest units.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_secs();
    match (
        whole / 86_400,
        whole / 3600 % 24,
        whole / 60 % 60,
        whole % 60,
    ) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration(5.9), "5 s");
        assert_eq!(duration(125.0), "2 min 5 s");
        assert_eq!(duration(7_300.0), "2 h 1 min");
        assert_eq!(duration(90_000.0 * 2.0), "2 d 2 h");
    }

    #[test]
    fn rates_and_time_left() {
        let mut rates = Rates::default();
        rates.update(0.0, Reached::default());
        let reached = Reached {
            done: 20,
            total: Some(60),
            failed: 1,
            tokens: 400,
        };
        rates.update(10.0, reached);
        assert_eq!(
            line(reached, &rates),
            "20/60, 1 failed, 2.0/s, 40 tokens/s, 20 s left"
        );
        assert_eq!(line(Reached::default(), &Rates::default()), "0/?");
    }
}
