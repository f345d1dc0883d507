//! The table of cases, and what holds for any text: no detector panics, spans are whole characters,
//! the cost grows with the size.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::find::redact;
use super::policy::Policy;
use super::*;

/// Every detector, with words that stand in many innocent ones.
const EVERYTHING: &str = include_str!("everything.toml");

/// Of answers.
const QUALITY: &str = "name = \"quality\"\n[[detector]]\nname = \"quality\"\nkind = \"quality\"\n\
                       stages = [\"output_text\"]\naction = \"flag\"\nthreshold = 0.4\n";

fn everything() -> Policy {
    Policy::parse("everything", EVERYTHING).unwrap()
}

fn shown(text: &str) -> Shown {
    let mut shown = Shown::to(lapidary_engine::Class::Bulk);
    shown.texts.push(text.to_owned());
    shown
}

/// An answer behind what was asked: `asked => answered`.
fn answered(text: &str) -> Shown {
    let (asked, answer) = text.split_once(" => ").unwrap_or(("", text));
    let mut shown = shown(answer);
    shown.asked.language = language::asked(&[asked.to_owned()]);
    shown
}

fn finds(policy: &Policy, text: &str) -> Vec<Finding> {
    finds_in(policy, &shown(text))
}

fn finds_in(policy: &Policy, shown: &Shown) -> Vec<Finding> {
    let detectors = policy.detectors.iter();
    detectors
        .flat_map(|detector| detector.look(shown).unwrap())
        .collect()
}

/// One line of the table.
struct Case {
    expected: BTreeSet<String>,
    group: String,
    text: String,
}

fn cases() -> Vec<Case> {
    let table = include_str!("cases.tsv").lines();
    let table = table.filter(|line| !line.starts_with('#'));
    let cases = table.map(|line| {
        let mut fields = line.splitn(3, '\t');
        let mut field = || {
            fields
                .next()
                .unwrap_or_else(|| panic!("three fields: {line}"))
        };
        let rules = field().split(',').filter(|rule| *rule != "-");
        Case {
            expected: rules.map(str::to_owned).collect(),
            group: field().to_owned(),
            text: unescaped(field()),
        }
    });
    cases.collect()
}

fn unescaped(written: &str) -> String {
    let mut text = String::new();
    let mut chars = written.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        match chars.next().unwrap() {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'u' => {
                let code: String = chars
                    .by_ref()
                    .skip(1)
                    .take_while(|char| *char != '}')
                    .collect();
                let code = u32::from_str_radix(&code, 16).unwrap();
                text.push(char::from_u32(code).unwrap());
            }
            other => text.push(other),
        }
    }
    text
}

#[test]
fn every_case_has_its_verdict() {
    let (requests, answers) = (everything(), Policy::parse("quality", QUALITY).unwrap());
    let cases = cases();
    assert!(cases.len() >= 400, "only {} cases", cases.len());
    let (mut missed, mut falsely) = (Vec::new(), Vec::new());
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &cases {
        *groups.entry(&case.group).or_default() += 1;
        let finds = if case.group == "quality" {
            finds_in(&answers, &answered(&case.text))
        } else {
            finds(&requests, &case.text)
        };
        let found: BTreeSet<String> = finds.iter().map(|find| find.rule.to_owned()).collect();
        for rule in case.expected.difference(&found) {
            missed.push(format!("{rule} ({}): {:?}", case.group, case.text));
        }
        for rule in found.difference(&case.expected) {
            falsely.push(format!("{rule} ({}): {:?}", case.group, case.text));
        }
    }
    assert!(groups.len() >= 20, "{groups:?}");
    assert!(
        missed.is_empty() && falsely.is_empty(),
        "of {} cases {} missed and {} falsely found\nmissed:\n  {}\nfalsely found:\n  {}",
        cases.len(),
        missed.len(),
        falsely.len(),
        missed.join("\n  "),
        falsely.join("\n  ")
    );
}

#[test]
fn what_is_replaced_is_not_found_again() {
    let policy = everything();
    for case in cases().iter().filter(|case| case.group != "quality") {
        let found = finds(&policy, &case.text);
        let redacted = redact(&case.text, &found);
        let again = finds(&policy, &redacted);
        assert!(
            again.is_empty(),
            "{:?} became {redacted:?}: {again:?}",
            case.text
        );
    }
}

#[test]
fn only_what_was_found_is_replaced() {
    let policy = everything();
    for (text, expected) in [
        ("Ｎｏ ｈａｔｅ, café!", "Ｎｏ [keyword], café!"),
        ("v.i.o.l.e.n.c.e. Ünd", "[keyword]. Ünd"),
        ("from a@example.org, +49 30 901820", "from [email], [phone]"),
        ("a<script>1</script>b", "a[script]b"),
        ("<a href='javascript:1'>x</a>", "[script_url]x</a>"),
        ("IBAN GB82 WEST 1234 5698 7654 32.", "IBAN [iban]."),
    ] {
        assert_eq!(redact(text, &finds(&policy, text)), expected);
    }
}

#[test]
fn policies_that_are_part_of_the_program_can_be_used() {
    for name in ["none", "default", "strict"] {
        let filters = Filters::open(name).unwrap();
        let (known, version) = filters.policy();
        assert_eq!((known, version.len()), (name, 16));
    }
    let holding = |name: &str| Filters::open(name).unwrap().holds_back(Stage::OutputText);
    assert_eq!(
        ["none", "default", "strict"].map(holding),
        [false, false, true]
    );
}

