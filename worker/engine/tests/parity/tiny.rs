//! Small models against stored logits of the reference implementation, and every way of cutting
//! and mixing their sequences against each other.

use crate::steps::{self, Part, bits, in_chunks, step};
use lapidary_engine::batch::TokenId;
use lapidary_engine::ops::simd::Tier;
use lapidary_engine::runner::{self, GemmaRunner, LoadError, LoadOptions, Quantization};
use safetensors::SafeTensors;
use std::path::PathBuf;

const TOLERANCE: f32 = 2e-5;

const ALL: [Quantization; 4] = [
    Quantization::F32,
    Quantization::Bf16,
    Quantization::Q8,
    Quantization::Q4,
];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

fn load_tier(name: &str, quantization: Option<Quantization>, tier: Option<Tier>) -> GemmaRunner {
    let options = LoadOptions {
        quantization,
        threads: Some(2),
        tier,
        ..LoadOptions::default()
    };
    let loaded = runner::load(&fixture(name), &options).unwrap();
    assert_eq!(loaded.unexpected, Vec::<String>::new());
    let mut runner = loaded.runner;
    steps::allocate(&mut runner);
    runner
}

fn load(name: &str, quantization: Option<Quantization>) -> GemmaRunner {
    load_tier(name, quantization, None)
}

