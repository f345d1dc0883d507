//! A private `RabbitMQ` node.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
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
    // Ends after the node. Those that join a cluster find each other through that of the first.
    names: Option<Program>,
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

    /// Starts one whose management plugin listens on `port`.
    #[track_caller]
    pub fn start_managed(port: u16) -> Self {
        let mut broker = Self::with_names();
        broker.configure(&format!(
            "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n"
        ));
        write(&broker.plugins(), "[rabbitmq_management].\n");
        broker.run();
        broker
    }

    /// Starts the nodes of a cluster: one, and others that join it.
    ///
    /// # Panics
    /// If one of them does not start.
    #[track_caller]
    pub fn cluster(count: usize) -> Vec<Self> {
        let mut nodes = vec![Self::start()];
        while nodes.len() < count {
            let mut node = Self::prepare(nodes[0].names_port);
            node.configure(&format!(
                "cluster_formation.peer_discovery_backend = classic_config\n\
                 cluster_formation.classic_config.nodes.1 = {}\n\
                 cluster_formation.classic_config.nodes.2 = {}\n",
                nodes[0].name(),
                node.name()
            ));
            node.run();
            nodes.push(node);
        }
        nodes
    }

    /// Starts one with more lines in its configuration.
    #[track_caller]
    fn start_with(more: &str) -> Self {
        let mut broker = Self::with_names();
        broker.configure(more);
        broker.run();
        broker
    }

    /// A node that is not configured yet, and where others will find it.
    #[track_caller]
    fn with_names() -> Self {
        let mut node = Self::prepare(free_port());
        let mut epmd = Command::new("epmd");
        epmd.arg("-port")
            .arg(node.names_port.to_string())
            .env("HOME", node.folder.path());
        node.names = Some(Program::start(&mut epmd, PACKAGE));
        node
    }

    /// A node that is not configured yet.
    #[track_caller]
    fn prepare(names_port: u16) -> Self {
        let folder = TempDir::new().expect("no temporary folder");
        // Nodes let in who knows it, and nobody else may read it.
        let cookie = folder.path().join(".erlang.cookie");
        write(&cookie, "lapidary");
        std::fs::set_permissions(&cookie, Permissions::from_mode(0o400))
            .expect("a file in a temporary folder is ours");
        Self {
            node: None,
            names: None,
            folder,
            port: free_port(),
            dist_port: free_port(),
            names_port,
        }
    }

    #[track_caller]
    fn configure(&self, more: &str) {
        write(&self.plugins(), "[].\n");
        write(
            &self.folder.path().join("rabbitmq.conf"),
            &format!(
                "disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.relative = 0.4\n{more}"
            ),
        );
    }

    /// The file that lists its plugins.
    fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// What other nodes call it.
    fn name(&self) -> String {
        format!("lapidary{}@localhost", self.port)
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
            .env("RABBITMQ_NODENAME", self.name())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.plugins())
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
