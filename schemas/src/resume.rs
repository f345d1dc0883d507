//! Which work is the same work: the key by which a run that was cut short finds what it has
//! already, and the seeds that come from names.
//!
//! Two pieces of work have the same key if and only if the same text is promised for both. The key
//! is the SHA-256 (64 lower-case hex digits) of lines, each ended by a line feed:
//!
//! ```text
//! lapidary resume key 1
//! request <canonical JSON of the request, every default resolved>
//! content <sha256>            one line for each content hash, in the given order
//! weights <sha256>
//! quantization <name>
//! template <sha256>
//! images pan-and-scan        only where the model is shown crops of images
//! ```
//!
//! Canonical JSON has sorted keys and no spaces, `null` in place of absent fields that have no
//! default, and real numbers as the shortest decimal of the 64-bit value nearest to the 32-bit one. A seed is part of it when the request names one and the answer is sampled. Not part of
//! it: the name a model is served under, the instruction tier of a machine, ids, times, tenants.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::canonical;
use crate::request::ResponseFormat;
use crate::tool::ToolMode;
use crate::validate::ValidRequest;
use crate::worker::ModelInfo;

/// The key of this work: the request, the SHA-256 of content that stands outside it (the document
/// a prompt was cut from; media references carry their own), and the exact model.
pub fn resume_key(request: &ValidRequest, content_sha256: &[&str], model: &ModelInfo) -> String {
    let mut lines = format!(
        "lapidary resume key 1\nrequest {}\n",
        canonical::compact(&canonical_request(request))
    );
    for sha256 in content_sha256 {
        lines.push_str("content ");
        lines.push_str(sha256);
        lines.push('\n');
    }
    let _ = write!(
        lines,
        "weights {}\nquantization {}\ntemplate {}\n",
        model.weights_sha256, model.quantization, model.template_sha256
    );
    if model.pan_and_scan {
        lines.push_str("images pan-and-scan\n");
    }
    hex(&Sha256::digest(lines.as_bytes()))
}

