//! The engine on real weights: the same request gives the same text, whatever else is going on.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::sync::LazyLock;

use common::{input, model_file, seeded};
use lapidary_engine::{
    Engine, EngineOptions, FinishReason, Form, GenerateInput, Health, LoadOptions, Outcome,
};
use serde_json::{Value, json};

fn load(options: &EngineOptions) -> Engine {
    let path = model_file("gemma-3-270m-q4_k_m.gguf");
    Engine::load(&path, &LoadOptions::default(), options).unwrap()
}

fn options() -> EngineOptions {
    EngineOptions {
        kv_bytes_max: 256 << 20,
        ..EngineOptions::default()
    }
}

const PASSAGE: &str = "It was the best of times, it was the worst of times, it was the age of \
    wisdom, it was the age of foolishness, it was the epoch of belief, it was the epoch of \
    incredulity, it was the season of Light, it was the season of Darkness, ";

/// Prompts of 3 to about 700 tokens, so that the longest leave the window; greedy and seeded,
/// some with a common beginning.
fn requests() -> Vec<GenerateInput> {
    let openings = [
        "The capital of",
        "Once upon a time",
        "fn main() {",
        "Les lapins",
        "1, 2, 3,",
    ];
    let text = |index: usize| match index % 4 {
        0 => openings[index % 5].to_owned(),
        1 => format!("{}{}", PASSAGE.repeat(1 + index / 10), openings[index % 5]),
        2 => format!("{PASSAGE}In short, number {index}"),
        _ => PASSAGE.chars().skip(index * 3).collect(),
    };
    let request = |index: usize| {
        let base = input(&text(index), 6 + index % 20);
        if index.is_multiple_of(2) {
            base
        } else {
            seeded(base, index as u64)
        }
    };
    let mut requests: Vec<_> = (0..31).map(request).collect();
    requests.push(input(&PASSAGE.repeat(11), 20));
    requests
}

fn essence(outcome: Outcome) -> (String, Vec<u32>, FinishReason) {
    (outcome.text, outcome.tokens, outcome.finish_reason)
}

fn together(options: &EngineOptions) -> (Engine, Vec<(String, Vec<u32>, FinishReason)>) {
    let engine = load(options);
    let pending: Vec<_> = requests()
        .into_iter()
        .map(|request| engine.submit(request).unwrap())
        .collect();
    let outcomes = pending
        .into_iter()
        .map(|one| essence(one.wait().unwrap()))
        .collect();
    assert_eq!(engine.health(), Health::Running);
    (engine, outcomes)
}

static ALONE: LazyLock<Vec<(String, Vec<u32>, FinishReason)>> = LazyLock::new(|| {
    // Whole prompts, one request after the other, nothing shared.
    let alone = EngineOptions {
        prefix_sharing: false,
        step_tokens_max: 1024,
        ..options()
    };
    let engine = load(&alone);
    let run = |request| essence(engine.submit(request).unwrap().wait().unwrap());
    requests().into_iter().map(run).collect()
});

#[test]
fn alone_in_a_batch_in_chunks_with_drafts_and_after_preemption_are_the_same() {
    let expected = &*ALONE;
    let (engine, outcomes) = together(&options());
    assert_eq!(&outcomes, expected, "in a batch of 32");
    assert!(engine.stats().cached_tokens > 0, "beginnings were shared");

    let chunked = EngineOptions {
        step_tokens_max: 40,
        ..options()
    };
    assert_eq!(&together(&chunked).1, expected, "in chunks");

    let drafting = EngineOptions {
        slots_max: 64,
        draft_tokens_max: 8,
        ..options()
    };
    let (drafting, outcomes) = together(&drafting);
    assert_eq!(&outcomes, expected, "with drafts");
    let stats = drafting.stats();
    assert!(
        0 < stats.accepted_tokens && stats.accepted_tokens < stats.drafted_tokens,
        "drafts did not both hold and fail: {stats:?}"
    );
    drop(drafting);

    let block_bytes = engine.shape().global_block_bytes + engine.shape().local_block_bytes;
    let scarce = EngineOptions {
        kv_bytes_max: 22 * block_bytes,
        ..options()
    };
    let (engine, outcomes) = together(&scarce);
    assert!(
        engine.stats().preemptions > 0,
        "blocks did not run out: {:?}",
        engine.stats()
    );
    assert_eq!(&outcomes, expected, "after preemption");
}

#[test]
fn the_model_continues_text_and_is_described() {
    let engine = load(&options());
    let outcome = engine
        .submit(input("1, 2, 3, 4, 5,", 8))
        .unwrap()
        .wait()
        .unwrap();
    assert!(outcome.text.starts_with(" 6, 7"), "{:?}", outcome.text);
    let model = engine.model().unwrap();
    assert_eq!(
        model.weights_sha256,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
    );
    assert_eq!(model.quantization, "q4_k_m");
}

#[test]
fn answers_have_the_form_that_is_asked_for() {
    let engine = load(&options());
    let form = Form::JsonSchema(json!({
        "type": "object",
        "properties": {
            "title": {"type": "string", "maxLength": 40},
            "language": {"enum": ["English", "French"]},
            "words": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
        },
        "required": ["title", "language", "words"],
        "additionalProperties": false,
    }));
    let prompt = format!("{PASSAGE}\n\nThis text as a JSON object:\n");
    let request = GenerateInput {
        grammar: Some(engine.grammar(&form).unwrap()),
        ..input(&prompt, 200)
    };
    let outcome = engine.submit(request).unwrap().wait().unwrap();
    let value: Value = serde_json::from_str(&outcome.text).unwrap();
    assert_eq!(outcome.finish_reason, FinishReason::Stop);
    assert_eq!(value["language"], "English", "{value}");
    assert!(!value["title"].as_str().unwrap().is_empty(), "{value}");
    assert!(
        (1..=3).contains(&value["words"].as_array().unwrap().len()),
        "{value}"
    );
}

#[test]
fn scores_agree_with_generation() {
    let engine = load(&options());
    let request = GenerateInput {
        logprobs: Some(5),
        ..input(PASSAGE, 20)
    };
    let prompt = engine.prepare(&request.prompt).unwrap();
    let outcome = engine.submit(request).unwrap().wait().unwrap();
    let tokens = [prompt.tokens(), &outcome.tokens].concat();
    let scores = engine.score(&tokens, 5).unwrap().wait().unwrap();
    assert_eq!(
        scores[prompt.tokens().len() - 1..],
        outcome.logprobs.unwrap()
    );
    assert!(
        scores
            .iter()
            .all(|score| score.top.len() == 5 && score.logprob <= 0.0)
    );
}
