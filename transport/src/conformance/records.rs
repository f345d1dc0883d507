//! Records that producers keep.

use std::time::Duration;

use lapidary_schemas::limits::RECORD_BYTES_MAX;

use super::batches::is_conflict;
use super::{Case, ResultsEnvironment, cases, until};
use crate::results::{Record, Results};

const LONG: Option<Duration> = Some(Duration::from_mins(1));
const SHORT: Option<Duration> = Some(Duration::from_millis(50));

pub(super) fn cases<E: ResultsEnvironment>() -> Vec<Case<E>> {
    cases![
        a_record_is_kept_replaced_and_removed,
        a_record_survives_a_crash,
        records_are_listed_from_the_highest_name_down,
        a_record_goes_when_its_time_is_over,
        a_record_over_the_limit_is_refused,
        a_record_is_added_once,
    ]
}

fn record(name: &str, body: &str) -> Record {
    Record {
        name: name.to_owned(),
        body: body.to_owned(),
    }
}

async fn a_record_is_kept_replaced_and_removed<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    assert_eq!(results.record("a", "x").await.unwrap(), None);
    // Line ends and blanks are part of it.
    let first = record("x", " one\ntwo ");
    results.put_record("a", &first, None).await.unwrap();
    assert_eq!(other.record("a", "x").await.unwrap(), Some(first.body));
    assert_eq!(other.record("b", "x").await.unwrap(), None, "elsewhere");
    let second = record("x", "");
    other.put_record("a", &second, LONG).await.unwrap();
    assert_eq!(results.records("a", "", 9).await.unwrap(), [second]);
    assert!(results.remove_record("a", "x").await.unwrap());
    assert!(!other.remove_record("a", "x").await.unwrap());
    assert_eq!(other.records("a", "", 9).await.unwrap(), []);
}

async fn a_record_survives_a_crash<E: ResultsEnvironment>(environment: &E) {
    let killed = environment.open().await;
    let kept = record("x", "kept");
    killed.put_record("a", &kept, LONG).await.unwrap();
    environment.crash(killed).await;
    let results = environment.open().await;
    assert_eq!(results.records("a", "", 9).await.unwrap(), [kept]);
}

async fn records_are_listed_from_the_highest_name_down<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    for name in ["b", "B", "a", "c", "ab"] {
        results
            .put_record("a", &record(name, name), None)
            .await
            .unwrap();
    }
    results
        .put_record("other", &record("bb", ""), None)
        .await
        .unwrap();
    let (mut names, mut before) = (Vec::new(), String::new());
    loop {
        let page = results.records("a", &before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before.clone_from(&last.name);
        assert!(page.iter().all(|record| record.name == record.body));
        names.extend(page.into_iter().map(|record| record.name));
    }
    assert_eq!(names, ["c", "b", "ab", "a", "B"]);
}

async fn a_record_goes_when_its_time_is_over<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    for (name, ttl) in [("a", SHORT), ("b", LONG), ("c", SHORT), ("d", None)] {
        results
            .put_record("a", &record(name, ""), ttl)
            .await
            .unwrap();
    }
    until(|| async { results.record("a", "c").await.unwrap().is_none() }).await;
    until(|| async { results.record("a", "a").await.unwrap().is_none() }).await;
    let page = results.records("a", "", 2).await.unwrap();
    assert_eq!(page, [record("d", ""), record("b", "")]);
    assert!(!results.remove_record("a", "c").await.unwrap());
}

async fn a_record_is_added_once<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    let (first, second) = (record("x", "first\nof two"), record("x", "second"));
    let (one, two) = tokio::join!(
        results.add_record("a", &first, LONG),
        other.add_record("a", &second, LONG)
    );
    let kept = results.record("a", "x").await.unwrap();
    let mut answers = [one.unwrap(), two.unwrap()];
    answers.sort();
    assert_eq!(
        answers,
        [None, kept.clone()],
        "one is kept, and told the other"
    );
    assert!([Some(first.body.clone()), Some(second.body.clone())].contains(&kept));
    assert_eq!(other.add_record("b", &second, None).await.unwrap(), None);
    // One whose time is over is in nobody's way.
    assert_eq!(other.add_record("c", &second, SHORT).await.unwrap(), None);
    until(|| async {
        results
            .add_record("c", &first, LONG)
            .await
            .unwrap()
            .is_none()
    })
    .await;
    let over = record("y", &"x".repeat(RECORD_BYTES_MAX + 1));
    assert!(is_conflict(&results.add_record("a", &over, None).await));
}

async fn a_record_over_the_limit_is_refused<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let largest = record("x", &"x".repeat(RECORD_BYTES_MAX));
    results.put_record("a", &largest, None).await.unwrap();
    let larger = record("y", &"x".repeat(RECORD_BYTES_MAX + 1));
    assert!(is_conflict(&results.put_record("a", &larger, None).await));
    assert_eq!(results.records("a", "", 9).await.unwrap(), [largest]);
}
