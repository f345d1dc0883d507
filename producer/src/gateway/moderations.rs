//! `POST /v1/moderations`: what the policy of the workers says of texts and pictures. Each input is an
//! interactive job, for which nothing is generated.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use chrono::{TimeDelta, Utc};
use lapidary_schemas::limits::IMAGES_PER_MESSAGE_MAX;
use lapidary_schemas::request::{Content, Part};
use lapidary_schemas::{JobResult, Message, Request, Status, Work};
use lapidary_transport::Results as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::access::MaySubmit;
use super::body::JsonBody;
use super::chat::finished;
use super::error::ApiError;
use super::limits::ANSWER_TIME_MAX;
use super::single::{Asked, Awaited, Leaving};
use super::telling::failure;
use super::{Gateway, Shared, ids};

/// Texts of a request, each a job.
const INPUTS_MAX: usize = 32;
/// Parts of a request that are one job.
const PARTS_MAX: usize = 2 * IMAGES_PER_MESSAGE_MAX;

/// What is to be moderated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ModerationRequest")]
pub(super) struct Body {
    input: Input,
    model: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ModerationInput")]
#[serde(
    untagged,
    expecting = "`input` is a text, a list of texts, or a list of parts"
)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Parts(Vec<Part>),
}

/// What the policy says.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Moderations {
    id: String,
    model: String,
    /// In the order of the inputs.
    results: Vec<Moderation>,
}

/// The verdicts on an input as one of `OpenAI`'s moderation objects. A category is what a rule of a
/// detector looks for; of two that are called alike, the surer counts.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Moderation {
    flagged: bool,
    categories: BTreeMap<String, bool>,
    category_scores: BTreeMap<String, f64>,
    category_applied_input_types: BTreeMap<String, Vec<&'static str>>,
}

/// Moderates what it is given.
pub(super) async fn create(
    State(gateway): State<Shared>,
    MaySubmit(tenant): MaySubmit,
    body: JsonBody<Body>,
) -> Result<Json<Moderations>, ApiError> {
    let Body { input, model } = body.read()?;
    let bytes = body.bytes.len();
    drop(body);
    let contents = contents(input)?;
    let model = gateway.moderator(model).await?;
    let until = Instant::now() + ANSWER_TIME_MAX;
    let within = TimeDelta::from_std(ANSWER_TIME_MAX).unwrap_or(TimeDelta::MAX);
    let mut waiting = Vec::new();
    for content in contents {
        let request = Request {
            messages: vec![Message {
                content,
                ..Message::user("")
            }],
            ..Request::default()
        };
        let asked = Asked::of(model.clone(), request, Work::Moderation, bytes);
        let job = gateway.submit(&tenant, asked, Utc::now(), within).await?;
        waiting.push(Awaited::new(&gateway, job.id, Leaving::Cancels));
    }
    let id = waiting.first().map(|first| ids::of_job(first.job()));
    let mut results = Vec::new();
    for mut awaited in waiting {
        let result = finished(&mut awaited, until).await?;
        if result.status != Status::Succeeded {
            return Err(failure(&result));
        }
        results.push(Moderation::of(&result));
    }
    Ok(Json(Moderations {
        id: id.unwrap_or_default(),
        model,
        results,
    }))
}

/// What becomes a job each.
fn contents(input: Input) -> Result<Vec<Content>, ApiError> {
    let (contents, count, limit): (Vec<Content>, usize, usize) = match input {
        Input::Text(text) => (vec![Content::Text(text)], 1, INPUTS_MAX),
        Input::Texts(texts) => {
            let count = texts.len();
            (
                texts.into_iter().map(Content::Text).collect(),
                count,
                INPUTS_MAX,
            )
        }
        Input::Parts(parts) => {
            let count = parts.len();
            (vec![Content::Parts(parts)], count, PARTS_MAX)
        }
    };
    if (1..=limit).contains(&count) {
        return Ok(contents);
    }
    let message = format!("`input` has {count} items, it must have 1 to {limit}");
    Err(ApiError::parameter("input", message))
}

impl Gateway {
    /// The model whose workers moderate: the one that is named, or the only one that is served, where
    /// none is named or one of `OpenAI`'s.
    async fn moderator(&self, named: Option<String>) -> Result<String, ApiError> {
        let workers = self.stores.results.workers().await?;
        let mut served: Vec<&str> = workers.iter().map(|one| one.model.name.as_str()).collect();
        served.sort_unstable();
        served.dedup();
        let theirs =
            |name: &str| name.starts_with("omni-moderation") || name.starts_with("text-moderation");
        match (named, served.as_slice()) {
            (Some(named), served) if served.contains(&named.as_str()) || !theirs(&named) => {
                Ok(named)
            }
            (_, [only]) => Ok((*only).to_owned()),
            (_, served) => {
                let count = served.len();
                let message = format!("name a model: {count} models are served");
                Err(ApiError::parameter("model", message))
            }
        }
    }
}

impl Moderation {
    fn of(result: &JobResult) -> Self {
        let mut moderation = Self::default();
        for verdict in result.filter.iter().filter(|verdict| !verdict.shadow) {
            let kind = if verdict.stage == "input_image" {
                "image"
            } else {
                "text"
            };
            moderation.add(&verdict.detail, kind);
        }
        moderation
    }

    /// Adds what one detector found in inputs of one kind.
    fn add(&mut self, detail: &Value, kind: &'static str) {
        self.flagged |= detail["flagged"] == true;
        for (category, found) in detail["categories"].as_object().into_iter().flatten() {
            *self.categories.entry(category.clone()).or_default() |= *found == true;
            let score = detail["category_scores"][category].as_f64().unwrap_or(0.0);
            let known = self.category_scores.entry(category.clone()).or_default();
            *known = known.max(score);
            let types = &mut self.category_applied_input_types;
            let types = types.entry(category.clone()).or_default();
            if !types.contains(&kind) {
                types.push(kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<Vec<Content>, String> {
        let body: Body = serde_json::from_value(body).map_err(|error| error.to_string())?;
        contents(body.input).map_err(|error| error.to_string())
    }

    #[test]
    fn every_spelling_of_an_input() {
        assert_eq!(
            read(json!({"input": "a"})).unwrap(),
            [Content::Text("a".to_owned())]
        );
        assert_eq!(read(json!({"input": ["a", "b"]})).unwrap().len(), 2);
        let parts = json!([
            {"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]);
        let one = read(json!({"input": parts, "model": null})).unwrap();
        assert!(matches!(one.as_slice(), [Content::Parts(parts)] if parts.len() == 2));
    }

    #[test]
    fn wrong_inputs_are_refused_by_name() {
        let none = read(json!({"input": []})).unwrap_err();
        assert_eq!(none, "`input` has 0 items, it must have 1 to 32");
        let many = read(json!({"input": vec!["a"; 33]})).unwrap_err();
        assert_eq!(many, "`input` has 33 items, it must have 1 to 32");
        let other = read(json!({"input": 7})).unwrap_err();
        assert_eq!(
            other,
            "`input` is a text, a list of texts, or a list of parts"
        );
        assert!(read(json!({"input": "a", "inputs": "b"})).is_err());
    }
}
