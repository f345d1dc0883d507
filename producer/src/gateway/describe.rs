//! What an address takes and answers, in the words of `OpenAPI` 3.1, told by the types of its handler:
//! each part of a request that it takes, and what it gives, describes itself.

use std::future::Future;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::Shared;
use super::error::{ApiError, ErrorBody};
use crate::keys::Scope;

/// Where schemas of types stand in a description.
const SCHEMAS: &str = "/components/schemas";
/// How a key is sent, by the name that operations refer to.
const KEY: &str = "key";

/// A type of content: what it is called, and what it looks like.
pub(super) type Content = (&'static str, Value);

/// JSON.
pub(super) const JSON: &str = "application/json";
/// Server-sent events.
pub(super) const EVENTS: &str = "text/event-stream";

/// A part of a request that handlers take.
pub(super) trait Input {
    /// Says what it is.
    fn describe(operation: &mut Operation<'_>);
}

/// What a handler gives.
pub(super) trait Output {
    /// Says what it is.
    fn describe(operation: &mut Operation<'_>);
}

/// A handler whose types say what it takes and gives.
pub(super) trait Described<T> {
    /// Says it.
    fn describe(operation: &mut Operation<'_>);
}

macro_rules! described {
    ($($input:ident),*) => {
        impl<F, Told, Given, $($input),*> Described<(Told, $($input),*)> for F
        where
            F: Fn($($input),*) -> Told,
            Told: Future<Output = Given>,
            Given: Output,
            $($input: Input),*
        {
            fn describe(operation: &mut Operation<'_>) {
                $($input::describe(operation);)*
                Given::describe(operation);
            }
        }
    };
}

described!(A);
described!(A, B);
described!(A, B, C);
described!(A, B, C, D);
described!(A, B, C, D, E);

impl Input for State<Shared> {
    fn describe(_: &mut Operation<'_>) {}
}

impl Input for HeaderMap {
    fn describe(_: &mut Operation<'_>) {}
}

impl<T: JsonSchema> Output for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schema::<T>();
        operation.answers("200", vec![(JSON, schema)]);
    }
}

impl<T: Output> Output for Result<T, ApiError> {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
        operation.refuses("default", "Another refusal, or a fault.");
    }
}

/// A method of an address.
#[derive(Debug)]
pub(super) struct Operation<'a> {
    generator: &'a mut SchemaGenerator,
    path: &'a str,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
    security: Vec<Value>,
}

impl Operation<'_> {
    /// What a value of this type looks like.
    pub(super) fn schema<T: JsonSchema>(&mut self) -> Value {
        self.generator.subschema_for::<T>().to_value()
    }

    /// What is in the place of `{…}` in the address.
    pub(super) fn takes_id(&mut self) {
        let name = self.path.split(['{', '}']).nth(1).unwrap_or_default();
        let name = name.trim_start_matches('*');
        let schema = json!({"type": "string", "minLength": 1});
        let parameter = json!({"in": "path", "name": name, "required": true, "schema": schema});
        self.parameters.push(parameter);
        self.refuses("404", "There is no such thing, or it is another tenant's.");
    }

    /// A header that may be there.
    pub(super) fn takes_header(&mut self, name: &str, description: &str, schema: &Value) {
        let parameter =
            json!({"in": "header", "name": name, "description": description, "schema": schema});
        self.parameters.push(parameter);
    }

    /// The fields of `T` as parameters of the query.
    pub(super) fn takes_query<T: JsonSchema>(&mut self) {
        let schema = T::json_schema(self.generator);
        let fields = schema.get("properties").and_then(Value::as_object);
        for (name, schema) in fields.into_iter().flatten() {
            let mut parameter = json!({"in": "query", "name": name});
            let mut schema = schema.clone();
            if let Some(fields) = schema.as_object_mut() {
                parameter["description"] = fields.remove("description").unwrap_or_default();
                // What may be absent is never written as `null` in a query.
                if let Some(Value::Array(types)) = fields.get_mut("type") {
                    types.retain(|one| one != "null");
                }
            }
            parameter["schema"] = schema;
            self.parameters.push(parameter);
        }
        self.refuses("400", "The request is wrong.");
    }

    /// A body of one of these kinds.
    pub(super) fn takes_body(&mut self, contents: Vec<Content>) {
        self.body = Some(json!({"required": true, "content": content(contents)}));
        self.refuses("400", "The request is wrong.");
        self.refuses("408", "The body did not come in time.");
        self.refuses("413", "The body is over its limit.");
        self.refuses("415", "The body is of another type.");
        self.refuses("429", "There is no room now.");
    }

    /// It takes a key with one of these scopes.
    pub(super) fn needs(&mut self, scopes: &[Scope]) {
        let needs = scopes.iter().map(|scope| json!({KEY: [scope.as_str()]}));
        self.security = needs.collect();
        self.refuses("401", "There is no such key.");
        self.refuses("403", "The key does not allow it.");
    }

    /// An answer of one of these kinds.
    pub(super) fn answers(&mut self, status: &str, contents: Vec<Content>) {
        let description = contents
            .first()
            .and_then(|(_, schema)| self.meaning(schema));
        let answer = json!({
            "description": description.unwrap_or_else(|| "The answer.".to_owned()),
            "content": content(contents),
        });
        self.responses.insert(status.to_owned(), answer);
    }

    /// A header that answers may have.
    pub(super) fn tells(&mut self, name: &str, description: &str, schema: &Value) {
        for answer in self.responses.values_mut() {
            answer["headers"][name] = json!({"description": description, "schema": schema});
        }
    }

    /// An error of this status.
    pub(super) fn refuses(&mut self, status: &str, description: &str) {
        let schema = self.schema::<ErrorBody>();
        let mut refusal = json!({
            "description": description,
            "content": content(vec![(JSON, schema)]),
        });
        if matches!(status, "429" | "default") {
            let seconds = json!({"type": "integer", "minimum": 0});
            refusal["headers"] = json!({"retry-after": {
                "description": "Seconds after which the same may be asked again.",
                "schema": seconds,
            }});
        }
        self.responses.insert(status.to_owned(), refusal);
    }

    /// What the type says of itself that a schema refers to.
    fn meaning(&self, schema: &Value) -> Option<String> {
        let name = schema.get("$ref")?.as_str()?.rsplit('/').next()?;
        let described = self.generator.definitions().get(name)?;
        Some(described.get("description")?.as_str()?.to_owned())
    }
}

fn content(contents: Vec<Content>) -> Value {
    let by_kind = contents.into_iter();
    by_kind
        .map(|(kind, schema)| (kind.to_owned(), json!({"schema": schema})))
        .collect::<Map<_, _>>()
        .into()
}

/// Bytes of any kind.
pub(super) fn bytes() -> Value {
    json!({"type": "string", "format": "binary"})
}

/// Server-sent events. No schema says which of them have what as their data, so it is said in words.
pub(super) fn event_stream(description: &str) -> Value {
    json!({"description": description})
}

/// All addresses.
#[derive(Debug)]
pub(super) struct Description {
    generator: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Description {
    /// Nothing so far.
    pub(super) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = SCHEMAS.into();
            settings.meta_schema = None;
        });
        Self {
            generator: settings.into_generator(),
            paths: Map::new(),
        }
    }

    /// Adds a method of an address as `describe` says it is.
    pub(super) fn add(
        &mut self,
        (method, path): (&str, &str),
        summary: &str,
        describe: impl FnOnce(&mut Operation<'_>),
    ) {
        let mut operation = Operation {
            generator: &mut self.generator,
            path,
            parameters: Vec::new(),
            body: None,
            responses: Map::new(),
            security: Vec::new(),
        };
        describe(&mut operation);
        let path = path.replace("{*", "{");
        let words = path.split(|letter: char| !letter.is_ascii_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let mut written = json!({
            "operationId": format!("{method}_{}", words.join("_")),
            "summary": summary,
            "parameters": operation.parameters,
            "responses": operation.responses,
            "security": operation.security,
        });
        if let Some(body) = operation.body {
            written["requestBody"] = body;
        }
        let methods = self.paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = written;
    }

    /// As it is served.
    pub(super) fn written(mut self) -> Value {
        let mut schemas: Map<String, Value> = self.generator.take_definitions(true);
        schemas.values_mut().for_each(plain);
        let key = json!({
            "type": "http",
            "scheme": "bearer",
            "description": "A key that `lapidary keys create` has made. While there are none, the \
                            gateway serves programs on its own machine only, and asks for none.",
        });
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Lapidary",
                "summary": "Captions documents and images in bulk with Gemma",
                "version": env!("CARGO_PKG_VERSION"),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": self.paths,
            "components": {"schemas": schemas, "securitySchemes": {KEY: key}},
        })
    }
}

/// Formats of Rust's numbers are unknown to JSON Schema: what they mean is said by bounds.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let max = match fields.get("format").and_then(Value::as_str) {
                Some("uint8") => Some(json!(u8::MAX)),
                Some("uint16") => Some(json!(u16::MAX)),
                Some("uint32") => Some(json!(u32::MAX)),
                Some("uint64" | "uint") => Some(json!(u64::MAX)),
                _ => None,
            };
            if let Some(max) = max {
                fields.remove("format");
                fields.entry("maximum").or_insert(max);
            }
            fields.values_mut().for_each(plain);
        }
        Value::Array(values) => values.iter_mut().for_each(plain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
