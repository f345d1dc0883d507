//! How fast a counter grows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is shown as *now*.
pub(super) const SHORT: Duration = Duration::from_secs(10);
/// What means are taken over.
pub(super) const LONG: Duration = Duration::from_mins(1);

/// A counter's values of late.
#[derive(Debug)]
pub(super) struct Meter {
    over: Duration,
    marks: VecDeque<(Instant, f64)>,
}

impl Meter {
    /// Over so much time.
    pub(super) fn over(over: Duration) -> Self {
        Self {
            over,
            marks: VecDeque::new(),
        }
    }

    /// Takes a value in; one that is smaller than the last is a counter's new beginning.
    pub(super) fn read(&mut self, at: Instant, value: f64) {
        if self.marks.back().is_some_and(|(_, last)| value < *last) {
            self.marks.clear();
        }
        self.marks.push_back((at, value));
        // The one just before the time that counts stays, so that all of it is covered.
        while self
            .marks
            .get(1)
            .is_some_and(|(then, _)| at - *then >= self.over)
        {
            self.marks.pop_front();
        }
    }

    /// By how much it has grown, and in how many seconds.
    pub(super) fn grown(&self) -> Option<(f64, f64)> {
        let ((then, before), (now, after)) = (self.marks.front()?, self.marks.back()?);
        let seconds = (*now - *then).as_secs_f64();
        (seconds > 0.0).then_some((after - before, seconds))
    }

    /// How fast it grows.
    pub(super) fn per_second(&self) -> Option<f64> {
        self.grown().map(|(by, seconds)| by / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_late_and_begins_anew_with_its_counter() {
        let (start, mut meter) = (Instant::now(), Meter::over(SHORT));
        let mut read = |second: u32, value: f64| {
            meter.read(start + Duration::from_secs(second.into()), value);
            meter.per_second()
        };
        assert_eq!(read(0, 100.0), None);
        assert_eq!(read(1, 110.0), Some(10.0));
        for second in 2..=60 {
            read(second, 110.0);
        }
        assert_eq!(read(61, 160.0), Some(5.0));
        assert_eq!(read(62, 3.0), None);
        assert_eq!(read(63, 5.0), Some(2.0));
    }
}
