//! What a user can write on the command line. Types only.

mod dead;
mod doctor;
mod observing;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lapidary_schemas::BatchId;
use lapidary_schemas::limits::{HOT_RESULTS, MESSAGE_CHARS_MAX, OUTPUT_TOKENS_MAX};
use lapidary_transport::failpoint::Failpoint;

pub use dead::{Dead, DeadCommand, DeadFilter};
pub use doctor::Doctor;
pub use observing::{ReportArgs, TopArgs, TraceArgs};

use crate::isolate::Task;
use crate::keys::Scope;
use crate::plan::Long;
use crate::rows::Format as RowFormat;
use crate::sources::Pdf;
use crate::templates::{Audience, Tone};

/// Captions pictures and documents in bulk with Gemma.
#[derive(Debug, Parser)]
#[command(
    name = "lapidary",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes:
  0    all is well
  1    something failed; the summary says what, by failure code
  2    the command line cannot be understood, or names what does not exist
  3    queue, results or media cannot be reached, or no worker serves the model
  130  interrupted; the same command again does what is missing"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Caption pictures and documents: files, folders and patterns in, one JSON line each out
    Caption(Box<Caption>),
    /// Submit a file of requests as a batch and print the batch's id
    Submit(Submit),
    /// Show how far a batch is until it ends
    Watch(Watch),
    /// Print the results of a batch as JSON lines, in order of completion
    Results(Fetch),
    /// Cancel a batch; finished results stay
    Cancel(OneBatch),
    /// Pause a batch: what runs goes on, nothing else is begun
    Pause(OneBatch),
    /// Let a paused batch go on
    Resume(OneBatch),
    /// Serve applications over HTTP, as `OpenAI`'s Files, Batches and Chat Completions do
    Serve(Serve),
    /// Make, list and revoke the API keys that `serve` asks for
    Keys(Keys),
    /// List the workers alive
    Workers(PlaceArgs),
    /// List, show, replay and forget jobs that died
    Dead(Dead),
    /// Examine queue, results, media and this machine, and say what to do
    Doctor(Doctor),
    /// Show queues, workers and unfinished batches
    Status(PlaceArgs),
    /// Summarise how an installation has been, and which alerts fire
    Report(ReportArgs),
    /// Show how the place does, live: queues, workers, batches, and what deserves attention
    Top(TopArgs),
    /// List the prompt templates, or print one
    Templates(Templates),
    /// Read a document, or a page of one, within limits (used by `caption` for its own child processes)
    #[command(hide = true)]
    ReadDocument(ReadDocument),
}

/// Where jobs wait and results rest.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where jobs wait and results rest")]
pub struct PlaceArgs {
    /// Queue: `amqp://…` or `file:PATH`. Without it, everything is in one embedded file
    #[arg(
        long,
        value_name = "URL",
        env = "LAPIDARY_BROKER",
        hide_env_values = true
    )]
    pub broker: Option<String>,
    /// Results: `redis://…` or `file:PATH` [default: the broker's file]
    #[arg(
        long,
        value_name = "URL",
        env = "LAPIDARY_RESULTS",
        hide_env_values = true
    )]
    pub results: Option<String>,
    /// Media: `file:///DIR`, `s3://BUCKET/DIR` or `file:PATH` [default: a folder beside the broker's file]
    #[arg(
        long,
        value_name = "URL",
        env = "LAPIDARY_MEDIA",
        hide_env_values = true
    )]
    pub media: Option<String>,
    /// The embedded file that is used without --broker [default: lapidary/lapidary.db in the
    /// user's state folder]
    #[arg(
        long,
        value_name = "PATH",
        env = "LAPIDARY_STORE",
        conflicts_with = "broker"
    )]
    pub store: Option<PathBuf>,
    /// The user's state folder.
    #[arg(long, hide = true, env = "XDG_STATE_HOME", hide_env = true)]
    pub state_home: Option<PathBuf>,
    /// Use a Redis that may lose what it confirmed
    #[arg(long)]
    pub allow_lossy: bool,
    /// Whose jobs they are; the queue is fair between tenants
    #[arg(
        long,
        value_name = "NAME",
        env = "LAPIDARY_TENANT",
        default_value = "default"
    )]
    pub tenant: String,
}

