//! Pictures against the reference: the vision tower, soft tokens and logits of a small model, from
//! every kind of file it can come from, and every way of cutting and mixing its sequences.

use crate::steps::{self, Part, bits, step, with_images_in_chunks};
use lapidary_engine::batch::{Forward, TokenId};
use lapidary_engine::image::View;
use lapidary_engine::ops::simd::Tier;
use lapidary_engine::runner::{self, GemmaRunner, LoadError, LoadOptions, Quantization};
use lapidary_engine::sequence::AtomicRange;
use safetensors::tensor::TensorView;
use safetensors::{SafeTensors, serialize_to_file};
use std::path::{Path, PathBuf};

const TOLERANCE: f32 = 3e-5;
const VIEWS: usize = 4;
/// Soft tokens of a view.
const TOKENS: usize = 9;
const CASES: [&str; 6] = ["first", "middle", "two", "beside", "none", "crops"];
const ALL: [Quantization; 4] = [
    Quantization::F32,
    Quantization::Bf16,
    Quantization::Q8,
    Quantization::Q4,
];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/vision"
    ))
    .join(name)
}

/// The stored values.
struct Reference(Vec<u8>);

/// A prompt with pictures in it.
struct Case {
    tokens: Vec<TokenId>,
    images: Vec<AtomicRange>,
}

impl Reference {
    fn read() -> Self {
        Self(std::fs::read(fixture("expected.safetensors")).unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors.tensor(name).unwrap().data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name);
        let values = bytes.as_chunks::<4>().0.iter();
        values.map(|value| f32::from_le_bytes(*value)).collect()
    }

    fn counts(&self, name: &str) -> Vec<u32> {
        let bytes = self.bytes(name);
        let values = bytes.as_chunks::<4>().0.iter();
        values.map(|value| u32::from_le_bytes(*value)).collect()
    }

    fn views(&self) -> Vec<View> {
        (0..VIEWS)
            .map(|view| View::new(self.bytes(&format!("view.{view}"))))
            .collect()
    }

    fn case(&self, name: &str) -> Case {
        let views = self.views();
        let places = self.counts(&format!("{name}.views"));
        let image = |[view, start]: &[u32; 2]| AtomicRange {
            positions: *start as usize..*start as usize + TOKENS,
            contents: *views[*view as usize].sha256(),
        };
        Case {
            tokens: self.counts(&format!("{name}.tokens")),
            images: places.as_chunks::<2>().0.iter().map(image).collect(),
        }
    }
}

/// A model with all views encoded.
fn load(path: &Path, options: LoadOptions) -> GemmaRunner {
    let options = LoadOptions {
        threads: Some(2),
        ..options
    };
    let loaded = runner::load(path, &options).unwrap();
    assert_eq!(loaded.unexpected, Vec::<String>::new());
    let mut runner = loaded.runner;
    let shape = runner.shape().image.unwrap();
    assert_eq!((shape.spec.side, shape.tokens), (36, TOKENS));
    steps::allocate(&mut runner);
    let views = Reference::read().views();
    runner.encode(&views.iter().collect::<Vec<_>>()).unwrap();
    runner
}

fn exact(path: &Path) -> GemmaRunner {
    let quantization = Some(Quantization::F32);
    load(
        path,
        LoadOptions {
            quantization,
            ..LoadOptions::default()
        },
    )
}

fn distance<'a>(got: impl IntoIterator<Item = &'a f32>, expected: &[f32]) -> f32 {
    let got: Vec<_> = got.into_iter().collect();
    assert_eq!(got.len(), expected.len());
    let distances = got.iter().zip(expected).map(|(a, b)| (*a - b).abs());
    distances.fold(0.0, f32::max)
}

/// Asserts that the tower, the soft tokens and the logits of all cases are the reference's.
fn check(runner: &mut GemmaRunner, what: &str) {
    let reference = Reference::read();
    let views = reference.views();
    let tower = runner.vision().unwrap();
    let all: Vec<&View> = views.iter().collect();
    let hidden = tower.hidden_states(&all).unwrap();
    let hidden: Vec<f32> = hidden.flatten_all().unwrap().to_vec1().unwrap();
    let soft = tower.encode(&all).unwrap();
    let expected: Vec<_> = (0..VIEWS)
        .flat_map(|view| reference.floats(&format!("hidden.{view}")))
        .collect();
    let mut distances = vec![distance(&hidden, &expected)];
    for (view, soft) in soft.iter().enumerate() {
        let expected = reference.floats(&format!("soft.{view}"));
        distances.push(distance(soft, &expected));
    }
    for name in CASES {
        let Case { tokens, images } = reference.case(name);
        let whole = (tokens.as_slice(), images.as_slice());
        let rows = with_images_in_chunks(runner, 1, whole, &[usize::MAX]);
        let expected = reference.floats(&format!("{name}.logits"));
        distances.push(distance(rows.iter().flatten(), &expected));
    }
    let farthest = distances.iter().copied().fold(0.0, f32::max);
    println!("{what}: at most {farthest:.1e} from the reference");
    assert!(
        distances.iter().all(|distance| *distance <= TOLERANCE),
        "{what}: {distances:?}"
    );
}

