//! What people are told: a server that stands for Alertmanager and hears which alerts fire.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Alerts that may be ahead of who listens.
const ALERTS_MAX: usize = 10_000;
/// Longest time until an alert is told.
const TOLD_MAX: Duration = Duration::from_secs(90);
/// Pause between two doses of a fault that must go on.
const AGAIN: Duration = Duration::from_millis(300);

/// Stands for Alertmanager: hears what Prometheus tells.
pub(crate) struct Told {
    alerts: mpsc::Receiver<String>,
    seen: BTreeSet<String>,
    /// Where it listens.
    pub(crate) port: u16,
    _server: JoinSet<()>,
}

impl Told {
    pub(crate) async fn start() -> Self {
        let (sender, alerts) = mpsc::channel(ALERTS_MAX);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new()
            .route("/api/v2/alerts", post(hear))
            .with_state(sender);
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            alerts,
            seen: BTreeSet::new(),
            port,
            _server: server,
        }
    }

    /// What was told so far.
    pub(crate) fn so_far(&mut self) -> &BTreeSet<String> {
        while let Ok(alert) = self.alerts.try_recv() {
            self.seen.insert(alert);
        }
        &self.seen
    }

    /// Waits until an alert is told, while a fault goes on.
    pub(crate) async fn until(&mut self, alert: &str, mut fault: impl AsyncFnMut()) {
        let started = Instant::now();
        while !self.so_far().contains(alert) {
            assert!(
                started.elapsed() < TOLD_MAX,
                "{alert} is not told; told were {:?}",
                self.seen
            );
            fault().await;
            if let Ok(Some(told)) = tokio::time::timeout(AGAIN, self.alerts.recv()).await {
                self.seen.insert(told);
            }
        }
        eprintln!("{alert} after {:?}", started.elapsed());
    }
}

/// Takes in those that fire; resolved ones have ended.
async fn hear(State(sender): State<mpsc::Sender<String>>, body: String) {
    let alerts: Vec<Value> = serde_json::from_str(&body).unwrap();
    for alert in alerts {
        let ends: DateTime<Utc> = alert["endsAt"].as_str().unwrap().parse().unwrap();
        if ends > Utc::now() {
            let name = alert["labels"]["alertname"].as_str().unwrap();
            sender.try_send(name.to_owned()).unwrap();
        }
    }
}
