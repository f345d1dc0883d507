//! A job's states: begun, handed back, finished once.

use std::time::Duration;

use chrono::Utc;
use lapidary_schemas::{Class, JobId, Status};

use super::samples::{dead, done, ended, item, job, jobs, result};
use super::{Case, ResultsEnvironment, cases, samples};
use crate::results::{Begin, JobState, Notices, Put, Results, ResultsError};

pub(super) fn cases<E: ResultsEnvironment>() -> Vec<Case<E>> {
    cases![
        begin_counts_attempts,
        an_attempt_of_a_killed_worker_counts,
        a_job_that_workers_were_lost_on_is_suspect,
        an_interrupted_attempt_does_not_count,
        only_its_own_worker_can_interrupt_a_job,
        a_finished_job_cannot_be_begun,
        a_second_result_returns_the_first,
        a_result_survives_a_crash,
        states_are_answered_in_order,
        a_thousand_jobs_in_a_call,
        registered_jobs_that_nobody_began_are_stale,
        a_job_of_a_batch_nobody_knows_is_recorded,
        text_grows_by_offset,
        who_waits_for_single_jobs_is_told,
        dead_letters_are_listed_shown_and_taken_once,
    ]
}

/// A notice that comes.
async fn told(notices: &mut Notices) {
    let notice = tokio::time::timeout(Duration::from_secs(10), notices.changed());
    assert!(notice.await.unwrap(), "no more notices come");
}

async fn who_waits_for_single_jobs_is_told<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    let jobs = jobs("m", 2);
    let mut notices = other.notices().await.unwrap();
    results.register(&jobs).await.unwrap();
    assert_eq!(begin(&results, &jobs[0]).await, Begin::Attempt(1));
    // What was told before anybody listened is heard all the same, and as often as may be as one.
    for (offset, text) in [(0, "a"), (1, "b")] {
        results
            .append_tokens(jobs[0].id, offset, text)
            .await
            .unwrap();
    }
    told(&mut notices).await;
    let has = |job: JobId, wanted: fn(&JobState) -> bool| {
        let other = &other;
        async move { state(other, job).await.is_some_and(|state| wanted(&state)) }
    };
    let is_told =
        |state: &JobState| matches!(state, JobState::Running { partial, .. } if partial == "ab");
    let is_done = |state: &JobState| matches!(state, JobState::Finished(_));
    while !has(jobs[0].id, is_told).await {
        told(&mut notices).await;
    }
    results.put_once(&[done(&jobs[0])]).await.unwrap();
    while !has(jobs[0].id, is_done).await {
        told(&mut notices).await;
    }
    results.cancel_jobs(&[jobs[1].id]).await.unwrap();
    while !has(jobs[1].id, is_done).await {
        told(&mut notices).await;
    }
}

/// Begins one job and answers what was said.
pub(super) async fn begin(results: &impl Results, job: &lapidary_schemas::Job) -> Begin {
    results
        .begin(std::slice::from_ref(job), "w")
        .await
        .unwrap()
        .remove(0)
}

/// Where one job stands.
pub(super) async fn state(results: &impl Results, job: JobId) -> Option<JobState> {
    results.get(&[job]).await.unwrap().remove(0)
}

async fn begin_counts_attempts<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let job = job("m", Class::Bulk);
    assert_eq!(state(&results, job.id).await, None);
    for attempt in 1..=3 {
        assert_eq!(begin(&results, &job).await, Begin::Attempt(attempt));
        let running = JobState::Running {
            worker: "w".to_owned(),
            attempt,
            partial: String::new(),
        };
        assert_eq!(state(&results, job.id).await, Some(running));
    }
}

async fn an_attempt_of_a_killed_worker_counts<E: ResultsEnvironment>(environment: &E) {
    let killed = environment.open().await;
    let job = job("m", Class::Bulk);
    assert_eq!(begin(&killed, &job).await, Begin::Attempt(1));
    environment.crash(killed).await;
    assert_eq!(
        begin(&environment.open().await, &job).await,
        Begin::Attempt(2)
    );
}

async fn a_job_that_workers_were_lost_on_is_suspect<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let batch = samples::batch();
    results.open_batch(&batch).await.unwrap();
    let job = item(&batch, 0);
    let begin = async |worker: &str| {
        let begun = results.begin(std::slice::from_ref(&job), worker).await;
        begun.unwrap().remove(0)
    };
    assert_eq!(begin("a").await, Begin::Attempt(1));
    // It failed, and its worker says so: nobody was lost.
    results.end_attempt(&[job.id], "a").await.unwrap();
    assert_eq!(begin("b").await, Begin::Attempt(2));
    // Whoever begins again lives.
    assert_eq!(begin("b").await, Begin::Attempt(3));
    // Only its own worker can say that the attempt is over.
    results.end_attempt(&[job.id], "a").await.unwrap();
    let suspect = |attempt, lost| Begin::Suspect { attempt, lost };
    assert_eq!(begin("c").await, suspect(4, 1));
    // What is handed back costs neither an attempt nor a worker, and is not forgotten.
    results.interrupt(&[job.id], "c").await.unwrap();
    assert_eq!(begin("d").await, suspect(4, 1));
    assert_eq!(begin("e").await, suspect(5, 2));
    results.end_attempt(&[job.id], "e").await.unwrap();
    assert_eq!(begin("f").await, suspect(6, 2));
    results.put_once(&[done(&job)]).await.unwrap();
    assert_eq!(begin("g").await, Begin::Finished);
    results.end_attempt(&[job.id], "f").await.unwrap();
}

