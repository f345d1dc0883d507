//! `lapidary caption`.

use std::time::{Duration, Instant};

use lapidary_schemas::ModelInfo;
use lapidary_schemas::limits::HOT_RESULTS;
use lapidary_schemas::worker::{DEMONSTRATION, INSTANT};
use lapidary_transport::failpoint;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::telling::Telling;
use crate::cli::Caption;
use crate::config::Config;
use crate::exit::{Exit, Stop};
use crate::plan::Rules;
use crate::progress::{Progress, say};
use crate::prompt::{Prompts, Wish};
use crate::rows::{Format, Output, Settings, Target};
use crate::run::{Asking, ModelChoice, Outcome, Parts, Run, Workers};
use crate::sources::{self, Pdf, Root, Wanted};
use crate::standing::Standing;
use crate::wish;

/// Said before a caption of that model is read as if it meant something.
const DEMONSTRATION_NOTE: &str = "this is the demonstration model: it names 48 pictograms on plain \
     backgrounds, and what it says of anything else means nothing; choose another with --model";

/// Likewise.
const INSTANT_NOTE: &str = "this model computes nothing: every answer is the same, to measure what \
     stands around the engine";

/// Captions documents; see `lapidary caption --help`.
pub(super) async fn run(args: Caption, stop: CancellationToken) -> Result<Exit, Stop> {
    if let Some(point) = args.unsafe_failpoints {
        failpoint::arm(point);
    }
    // Everything that can be refused without a server is refused first.
    let named = args.paths.iter().map(|path| Root::parse(path));
    let listed = args.from_list.iter().map(|path| Root::list(path));
    let roots: Vec<Root> = named.chain(listed).collect::<Result<_, _>>()?;
    let wish = wish::wish(&args)?;
    let place = Config::resolve(&args.place)?;
    let opened = place.open().await?;
    let tasks = TaskTracker::new();
    let telling = Telling::of_command(&args.traces, &tasks)?;
    let traces = telling.traces.clone();
    let steward = Standing::start(&opened, traces.clone(), &tasks, HOT_RESULTS, |_| ());
    let wait = Duration::from_secs(args.worker_wait);
    let choice = ModelChoice::parse(args.model.as_deref());
    let mut workers = Workers::new(
        choice,
        args.quantization,
        place.clone(),
        wait,
        tasks.clone(),
    )
    .traced(args.traces.clone());
    let Some(model) = stop.run_until_cancelled(workers.find(&opened, &say)).await else {
        return Ok(Exit::Interrupted);
    };
    let model = model?;
    match model.name.as_str() {
        DEMONSTRATION => say(DEMONSTRATION_NOTE),
        INSTANT => say(INSTANT_NOTE),
        _ => {}
    }
    let asking = asking(&args, &wish, model, &place)?;
    let wanted = wanted(&args, &asking);
    let target = Target {
        path: args.out.clone(),
        format: args.format.unwrap_or_else(|| Format::of(&args.out)),
        sidecar: args.sidecar,
        overwrite: args.overwrite,
    };
    let output = Output::open(target, settings(&asking))?;
    let (documents, seen) = sources::start(roots, wanted, &tasks, &stop);
    let parts = Parts {
        place: opened,
        asking,
        output,
        workers,
        worker_wait: wait,
        tasks,
        stop,
        traces,
    };
    let run = Run::new(parts, Progress::new(Instant::now()), seen, place.tenant);
    let outcome = run.go(documents).await;
    steward.retire().await;
    telling.end().await;
    let outcome = outcome?;
    summarise(&outcome, &args);
    Ok(outcome.exit())
}

/// How every document is asked about. A setting that none can pass is the command's mistake, not the
/// documents'.
fn asking(args: &Caption, wish: &Wish, model: ModelInfo, place: &Config) -> Result<Asking, Stop> {
    let max_tokens = args
        .max_tokens
        .unwrap_or_else(|| wish.max_tokens(model.context_tokens_max));
    let asking = Asking {
        rules: Rules {
            prompts: Prompts::choose(wish, model.chat).map_err(Stop::usage)?,
            long: args.long,
            prompt_tokens_max: prompt_tokens_max(&model, max_tokens)?,
        },
        max_tokens,
        temperature: args.temperature,
        seed: args.seed,
        tenant: place.tenant.clone(),
        model,
    };
    asking
        .check()
        .map_err(|failure| Stop::usage(failure.message))?;
    Ok(asking)
}

/// What is to be read. What is left open of PDF files is decided by what can be asked about.
fn wanted(args: &Caption, asking: &Asking) -> Wanted {
    let pdf = match args.pdf {
        Pdf::Auto if args.sidecar || !asking.takes_pictures() => Pdf::Text,
        Pdf::Auto if !asking.takes_texts() => Pdf::Pages,
        as_said => as_said,
    };
    Wanted {
        texts: !args.sidecar,
        pdf,
    }
}

/// Tokens that are left for the prompt.
fn prompt_tokens_max(model: &ModelInfo, max_tokens: u32) -> Result<u32, Stop> {
    model.context_tokens_max.checked_sub(max_tokens).filter(|tokens| *tokens > 0).ok_or_else(|| {
        Stop::usage(format!(
            "--max-tokens {max_tokens} leaves no room for a prompt: the context of `{}` is {} tokens",
            model.name, model.context_tokens_max
        ))
    })
}

/// Everything that decides a caption, by the option's name.
fn settings(asking: &Asking) -> Settings {
    let prompts = &asking.rules.prompts;
    // Through text, so that 0.7 is written 0.7.
    let temperature = asking
        .temperature
        .and_then(|t| t.to_string().parse::<f64>().ok());
    Settings::default()
        .with("--prompt", prompts.document.as_str())
        .with("--prompt (pictures)", prompts.picture.as_str())
        .with("--prompt (pictures together)", prompts.pictures.as_str())
        .with("--combine-prompt", prompts.combine.as_str())
        .with("--long", asking.rules.long.as_str())
        .with("--max-tokens", asking.max_tokens)
        .with(
            "--temperature",
            temperature.map_or(Value::Null, |t| json!(t)),
        )
        .with(
            "--seed",
            asking.seed.map_or(Value::Null, |seed| json!(seed)),
        )
        .with(
            "--model (weights sha256)",
            asking.model.weights_sha256.as_str(),
        )
        .with(
            "--model (template sha256)",
            asking.model.template_sha256.as_str(),
        )
        .with("--quantization", asking.model.quantization.as_str())
}

fn summarise(outcome: &Outcome, args: &Caption) {
    for line in outcome.tally.lines(outcome.seconds, outcome.others) {
        say(&line);
    }
    for line in outcome.left_out.lines() {
        say(&line);
    }
    if args.out.as_os_str() != "-" && outcome.rows > 0 {
        say(&format!("rows are in {}", args.out.display()));
    }
    if outcome.interrupted {
        say(if outcome.can_be_continued {
            "interrupted; the same command again does what is missing"
        } else {
            "interrupted; with --out FILE the same command again would do only what is missing"
        });
    } else if outcome.tally.failures() > 0 && outcome.can_be_continued {
        say("the same command again tries the failed ones once more");
    }
}
