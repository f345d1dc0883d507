//! What the program says when it cannot do as told, word by word.

use crate::fake_worker::FakeWorker;
use crate::program::{Folder, Said};

/// The folder's own path and other accidents, replaced.
fn stable(folder: &Folder, said: &Said) -> String {
    said.whole()
        .replace(&folder.path("").display().to_string(), "[folder]/")
        .replace(env!("CARGO_BIN_EXE_lapidary"), "[bin]/lapidary")
        .replace(
            env!("CARGO_BIN_EXE_lapidary").trim_end_matches("lapidary"),
            "[bin]/",
        )
}

#[test]
fn help() {
    let folder = Folder::new();
    insta::assert_snapshot!(stable(&folder, &folder.run(&["--help"])));
    insta::assert_snapshot!(stable(&folder, &folder.run(&["caption", "--help"])));
    insta::assert_snapshot!(stable(&folder, &folder.run(&["submit", "--help"])));
    insta::assert_snapshot!(stable(&folder, &folder.run(&["results", "--help"])));
}

#[test]
fn paths_that_lead_nowhere() {
    let folder = Folder::new();
    insta::assert_snapshot!(stable(&folder, &folder.caption(&["nowhere.txt"])), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: there is no file or folder `nowhere.txt`
    ");
}

#[test]
fn a_combining_prompt_without_the_captions() {
    let folder = Folder::new();
    folder.write("a.txt", "Alpha");
    insta::assert_snapshot!(stable(&folder, &folder.caption(&["a.txt", "--combine-prompt", "Summarise"])), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: --combine-prompt: the prompt has no `{text}`, so the document would not be in it
    ");
}

#[test]
fn an_unknown_model() {
    let folder = Folder::new();
    folder.write("a.txt", "Alpha");
    insta::assert_snapshot!(stable(&folder, &folder.caption(&["a.txt"])), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: there is no model `pretender`: no such file or folder, and no worker serves it
    ");
}

#[test]
fn an_unreachable_broker() {
    let folder = Folder::new();
    folder.write("a.txt", "Alpha");
    let said = folder.run(&[
        "caption",
        "a.txt",
        "--broker",
        "amqp://user:secret@127.0.0.1:1",
        "--results",
        "redis://127.0.0.1:1",
        "--media",
        "file:///tmp/nowhere",
        "--model",
        "m",
    ]);
    assert_eq!(said.code, Some(3));
    assert!(
        said.err
            .starts_with("error: queue at amqp://127.0.0.1:1 is unreachable: "),
        "{}",
        said.err
    );
    assert!(!said.err.contains("secret"), "{}", said.err);
}

#[test]
fn results_of_a_broker_must_be_named() {
    let folder = Folder::new();
    folder.write("a.txt", "Alpha");
    let said = folder.run(&[
        "caption",
        "a.txt",
        "--broker",
        "amqp://127.0.0.1:1",
        "--model",
        "m",
    ]);
    insta::assert_snapshot!(stable(&folder, &said), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: amqp://127.0.0.1:1 keeps no results: say where they are
    hint: name them with --results
    ");
}

#[test]
fn a_full_disk_stops_the_run_and_names_the_file() {
    let folder = Folder::new();
    let _worker = FakeWorker::start(&folder.store());
    folder.write("a.txt", "Alpha");
    insta::assert_snapshot!(stable(&folder, &folder.caption(&["a.txt", "--out", "/dev/full"])), @r"
    exit code: 1
    ----- stdout -----
    ----- stderr -----
    error: cannot write /dev/full: No space left on device (os error 28); 0 rows were written
    ");
}

#[test]
fn a_foreign_file_is_not_written_over() {
    let folder = Folder::new();
    let _worker = FakeWorker::start(&folder.store());
    folder.write("a.txt", "Alpha");
    folder.write("out.jsonl", "precious\n");
    insta::assert_snapshot!(stable(&folder, &folder.caption(&["a.txt", "--out", "out.jsonl"])), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: out.jsonl exists and out.jsonl.run.json does not say how it was made, so it cannot be continued
    hint: name another --out, or replace the file with --overwrite
    ");
    assert_eq!(
        std::fs::read_to_string(folder.path("out.jsonl")).unwrap(),
        "precious\n"
    );
    assert_eq!(
        folder
            .caption(&["a.txt", "--out", "out.jsonl", "--overwrite"])
            .code,
        Some(0)
    );
    assert_eq!(folder.rows("out.jsonl").len(), 1);
}

#[test]
fn settings_that_no_document_can_pass() {
    let folder = Folder::new();
    let _worker = FakeWorker::start(&folder.store());
    folder.write("a.txt", "Alpha");
    let said = folder.caption(&["a.txt", "--max-tokens", "1000"]);
    insta::assert_snapshot!(stable(&folder, &said), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: --max-tokens 1000 leaves no room for a prompt: the context of `pretender` is 1000 tokens
    ");
    let said = folder.caption(&["a.txt", "--temperature", "9"]);
    insta::assert_snapshot!(stable(&folder, &said), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: `temperature` is 9, the limit is 0 to 2
    ");
}

#[test]
fn a_hostile_document_breaks_only_its_reader() {
    let folder = Folder::new();
    let _worker = FakeWorker::start(&folder.store());
    folder.write("a.txt", "Alpha");
    // Objects that refer to each other, and a length beyond the file.
    let loop_pdf = b"%PDF-1.4\n1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj\n\
        2 0 obj << /Type /Pages /Count 1 /Kids [2 0 R] /Parent 2 0 R >> endobj\n\
        trailer << /Root 1 0 R /Size 999999999 >>\n%%EOF\n";
    folder.write("loop.pdf", loop_pdf);
    let said = folder.caption(&["a.txt", "loop.pdf", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    let rows = folder.rows("out.jsonl");
    assert!(rows["a.txt"].failure.is_none());
    assert!(
        rows["loop.pdf"]
            .failure
            .as_ref()
            .unwrap()
            .message
            .starts_with("loop.pdf ")
    );
}
