//! Plans of documents: what is asked, and what comes of the answers.

use chrono::DateTime;
use lapidary_schemas::result::Timings;
use lapidary_schemas::{FinishReason, JobId};

use super::*;
use crate::prompt::Wish;

fn rules(long: Long, prompt_tokens_max: u32) -> Rules {
    Rules {
        prompts: Prompts::choose(&Wish::default(), true).unwrap(),
        long,
        prompt_tokens_max,
    }
}

fn start(text: &str, rules: &Rules) -> (Work, Vec<u32>) {
    Work::text("a.txt".to_owned(), "key".to_owned(), text.to_owned(), rules)
}

/// The words that a question is about.
fn words(work: &Work, piece: u32) -> String {
    match work.question(piece).unwrap().subject {
        Subject::Text(text) => text.into_owned(),
        Subject::Captions(captions) => captions,
        Subject::Pictures(pictures) => panic!("{pictures:?} have no words"),
    }
}

fn result(status: Status) -> JobResult {
    JobResult {
        job_id: JobId::new(DateTime::UNIX_EPOCH),
        batch_id: None,
        item: None,
        custom_id: None,
        status,
        text: None,
        tool_calls: Vec::new(),
        finish_reason: None,
        usage: Usage {
            prompt_tokens: 10,
            completion_tokens: 2,
            ..Usage::default()
        },
        timings: Timings::default(),
        tokens_per_second: None,
        filter: Vec::new(),
        failure: None,
        logprobs: Vec::new(),
        attempt: 1,
        worker: None,
        model: None,
        seed: Some(7),
        finished_at: DateTime::UNIX_EPOCH,
    }
}

fn caption(text: &str) -> JobResult {
    JobResult {
        text: Some(text.to_owned()),
        finish_reason: Some(FinishReason::Stop),
        ..result(Status::Succeeded)
    }
}

fn failed(code: FailureCode, prompt_tokens: u32) -> JobResult {
    JobResult {
        failure: Some(Failure::new(code, "no")),
        usage: Usage {
            prompt_tokens,
            ..Usage::default()
        },
        ..result(Status::Failed)
    }
}

fn row(step: Step) -> Row {
    match step {
        Step::Done(row) => *row,
        other => panic!("no row yet: {other:?}"),
    }
}

fn asked(step: Step) -> Vec<u32> {
    match step {
        Step::Ask(pieces) => pieces,
        other => panic!("nothing asked: {other:?}"),
    }
}

#[test]
fn a_short_document_is_one_question() {
    let rules = rules(Long::Split, 1_000);
    let (mut work, pieces) = start("short", &rules);
    assert_eq!(
        work.question(pieces[0]),
        Some(Question {
            subject: Subject::Text("short".into()),
            label: String::new()
        })
    );
    let row = row(work.answered(pieces[0], &caption("a caption"), &rules));
    assert_eq!(
        (row.text.as_deref(), row.parts, row.truncated),
        (Some("a caption"), 1, false)
    );
    assert_eq!(row.usage.prompt_tokens, 10);
}

#[test]
fn a_long_one_is_captioned_in_parts_that_are_combined() {
    let rules = rules(Long::Split, 500);
    let text = "A sentence of a document. ".repeat(200);
    let (mut work, pieces) = start(&text, &rules);
    assert_eq!(pieces.len(), 4);
    let whole: String = pieces.iter().map(|id| words(&work, *id)).collect();
    assert_eq!(whole, text);
    assert_eq!(work.question(pieces[1]).unwrap().label, "part 2");
    for id in pieces[1..].iter().rev() {
        assert_eq!(
            work.answered(*id, &caption(&format!(" c{id}")), &rules),
            Step::Wait
        );
    }
    let combined = asked(work.answered(pieces[0], &caption("c0"), &rules));
    let question = work.question(combined[0]).unwrap();
    assert_eq!(
        question.subject,
        Subject::Captions("c0\n\nc1\n\nc2\n\nc3".to_owned())
    );
    let row = row(work.answered(combined[0], &caption("all"), &rules));
    assert_eq!((row.text.as_deref(), row.parts), (Some("all"), 4));
    assert_eq!(row.usage.prompt_tokens, 50);
}

#[test]
fn many_captions_are_combined_as_a_tree() {
    let rules = rules(Long::Split, 200);
    let (mut work, mut pieces) = start(&"word ".repeat(700), &rules);
    let long_caption = "x".repeat(150);
    let mut levels = 0;
    let row = loop {
        levels += 1;
        let mut next = Step::Wait;
        for id in &pieces {
            next = work.answered(*id, &caption(&long_caption), &rules);
        }
        match next {
            Step::Ask(more) => pieces = more,
            Step::Done(row) => break row,
            Step::Wait => panic!("answers are missing"),
        }
    };
    assert!(levels > 2, "{levels}");
    assert_eq!(row.status, Status::Succeeded);
}