async fn an_interrupted_attempt_does_not_count<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let job = job("m", Class::Bulk);
    assert_eq!(begin(&results, &job).await, Begin::Attempt(1));
    assert_eq!(begin(&results, &job).await, Begin::Attempt(2));
    results.interrupt(&[job.id], "w").await.unwrap();
    assert_eq!(
        state(&results, job.id).await,
        Some(JobState::Waiting { attempts: 1 })
    );
    // It runs no more, so a second call has nothing to undo.
    results.interrupt(&[job.id], "w").await.unwrap();
    assert_eq!(begin(&results, &job).await, Begin::Attempt(2));
}

async fn only_its_own_worker_can_interrupt_a_job<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let jobs = jobs("m", 2);
    results.begin(&jobs[..1], "w").await.unwrap();
    results
        .interrupt(&[jobs[0].id, jobs[1].id], "other")
        .await
        .unwrap();
    assert_eq!(begin(&results, &jobs[0]).await, Begin::Attempt(2));
}

async fn a_finished_job_cannot_be_begun<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    for status in Status::ALL {
        let job = job("m", Class::Bulk);
        begin(&results, &job).await;
        results.put_once(&[ended(&job, status)]).await.unwrap();
        assert_eq!(begin(&results, &job).await, Begin::Finished);
        results.interrupt(&[job.id], "w").await.unwrap();
        let Some(JobState::Finished(stored)) = state(&results, job.id).await else {
            panic!("{status:?} was not kept");
        };
        assert_eq!(stored.status, status);
    }
}

async fn a_second_result_returns_the_first<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let jobs = jobs("m", 2);
    let first = done(&jobs[0]);
    assert_eq!(
        results
            .put_once(std::slice::from_ref(&first))
            .await
            .unwrap(),
        [Put::Stored]
    );
    let answers = results
        .put_once(&[dead(&jobs[0], "late"), done(&jobs[1])])
        .await
        .unwrap();
    assert_eq!(
        answers,
        [
            Put::Already(Some(Box::new(first.result.clone()))),
            Put::Stored
        ]
    );
    assert_eq!(
        state(&results, jobs[0].id).await,
        Some(JobState::Finished(Box::new(first.result)))
    );
    assert_eq!(
        results.dead_letter(jobs[0].id).await.unwrap(),
        None,
        "it did not die"
    );
}

async fn a_result_survives_a_crash<E: ResultsEnvironment>(environment: &E) {
    let killed = environment.open().await;
    let finished = done(&job("m", Class::Bulk));
    killed
        .put_once(std::slice::from_ref(&finished))
        .await
        .unwrap();
    environment.crash(killed).await;
    let stored = state(&environment.open().await, finished.result.job_id).await;
    assert_eq!(stored, Some(JobState::Finished(Box::new(finished.result))));
}

async fn states_are_answered_in_order<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let jobs = jobs("m", 4);
    results.register(&jobs[..1]).await.unwrap();
    begin(&results, &jobs[2]).await;
    let finished = done(&jobs[3]);
    results
        .put_once(std::slice::from_ref(&finished))
        .await
        .unwrap();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let expected = [
        Some(JobState::Waiting { attempts: 0 }),
        None,
        Some(JobState::Running {
            worker: "w".to_owned(),
            attempt: 1,
            partial: String::new(),
        }),
        Some(JobState::Finished(Box::new(finished.result))),
    ];
    assert_eq!(results.get(&ids).await.unwrap(), expected);
    assert_eq!(results.get(&[]).await.unwrap(), []);
}

async fn a_thousand_jobs_in_a_call<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let jobs = jobs("m", 1_000);
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    results.register(&jobs).await.unwrap();
    let begun = results.begin(&jobs, "w").await.unwrap();
    assert_eq!(begun, vec![Begin::Attempt(1); 1_000]);
    assert_eq!(results.cancelled(&ids).await.unwrap(), vec![false; 1_000]);
    let finished: Vec<_> = jobs.iter().map(done).collect();
    assert_eq!(
        results.put_once(&finished).await.unwrap(),
        vec![Put::Stored; 1_000]
    );
    let states = results.get(&ids).await.unwrap();
    for (state, one) in states.into_iter().zip(finished) {
        assert_eq!(state, Some(JobState::Finished(Box::new(one.result))));
    }
}

