//! The JSON Schema of every wire type, generated from the types.

use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use crate::canonical::sorted;
use crate::{batch, batch_line, failure, job, request, result, worker};

/// File stem and schema of every wire type; the keys of every object are sorted.
pub fn json_schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("batch", schema::<batch::Batch>()),
        ("batch_input_line", schema::<batch_line::InputLine>()),
        ("batch_output_line", schema::<batch_line::OutputLine>()),
        ("failure", schema::<failure::Failure>()),
        ("job", schema::<job::Job>()),
        ("manifest_item", schema::<batch::ManifestItem>()),
        ("model_info", schema::<worker::ModelInfo>()),
        ("progress", schema::<batch::Progress>()),
        ("request", schema::<request::Request>()),
        ("result", schema::<result::JobResult>()),
        ("shard", schema::<batch::Shard>()),
        ("worker_info", schema::<worker::WorkerInfo>()),
    ]
}

fn schema<T: JsonSchema>() -> Value {
    sorted(schema_for!(T).to_value())
}
