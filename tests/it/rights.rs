//! Users of broker and Redis with the rights that docs/SECURITY.md gives them, and no others.

use lapidary_schemas::worker::INSTANT;
use lapidary_tests::{Broker, Redis, invariants};
use lapidary_transport::media::AnyMedia;
use lapidary_transport::{Media as _, Results as _};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::task::block_in_place;

use crate::boards::below_root;
use crate::operators::{self, TENANT};
use crate::place::{Followed, Place, RUN_MAX};
use crate::poison::{instant_requests, plain, submit};

const JOBS: usize = 200;

/// The commands that the document has after this mark, up to the end of their block.
fn documented(mark: &str) -> Vec<String> {
    let text = std::fs::read_to_string(below_root("docs/SECURITY.md")).unwrap();
    let block = text.split("```").find(|block| block.contains(mark));
    let block = block.unwrap_or_else(|| panic!("no block with `{mark}` in docs/SECURITY.md"));
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| line.contains(mark));
    lines.map(str::to_owned).collect()
}

/// The words of a command as a shell would part them; quotes are single ones.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in command.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Runs what the document says, as an administrator would.
fn grant(broker: &Broker, redis: &Redis) {
    let for_broker = documented("rabbitmqctl ");
    assert!(for_broker.len() >= 2, "{for_broker:?}");
    for command in for_broker {
        let words = words(&command);
        let after = words.iter().position(|word| word == "rabbitmqctl").unwrap() + 1;
        let words: Vec<&str> = words[after..].iter().map(String::as_str).collect();
        broker.ctl(&words);
    }
    let for_redis = documented("redis-cli ");
    assert_eq!(for_redis.len(), 1, "{for_redis:?}");
    let words = words(&for_redis[0]);
    let after = words.iter().position(|word| word == "redis-cli").unwrap() + 1;
    let words: Vec<&str> = words[after..].iter().map(String::as_str).collect();
    assert_eq!(redis.cli(&words), "OK");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_run_with_the_rights_that_are_documented() {
    let (broker, redis, folder) = (Broker::start(), Redis::start(), TempDir::new().unwrap());
    grant(&broker, &redis);
    let place = Place::on_servers(
        format!("amqp://lapidary:secret@127.0.0.1:{}/%2f", broker.port()),
        format!("redis://lapidary:secret@127.0.0.1:{}", redis.port()),
        folder.path(),
    );
    let mut gateway = place.gateway(&[]);
    block_in_place(|| gateway.wait_for("listening on", RUN_MAX));
    let mut worker = place.instant(&["--slots", "8", "--threads", "1"]);
    let batch = submit(&place, &instant_requests(folder.path(), &plain(JOBS)));
    // Its document is nowhere: one attempt, and it is dead.
    let (results, media) = (place.results().await, AnyMedia::open(&place.media).unwrap());
    let elsewhere = TempDir::new().unwrap();
    let elsewhere = AnyMedia::open(&format!("file://{}", elsewhere.path().display())).unwrap();
    let missing = elsewhere
        .put(TENANT, b"Nobody has this.".to_vec())
        .await
        .unwrap();
    let dead = operators::submit(&results, &media, &missing, INSTANT)
        .await
        .id;
    Followed::new(&results, batch).texts(JOBS).await;
    Followed::new(&results, dead).ended().await;
    assert_eq!(results.dead_letters("", 10).await.unwrap().0.len(), 1);
    worker.signal(Signal::SIGTERM);
    assert_eq!(block_in_place(|| worker.wait(RUN_MAX)).code(), Some(0));
    gateway.signal(Signal::SIGTERM);
    assert_eq!(block_in_place(|| gateway.wait(RUN_MAX)).code(), Some(0));
    let findings = invariants::check(&place.open().await, &[batch, dead])
        .await
        .unwrap();
    assert!(findings.hold(), "{findings:?}");
    let doctor = place.say(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(0), "{said}");

    // And nothing else.
    let properties = ConnectionProperties::default();
    let connection = Connection::connect(&place.broker, properties)
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (options, none) = (QueueDeclareOptions::default(), FieldTable::default());
    let refused = channel.queue_declare("theirs".into(), options, none).await;
    assert!(
        format!("{refused:?}").contains("ACCESS_REFUSED"),
        "{refused:?}"
    );
    for command in [
        "flushall",
        "keys *",
        "config set save x",
        "get theirs",
        "shutdown",
    ] {
        let command: Vec<&str> = command.split(' ').collect();
        let user = [
            "--user",
            "lapidary",
            "--pass",
            "secret",
            "--no-auth-warning",
        ];
        let said = redis.cli(&[&user[..], &command].concat());
        assert!(said.contains("NOPERM"), "{command:?}: {said}");
    }
}
