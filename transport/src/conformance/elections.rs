//! Workers that announce themselves, and elections.

use std::time::Duration;

use chrono::Utc;
use lapidary_schemas::{ModelInfo, WorkerInfo};

use super::{Case, ResultsEnvironment, cases, until};
use crate::results::Results;

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(50);

pub(super) fn cases<E: ResultsEnvironment>() -> Vec<Case<E>> {
    cases![
        workers_are_listed_while_they_live,
        an_election_has_one_winner,
        a_lease_that_runs_out_can_be_won,
        an_old_lease_releases_nothing,
    ]
}

fn worker(id: &str) -> WorkerInfo {
    let model = ModelInfo {
        name: "m".to_owned(),
        weights_sha256: "0".repeat(64),
        quantization: "q8".to_owned(),
        template_sha256: "0".repeat(64),
        chat: true,
        context_tokens_max: 8_192,
        modalities: Vec::new(),
        pan_and_scan: false,
        fetch: Vec::new(),
        tier: "avx2".to_owned(),
    };
    WorkerInfo {
        id: id.to_owned(),
        model,
        listen: None,
        slots: 4,
        started_at: Utc::now(),
        jobs: None,
    }
}

async fn workers_are_listed_while_they_live<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    let (long, mut renewed, short) = (worker("long"), worker("renewed"), worker("short"));
    results.announce(&long, LONG).await.unwrap();
    results.announce(&renewed, LONG).await.unwrap();
    renewed.slots = 8;
    results.announce(&renewed, LONG).await.unwrap();
    results.announce(&short, SHORT).await.unwrap();
    until(|| async { other.workers().await.unwrap().len() == 2 }).await;
    let mut alive = other.workers().await.unwrap();
    alive.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(alive, [long, renewed.clone()]);
    other.retire("long").await.unwrap();
    other.retire("nobody").await.unwrap();
    assert_eq!(results.workers().await.unwrap(), [renewed]);
}

async fn an_election_has_one_winner<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    let held = results.lease("a", "me", LONG).await.unwrap().unwrap();
    assert_eq!((held.name.as_str(), held.holder.as_str()), ("a", "me"));
    assert_eq!(other.lease("a", "you", LONG).await.unwrap(), None);
    assert_eq!(
        results.lease("a", "me", LONG).await.unwrap().as_ref(),
        Some(&held),
        "renewed"
    );
    assert!(
        other.lease("b", "you", LONG).await.unwrap().is_some(),
        "another election"
    );
    results.release(&held).await.unwrap();
    let next = other.lease("a", "you", LONG).await.unwrap().unwrap();
    assert!(
        next.token > held.token,
        "{} does not follow {}",
        next.token,
        held.token
    );
    assert_eq!(results.lease("a", "me", LONG).await.unwrap(), None);
}

async fn a_lease_that_runs_out_can_be_won<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    let held = results.lease("a", "me", SHORT).await.unwrap().unwrap();
    until(|| async { other.lease("a", "you", LONG).await.unwrap().is_some() }).await;
    let next = other.lease("a", "you", LONG).await.unwrap().unwrap();
    assert!(
        next.token > held.token,
        "{} does not follow {}",
        next.token,
        held.token
    );
    assert_eq!(results.lease("a", "me", LONG).await.unwrap(), None);
}

async fn an_old_lease_releases_nothing<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let old = results.lease("a", "me", LONG).await.unwrap().unwrap();
    results.release(&old).await.unwrap();
    let new = results.lease("a", "you", LONG).await.unwrap().unwrap();
    results.release(&old).await.unwrap();
    assert_eq!(
        results.lease("a", "me", LONG).await.unwrap(),
        None,
        "it is still held"
    );
    results.release(&new).await.unwrap();
}
