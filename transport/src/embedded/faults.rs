//! What may befall the file: killed processes, torn writes, a full disk, foreign hands.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lapidary_schemas::{Class, JobId};
use rusqlite::Connection;
use tempfile::TempDir;

use super::EmbeddedFile;
use crate::conformance::samples::{done, jobs, lane};
use crate::queue::{EmbeddedQueue, Queue, QueueError, Settle};
use crate::results::{Allowance, EmbeddedResults, JobState, Results};

const MODEL: &str = "m";
const SESSION_TTL: Duration = Duration::from_secs(1);

async fn queue_at(path: &Path) -> (EmbeddedFile, EmbeddedQueue) {
    let file = EmbeddedFile::open_with(path, SESSION_TTL).await.unwrap();
    let queue = EmbeddedQueue::open(&file).await.unwrap();
    (file, queue)
}

fn said(opened: Result<EmbeddedFile, super::StoreError>) -> String {
    opened
        .map(|file| format!("{file:?}"))
        .unwrap_err()
        .to_string()
}

/// Publishes and works without end, and says each thing that was confirmed. It runs in a process of
/// its own, which the test below starts and kills; without a path on its input it ends at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other half of `what_was_confirmed_survives_a_kill`, which starts it"]
async fn works_until_it_is_killed() {
    let mut path = String::new();
    std::io::stdin().read_line(&mut path).unwrap();
    if path.trim().is_empty() {
        return;
    }
    let (file, queue) = queue_at(Path::new(path.trim())).await;
    let results = EmbeddedResults::new(&file);
    let say = |what: &str, ids: &[JobId]| {
        let mut output = std::io::stdout().lock();
        for id in ids {
            writeln!(output, "{what} {id}").unwrap();
        }
    };
    loop {
        let published = jobs(MODEL, 5);
        queue.publish(&published).await.unwrap();
        say(
            "published",
            &published.iter().map(|job| job.id).collect::<Vec<_>>(),
        );
        let lent = queue.receive(&lane(MODEL, Class::Bulk), 4).await.unwrap();
        let jobs: Vec<_> = lent.iter().map(|one| one.body.clone().unwrap()).collect();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        results.begin(&jobs, "w").await.unwrap();
        results
            .put_once(&jobs.iter().map(done).collect::<Vec<_>>())
            .await
            .unwrap();
        say("finished", &ids);
        let settled = lent
            .into_iter()
            .map(|one| (one.receipt, Settle::Done))
            .collect();
        assert!(queue.settle(settled).await.iter().all(Result::is_ok));
        say("settled", &ids);
    }
}

/// What a killed process had been told.
#[derive(Default)]
struct Confirmed {
    published: BTreeSet<JobId>,
    finished: BTreeSet<JobId>,
    settled: BTreeSet<JobId>,
}

impl Confirmed {
    fn hear(&mut self, line: &str) {
        let Some((what, id)) = line.split_once(' ') else {
            return;
        };
        let Ok(id) = id.parse() else { return };
        match what {
            "published" => self.published.insert(id),
            "finished" => self.finished.insert(id),
            "settled" => self.settled.insert(id),
            _ => false,
        };
    }
}

