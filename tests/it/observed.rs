//! The shipped rules on a real Prometheus that scrapes a live worker and a live gateway: silent while all
//! is well, and each alert told once what it is for happens. All durations of the rules are divided by
//! one factor; their true values are tested by `promtool` (see `boards`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lapidary_schemas::metrics::thresholds::{DECODE_RATE_MIN, MEMORY_MAX, Threshold};
use lapidary_schemas::metrics::{ALL, Kind};
use lapidary_tests::{Program, Prometheus, Wire, free_port, http, own};
use lapidary_transport::Media as _;
use lapidary_transport::media::AnyMedia;
use lapidary_transport::results::AnyResults;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::boards::{alerts, below_root, panels};
use crate::hurried::{config, limits, scaled_limits, write_rules};
use crate::operators::{self, TENANT};
use crate::place::{Followed, MODEL, Place, requests};
use crate::told::Told;
use crate::wired::Wired;

/// How long nothing may be told while all is well: longer than the longest `for` of an alert.
const CALM: Duration = Duration::from_secs(35);
/// How long the worker hangs: longer than answers may take, shorter than it is remembered.
const HANG: Duration = Duration::from_secs(13);
/// How long memory must stay below its limit first: longer than the alert waits.
const UNLADEN: Duration = Duration::from_secs(8);
/// What the ballast must add at least.
const BALLAST_BYTES: f64 = 48.0 * 1_048_576.0;
const SAY_MAX: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A detector that has next to no time: a long text is too much for it, a short one is not.
const POLICY: &str = r#"
name = "hasty"
[[detector]]
name = "words"
kind = "keywords"
keywords = ["hate"]
stages = ["input_text", "output_text"]
action = "flag"
on_error = "open"
time_limit = "1ms"
"#;

/// A worker and a gateway behind wires, and a Prometheus that looks at them.
struct Observed {
    servers: Wired,
    results: AnyResults,
    worker: Program,
    worker_ops: u16,
    gateway: Program,
    api: u16,
    gateway_ops: u16,
    prometheus: Prometheus,
    rules: PathBuf,
    _folder: TempDir,
    told: Told,
}

impl Observed {
    async fn start() -> Self {
        let servers = Wired::start().await;
        let folder = TempDir::new().unwrap();
        let policy = folder.path().join("policy.toml");
        std::fs::write(&policy, POLICY).unwrap();
        let (place, told) = (servers.behind(), Told::start().await);
        let (worker_ops, api, gateway_ops) = (free_port(), free_port(), free_port());
        let mut worker = place.worker(&[
            "--slots",
            "3",
            "--listen",
            &local(worker_ops),
            "--policy",
            policy.to_str().unwrap(),
        ]);
        worker.wait_for("serving", SAY_MAX);
        let mut command = own("lapidary");
        command
            .args([
                "serve",
                "--listen",
                &local(api),
                "--ops-listen",
                &local(gateway_ops),
            ])
            .args(["--queue", "2", "--message-chars", "1000000"])
            .args(place.arguments());
        let mut gateway = Program::start(&mut command, "lapidary");
        gateway.wait_for("listening on http://", SAY_MAX);
        let rules = folder.path().join("rules");
        std::fs::create_dir(&rules).unwrap();
        write_rules(&rules, &limits(&scaled_limits()));
        let config = config(told.port, worker_ops, gateway_ops);
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        Self {
            results: servers.direct().results().await,
            prometheus: Prometheus::start(folder.path()),
            servers,
            worker,
            worker_ops,
            gateway,
            api,
            gateway_ops,
            rules,
            _folder: folder,
            told,
        }
    }

    fn place(&self) -> Place {
        self.servers.direct()
    }

    /// Asks the gateway about a text; the status of its answer.
    fn chat(&self, path: &str, text: &str) -> u16 {
        let messages = json!([{"role": "user", "content": text}]);
        let body = json!({"model": MODEL, "messages": messages, "max_tokens": 8});
        http::post(self.api, path, &body.to_string()).unwrap().0
    }

