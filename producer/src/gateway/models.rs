//! `/v1/models`: what live workers announce.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use lapidary_schemas::WorkerInfo;
use lapidary_transport::Results as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::Shared;
use super::access::MayRead;
use super::body::Id;
use super::error::ApiError;

/// A model that is served.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ModelObject {
    id: String,
    object: &'static str,
    /// Since when, in Unix seconds.
    created: i64,
    owned_by: &'static str,
    context_tokens_max: u32,
    modalities: Vec<String>,
    quantization: String,
}

/// All of them.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Models {
    object: &'static str,
    data: Vec<ModelObject>,
}

/// Every model by its name; since when it is served by one that still lives.
fn objects(workers: &[WorkerInfo]) -> BTreeMap<&str, ModelObject> {
    let mut models: BTreeMap<&str, &WorkerInfo> = BTreeMap::new();
    for worker in workers {
        let first = models.entry(worker.model.name.as_str()).or_insert(worker);
        if worker.started_at < first.started_at {
            *first = worker;
        }
    }
    let object = |worker: &WorkerInfo| ModelObject {
        id: worker.model.name.clone(),
        object: "model",
        created: worker.started_at.timestamp(),
        owned_by: "lapidary",
        context_tokens_max: worker.model.context_tokens_max,
        modalities: worker.model.modalities.clone(),
        quantization: worker.model.quantization.clone(),
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
) -> Result<Json<Models>, ApiError> {
    let workers = gateway.stores.results.workers().await?;
    Ok(Json(Models {
        object: "list",
        data: objects(&workers).into_values().collect(),
    }))
}

/// One model.
pub(super) async fn show(
    State(gateway): State<Shared>,
    MayRead(_): MayRead,
    Id(id): Id,
) -> Result<Json<ModelObject>, ApiError> {
    let workers = gateway.stores.results.workers().await?;
    let found = objects(&workers).remove(id.as_str());
    found
        .map(Json)
        .ok_or_else(|| ApiError::unknown("model", &id))
}
