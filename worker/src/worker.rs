//! Wires the parts of a worker, and owns both steps of stopping.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::Utc;
use lapidary_engine::image::ImageSpec;
use lapidary_engine::{Engine, EngineError, LoadOptions, Prompter, Towers};
use lapidary_schemas::metrics::{self, Metrics, MetricsError, Source};
use lapidary_schemas::{Class, JobId, ModelInfo, Policy, WorkerInfo};
use lapidary_transport::failpoint;
use lapidary_transport::traces::{ExportError, Traces};
use lapidary_transport::{OpenError, Results, Steward, StewardOptions, TickReport, census};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::compute::Compute;
use crate::config::{Config, ImageOptions};
use crate::consumer::consume;
use crate::fetch::{ClientError, FetchLimits, Fetcher};
use crate::filter::Filters;
use crate::health::{Health, Part, Serving};
use crate::hex::hex;
use crate::judges::{JudgeError, Loading};
use crate::line::Line;
use crate::media::Loader;
use crate::model::ModelError;
use crate::ops::{self, Ops};
use crate::running::{CANCEL_POLL, Running};
use crate::settle::RetryPolicy;
use crate::shutdown::{Signals, Stop, stop_in_steps};
use crate::store::{self, Store, StoreParts, Stores};
use crate::turns::Turns;
use crate::{gauges, idle, parent};

/// How long an announcement holds, and how often it is renewed.
const ANNOUNCE_TTL: Duration = Duration::from_secs(15);
const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
/// How long the first announcement is waited for.
const ANNOUNCE_FIRST: Duration = Duration::from_secs(2);
/// How long taking the announcement back may take.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is checked that the engine runs.
const ENGINE_CHECK: Duration = Duration::from_millis(500);
/// How long a model that is still being loaded is waited for when the worker stops.
const LOAD_ABANDONED: Duration = Duration::from_millis(100);

/// Why a worker did not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The operations endpoint's address is taken, or is not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Broker, results or media were out of reach for too long.
    #[error("gave up after {} s", patience.as_secs_f64())]
    OutOfReach {
        /// How long they were waited for.
        patience: Duration,
        /// Which one, and what was tried last.
        #[source]
        source: OpenError,
    },
    /// Broker, results or media cannot be used.
    #[error(transparent)]
    Open(OpenError),
    /// The model's files are not there.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model was not loaded.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The policy has no judge.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The engine broke down while serving. What ran goes to other workers.
    #[error("the engine broke down: {message}")]
    EngineFailed {
        /// What happened.
        message: String,
    },
    /// Traces cannot be told.
    #[error("--otlp: {0}")]
    Traces(#[from] ExportError),
    /// Images cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] ClientError),
    /// The metrics do not fit together.
    #[error("metrics cannot be registered")]
    Metrics(#[from] MetricsError),
    /// The system refused something a worker needs.
    #[error("cannot {what}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Runs a worker until it is told to stop, on two threads: connections need few, and the engine has
/// its own.
pub fn run_blocking(config: Config) -> Result<(), WorkerError> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(2)
        .thread_name("io")
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| WorkerError::System {
        what: "start threads",
        source,
    })?;
    let done = runtime.block_on(run(config));
    // A model that is still being downloaded or loaded is not waited for.
    runtime.shutdown_timeout(LOAD_ABANDONED);
    done
}