/// Runs the process above until it has said `lines` lines, kills it, and adds what it had said.
fn kill_after(path: &Path, lines: usize, confirmed: &mut Confirmed) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "embedded::faults::works_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", path.display()).unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in said.by_ref().take(lines) {
        confirmed.hear(&line.unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said by then; of a line that was cut off the id does not parse.
    for line in said.map_while(Result::ok) {
        confirmed.hear(&line);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_survives_a_kill() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let mut confirmed = Confirmed::default();
    for lines in [20, 57, 111, 203] {
        kill_after(&path, lines, &mut confirmed);
    }
    assert!(
        confirmed.settled.len() > 50,
        "only {} were settled",
        confirmed.settled.len()
    );
    let (file, queue) = queue_at(&path).await;
    let verdict: String = file
        .read(|db| Ok(db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(verdict, "ok");
    let results = EmbeddedResults::new(&file);
    let finished: Vec<JobId> = confirmed.finished.iter().copied().collect();
    for (state, id) in results.get(&finished).await.unwrap().iter().zip(&finished) {
        assert!(
            matches!(state, Some(JobState::Finished(_))),
            "{id} lost its result"
        );
    }
    // A finished one may have been settled when the process died before it could say so.
    let mut missing: BTreeSet<JobId> = confirmed
        .published
        .difference(&confirmed.finished)
        .copied()
        .collect();
    // The killed processes' loans come back when their sessions expire, which wakes `receive`.
    while !missing.is_empty() {
        for delivery in queue.receive(&lane(MODEL, Class::Bulk), 50).await.unwrap() {
            let id = delivery.body.unwrap().id;
            assert!(
                !confirmed.settled.contains(&id),
                "{id} came back after it was settled"
            );
            missing.remove(&id);
        }
    }
}

#[tokio::test]
async fn a_torn_log_keeps_a_prefix() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let (_file, queue) = queue_at(&path).await;
    let published = jobs(MODEL, 20);
    for job in &published {
        queue.publish(std::slice::from_ref(job)).await.unwrap();
    }
    let log = std::fs::read(folder.path().join("jobs.db-wal")).unwrap();
    let mut counts = BTreeSet::new();
    for share in 1..=8 {
        let torn = TempDir::new().unwrap();
        let copy = torn.path().join("jobs.db");
        std::fs::copy(&path, &copy).unwrap();
        let length = log.len() * share / 8 - usize::from(share < 8);
        std::fs::write(torn.path().join("jobs.db-wal"), &log[..length]).unwrap();
        let (_file, queue) = queue_at(&copy).await;
        let count = usize::try_from(queue.depth(&lane(MODEL, Class::Bulk)).await.unwrap()).unwrap();
        if count > 0 {
            let received = queue.receive(&lane(MODEL, Class::Bulk), 20).await.unwrap();
            let ids: Vec<JobId> = received
                .iter()
                .map(|one| one.body.as_ref().unwrap().id)
                .collect();
            let expected: Vec<JobId> = published.iter().map(|job| job.id).take(count).collect();
            assert_eq!(ids, expected);
        }
        counts.insert(count);
    }
    assert!(counts.len() > 2, "the cuts made no difference: {counts:?}");
    assert_eq!(counts.last(), Some(&20), "the whole log keeps everything");
}

#[tokio::test]
async fn a_full_disk_is_named_and_harms_nothing() {
    let folder = TempDir::new().unwrap();
    let (file, queue) = queue_at(&folder.path().join("jobs.db")).await;
    let lane = lane(MODEL, Class::Bulk);
    queue.publish(&jobs(MODEL, 3)).await.unwrap();
    let limit_pages = |pages: i64| {
        file.write(move |db| {
            let held: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            db.query_row(
                &format!("PRAGMA max_page_count = {}", held + pages),
                [],
                |_| Ok(()),
            )?;
            Ok(())
        })
    };
    limit_pages(8).await.unwrap();
    let refused = queue.publish(&jobs(MODEL, 1_000)).await;
    assert!(
        matches!(refused, Err(QueueError::StorageFull { .. })),
        "{refused:?}"
    );
    assert_eq!(queue.depth(&lane).await.unwrap(), 3, "all or nothing");
    let lent = queue.receive(&lane, 3).await.unwrap();
    let settled = lent
        .into_iter()
        .map(|one| (one.receipt, Settle::Done))
        .collect();
    assert!(
        queue.settle(settled).await.iter().all(Result::is_ok),
        "what frees room still works"
    );
    limit_pages(100_000).await.unwrap();
    queue.publish(&jobs(MODEL, 1_000)).await.unwrap();
    assert_eq!(queue.depth(&lane).await.unwrap(), 1_000);
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(
        path("text"),
        "A letter, and by no means a database.\n".repeat(200),
    )
    .unwrap();
    assert!(said(EmbeddedFile::open(&path("text")).await).ends_with("text is not a database"));
    let other = Connection::open(path("other")).unwrap();
    other.execute_batch("CREATE TABLE theirs (a)").unwrap();
    assert!(said(EmbeddedFile::open(&path("other")).await).contains("another program's database"));
    drop(EmbeddedFile::open(&path("later")).await.unwrap());
    Connection::open(path("later"))
        .unwrap()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    let message = said(EmbeddedFile::open(&path("later")).await);
    assert!(
        message.contains("version 7 of the tables, this program reads 6"),
        "{message}"
    );
    let message = said(EmbeddedFile::open(&path("no/such/jobs.db")).await);
    assert!(message.contains("no/such cannot be used"), "{message}");
}

#[tokio::test]
async fn a_file_of_an_earlier_version_gets_what_it_lacks() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let batch = crate::conformance::samples::batch();
    let made = EmbeddedFile::open(&path).await.unwrap();
    EmbeddedResults::new(&made)
        .open_batch(&batch)
        .await
        .unwrap();
    drop(made);
    let first = Connection::open(&path).unwrap();
    first
        .execute_batch(
            "DROP TABLE record; DROP TABLE spent; DROP TABLE boot;
             ALTER TABLE batch DROP COLUMN paused; ALTER TABLE job DROP COLUMN lost; ALTER TABLE job DROP COLUMN ended",
        )
        .unwrap();
    first.pragma_update(None, "user_version", 1).unwrap();
    drop(first);
    let allowance = Allowance {
        name: "a".to_owned(),
        limit: 2,
        window: Duration::from_hours(1),
    };
    for _ in 0..2 {
        let file = EmbeddedFile::open(&path).await.unwrap();
        let results = EmbeddedResults::new(&file);
        assert_eq!(results.records("a", "", 1).await.unwrap(), []);
        assert!(results.take(&allowance, 1).await.unwrap().allowed);
        let kept = results.batch(batch.id).await.unwrap();
        assert_eq!(kept.as_ref(), Some(&batch));
    }
}

#[tokio::test]
async fn what_counts_from_an_earlier_start_of_the_machine_has_ended() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("jobs.db");
    let (file, queue) = queue_at(&path).await;
    let results = EmbeddedResults::new(&file);
    let (sent, ttl) = (jobs(MODEL, 1), Duration::from_hours(1_000));
    queue.publish(&sent).await.unwrap();
    assert_eq!(
        queue
            .receive(&lane(MODEL, Class::Bulk), 1)
            .await
            .unwrap()
            .len(),
        1
    );
    let held = results.lease("steward", "a", ttl).await.unwrap().unwrap();
    file.abandon();
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "UPDATE boot SET id = 'another'; UPDATE session SET expires_ms = 1000000000000",
        )
        .unwrap();
    drop((queue, results, file, other));
    let (file, queue) = queue_at(&path).await;
    let again = queue.receive(&lane(MODEL, Class::Bulk), 1).await.unwrap();
    assert_eq!(again[0].body.as_ref().unwrap().id, sent[0].id);
    let results = EmbeddedResults::new(&file);
    let won = results.lease("steward", "b", ttl).await.unwrap().unwrap();
    assert!(won.token > held.token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_make_the_file_at_once() {
    for _ in 0..10 {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("jobs.db");
        let opened = futures::future::join_all((0..8).map(|_| EmbeddedFile::open(&path))).await;
        for file in opened {
            file.unwrap();
        }
    }
}
