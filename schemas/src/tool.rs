//! Functions a model may call, and its calls of them: the shapes of `OpenAI`'s `tools`.

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::request::Request;

/// What a tool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// A function of the submitter's: the model names it and its arguments, nobody runs it here.
    Function,
}

/// Something a model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ToolKind,
    /// The function.
    pub function: Function,
}

/// A function's signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// ASCII letters, digits, `_` and `-`, up to [`crate::limits::TOOL_NAME_BYTES_MAX`].
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of type `object`; absent for a function without arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

/// Whether the model may, must or must not call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolMode {
    /// It is not told of its functions.
    None,
    /// It decides; this is the default.
    Auto,
    /// An answer without a call is a failure.
    Required,
}

/// One function by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedTool {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ToolKind,
    /// Its name.
    pub function: FunctionName,
}

/// A function's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionName {
    /// The name.
    pub name: String,
}

/// Which functions the model may or must call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ToolChoice {
    /// Any of them.
    Mode(ToolMode),
    /// It must call this one.
    Named(NamedTool),
}

/// By hand, because a derived untagged enum hides which of its words are known.
impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor;

        impl<'de> Visitor<'de> for ChoiceVisitor {
            type Value = ToolChoice;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`none`, `auto`, `required` or an object that names a function")
            }

            fn visit_str<E: serde::de::Error>(self, mode: &str) -> Result<ToolChoice, E> {
                ToolMode::deserialize(StrDeserializer::new(mode)).map(ToolChoice::Mode)
            }

            fn visit_map<A: MapAccess<'de>>(self, named: A) -> Result<ToolChoice, A::Error> {
                NamedTool::deserialize(MapAccessDeserializer::new(named)).map(ToolChoice::Named)
            }
        }

        deserializer.deserialize_any(ChoiceVisitor)
    }
}

/// A call that an answer consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Name of the call: of its job and its place in the answer.
    pub id: String,
    /// What is called.
    #[serde(rename = "type")]
    pub kind: ToolKind,
    /// The function and its arguments.
    pub function: FunctionCall,
}

/// A function with arguments, as the model gave them: nobody checked them against the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionCall {
    /// The function's name; one that was offered.
    pub name: String,
    /// A JSON object, as text.
    pub arguments: String,
}

impl Request {
    /// The functions that the model is told of.
    pub fn tools_offered(&self) -> Vec<&Tool> {
        let offered = |tool: &&Tool| match &self.tool_choice {
            Some(ToolChoice::Mode(ToolMode::None)) => false,
            Some(ToolChoice::Named(named)) => tool.function.name == named.function.name,
            Some(ToolChoice::Mode(_)) | None => true,
        };
        self.tools.iter().filter(offered).collect()
    }

    /// Whether an answer without a call is a failure.
    pub fn call_required(&self) -> bool {
        matches!(
            self.tool_choice,
            Some(ToolChoice::Mode(ToolMode::Required) | ToolChoice::Named(_))
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(choice: &Value) -> Request {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
        serde_json::from_value(json!({
            "messages": [], "tools": [tool("a"), tool("b")], "tool_choice": choice
        }))
        .unwrap()
    }

    #[test]
    fn a_choice_decides_what_is_offered_and_whether_it_must_be_called() {
        let named = json!({"type": "function", "function": {"name": "b"}});
        for (choice, offered, required) in [
            (json!(null), &["a", "b"][..], false),
            (json!("auto"), &["a", "b"][..], false),
            (json!("required"), &["a", "b"][..], true),
            (json!("none"), &[][..], false),
            (named, &["b"][..], true),
        ] {
            let request = request(&choice);
            let calls: Vec<&str> = request
                .tools_offered()
                .iter()
                .map(|tool| tool.function.name.as_str())
                .collect();
            assert_eq!(
                (calls.as_slice(), request.call_required()),
                (offered, required)
            );
        }
    }
}
