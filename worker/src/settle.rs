//! What becomes of a job after an attempt: one pure function and its schedule of retries.

use std::time::Duration;

use lapidary_schemas::{Failure, FailureCode, JobId};
use lapidary_transport::Settle;

use crate::outcome::Outcome;

/// How long a failed job waits, by class of error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// For what depends on something outside: media, other services, free space.
    pub outside: Backoff,
    /// For what went wrong in here.
    pub inside: Backoff,
}

/// Delays that double.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first attempt.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            outside: Backoff {
                first: seconds(5),
                longest: seconds(300),
            },
            inside: Backoff {
                first: seconds(1),
                longest: seconds(60),
            },
        }
    }
}

/// Which attempt of which job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The job; its hash spreads retries of jobs that failed together.
    pub job: JobId,
    /// The attempt, from 1.
    pub number: u32,
    /// Attempts the job has.
    pub max: u32,
}

/// What becomes of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// How its loan ends.
    pub settle: Settle,
    /// Whether this attempt's outcome is the job's result.
    pub result: bool,
    /// Why it is kept for the operator, if it is.
    pub dead_letter: Option<String>,
}

/// Decides what becomes of a job.
///
/// What a user can mend (a request that breaks a rule, media that is broken) ends as a failed result
/// and is done: nothing about it concerns an operator. Only a job whose attempts are used up, or that
/// workers were lost on, is dead.
pub fn settle_for(outcome: &Outcome, attempt: Attempt, policy: &RetryPolicy) -> Decision {
    let done = Decision {
        settle: Settle::Done,
        result: true,
        dead_letter: None,
    };
    let failure = match outcome {
        Outcome::Answered(_)
        | Outcome::Filtered(_)
        | Outcome::Poor(_)
        | Outcome::Cancelled
        | Outcome::Expired => return done,
        Outcome::Interrupted | Outcome::Lost => {
            return Decision {
                settle: Settle::Interrupted,
                result: false,
                dead_letter: None,
            };
        }
        Outcome::Failed(failure) if !failure.retryable => return done,
        Outcome::Failed(failure) if failure.code == FailureCode::WorkerLost => {
            return dead(failure, attempt);
        }
        Outcome::Failed(failure) => failure,
    };
    if attempt.number < attempt.max {
        let after = delay(policy, failure, attempt);
        return Decision {
            settle: Settle::Retry { after },
            result: false,
            dead_letter: None,
        };
    }
    dead(failure, attempt)
}

fn dead(failure: &Failure, attempt: Attempt) -> Decision {
    let reason = format!("attempt {} of {}: {failure}", attempt.number, attempt.max);
    Decision {
        settle: Settle::Dead {
            reason: reason.clone(),
        },
        result: true,
        dead_letter: Some(reason),
    }
}

fn delay(policy: &RetryPolicy, failure: &Failure, attempt: Attempt) -> Duration {
    let backoff = match failure.code {
        FailureCode::RateLimitExceeded
        | FailureCode::MediaUnreachable
        | FailureCode::ModelUnavailable
        | FailureCode::FilterUnavailable
        | FailureCode::StorageFull => policy.outside,
        _ => policy.inside,
    };
    let doublings = attempt.number.saturating_sub(1).min(16);
    let delay = backoff
        .first
        .saturating_mul(1 << doublings)
        .min(backoff.longest);
    delay + delay.mul_f64(spread(attempt) / 2.0)
}

