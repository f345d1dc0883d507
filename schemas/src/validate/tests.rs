//! One row a rule: what is changed in a good request, and the exact message it earns.

use serde_json::{Value, json};

use super::*;

pub(super) fn policy() -> Policy {
    Policy {
        modalities: vec!["image".to_owned()],
        features: vec![Feature::Logprobs],
        ..Policy::text("gemma")
    }
}

pub(super) fn request(json: &Value) -> Request {
    parse_request(json.to_string().as_bytes()).unwrap()
}

pub(super) fn hello() -> Value {
    json!([{"role": "user", "content": "hello"}])
}

fn refusal(json: &Value) -> String {
    let failure = validate(&request(json), &policy()).unwrap_err();
    assert!(!failure.retryable);
    failure.to_string()
}

fn parts(parts: &Value) -> Value {
    json!({"messages": [{"role": "user", "content": parts}]})
}

fn image(url: impl Into<String>) -> Value {
    json!({"type": "image_url", "image_url": {"url": url.into()}})
}

fn turns(roles: &[&str]) -> Value {
    let turns: Vec<Value> = roles
        .iter()
        .map(|role| json!({"role": role, "content": "hello"}))
        .collect();
    json!({ "messages": turns })
}

#[test]
fn rules_of_sampling() {
    for (field, value, message) in [
        (
            "max_tokens",
            json!(0),
            "`max_tokens` is 0, the limit for `gemma` is 1 to 1024",
        ),
        (
            "max_tokens",
            json!(1025),
            "`max_tokens` is 1025, the limit for `gemma` is 1 to 1024",
        ),
        (
            "temperature",
            json!(-0.5),
            "`temperature` is -0.5, the limit is 0 to 2",
        ),
        (
            "temperature",
            json!(2.5),
            "`temperature` is 2.5, the limit is 0 to 2",
        ),
        ("top_p", json!(1.5), "`top_p` is 1.5, the limit is 0 to 1"),
        ("top_p", json!(0), "`top_p` is 0, it must be above 0"),
        (
            "repetition_penalty",
            json!(0),
            "`repetition_penalty` is 0, the limit is 0.1 to 10",
        ),
        (
            "repetition_penalty",
            json!(11),
            "`repetition_penalty` is 11, the limit is 0.1 to 10",
        ),
        ("logprobs", json!(21), "`logprobs` is 21, the limit is 20"),
        ("stop", json!([""]), "stop string 0 is empty"),
        (
            "stop",
            json!(["a".repeat(257)]),
            "stop string 0 is 257 bytes, the limit is 256",
        ),
        (
            "stop",
            json!(vec!["a"; 17]),
            "request has 17 stop strings, the limit is 16",
        ),
        (
            "tools",
            json!([{"type": "function", "function": {"name": "f"}}]),
            "`tools` is not served by `gemma`",
        ),
        (
            "response_format",
            json!({"type": "json_object"}),
            "`response_format` `json_object` is not served by `gemma`",
        ),
        (
            "response_format",
            json!({"type": "json_schema", "json_schema": {}}),
            "`response_format` `json_schema` is not served by `gemma`",
        ),
    ] {
        assert_eq!(
            refusal(&json!({"messages": hello(), field: value})),
            format!("VALIDATION_ERROR: {message}")
        );
    }
}

#[test]
fn what_is_no_number_is_refused() {
    for (value, shown) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (-f32::INFINITY, "-inf"),
    ] {
        let good = request(&json!({ "messages": hello() }));
        for (field, bad, limit) in [
            (
                "temperature",
                Request {
                    temperature: Some(value),
                    ..good.clone()
                },
                "0 to 2",
            ),
            (
                "top_p",
                Request {
                    top_p: Some(value),
                    ..good.clone()
                },
                "0 to 1",
            ),
            (
                "repetition_penalty",
                Request {
                    repetition_penalty: Some(value),
                    ..good.clone()
                },
                "0.1 to 10",
            ),
        ] {
            let failure = validate(&bad, &policy()).unwrap_err();
            assert_eq!(
                failure.message,
                format!("`{field}` is {shown}, the limit is {limit}")
            );
        }
    }
}

