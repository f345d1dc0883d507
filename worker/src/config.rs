//! What a worker runs with: the command line, checked.

use std::net::SocketAddr;
use std::time::Duration;

use lapidary_engine::{EngineOptions, LoadOptions};
use lapidary_transport::PlaceUrls;
use lapidary_transport::failpoint::Failpoint;
use lapidary_transport::traces::TraceOptions;

use crate::cli::{HubArgs, JudgeArgs, ModelArgs, Quantization, RunArgs};
use crate::filter::Filters;
use crate::hub::{self, HubOptions};
use crate::judges::JudgeModels;
use crate::model::ModelRef;

/// Tokens of a step: enough that weights are read once for many rows, few enough that an
/// interactive job waits for a fraction of a second.
const STEP_TOKENS: usize = 512;

/// What `run` runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which model it is.
    pub source: ModelRef,
    /// How it is loaded.
    pub load: LoadOptions,
    /// Where it comes from, if it is on the hub.
    pub hub: HubOptions,
    /// Bounds of the engine.
    pub engine: EngineOptions,
    /// The name jobs ask for.
    pub model: String,
    /// How images are read.
    pub images: ImageOptions,
    /// What requests and answers pass.
    pub filters: Filters,
    /// Models that judge for them.
    pub judges: JudgeModels,
    /// Where jobs, results and media are.
    pub urls: PlaceUrls,
    /// Where the operations endpoint listens.
    pub listen: Option<SocketAddr>,
    /// How long stores that are out of reach are waited for at the start.
    pub store_wait: Duration,
    /// How long running jobs may take to finish.
    pub soft_stop: Duration,
    /// How long a step of the engine may take.
    pub step_max: Duration,
    /// After how much idleness to end.
    pub exit_when_idle: Option<Duration>,
    /// Whose end is this worker's end.
    pub parent_pid: Option<i32>,
    /// Results of a batch that a steward leaves in the memory of a results store.
    pub hot_results: usize,
    /// Whether to stand for election as the steward.
    pub steward: bool,
    /// Whom traces are told to, if anyone.
    pub traces: Option<TraceOptions>,
    /// Where a test wants it to stop.
    pub failpoint: Option<Failpoint>,
}

/// How images are read, by a model that reads any.
#[derive(Debug, Clone, Default)]
pub struct ImageOptions {
    /// Whether images far from square are also shown in crops; `None`: as the model's files say.
    pub pan_and_scan: Option<bool>,
    /// Hosts to fetch from; none: nothing is fetched.
    pub fetch: Vec<String>,
}

/// What does not go together on the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// Which option, its value and its limit.
    pub message: String,
}

impl Config {
    /// Reads and checks the arguments of `run`.
    pub fn new(args: &RunArgs) -> Result<Self, ConfigError> {
        let source = ModelRef::parse(&args.model.model);
        let config = Self {
            load: load_options(&args.model),
            hub: hub_options(&args.model.hub),
            engine: EngineOptions {
                slots_max: args.slots,
                interactive_slots_reserved: args.interactive_slots,
                step_tokens_max: STEP_TOKENS.max(args.slots),
                kv_bytes_max: usize::try_from(args.kv_memory.as_u64()).unwrap_or(usize::MAX),
                context_tokens_max: args.context,
                draft_tokens_max: args.draft,
                ..EngineOptions::default()
            },
            model: args.name.clone().unwrap_or_else(|| source.name()),
            source,
            images: ImageOptions {
                pan_and_scan: args.pan_and_scan,
                fetch: args.fetch.clone(),
            },
            filters: Filters::open(&args.policy).map_err(|error| ConfigError {
                message: format!("--policy: {error}"),
            })?,
            judges: judge_models(&args.judges),
            urls: PlaceUrls {
                broker: args.broker.clone(),
                results: args.results.clone(),
                media: args.media.clone(),
                lossy_allowed: args.allow_lossy,
            },
            listen: args.listen,
            store_wait: args.store_wait,
            soft_stop: args.soft_stop,
            step_max: args.step_max,
            exit_when_idle: args.exit_when_idle,
            parent_pid: args.parent_pid,
            hot_results: args.hot_results,
            steward: !args.no_steward,
            traces: args
                .otlp
                .clone()
                .filter(|url| !url.is_empty())
                .map(|collector| TraceOptions {
                    collector,
                    share: args.trace_share,
                }),
            failpoint: args.unsafe_failpoints,
        };
        config.validate()?;
        Ok(config)
    }

