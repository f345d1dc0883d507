//! Pictures in prompts: what the engine makes of them, on a model that computes nothing and on a
//! small one that does.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{TINY_VOCAB, image_prompter, input, seeded, tiny_prompter};
use lapidary_engine::batch::{Forward, ForwardError};
use lapidary_engine::fake::{FAKE_SIDE, FakeForward};
use lapidary_engine::image::{Image, View};
use lapidary_engine::prompt::PromptError;
use lapidary_engine::runner;
use lapidary_engine::{
    Engine, EngineOptions, GenerateError, GenerateInput, LoadOptions, Message, Part, Prompt,
    Prompter, Quantization, Role, SubmitError,
};

/// Tokens of the vocabulary, the two markers included.
const VOCAB: usize = TINY_VOCAB + 2;
/// Soft tokens of a view of the model that computes nothing.
const TOKENS: usize = 20;

/// A picture of one colour, with as many crops of others.
fn picture(side: u32, colour: u8, crops: u8) -> Part {
    let bytes = (side * side * 3) as usize;
    let views = (0..=crops).map(|crop| View::new(vec![colour.wrapping_add(crop * 40); bytes]));
    Part::Image(Arc::new(Image::new([colour; 32], 8, 6, views.collect())))
}

fn asking(parts: Vec<Part>, max_tokens: usize) -> GenerateInput {
    let role = Role::User;
    GenerateInput {
        prompt: Prompt::Chat {
            messages: vec![Message { role, parts }],
        },
        ..input("", max_tokens)
    }
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

/// Pictures first, in the middle, last, several, with crops, again, and none; greedy and seeded.
fn requests(side: u32) -> Vec<GenerateInput> {
    let long = "words that many of the prompts begin with, more than a block of them. ".repeat(2);
    let of = |index: usize, colour: u8| match index % 6 {
        0 => vec![picture(side, colour, 0), text("what is this")],
        1 => vec![text(&long), picture(side, colour, 0), text("and this")],
        2 => vec![text("this"), picture(side, colour, 0)],
        3 => vec![
            picture(side, colour, 0),
            picture(side, colour + 1, 0),
            text("compare"),
        ],
        4 => vec![text(&long), picture(side, colour, 2), text("look closely")],
        _ => vec![text(&"no picture here ".repeat(1 + index))],
    };
    let request = |index: usize| {
        let colour = u8::try_from(index / 12).unwrap() * 3;
        let base = asking(of(index, colour), 12 + index);
        if index.is_multiple_of(2) {
            base
        } else {
            seeded(base, index as u64)
        }
    };
    (0..24).map(request).collect()
}

fn options() -> EngineOptions {
    EngineOptions {
        kv_bytes_max: 2000,
        step_tokens_max: 128,
        ..EngineOptions::default()
    }
}

fn fake() -> (Box<dyn Forward>, Prompter) {
    let model = FakeForward::new(VOCAB, Some(50)).with_images(TOKENS);
    (Box::new(model), image_prompter(TOKENS, FAKE_SIDE))
}

/// The small multimodal model of the reference values; its vocabulary has a few tokens more.
fn tiny(quantization: Quantization) -> (Box<dyn Forward>, Prompter) {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/vision"
    ));
    let load = LoadOptions {
        quantization: Some(quantization),
        threads: Some(2),
        ..LoadOptions::default()
    };
    let runner = runner::load(folder, &load).unwrap().runner;
    let image = runner.shape().image.unwrap();
    let prompter = image_prompter(image.tokens, image.spec.side);
    (Box::new(runner), prompter)
}

fn start((model, prompter): (Box<dyn Forward>, Prompter), options: &EngineOptions) -> Engine {
    Engine::start(model, prompter, options).unwrap()
}

/// Tokens of all requests, submitted at once.
fn together(engine: &Engine, requests: Vec<GenerateInput>) -> Vec<Vec<u32>> {
    let pending: Vec<_> = requests
        .into_iter()
        .map(|request| engine.submit(request).unwrap())
        .collect();
    let waited = pending.into_iter().map(|one| one.wait().unwrap().tokens);
    waited.collect()
}

/// Tokens of all requests, one after another and sharing nothing.
fn alone(engine: &Engine, requests: Vec<GenerateInput>) -> Vec<Vec<u32>> {
    let each = requests.into_iter();
    each.flat_map(|request| together(engine, vec![request]))
        .collect()
}

fn unshared(options: &EngineOptions) -> EngineOptions {
    EngineOptions {
        prefix_sharing: false,
        ..options.clone()
    }
}

#[test]
fn alone_in_a_batch_in_chunks_and_after_preemption_are_the_same() {
    let requests = || requests(FAKE_SIDE);
    let expected = alone(&start(fake(), &unshared(&options())), requests());
    let engine = start(fake(), &options());
    assert_eq!(together(&engine, requests()), expected, "in a batch");
    assert_eq!(
        together(&engine, requests()),
        expected,
        "from shared prefixes"
    );
    assert!(engine.stats().cached_tokens > 0);
    let chunks = EngineOptions {
        step_tokens_max: 33,
        ..options()
    };
    assert_eq!(
        together(&start(fake(), &chunks), requests()),
        expected,
        "in chunks"
    );
    let few_blocks = EngineOptions {
        kv_bytes_max: 40,
        ..options()
    };
    let engine = start(fake(), &few_blocks);
    assert_eq!(together(&engine, requests()), expected, "after preemption");
    assert!(engine.stats().preemptions > 0);
    // Room for one view: the others are encoded when their turn comes, and again if need be.
    let little_room = EngineOptions {
        encoded_bytes_max: 1,
        ..options()
    };
    let engine = start(fake(), &little_room);
    assert_eq!(together(&engine, requests()), expected, "encoded again");
}

