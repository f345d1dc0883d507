//! Models whose files were made by a stranger, loaded as a worker loads them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lapidary_engine::{
    Class, Engine, EngineOptions, GenerateError, GenerateInput, LoadOptions, Prompt, Sampling,
};

/// Tokens of an answer: enough to read what an earlier step wrote.
const TOKENS: usize = 3;

/// The folder of the smallest model in this repository.
pub fn tiny_model() -> PathBuf {
    crate::below_root("tests/fixtures/tiny-gemma")
}

/// A copy of the smallest model's folder, with these bytes in the place of one of its files.
pub fn model_with(name: &str, bytes: &[u8]) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let names = [
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
        ];
        for name in names {
            let whole = std::fs::read(tiny_model().join(name)).expect("a fixture");
            crate::file(name, &whole);
        }
        crate::scratch().to_owned()
    });
    crate::file(name, bytes);
    folder.clone()
}

/// Loads a model; if it can be, has it answer.
pub fn answers(model: &Path) {
    let load = LoadOptions {
        threads: Some(1),
        ..LoadOptions::default()
    };
    let options = EngineOptions {
        slots_max: 2,
        interactive_slots_reserved: 1,
        step_tokens_max: 16,
        kv_bytes_max: 8 << 20,
        waiting_max: 1,
        encoded_bytes_max: 1 << 20,
        ..EngineOptions::default()
    };
    let engine = match Engine::load(model, &load, &options) {
        Ok(engine) => engine,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a refusal says something");
            return;
        }
    };
    let input = GenerateInput {
        prompt: Prompt::Text("a gem is <end_of_turn> cut".to_owned()),
        sampling: Sampling::GREEDY,
        max_tokens: TOKENS,
        stop: Vec::new(),
        end_loops: true,
        grammar: None,
        logprobs: Some(2),
        class: Class::Bulk,
    };
    // A prompt that such a model does not take is refused.
    let Ok(generation) = engine.submit(input) else {
        return;
    };
    match generation.wait() {
        Ok(outcome) => assert!(outcome.tokens.len() <= TOKENS, "{outcome:?}"),
        Err(error) => assert_ne!(error, GenerateError::Stopped, "the engine broke down"),
    }
}
