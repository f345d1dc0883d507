//! One row a name, in the order of the documents: of several rows the last one stands, because it is
//! the outcome of the latest attempt.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::atomic;
use super::sort::Sorter;
use crate::digest::short;

/// The part of a row that matters here.
#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Where documents stand among all. The memory it takes is bounded; the rest is in an unnamed file
/// beside the rows.
#[derive(Debug)]
pub(super) struct Order {
    folder: PathBuf,
    /// Places and rows by name; of a name, places come first, then rows as they follow each other.
    by_name: Sorter,
}

/// Third number of a record of a place; those of rows are greater.
const PLACE: u64 = 0;

impl Order {
    /// Of the documents of the rows at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        Self {
            by_name: Sorter::new(&folder),
            folder,
        }
    }

    /// A document stands at this place.
    pub(super) fn place(&mut self, name: &str, [entry, inside]: [u64; 2]) -> io::Result<()> {
        let [high, low] = name_of(name);
        self.by_name.push([high, low, PLACE, entry, inside])
    }

    /// Rewrites the rows with the last one of each name, in the order of the places; names without one
    /// follow in the order of their rows. The file is the old or the new one, whole.
    pub(super) fn apply(mut self, path: &Path) -> io::Result<()> {
        let mut start = 0;
        each_line(path, |line| {
            let named: Named = serde_json::from_slice(line)?;
            let [high, low] = name_of(&named.name);
            let length = line.len() as u64;
            let row = [high, low, PLACE + 1 + start, length, 0];
            start += length;
            self.by_name.push(row)
        })?;
        let mut by_place = Sorter::new(&self.folder);
        let mut by_name = self.by_name.sorted()?;
        let mut next = by_name.next()?;
        while let Some(first) = next {
            let (mut place, mut row) = ([u64::MAX; 2], None);
            while let Some([.., kind, x, y]) = next.filter(|record| record[..2] == first[..2]) {
                match kind {
                    PLACE => place = place.min([x, y]),
                    row_start => row = Some([row_start - PLACE - 1, x]),
                }
                next = by_name.next()?;
            }
            if let Some([start, length]) = row {
                by_place.push([place[0], place[1], start, length, 0])?;
            }
        }
        let rows = File::open(path)?;
        let mut by_place = by_place.sorted()?;
        atomic::replace(path, |out| {
            let mut line = Vec::new();
            while let Some([_, _, start, length, _]) = by_place.next()? {
                line.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
                rows.read_exact_at(&mut line, start)?;
                out.write_all(&line)?;
            }
            Ok(())
        })
    }
}

fn name_of(name: &str) -> [u64; 2] {
    let name = short(name.as_bytes()).to_be_bytes();
    let (halves, _) = name.as_chunks();
    std::array::from_fn(|half| u64::from_be_bytes(halves[half]))
}

/// Every line with its end.
pub(super) fn each_line(
    path: &Path,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut lines = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        take(&line)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_of_a_name_stands_where_its_document_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let row = |name: &str, n: u32| format!("{{\"name\":\"{name}\",\"n\":{n}}}\n");
        let rows = [
            row("gone", 0),
            row("a", 1),
            row("c#2", 2),
            row("older", 3),
            row("b", 4),
            row("c#1", 5),
            row("a", 6),
        ];
        std::fs::write(&path, rows.concat()).unwrap();
        let mut order = Order::beside(&path);
        let places = [
            ("c#2", [2, 2]),
            ("b", [1, 0]),
            ("a", [0, 0]),
            ("c#1", [2, 1]),
            ("has no row", [3, 0]),
        ];
        for (name, place) in places {
            order.place(name, place).unwrap();
        }
        order.apply(&path).unwrap();
        let expected = [
            row("a", 6),
            row("b", 4),
            row("c#1", 5),
            row("c#2", 2),
            row("gone", 0),
            row("older", 3),
        ];
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected.concat());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