#[test]
fn a_model_that_computes_gives_the_same_text_too() {
    let few_blocks = EngineOptions {
        kv_bytes_max: 1 << 20,
        ..options()
    };
    let roomy = EngineOptions {
        kv_bytes_max: 64 << 20,
        ..options()
    };
    for quantization in [Quantization::F32, Quantization::Q8] {
        let expected = alone(&start(tiny(quantization), &unshared(&roomy)), requests(36));
        let engine = start(tiny(quantization), &roomy);
        assert_eq!(together(&engine, requests(36)), expected, "in a batch");
        assert_eq!(
            together(&engine, requests(36)),
            expected,
            "from shared prefixes"
        );
        let engine = start(tiny(quantization), &few_blocks);
        assert_eq!(together(&engine, requests(36)), expected, "in few blocks");
        let distinct: std::collections::HashSet<_> = expected.iter().collect();
        assert!(distinct.len() > 20, "the pictures make no difference");
    }
}

#[test]
fn pictures_count_and_equal_ones_are_encoded_once() {
    let engine = start(fake(), &options());
    let asked = |colour| asking(vec![picture(FAKE_SIDE, colour, 2), text("look")], 3);
    let usage = |colour| engine.submit(asked(colour)).unwrap().wait().unwrap().usage;
    let first = usage(1);
    assert_eq!(first.image_tokens, 3 * TOKENS);
    assert!(first.prompt_tokens > first.image_tokens);
    let again = usage(1);
    assert_eq!(again.image_tokens, first.image_tokens);
    assert_eq!(engine.stats().views_encoded, 3);
    usage(100);
    assert_eq!(engine.stats().views_encoded, 6);
}

#[test]
fn markers_are_never_drawn_and_written_ones_are_words() {
    let engine = start(fake(), &options());
    let flat = |seed| {
        let mut request = seeded(asking(vec![text("abc")], 40), seed);
        request.sampling.temperature = 8.0;
        request.sampling.top_k = 0;
        request.sampling.top_p = 1.0;
        request
    };
    for tokens in together(&engine, (0..20).map(flat).collect()) {
        assert!(tokens.iter().all(|token| (*token as usize) < TINY_VOCAB));
    }
    let written = asking(vec![text("a<start_of_image>b<end_of_image>")], 1);
    let prepared = engine.prepare(&written.prompt).unwrap();
    assert!(prepared.views().is_empty());
    assert!(
        prepared
            .tokens()
            .iter()
            .all(|token| (*token as usize) < TINY_VOCAB)
    );
}

#[test]
fn views_that_cannot_be_encoded_fail_their_readers_only() {
    let bad = View::new(vec![7; (FAKE_SIDE * FAKE_SIDE * 3) as usize]);
    let seen = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&seen);
    let model = FakeForward::new(VOCAB, Some(50))
        .with_images(TOKENS)
        .with_encode_fault(move |views| {
            *counted.lock().unwrap() += views.len();
            if views.iter().any(|view| view.sha256() == bad.sha256()) {
                return Err(ForwardError {
                    message: "the tower fell".to_owned(),
                    fatal: false,
                });
            }
            Ok(())
        });
    let engine = start(
        (Box::new(model), image_prompter(TOKENS, FAKE_SIDE)),
        &options(),
    );
    let good = || asking(vec![picture(FAKE_SIDE, 1, 0), text("look")], 5);
    let expected = together(&engine, vec![good()]);
    let failing = engine
        .submit(asking(vec![picture(FAKE_SIDE, 7, 0)], 5))
        .unwrap();
    let error = failing.wait().unwrap_err();
    assert!(
        matches!(&error, GenerateError::Step { message } if message == "the tower fell"),
        "{error:?}"
    );
    assert_eq!(together(&engine, vec![good()]), expected);
    assert_eq!(*seen.lock().unwrap(), 2);
}

#[test]
fn pictures_that_do_not_fit_the_model_are_refused() {
    let text_only = start(
        (
            Box::new(FakeForward::new(TINY_VOCAB, None)),
            tiny_prompter(),
        ),
        &options(),
    );
    let refused = |engine: &Engine, side| {
        let asked = asking(vec![picture(side, 1, 0)], 1);
        match engine.submit(asked).unwrap_err() {
            SubmitError::Prompt(error) => error,
            other => panic!("{other:?}"),
        }
    };
    let error = refused(&text_only, FAKE_SIDE);
    assert!(
        matches!(error, PromptError::NoImages { given: 1 }),
        "{error}"
    );
    let error = refused(&start(fake(), &options()), 3);
    assert_eq!(
        error.to_string(),
        "a view is 27 bytes, the model reads 2x2 pixels, 12 bytes"
    );
}