    /// The rules that no single option can keep.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |message: String| Err(ConfigError { message });
        if let Err(failure) = lapidary_schemas::validate::check_name("model", &self.model) {
            return invalid(format!("--name: {}", failure.message));
        }
        let slots = self.engine.slots_max;
        let reserved = self.engine.interactive_slots_reserved;
        if slots < 2 {
            return invalid(format!("--slots is {slots}, it must be at least 2"));
        }
        if reserved == 0 || reserved >= slots {
            return invalid(format!(
                "--interactive-slots is {reserved}, it must be 1 to {}: fewer than --slots, which \
                 is {slots}",
                slots - 1
            ));
        }
        if self.load.threads == Some(0) {
            return invalid("--threads is 0, it must be at least 1".to_owned());
        }
        if let Some(pid) = self.parent_pid.filter(|pid| *pid <= 0) {
            return invalid(format!("--parent-pid is {pid}, it must be above 0"));
        }
        if let Err(error) = self.judges.check(&self.filters) {
            return invalid(error.to_string());
        }
        self.engine.validate().or_else(invalid)
    }

    /// Prints what it runs with, without secrets.
    pub fn log(&self) {
        let place = |url: &Option<String>| url.as_deref().map(shown);
        tracing::info!(
            model = self.model,
            source = %self.source,
            quantization = ?self.load.quantization,
            threads = self.load.threads,
            slots = self.engine.slots_max,
            interactive_slots = self.engine.interactive_slots_reserved,
            kv_bytes_max = self.engine.kv_bytes_max,
            draft_tokens_max = self.engine.draft_tokens_max,
            pan_and_scan = self.images.pan_and_scan,
            fetch = self.images.fetch.join(","),
            policy = self.filters.policy().0,
            policy_version = self.filters.policy().1,
            judge = self.judges.texts.as_ref().map(ToString::to_string),
            judge_images = self.judges.pictures.as_ref().map(ToString::to_string),
            broker = shown(&self.urls.broker),
            results = place(&self.urls.results),
            media = place(&self.urls.media),
            listen = self.listen.map(|address| address.to_string()),
            store_wait_s = self.store_wait.as_secs_f64(),
            soft_stop_s = self.soft_stop.as_secs_f64(),
            step_max_s = self.step_max.as_secs_f64(),
            exit_when_idle_s = self.exit_when_idle.map(|idle| idle.as_secs_f64()),
            hot_results = self.hot_results,
            steward = self.steward,
            otlp = self.traces.as_ref().map(|traces| shown(&traces.collector)),
            trace_share = self.traces.as_ref().map(|traces| traces.share),
            "starting"
        );
    }
}

/// How the engine loads the model of these arguments.
pub fn load_options(args: &ModelArgs) -> LoadOptions {
    let quantization = args.quantization.map(|quantization| match quantization {
        Quantization::F32 => lapidary_engine::Quantization::F32,
        Quantization::Bf16 => lapidary_engine::Quantization::Bf16,
        Quantization::Q8 => lapidary_engine::Quantization::Q8,
        Quantization::Q4 => lapidary_engine::Quantization::Q4,
    });
    LoadOptions {
        quantization,
        threads: args.threads,
        tier: None,
        mmproj: args.mmproj.clone(),
        instant: false,
        towers: None,
    }
}

/// The models that these arguments name.
pub fn judge_models(args: &JudgeArgs) -> JudgeModels {
    let named = |path: &Option<std::path::PathBuf>| path.as_deref().map(ModelRef::parse);
    JudgeModels {
        texts: named(&args.judge),
        pictures: named(&args.judge_images),
    }
}

