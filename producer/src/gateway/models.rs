//! `/v1/models`: what live workers announce.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use lapidary_schemas::WorkerInfo;
use lapidary_transport::Results as _;
use serde_json::{Value, json};

use super::Shared;
use super::access::MayRead;
use super::body::Id;
use super::error::ApiError;

/// Every model by its name; since when it is served by one that still lives.
fn objects(workers: &[WorkerInfo]) -> BTreeMap<&str, Value> {
    let mut models: BTreeMap<&str, &WorkerInfo> = BTreeMap::new();
    for worker in workers {
        let first = models.entry(worker.model.name.as_str()).or_insert(worker);
        if worker.started_at < first.started_at {
            *first = worker;
        }
    }
    let object = |worker: &WorkerInfo| {
        json!({
            "id": worker.model.name,
            "object": "model",
            "created": worker.started_at.timestamp(),
            "owned_by": "lapidary",
            "context_tokens_max": worker.model.context_tokens_max,
            "modalities": worker.model.modalities,
            "quantization": worker.model.quantization,
        })
    };
    models
        .into_iter()
        .map(|(name, worker)| (name, object(worker)))
        .collect()
}

/// All models.
pub(super) async fn list(
    State(gateway): State<Shared>,
    MayRead(_): MayRead,
) -> Result<Json<Value>, ApiError> {
    let workers = gateway.stores.results.workers().await?;
    let data: Vec<_> = objects(&workers).into_values().collect();
    Ok(Json(json!({"object": "list", "data": data})))
}

/// One model.
pub(super) async fn show(
    State(gateway): State<Shared>,
    MayRead(_): MayRead,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    let workers = gateway.stores.results.workers().await?;
    let found = objects(&workers).remove(id.as_str());
    found
        .map(Json)
        .ok_or_else(|| ApiError::unknown("model", &id))
}