/// Runs a worker until it is told to stop.
pub async fn run(config: Config) -> Result<(), WorkerError> {
    config.log();
    if let Some(point) = config.failpoint {
        failpoint::arm(point);
    }
    let system = |what| move |source| WorkerError::System { what, source };
    let mut signals = Signals::listen().map_err(system("listen for signals"))?;
    let stop = Stop::default();
    let started = Instant::now();
    let metrics = Arc::new(metrics(&config.model, &config.filters)?);
    let ops = Arc::new(Ops {
        health: Arc::new(Health::new(metrics.clone())),
        metrics,
        serving: OnceLock::new(),
        stop: stop.clone(),
    });
    let background = TaskTracker::new();
    let end = CancellationToken::new();
    let listen = listen(&config, &ops, &background, &end).await?;
    let begun = async {
        let stores = open(&config).await?;
        Ok::<_, WorkerError>((stores, load(&config).await?))
    };
    let (stores, (engine, filters)) = tokio::select! {
        begun = begun => begun?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before it served");
            return Ok(());
        }
        () = orphaned(&config) => return Ok(()),
    };
    let model = model_info(&config.model, &config.images, &engine);
    let info = announcement(model, config.engine.slots_max, listen);
    // Whoever reads that it serves finds it; what cannot be announced now is announced later.
    let announced = stores.results.announce(&info, ANNOUNCE_TTL);
    if !matches!(
        tokio::time::timeout(ANNOUNCE_FIRST, announced).await,
        Ok(Ok(()))
    ) {
        tracing::warn!("not announced yet");
    }
    let start_up = started.elapsed().as_secs_f64();
    ops.metrics.set(&metrics::STARTUP, &[], start_up);
    tracing::info!(worker = info.id, model = ?info.model, listen = info.listen, "serving");
    // The endpoint is ready from here on.
    let _ = ops.serving.set(Serving {
        engine: engine.clone(),
        filters: filters.clone(),
    });
    let traces = traces(&config, &info.id, &ops.metrics, &background, &end)?;
    let parts = LineParts {
        stores,
        engine,
        filters,
        traces,
    };
    let line = line(parts, &info, &ops, &background)?;
    let served = serve(&config, line, info, signals, &background).await;
    end.cancel();
    background.close();
    background.wait().await;
    tracing::info!("stopped");
    served
}

/// All that a worker of this model and policy counts.
pub(crate) fn metrics(model: &str, filters: &Filters) -> Result<Metrics, MetricsError> {
    let detectors: Vec<&str> = filters.detectors().collect();
    Metrics::new(
        "worker",
        env!("CARGO_PKG_VERSION"),
        &[Source::Worker, Source::Steward],
        &[("model", &[model]), ("detector", &detectors)],
    )
}

/// Starts telling traces, if they shall be told.
fn traces(
    config: &Config,
    worker: &str,
    metrics: &Arc<Metrics>,
    background: &TaskTracker,
    end: &CancellationToken,
) -> Result<Traces, WorkerError> {
    let Some(options) = &config.traces else {
        return Ok(Traces::off());
    };
    let (traces, export) = Traces::new(options, "lapidary-worker", worker, metrics)?;
    background.spawn(export.run(end.clone()));
    Ok(traces)
}

/// Starts the operations endpoint; returns where it listens.
async fn listen(
    config: &Config,
    ops: &Arc<Ops>,
    background: &TaskTracker,
    end: &CancellationToken,
) -> Result<Option<SocketAddr>, WorkerError> {
    let Some(address) = config.listen else {
        return Ok(None);
    };
    let failed = |source| WorkerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let (ops, end) = (ops.clone(), end.clone());
    background.spawn(async move {
        if let Err(error) = ops::serve(listener, ops, end).await {
            tracing::error!(%error, "operations endpoint ended");
        }
    });
    Ok(Some(bound))
}

async fn open(config: &Config) -> Result<Stores, WorkerError> {
    let patience = config.store_wait;
    let opened = Stores::open(&config.urls, patience).await;
    opened.map_err(|source| {
        if store::is_out_of_reach(&source) {
            WorkerError::OutOfReach { patience, source }
        } else {
            WorkerError::Open(source)
        }
    })
}

/// The served model, and what judges for the policy.
async fn load(config: &Config) -> Result<(Engine, Filters), WorkerError> {
    let config = config.clone();
    let load = move || {
        let served = LoadOptions {
            towers: config.judges.pictures.is_some().then(Towers::default),
            ..config.load
        };
        let loading = Loading {
            load: &LoadOptions {
                mmproj: None,
                ..served.clone()
            },
            hub: &config.hub,
            engine: &config.engine,
        };
        let (source, load) = config.source.files(served.clone(), &config.hub)?;
        let engine = Engine::load(source, &load, &config.engine)?;
        let filters = config.judges.load(config.filters, Some(&engine), loading)?;
        Ok((engine, filters))
    };
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.map_err(|error| WorkerError::EngineFailed {
        message: error.to_string(),
    })?
}

/// What this process tells the others of itself.
pub(crate) fn announcement(
    model: ModelInfo,
    slots: usize,
    listen: Option<SocketAddr>,
) -> WorkerInfo {
    let now = Utc::now();
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let unique = JobId::new(now).0.simple().to_string();
    WorkerInfo {
        id: format!("{host}-{}-{}", std::process::id(), &unique[24..]),
        model,
        listen: listen.map(|address| address.to_string()),
        slots: u32::try_from(slots).unwrap_or(u32::MAX),
        started_at: now,
        jobs: Some(Vec::new()),
    }
}