async fn registered_jobs_that_nobody_began_are_stale<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let long_ago = Utc::now() - Duration::from_mins(1);
    let jobs: Vec<_> = (0..4).map(|_| job("m", Class::Interactive)).collect();
    results.register(&jobs).await.unwrap();
    results.register(&jobs[..1]).await.unwrap();
    begin(&results, &jobs[1]).await;
    results.put_once(&[done(&jobs[2])]).await.unwrap();
    let soon = Utc::now() + Duration::from_mins(1);
    let mut stale = results.stale(soon, 10).await.unwrap();
    stale.sort_by_key(|job| job.id);
    let mut waiting = vec![jobs[0].clone(), jobs[3].clone()];
    waiting.sort_by_key(|job| job.id);
    assert_eq!(stale, waiting);
    assert_eq!(results.stale(soon, 1).await.unwrap().len(), 1);
    assert_eq!(results.stale(long_ago, 10).await.unwrap(), []);
}

async fn a_job_of_a_batch_nobody_knows_is_recorded<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let lost = samples::batch();
    let job = item(&lost, 7);
    assert_eq!(begin(&results, &job).await, Begin::Attempt(1));
    assert_eq!(begin(&results, &job).await, Begin::Attempt(2));
    assert_eq!(
        results.put_once(&[done(&job)]).await.unwrap(),
        [Put::Stored]
    );
    assert_eq!(begin(&results, &job).await, Begin::Finished);
    let missing = results.progress(lost.id).await;
    assert!(
        matches!(missing, Err(ResultsError::NoSuchBatch { .. })),
        "{missing:?}"
    );
}

async fn text_grows_by_offset<E: ResultsEnvironment>(environment: &E) {
    let results = environment.open().await;
    let job = job("m", Class::Interactive);
    let text = async || match state(&results, job.id).await {
        Some(JobState::Running { partial, .. }) => partial,
        other => panic!("not running: {other:?}"),
    };
    results.register(std::slice::from_ref(&job)).await.unwrap();
    begin(&results, &job).await;
    results.append_tokens(job.id, 0, "Zaż").await.unwrap();
    results.append_tokens(job.id, 4, "ółć").await.unwrap();
    results.append_tokens(job.id, 4, "ółć").await.unwrap();
    assert_eq!(text().await, "Zażółć");
    results.append_tokens(job.id, 8, "ć!").await.unwrap();
    assert_eq!(text().await, "Zażółć!", "what a longer piece adds");
    let hole = results.append_tokens(job.id, 20, "x").await;
    assert!(
        matches!(hole, Err(ResultsError::Conflict { .. })),
        "{hole:?}"
    );
    results.append_tokens(job.id, 0, "anew").await.unwrap();
    assert_eq!(text().await, "anew");
    begin(&results, &job).await;
    assert_eq!(text().await, "", "another attempt starts over");
    let finished = result(&job, Status::Succeeded);
    results.put_once(&[done(&job)]).await.unwrap();
    results.append_tokens(job.id, 0, "late").await.unwrap();
    let Some(JobState::Finished(stored)) = state(&results, job.id).await else {
        panic!("its result is gone");
    };
    assert_eq!(stored.text, finished.text);
}

async fn dead_letters_are_listed_shown_and_taken_once<E: ResultsEnvironment>(environment: &E) {
    let (results, other) = (environment.open().await, environment.open().await);
    let jobs = jobs("m", 5);
    let mut letters = Vec::new();
    for (minute, job) in (0..).zip(&jobs) {
        let mut finished = dead(job, "three attempts failed");
        if let Some(letter) = &mut finished.dead_letter {
            letter.at += Duration::from_mins(minute);
            letters.push(letter.clone());
        }
        results.put_once(&[finished]).await.unwrap();
    }
    letters.reverse();
    let (newest, cursor) = results.dead_letters("", 2).await.unwrap();
    assert_eq!(newest, letters[..2]);
    let (older, cursor) = other.dead_letters(&cursor, 10).await.unwrap();
    assert_eq!(older, letters[2..]);
    assert_eq!(other.dead_letters(&cursor, 10).await.unwrap().0, []);
    assert_eq!(
        results.dead_letter(jobs[1].id).await.unwrap().as_ref(),
        Some(&letters[3])
    );
    let (one, two) = futures::join!(
        results.take_dead_letter(jobs[1].id),
        other.take_dead_letter(jobs[1].id)
    );
    let taken: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
    assert_eq!(taken, letters[3..4], "one caller gets it");
    assert_eq!(results.dead_letter(jobs[1].id).await.unwrap(), None);
    assert_eq!(results.dead_letters("", 10).await.unwrap().0.len(), 4);
}
