//! The engine on a model that computes nothing: what it promises to those who use it.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{TINY_VOCAB, input, seeded, tiny_prompter};
use lapidary_engine::batch::ForwardError;
use lapidary_engine::fake::FakeForward;
use lapidary_engine::{
    Class, Engine, EngineError, EngineOptions, Event, FinishReason, Form, GenerateError,
    GenerateInput, Health, LoadOptions, Outcome, Prompt, Sampling, StepReport, SubmitError,
};
use serde_json::{Value, json};

const WINDOW: Option<usize> = Some(50);

fn options() -> EngineOptions {
    EngineOptions {
        kv_bytes_max: 2000,
        step_tokens_max: 128,
        ..EngineOptions::default()
    }
}

fn start(options: &EngineOptions) -> Engine {
    let model = FakeForward::new(TINY_VOCAB, WINDOW);
    Engine::start(Box::new(model), tiny_prompter(), options).unwrap()
}

/// Prompts of 1 to about 400 tokens, some with a common beginning; greedy and seeded.
fn requests() -> Vec<GenerateInput> {
    let common = "some beginning that is shared, of more than one block of tokens. ".repeat(2);
    let text = |index: usize| match index % 3 {
        0 => "a".repeat(1 + index * 5),
        1 => format!("{common}{}", "b".repeat(index)),
        _ => format!("{}é🦀", "xyz ".repeat(1 + index * 3)),
    };
    let request = |index: usize| {
        let base = input(&text(index), 20 + index * 2);
        if index.is_multiple_of(2) {
            base
        } else {
            seeded(base, index as u64)
        }
    };
    (0..32).map(request).collect()
}

/// What does not depend on when it ran.
fn essence(outcome: Outcome) -> (String, Vec<u32>, FinishReason) {
    (outcome.text, outcome.tokens, outcome.finish_reason)
}

fn alone(requests: &[GenerateInput]) -> Vec<(String, Vec<u32>, FinishReason)> {
    let engine = start(&EngineOptions {
        prefix_sharing: false,
        ..options()
    });
    let run = |request: &GenerateInput| engine.submit(request.clone()).unwrap().wait().unwrap();
    requests
        .iter()
        .map(|request| essence(run(request)))
        .collect()
}

fn together(options: &EngineOptions) -> (Engine, Vec<(String, Vec<u32>, FinishReason)>) {
    let engine = start(options);
    let pending: Vec<_> = requests()
        .into_iter()
        .map(|request| engine.submit(request).unwrap())
        .collect();
    let outcomes = pending
        .into_iter()
        .map(|one| essence(one.wait().unwrap()))
        .collect();
    (engine, outcomes)
}

/// An animal and how many legs it has.
fn animal() -> Form {
    Form::JsonSchema(json!({
        "type": "object",
        "properties": {
            "animal": {"enum": ["cat", "dog"]},
            "legs": {"$ref": "#/$defs/legs"},
        },
        "required": ["animal", "legs"],
        "additionalProperties": false,
        "$defs": {"legs": {"type": "integer", "minimum": 0, "maximum": 99}},
    }))
}

#[test]
fn answers_have_the_form_that_is_asked_for() {
    let engine = start(&EngineOptions {
        draft_tokens_max: 8,
        ..options()
    });
    let grammar = engine.grammar(&animal()).unwrap();
    let asked = |seed| GenerateInput {
        grammar: Some(grammar.clone()),
        logprobs: Some(1),
        ..seeded(input("What is it?", 400), seed)
    };
    let pending: Vec<_> = (0..32)
        .map(|seed| engine.submit(asked(seed)).unwrap())
        .collect();
    let mut texts = HashSet::new();
    for one in pending {
        let outcome = one.wait().unwrap();
        assert_eq!(outcome.finish_reason, FinishReason::Stop);
        let value: Value = serde_json::from_str(&outcome.text).unwrap();
        assert!(["cat", "dog"].contains(&value["animal"].as_str().unwrap()));
        assert!(value["legs"].as_u64().unwrap() <= 99, "{value}");
        assert_eq!(value.as_object().unwrap().len(), 2, "{value}");
        // They tell what the model wanted, which here is anything.
        let logprobs = outcome.logprobs.unwrap();
        assert!(logprobs.iter().all(|one| one.logprob.is_finite()));
        texts.insert(outcome.text);
    }
    assert!(texts.len() > 16, "{texts:?}");
    let alone = engine.submit(asked(3)).unwrap().wait().unwrap();
    assert!(texts.contains(&alone.text), "{}", alone.text);
}