/// The model as this worker serves it.
pub(crate) fn model_info(name: &str, images: &ImageOptions, engine: &Engine) -> ModelInfo {
    let model = engine.model().cloned().unwrap_or_default();
    let spec = engine.image_spec();
    ModelInfo {
        name: name.to_owned(),
        weights_sha256: model.weights_sha256,
        quantization: model.quantization,
        template_sha256: template_sha256(engine.prompter()),
        chat: engine.prompter().has_template(),
        context_tokens_max: u32::try_from(engine.sequence_tokens_max()).unwrap_or(u32::MAX),
        modalities: spec.iter().map(|_| "image".to_owned()).collect(),
        pan_and_scan: spec.is_some_and(|spec| images.pan_and_scan.unwrap_or(spec.pan_and_scan)),
        fetch: spec.map_or_else(Vec::new, |_| images.fetch.clone()),
        tier: model.tier,
    }
}

/// The hash of the chat template; of nothing for a model without one.
fn template_sha256(prompter: &Prompter) -> String {
    if prompter.has_template() {
        return prompter.template_version().to_owned();
    }
    hex(&Sha256::digest(b""))
}

/// What a line is made of.
#[derive(Debug)]
pub(crate) struct LineParts {
    pub(crate) stores: Stores,
    pub(crate) engine: Engine,
    pub(crate) filters: Filters,
    pub(crate) traces: Traces,
}

/// What every job goes through.
pub(crate) fn line(
    parts: LineParts,
    info: &WorkerInfo,
    ops: &Ops,
    background: &TaskTracker,
) -> Result<Arc<Line>, WorkerError> {
    let LineParts {
        stores,
        engine,
        filters,
        traces,
    } = parts;
    let worker: Arc<str> = info.id.as_str().into();
    let model = info.model.clone();
    let spec = engine.image_spec().map(|spec| ImageSpec {
        pan_and_scan: model.pan_and_scan,
        ..spec
    });
    let fetcher = if model.fetch.is_empty() {
        None
    } else {
        Some(Fetcher::new(model.fetch.clone(), FetchLimits::default())?)
    };
    let media = Loader::new(stores.media.clone(), spec, fetcher, &ops.metrics);
    let metrics = ops.metrics.clone();
    engine.observe_steps(move |step| gauges::record_step(step, &metrics));
    let parts = StoreParts {
        stores: stores.clone(),
        worker: worker.clone(),
        health: ops.health.clone(),
        metrics: ops.metrics.clone(),
        stop_working: ops.stop.working.clone(),
    };
    let compute = Compute::start().map_err(|source| WorkerError::System {
        what: "start threads",
        source,
    })?;
    Ok(Arc::new(Line {
        worker,
        request_policy: Policy::of_model(&model),
        model,
        engine,
        store: Store::start(background, &parts),
        media,
        stores,
        running: Arc::new(Running::default()),
        turns: Turns::default(),
        compute,
        filters,
        policy: RetryPolicy::default(),
        metrics: ops.metrics.clone(),
        health: ops.health.clone(),
        traces,
        stop: ops.stop.clone(),
    }))
}

/// Takes jobs until told to stop, by a signal, by idleness, by the parent's end, or by the engine's.
async fn serve(
    config: &Config,
    line: Arc<Line>,
    info: WorkerInfo,
    signals: Signals,
    background: &TaskTracker,
) -> Result<(), WorkerError> {
    let jobs = TaskTracker::new();
    let (stop, finished) = (line.stop.clone(), CancellationToken::new());
    let stopping = stop_in_steps(signals, stop.clone(), config.soft_stop, finished.clone());
    let stopping = background.spawn(stopping);
    let slots = config.engine.slots_max;
    for (class, in_flight_max) in [(Class::Interactive, slots), (Class::Bulk, 2 * slots)] {
        let consumer = consume(line.clone(), class, in_flight_max, jobs.clone());
        jobs.spawn(consumer);
    }
    jobs.close();
    line.metrics
        .set(&metrics::MODEL_LOADED, &[&line.model.name], 1.0);
    line.metrics.set(&metrics::UP, &[], 1.0);
    if config.steward {
        let options = StewardOptions {
            hot_results: config.hot_results,
            ..StewardOptions::new(&info.id)
        };
        stand(&line, options, background);
    }
    background.spawn(announce(line.clone(), info));
    let upkeep = async {
        tokio::join!(
            gauges::read(&line.engine, &line.running, &line.metrics),
            line.running
                .watch_cancellations(&*line.stores.results, CANCEL_POLL),
            stop_when_over(config, &line),
        )
    };
    tokio::select! {
        () = jobs.wait() => {}
        _ = upkeep => {}
    }
    line.metrics.set(&metrics::UP, &[], 0.0);
    finished.cancel();
    // It has no more to do; what it might report is that it was aborted.
    let _ = stopping.await;
    match line.engine.health() {
        lapidary_engine::Health::Failed { message } => Err(WorkerError::EngineFailed { message }),
        _ => Ok(()),
    }
}

