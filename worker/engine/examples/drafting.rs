//! What drafting is worth where answers repeat their document, and costs where they do not:
//! `drafting MODEL.gguf TEXT.txt`.
//!
//! Each sequence reads a passage of the text. Half of the runs end the prompt with the beginning of
//! that passage again, so that the model goes on to copy it; the others draw tokens at a temperature
//! that lets it wander.

#![expect(clippy::print_stdout, reason = "its figures are its output")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use lapidary_engine::batch::TokenId;
use lapidary_engine::{Class, Engine, EngineOptions, GenerateInput, LoadOptions, Prompt, Sampling};

/// The tokens of each answer.
type Answers = Vec<Vec<TokenId>>;

const PASSAGE: usize = 256;
/// Tokens of the passage that the prompt repeats.
const BEGINNING: usize = 24;
const ANSWER: usize = 128;
const SLOTS: usize = 32;
const RUNS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, text] = arguments.as_slice() else {
        return Err("drafting MODEL.gguf TEXT.txt".into());
    };
    let text = std::fs::read_to_string(text)?;
    let engine = |draft_tokens_max| {
        let options = EngineOptions {
            slots_max: SLOTS,
            prefix_sharing: false,
            draft_tokens_max,
            ..EngineOptions::default()
        };
        Engine::load(Path::new(model), &LoadOptions::default(), &options)
    };
    let engines = [engine(0)?, engine(4)?, engine(8)?, engine(16)?];
    let tokens = engines[0].prepare(&Prompt::Text(text))?.tokens().to_vec();
    println!("answers    at once  drafts of  tokens/s  by none  held");
    for copying in [true, false] {
        for batch in [1, 4, 16] {
            let inputs = inputs(&tokens, batch, copying)?;
            compare(&engines, &inputs, copying)?;
        }
    }
    Ok(())
}

/// Runs the same inputs on all engines in turn, so that what else the machine does is the same to
/// all, and prints the median of each.
fn compare(
    engines: &[Engine; 4],
    inputs: &[GenerateInput],
    copying: bool,
) -> Result<(), Box<dyn Error>> {
    let mut rates = [const { Vec::new() }; 4];
    for _ in 0..RUNS {
        let mut answers = Vec::new();
        for (engine, rates) in engines.iter().zip(&mut rates) {
            let (rate, answer) = run(engine, inputs)?;
            rates.push(rate);
            answers.push(answer);
        }
        if answers.iter().any(|answer| *answer != answers[0]) {
            return Err("the answers differ".into());
        }
    }
    let medians = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[RUNS / 2]
    });
    for ((engine, drafts), rate) in engines.iter().zip([0, 4, 8, 16]).zip(medians) {
        let stats = engine.stats();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
        let held = stats.accepted_tokens as f64 / stats.drafted_tokens.max(1) as f64;
        let kind = if copying { "copied" } else { "wandering" };
        println!(
            "{kind:9}  {:7}  {drafts:9}  {rate:8.1}  {:6.2}x  {:3.0} %",
            inputs.len(),
            rate / medians[0],
            100.0 * held
        );
    }
    Ok(())
}

fn inputs(
    tokens: &[TokenId],
    batch: usize,
    copying: bool,
) -> Result<Vec<GenerateInput>, Box<dyn Error>> {
    let passages = tokens.chunks_exact(PASSAGE).take(batch);
    let inputs: Vec<GenerateInput> = passages
        .map(|passage| GenerateInput {
            prompt: Prompt::Tokens(if copying {
                [passage, &passage[..BEGINNING]].concat()
            } else {
                passage.to_vec()
            }),
            sampling: if copying {
                Sampling::GREEDY
            } else {
                Sampling {
                    temperature: 1.0,
                    ..Sampling::GREEDY
                }
            },
            max_tokens: ANSWER,
            stop: Vec::new(),
            end_loops: false,
            grammar: None,
            logprobs: None,
            class: Class::Bulk,
        })
        .collect();
    if inputs.len() < batch {
        return Err(format!("the text has fewer than {} tokens", batch * PASSAGE).into());
    }
    Ok(inputs)
}

/// Generated tokens a second of decoding, and the answers.
fn run(engine: &Engine, inputs: &[GenerateInput]) -> Result<(f64, Answers), Box<dyn Error>> {
    let pending: Result<Vec<_>, _> = inputs
        .iter()
        .map(|input| engine.submit_unending(input.clone()))
        .collect();
    let started = Instant::now();
    let mut answers = Vec::new();
    let mut prefill = 0.0_f64;
    for one in pending? {
        let outcome = one.wait()?;
        prefill = prefill.max(outcome.timings.first_token.as_secs_f64());
        answers.push(outcome.tokens);
    }
    let seconds = started.elapsed().as_secs_f64() - prefill;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let tokens = (inputs.len() * ANSWER) as f64;
    Ok((tokens / seconds, answers))
}