#[test]
fn any_object_is_one_even_where_it_is_cut_off() {
    let engine = start(&options());
    for seed in 0..8 {
        let request = GenerateInput {
            grammar: Some(engine.grammar(&Form::JsonObject).unwrap()),
            ..seeded(input("What is it?", 60), seed)
        };
        let outcome = engine.submit(request).unwrap().wait().unwrap();
        let read = serde_json::from_str::<Value>(&outcome.text);
        match outcome.finish_reason {
            FinishReason::Stop => assert!(read.unwrap().is_object()),
            _ => assert!(read.unwrap_err().is_eof(), "{}", outcome.text),
        }
    }
}

#[test]
fn a_form_that_no_answer_can_have_is_refused() {
    let engine = start(&options());
    for (schema, said) in [
        (json!({"$ref": "https://example.org/s.json"}), "$ref"),
        (json!({"type": "integer", "minimum": 2, "maximum": 1}), "2"),
        (json!({"type": "string", "pattern": "("}), "regex"),
    ] {
        let error = engine.grammar(&Form::JsonSchema(schema)).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, SubmitError::Form(_)), "{message}");
        assert!(message.starts_with("the answer's form: "), "{message}");
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn a_model_in_whose_place_nothing_computes_answers_all_alike() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../bundled/model");
    let load = LoadOptions {
        instant: true,
        ..LoadOptions::default()
    };
    let engine = Engine::load(Path::new(folder), &load, &EngineOptions::default()).unwrap();
    assert_eq!(engine.model().unwrap().quantization, "none");
    let answers = ["A cat.", "What is a cat?"].map(|text| {
        let drawn = seeded(input(text, 8), 3);
        let outcome = engine.submit(drawn).unwrap().wait().unwrap();
        assert_eq!(outcome.finish_reason, FinishReason::Stop);
        assert_eq!(outcome.usage.completion_tokens, 2);
        outcome.text
    });
    assert!(!answers[0].is_empty());
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn the_model_that_computes_nothing_breaks_down_when_told_to() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../bundled/model");
    let load = LoadOptions {
        instant: true,
        ..LoadOptions::default()
    };
    let start = || Engine::load(Path::new(folder), &load, &EngineOptions::default()).unwrap();
    let engine = start();
    let answer = engine.submit(input("instant: panic", 8)).unwrap().wait();
    assert_eq!(answer.unwrap_err(), GenerateError::Stopped);
    let Health::Failed { message } = engine.health() else {
        panic!("{:?}", engine.health())
    };
    assert!(message.contains("a prompt said so"), "{message}");

    let engine = start();
    assert_eq!(engine.step_time(), Duration::ZERO);
    let _generation = engine.submit(input("instant: hang", 8)).unwrap();
    while engine.step_time().is_zero() {
        std::thread::yield_now();
    }
    engine.give_up("it hangs");
    let message = "it hangs".to_owned();
    assert_eq!(engine.health(), Health::Failed { message });
    // Its thread is not waited for.
    drop(engine);
}

#[test]
fn alone_in_a_batch_in_chunks_and_after_preemption_are_the_same() {
    let expected = alone(&requests());
    assert_eq!(together(&options()).1, expected, "in a batch");
    assert_eq!(
        together(&EngineOptions {
            step_tokens_max: 33,
            ..options()
        })
        .1,
        expected,
        "chunks"
    );
    let (engine, outcomes) = together(&EngineOptions {
        kv_bytes_max: 50,
        ..options()
    });
    assert_eq!(outcomes, expected, "after preemption");
    assert!(engine.stats().preemptions > 0);
}