    /// A batch from its submission to its end.
    async fn batch(&self, count: usize) {
        let batch = self
            .place()
            .submit(&requests(self.servers.folder.path(), count));
        Followed::new(&self.results, batch).texts(count).await;
    }

    /// A batch that is under way.
    async fn begun(&self, count: usize) -> Followed<'_> {
        let batch = self
            .place()
            .submit(&requests(self.servers.folder.path(), count));
        let mut followed = Followed::new(&self.results, batch);
        followed.until(50).await;
        followed
    }

    /// What `lapidary report` says of the last half minute, and its exit code.
    fn report(&self) -> (Option<i32>, Value) {
        let prometheus = format!("http://{}", local(self.prometheus.port()));
        let mut command = own("lapidary");
        command.args([
            "report",
            "--window",
            "30s",
            "--json",
            "--prometheus",
            &prometheus,
        ]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let report = serde_json::from_slice(&output.stdout);
        (
            output.status.code(),
            report.unwrap_or_else(|error| panic!("{error}: {said}")),
        )
    }

    /// Other limits hold from now on.
    fn set_limits(&mut self, others: &[(Threshold, f64)]) {
        write_rules(&self.rules, &limits(others));
        self.prometheus.reload();
    }

    /// Waits until an expression holds.
    async fn holds(&self, expression: &str) {
        let started = Instant::now();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while self.samples(expression).is_empty() {
            assert!(started.elapsed() < SAY_MAX, "{expression} does not hold");
            looks.tick().await;
        }
    }

    /// What an expression is now.
    fn samples(&self, expression: &str) -> Vec<Value> {
        let answer: Value = serde_json::from_str(&self.prometheus.query(expression)).unwrap();
        match &answer["data"]["result"] {
            Value::Array(samples) => samples.clone(),
            other => panic!("{expression}: {other}"),
        }
    }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// All is well: targets are up, rules are loaded, panels show something, and nothing is told.
async fn is_calm(observed: &mut Observed) {
    let started = Instant::now();
    while started.elapsed() < CALM {
        observed.batch(200).await;
        assert_eq!(observed.chat("/v1/chat/completions", "What is a gem?"), 200);
    }
    assert_eq!(observed.samples("up == 1").len(), 2, "a target is not up");
    let rules: Value = serde_json::from_str(&observed.prometheus.api("rules")).unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap());
    let mut count = 0;
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        count += 1;
    }
    assert!(count > 30, "only {count} rules are loaded");
    panels_show_something(observed);
    exported_is_what_the_table_says(observed);
    reports_say_so(observed);
    let told = observed.told.so_far();
    assert!(told.is_empty(), "{told:?} while all is well");
}

