//! A batch of all sorts under a policy, through the real programs: what every result, metric and report
//! says is the same, and nowhere is told what was asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lapidary_schemas::{JobResult, Progress, Status};
use lapidary_tests::{Program, free_port, http, own};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::place::{Followed, MODEL, Place};

const JOBS: usize = 500;
const SAY_MAX: Duration = Duration::from_mins(1);
/// Stands in every text that nobody may be told of.
const SECRET: &str = "quuxipal";

const POLICY: &str = r#"
name = "house"
[[detector]]
name = "words"
kind = "keywords"
stages = ["input_text"]
action = "block"
keywords = ["zanzibar"]
[[detector]]
name = "people"
kind = "personal"
stages = ["input_text", "output_text"]
action = "redact"
rules = ["email"]
[[detector]]
name = "markup"
kind = "markup"
stages = ["input_text"]
action = "flag"
[[detector]]
name = "later"
kind = "keywords"
stages = ["input_text"]
action = "block"
keywords = ["archive"]
shadow = true
[[detector]]
name = "spoken"
kind = "keywords"
stages = ["output_text"]
action = "block"
keywords = ["the", "a", "and"]
"#;

/// What a job of a number asks, and its last verdict on that: detector and action.
fn asked(number: usize) -> (String, (&'static str, &'static str)) {
    let secret = format!("{SECRET}{number}");
    match number % 5 {
        0 => {
            let written = ["zanzibar", "Z.A.N.Z.I.B.A.R", "ｚanzibar", "z4nzib4r"];
            let word = written[number / 5 % written.len()];
            (
                format!("Tell me of {word} and {secret}."),
                ("words", "block"),
            )
        }
        1 => (
            format!("Write to {secret}@example.org about it."),
            ("people", "redact"),
        ),
        2 => (
            format!("<script>{secret}()</script> What does it do?"),
            ("markup", "flag"),
        ),
        3 => (format!("{secret} of the archive."), ("later", "block")),
        _ => (format!("What is {secret}?"), ("later", "allow")),
    }
}

/// What the verdict of a detector on a request says.
fn verdict<'a>(result: &'a JobResult, detector: &str) -> &'a str {
    let mut verdicts = result.filter.iter();
    let found = verdicts.find(|one| one.stage == "input_text" && one.detector == detector);
    &found.unwrap().action
}

fn submit(place: &Place, folder: &Path) -> lapidary_schemas::BatchId {
    let lines = (0..JOBS).map(|number| {
        let body = json!({
            "model": MODEL, "max_tokens": 8, "temperature": 0,
            "messages": [{"role": "user", "content": asked(number).0}],
        });
        let id = number.to_string();
        json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
            .to_string()
    });
    let path = folder.join("requests.jsonl");
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    place.submit(&path)
}

