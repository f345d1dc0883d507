//! The worker a run needs: a live one, or one started here.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapidary_schemas::hub::RepoRef;
use lapidary_schemas::worker::{BUILT_IN, DEMONSTRATION, DOWNLOAD_LOG, model_name};
use lapidary_schemas::{ModelInfo, WorkerInfo};
use lapidary_transport::Results as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

use crate::cli::{Quantization, TraceArgs};
use crate::config::Config;
use crate::exit::{Exit, Stop};
use crate::stores::Stores;

/// Lines of a worker's log that are kept to be shown when it fails.
const LOG_LINES_MAX: usize = 20;
/// Bytes of such a line.
const LOG_LINE_CHARS_MAX: usize = 500;
/// Time between two looks for a worker.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a line on a download is taken for its going on: longer than a worker waits for its next
/// bytes before it says that it tries again.
const DOWNLOAD_LINE_HOLDS: Duration = Duration::from_mins(1);
/// Workers started in one run.
const STARTS_MAX: u32 = 3;

/// Which model, as the user named it.
#[derive(Debug, Clone)]
pub enum ModelChoice {
    /// A file or folder, and the name it is served under.
    Path(PathBuf, String),
    /// A repository of the hub, which a worker downloads, and the name it is served under.
    Repo(String, String),
    /// One that is part of every worker.
    BuiltIn(&'static str),
    /// A name that running workers serve.
    Name(String),
    /// The only one there is; where none is served, the one that every worker carries.
    Any,
}

impl ModelChoice {
    /// A path if there is such a file or folder; else a repository if it can be one.
    pub fn parse(written: Option<&str>) -> Self {
        let Some(written) = written else {
            return Self::Any;
        };
        if let Some(name) = BUILT_IN.into_iter().find(|name| *name == written) {
            return Self::BuiltIn(name);
        }
        let path = PathBuf::from(written);
        if !path.exists() {
            return match RepoRef::parse(written) {
                Some(repo) => Self::Repo(written.to_owned(), repo.name().to_owned()),
                None => Self::Name(written.to_owned()),
            };
        }
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        let name = model_name(&name).to_owned();
        Self::Path(path, name)
    }

    /// What a worker that is started here serves: its model, and the name of it. A name alone is
    /// somebody else's worker.
    fn startable(&self) -> Option<(&Path, &str)> {
        match self {
            Self::Path(path, name) => Some((path, name)),
            Self::Repo(repo, name) => Some((Path::new(repo), name)),
            Self::BuiltIn(name) => Some((Path::new(name), name)),
            Self::Any => Some((Path::new(DEMONSTRATION), DEMONSTRATION)),
            Self::Name(_) => None,
        }
    }

    /// What it is called in messages.
    pub fn shown(&self) -> &str {
        match self {
            Self::Path(_, name) | Self::Repo(_, name) | Self::Name(name) => name,
            Self::BuiltIn(name) => name,
            Self::Any => "any model",
        }
    }
}

/// Finds a worker, starts one if need be, and sees to it that there is one.
#[derive(Debug)]
pub struct Workers {
    choice: ModelChoice,
    quantization: Option<Quantization>,
    /// Workers are started for an embedded file only.
    config: Config,
    wait: Duration,
    tasks: TaskTracker,
    /// Whom a worker that is started here tells of its jobs.
    traces: TraceArgs,
    started: Option<Started>,
    starts: u32,
    /// Whether the model was ever served.
    was_served: bool,
}

/// A worker started here.
#[derive(Debug)]
struct Started {
    child: Child,
    log: Log,
}

/// What is kept of a worker's log.
type Log = Arc<Mutex<Said>>;

/// What a worker said.
#[derive(Debug, Default)]
struct Said {
    /// The last lines.
    lines: VecDeque<String>,
    /// The last word on the download of its model that was not shown.
    download: Option<String>,
}

impl Workers {
    /// Nothing is looked for yet.
    pub fn new(
        choice: ModelChoice,
        quantization: Option<Quantization>,
        config: Config,
        wait: Duration,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            choice,
            quantization,
            config,
            wait,
            tasks,
            traces: TraceArgs::default(),
            started: None,
            starts: 0,
            was_served: false,
        }
    }

    /// The same, with workers that tell the traces of their jobs.
    #[must_use]
    pub fn traced(self, traces: TraceArgs) -> Self {
        Self { traces, ..self }
    }