#[test]
fn every_tier_computes_what_the_reference_does() {
    for tier in Tier::available() {
        let options = LoadOptions {
            quantization: Some(Quantization::F32),
            tier: Some(tier),
            ..LoadOptions::default()
        };
        check(&mut load(&fixture(""), options), tier.name());
    }
}

/// The weights under the names of another layout.
fn renamed(rename: impl Fn(&str) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(fixture("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let renamed = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(tensor.dtype(), tensor.shape().to_vec(), tensor.data());
        (rename(name), view.unwrap())
    });
    serialize_to_file(renamed, None, &folder.path().join("model.safetensors")).unwrap();
    std::fs::copy(fixture("config.json"), folder.path().join("config.json")).unwrap();
    folder
}

#[test]
fn every_layout_of_names_is_read() {
    // As transformers 5 saves them, and as they are in the repository.
    let tower = |name: &str| name.strip_prefix("vision_tower.").map(str::to_owned);
    let published = renamed(|name| match tower(name) {
        Some(rest) => format!("vision_tower.vision_model.{rest}"),
        None => name.to_owned(),
    });
    check(&mut exact(published.path()), "published checkpoints");
    let between = renamed(
        |name| match (tower(name), name.strip_prefix("language_model.model.")) {
            (Some(rest), _) => format!("model.vision_tower.vision_model.{rest}"),
            (None, Some(rest)) => format!("model.language_model.{rest}"),
            (None, None) => format!("model.{name}"),
        },
    );
    check(&mut exact(between.path()), "transformers 4.52 to 4.57");
}

#[test]
fn gguf_files_find_their_mmproj_and_undo_swapped_names() {
    let text = fixture("gguf/text.gguf");
    check(&mut exact(&text), "mmproj beside the model");
    let options = LoadOptions {
        quantization: Some(Quantization::F32),
        mmproj: Some(fixture("swapped.gguf")),
        ..LoadOptions::default()
    };
    check(&mut load(&text, options), "mmproj of another age");
}

#[test]
fn mmproj_files_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        std::fs::copy(fixture(from), folder.path().join(to)).unwrap();
    };
    let error = |model: &str, mmproj: Option<&str>| {
        let options = LoadOptions {
            mmproj: mmproj.map(fixture),
            ..LoadOptions::default()
        };
        runner::load(&folder.path().join(model), &options).unwrap_err()
    };
    copy("gguf/text.gguf", "text.gguf");
    copy("gguf/mmproj-f32.gguf", "mmproj-a.gguf");
    copy("gguf/mmproj-f32.gguf", "mmproj-b.gguf");
    let many = error("text.gguf", None);
    assert!(matches!(&many, LoadError::ManyProjectors { paths } if paths.len() == 2));
    assert!(many.to_string().ends_with("mmproj-b.gguf"), "{many}");
    let missing = error("text.gguf", Some("nowhere.gguf"));
    assert!(matches!(missing, LoadError::NotFound { .. }), "{missing}");
    let text = error("text.gguf", Some("gguf/text.gguf"));
    assert!(matches!(text, LoadError::Config { .. }), "{text}");
    let other = Path::new("../tiny-gguf/f32.gguf");
    std::fs::copy(fixture("").join(other), folder.path().join("other.gguf")).unwrap();
    let other = error("other.gguf", Some("gguf/mmproj-f32.gguf"));
    assert!(
        other
            .to_string()
            .ends_with("gives soft tokens of 24 values, the text model reads 32"),
        "{other}"
    );
    // Made for another width, so not this model's, though it lies beside it.
    let plain = folder.path().join("other.gguf");
    let loaded = runner::load(&plain, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.runner.shape().image, None);
}

fn quantized(quantization: Quantization) -> GemmaRunner {
    let options = LoadOptions {
        quantization: Some(quantization),
        ..LoadOptions::default()
    };
    load(&fixture(""), options)
}

