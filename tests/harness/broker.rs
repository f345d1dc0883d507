//! A private `RabbitMQ` node.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::process::{Program, free_port, write};

/// Debian's own folder: the programs on the path insist on the user `rabbitmq`.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
const PACKAGE: &str = "rabbitmq-server";
/// Longest start on a busy machine.
const START_MAX: Duration = Duration::from_secs(90);

/// A broker of the test's own, on free ports and in a temporary folder.
#[derive(Debug)]
pub struct Broker {
    node: Option<Program>,
    // Ends after the node that is registered with it.
    _names: Program,
    folder: TempDir,
    port: u16,
    dist_port: u16,
    names_port: u16,
}

impl Broker {
    /// Starts a broker and waits until it serves.
    ///
    /// # Panics
    /// If `RabbitMQ` is not installed or does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one that also serves TLS on `port`.
    #[track_caller]
    pub fn start_tls(port: u16, certificates: &Certificates) -> Self {
        let (authority, server, key) = (
            certificates.authority(),
            certificates.server(),
            certificates.key(),
        );
        Self::start_with(&format!(
            "listeners.ssl.local = 127.0.0.1:{port}\nssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\nssl_options.keyfile = {}\n\
             ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n",
            authority.display(),
            server.display(),
            key.display()
        ))
    }

    /// Starts one with more lines in its configuration.
    #[track_caller]
    fn start_with(more: &str) -> Self {
        let folder = TempDir::new().expect("no temporary folder");
        let names_port = free_port();
        let mut epmd = Command::new("epmd");
        epmd.arg("-port")
            .arg(names_port.to_string())
            .env("HOME", folder.path());
        let names = Program::start(&mut epmd, PACKAGE);
        write(&folder.path().join("plugins"), "[].\n");
        write(
            &folder.path().join("rabbitmq.conf"),
            &format!(
                "disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.relative = 0.4\n{more}"
            ),
        );
        let mut broker = Self {
            node: None,
            _names: names,
            folder,
            port: free_port(),
            dist_port: free_port(),
            names_port,
        };
        broker.run();
        broker
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Makes `count` virtual hosts, each like a broker of its own, and returns their names.
    ///
    /// # Panics
    /// If they cannot be made.
    #[track_caller]
    pub fn hosts(&self, count: usize) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|number| format!("host-{number}")).collect();
        // One call: each starts an Erlang machine of its own.
        let all: Vec<String> = names.iter().map(|name| format!("<<\"{name}\">>")).collect();
        self.ctl(&[
            "eval",
            &format!(
                "[begin rabbit_vhost:add(H, <<\"test\">>), \
                 rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, H, <<\".*\">>, \
                 <<\".*\">>, <<\".*\">>, <<\"test\">>) end || H <- [{}]].",
                all.join(", ")
            ),
        ]);
        names
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again on the same ports and data, after `stop` or `kill`.
    #[track_caller]
    pub fn run(&mut self) {
        let mut node = Program::start(&mut self.command("rabbitmq-server"), PACKAGE);
        node.wait_for("Starting broker... completed", START_MAX);
        self.node = Some(node);
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.stop();
        }
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.kill();
        }
    }

    /// Ends it in good order and starts it again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.run();
    }

    /// Runs `rabbitmqctl` with these arguments and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self
            .command("rabbitmqctl")
            .arg("--quiet")
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("`rabbitmqctl` does not start: {error}"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "`rabbitmqctl {arguments:?}` failed: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    fn command(&self, program: &str) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(Path::new(PROGRAMS).join(program));
        command
            .env("HOME", folder)
            .env(
                "RABBITMQ_NODENAME",
                format!("lapidary{}@localhost", self.port),
            )
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            // Busy-waiting schedulers take the test's own processors.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+sbwt none +sbwtdcpu none +sbwtdio none",
            );
        command
    }
}
