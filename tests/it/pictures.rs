//! Pictures through the real programs, with the model that the worker carries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use lapidary_tests::{Broker, Redis, own};
use serde_json::Value;
use tempfile::TempDir;

use crate::place::Place;

/// Scenes the model must name to the letter, of every hundred. They are smaller and of fewer colours than
/// those that it is judged by (see `worker/bundled/training`), and it gets more of them wrong.
const RIGHT_PERCENT_MIN: usize = 90;

fn scenes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pictures")
}

/// What is to be said of each scene, by its file's name.
fn expected() -> BTreeMap<String, String> {
    let json = std::fs::read(scenes().join("expected.json")).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// Captions these paths; the text of each, by its file's name.
fn caption(place: &[&str], paths: &[PathBuf]) -> BTreeMap<String, String> {
    let mut command = own("lapidary");
    command.arg("caption").args(paths).args(place);
    command.args(["--model", "demonstration", "--temperature", "0"]);
    rows(&mut command)
}

fn rows(command: &mut Command) -> BTreeMap<String, String> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let name = Path::new(row["name"].as_str().unwrap()).file_name();
        let name = name.unwrap().to_string_lossy().into_owned();
        (name, row["text"].as_str().unwrap().to_owned())
    };
    lines.lines().map(row).collect()
}

#[test]
fn scanned_pages_are_named_like_the_pictures_on_them() {
    let folder = TempDir::new().unwrap();
    let store = folder.path().join("lapidary.db").display().to_string();
    let scan = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/documents/scan.pdf");
    let pages = caption(&["--store", &store], &[scan]);
    let expected = expected();
    assert_eq!(pages.len(), 3);
    for (number, scene) in [(1, "00.png"), (2, "06.png"), (3, "00.png")] {
        let page = format!("scan.pdf#page={number}");
        assert_eq!(pages.get(&page), expected.get(scene), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demonstration_model_names_what_it_sees_alone_in_batches_and_anywhere() {
    let folder = TempDir::new().unwrap();
    let store = folder.path().join("lapidary.db").display().to_string();
    let on_file = ["--store", store.as_str()];
    let together = caption(&on_file, &[scenes()]);

    let expected = expected();
    let right = |(name, text): &(&String, &String)| together.get(*name) == Some(*text);
    let right = expected.iter().filter(right).count();
    assert!(
        right * 100 >= expected.len() * RIGHT_PERCENT_MIN,
        "{right} of {} scenes are right: {together:#?}",
        expected.len()
    );

    // Nothing of what is known of it is found again: another store.
    let store = folder.path().join("alone.db").display().to_string();
    for name in expected.keys().take(4) {
        let alone = caption(&["--store", &store], &[scenes().join(name)]);
        assert_eq!(alone.get(name), together.get(name), "{name} alone");
    }

    let (broker, redis) = (Broker::start(), Redis::start());
    let servers = Place::on_servers(broker.url(), redis.url(), folder.path());
    let mut workers = [servers.demonstration(), servers.demonstration()];
    let on_servers = caption(&servers.arguments(), &[scenes()]);
    assert_eq!(on_servers, together, "the same pictures on servers");
    for worker in &mut workers {
        worker.stop();
    }
}
