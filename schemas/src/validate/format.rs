//! The form that an answer must have.

use serde_json::Value;

use super::invalid;
use crate::failure::Failure;
use crate::limits;
use crate::request::{Request, ResponseFormat};

/// What `json_schema` may say, as `OpenAI` has it. An answer always keeps its schema, so `strict`
/// changes nothing.
const FIELDS: [&str; 4] = ["name", "description", "schema", "strict"];

/// Checks `response_format`. Whether a schema can be kept is known to a worker only.
pub(super) fn check(request: &Request) -> Result<(), Failure> {
    match &request.response_format {
        None | Some(ResponseFormat::Text) => return Ok(()),
        Some(ResponseFormat::JsonObject) => {}
        Some(ResponseFormat::JsonSchema { json_schema }) => check_schema(json_schema)?,
    }
    if request.tools.is_empty() {
        return Ok(());
    }
    let message = "`response_format` and `tools` exclude each other: a call is not of that form";
    Err(invalid(message.to_owned()))
}

fn check_schema(json_schema: &Value) -> Result<(), Failure> {
    let fields = json_schema
        .as_object()
        .ok_or_else(|| invalid("`json_schema` is no object".to_owned()))?;
    if let Some(unknown) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(invalid(format!(
            "`json_schema` has `{unknown}`, it may have `{}`",
            FIELDS.join("`, `")
        )));
    }
    if !fields.get("schema").is_some_and(Value::is_object) {
        let message = "`json_schema` has no `schema` that is an object";
        return Err(invalid(message.to_owned()));
    }
    let bytes = json_schema.to_string().len();
    if bytes > limits::JSON_SCHEMA_BYTES_MAX {
        return Err(invalid(format!(
            "`json_schema` is {bytes} bytes, the limit is {}",
            limits::JSON_SCHEMA_BYTES_MAX
        )));
    }
    Ok(())
}