#[test]
fn what_does_not_fit_is_cut_by_the_measured_tokens() {
    let rules = rules(Long::Split, 1_000);
    let text = "漢字 ".repeat(300);
    let (mut work, pieces) = start(&text, &rules);
    assert_eq!(pieces.len(), 1);
    let smaller = asked(work.answered(
        pieces[0],
        &failed(FailureCode::PromptTooLong, 2_500),
        &rules,
    ));
    assert_eq!(smaller.len(), 3);
    let again = asked(work.answered(smaller[1], &failed(FailureCode::PromptTooLong, 0), &rules));
    assert!(again.len() >= 2);
    let texts: String = work
        .pieces
        .iter()
        .map(|piece| match &piece.source {
            Source::Text(text) => text.as_str(),
            other => panic!("no text: {other:?}"),
        })
        .collect();
    assert_eq!(texts, text);
    assert_eq!(work.parts, work.pieces.len());
}

#[test]
fn truncation_is_said() {
    let rules = rules(Long::Truncate, 1_000);
    let text = "word ".repeat(10_000);
    let (mut work, pieces) = start(&text, &rules);
    assert_eq!(pieces.len(), 1);
    let first = words(&work, pieces[0]).len();
    let again = asked(work.answered(
        pieces[0],
        &failed(FailureCode::PromptTooLong, 1_200),
        &rules,
    ));
    assert!(words(&work, again[0]).len() < first);
    let row = row(work.answered(again[0], &caption("c"), &rules));
    assert!(row.truncated);
    assert_eq!(row.parts, 1);
}

#[test]
fn refusal_names_the_document() {
    let rules = rules(Long::Refuse, 10);
    let (mut work, pieces) = start(&"word ".repeat(10_000), &rules);
    let row = row(work.answered(
        pieces[0],
        &failed(FailureCode::PromptTooLong, 9_000),
        &rules,
    ));
    assert_eq!(
        row.failure.unwrap().to_string(),
        "PROMPT_TOO_LONG: a.txt: no"
    );
    assert_eq!(row.text, None);
}

#[test]
fn a_text_that_never_fits_fails_in_the_end() {
    let rules = rules(Long::Split, 1_000);
    let (mut work, mut pieces) = start(&"word ".repeat(500), &rules);
    let row = loop {
        match work.answered(pieces[0], &failed(FailureCode::PromptTooLong, 0), &rules) {
            Step::Ask(smaller) => pieces = smaller,
            step => break row(step),
        }
    };
    assert_eq!(row.failure.unwrap().code, FailureCode::PromptTooLong);
}

#[test]
fn a_failed_part_fails_the_document() {
    let rules = rules(Long::Split, 500);
    let (mut work, pieces) = start(&"A sentence. ".repeat(300), &rules);
    let row = row(work.answered(pieces[1], &failed(FailureCode::WorkerLost, 0), &rules));
    let failure = row.failure.unwrap();
    assert_eq!(
        failure.message,
        format!("a.txt: part 2 of {}: no", pieces.len())
    );
    assert_eq!(failure.code, FailureCode::WorkerLost);
}

#[test]
fn a_second_result_of_a_piece_changes_nothing() {
    let rules = rules(Long::Split, 500);
    let (mut work, pieces) = start(&"A sentence. ".repeat(300), &rules);
    assert_eq!(work.answered(pieces[0], &caption("c"), &rules), Step::Wait);
    assert_eq!(work.answered(pieces[0], &caption("d"), &rules), Step::Wait);
    assert_eq!(work.usage.prompt_tokens, 10);
}

#[test]
fn pictures_are_one_question_and_never_cut() {
    let stored = PictureAt::Stored(MediaRef {
        sha256: "a".repeat(64),
        bytes: 7,
    });
    let pictures = [stored, PictureAt::Address("http://example.org".to_owned())];
    for long in [Long::Split, Long::Truncate, Long::Refuse] {
        let rules = rules(long, 100);
        let (mut work, pieces) = Work::pictures("a.png".into(), "key".into(), pictures.to_vec());
        assert_eq!(
            work.question(pieces[0]),
            Some(Question {
                subject: Subject::Pictures(&pictures),
                label: String::new()
            })
        );
        let row = row(work.answered(pieces[0], &failed(FailureCode::PromptTooLong, 300), &rules));
        assert_eq!(
            row.failure.unwrap().to_string(),
            "PROMPT_TOO_LONG: a.png: no"
        );
        assert_eq!((row.parts, row.truncated), (1, false));
    }
}