#[test]
fn rules_of_the_conversation() {
    let many: Vec<&str> = ["user", "assistant"].into_iter().cycle().take(51).collect();
    for (request, message) in [
        (turns(&[]), "request has no messages, it needs at least 1"),
        (turns(&many), "request has 51 messages, the limit is 50"),
        (
            turns(&["system"]),
            "the last message has the role `system`, it must have the role `user`",
        ),
        (
            turns(&["user", "assistant"]),
            "the last message has the role `assistant`, it must have the role `user`",
        ),
        (
            turns(&["user", "user"]),
            "message 1 has the role `user`, its turn is the role `assistant`",
        ),
        (
            turns(&["assistant"]),
            "message 0 has the role `assistant`, its turn is the role `user`",
        ),
        (
            turns(&["system", "system", "user"]),
            "message 1 has the role `system`, only message 0 may have it",
        ),
        (
            json!({"messages": [{"role": "user", "content": "é".repeat(8193)}]}),
            "message 0 has 8193 characters of text, the limit is 8192",
        ),
        (
            json!({"messages": [{"role": "user", "content": " \n"}]}),
            "message 0 is empty",
        ),
        (parts(&json!([])), "message 0 is empty"),
        (
            parts(&json!([{"type": "text", "text": ""}])),
            "message 0 is empty",
        ),
    ] {
        assert_eq!(refusal(&request), format!("VALIDATION_ERROR: {message}"));
    }
    for roles in [
        &["user"][..],
        &["system", "user"],
        &["system", "user", "assistant", "user"],
    ] {
        assert!(validate(&request(&turns(roles)), &policy()).is_ok());
    }
}

#[test]
fn rules_of_media() {
    let sha256 = "a".repeat(64);
    let png = "data:image/png;base64,aGVsbG8=";
    let large = format!("data:image/png;base64,{}", "AAAA".repeat(30_000));
    let text = |data: &str| json!({"type": "file", "file": {"file_data": data}});
    for (part, message) in [
        (
            image("ftp://host/cat.png"),
            "VALIDATION_ERROR: part 0 of message 0 is at `ftp://host/cat.png`, it must be a \
             `data:` or `media:` reference",
        ),
        (
            image("https://host/cat.png"),
            "VALIDATION_ERROR: part 0 of message 0 is at a remote address, remote media is not \
             served by `gemma`",
        ),
        (
            image("media:abc"),
            "VALIDATION_ERROR: part 0 of message 0: `media:abc` is no media reference, it must \
             read `media:<64 lower-case hex digits>:<bytes>`",
        ),
        (
            image(format!("media:{sha256}:67108865")),
            "MEDIA_TOO_LARGE: part 0 of message 0 is 67108865 bytes, the limit is 67108864",
        ),
        (
            image(large),
            "MEDIA_TOO_LARGE: part 0 of message 0 is 90000 bytes inline, the limit is 65536; \
             store it and send its `media:` reference",
        ),
        (
            image("data:text/plain;base64,aGVsbG8="),
            "VALIDATION_ERROR: part 0 of message 0 has the media type `text/plain;base64`, it \
             must be `image/…`",
        ),
        (
            image("data:image/png;base64"),
            "MEDIA_INVALID: part 0 of message 0: its `data:` reference has no comma before the \
             content",
        ),
        (
            image("data:image/png,hello"),
            "MEDIA_INVALID: part 0 of message 0: its `data:` reference is not marked `;base64`",
        ),
        (
            image("data:image/png;base64,a-b_"),
            "MEDIA_INVALID: part 0 of message 0: its content is not base64",
        ),
        (
            image("data:image/png;base64,"),
            "MEDIA_INVALID: part 0 of message 0: its content is empty",
        ),
        (
            json!({"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": "wav"}}),
            "VALIDATION_ERROR: part 0 of message 0 is audio, which `gemma` does not read",
        ),
        (
            text(png),
            "VALIDATION_ERROR: part 0 of message 0 has the media type `image/png;base64`, it must \
             be `text/…`",
        ),
    ] {
        assert_eq!(refusal(&parts(&json!([part]))), message);
    }
}

#[test]
fn media_is_counted_and_the_good_is_taken() {
    let sha256 = "a".repeat(64);
    let png = "data:image/png;base64,aGVsbG8=";
    let text = |data: &str| json!({"type": "file", "file": {"file_data": data}});
    assert_eq!(
        refusal(&parts(&Value::Array(vec![image(png); 17]))),
        "VALIDATION_ERROR: message 0 has 17 images, the limit is 16"
    );
    for good in [
        image(png),
        image(format!("media:{sha256}:9")),
        text("data:text/plain;base64,aGk="),
    ] {
        assert!(validate(&request(&parts(&json!([good]))), &policy()).is_ok());
    }
}

