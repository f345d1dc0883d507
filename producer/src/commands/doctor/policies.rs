//! What only `RabbitMQ`'s management plugin tells: the policies that govern our queues.

use std::collections::BTreeMap;

use lapidary_transport::doctor::{Finding, Verdict};
use serde::Deserialize;
use serde_json::Value;

use crate::report::ask::ask;

/// What our queues' names begin with.
const OURS: &str = "lapidary.";
const CHECK: &str = "broker: policies";
/// The key by which a policy bounds how long a job may be held, in milliseconds.
const CONSUMER_TIMEOUT: &str = "consumer-timeout";

/// A queue as the plugin describes it.
#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    operator_policy: Option<String>,
    /// Absent or an empty list where no policy governs it.
    #[serde(default)]
    effective_policy_definition: Value,
}

/// What the policies say.
#[derive(Debug, Default)]
pub(super) struct Policies {
    pub(super) findings: Vec<Finding>,
    /// The shortest time after which a policy has jobs taken back, in seconds.
    pub(super) consumer_timeout_s: Option<f64>,
}

/// What policies say, where it is known whom to ask.
pub(super) async fn told(address: Option<&str>, broker: &str) -> Policies {
    if let Some(address) = address {
        return policies(address, broker).await;
    }
    let unknown = Finding::unknown(
        CHECK,
        "policies are not told over AMQP",
        "name the management plugin with --management, or see `rabbitmqctl list_policies`: none may \
         expire or shorten `lapidary.*`",
    );
    Policies {
        findings: vec![unknown],
        consumer_timeout_s: None,
    }
}

/// Asks the plugin at `address` about the broker at `broker`.
async fn policies(address: &str, broker: &str) -> Policies {
    let path = format!("api/queues/{}", virtual_host(broker));
    let columns = "name,policy,operator_policy,effective_policy_definition";
    let asked = ask(address, &path, &[("columns", columns)]).await;
    let read = asked
        .map_err(|error| error.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    match read {
        Ok(queues) => judged(queues),
        Err(message) => Policies {
            findings: vec![Finding::unknown(
                CHECK,
                message,
                "correct --management, and give its user the tag `monitoring`",
            )],
            consumer_timeout_s: None,
        },
    }
}

/// As it stands in the broker's address, where it is written as in the plugin's.
fn virtual_host(broker: &str) -> &str {
    let path = broker
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'));
    let host = path.map_or("", |(_, path)| path.split('?').next().unwrap_or(""));
    if host.is_empty() { "%2f" } else { host }
}

fn judged(queues: Vec<Queue>) -> Policies {
    let mut judged = Policies::default();
    let ours: Vec<Queue> = queues
        .into_iter()
        .filter(|queue| queue.name.starts_with(OURS))
        .collect();
    // One finding a policy, key and value, however many queues it governs.
    let mut harms: BTreeMap<String, (Verdict, &'static str, Vec<&str>)> = BTreeMap::new();
    for queue in &ours {
        let definition = queue.effective_policy_definition.as_object();
        for (key, value) in definition.into_iter().flatten() {
            if key == CONSUMER_TIMEOUT {
                let seconds = value.as_f64().map(|ms| ms / 1_000.0);
                let shortest = judged.consumer_timeout_s.unwrap_or(f64::INFINITY);
                judged.consumer_timeout_s = seconds.map(|seconds| seconds.min(shortest));
            }
            let Some((verdict, harm)) = harm(key) else {
                continue;
            };
            let policies = [&queue.policy, &queue.operator_policy];
            let policies: Vec<&str> = policies
                .into_iter()
                .flatten()
                .map(String::as_str)
                .filter(|name| !name.is_empty())
                .collect();
            let what = format!("`{}` sets `{key}` to {value}", policies.join("` and `"));
            let entry = harms.entry(what).or_insert((verdict, harm, Vec::new()));
            entry.2.push(&queue.name);
        }
    }
    for (what, (verdict, harm, queues)) in harms {
        let message = format!("{what} for {}: {harm}", named(&queues));
        let advice = "have the policy's pattern leave out `lapidary.*`, or take the key from it";
        judged
            .findings
            .push(Finding::new(verdict, CHECK, message, advice));
    }
    if judged.findings.is_empty() {
        let message = format!("none harms the {} queues", ours.len());
        judged.findings.push(Finding::good(CHECK, message));
    }
    judged
}

/// The first of some queues, and how many more there are.
fn named(queues: &[&str]) -> String {
    match queues {
        [one] => format!("`{one}`"),
        [first, more @ ..] => format!("`{first}` and {} more", more.len()),
        [] => String::new(),
    }
}

/// What a key of a policy does to a queue of ours. Where the queue itself says something else, the lower
/// number counts.
fn harm(key: &str) -> Option<(Verdict, &'static str)> {
    match key {
        "message-ttl" => Some((
            Verdict::Bad,
            "jobs leave the queue before anybody begins them",
        )),
        "expires" => Some((
            Verdict::Bad,
            "the queue is deleted with its jobs when it is unused",
        )),
        "max-length" | "max-length-bytes" => Some((
            Verdict::Warning,
            "beyond it, jobs and retries are refused until there is room",
        )),
        "delivery-limit" => Some((
            Verdict::Warning,
            "jobs that are handed back so often are given up, whatever their attempts",
        )),
        "dead-letter-exchange" | "dead-letter-routing-key" => Some((
            Verdict::Warning,
            "dead letters may go where nobody looks for them",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn queue(name: &str, policy: &str, definition: &Value) -> Queue {
        from_value(json!({
            "name": name,
            "policy": policy,
            "effective_policy_definition": definition,
        }))
        .unwrap()
    }

    #[test]
    fn harm_is_told_once_a_policy() {
        let ttl = json!({"message-ttl": 60_000, "queue-leader-locator": "balanced"});
        let judged = judged(vec![
            queue("lapidary.jobs.m.bulk", "all", &ttl),
            queue("lapidary.jobs.m.interactive", "all", &ttl),
            queue("theirs", "all", &ttl),
            queue("lapidary.dead", "", &json!([])),
            queue(
                "lapidary.dropped",
                "short",
                &json!({"consumer-timeout": 60_000}),
            ),
        ]);
        let said: Vec<(Verdict, &str)> = judged
            .findings
            .iter()
            .map(|finding| (finding.verdict, finding.message.as_str()))
            .collect();
        let expected = "`all` sets `message-ttl` to 60000 for `lapidary.jobs.m.bulk` and 1 more: jobs \
                        leave the queue before anybody begins them";
        assert_eq!(said, [(Verdict::Bad, expected)]);
        assert_eq!(judged.consumer_timeout_s, Some(60.0));
    }

    #[test]
    fn the_virtual_host_is_that_of_the_address() {
        for (broker, host) in [
            ("amqp://u:p@one,two:5673/%2f?heartbeat=4", "%2f"),
            ("amqp://host/jobs", "jobs"),
            ("amqp://host", "%2f"),
            ("amqps://host/", "%2f"),
        ] {
            assert_eq!(virtual_host(broker), host);
        }
    }
}
