//! The command line, and the only reader of the environment.
//!
//! Exit status: 0 done or stopped on request, 1 it failed, 2 it was called in a wrong way, 3 a store
//! stayed out of reach.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lapidary_schemas::limits::HOT_RESULTS;
use lapidary_transport::failpoint::Failpoint;

use crate::filter::Stage;
use crate::hub::Token;

/// Serves a Gemma model: takes jobs from a queue, answers them in batches, stores the results.
///
/// Exit status: 0 when done or stopped on request, 1 on a failure, 2 on a wrong command line, 3 when
/// queue, results or media stayed out of reach.
#[derive(Debug, Parser)]
#[command(name = "lapidary-worker", version, max_term_width = 100)]
pub struct Cli {
    /// What to log, to standard error: a level, or directives such as `info,lapidary_engine=debug`.
    #[arg(long, global = true, env = "LAPIDARY_LOG", default_value = "info")]
    pub log: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take jobs until told to stop.
    ///
    /// SIGTERM or SIGINT: no new jobs are taken, running ones may finish within `--soft-stop`, the
    /// rest goes back to the queue uncounted. A second signal hands everything back at once.
    Run(Box<RunArgs>),
    /// Measure prefill and decode speed and peak memory of a model.
    Bench(BenchArgs),
    /// Print the log-probability of each token of a text file.
    ///
    /// One JSON line a token: `{"id", "logprob", "top": [[id, logprob] × 5]}`, each given the tokens
    /// before it. The beginning-of-sequence token comes before the text where the model has one, and
    /// has no line. A text longer than the window is scored in windows that overlap by half: every
    /// token but those of the first window is given at least half a window of text before it.
    Score(ScoreArgs),
    /// Compare a model's files with the hashes that the cache of the Hugging Face hub has of them.
    ///
    /// One line a file: good, damaged, or unknown where no hash is known; its SHA-256; its path. Exit
    /// status 1 if one is damaged. Nothing is downloaded.
    Verify(VerifyArgs),
    /// Try a content policy on a file of texts, or on a picture. Only judges need a model.
    #[command(subcommand)]
    Filter(FilterCommand),
}

/// Which model, and how it computes.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// A GGUF file, a folder with config.json and safetensors, a repository of the Hugging Face hub
    /// with such files, which is downloaded (`ORG/NAME[@REVISION]`, `ORG/NAME/FILE.gguf[@REVISION]`), or
    /// `demonstration` for the small model that is part of this program.
    #[arg(long, env = "LAPIDARY_MODEL", value_name = "PATH|REPO")]
    pub model: PathBuf,
    /// The vision tower of a GGUF file; by default a fitting mmproj*.gguf beside it, if there is one.
    #[arg(long, env = "LAPIDARY_MMPROJ", value_name = "PATH")]
    pub mmproj: Option<PathBuf>,
    /// Where it computes.
    #[arg(long, env = "LAPIDARY_DEVICE", value_enum, default_value_t = Device::Cpu)]
    pub device: Device,
    /// How weights are held; by default a GGUF file's own quants, and a folder's weights as bf16.
    #[arg(long, env = "LAPIDARY_QUANTIZATION", value_enum)]
    pub quantization: Option<Quantization>,
    /// Threads to compute on; by default one a core.
    #[arg(long, env = "LAPIDARY_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// Where repositories come from.
    #[command(flatten)]
    pub hub: HubArgs,
}

/// Where repositories come from: the variables by which Hugging Face's own programs know it.
#[derive(Debug, Clone, Args)]
pub struct HubArgs {
    /// The hub's address.
    #[arg(long, hide = true, env = "HF_ENDPOINT")]
    pub hf_endpoint: Option<String>,
    /// Who asks.
    #[arg(long, hide = true, env = "HF_TOKEN", hide_env_values = true)]
    pub hf_token: Option<Token>,
    /// The file that holds the token.
    #[arg(long, hide = true, env = "HF_TOKEN_PATH")]
    pub hf_token_path: Option<PathBuf>,
    /// The folder of all that is kept of the hub.
    #[arg(long, hide = true, env = "HF_HOME")]
    pub hf_home: Option<PathBuf>,
    /// The folder of what was downloaded.
    #[arg(long, hide = true, env = "HF_HUB_CACHE")]
    pub hf_hub_cache: Option<PathBuf>,
    /// Whether what was downloaded must do.
    #[arg(long, hide = true, env = "HF_HUB_OFFLINE")]
    pub hf_hub_offline: Option<String>,
    /// The user's cache folder.
    #[arg(long, hide = true, env = "XDG_CACHE_HOME")]
    pub cache_home: Option<PathBuf>,
}

