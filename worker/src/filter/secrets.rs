//! Secrets: what gives access to something, known by its form.

use std::sync::LazyLock;

use regex::Regex;

use super::find::{Finding, Findings};

/// The names of its rules.
pub(super) const RULES: &[&str] = &[
    "private_key",
    "aws_key",
    "github_token",
    "gitlab_token",
    "slack_token",
    "google_key",
    "stripe_key",
    "api_key",
    "huggingface_token",
    "npm_token",
    "sendgrid_key",
    "jwt",
    "url_password",
    "assigned_secret",
];

/// How sure it is of what has a form of its own, and of what is only said to be secret.
const FORMED: f32 = 1.0;
const ASSIGNED: f32 = 0.6;
/// Bytes of a private key, its frame included.
const PRIVATE_KEY_BYTES_MAX: usize = 16 * 1024;
/// Bytes of user and password in an address.
const USER_INFO_BYTES_MAX: usize = 256;
/// Different characters of a value that is no word and no placeholder.
const DIFFERENT_MIN: usize = 8;

/// Forms that are one expression each. Every one begins with what is searched for fast, and none
/// has to look far behind its match, so that the cost is linear.
static FORMS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    [
        ("aws_key", r"(?-u:\b)(?:AKIA|ASIA)[0-9A-Z]{16}(?-u:\b)"),
        (
            "github_token",
            r"(?-u:\b)gh[oprsu]_[0-9A-Za-z]{36,}(?-u:\b)",
        ),
        (
            "github_token",
            r"(?-u:\b)github_pat_[0-9A-Za-z_]{22,}(?-u:\b)",
        ),
        ("gitlab_token", r"(?-u:\b)glpat-[0-9A-Za-z_-]{20,}"),
        ("slack_token", r"(?-u:\b)xox[abeoprs]-[0-9A-Za-z-]{10,}"),
        ("google_key", r"(?-u:\b)AIza[0-9A-Za-z_-]{35}"),
        (
            "stripe_key",
            r"(?-u:\b)[rs]k_(?:live|test)_[0-9A-Za-z]{16,}(?-u:\b)",
        ),
        (
            "api_key",
            r"(?-u:\b)sk-(?:[a-z0-9]{2,10}-){0,2}[0-9A-Za-z_]{20,}(?-u:\b)",
        ),
        ("huggingface_token", r"(?-u:\b)hf_[A-Za-z]{30,}(?-u:\b)"),
        ("npm_token", r"(?-u:\b)npm_[0-9A-Za-z]{36}(?-u:\b)"),
        (
            "sendgrid_key",
            r"(?-u:\b)SG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}",
        ),
        (
            "jwt",
            r"(?-u:\b)eyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{16,}",
        ),
    ]
    .into_iter()
    .map(|(rule, form)| (rule, form_of(form)))
    .collect()
});

/// `api_key = "…"` and its like; the value is judged apart.
static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| {
    let form = r#"(?i-u)(?:api[_-]?key|access[_-]?key|auth[_-]?token|access[_-]?token|client[_-]?secret|secret[_-]?key|password|passwd)["']?[ \t]{0,8}(?::=|:|=)[ \t]{0,8}["']?([0-9A-Za-z_+/=.-]{12,128})"#;
    form_of(form)
});

/// One of the expressions above.
fn form_of(form: &str) -> Regex {
    Regex::new(form).expect("it is written here, and compiled by every test")
}

/// Finds secrets.
pub(super) fn look(text: &str, findings: &mut Findings) {
    for (rule, form) in FORMS.iter() {
        for found in form.find_iter(text) {
            findings.push(Finding::new(rule, found.range(), FORMED));
        }
    }
    look_private_keys(text, findings);
    look_addresses(text, findings);
    for assigned in ASSIGNMENT.captures_iter(text) {
        if let Some(value) = assigned.get(1)
            && is_random(value.as_str())
        {
            findings.push(Finding::new("assigned_secret", value.range(), ASSIGNED));
        }
    }
}

fn look_private_keys(text: &str, findings: &mut Findings) {
    let ends: Vec<usize> = text.match_indices("-----END ").map(|(at, _)| at).collect();
    for (start, _) in text.match_indices("-----BEGIN ") {
        let rest = text.get(start..).unwrap_or_default();
        let Some(head) = rest.lines().next().filter(|head| is_key_head(head)) else {
            continue;
        };
        let end = ends.get(ends.partition_point(|end| *end < start));
        let end = end.filter(|end| **end - start <= PRIVATE_KEY_BYTES_MAX);
        let end = end.map_or(start + head.len(), |end| {
            let last = text.get(*end..).and_then(|rest| rest.lines().next());
            end + last.map_or(0, str::len)
        });
        findings.push(Finding::new("private_key", start..end, FORMED));
    }
}

fn is_key_head(head: &str) -> bool {
    // Names are short; what is longer is a text that quotes one.
    head.get(..head.len().min(80))
        .is_some_and(|head| head.contains("PRIVATE KEY") && head.trim_end().ends_with("-----"))
}

/// Addresses with a password: `scheme://user:password@host`.
fn look_addresses(text: &str, findings: &mut Findings) {
    for (at, mark) in text.match_indices("://") {
        let start = at + mark.len();
        let bytes = text.as_bytes().get(start..).unwrap_or_default();
        let bytes = bytes.get(..USER_INFO_BYTES_MAX).unwrap_or(bytes);
        let ends = |byte: &u8| {
            matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>')
                || byte.is_ascii_whitespace()
        };
        let authority = bytes.split(ends).next().unwrap_or_default();
        let Some(user_info) = authority.iter().rposition(|byte| *byte == b'@') else {
            continue;
        };
        let colon = authority[..user_info].iter().position(|byte| *byte == b':');
        if colon.is_some_and(|colon| colon + 1 < user_info) {
            let span = start..start + user_info;
            findings.push(Finding::new("url_password", span, FORMED));
        }
    }
}

/// Whether a value looks made by a machine: letters and digits, many different ones.
fn is_random(value: &str) -> bool {
    let mut seen = [false; 128];
    for byte in value.bytes() {
        if let Some(seen) = seen.get_mut(usize::from(byte)) {
            *seen = true;
        }
    }
    value.bytes().any(|byte| byte.is_ascii_digit())
        && value.bytes().any(|byte| byte.is_ascii_alphabetic())
        && seen.iter().filter(|seen| **seen).count() >= DIFFERENT_MIN
}
