//! Parquet, compressed by Snappy.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::record::RecordWriter as _;

use super::each_row;
use super::flat::Flat;

/// Rows that are in memory at once, and together in the file.
const ROW_GROUP_MAX: usize = 10_000;

/// Writes all rows.
pub(super) fn write(rows: &Path, out: &mut (impl Write + Send)) -> io::Result<()> {
    let schema = (&[] as &[Flat]).schema().map_err(failed)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut table = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(failed)?;
    let mut group = Vec::with_capacity(ROW_GROUP_MAX);
    let mut write_group = |group: &mut Vec<Flat>| {
        let mut writer = table.next_row_group()?;
        group.as_slice().write_to_row_group(&mut writer)?;
        writer.close()?;
        group.clear();
        Ok(())
    };
    each_row(rows, |row| {
        group.push(Flat::from(row));
        if group.len() == ROW_GROUP_MAX {
            write_group(&mut group).map_err(failed)?;
        }
        Ok(())
    })?;
    if !group.is_empty() {
        write_group(&mut group).map_err(failed)?;
    }
    table.close().map_err(failed)?;
    Ok(())
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Row;
    use std::collections::HashMap;

    use lapidary_schemas::{Failure, FailureCode};
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (rows, path) = (folder.path().join("rows"), folder.path().join("out"));
        let mut lines = String::new();
        for number in 0..=ROW_GROUP_MAX {
            let failure = Failure::new(FailureCode::MediaInvalid, "é");
            let mut row = Row::refused(number.to_string(), failure);
            row.seed = Some(u64::MAX);
            lines += &(serde_json::to_string(&row).unwrap() + "\n");
        }
        std::fs::write(&rows, lines).unwrap();
        write(&rows, &mut std::fs::File::create(&path).unwrap()).unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.num_row_groups(), 2);
        let rows: Vec<_> = reader
            .get_row_iter(None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows.len(), ROW_GROUP_MAX + 1);
        let last: HashMap<&String, &Field> = rows.last().unwrap().get_column_iter().collect();
        let field = |name: &str| last[&name.to_owned()].clone();
        assert_eq!(field("name"), Field::Str(ROW_GROUP_MAX.to_string()));
        assert_eq!(field("text"), Field::Null);
        assert_eq!(field("seed"), Field::ULong(u64::MAX));
        assert_eq!(field("truncated"), Field::Bool(false));
        assert_eq!(field("failure_message"), Field::Str("é".to_owned()));
    }
}
