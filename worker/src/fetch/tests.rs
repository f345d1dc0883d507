//! The fetcher against a server of its own.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{StatusCode as Status, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use futures::stream;
use lapidary_schemas::{Failure, FailureCode};

use super::*;

/// A server on a free port, and where it listens. It ends with the test's runtime.
pub(crate) async fn serve(content: impl Into<axum::body::Bytes>) -> SocketAddr {
    let content = content.into();
    let endless = || {
        let chunk = vec![0_u8; 64 << 10];
        Body::from_stream(stream::repeat_with(move || {
            Ok::<_, std::convert::Infallible>(chunk.clone())
        }))
    };
    let drip = || {
        Body::from_stream(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::convert::Infallible>("."), ()))
        }))
    };
    let silent = || {
        let first = stream::iter([Ok::<_, std::convert::Infallible>(".")]);
        Body::from_stream(futures::StreamExt::chain(first, stream::pending()))
    };
    let page = || {
        (
            [(header::CONTENT_TYPE, "image/jpeg")],
            "<!doctype html><p>No.",
        )
    };
    let moved = |Path(to): Path<String>| async move { Redirect::temporary(&to) };
    let status = |Path(code): Path<u16>| async move {
        Status::from_u16(code)
            .unwrap_or(Status::IM_A_TEAPOT)
            .into_response()
    };
    let router = Router::new()
        .route("/picture", get(move || async move { content }))
        .route("/page.jpg", get(move || async move { page() }))
        .route("/endless", get(move || async move { endless() }))
        .route("/drip", get(move || async move { drip() }))
        .route("/silent", get(move || async move { silent() }))
        .route("/loop", get(|| async { Redirect::permanent("/loop") }))
        .route("/moved/{*to}", get(moved))
        .route("/lost", get(|| async { Status::FOUND }))
        .route("/status/{code}", get(status));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async move { axum::serve(listener, router).await };
    tokio_util::task::TaskTracker::new().spawn(server);
    address
}

fn fetcher(hosts: &[String], limits: FetchLimits) -> Fetcher {
    let hosts = hosts.iter().map(|host| remote::parse_host(host).unwrap());
    Fetcher::new(hosts.collect(), limits).unwrap()
}

/// Fetches from a host that is listed by its address.
async fn fetch(at: SocketAddr, path: &str, limits: FetchLimits) -> Result<Vec<u8>, Failure> {
    let listing = fetcher(&[at.to_string()], limits);
    let fetched = listing.fetch(&format!("http://{at}{path}")).await;
    fetched.map_err(|error| error.failure("it"))
}

#[track_caller]
fn refused(fetched: Result<Vec<u8>, Failure>, code: FailureCode, retryable: bool, said: &str) {
    let failure = fetched.unwrap_err();
    assert_eq!(
        (failure.code, failure.retryable),
        (code, retryable),
        "{failure}"
    );
    assert!(failure.message.contains(said), "{failure}");
}

#[tokio::test]
async fn content_is_fetched_where_the_host_is_listed() {
    let at = serve("pixels").await;
    let limits = FetchLimits::default();
    for path in ["/picture", "/moved//picture"] {
        assert_eq!(fetch(at, path, limits.clone()).await.unwrap(), b"pixels");
    }
    // By its name it is as much inside as by its number, and is not listed as such.
    let named = format!("localhost:{}", at.port());
    let by_name = fetcher(std::slice::from_ref(&named), limits.clone());
    let fetched = by_name.fetch(&format!("http://{named}/picture")).await;
    refused(
        fetched.map_err(|error| error.failure("it")),
        FailureCode::ValidationError,
        false,
        "which is not a public address",
    );
    let unlisted = fetcher(&["a.example".to_owned()], limits);
    let fetched = unlisted.fetch(&format!("http://{at}/picture")).await;
    refused(
        fetched.map_err(|error| error.failure("it")),
        FailureCode::ValidationError,
        false,
        "fetched is from `a.example` only",
    );
}

#[tokio::test]
async fn any_host_is_no_host_inside() {
    let any = fetcher(&["*".to_owned()], FetchLimits::default());
    for address in [
        "http://127.0.0.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://0/",
        "http://localhost/",
    ] {
        let fetched = any.fetch(address).await;
        refused(
            fetched.map_err(|error| error.failure("it")),
            FailureCode::ValidationError,
            false,
            "not a public address",
        );
    }
}

#[tokio::test]
async fn redirects_are_checked_like_addresses() {
    let at = serve("").await;
    let limits = FetchLimits::default();
    let hosts = [at.to_string(), "*".to_owned()];
    let both = fetcher(&hosts, limits.clone());
    for (to, said) in [
        (
            "http://169.254.169.254/latest/meta-data/",
            "169.254.169.254 is not a public address",
        ),
        ("http://[fe80::1]/", "fe80::1 is not a public address"),
        ("http://localhost/", "which is not a public address"),
        ("http://127.0.0.1:1/", "it is at `127.0.0.1:1`"),
        ("file:///etc/passwd", "the scheme `file`"),
        ("http://u:p@example.org/", "holds a user"),
    ] {
        let fetched = both.fetch(&format!("http://{at}/moved/{to}")).await;
        refused(
            fetched.map_err(|error| error.failure("it")),
            FailureCode::ValidationError,
            false,
            said,
        );
    }
    let unreachable = FailureCode::MediaUnreachable;
    let looped = fetch(at, "/loop", limits.clone()).await;
    refused(looped, unreachable, false, "the limit of 5 times");
    let lost = fetch(at, "/lost", limits).await;
    refused(lost, unreachable, false, "answered 302");
}

#[tokio::test]
async fn content_ends_at_its_limits() {
    let at = serve("123456").await;
    let (large, away) = (FailureCode::MediaTooLarge, FailureCode::MediaUnreachable);
    let small = FetchLimits {
        bytes_max: 5,
        ..FetchLimits::default()
    };
    let announced = fetch(at, "/picture", small).await;
    refused(announced, large, false, "the limit of 5 bytes");
    let megabyte = FetchLimits {
        bytes_max: 1 << 20,
        ..FetchLimits::default()
    };
    let endless = fetch(at, "/endless", megabyte).await;
    refused(endless, large, false, "the limit of 1048576 bytes");
    let short = FetchLimits {
        total: Duration::from_millis(300),
        ..FetchLimits::default()
    };
    let drip = fetch(at, "/drip", short).await;
    refused(drip, away, true, "the limit of 0.3 s");
    let impatient = FetchLimits {
        silence: Duration::from_millis(200),
        ..FetchLimits::default()
    };
    let silent = fetch(at, "/silent", impatient).await;
    refused(silent, away, true, "timed out");
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let at = serve("").await;
    for (code, retryable) in [
        (404, false),
        (403, false),
        (410, false),
        (206, false),
        (408, true),
        (429, true),
        (500, true),
        (503, true),
    ] {
        let fetched = fetch(at, &format!("/status/{code}"), FetchLimits::default()).await;
        refused(
            fetched,
            FailureCode::MediaUnreachable,
            retryable,
            &format!("answered {code}"),
        );
    }
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = nobody.local_addr().unwrap();
    drop(nobody);
    let fetched = fetch(gone, "/", FetchLimits::default()).await;
    refused(fetched, FailureCode::MediaUnreachable, true, "refused");
}
