//! Functions a model may call: how it is told of them, and how its answer is read as calls.
//!
//! Gemma 3 has no tokens for this: the prompt says what a call looks like, and an answer that looks
//! so is one (<https://ai.google.dev/gemma/docs/capabilities/function-calling>). Asked for JSON it
//! mostly answers in JSON, bare or in a fenced block, at times in the Python of the other form that
//! it learnt. An answer is calls or text, never both: what does not read as calls of offered
//! functions from its first to its last character is text.

mod python;

use lapidary_schemas::canonical::sorted;
use lapidary_schemas::limits::TOOL_CALLS_MAX;
use lapidary_schemas::tool::{Function, FunctionCall, ToolCall, ToolKind};
use lapidary_schemas::{Job, Request};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const SIGNATURES: &str = "You can call functions. Their signatures, one JSON object a line:";
const FORM: &str = "To call one, answer with a JSON object of this form and nothing else:\n\
{\"name\": \"name of the function\", \"parameters\": {\"name of a parameter\": its value}}\n\
To call several, answer with a JSON array of such objects and nothing else.";
const MAY: &str = "If no function helps, answer in plain words.";
const MUST: &str = "Your answer must be a call.";
/// What a fenced block of calls may be called.
const FENCES: [&str; 4] = ["", "json", "tool_code", "tool_call"];

/// What the model is told of its functions, if it has any.
pub(crate) fn offer(request: &Request) -> Option<String> {
    let offered = request.tools_offered();
    if offered.is_empty() {
        return None;
    }
    let signatures: Vec<String> = offered
        .iter()
        .map(|tool| signature(&tool.function))
        .collect();
    let must = if request.call_required() { MUST } else { MAY };
    Some(format!(
        "{SIGNATURES}\n{}\n\n{FORM}\n{must}",
        signatures.join("\n")
    ))
}

/// On one line; the keys of a schema sorted, since their order decides no resume key either.
fn signature(function: &Function) -> String {
    let field = |name: &str, value: &Value| format!(",{}:{value}", json!(name));
    let mut line = format!("{{\"name\":{}", json!(function.name));
    if let Some(description) = &function.description {
        line += &field("description", &json!(description));
    }
    if let Some(parameters) = &function.parameters {
        line += &field("parameters", &sorted(parameters.clone()));
    }
    line + "}"
}

/// The calls that an answer consists of; none if it is text.
pub fn calls(job: &Job, answer: &str) -> Vec<ToolCall> {
    let offered = job.request.tools_offered();
    if offered.is_empty() {
        return Vec::new();
    }
    let said = said(answer).unwrap_or_default();
    let known = |call: &Said| offered.iter().any(|tool| tool.function.name == call.name);
    if said.len() > TOOL_CALLS_MAX || !said.iter().all(known) {
        return Vec::new();
    }
    let call = |(index, said): (usize, Said)| ToolCall {
        id: format!("call_{}_{index}", job.id),
        kind: ToolKind::Function,
        function: FunctionCall {
            name: said.name,
            arguments: Value::Object(said.parameters).to_string(),
        },
    };
    said.into_iter().enumerate().map(call).collect()
}

/// A call as the model says it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    name: String,
    #[serde(default, alias = "arguments")]
    parameters: Map<String, Value>,
}

/// One, or several in an array.
#[derive(Deserialize)]
#[serde(untagged)]
enum Group {
    One(Said),
    Several(Vec<Said>),
}

/// Reads the whole of an answer as calls.
fn said(answer: &str) -> Option<Vec<Said>> {
    let body = unfenced(answer.trim())?;
    in_json(body).or_else(|| python::calls(body))
}

/// What stands in the one fenced block that an answer is; an answer without a fence itself.
fn unfenced(answer: &str) -> Option<&str> {
    let Some(rest) = answer.strip_prefix("```") else {
        return Some(answer);
    };
    let (label, body) = rest.strip_suffix("```")?.split_once('\n')?;
    FENCES.contains(&label.trim()).then_some(body)
}

/// Objects and arrays of objects, one after the other.
fn in_json(body: &str) -> Option<Vec<Said>> {
    let mut calls = Vec::new();
    for group in serde_json::Deserializer::from_str(body).into_iter() {
        match group.ok()? {
            Group::One(call) => calls.push(call),
            Group::Several(more) => calls.extend(more),
        }
    }
    Some(calls)
}

#[cfg(test)]
mod tests;