#[tokio::test]
async fn the_strict_policy_blocks_what_the_default_one_lets_pass() {
    let smoking = "The harmful effects of smoking".to_owned();
    let ruling = async |policy: &str| {
        let filters = Filters::open(policy).unwrap();
        let (compute, texts) = (Compute::start().unwrap(), vec![smoking.clone()]);
        let shown = Shown {
            texts,
            ..Shown::to(lapidary_engine::Class::Bulk)
        };
        let stage = (Stage::InputText, Manner::Enforce);
        filters.check(&compute, stage, shown).await
    };
    let passed = ruling("default").await;
    assert_eq!(
        (passed.ruling, passed.texts),
        (Ruling::Pass, vec![smoking.clone()])
    );
    let refused = ruling("strict").await;
    assert_eq!(
        refused.ruling,
        Ruling::Refused(Failure::new(
            FailureCode::ContentFiltered,
            "the request is refused by `keywords` of the content policy `strict`"
        ))
    );
    assert!(refused.texts.is_empty());
    let verdict = refused.verdicts.last().unwrap();
    assert_eq!(verdict.detail["category_scores"], json!({"keyword": 1.0}));
    assert_eq!(
        verdict.detail["spans"],
        json!([{"category": "keyword", "text": 0, "start": 4, "end": 11}])
    );
}

#[tokio::test]
async fn what_replacing_brings_to_life_is_replaced() {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/src/filter/everything.toml");
    let (filters, compute) = (Filters::open(policy).unwrap(), Compute::start().unwrap());
    for (text, becomes) in [
        // A tag of an odd name, and no script: until its beginning is an address that is replaced.
        ("<s@example.org\0<script>1</script>", "<[email]\0[script]"),
        ("<a@b.example <embed><p>", "<[email] [embed]<p>"),
    ] {
        let stage = (Stage::InputText, Manner::Enforce);
        let decision = filters.check(&compute, stage, shown(text)).await;
        assert_eq!((decision.ruling, decision.redacted), (Ruling::Pass, true));
        assert_eq!(decision.texts, [becomes]);
    }
}

/// Texts that could cost more than their size.
fn hostile(size: usize) -> Vec<(&'static str, String)> {
    let patterns = [
        "a",
        "<",
        "<script>",
        "<object>",
        "</iframe>",
        "<a href=\"",
        "<!--",
        "1 ",
        "4111 ",
        "a@",
        "a.a@",
        "eyJ",
        "eyJaaaaaaaa.",
        "-----BEGIN PRIVATE KEY-----\n",
        "://a:b",
        "ha te ",
        "h a t e ",
        "h.a.",
        "ignore all of the previous ",
        "password = ",
        "ｈ",
        "\u{200B}",
        "h\u{338}",
        "\u{E0068}",
        "](",
        "](javascript:a",
        "](&#106;avascript:",
        "GB82",
        "+1",
        "文",
        "ignore ",
    ];
    let texts = patterns.map(|pattern| (pattern, pattern.repeat(size / pattern.len() + 1)));
    texts.to_vec()
}

/// Time of the looks.
fn took(policy: &Policy, text: &str) -> Duration {
    let before = Instant::now();
    std::hint::black_box(finds_within(policy, text));
    before.elapsed()
}

/// As [`finds`], where there may be more than is kept.
fn finds_within(policy: &Policy, text: &str) -> usize {
    let shown = shown(text);
    let looks = policy
        .detectors
        .iter()
        .map(|detector| detector.look(&shown));
    looks
        .map(|finds| finds.map_or(0, |finds| finds.len()))
        .sum()
}

#[test]
fn the_cost_of_a_text_grows_with_its_length_alone() {
    const PART_BYTES: usize = 32 * 1024;
    const PARTS: u32 = 16;
    const ROUNDS: usize = 8;
    let policy = everything();
    took(&policy, &hostile(16)[0].1);
    let parts = hostile(PART_BYTES);
    let whole = hostile(PARTS as usize * PART_BYTES);
    for ((pattern, part), (_, whole)) in parts.iter().zip(&whole) {
        // Quadratic cost would be sixteen times that of the parts. Others may use the processor
        // during one of the two, but not always during the same.
        let mut seen = Vec::new();
        let linear = (0..ROUNDS).any(|_| {
            let parts = (0..PARTS).map(|_| took(&policy, part)).sum::<Duration>();
            seen.push((parts, took(&policy, whole)));
            seen.last().is_some_and(|(parts, all)| *all < 5 * *parts)
        });
        assert!(linear, "{pattern:?}: of the parts, of the whole: {seen:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_is_looked_at_and_replaced_in_whole_characters(
        parts in proptest::collection::vec(
            prop_oneof![
                "\\PC{0,12}",
                "[<>/=\"'!a-z -]{0,16}",
                "[0-9A-Z +()/.@-]{0,24}",
                "[h\u{200B}\u{338}aаtｔe.\u{E0068}ßﬁİ]{0,12}",
                Just("<script>".to_owned()),
                Just("javascript:".to_owned()),
                Just("\r\n\0".to_owned()),
                Just("-----BEGIN PRIVATE KEY-----".to_owned()),
            ],
            0..12,
        )
    ) {
        let policy = everything();
        let text = parts.concat();
        for find in finds(&policy, &text) {
            let found = text.get(find.span.clone());
            prop_assert!(found.is_some_and(|found| !found.is_empty()), "{find:?} of {text:?}");
            if matches!(find.rule, "script" | "iframe" | "object" | "embed" | "event_handler") {
                prop_assert!(found.is_some_and(|found| found.starts_with('<')), "{find:?} of {text:?}");
            }
        }
    }
}