/// A program that says all it can, to a file too.
fn saying_all(program: &str, arguments: &[&str], place: &Place, said: &Path) -> Program {
    let mut command = std::process::Command::new("/bin/sh");
    command
        .args(["-c", r#"log=$1; shift; "$@" 2>&1 | tee "$log""#, "sh"])
        .arg(said)
        .arg(own(program).get_program())
        .args(arguments)
        .args(place.arguments());
    Program::start(&mut command, "lapidary")
}

/// The samples of a metric that are not 0, by the values of these labels.
fn samples(exposition: &str, name: &str, labels: &[&str]) -> BTreeMap<Vec<String>, u64> {
    let lines = exposition.lines().filter_map(|line| {
        let (written, value) = line
            .strip_prefix(name)?
            .strip_prefix('{')?
            .split_once("} ")?;
        let value_of = |label: &&str| {
            let (_, rest) = written.split_once(&format!("{label}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let values: Option<Vec<String>> = labels.iter().map(value_of).collect();
        Some((values?, value.parse().ok()?))
    });
    lines.filter(|(_, count)| *count > 0).collect()
}

/// How often each of these is there.
fn counted(all: impl Iterator<Item = Vec<String>>) -> BTreeMap<Vec<String>, u64> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    counts
}

fn code(result: &JobResult) -> &str {
    let failure = result.failure.as_ref();
    failure.map_or("NONE", |failure| failure.code.as_str())
}

/// What came of it, and all that was said on the way.
struct Came {
    rows: Vec<JobResult>,
    progress: Progress,
    worker_metrics: String,
    report: String,
    since: String,
    /// By whom, and what.
    said: Vec<(&'static str, String)>,
}

/// Runs the batch.
async fn run(folder: &Path) -> Came {
    let place = Place::on_file(folder);
    let policy = folder.join("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let [worker_port, gateway_port, ops_port] = [(); 3].map(|()| free_port());
    let [worker_at, gateway_at, ops_at] =
        [worker_port, gateway_port, ops_port].map(|port| format!("127.0.0.1:{port}"));
    let [worker_log, gateway_log] = ["worker.log", "gateway.log"].map(|log| folder.join(log));
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny-gemma");
    let (model, policy) = (model.to_str().unwrap(), policy.to_str().unwrap());
    let named = ["--log", "debug", "run", "--name", MODEL, "--model", model];
    let arguments = [&named[..], &["--listen", &worker_at, "--policy", policy]].concat();
    let mut worker = saying_all("lapidary-worker", &arguments, &place, &worker_log);
    worker.wait_for("serving", SAY_MAX);
    let arguments = ["serve", "--listen", &gateway_at, "--ops-listen", &ops_at];
    let mut gateway = saying_all("lapidary", &arguments, &place, &gateway_log);
    gateway.wait_for("listening on http://", SAY_MAX);

    let batch = submit(&place, folder);
    let results = place.results().await;
    let mut followed = Followed::new(&results, batch);
    let progress = followed.ended().await;
    let rows = followed.rows().to_vec();
    let address = format!("/v1/batches/batch_{}/report", batch.0.simple());
    let (status, report) = http::get(gateway_port, &address).unwrap();
    assert_eq!(status, 200, "{report}");
    let mut asking = own("lapidary");
    let asking = asking.args([
        "report",
        "--json",
        "--worker",
        &format!("http://{worker_at}"),
    ]);
    let since = String::from_utf8(asking.output().unwrap().stdout).unwrap();
    let worker_metrics = http::get(worker_port, "/metrics").unwrap().1;
    let mut said = vec![
        (
            "the gateway's metrics",
            http::get(ops_port, "/metrics").unwrap().1,
        ),
        ("the dead letters", place.ask(&["dead", "list"])),
        ("the state of the place", place.ask(&["status"])),
    ];
    worker.stop();
    gateway.stop();
    for (who, log) in [
        ("the worker's log", worker_log),
        ("the gateway's log", gateway_log),
    ] {
        said.push((who, std::fs::read_to_string(log).unwrap()));
    }
    Came {
        rows,
        progress,
        worker_metrics,
        report,
        since,
        said,
    }
}

/// Every result is that of what its job asked.
fn check_rows(rows: &[JobResult]) {
    assert_eq!(rows.len(), JOBS);
    for row in rows {
        let number: usize = row.custom_id.as_deref().unwrap().parse().unwrap();
        let (_, (detector, action)) = asked(number);
        assert_eq!(verdict(row, detector), action, "{row:?}");
        let blocked = detector == "words";
        assert_eq!(code(row) == "CONTENT_FILTERED", blocked, "{row:?}");
        let passed = matches!(code(row), "NONE" | "RESPONSE_FILTERED");
        assert!(blocked || passed, "{row:?}");
        assert_eq!(row.text.is_some(), row.status == Status::Succeeded);
        assert_eq!(row.attempt, 1);
    }
}

/// Metrics and reports say what the results say.
fn check_counts(came: &Came) {
    let Came { rows, progress, .. } = came;
    let verdicts = rows.iter().flat_map(|row| &row.filter).map(|verdict| {
        let mode = if verdict.shadow { "shadow" } else { "enforced" };
        let labels = [&*verdict.stage, &*verdict.detector, &*verdict.action, mode];
        labels.map(str::to_owned).to_vec()
    });
    let labels = ["stage", "detector", "action", "mode"];
    assert_eq!(
        samples(
            &came.worker_metrics,
            "lapidary_filter_verdicts_total",
            &labels
        ),
        counted(verdicts)
    );
    let labels = |row: &JobResult| vec![row.status.as_str().to_owned(), code(row).to_owned()];
    let outcomes = counted(rows.iter().map(labels));
    assert_eq!(
        samples(
            &came.worker_metrics,
            "lapidary_jobs_total",
            &["status", "code"]
        ),
        outcomes
    );
    let of = |code: &str| {
        let labels = ["filtered", code].map(str::to_owned).to_vec();
        outcomes.get(&labels).copied().unwrap_or(0)
    };
    let (requests, answers) = (of("CONTENT_FILTERED"), of("RESPONSE_FILTERED"));
    assert_eq!(requests, 100);
    let filtered = requests + answers;
    let passed = JOBS as u64 - filtered;
    assert_eq!(
        (progress.succeeded, progress.filtered, progress.failed),
        (passed, filtered, 0)
    );
    let report: Value = serde_json::from_str(&came.report).unwrap();
    let mut failures = json!({"CONTENT_FILTERED": requests});
    if answers > 0 {
        failures["RESPONSE_FILTERED"] = json!(answers);
    }
    assert_eq!(report["failures"], failures);
    let since: Value = serde_json::from_str(&came.since).unwrap();
    let told = ["succeeded", "filtered", "failed"].map(|status| since["jobs"][status].to_string());
    let known = [passed, filtered, 0].map(|count| format!("{count}.0"));
    assert_eq!(told, known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_codes_counts_and_reports_agree_and_nothing_is_told() {
    let folder = TempDir::new().unwrap();
    let came = run(folder.path()).await;
    check_rows(&came.rows);
    check_counts(&came);
    let looked = came
        .said
        .iter()
        .any(|(_, text)| text.contains("filter found something"));
    assert!(looked, "the worker did not say all");
    let blocked = came
        .rows
        .iter()
        .filter(|row| row.status == Status::Filtered);
    let blocked = serde_json::to_string(&blocked.collect::<Vec<_>>()).unwrap();
    let more = [
        ("the worker's metrics", came.worker_metrics),
        ("the batch's report", came.report),
        ("the worker's report", came.since),
        ("the results of what was blocked", blocked),
    ];
    for (who, text) in came.said.into_iter().chain(more) {
        let text = text.to_lowercase();
        for secret in [SECRET, "zanzibar"] {
            assert!(!text.contains(secret), "{who} tells `{secret}`");
        }
    }
}
