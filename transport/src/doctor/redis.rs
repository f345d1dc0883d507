//! Redis: whether it keeps what it confirms, has room, and tells the time as this machine does.

use std::collections::HashMap;
use std::time::Duration;

use chrono::Utc;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};

use super::{Finding, Verdict};
use crate::open::without_credentials;
use crate::tls;

/// Longest wait for a connection and for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The oldest version that the suite has run on.
const VERSION_MIN: (u32, u32) = (6, 2);
/// Deadlines and leases are told apart by less than this.
const CLOCK_MS_MAX: i64 = 2_000;
/// What it must be set to, and what is lost otherwise.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("appendonly", "yes", "a restart loses every result"),
    (
        "appendfsync",
        "always",
        "a crash loses the results of the last second",
    ),
    (
        "maxmemory-policy",
        "noeviction",
        "results are thrown away when memory is short",
    ),
];

pub(super) async fn examine(url: &str) -> Vec<Finding> {
    let place = without_credentials(url);
    let mut connection = match connect(url).await {
        Ok(connection) => connection,
        Err(error) => {
            let message = format!("{place} cannot be used: {error}");
            let advice = "start Redis, or correct the address and its password";
            return vec![Finding::new(Verdict::Bad, "results", message, advice)];
        }
    };
    let mut findings = vec![version(&mut connection, &place).await];
    for (name, needed, otherwise) in SETTINGS {
        let is = setting(&mut connection, name).await;
        findings.push(judged_setting(name, needed, otherwise, is));
    }
    findings.push(memory(&mut connection).await);
    findings.push(writes(&mut connection).await);
    findings.push(clock(&mut connection).await);
    findings
}

async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_MAX))
        .set_response_timeout(Some(ANSWER_MAX));
    tls::provide();
    let client = Client::open(url)?;
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// What `INFO` says of a section.
async fn info(connection: &mut MultiplexedConnection, section: &str) -> HashMap<String, String> {
    let asked: RedisResult<String> = redis::cmd("INFO")
        .arg(section)
        .query_async(connection)
        .await;
    let text = asked.unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

async fn version(connection: &mut MultiplexedConnection, place: &str) -> Finding {
    let server = info(connection, "server").await;
    let Some(version) = server.get("redis_version") else {
        let message = format!("{place} does not tell its version");
        let advice = "let its user run INFO";
        return Finding::new(Verdict::Unknown, "results", message, advice);
    };
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let message = format!("Redis {version} at {place}");
    if number >= VERSION_MIN {
        return Finding::good("results", message);
    }
    let (major, minor) = VERSION_MIN;
    let advice = format!("use {major}.{minor} or later");
    Finding::new(Verdict::Warning, "results", message, advice)
}

/// `None`: it does not say.
async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Option<String> {
    let mut command = redis::cmd("CONFIG");
    let asked: RedisResult<Vec<String>> =
        command.arg("GET").arg(name).query_async(connection).await;
    asked.ok()?.into_iter().nth(1)
}

fn judged_setting(
    name: &'static str,
    needed: &str,
    otherwise: &str,
    is: Option<String>,
) -> Finding {
    let check = match name {
        "appendonly" | "appendfsync" => "results: persistence",
        _ => "results: eviction",
    };
    match is {
        Some(is) if is == needed => Finding::good(check, format!("`{name} {is}`")),
        Some(is) => Finding::new(
            Verdict::Bad,
            check,
            format!("`{name} {is}`: {otherwise}"),
            format!(
                "set `{name} {needed}` in redis.conf, or `redis-cli config set {name} {needed}`"
            ),
        ),
        None => Finding::new(
            Verdict::Unknown,
            check,
            format!("it does not tell its `{name}`"),
            "let its user run CONFIG GET, which workers need too",
        ),
    }
}

async fn memory(connection: &mut MultiplexedConnection) -> Finding {
    let memory = info(connection, "memory").await;
    let number = |name: &str| memory.get(name).and_then(|value| value.parse::<u64>().ok());
    let (Some(used), Some(limit)) = (number("used_memory"), number("maxmemory")) else {
        let advice = "let its user run INFO";
        return Finding::new(
            Verdict::Unknown,
            "results: memory",
            "it does not tell",
            advice,
        );
    };
    let used_mib = used >> 20;
    if limit == 0 {
        let message = format!("{used_mib} MiB in use, no limit");
        return Finding::good("results: memory", message);
    }
    let message = format!("{used_mib} of {} MiB in use", limit >> 20);
    if used < limit / 5 * 4 {
        return Finding::good("results: memory", message);
    }
    let advice = "raise `maxmemory`, or shorten the retention of batches: when it is full, results wait \
                  in the workers";
    Finding::new(Verdict::Warning, "results: memory", message, advice)
}

/// Whether it takes writes now.
async fn writes(connection: &mut MultiplexedConnection) -> Finding {
    let check = "results: writes";
    let replication = info(connection, "replication").await;
    if replication.get("role").is_some_and(|role| role == "slave") {
        let advice = "name the primary, or the Sentinels that know it";
        return Finding::new(
            Verdict::Bad,
            check,
            "this is a replica, which is read-only",
            advice,
        );
    }
    let persistence = info(connection, "persistence").await;
    match persistence.get("aof_last_write_status").map(String::as_str) {
        Some("ok") => Finding::good(check, "the last write to its file succeeded"),
        Some(status) => Finding::new(
            Verdict::Bad,
            check,
            format!("the last write to its file: {status}"),
            "look into its log: its disk may be full",
        ),
        None => Finding::new(
            Verdict::Unknown,
            check,
            "it does not tell whether writes to its file succeed",
            "let its user run INFO",
        ),
    }
}

async fn clock(connection: &mut MultiplexedConnection) -> Finding {
    let before = Utc::now();
    let asked: RedisResult<(i64, i64)> = redis::cmd("TIME").query_async(connection).await;
    let Ok((seconds, microseconds)) = asked else {
        let advice = "let its user run TIME";
        return Finding::new(
            Verdict::Unknown,
            "clock",
            "Redis does not tell the time",
            advice,
        );
    };
    let here = before + (Utc::now() - before) / 2;
    judged_clock(seconds * 1_000 + microseconds / 1_000 - here.timestamp_millis())
}

fn judged_clock(ahead_ms: i64) -> Finding {
    let message = format!("that of Redis is {ahead_ms} ms ahead of this machine's");
    if ahead_ms.abs() <= CLOCK_MS_MAX {
        return Finding::good("clock", message);
    }
    let advice = "have all machines keep the time by NTP: deadlines and leases are moments";
    Finding::new(Verdict::Warning, "clock", message, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        assert_eq!(judged_clock(-1_999).verdict, Verdict::Good);
        assert_eq!(judged_clock(2_001).verdict, Verdict::Warning);
        assert_eq!(judged_clock(-60_000).verdict, Verdict::Warning);
    }
}
