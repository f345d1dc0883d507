//! What a repository holds at one commit, as the hub tells it.

use serde::Deserialize;

use super::error::HubError;

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Its path in the repository.
    pub(super) name: String,
    /// Its bytes.
    pub(super) size: u64,
    /// What its content is kept under in a cache: the hash of it that the hub itself goes by.
    pub(super) blob: String,
    /// Whether that hash is a SHA-256, as of all large files.
    pub(super) hashed: bool,
}

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    /// The commit.
    pub(super) commit: String,
    /// All its files.
    pub(super) files: Vec<RemoteFile>,
}

/// `GET /api/models/ORG/NAME/revision/REVISION?blobs=true`, as far as it matters here.
#[derive(Deserialize)]
struct ModelAnswer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    size: u64,
    sha256: String,
}

impl Listing {
    /// Reads the hub's answer. Hashes become names of files, so they are looked at closely.
    pub(super) fn parse(repo: &str, json: &[u8]) -> Result<Self, HubError> {
        let malformed = |message: String| HubError::Malformed {
            repo: repo.to_owned(),
            message,
        };
        let answer: ModelAnswer =
            serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
        if !is_commit(&answer.sha) {
            return Err(malformed(format!("`{}` is no commit", answer.sha)));
        }
        let files = answer.siblings.into_iter().map(|sibling| {
            let Sibling {
                name,
                size,
                blob_id,
                lfs,
            } = sibling;
            let (size, blob, hashed) = match lfs {
                Some(Large { size, sha256 }) => (Some(size), Some(sha256), true),
                None => (size, blob_id, false),
            };
            let digits = if hashed { 64 } else { 40 };
            match (size, blob) {
                (Some(size), Some(blob)) if is_hex(&blob, digits) => Ok(RemoteFile {
                    name,
                    size,
                    blob,
                    hashed,
                }),
                _ => Err(malformed(format!("`{name}` has no size or no hash"))),
            }
        });
        Ok(Self {
            commit: answer.sha,
            files: files.collect::<Result<_, _>>()?,
        })
    }
}

/// Whether this names one commit for ever, and not a branch or a tag.
pub(super) fn is_commit(revision: &str) -> bool {
    is_hex(revision, 40)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_a_path_is_a_hash() {
        let commit = "0".repeat(40);
        let answer = |sha: &str, blob: &str| {
            let file = format!(r#"{{"rfilename": "config.json", "size": 3, "blobId": "{blob}"}}"#);
            Listing::parse(
                "a/b",
                format!(r#"{{"sha": "{sha}", "siblings": [{file}]}}"#).as_bytes(),
            )
        };
        let listing = answer(&commit, &"a".repeat(40)).unwrap();
        assert_eq!((listing.files.len(), listing.files[0].size), (1, 3));
        for (sha, blob) in [
            ("../../x", "a".repeat(40)),
            (commit.as_str(), "../x".to_owned()),
            (commit.as_str(), "a".repeat(64)),
            (commit.as_str(), String::new()),
        ] {
            let error = answer(sha, &blob).unwrap_err().to_string();
            assert!(
                error.starts_with("the answer about `a/b` is not understood"),
                "{error}"
            );
        }
    }
}
