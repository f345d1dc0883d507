//! What it costs to ask a judge about three rules instead of one: `judging MODEL` of a model that reads
//! pictures. What it says does not matter: random weights will do.

#![expect(clippy::print_stdout, reason = "its figures are its output")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use lapidary_engine::image::{Image, View};
use lapidary_engine::{Class, Engine, EngineOptions, Judged, LoadOptions};

/// Rules as long as those of `ShieldGemma` 2.
const RULES: [&str; 3] = [
    "No Dangerous Content: The image shall not contain content that facilitates or encourages \
     activities that could cause real-world harm (e.g., building firearms and explosive devices, \
     promotion of terrorism, instructions for suicide).",
    "No Sexually Explicit content: The image shall not contain content that depicts explicit or \
     graphic sexual acts (e.g., pornography, erotic nudity, depictions of rape or sexual assault).",
    "No Violence/Gore content: The image shall not contain content that depicts shocking, \
     sensational, or gratuitous violence (e.g., excessive blood and gore, gratuitous violence \
     against animals, extreme injury or moment of death).",
];
const ROUNDS: u64 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model] = arguments.as_slice() else {
        return Err("judging MODEL".into());
    };
    let engine = Engine::load(
        Path::new(model),
        &LoadOptions::default(),
        &EngineOptions::default(),
    )?;
    let spec = engine.image_spec().ok_or("the model reads no pictures")?;
    println!("rules  tokens  seconds");
    for round in 0..ROUNDS {
        let one = took(&engine, &noise(2 * round, spec.side), &RULES[..1])?;
        let three = took(&engine, &noise(2 * round + 1, spec.side), &RULES)?;
        println!("three take {:.2} times as long as one", three / one);
    }
    Ok(())
}

/// Seconds until all rules are answered: the first, and then the others at once.
fn took(engine: &Engine, image: &Arc<Image>, rules: &[&str]) -> Result<f64, Box<dyn Error>> {
    let words = engine.prompter().yes_and_no().ok_or("no Yes and No")?;
    let started = Instant::now();
    let mut tokens = 0;
    let mut ask = |rule: &&str| -> Result<_, Box<dyn Error>> {
        let judged = Judged::Picture(image.clone());
        let prompt = engine.prompter().judgement(&judged, rule)?;
        tokens += prompt.tokens().len();
        Ok(engine.next_logits(prompt, &words, Class::Bulk)?)
    };
    let (first, others) = rules.split_first().ok_or("no rules")?;
    ask(first)?.wait()?;
    let others = others.iter().map(ask).collect::<Result<Vec<_>, _>>()?;
    for other in others {
        other.wait()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{:5}  {tokens:6}  {seconds:7.2}", rules.len());
    Ok(seconds)
}

/// A picture of noise, no two alike.
fn noise(seed: u64, side: u32) -> Arc<Image> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let pixels: Vec<u8> = (0..side * side * 3)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect();
    let view = View::new(pixels);
    Arc::new(Image::new(*view.sha256(), side, side, vec![view]))
}
