//! Rules of the functions a model may call.

use std::collections::HashSet;

use serde_json::Value;

use super::invalid;
use crate::failure::Failure;
use crate::limits::{TOOL_NAME_BYTES_MAX, TOOLS_BYTES_MAX, TOOLS_MAX};
use crate::request::Request;
use crate::tool::{Function, ToolChoice};

/// Checks the functions, one by one and together, and the choice among them.
pub(super) fn check(request: &Request) -> Result<(), Failure> {
    let tools = &request.tools;
    if tools.len() > TOOLS_MAX {
        return Err(invalid(format!(
            "request has {} tools, the limit is {TOOLS_MAX}",
            tools.len()
        )));
    }
    let bytes = serde_json::to_vec(tools).map_or(usize::MAX, |json| json.len());
    if bytes > TOOLS_BYTES_MAX {
        return Err(invalid(format!(
            "`tools` are {bytes} bytes, the limit is {TOOLS_BYTES_MAX}"
        )));
    }
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        check_function(index, &tool.function)?;
        if !names.insert(tool.function.name.as_str()) {
            return Err(invalid(format!(
                "tool {index} is called `{}`, as another one is",
                tool.function.name
            )));
        }
    }
    match &request.tool_choice {
        Some(_) if tools.is_empty() => Err(invalid(
            "`tool_choice` is given, but there are no `tools`".to_owned(),
        )),
        Some(ToolChoice::Named(one)) if !names.contains(one.function.name.as_str()) => {
            Err(invalid(format!(
                "`tool_choice` names `{}`, which is not among the `tools`",
                one.function.name
            )))
        }
        _ => Ok(()),
    }
}

fn check_function(index: usize, function: &Function) -> Result<(), Failure> {
    let name = &function.name;
    if name.is_empty() || name.len() > TOOL_NAME_BYTES_MAX {
        return Err(invalid(format!(
            "the name of tool {index} is {} bytes, the limit is 1 to {TOOL_NAME_BYTES_MAX}",
            name.len()
        )));
    }
    let strange = |symbol: &char| !symbol.is_ascii_alphanumeric() && !"_-".contains(*symbol);
    if let Some(symbol) = name.chars().find(strange) {
        return Err(invalid(format!(
            "the name of tool {index} has {symbol:?}, it may have ASCII letters, digits, `_` and `-`"
        )));
    }
    match &function.parameters {
        Some(parameters) => check_parameters(parameters)
            .map_err(|wrong| invalid(format!("`parameters` of tool `{name}` {wrong}"))),
        None => Ok(()),
    }
}

/// What every reader of a signature relies on; the rest of JSON Schema is for the model to read.
fn check_parameters(parameters: &Value) -> Result<(), &'static str> {
    let Some(schema) = parameters.as_object() else {
        return Err("are no JSON Schema: they must be a JSON object");
    };
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err("are no JSON Schema of an object: `type` must be `object`");
    }
    if schema.get("properties").is_some_and(|all| !all.is_object()) {
        return Err("are no JSON Schema: `properties` must be a JSON object");
    }
    Ok(())
}
