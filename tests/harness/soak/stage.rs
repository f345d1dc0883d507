//! The place of a run: its servers behind wires, its workers and its gateway.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lapidary_schemas::BatchId;
use lapidary_transport::{Place, PlaceUrls};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::faults::{Fault, Planned};
use crate::{Broker, Program, Proxy, Redis, Wire, free_port, http, own};

/// Longest start of a program on a busy machine.
const START_MAX: Duration = Duration::from_mins(1);
/// Sequences of a worker.
const SLOTS: &str = "16";
/// Shortest heartbeat of AMQP: a wire that is silent is noticed after a few seconds.
const HEARTBEAT_S: u32 = 2;

/// A program that serves operators at a port.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) program: Program,
    pub(super) ops: u16,
}

/// Servers behind wires that can be cut.
#[derive(Debug)]
struct Servers {
    broker: Broker,
    redis: Redis,
    to_broker: Proxy,
    to_redis: Proxy,
}

/// Where a run takes place.
#[derive(Debug)]
pub(super) struct Stage {
    servers: Option<Servers>,
    folder: TempDir,
    model: String,
    pub(super) workers: Vec<Served>,
    pub(super) gateway: Option<Served>,
    /// Who is to go on at the next fault.
    stopped: Option<u32>,
}

/// What a program holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    pub(super) memory_mib: u64,
    pub(super) files: u64,
}

impl Stage {
    /// Starts servers, where there are any, and the programs.
    pub(super) async fn start(on_servers: bool, model: &str, workers: usize) -> Self {
        let servers = if on_servers {
            let (broker, redis) = (Broker::start(), Redis::start());
            Some(Servers {
                to_broker: Proxy::start(broker.port()).await,
                to_redis: Proxy::start(redis.port()).await,
                broker,
                redis,
            })
        } else {
            None
        };
        let mut stage = Self {
            servers,
            folder: TempDir::new().expect("no temporary folder"),
            model: model.to_owned(),
            workers: Vec::new(),
            gateway: None,
            stopped: None,
        };
        for _ in 0..workers {
            let worker = stage.worker();
            stage.workers.push(worker);
        }
        stage.gateway = Some(stage.new_gateway());
        for served in &mut stage.workers {
            served.program.wait_for("serving", START_MAX);
        }
        stage
    }

    /// The place; as programs see it, or directly.
    fn urls(&self, direct: bool) -> PlaceUrls {
        let file = format!("file:{}", self.folder.path().join("lapidary.db").display());
        let Some(servers) = &self.servers else {
            return PlaceUrls {
                broker: file,
                ..PlaceUrls::default()
            };
        };
        let (broker, redis) = if direct {
            (servers.broker.port(), servers.redis.port())
        } else {
            (servers.to_broker.port(), servers.to_redis.port())
        };
        PlaceUrls {
            broker: format!("amqp://guest:guest@127.0.0.1:{broker}/%2f?heartbeat={HEARTBEAT_S}"),
            results: Some(format!("redis://127.0.0.1:{redis}")),
            media: Some(format!(
                "file://{}",
                self.folder.path().join("media").display()
            )),
            lossy_allowed: false,
        }
    }

