//! The gateway as applications meet it: the official client, strangers, and large files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lapidary_tests::{Broker, Program, Redis, free_port, own};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::place::{MODEL, Place};

const SAY_MAX: Duration = Duration::from_mins(1);
/// Requests of the large file.
const REQUESTS: usize = 100_000;
/// Memory that the gateway may take for it, as it has it without any.
const MEMORY_KIB_MAX: u64 = 200 << 10;

pub(crate) struct Gateway {
    program: Program,
    port: u16,
}

impl Gateway {
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    /// `more` are further arguments.
    pub(crate) fn start_with(place: &Place, more: &[&str]) -> Self {
        let port = free_port();
        let mut command = own("lapidary");
        command
            .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
            .args(place.arguments())
            .args(more);
        let mut program = Program::start(&mut command, "lapidary");
        program.wait_for("listening on http://", SAY_MAX);
        Self { program, port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Asks it to stop, which it does without a failure.
    pub(crate) fn stop(mut self) {
        self.program.signal(Signal::SIGTERM);
        assert_eq!(self.program.wait(SAY_MAX).code(), Some(0));
    }
}

pub(crate) fn below(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// The Python that has what clients' scripts need.
pub(crate) fn python() -> PathBuf {
    let python = below("../.cache/clients/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run tests/setup",
        python.display()
    );
    python
}

/// What a client's script prints, which ends well.
pub(crate) fn client(script: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(python());
    command.arg(below("clients").join(script)).args(arguments);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn the_official_client_is_served(place: &Place) {
    let mut worker = place.demonstration();
    worker.wait_for("serving", SAY_MAX);
    let gateway = Gateway::start(place);
    let pictures = below("fixtures/pictures").display().to_string();
    client(
        "openai_client.py",
        &[&gateway.url(), "demonstration", &pictures],
    );
    gateway.stop();
    worker.stop();
}

#[test]
fn the_official_client_is_served_on_one_file() {
    let folder = TempDir::new().unwrap();
    the_official_client_is_served(&Place::on_file(folder.path()));
}

#[test]
fn the_official_client_is_served_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    the_official_client_is_served(&Place::on_servers(broker.url(), redis.url(), folder.path()));
}

/// What the model of random weights says of texts and pictures means nothing, and is seen by the client.
const MODERATING: &str = r#"
name = "house"
[[detector]]
name = "people"
kind = "personal"
stages = ["input_text"]
action = "redact"
[[detector]]
name = "harm"
kind = "judge"
stages = ["input_text"]
action = "block"
threshold = 1.0
time_limit = "1m"
[[detector]]
name = "seen"
kind = "judge_image"
stages = ["input_image"]
action = "block"
threshold = 1.0
time_limit = "1m"
"#;

#[test]
fn the_official_client_moderates() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, MODERATING).unwrap();
    let model = below("../worker/engine/tests/fixtures/shield");
    let more = [
        "--quantization",
        "f32",
        "--policy",
        policy.to_str().unwrap(),
    ];
    let mut worker = place.worker_of(model.as_os_str(), "shield", &more);
    worker.wait_for("serving", SAY_MAX);
    let gateway = Gateway::start(&place);
    let picture = below("fixtures/pictures/00.png").display().to_string();
    client("moderations.py", &[&gateway.url(), "shield", &picture]);
    gateway.stop();
    worker.stop();
}

#[test]
fn strangers_get_nothing_and_do_no_harm() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    let key = |more: &[&str]| {
        let key = place.ask(&[&["keys", "create"], more].concat());
        key.trim().to_owned()
    };
    let a = key(&["--tenant", "a"]);
    let b = key(&["--tenant", "b"]);
    let reader = key(&["--tenant", "a", "--scope", "read"]);
    let revoked = key(&["--tenant", "a"]);
    let listed = place.ask(&["keys", "list"]);
    let name = listed.lines().next().unwrap().split(' ').next().unwrap();
    assert!(
        revoked.contains(name),
        "the newest is not the first: {listed}"
    );
    place.ask(&["keys", "revoke", name]);
    assert!(!place.say(&["keys", "revoke", name]).status.success());

    let gateway = Gateway::start(&place);
    let port = gateway.port.to_string();
    client(
        "strangers.py",
        &["127.0.0.1", &port, &a, &b, &reader, &revoked],
    );
    gateway.stop();
}