    /// Waits until a worker serves the model, starting one if that can be done here; `say` gets
    /// what it waits for. While the model is downloaded, that is waited for.
    pub async fn find(&mut self, place: &Stores, say: &dyn Fn(&str)) -> Result<ModelInfo, Stop> {
        let mut begun = Instant::now();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = false;
        loop {
            looks.tick().await;
            if let Some(model) = self.served(place).await? {
                self.was_served = true;
                self.settle_on(&model);
                return Ok(model);
            }
            self.ensure_started()?;
            if !said {
                say(&self.waiting_for());
                said = true;
            }
            if let Some(line) = self.started.as_ref().and_then(Started::download) {
                say(&line);
                begun = Instant::now() + DOWNLOAD_LINE_HOLDS;
            }
            if begun.elapsed() >= self.wait {
                return Err(self.nobody());
            }
        }
    }

    /// From here on it is this model, whatever else comes to be served.
    fn settle_on(&mut self, model: &ModelInfo) {
        if matches!(self.choice, ModelChoice::Any) {
            self.choice = match self.started {
                Some(_) => ModelChoice::BuiltIn(DEMONSTRATION),
                None => ModelChoice::Name(model.name.clone()),
            };
        }
    }

    /// Whether somebody serves the model; a worker that died is started again.
    pub async fn look_after(&mut self, place: &Stores) -> Result<bool, Stop> {
        if self.served(place).await?.is_some() {
            return Ok(true);
        }
        // Workers that others run may come back; only one's own can be started again.
        if self.choice.startable().is_some() {
            self.ensure_started()?;
        }
        Ok(false)
    }

    /// The error of there being no worker.
    pub fn nobody(&self) -> Stop {
        let stop = Stop::new(
            Exit::Unavailable,
            format!(
                "no worker serves `{}` after {} s",
                self.choice.shown(),
                self.wait.as_secs()
            ),
        );
        match &self.started {
            Some(started) => stop.hint(format!(
                "the worker that was started said:\n{}",
                started.tail()
            )),
            None => {
                stop.hint("start one with `lapidary-worker run`, or wait longer with --worker-wait")
            }
        }
    }

    async fn served(&self, place: &Stores) -> Result<Option<ModelInfo>, Stop> {
        let workers = place.results.workers().await?;
        let quantization = self.quantization.map(Quantization::as_str);
        let serves = |worker: &&WorkerInfo| {
            let named = match &self.choice {
                ModelChoice::Path(_, name) | ModelChoice::Name(name) => worker.model.name == *name,
                // Others may serve it under all of its name.
                ModelChoice::Repo(repo, name) => [repo, name].contains(&&worker.model.name),
                ModelChoice::BuiltIn(name) => worker.model.name == *name,
                ModelChoice::Any => true,
            };
            named && quantization.is_none_or(|asked| worker.model.quantization == asked)
        };
        let mut models: Vec<ModelInfo> = workers
            .iter()
            .filter(serves)
            .map(|worker| worker.model.clone())
            .collect();
        models.sort_by(|a, b| {
            a.name
                .cmp(&b.name)
                .then(a.weights_sha256.cmp(&b.weights_sha256))
        });
        models.dedup_by(|a, b| a.name == b.name);
        match models.as_slice() {
            [] => Ok(None),
            [model] => Ok(Some(model.clone())),
            [first, second, ..] => Err(Stop::usage(format!(
                "several models are served (`{}`, `{}`)",
                first.name, second.name
            ))
            .hint("choose one with --model")),
        }
    }

    /// Starts a worker where that can be done and none lives.
    fn ensure_started(&mut self) -> Result<(), Stop> {
        let Some(store) = self.config.embedded.clone() else {
            return Ok(());
        };
        let Some((model, name)) = self.choice.startable() else {
            return Err(Stop::usage(format!(
                "there is no model `{}`: no such file or folder, and no worker serves it",
                self.choice.shown()
            )));
        };
        if let Some(started) = &mut self.started {
            match started.child.try_wait() {
                Ok(None) => return Ok(()),
                // One that served and was killed may be started again; one that never did may not.
                Ok(Some(status)) if self.starts >= STARTS_MAX || !self.was_served => {
                    return Err(Stop::new(
                        Exit::Unavailable,
                        format!("the worker for `{name}` ended: {status}"),
                    )
                    .hint(format!("it said:\n{}", started.tail())));
                }
                Ok(Some(_)) => (),
                Err(error) => return Err(cannot_start(&error.to_string())),
            }
        }
        self.started = Some(self.start(&store, model, name)?);
        self.starts += 1;
        Ok(())
    }

