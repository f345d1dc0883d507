//! `filter`: what policies decide about the texts of a file, before they decide about anybody's.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use lapidary_engine::image::{self, ImageLimits};
use lapidary_engine::{Class, EngineOptions, LoadOptions};
use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::result::Verdict;
use serde_json::json;

use crate::cli::{FilterCommand, FilterCompareArgs, FilterTestArgs, FilterTexts};
use crate::compute::Compute;
use crate::config::{hub_options, judge_models};
use crate::filter::{Decision, Filters, Manner, Ruling, Shown, Stage};
use crate::judges::Loading;

/// Looks at the same texts to measure.
const COST_ROUNDS: usize = 3;

/// Tries one policy, or compares two.
pub fn filter(command: &FilterCommand) -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    runtime.block_on(async {
        match command {
            FilterCommand::Test(args) => test(args, &mut out).await,
            FilterCommand::Compare(args) => compare(args, &mut out).await,
            FilterCommand::Cost(args) => cost(args, &mut out).await,
        }
    })?;
    out.flush()?;
    Ok(())
}

/// A policy that is tried.
#[derive(Debug)]
pub struct Trial {
    filters: Filters,
    compute: Compute,
}

/// What a policy makes of a text.
#[derive(Debug)]
pub struct Tried {
    /// What becomes of it, in a word.
    pub ruling: &'static str,
    /// The text as it goes on, where something in it was replaced.
    pub becomes: Option<String>,
    /// Every detector's verdict, up to the one that ended it.
    pub verdicts: Vec<Verdict>,
}

impl Trial {
    /// Starts what looking takes.
    pub fn start(filters: Filters) -> std::io::Result<Self> {
        let compute = Compute::start()?;
        Ok(Self { filters, compute })
    }

    /// Tries it on a text.
    pub async fn of_text(&self, stage: Stage, text: String) -> Tried {
        self.of(stage, of_text(text)).await
    }

    async fn of(&self, stage: Stage, shown: Shown) -> Tried {
        let stage = (stage, Manner::Enforce);
        let mut decision = self.filters.check(&self.compute, stage, shown).await;
        Tried {
            ruling: ruling(&decision),
            becomes: decision.redacted.then(|| decision.texts.pop()).flatten(),
            verdicts: decision.verdicts,
        }
    }
}

async fn test(args: &FilterTestArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let [filters] = open([&args.policy], &args.texts)?;
    let trial = Trial::start(filters)?;
    for (line, shown) in shown(&args.texts, &trial.filters)? {
        let tried = trial.of(args.texts.stage, shown).await;
        let record = json!({
            "line": line,
            "ruling": tried.ruling,
            "becomes": tried.becomes,
            "verdicts": tried.verdicts,
        });
        writeln!(out, "{record}")?;
    }
    Ok(())
}

async fn compare(args: &FilterCompareArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let [used, other] = args.policy.as_slice() else {
        let count = args.policy.len();
        anyhow::bail!("--policy is there {count} times, it must be there twice");
    };
    let [used, other] = open([used, other], &args.texts)?;
    let (compute, stage) = (Compute::start()?, (args.texts.stage, Manner::Enforce));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (line, shown) in shown(&args.texts, &used)? {
        let before = used.check(&compute, stage, shown.clone()).await;
        let after = other.check(&compute, stage, shown).await;
        let (from, to) = (ruling(&before), ruling(&after));
        if from != to || before.texts != after.texts {
            let verdicts = [before.verdicts, after.verdicts];
            writeln!(
                out,
                "{}",
                json!({"line": line, "rulings": [from, to], "verdicts": verdicts})
            )?;
        }
        *counts.entry(format!("{from} -> {to}")).or_default() += 1;
    }
    for (change, count) in counts {
        eprintln!("{change}: {count}");
    }
    Ok(())
}

/// The quickest of several looks of every detector at all texts.
async fn cost(args: &FilterTestArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let [filters] = open([&args.policy], &args.texts)?;
    let (compute, stage) = (Compute::start()?, (args.texts.stage, Manner::Report));
    let shown = shown(&args.texts, &filters)?;
    let texts = shown.iter().flat_map(|(_, shown)| &shown.texts);
    let bytes: usize = texts.map(String::len).sum();
    let mut quickest: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..COST_ROUNDS {
        let mut round: BTreeMap<String, f64> = BTreeMap::new();
        for (_, shown) in &shown {
            let decision = filters.check(&compute, stage, shown.clone()).await;
            for (detector, took) in decision.looks {
                *round.entry(detector).or_default() += took.as_secs_f64();
            }
        }
        for (detector, took) in round {
            let known = quickest.entry(detector).or_insert(f64::INFINITY);
            *known = known.min(took);
        }
    }
    for (detector, seconds) in quickest {
        #[expect(clippy::cast_precision_loss, reason = "files are far below 2^53 bytes")]
        let rate = bytes as f64 / seconds;
        writeln!(
            out,
            "{}",
            json!({"detector": detector, "bytes": bytes, "seconds": seconds, "bytes_per_second": rate})
        )?;
    }
    Ok(())
}

/// Policies, each with the models that it asks.
fn open<const N: usize>(
    policies: [&String; N],
    args: &FilterTexts,
) -> anyhow::Result<[Filters; N]> {
    let loading = Loading {
        load: &LoadOptions::default(),
        hub: &hub_options(&args.hub),
        engine: &EngineOptions::default(),
    };
    let mut opened = Vec::new();
    for policy in policies {
        let filters = judge_models(&args.judges).load(Filters::open(policy)?, None, loading)?;
        opened.push(filters);
    }
    opened
        .try_into()
        .map_err(|_| anyhow::anyhow!("policies were lost on the way"))
}

/// What becomes of a text, in a word.
fn ruling(decision: &Decision) -> &'static str {
    match &decision.ruling {
        Ruling::Poor { again: true, .. } => "retry",
        Ruling::Refused(_) | Ruling::Poor { .. } => "block",
        Ruling::Unavailable(_) => "unavailable",
        Ruling::Pass if decision.redacted => "redact",
        Ruling::Pass
            if decision
                .verdicts
                .iter()
                .any(|verdict| verdict.action == "flag") =>
        {
            "flag"
        }
        Ruling::Pass => "allow",
    }
}

/// A text alone.
fn of_text(text: String) -> Shown {
    Shown {
        texts: vec![text],
        ..Shown::to(Class::Bulk)
    }
}

/// The texts of a file, each with its line's number; or the file as a picture.
fn shown(args: &FilterTexts, filters: &Filters) -> anyhow::Result<Vec<(usize, Shown)>> {
    let named = || format!("`{}`", args.file.display());
    let size = std::fs::metadata(&args.file).with_context(named)?.len();
    anyhow::ensure!(
        size <= u64::try_from(MEDIA_BYTES_MAX)?,
        "{} has {size} bytes, the limit is {MEDIA_BYTES_MAX}",
        named()
    );
    if args.stage == Stage::InputImage {
        let bytes = std::fs::read(&args.file).with_context(named)?;
        let spec = filters
            .picture_spec()
            .context("no detector of the policy looks at pictures")?;
        let image = image::prepare(&bytes, &spec, &ImageLimits::default()).with_context(named)?;
        let mut shown = Shown::to(Class::Bulk);
        shown.images.push(Arc::new(image));
        return Ok(vec![(1, shown)]);
    }
    let text = std::fs::read_to_string(&args.file).with_context(named)?;
    if args.whole {
        return Ok(vec![(1, of_text(text))]);
    }
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    Ok(lines
        .map(|(n, line)| (n + 1, of_text(line.to_owned())))
        .collect())
}