#[test]
fn a_large_file_is_checked_in_little_memory() {
    let folder = TempDir::new().unwrap();
    let gateway = Gateway::start(&Place::on_file(folder.path()));
    client("large_upload.py", &[&gateway.url(), &REQUESTS.to_string()]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.program.id()));
    let status = status.unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let peak = peak.unwrap();
    assert!(peak < MEMORY_KIB_MAX, "it took {peak} KiB");
    gateway.stop();
}

#[test]
fn without_keys_only_this_machine_is_listened_to() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    let output = place.say(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("there are no keys, so everybody who reaches 0.0.0.0:0 could use it"),
        "{said}"
    );
}

/// A key that `lapidary keys` makes.
fn key(place: &Place, tenant: &str) -> String {
    let made = place.ask(&["keys", "create", "--tenant", tenant]);
    made.trim().to_owned()
}

fn an_hour_has_so_many_submissions(place: &Place) {
    let (a, b) = (key(place, "a"), key(place, "b"));
    let limit = ["--requests-per-hour", "4"];
    let gateways = [limit, limit].map(|limit| Gateway::start_with(place, &limit));
    let [one, other] = [&gateways[0], &gateways[1]].map(Gateway::url);
    client("limits.py", &[&one, &other, &a, &b]);
    for gateway in gateways {
        gateway.stop();
    }
}

#[test]
fn an_hour_has_so_many_submissions_on_one_file() {
    let folder = TempDir::new().unwrap();
    an_hour_has_so_many_submissions(&Place::on_file(folder.path()));
}

#[test]
fn an_hour_has_so_many_submissions_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    an_hour_has_so_many_submissions(&Place::on_servers(broker.url(), redis.url(), folder.path()));
}

fn a_day_has_so_many_tokens(place: &Place) {
    let (a, b) = (key(place, "a"), key(place, "b"));
    let own = ["--requests-per-hour", "8", "--tokens-per-day", "100000"];
    let large = place.ask(&[&["keys", "create", "--tenant", "a"][..], &own].concat());
    let listed = place.ask(&["keys", "list"]);
    let newest = listed.lines().next().unwrap();
    assert!(
        newest.ends_with("8 submissions an hour  100000 tokens a day"),
        "{listed}"
    );
    let mut worker = place.worker(&[]);
    worker.wait_for("serving", SAY_MAX);
    let limit = ["--tokens-per-day", "80"];
    let gateways = [limit, limit].map(|limit| Gateway::start_with(place, &limit));
    let [one, other] = [&gateways[0], &gateways[1]].map(Gateway::url);
    client("budget.py", &[&one, &other, MODEL, &a, large.trim(), &b]);
    for gateway in gateways {
        gateway.stop();
    }
    worker.stop();
}

#[test]
fn a_day_has_so_many_tokens_on_one_file() {
    let folder = TempDir::new().unwrap();
    a_day_has_so_many_tokens(&Place::on_file(folder.path()));
}

#[test]
fn a_day_has_so_many_tokens_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    a_day_has_so_many_tokens(&Place::on_servers(broker.url(), redis.url(), folder.path()));
}

#[test]
fn a_full_queue_is_told_and_an_upload_that_breaks_off_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    let mut worker = place.worker(&[]);
    worker.wait_for("serving", SAY_MAX);
    let gateway = Gateway::start_with(&place, &["--queue", "2", "--requests-per-hour", "0"]);
    // It is there, and does nothing.
    worker.signal(Signal::SIGSTOP);
    let port = gateway.port.to_string();
    let jobs = client("overload.py", &["127.0.0.1", &port, MODEL, "full"]);
    worker.signal(Signal::SIGCONT);
    let then = ["127.0.0.1", &port, MODEL, "then", jobs.trim()];
    client("overload.py", &then);
    gateway.stop();
    worker.stop();
}

fn what_is_submitted_under_a_key_is_made_once(place: &Place) {
    let mut worker = place.worker(&[]);
    worker.wait_for("serving", SAY_MAX);
    let gateways = [(); 2].map(|()| Gateway::start_with(place, &["--requests-per-hour", "0"]));
    let [one, other] = [&gateways[0], &gateways[1]].map(Gateway::url);
    client("once.py", &[&one, &other, MODEL]);
    for gateway in gateways {
        gateway.stop();
    }
    worker.stop();
}

#[test]
fn what_is_submitted_under_a_key_is_made_once_on_one_file() {
    let folder = TempDir::new().unwrap();
    what_is_submitted_under_a_key_is_made_once(&Place::on_file(folder.path()));
}

