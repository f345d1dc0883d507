//! Broker and Redis behind TLS: who has the authority's certificate gets in, who has not, or asks for
//! another name, does not.

use std::path::Path;
use std::process::{Command, Output};

use lapidary_schemas::worker::INSTANT;
use lapidary_tests::{Broker, Certificates, Program, Redis, free_port, own};
use tempfile::TempDir;

use crate::place::{Place, RUN_MAX};
use crate::poison::{instant_requests, plain};

const JOBS: usize = 20;

/// A command at a place that trusts the authority of this file.
fn trusting(authority: &Path, program: &str, place: &Place, arguments: &[&str]) -> Command {
    let mut command = own(program);
    command
        .args(arguments)
        .args(place.arguments())
        .env("SSL_CERT_FILE", authority);
    command
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_encrypted_and_checked() {
    let (certificates, folder) = (Certificates::new(), TempDir::new().unwrap());
    let (amqps, rediss) = (free_port(), free_port());
    let broker = Broker::start_tls(amqps, &certificates);
    let file = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let redis = Redis::start_with(&[
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory-policy", "noeviction"),
        ("tls-port", &rediss.to_string()),
        ("tls-cert-file", &file(certificates.server())),
        ("tls-key-file", &file(certificates.key())),
        ("tls-ca-cert-file", &file(certificates.authority())),
        ("tls-auth-clients", "no"),
    ]);
    let at = |broker_host: &str, redis_host: &str| {
        Place::on_servers(
            format!("amqps://guest:guest@{broker_host}:{amqps}/%2f"),
            format!("rediss://{redis_host}:{rediss}"),
            folder.path(),
        )
    };
    let place = at("localhost", "localhost");
    let authority = certificates.authority();
    let requests = instant_requests(folder.path(), &plain(JOBS));
    let requests = requests.to_str().unwrap();

    let submitted = trusting(&authority, "lapidary", &place, &["submit", requests]).output();
    let submitted = submitted.unwrap();
    assert!(submitted.status.success(), "{}", said(&submitted));
    let batch = String::from_utf8(submitted.stdout).unwrap();
    let run = ["run", "--model", INSTANT, "--exit-when-idle", "1s"];
    let mut worker = trusting(&authority, "lapidary-worker", &place, &run);
    let mut worker = Program::start(&mut worker, "lapidary-worker");
    let follow = ["results", batch.trim(), "--follow"];
    let followed = trusting(&authority, "lapidary", &place, &follow)
        .output()
        .unwrap();
    assert!(followed.status.success(), "{}", said(&followed));
    let rows = String::from_utf8(followed.stdout).unwrap();
    assert_eq!(rows.lines().count(), JOBS, "{rows}");
    assert_eq!(worker.wait(RUN_MAX).code(), Some(0));
    let doctor = trusting(&authority, "lapidary", &place, &["doctor"])
        .output()
        .unwrap();
    assert!(doctor.status.success(), "{}", said(&doctor));

    // The broker is asked first; then Redis alone.
    let plain_broker = Place {
        broker: broker.url(),
        ..place.clone()
    };
    let other_name = at("127.0.0.1", "localhost");
    let other_redis = Place {
        broker: broker.url(),
        ..at("localhost", "127.0.0.1")
    };
    let stranger = Certificates::new();
    let other_authority = stranger.authority();
    for (place, authority) in [
        (&place, &other_authority),
        (&plain_broker, &other_authority),
        (&other_name, &authority),
        (&other_redis, &authority),
    ] {
        let refused = trusting(authority, "lapidary", place, &["status"])
            .output()
            .unwrap();
        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(3), "{place:?}: {said}");
        assert!(said.contains("certificate"), "{said}");
        assert!(!said.contains("guest:"), "{said}");
    }
    drop(redis);
}
