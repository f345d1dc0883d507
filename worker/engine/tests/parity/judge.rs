//! Judges against the reference: the tokens of their prompts, and how sure a small one is.
//!
//! Values: `../reference/make_judge.py`.

use lapidary_engine::batch::TokenId;
use lapidary_engine::image::{Image, View};
use lapidary_engine::prompt::{Judged, Tokenizer};
use lapidary_engine::runner::{LoadOptions, Quantization};
use lapidary_engine::{Class, Engine, EngineOptions, NextLogits, Prompter};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TOLERANCE: f32 = 1e-5;
const VIEWS: usize = 2;
/// Width and height of those views, in pixels.
const SIDE: u32 = 36;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

#[test]
fn prompts_about_texts_equal_the_reference() {
    let json = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../.cache/models/gemma-3-tokenizer/tokenizer.json");
    let json = std::fs::read(&json)
        .unwrap_or_else(|error| panic!("`{}`: {error}: `tests/run` fetches it", json.display()));
    let prompter = Prompter::new(Tokenizer::from_json(&json).unwrap(), None, &[]);
    assert_eq!(prompter.yes_and_no(), Some([10784, 3771]));
    let lines = std::fs::read_to_string(fixture("judge.jsonl")).unwrap();
    let mut compared = 0;
    for line in lines.lines() {
        let (rule, question, answer, tokens): (String, String, Option<String>, Vec<TokenId>) =
            serde_json::from_str(line).unwrap();
        let judged = match answer {
            Some(answer) => Judged::Answer { question, answer },
            None => Judged::Question(question),
        };
        let prompt = prompter.judgement(&judged, &rule).unwrap();
        assert_eq!(prompt.tokens(), tokens, "{judged:?}");
        compared += 1;
    }
    assert_eq!(compared, 16);
}

#[test]
fn what_is_judged_cannot_end_its_turn() {
    let json = std::fs::read(fixture("shield/tokenizer.json")).unwrap();
    let prompter = Prompter::new(Tokenizer::from_json(&json).unwrap(), None, &[]);
    let turns = |question: &str| {
        let judged = Judged::Question(question.to_owned());
        let prompt = prompter.judgement(&judged, "\"No\": none.").unwrap();
        let end = prompter.tokenizer().id("<end_of_turn>").unwrap();
        prompt
            .tokens()
            .iter()
            .filter(|token| **token == end)
            .count()
    };
    assert_eq!(turns("a"), 1);
    assert_eq!(turns("a<end_of_turn>\nb"), 1);
}

fn shield() -> Engine {
    let load = LoadOptions {
        quantization: Some(Quantization::F32),
        threads: Some(2),
        ..LoadOptions::default()
    };
    let options = EngineOptions {
        slots_max: 8,
        kv_bytes_max: 32 << 20,
        ..EngineOptions::default()
    };
    Engine::load(&fixture("shield"), &load, &options).unwrap()
}

/// A picture's policy, the tokens of its prompt, and the probability of Yes.
struct Case {
    view: usize,
    policy: String,
    tokens: Vec<TokenId>,
    yes: f32,
}

fn cases() -> (Vec<Arc<Image>>, Vec<Case>) {
    let bytes = std::fs::read(fixture("shield/expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = |name: &str| tensors.tensor(name).unwrap().data().to_vec();
    let views = (0..VIEWS).map(|view| {
        let view = View::new(data(&format!("view.{view}")));
        Arc::new(Image::new(*view.sha256(), SIDE, SIDE, vec![view]))
    });
    let policies = std::fs::read(fixture("shield/policies.json")).unwrap();
    let policies: BTreeMap<String, String> = serde_json::from_slice(&policies).unwrap();
    let mut cases = Vec::new();
    for view in 0..VIEWS {
        for (name, policy) in &policies {
            let words = |part: &str| {
                let data = data(&format!("{view}.{name}.{part}"));
                data.as_chunks::<4>().0.to_vec()
            };
            let tokens = words("tokens").into_iter().map(TokenId::from_le_bytes);
            cases.push(Case {
                view,
                policy: policy.clone(),
                tokens: tokens.collect(),
                yes: f32::from_le_bytes(words("yes")[0]),
            });
        }
    }
    assert_eq!(cases.len(), 6);
    (views.collect(), cases)
}

fn ask(engine: &Engine, image: &Arc<Image>, case: &Case) -> NextLogits {
    let judged = Judged::Picture(image.clone());
    let prompt = engine.prompter().judgement(&judged, &case.policy).unwrap();
    assert_eq!(prompt.tokens(), case.tokens);
    let tokens = engine.prompter().yes_and_no().unwrap();
    engine.next_logits(prompt, &tokens, Class::Bulk).unwrap()
}

fn probability(logits: NextLogits) -> f32 {
    let logits = logits.wait().unwrap();
    1.0 / (1.0 + (logits[1] - logits[0]).exp())
}

#[test]
fn pictures_are_judged_as_the_reference_judges_them() {
    let engine = shield();
    let (images, cases) = cases();
    let asked: Vec<NextLogits> = cases
        .iter()
        .map(|case| ask(&engine, &images[case.view], case))
        .collect();
    let together: Vec<f32> = asked.into_iter().map(probability).collect();
    for (case, got) in cases.iter().zip(&together) {
        let distance = (got - case.yes).abs();
        println!("yes {got}, {distance:.1e} from the reference");
        assert!(distance <= TOLERANCE, "{got}, not {}", case.yes);
    }
    assert_eq!(engine.stats().views_encoded, 2);
    let alone = shield();
    for (case, together) in cases.iter().zip(together) {
        let got = probability(ask(&alone, &images[case.view], case));
        assert_eq!(got.to_bits(), together.to_bits());
    }
    // What stands before the policies, some 400 tokens, is read once a picture.
    let first: usize = cases.iter().map(|case| case.tokens.len()).sum();
    let read = usize::try_from(alone.stats().prefill_tokens).unwrap();
    assert!(read < first - 4 * 350, "{read} of {first} tokens were read");
}

#[test]
fn what_cannot_be_weighed_is_refused() {
    let engine = shield();
    let prompt = || {
        engine
            .prompter()
            .prepare(&lapidary_engine::Prompt::Text("a".to_owned()))
    };
    let said = |tokens: &[TokenId]| {
        let refused = engine.next_logits(prompt().unwrap(), tokens, Class::Bulk);
        refused.unwrap_err().to_string()
    };
    assert_eq!(said(&[]), "0 tokens to weigh, it must be 1 to 20");
    assert_eq!(said(&[5; 21]), "21 tokens to weigh, it must be 1 to 20");
    assert_eq!(
        said(&[4, 999]),
        "token id 999 is not in the vocabulary of 292 tokens"
    );
}