#[test]
fn what_is_submitted_under_a_key_is_made_once_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    let place = Place::on_servers(broker.url(), redis.url(), folder.path());
    what_is_submitted_under_a_key_is_made_once(&place);
}

#[test]
fn media_is_sent_once_and_named_by_requests() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    let (a, b) = (key(&place, "a"), key(&place, "b"));
    let mut worker = place.demonstration();
    worker.wait_for("serving", SAY_MAX);
    let gateway = Gateway::start(&place);
    let pictures = below("fixtures/pictures").display().to_string();
    client(
        "media.py",
        &[&gateway.url(), "demonstration", &pictures, &a, &b],
    );
    gateway.stop();
    worker.stop();
}

/// What a policy has refused is answered under another one, once it is asked for again.
fn items_that_failed_are_asked_again(place: &Place) {
    let gateway = Gateway::start(place);
    let mut strict = place.worker(&["--policy", "strict"]);
    strict.wait_for("serving", SAY_MAX);
    let batch = client("retry.py", &[&gateway.url(), MODEL, "submit"]);
    strict.stop();
    let mut lenient = place.worker(&["--policy", "none"]);
    lenient.wait_for("serving", SAY_MAX);
    client("retry.py", &[&gateway.url(), MODEL, "retry", batch.trim()]);
    gateway.stop();
    lenient.stop();
}

#[test]
fn items_that_failed_are_asked_again_on_one_file() {
    let folder = TempDir::new().unwrap();
    items_that_failed_are_asked_again(&Place::on_file(folder.path()));
}

#[test]
fn items_that_failed_are_asked_again_on_servers() {
    let folder = TempDir::new().unwrap();
    let (broker, redis) = (Broker::start(), Redis::start());
    let place = Place::on_servers(broker.url(), redis.url(), folder.path());
    items_that_failed_are_asked_again(&place);
}

#[test]
fn the_end_of_a_batch_is_told() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    let (a, b) = (key(&place, "a"), key(&place, "b"));
    let port = free_port().to_string();
    let allowed = format!("127.0.0.1:{port}");
    let gateways = [(); 2].map(|()| Gateway::start_with(&place, &["--webhooks", &allowed]));
    let [one, other] = [&gateways[0], &gateways[1]].map(Gateway::url);
    client("webhooks.py", &[&one, &other, &port, &a, &b]);
    for gateway in gateways {
        gateway.stop();
    }
}

#[test]
fn the_gateway_is_as_it_is_described() {
    let folder = TempDir::new().unwrap();
    let gateway = Gateway::start(&Place::on_file(folder.path()));
    let address = gateway.url();
    let address = address.strip_suffix("/v1").unwrap();
    let document = below("../docs/GATEWAY.md").display().to_string();
    client("described.py", &[address, &document]);
    gateway.stop();
}

/// Tries every address out as it is described, with requests that are right and such that are not;
/// `more` are further arguments of the fuzzer.
fn nothing_contradicts_the_description(place: &Place, more: &[&str]) {
    let mut worker = place.demonstration();
    worker.wait_for("serving", SAY_MAX);
    let gateway = Gateway::start_with(place, &["--requests-per-hour", "0"]);
    let description = gateway.url().replace("/v1", "/openapi.json");
    let mut fuzzer = Command::new(python());
    fuzzer.args(["-m", "schemathesis.cli"]);
    fuzzer
        .arg("--config-file")
        .arg(below("clients/schemathesis.toml"));
    // It writes what it remembers into the folder that it is in.
    let folder = TempDir::new().unwrap();
    fuzzer.current_dir(folder.path());
    let output = fuzzer.args(["run", &description]).args(more).output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    gateway.stop();
    worker.stop();
}

#[test]
fn nothing_contradicts_the_description_without_keys() {
    let folder = TempDir::new().unwrap();
    // Nobody is asked for a key then.
    let more = [
        "--exclude-checks",
        "ignored_auth",
        "--generation-with-security-parameters",
        "false",
    ];
    nothing_contradicts_the_description(&Place::on_file(folder.path()), &more);
}

#[test]
fn nothing_contradicts_the_description_with_keys() {
    let folder = TempDir::new().unwrap();
    let place = Place::on_file(folder.path());
    let scopes = ["keys", "create", "--scope", "submit,read,operate"];
    let key = place.ask(&scopes);
    let header = format!("Authorization: Bearer {}", key.trim());
    nothing_contradicts_the_description(&place, &["--header", &header]);
}
