//! How functions are told of, and which answers are calls.

use lapidary_schemas::Message;
use proptest::prelude::*;

use super::*;
use crate::samples;

fn job(choice: &Value) -> Job {
    let request = json!({
        "messages": [],
        "tools": [
            {"type": "function", "function": {
                "name": "forecast",
                "description": "Weather \"to come\"",
                "parameters": {
                    "type": "object",
                    "required": ["place"],
                    "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}
                }
            }},
            {"type": "function", "function": {"name": "print"}}
        ],
        "tool_choice": choice
    });
    let mut request: Request = serde_json::from_value(request).unwrap();
    request.messages = vec![Message::user("Will it rain?")];
    samples::job(request)
}

#[test]
fn functions_are_told_of() {
    insta::assert_snapshot!(offer(&job(&json!("auto")).request).unwrap(), @r#"
    You can call functions. Their signatures, one JSON object a line:
    {"name":"forecast","description":"Weather \"to come\"","parameters":{"properties":{"days":{"type":"integer"},"place":{"type":"string"}},"required":["place"],"type":"object"}}
    {"name":"print"}

    To call one, answer with a JSON object of this form and nothing else:
    {"name": "name of the function", "parameters": {"name of a parameter": its value}}
    To call several, answer with a JSON array of such objects and nothing else.
    If no function helps, answer in plain words.
    "#);
    let named = json!({"type": "function", "function": {"name": "print"}});
    insta::assert_snapshot!(offer(&job(&named).request).unwrap(), @r#"
    You can call functions. Their signatures, one JSON object a line:
    {"name":"print"}

    To call one, answer with a JSON object of this form and nothing else:
    {"name": "name of the function", "parameters": {"name of a parameter": its value}}
    To call several, answer with a JSON array of such objects and nothing else.
    Your answer must be a call.
    "#);
    assert_eq!(offer(&job(&json!("none")).request), None);
}

/// The calls of an answer, a line each.
fn read(answer: &str) -> String {
    let mut lines = String::new();
    for call in calls(&job(&json!("auto")), answer) {
        let function = call.function;
        lines += &[&function.name, " ", &function.arguments, "\n"].concat();
    }
    lines
}

#[test]
fn answers_that_are_calls() {
    let one = "forecast {\"place\":\"Ulm\"}\n";
    for (answer, expected) in [
        (
            r#"{"name": "forecast", "parameters": {"place": "Ulm"}}"#,
            one,
        ),
        (
            r#" {"arguments": {"place": "Ulm"}, "name": "forecast"}"#,
            one,
        ),
        (
            "```json\n{\"name\": \"forecast\", \"parameters\": {\"place\": \"Ulm\"}}\n```\n",
            one,
        ),
        (
            "```tool_code\n{\"name\":\"forecast\",\"parameters\":{\"place\":\"Ulm\"}}```",
            one,
        ),
        ("```tool_code\nforecast(place=\"Ulm\")\n```", one),
        ("```tool_code\nprint(forecast(place='Ulm'))\n```", one),
        ("[forecast(place=\"Ulm\",)]", one),
        (r#"{"name": "print"}"#, "print {}\n"),
        ("print()", "print {}\n"),
        ("print(what=True)", "print {\"what\":true}\n"),
        (
            r#"[{"name": "print"}, {"name": "forecast", "parameters": {"days": 2}}]"#,
            "print {}\nforecast {\"days\":2}\n",
        ),
        (
            "{\"name\": \"print\"}\n{\"name\": \"print\", \"parameters\": {\"a\": null}}",
            "print {}\nprint {\"a\":null}\n",
        ),
        (
            "[print(), print(a=-1.5e3)]",
            "print {}\nprint {\"a\":-1500.0}\n",
        ),
        (
            "print()\nforecast(place='it\\'s \"x\"\\n', days=[1, {'a': None}])",
            "print {}\nforecast {\"place\":\"it's \\\"x\\\"\\n\",\"days\":[1,{\"a\":null}]}\n",
        ),
    ] {
        assert_eq!(read(answer), expected, "{answer}");
    }
}

#[test]
fn answers_that_are_text() {
    let deep = format!("print(a={}{})", "[".repeat(40), "]".repeat(40));
    let deeper = format!(
        "{{\"name\":\"print\",\"parameters\":{{\"a\":{}",
        "[".repeat(100_000)
    );
    let many = r#"{"name":"print"}"#.repeat(TOOL_CALLS_MAX + 1);
    for answer in [
        "",
        "It will rain.",
        "[]",
        "``````",
        "forecast",
        "forecast(",
        "forecast(\"Ulm\")",
        "forecast(place=Ulm)",
        "forecast(place='Ulm', place='Bonn')",
        "forecast(place='Ulm') tells you.",
        "forecast(place='Ulm'",
        "[forecast(place='Ulm')",
        r#"Here: {"name": "print"}"#,
        r#"{"name": "print"} is what I call"#,
        r#"{"name": "print", "parameters": []}"#,
        r#"{"name": "print", "parameters": {}, "arguments": {}}"#,
        r#"{"name": "print", "why": "to see"}"#,
        r#"{"name": "delete_all", "parameters": {}}"#,
        r#"[{"name": "print"}, {"name": "delete_all"}]"#,
        "delete_all()",
        "```python\nprint()\n```",
        "```json\n{\"name\": \"print\"}",
        &deep,
        &deeper,
        &many,
    ] {
        assert_eq!(read(answer), "", "{answer}");
    }
    assert!(calls(&job(&json!("none")), "print()").is_empty());
}

#[test]
fn calls_are_named_by_job_and_place() {
    let calls = calls(&job(&json!("auto")), "print()\nprint()");
    let ids: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
    let job = "call_00000000-0000-0000-0000-000000000000";
    assert_eq!(ids, [format!("{job}_0"), format!("{job}_1")]);
}

/// Pieces of calls in any order, more often near a call than arbitrary text is.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop::sample::select(vec![
        "```",
        "tool_code",
        "json",
        "\n",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        ":",
        "=",
        "\"",
        "'",
        "\\",
        "print",
        "forecast",
        "delete_all",
        "\"name\"",
        "\"parameters\"",
        "\"print\"",
        "\"forecast\"",
        "1",
        "-",
        "e",
        "True",
        "None",
        "é",
        " ",
    ]);
    prop::collection::vec(scrap, 0..24).prop_map(|scraps| scraps.concat())
}

proptest! {
    #[test]
    fn whatever_an_answer_is_only_offered_functions_are_called(
        answer in prop_oneof![any::<String>(), scraps()]
    ) {
        for call in calls(&job(&json!("auto")), &answer) {
            prop_assert!(["forecast", "print"].contains(&call.function.name.as_str()));
            let arguments: Value = serde_json::from_str(&call.function.arguments).unwrap();
            prop_assert!(arguments.is_object());
        }
    }

    #[test]
    fn what_a_function_is_called_with_arrives_whole(
        place in any::<String>(), days in any::<i64>(), fenced in any::<bool>()
    ) {
        let parameters = json!({"place": place, "days": days});
        let mut answer = json!({"name": "forecast", "parameters": parameters}).to_string();
        if fenced {
            answer = format!("```json\n{answer}\n```");
        }
        let calls = calls(&job(&json!("auto")), &answer);
        prop_assert_eq!(calls.len(), 1);
        let arguments: Value = serde_json::from_str(&calls[0].function.arguments).unwrap();
        prop_assert_eq!(arguments, parameters);
    }
}
