//! Tables that are hostile, damaged or large.

use std::io::Read as _;
use std::process::Stdio;

use parquet::file::properties::WriterProperties;

use crate::archives::write_table;
use crate::fake_worker::FakeWorker;
use crate::pictures::{failures, png};
use crate::program::Folder;

/// A page of lengths that says it has 2^60 of them.
const MORE_VALUES_THAN_MEMORY: &[u8] =
    include_bytes!("../../../tests/fuzz/seeds/parquet/more-values-than-memory");

/// Pictures stand in the file as they are, a page each.
fn a_page_each() -> WriterProperties {
    let properties = WriterProperties::builder().set_dictionary_enabled(false);
    properties
        .set_write_batch_size(1)
        .set_data_page_size_limit(1)
        .build()
}

/// Captions `documents`, which give so many rows, of which one is this failure.
fn all_but_one(folder: &Folder, documents: &str, rows: usize, failure: &str) {
    let said = folder.caption(&[documents, "--out", "out.jsonl"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(folder.rows("out.jsonl").len(), rows);
    assert_eq!(failures(folder, "out.jsonl"), failure);
}

#[test]
fn a_hostile_table_breaks_only_its_reader() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    let pictures: Vec<Vec<u8>> = (0..3).map(|row| png(&format!("row {row}"))).collect();
    folder.write("mix/a.parquet", MORE_VALUES_THAN_MEMORY);
    folder.write("mix/c.png", png("alone"));
    write_table(
        &folder.path("mix/b.parquet"),
        &pictures,
        WriterProperties::default(),
    );
    all_but_one(
        &folder,
        "mix",
        5,
        "MEDIA_INVALID: mix/a.parquet needs more than 2048 MiB of memory to be read",
    );
    assert_eq!(worker.answered(), 4);
}

#[test]
fn rows_before_the_damage_are_captioned() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    let pictures: Vec<Vec<u8>> = (0..30).map(|row| png(&format!("row {row}"))).collect();
    let path = folder.path("train.parquet");
    write_table(&path, &pictures, a_page_each());
    let mut bytes = std::fs::read(&path).unwrap();
    let picture = &pictures[20];
    let mut places = bytes.windows(picture.len());
    let place = places.position(|stretch| stretch == picture).unwrap();
    // Its length, which stands before it.
    bytes[place - 4..place].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    // The row before the damage is read together with it.
    all_but_one(
        &folder,
        "train.parquet",
        20,
        "MEDIA_INVALID: train.parquet is damaged or not understood: EOF: Not enough bytes to decode",
    );
    assert_eq!(worker.answered(), 19);
    assert!(folder.rows("out.jsonl")["train.parquet#18"].text.is_some());
}

#[test]
fn a_picture_over_the_limit_fails_alone() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    let pictures = [png("first"), vec![0; (64 << 20) + 1], png("last")];
    let path = folder.path("train.parquet");
    write_table(&path, &pictures, a_page_each());
    all_but_one(
        &folder,
        "train.parquet",
        3,
        "MEDIA_TOO_LARGE: train.parquet#1 is 67108865 bytes, the limit of a document is 67108864",
    );
    assert_eq!(worker.answered(), 2);
}

/// The number behind a word in a file about a process.
#[expect(clippy::unwrap_used, reason = "helper of tests")]
fn number(process: u32, file: &str, word: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

#[test]
fn a_large_table_is_read_as_its_pictures_are_taken() {
    let folder = Folder::new();
    let pictures: Vec<Vec<u8>> = (0..100)
        .map(|row| png(&format!("{row:08}").repeat(1 << 17)))
        .collect();
    let path = folder.path("train.parquet");
    write_table(&path, &pictures, a_page_each());
    let table_bytes = std::fs::metadata(&path).unwrap().len();
    assert!(table_bytes > 100 << 20, "{table_bytes}");
    // As `caption` starts it.
    let mut command = folder.command(&["read-document", "--path", "train.parquet", "table"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut take = || {
        let mut length = [0; 8];
        out.read_exact(&mut length).unwrap();
        let mut picture = vec![0; usize::try_from(u64::from_le_bytes(length)).unwrap()];
        out.read_exact(&mut picture).unwrap();
        picture
    };
    assert!(take() == pictures[0]);
    // It waits for somebody to take the second one.
    let read_bytes = number(child.id(), "io", "rchar:");
    assert!(
        read_bytes < table_bytes / 4,
        "{read_bytes} of {table_bytes}"
    );
    for picture in &pictures[1..99] {
        assert!(take() == *picture);
    }
    let peak_bytes = number(child.id(), "status", "VmHWM:") << 10;
    assert!(
        peak_bytes < table_bytes / 2,
        "{peak_bytes} of {table_bytes}"
    );
    // Nobody wants the last one.
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(65));
    let complaint = String::from_utf8(ended.stderr).unwrap();
    assert!(complaint.starts_with("cannot be written: "), "{complaint}");
}
