//! One row a name: of several rows the last one stands, because it is the outcome of the latest
//! attempt.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;

use serde::Deserialize;

use super::atomic;
use crate::digest::short;

/// The part of a row that matters here.
#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Rewrites the file with the last row of each name; the file is the old or the new one, whole.
pub(super) fn keep_last(path: &Path) -> io::Result<()> {
    let mut last: HashMap<u128, u64> = HashMap::new();
    each_line(path, |index, line| {
        last.insert(name_of(line)?, index);
        Ok(())
    })?;
    atomic::replace(path, |out| {
        each_line(path, |index, line| {
            if last.get(&name_of(line)?) == Some(&index) {
                out.write_all(line)?;
            }
            Ok(())
        })
    })
}

fn name_of(line: &[u8]) -> io::Result<u128> {
    let named: Named = serde_json::from_slice(line)?;
    Ok(short(named.name.as_bytes()))
}

/// Every line with its end, and its place.
pub(super) fn each_line(
    path: &Path,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut lines = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    for index in 0.. {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        take(index, &line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_of_a_name_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(
            &path,
            "{\"name\":\"a\",\"n\":1}\n{\"name\":\"b\",\"n\":2}\n{\"name\":\"a\",\"n\":3}\n",
        )
        .unwrap();
        keep_last(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"name\":\"b\",\"n\":2}\n{\"name\":\"a\",\"n\":3}\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
