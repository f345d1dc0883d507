//! The body that `OpenAI`'s clients send to `/v1/chat/completions`, read into a [`Request`].
//!
//! Beyond the request's own fields it takes the spellings those clients use: `model`,
//! `max_completion_tokens`, a single `stop` string, `logprobs` with `top_logprobs`, `null` for an
//! absent field, `user`, and every field whose value asks for nothing (`n` of 1, `stream` of
//! false, …). Anything else is refused by name.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::request::Request;
use crate::validate::{invalid, read};

/// Reads a body: the model it names, and the request.
pub fn read_chat_body(body: Value) -> Result<(String, Request), Failure> {
    let Value::Object(mut fields) = body else {
        return Err(invalid("`body` is no JSON object".to_owned()));
    };
    fields.retain(|_, value| !value.is_null());
    let model = match fields.remove("model") {
        Some(Value::String(model)) => model,
        Some(other) => return Err(invalid(format!("`model` is {other}, it must be a string"))),
        None => return Err(invalid("`body` has no `model`".to_owned())),
    };
    fields.remove("user");
    drop_neutral(&mut fields)?;
    rename_ceiling(&mut fields)?;
    merge_logprobs(&mut fields)?;
    if let Some(stop) = fields.get_mut("stop").filter(|stop| stop.is_string()) {
        *stop = Value::Array(vec![stop.take()]);
    }
    drop_automatic_detail(&mut fields);
    drop_lenient_tools(&mut fields);
    Ok((model, read(Value::Object(fields), "`body`")?))
}

/// The body as it is written, for its schema: what [`read_chat_body`] takes.
#[derive(Debug, Clone, Copy)]
pub struct ChatBody;

impl JsonSchema for ChatBody {
    fn schema_name() -> Cow<'static, str> {
        "ChatBody".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Request::json_schema(generator);
        let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
            return schema;
        };
        let ceiling = fields.get("max_tokens").cloned().unwrap_or_default();
        let count = fields.get("logprobs").cloned().unwrap_or_default();
        let stops = fields.get("stop").cloned().unwrap_or_default();
        fields.extend(neutral().map(|(field, value)| (field.to_owned(), json!({"const": value}))));
        let spellings = json!({
            "max_completion_tokens": ceiling,
            "logprobs": {"anyOf": [{"type": "boolean"}, count.clone()]},
            "top_logprobs": count,
            "stop": {"anyOf": [{"type": "string"}, stops]},
            "user": {},
        });
        fields.extend(spellings.as_object().cloned().unwrap_or_default());
        for (_, field) in fields.iter_mut().filter(|(name, _)| *name != "messages") {
            *field = json!({"anyOf": [field, {"type": "null"}]});
        }
        fields.insert("model".to_owned(), json!({"type": "string"}));
        schema.insert("required".to_owned(), json!(["model", "messages"]));
        schema
    }
}

