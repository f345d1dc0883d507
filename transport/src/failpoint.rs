//! Points of a job's way at which a test can stop a process, to do it harm exactly there. Nothing happens
//! at any of them unless one was armed.

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// A point of a job's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// A batch that is submitted is open, and nothing is in it.
    Submitting,
    /// It is whole, and whoever submitted it has not been told so.
    Submitted,
    /// The steward is about to publish jobs of a batch.
    Feeding,
    /// It has published them, and the batch does not say so yet.
    Fed,
    /// A worker has a delivery.
    Received,
    /// The attempt is counted.
    Begun,
    /// Media are loaded, and the prompt is made.
    Prepared,
    /// The engine has it.
    Generating,
    /// There is an outcome, and it is not stored.
    Answered,
    /// The result is stored, and the loan not ended.
    Stored,
}

impl Failpoint {
    /// All of them, in a job's order.
    pub const ALL: [Self; 10] = [
        Self::Submitting,
        Self::Submitted,
        Self::Feeding,
        Self::Fed,
        Self::Received,
        Self::Begun,
        Self::Prepared,
        Self::Generating,
        Self::Answered,
        Self::Stored,
    ];

    /// Its name on the command line and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitting => "submitting",
            Self::Submitted => "submitted",
            Self::Feeding => "feeding",
            Self::Fed => "fed",
            Self::Received => "received",
            Self::Begun => "begun",
            Self::Prepared => "prepared",
            Self::Generating => "generating",
            Self::Answered => "answered",
            Self::Stored => "stored",
        }
    }
}

impl FromStr for Failpoint {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|point| point.as_str() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("`{name}` is none of {names}")
        })
    }
}

/// The point that is armed, and whether it was reached.
static ARMED: OnceLock<(Failpoint, AtomicBool)> = OnceLock::new();

/// From here on this process stops where a job is first at this point. The first point that is armed
/// stays.
pub fn arm(point: Failpoint) {
    ARMED.get_or_init(|| (point, AtomicBool::new(false)));
}

/// A job is at this point. If it is armed the process says so and stops, as SIGSTOP does, until it is
/// told to go on, or killed.
pub fn reached(point: Failpoint) {
    let Some((armed, before)) = ARMED.get() else {
        return;
    };
    if *armed != point || before.swap(true, Ordering::Relaxed) {
        return;
    }
    tracing::warn!(point = point.as_str(), "failpoint reached");
    if let Err(error) = kill_process(getpid(), Signal::STOP) {
        tracing::error!(%error, "cannot stop at a failpoint");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_names() {
        for point in Failpoint::ALL {
            assert_eq!(point.as_str().parse(), Ok(point));
        }
        let wrong = "nowhere".parse::<Failpoint>().unwrap_err();
        assert!(
            wrong.starts_with("`nowhere` is none of submitting, "),
            "{wrong}"
        );
    }
}