#[test]
fn cutting_around_pictures_changes_no_bit() {
    let reference = Reference::read();
    for quantization in ALL {
        let mut runner = quantized(quantization);
        for name in CASES {
            let Case { tokens, images } = reference.case(name);
            let case = (tokens.as_slice(), images.as_slice());
            let whole = bits(&with_images_in_chunks(&mut runner, 0, case, &[usize::MAX]));
            for sizes in [&[1][..], &[7, 1, 45], &[32]] {
                let cut = bits(&with_images_in_chunks(&mut runner, 3, case, sizes));
                assert!(
                    whole == cut,
                    "{name} as {quantization:?} in chunks of {sizes:?}"
                );
            }
        }
    }
}

/// All cases in one step, each from a position of its own: with pictures and without, continuing
/// and beginning.
#[test]
fn company_changes_no_bit_and_all_of_it_is_the_reference() {
    let reference = Reference::read();
    let cases: Vec<Case> = CASES.iter().map(|name| reference.case(name)).collect();
    let starts = [52, 33, 0, 14, 20, 5];
    for quantization in ALL {
        let mut runner = quantized(quantization);
        let mut alone = Vec::new();
        for (sequence, (case, start)) in cases.iter().zip(starts).enumerate() {
            let whole = (case.tokens.as_slice(), case.images.as_slice());
            alone.push(with_images_in_chunks(&mut runner, 7, whole, &[usize::MAX]));
            if start > 0 {
                let before = (&case.tokens[..start], case.images.as_slice());
                with_images_in_chunks(&mut runner, sequence, before, &[usize::MAX]);
            }
        }
        let parts: Vec<_> = (0..cases.len())
            .map(|sequence| Part {
                sequence,
                tokens: &cases[sequence].tokens,
                start: starts[sequence],
                images: &cases[sequence].images,
            })
            .collect();
        let mut together = step(&mut runner, &parts).into_iter();
        for ((name, alone), start) in CASES.iter().zip(&alone).zip(starts) {
            let rows: Vec<_> = together.by_ref().take(alone.len() - start).collect();
            assert!(
                bits(&rows) == bits(&alone[start..]),
                "{name} as {quantization:?}"
            );
            if quantization == Quantization::F32 {
                let expected = reference.floats(&format!("{name}.logits"));
                let from = start * rows[0].len();
                assert!(distance(rows.iter().flatten(), &expected[from..]) <= TOLERANCE);
            }
        }
        assert!(together.next().is_none());
    }
}

#[test]
fn company_of_views_changes_no_bit() {
    let views = Reference::read().views();
    for quantization in ALL {
        let runner = quantized(quantization);
        let tower = runner.vision().unwrap();
        let together = tower.encode(&views.iter().collect::<Vec<_>>()).unwrap();
        for (view, together) in views.iter().zip(&together) {
            let alone = tower.encode(&[view]).unwrap();
            assert!(bits(&alone) == bits(std::slice::from_ref(together)));
        }
    }
}

#[test]
fn all_tiers_see_the_same_bits() {
    let views = Reference::read().views();
    for quantization in ALL {
        let run = |tier| {
            let options = LoadOptions {
                quantization: Some(quantization),
                tier: Some(tier),
                ..LoadOptions::default()
            };
            let runner = load(&fixture(""), options);
            let encoded = runner
                .vision()
                .unwrap()
                .encode(&views.iter().collect::<Vec<_>>());
            bits(&encoded.unwrap())
        };
        let best = run(Tier::detect());
        for tier in Tier::available() {
            assert!(best == run(tier), "{quantization:?} on {}", tier.name());
        }
    }
}

#[test]
fn a_picture_that_is_split_or_not_encoded_fails_the_step_only() {
    let reference = Reference::read();
    let Case { tokens, images } = reference.case("middle");
    let mut runner = quantized(Quantization::F32);
    let whole = (tokens.as_slice(), images.as_slice());
    let expected = bits(&with_images_in_chunks(&mut runner, 0, whole, &[usize::MAX]));
    runner.forget(&images[0].contents);
    let failed = steps::try_step(
        &mut runner,
        &[Part {
            sequence: 0,
            tokens: &tokens,
            start: 0,
            images: &images,
        }],
    );
    let error = failed.unwrap_err();
    assert!(
        !error.fatal && error.message.ends_with("is not encoded"),
        "{error:?}"
    );
    let views = reference.views();
    runner.encode(&views.iter().collect::<Vec<_>>()).unwrap();
    let again = bits(&with_images_in_chunks(&mut runner, 0, whole, &[usize::MAX]));
    assert!(expected == again);
}
