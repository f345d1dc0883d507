//! Traces of jobs through the real programs: whole, in order, without content, and gone on with by whoever
//! takes a job over.

use std::collections::BTreeSet;
use std::time::Duration;

use lapidary_schemas::BatchId;
use lapidary_tests::{Broker, Redis, free_port, http};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::collector::{Collector, Told, names};
use crate::gateway::{Gateway, client};
use crate::place::{Followed, MODEL, Place, requests};

const SAY_MAX: Duration = Duration::from_mins(1);
/// The client's trace and the span in which it asks.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ASKING: &str = "00f067aa0ba902b7";
/// A trace of the client's that nobody shall be told of, and one in which a batch is submitted.
const UNTOLD: &str = "77777777777777777777777777777777";
const BATCH: &str = "88888888888888888888888888888888";
/// A word that is asked about and must be told to nobody.
const SECRET: &str = "chrysoprase";
/// The name of an attempt at a job.
const ATTEMPT: &str = "chat tiny";
/// What becomes of a job within an attempt at it.
const STAGES: [&str; 6] = ["media", "filter", "prefill", "decode", "store", "settle"];
const DOCUMENTS: usize = 300;
/// Finished documents after which a worker is killed.
const KILL_AT: usize = 60;

/// Asks a gateway within a trace of the client's own, within one that nobody shall be told of, and outside
/// of any; whole traces come of the first and the last.
async fn asked(place: &Place) {
    let mut collector = Collector::start().await;
    let url = collector.url();
    let mut worker = place.worker(&["--log", "debug", "--otlp", &url]);
    worker.wait_for("serving", SAY_MAX);
    let gateway = Gateway::start_with(place, &["--otlp", &url]);
    let body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": format!("What is {SECRET}?")}],
        "max_tokens": 8,
        "temperature": 0.5,
    });
    let ask = |headers: &[(&str, &str)]| {
        let path = "/v1/chat/completions";
        http::post_with(gateway.port(), path, headers, &body.to_string()).unwrap()
    };
    let (status, answer) = ask(&[("traceparent", &format!("00-{TRACE}-{ASKING}-01"))]);
    assert_eq!(status, 200, "{answer}");
    let untold = format!("00-{UNTOLD}-{ASKING}-00");
    assert_eq!(ask(&[("traceparent", &untold)]).0, 200);
    assert_eq!(ask(&[]).0, 200);
    let count = |spans: &[Told], name| spans.iter().filter(|span| span.name == name).count();
    let both = |spans: &[Told]| count(spans, ATTEMPT) == 2 && count(spans, "submit") == 2;
    collector.until("a trace", both).await;
    a_batch_leads_to_its_items(&mut collector, &gateway).await;
    let lines = worker.stop_and_read();
    gateway.stop();
    collector.look();

    assert!(collector.trace(UNTOLD).is_empty());
    let spans = collector.trace(TRACE);
    let (submit, attempt) = is_whole(&spans);
    assert_eq!(submit.parent, ASKING);
    says_what_was_asked(attempt, &serde_json::from_str(&answer).unwrap());
    let first = |span: &&Told| span.name == "submit" && span.trace != TRACE;
    let own = collector.spans.iter().find(first).unwrap();
    let (submit, _) = is_whole(&collector.trace(&own.trace));
    assert_eq!(submit.parent, "", "there is no client's span");
    let job = &submit.said["lapidary.job.id"];
    assert_eq!(job.replace('-', ""), submit.trace);

    let job = &attempt.said["lapidary.job.id"];
    let named = |line: &String| line.contains(job.as_str()) && line.contains(TRACE);
    assert!(lines.iter().any(named), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains(SECRET)));
    let mut told = collector.bytes.windows(SECRET.len());
    assert!(
        !told.any(|bytes| bytes == SECRET.as_bytes()),
        "content was told"
    );
}

