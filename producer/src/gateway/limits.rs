//! What the gateway takes, keeps and waits for at most.

use std::time::Duration;

use chrono::TimeDelta;
use lapidary_schemas::limits::{CALL_ITEMS_MAX, MEDIA_BYTES_MAX, RETENTION_MAX_S};

use crate::submission::LINE_BYTES_MAX;

/// Connections at once; who comes later waits to be accepted.
pub(super) const CONNECTIONS_MAX: usize = 1_024;
/// Bytes of a request's headers.
pub(super) const HEADER_BYTES_MAX: usize = 32 << 10;
/// Longest time until the headers of a request are there; a connection may be idle as long.
pub(super) const HEADER_TIME_MAX: Duration = Duration::from_secs(15);
/// Bytes that are read ahead of a connection.
pub(super) const READ_AHEAD_BYTES: usize = 64 << 10;
/// Bytes of a body of JSON.
pub(super) const BODY_BYTES_MAX: usize = 32 << 20;
/// Bytes of all bodies of JSON that are in memory at once.
pub(super) const BODIES_BYTES_MAX: usize = 256 << 20;
/// Longest time until a body of JSON is there.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_mins(1);
/// Longest time until media is there.
pub(super) const MEDIA_TIME_MAX: Duration = Duration::from_mins(5);

/// Bytes of a file.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 30;
/// Requests of a file.
pub(super) const FILE_ITEMS_MAX: u64 = 1_000_000;
/// Bytes of a file that are kept together.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// Bytes of a file's name.
pub(super) const FILENAME_BYTES_MAX: usize = 255;
/// Bytes of the other parts of an upload together, and of the heads of all.
pub(super) const PARTS_BYTES_MAX: u64 = 64 << 10;
/// Files that are read at once, to check them or to make batches of them.
pub(super) const READING_MAX: usize = 16;
/// Longest wait for one's turn to be read.
pub(super) const READING_WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest time without a byte of an upload.
pub(super) const UPLOAD_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest time of an upload.
pub(super) const UPLOAD_TIME_MAX: Duration = Duration::from_hours(1);
/// How long, and how many bytes of it, the rest of a refused request is read, so that the refusal is
/// heard.
pub(super) const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// See [`DRAIN_TIME_MAX`].
pub(super) const DRAIN_BYTES_MAX: usize = 96 << 20;
/// Seconds a file is kept, at least and at most.
pub(super) const FILE_KEPT_S: std::ops::RangeInclusive<u64> = 3_600..=30 * 24 * 3_600;
/// Hours a batch may be given.
pub(super) const WINDOW_H: std::ops::RangeInclusive<u32> = 1..=30 * 24;

/// Longest wait for the answer of a single request.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_mins(10);
/// Time in which a job that nobody waits for is worked on.
pub(super) const JOB_TIME_MAX: TimeDelta = TimeDelta::hours(24);
/// Shortest distance of two looks at the jobs that somebody waits for, all together.
pub(super) const LOOK_REST: Duration = Duration::from_millis(10);
/// Longest wait for a notice that one of them has changed, before they are looked at all the same.
pub(super) const NOTICE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause after a look that failed.
pub(super) const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// When one that was turned away may come again.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Characters of an idempotency key.
pub(super) const KEY_BYTES_MAX: usize = 255;
/// How long it is known what was made under an idempotency key.
pub(super) const KEY_KEPT: Duration = Duration::from_hours(24);
/// How long an idempotency key stays taken if its gateway dies while it makes what was asked for.
pub(super) const MAKING_TIME_MAX: Duration = Duration::from_mins(15);

/// Objects of a list at once.
pub(super) const LIST_ITEMS_MAX: usize = 100;
/// Objects of a list when nobody says otherwise.
pub(super) const LIST_ITEMS_DEFAULT: usize = 20;
/// Results of a batch at once.
pub(super) const RESULTS_MAX: usize = 500;

/// Clients at once that are told of results as they come.
pub(super) const FOLLOWERS_MAX: usize = 64;
/// Longest wait for a batch to change before it is looked at again.
pub(super) const CHANGE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Pages of results that a report looks at.
pub(super) const REPORT_PAGES_MAX: usize = 40;
/// Requests that a report names as the slowest.
pub(super) const SLOWEST_MAX: usize = 10;

