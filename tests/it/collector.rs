//! A collector of traces: takes OTLP over HTTP, as the public ones do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Requests that may be ahead of who listens.
const REQUESTS_MAX: usize = 10_000;
/// Longest time until a span is told: it waits a second for company.
const TOLD_MAX: Duration = Duration::from_mins(1);

/// A span as it was told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The program that told it.
    pub(crate) service: String,
    /// Hexadecimal, as the ids below.
    pub(crate) trace: String,
    pub(crate) span: String,
    /// Empty at the beginning of a trace.
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) started_ns: u64,
    pub(crate) ended_ns: u64,
    /// Values as text.
    pub(crate) said: BTreeMap<String, String>,
    /// Places in other traces that led to it: trace and span.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) has_failed: bool,
}

/// Takes spans.
pub(crate) struct Collector {
    requests: mpsc::Receiver<Bytes>,
    /// All that was told.
    pub(crate) spans: Vec<Told>,
    /// The bytes of all of it.
    pub(crate) bytes: Vec<u8>,
    port: u16,
    _server: JoinSet<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(sender);
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            requests,
            spans: Vec::new(),
            bytes: Vec::new(),
            port,
            _server: server,
        }
    }

    /// Its base address.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until `is_there` is content with what was told.
    pub(crate) async fn until(&mut self, what: &str, is_there: impl Fn(&[Told]) -> bool) {
        let started = Instant::now();
        while !is_there(&self.spans) {
            let left = TOLD_MAX.saturating_sub(started.elapsed());
            match tokio::time::timeout(left, self.requests.recv()).await {
                Ok(Some(request)) => self.keep(&request),
                _ => panic!("{what} was not told: {:#?}", self.spans),
            }
        }
    }

    /// Takes in what has come, without waiting.
    pub(crate) fn look(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            self.keep(&request);
        }
    }

    /// The spans of a trace, by when they began.
    pub(crate) fn trace(&self, id: &str) -> Vec<&Told> {
        let mut spans: Vec<_> = self.spans.iter().filter(|span| span.trace == id).collect();
        spans.sort_by_key(|span| span.started_ns);
        spans
    }

    fn keep(&mut self, request: &Bytes) {
        self.bytes.extend(request);
        let request = ExportTraceServiceRequest::decode(request.clone()).unwrap();
        for resource in request.resource_spans {
            let about = values(resource.resource.unwrap_or_default().attributes);
            for span in resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                self.spans.push(Told {
                    service: about["service.name"].clone(),
                    trace: hex(&span.trace_id),
                    span: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    name: span.name,
                    started_ns: span.start_time_unix_nano,
                    ended_ns: span.end_time_unix_nano,
                    said: values(span.attributes),
                    links: span
                        .links
                        .iter()
                        .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                        .collect(),
                    has_failed: span.status.unwrap_or_default().code == 2,
                });
            }
        }
    }
}

/// The names of spans, once each.
pub(crate) fn names<'a>(spans: &[&'a Told]) -> BTreeSet<&'a str> {
    spans.iter().map(|span| &*span.name).collect()
}

async fn take(
    State(sender): State<mpsc::Sender<Bytes>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    sender.try_send(body).unwrap();
    StatusCode::OK
}

fn values(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let named = attributes.into_iter();
    named
        .map(|attribute| (attribute.key, text(attribute.value)))
        .collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        Some(Value::ArrayValue(list)) => {
            let texts: Vec<_> = list
                .values
                .into_iter()
                .map(|value| text(Some(value)))
                .collect();
            texts.join(",")
        }
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}
