//! Jobs through a whole worker that applies a policy.

use lapidary_schemas::request::{Content, FileRef, Part};
use lapidary_schemas::result::Verdict;
use lapidary_schemas::{FailureCode, Status};

use super::*;

/// Blocks a word in requests; replaces e-mail addresses in both directions.
const POLICY: &str = r#"
name = "house"
[[detector]]
name = "words"
kind = "keywords"
stages = ["input_text"]
action = "block"
keywords = ["forbidden"]
[[detector]]
name = "people"
kind = "personal"
stages = ["input_text", "output_text"]
action = "redact"
rules = ["email"]
[[detector]]
name = "later"
kind = "keywords"
stages = ["input_text"]
action = "block"
keywords = ["picture"]
shadow = true
"#;

pub(super) async fn bench(policy: &str) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, policy).unwrap();
    let filters = Filters::open(file.to_str().unwrap()).unwrap();
    Bench::filtering(engine(), &ImageOptions::default(), filters).await
}

#[tokio::test]
async fn verdicts_codes_and_counts_agree_and_nothing_tells_the_words() {
    const SECRET: &str = "zanzibar";
    let bench = bench(POLICY).await;
    bench.consume();
    let plain: Vec<Job> = (0..4)
        .map(|n| job(&format!("Describe picture {n}."), 4))
        .collect();
    let refused: Vec<Job> = (0..3)
        .map(|n| job(&format!("A f0rbidden {SECRET} word, {n}."), 4))
        .collect();
    let personal = job("Write to somebody@example.org now.", 4);
    let same = job("Write to [email] now.", 4);
    let jobs = [
        plain.clone(),
        refused.clone(),
        vec![personal.clone(), same.clone()],
    ]
    .concat();
    bench.publish(&jobs).await;
    for job in &plain {
        assert_passed(&bench.result(job.id).await);
    }
    for job in &refused {
        let result = bench.result(job.id).await;
        assert_refused(&result);
        let stored = serde_json::to_string(&result).unwrap();
        assert!(
            !stored.contains(SECRET) && !stored.contains("f0rbidden"),
            "{stored}"
        );
    }
    let (personal, same) = (bench.result(personal.id).await, bench.result(same.id).await);
    assert_eq!(personal.text, same.text);
    assert_eq!(personal.usage.prompt_tokens, same.usage.prompt_tokens);
    assert_eq!(personal.filter[1].action, "redact");
    bench.drain().await;
    let metrics = bench.line.metrics.exposition().unwrap();
    for line in [
        "lapidary_jobs_total{class=\"interactive\",code=\"CONTENT_FILTERED\",status=\"filtered\"} 3",
        "lapidary_filter_verdicts_total{action=\"block\",detector=\"words\",mode=\"enforced\",stage=\"input_text\"} 3",
        "lapidary_filter_verdicts_total{action=\"block\",detector=\"later\",mode=\"shadow\",stage=\"input_text\"} 4",
        "lapidary_filter_verdicts_total{action=\"redact\",detector=\"people\",mode=\"enforced\",stage=\"input_text\"} 1",
        "lapidary_filter_verdicts_total{action=\"allow\",detector=\"people\",mode=\"enforced\",stage=\"output_text\"} 6",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains(SECRET));
    let (dead, _) = bench
        .line
        .stores
        .results
        .dead_letters("", 10)
        .await
        .unwrap();
    assert!(dead.is_empty());
}

/// One verdict a detector, of which only the shadow saw something.
fn assert_passed(result: &JobResult) {
    assert_eq!(result.status, Status::Succeeded, "{result:?}");
    let verdicts = result.filter.iter();
    let said = verdicts.map(|verdict| {
        let Verdict {
            stage,
            detector,
            action,
            shadow,
            ..
        } = verdict;
        (stage.as_str(), detector.as_str(), action.as_str(), *shadow)
    });
    let expected = [
        ("input_text", "words", "allow", false),
        ("input_text", "people", "allow", false),
        ("input_text", "later", "block", true),
        ("output_text", "people", "allow", false),
    ];
    assert_eq!(said.collect::<Vec<_>>(), expected);
}

