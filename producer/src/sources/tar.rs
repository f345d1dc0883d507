//! Pictures inside tar files, such as the shards of a webdataset. Only the heads of the members are
//! read here; a member is a stretch of the archive, which is read like a file.
//!
//! Members that are no pictures (captions, classes, JSON of the same stem) are passed over.

use std::fs::File;
use std::io;
use std::path::Path;

use tar::{Archive, Entry as Member};

use super::found::{At, Entry, Found, Take};
use super::kind::Kind;
use crate::file::{check_size, invalid, unreadable};

/// Finds the pictures of an archive; says whether to go on.
pub(super) fn visit(path: &Path, name: &str, take: Take<'_>) -> bool {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (bytes, file) = match opened {
        Ok(opened) => opened,
        Err(error) => return take(unreadable_archive(name, &error)),
    };
    // Of a file without bytes the reader says that it has no members.
    if let Err(failure) = check_size(bytes.min(1), name) {
        return take(Entry::Unreadable(name.to_owned(), failure));
    }
    let mut archive = Archive::new(file);
    let members = match archive.entries_with_seek() {
        Ok(members) => members,
        Err(error) => return take(unreadable_archive(name, &error)),
    };
    for (number, member) in members.enumerate() {
        let entry = match member.and_then(|member| entry(path, name, &member)) {
            Ok(entry) => entry,
            Err(error) => {
                let message = format!("{name} is damaged behind {number} members: {error}");
                return take(Entry::Unreadable(name.to_owned(), invalid(message)));
            }
        };
        if !take(entry) {
            return false;
        }
    }
    true
}

fn entry(archive: &Path, name: &str, member: &Member<'_, File>) -> io::Result<Entry> {
    let path = member.path()?;
    let hidden = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let picture = Kind::of(&path) == Some(Kind::Picture);
    if hidden || !picture || !member.header().entry_type().is_file() {
        return Ok(Entry::Other);
    }
    let start = member.raw_file_position();
    Ok(Entry::Document(Found {
        name: format!("{name}/{}", path.display()),
        at: At::Member {
            archive: archive.to_owned(),
            stretch: start..start.saturating_add(member.size()),
        },
    }))
}

fn unreadable_archive(name: &str, error: &io::Error) -> Entry {
    Entry::Unreadable(name.to_owned(), unreadable(name, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(path: &Path) -> (Vec<String>, usize) {
        let (mut found, mut others) = (Vec::new(), 0);
        assert!(visit(path, "s.tar", &mut |entry| {
            match entry {
                Entry::Document(Found {
                    name,
                    at: At::Member { stretch, .. },
                }) => {
                    let bytes = std::fs::read(path).unwrap();
                    let [start, end] = [stretch.start, stretch.end];
                    let content =
                        &bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
                    found.push(format!("{name}: {}", String::from_utf8_lossy(content)));
                }
                Entry::Unreadable(name, failure) => found.push(format!("{name}: {failure}")),
                Entry::Document(found) => panic!("no member: {found:?}"),
                Entry::Other => others += 1,
            }
            true
        }));
        (found, others)
    }

    fn archive(path: &Path) {
        let mut archive = tar::Builder::new(File::create(path).unwrap());
        let long = format!("{}/b.png", "deep".repeat(50));
        for name in ["a.jpg", "a.txt", "a.json", ".c.png", long.as_str()] {
            let mut header = tar::Header::new_gnu();
            header.set_size(name.len() as u64);
            archive
                .append_data(&mut header, name, name.as_bytes())
                .unwrap();
        }
        archive.finish().unwrap();
    }

    #[test]
    fn pictures_are_found_by_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.tar");
        archive(&path);
        let long = format!("{}/b.png", "deep".repeat(50));
        let found = vec![
            "s.tar/a.jpg: a.jpg".to_owned(),
            format!("s.tar/{long}: {long}"),
        ];
        assert_eq!(entries(&path), (found, 3));
    }

    #[test]
    fn damage_is_named_and_what_stood_before_it_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.tar");
        archive(&path);
        let mut bytes = std::fs::read(&path).unwrap();
        // The second member's head.
        bytes[1024..1536].fill(b'x');
        std::fs::write(&path, bytes).unwrap();
        let (found, others) = entries(&path);
        assert_eq!((found.len(), others), (2, 0));
        assert_eq!(found[0], "s.tar/a.jpg: a.jpg");
        assert!(
            found[1].starts_with("s.tar: MEDIA_INVALID: s.tar is damaged behind 1 members: "),
            "{}",
            found[1]
        );
        std::fs::write(&path, "").unwrap();
        assert_eq!(entries(&path).0, ["s.tar: MEDIA_INVALID: s.tar is empty"]);
    }
}
