//! A private Redis server.

use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{Program, free_port};

const PACKAGE: &str = "redis-server";
/// Longest start on a busy machine.
const START_MAX: Duration = Duration::from_secs(30);

/// How often it is looked whether a replica has caught up.
const LOOK: Duration = Duration::from_millis(20);

/// A Redis of the test's own, on a free port and in a temporary folder.
#[derive(Debug)]
pub struct Redis {
    server: Option<Program>,
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
}

impl Redis {
    /// Starts one that syncs every write and evicts nothing, and waits until it serves.
    ///
    /// # Panics
    /// If Redis is not installed or does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("maxmemory-policy", "noeviction"),
        ])
    }

    /// Starts one with these settings.
    #[track_caller]
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let settings = settings
            .iter()
            .flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()])
            .collect();
        let folder = TempDir::new().expect("no temporary folder");
        let mut redis = Self {
            server: None,
            folder,
            port: free_port(),
            settings,
        };
        redis.run();
        redis
    }

    /// Starts one that has all that this one has, and is read-only until it is promoted.
    ///
    /// # Panics
    /// If it does not catch up.
    #[track_caller]
    #[must_use]
    pub fn replica(&self) -> Self {
        let replica = Self::start();
        replica.cli(&["REPLICAOF", "127.0.0.1", &self.port.to_string()]);
        let until = Instant::now() + START_MAX;
        while !replica
            .cli(&["INFO", "replication"])
            .contains("master_link_status:up")
        {
            assert!(Instant::now() < until, "a replica does not catch up");
            std::thread::sleep(LOOK);
        }
        replica
    }

    /// Makes a primary of a replica, as it is now.
    pub fn promote(&self) {
        self.cli(&["REPLICAOF", "NO", "ONE"]);
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where one of its databases is, from 0; nobody else uses it.
    pub fn database(&self, number: usize) -> String {
        format!("{}/{number}", self.url())
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again on the same port and data, after `stop` or `kill`.
    #[track_caller]
    pub fn run(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]);
        command.args(["--databases", "1024"]);
        command.arg("--port").arg(self.port.to_string());
        command
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.settings);
        let mut server = Program::start(&mut command, PACKAGE);
        server.wait_for("Ready to accept connections", START_MAX);
        self.server = Some(server);
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.stop();
        }
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// Crashes it and starts it again.
    #[track_caller]
    pub fn crash(&mut self) {
        self.kill();
        self.run();
    }

    /// Runs `redis-cli` with these arguments and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .arg("-p")
            .arg(self.port.to_string())
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("`redis-cli` does not start: {error}"));
        assert!(output.status.success(), "`redis-cli {arguments:?}` failed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}