/// Items that are asked again by one call.
pub(super) const RETRY_ITEMS_MAX: usize = 1_000;
/// Pages of results that are searched by one call for what is to be asked again.
pub(super) const RETRY_PAGES_MAX: usize = 40;
/// Jobs of a model on the queue behind which nothing is asked again.
pub(super) const RETRY_WAITING_MAX: u64 = 10_000;
/// Jobs that are put in the place of others at once.
pub(super) const REPLACING_AT_ONCE: usize = 16;
/// Those who watch the overview at once.
pub(super) const WATCHERS_MAX: usize = 64;
/// Distance of two looks at the place while somebody watches.
pub(super) const OVERVIEW_EVERY: Duration = Duration::from_secs(1);
/// The same while nobody does.
pub(super) const OVERVIEW_EVERY_UNWATCHED: Duration = Duration::from_secs(5);
/// Longest time of a look.
pub(super) const OVERVIEW_TIME_MAX: Duration = Duration::from_secs(10);
/// Unfinished batches looked at.
pub(super) const OVERVIEW_BATCHES_MAX: usize = 100;
/// Time after its end for which a batch is shown.
pub(super) const OVERVIEW_ENDED_FOR: TimeDelta = TimeDelta::hours(1);
/// Batches shown that have ended.
pub(super) const OVERVIEW_ENDED_MAX: usize = 20;
/// Models whose queues are looked at.
pub(super) const OVERVIEW_MODELS_MAX: usize = 32;
/// New results of a batch that a look takes times from.
pub(super) const OVERVIEW_TIMES_MAX: usize = 8;
/// Seconds of one stretch of the history, and how many there are: ten minutes.
pub(super) const STRETCH_S: u64 = 5;
/// See [`STRETCH_S`].
pub(super) const STRETCHES_MAX: usize = 120;
/// Time over which the rate of a batch is taken.
pub(super) const RATE_OVER: TimeDelta = TimeDelta::seconds(60);
/// Latest results at once, whose requests are looked up.
pub(super) const LATEST_MAX: usize = 100;
/// Latest results when nobody says otherwise.
pub(super) const LATEST_DEFAULT: usize = 24;
/// Bytes of manifests that are kept at hand, to look requests up in.
pub(super) const MANIFESTS_BYTES_MAX: usize = 64 << 20;
/// Dead letters at once; each holds a whole job.
pub(super) const LETTERS_MAX: usize = 20;

/// Webhooks of a tenant.
pub(super) const ENDPOINTS_MAX: usize = 8;
/// How long a webhook is kept if nobody deletes it.
pub(super) const ENDPOINT_KEPT: Duration = Duration::from_secs(RETENTION_MAX_S);
/// Distance of two looks at what is to be told.
pub(super) const ROUND_EVERY: Duration = Duration::from_secs(1);
/// How long a gateway is elected to look; a round takes less.
pub(super) const ROUND_LEASE: Duration = Duration::from_mins(1);
/// Batches that one round looks at.
pub(super) const NOTICES_AT_ONCE: usize = 100;
/// How long it is remembered that a batch's end is to be told if there is no such batch.
pub(super) const NOTICE_KEPT: TimeDelta = TimeDelta::hours(1);
/// Deliveries that one round sends, all at once.
pub(super) const DUE_AT_ONCE: usize = 16;
/// Longest wait for a connection, and for the next bytes of an answer.
pub(super) const SENDING_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest time of an attempt.
pub(super) const SENDING_TIME_MAX: Duration = Duration::from_secs(15);
/// Pauses after attempts that failed; behind the last one it is given up.
pub(super) const SENDING_AGAIN_AFTER: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
];
/// How long a delivery is kept; longer than it is tried.
pub(super) const DELIVERY_KEPT: Duration = Duration::from_hours(7 * 24);

/// Longest time that requests under way have when the gateway stops.
pub(super) const STOP_TIME_MAX: Duration = Duration::from_secs(30);
/// Time that those have then who are told that no answer will come.
pub(super) const GOODBYE_TIME_MAX: Duration = Duration::from_secs(2);

const _: () = assert!(BODY_BYTES_MAX <= BODIES_BYTES_MAX);
const _: () = assert!(MEDIA_BYTES_MAX < BODIES_BYTES_MAX);
const _: () = assert!(MEDIA_BYTES_MAX < DRAIN_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX as u64 >= LINE_BYTES_MAX);
const _: () = assert!(RETRY_ITEMS_MAX <= CALL_ITEMS_MAX);
const _: () = assert!(HEADER_BYTES_MAX <= READ_AHEAD_BYTES);
const _: () = assert!(READ_AHEAD_BYTES as u64 <= PARTS_BYTES_MAX);