/// The report of Prometheus is about a time in which nothing else happened, that of the worker about all.
fn reports_say_so(observed: &Observed) {
    let (code, recent) = observed.report();
    let worker = format!("http://{}", local(observed.worker_ops));
    let output = own("lapidary")
        .args(["report", "--worker", &worker, "--json"])
        .output()
        .unwrap();
    let since_start: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (code, output.status.code()),
        (Some(0), Some(0)),
        "{recent} {since_start}"
    );
    for report in [recent, since_start] {
        assert!(
            report["jobs"]["succeeded"].as_f64().unwrap() > 200.0,
            "{report}"
        );
        assert_eq!(report["jobs"]["failed"], 0.0);
        assert_eq!(report["success_rate"], 1.0);
        for figure in [
            "response_time_mean_s",
            "response_time_p95_s",
            "tokens_per_second",
            "memory_mb",
        ] {
            assert!(report[figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
        }
        assert!(report["quality"]["empty"].is_number(), "{report}");
        assert_eq!(report["alerts"], json!([]));
    }
}

fn panels_show_something(observed: &Observed) {
    for panel in panels() {
        for expression in &panel.expressions {
            let asked = expression
                .replace("$__rate_interval", "10s")
                .replace("$instance", ".+");
            let samples = observed.samples(&asked);
            let is_number = |sample: &Value| sample["value"][1] != "NaN";
            assert!(
                samples.iter().any(is_number),
                "{} shows nothing: {asked} is {samples:?}",
                panel.title
            );
        }
    }
}

/// Every row of the table is in a scrape, and every series of ours in a scrape is in the table.
fn exported_is_what_the_table_says(observed: &Observed) {
    let scrape = |port| http::get(port, "/metrics").unwrap().1;
    let text = [scrape(observed.worker_ops), scrape(observed.gateway_ops)].concat();
    let types: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let kind = |kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let table: Vec<String> = ALL
        .iter()
        .map(|row| format!("{} {}", row.name, kind(row.kind)))
        .collect();
    assert_eq!(types, table.iter().map(String::as_str).collect());
    for stranger in ["tenant", "job", "job_id", "batch", "batch_id"] {
        let label = format!("{stranger}=\"");
        let has = |line: &&str| {
            line.contains(&format!("{{{label}")) || line.contains(&format!(",{label}"))
        };
        assert_eq!(text.lines().find(has), None);
    }
}

/// Jobs fail, a detector is too late.
async fn jobs_fail(observed: &mut Observed) {
    let Observed {
        results,
        servers,
        told,
        api,
        ..
    } = observed;
    let long = "c4t5 d0g5 ".repeat(90_000);
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": long}]}).to_string();
    told.until("LapidaryFilterFailing", async || {
        // It is longer than the model's context, too.
        assert_eq!(
            http::post(*api, "/v1/chat/completions", &body).unwrap().0,
            400
        );
    })
    .await;
    let media = AnyMedia::open(&servers.direct().media).unwrap();
    let elsewhere = TempDir::new().unwrap();
    let elsewhere = AnyMedia::open(&format!("file://{}", elsewhere.path().display())).unwrap();
    let missing = elsewhere.put(TENANT, b"A text.".to_vec()).await.unwrap();
    for alert in ["LapidaryDeadLetters", "LapidarySuccessRateLow"] {
        told.until(alert, async || {
            drop(operators::submit(results, &media, &missing, MODEL).await);
        })
        .await;
    }
}

/// The results store cannot be reached while jobs are under way, then the broker.
async fn stores_go_away(observed: &mut Observed) {
    let mut batch = observed.begun(4_000).await;
    // Programs look at the batches every few seconds: what they have not seen they cannot miss.
    observed.holds("max(lapidary_unfinished_items) > 0").await;
    observed.servers.to_redis.set(Wire::Cut);
    drop(batch);
    let api = observed.api;
    let ask =
        json!({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}).to_string();
    for alert in ["LapidaryStoreAway", "LapidaryGatewayFailing"] {
        observed
            .told
            .until(alert, async || {
                assert_eq!(
                    http::post(api, "/v1/chat/completions", &ask).unwrap().0,
                    503
                );
            })
            .await;
    }
    for alert in [
        "LapidaryNobodyFeeds",
        "LapidaryJobOverdue",
        "LapidaryDrainLong",
    ] {
        observed.told.until(alert, async || {}).await;
    }
    observed.servers.to_redis.set(Wire::Open);
    batch = observed.begun(1_000).await;
    drop(batch);
    let to_broker = &observed.servers.to_broker;
    observed
        .told
        .until("LapidarySettleErrors", async || to_broker.cut_once())
        .await;
}

/// The worker hangs for a while: requests wait, and more of them are turned away.
async fn the_worker_hangs(observed: &mut Observed) {
    let hung = Instant::now();
    observed.worker.signal(Signal::SIGSTOP);
    let api = observed.api;
    let ask = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4});
    let ask = ask.to_string();
    for alert in ["LapidaryWorkerGone", "LapidaryRequestsTurnedAway"] {
        observed
            .told
            .until(alert, async || {
                drop(http::post(api, "/v1/jobs", &ask).unwrap());
            })
            .await;
    }
    let left = HANG.saturating_sub(hung.elapsed());
    tokio::time::sleep(left).await;
    observed.worker.signal(Signal::SIGCONT);
    observed
        .told
        .until("LapidaryResponseTimeHigh", async || {})
        .await;
}

