//! Documents in, captions out.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use lapidary_schemas::{FailureCode, Status};

use crate::fake_worker::FakeWorker;
use crate::program::Folder;

#[test]
fn every_kind_of_document_gets_a_row() {
    let folder = Folder::new();
    let _worker = FakeWorker::start(&folder.store());
    folder.write("docs/a.txt", "Alpha is the first letter.");
    folder.write("docs/deep/b.md", "# Beta\n\nThe second letter.");
    folder.write(
        "docs/c.html",
        "<html><body><p>Gamma rays</p><script>no()</script></body></html>",
    );
    folder.write(
        "docs/d.pdf",
        include_bytes!("../../../tests/fixtures/documents/two-pages.pdf"),
    );
    folder.write("docs/e.svg", "not read");
    let said = folder.caption(&["docs", "--out", "out.jsonl", "--prompt", "{text}"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(said.out, "");
    let rows = folder.rows("out.jsonl");
    let text = |name: &str| rows[name].text.clone().unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!(text("docs/a.txt"), " 5 words from Alpha");
    assert_eq!(text("docs/deep/b.md"), " 5 words from #");
    assert_eq!(text("docs/c.html"), " 2 words from Gamma");
    assert_eq!(text("docs/d.pdf"), " 17 words from A");
    assert!(said.err.contains("4 documents captioned"), "{}", said.err);
    assert!(
        said.err.contains("1 files of other kinds passed over"),
        "{}",
        said.err
    );
}

#[test]
fn bad_documents_fail_alone_and_by_name() {
    let folder = Folder::new();
    let _worker = FakeWorker::start(&folder.store());
    folder.write("docs/good.txt", "A good document.");
    folder.write("docs/empty.txt", "");
    let noise: Vec<u8> = (0..5_000_u32)
        .map(|i| u8::try_from(i * i % 251).unwrap())
        .collect();
    folder.write("docs/noise.txt", noise);
    folder.write("docs/broken.pdf", "%PDF-1.7\n1 0 obj << /Type");
    folder.write(
        "docs/no-text.pdf",
        include_bytes!("../../../tests/fixtures/documents/no-text.pdf"),
    );
    folder.write("docs/huge.txt", "");
    let huge = std::fs::File::options()
        .write(true)
        .open(folder.path("docs/huge.txt"))
        .unwrap();
    huge.set_len(200 << 20).unwrap();
    let said = folder.caption(&["docs", "docs/gone*.txt", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    let rows = folder.rows("out.jsonl");
    assert_eq!(rows["docs/good.txt"].status, Status::Succeeded);
    let mut failures: Vec<String> = rows
        .values()
        .filter_map(|row| row.failure.as_ref())
        .map(|failure| {
            failure
                .to_string()
                .split(" offset ")
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    failures.sort();
    insta::assert_snapshot!(failures.join("\n"), @r"
    MEDIA_INVALID: docs/broken.pdf is not a PDF or is damaged beyond repair
    MEDIA_INVALID: docs/empty.txt is empty
    MEDIA_INVALID: docs/no-text.pdf has no text on its pages; a scan needs a model that reads images
    MEDIA_INVALID: docs/noise.txt is not text: byte 0x90 at
    MEDIA_TOO_LARGE: docs/huge.txt is 209715200 bytes, the limit of a document is 67108864
    ");
    for line in [
        "5 documents failed:",
        "     4  MEDIA_INVALID",
        "     1  MEDIA_TOO_LARGE",
    ] {
        assert!(said.err.contains(line), "{}", said.err);
    }
}

#[test]
fn only_what_is_missing_is_done_again() {
    let folder = Folder::new();
    let worker = FakeWorker::start(&folder.store());
    for i in 0..40 {
        folder.write(&format!("docs/{i}.txt"), format!("Document {i}."));
    }
    folder.write("docs/bad.txt", "");
    assert_eq!(
        folder.caption(&["docs", "--out", "out.jsonl"]).code,
        Some(1)
    );
    assert_eq!(worker.answered(), 40);
    // One changed, one mended, one new; a crash tore the last line.
    folder.write("docs/3.txt", "Changed.");
    folder.write("docs/bad.txt", "Mended.");
    folder.write("docs/new.txt", "New.");
    let path = folder.path("out.jsonl");
    let text = std::fs::read_to_string(&path).unwrap() + "{\"name\":\"torn";
    std::fs::write(&path, text).unwrap();
    let said = folder.caption(&["docs", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(worker.answered(), 43);
    let rows = folder.rows("out.jsonl");
    assert_eq!(rows.len(), 42);
    assert!(rows.values().all(|row| row.status == Status::Succeeded));
    assert!(
        said.err.contains("39 documents done before"),
        "{}",
        said.err
    );
    let said = folder.caption(&["docs", "--out", "out.jsonl", "--temperature", "0"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.err
            .contains("--temperature was not given, now it is 0"),
        "{}",
        said.err
    );
    assert_eq!(folder.rows("out.jsonl").len(), 42);
}

#[test]
fn a_long_document_is_captioned_in_parts() {
    let folder = Folder::new();
    let worker = FakeWorker::start(&folder.store());
    // 20,000 words in 80 KB: over the context many times, and over what travels inline.
    folder.write("long.txt", "abc ".repeat(20_000));
    folder.write("dense.txt", "a ".repeat(1_200));
    let said = folder.caption(&[
        "long.txt",
        "dense.txt",
        "--out",
        "out.jsonl",
        "--prompt",
        "{text}",
    ]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let rows = folder.rows("out.jsonl");
    assert!(rows["long.txt"].parts >= 23, "{:?}", rows["long.txt"]);
    assert_eq!(
        rows["dense.txt"].parts, 2,
        "cut by the tokens that the failure named"
    );
    assert!(worker.answered() > 25);
    let said = folder.caption(&[
        "long.txt",
        "--out",
        "cut.jsonl",
        "--prompt",
        "{text}",
        "--long",
        "truncate",
    ]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let row = &folder.rows("cut.jsonl")["long.txt"];
    assert!(row.truncated && row.parts == 1);
    let said = folder.caption(&[
        "long.txt", "--out", "no.jsonl", "--prompt", "{text}", "--long", "refuse",
    ]);
    assert_eq!(said.code, Some(1));
    let failure = folder.rows("no.jsonl")["long.txt"].failure.clone().unwrap();
    assert_eq!(failure.code, FailureCode::PromptTooLong);
    assert_eq!(
        failure.message,
        "long.txt: prompt is 20000 tokens and asks for 128 more, the limit for `pretender` is 1000 together"
    );
}

#[test]
fn interrupted_and_started_again() {
    let folder = Folder::new();
    for i in 0..600 {
        folder.write(&format!("docs/{i}.txt"), format!("Document {i}."));
    }
    let first = FakeWorker::with_limit(&folder.store(), 100);
    let mut child = folder
        .command(&[
            "caption",
            "docs",
            "--store",
            "lapidary.db",
            "--model",
            "pretender",
            "--out",
            "out.jsonl",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first row in the file is the sign that work has begun.
    let rows = folder.path("out.jsonl");
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while std::fs::metadata(&rows).map_or(0, |about| about.len()) == 0 {
        assert!(std::time::Instant::now() < deadline, "no row came");
        std::thread::yield_now();
    }
    let interrupt = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let lines: Vec<String> = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{lines:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("the same command again does what is missing")),
        "{lines:?}"
    );
    let done = u64::try_from(folder.rows("out.jsonl").len()).unwrap();
    assert!((1..600).contains(&done));
    drop(first);
    let second = FakeWorker::start(&folder.store());
    let said = folder.caption(&["docs", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(folder.rows("out.jsonl").len(), 600);
    assert_eq!(second.answered(), 600 - done);
}

#[test]
fn rows_on_standard_output() {
    let folder = Folder::new();
    let _worker = FakeWorker::start(&folder.store());
    folder.write("a.txt", "Alpha");
    let said = folder.caption(&["a.txt", "--seed", "7"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let row: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&row["name"], &row["seed"]), (&"a.txt".into(), &7.into()));
}
