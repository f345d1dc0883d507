//! Pictures in the rows of Parquet files, as Hugging Face stores them: a column `image` that is a
//! struct with `bytes`, or bytes itself. What is read here may be hostile, so it happens in a process of
//! its own ([`crate::isolate`]).

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader as _, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};

use crate::isolate::frames;

/// The column that is looked at, if there is one of this name.
const IMAGE: &str = "image";
/// The field of a struct that holds a picture.
const BYTES: &str = "bytes";
/// Rows that are decoded at once.
const ROWS_AT_ONCE: usize = 1;

/// Why a table cannot be read; continues a sentence that begins with its name.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// No table, none with pictures, or one that breaks off.
    #[error("is damaged or not understood: {0}")]
    Damaged(#[from] ParquetError),
    /// What was read cannot be handed on.
    #[error("cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// How many rows a table says that it has.
pub fn rows(table: impl ChunkReader + 'static) -> Result<u64, TableError> {
    let reader = SerializedFileReader::new(table)?;
    let rows = reader.metadata().file_metadata().num_rows();
    u64::try_from(rows).map_err(|_| ParquetError::General(format!("it has {rows} rows")).into())
}

/// Hands the pictures of a table on, a frame a row, each before the next one is read.
pub fn write_pictures(
    table: impl ChunkReader + 'static,
    out: &mut impl Write,
) -> Result<(), TableError> {
    let reader = SerializedFileReader::new(table)?;
    let schema = reader.metadata().file_metadata().schema();
    let image = image_column(schema).ok_or_else(|| {
        ParquetError::General(format!(
            "no column is a struct with `{BYTES}`, and none is `{IMAGE}` with bytes"
        ))
    })?;
    let projection = Type::group_type_builder(schema.name())
        .with_fields(vec![Arc::clone(image)])
        .build()?;
    for row in RowIter::from_file(Some(projection), &reader)?.with_batch_size(ROWS_AT_ONCE) {
        frames::write(out, bytes_of(&row?))?;
    }
    Ok(())
}

/// The column of pictures: `image`, or else the first struct with bytes.
fn image_column(schema: &Type) -> Option<&TypePtr> {
    let columns = schema.get_fields();
    let is_bytes = |column: &TypePtr| {
        column.is_primitive() && column.get_physical_type() == Physical::BYTE_ARRAY
    };
    let is_struct = |column: &TypePtr| {
        column.is_group()
            && column
                .get_fields()
                .iter()
                .any(|field| field.name() == BYTES && is_bytes(field))
    };
    columns
        .iter()
        .find(|column| column.name() == IMAGE && (is_struct(column) || is_bytes(column)))
        .or_else(|| columns.iter().find(|column| is_struct(column)))
}

fn bytes_of(row: &Row) -> Option<&[u8]> {
    row.get_column_iter().find_map(|(name, field)| match field {
        Field::Group(image) => bytes_of(image),
        Field::Bytes(bytes) if name == BYTES || name == IMAGE => Some(bytes.data()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolate::frames::Frame;
    use parquet::column::writer::ColumnWriter;
    use parquet::data_type::ByteArray;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    /// A table of one column of bytes, some of them null.
    fn table(schema: &str, values: &[Option<&str>], present: i16) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().build());
        let out = file.reopen().unwrap();
        let mut writer = SerializedFileWriter::new(out, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let levels: Vec<i16> = values
            .iter()
            .map(|value| if value.is_some() { present } else { 0 })
            .collect();
        let bytes: Vec<ByteArray> = values
            .iter()
            .flatten()
            .map(|v| ByteArray::from(*v))
            .collect();
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(column) => {
                column.write_batch(&bytes, Some(&levels), None).unwrap();
            }
            _ => panic!("a column of bytes"),
        }
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        file
    }

    async fn found(table: &tempfile::NamedTempFile) -> Result<Vec<Frame>, TableError> {
        let mut written = Vec::new();
        write_pictures(table.reopen().unwrap(), &mut written)?;
        let mut from = written.as_slice();
        let mut found = Vec::new();
        while let Some(frame) = frames::read(&mut from).await.unwrap() {
            found.push(frame);
        }
        Ok(found)
    }

    #[tokio::test]
    async fn bytes_of_a_struct_and_bytes_themselves() {
        let values = [Some("one"), None, Some("three")];
        let expected = values.map(|value| match value {
            Some(value) => Frame::Whole(value.as_bytes().to_vec()),
            None => Frame::Nothing,
        });
        let written = table(
            "message m { optional group picture { optional binary bytes; } }",
            &values,
            2,
        );
        assert_eq!(found(&written).await.unwrap(), expected);
        assert_eq!(rows(written.reopen().unwrap()).unwrap(), 3);
        let written = table("message m { optional binary image; }", &values, 1);
        assert_eq!(found(&written).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_table_without_pictures_says_so() {
        let written = table("message m { optional binary label; }", &[Some("cat")], 1);
        assert_eq!(
            found(&written).await.unwrap_err().to_string(),
            "is damaged or not understood: Parquet error: no column is a struct with `bytes`, and \
             none is `image` with bytes"
        );
    }
}