/// Where a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The processor.
    Cpu,
}

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Quantization {
    /// 32-bit floats: the reference, and slow.
    F32,
    /// bfloat16: performance.
    Bf16,
    /// 8 bits a weight: balanced.
    Q8,
    /// 4 bits a weight: maximum efficiency.
    Q4,
}

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The name jobs ask for; by default the model's file or folder name without the quantisation.
    #[arg(long, env = "LAPIDARY_MODEL_NAME", value_name = "MODEL")]
    pub name: Option<String>,
    /// Where jobs wait: `amqp://…`, `amqps://…` or `file:PATH`.
    #[arg(long, env = "LAPIDARY_BROKER", value_name = "URL")]
    pub broker: String,
    /// Where results rest: `redis://…` or `file:PATH`; by default the broker's file.
    #[arg(long, env = "LAPIDARY_RESULTS", value_name = "URL")]
    pub results: Option<String>,
    /// Where documents rest: `file:///FOLDER` or `s3://BUCKET/FOLDER`; by default a folder beside the broker's file.
    #[arg(long, env = "LAPIDARY_MEDIA", value_name = "URL")]
    pub media: Option<String>,
    /// Address of the operations endpoint (/metrics, /health); port 0 takes a free one. By default
    /// there is none.
    #[arg(long, env = "LAPIDARY_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Sequences that run at once.
    #[arg(long, env = "LAPIDARY_SLOTS", value_name = "N", default_value_t = 32)]
    pub slots: usize,
    /// How many of those are kept free for interactive jobs and the health probe.
    #[arg(
        long,
        env = "LAPIDARY_INTERACTIVE_SLOTS",
        value_name = "N",
        default_value_t = 2
    )]
    pub interactive_slots: usize,
    /// Memory for keys and values, such as 512MiB.
    #[arg(
        long,
        env = "LAPIDARY_KV_MEMORY",
        value_name = "BYTES",
        default_value = "512MiB"
    )]
    pub kv_memory: bytesize::ByteSize,
    /// Longest prompt and answer together, in tokens; by default the model's own limit.
    #[arg(long, env = "LAPIDARY_CONTEXT", value_name = "TOKENS")]
    pub context: Option<usize>,
    /// Guess up to so many tokens of an answer at once, from what its prompt and itself said before;
    /// 0 for none. Answers are the same; those that quote or transcribe come faster, as long as slots
    /// are free.
    #[arg(
        long,
        env = "LAPIDARY_DRAFT",
        value_name = "TOKENS",
        default_value_t = 0
    )]
    pub draft: usize,
    /// Show images far from square in crops too, each a view more to read; by default as the model's
    /// files say. Part of what decides an answer.
    #[arg(long, env = "LAPIDARY_PAN_AND_SCAN", value_name = "BOOL", num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub pan_and_scan: Option<bool>,
    /// Fetch images of jobs from these hosts, each HOST or HOST:PORT; `*` is every public host on
    /// the ports of http and https. An address that is not public is fetched from if it is listed
    /// here as such, by number. By default nothing is fetched.
    #[arg(long, env = "LAPIDARY_FETCH", value_name = "HOST", value_delimiter = ',',
          value_parser = lapidary_schemas::remote::parse_host)]
    pub fetch: Vec<String>,
    /// The content policy of requests and answers: `none`, `default`, `strict`, or a TOML file.
    #[arg(
        long,
        env = "LAPIDARY_POLICY",
        value_name = "POLICY",
        default_value = "default"
    )]
    pub policy: String,
    /// Models that judge.
    #[command(flatten)]
    pub judges: JudgeArgs,
    /// How long stores that are out of reach are waited for at the start; then the exit status is 3.
    #[arg(long, env = "LAPIDARY_STORE_WAIT", value_name = "DURATION", default_value = "60s",
          value_parser = humantime::parse_duration)]
    pub store_wait: Duration,
    /// How long running jobs may take to finish after SIGTERM.
    #[arg(long, env = "LAPIDARY_SOFT_STOP", value_name = "DURATION", default_value = "30s",
          value_parser = humantime::parse_duration)]
    pub soft_stop: Duration,
    /// How long a step of the engine may take. A worker whose step takes longer ends, and its jobs go to
    /// others.
    #[arg(long, env = "LAPIDARY_STEP_MAX", value_name = "DURATION", default_value = "10m",
          value_parser = humantime::parse_duration)]
    pub step_max: Duration,
    /// End when there has been no job and no open batch for this model for a while.
    #[arg(long, env = "LAPIDARY_EXIT_WHEN_IDLE", value_name = "DURATION", num_args = 0..=1,
          default_missing_value = "10s", value_parser = humantime::parse_duration)]
    pub exit_when_idle: Option<Duration>,
    /// End, as on SIGTERM, when this process is gone.
    #[arg(long, env = "LAPIDARY_PARENT_PID", value_name = "PID")]
    pub parent_pid: Option<i32>,
    /// Accept a results store that may lose what it has confirmed.
    #[arg(long, env = "LAPIDARY_ALLOW_LOSSY")]
    pub allow_lossy: bool,
    /// Results of a batch that stay in Redis; older ones move to the media store.
    #[arg(long, env = "LAPIDARY_HOT_RESULTS", value_name = "N", default_value_t = HOT_RESULTS)]
    pub hot_results: usize,
    /// Do not stand for election as the steward, who feeds batches and sweeps up.
    #[arg(long, env = "LAPIDARY_NO_STEWARD")]
    pub no_steward: bool,
    /// Tell the traces of jobs to the collector at this base address, which takes OTLP over HTTP, such as
    /// `http://127.0.0.1:4318`. By default nobody is told.
    #[arg(long, env = "LAPIDARY_OTLP", value_name = "URL")]
    pub otlp: Option<String>,
    /// The share of jobs whose traces are told, from 0 to 1, where who submits them does not decide it.
    #[arg(long, env = "LAPIDARY_TRACE_SHARE", value_name = "SHARE", default_value = "1",
          value_parser = lapidary_transport::traces::parse_share)]
    pub trace_share: f64,
    /// For tests: stop, as SIGSTOP does, when a job is first at this point of its way.
    #[arg(long, hide = true, value_name = "POINT")]
    pub unsafe_failpoints: Option<Failpoint>,
}