/// Stands for election as the steward, and looks at what there is at the place, until told to stop.
fn stand(line: &Arc<Line>, options: StewardOptions, background: &TaskTracker) {
    let Stores {
        queue,
        results,
        media,
    } = line.stores.clone();
    let (metrics, stop) = (line.metrics.clone(), line.stop.fetching.clone());
    let steward = Steward::new(queue.clone(), results.clone(), media, options);
    let steward = steward.traced(line.traces.clone());
    background.spawn(async move {
        let counted = |tick: &TickReport| tick.count(&metrics);
        tokio::join!(
            steward.run(stop.clone(), counted),
            census::keep(&*queue, &*results, &metrics, &stop),
        )
    });
}

/// Says that this worker lives, until it takes no more jobs; then takes that back at once, so that
/// nobody counts on a worker that is ending.
async fn announce(line: Arc<Line>, mut info: WorkerInfo) {
    let results = &line.stores.results;
    let mut ticks = tokio::time::interval(ANNOUNCE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let renewals = async {
        loop {
            ticks.tick().await;
            info.jobs = Some(line.running.jobs());
            match results.announce(&info, ANNOUNCE_TTL).await {
                Ok(()) => line.health.here(Part::Results),
                Err(error) => line.health.away(Part::Results, &error),
            }
        }
    };
    line.stop.fetching.run_until_cancelled(renewals).await;
    let retired = tokio::time::timeout(RETIRE_TIMEOUT, results.retire(&info.id)).await;
    if !matches!(retired, Ok(Ok(()))) {
        tracing::warn!("announcement not taken back; it ends by itself");
    }
}

/// Begins to stop when there is nothing to do, when the parent is gone, or when the engine broke
/// down; then waits for ever.
async fn stop_when_over(config: &Config, line: &Line) {
    let idle = async {
        match config.exit_when_idle {
            Some(idle_max) => idle::idle(line, idle_max).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = idle => tracing::info!("stopping: idle"),
        () = orphaned(config) => {}
        () = engine_failed(line, config.step_max) => line.stop.working.cancel(),
    }
    line.stop.fetching.cancel();
    std::future::pending::<()>().await;
}

/// Waits until the process whose end is this worker's end is gone.
async fn orphaned(config: &Config) {
    let Some(pid) = config.parent_pid else {
        return std::future::pending().await;
    };
    match parent::gone(pid).await {
        Ok(()) => tracing::info!("stopping: the parent process is gone"),
        Err(error) => tracing::error!(%error, "stopping: cannot watch the parent process"),
    }
}

/// Waits until the engine has broken down. A step that does not end counts as that, of a model that judges
/// too: nothing that it holds up would ever be answered here.
async fn engine_failed(line: &Line, step_max: Duration) {
    let mut ticks = tokio::time::interval(ENGINE_CHECK);
    let running = |engine: &&Engine| engine.health() == lapidary_engine::Health::Running;
    while running(&&line.engine) {
        ticks.tick().await;
        let engines = line.filters.engines().chain([&line.engine]);
        for engine in engines.filter(running) {
            let took = engine.step_time();
            if took > step_max {
                let (took, limit) = (took.as_secs_f64(), step_max.as_secs_f64());
                tracing::error!(took_s = took, limit_s = limit, "a step does not end");
                engine.give_up(format!("a step takes {took:.1} s, the limit is {limit} s"));
            }
        }
    }
}
