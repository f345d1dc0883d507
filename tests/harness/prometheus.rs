//! A private Prometheus.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::http::{encoded, get};
use crate::process::{Program, free_port};

const PACKAGE: &str = "prometheus";
/// Longest start on a busy machine.
const START_MAX: Duration = Duration::from_mins(1);

/// A Prometheus of the test's own, on a free port.
#[derive(Debug)]
pub struct Prometheus {
    server: Program,
    port: u16,
}

impl Prometheus {
    /// Starts one with `prometheus.yml` of this folder, where its data goes too.
    ///
    /// # Panics
    /// If Prometheus is not installed or does not start.
    #[track_caller]
    pub fn start(folder: &Path) -> Self {
        let port = free_port();
        let mut command = Command::new("prometheus");
        command
            .arg(format!(
                "--config.file={}",
                folder.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut server = Program::start(&mut command, PACKAGE);
        server.wait_for("Server is ready to receive web requests", START_MAX);
        Self { server, port }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it answers to a query of its API, such as `rules`; JSON.
    ///
    /// # Panics
    /// If it refuses.
    #[track_caller]
    pub fn api(&self, path: &str) -> String {
        let answer = get(self.port, &format!("/api/v1/{path}"));
        let (status, body) = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// What an expression is now; JSON.
    #[track_caller]
    pub fn query(&self, expression: &str) -> String {
        self.api(&format!("query?query={}", encoded(expression)))
    }

    /// Has it read its configuration and rules again.
    #[track_caller]
    pub fn reload(&mut self) {
        self.server.signal(Signal::SIGHUP);
        let read = "Completed loading of configuration file";
        self.server.wait_for(read, START_MAX);
    }
}
