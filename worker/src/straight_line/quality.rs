//! Jobs whose answers are poor.

use lapidary_schemas::{FailureCode, Status};

use super::*;

fn policy(action: &str, rule: &str) -> String {
    format!(
        "name = \"house\"\n[[detector]]\nname = \"poor\"\nkind = \"quality\"\n\
         stages = [\"output_text\"]\naction = \"{action}\"\nthreshold = 0.1\nrules = [\"{rule}\"]\n"
    )
}

/// The results of jobs under a policy, and what was counted.
async fn counted(policy: &str, jobs: &[Job]) -> (Vec<JobResult>, String) {
    let bench = filtered::bench(policy).await;
    bench.consume();
    bench.publish(jobs).await;
    let mut results = Vec::new();
    for job in jobs {
        results.push(bench.result(job.id).await);
    }
    bench.drain().await;
    (results, bench.line.metrics.exposition().unwrap())
}

async fn results(policy: &str, jobs: &[Job]) -> Vec<JobResult> {
    counted(policy, jobs).await.0
}

async fn result(policy: &str, job: &Job) -> JobResult {
    results(policy, std::slice::from_ref(job)).await.remove(0)
}

/// A job whose answer goes round in circles: the model knows no better.
fn circling() -> Job {
    job("Say something.", 400)
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
    let of_seed = |seed| {
        let mut job = circling();
        job.request.seed = Some(seed);
        job
    };
    let jobs: Vec<Job> = (1..=16).map(of_seed).collect();
    let (again, metrics) = counted(&policy("retry", "loop"), &jobs).await;
    let mut mended = 0;
    for (job, result) in jobs.iter().zip(&again) {
        let actions: Vec<_> = result.filter.iter().map(|one| &*one.action).collect();
        match actions.as_slice() {
            ["retry", "allow"] => {
                assert_eq!(result.status, Status::Succeeded, "{result:?}");
                assert_ne!(result.seed, job.request.seed, "drawn otherwise");
                mended += 1;
            }
            ["retry", "retry"] => {
                let failure = result.failure.as_ref().unwrap();
                assert_eq!(failure.code, FailureCode::QualityRejected);
                assert_eq!(result.text, None);
            }
            other => panic!("{other:?}: {result:?}"),
        }
    }
    assert!(mended > 0, "no second answer was better");
    for line in [
        format!(
            "lapidary_poor_answers_total{{flaw=\"loop\"}} {}",
            jobs.len()
        ),
        "lapidary_poor_answers_total{flaw=\"empty\"} 0".to_owned(),
        format!("lapidary_second_answers_total{{outcome=\"better\"}} {mended}"),
        format!(
            "lapidary_second_answers_total{{outcome=\"poor\"}} {}",
            jobs.len() - mended
        ),
    ] {
        let is_there = metrics.lines().any(|written| written == line);
        assert!(is_there, "{line} is not in\n{metrics}");
    }
    let same = results(&policy("retry", "loop"), &jobs).await;
    let texts =
        |results: &[JobResult]| -> Vec<_> { results.iter().map(|one| one.text.clone()).collect() };
    assert_eq!(texts(&again), texts(&same));
}
