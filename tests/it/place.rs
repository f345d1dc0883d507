//! The real programs at one place: what is started there, what is submitted, and what comes of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lapidary_schemas::worker::{DEMONSTRATION, INSTANT};
use lapidary_schemas::{BatchId, BatchState, JobResult, Progress, Status};
use lapidary_tests::{Program, invariants, own};
use lapidary_transport::media::AnyMedia;
use lapidary_transport::results::AnyResults;
use lapidary_transport::{Place as Stores, PlaceUrls, Results as _};
use serde_json::json;

/// The name under which workers serve the model.
pub(crate) const MODEL: &str = "tiny";
/// Longest run on a busy machine, the time included after which a dead worker's jobs come back.
pub(crate) const RUN_MAX: Duration = Duration::from_secs(100);

/// The arguments that name a queue, a results store and a media store.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) broker: String,
    pub(crate) results: String,
    pub(crate) media: String,
    /// Variables of the environment that lead there.
    pub(crate) variables: Vec<(String, String)>,
}

impl Place {
    /// All on one embedded file in this folder.
    pub(crate) fn on_file(folder: &Path) -> Self {
        let file = format!("file:{}", folder.join("lapidary.db").display());
        Self {
            broker: file.clone(),
            results: file.clone(),
            media: file,
            variables: Vec::new(),
        }
    }

    /// On servers, with media in this folder.
    pub(crate) fn on_servers(broker: String, results: String, folder: &Path) -> Self {
        let media = format!("file://{}", folder.join("media").display());
        Self {
            broker,
            results,
            media,
            variables: Vec::new(),
        }
    }

    pub(crate) fn arguments(&self) -> [&str; 6] {
        let Self {
            broker,
            results,
            media,
            ..
        } = self;
        ["--broker", broker, "--results", results, "--media", media]
    }

    /// Starts a worker; `more` are further arguments.
    pub(crate) fn worker(&self, more: &[&str]) -> Program {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny-gemma");
        self.worker_of(model.as_os_str(), MODEL, more)
    }

    /// Starts a worker with the model that it carries.
    pub(crate) fn demonstration(&self) -> Program {
        self.worker_of(DEMONSTRATION.as_ref(), DEMONSTRATION, &[])
    }

    /// Starts a worker whose model computes nothing; `more` are further arguments.
    pub(crate) fn instant(&self, more: &[&str]) -> Program {
        self.worker_of(INSTANT.as_ref(), INSTANT, more)
    }

    /// Ends a worker, and takes from the queue what was published twice.
    pub(crate) fn ends(&self, worker: &mut Program) {
        tokio::task::block_in_place(|| {
            worker.stop();
            let status = self.worker(&["--exit-when-idle", "1s"]).wait(RUN_MAX);
            assert_eq!(status.code(), Some(0));
        });
    }

    /// Starts a gateway on a free port; `more` are further arguments.
    pub(crate) fn gateway(&self, more: &[&str]) -> Program {
        self.lapidary(&[&["serve", "--listen", "127.0.0.1:0"], more].concat())
    }

    /// Starts `lapidary` with this command.
    pub(crate) fn lapidary(&self, command: &[&str]) -> Program {
        Program::start(&mut self.command("lapidary", command), "lapidary")
    }

    /// A program of ours with these arguments, at this place.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = own(program);
        command
            .args(arguments)
            .args(self.arguments())
            .envs(self.variables.iter().cloned());
        command
    }

    /// Starts a worker with another model.
    pub(crate) fn worker_of(&self, model: &OsStr, name: &str, more: &[&str]) -> Program {
        let mut command = own("lapidary-worker");
        command.arg("run").arg("--model").arg(model);
        command
            .args(["--name", name])
            .args(self.arguments())
            .args(more)
            .envs(self.variables.iter().cloned());
        Program::start(&mut command, "lapidary-worker")
    }

    /// What `lapidary` says to this command.
    pub(crate) fn say(&self, command: &[&str]) -> Output {
        self.command("lapidary", command).output().unwrap()
    }

    /// What `lapidary` prints on this command, which succeeds.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let output = self.say(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} failed: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Submits a file of requests.
    pub(crate) fn submit(&self, lines: &Path) -> BatchId {
        let said = self.ask(&["submit", "--model", MODEL, lines.to_str().unwrap()]);
        said.trim().parse().unwrap()
    }

    /// The three stores, opened from here.
    pub(crate) async fn open(&self) -> Stores {
        let urls = PlaceUrls {
            broker: self.broker.clone(),
            results: Some(self.results.clone()),
            media: Some(self.media.clone()),
            lossy_allowed: false,
        };
        Stores::open(&urls).await.unwrap()
    }

    /// Asserts that every job of these batches has exactly one result, and all else is as it must be.
    pub(crate) async fn holds(&self, batches: &[BatchId]) {
        let findings = invariants::check(&self.open().await, batches).await;
        let findings = findings.unwrap();
        assert!(findings.hold(), "{findings:?}");
    }

    /// The results store, opened from here.
    pub(crate) async fn results(&self) -> AnyResults {
        let media = AnyMedia::open(&self.media).unwrap();
        let results = AnyResults::open(&self.results, false).await.unwrap();
        results.with_archive(&media)
    }
}

