//! API keys: whose a request is, and what it may do. Of a key only its hash is kept.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use lapidary_transport::results::{Record, ResultsError};
use lapidary_transport::{AnyResults, Results as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::digest::sha256_hex;

/// Where keys are kept.
const COLLECTION: &str = "keys";
/// What every key begins with, so that one is known where it should not be.
const PREFIX: &str = "lapidary";
/// Bytes of chance in a key.
const SECRET_BYTES: usize = 32;
/// Keys asked for at once.
const PAGE_ITEMS_MAX: usize = 100;

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Files, batches and jobs are made, cancelled and deleted.
    Submit,
    /// They and their results are looked at.
    Read,
    /// The place is looked after: what its operators do.
    Operate,
}

impl Scope {
    /// All there are.
    pub(crate) const ALL: [Self; 3] = [Self::Submit, Self::Read, Self::Operate];

    /// The name on the command line and on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

/// How much a tenant may ask for; 0 is as much as it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Submissions in an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_hour: Option<u64>,
    /// Tokens read and written in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_day: Option<u64>,
}

impl Limits {
    /// These, and where they say nothing, others.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            requests_per_hour: self.requests_per_hour.or(others.requests_per_hour),
            tokens_per_day: self.tokens_per_day.or(others.tokens_per_day),
        }
    }
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    /// Whose requests are made with it.
    pub(crate) tenant: String,
    /// What it allows.
    pub(crate) scopes: Vec<Scope>,
    /// Limits that hold for who comes with it, in the place of the gateway's.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// When it was made.
    pub(crate) created_at: DateTime<Utc>,
    /// Hash of the whole key as it is written.
    sha256: String,
}

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// The store.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The machine has no chance to give.
    #[error("the machine gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

fn unreadable(name: &str, error: &serde_json::Error) -> ResultsError {
    ResultsError::Unusable {
        message: format!("key {name} cannot be read: {error}"),
    }
}

/// Makes a key and answers it as it is written, which nobody can do again.
pub(crate) async fn create(
    results: &AnyResults,
    tenant: &str,
    scopes: &[Scope],
    limits: Limits,
    now: DateTime<Utc>,
) -> Result<String, CreateError> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    let name = Uuid::now_v7().simple().to_string();
    let mut written = format!("{PREFIX}_{name}_");
    for byte in secret {
        // Writing to a string cannot fail.
        let _ = write!(written, "{byte:02x}");
    }
    let key = Key {
        tenant: tenant.to_owned(),
        scopes: scopes.to_vec(),
        limits,
        created_at: now,
        sha256: sha256_hex(written.as_bytes()),
    };
    let body = serde_json::to_string(&key).map_err(|error| unreadable(&name, &error))?;
    results
        .put_record(COLLECTION, &Record { name, body }, None)
        .await?;
    Ok(written)
}

/// Every key with its name, the newest first.
pub(crate) async fn list(results: &AnyResults) -> Result<Vec<(String, Key)>, ResultsError> {
    let (mut keys, mut before) = (Vec::new(), String::new());
    loop {
        let page = results.records(COLLECTION, &before, PAGE_ITEMS_MAX).await?;
        let Some(last) = page.last() else {
            return Ok(keys);
        };
        before.clone_from(&last.name);
        for Record { name, body } in page {
            let key = serde_json::from_str(&body).map_err(|error| unreadable(&name, &error))?;
            keys.push((name, key));
        }
    }
}

/// Whether there is any key.
pub(crate) async fn any(results: &AnyResults) -> Result<bool, ResultsError> {
    Ok(!results.records(COLLECTION, "", 1).await?.is_empty())
}

/// Ends a key; whether there was one of this name.
pub(crate) async fn revoke(results: &AnyResults, name: &str) -> Result<bool, ResultsError> {
    results.remove_record(COLLECTION, name).await
}

/// The key that is written so, if there is one.
pub(crate) async fn check(
    results: &AnyResults,
    written: &str,
) -> Result<Option<Key>, ResultsError> {
    let Some(name) = name_in(written) else {
        return Ok(None);
    };
    let Some(body) = results.record(COLLECTION, name).await? else {
        return Ok(None);
    };
    let key: Key = serde_json::from_str(&body).map_err(|error| unreadable(name, &error))?;
    let hash = sha256_hex(written.as_bytes());
    let same: bool = hash.as_bytes().ct_eq(key.sha256.as_bytes()).into();
    Ok(same.then_some(key))
}

/// The name of a key in what is written, which is no secret.
fn name_in(written: &str) -> Option<&str> {
    let rest = written.strip_prefix(PREFIX)?.strip_prefix('_')?;
    let (name, secret) = rest.split_once('_')?;
    (name.len() == 32 && secret.len() == 2 * SECRET_BYTES).then_some(name)
}

#[cfg(test)]
mod tests {
    use lapidary_transport::{Place, PlaceUrls};

    use super::*;

    async fn results(folder: &tempfile::TempDir) -> AnyResults {
        let urls = PlaceUrls {
            broker: format!("file:{}", folder.path().join("jobs.db").display()),
            ..PlaceUrls::default()
        };
        Place::open(&urls).await.unwrap().results
    }

    #[tokio::test]
    async fn a_key_is_known_until_it_is_revoked_and_never_by_what_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let results = results(&folder).await;
        assert!(!any(&results).await.unwrap());
        let now = Utc::now();
        let none = Limits::default();
        let limits = Limits {
            requests_per_hour: Some(7),
            ..none
        };
        let made = create(&results, "a", &[Scope::Read], limits, now).await;
        let written = made.unwrap();
        let made = create(&results, "b", &[Scope::Submit], none, now).await;
        let other = made.unwrap();
        let key = check(&results, &written).await.unwrap().unwrap();
        assert_eq!(
            (key.tenant.as_str(), key.scopes.as_slice()),
            ("a", &[Scope::Read][..])
        );
        assert_eq!(key.limits, limits);

        let listed = list(&results).await.unwrap();
        let tenants: Vec<_> = listed.iter().map(|(_, key)| key.tenant.as_str()).collect();
        assert_eq!(tenants, ["b", "a"]);
        let (name, kept) = &listed[1];
        let secret = written.rsplit_once('_').unwrap().1;
        let stored = results.record(COLLECTION, name).await.unwrap().unwrap();
        assert!(!stored.contains(secret), "{stored}");

        let others = other.rsplit_once('_').unwrap().1;
        for wrong in [
            "",
            "sk-abc",
            secret,
            &format!("{PREFIX}_{name}_{others}"),
            &format!("{PREFIX}_{name}_{}", kept.sha256),
            &format!("{written}0"),
        ] {
            assert_eq!(check(&results, wrong).await.unwrap(), None, "{wrong}");
        }
        assert!(revoke(&results, name).await.unwrap());
        assert!(!revoke(&results, name).await.unwrap());
        assert_eq!(check(&results, &written).await.unwrap(), None);
        assert!(check(&results, &other).await.unwrap().is_some());
    }
}
