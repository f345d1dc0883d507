//! Jobs whose answers must have a form.

use lapidary_schemas::{FailureCode, Status};
use serde_json::{Value, json};

use super::*;

fn of_form(format: Value) -> Job {
    let mut job = job("What is it?", 300);
    job.request.response_format = Some(serde_json::from_value(format).unwrap());
    job
}

fn of_schema(schema: &Value) -> Job {
    of_form(json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}))
}

#[tokio::test]
async fn answers_are_of_the_form_that_is_asked_for() {
    let bench = Bench::start().await;
    bench.consume();
    let animal = json!({
        "type": "object",
        "properties": {"animal": {"enum": ["cat", "dog"]}, "tame": {"type": "boolean"}},
        "required": ["animal", "tame"],
        "additionalProperties": false,
    });
    let asked = of_schema(&animal);
    // The library follows references inside a schema only.
    let elsewhere = of_schema(&json!({"$ref": "https://example.org/schema.json"}));
    let free = of_form(json!({"type": "text"}));
    bench
        .publish(&[asked.clone(), elsewhere.clone(), free.clone()])
        .await;
    let result = bench.result(asked.id).await;
    assert_eq!(result.status, Status::Succeeded, "{result:?}");
    let value: Value = serde_json::from_str(&result.text.unwrap()).unwrap();
    assert!(["cat", "dog"].contains(&value["animal"].as_str().unwrap()));
    assert!(value["tame"].is_boolean(), "{value}");
    let failure = bench.result(elsewhere.id).await.failure.unwrap();
    assert_eq!(failure.code, FailureCode::ValidationError);
    assert!(
        failure.message.starts_with("the answer's form: ") && failure.message.contains("$ref"),
        "{failure}"
    );
    assert_eq!(bench.result(free.id).await.status, Status::Succeeded);
    bench.drain().await;
}
