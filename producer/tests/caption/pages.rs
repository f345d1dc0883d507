//! PDF files: their text, or their pages as pictures.

use lapidary_schemas::Status;

use crate::fake_worker::FakeWorker;
use crate::pictures::{failures, png};
use crate::program::Folder;

const TEXT: &[u8] = include_bytes!("../../../tests/fixtures/documents/two-pages.pdf");
/// Three scanned pages, of which the last is the first again.
const SCAN: &[u8] = include_bytes!("../../../tests/fixtures/documents/scan.pdf");
/// Three pages, in the second of which an image is broken.
const BROKEN: &[u8] = include_bytes!("../../../tests/fixtures/documents/broken-page.pdf");

/// Names of the rows, in their order.
fn names(folder: &Folder, file: &str) -> Vec<String> {
    folder.rows(file).into_keys().collect()
}

#[test]
fn what_has_text_is_read_and_what_has_none_is_looked_at() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    folder.write("mix/a.pdf", TEXT);
    folder.write("mix/b.pdf", SCAN);
    let args = ["mix", "--out", "out.jsonl"];
    let said = folder.caption(&args);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let rows = folder.rows("out.jsonl");
    let text = |name: &str| rows[name].text.clone().unwrap();
    assert_eq!(
        names(&folder, "out.jsonl"),
        [
            "mix/a.pdf",
            "mix/b.pdf#page=1",
            "mix/b.pdf#page=2",
            "mix/b.pdf#page=3"
        ]
    );
    assert!(text("mix/a.pdf").ends_with(" words from A"));
    assert!(text("mix/b.pdf#page=1").starts_with("picture of "));
    assert_ne!(text("mix/b.pdf#page=1"), text("mix/b.pdf#page=2"));
    assert_eq!(
        rows["mix/b.pdf#page=3"].same_as.as_deref(),
        Some("mix/b.pdf#page=1")
    );
    assert_eq!(worker.answered(), 3);
    // A page is known again by what it shows.
    let said = folder.caption(&args);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("4 documents done before"), "{}", said.err);
    assert_eq!(worker.answered(), 3);
}

#[test]
fn the_user_decides_what_is_read() {
    let folder = Folder::new();
    let _worker = FakeWorker::seeing(&folder.store());
    folder.write("a.pdf", TEXT);
    folder.write("b.pdf", SCAN);
    let said = folder.caption(&["a.pdf", "--out", "pages.jsonl", "--pdf", "pages"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let pages = ["a.pdf#page=1", "a.pdf#page=2"];
    assert_eq!(names(&folder, "pages.jsonl"), pages);
    // Only pictures can be asked so.
    let said = folder.caption(&["a.pdf", "--out", "asked.jsonl", "--prompt", "What?"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(names(&folder, "asked.jsonl"), pages);
    let said = folder.caption(&["b.pdf", "--out", "text.jsonl", "--pdf", "text"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    let no_text = "MEDIA_INVALID: b.pdf has no text on its pages; a scan needs a model that reads \
                   images";
    assert_eq!(failures(&folder, "text.jsonl"), no_text);
    // Only texts can be asked so.
    let said = folder.caption(&["b.pdf", "--out", "prompt.jsonl", "--prompt", "{text}"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(failures(&folder, "prompt.jsonl"), no_text);
}

#[test]
fn broken_pages_and_files_fail_alone_and_by_name() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    folder.write("docs/page.pdf", BROKEN);
    folder.write("docs/no.pdf", "%PDF-1.7\n1 0 obj << /Type");
    folder.write(
        "docs/locked.pdf",
        include_bytes!("../../../tests/fixtures/documents/locked.pdf"),
    );
    folder.write("docs/many.pdf", pages_without_an_image(40));
    folder.write("docs/too-many.pdf", pages_without_an_image(10_001));
    let said = folder.caption(&["docs", "--out", "out.jsonl", "--pdf", "pages"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    let rows = folder.rows("out.jsonl");
    assert_eq!(worker.answered(), 2);
    for page in ["docs/page.pdf#page=1", "docs/page.pdf#page=3"] {
        assert_eq!(rows[page].status, Status::Succeeded, "{page}");
    }
    let failures = failures(&folder, "out.jsonl");
    let (of_many, others): (Vec<&str>, Vec<&str>) = failures
        .lines()
        .partition(|line| line.contains("docs/many.pdf#page="));
    assert_eq!(of_many.len(), 16);
    insta::assert_snapshot!(others.join("\n"), @r"
    MEDIA_INVALID: docs/locked.pdf is a PDF locked by a password
    MEDIA_INVALID: docs/many.pdf has 16 pages in a row that cannot be drawn; those behind page 16 of 40 were not tried
    MEDIA_INVALID: docs/no.pdf is not a PDF or is damaged beyond repair
    MEDIA_INVALID: docs/page.pdf#page=2 has an image that cannot be decoded
    MEDIA_TOO_LARGE: docs/too-many.pdf has 10001 pages, the limit of a PDF is 10000
    ");
}

/// A PDF whose pages all show the same image, which is none.
fn pages_without_an_image(pages: usize) -> String {
    let page = "<</Type/Page/MediaBox[0 0 9 9]/Contents 3 0 R/Resources<</XObject<</I 4 0 R>>>>>>";
    format!(
        "%PDF-1.4\n1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj\n\
         2 0 obj <</Type/Pages/Count {pages}/Kids[{}]>> endobj\n\
         3 0 obj <</Length 18>> stream\n9 0 0 9 0 0 cm /I Do\nendstream endobj\n\
         4 0 obj <</Type/XObject/Subtype/Image/Width 9/Height 9/ColorSpace/DeviceRGB\
         /BitsPerComponent 8/Filter/DCTDecode/Length 4>> stream\nnone\nendstream endobj\n\
         trailer <</Root 1 0 R>>\n",
        page.repeat(pages)
    )
}

#[test]
fn pages_have_no_place_beside_files() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    folder.write("data/a.png", png("a"));
    folder.write("data/b.pdf", SCAN);
    let args = ["data", "--out", "data/metadata.jsonl"];
    let said = folder.caption(&[&args[..], &["--format", "imagefolder"]].concat());
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(
        said.err
            .contains("3 captioned documents are no files below the folder of the file"),
        "{}",
        said.err
    );
    let lines = std::fs::read_to_string(folder.path("data/metadata.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.starts_with(r#"{"file_name":"a.png","#), "{lines}");
    let said = folder.caption(&["data", "--out", "out.jsonl", "--sidecar", "--pdf", "pages"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(
        said.err
            .contains("3 captioned documents have no text file beside them"),
        "{}",
        said.err
    );
    assert!(folder.path("data/a.txt").is_file());
    // Unless pages are asked for, a PDF is passed over there like a text.
    let answered = worker.answered();
    let said = folder.caption(&["data", "--out", "pictures.jsonl", "--sidecar"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(names(&folder, "pictures.jsonl"), ["data/a.png"]);
    assert_eq!(worker.answered(), answered + 1);
}