#[test]
fn stats_add_up() {
    let (engine, outcomes) = together(&options());
    let drawn: usize = outcomes.iter().map(|(_, tokens, _)| tokens.len()).sum();
    engine.stop();
    let stats = engine.stats();
    // The first token of each answer comes of its prompt.
    assert_eq!(stats.decode_tokens, (drawn - outcomes.len()) as u64);
    assert_eq!(
        stats.prefill_tokens,
        stats.prompt_tokens - stats.cached_tokens
    );
    assert_eq!((stats.running, stats.waiting), (0, 0));
    assert_eq!((stats.kv_global_used, stats.kv_local_used), (0, 0));
    assert!(stats.cached_tokens > 0 && stats.steps > 0 && stats.kv_global_total > 0);
}

#[test]
fn every_step_is_reported_once() {
    let engine = start(&options());
    let (sender, reports) = sync_channel(4096);
    engine.observe_steps(move |report| sender.try_send(*report).unwrap());
    engine.observe_steps(|_| panic!("there is one observer"));
    for request in requests() {
        engine.submit(request).unwrap().wait().unwrap();
    }
    engine.stop();
    let (stats, reports) = (engine.stats(), reports.try_iter().collect::<Vec<_>>());
    assert_eq!(reports.len() as u64, stats.steps);
    let tokens =
        |report: &StepReport| report.prefill_tokens + report.decode_tokens + report.rejected_tokens;
    assert_eq!(
        reports.iter().map(tokens).sum::<usize>() as u64,
        stats.prefill_tokens + stats.decode_tokens
    );
    assert!(reports.iter().all(|report| report.sequences > 0));
    let busy: Duration = reports.iter().map(|report| report.duration).sum();
    assert_eq!(busy, stats.busy);
}

#[test]
fn text_comes_in_pieces_that_make_up_the_whole() {
    let engine = start(&options());
    for request in requests().into_iter().take(6) {
        let mut generation = engine.submit(request).unwrap();
        let mut text = String::new();
        let outcome = loop {
            match block_on_next(&mut generation) {
                Some(Event::Text(piece)) => text.push_str(&piece),
                Some(Event::Finished(outcome)) => break outcome.unwrap(),
                None => panic!("no outcome"),
            }
        };
        assert_eq!(outcome.text, text);
        assert_eq!(outcome.usage.completion_tokens, outcome.tokens.len());
        assert!(outcome.timings.first_token >= outcome.timings.queued);
    }
}

