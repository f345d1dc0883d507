//! Media: named by content, apart by tenant, kept while pinned.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use lapidary_schemas::limits::MEDIA_BYTES_MAX;
use lapidary_schemas::{BatchId, MediaRef};

use super::{Case, MediaEnvironment, cases};
use crate::media::{Collected, Media, MediaError};

const TENANT: &str = "../odd tenant/🙂";
const DAY: Duration = Duration::from_hours(24);

pub(super) fn cases<E: MediaEnvironment>() -> Vec<Case<E>> {
    cases![
        bytes_are_named_by_their_content,
        a_tenant_sees_only_its_own,
        damaged_bytes_are_not_given_out,
        media_over_the_limit_is_refused,
        only_what_is_old_and_unpinned_is_collected,
        storing_again_renews,
        what_is_missing_cannot_be_pinned,
        pinning_batches_are_listed_in_order,
        many_put_the_same_at_once,
    ]
}

fn missing<T: std::fmt::Debug>(answer: &Result<T, MediaError>) -> bool {
    matches!(answer, Err(MediaError::Missing { .. }))
}

async fn bytes_are_named_by_their_content<E: MediaEnvironment>(environment: &E) {
    let (media, other) = (environment.open().await, environment.open().await);
    let abc = media.put(TENANT, b"abc".to_vec()).await.unwrap();
    assert_eq!(abc.bytes, 3);
    // FIPS 180-2, appendix B.1.
    assert_eq!(
        abc.sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(other.put(TENANT, b"abc".to_vec()).await.unwrap(), abc);
    assert_eq!(other.get(TENANT, &abc).await.unwrap(), b"abc");
    let empty = media.put(TENANT, Vec::new()).await.unwrap();
    assert_eq!(other.get(TENANT, &empty).await.unwrap(), b"");
}

async fn a_tenant_sees_only_its_own<E: MediaEnvironment>(environment: &E) {
    let media = environment.open().await;
    let mine = media.put(TENANT, b"mine".to_vec()).await.unwrap();
    assert!(missing(&media.get("other", &mine).await));
    let pinned = media
        .pin(
            "other",
            BatchId::new(Utc::now()),
            std::slice::from_ref(&mine),
        )
        .await;
    assert!(missing(&pinned));
    media.put("other", b"mine".to_vec()).await.unwrap();
    assert_eq!(media.get("other", &mine).await.unwrap(), b"mine");
}

async fn damaged_bytes_are_not_given_out<E: MediaEnvironment>(environment: &E) {
    let media = environment.open().await;
    let stored = media.put(TENANT, b"whole".to_vec()).await.unwrap();
    environment.damage(TENANT, &stored).await;
    let got = media.get(TENANT, &stored).await;
    assert!(
        matches!(&got, Err(MediaError::Damaged { sha256 }) if *sha256 == stored.sha256),
        "{got:?}"
    );
    media.put(TENANT, b"whole".to_vec()).await.unwrap();
    assert_eq!(
        media.get(TENANT, &stored).await.unwrap(),
        b"whole",
        "storing again repairs"
    );
    let absent = MediaRef {
        sha256: "1".repeat(64),
        bytes: 1,
    };
    assert!(missing(&media.get(TENANT, &absent).await));
}

async fn media_over_the_limit_is_refused<E: MediaEnvironment>(environment: &E) {
    let media = environment.open().await;
    let refused = media.put(TENANT, vec![0; MEDIA_BYTES_MAX + 1]).await;
    let over = MEDIA_BYTES_MAX as u64;
    assert!(
        matches!(refused, Err(MediaError::TooLarge { bytes, limit }) if (bytes, limit) == (over + 1, over)),
        "{refused:?}"
    );
}

async fn only_what_is_old_and_unpinned_is_collected<E: MediaEnvironment>(environment: &E) {
    let media = environment.open().await;
    let batch = BatchId::new(Utc::now());
    let mut kept = Vec::new();
    for text in ["one", "two"] {
        kept.push(media.put(TENANT, text.into()).await.unwrap());
    }
    let loose = media.put(TENANT, b"loose".to_vec()).await.unwrap();
    media.pin(TENANT, batch, &kept[..1]).await.unwrap();
    media.pin(TENANT, batch, &kept[1..]).await.unwrap();
    let young = Utc::now() + TimeDelta::hours(23);
    assert_eq!(media.collect(young).await.unwrap(), Collected::default());
    let old = Utc::now() + TimeDelta::hours(25);
    assert_eq!(
        media.collect(old).await.unwrap(),
        Collected {
            objects: 1,
            bytes: 5
        }
    );
    assert!(missing(&media.get(TENANT, &loose).await));
    for one in &kept {
        media.get(TENANT, one).await.unwrap();
    }
    media.unpin(batch).await.unwrap();
    media.unpin(batch).await.unwrap();
    assert_eq!(
        media.collect(old).await.unwrap(),
        Collected {
            objects: 2,
            bytes: 6
        }
    );
    assert!(missing(&media.get(TENANT, &kept[0]).await));
}

async fn storing_again_renews<E: MediaEnvironment>(environment: &E) {
    let media = environment.open().await;
    let renewed = media.put(TENANT, b"renewed".to_vec()).await.unwrap();
    let old = media.put(TENANT, b"old".to_vec()).await.unwrap();
    environment.age(TENANT, &renewed, DAY * 2).await;
    environment.age(TENANT, &old, DAY * 2).await;
    media.put(TENANT, b"renewed".to_vec()).await.unwrap();
    assert_eq!(
        media.collect(Utc::now()).await.unwrap(),
        Collected {
            objects: 1,
            bytes: 3
        }
    );
    assert_eq!(media.get(TENANT, &renewed).await.unwrap(), b"renewed");
}

async fn what_is_missing_cannot_be_pinned<E: MediaEnvironment>(environment: &E) {
    let media = environment.open().await;
    let absent = MediaRef {
        sha256: "2".repeat(64),
        bytes: 1,
    };
    let pinned = media.pin(TENANT, BatchId::new(Utc::now()), &[absent]).await;
    assert!(missing(&pinned), "{pinned:?}");
}

async fn pinning_batches_are_listed_in_order<E: MediaEnvironment>(environment: &E) {
    let media = environment.open().await;
    let one = media.put(TENANT, b"one".to_vec()).await.unwrap();
    assert_eq!(media.pinned(None, 10).await.unwrap(), []);
    let mut batches: Vec<BatchId> = (0..4).map(|_| BatchId::new(Utc::now())).collect();
    for batch in &batches {
        media
            .pin(TENANT, *batch, std::slice::from_ref(&one))
            .await
            .unwrap();
    }
    batches.sort_unstable();
    assert_eq!(media.pinned(None, 10).await.unwrap(), batches);
    assert_eq!(
        media.pinned(Some(batches[0]), 2).await.unwrap(),
        batches[1..3]
    );
    media.unpin(batches.remove(1)).await.unwrap();
    assert_eq!(
        environment.open().await.pinned(None, 10).await.unwrap(),
        batches
    );
}

async fn many_put_the_same_at_once<E: MediaEnvironment>(environment: &E) {
    let handles = futures::future::join_all((0..4).map(|_| environment.open())).await;
    let puts = handles
        .iter()
        .map(|media| media.put(TENANT, vec![7; 100_000]));
    let mut stored: Vec<MediaRef> = futures::future::join_all(puts)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    stored.dedup();
    assert_eq!(stored.len(), 1);
    assert_eq!(
        handles[3].get(TENANT, &stored[0]).await.unwrap(),
        vec![7; 100_000]
    );
}
