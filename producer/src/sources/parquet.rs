//! Pictures in the rows of Parquet files, as Hugging Face stores them: a column `image` that is a
//! struct with `bytes`, or bytes itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lapidary_schemas::Failure;
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Body, Document};
use crate::file::{invalid, unreadable};
use crate::picture::{Picture, Room};

/// The column that is looked at, if there is one of this name.
const IMAGE: &str = "image";
/// The field of a struct that holds a picture.
const BYTES: &str = "bytes";
/// Rows that are decoded at once.
const ROWS_AT_ONCE: usize = 1;

/// How many rows a table has; `None` if it cannot be read.
pub(super) fn rows(path: &Path) -> Option<u64> {
    let reader = SerializedFileReader::new(File::open(path).ok()?).ok()?;
    u64::try_from(reader.metadata().file_metadata().num_rows()).ok()
}

/// A table that was found.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) name: String,
    /// Its number among what was found.
    pub(super) number: u64,
}

/// Sends a document a row, `name#row` counted from 0, and one more if the table is damaged.
pub(super) async fn read(table: Table, room: Room, documents: mpsc::Sender<Document>) {
    let Table { name, number, .. } = table.clone();
    let sender = documents.clone();
    let reading = tokio::task::spawn_blocking(move || send_rows(&table, &room, &sender));
    let failure = match reading.await {
        Ok(Ok(())) => return,
        Ok(Err(failure)) => failure,
        Err(_) => invalid(format!(
            "{name} broke its reader: it is damaged, or made to do harm"
        )),
    };
    let document = Document {
        place: [number, u64::MAX],
        name,
        body: Err(failure),
    };
    // Nobody listening is the end as well.
    let _ = documents.send(document).await;
}

fn send_rows(table: &Table, room: &Room, sender: &mpsc::Sender<Document>) -> Result<(), Failure> {
    let runtime = Handle::current();
    let file = File::open(&table.path).map_err(|error| unreadable(&table.name, &error))?;
    pictures(file, |row, bytes| {
        let name = format!("{}#{row}", table.name);
        let body = match bytes {
            Some(bytes) => runtime.block_on(Picture::of(bytes, &name, room)),
            None => Err(invalid(format!("{name} has no image"))),
        };
        let document = Document {
            place: [table.number, row],
            name,
            body: body.map(Body::picture),
        };
        sender.blocking_send(document).is_ok()
    })
    .map_err(|error| {
        invalid(format!(
            "{} is damaged or not understood: {error}",
            table.name
        ))
    })
}

/// Hands the pictures of a table on, row by row, until `take` has enough.
fn pictures(
    file: File,
    mut take: impl FnMut(u64, Option<Vec<u8>>) -> bool,
) -> Result<(), ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema();
    let image = image_column(schema).ok_or_else(|| {
        ParquetError::General(format!(
            "no column is a struct with `{BYTES}`, and none is `{IMAGE}` with bytes"
        ))
    })?;
    let projection = Type::group_type_builder(schema.name())
        .with_fields(vec![Arc::clone(image)])
        .build()?;
    let rows = RowIter::from_file(Some(projection), &reader)?.with_batch_size(ROWS_AT_ONCE);
    for (number, row) in (0..).zip(rows) {
        if !take(number, bytes_of(row?)) {
            break;
        }
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

fn bytes_of(row: Row) -> Option<Vec<u8>> {
    row.into_columns()
        .into_iter()
        .find_map(|(name, field)| match field {
            Field::Group(image) => bytes_of(image),
            Field::Bytes(bytes) if name == BYTES || name == IMAGE => Some(bytes.data().to_vec()),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn found(table: &tempfile::NamedTempFile) -> Result<Vec<Option<String>>, ParquetError> {
        let mut found = Vec::new();
        pictures(table.reopen().unwrap(), |_, bytes| {
            found.push(bytes.map(|bytes| String::from_utf8(bytes).unwrap()));
            true
        })?;
        Ok(found)
    }

    #[test]
    fn bytes_of_a_struct_and_bytes_themselves() {
        let values = [Some("one"), None, Some("three")];
        let expected = values.map(|value| value.map(str::to_owned));
        let written = table(
            "message m { optional group picture { optional binary bytes; } }",
            &values,
            2,
        );
        assert_eq!(found(&written).unwrap(), expected);
        assert_eq!(rows(written.path()), Some(3));
        let written = table("message m { optional binary image; }", &values, 1);
        assert_eq!(found(&written).unwrap(), expected);
    }

    #[test]
    fn a_table_without_pictures_says_so() {
        let written = table("message m { optional binary label; }", &[Some("cat")], 1);
        assert_eq!(
            found(&written).unwrap_err().to_string(),
            "Parquet error: no column is a struct with `bytes`, and none is `image` with bytes"
        );
    }
}
