//! Pictures inside archives and tables.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::{Field, Row};
use parquet::schema::parser::parse_message_type;

use crate::fake_worker::FakeWorker;
use crate::pictures::{failures, png};
use crate::program::Folder;

#[test]
fn shards_of_a_webdataset() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    for shard in 0..2 {
        std::fs::create_dir_all(folder.path("shards")).unwrap();
        let file = File::create(folder.path(&format!("shards/{shard}.tar"))).unwrap();
        let mut archive = tar::Builder::new(file);
        for sample in 0..20 {
            for (ending, bytes) in [
                ("png", png(&format!("{shard} {sample}"))),
                ("txt", b"a caption of old".to_vec()),
                ("json", b"{}".to_vec()),
            ] {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                let name = format!("{sample:03}.{ending}");
                archive
                    .append_data(&mut header, name, bytes.as_slice())
                    .unwrap();
            }
        }
        archive.finish().unwrap();
    }
    folder.write("shards/bad.tar", "no archive at all".repeat(100));
    let said = folder.caption(&["shards", "--out", "out.jsonl", "--prompt", "What?"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    let rows = folder.rows("out.jsonl");
    assert_eq!((rows.len(), worker.answered()), (41, 40));
    assert_eq!(
        rows["shards/1.tar/007.png"].text.as_deref(),
        Some("picture of 11 bytes: What?")
    );
    assert!(
        failures(&folder, "out.jsonl")
            .starts_with("MEDIA_INVALID: shards/bad.tar is damaged behind 0 members: "),
        "{}",
        failures(&folder, "out.jsonl")
    );
    let said = folder.caption(&["shards", "--out", "out.jsonl", "--prompt", "What?"]);
    assert!(
        said.err.contains("40 documents done before"),
        "{}",
        said.err
    );
    assert_eq!(worker.answered(), 40);
}

/// A table as Hugging Face writes it: a struct of bytes and a path, and a label.
#[expect(clippy::unwrap_used, reason = "helper of tests")]
pub(crate) fn write_table(path: &Path, pictures: &[Vec<u8>], properties: WriterProperties) {
    let file = File::create(path).unwrap();
    let schema = "message m {
        optional int64 label;
        optional group image { optional binary bytes; optional binary path (UTF8); }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut table = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut group = table.next_row_group().unwrap();
    let nulls = vec![0; pictures.len()];
    while let Some(mut column) = group.next_column().unwrap() {
        match column.untyped() {
            ColumnWriter::Int64ColumnWriter(column) => {
                column.write_batch(&[], Some(&nulls), None).unwrap();
            }
            ColumnWriter::ByteArrayColumnWriter(column)
                if column.get_descriptor().name() == "bytes" =>
            {
                let bytes: Vec<ByteArray> = pictures
                    .iter()
                    .map(|picture| ByteArray::from(picture.clone()))
                    .collect();
                let levels = vec![2; pictures.len()];
                column.write_batch(&bytes, Some(&levels), None).unwrap();
            }
            ColumnWriter::ByteArrayColumnWriter(column) => {
                column.write_batch(&[], Some(&nulls), None).unwrap();
            }
            _ => panic!("no such column"),
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    table.close().unwrap();
}

#[test]
fn rows_of_a_table_in_and_a_table_out() {
    let folder = Folder::new();
    let worker = FakeWorker::seeing(&folder.store());
    let mut pictures: Vec<Vec<u8>> = (0..30).map(|row| png(&format!("row {row}"))).collect();
    pictures[3] = b"<html>".to_vec();
    write_table(
        &folder.path("train.parquet"),
        &pictures,
        WriterProperties::default(),
    );
    folder.write("bad.parquet", "PAR1 and nothing else");
    let said = folder.caption(&["train.parquet", "bad.parquet", "--out", "out.parquet"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(worker.answered(), 29);
    let rows = folder.rows("out.parquet.rows.jsonl");
    assert_eq!(rows.len(), 31);
    assert!(
        rows["train.parquet#29"]
            .text
            .as_ref()
            .unwrap()
            .starts_with("picture of 14 bytes: ")
    );
    let failures = failures(&folder, "out.parquet.rows.jsonl");
    let (first, second) = failures.split_once('\n').unwrap();
    assert!(
        first.starts_with("MEDIA_INVALID: bad.parquet is damaged or not understood: "),
        "{first}"
    );
    assert_eq!(
        second,
        "MEDIA_INVALID: train.parquet#3 is HTML, not a picture of pixels"
    );
    let table = File::open(folder.path("out.parquet")).unwrap();
    let table = SerializedFileReader::new(table).unwrap();
    let written: Vec<Row> = table
        .get_row_iter(None)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(written.len(), 31);
    let field = |row: &Row, name: &str| {
        let mut fields = row.get_column_iter();
        fields
            .find(|(column, _)| *column == name)
            .unwrap()
            .1
            .clone()
    };
    let name = Field::Str("train.parquet#7".to_owned());
    let row = written
        .iter()
        .find(|row| field(row, "name") == name)
        .unwrap();
    let text = rows["train.parquet#7"].text.clone().unwrap();
    assert_eq!(field(row, "text"), Field::Str(text));
    assert_eq!(field(row, "image_tokens"), Field::UInt(16));
}