    /// The place, opened past the wires; tried until it is there.
    pub(super) async fn open(&self) -> Result<Place, String> {
        let mut error = String::new();
        for _ in 0..100 {
            match Place::open(&self.urls(true)).await {
                Ok(place) => return Ok(place),
                Err(refused) => error = refused.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(error)
    }

    fn command(&self, program: &str, first: &[&str]) -> Command {
        let urls = self.urls(false);
        let mut command = own(program);
        command.args(first).args(["--broker", &urls.broker]);
        for (option, url) in [("--results", urls.results), ("--media", urls.media)] {
            if let Some(url) = url {
                command.args([option, &url]);
            }
        }
        command
    }

    fn worker(&self) -> Served {
        let ops = free_port();
        let mut command = self.command("lapidary-worker", &["run", "--model", &self.model]);
        command.args(["--slots", SLOTS, "--threads", "1", "--store-wait", "5m"]);
        command.args(["--listen", &format!("127.0.0.1:{ops}")]);
        let program = Program::start(&mut command, "lapidary-worker");
        Served { program, ops }
    }

    fn new_gateway(&self) -> Served {
        let ops = free_port();
        let mut command = self.command("lapidary", &["serve", "--listen", "127.0.0.1:0"]);
        command.args(["--ops-listen", &format!("127.0.0.1:{ops}")]);
        let program = Program::start(&mut command, "lapidary");
        Served { program, ops }
    }

    /// Submits a batch past the wires, as a user does who is told that it was accepted; tried again as
    /// long as it is not.
    pub(super) fn submit(&mut self, number: usize, count: usize) -> Result<BatchId, String> {
        let requests = self
            .requests(number, count)
            .map_err(|error| error.to_string())?;
        let urls = self.urls(true);
        let mut said = String::new();
        for _ in 0..20 {
            let mut command = own("lapidary");
            command
                .arg("submit")
                .arg(&requests)
                .args(["--broker", &urls.broker]);
            for (option, url) in [("--results", &urls.results), ("--media", &urls.media)] {
                if let Some(url) = url {
                    command.args([option, url]);
                }
            }
            let output = command.output().map_err(|error| error.to_string())?;
            if output.status.success() {
                let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                return id.parse().map_err(|_| format!("`{id}` is no batch"));
            }
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            // Whoever stands still may hold the file's lock.
            self.heal();
        }
        Err(format!("a batch was not accepted: {said}"))
    }

    fn requests(&self, number: usize, count: usize) -> std::io::Result<PathBuf> {
        let path = self.folder.path().join("requests.jsonl");
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        for item in 0..count {
            let text = format!("What thing {item} of list {number} is, in a few plain words.");
            let body = json!({
                "model": self.model,
                "max_tokens": 16,
                "messages": [{"role": "user", "content": text}],
            });
            let id = format!("{number}-{item}");
            let url = "/v1/chat/completions";
            let line = json!({"custom_id": id, "method": "POST", "url": url, "body": body});
            writeln!(file, "{line}")?;
        }
        file.flush()?;
        Ok(path)
    }

    /// Does the harm, and mends what a supervisor would.
    pub(super) fn strike(&mut self, planned: Planned) {
        self.heal();
        match planned.fault {
            Fault::WorkerKilled => self.workers[planned.worker].program.kill(),
            Fault::WorkerTerminated => self.workers[planned.worker].program.stop(),
            Fault::WorkerStopped => {
                let program = &self.workers[planned.worker].program;
                program.signal(Signal::SIGSTOP);
                self.stopped = Some(program.id());
            }
            Fault::GatewayKilled => self.on_gateway(Program::kill),
            Fault::GatewayTerminated => self.on_gateway(Program::stop),
            Fault::GatewayStopped => self.on_gateway(|program| program.signal(Signal::SIGSTOP)),
            Fault::BrokerCut => self.on_servers(|servers| servers.to_broker.cut_once()),
            Fault::BrokerSilent => self.on_servers(|servers| servers.to_broker.set(Wire::Silent)),
            Fault::ResultsCut => self.on_servers(|servers| servers.to_redis.cut_once()),
            Fault::ResultsSilent => self.on_servers(|servers| servers.to_redis.set(Wire::Silent)),
            Fault::BrokerKilled => self.on_servers(|servers| {
                servers.broker.kill();
                servers.broker.run();
            }),
            Fault::ResultsKilled => self.on_servers(|servers| servers.redis.crash()),
        }
        match planned.fault {
            Fault::WorkerKilled | Fault::WorkerTerminated => {
                self.workers[planned.worker] = self.worker();
            }
            Fault::GatewayKilled | Fault::GatewayTerminated => {
                self.gateway = Some(self.new_gateway());
            }
            Fault::GatewayStopped => {
                self.stopped = self.gateway.as_ref().map(|gateway| gateway.program.id());
            }
            _ => {}
        }
    }

    /// Whether something lasts.
    pub(super) fn is_harmed(&self) -> bool {
        let is_silent =
            |servers: &Servers| !servers.to_broker.is_open() || !servers.to_redis.is_open();
        self.stopped.is_some() || self.servers.as_ref().is_some_and(is_silent)
    }

    fn on_gateway(&mut self, harm: impl FnOnce(&mut Program)) {
        if let Some(gateway) = &mut self.gateway {
            harm(&mut gateway.program);
        }
    }

    fn on_servers(&mut self, harm: impl FnOnce(&mut Servers)) {
        if let Some(servers) = &mut self.servers {
            harm(servers);
        }
    }

    /// Ends what lasts: whoever was stopped goes on, and wires that were silent break.
    pub(super) fn heal(&mut self) {
        if let Some(id) = self.stopped.take() {
            let mut all = self.workers.iter().chain(&self.gateway);
            if let Some(stopped) = all.find(|served| served.program.id() == id) {
                stopped.program.signal(Signal::SIGCONT);
            }
        }
        if let Some(servers) = &self.servers {
            servers.to_broker.mend();
            servers.to_redis.mend();
        }
    }

    /// Ends the programs in good order.
    pub(super) fn end(&mut self) {
        self.workers
            .iter_mut()
            .for_each(|worker| worker.program.stop());
        self.on_gateway(Program::stop);
    }

    /// What each kind of program holds at most, and the connections that the servers have.
    pub(super) fn holdings(&self) -> (BTreeMap<&'static str, Holdings>, u64) {
        let mut held: BTreeMap<&'static str, Holdings> = BTreeMap::new();
        let workers = self.workers.iter().map(|worker| ("worker", worker));
        let gateway = self.gateway.iter().map(|gateway| ("gateway", gateway));
        for (kind, served) in workers.chain(gateway) {
            let (now, most) = (holdings(served.program.id()), held.entry(kind).or_default());
            most.memory_mib = most.memory_mib.max(now.memory_mib);
            most.files = most.files.max(now.files);
        }
        let connections = self.servers.as_ref().map_or(0, |servers| {
            let amqp = servers.broker.ctl(&["list_connections", "pid"]);
            let redis = servers.redis.cli(&["client", "list"]);
            (amqp.lines().count() + redis.lines().count()) as u64
        });
        (held, connections)
    }

    /// Blocks of key-value cache that workers hold.
    pub(super) fn blocks(&self) -> Result<u64, String> {
        let mut blocks = 0.0;
        for worker in &self.workers {
            let (_, metrics) =
                http::get(worker.ops, "/metrics").map_err(|error| error.to_string())?;
            let used = metrics
                .lines()
                .filter(|line| line.starts_with("lapidary_kv_blocks_used"));
            let values = used.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            blocks += values.sum::<f64>();
        }
        // A count, far below where it would be inexact.
        Ok(format!("{blocks:.0}").parse().unwrap_or(u64::MAX))
    }

    /// Messages that the broker has anywhere, by queue.
    pub(super) fn messages(&self) -> Vec<String> {
        let Some(servers) = &self.servers else {
            return Vec::new();
        };
        let queues = servers.broker.ctl(&["list_queues", "name", "messages"]);
        let waiting = queues
            .lines()
            .filter(|line| !line.trim_end().ends_with("\t0"));
        // Dead letters rest there.
        let dead = "lapidary.dead\t";
        waiting
            .filter(|line| line.starts_with("lapidary") && !line.starts_with(dead))
            .map(str::to_owned)
            .collect()
    }
}

fn holdings(id: u32) -> Holdings {
    let folder = Path::new("/proc").join(id.to_string());
    let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let files = std::fs::read_dir(folder.join("fd")).map_or(0, Iterator::count);
    Holdings {
        memory_mib: kib.unwrap_or(0) / 1024,
        files: files as u64,
    }
}
