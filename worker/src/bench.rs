//! `bench`: one workload, its speeds and a peak of memory.

use std::io::Write;
use std::time::{Duration, Instant};

use lapidary_engine::batch::Forward;
use lapidary_engine::image::View;
use lapidary_engine::runner::{self, Loaded};
use lapidary_engine::{Class, Engine, EngineOptions, GenerateInput, Prompt, Prompter, Sampling};
use serde::Serialize;

use crate::cli::BenchArgs;
use crate::config::{hub_options, load_options};
use crate::health::{peak_resident_bytes, resident_bytes};
use crate::model::ModelRef;

/// Room for what a sequence needs beside prompt and answer.
const SPARE_TOKENS: usize = 64;
/// Context, at least: an image's tokens cannot be split.
const CONTEXT_TOKENS_MIN: usize = 512;
/// Memory for keys and values: whatever the workload needs, up to this.
const KV_BYTES_MAX: usize = 16 << 30;

/// What was run, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Name of the model.
    pub model: String,
    /// SHA-256 of its weights.
    pub weights_sha256: String,
    /// How they were held.
    pub quantization: String,
    /// Instruction tier.
    pub tier: String,
    /// Threads it computed on.
    pub threads: usize,
    /// Sequences at once.
    pub batch: usize,
    /// Tokens of each prompt.
    pub prompt_tokens: usize,
    /// Tokens generated for each.
    pub generated_tokens: usize,
    /// Images encoded.
    pub images: usize,
    /// Those, by the time it took; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
    /// Prompt tokens of all sequences, by the wall-clock time until each had its first token.
    pub prefill_tokens_per_second: f64,
    /// Tokens of the steps that only continue answers, by the time of those steps.
    pub decode_tokens_per_second: f64,
    /// Seconds to load the model.
    pub load_seconds: f64,
    /// Seconds from the beginning of loading to the first token of the first prompt, images apart.
    pub first_token_seconds: f64,
    /// The most memory the process had resident, the tokenizer included.
    pub peak_rss_bytes: u64,
    /// Memory that became resident while the tokenizer was loaded.
    pub tokenizer_rss_bytes: u64,
}

/// Runs the workload and prints what came of it.
pub fn bench(args: &BenchArgs) -> anyhow::Result<()> {
    anyhow::ensure!(args.batch > 0, "--batch is 0, it must be at least 1");
    anyhow::ensure!(args.prompt > 0, "--prompt is 0, it must be at least 1");
    anyhow::ensure!(
        args.generate > 1,
        "--generate is {}, it must be at least 2",
        args.generate
    );
    let report = measure(args)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(out, "{}", table(&report))?;
    }
    Ok(())
}

fn measure(args: &BenchArgs) -> anyhow::Result<Report> {
    let model = ModelRef::parse(&args.model.model);
    let (source, load) = model.files(load_options(&args.model), &hub_options(&args.model.hub))?;
    let started = Instant::now();
    let before = resident_bytes().unwrap_or(0);
    let prompter = Prompter::open(source.clone(), &[])?;
    let tokenizer_rss_bytes = resident_bytes().unwrap_or(0).saturating_sub(before);
    let mut loaded = runner::load(source, &load)?;
    let report = described(args, model.name(), &loaded);
    let loading = started.elapsed();
    let images_per_second = encode(&mut loaded, args.images)?;
    let context_tokens = args.prompt + args.generate + SPARE_TOKENS;
    let started = Instant::now();
    let options = EngineOptions {
        slots_max: args.batch + 1,
        interactive_slots_reserved: 1,
        step_tokens_max: EngineOptions::default().step_tokens_max.max(args.batch + 1),
        kv_bytes_max: KV_BYTES_MAX,
        waiting_max: args.batch,
        prefix_sharing: false,
        context_tokens_max: Some(context_tokens.max(CONTEXT_TOKENS_MIN)),
        ..EngineOptions::default()
    };
    let engine = Engine::start(Box::new(loaded.runner), prompter, &options)?;
    let load_seconds = (loading + started.elapsed()).as_secs_f64();
    let prompts = prompts(args, engine.shape().vocab);
    run(&engine, &prompts[..1], 1)?;
    let first_token_seconds = (loading + started.elapsed()).as_secs_f64();
    // Once over the pages and caches, unmeasured.
    run(&engine, &prompts[..1], 2)?;
    let prefill_started = Instant::now();
    run(&engine, &prompts, 1)?;
    let prefill_s = prefill_started.elapsed().as_secs_f64();
    let before = engine.stats();
    run(&engine, &prompts, args.generate)?;
    let after = engine.stats();
    let decode_s = after
        .decode_busy
        .saturating_sub(before.decode_busy)
        .as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a few million at most")]
    let rate = |tokens: u64, seconds: f64| tokens as f64 / seconds.max(f64::MIN_POSITIVE);
    Ok(Report {
        images_per_second,
        prefill_tokens_per_second: rate((args.batch * args.prompt) as u64, prefill_s),
        decode_tokens_per_second: rate(
            after.decode_only_tokens - before.decode_only_tokens,
            decode_s,
        ),
        load_seconds,
        first_token_seconds,
        peak_rss_bytes: peak_resident_bytes().unwrap_or(0),
        tokenizer_rss_bytes,
        ..report
    })
}

