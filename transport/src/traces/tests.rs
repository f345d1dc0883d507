//! Traces whose collector is not there: what is told in vain, and whose trace is whose.

use std::time::Instant;

use chrono::Utc;
use lapidary_schemas::JobId;
use lapidary_schemas::metrics::{Metrics, Source};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::conformance::samples::job;

const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Traces for a collector that is not there.
fn traces(share: f64) -> (Traces, Export, Arc<Metrics>) {
    let metrics = Metrics::new("worker", "1", &[Source::Worker], &[]).unwrap();
    let metrics = Arc::new(metrics);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let options = TraceOptions {
        collector: format!("http://{address}"),
        share,
    };
    let (traces, export) = Traces::new(&options, "test", "1", &metrics).unwrap();
    (traces, export, metrics)
}

fn span(traces: &Traces) -> Span {
    let context = traces.submission(JobId::new(Utc::now()).0, None).unwrap();
    Span {
        name: "span".into(),
        kind: SpanKind::Internal,
        context,
        parent: None,
        link: None,
        started: SystemTime::now(),
        ended: SystemTime::now(),
        attributes: Vec::new(),
        failure: None,
    }
}

fn count(metrics: &Metrics, outcome: &str) -> u64 {
    let text = metrics.exposition().unwrap();
    let series = format!("lapidary_spans_total{{outcome=\"{outcome}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_collector_that_is_gone_costs_counted_spans_and_a_short_while() {
    let (traces, export, metrics) = traces(1.0);
    let told = SPANS_MAX as u64 + 10;
    for _ in 0..told {
        traces.tell(span(&traces));
    }
    assert_eq!(count(&metrics, "dropped"), 10, "what finds no room is gone");
    let (end, started) = (CancellationToken::new(), Instant::now());
    end.cancel();
    export.run(end).await;
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    assert_eq!(count(&metrics, "dropped"), told);
    assert_eq!(count(&metrics, "sent"), 0);
}

#[test]
fn what_is_no_collector_is_refused() {
    let metrics = Arc::new(Metrics::new("worker", "1", &[Source::Worker], &[]).unwrap());
    let options = TraceOptions {
        collector: "127.0.0.1:4318".to_owned(),
        share: 1.0,
    };
    let refused = Traces::new(&options, "test", "1", &metrics).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`127.0.0.1:4318` is no address that begins with http:// or https://"
    );
    assert_eq!(parse_share("0.25"), Ok(0.25));
    assert_eq!(parse_share("1.5"), Err("1.5 is not from 0 to 1".to_owned()));
    assert!(parse_share("NaN").is_err());
}

#[test]
fn who_submits_decides_what_is_told_and_otherwise_the_share() {
    let client = TraceContext::parse(CLIENT);
    let unsampled = client.map(|client| TraceContext {
        sampled: false,
        ..client
    });
    let (all, ..) = traces(1.0);
    let (none, ..) = traces(0.0);
    let id = JobId::new(Utc::now()).0;
    let sampled = |traces: &Traces, submitter| traces.submission(id, submitter).unwrap().sampled;
    assert!(sampled(&all, None) && sampled(&all, client) && sampled(&none, client));
    assert!(!sampled(&none, None) && !sampled(&all, unsampled));
    // Where nobody is told, others go on with what the client said.
    assert_eq!(Traces::off().submission(id, client), client);
    assert_eq!(Traces::off().submission(id, None), None);
}

#[test]
fn attempts_of_a_job_are_in_its_trace_whoever_makes_them() {
    let (one, ..) = traces(1.0);
    let (other, ..) = traces(1.0);
    let (none, ..) = traces(0.0);
    let mut job = job("m", lapidary_schemas::Class::Bulk);
    let (alone, parent) = one.attempt(&job).unwrap();
    assert_eq!((alone.trace_id, parent), (job.id.0.as_u128(), None));
    assert_eq!(none.attempt(&job), None);
    job.traceparent = one
        .submission(job.id.0, TraceContext::parse(CLIENT))
        .map(|at| at.to_string());
    let submitted = TraceContext::parse(job.traceparent.as_deref().unwrap()).unwrap();
    for worker in [&one, &other, &none] {
        let (place, parent) = worker.attempt(&job).unwrap();
        assert_eq!(
            place.trace_id,
            TraceContext::parse(CLIENT).unwrap().trace_id
        );
        assert_eq!(parent, Some(submitted.span_id));
        assert_ne!(place.span_id, submitted.span_id);
    }
    assert_eq!(Traces::off().attempt(&job), None);
}