/// The seed that belongs to a name: the first 8 bytes, big-endian, of its SHA-256.
pub fn seed_from(name: &str) -> u64 {
    Sha256::digest(name.as_bytes())
        .iter()
        .take(8)
        .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// Everything of a request that changes its answer, the defaults in their places.
fn canonical_request(valid: &ValidRequest) -> Value {
    let request = valid.request();
    let sampling = valid.sampling();
    let greedy = sampling.temperature == 0.0;
    let mut canonical = json!({
        "messages": request.messages,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": if greedy { None } else { request.seed },
        "stop": request.stop,
        "response_format": request.response_format.as_ref().unwrap_or(&ResponseFormat::Text),
        "logprobs": request.logprobs,
        "tools": request.tools_offered(),
    });
    // Only here, so that work without functions keeps the key it always had.
    if request.call_required() {
        canonical["tool_choice"] = json!(ToolMode::Required);
    }
    canonical
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::{Policy, parse_request, validate};

    fn model() -> ModelInfo {
        ModelInfo {
            name: "gemma".to_owned(),
            weights_sha256: "a".repeat(64),
            quantization: "q8".to_owned(),
            template_sha256: "b".repeat(64),
            chat: true,
            context_tokens_max: 8_192,
            modalities: Vec::new(),
            pan_and_scan: false,
            fetch: Vec::new(),
            tier: "avx2".to_owned(),
        }
    }

    fn key_of(json: &str, content: &[&str], model: &ModelInfo) -> String {
        let mut policy = Policy::text("gemma");
        policy.features = vec![crate::validate::Feature::Tools];
        resume_key(
            &validate(&parse_request(json.as_bytes()).unwrap(), &policy).unwrap(),
            content,
            model,
        )
    }

    const PLAIN: &str = r#"{"messages":[{"role":"user","content":"a cat"}]}"#;

    #[test]
    fn what_changes_nothing_keeps_the_key() {
        let plain = key_of(PLAIN, &[], &model());
        for same in [
            r#"{ "messages" : [ { "content" : "a cat", "role" : "user" } ] }"#,
            r#"{"max_tokens":512,"messages":[{"role":"user","content":"a cat"}],"temperature":0.7,
                "top_p":0.9,"top_k":64,"repetition_penalty":1.05,"stop":[],"tools":[],
                "response_format":{"type":"text"},"seed":null}"#,
        ] {
            assert_eq!(key_of(same, &[], &model()), plain);
        }
        let elsewhere = ModelInfo {
            name: "other".to_owned(),
            tier: "avx512".to_owned(),
            chat: false,
            fetch: vec!["*".to_owned()],
            ..model()
        };
        assert_eq!(key_of(PLAIN, &[], &elsewhere), plain);
        let tools = |json: &str| {
            key_of(
                &PLAIN.replace("]}", &format!(r#"],"tools":[{json}]}}"#)),
                &[],
                &model(),
            )
        };
        assert_eq!(
            tools(
                r#"{"type":"function","function":{"name":"f","parameters":{"type":"object","a":1}}}"#
            ),
            tools(
                r#"{"function":{"parameters":{"a":1,"type":"object"},"name":"f"},"type":"function"}"#
            )
        );
        let choice = |extra: &str| {
            let tool = r#"{"type":"function","function":{"name":"f"}}"#;
            let fields = format!(r#"],"tools":[{tool}]{extra}}}"#);
            key_of(&PLAIN.replace("]}", &fields), &[], &model())
        };
        assert_eq!(choice(""), choice(r#","tool_choice":"auto""#));
        assert_eq!(choice(r#","tool_choice":"none""#), plain);
        assert_ne!(choice(""), choice(r#","tool_choice":"required""#));
        let greedy = |extra: &str| {
            key_of(
                &PLAIN.replace("]}", &format!(r#"],"temperature":0{extra}}}"#)),
                &[],
                &model(),
            )
        };
        assert_eq!(greedy(""), greedy(r#","seed":7,"top_k":3"#));
    }

    #[test]
    fn what_changes_the_answer_changes_the_key() {
        let mut keys = vec![key_of(PLAIN, &[], &model())];
        for extra in [
            r#""max_tokens":511"#,
            r#""temperature":0"#,
            r#""temperature":0.8"#,
            r#""top_p":0.8"#,
            r#""top_k":63"#,
            r#""repetition_penalty":1.0"#,
            r#""seed":1"#,
            r#""stop":["x"]"#,
            r#""tools":[{"type":"function","function":{"name":"f"}}]"#,
            r#""tools":[{"type":"function","function":{"name":"g"}}]"#,
        ] {
            keys.push(key_of(
                &PLAIN.replace("]}", &format!("],{extra}}}")),
                &[],
                &model(),
            ));
        }
        keys.push(key_of(&PLAIN.replace("a cat", "a  cat"), &[], &model()));
        keys.push(key_of(PLAIN, &["c"], &model()));
        keys.push(key_of(PLAIN, &["c", "d"], &model()));
        keys.push(key_of(PLAIN, &["d", "c"], &model()));
        for other in [
            ModelInfo {
                weights_sha256: "c".repeat(64),
                ..model()
            },
            ModelInfo {
                quantization: "q4".to_owned(),
                ..model()
            },
            ModelInfo {
                template_sha256: "c".repeat(64),
                ..model()
            },
            ModelInfo {
                pan_and_scan: true,
                ..model()
            },
        ] {
            keys.push(key_of(PLAIN, &[], &other));
        }
        let distinct: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn keys_and_seeds_stay_the_same_in_every_build() {
        assert_eq!(
            key_of(PLAIN, &[&"c".repeat(64)], &model()),
            "9c57ab5b30e061c8449cb06fe7be52437af9c662c37c0d0f78bf4bc1e21209dc"
        );
        // SHA-256 of "abc" begins with ba7816bf 8f01cfea.
        assert_eq!(seed_from("abc"), 0xba78_16bf_8f01_cfea);
    }
}