/// A number in [0, 1) that depends on the job and the attempt only.
fn spread(attempt: Attempt) -> f64 {
    let [.., a, b] = attempt.job.0.into_bytes();
    // Multiplicative hashing, Knuth, TAOCP vol. 3, 6.4: neighbours land far apart.
    let mixed =
        (u32::from(u16::from_be_bytes([a, b])) + attempt.number).wrapping_mul(2_654_435_769);
    f64::from(mixed) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Answer;

    fn job() -> JobId {
        "0190f3a0-0000-7000-8000-00000000abcd".parse().unwrap()
    }

    fn decide(outcome: &Outcome, number: u32) -> Decision {
        settle_for(
            outcome,
            Attempt {
                job: job(),
                number,
                max: 3,
            },
            &RetryPolicy::default(),
        )
    }

    fn failed(code: FailureCode) -> Outcome {
        Outcome::Failed(Failure::new(code, "for a reason"))
    }

    #[test]
    fn every_outcome_has_one_end() {
        // outcome, attempt, settle (a retry's delay apart), result, dead letter
        let answered = Outcome::Answered(Box::default());
        let filtered = Outcome::Filtered(Box::new((
            Failure::new(FailureCode::ContentFiltered, "no"),
            Answer::default(),
        )));
        let table = [
            (answered, 1, "done", true, false),
            (filtered, 3, "done", true, false),
            (Outcome::Cancelled, 1, "done", true, false),
            (Outcome::Expired, 2, "done", true, false),
            (Outcome::Interrupted, 3, "interrupted", false, false),
            (Outcome::Lost, 3, "interrupted", false, false),
            (failed(FailureCode::WorkerLost), 2, "dead", true, true),
            (failed(FailureCode::ValidationError), 1, "done", true, false),
            (failed(FailureCode::PromptTooLong), 3, "done", true, false),
            (failed(FailureCode::MediaInvalid), 3, "done", true, false),
            (
                failed(FailureCode::GenerationError),
                1,
                "retry",
                false,
                false,
            ),
            (failed(FailureCode::Internal), 2, "retry", false, false),
            (failed(FailureCode::Internal), 3, "dead", true, true),
            (failed(FailureCode::MediaUnreachable), 4, "dead", true, true),
        ];
        for (outcome, number, settle, result, dead) in table {
            let decision = decide(&outcome, number);
            let name = match decision.settle {
                Settle::Done => "done",
                Settle::Retry { .. } => "retry",
                Settle::Interrupted => "interrupted",
                Settle::Dead { .. } => "dead",
            };
            assert_eq!(name, settle, "{outcome:?}, attempt {number}");
            assert_eq!(decision.result, result, "{outcome:?}, attempt {number}");
            assert_eq!(
                decision.dead_letter.is_some(),
                dead,
                "{outcome:?}, attempt {number}"
            );
        }
    }

    #[test]
    fn every_code_is_done_or_retried_as_it_says() {
        // More attempts would cost more workers.
        let given_up = |code: &FailureCode| *code == FailureCode::WorkerLost;
        for code in FailureCode::ALL.into_iter().filter(|code| !given_up(code)) {
            let retried = matches!(decide(&failed(code), 1).settle, Settle::Retry { .. });
            assert_eq!(retried, code.retryable(), "{code}");
        }
    }

    #[test]
    fn delays_double_up_to_a_limit_and_spread_by_half() {
        let delay_of = |code, number| {
            let attempt = Attempt {
                job: job(),
                number,
                max: 20,
            };
            match settle_for(&failed(code), attempt, &RetryPolicy::default()).settle {
                Settle::Retry { after } => after.as_secs_f64(),
                other => panic!("{other:?}"),
            }
        };
        for (code, number, base) in [
            (FailureCode::Internal, 1, 1.0),
            (FailureCode::Internal, 3, 4.0),
            (FailureCode::Internal, 19, 60.0),
            (FailureCode::MediaUnreachable, 1, 5.0),
            (FailureCode::MediaUnreachable, 2, 10.0),
            (FailureCode::MediaUnreachable, 19, 300.0),
        ] {
            let delay = delay_of(code, number);
            assert!(
                (base..base * 1.5).contains(&delay),
                "{code} {number}: {delay}"
            );
            assert_eq!(delay.to_bits(), delay_of(code, number).to_bits());
        }
    }

    #[test]
    fn jobs_that_fail_together_come_back_apart() {
        let spread_of = |last: u8| {
            let mut bytes = job().0.into_bytes();
            bytes[15] = last;
            spread(Attempt {
                job: JobId(uuid_of(bytes)),
                number: 1,
                max: 3,
            })
        };
        let mut spreads: Vec<_> = (0..=255).map(spread_of).collect();
        spreads.sort_by(f64::total_cmp);
        let widest = spreads
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .fold(0.0, f64::max);
        assert!(widest < 0.02, "{widest}");
    }

    fn uuid_of(bytes: [u8; 16]) -> uuid::Uuid {
        uuid::Uuid::from_bytes(bytes)
    }
}
