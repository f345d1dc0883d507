//! How long jobs are held, and whether `RabbitMQ` waits as long for them.

use lapidary_transport::doctor::{Finding, Verdict};
use lapidary_transport::results::ResultsError;
use lapidary_transport::{AnyResults, Results as _};

const CHECK: &str = "broker: time-outs";
/// `RabbitMQ`'s own `consumer_timeout`, in seconds.
const CONSUMER_TIMEOUT_S: f64 = 1_800.0;
/// How many times longer it should wait than a job takes: workers have some ahead of those that they run.
const MARGIN: f64 = 4.0;
/// Batches and results of each that are looked at.
const BATCHES: usize = 20;
const RESULTS: usize = 100;

/// Compares the longest of the latest jobs with the time-out that policies set, or else with the usual one.
pub(super) async fn judged(results: &AnyResults, policy_s: Option<f64>) -> Finding {
    match longest(results).await {
        Ok(Some((longest_s, count))) => compared(longest_s, count, policy_s),
        Ok(None) => Finding::unknown(
            CHECK,
            "no batch is under way by whose jobs `consumer_timeout` could be judged",
            "run this again while jobs are worked on",
        ),
        Err(error) => Finding::unknown(CHECK, error.to_string(), "mend what is bad above"),
    }
}

/// Seconds that the longest of the latest jobs was worked on, and of how many.
async fn longest(results: &AnyResults) -> Result<Option<(f64, usize)>, ResultsError> {
    let mut longest: Option<(f64, usize)> = None;
    for batch in results.open_batches(BATCHES).await? {
        for result in results.latest(batch, "", RESULTS).await?.results {
            let held_s = result.timings.total - result.timings.queue;
            let (known_s, count) = longest.unwrap_or((0.0, 0));
            longest = Some((known_s.max(held_s), count + 1));
        }
    }
    Ok(longest)
}

fn compared(longest_s: f64, count: usize, policy_s: Option<f64>) -> Finding {
    let limit_s = policy_s.unwrap_or(CONSUMER_TIMEOUT_S);
    let who = match policy_s {
        Some(_) => "a policy has the broker take jobs back",
        None => "the broker takes jobs back, unless rabbitmq.conf says otherwise,",
    };
    let message =
        format!("the longest of {count} jobs took {longest_s:.1} s; {who} after {limit_s:.0} s");
    if longest_s * MARGIN <= limit_s {
        return Finding::good(CHECK, message);
    }
    let verdict = if longest_s < limit_s {
        Verdict::Warning
    } else {
        Verdict::Bad
    };
    let needed_ms = longest_s * MARGIN * 1_000.0;
    let advice = format!("set `consumer_timeout = {needed_ms:.0}` in rabbitmq.conf");
    Finding::new(verdict, CHECK, message, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_must_be_far_shorter_than_the_time_out() {
        assert_eq!(compared(400.0, 3, None).verdict, Verdict::Good);
        let close = compared(20.0, 3, Some(60.0));
        assert_eq!(close.verdict, Verdict::Warning);
        assert_eq!(
            close.message,
            "the longest of 3 jobs took 20.0 s; a policy has the broker take jobs back after 60 s"
        );
        let advice = "set `consumer_timeout = 80000` in rabbitmq.conf";
        assert_eq!(close.advice.as_deref(), Some(advice));
        assert_eq!(compared(2_000.0, 1, None).verdict, Verdict::Bad);
    }
}
