//! Gemma 3 270M against the reference: the same greedy text in f32, and what quantised weights
//! and activations cost.

use crate::steps::{self, Part, SEQUENCES, in_chunks, step};
use lapidary_engine::batch::TokenId;
use lapidary_engine::runner::{self, GemmaRunner, LoadOptions, Quantization};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::path::Path;

/// Within the workspace.
const MODEL: &str = ".cache/models/gemma-3-270m-q4_k_m.gguf";
const MODEL_SHA256: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";
const TOP_1_MIN: f64 = 0.95;
const KL_MAX: f64 = 0.02;
const POSITIONS_MIN: usize = 2000;
const PROMPTS_MIN: usize = 20;

#[derive(Deserialize)]
struct Golden {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    tokens: Vec<TokenId>,
    greedy: Vec<TokenId>,
}

fn load(quantization: Option<Quantization>) -> GemmaRunner {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(MODEL);
    assert!(
        path.exists(),
        "`{}` is missing: `tests/run` fetches it",
        path.display()
    );
    let options = LoadOptions {
        quantization,
        ..LoadOptions::default()
    };
    let loaded = runner::load(&path, &options).unwrap();
    assert_eq!(loaded.weights_sha256, MODEL_SHA256);
    assert_eq!(loaded.unexpected, Vec::<String>::new());
    assert_eq!(loaded.eos, [1]);
    let mut runner = loaded.runner;
    steps::allocate(&mut runner);
    runner
}

fn argmax(row: &[f32]) -> TokenId {
    let best = row
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .unwrap();
    TokenId::try_from(best.0).unwrap()
}

/// Greedy continuations of several prompts, decoded side by side.
fn continue_all(runner: &mut GemmaRunner, prompts: &[Prompt]) -> Vec<Vec<TokenId>> {
    let mut texts: Vec<_> = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
    for (sequence, tokens) in texts.iter_mut().enumerate() {
        let rows = in_chunks(runner, sequence, tokens, &[64]);
        tokens.push(argmax(rows.last().unwrap()));
    }
    let more = prompts
        .iter()
        .map(|prompt| prompt.greedy.len())
        .max()
        .unwrap();
    for _ in 1..more {
        let parts: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(sequence, tokens)| Part {
                sequence,
                tokens,
                start: tokens.len() - 1,
                images: &[],
            })
            .collect();
        let rows = step(runner, &parts);
        for (tokens, row) in texts.iter_mut().zip(rows) {
            tokens.push(argmax(&row));
        }
    }
    let prompts = prompts.iter().map(|prompt| prompt.tokens.len());
    texts
        .into_iter()
        .zip(prompts)
        .map(|(tokens, from)| tokens[from..].to_vec())
        .collect()
}

#[test]
fn greedy_text_equals_the_reference() {
    let golden: Golden =
        serde_json::from_str(include_str!("../fixtures/golden-270m.json")).unwrap();
    assert!(
        golden.prompts.len() >= PROMPTS_MIN,
        "{} prompts",
        golden.prompts.len()
    );
    let mut runner = load(Some(Quantization::F32));
    for prompts in golden.prompts.chunks(SEQUENCES) {
        let continuations = continue_all(&mut runner, prompts);
        for (prompt, got) in prompts.iter().zip(continuations) {
            assert_eq!(got, prompt.greedy, "after {:?}", prompt.tokens);
        }
    }
    println!(
        "{} prompts continued as the reference does",
        golden.prompts.len()
    );
}

/// The reference's view of one text: its most likely tokens at each position.
struct Reference {
    name: String,
    tokens: Vec<TokenId>,
    /// `[positions][k]` of `(token, log probability)`, the best first.
    top: Vec<Vec<(TokenId, f64)>>,
}

fn references() -> Vec<Reference> {
    let bytes = include_bytes!("../fixtures/golden-270m.safetensors");
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let words = |name: &str| {
        tensors
            .tensor(name)
            .unwrap()
            .data()
            .as_chunks::<4>()
            .0
            .to_vec()
    };
    let mut names: Vec<_> = tensors
        .names()
        .iter()
        .filter_map(|name| name.strip_suffix(".tokens"))
        .collect();
    names.sort_unstable();
    names
        .into_iter()
        .map(|name| {
            let integers = |part: &str| {
                let words = words(&format!("{name}.{part}"));
                words
                    .into_iter()
                    .map(TokenId::from_le_bytes)
                    .collect::<Vec<_>>()
            };
            let tokens = integers("tokens");
            let ids = integers("top_ids");
            let logprobs = words(&format!("{name}.top_logprobs"));
            let pairs: Vec<_> = ids
                .into_iter()
                .zip(
                    logprobs
                        .into_iter()
                        .map(|word| f64::from(f32::from_le_bytes(word))),
                )
                .collect();
            let width = pairs.len() / tokens.len();
            let top = pairs.chunks_exact(width).map(<[_]>::to_vec).collect();
            Reference {
                name: name.to_owned(),
                tokens,
                top,
            }
        })
        .collect()
}

/// Divergence of `row` from the reference, all tokens beyond its best taken as one.
fn divergence(row: &[f32], top: &[(TokenId, f64)]) -> f64 {
    let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = row
        .iter()
        .map(|logit| (f64::from(*logit) - largest).exp())
        .sum();
    let (mut sum, mut rest, mut rest_here) = (0.0, 1.0, 1.0);
    for (token, logprob) in top {
        let here = f64::from(row[*token as usize]) - largest - total.ln();
        sum += logprob.exp() * (logprob - here);
        rest -= logprob.exp();
        rest_here -= here.exp();
    }
    if rest > 0.0 && rest_here > 0.0 {
        sum + rest * (rest / rest_here).ln()
    } else {
        sum
    }
}

/// Share of positions with the reference's most likely token, and the mean divergence.
fn agreement(quantization: Option<Quantization>) -> (f64, f64) {
    let mut runner = load(quantization);
    let (mut agreed, mut sum, mut positions) = (0.0, 0.0, 0.0);
    let references = references();
    let count: usize = references
        .iter()
        .map(|reference| reference.tokens.len())
        .sum();
    assert!(count >= POSITIONS_MIN, "{count} positions");
    for reference in references {
        let rows = in_chunks(&mut runner, 0, &reference.tokens, &[128]);
        let (mut agreed_here, mut sum_here) = (0.0, 0.0);
        for (row, top) in rows.iter().zip(&reference.top) {
            agreed_here += f64::from(u8::from(argmax(row) == top[0].0));
            sum_here += divergence(row, top);
        }
        let here = f64::from(u32::try_from(rows.len()).unwrap());
        println!(
            "{quantization:?} {}: top-1 {:.2} %, KL {:.5} over {here} positions",
            reference.name,
            100.0 * agreed_here / here,
            sum_here / here,
        );
        agreed += agreed_here;
        sum += sum_here;
        positions += here;
    }
    let (top_1, divergence) = (agreed / positions, sum / positions);
    println!(
        "{quantization:?} all: top-1 {:.2} %, KL {divergence:.5}",
        100.0 * top_1
    );
    (top_1, divergence)
}

#[test]
fn stored_quants_agree_with_the_reference() {
    let (top_1, divergence) = agreement(None);
    assert!(top_1 >= TOP_1_MIN, "top-1 agreement {top_1}");
    assert!(divergence <= KL_MAX, "mean divergence {divergence}");
}

#[test]
fn floats_agree_with_the_reference() {
    let (top_1, divergence) = agreement(Some(Quantization::F32));
    assert!(top_1 >= 0.999, "top-1 agreement {top_1}");
    assert!(divergence <= 1e-5, "mean divergence {divergence}");
}
