//! What the queues are called, and how a model's name fits into that.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::Lane;

/// Dead letters, at most [`DEAD_LETTERS_MAX`] of them; the results store has them all.
pub(super) const DEAD: &str = "lapidary.dead";
/// What the broker gave up on.
pub(super) const DROPPED: &str = "lapidary.dropped";
/// Messages that rest in [`DEAD`] before the oldest leave.
pub(super) const DEAD_LETTERS_MAX: i32 = 100_000;

/// Bytes of an escaped model name. A queue's name may have 255 bytes.
const MODEL_BYTES_MAX: usize = 160;

/// Steps of the ladder: a retry waits on the shortest that is long enough.
pub(super) const RUNGS: [Rung; 6] = [
    Rung {
        name: "lapidary.delay.1s",
        delay: Duration::from_secs(1),
    },
    Rung {
        name: "lapidary.delay.5s",
        delay: Duration::from_secs(5),
    },
    Rung {
        name: "lapidary.delay.15s",
        delay: Duration::from_secs(15),
    },
    Rung {
        name: "lapidary.delay.1m",
        delay: Duration::from_mins(1),
    },
    Rung {
        name: "lapidary.delay.5m",
        delay: Duration::from_mins(5),
    },
    Rung {
        name: "lapidary.delay.15m",
        delay: Duration::from_mins(15),
    },
];

/// One step of the ladder: a fanout exchange and a queue of the same name, whose messages move on
/// to the queue their routing key names once their time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rung {
    /// Of the exchange and of the queue.
    pub(super) name: &'static str,
    /// How long a message stays.
    pub(super) delay: Duration,
}

impl Rung {
    /// The shortest step of at least `after`, or the longest there is.
    pub(super) fn for_delay(after: Duration) -> Self {
        RUNGS
            .into_iter()
            .find(|rung| rung.delay >= after)
            .unwrap_or(RUNGS[RUNGS.len() - 1])
    }
}

/// The queue of a lane.
pub(super) fn queue_of(lane: &Lane) -> String {
    match lane {
        Lane::Jobs { model, class } => {
            format!("lapidary.jobs.{}.{}", escape(model), class.as_str())
        }
        Lane::Dropped => DROPPED.to_owned(),
    }
}

/// Letters, digits, `.`, `_` and `-` as they are, every other byte as `~` and two hex digits. What
/// grows too long is cut and ends in a hash of the whole, so that two names never meet.
fn escape(name: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "~{byte:02x}");
        }
    }
    if escaped.len() > MODEL_BYTES_MAX {
        let hash = Sha256::digest(name.as_bytes());
        escaped.truncate(MODEL_BYTES_MAX - 34);
        escaped.push_str("~~");
        for byte in &hash[..16] {
            let _ = write!(escaped, "{byte:02x}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use lapidary_schemas::Class;

    use super::*;

    fn name(model: &str) -> String {
        queue_of(&Lane::Jobs {
            model: model.to_owned(),
            class: Class::Bulk,
        })
    }

    #[test]
    fn names_stay_readable_and_apart() {
        assert_eq!(name("gemma-3-4b-it"), "lapidary.jobs.gemma-3-4b-it.bulk");
        assert_eq!(
            name("google/gemma 3"),
            "lapidary.jobs.google~2fgemma~203.bulk"
        );
        let (a, b) = (name(&"é".repeat(64)), name(&format!("{}ê", "é".repeat(63))));
        assert!(a.len() <= 255 && b.len() <= 255);
        assert_ne!(a, b);
    }

    #[test]
    fn delays_round_up_to_a_rung() {
        let delay = |ms| Rung::for_delay(Duration::from_millis(ms)).delay;
        assert_eq!(delay(1), Duration::from_secs(1));
        assert_eq!(delay(1_000), Duration::from_secs(1));
        assert_eq!(delay(1_001), Duration::from_secs(5));
        assert_eq!(delay(61_000), Duration::from_mins(5));
        assert_eq!(delay(90_000_000), Duration::from_mins(15));
    }
}