/// A file of `count` requests of about sixty tokens, no two alike.
pub(crate) fn requests(folder: &Path, count: usize) -> PathBuf {
    let lines = (0..count).map(|number| {
        let text = format!(
            "Document {number} of the archive, on page {}.",
            number * 7 % 300
        );
        let body = json!({
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 24,
            "temperature": 0,
        });
        let id = format!("document-{number}");
        json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
            .to_string()
    });
    let path = folder.join("requests.jsonl");
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    path
}

/// A batch followed from outside.
pub(crate) struct Followed<'a> {
    results: &'a AnyResults,
    batch: BatchId,
    cursor: String,
    rows: Vec<JobResult>,
    started: Instant,
}

impl<'a> Followed<'a> {
    /// From its first result on.
    pub(crate) fn new(results: &'a AnyResults, batch: BatchId) -> Self {
        Self {
            results,
            batch,
            cursor: String::new(),
            rows: Vec::new(),
            started: Instant::now(),
        }
    }

    /// Goes on from here through another connection.
    pub(crate) fn through(self, results: &AnyResults) -> Followed<'_> {
        let Self {
            batch,
            cursor,
            rows,
            started,
            ..
        } = self;
        Followed {
            results,
            batch,
            cursor,
            rows,
            started,
        }
    }

    /// Waits until this many results are there.
    pub(crate) async fn until(&mut self, count: usize) {
        while self.rows.len() < count {
            let ended = self.more(Duration::from_secs(1)).await;
            assert!(ended.is_none(), "the batch ended too early: {ended:?}");
        }
    }

    /// Waits until nothing has come for this long: whoever works has stopped.
    pub(crate) async fn until_silent(&mut self, silence: Duration) {
        loop {
            let before = self.rows.len();
            let ended = self.more(silence).await;
            assert!(ended.is_none(), "the batch ended too early: {ended:?}");
            if self.rows.len() == before {
                return;
            }
        }
    }

    /// Waits until the batch has ended, or until nothing has come for this long.
    pub(crate) async fn ended_or_silent(&mut self, silence: Duration) {
        let mut last = Instant::now();
        while last.elapsed() < silence {
            let before = self.rows.len();
            if self.more(Duration::from_secs(1)).await.is_some() {
                return;
            }
            if self.rows.len() > before {
                last = Instant::now();
            }
        }
    }

    /// Waits until the batch has ended.
    pub(crate) async fn ended(&mut self) -> Progress {
        loop {
            if let Some(progress) = self.more(Duration::from_secs(1)).await {
                return progress;
            }
        }
    }

    /// The results so far, in order of completion.
    pub(crate) fn rows(&self) -> &[JobResult] {
        &self.rows
    }

    /// Waits until the batch has ended; the text of each document. Every one of `count` has exactly
    /// one result, and an answer.
    pub(crate) async fn texts(mut self, count: usize) -> BTreeMap<String, String> {
        let progress = self.ended().await;
        assert_eq!(progress.succeeded, count as u64, "{progress:?}");
        assert_eq!(
            self.rows.len(),
            count,
            "a result is missing, or twice there"
        );
        let text = |row: JobResult| {
            assert_eq!(row.status, Status::Succeeded, "{row:?}");
            (row.custom_id.unwrap(), row.text.unwrap())
        };
        let texts: BTreeMap<_, _> = self.rows.into_iter().map(text).collect();
        assert_eq!(texts.len(), count, "a document has two results");
        texts
    }

    /// Takes in what is there; where nothing is, waits for more, or answers how the batch ended.
    async fn more(&mut self, wait: Duration) -> Option<Progress> {
        // Asked first: if it had ended by then, a page without results is the last one.
        let progress = self.results.progress(self.batch).await.unwrap();
        let page = self.results.tail(self.batch, &self.cursor, 100).await;
        let page = page.unwrap();
        self.cursor = page.cursor;
        if !page.results.is_empty() {
            self.rows.extend(page.results);
            return None;
        }
        if !matches!(progress.state, BatchState::Open | BatchState::InProgress) {
            return Some(progress);
        }
        assert!(self.started.elapsed() < RUN_MAX, "stuck at {progress:?}");
        let changed = self.results.changed(self.batch, &self.cursor, wait).await;
        changed.unwrap();
        None
    }
}
