//! Lists of documents: standard input or a file, a line each.
//!
//! A line is a path or an address, or a JSON object that holds one as `image` or `path`, or several
//! that are shown together as `images`, and perhaps the name of its row as `name` or `id`. Paths are
//! those of the folder the command runs in.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use lapidary_schemas::limits::IMAGES_PER_MESSAGE_MAX;
use lapidary_schemas::{Failure, FailureCode};
use serde::Deserialize;

use super::found::{At, Entry, Found, Take};
use crate::file::unreadable;

/// Bytes a line may have.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Where a list is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List {
    /// Standard input, which can be read once.
    StandardInput,
    /// A file.
    File(PathBuf),
}

impl List {
    /// What it is called.
    fn name(&self) -> String {
        match self {
            Self::StandardInput => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    fn open(&self) -> io::Result<Box<dyn BufRead>> {
        match self {
            Self::StandardInput => Ok(Box::new(io::stdin().lock())),
            Self::File(path) => Ok(Box::new(BufReader::new(File::open(path)?))),
        }
    }
}

/// Finds what a list names, line by line; says whether to go on.
pub(super) fn visit(list: &List, take: Take<'_>) -> bool {
    let name = list.name();
    let unreadable = |error: &io::Error| Entry::Unreadable(name.clone(), unreadable(&name, error));
    let mut lines = match list.open() {
        Ok(lines) => lines,
        Err(error) => return take(unreadable(&error)),
    };
    let mut line = Vec::new();
    for number in 1_u64.. {
        match next_line(&mut lines, &mut line) {
            Ok(Some(whole)) => {
                let read = if whole {
                    read_line(&line)
                } else {
                    Err(format!("it is over {LINE_BYTES_MAX} bytes"))
                };
                let entry = match read {
                    Ok(None) => continue,
                    Ok(Some(found)) => Entry::Document(found),
                    Err(reason) => bad_line(&name, number, &reason),
                };
                if !take(entry) {
                    return false;
                }
            }
            Ok(None) => break,
            Err(error) => return take(unreadable(&error)),
        }
    }
    true
}

/// The next line without its end, and whether it is whole; what is too long is skipped.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let limit = LINE_BYTES_MAX + 1;
    if lines.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    let whole = line.last() == Some(&b'\n') || (line.len() as u64) < limit;
    if !whole {
        lines.skip_until(b'\n')?;
    }
    Ok(Some(whole))
}

/// A line that names a document.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "path")]
    image: Option<String>,
    images: Option<Vec<String>>,
    #[serde(alias = "id")]
    name: Option<Name>,
}

impl Line {
    /// What it names, as it is written.
    fn written(self) -> Result<Vec<String>, String> {
        let written = match (self.image, self.images) {
            (Some(image), None) => vec![image],
            (None, Some(images)) => images,
            (None, None) => return Err("it has neither `image` nor `images`".to_owned()),
            (Some(_), Some(_)) => return Err("it has both `image` and `images`".to_owned()),
        };
        if written.is_empty() || written.len() > IMAGES_PER_MESSAGE_MAX {
            return Err(format!(
                "its `images` are {}, it may have 1 to {IMAGES_PER_MESSAGE_MAX}",
                written.len()
            ));
        }
        if written.iter().any(String::is_empty) {
            return Err("its path is empty".to_owned());
        }
        Ok(written)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Number(serde_json::Number),
}

/// What a line names; `None` if it is empty.
fn read_line(line: &[u8]) -> Result<Option<Found>, String> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    if line.first() != Some(&b'{') {
        return Ok(Some(match std::str::from_utf8(line) {
            Ok(text) => Found {
                name: text.to_owned(),
                at: At::written(text),
            },
            Err(_) => Found::file(Path::new(OsStr::from_bytes(line))),
        }));
    }
    let mut line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let name = line.name.take().map(|name| match name {
        Name::Text(text) => text,
        Name::Number(number) => number.to_string(),
    });
    let mut places: Vec<At> = line
        .written()?
        .iter()
        .map(|path| At::written(path))
        .collect();
    let at = match places.pop() {
        Some(one) if places.is_empty() => one,
        last => At::Together(places.into_iter().chain(last).collect()),
    };
    Ok(Some(Found {
        name: name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| at.shown()),
        at,
    }))
}

fn bad_line(list: &str, number: u64, reason: &str) -> Entry {
    Entry::Unreadable(
        format!("{list}:{number}"),
        Failure::new(
            FailureCode::ValidationError,
            format!("line {number} of {list} names no document: {reason}"),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::fs::write(&path, text).unwrap();
        let mut entries = Vec::new();
        assert!(visit(&List::File(path.clone()), &mut |entry| {
            entries.push(match entry {
                Entry::Document(found) => format!("{} at {}", found.name, found.at.shown()),
                Entry::Unreadable(_, failure) => failure.message,
                Entry::Other => panic!("every line counts"),
            });
            true
        }));
        let list = path.display().to_string();
        entries
            .iter()
            .map(|entry| entry.replace(&list, "list"))
            .collect()
    }

    #[test]
    fn paths_addresses_and_objects() {
        let text = concat!(
            "a b.png\r\n\n  https://example.org/c.png\n",
            r#"{"image": "d.png", "other": [1]}"#,
            "\n",
            r#"{"path": "e.txt", "id": 7}"#,
            "\n",
            r#"{"image": "http://example.org/f", "name": "eff"}"#,
            "\n",
            r#"{"images": ["g.png", "http://example.org/h"]}"#,
            "\n",
            r#"{"images": ["i.png"], "id": "i"}"#,
        );
        assert_eq!(
            entries(text),
            [
                "a b.png at a b.png",
                "https://example.org/c.png at https://example.org/c.png",
                "d.png at d.png",
                "7 at e.txt",
                "eff at http://example.org/f",
                "g.png, http://example.org/h at g.png, http://example.org/h",
                "i at i.png",
            ]
        );
    }

    #[test]
    fn bad_lines_are_named_and_harm_no_others() {
        let text = format!(
            "{{\"id\": 1}}\n{}\nb.png\n{{\"image\":\n{{\"images\":[]}}\n",
            "x".repeat(100_000)
        );
        insta::assert_snapshot!(entries(&text).join("\n"), @r"
        line 1 of list names no document: it has neither `image` nor `images`
        line 2 of list names no document: it is over 65536 bytes
        b.png at b.png
        line 4 of list names no document: EOF while parsing a value at line 1 column 9
        line 5 of list names no document: its `images` are 0, it may have 1 to 16
        ");
    }
}