    fn start(&self, store: &Path, model: &Path, name: &str) -> Result<Started, Stop> {
        let program = sibling()?;
        let mut command = Command::new(&program);
        command
            .arg("run")
            .arg("--model")
            .arg(model)
            .args(["--name", name])
            .arg("--broker")
            .arg(format!("file:{}", store.display()))
            .arg("--exit-when-idle")
            .args(["--parent-pid", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is ours to handle: the worker stops when this process is gone.
            .process_group(0);
        if let Some(media) = &self.config.urls.media {
            command.args(["--media", media]);
        }
        if let Some(collector) = &self.traces.otlp {
            let share = self.traces.trace_share.to_string();
            command.args(["--otlp", collector, "--trace-share", &share]);
        }
        if let Some(quantization) = self.quantization {
            command.args(["--quantization", quantization.as_str()]);
        }
        let mut child = command
            .spawn()
            .map_err(|error| cannot_start(&format!("{}: {error}", program.display())))?;
        let log = Log::default();
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            // Ends with the worker; nothing waits for it.
            self.tasks.spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    keep(&log, &line);
                }
            });
        }
        Ok(Started { child, log })
    }

    fn waiting_for(&self) -> String {
        match &self.started {
            Some(_) => {
                let name = self.choice.startable().map_or("", |(_, name)| name);
                format!("starting a worker for `{name}`")
            }
            None => format!("waiting for a worker that serves `{}`", self.choice.shown()),
        }
    }
}

impl Started {
    /// What it said of the download of its model since this was asked last.
    fn download(&self) -> Option<String> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.download.take()
    }

    fn tail(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.lines.is_empty() {
            return "  (nothing)".to_owned();
        }
        log.lines
            .iter()
            .map(|line| format!("  {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn keep(log: &Log, line: &str) {
    let line: String = line.chars().take(LOG_LINE_CHARS_MAX).collect();
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, download)) = line.split_once(&format!(" {DOWNLOAD_LOG}: ")) {
        log.download = Some(download.to_owned());
    }
    if log.lines.len() == LOG_LINES_MAX {
        log.lines.pop_front();
    }
    log.lines.push_back(line);
}

/// The worker's program, which is installed beside this one.
fn sibling() -> Result<PathBuf, Stop> {
    let here = std::env::current_exe().map_err(|error| cannot_start(&error.to_string()))?;
    let program = here.with_file_name("lapidary-worker");
    if program.is_file() {
        return Ok(program);
    }
    Err(cannot_start(&format!("there is no {}", program.display()))
        .hint("install `lapidary-worker` beside `lapidary`, or start one yourself and name its --broker"))
}

fn cannot_start(reason: &str) -> Stop {
    Stop::new(
        Exit::Unavailable,
        format!("cannot start a worker: {reason}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_its_last_lines() {
        let log = Log::default();
        for line in 0..50 {
            keep(&log, &line.to_string());
        }
        let log = log.lock().unwrap();
        assert_eq!(
            (log.lines.len(), log.lines.front().map(String::as_str)),
            (LOG_LINES_MAX, Some("30"))
        );
        assert_eq!(log.download, None);
    }

    #[test]
    fn what_is_said_of_a_download_is_found_among_the_rest() {
        let log = Log::default();
        for line in [
            "2026-01-01T00:00:00Z  INFO lapidary::download: downloading `a/b`: 1 GiB in 7 files",
            "2026-01-01T00:00:05Z  INFO lapidary::download: downloading `a/b`: 0.5 GiB of 1 GiB",
            "2026-01-01T00:00:06Z  INFO lapidary_worker::worker: serving",
        ] {
            keep(&log, line);
        }
        let mut log = log.lock().unwrap();
        let said = log.download.take();
        assert_eq!(said.as_deref(), Some("downloading `a/b`: 0.5 GiB of 1 GiB"));
    }

    #[test]
    fn a_model_is_a_path_if_there_is_one() {
        assert!(matches!(
            ModelChoice::parse(Some("no-such-model")),
            ModelChoice::Name(_)
        ));
        assert!(
            matches!(ModelChoice::parse(Some("/tmp")), ModelChoice::Path(_, name) if name == "tmp")
        );
        assert!(matches!(
            ModelChoice::parse(Some("a/b-Q8_0.gguf")),
            ModelChoice::Name(_)
        ));
        for (written, served) in [
            ("google/gemma-3-4b-it@main", "gemma-3-4b-it"),
            ("ggml-org/x-GGUF/gemma-3-4b-it-Q4_K_M.gguf", "gemma-3-4b-it"),
        ] {
            let choice = ModelChoice::parse(Some(written));
            assert!(matches!(&choice, ModelChoice::Repo(repo, _) if repo == written));
            assert_eq!(choice.shown(), served);
        }
        assert_eq!(ModelChoice::parse(None).shown(), "any model");
        assert!(matches!(
            ModelChoice::parse(Some("demonstration")),
            ModelChoice::BuiltIn(DEMONSTRATION)
        ));
    }
}