/// Fields that ask for what is done anyway, and the one value that they may have.
fn neutral() -> [(&'static str, Value); 7] {
    [
        ("n", json!(1)),
        ("stream", json!(false)),
        ("store", json!(false)),
        ("frequency_penalty", json!(0)),
        ("presence_penalty", json!(0)),
        ("logit_bias", json!({})),
        ("parallel_tool_calls", json!(true)),
    ]
}

/// Removes fields that ask for what is done anyway, and refuses their other values.
fn drop_neutral(fields: &mut Map<String, Value>) -> Result<(), Failure> {
    for (field, neutral) in neutral() {
        let Some(value) = fields.remove(field) else {
            continue;
        };
        let same = value == neutral || (neutral.is_number() && value.as_f64() == neutral.as_f64());
        if !same {
            return Err(invalid(format!(
                "`{field}` is {value}, only {neutral} is served"
            )));
        }
    }
    Ok(())
}

fn rename_ceiling(fields: &mut Map<String, Value>) -> Result<(), Failure> {
    let Some(ceiling) = fields.remove("max_completion_tokens") else {
        return Ok(());
    };
    match fields.insert("max_tokens".to_owned(), ceiling.clone()) {
        Some(other) if other != ceiling => Err(invalid(format!(
            "`max_tokens` is {other} and `max_completion_tokens` is {ceiling}, they mean the same"
        ))),
        _ => Ok(()),
    }
}

/// `logprobs: true` with `top_logprobs: n` is `logprobs: n` here.
fn merge_logprobs(fields: &mut Map<String, Value>) -> Result<(), Failure> {
    let top = fields.remove("top_logprobs");
    match (fields.get("logprobs"), top) {
        (Some(Value::Bool(true)), top) => {
            fields.insert("logprobs".to_owned(), top.unwrap_or_else(|| json!(0)));
        }
        (Some(Value::Bool(false)), None) => {
            fields.remove("logprobs");
        }
        (_, Some(top)) => {
            return Err(invalid(format!(
                "`top_logprobs` is {top}, it needs `logprobs` to be true"
            )));
        }
        (_, None) => {}
    }
    Ok(())
}

/// `detail: auto` of an image asks for nothing; other values are left, to be refused by name.
fn drop_automatic_detail(fields: &mut Map<String, Value>) {
    let messages = fields.get_mut("messages").and_then(Value::as_array_mut);
    let parts = messages
        .into_iter()
        .flatten()
        .filter_map(|message| message.get_mut("content").and_then(Value::as_array_mut))
        .flatten();
    for part in parts {
        let image = part.get_mut("image_url").and_then(Value::as_object_mut);
        if let Some(image) = image.filter(|image| image.get("detail") == Some(&json!("auto"))) {
            image.remove("detail");
        }
    }
}

/// `strict: false` of a function asks for nothing; `true` is left, to be refused by name.
fn drop_lenient_tools(fields: &mut Map<String, Value>) {
    let tools = fields.get_mut("tools").and_then(Value::as_array_mut);
    for tool in tools.into_iter().flatten() {
        let function = tool.get_mut("function").and_then(Value::as_object_mut);
        if let Some(function) =
            function.filter(|function| function.get("strict") == Some(&json!(false)))
        {
            function.remove("strict");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(extra: &Value) -> Value {
        let mut body = json!({"model": "gemma", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        body
    }

    #[test]
    fn other_spellings_are_read() {
        let plain = Request {
            messages: vec![crate::Message::user("hi")],
            ..Request::default()
        };
        for (extra, expected) in [
            (json!({}), plain.clone()),
            (
                json!({"n": 1, "stream": false, "presence_penalty": 0.0, "user": "u", "seed": null}),
                plain.clone(),
            ),
            (
                json!({"max_completion_tokens": 9}),
                Request {
                    max_tokens: Some(9),
                    ..plain.clone()
                },
            ),
            (
                json!({"stop": "x"}),
                Request {
                    stop: vec!["x".to_owned()],
                    ..plain.clone()
                },
            ),
            (json!({"logprobs": false}), plain.clone()),
            (
                json!({"logprobs": true}),
                Request {
                    logprobs: Some(0),
                    ..plain.clone()
                },
            ),
            (
                json!({"logprobs": true, "top_logprobs": 4}),
                Request {
                    logprobs: Some(4),
                    ..plain.clone()
                },
            ),
        ] {
            let read = read_chat_body(body(&extra));
            assert_eq!(read, Ok(("gemma".to_owned(), expected)));
        }
        let lenient = json!({"parallel_tool_calls": true, "tool_choice": "auto", "tools": [
            {"type": "function", "function": {"name": "f", "strict": false}}
        ]});
        let (_, request) = read_chat_body(body(&lenient)).unwrap();
        assert_eq!(request.tools[0].function.name, "f");
        let image = |detail: &str| {
            json!({"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "media:", "detail": detail}}
            ]}]})
        };
        assert!(read_chat_body(body(&image("auto"))).is_ok());
        assert_eq!(
            read_chat_body(body(&image("high"))).unwrap_err().message,
            "`body` field `messages[0].content[0]`: unknown field `detail`, expected `url`"
        );
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for (extra, message) in [
            (json!({"n": 2}), "`n` is 2, only 1 is served"),
            (
                json!({"stream": true}),
                "`stream` is true, only false is served",
            ),
            (
                json!({"max_tokens": 1, "max_completion_tokens": 2}),
                "`max_tokens` is 1 and `max_completion_tokens` is 2, they mean the same",
            ),
            (
                json!({"top_logprobs": 2}),
                "`top_logprobs` is 2, it needs `logprobs` to be true",
            ),
            (
                json!({"parallel_tool_calls": false}),
                "`parallel_tool_calls` is false, only true is served",
            ),
            (
                json!({"tool_choice": "sometimes"}),
                "`body` field `tool_choice`: unknown variant `sometimes`, expected one of `none`, \
                 `auto`, `required`",
            ),
            (
                json!({"tools": [{"type": "function", "function": {"name": "f", "strict": true}}]}),
                "`body` field `tools[0].function.strict`: unknown field `strict`, expected one of \
                 `name`, `description`, `parameters`",
            ),
            (json!({"model": 3}), "`model` is 3, it must be a string"),
            (
                json!({"reasoning_effort": "low"}),
                "`body` field `reasoning_effort`: unknown field `reasoning_effort`, expected one \
                 of `messages`, `max_tokens`, `temperature`, `top_p`, `top_k`, \
                 `repetition_penalty`, `seed`, `stop`, `response_format`, `logprobs`, `tools`, \
                 `tool_choice`",
            ),
        ] {
            assert_eq!(read_chat_body(body(&extra)).unwrap_err().message, message);
        }
        assert_eq!(
            read_chat_body(json!([])).unwrap_err().message,
            "`body` is no JSON object"
        );
        assert_eq!(
            read_chat_body(json!({})).unwrap_err().message,
            "`body` has no `model`"
        );
    }
}
