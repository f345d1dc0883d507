//! Queues that a broker may forget: made by this process just before the broker went away.
//!
//! A quorum queue's log is found again by a table that the broker writes down only when nothing has
//! changed in it for half a second. Killed before that, it knows the queue's name and starts it from
//! nothing when it comes back: without its messages, and without a leader for good. Such a queue takes
//! no message and gives none, until somebody deletes it.
//!
//! Nothing tells it from a queue whose other nodes are down for a while, and that one must be left
//! alone. What this process made just before is another matter: nothing of value can be in it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Age up to which a queue may be lost with its broker: many times what the broker takes to write its
/// place down.
const YOUNG: Duration = Duration::from_secs(10);
/// Time after the broker is back in which a queue may turn out to be lost. What gives no answer later
/// has another reason for it.
const DOUBT: Duration = Duration::from_mins(5);

/// The queues that this process made lately, shared by its connections.
#[derive(Debug, Default)]
pub(super) struct Young {
    queues: Mutex<Queues>,
    /// Held while a queue is made. While one connection makes it, another one that asks for it would
    /// find it half made, which costs it its connection.
    pub(super) making: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Queues {
    /// When each was made.
    made: HashMap<String, Instant>,
    /// Those that were young when the broker went away and have not answered since, and when the
    /// broker was back.
    doubted: HashMap<String, Option<Instant>>,
}

impl Young {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This process has just made a queue.
    pub(super) fn made(&self, queue: &str, now: Instant) {
        let mut queues = self.queues();
        queues.made.retain(|_, at| now - *at < YOUNG);
        queues.made.insert(queue.to_owned(), now);
        queues.doubted.remove(queue);
    }

    /// The broker went away: what is young now may be lost.
    pub(super) fn lost_the_broker(&self, now: Instant) {
        let mut queues = self.queues();
        let made = std::mem::take(&mut queues.made);
        let young = made.into_iter().filter(|(_, at)| now - *at < YOUNG);
        queues.doubted.extend(young.map(|(queue, _)| (queue, None)));
    }

    /// The broker is back.
    pub(super) fn found_the_broker(&self, now: Instant) {
        for back in self.queues().doubted.values_mut() {
            back.get_or_insert(now);
        }
    }

    /// A queue gave an answer: it is not lost.
    pub(super) fn answered(&self, queue: &str) {
        self.queues().doubted.remove(queue);
    }

    /// Whether a queue that does not answer is lost.
    pub(super) fn is_doubted(&self, queue: &str, now: Instant) -> bool {
        let queues = self.queues();
        let back = queues.doubted.get(queue);
        back.is_some_and(|back| back.is_none_or(|at| now - at < DOUBT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_queue_made_just_before_is_doubted_and_only_until_it_answers() {
        let (young, start) = (Young::default(), Instant::now());
        let lost = start + YOUNG;
        young.made("old", start);
        for new in ["a", "b", "c"] {
            young.made(new, start + YOUNG / 2);
        }
        young.lost_the_broker(lost);
        let doubted = |queue, at| young.is_doubted(queue, at);
        assert_eq!(
            ["old", "a", "b", "unknown"].map(|queue| doubted(queue, lost)),
            [false, true, true, false]
        );
        young.answered("a");
        young.made("b", lost);
        assert!(!doubted("a", lost) && !doubted("b", lost));
        // The other connection notices later that it broke.
        young.lost_the_broker(lost + 2 * YOUNG);
        assert!(!doubted("b", lost + 2 * YOUNG));
        // However long the broker is away; not for ever once it is back.
        let back = lost + 10 * DOUBT;
        assert!(doubted("c", back));
        young.found_the_broker(back);
        young.found_the_broker(back + DOUBT / 2);
        assert!(doubted("c", back + DOUBT / 2) && !doubted("c", back + DOUBT));
    }
}
