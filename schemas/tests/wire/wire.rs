//! Golden files, JSON Schemas and the page of metrics against the code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::samples::{
    batch, batch_input_line, batch_output_lines, job_bulk, job_interactive, job_moderation,
    manifest_item, model_info, progress, request, request_full, result_succeeded,
    result_tool_calls, result_without, shard, worker_info,
};
use lapidary_schemas::json_schema::json_schemas;
use lapidary_schemas::metrics::metrics_markdown;
use lapidary_schemas::metrics::thresholds::thresholds_yaml;
use lapidary_schemas::{Failure, FailureCode, Status};
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn stems(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// What a field of an unknown name earns a reader of this type.
fn refusal_of_unknown<T: serde::de::DeserializeOwned>(golden: &str) -> String {
    let mut value: Value = serde_json::from_str(golden).unwrap();
    value
        .as_object_mut()
        .unwrap()
        .insert("not_a_field".to_owned(), Value::Null);
    match serde_json::from_value::<T>(value) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn golden_files_are_what_is_written_and_read() {
    fn check<T>(stem: &str, value: &T)
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let golden = read(&folder("golden/v1").join(format!("{stem}.json")));
        let written = serde_json::to_string_pretty(value).unwrap() + "\n";
        assert_eq!(written, golden, "{stem} is written otherwise");
        assert_eq!(
            &serde_json::from_str::<T>(&golden).unwrap(),
            value,
            "{stem} is read otherwise"
        );
        let refusal = refusal_of_unknown::<T>(&golden);
        assert!(
            refusal.starts_with("unknown field `not_a_field`"),
            "{stem}: {refusal}"
        );
    }
    let mut expected = BTreeSet::new();
    macro_rules! check_sample {
        ($stem:literal, $value:expr) => {
            check($stem, &$value);
            expected.insert(concat!($stem, ".json").to_owned());
        };
    }
    for_each_sample!(check_sample);
    assert_eq!(stems(&folder("golden/v1")), expected);
}

#[test]
fn json_schemas_are_those_of_the_types() {
    let mut expected = BTreeSet::new();
    for (stem, schema) in json_schemas() {
        let name = format!("{stem}.schema.json");
        let written = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        assert_eq!(
            read(&folder("json").join(&name)),
            written,
            "{name} is out of date"
        );
        expected.insert(name);
    }
    assert_eq!(stems(&folder("json")), expected);
}

#[test]
fn the_page_of_metrics_is_that_of_the_table() {
    let page = read(&folder("../docs/METRICS.md"));
    assert_eq!(page, metrics_markdown(), "docs/METRICS.md is out of date");
}

#[test]
fn the_thresholds_of_alerts_are_those_of_the_table() {
    let rules = read(&folder("../dashboards/prometheus/rules/thresholds.yml"));
    assert_eq!(rules, thresholds_yaml(), "thresholds.yml is out of date");
}