fn described(args: &BenchArgs, model: String, loaded: &Loaded) -> Report {
    Report {
        model,
        weights_sha256: loaded.weights_sha256.clone(),
        quantization: loaded.quantization.clone(),
        tier: loaded.tier.to_string(),
        threads: args.model.threads.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        }),
        batch: args.batch,
        prompt_tokens: args.prompt,
        generated_tokens: args.generate,
        images: args.images,
        images_per_second: None,
        prefill_tokens_per_second: 0.0,
        decode_tokens_per_second: 0.0,
        load_seconds: 0.0,
        first_token_seconds: 0.0,
        peak_rss_bytes: 0,
        tokenizer_rss_bytes: 0,
    }
}

/// Encodes so many images of random pixels and gives how many it were in a second.
fn encode(loaded: &mut Loaded, images: usize) -> anyhow::Result<Option<f64>> {
    if images == 0 {
        return Ok(None);
    }
    let Some(shape) = loaded.runner.shape().image else {
        anyhow::bail!("--images is {images}, but the model reads no images");
    };
    let bytes = shape.spec.side as usize * shape.spec.side as usize * 3;
    let mut random = random();
    let mut encoded = Duration::ZERO;
    for first in (0..images).step_by(shape.views_max) {
        let count = shape.views_max.min(images - first);
        let pixels = (0..count).map(|_| (0..bytes).map(|_| random().to_le_bytes()[0]).collect());
        let views: Vec<View> = pixels.map(|pixels: Vec<u8>| View::new(pixels)).collect();
        let started = Instant::now();
        loaded.runner.encode(&views.iter().collect::<Vec<_>>())?;
        encoded += started.elapsed();
        for view in &views {
            loaded.runner.forget(view.sha256());
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
    let rate = images as f64 / encoded.as_secs_f64().max(f64::MIN_POSITIVE);
    Ok(Some(rate))
}

/// Random numbers, the same in every run.
fn random() -> impl FnMut() -> u32 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    move || {
        // xorshift64*, Vigna, https://arxiv.org/abs/1402.6246.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let [.., a, b, c, d] = (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

/// Random ids, the same in every run.
fn prompts(args: &BenchArgs, vocab: usize) -> Vec<Vec<u32>> {
    let vocab = u32::try_from(vocab).unwrap_or(u32::MAX).max(1);
    let mut random = random();
    let mut token = || random() % vocab;
    (0..args.batch)
        .map(|_| (0..args.prompt).map(|_| token()).collect())
        .collect()
}

/// Generates for all prompts at once and waits for all.
fn run(engine: &Engine, prompts: &[Vec<u32>], max_tokens: usize) -> anyhow::Result<()> {
    let mut generations = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        generations.push(engine.submit_unending(GenerateInput {
            prompt: Prompt::Tokens(prompt.clone()),
            sampling: Sampling::GREEDY,
            max_tokens,
            stop: Vec::new(),
            end_loops: false,
            grammar: None,
            logprobs: None,
            class: Class::Bulk,
        })?);
    }
    for generation in generations {
        generation.wait()?;
    }
    Ok(())
}

fn table(report: &Report) -> String {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let images = report.images_per_second.map_or(String::new(), |rate| {
        format!("images     {rate:.3} images/s, {} encoded\n", report.images)
    });
    format!(
        "model      {} ({}, {}, {} threads)\nworkload   {} sequences, {} prompt and {} new tokens \
         each\n{images}prefill    {:.1} tokens/s\ndecode     {:.1} tokens/s\npeak rss   {:.0} MiB, of \
         which tokenizer {:.0} MiB\nloaded in  {:.2} s, first token after {:.2} s\n",
        report.model,
        report.quantization,
        report.tier,
        report.threads,
        report.batch,
        report.prompt_tokens,
        report.generated_tokens,
        report.prefill_tokens_per_second,
        report.decode_tokens_per_second,
        mebibytes(report.peak_rss_bytes),
        mebibytes(report.tokenizer_rss_bytes),
        report.load_seconds,
        report.first_token_seconds,
    )
}