/// How a model's weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Quantization {
    /// 32-bit floats: the reference, and slow.
    F32,
    /// 16 bits a weight.
    Bf16,
    /// 8 bits a weight.
    Q8,
    /// 4 bits a weight.
    Q4,
}

impl Quantization {
    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }
}

/// `caption`.
#[derive(Debug, Args)]
#[command(after_help = "\
Run it again after an interruption, a crash or failed documents: only what is missing is done. A
document is known by its content and by everything that decides its caption, not by its line.

Each row has `name`, `text`, `status`, `finish_reason`, `parts`, `usage`, `seed`, `key`, `same_as`
where it shares the caption of a document of the same content, and `failure` where there is no
caption. The settings are kept in FILE.run.json; a FILE that was made
with others is refused unless --overwrite is given.")]
pub struct Caption {
    /// Files, folders and patterns ('docs/**/*.pdf'); pictures (.jpg .jpeg .png .webp .gif .bmp .tif
    /// .tiff), texts (.txt .md .html .htm .pdf), and pictures inside .tar and .parquet are read
    #[arg(required_unless_present = "from_list", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// File that lists what to caption; `-` is standard input. A line is a path or an address, or an
    /// object {"image": PATH|URL, "name": …}. A PATH that ends in .jsonl or is `-` is a list as well
    #[arg(long, value_name = "FILE")]
    pub from_list: Vec<PathBuf>,
    /// What is read of PDF files
    #[arg(long, value_enum, default_value_t)]
    pub pdf: Pdf,
    /// Where rows go; `-` is standard output, which cannot be continued
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub out: PathBuf,
    /// Shape of FILE [default: by its ending]. Others than JSON lines are made when the run ends, of
    /// FILE.rows.jsonl, which is kept
    #[arg(long, value_enum)]
    pub format: Option<RowFormat>,
    /// Write each picture's caption beside it as well, a.txt beside a.png, when the run ends. Only
    /// pictures are captioned then
    #[arg(long)]
    pub sidecar: bool,
    /// Replace FILE instead of continuing it
    #[arg(long)]
    pub overwrite: bool,

    /// A model's file or folder, or a repository of the Hugging Face hub (`ORG/NAME[@REVISION]`,
    /// `ORG/NAME/FILE.gguf[@REVISION]`), for which a worker is started here, or the name that running
    /// workers serve it under [default: the one that is served; else `demonstration`, a small model
    /// that names pictograms and is part of the program]
    #[arg(
        long,
        value_name = "PATH|REPO|NAME",
        env = "LAPIDARY_MODEL",
        help_heading = "Model"
    )]
    pub model: Option<String>,
    /// How a worker that is started here holds the weights
    #[arg(long, value_enum, help_heading = "Model")]
    pub quantization: Option<Quantization>,
    /// Seconds to wait for a worker that serves the model; a download that goes on is not counted
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 120,
        help_heading = "Model"
    )]
    pub worker_wait: u64,

    /// Prompt; `{text}` stands for the document's text and `{name}` for its path. A picture stands
    /// before its prompt, which has no `{text}` then [default: asks for a caption in one or two
    /// sentences]
    #[arg(long, help_heading = "Prompt")]
    pub prompt: Option<String>,
    /// File that holds the prompt
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "prompt",
        help_heading = "Prompt"
    )]
    pub prompt_file: Option<PathBuf>,
    /// Prompt that has a name, built in or your own; `lapidary templates` lists them
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = ["prompt", "prompt_file"],
        help_heading = "Prompt"
    )]
    pub template: Option<String>,
    /// Where templates of the user's own are.
    #[command(flatten)]
    pub templates: TemplateArgs,
    /// What the model should know of all the documents; stands before every prompt
    #[arg(long, value_name = "TEXT", help_heading = "Prompt")]
    pub context: Option<String>,
    /// Whom the captions are written for; several are separated by commas
    #[arg(long, value_enum, value_delimiter = ',', help_heading = "Prompt")]
    pub audience: Vec<Audience>,
    /// How the captions sound
    #[arg(long, value_enum, help_heading = "Prompt")]
    pub tone: Option<Tone>,
    /// Prompt that combines the captions of a document's parts; `{text}` stands for them
    /// [default: the template's, or --prompt if given]
    #[arg(long, value_name = "PROMPT", help_heading = "Prompt")]
    pub combine_prompt: Option<String>,
    /// What to do with a text that is longer than the model's context: caption its parts and
    /// combine the captions, caption its beginning, or report it as failed
    #[arg(long, value_enum, default_value_t, help_heading = "Prompt")]
    pub long: Long,

    /// Tokens a caption may have [default: 128, or what the template needs, up to half of the
    /// model's context]
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    pub max_tokens: Option<u32>,
    /// 0 takes the likeliest token always; higher is more varied [default: 0.7]
    #[arg(long, value_name = "T", help_heading = "Sampling")]
    pub temperature: Option<f32>,
    /// Seed of the draws [default: made from each document's key, so a second run gives the same]
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    pub seed: Option<u64>,

    /// Whom traces are told to.
    #[command(flatten)]
    pub traces: TraceArgs,
    /// For tests: stop, as SIGSTOP does, when a job is first at this point of its way.
    #[arg(long, hide = true, value_name = "POINT")]
    pub unsafe_failpoints: Option<Failpoint>,
    /// Where jobs wait and results rest.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Where templates of the user's own are.
