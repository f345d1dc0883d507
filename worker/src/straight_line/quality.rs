//! Jobs whose answers are poor.

use lapidary_schemas::{FailureCode, Status};

use super::*;

fn policy(action: &str, rule: &str) -> String {
    format!(
        "name = \"house\"\n[[detector]]\nname = \"poor\"\nkind = \"quality\"\n\
         stages = [\"output_text\"]\naction = \"{action}\"\nthreshold = 0.1\nrules = [\"{rule}\"]\n"
    )
}

/// The result of a job under a policy.
async fn result(policy: &str, job: &Job) -> JobResult {
    let bench = filtered::bench(policy).await;
    bench.consume();
    bench.publish(std::slice::from_ref(job)).await;
    let result = bench.result(job.id).await;
    bench.drain().await;
    result
}

/// A job whose answer goes round in circles: the model knows no better.
fn circling() -> Job {
    job("What is it?", 400)
}

#[tokio::test]
async fn a_loop_ends_early_and_is_given_to_nobody() {
    let free = result(&policy("flag", "loop"), &circling()).await;
    assert_eq!(free.status, Status::Succeeded);
    let tokens = free.usage.completion_tokens;
    assert_eq!(tokens, 400, "the model does not go round: {free:?}");
    assert_eq!(free.filter[0].action, "flag", "{free:?}");

    let blocked = result(&policy("block", "loop"), &circling()).await;
    let failure = blocked.failure.clone().unwrap();
    assert_eq!(
        (blocked.status, failure.code, failure.retryable),
        (Status::Failed, FailureCode::QualityRejected, false)
    );
    assert_eq!(
        failure.message,
        "the answer is refused by `poor` of the content policy `house`"
    );
    assert_eq!((blocked.text, blocked.filter.len()), (None, 1));
    let used = blocked.usage.completion_tokens;
    assert!(0 < used && used < tokens, "{used} of {tokens} tokens");
}

#[tokio::test]
async fn a_poor_answer_is_made_once_more_and_otherwise() {
    let first = circling();
    let again = result(&policy("retry", "loop"), &first).await;
    let same = result(&policy("retry", "loop"), &first).await;
    assert_eq!((&again.text, again.seed), (&same.text, same.seed));
    assert_eq!(again.filter[0].action, "retry", "{again:?}");
    assert_eq!(again.filter.len(), 2, "{again:?}");
    let plain = result(&policy("flag", "loop"), &first).await;
    if again.status == Status::Succeeded {
        assert_ne!(again.seed, plain.seed);
    } else {
        assert_eq!(again.failure.unwrap().code, FailureCode::QualityRejected);
    }
}
