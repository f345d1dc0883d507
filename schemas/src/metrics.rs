//! Every metric: one row of one table. A program that exports one registers its row; dashboards,
//! alerts and `docs/METRICS.md` name no others.
//!
//! Ids of jobs and tenants are never labels: their detail belongs in results and logs.

mod markdown;
mod registry;
pub mod thresholds;

pub use markdown::metrics_markdown;
pub use registry::{EXPOSITION_TYPE, Known, Metrics, MetricsError, number};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations under upper bounds, ascending, in the metric's unit.
    Histogram(&'static [f64]),
}

/// Which program exports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Every program that exports metrics.
    Process,
    /// A worker.
    Worker,
    /// A gateway.
    Gateway,
    /// Whichever process could be the steward.
    Steward,
}

/// The values a label may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// These alone; series of a counter exist from the start, at 0.
    Listed(&'static [&'static str]),
    /// As many as the deployment names in its configuration.
    Configured(&'static str),
}

/// A label and its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub values: Values,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Its name in the exposition, prefix included.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What one of it is.
    pub unit: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// Its labels, in order.
    pub labels: &'static [Label],
    /// Who exports it.
    pub source: Source,
}

/// Seconds of waiting for a turn: to eight hours, since a backlog lasts.
const WAIT: &[f64] = &[
    0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0,
    7_200.0, 14_400.0, 28_800.0,
];
/// Seconds of one stage of a job.
const STAGE_SECONDS: &[f64] = &[
    0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
];
/// Seconds until an answer is whole.
const RESPONSE_SECONDS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 240.0,
    480.0, 960.0,
];
/// Seconds until the first token.
const FIRST_TOKEN_SECONDS: &[f64] = &[
    0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0,
    160.0,
];
/// Seconds from one token to the next.
const TOKEN_SECONDS: &[f64] = &[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Decode rates.
const RATE: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0,
];
/// Sequences of one step.
const SEQUENCES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// Tokens of one step, of a prompt, of an answer.
const TOKENS: &[f64] = &[
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0, 8_192.0, 16_384.0,
    32_768.0, 65_536.0, 131_072.0,
];