/// A fixture's tensor of 4-byte values.
fn stored(file: &str, tensor: &str) -> Vec<[u8; 4]> {
    let bytes = std::fs::read(fixture(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .tensor(tensor)
        .unwrap()
        .data()
        .as_chunks::<4>()
        .0
        .to_vec()
}

fn tokens(folder: &str) -> Vec<TokenId> {
    let values = stored(&format!("{folder}/expected.safetensors"), "tokens");
    values.into_iter().map(TokenId::from_le_bytes).collect()
}

fn expected(file: &str) -> Vec<f32> {
    stored(file, "logits")
        .into_iter()
        .map(f32::from_le_bytes)
        .collect()
}

/// Largest distance from the stored logits.
fn distance(rows: &[Vec<f32>], expected: &[f32]) -> f32 {
    let got: Vec<_> = rows.iter().flatten().collect();
    assert_eq!(got.len(), expected.len());
    got.iter()
        .zip(expected)
        .map(|(got, expected)| (*got - expected).abs())
        .fold(0.0, f32::max)
}

#[test]
fn logits_equal_the_reference() {
    for (model, folder, file) in [
        ("tiny-new-style", "tiny-new-style", "expected.safetensors"),
        ("tiny-old-style", "tiny-old-style", "expected.safetensors"),
        ("tiny-gguf/f32.gguf", "tiny-gguf", "expected.safetensors"),
        ("tiny-gemma-2", "tiny-gemma-2", "expected.safetensors"),
        (
            "tiny-gemma-2-gguf/f32.gguf",
            "tiny-gemma-2-gguf",
            "expected.safetensors",
        ),
        (
            "tiny-gguf/q8_0.gguf",
            "tiny-gguf",
            "expected-q8_0.safetensors",
        ),
    ] {
        for tier in Tier::available() {
            let mut runner = load_tier(model, Some(Quantization::F32), Some(tier));
            let rows = in_chunks(&mut runner, 0, &tokens(folder), &[usize::MAX]);
            let distance = distance(&rows, &expected(&format!("{folder}/{file}")));
            println!(
                "{model} on {}: at most {distance:.1e} from the reference",
                tier.name()
            );
            assert!(
                distance <= TOLERANCE,
                "{model} on {}: {distance}",
                tier.name()
            );
        }
    }
}

#[test]
fn stored_quants_stay_close_to_the_reference() {
    let mut runner = load("tiny-gguf/q8_0.gguf", None);
    let rows = in_chunks(&mut runner, 0, &tokens("tiny-gguf"), &[usize::MAX]);
    let expected = expected("tiny-gguf/expected-q8_0.safetensors");
    let vocab = rows[0].len();
    for (row, expected) in rows.iter().zip(expected.chunks_exact(vocab)) {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let cosine = dot(row, expected) / (dot(row, row) * dot(expected, expected)).sqrt();
        assert!(cosine > 0.999, "cosine {cosine}");
    }
}

#[test]
fn cutting_a_sequence_changes_no_bit() {
    for (model, folder) in [
        ("tiny-new-style", "tiny-new-style"),
        ("tiny-old-style", "tiny-old-style"),
        ("tiny-gguf/q8_0.gguf", "tiny-gguf"),
        ("tiny-gemma-2", "tiny-gemma-2"),
    ] {
        let tokens = tokens(folder);
        for quantization in ALL {
            let mut runner = load(model, Some(quantization));
            let whole = bits(&in_chunks(&mut runner, 0, &tokens, &[usize::MAX]));
            for sizes in [&[1][..], &[32], &[7, 1, 45], &[100, 3]] {
                let cut = bits(&in_chunks(&mut runner, 3, &tokens, sizes));
                assert!(
                    whole == cut,
                    "{model} as {quantization:?} in chunks of {sizes:?}"
                );
            }
        }
    }
}

#[test]
fn company_in_a_step_changes_no_bit() {
    for model in ["tiny-new-style", "tiny-old-style"] {
        let tokens = tokens(model);
        for quantization in ALL {
            let mut runner = load(model, Some(quantization));
            let sequences: Vec<&[TokenId]> = [
                &tokens[..150],
                &tokens[20..61],
                &tokens[100..],
                &tokens[5..38],
            ]
            .into();
            let alone: Vec<_> = sequences
                .iter()
                .map(|tokens| bits(&in_chunks(&mut runner, 7, tokens, &[usize::MAX])))
                .collect();
            // One decodes, one continues its prompt, two begin.
            let starts = [149, 13, 0, 0];
            for (sequence, (tokens, start)) in sequences.iter().zip(starts).enumerate() {
                if start > 0 {
                    step(
                        &mut runner,
                        &[Part {
                            sequence,
                            tokens: &tokens[..start],
                            start: 0,
                            images: &[],
                        }],
                    );
                }
            }
            let parts: Vec<_> = sequences
                .iter()
                .zip(starts)
                .enumerate()
                .map(|(sequence, (tokens, start))| Part {
                    sequence,
                    tokens,
                    start,
                    images: &[],
                })
                .collect();
            let together = bits(&step(&mut runner, &parts));
            let mut rows = together.iter();
            for (sequence, (alone, start)) in alone.iter().zip(starts).enumerate() {
                for (position, expected) in alone.iter().enumerate().skip(start) {
                    let got = rows.next().unwrap();
                    assert!(
                        got == expected,
                        "{model} {quantization:?} {sequence} at {position}"
                    );
                }
            }
            assert!(rows.next().is_none());
        }
    }
}

#[test]
fn all_tiers_give_the_same_bits() {
    for model in ["tiny-new-style", "tiny-old-style", "tiny-gemma-2"] {
        for quantization in ALL {
            let run = |tier| {
                let mut runner = load_tier(model, Some(quantization), Some(tier));
                bits(&in_chunks(&mut runner, 1, &tokens(model)[..90], &[50]))
            };
            let best = run(Tier::detect());
            for tier in Tier::available() {
                assert!(
                    best == run(tier),
                    "{model} as {quantization:?} on {}",
                    tier.name()
                );
            }
        }
    }
}

#[test]
fn reused_blocks_leave_no_trace() {
    let tokens = tokens("tiny-old-style");
    let mut runner = load("tiny-old-style", None);
    let fresh = bits(&in_chunks(&mut runner, 2, &tokens[..70], &[33]));
    in_chunks(&mut runner, 2, &tokens[100..], &[64]);
    assert!(fresh == bits(&in_chunks(&mut runner, 2, &tokens[..70], &[33])));
}

#[test]
fn refusals_name_their_cause() {
    let message = |path: PathBuf| {
        let error = runner::load(&path, &LoadOptions::default()).unwrap_err();
        let cause = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        (error, cause)
    };
    assert!(matches!(
        message(fixture("nowhere")).0,
        LoadError::NotFound { .. }
    ));
    assert!(matches!(
        message(fixture("")).0,
        LoadError::NotAModel { .. }
    ));

    let folder = tempfile::tempdir().unwrap();
    let config = |json: &str| std::fs::write(folder.path().join("config.json"), json).unwrap();
    config(r#"{"model_type": "llama"}"#);
    let (error, cause) = message(folder.path().to_owned());
    assert!(matches!(error, LoadError::Config { .. }));
    assert_eq!(
        cause,
        "architecture `llama` is not supported, supported are Gemma 2 and Gemma 3"
    );

    let source = fixture("tiny-new-style");
    let json = std::fs::read_to_string(source.join("config.json")).unwrap();
    std::fs::copy(
        source.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    config(&json.replace("\"intermediate_size\": 40", "\"intermediate_size\": 48"));
    let (_, cause) = message(folder.path().to_owned());
    assert!(
        cause.ends_with("has shape [40, 24], the configuration says [48, 24]"),
        "{cause}"
    );

    let layers = "\"num_hidden_layers\": ";
    let types = "\"full_attention\"\n  ]";
    config(
        &json
            .replace(&format!("{layers}4"), &format!("{layers}5"))
            .replace(types, &types.replace('\n', ",\n\"sliding_attention\"")),
    );
    let (_, cause) = message(folder.path().to_owned());
    assert_eq!(
        cause,
        "13 tensors are missing, first `layers.4.input_layernorm.weight`"
    );
}
