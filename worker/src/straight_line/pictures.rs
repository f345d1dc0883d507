//! Jobs with pictures, answered by a small model that sees.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lapidary_schemas::Failure;
use lapidary_schemas::limits::REPETITION_PENALTY_MAX;
use lapidary_schemas::request::ImageUrl;

use super::*;

/// Soft tokens of a view of that model.
const VIEW_TOKENS: u32 = 9;

pub(super) fn engine_fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/fixtures");
    fixtures.join(name)
}

pub(super) fn picture(name: &str) -> Vec<u8> {
    std::fs::read(engine_fixture("images").join(name)).unwrap()
}

pub(super) fn seeing() -> Engine {
    small(&engine_fixture("vision"), Some(Quantization::F32))
}

async fn bench() -> Bench {
    let bench = Bench::with(seeing(), &ImageOptions::default()).await;
    bench.consume();
    bench
}

fn image(url: &str) -> Part {
    Part::ImageUrl {
        image_url: ImageUrl {
            url: url.to_owned(),
        },
    }
}

pub(super) fn inline(bytes: &[u8]) -> Part {
    let payload = BASE64_STANDARD.encode(bytes);
    image(&format!("data:image/png;base64,{payload}"))
}

async fn stored(bench: &Bench, bytes: Vec<u8>) -> Part {
    let media = bench.line.stores.media.put("t", bytes).await.unwrap();
    image(&media.to_string())
}

pub(super) fn text(text: &str) -> Part {
    Part::Text {
        text: text.to_owned(),
    }
}

/// Left alone, weights that were never trained say one token for ever, whatever they see. Where a
/// token weighs little once it was said, the order in which they come shows all that was seen.
pub(super) fn asking(parts: Vec<Part>) -> Job {
    let mut job = job("", 48);
    job.request.repetition_penalty = Some(REPETITION_PENALTY_MAX);
    job.request.messages[0].content = Content::Parts(parts);
    job
}

/// The results of jobs that are to succeed.
async fn answers(bench: &Bench, jobs: &[Job]) -> Vec<JobResult> {
    bench.publish(jobs).await;
    let mut results = Vec::new();
    for job in jobs {
        let result = bench.result(job.id).await;
        assert_eq!(result.status, Status::Succeeded, "{result:?}");
        results.push(result);
    }
    results
}

/// Why a job fails.
async fn failure(bench: &Bench, job: Job) -> Failure {
    bench.publish(std::slice::from_ref(&job)).await;
    let result = bench.result(job.id).await;
    assert_eq!(result.status, Status::Failed, "{result:?}");
    result.failure.unwrap()
}

#[tokio::test]
async fn a_picture_is_seen_wherever_its_bytes_are() {
    let bench = bench().await;
    assert_eq!(bench.line.model.modalities, ["image"]);
    let grey = picture("grey.png");
    let by_reference = stored(&bench, grey.clone()).await;
    let jobs = [
        asking(vec![text("what is "), by_reference, text("this")]),
        asking(vec![text("what is "), inline(&grey), text("this")]),
        asking(vec![
            text("what is "),
            inline(&picture("palette.png")),
            text("this"),
        ]),
    ];
    let results = answers(&bench, &jobs).await;
    assert_eq!(results[0].text, results[1].text);
    assert_ne!(results[0].text, results[2].text, "the model is blind");
    for result in &results {
        assert_eq!(result.usage.image_tokens, VIEW_TOKENS);
        assert!(result.usage.prompt_tokens > VIEW_TOKENS);
        assert!(result.timings.media > 0.0);
    }
    bench.drain().await;
    let metrics = bench.line.metrics.exposition().unwrap();
    for line in [
        "lapidary_image_tokens_total 27",
        "lapidary_image_decoding_duration_seconds_count 3",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn pictures_stand_where_their_parts_do() {
    let bench = bench().await;
    let (one, other) = (inline(&picture("grey.png")), inline(&picture("alpha.png")));
    let orders = [
        vec![text("a"), one.clone(), text("b"), other.clone(), text("c")],
        vec![text("a"), other.clone(), text("b"), one.clone(), text("c")],
        vec![one.clone(), other.clone(), text("a b c")],
        vec![text("a b c"), one, other],
    ];
    let results = answers(&bench, &orders.map(asking)).await;
    let texts: std::collections::BTreeSet<_> = results.iter().map(|result| &result.text).collect();
    assert_eq!(texts.len(), results.len(), "{texts:?}");
    for result in &results {
        assert_eq!(result.usage.image_tokens, 2 * VIEW_TOKENS);
    }
    bench.drain().await;
}

#[tokio::test]
async fn a_document_and_a_picture_keep_their_order() {
    let bench = bench().await;
    let document = |text: &str| {
        file(&format!(
            "data:text/plain;base64,{}",
            BASE64_STANDARD.encode(text)
        ))
    };
    let grey = inline(&picture("grey.png"));
    let jobs = [
        asking(vec![document("before"), grey.clone(), document("after")]),
        asking(vec![text("before"), grey, text("after")]),
    ];
    let results = answers(&bench, &jobs).await;
    assert_eq!(results[0].text, results[1].text);
    bench.drain().await;
}

#[tokio::test]
async fn crops_are_shown_where_the_worker_is_told_so() {
    let images = ImageOptions {
        pan_and_scan: Some(true),
        ..ImageOptions::default()
    };
    let bench = Bench::with(seeing(), &images).await;
    bench.consume();
    assert!(bench.line.model.pan_and_scan);
    let wide = stored(&bench, picture("wide.png")).await;
    let jobs = [
        asking(vec![wide, text("what")]),
        asking(vec![inline(&picture("exact.png")), text("what")]),
    ];
    let results = answers(&bench, &jobs).await;
    assert!(results[0].usage.image_tokens >= 3 * VIEW_TOKENS);
    assert_eq!(results[1].usage.image_tokens, VIEW_TOKENS);
    bench.drain().await;
}

#[tokio::test]
async fn a_bad_picture_is_named_and_harms_no_other() {
    let bench = bench().await;
    let whole = picture("photo-444.jpg");
    let cases = [
        (
            picture("grey.png")[..9_000].to_vec(),
            FailureCode::MediaInvalid,
            "its PNG cannot be decoded",
        ),
        (
            whole[..whole.len() / 2].to_vec(),
            FailureCode::MediaInvalid,
            "it ends before its pixels do",
        ),
        (
            b"<!doctype html><title>404</title>".to_vec(),
            FailureCode::MediaInvalid,
            "it is an HTML page",
        ),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
            FailureCode::MediaInvalid,
            "it is an SVG drawing",
        ),
        (
            bomb(50_000, 50_000),
            FailureCode::MediaTooLarge,
            "it is 50000x50000 pixels, the limit is 100000000 in all",
        ),
    ];
    for (bytes, code, said) in cases {
        let failure = failure(&bench, asking(vec![text("a"), inline(&bytes)])).await;
        assert_eq!(
            (failure.code, failure.retryable),
            (code, false),
            "{failure}"
        );
        assert!(
            failure
                .message
                .starts_with("the image in part 1 of message 0 ")
                && failure.message.contains(said),
            "{failure}"
        );
    }
    let gone = format!("media:{}:5", "0".repeat(64));
    let mut missing = asking(vec![text("a"), image(&gone)]);
    missing.attempts_max = 1;
    let missing = failure(&bench, missing).await;
    assert_eq!(missing.code, FailureCode::MediaUnreachable);
    assert!(missing.message.contains("is not in the store"), "{missing}");
    answers(
        &bench,
        &[asking(vec![inline(&picture("dot.png")), text("a")])],
    )
    .await;
    bench.drain().await;
}

/// The head of a PNG that claims a size, and nothing behind it.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut png = picture("grey.png");
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

/// The checksum of PNG chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let carry = crc & 1;
            (crc >> 1) ^ (0xEDB8_8320 * carry)
        })
    })
}

