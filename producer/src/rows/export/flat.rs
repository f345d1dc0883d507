//! A row without anything inside anything, for tables.

use lapidary_schemas::FinishReason;
use parquet_derive::ParquetRecordWriter;
use serde::Serialize;
use serde_json::Value;

use crate::rows::Row;

/// A row of a table; the names of the fields are those of the columns.
#[derive(Debug, Serialize, ParquetRecordWriter)]
pub(super) struct Flat {
    name: String,
    text: Option<String>,
    status: String,
    finish_reason: Option<String>,
    same_as: Option<String>,
    parts: u32,
    truncated: bool,
    prompt_tokens: u32,
    image_tokens: u32,
    cached_tokens: u32,
    completion_tokens: u32,
    seed: Option<u64>,
    failure_code: Option<String>,
    failure_message: Option<String>,
    key: Option<String>,
}

impl From<Row> for Flat {
    fn from(row: Row) -> Self {
        let (failure_code, failure_message) = row
            .failure
            .map(|failure| (failure.code.to_string(), failure.message))
            .unzip();
        Self {
            name: row.name,
            text: row.text,
            status: row.status.as_str().to_owned(),
            finish_reason: row.finish_reason.and_then(written),
            same_as: row.same_as,
            parts: row.parts,
            truncated: row.truncated,
            prompt_tokens: row.usage.prompt_tokens,
            image_tokens: row.usage.image_tokens,
            cached_tokens: row.usage.cached_tokens,
            completion_tokens: row.usage.completion_tokens,
            seed: row.seed,
            failure_code,
            failure_message,
            key: row.key,
        }
    }
}

/// As it stands in JSON lines.
fn written(reason: FinishReason) -> Option<String> {
    match serde_json::to_value(reason) {
        Ok(Value::String(text)) => Some(text),
        _ => None,
    }
}