#[derive(Debug, Clone, Args)]
pub struct TemplateArgs {
    /// Folder of your own templates [default: lapidary/templates in the user's configuration
    /// folder]
    #[arg(
        long,
        value_name = "DIR",
        env = "LAPIDARY_TEMPLATE_DIR",
        help_heading = "Prompt"
    )]
    pub template_dir: Option<PathBuf>,
    /// The user's configuration folder.
    #[arg(long, hide = true, env = "XDG_CONFIG_HOME", hide_env = true)]
    pub config_home: Option<PathBuf>,
}

/// `templates`.
#[derive(Debug, Args)]
#[command(after_help = "\
A template of your own is a text file or several in the folder: NAME.document.txt asks about a text,
which stands for `{text}`; NAME.combine.txt about the captions of a long text's parts, which stand for
`{text}`; NAME.picture.txt about a picture, which stands before it; NAME.pictures.txt about several
pictures that a list shows together. In all, `{name}` stands for the document's path. One of your own takes the place of a built-in one of its name.")]
pub struct Templates {
    /// Template to print whole; without it, all are listed: name, what it takes, how it begins
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Where templates of the user's own are.
    #[command(flatten)]
    pub folder: TemplateArgs,
}

/// `submit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is a request in the shape of OpenAI's batch files:
  {\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", \"body\": {\"messages\": […]}}
The file is checked whole before anything is submitted; mistakes are reported by line number.")]
pub struct Submit {
    /// File of requests, one JSON object a line; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Name of the model that shall serve the requests, whatever they name [default: the one model
    /// that all of them name]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Seconds after which unfinished requests expire [default: never]
    #[arg(long, value_name = "SECONDS")]
    pub deadline: Option<u64>,
    /// Whom traces are told to.
    #[command(flatten)]
    pub traces: TraceArgs,
    /// For tests: stop, as SIGSTOP does, when a job is first at this point of its way.
    #[arg(long, hide = true, value_name = "POINT")]
    pub unsafe_failpoints: Option<Failpoint>,
    /// Where jobs wait and results rest.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Id of the batch
    pub batch: BatchId,
    /// Where jobs wait and results rest.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// The shape of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Everything that is known of a job.
    #[default]
    Lapidary,
    /// As in the output files of `OpenAI`'s batches.
    Openai,
}

/// `results`.
#[derive(Debug, Args)]
pub struct Fetch {
    /// Id of the batch
    pub batch: BatchId,
    /// Go on until the batch ends
    #[arg(long)]
    pub follow: bool,
    /// Shape of the lines
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Go on where an earlier call ended; it said where
    #[arg(
        long,
        value_name = "CURSOR",
        default_value = "",
        hide_default_value = true
    )]
    pub cursor: String,
    /// Where jobs wait and results rest.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `cancel`, `pause` and `resume`.