#[test]
fn modalities_and_audio_formats_follow_the_policy() {
    let clip = |format: &str| {
        request(&parts(&json!([
            {"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": format}}
        ])))
    };
    let hears = Policy {
        modalities: vec!["audio".to_owned()],
        ..Policy::text("gemma")
    };
    assert!(validate(&clip("ogg"), &hears).is_ok());
    assert_eq!(
        validate(&clip("aac"), &hears).unwrap_err().message,
        "part 0 of message 0 has the audio format `aac`, served are `wav`, `mp3`, `flac`, `ogg`"
    );
    assert_eq!(
        validate(&request(&parts(&json!([image("media:")]))), &hears)
            .unwrap_err()
            .message,
        "part 0 of message 0 is image, which `gemma` does not read"
    );
    let fetches = Policy {
        modalities: vec!["image".to_owned()],
        fetch: vec!["host".to_owned()],
        ..hears
    };
    assert!(
        validate(
            &request(&parts(&json!([image("https://host/a.png")]))),
            &fetches
        )
        .is_ok()
    );
    assert_eq!(
        validate(
            &request(&parts(&json!([image("https://other/a.png")]))),
            &fetches
        )
        .unwrap_err()
        .message,
        "part 0 of message 0: it is at `other`, fetched is from `host` only"
    );
}

#[test]
fn defaults_of_sampled_and_of_greedy_answers() {
    let resolve = |extra: Value| {
        let mut json = json!({ "messages": hello() });
        json.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        validate(&request(&json), &policy()).unwrap().sampling()
    };
    let sampled = Sampling {
        max_tokens: 512,
        temperature: 0.7,
        top_p: 0.9,
        top_k: 64,
        repetition_penalty: 1.05,
    };
    assert_eq!(resolve(json!({})), sampled);
    assert_eq!(
        resolve(json!({"top_k": 0, "top_p": 1, "temperature": 2})),
        Sampling {
            top_k: 0,
            top_p: 1.0,
            temperature: 2.0,
            ..sampled
        }
    );
    let greedy = Sampling {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        repetition_penalty: 1.0,
        ..sampled
    };
    assert_eq!(resolve(json!({"temperature": 0})), greedy);
    assert_eq!(
        resolve(json!({"temperature": -0.0, "top_p": 0.5, "top_k": 3})),
        greedy
    );
    assert_eq!(
        resolve(json!({"temperature": 0, "repetition_penalty": 1.2})),
        Sampling {
            repetition_penalty: 1.2,
            ..greedy
        }
    );
    let short = Policy {
        output_tokens_max: 100,
        ..policy()
    };
    let valid = validate(&request(&json!({ "messages": hello() })), &short).unwrap();
    assert_eq!(valid.sampling().max_tokens, 100);
}

#[test]
fn a_seed_comes_from_the_request_or_from_the_name() {
    let valid = |json: Value| validate(&request(&json), &policy()).unwrap();
    let none = valid(json!({ "messages": hello() }));
    assert_eq!(none.seed("a job"), seed_from("a job"));
    assert_ne!(none.seed("a job"), none.seed("another job"));
    assert_eq!(
        valid(json!({"messages": hello(), "seed": 7})).seed("a job"),
        7
    );
}

#[test]
fn rules_of_functions() {
    let policy = Policy {
        features: vec![Feature::Tools],
        ..policy()
    };
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let with = |parameters: Value| json!([{"type": "function", "function": {"name": "f", "parameters": parameters}}]);
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    for (tools, choice, message) in [
        (
            json!((0..65).map(|n| tool(&format!("f{n}"))).collect::<Vec<_>>()),
            json!(null),
            "request has 65 tools, the limit is 64",
        ),
        (
            json!([{"type": "function", "function": {"name": "f", "description": "x".repeat(32_768)}}]),
            json!(null),
            "`tools` are 32830 bytes, the limit is 32768",
        ),
        (
            json!([tool("")]),
            json!(null),
            "the name of tool 0 is 0 bytes, the limit is 1 to 64",
        ),
        (
            json!([tool("f"), tool("a b")]),
            json!(null),
            "the name of tool 1 has ' ', it may have ASCII letters, digits, `_` and `-`",
        ),
        (
            json!([tool("f"), tool("f")]),
            json!(null),
            "tool 1 is called `f`, as another one is",
        ),
        (
            with(json!([])),
            json!(null),
            "`parameters` of tool `f` are no JSON Schema: they must be a JSON object",
        ),
        (
            with(json!({"type": "string"})),
            json!(null),
            "`parameters` of tool `f` are no JSON Schema of an object: `type` must be `object`",
        ),
        (
            with(json!({"type": "object", "properties": ["a"]})),
            json!(null),
            "`parameters` of tool `f` are no JSON Schema: `properties` must be a JSON object",
        ),
        (
            json!([]),
            json!("auto"),
            "`tool_choice` is given, but there are no `tools`",
        ),
        (
            json!([tool("f")]),
            named("g"),
            "`tool_choice` names `g`, which is not among the `tools`",
        ),
    ] {
        let json = json!({"messages": hello(), "tools": tools, "tool_choice": choice});
        let failure = validate(&request(&json), &policy).unwrap_err();
        assert_eq!(failure.to_string(), format!("VALIDATION_ERROR: {message}"));
    }
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let json = json!({"messages": hello(), "tools": with(schema), "tool_choice": named("f")});
    assert!(validate(&request(&json), &policy).is_ok());
}