/// Where models of the hub come from: what is not said is as Hugging Face's own programs have it.
pub fn hub_options(args: &HubArgs) -> HubOptions {
    let home = args.hf_home.clone().unwrap_or_else(|| {
        let cache = args.cache_home.clone();
        let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
        // Whoever has no home keeps it where the program runs.
        cache.unwrap_or_default().join("huggingface")
    });
    let endpoint = args.hf_endpoint.clone();
    let endpoint = endpoint.filter(|endpoint| !endpoint.is_empty());
    let offline = args.hf_hub_offline.as_ref();
    HubOptions {
        endpoint: endpoint.unwrap_or_else(|| hub::ENDPOINT.to_owned()),
        token: args.hf_token.clone(),
        token_file: args
            .hf_token_path
            .clone()
            .unwrap_or_else(|| home.join("token")),
        cache: args
            .hf_hub_cache
            .clone()
            .unwrap_or_else(|| home.join("hub")),
        offline: offline.is_some_and(|said| {
            ["1", "on", "yes", "true"]
                .iter()
                .any(|yes| said.eq_ignore_ascii_case(yes))
        }),
    }
}

/// A URL without user and password.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn config(more: &[&str]) -> Result<Config, ConfigError> {
        let line = [
            "lapidary-worker",
            "run",
            "--model",
            "m.gguf",
            "--broker",
            "file:jobs.db",
        ];
        let cli = Cli::try_parse_from(line.iter().chain(more)).unwrap();
        match cli.command {
            Command::Run(args) => Config::new(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn images_are_read_as_the_options_say() {
        let images = |more: &[&str]| config(more).unwrap().images;
        let plain = images(&[]);
        assert_eq!((plain.pan_and_scan, plain.fetch.len()), (None, 0));
        let told = images(&["--pan-and-scan", "--fetch", "Example.org,10.0.0.7:8080"]);
        assert_eq!(told.pan_and_scan, Some(true));
        assert_eq!(told.fetch, ["example.org", "10.0.0.7:8080"]);
        assert_eq!(images(&["--pan-and-scan=false"]).pan_and_scan, Some(false));
    }

    #[test]
    fn options_that_do_not_go_together_are_named() {
        let said = |more: &[&str]| config(more).unwrap_err().to_string();
        assert_eq!(
            said(&["--slots", "1"]),
            "--slots is 1, it must be at least 2"
        );
        assert_eq!(
            said(&["--slots", "4", "--interactive-slots", "4"]),
            "--interactive-slots is 4, it must be 1 to 3: fewer than --slots, which is 4"
        );
        assert_eq!(
            said(&["--threads", "0"]),
            "--threads is 0, it must be at least 1"
        );
        assert_eq!(
            said(&["--parent-pid=-1"]),
            "--parent-pid is -1, it must be above 0"
        );
        assert!(said(&["--name", "a b"]).starts_with("--name: `model` has ' '"));
        assert!(
            said(&["--policy", "/nowhere"]).starts_with("--policy: policy `/nowhere` is neither")
        );
        assert_eq!(
            said(&["--judge", "j.gguf"]),
            "--judge names a model, and no detector of the policy `default` is of the kind `judge`"
        );
    }

    #[test]
    fn defaults_and_units() {
        let defaults = config(&[]).unwrap();
        assert_eq!(defaults.model, "m");
        assert_eq!(defaults.engine.kv_bytes_max, 512 << 20);
        assert_eq!(defaults.soft_stop, Duration::from_secs(30));
        assert_eq!(defaults.exit_when_idle, None);
        let given = config(&[
            "--kv-memory",
            "1GiB",
            "--exit-when-idle",
            "--soft-stop",
            "500ms",
        ]);
        let given = given.unwrap();
        assert_eq!(given.engine.kv_bytes_max, 1 << 30);
        assert_eq!(given.exit_when_idle, Some(Duration::from_secs(10)));
        assert_eq!(given.soft_stop, Duration::from_millis(500));
    }

    #[test]
    fn what_is_logged_has_no_credentials() {
        assert_eq!(shown("amqp://me:secret@host/v"), "amqp://host/v");
        assert_eq!(shown("file:/tmp/a@b"), "file:/tmp/a@b");
    }
}