/// The machine is too fast for this to happen: the limit comes to the worker.
async fn limits_are_passed(observed: &mut Observed) {
    let mut others = scaled_limits();
    others.push((DECODE_RATE_MIN, 1e9));
    observed.set_limits(&others);
    let place = observed.place();
    let file = requests(observed.servers.folder.path(), 1_500);
    let results = &observed.results;
    observed
        .told
        .until("LapidaryGenerationSlow", async || {
            let batch = place.submit(&file);
            Followed::new(results, batch).until(50).await;
        })
        .await;
}

/// The worker comes to hold more than it held while all was well: the longest texts that it is given are
/// its ballast.
async fn memory_swells(observed: &mut Observed) {
    let held = &observed.samples("max(lapidary_resident_memory_bytes)")[0];
    let held: f64 = held["value"][1].as_str().unwrap().parse().unwrap();
    let mut others = scaled_limits();
    others.push((MEMORY_MAX, held + BALLAST_BYTES));
    observed.set_limits(&others);
    let started = Instant::now();
    while started.elapsed() < UNLADEN {
        observed.batch(200).await;
    }
    let told = observed.told.so_far();
    assert!(told.is_empty(), "{told:?} without ballast");
    let messages = json!([{"role": "user", "content": "A word. ".repeat(120_000)}]);
    let body = json!({"model": MODEL, "messages": messages}).to_string();
    let api = observed.api;
    observed
        .told
        .until("LapidaryMemoryHigh", async || {
            let (status, answer) = http::post(api, "/v1/chat/completions", &body).unwrap();
            assert_eq!(status, 400, "{answer}");
        })
        .await;
    observed.set_limits(&scaled_limits());
}

/// The worker is killed with work left, its successor never serves, and the gateway is killed too.
async fn programs_are_killed(observed: &mut Observed) {
    drop(observed.begun(4_000).await);
    observed.worker.kill();
    let mut place = observed.place();
    place.broker = format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port());
    let listen = local(observed.worker_ops);
    let successor = place.worker(&["--listen", &listen, "--store-wait", "10m"]);
    for alert in ["LapidaryQueueWithoutWorker", "LapidaryWorkerNotServing"] {
        observed.told.until(alert, async || {}).await;
    }
    let (code, report) = observed.report();
    let alerts = report["alerts"].as_array().unwrap().iter();
    let mut names = alerts.map(|alert| alert["name"].as_str().unwrap());
    assert!(
        names.any(|name| name == "LapidaryWorkerNotServing"),
        "{report}"
    );
    assert_eq!(code, Some(1));
    drop(successor);
    observed.gateway.kill();
    observed
        .told
        .until("LapidaryGatewayGone", async || {})
        .await;
}

/// What the boards showed of all this, for a person to look at: `boards.html` beside the test programs.
fn boards_are_drawn(observed: &Observed) {
    let page = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boards.html");
    let prometheus = format!("http://{}", local(observed.prometheus.port()));
    let mut draw = Command::new(below_root("dashboards/grafana/draw.py"));
    draw.arg(prometheus).arg(&page);
    draw.args(["--window", "240", "--rate", "5"]);
    assert!(draw.status().unwrap().success());
    let drawn = std::fs::read_to_string(&page).unwrap();
    assert_eq!(drawn.matches("<figure>").count(), panels().len());
    let empty = drawn.matches("no data").count();
    assert_eq!(empty, 0, "see {}", page.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_silent_while_all_is_well_and_told_when_it_is_not() {
    let mut observed = Observed::start().await;
    is_calm(&mut observed).await;
    memory_swells(&mut observed).await;
    jobs_fail(&mut observed).await;
    stores_go_away(&mut observed).await;
    the_worker_hangs(&mut observed).await;
    limits_are_passed(&mut observed).await;
    programs_are_killed(&mut observed).await;
    boards_are_drawn(&observed);
    assert_eq!(*observed.told.so_far(), alerts().into_iter().collect());
}
