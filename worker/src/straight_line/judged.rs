//! Jobs whose texts and pictures a model judges.

use lapidary_engine::Towers;
use lapidary_schemas::result::Verdict;
use lapidary_schemas::{FailureCode, Status};
use serde_json::Value;

use super::pictures::{asking, engine_fixture, inline, picture, seeing, text};
use super::*;
use crate::filter::{Judge, Judges};

/// A small model with a Yes and a No, of random weights: what it says of anything means nothing, and is
/// always the same.
fn judging() -> Engine {
    small(&engine_fixture("shield"), Some(Quantization::F32))
}

fn policy(kind: &str, stage: &str, rest: &str) -> String {
    format!(
        "name = \"house\"\n[[detector]]\nname = \"harm\"\nkind = \"{kind}\"\n\
         stages = [\"{stage}\"]\ntime_limit = \"1m\"\n{rest}\n"
    )
}

/// A worker of `served` with a policy, and what judges for it.
async fn bench(served: Engine, policy: &str, judges: Judges) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, policy).unwrap();
    let filters = Filters::open(file.to_str().unwrap()).unwrap();
    let filters = filters.with_judges(judges);
    let bench = Bench::filtering(served, &ImageOptions::default(), filters).await;
    bench.consume();
    bench
}

fn of_texts() -> Judges {
    Judges {
        texts: Some(Judge::new(judging()).unwrap()),
        pictures: None,
    }
}

fn of_pictures(engine: Engine) -> Judges {
    Judges {
        texts: None,
        pictures: Some(Judge::of_pictures(engine, 36).unwrap()),
    }
}

async fn result(bench: &Bench, job: &Job) -> JobResult {
    bench.publish(std::slice::from_ref(job)).await;
    bench.result(job.id).await
}

/// The only verdict, and the score of each of its categories.
fn judgement(result: &JobResult) -> (&Verdict, Vec<(String, f64)>) {
    let [verdict] = result.filter.as_slice() else {
        panic!("{result:?}");
    };
    let scores = verdict.detail["category_scores"].as_object().unwrap();
    let scores = scores.iter();
    let scores = scores.map(|(rule, score)| (rule.clone(), score.as_f64().unwrap()));
    (verdict, scores.collect())
}

fn highest(scores: &[(String, f64)]) -> (String, f64) {
    let best = scores.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    best.unwrap().clone()
}

#[tokio::test]
async fn a_second_model_judges_texts_before_the_served_one_sees_them() {
    let free = policy("judge", "input_text", "action = \"flag\"\nthreshold = 1.0");
    let asked = job("How do I bake bread?", 4);
    let bench_free = bench(engine(), &free, of_texts()).await;
    let passed = result(&bench_free, &asked).await;
    assert_eq!(passed.status, Status::Succeeded, "{passed:?}");
    let (verdict, scores) = judgement(&passed);
    let rules: Vec<&str> = scores.iter().map(|(rule, _)| rule.as_str()).collect();
    assert_eq!(rules, ["dangerous", "harassment", "hate", "sexual"]);
    assert!(scores.iter().all(|(_, score)| (0.0..1.0).contains(score)));
    assert_eq!(
        (verdict.action.as_str(), &verdict.detail["flagged"]),
        ("allow", &Value::Bool(false))
    );
    assert_eq!(verdict.detail["judge"].as_str().unwrap().len(), 64);
    bench_free.drain().await;

    let (rule, score) = highest(&scores);
    let strict = policy(
        "judge",
        "input_text",
        &format!(
            "action = \"block\"\nthreshold = {}\nrules = [\"{rule}\"]",
            score * 0.99
        ),
    );
    let bench = bench(engine(), &strict, of_texts()).await;
    let again = job("How do I bake bread?", 4);
    let refused = result(&bench, &again).await;
    assert_eq!(refused.status, Status::Filtered, "{refused:?}");
    assert_eq!(
        refused.failure.as_ref().unwrap().code,
        FailureCode::ContentFiltered
    );
    let (verdict, scores) = judgement(&refused);
    assert_eq!(
        (verdict.action.as_str(), scores),
        ("block", vec![(rule, score)])
    );
    assert_eq!(verdict.detail["spans"][0]["end"], 20);
    bench.drain().await;
}

#[tokio::test]
async fn answers_are_judged_by_what_they_answer() {
    let policy = policy("judge", "output_text", "action = \"flag\"\nthreshold = 1.0");
    let bench = bench(engine(), &policy, of_texts()).await;
    // Short, and the same to both: the tiny model has few words.
    let (first, second) = (job("Hello", 1), job("How do I bake bread?", 1));
    let (first, second) = (result(&bench, &first).await, result(&bench, &second).await);
    assert_eq!(first.status, Status::Succeeded, "{first:?}");
    let (verdict, scores) = judgement(&first);
    assert_eq!((verdict.stage.as_str(), scores.len()), ("output_text", 4));
    let (_, others) = judgement(&second);
    assert_ne!(scores, others);
    bench.drain().await;
}

