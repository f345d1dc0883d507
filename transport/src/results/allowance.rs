//! How much of something may be taken within a sliding window, and what is left of it.

use std::time::Duration;

/// Slots of a window. What was taken counts until its whole slot has left the window: never more than
/// the limit within any window, and a sixtieth of it longer at most.
pub(super) const SLOTS: u64 = 60;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// At most `limit` within any stretch of `window`, whoever takes it through whichever handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// What is taken, and whose it is.
    pub name: String,
    /// How much.
    pub limit: u64,
    /// In how long a time.
    pub window: Duration,
}

/// What became of a wish to take some of an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// It was taken.
    pub allowed: bool,
    /// What is taken by now, of all within the window.
    pub taken: u64,
    /// What is left.
    pub remaining: u64,
    /// Time until all of it is there again if nobody takes more.
    pub whole_after: Duration,
    /// Time until as much is there as was asked for.
    pub enough_after: Duration,
}

impl Allowance {
    /// More than anybody can take.
    pub const UNLIMITED: u64 = u64::MAX >> 1;

    /// The tokens that a tenant's requests read and write in a day.
    pub fn tokens(tenant: &str, limit: u64) -> Self {
        Self {
            name: format!("tokens:{tenant}"),
            limit,
            window: DAY,
        }
    }

    /// The submissions that a tenant makes in an hour.
    pub fn requests(tenant: &str, limit: u64) -> Self {
        Self {
            name: format!("requests:{tenant}"),
            limit,
            window: HOUR,
        }
    }

    /// Milliseconds of a slot.
    pub(super) fn slot_ms(&self) -> u64 {
        let window_ms = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        window_ms.div_ceil(SLOTS).max(1)
    }

    /// Milliseconds after which nothing of now counts any more.
    pub(super) fn kept_ms(&self) -> u64 {
        self.slot_ms().saturating_mul(SLOTS + 1)
    }

    /// What became of a wish to take `cost` at `now_ms`; `spent` is what was taken by then, by slot.
    pub(super) fn taken(
        &self,
        cost: u64,
        allowed: bool,
        spent: &[(u64, u64)],
        now_ms: u64,
    ) -> Taken {
        let mut spent = spent.to_vec();
        spent.sort_unstable();
        let left_of = |total: u64| self.limit.saturating_sub(total);
        let free_after = |slot: u64| {
            let at = (slot + SLOTS + 1).saturating_mul(self.slot_ms());
            Duration::from_millis(at.saturating_sub(now_ms))
        };
        let mut total: u64 = spent.iter().map(|(_, amount)| amount).sum();
        let (taken, remaining) = (total, left_of(total));
        let whole_after = spent
            .last()
            .map_or(Duration::ZERO, |last| free_after(last.0));
        let mut enough_after = Duration::ZERO;
        if !allowed {
            for (slot, amount) in spent {
                if left_of(total) >= cost {
                    break;
                }
                total -= amount;
                enough_after = free_after(slot);
            }
        }
        Taken {
            allowed,
            taken,
            remaining,
            whole_after,
            enough_after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_what_is_left_and_when_there_is_more() {
        let allowance = Allowance {
            name: "a".to_owned(),
            limit: 10,
            window: Duration::from_mins(1),
        };
        assert_eq!(allowance.slot_ms(), 1_000);
        // Five of them are there again a minute after the end of second 100, four after that of 130.
        let spent = [(130, 4), (100, 5)];
        let now_ms = 140_500;
        let seen = |cost, allowed| allowance.taken(cost, allowed, &spent, now_ms);
        let taken = seen(1, true);
        assert_eq!((taken.taken, taken.remaining), (9, 1));
        assert_eq!(taken.enough_after, Duration::ZERO);
        assert_eq!(taken.whole_after, Duration::from_millis(191_000 - now_ms));
        let soon = Duration::from_millis(161_000 - now_ms);
        assert_eq!(seen(6, false).enough_after, soon);
        assert_eq!(seen(7, false).enough_after, taken.whole_after);
        assert_eq!(seen(11, false).enough_after, taken.whole_after);
        let nothing = allowance.taken(1, true, &[], now_ms);
        assert_eq!(
            (nothing.remaining, nothing.whole_after),
            (10, Duration::ZERO)
        );
    }
}
