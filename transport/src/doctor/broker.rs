//! `RabbitMQ`: its version, its alarms, its queues, and whether what waits for a retry comes back.

use std::time::{Duration, Instant};

use super::{Finding, Verdict};
use crate::open::without_credentials;
use crate::queue::amqp::{Examined, Examiner, QueueState};

/// The oldest version that has quorum queues with dead letters that cannot get lost.
const VERSION_MIN: (u32, u32) = (3, 10);
/// Longest time until a message that was to wait a second is back.
const RETURN_MAX: Duration = Duration::from_secs(10);

pub(super) async fn examine(url: &str) -> Vec<Finding> {
    let place = without_credentials(url);
    let examiner = match Examiner::connect(url).await {
        Ok(examiner) => examiner,
        Err(error) => {
            let advice = "start RabbitMQ, or correct the address, user, password and virtual host";
            let message = error.to_string();
            return vec![Finding::new(Verdict::Bad, "broker", message, advice)];
        }
    };
    let mut findings = vec![version(examiner.version(), &place)];
    let alarm = alarm(&examiner).await;
    let takes_messages = alarm.verdict == Verdict::Good;
    findings.push(alarm);
    match examiner.queues().await {
        Ok(queues) => findings.extend(queues.into_iter().map(judged_queue)),
        Err(error) => findings.push(Finding::new(
            Verdict::Bad,
            "broker: queues",
            error.to_string(),
            "let its user configure, write and read `lapidary.*`",
        )),
    }
    if takes_messages {
        findings.push(retries(&examiner).await);
    }
    findings
}

/// Whether it takes messages.
async fn alarm(examiner: &Examiner) -> Finding {
    let check = "broker: alarms";
    match examiner.alarm().await {
        Ok(None) => Finding::good(check, "it takes messages"),
        Ok(Some(reason)) => Finding::new(
            Verdict::Bad,
            check,
            format!("it takes no messages: {reason}"),
            "free memory or disk on the broker's machine",
        ),
        Err(error) => Finding::new(Verdict::Bad, check, error.to_string(), "look into its log"),
    }
}

/// `None`: it does not say.
fn version(version: Option<&str>, place: &str) -> Finding {
    let Some(version) = version else {
        let message = format!("the version of the broker at {place} cannot be told");
        let advice = "see `rabbitmqctl version`: it must be 3.10 or later";
        return Finding::new(Verdict::Unknown, "broker", message, advice);
    };
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let message = format!("RabbitMQ {version} at {place}");
    if number >= VERSION_MIN {
        return Finding::good("broker", message);
    }
    let (major, minor) = VERSION_MIN;
    let advice = format!("use {major}.{minor} or later: before, dead letters can get lost");
    Finding::new(Verdict::Bad, "broker", message, advice)
}

fn judged_queue(examined: Examined) -> Finding {
    let Examined { queue, state } = examined;
    let check = "broker: queues";
    match state {
        QueueState::Missing => Finding::good(check, format!("`{queue}` is made when it is needed")),
        QueueState::Ours { messages } => Finding::good(
            check,
            format!("`{queue}` is as it must be, {messages} messages wait"),
        ),
        QueueState::Other { why } => Finding::new(
            Verdict::Bad,
            check,
            format!("`{queue}` was made otherwise than this version makes it: {why}"),
            "have it run empty and delete it: it is made again. Until then jobs on it may be lost or \
             not come back",
        ),
        QueueState::Unrouted => Finding::new(
            Verdict::Bad,
            check,
            format!(
                "the exchange `{queue}` was missing, so retries could not be routed to the queue"
            ),
            "start a worker: whoever retries first makes it again",
        ),
        QueueState::Silent => Finding::new(
            Verdict::Bad,
            check,
            format!("`{queue}` does not answer: most of the nodes that have it are away"),
            "start the nodes again",
        ),
    }
}

/// Whether what waits for a retry comes back: a message goes the whole way.
async fn retries(examiner: &Examiner) -> Finding {
    let check = "broker: retries";
    let started = Instant::now();
    match examiner.retry(RETURN_MAX).await {
        Ok(true) => Finding::good(
            check,
            format!(
                "a message came back after {:.1} s",
                started.elapsed().as_secs_f64()
            ),
        ),
        Ok(false) => Finding::new(
            Verdict::Bad,
            check,
            format!(
                "a message that was to wait a second is not back after {} s",
                RETURN_MAX.as_secs()
            ),
            "delete the queues `lapidary.delay.*` once they are empty: they are made again",
        ),
        Err(error) => Finding::new(
            Verdict::Bad,
            check,
            format!("a message could not be sent on its way: {error}"),
            "let its user configure, write and read `lapidary.*`, and write to the default exchange",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version(Some("3.9.27"), "b").verdict, Verdict::Bad);
        assert_eq!(version(Some("3.10.0"), "b").verdict, Verdict::Good);
        assert_eq!(version(Some("4.1.2"), "b").verdict, Verdict::Good);
        assert_eq!(version(None, "b").verdict, Verdict::Unknown);
    }
}