fn assert_refused(result: &JobResult) {
    assert_eq!((result.status, result.attempt), (Status::Filtered, 1));
    let failure = result.failure.as_ref().unwrap();
    assert_eq!(
        failure.to_string(),
        "CONTENT_FILTERED: the request is refused by `words` of the content policy `house`"
    );
    assert!(!failure.retryable && result.text.is_none());
    assert_eq!(result.filter.last().unwrap().action, "block");
}

#[tokio::test]
async fn answers_are_refused_as_answers() {
    let asked = job("Hello", 32);
    let open = bench("name = \"open\"").await;
    open.consume();
    open.publish(std::slice::from_ref(&asked)).await;
    let text = open.result(asked.id).await.text.unwrap();
    open.drain().await;
    let mut words = text.split(|char: char| !char.is_alphanumeric());
    let word = words.find(|word| !word.is_empty()).unwrap();
    let policy = format!(
        "name = \"mute\"\n[[detector]]\nname = \"words\"\nkind = \"keywords\"\n\
         stages = [\"output_text\"]\naction = \"block\"\nkeywords = [\"{word}\"]"
    );
    let bench = bench(&policy).await;
    bench.consume();
    bench.publish(std::slice::from_ref(&asked)).await;
    let result = bench.result(asked.id).await;
    assert_eq!(result.status, Status::Filtered, "{result:?}");
    assert_eq!(result.failure.unwrap().code, FailureCode::ResponseFiltered);
    assert_eq!(result.text, None);
    assert_eq!(result.finish_reason, Some(FinishReason::ContentFilter));
    assert_eq!(result.usage.completion_tokens, 32);
    bench.drain().await;
}

#[tokio::test]
async fn a_fence_is_part_of_the_prompt() {
    let fencing = bench("name = \"f\"\nfence_documents = true").await;
    let open = bench("name = \"o\"").await;
    let mut asked = job("", 4);
    let file = FileRef {
        filename: None,
        file_data: "data:text/plain;base64,V2F0ZXI=".to_owned(),
    };
    asked.request.messages[0].content = Content::Parts(vec![Part::File { file }]);
    let mut tokens = Vec::new();
    for bench in [fencing, open] {
        bench.consume();
        bench.publish(std::slice::from_ref(&asked)).await;
        let result = bench.result(asked.id).await;
        assert_eq!(result.status, Status::Succeeded, "{result:?}");
        tokens.push(result.usage.prompt_tokens);
        bench.drain().await;
    }
    assert!(tokens[0] > tokens[1] + 20, "{tokens:?}");
}

#[tokio::test]
async fn a_filter_that_must_not_be_passed_holds_the_job_back() {
    let policy = r#"
name = "slow"
[[detector]]
name = "words"
kind = "keywords"
keywords = ["hate"]
stages = ["input_text"]
action = "flag"
time_limit = "1ms"
on_error = "ERROR"
"#;
    // More than can be looked at in a millisecond.
    let mut asked = job("", 4);
    asked.attempts_max = 1;
    let text = "c4t5 d0g5 ".repeat(100_000);
    for (on_error, code) in [
        ("closed", Some(FailureCode::FilterUnavailable)),
        ("open", Some(FailureCode::PromptTooLong)),
    ] {
        let bench = bench(&policy.replace("ERROR", on_error)).await;
        let media = bench
            .line
            .stores
            .media
            .put("t", text.clone().into())
            .await
            .unwrap();
        asked.request.messages[0].content = Content::Parts(vec![file(&media.to_string())]);
        bench.consume();
        bench.publish(std::slice::from_ref(&asked)).await;
        let result = bench.result(asked.id).await;
        assert_eq!(result.failure.map(|failure| failure.code), code);
        bench.drain().await;
        let metrics = bench.line.metrics.exposition().unwrap();
        let errors = "lapidary_filter_errors_total{detector=\"words\",stage=\"input_text\"} 1";
        assert!(metrics.contains(errors), "{metrics}");
    }
}
