//! `filter`: what policies decide about the texts of a file, before they decide about anybody's.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Context;
use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use serde_json::json;

use crate::cli::{FilterCommand, FilterCompareArgs, FilterTestArgs, FilterTexts};
use crate::compute::Compute;
use crate::filter::{Decision, Filters, Ruling};

/// Tries one policy, or compares two.
pub fn filter(command: &FilterCommand) -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    runtime.block_on(async {
        match command {
            FilterCommand::Test(args) => test(args, &mut out).await,
            FilterCommand::Compare(args) => compare(args, &mut out).await,
        }
    })?;
    out.flush()?;
    Ok(())
}

async fn test(args: &FilterTestArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let (filters, compute) = (Filters::open(&args.policy)?, Compute::start()?);
    for (line, text) in texts(&args.texts)? {
        let mut decision = filters.check(&compute, args.texts.stage, vec![text]).await;
        let becomes = decision.redacted.then(|| decision.texts.pop()).flatten();
        let record = json!({
            "line": line,
            "ruling": ruling(&decision),
            "becomes": becomes,
            "verdicts": decision.verdicts,
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
    let (used, other) = (Filters::open(used)?, Filters::open(other)?);
    let compute = Compute::start()?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (line, text) in texts(&args.texts)? {
        let before = used
            .check(&compute, args.texts.stage, vec![text.clone()])
            .await;
        let after = other.check(&compute, args.texts.stage, vec![text]).await;
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

/// The texts of a file, each with its line's number.
fn texts(args: &FilterTexts) -> anyhow::Result<Vec<(usize, String)>> {
    let named = || format!("`{}`", args.file.display());
    let size = std::fs::metadata(&args.file).with_context(named)?.len();
    anyhow::ensure!(
        size <= u64::try_from(MEDIA_BYTES_MAX)?,
        "{} has {size} bytes, the limit is {MEDIA_BYTES_MAX}",
        named()
    );
    let text = std::fs::read_to_string(&args.file).with_context(named)?;
    if args.whole {
        return Ok(vec![(1, text)]);
    }
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    Ok(lines.map(|(n, line)| (n + 1, line.to_owned())).collect())
}