const STATUS: Label = Label {
    name: "status",
    values: Values::Listed(&["succeeded", "filtered", "failed", "cancelled", "expired"]),
};
/// A failure's code, or `NONE` for a job that has an answer.
const CODE: Label = Label {
    name: "code",
    values: Values::Listed(&[
        "NONE",
        "VALIDATION_ERROR",
        "RATE_LIMIT_EXCEEDED",
        "CONTENT_FILTERED",
        "RESPONSE_FILTERED",
        "GENERATION_ERROR",
        "MEDIA_UNREACHABLE",
        "MEDIA_INVALID",
        "MEDIA_TOO_LARGE",
        "PROMPT_TOO_LONG",
        "MODEL_UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
        "WORKER_LOST",
        "FILTER_UNAVAILABLE",
        "QUALITY_REJECTED",
        "STORAGE_FULL",
        "INTERNAL",
    ]),
};
const CLASS: Label = Label {
    name: "class",
    values: Values::Listed(&["interactive", "bulk"]),
};
const SETTLE: Label = Label {
    name: "settle",
    values: Values::Listed(&["done", "retry", "interrupted", "dead"]),
};
const STAGE: Label = Label {
    name: "stage",
    values: Values::Listed(&["media", "filter", "prefill", "decode", "store"]),
};
const ORIGIN: Label = Label {
    name: "origin",
    values: Values::Listed(&["job", "probe"]),
};
const FINISH: Label = Label {
    name: "finish_reason",
    values: Values::Listed(&["stop", "length", "content_filter", "tool_calls"]),
};
const DRAFT: Label = Label {
    name: "outcome",
    values: Values::Listed(&["accepted", "rejected"]),
};
const POOL: Label = Label {
    name: "pool",
    values: Values::Listed(&["global", "local"]),
};
const FILTER_STAGE: Label = Label {
    name: "stage",
    values: Values::Listed(&["input_text", "input_image", "output_text"]),
};
const ACTION: Label = Label {
    name: "action",
    values: Values::Listed(&["allow", "flag", "redact", "block", "retry"]),
};
const MODE: Label = Label {
    name: "mode",
    values: Values::Listed(&["enforced", "shadow"]),
};
const DETECTOR: Label = Label {
    name: "detector",
    values: Values::Configured("detectors of the filter policy"),
};
const STORE: Label = Label {
    name: "store",
    values: Values::Listed(&["queue", "results", "media"]),
};
/// The stores whose absence a worker waits out.
const PART: Label = Label {
    name: "store",
    values: Values::Listed(&["queue", "results"]),
};
const CALL: Label = Label {
    name: "call",
    values: Values::Listed(&[
        "begin",
        "put_once",
        "interrupt",
        "end_attempt",
        "settle",
        "spend",
    ]),
};
const ROUTE: Label = Label {
    name: "route",
    values: Values::Configured("addresses of the gateway, ids left out; `none` for any other"),
};
const METHOD: Label = Label {
    name: "method",
    values: Values::Configured("HTTP methods; `other` for one that no address takes"),
};
const HTTP_STATUS: Label = Label {
    name: "status",
    values: Values::Configured("HTTP statuses"),
};
/// The statuses that say why a request was not served.
const REFUSAL: Label = Label {
    name: "status",
    values: Values::Listed(&[
        "400", "401", "403", "404", "405", "408", "409", "413", "415", "424", "429", "500", "503",
        "504",
    ]),
};
const PROGRAM: Label = Label {
    name: "program",
    values: Values::Configured("`worker` or `gateway`"),
};
const VERSION: Label = Label {
    name: "version",
    values: Values::Configured("the program's version"),
};
const SWEEP: Label = Label {
    name: "action",
    values: Values::Listed(&[
        "expired_batch",
        "expired_job",
        "republished",
        "worker_lost",
        "refused",
        "dropped",
        "packed",
        "unpinned",
        "collected",
    ]),
};
/// What is poor about an answer, as the detectors of quality name it.
const FLAW: Label = Label {
    name: "flaw",
    values: Values::Listed(&["empty", "loop", "refusal", "language", "unfinished"]),
};
const SECOND: Label = Label {
    name: "outcome",
    values: Values::Listed(&["better", "poor"]),
};
const SPAN: Label = Label {
    name: "outcome",
    values: Values::Listed(&["sent", "dropped"]),
};
const MODEL: Label = Label {
    name: "model",
    values: Values::Configured("models the deployment serves"),
};

