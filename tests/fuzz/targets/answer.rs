//! Answers of a model that was offered functions, read as calls.
#![no_main]

use std::sync::OnceLock;

use lapidary_schemas::limits::TOOL_CALLS_MAX;
use lapidary_schemas::{Job, Request};
use lapidary_worker::tools::calls;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

/// A job whose request offers functions.
fn job() -> Job {
    let job = include_str!("../../../schemas/golden/v1/job_interactive.json");
    let mut job: Job = serde_json::from_str(job).expect("a job");
    let full = include_str!("../../../schemas/golden/v1/request_full.json");
    let full: Request = serde_json::from_str(full).expect("a request");
    job.request.tools = full.tools;
    job
}

fuzz_target!(|answer: &str| {
    static JOB: OnceLock<Job> = OnceLock::new();
    let job = JOB.get_or_init(job);
    let calls = calls(job, answer);
    assert!(calls.len() <= TOOL_CALLS_MAX);
    for call in calls {
        let mut offered = job.request.tools.iter();
        assert!(offered.any(|tool| tool.function.name == call.function.name));
        let arguments = serde_json::from_str::<Map<String, Value>>(&call.function.arguments);
        assert!(arguments.is_ok(), "{arguments:?}");
    }
});