#[test]
fn unknown_and_misspelt_fields_are_named() {
    for (json, message) in [
        (
            r#"{"messages": [], "max_token": 3}"#,
            "request field `max_token`: unknown field `max_token`, expected one of `messages`, \
             `max_tokens`, `temperature`, `top_p`, `top_k`, `repetition_penalty`, `seed`, `stop`, \
             `response_format`, `logprobs`, `tools`, `tool_choice` at line 1 column 28",
        ),
        (
            r#"{"messages": [{"role": "tool", "content": ""}]}"#,
            "request field `messages[0].role`: unknown variant `tool`, expected one of `system`, \
             `user`, `assistant` at line 1 column 29",
        ),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "text", "txt": ""}]}]}"#,
            "request field `messages[0].content[0]`: unknown field `txt`, expected `text` at line \
             1 column 71",
        ),
        (
            r#"{"messages": [{"role": "user", "content": 3}]}"#,
            "request field `messages[0].content`: invalid type: integer `3`, expected a string or \
             an array of parts at line 1 column 43",
        ),
        (
            r"{}",
            "request: missing field `messages` at line 1 column 2",
        ),
        (
            r"{",
            "request: EOF while parsing an object at line 1 column 1",
        ),
        (
            r#"{"messages": []} {}"#,
            "request is no single JSON value: trailing characters at line 1 column 18",
        ),
    ] {
        let failure = parse_request(json.as_bytes()).unwrap_err();
        assert_eq!(failure.code, FailureCode::ValidationError);
        assert_eq!(failure.message, message);
    }
}

#[test]
fn a_form_that_is_none_is_refused() {
    let policy = Policy {
        features: vec![Feature::JsonObject, Feature::JsonSchema, Feature::Tools],
        ..Policy::text("gemma")
    };
    let refusal = |fields: Value| {
        let mut request = json!({"messages": hello()});
        let fields = fields.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(fields);
        let request = parse_request(request.to_string().as_bytes()).unwrap();
        validate(&request, &policy).map_err(|failure| failure.message)
    };
    let schema = |json_schema: Value| {
        refusal(json!({"response_format": {"type": "json_schema", "json_schema": json_schema}}))
    };
    let object = json!({"type": "object"});
    let whole = json!({"name": "n", "description": "d", "schema": object, "strict": true});
    assert!(schema(whole).is_ok());
    assert!(refusal(json!({"response_format": {"type": "json_object"}})).is_ok());
    for (given, message) in [
        (json!(1), "`json_schema` is no object".to_owned()),
        (
            json!({"name": "n"}),
            "`json_schema` has no `schema` that is an object".to_owned(),
        ),
        (
            json!({"schema": true}),
            "`json_schema` has no `schema` that is an object".to_owned(),
        ),
        (
            json!({"schema": object, "shape": 1}),
            "`json_schema` has `shape`, it may have `name`, `description`, `schema`, `strict`"
                .to_owned(),
        ),
        (
            json!({"schema": {"title": "a".repeat(32 * 1024)}}),
            format!(
                "`json_schema` is {} bytes, the limit is 32768",
                32 * 1024 + 23
            ),
        ),
    ] {
        assert_eq!(schema(given).unwrap_err(), message);
    }
    let both = json!({
        "response_format": {"type": "json_object"},
        "tools": [{"type": "function", "function": {"name": "f"}}],
    });
    assert_eq!(
        refusal(both).unwrap_err(),
        "`response_format` and `tools` exclude each other: a call is not of that form"
    );
}