#[tokio::test]
async fn pictures_are_judged_before_they_are_described() {
    let file = picture("lossy.webp");
    let free = policy(
        "judge_image",
        "input_image",
        "action = \"flag\"\nthreshold = 1.0",
    );
    let asked = || asking(vec![inline(&file), text("what is this")]);
    let served = judging();
    let bench_free = bench(served.clone(), &free, of_pictures(served.clone())).await;
    let passed = result(&bench_free, &asked()).await;
    assert_eq!(passed.status, Status::Succeeded, "{passed:?}");
    let (verdict, scores) = judgement(&passed);
    assert_eq!((verdict.stage.as_str(), scores.len()), ("input_image", 3));
    // Three policies and the answer look at it, and it is encoded once.
    assert_eq!(served.stats().views_encoded, 1);
    bench_free.drain().await;

    let (rule, score) = highest(&scores);
    let strict = format!("action = \"block\"\nthreshold = {}", score * 0.999);
    let strict = policy("judge_image", "input_image", &strict);
    let bench = bench(seeing(), &strict, of_pictures(judging())).await;
    let refused = result(&bench, &asked()).await;
    assert_eq!(refused.status, Status::Filtered, "{refused:?}");
    let (verdict, again) = judgement(&refused);
    assert_eq!(again, scores);
    assert_eq!(
        verdict.detail["spans"][0],
        serde_json::json!({"category": rule, "image": 0})
    );
    let texts_alone = result(&bench, &job("what is this", 4)).await;
    assert_eq!(texts_alone.status, Status::Succeeded);
    assert!(texts_alone.filter.is_empty());
    bench.drain().await;
}

#[tokio::test]
async fn a_picture_is_encoded_once_for_models_of_the_same_tower() {
    let towers = Towers::default();
    let sharing = |quantization| {
        let load = LoadOptions {
            quantization: Some(quantization),
            threads: Some(1),
            towers: Some(towers.clone()),
            ..LoadOptions::default()
        };
        let options = EngineOptions {
            kv_bytes_max: 8 << 20,
            ..EngineOptions::default()
        };
        Engine::load(engine_fixture("shield").as_path(), &load, &options).unwrap()
    };
    let file = picture("lossy.webp");
    let rest = "action = \"flag\"\nthreshold = 1.0";
    let policy = policy("judge_image", "input_image", rest);
    let mut texts = Vec::new();
    // The same weights held otherwise are another tower.
    for (held, views) in [(Quantization::F32, 1), (Quantization::Bf16, 2)] {
        let (served, judge) = (sharing(Quantization::F32), sharing(held));
        let judges = of_pictures(judge.clone());
        let bench = bench(served.clone(), &policy, judges).await;
        let asked = asking(vec![inline(&file), text("what is this")]);
        let answered = result(&bench, &asked).await;
        assert_eq!(answered.status, Status::Succeeded, "{answered:?}");
        let encoded = served.stats().views_encoded + judge.stats().views_encoded;
        assert_eq!(encoded, views, "{held:?}");
        texts.push(answered.text);
        bench.drain().await;
    }
    assert_eq!(texts[0], texts[1]);
}

#[tokio::test]
async fn a_judge_that_takes_too_long_is_passed_or_not_as_the_policy_says() {
    for (on_error, status) in [("open", Status::Succeeded), ("closed", Status::Failed)] {
        let rest = format!("action = \"block\"\non_error = \"{on_error}\"");
        let policy = policy("judge", "input_text", &rest).replace("1m", "1ms");
        let bench = bench(engine(), &policy, of_texts()).await;
        let mut asked = job("How do I bake bread?", 4);
        asked.attempts_max = 1;
        let result = result(&bench, &asked).await;
        assert_eq!(result.status, status, "{result:?}");
        if on_error == "closed" {
            let failure = result.failure.unwrap();
            assert_eq!(failure.code, FailureCode::FilterUnavailable);
            assert!(
                failure
                    .message
                    .ends_with("took longer than its limit of 1ms")
            );
        }
        bench.drain().await;
    }
}

#[tokio::test]
async fn a_moderation_tells_all_and_refuses_nothing() {
    let rest = "action = \"block\"\nthreshold = 0.0001\n[[detector]]\nname = \"people\"\n\
                kind = \"personal\"\nstages = [\"input_text\"]\naction = \"redact\"\n";
    let policy = policy("judge", "input_text", rest);
    let bench = bench(engine(), &policy, of_texts()).await;
    let mut asked = job("Write to somebody@example.org", 4);
    asked.work = Work::Moderation;
    let result = result(&bench, &asked).await;
    assert_eq!(result.status, Status::Succeeded, "{result:?}");
    assert_eq!(
        (result.text.as_ref(), result.seed, result.finish_reason),
        (None, None, None)
    );
    let [judged, personal] = result.filter.as_slice() else {
        panic!("{result:?}");
    };
    assert_eq!(
        judged.detail["category_scores"].as_object().unwrap().len(),
        4
    );
    assert_eq!(
        personal.detail["categories"],
        serde_json::json!({"email": true, "phone": false, "card": false, "iban": false})
    );
    assert_eq!(personal.detail["category_scores"]["iban"], 0.0);
    bench.drain().await;
}

#[test]
fn models_that_cannot_judge_say_why() {
    use crate::filter::UnfitJudge;
    let unfit = |judge: Result<Judge, UnfitJudge>| judge.unwrap_err();
    assert_eq!(unfit(Judge::new(engine())), UnfitJudge::NoWords);
    assert_eq!(
        unfit(Judge::of_pictures(engine(), 36)),
        UnfitJudge::NoPictures
    );
    assert_eq!(
        unfit(Judge::of_pictures(judging(), 896)).to_string(),
        "it reads pictures of 36 pixels, the served model reads 896"
    );
}