/// The next event, on a runtime of nothing but a thread that is woken.
fn block_on_next(generation: &mut lapidary_engine::Generation) -> Option<Event<Outcome>> {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    loop {
        match generation.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(event) => return event,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn answers_end_at_stop_strings_and_end_tokens() {
    let engine = start(&options());
    let whole = engine.submit(input("abc", 60)).unwrap().wait().unwrap();
    assert_eq!(whole.finish_reason, FinishReason::Length);
    assert_eq!(whole.tokens.len(), 60);
    let middle: String = whole.text.chars().skip(10).take(2).collect();
    let cut = whole.text.find(&middle).unwrap();
    let stopping = GenerateInput {
        stop: vec![middle],
        ..input("abc", 60)
    };
    let stopped = engine.submit(stopping).unwrap().wait().unwrap();
    assert_eq!(stopped.finish_reason, FinishReason::Stop);
    assert_eq!(stopped.text, whole.text[..cut]);

    // With 286 tokens to draw from, one of these answers comes to the end token by itself.
    let ended = (0..100).find_map(|seed| {
        let flat = Sampling {
            temperature: 5.0,
            top_k: 0,
            top_p: 1.0,
            seed,
            ..Sampling::GREEDY
        };
        let request = GenerateInput {
            sampling: flat,
            ..input("abc", 100)
        };
        let outcome = engine.submit(request).unwrap().wait().unwrap();
        (outcome.finish_reason == FinishReason::Stop).then_some(outcome)
    });
    let ended = ended.expect("an answer that ends by itself");
    assert_eq!(ended.tokens.last(), Some(&1));
    assert!(!ended.text.contains("<eos>"));
}

#[test]
fn logprobs_belong_to_the_tokens_and_change_nothing() {
    let engine = start(&options());
    for base in [input("abc", 12), seeded(input("abc", 12), 3)] {
        let plain = engine.submit(base.clone()).unwrap().wait().unwrap();
        let asked = GenerateInput {
            logprobs: Some(3),
            ..base
        };
        let outcome = engine.submit(asked).unwrap().wait().unwrap();
        assert_eq!(outcome.tokens, plain.tokens);
        let logprobs = outcome.logprobs.unwrap();
        let tokens: Vec<u32> = logprobs.iter().map(|entry| entry.token).collect();
        assert_eq!(tokens, outcome.tokens);
        assert!(
            logprobs
                .iter()
                .all(|entry| entry.top.len() == 3 && entry.logprob < 0.0)
        );
    }
}

#[test]
fn scores_are_the_logprobs_of_the_same_tokens() {
    let engine = start(&options());
    let request = GenerateInput {
        logprobs: Some(5),
        ..input(&"abc ".repeat(50), 100)
    };
    let prompt = engine.prepare(&request.prompt).unwrap();
    let outcome = engine.submit(request).unwrap().wait().unwrap();
    let tokens = [prompt.tokens(), &outcome.tokens].concat();
    let scored = engine.score(&tokens, 5).unwrap().wait().unwrap();
    assert_eq!(scored.len(), tokens.len() - 1);
    assert_eq!(
        scored[prompt.tokens().len() - 1..],
        outcome.logprobs.unwrap()
    );
    let ids: Vec<u32> = scored.iter().map(|score| score.token).collect();
    assert_eq!(ids, tokens[1..]);
}

#[test]
fn requests_that_cannot_be_served_are_refused_with_numbers() {
    let engine = start(&EngineOptions {
        context_tokens_max: Some(100),
        ..options()
    });
    let refusal = |request| engine.submit(request).unwrap_err().to_string();
    assert_eq!(
        refusal(input(&"a".repeat(90), 20)),
        "prompt is 91 tokens and asks for 20 more, the limit is 100"
    );
    let tokens = |ids: &[u32]| GenerateInput {
        prompt: Prompt::Tokens(ids.into()),
        ..input("", 1)
    };
    assert_eq!(refusal(tokens(&[])), "prompt is empty");
    assert_eq!(
        refusal(tokens(&[9999])),
        "token id 9999 is not in the vocabulary of 286 tokens"
    );
    assert_eq!(
        refusal(input("a", 0)),
        "max_tokens is 0, it must be at least 1"
    );
    let asked = GenerateInput {
        logprobs: Some(21),
        ..input("a", 1)
    };
    assert_eq!(refusal(asked), "logprobs is 21, the limit is 20");
    assert_eq!(
        engine.score(&[2], 5).unwrap_err().to_string(),
        "text to score is 1 token, it must be at least 2"
    );
    let started = Engine::start(
        Box::new(FakeForward::new(TINY_VOCAB, WINDOW)),
        tiny_prompter(),
        &EngineOptions {
            kv_bytes_max: 1,
            ..options()
        },
    );
    assert!(matches!(started, Err(EngineError::Options { .. })));
}

/// An engine whose steps wait until the test lets them go on, and a way to see one begin.
fn held_engine(options: &EngineOptions) -> (Engine, Receiver<usize>, SyncSender<()>) {
    let (began, beginnings) = sync_channel(1000);
    let (go, wait) = sync_channel(1000);
    let model = FakeForward::new(TINY_VOCAB, WINDOW).with_fault(move |batch| {
        // The ends of these channels go when the test is over.
        let _ = began.send(batch.spans.len());
        let _ = wait.recv();
        Ok(())
    });
    (
        Engine::start(Box::new(model), tiny_prompter(), options).unwrap(),
        beginnings,
        go,
    )
}

#[test]
fn a_full_engine_refuses_and_has_room_again_when_something_finishes() {
    let (engine, beginnings, go) = held_engine(&EngineOptions {
        slots_max: 2,
        interactive_slots_reserved: 1,
        waiting_max: 1,
        ..options()
    });
    let first = engine.submit(input("a", 1)).unwrap();
    beginnings.recv().unwrap();
    let others: Vec<_> = (0..2)
        .map(|_| engine.submit(input("b", 1)).unwrap())
        .collect();
    let refused = engine.submit(input("c", 1)).unwrap_err();
    assert!(matches!(
        refused,
        SubmitError::Full {
            class: Class::Bulk,
            limit: 3
        }
    ));
    assert_eq!(
        refused.to_string(),
        "3 Bulk requests are running or waiting already"
    );
    // Bulk work does not keep interactive requests out.
    let interactive = GenerateInput {
        class: Class::Interactive,
        ..input("d", 1)
    };
    let interactive = engine.submit(interactive).unwrap();
    go.send(()).unwrap();
    first.wait().unwrap();
    engine.submit(input("e", 1)).unwrap().cancel();
    drop(go);
    interactive.wait().unwrap();
    for other in others {
        other.wait().unwrap();
    }
}

#[test]
fn whoever_leaves_or_cancels_costs_no_more_steps() {
    let (engine, beginnings, go) = held_engine(&options());
    let left = engine.submit(input("a", 1000)).unwrap();
    let cancelled = engine.submit(input("b", 1000)).unwrap();
    beginnings.recv().unwrap();
    go.send(()).unwrap();
    beginnings.recv().unwrap();
    drop(left);
    cancelled.cancel();
    go.send(()).unwrap();
    let outcome = cancelled.wait().unwrap();
    assert_eq!(outcome.finish_reason, FinishReason::Cancelled);
    assert!(outcome.tokens.len() < 3);
    // Nothing runs any more: the next step is that of the next request alone.
    let last = engine.submit(input("c", 1)).unwrap();
    assert_eq!(beginnings.recv().unwrap(), 1);
    drop(go);
    last.wait().unwrap();
}

/// An engine whose step fails if the batch holds the token `x`.
fn failing_engine(fatal: bool) -> Engine {
    let tokenizer = tiny_prompter();
    let x = tokenizer.tokenizer().id("x").unwrap();
    let model = FakeForward::new(TINY_VOCAB, WINDOW).with_fault(move |batch| {
        if batch.tokens.contains(&x) {
            Err(ForwardError {
                message: "out of memory".into(),
                fatal,
            })
        } else {
            Ok(())
        }
    });
    Engine::start(Box::new(model), tokenizer, &options()).unwrap()
}

#[test]
fn a_failed_step_fails_its_requests_and_no_others() {
    let engine = failing_engine(false);
    let failed = engine.submit(input("x", 5)).unwrap().wait().unwrap_err();
    assert_eq!(
        failed,
        GenerateError::Step {
            message: "out of memory".into()
        }
    );
    assert!(failed.retryable());
    assert_eq!(engine.health(), Health::Running);
    engine.submit(input("a", 1)).unwrap().wait().unwrap();
    assert_eq!(engine.stats().kv_global_used, 0);
}

#[test]
fn a_dead_device_stops_the_engine_and_everyone_is_told() {
    let engine = failing_engine(true);
    let pending = engine.submit(input("x", 5)).unwrap();
    assert_eq!(pending.wait(), Err(GenerateError::Stopped));
    let Health::Failed { message } = engine.health() else {
        panic!("{:?}", engine.health())
    };
    assert_eq!(message, "model step failed: out of memory");
    engine.stop();
    assert!(matches!(
        engine.submit(input("a", 1)),
        Err(SubmitError::Stopped)
    ));
}

#[test]
fn a_panic_in_a_step_is_a_failure_and_not_a_hang() {
    let model = FakeForward::new(TINY_VOCAB, WINDOW).with_fault(|_| panic!("a bug"));
    let engine = Engine::start(Box::new(model), tiny_prompter(), &options()).unwrap();
    let pending = engine.submit(input("a", 5)).unwrap();
    assert_eq!(pending.wait(), Err(GenerateError::Stopped));
    let failed = Health::Failed {
        message: "engine thread panicked: a bug".into(),
    };
    assert_eq!(engine.health(), failed);
}

#[test]
fn stopping_fails_what_is_unfinished() {
    let (engine, beginnings, go) = held_engine(&options());
    let pending = engine.submit(input("a", 1000)).unwrap();
    beginnings.recv().unwrap();
    let stopping = std::thread::spawn({
        let engine = engine.clone();
        move || engine.stop()
    });
    while !matches!(engine.submit(input("b", 1)), Err(SubmitError::Stopped)) {
        std::thread::yield_now();
    }
    drop(go);
    let error = pending.wait().unwrap_err();
    assert!(error == GenerateError::Stopped && error.retryable());
    stopping.join().unwrap();
    assert_eq!(engine.health(), Health::Stopped);
}
