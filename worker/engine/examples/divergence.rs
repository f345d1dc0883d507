//! What a file's quants cost the engine in accuracy: `divergence MODEL.gguf TEXT.txt`.
//!
//! The mean Kullback-Leibler divergence of the next token's distribution from that of the same weights
//! computed in f32, over the second halves of windows of 512 tokens: what `llama-perplexity
//! --kl-divergence` measures of llama.cpp, with a base made from the file's weights in f32.

#![expect(clippy::print_stdout, reason = "its figures are its output")]

use std::error::Error;
use std::path::Path;

use lapidary_engine::Prompter;
use lapidary_engine::batch::{BLOCK_TOKENS, BlockId, Forward, Logits, Span, StepBatch, TokenId};
use lapidary_engine::runner::{self, GemmaRunner, LoadOptions, Quantization};

const WINDOW: usize = 512;
const CHUNK: usize = 128;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, text] = arguments.as_slice() else {
        return Err("divergence MODEL.gguf TEXT.txt".into());
    };
    let (mut floats, prompter) = load(Path::new(model), Some(Quantization::F32))?;
    let (mut quants, _) = load(Path::new(model), None)?;
    let tokenizer = prompter.tokenizer();
    let bos = tokenizer
        .bos()
        .ok_or("the model begins texts with no token")?;
    let tokens = tokenizer.encode(&std::fs::read_to_string(text)?)?;
    let (mut sum, mut agreed, mut count) = (0.0, 0.0, 0.0);
    for window in tokens.chunks_exact(WINDOW) {
        let mut window = window.to_vec();
        window[0] = bos;
        for start in (0..WINDOW).step_by(CHUNK) {
            let expected = chunk(&mut floats, &window[..start + CHUNK], start)?;
            let got = chunk(&mut quants, &window[..start + CHUNK], start)?;
            if start < WINDOW / 2 {
                continue;
            }
            for (expected, got) in expected.iter().zip(&got) {
                sum += divergence(expected, got);
                agreed += f64::from(u8::from(argmax(expected) == argmax(got)));
                count += 1.0;
            }
        }
        println!(
            "{count} positions: divergence {:.6}, the likeliest token the same at {:.2} %",
            sum / count,
            100.0 * agreed / count
        );
    }
    Ok(())
}

fn load(
    model: &Path,
    quantization: Option<Quantization>,
) -> Result<(GemmaRunner, Prompter), Box<dyn Error>> {
    let options = LoadOptions {
        quantization,
        ..LoadOptions::default()
    };
    let loaded = runner::load(model, &options)?;
    let prompter = Prompter::open(loaded.tokenizer, &loaded.eos)?;
    let mut runner = loaded.runner;
    runner.allocate(WINDOW / BLOCK_TOKENS, WINDOW / BLOCK_TOKENS)?;
    Ok((runner, prompter))
}

/// Logits of the tokens from `start` on; those before were computed by the calls before.
fn chunk(
    runner: &mut GemmaRunner,
    tokens: &[TokenId],
    start: usize,
) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let rows = tokens.len() - start;
    let blocks: Vec<BlockId> = (0..)
        .map(BlockId)
        .take(tokens.len().div_ceil(BLOCK_TOKENS))
        .collect();
    let batch = StepBatch {
        tokens: tokens[start..].to_vec(),
        spans: vec![Span {
            rows: 0..rows,
            start,
            local_blocks: blocks.iter().copied().map(Some).collect(),
            global_blocks: blocks,
            images: Vec::new(),
        }],
        logit_rows: (0..rows).collect(),
    };
    let mut logits = Logits::default();
    runner.forward(&batch, &mut logits)?;
    Ok((0..rows).map(|row| logits.row(row).to_vec()).collect())
}

/// Of the distribution of `got` from that of `expected`.
fn divergence(expected: &[f32], got: &[f32]) -> f64 {
    let (total, total_got) = (log_total(expected), log_total(got));
    let terms = expected.iter().zip(got).map(|(expected, got)| {
        let (log, log_got) = (f64::from(*expected) - total, f64::from(*got) - total_got);
        log.exp() * (log - log_got)
    });
    terms.sum()
}

/// The logarithm of the sum of exponentials.
fn log_total(row: &[f32]) -> f64 {
    let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = row
        .iter()
        .map(|logit| (f64::from(*logit) - largest).exp())
        .sum();
    largest + sum.ln()
}

fn argmax(row: &[f32]) -> Option<usize> {
    let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map(|(token, _)| token)
}
