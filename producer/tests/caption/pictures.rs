//! Pictures in, captions out. The worker here decodes nothing, so a picture is its first bytes.

use lapidary_schemas::Status;

use crate::fake_worker::{FakeWorker, IMAGE_TOKENS};
use crate::program::Folder;

/// A picture as far as its header says; `content` tells it from others.
pub(crate) fn png(content: &str) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n", content.as_bytes()].concat()
}

/// The failures of a file of rows, sorted.
pub(crate) fn failures(folder: &Folder, file: &str) -> String {
    let rows = folder.rows(file);
    let failures = rows.values().filter_map(|row| row.failure.as_ref());
    let mut failures: Vec<String> = failures.map(ToString::to_string).collect();
    failures.sort();
    failures.join("\n")
}

#[test]
fn pictures_and_texts_of_a_folder_get_rows() {
    let folder = Folder::new();
    let _worker = FakeWorker::seeing(&folder.store());
    folder.write("mix/a.png", png("a"));
    folder.write("mix/deep/b.JPEG", b"\xff\xd8\xff\xe0 and more");
    folder.write("mix/c.txt", "Gamma rays.");
    // Larger than what may travel inside a job.
    folder.write("mix/d.png", png(&"d".repeat(100_000)));
    let said = folder.caption(&["mix", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let rows = folder.rows("out.jsonl");
    let text = |name: &str| rows[name].text.clone().unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!(
        text("mix/a.png"),
        "picture of 9 bytes: Write a caption for this image: one or two sentences that say what \
         it shows. Answer with the caption alone."
    );
    assert!(text("mix/deep/b.JPEG").starts_with("picture of 13 bytes: "));
    assert!(text("mix/d.png").starts_with("picture of 100008 bytes: "));
    assert!(text("mix/c.txt").ends_with(" words from Gamma"));
    assert_eq!(rows["mix/a.png"].usage.image_tokens, IMAGE_TOKENS);
    assert_eq!(rows["mix/a.png"].parts, 1);
    assert_eq!(rows["mix/c.txt"].usage.image_tokens, 0);
}

#[test]
fn what_is_no_picture_fails_alone_and_by_name() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    folder.write("pics/good.png", png("good"));
    folder.write("pics/empty.gif", "");
    folder.write("pics/page.jpg", "<!DOCTYPE html><title>Not found</title>");
    folder.write(
        "pics/drawing.png",
        "<svg xmlns='http://www.w3.org/2000/svg'/>",
    );
    folder.write("pics/noise.webp", "whatever");
    folder.write("pics/huge.bmp", "BM");
    let huge = std::fs::File::options()
        .write(true)
        .open(folder.path("pics/huge.bmp"))
        .unwrap();
    huge.set_len(100 << 20).unwrap();
    folder.write("drawing.svg", "<svg/>");
    let said = folder.caption(&["pics", "drawing.svg", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(worker.answered(), 1);
    assert_eq!(
        folder.rows("out.jsonl")["pics/good.png"].status,
        Status::Succeeded
    );
    insta::assert_snapshot!(failures(&folder, "out.jsonl"), @r"
    MEDIA_INVALID: pics/drawing.png is SVG, not a picture of pixels
    MEDIA_INVALID: pics/empty.gif is empty
    MEDIA_INVALID: pics/noise.webp begins like no JPEG, PNG, WebP, GIF, BMP or TIFF
    MEDIA_INVALID: pics/page.jpg is HTML, not a picture of pixels
    MEDIA_TOO_LARGE: pics/huge.bmp is 104857600 bytes, the limit of a document is 67108864
    VALIDATION_ERROR: drawing.svg is of no kind that can be read (.txt .md .html .htm .pdf .jpg .jpeg .png .webp .gif .bmp .tif .tiff .tar .parquet)
    ");
}

#[test]
fn a_model_that_reads_no_pictures_captions_the_texts() {
    let folder = Folder::new();
    let _worker = FakeWorker::start(&folder.store());
    folder.write("mix/a.png", png("a"));
    folder.write("mix/b.png", png("b"));
    folder.write("mix/c.txt", "Gamma rays.");
    let said = folder.caption(&["mix", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(
        folder.rows("out.jsonl")["mix/c.txt"].status,
        Status::Succeeded
    );
    insta::assert_snapshot!(failures(&folder, "out.jsonl"), @r"
    VALIDATION_ERROR: mix/a.png: part 0 of message 0 is image, which `pretender` does not read
    VALIDATION_ERROR: mix/b.png: part 0 of message 0 is image, which `pretender` does not read
    ");
}

#[test]
fn a_prompt_is_for_texts_or_for_pictures() {
    let folder = Folder::new();
    let _worker = FakeWorker::seeing(&folder.store());
    folder.write("mix/a.png", png("a"));
    folder.write("mix/b.txt", "Beta.");
    let said = folder.caption(&["mix", "--out", "out.jsonl", "--prompt", "What is {name}?"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(
        folder.rows("out.jsonl")["mix/a.png"].text.as_deref(),
        Some("picture of 9 bytes: What is mix/a.png?")
    );
    insta::assert_snapshot!(failures(&folder, "out.jsonl"), @"VALIDATION_ERROR: mix/b.txt: the prompt has no `{text}`, so the document would not be in it");
    let said = folder.caption(&["mix", "--out", "texts.jsonl", "--prompt", "{text}"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    insta::assert_snapshot!(failures(&folder, "texts.jsonl"), @"VALIDATION_ERROR: mix/a.png: the prompt has `{text}`, but a picture has no text");
}

#[test]
fn the_same_picture_is_captioned_once() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    for i in 0..300 {
        folder.write(&format!("pics/{i}.png"), png(&format!("{}", i % 3)));
    }
    let said = folder.caption(&["pics", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(worker.answered(), 3);
    assert!(
        said.err
            .contains("300 documents captioned, 297 of them the same as another"),
        "{}",
        said.err
    );
    let rows = folder.rows("out.jsonl");
    assert_eq!(rows.len(), 300);
    for i in 0..300 {
        let row = &rows[&format!("pics/{i}.png")];
        let Some(first) = &row.same_as else {
            assert_eq!(row.usage.image_tokens, IMAGE_TOKENS);
            continue;
        };
        assert_eq!(row.usage.prompt_tokens, 0, "{}", row.name);
        assert_eq!((&row.text, &row.key), (&rows[first].text, &rows[first].key));
        assert_eq!(rows[first].same_as, None);
    }
    // All of them are done, those that were not asked about too.
    let said = folder.caption(&["pics", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(worker.answered(), 3);
    assert!(
        said.err.contains("300 documents done before"),
        "{}",
        said.err
    );
}

#[test]
fn only_changed_and_new_pictures_are_captioned_again() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    for i in 0..50 {
        folder.write(&format!("pics/{i}.png"), png(&format!("picture {i}")));
    }
    folder.write("pics/bad.png", "");
    assert_eq!(
        folder.caption(&["pics", "--out", "out.jsonl"]).code,
        Some(1)
    );
    assert_eq!(worker.answered(), 50);
    folder.write("pics/7.png", png("changed"));
    folder.write("pics/bad.png", png("mended"));
    folder.write("pics/new.png", png("new"));
    let said = folder.caption(&["pics", "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(worker.answered(), 53);
    assert_eq!(folder.rows("out.jsonl").len(), 52);
    let said = folder.caption(&["pics", "--out", "out.jsonl", "--prompt", "What?"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("--prompt"), "{}", said.err);
}