/// Models that judge for a content policy.
#[derive(Debug, Clone, Args)]
pub struct JudgeArgs {
    /// The model that the policy's detectors of the kind `judge` ask, such as `ShieldGemma`; written as
    /// --model is, and loaded as that is, besides it. By default the served model.
    #[arg(long, env = "LAPIDARY_JUDGE", value_name = "PATH|REPO")]
    pub judge: Option<PathBuf>,
    /// The model that detectors of the kind `judge_image` ask, such as `ShieldGemma` 2. By default the
    /// served model.
    #[arg(long, env = "LAPIDARY_JUDGE_IMAGES", value_name = "PATH|REPO")]
    pub judge_images: Option<PathBuf>,
}

/// Arguments of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Sequences at once.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub batch: usize,
    /// Tokens of each prompt: random ids, the same in every run, no two prompts alike.
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    pub prompt: usize,
    /// Tokens to generate for each, greedily, end tokens ignored.
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    pub generate: usize,
    /// Images to encode before: random pixels, no two alike.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub images: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `score`.
#[derive(Debug, Clone, Args)]
pub struct ScoreArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The text, UTF-8.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Tokens of a window; by default the model's context, at most 2048.
    #[arg(long, value_name = "TOKENS")]
    pub window: Option<usize>,
}

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// A GGUF file, a folder, or a repository of the Hugging Face hub that was downloaded.
    #[arg(long, env = "LAPIDARY_MODEL", value_name = "PATH|REPO")]
    pub model: PathBuf,
    /// Where repositories come from.
    #[command(flatten)]
    pub hub: HubArgs,
}

/// What to try.
#[derive(Debug, Subcommand)]
pub enum FilterCommand {
    /// Print what a policy decides about each text: one JSON line a text.
    Test(FilterTestArgs),
    /// Print the texts that two policies decide otherwise about: one JSON line a text.
    Compare(FilterCompareArgs),
    /// Measure what a policy costs: one JSON line a detector, with the bytes of text that it looks at in a
    /// second.
    Cost(FilterTestArgs),
}

/// Arguments of `filter test`.
#[derive(Debug, Clone, Args)]
pub struct FilterTestArgs {
    /// The texts.
    #[command(flatten)]
    pub texts: FilterTexts,
    /// The policy: `none`, `default`, `strict`, or a TOML file.
    #[arg(long, value_name = "POLICY", default_value = "default")]
    pub policy: String,
}

/// Arguments of `filter compare`.
#[derive(Debug, Clone, Args)]
pub struct FilterCompareArgs {
    /// The texts.
    #[command(flatten)]
    pub texts: FilterTexts,
    /// A policy, as in `filter test`; twice: the one in use, and the one to compare with it.
    #[arg(long, value_name = "POLICY", required = true)]
    pub policy: Vec<String>,
}

/// Texts to try policies on.
#[derive(Debug, Clone, Args)]
pub struct FilterTexts {
    /// A UTF-8 file; each of its lines is a text. With `--stage input_image`: a picture.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The file is one text.
    #[arg(long)]
    pub whole: bool,
    /// Where on a job's way the texts are looked at.
    #[arg(long, value_enum, default_value_t = Stage::InputText)]
    pub stage: Stage,
    /// Models that judge.
    #[command(flatten)]
    pub judges: JudgeArgs,
    /// Where repositories come from.
    #[command(flatten)]
    pub hub: HubArgs,
}
