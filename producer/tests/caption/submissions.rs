//! Batches of requests: submitted, watched, read, cancelled.

use crate::fake_worker::FakeWorker;
use crate::program::{Folder, Said};

fn line(id: &str, text: &str) -> String {
    let body = serde_json::json!({
        "model": "pretender", "max_tokens": 20, "messages": [{ "role": "user", "content": text }],
    });
    let line = serde_json::json!({
        "custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body,
    });
    format!("{line}\n")
}

fn run(folder: &Folder, args: &[&str]) -> Said {
    let mut all = args.to_vec();
    all.extend(["--store", "lapidary.db"]);
    folder.run(&all)
}

#[test]
fn a_batch_is_submitted_watched_and_read() {
    let folder = Folder::new();
    let _worker = FakeWorker::start(&folder.store());
    let mut lines: String = (0..1_200)
        .map(|i| line(&format!("r{i}"), &format!("Request {i}.")))
        .collect();
    lines += &line("long", &"word ".repeat(2_000));
    lines += &line("by-reference", &"longer-word ".repeat(900));
    folder.write("in.jsonl", lines);
    let said = run(&folder, &["submit", "in.jsonl"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let batch = said.out.trim();
    let watched = run(&folder, &["watch", batch]);
    assert_eq!(watched.code, Some(1), "{}", watched.err);
    let summary: Vec<&str> = watched.err.lines().rev().take(3).collect();
    assert_eq!(
        summary,
        [
            "       1  failed",
            "    1201  succeeded",
            "completed: 1202 of 1202 requests are through"
        ]
    );
    let said = run(&folder, &["results", batch, "--follow"]);
    assert_eq!(said.code, Some(1));
    let results: Vec<serde_json::Value> = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(results.len(), 1_202);
    let text = |id: &str| {
        results
            .iter()
            .find(|result| result["custom_id"] == id)
            .unwrap()["text"]
            .clone()
    };
    assert_eq!(text("r7"), " 2 words from Request");
    assert_eq!(text("by-reference"), " 900 words from longer-word");
    let said = run(&folder, &["results", batch, "--format", "openai"]);
    let failed = said
        .out
        .lines()
        .find(|line| line.contains("\"long\""))
        .unwrap();
    assert!(failed.contains("PROMPT_TOO_LONG"), "{failed}");
    let said = run(&folder, &["status"]);
    assert!(said.out.contains("no unfinished batches"), "{}", said.out);
}

#[test]
fn mistakes_are_named_by_line_and_nothing_is_submitted() {
    let folder = Folder::new();
    let mut lines = line("a", "x");
    lines += &line("a", "y");
    lines += "{\"custom_id\": \"b\"}\n\nnot json\n";
    lines += &line("c", "x").replace("pretender", "another");
    lines += &line("d", "x").replace("max_tokens", "maximum_tokens");
    folder.write("in.jsonl", lines);
    let said = run(&folder, &["submit", "in.jsonl"]);
    insta::assert_snapshot!(said.whole(), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: in.jsonl has mistakes, nothing was submitted:
      line 2: `custom_id` `a` was used before
      line 3: batch line: missing field `method` at line 1 column 18
      line 5: batch line: expected ident at line 1 column 2
      line 6: `model` is `another`, lines before name `pretender`; a batch has one model
      line 7: `body` field `maximum_tokens`: unknown field `maximum_tokens`, expected one of `messages`, `max_tokens`, `temperature`, `top_p`, `top_k`, `repetition_penalty`, `seed`, `stop`, `response_format`, `logprobs`, `tools`, `tool_choice`
    hint: --model NAME names one model for all lines
    ");
    let said = run(&folder, &["status"]);
    assert!(said.out.contains("no unfinished batches"), "{}", said.out);
}

#[test]
fn a_batch_is_cancelled() {
    let folder = Folder::new();
    folder.write("in.jsonl", line("a", "x"));
    let batch = run(&folder, &["submit", "in.jsonl"]).out.trim().to_owned();
    let said = run(&folder, &["cancel", &batch]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(
        said.err.starts_with("cancelled; finished results stay"),
        "{}",
        said.err
    );
    assert_eq!(run(&folder, &["watch", &batch]).code, Some(1));
    let said = run(&folder, &["cancel", "01980000-0000-7000-8000-000000000000"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.err
            .contains("there is no batch 01980000-0000-7000-8000-000000000000"),
        "{}",
        said.err
    );
}
