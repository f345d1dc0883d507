//! The scripts, one a change of state.

use redis::Script;

/// Every script, with its hash computed once.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) append: Script,
    pub(super) append_shard: Script,
    pub(super) begin: Script,
    pub(super) cancel_job: Script,
    pub(super) cancelled: Script,
    pub(super) end_attempt: Script,
    pub(super) end_batch: Script,
    pub(super) feed_position: Script,
    pub(super) interrupt: Script,
    pub(super) job: Script,
    pub(super) latest: Script,
    pub(super) lease: Script,
    pub(super) mark_fed: Script,
    pub(super) open_batch: Script,
    pub(super) pack: Script,
    pub(super) pause: Script,
    pub(super) put: Script,
    pub(super) put_record: Script,
    pub(super) records: Script,
    pub(super) register: Script,
    pub(super) release: Script,
    pub(super) replace: Script,
    pub(super) results_of: Script,
    pub(super) seal_batch: Script,
    pub(super) tail: Script,
    pub(super) take: Script,
    pub(super) take_letter: Script,
    pub(super) unfinished: Script,
    pub(super) workers: Script,
}

/// A script on a home.
macro_rules! on_home {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/common.lua"), include_str!($file)))
    };
}

/// A script that reads a batch in order.
macro_rules! in_order {
    ($file:literal) => {
        Script::new(concat!(
            include_str!("lua/common.lua"),
            include_str!("lua/parts.lua"),
            include_str!($file)
        ))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            append: on_home!("lua/append.lua"),
            append_shard: on_home!("lua/append_shard.lua"),
            begin: on_home!("lua/begin.lua"),
            cancel_job: on_home!("lua/cancel_job.lua"),
            cancelled: on_home!("lua/cancelled.lua"),
            end_attempt: on_home!("lua/end_attempt.lua"),
            end_batch: on_home!("lua/end_batch.lua"),
            feed_position: on_home!("lua/feed_position.lua"),
            interrupt: on_home!("lua/interrupt.lua"),
            job: on_home!("lua/job.lua"),
            latest: in_order!("lua/latest.lua"),
            lease: Script::new(include_str!("lua/lease.lua")),
            mark_fed: on_home!("lua/mark_fed.lua"),
            open_batch: on_home!("lua/open_batch.lua"),
            pack: on_home!("lua/pack.lua"),
            pause: on_home!("lua/pause.lua"),
            put: on_home!("lua/put.lua"),
            put_record: Script::new(include_str!("lua/put_record.lua")),
            records: Script::new(include_str!("lua/records.lua")),
            register: on_home!("lua/register.lua"),
            release: Script::new(include_str!("lua/release.lua")),
            replace: on_home!("lua/replace.lua"),
            results_of: on_home!("lua/results_of.lua"),
            seal_batch: on_home!("lua/seal_batch.lua"),
            tail: in_order!("lua/tail.lua"),
            take: Script::new(include_str!("lua/take.lua")),
            take_letter: on_home!("lua/take_letter.lua"),
            unfinished: on_home!("lua/unfinished.lua"),
            workers: Script::new(include_str!("lua/workers.lua")),
        }
    }
}
