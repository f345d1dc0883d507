//! Forms of answers: a JSON Schema that a request brings, validated, compiled, and kept by an answer.
#![no_main]

use std::sync::OnceLock;

use lapidary_engine::{
    Class, Engine, EngineOptions, Form, GenerateError, GenerateInput, LoadOptions, Prompt, Sampling,
};
use lapidary_fuzz::tiny_model;
use lapidary_schemas::request::ResponseFormat;
use lapidary_schemas::validate::{Feature, Policy, validate};
use lapidary_schemas::{Message, Request};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Tokens of an answer.
const TOKENS: usize = 4;

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let load = LoadOptions {
            threads: Some(1),
            ..LoadOptions::default()
        };
        let options = EngineOptions {
            kv_bytes_max: 32 << 20,
            ..EngineOptions::default()
        };
        Engine::load(&tiny_model(), &load, &options).expect("a model's folder")
    })
}

/// Whether a submitter and a worker let the schema pass.
fn is_valid(schema: &Value) -> bool {
    let policy = Policy {
        features: vec![Feature::JsonSchema],
        ..Policy::text("gemma")
    };
    let format = ResponseFormat::JsonSchema {
        json_schema: json!({"name": "form", "schema": schema}),
    };
    let request: Result<Request, _> = serde_json::from_value(json!({"messages": []}));
    let request = Request {
        messages: vec![Message::user("x")],
        response_format: Some(format),
        ..request.expect("a request")
    };
    validate(&request, &policy).is_ok()
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(schema) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    if !is_valid(&schema) {
        return;
    }
    let Ok(grammar) = engine().grammar(&Form::JsonSchema(schema)) else {
        return;
    };
    let input = GenerateInput {
        prompt: Prompt::Text("a".to_owned()),
        sampling: Sampling::GREEDY,
        max_tokens: TOKENS,
        stop: Vec::new(),
        end_loops: false,
        grammar: Some(grammar),
        logprobs: None,
        class: Class::Bulk,
    };
    match engine().submit(input).expect("a good request").wait() {
        Ok(outcome) => assert!(outcome.tokens.len() <= TOKENS),
        Err(GenerateError::Form { message }) => assert!(!message.is_empty()),
        Err(error) => panic!("{error}"),
    }
});
