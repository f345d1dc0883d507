//! `lapidary doctor` on places that are as they must be, and on places that are not.

use std::time::Instant;

use lapidary_tests::{Broker, Redis, free_port};
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::block_in_place;

use crate::place::{Followed, Place, RUN_MAX, requests};

/// What the doctor says of a check: verdicts with messages; and its exit code.
struct Examined {
    findings: Vec<(String, String, String, String)>,
    code: Option<i32>,
}

impl Examined {
    fn of(place: &Place) -> Self {
        Self::with(place, &[])
    }

    /// With further arguments.
    fn with(place: &Place, more: &[&str]) -> Self {
        let output = place.say(&[&["doctor", "--json"], more].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or("").to_owned();
        let finding = |one: &Value| {
            (
                text(one, "check"),
                text(one, "verdict"),
                text(one, "message"),
                text(one, "advice"),
            )
        };
        let findings = report["findings"].as_array().unwrap();
        Self {
            findings: findings.iter().map(finding).collect(),
            code: output.status.code(),
        }
    }

    /// That a check has such a verdict, a message with this in it, and advice with that.
    #[track_caller]
    fn says(&self, check: &str, verdict: &str, message: &str, advice: &str) {
        let found = self.findings.iter().any(|(of, is, said, do_this)| {
            of == check && is == verdict && said.contains(message) && do_this.contains(advice)
        });
        assert!(
            found,
            "no `{verdict}` of {check} with `{message}` and `{advice}` in {:#?}",
            self.findings
        );
    }

    /// That nothing is bad.
    #[track_caller]
    fn is_well(&self) {
        let bad = self
            .findings
            .iter()
            .any(|(_, verdict, ..)| verdict == "bad");
        assert!(!bad && self.code == Some(0), "{:#?}", self.findings);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_examined() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    let well = Examined::of(&place);
    well.is_well();
    well.says("file: content", "good", "whole", "");
    well.says("media", "good", "read again", "");
    well.says("workers", "warning", "none", "lapidary-worker run");
    // Zeros in the place of pages of the tables.
    let file = folder.path().join("lapidary.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 4, "the file has {pages} pages");
    bytes[4096 * 2..4096 * pages].fill(0);
    std::fs::write(&file, bytes).unwrap();
    let damaged = Examined::of(&place);
    assert_eq!(damaged.code, Some(1));
    let bad = damaged
        .findings
        .iter()
        .filter(|(_, verdict, ..)| verdict == "bad");
    assert!(bad.count() > 0, "{:#?}", damaged.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_examined() {
    let (mut broker, redis, folder) = (Broker::start(), Redis::start(), TempDir::new().unwrap());
    let place = Place::on_servers(broker.url(), redis.url(), folder.path());
    let well = Examined::of(&place);
    well.is_well();
    well.says("broker", "good", "RabbitMQ 3.", "");
    well.says("broker: retries", "good", "a message came back", "");
    well.says(
        "broker: policies",
        "unknown",
        "not told over AMQP",
        "list_policies",
    );
    well.says("results: persistence", "good", "appendfsync always", "");
    well.says("clock", "good", "ms ahead", "");
    queues_that_others_made(&broker, &place).await;

    let stranger = Place {
        broker: broker.url().replace("guest:guest", "guest:wrong"),
        ..place.clone()
    };
    let refused = Examined::of(&stranger);
    assert_eq!(refused.code, Some(1));
    refused.says("broker", "bad", "", "user, password");
    let shown = format!("{:?}", refused.findings);
    assert!(!shown.contains("wrong"), "a password is shown: {shown}");

    broker.ctl(&["set_vm_memory_high_watermark", "0.00001"]);
    let alarmed = Examined::of(&place);
    alarmed.says("broker: alarms", "bad", "takes no messages", "free memory");
    broker.stop();
    let away = Examined::of(&place);
    away.says("broker", "bad", "unreachable", "start RabbitMQ");
    assert_eq!(away.code, Some(1));
}

/// A rung without a time-out, and one whose exchange is gone.
async fn queues_that_others_made(broker: &Broker, place: &Place) {
    let properties = ConnectionProperties::default();
    let connection = Connection::connect(&broker.url(), properties)
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let made = channel.queue_declare("lapidary.delay.5m".into(), durable, arguments);
    made.await.unwrap();
    let gone = ExchangeDeleteOptions::default();
    channel
        .exchange_delete("lapidary.delay.1s".into(), gone)
        .await
        .unwrap();
    let examined = Examined::of(place);
    assert_eq!(examined.code, Some(1));
    let check = "broker: queues";
    examined.says(
        check,
        "bad",
        "`lapidary.delay.5m` was made otherwise",
        "delete it",
    );
    examined.says(
        check,
        "bad",
        "exchange `lapidary.delay.1s` was missing",
        "start a worker",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_and_time_outs_are_judged_by_what_they_do() {
    let (folder, port) = (TempDir::new().unwrap(), free_port());
    let (broker, redis) = (Broker::start_managed(port), Redis::start());
    let place = Place::on_servers(broker.url(), redis.url(), folder.path());
    let management = format!("http://guest:guest@127.0.0.1:{port}");
    let managed = ["--management", management.as_str()];
    let batch = place.submit(&requests(folder.path(), 20_000));
    let mut worker = place.worker(&["--threads", "1"]);
    let results = place.results().await;
    Followed::new(&results, batch).until(50).await;
    let well = Examined::with(&place, &managed);
    well.is_well();
    well.says("broker: policies", "good", "none harms the", "");
    well.says("broker: time-outs", "good", "the longest of", "");
    block_in_place(|| worker.stop());
    let harm = r#"{"message-ttl": 3600000, "queue-leader-locator": "balanced"}"#;
    broker.ctl(&["set_policy", "--apply-to", "queues", "short", "^lap", harm]);
    // The plugin tells what it saw some seconds ago.
    let until = Instant::now() + RUN_MAX;
    let mut harmed = Examined::with(&place, &managed);
    while harmed.code != Some(1) && Instant::now() < until {
        harmed = Examined::with(&place, &managed);
    }
    harmed.says(
        "broker: policies",
        "bad",
        "`short` sets `message-ttl` to 3600000 for `lapidary.",
        "leave out `lapidary.*`",
    );
    let strange = management.replace("guest:guest", "guest:wrong");
    let strange = Examined::with(&place, &["--management", &strange]);
    strange.says("broker: policies", "unknown", "status 401", "monitoring");
    let shown = format!("{:?}", strange.findings);
    assert!(!shown.contains("wrong"), "a password is shown: {shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loses_results_is_bad() {
    let folder = TempDir::new().unwrap();
    let redis = Redis::start_with(&[
        ("appendonly", "no"),
        ("maxmemory-policy", "allkeys-lru"),
        ("maxmemory", "1mb"),
    ]);
    let place = Place {
        results: redis.url(),
        ..Place::on_file(folder.path())
    };
    let lossy = Examined::of(&place);
    assert_eq!(lossy.code, Some(1));
    lossy.says(
        "results: persistence",
        "bad",
        "appendonly no",
        "config set appendonly yes",
    );
    lossy.says(
        "results: persistence",
        "bad",
        "appendfsync everysec",
        "appendfsync always",
    );
    lossy.says("results: eviction", "bad", "allkeys-lru", "noeviction");
    lossy.says("results: memory", "warning", "of 1 MiB in use", "maxmemory");
    redis.cli(&["replicaof", "127.0.0.1", "1"]);
    let replica = Examined::of(&place);
    replica.says("results: writes", "bad", "replica", "primary");
}