/// What a client's tool for models looks for.
fn says_what_was_asked(attempt: &Told, answer: &Value) {
    let usage = |name: &str| answer["usage"][name].to_string();
    let reason = answer["choices"][0]["finish_reason"].as_str().unwrap();
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", MODEL),
        ("gen_ai.response.model", MODEL),
        ("gen_ai.request.max_tokens", "8"),
        ("gen_ai.request.temperature", "0.5"),
        ("gen_ai.usage.input_tokens", &usage("prompt_tokens")),
        ("gen_ai.usage.output_tokens", &usage("completion_tokens")),
        ("gen_ai.response.finish_reasons", reason),
        ("lapidary.job.class", "interactive"),
        ("lapidary.job.status", "succeeded"),
        ("lapidary.job.attempt", "1"),
    ] {
        assert_eq!(
            attempt.said.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
}

/// Each item of a batch has a trace of its own, which links to the one that the client submitted it in.
async fn a_batch_leads_to_its_items(collector: &mut Collector, gateway: &Gateway) {
    let traceparent = format!("00-{BATCH}-{ASKING}-01");
    client("traced.py", &[&gateway.url(), MODEL, &traceparent]);
    let items = |spans: &[Told]| {
        let linked = spans.iter().filter(|span| !span.links.is_empty());
        linked.count() == 2 && spans.iter().any(|span| span.trace == BATCH)
    };
    collector.until("a batch and its items", items).await;
    let spans = collector.trace(BATCH);
    let [submit] = spans[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(
        (submit.name.as_str(), submit.parent.as_str()),
        ("submit", ASKING)
    );
    for item in collector.spans.iter().filter(|span| !span.links.is_empty()) {
        assert_eq!(item.name, "submit");
        assert_eq!(item.links, [(BATCH.to_owned(), submit.span.clone())]);
        assert_eq!(item.said["lapidary.job.id"].replace('-', ""), item.trace);
        assert_eq!(
            item.said["lapidary.batch.id"],
            submit.said["lapidary.batch.id"]
        );
    }
}

/// The spans of a job that was answered at once: every stage in its place. Its beginning, and the attempt.
fn is_whole<'a>(spans: &[&'a Told]) -> (&'a Told, &'a Told) {
    let mut wanted = BTreeSet::from(STAGES);
    wanted.extend(["submit", "queue", ATTEMPT]);
    assert_eq!(names(spans), wanted, "{spans:#?}");
    let of = |name: &str| {
        let mut found = spans.iter().filter(|span| span.name == name);
        let span = *found.next().unwrap();
        assert!(found.next().is_none(), "{name} is told twice");
        span
    };
    let (submit, attempt) = (of("submit"), of(ATTEMPT));
    assert_eq!(
        (&*submit.service, &*attempt.service),
        ("lapidary-gateway", "lapidary-worker")
    );
    assert_eq!(of("queue").parent, submit.span);
    assert_eq!(attempt.parent, submit.span);
    assert!(submit.started_ns <= attempt.started_ns);
    let stages = spans.iter().filter(|span| STAGES.contains(&&*span.name));
    let mut order = Vec::new();
    for stage in stages {
        assert_eq!(stage.parent, attempt.span, "{stage:#?}");
        assert!(attempt.started_ns <= stage.started_ns && stage.started_ns <= stage.ended_ns);
        assert!(stage.ended_ns <= attempt.ended_ns, "{stage:#?}");
        order.push(&*stage.name);
    }
    assert_eq!(
        order,
        [
            "media", "filter", "prefill", "decode", "filter", "store", "settle"
        ]
    );
    assert!(spans.iter().all(|span| !span.has_failed));
    (submit, attempt)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_one_trace_on_one_file() {
    let folder = TempDir::new().unwrap();
    asked(&Place::on_file(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_one_trace_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    asked(&Place::on_servers(broker.url(), redis.url(), folder.path())).await;
}

/// A batch whose worker is killed on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_a_job_over_goes_on_with_its_trace() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    let place = Place::on_servers(broker.url(), redis.url(), folder.path());
    let mut collector = Collector::start().await;
    let url = collector.url();
    let mut killed = place.worker(&["--otlp", &url]);
    killed.wait_for("serving", SAY_MAX);
    let file = requests(folder.path(), DOCUMENTS);
    let file = file.to_str().unwrap();
    let said = place.ask(&["submit", file, "--model", MODEL, "--otlp", &url]);
    let batch: BatchId = said.trim().parse().unwrap();
    let results = place.results().await;
    let mut followed = Followed::new(&results, batch);
    followed.until(KILL_AT).await;
    killed.kill();
    let mut worker = place.worker(&["--otlp", &url]);
    followed.texts(DOCUMENTS).await;
    let again = |spans: &[Told]| spans.iter().any(is_second);
    collector.until("a second attempt", again).await;
    worker.stop();
    collector.look();

    let second = collector.spans.iter().find(|span| is_second(span)).unwrap();
    let job = &second.said["lapidary.job.id"];
    assert_eq!(
        second.trace,
        job.replace('-', ""),
        "an item's trace has its job's id"
    );
    let spans = collector.trace(&second.trace);
    let submits: Vec<_> = spans.iter().filter(|span| span.name == "submit").collect();
    assert!(
        submits.iter().all(|submit| submit.span == second.parent),
        "{spans:#?}"
    );
    assert_eq!(second.said["lapidary.batch.id"], batch.to_string());
    // The job's first worker may have died with what it had not told yet; the second one tells all.
    let stages = spans.iter().filter(|span| span.parent == second.span);
    let stages: BTreeSet<_> = stages.map(|span| &*span.name).collect();
    assert_eq!(stages, BTreeSet::from(STAGES));
    items_lead_back(&collector.spans, batch);
}

/// Where a batch was submitted from the command line is told too, and its items lead back there.
fn items_lead_back(spans: &[Told], batch: BatchId) {
    let submits = spans.iter().filter(|span| span.name == "submit");
    let (of_batch, items): (Vec<_>, Vec<_>) = submits.partition(|span| span.service == "lapidary");
    let [of_batch] = of_batch[..] else {
        panic!("{of_batch:#?}");
    };
    assert_eq!(of_batch.said["lapidary.batch.id"], batch.to_string());
    assert!(!items.is_empty());
    let origin = (of_batch.trace.clone(), of_batch.span.clone());
    for item in items {
        assert_eq!(item.links, std::slice::from_ref(&origin));
    }
}

fn is_second(span: &Told) -> bool {
    span.name == ATTEMPT && span.said["lapidary.job.attempt"] == "2"
}

/// A worker whose collector is not there.
#[test]
fn nobody_who_listens_is_no_fault() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    let (nobody, ops) = (format!("http://127.0.0.1:{}", free_port()), free_port());
    let listen = format!("127.0.0.1:{ops}");
    let mut worker = place.worker(&["--otlp", &nobody, "--listen", &listen]);
    worker.wait_for("serving", SAY_MAX);
    place.submit(&requests(folder.path(), 20));
    worker.wait_for("the collector does not take spans", SAY_MAX);
    let (status, metrics) = http::get(ops, "/metrics").unwrap();
    assert_eq!(status, 200);
    let dropped = "lapidary_spans_total{outcome=\"dropped\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(dropped));
    assert!(count.unwrap().parse::<f64>().unwrap() > 0.0, "{count:?}");
    assert_eq!(http::get(ops, "/health/ready").unwrap().0, 200);
    worker.stop();
}
