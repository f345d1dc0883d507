//! Media in a folder of the file system, and in a bucket of S3.

use chrono::{TimeDelta, Utc};
use lapidary_schemas::BatchId;
use lapidary_tests::{Broker, Redis, S3};
use lapidary_transport::Media;
use lapidary_transport::media::MediaError;
use lapidary_transport::media::object_store::ObjectMedia;

use crate::place::Place;

#[tokio::test]
async fn bytes_rest_in_a_folder_until_nobody_pins_them() {
    let folder = tempfile::TempDir::new().unwrap();
    let url = format!("file://{}/media", folder.path().display());
    bytes_rest_until_nobody_pins_them(&ObjectMedia::open(&url).unwrap()).await;
}

#[tokio::test]
async fn bytes_rest_in_a_bucket_until_nobody_pins_them() {
    let s3 = S3::start();
    let media = |place: &str| ObjectMedia::open_s3(place, s3.variables()).unwrap();
    let there = media(&format!("{}/media", s3.bucket()));
    bytes_rest_until_nobody_pins_them(&there).await;

    // A folder is not another's, and what was changed is not given out.
    let one = b"one".to_vec();
    let stored = there.put("t", one.clone()).await.unwrap();
    let beside = media(&format!("{}/other", s3.bucket()));
    let missing = beside.get("t", &stored).await;
    assert!(
        matches!(missing, Err(MediaError::Missing { .. })),
        "{missing:?}"
    );
    let (begins, sha256) = (&stored.sha256[..2], &stored.sha256);
    s3.write(&format!("media/objects/t/{begins}/{sha256}"), "two");
    let changed = there.get("t", &stored).await;
    assert!(
        matches!(changed, Err(MediaError::Damaged { .. })),
        "{changed:?}"
    );

    let nowhere = media("no-such-bucket").put("t", one.clone()).await;
    let Err(MediaError::Unusable { message }) = nowhere else {
        panic!("{nowhere:?}")
    };
    assert!(message.contains("no-such-bucket"), "{message}");
    drop(s3);
    let away = there.put("t", one).await;
    assert!(
        matches!(away, Err(MediaError::Unreachable { .. })),
        "{away:?}"
    );
}

async fn bytes_rest_until_nobody_pins_them(media: &ObjectMedia) {
    let (kept, loose) = (b"kept".to_vec(), b"loose".to_vec());
    let tenant = "../odd/tenant";
    let a = media.put(tenant, kept.clone()).await.unwrap();
    let b = media.put(tenant, loose).await.unwrap();
    assert_eq!(media.get(tenant, &a).await.unwrap(), kept);
    let other = media.get("somebody else", &a).await;
    assert!(
        matches!(other, Err(MediaError::Missing { .. })),
        "{other:?}"
    );
    let batch = BatchId::new(Utc::now());
    media
        .pin(tenant, batch, std::slice::from_ref(&a))
        .await
        .unwrap();
    assert_eq!(media.pinned(None, 10).await.unwrap(), [batch]);
    assert_eq!(
        media.collect(Utc::now()).await.unwrap().objects,
        0,
        "younger than a day"
    );
    let later = Utc::now() + TimeDelta::hours(25);
    assert_eq!(media.collect(later).await.unwrap().objects, 1);
    assert!(matches!(
        media.get(tenant, &b).await,
        Err(MediaError::Missing { .. })
    ));
    let gone = media.pin(tenant, batch, std::slice::from_ref(&b)).await;
    assert!(matches!(gone, Err(MediaError::Missing { .. })), "{gone:?}");
    media.unpin(batch).await.unwrap();
    assert_eq!(media.pinned(None, 10).await.unwrap(), []);
    assert_eq!(media.collect(later).await.unwrap().bytes, 4);
}

#[test]
fn an_address_that_cannot_work_says_why() {
    for (url, part) in [
        ("s3://", "names no bucket"),
        ("gs://bucket", "`gs` is not supported"),
        ("file://relative", "is no absolute path"),
        (
            "nonsense",
            "must read `file:///folder` or `s3://bucket/folder`",
        ),
    ] {
        let message = ObjectMedia::open(url).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_batch_of_pictures_goes_through_a_bucket() {
    let folder = tempfile::TempDir::new().unwrap();
    let (broker, redis, s3) = (Broker::start(), Redis::start(), S3::start());
    let place = Place {
        media: format!("s3://{}", s3.bucket()),
        variables: s3.variables().to_vec(),
        ..Place::on_servers(broker.url(), redis.url(), folder.path())
    };
    let mut worker = place.demonstration();
    let pictures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/pictures");
    let said = place.ask(&["caption", pictures, "--model", "demonstration"]);
    let is_well = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        row["status"] == "succeeded" && row["text"].as_str().unwrap().contains("background")
    };
    assert_eq!(said.lines().count(), 24, "{said}");
    assert!(said.lines().all(is_well), "{said}");
    worker.stop();
}