/// Declares the rows, each a constant, and [`ALL`] of them.
macro_rules! table {
    ($($id:ident: $source:ident $kind:expr, $name:literal, $unit:literal, [$($label:ident),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                name: $name,
                kind: $kind,
                unit: $unit,
                help: $help,
                labels: &[$($label),*],
                source: Source::$source,
            };
        )*

        /// Every metric, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

use Kind::{Counter, Gauge, Histogram};

table! {
    BUILD_INFO: Process Gauge, "lapidary_build_info", "boolean", [PROGRAM, VERSION], "1; the labels say which program it is.";
    SPANS: Process Counter, "lapidary_spans_total", "spans", [SPAN], "Spans of traces, by whether the collector took them; dropped are those that it did not take in time, and those that came while too many waited for it.";
    UP: Worker Gauge, "lapidary_worker_up", "boolean", [], "1 while the worker serves, 0 while it starts or stops.";
    MODEL_LOADED: Worker Gauge, "lapidary_model_loaded", "boolean", [MODEL], "1 once the model's weights are loaded and it has answered.";
    STARTUP: Worker Gauge, "lapidary_startup_seconds", "seconds", [], "From the start of the process until it served; 0 while it starts.";
    JOBS: Worker Counter, "lapidary_jobs_total", "jobs", [CLASS, STATUS, CODE], "Jobs whose result this worker stored, by status and failure code.";
    JOBS_RUNNING: Worker Gauge, "lapidary_jobs_running", "jobs", [CLASS], "Jobs received and not settled.";
    OLDEST_JOB: Worker Gauge, "lapidary_oldest_job_seconds", "seconds", [], "For how long the job that is under way longest has been; 0 if none is. Brokers take deliveries back that are not settled in time.";
    ATTEMPTS: Worker Counter, "lapidary_attempts_total", "attempts", [CLASS], "Attempts begun.";
    SETTLES: Worker Counter, "lapidary_settles_total", "deliveries", [CLASS, SETTLE], "Deliveries settled, by kind.";
    SETTLE_ERRORS: Worker Counter, "lapidary_settle_errors_total", "deliveries", [CLASS], "Deliveries that could not be settled; they come back, and find their result if it is stored.";
    REDELIVERIES: Worker Counter, "lapidary_redeliveries_total", "deliveries", [CLASS], "Deliveries of a job that had been begun before.";
    RECONNECTS: Worker Counter, "lapidary_reconnects_total", "times", [PART], "Times a store answered again after it had been away.";
    STORE_AWAY: Worker Gauge, "lapidary_store_away", "boolean", [PART], "1 while a store does not answer.";
    STORE_CALL: Worker Histogram(STAGE_SECONDS), "lapidary_store_call_duration_seconds", "seconds", [CALL], "Time of one call on queue or results store, which may carry many jobs; a failed one too.";
    QUEUE_WAIT: Worker Histogram(WAIT), "lapidary_queue_wait_seconds", "seconds", [CLASS], "From submission to the start of the attempt.";
    STAGE_DURATION: Worker Histogram(STAGE_SECONDS), "lapidary_stage_duration_seconds", "seconds", [STAGE], "Time a job spent in one stage of its last attempt.";
    RESPONSE_TIME: Worker Histogram(RESPONSE_SECONDS), "lapidary_response_time_seconds", "seconds", [ORIGIN], "From submission to the result, of interactive jobs and of the probe.";
    TIME_TO_FIRST_TOKEN: Worker Histogram(FIRST_TOKEN_SECONDS), "lapidary_time_to_first_token_seconds", "seconds", [CLASS], "From the start of the attempt to the first generated token.";
    TIME_PER_TOKEN: Worker Histogram(TOKEN_SECONDS), "lapidary_time_per_output_token_seconds", "seconds", [CLASS], "Decode time of a job by the generated tokens after the first.";
    DECODE_RATE: Worker Gauge, "lapidary_decode_tokens_per_second", "tokens per second", [], "Decode rate of the worker over its last ten busy seconds; stays at its last value while idle.";
    JOB_RATE: Worker Histogram(RATE), "lapidary_job_decode_rate_tokens_per_second", "tokens per second", [CLASS], "Decode rate of single jobs.";
    BUSY: Worker Counter, "lapidary_engine_busy_seconds_total", "seconds", [], "Time the engine spent in steps.";
    PREFILL_TOKENS: Worker Counter, "lapidary_engine_prefill_tokens_total", "tokens", [], "Prompt tokens read in steps, those read again after preemption included.";
    DECODE_TOKENS: Worker Counter, "lapidary_engine_decode_tokens_total", "tokens", [], "Tokens that answers were continued by in steps.";
    PROMPT_TOKENS: Worker Counter, "lapidary_prompt_tokens_total", "tokens", [], "Prompt tokens of finished jobs.";
    GENERATED_TOKENS: Worker Counter, "lapidary_generated_tokens_total", "tokens", [], "Tokens generated by finished jobs.";
    IMAGE_TOKENS: Worker Counter, "lapidary_image_tokens_total", "tokens", [], "Soft tokens of images among the prompt tokens.";
    IMAGE_DECODING: Worker Histogram(STAGE_SECONDS), "lapidary_image_decoding_duration_seconds", "seconds", [], "Time of decoding and resizing one image.";
    VIEWS_ENCODED: Worker Counter, "lapidary_views_encoded_total", "views", [], "Views of images that the vision tower encoded; an image is one view, and more where it is shown in crops.";
    VISION_BUSY: Worker Counter, "lapidary_vision_busy_seconds_total", "seconds", [], "Time the vision tower spent encoding, between steps.";
    PREFIX_CACHE_QUERIES: Worker Counter, "lapidary_prefix_cache_queries_tokens_total", "tokens", [], "Prompt tokens looked up in the prefix cache.";
    PREFIX_CACHE_HITS: Worker Counter, "lapidary_prefix_cache_hits_tokens_total", "tokens", [], "Prompt tokens whose keys and values were found there.";
    DRAFTED_TOKENS: Worker Counter, "lapidary_drafted_tokens_total", "tokens", [DRAFT], "Tokens guessed for answers, by whether they were then drawn.";
    PROMPT_LENGTH: Worker Histogram(TOKENS), "lapidary_prompt_length_tokens", "tokens", [CLASS], "Length of prompts.";
    ANSWER_LENGTH: Worker Histogram(TOKENS), "lapidary_answer_length_tokens", "tokens", [CLASS, FINISH], "Length of answers, by why they ended.";
    BATCH_SIZE: Worker Histogram(SEQUENCES), "lapidary_step_sequences", "sequences", [], "Sequences of one engine step.";
    STEP_TOKENS: Worker Histogram(TOKENS), "lapidary_step_tokens", "tokens", [], "Tokens of one engine step, prefill and decode together.";
    STEP_DURATION: Worker Histogram(STAGE_SECONDS), "lapidary_step_duration_seconds", "seconds", [], "Time of one engine step.";
    SEQUENCES_RUNNING: Worker Gauge, "lapidary_sequences_running", "sequences", [], "Sequences that hold blocks of the cache.";
    SEQUENCES_WAITING: Worker Gauge, "lapidary_sequences_waiting", "sequences", [], "Sequences that wait for their first step or for room.";
    KV_BLOCKS_USED: Worker Gauge, "lapidary_kv_blocks_used", "blocks", [POOL], "Blocks of the key-value cache in use.";
    KV_BLOCKS: Worker Gauge, "lapidary_kv_blocks", "blocks", [POOL], "Blocks the key-value cache has.";
    PREEMPTIONS: Worker Counter, "lapidary_preemptions_total", "sequences", [], "Sequences whose blocks were taken away to be computed again.";
    FILTER_VERDICTS: Worker Counter, "lapidary_filter_verdicts_total", "verdicts", [FILTER_STAGE, DETECTOR, ACTION, MODE], "Decisions of the content filter about jobs whose result this worker stored; in shadow mode nothing follows from them.";
    FILTER_ERRORS: Worker Counter, "lapidary_filter_errors_total", "errors", [FILTER_STAGE, DETECTOR], "Looks of a detector that took too long or broke down.";
    FILTER_DURATION: Worker Histogram(STAGE_SECONDS), "lapidary_filter_duration_seconds", "seconds", [FILTER_STAGE, DETECTOR], "Time of one look of a detector at the texts of a job.";
    POOR_ANSWERS: Worker Counter, "lapidary_poor_answers_total", "jobs", [FLAW], "Jobs among whose answers a detector of quality found this, whatever followed from it; those whose second answer was better included.";
    SECOND_ANSWERS: Worker Counter, "lapidary_second_answers_total", "answers", [SECOND], "Answers that were made once more because the first one was poor, by whether they were better.";
    RESIDENT_MEMORY: Worker Gauge, "lapidary_resident_memory_bytes", "bytes", [], "Physical memory the process holds.";
    PEAK_MEMORY: Worker Gauge, "lapidary_peak_resident_memory_bytes", "bytes", [], "The most physical memory the process ever held.";
    REQUESTS: Gateway Counter, "lapidary_gateway_requests_total", "requests", [ROUTE, METHOD, HTTP_STATUS], "Requests answered, by address, method and status.";
    REFUSALS: Gateway Counter, "lapidary_gateway_refusals_total", "requests", [REFUSAL], "Requests that were not served, by the status that says why.";
    REQUEST_DURATION: Gateway Histogram(RESPONSE_SECONDS), "lapidary_gateway_request_duration_seconds", "seconds", [ROUTE], "From the head of a request to the head of its answer; a streamed answer goes on after it.";
    CONNECTIONS: Gateway Gauge, "lapidary_gateway_connections", "connections", [], "Open connections.";
    UPLOADS: Gateway Counter, "lapidary_gateway_uploads_total", "files", [], "Files of requests taken.";
    UPLOADED_BYTES: Gateway Counter, "lapidary_gateway_uploaded_bytes_total", "bytes", [], "Bytes of these files.";
    QUEUE_DEPTH: Steward Gauge, "lapidary_queue_depth", "jobs", [MODEL, CLASS], "Jobs that wait on the queue, as this process last saw it; those lent to workers do not. On a broker those that wait for a retry count for every model and class, which share the queues of delays.";
    LIVE_WORKERS: Steward Gauge, "lapidary_live_workers", "workers", [MODEL], "Workers that are announced, as this process last saw them.";
    UNFINISHED_ITEMS: Steward Gauge, "lapidary_unfinished_items", "jobs", [MODEL], "Items of unfinished batches without a result, on the queue or not yet, as this process last saw them; of paused batches none.";
    CENSUS_ERRORS: Steward Counter, "lapidary_census_errors_total", "errors", [PART], "Times that these could not be seen, by the store that did not answer.";
    LEASE_HELD: Steward Gauge, "lapidary_steward_lease_held", "boolean", [], "1 in the process that feeds and sweeps; over all processes the sum is 1.";
    FED: Steward Counter, "lapidary_steward_fed_total", "jobs", [CLASS], "Items of batches handed to the queue.";
    OUTSTANDING: Steward Gauge, "lapidary_steward_outstanding", "jobs", [CLASS], "Items fed and not finished.";
    OPEN_BATCHES: Steward Gauge, "lapidary_steward_open_batches", "batches", [], "Unfinished batches.";
    SWEEPS: Steward Counter, "lapidary_steward_swept_total", "actions", [SWEEP], "What was put right: jobs and batches expired, jobs published again or given up, media unpinned or collected.";
    TICK_DURATION: Steward Histogram(STAGE_SECONDS), "lapidary_steward_tick_duration_seconds", "seconds", [], "Time of one round of feeding and sweeping.";
    STEWARD_ERRORS: Steward Counter, "lapidary_steward_errors_total", "errors", [STORE], "Steps of the steward that failed and are tried again, by the store that failed.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, FailureCode, Status};

    #[test]
    fn names_are_unique_and_follow_the_conventions_of_prometheus() {
        let mut seen = std::collections::BTreeSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(seen.insert(name), "{name} is there twice");
            assert!(name.starts_with("lapidary_"), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), metric.kind == Counter, "{name}");
            let stem = name.trim_end_matches("_total");
            for unit in ["seconds", "bytes"] {
                assert_eq!(
                    stem.ends_with(unit),
                    metric.unit == unit,
                    "{name} is in {unit}"
                );
            }
            for reserved in ["_count", "_sum", "_bucket"] {
                assert!(!name.ends_with(reserved), "{name}");
            }
            assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
        }
    }

    #[test]
    fn buckets_ascend_and_queue_wait_reaches_hours() {
        for metric in ALL {
            if let Histogram(buckets) = metric.kind {
                assert!(buckets.is_sorted_by(|a, b| a < b), "{}", metric.name);
            }
        }
        assert_eq!(WAIT.last(), Some(&28_800.0));
    }

    #[test]
    fn labels_are_few_and_never_an_identity() {
        for metric in ALL {
            let mut series = 1;
            for label in metric.labels {
                assert!(!["tenant", "job", "job_id", "batch", "worker"].contains(&label.name));
                if let Values::Listed(values) = label.values {
                    series *= values.len();
                }
            }
            assert!(series <= 200, "{} has {series} series", metric.name);
        }
    }

    #[test]
    fn label_values_are_the_words_of_the_wire() {
        let listed = |label: Label| match label.values {
            Values::Listed(values) => values.to_vec(),
            Values::Configured(_) => Vec::new(),
        };
        assert_eq!(listed(STATUS), Status::ALL.map(Status::as_str));
        assert_eq!(listed(CODE)[1..], FailureCode::ALL.map(FailureCode::as_str));
        assert_eq!(listed(CLASS), Class::ALL.map(Class::as_str));
    }
}
