//! Every detector that needs no model, on any text: what it finds are whole characters of the text, and
//! no active markup is left where it was replaced.
#![no_main]

use std::sync::OnceLock;

use lapidary_fuzz::below_root;
use lapidary_worker::filter::{Filters, Stage};
use lapidary_worker::filter_trial::{Trial, Tried};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

/// A policy in the repository, and one that is part of the program and looks at answers, too.
struct Policies {
    runtime: Runtime,
    everything: Trial,
    default: Trial,
}

fn policies() -> &'static Policies {
    static POLICIES: OnceLock<Policies> = OnceLock::new();
    POLICIES.get_or_init(|| {
        let everything = below_root("worker/src/filter/everything.toml");
        let [everything, default] = [everything.to_str().expect("letters"), "default"]
            .map(|policy| Trial::start(Filters::open(policy).expect("a policy")).expect("threads"));
        Policies {
            runtime: Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime"),
            everything,
            default,
        }
    })
}

fn check_spans(tried: &Tried, text: &str) {
    for verdict in &tried.verdicts {
        assert!(verdict.detail.get("error").is_none(), "{verdict:?}");
        let spans = verdict.detail["spans"].as_array().into_iter().flatten();
        for span in spans {
            let place = |end: &str| usize::try_from(span[end].as_u64()?).ok();
            let found = place("start").zip(place("end"));
            let found = found.and_then(|(start, end)| text.get(start..end));
            // An empty answer is found to be empty.
            let whole = found.is_some_and(|found| !found.is_empty() || text.is_empty());
            assert!(whole, "{span} of {text:?}");
        }
    }
}

fuzz_target!(|text: &str| {
    let policies = policies();
    let look = |trial: &Trial, stage, text: &str| {
        let tried = policies
            .runtime
            .block_on(trial.of_text(stage, text.to_owned()));
        check_spans(&tried, text);
        tried
    };
    let tried = look(&policies.everything, Stage::InputText, text);
    look(&policies.default, Stage::OutputText, text);
    let Some(becomes) = tried.becomes else {
        let found = tried
            .verdicts
            .iter()
            .any(|verdict| verdict.action == "redact");
        return assert!(!found, "what was found in {text:?} was not replaced");
    };
    let again = look(&policies.everything, Stage::InputText, &becomes);
    let markup = again
        .verdicts
        .iter()
        .find(|verdict| verdict.detector == "markup");
    let markup = markup.expect("a verdict on markup");
    assert_eq!(markup.action, "allow", "{text:?} became {becomes:?}");
});
