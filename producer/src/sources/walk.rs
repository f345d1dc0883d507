//! Walking a root: entries one at a time, in the file system's own order, so that a folder of a
//! million files needs no memory. Hidden files and folders are passed over; links are followed.

use std::path::{Path, PathBuf};

use lapidary_schemas::{Failure, FailureCode};
use walkdir::{DirEntry, WalkDir};

use super::found::{At, Entry, Found, Take};
use super::kind::Kind;
use super::{Root, list};
use crate::file::unreadable;

/// Finds everything below a root; says whether to go on.
pub(super) fn visit(root: &Root, take: Take<'_>) -> bool {
    match root {
        Root::File(path) => take(Entry::Document(Found::file(path))),
        Root::Address(url) => take(Entry::Document(Found {
            name: url.clone(),
            at: At::Address(url.clone()),
        })),
        Root::List(list) => list::visit(list, take),
        Root::Folder(path) => below(path)
            .filter_map(|step| entry(step, |_| true))
            .all(take),
        Root::Pattern { base, matcher } => {
            let here = base.as_os_str().is_empty();
            let start = if here { Path::new(".") } else { base };
            let wanted = |path: &Path| matcher.is_match(if here { strip_dot(path) } else { path });
            below(start)
                .filter_map(|step| entry(step, wanted))
                .all(take)
        }
    }
}

fn below(folder: &Path) -> impl Iterator<Item = walkdir::Result<DirEntry>> {
    WalkDir::new(folder)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry))
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

/// What to make of a walk's step; folders themselves are nothing.
fn entry(step: walkdir::Result<DirEntry>, wanted: impl Fn(&Path) -> bool) -> Option<Entry> {
    match step {
        Ok(entry) if entry.file_type().is_dir() || !wanted(entry.path()) => None,
        Ok(entry) if Kind::of(entry.path()).is_some() && entry.file_type().is_file() => {
            Some(Entry::Document(Found::file(strip_dot(entry.path()))))
        }
        Ok(_) => Some(Entry::Other),
        // A link back to a folder above: what it leads to is being walked already.
        Err(error) if error.loop_ancestor().is_some() => None,
        Err(error) => {
            let path = error.path().map_or_else(PathBuf::new, Path::to_owned);
            // A link that leads nowhere counts only if its name says that it was a document.
            let missing = error
                .io_error()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound);
            if missing && (Kind::of(&path).is_none() || !wanted(&path)) {
                return None;
            }
            let name = strip_dot(&path).to_string_lossy().into_owned();
            let failure = match error.io_error() {
                Some(io) => unreadable(&name, io),
                None => Failure::new(FailureCode::MediaUnreachable, error.to_string()),
            };
            Some(Entry::Unreadable(name, failure))
        }
    }
}

/// A path below the current folder, as the user would write it.
fn strip_dot(path: &Path) -> &Path {
    path.strip_prefix("./").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "a.txt",
            "sub/b.md",
            "sub/deep/c.PDF",
            "sub/d.png",
            "sub/g.zip",
            ".hidden/e.txt",
            "sub/.f.txt",
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("sub/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("gone.txt")).unwrap();
        folder
    }

    fn entries(root: &Root) -> Vec<Entry> {
        let mut entries = Vec::new();
        assert!(visit(root, &mut |entry| {
            entries.push(entry);
            true
        }));
        entries
    }

    fn names(folder: &tempfile::TempDir, root: &str) -> (Vec<String>, usize) {
        let root = Root::parse(&folder.path().join(root)).unwrap();
        let mut names = Vec::new();
        let mut others = 0;
        for entry in entries(&root) {
            let (Entry::Document(Found { name, .. }) | Entry::Unreadable(name, _)) = entry else {
                others += 1;
                continue;
            };
            let below = Path::new(&name).strip_prefix(folder.path()).unwrap();
            names.push(below.display().to_string());
        }
        names.sort();
        (names, others)
    }

    #[test]
    fn a_folder_is_walked_without_hidden_files_and_loops() {
        let folder = tree();
        assert_eq!(
            names(&folder, ""),
            (
                [
                    "a.txt",
                    "gone.txt",
                    "sub/b.md",
                    "sub/d.png",
                    "sub/deep/c.PDF"
                ]
                .map(String::from)
                .to_vec(),
                1
            )
        );
    }

    #[test]
    fn a_pattern_picks() {
        let folder = tree();
        assert_eq!(names(&folder, "sub/*.md"), (vec!["sub/b.md".to_owned()], 0));
        assert_eq!(
            names(&folder, "**/*.{md,PDF}").0,
            ["sub/b.md", "sub/deep/c.PDF"]
        );
    }

    #[test]
    fn a_link_that_leads_nowhere_is_reported() {
        let folder = tree();
        let root = Root::parse(folder.path()).unwrap();
        let failure = entries(&root).into_iter().find_map(|entry| match entry {
            Entry::Unreadable(name, failure) => Some((name, failure.message)),
            _ => None,
        });
        let name = folder.path().join("gone.txt").display().to_string();
        assert_eq!(
            failure,
            Some((
                name.clone(),
                format!("cannot read {name}: it does not exist")
            ))
        );
    }
}
