//! What the engine's tests share.

#![expect(dead_code, reason = "each test program uses a part of it")]

use std::path::PathBuf;

use lapidary_engine::prompt::Tokenizer;
use lapidary_engine::{Class, GenerateInput, Prompt, Prompter, Sampling};

/// A file of the model cache, which `tests/run` fills.
pub(crate) fn model_file(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/models");
    let path = PathBuf::from(root).join(name);
    assert!(
        path.exists(),
        "`{}` is missing: `tests/run` fetches it",
        path.display()
    );
    path
}

/// Entries of [`tiny_prompter`]'s vocabulary.
pub(crate) const TINY_VOCAB: usize = 4 + 256 + 26;

/// A tokenizer of control tokens, bytes and the letters a to z.
pub(crate) fn tiny_prompter() -> Prompter {
    prompter_with(&[])
}

/// The same with the markers of pictures, for a model that gives `tokens` to a view of `side` by
/// `side` pixels.
pub(crate) fn image_prompter(tokens: usize, side: u32) -> Prompter {
    let prompter = prompter_with(&["<start_of_image>", "<end_of_image>"]);
    prompter.with_images(tokens, side).unwrap()
}

/// [`tiny_prompter`], with more control tokens behind its others.
fn prompter_with(markers: &[&str]) -> Prompter {
    let control = ["<pad>", "<eos>", "<bos>", "<unk>"];
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let letters = ('a'..='z').map(String::from);
    let tokens = control
        .iter()
        .map(|text| (*text).to_owned())
        .chain(bytes)
        .chain(letters)
        .chain(markers.iter().map(|text| (*text).to_owned()));
    let vocab: serde_json::Map<_, _> = tokens
        .enumerate()
        .map(|(id, token)| (token, id.into()))
        .collect();
    let added: Vec<_> = control
        .iter()
        .chain(markers)
        .map(|content| {
            let id = &vocab[*content];
            serde_json::json!({
                "id": id, "content": content, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        })
        .collect();
    let json = serde_json::json!({
        "version": "1.0",
        "added_tokens": added,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": "<bos>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
            ],
            "pair": [],
            "special_tokens": { "<bos>": { "id": "<bos>", "ids": [2], "tokens": ["<bos>"] } },
        },
        "model": {
            "type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
            "vocab": vocab, "merges": [],
        },
    });
    let tokenizer = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
    Prompter::new(tokenizer, None, &[])
}

/// A greedy bulk request.
pub(crate) fn input(text: &str, max_tokens: usize) -> GenerateInput {
    GenerateInput {
        prompt: Prompt::Text(text.to_owned()),
        sampling: Sampling::GREEDY,
        max_tokens,
        stop: Vec::new(),
        end_loops: false,
        grammar: None,
        logprobs: None,
        class: Class::Bulk,
    }
}

/// The request with drawn tokens in place of the likeliest.
pub(crate) fn seeded(mut input: GenerateInput, seed: u64) -> GenerateInput {
    input.sampling = Sampling {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.95,
        repetition_penalty: Some(1.1),
        seed,
    };
    input
}
