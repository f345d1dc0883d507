//! Sending spans, many at once.

use std::sync::Arc;
use std::time::Duration;

use lapidary_schemas::metrics::{self, Metrics, number};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::tls;

/// Spans of one request.
const REQUEST_SPANS_MAX: usize = 512;
/// How long a span waits for company.
const LINGER: Duration = Duration::from_secs(1);
/// How long one request may take, tries included.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// How long requests may go on once the program ends.
const LAST_TIME_MAX: Duration = Duration::from_secs(2);
/// Where collectors take traces.
const PATH: &str = "/v1/traces";

/// Why traces cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is no address of a collector.
    #[error("`{0}` is no address that begins with http:// or https://")]
    Address(String),
    /// The exporter was refused.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
    /// There is no client for HTTP.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

/// Sends spans to a collector. While that is gone, those that wait for it are dropped and counted.
#[derive(Debug)]
pub struct Export {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    metrics: Arc<Metrics>,
    is_away: bool,
    /// When sending ends, once the program does.
    until: Option<Instant>,
}

impl Export {
    pub(super) fn new(
        collector: &str,
        (program, instance): (&'static str, &str),
        spans: mpsc::Receiver<SpanData>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ExportError> {
        if !["http://", "https://"]
            .iter()
            .any(|scheme| collector.starts_with(scheme))
        {
            return Err(ExportError::Address(collector.to_owned()));
        }
        tls::provide();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(REQUEST_TIME_MAX)
            .build()?;
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}{PATH}", collector.trim_end_matches('/')))
            .with_timeout(REQUEST_TIME_MAX)
            .build()?;
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", program),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance.to_owned()),
        ]);
        exporter.set_resource(&resource.build());
        Ok(Self {
            spans,
            exporter,
            metrics: Arc::clone(metrics),
            is_away: false,
            until: None,
        })
    }

    /// Sends until `end`, and then what was told before it, for a short while.
    pub async fn run(mut self, end: CancellationToken) {
        let mut gathered = Vec::with_capacity(REQUEST_SPANS_MAX);
        loop {
            let gathering = gather(&mut self.spans, &mut gathered);
            if end.run_until_cancelled(gathering).await.is_none() || gathered.is_empty() {
                break;
            }
            self.send(&mut gathered, &end).await;
        }
        self.spans.close();
        loop {
            let room = REQUEST_SPANS_MAX - gathered.len();
            if room > 0 {
                // None is awaited any more.
                self.spans.recv_many(&mut gathered, room).await;
            }
            if gathered.is_empty() {
                break;
            }
            self.send(&mut gathered, &end).await;
        }
    }

    /// Sends what was gathered, or drops it.
    async fn send(&mut self, gathered: &mut Vec<SpanData>, end: &CancellationToken) {
        let count = number(gathered.len() as u64);
        let sending = self.exporter.export(std::mem::take(gathered));
        let until = &mut self.until;
        let ended = async {
            end.cancelled().await;
            let until = *until.get_or_insert_with(|| Instant::now() + LAST_TIME_MAX);
            tokio::time::sleep_until(until).await;
        };
        let sent = tokio::select! {
            biased;
            () = ended => Err("the program ended first".to_owned()),
            sent = sending => sent.map_err(|error| error.to_string()),
        };
        let outcome = match &sent {
            Ok(()) => "sent",
            Err(_) => "dropped",
        };
        self.metrics.add(&metrics::SPANS, &[outcome], count);
        match sent {
            Err(error) if !self.is_away => {
                tracing::warn!(
                    error,
                    "traces: the collector does not take spans, they are dropped"
                );
            }
            Ok(()) if self.is_away => tracing::info!("traces: the collector takes spans again"),
            _ => {}
        }
        self.is_away = outcome == "dropped";
    }
}

/// Waits for a span, and a moment for those that follow it.
async fn gather(spans: &mut mpsc::Receiver<SpanData>, gathered: &mut Vec<SpanData>) {
    spans.recv_many(gathered, REQUEST_SPANS_MAX).await;
    let more = async {
        while gathered.len() < REQUEST_SPANS_MAX {
            let Some(span) = spans.recv().await else {
                return;
            };
            gathered.push(span);
        }
    };
    // Past the moment there is company enough, or none.
    let _ = tokio::time::timeout(LINGER, more).await;
}
