//! Writes what is generated from the types: `docs/METRICS.md`, the thresholds of alerts,
//! `schemas/json/` and `schemas/golden/v1/`. Read the difference before committing it: a golden file that changes is a
//! change of the contract.

#[macro_use]
#[path = "../tests/wire/samples.rs"]
mod samples;

use std::path::Path;

use lapidary_schemas::json_schema::json_schemas;
use lapidary_schemas::metrics::metrics_markdown;
use lapidary_schemas::metrics::thresholds::thresholds_yaml;
use lapidary_schemas::{Failure, FailureCode, Status};
use samples::{
    batch, batch_input_line, batch_output_lines, job_bulk, job_interactive, job_moderation,
    manifest_item, model_info, progress, request, request_full, result_succeeded,
    result_tool_calls, result_without, shard, worker_info,
};

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (golden, json) = (root.join("golden/v1"), root.join("json"));
    std::fs::create_dir_all(&golden)?;
    std::fs::create_dir_all(&json)?;
    macro_rules! write_sample {
        ($stem:literal, $value:expr) => {
            write(&golden.join(concat!($stem, ".json")), &$value)?;
        };
    }
    for_each_sample!(write_sample);
    for (stem, schema) in json_schemas() {
        write(&json.join(format!("{stem}.schema.json")), &schema)?;
    }
    let rules = root.join("../dashboards/prometheus/rules");
    std::fs::write(rules.join("thresholds.yml"), thresholds_yaml())?;
    std::fs::write(root.join("../docs/METRICS.md"), metrics_markdown())
}

fn write(path: &Path, value: &impl serde::Serialize) -> std::io::Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(value)? + "\n")
}
