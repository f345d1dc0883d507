//! The cache that Hugging Face's Python library keeps, so that what one has downloaded is there for
//! the other: `models--ORG--NAME/` with `blobs/HASH`, `refs/REVISION` and `snapshots/COMMIT/` full of
//! links to blobs; locks in `.locks/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lapidary_schemas::hub::RepoRef;
use serde::Deserialize;

use super::error::HubError;
use super::listing::{RemoteFile, is_commit};
use super::select::{self, Chosen, INDEX};
use super::{Fetched, revision_of};

/// Bytes of a file in `refs`.
const REF_BYTES_MAX: u64 = 256;
/// Bytes of an index of weights.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// The part of the cache that one repository has.
#[derive(Debug)]
pub(super) struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

/// The shape of the index of weights that are in several files.
#[derive(Deserialize)]
struct WeightIndex {
    weight_map: BTreeMap<String, String>,
}

/// An error of the file system, with what was to be done.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HubError {
    let path = path.to_owned();
    move |source| HubError::Cache { what, path, source }
}

impl RepoCache {
    /// Nothing is made yet.
    pub(super) fn new(cache: &Path, repo: &str) -> Self {
        let name = format!("models--{}", repo.replace('/', "--"));
        Self {
            folder: cache.join(&name),
            locks: cache.join(".locks").join(name),
        }
    }

    /// Makes the folders that a download needs.
    pub(super) fn make(&self) -> Result<(), HubError> {
        for folder in [self.folder.join("blobs"), self.locks.clone()] {
            fs::create_dir_all(&folder).map_err(failed("make the folder", &folder))?;
        }
        Ok(())
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a file's content is.
    pub(super) fn blob(&self, file: &RemoteFile) -> PathBuf {
        self.folder.join("blobs").join(&file.blob)
    }

    /// Where its content is while not all of it is there.
    pub(super) fn incomplete(&self, file: &RemoteFile) -> PathBuf {
        let blob = format!("{}.incomplete", file.blob);
        self.folder.join("blobs").join(blob)
    }

    /// What is locked while a file is being downloaded.
    pub(super) fn lock(&self, file: &RemoteFile) -> PathBuf {
        self.locks.join(format!("{}.lock", file.blob))
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Whether a file need not be downloaded. Where there are no links, a snapshot holds the content
    /// itself.
    pub(super) fn has(&self, commit: &str, file: &RemoteFile) -> bool {
        let whole = |path: PathBuf| fs::metadata(path).is_ok_and(|found| found.len() == file.size);
        whole(self.snapshot(commit).join(&file.name)) || whole(self.blob(file))
    }

    /// Puts a downloaded file where a commit's snapshot has it.
    pub(super) fn link(&self, commit: &str, file: &RemoteFile) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(&file.name);
        if fs::metadata(&link).is_ok_and(|found| found.len() == file.size) {
            return Ok(());
        }
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
        }
        // Up to the repository's folder: out of the file's folders, of the commit's and of `snapshots`.
        let up = "../".repeat(file.name.split('/').count() + 1);
        let target = format!("{up}blobs/{}", file.blob);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace", &link)(error));
            }
            _ => (),
        }
        match std::os::unix::fs::symlink(&target, &link) {
            // Another worker was as fast.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked.map_err(failed("link", &link)),
        }
    }

    /// Remembers which commit a revision is.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision)
            || self
                .remembered(revision)
                .is_some_and(|known| known == commit)
        {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
        }
        fs::write(&path, commit).map_err(failed("write", &path))
    }

    /// The commit that a revision was when it was last asked for.
    fn remembered(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let path = self.folder.join("refs").join(revision);
        let small = fs::metadata(&path).is_ok_and(|found| found.len() <= REF_BYTES_MAX);
        let commit = small.then(|| fs::read_to_string(&path).ok()).flatten()?;
        let commit = commit.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// The model as it is here already; else what is missing.
    pub(super) fn find(&self, wanted: &RepoRef, with_mmproj: bool) -> Result<Fetched, String> {
        let revision = revision_of(wanted);
        let Some(commit) = self.remembered(revision) else {
            return Err(format!("it was never downloaded at `{revision}`"));
        };
        let snapshot = self.snapshot(&commit);
        let names = names(&snapshot, wanted.file.as_deref())
            .map_err(|error| format!("`{}`: {error}", snapshot.display()))?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let chosen =
            select::choose(wanted, with_mmproj, &names).map_err(|error| error.to_string())?;
        if wanted.file.is_none()
            && let Some(missing) = missing_weights(&snapshot, &names)?
        {
            return Err(format!("`{missing}` is missing"));
        }
        Ok(self.fetched(&commit, wanted, &chosen))
    }

    /// Where the parts of a model are.
    pub(super) fn fetched(&self, commit: &str, wanted: &RepoRef, chosen: &Chosen) -> Fetched {
        let snapshot = self.snapshot(commit);
        Fetched {
            mmproj: chosen.mmproj.as_ref().map(|name| snapshot.join(name)),
            path: match &wanted.file {
                Some(file) => snapshot.join(file),
                None => snapshot,
            },
        }
    }
}

/// The files in a snapshot's folder, or in that of one of its files; only those whose content is there.
fn names(snapshot: &Path, file: Option<&str>) -> io::Result<Vec<String>> {
    let inside = file
        .and_then(|file| file.rsplit_once('/'))
        .map_or("", |(folder, _)| folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(snapshot.join(inside))? {
        let entry = entry?;
        if entry.path().is_file()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(if inside.is_empty() {
                name
            } else {
                format!("{inside}/{name}")
            });
        }
    }
    names.sort();
    Ok(names)
}

/// A file of weights that the snapshot's index names and that is not there.
fn missing_weights(snapshot: &Path, names: &[&str]) -> Result<Option<String>, String> {
    if !names.contains(&INDEX) {
        return Ok(None);
    }
    let path = snapshot.join(INDEX);
    let read = || -> io::Result<WeightIndex> {
        if fs::metadata(&path)?.len() > INDEX_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(serde_json::from_slice(&fs::read(&path)?)?)
    };
    let index = read().map_err(|error| format!("`{}`: {error}", path.display()))?;
    let mut weights = index.weight_map.into_values();
    Ok(weights.find(|name| !names.contains(&name.as_str())))
}
