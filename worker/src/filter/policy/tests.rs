//! What is wrong with a policy is named: the key, its value, the limit.

use super::*;

const DETECTOR: &str = "[[detector]]\nname = \"d\"\nkind = \"secrets\"\n\
                        stages = [\"input_text\"]\naction = \"flag\"\n";

/// What is said of a policy with these detectors.
#[track_caller]
fn refused(detectors: &str, said: &str) {
    let text = format!("name = \"p\"\n{detectors}");
    let error = Policy::parse("p.toml", &text).unwrap_err().to_string();
    let said = format!("policy `p.toml`: {said}");
    assert!(error.starts_with(&said), "{error}, not {said}");
}

#[test]
fn settings_of_a_detector() {
    for (setting, said) in [
        (
            "threshold = 1.5",
            "threshold` is 1.5, it must be above 0 and at most 1",
        ),
        (
            "threshold = \"high\"",
            "threshold`: invalid type: string \"high\", expected f32",
        ),
        ("treshold = 0.5", "treshold`: unknown field `treshold`"),
        (
            "time_limit = \"1h\"",
            "time_limit` is 1h, it must be 1ms to 5m",
        ),
        (
            "time_limit = \"soon\"",
            "time_limit`: `soon` is no duration",
        ),
        (
            "on_error = \"maybe\"",
            "on_error`: unknown variant `maybe`, expected `open` or",
        ),
        (
            "rules = [\"jwt\", \"x\"]",
            "rules`: `x` is none of private_key, aws_key",
        ),
        (
            "keywords = [\"x\"]",
            "keywords` belongs to detectors of the kind `keywords`",
        ),
    ] {
        refused(
            &format!("{DETECTOR}{setting}"),
            &format!("`detector[0].{said}"),
        );
    }
    refused(
        &DETECTOR.replace("flag", "retry"),
        "`detector[0].action` is retry: poor answers are not redacted, and",
    );
    refused(
        &DETECTOR
            .replace("secrets", "judge")
            .replace("flag", "redact"),
        "`detector[0].action` is redact: what a model judges is not replaced",
    );
    let quality = DETECTOR.replace("secrets", "quality");
    refused(&quality, "`detector[0].stages` of the kind `quality` is");
    refused(
        &DETECTOR.repeat(2),
        "`detector[1].name`: `d` is there twice",
    );
    refused(&format!("{DETECTOR}x = ["), "line 7: ");
}

#[test]
fn what_a_detector_must_have() {
    for (from, to, said) in [
        ("secrets", "keywords", "keywords` is missing"),
        (
            "input_text",
            "output_image",
            "stages[0]`: unknown variant `output_image`, expected one of `input_text`,",
        ),
        (
            "input_text",
            "input_image",
            "stages` has `input_image`, where `judge_image` looks alone",
        ),
        (
            "secrets",
            "judge_image",
            "stages` of the kind `judge_image` is [\"input_image\"]",
        ),
        ("\"d\"", "\"d d\"", "name` is `d d`, it must be 1 to 64"),
        ("\"flag\"", "\"drop\"", "action`: unknown variant `drop`"),
        ("[\"input_text\"]", "[]", "stages` is empty"),
    ] {
        refused(&DETECTOR.replace(from, to), &format!("`detector[0].{said}"));
    }
    let many: Vec<String> = (0..33)
        .map(|n| DETECTOR.replace("\"d\"", &format!("\"d{n}\"")))
        .collect();
    refused(&many.concat(), "it has 33 detectors, the limit is 32");
}

#[test]
fn keywords_that_cannot_be_looked_for() {
    let detector = DETECTOR.replace("secrets", "keywords");
    let long = format!("[\"{}\"]", "a".repeat(257));
    for (list, said) in [
        ("[]", "` is empty"),
        ("[\"!?\"]", "`: `!?` has no letter or digit"),
        (&long, "`: a keyword of 257 bytes is over the limit of 256"),
    ] {
        refused(
            &format!("{detector}keywords = {list}"),
            &format!("`detector[0].keywords{said}"),
        );
    }
}

#[test]
fn files_that_are_no_policies() {
    let error = Policy::parse("p.toml", "").unwrap_err().to_string();
    assert_eq!(error, "policy `p.toml`: missing field `name`");
    let error = Policy::open("/nowhere/p.toml").unwrap_err().to_string();
    let said = "policy `/nowhere/p.toml` is neither `none`, `default` nor `strict`";
    assert!(error.starts_with(said), "{error}");
}