#[derive(Debug, Args)]
pub struct OneBatch {
    /// Id of the batch
    pub batch: BatchId,
    /// Where jobs wait and results rest.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without keys (`lapidary keys create`) only addresses of this machine are listened on, and everyone on
it is --tenant. SIGTERM ends it once requests under way are answered, after 30 seconds at most.")]
pub struct Serve {
    /// Address and port; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "LAPIDARY_LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,
    /// Address and port of the operations endpoint (/metrics, /health/live, /health/ready); without it
    /// there is none
    #[arg(long, value_name = "ADDRESS:PORT", env = "LAPIDARY_OPS_LISTEN")]
    pub ops_listen: Option<SocketAddr>,
    /// Characters of text a message may have
    #[arg(
        long,
        value_name = "N",
        default_value_t = MESSAGE_CHARS_MAX,
        help_heading = "Limits"
    )]
    pub message_chars: usize,
    /// Tokens an answer may have
    #[arg(
        long,
        value_name = "N",
        default_value_t = OUTPUT_TOKENS_MAX,
        help_heading = "Limits"
    )]
    pub output_tokens: u32,
    /// Single requests that may wait for a model; more are turned away with status 429
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000,
        help_heading = "Limits"
    )]
    pub queue: u64,
    /// Submissions a tenant may make in an hour, the requests of a file not counted; 0: as many as it
    /// wants
    #[arg(
        long,
        value_name = "N",
        env = "LAPIDARY_REQUESTS_PER_HOUR",
        default_value_t = 100,
        help_heading = "Limits"
    )]
    pub requests_per_hour: u64,
    /// Results of a batch that stay in Redis; older ones move to the media store
    #[arg(
        long,
        value_name = "N",
        env = "LAPIDARY_HOT_RESULTS",
        default_value_t = HOT_RESULTS,
        help_heading = "Limits"
    )]
    pub hot_results: usize,
    /// Tokens, read and written, that a tenant may use in a day; over it nothing more is taken. 0: as
    /// many as it wants
    #[arg(
        long,
        value_name = "N",
        env = "LAPIDARY_TOKENS_PER_DAY",
        default_value_t = 0,
        help_heading = "Limits"
    )]
    pub tokens_per_day: u64,
    /// Send webhooks to these hosts, each HOST or HOST:PORT; `*` is every public host on the ports of
    /// http and https. An address that is not public is sent to if it is listed here as such, by
    /// number. By default none are sent
    #[arg(
        long,
        value_name = "HOST",
        env = "LAPIDARY_WEBHOOKS",
        value_delimiter = ',',
        value_parser = lapidary_schemas::remote::parse_host
    )]
    pub webhooks: Vec<String>,
    /// Whom traces are told to.
    #[command(flatten)]
    pub traces: TraceArgs,
    /// For tests: stop, as SIGSTOP does, when a job is first at this point of its way.
    #[arg(long, hide = true, value_name = "POINT")]
    pub unsafe_failpoints: Option<Failpoint>,
    /// Where jobs wait and results rest.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// `keys`.
#[derive(Debug, Args)]
pub struct Keys {
    /// What to do with them.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key for --tenant and print it: it is shown this once
    Create {
        /// What it allows; several are separated by commas
        #[arg(
            long,
            value_enum,
            value_delimiter = ',',
            default_values_t = [Scope::Submit, Scope::Read]
        )]
        scope: Vec<Scope>,
        /// Submissions in an hour that its tenant may have made when it comes with this key, in the
        /// place of the gateway's limit; 0: as many as it wants
        #[arg(long, value_name = "N")]
        requests_per_hour: Option<u64>,
        /// Tokens in a day that its tenant may have used when it comes with this key, in the place of
        /// the gateway's limit; 0: as many as it wants
        #[arg(long, value_name = "N")]
        tokens_per_day: Option<u64>,
        /// Where jobs wait and results rest.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// List the keys, newest first: name, tenant, what they allow, when they were made
    List {
        /// Where jobs wait and results rest.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// End a key: from now on it opens nothing
    Revoke {
        /// Its name, as `list` shows it
        name: String,
        /// Where jobs wait and results rest.
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// `read-document`.
#[derive(Debug, Args)]
pub struct ReadDocument {
    /// The file.
    #[arg(long, allow_hyphen_values = true)]
    pub path: PathBuf,
    /// What to read of it.
    #[command(subcommand)]
    pub task: Task,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
