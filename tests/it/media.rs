//! Media in a folder of the file system.

use chrono::{TimeDelta, Utc};
use lapidary_schemas::BatchId;
use lapidary_transport::Media;
use lapidary_transport::media::MediaError;
use lapidary_transport::media::object_store::ObjectMedia;

#[tokio::test]
async fn bytes_rest_until_nobody_pins_them() {
    let folder = tempfile::TempDir::new().unwrap();
    let url = format!("file://{}/media", folder.path().display());
    let media = ObjectMedia::open(&url).unwrap();
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
        ("s3://bucket", "`s3` is not supported"),
        ("file://relative", "is no absolute path"),
        ("nonsense", "must read `file:///folder`"),
    ] {
        let message = ObjectMedia::open(url).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