#[tokio::test]
async fn images_that_are_too_large_together_are_refused_unloaded() {
    let bench = bench().await;
    let largest = |n: usize| image(&format!("media:{n:064x}:{}", 64 << 20));
    let asked = |count: usize| {
        let mut job = asking((0..count).map(largest).collect());
        job.attempts_max = 1;
        job
    };
    // They are not there: only the one that asks for too much fails before that is found.
    let four = failure(&bench, asked(4)).await;
    assert_eq!(four.code, FailureCode::MediaUnreachable, "{four}");
    let five = failure(&bench, asked(5)).await;
    assert_eq!(five.code, FailureCode::MediaTooLarge, "{five}");
    assert_eq!(
        five.message,
        "the request's images are 335544320 bytes together, the limit is 268435456"
    );
    bench.drain().await;
}

#[tokio::test]
async fn a_picture_on_the_web_is_fetched_where_its_host_is_listed() {
    let grey = picture("grey.png");
    let at = crate::fetch::tests::serve(grey.clone()).await;
    let images = ImageOptions {
        fetch: vec![at.to_string()],
        ..ImageOptions::default()
    };
    let bench = Bench::with(seeing(), &images).await;
    bench.consume();
    let asked = |part: Part| asking(vec![text("what is "), part, text("this")]);
    let jobs = [
        asked(image(&format!("http://{at}/picture"))),
        asked(inline(&grey)),
    ];
    let results = answers(&bench, &jobs).await;
    assert_eq!(results[0].text, results[1].text);
    for (path, code, said) in [
        ("page.jpg", FailureCode::MediaInvalid, "it is an HTML page"),
        ("status/404", FailureCode::MediaUnreachable, "answered 404"),
        (
            "moved/http://169.254.169.254/",
            FailureCode::ValidationError,
            "it is at `169.254.169.254`",
        ),
    ] {
        let refused = failure(&bench, asked(image(&format!("http://{at}/{path}")))).await;
        assert_eq!(
            (refused.code, refused.retryable),
            (code, false),
            "{refused}"
        );
        let named = refused
            .message
            .starts_with("the image in part 1 of message 0 ");
        assert!(named && refused.message.contains(said), "{refused}");
    }
    bench.drain().await;
}

#[tokio::test]
async fn nothing_is_fetched_by_default() {
    let bench = bench().await;
    let refused = failure(&bench, asking(vec![image("http://127.0.0.1/a.png")])).await;
    assert_eq!(refused.code, FailureCode::ValidationError);
    assert_eq!(
        refused.message,
        "part 0 of message 0 is at a remote address, remote media is not served by `tiny-gemma`"
    );
    bench.drain().await;
}
