//! Sorting more than shall be in memory: sorted runs go to an unnamed temporary file and are merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What is sorted: by the first number, then by the second one, and so on.
pub(super) type Record = [u64; 5];

const RECORD_BYTES: usize = size_of::<Record>();
/// Records that are held in memory: 10 MiB.
const HELD_MAX: usize = 10 * 1024 * 1024 / RECORD_BYTES;
/// Records of a run that are read at once.
const READ_AT_ONCE: usize = 1_024;

/// Takes records in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    folder: PathBuf,
    held: Vec<Record>,
    held_max: usize,
    /// Runs one after another, each sorted.
    spilled: Option<File>,
    /// Where each run lies in the file, counted in records.
    runs: Vec<Range<usize>>,
}

impl Sorter {
    /// Spills into a file in this folder.
    pub(super) fn new(folder: &Path) -> Self {
        Self::holding(folder, HELD_MAX)
    }

    fn holding(folder: &Path, held_max: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            held: Vec::new(),
            held_max,
            spilled: None,
            runs: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, record: Record) -> io::Result<()> {
        if self.held.len() == self.held_max {
            self.spill()?;
        }
        self.held.push(record);
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.held.sort_unstable();
        let bytes: Vec<u8> = self
            .held
            .iter()
            .flatten()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let file = match &mut self.spilled {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.folder)?),
        };
        file.write_all(&bytes)?;
        let start = self.runs.last().map_or(0, |run| run.end);
        self.runs.push(start..start + self.held.len());
        self.held.clear();
        Ok(())
    }

    /// All records in order.
    pub(super) fn sorted(mut self) -> io::Result<Sorted> {
        if self.spilled.is_some() {
            self.spill()?;
        }
        self.held.sort_unstable();
        let mut sorted = Sorted {
            file: self.spilled,
            ahead: vec![self.held.into_iter()],
            left: vec![Range::default()],
            heads: BinaryHeap::new(),
        };
        for run in self.runs {
            sorted.ahead.push(Vec::new().into_iter());
            sorted.left.push(run);
        }
        for run in 0..sorted.left.len() {
            sorted.advance(run)?;
        }
        Ok(sorted)
    }
}

/// Sorted records, merged while they are read.
#[derive(Debug)]
pub(super) struct Sorted {
    file: Option<File>,
    /// Of each run, what was read already.
    ahead: Vec<std::vec::IntoIter<Record>>,
    /// Of each run, what was not.
    left: Vec<Range<usize>>,
    /// The next record of each run.
    heads: BinaryHeap<Reverse<(Record, usize)>>,
}

impl Sorted {
    /// The next record; `None` behind the last one.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        let Some(Reverse((record, run))) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(run)?;
        Ok(Some(record))
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        if self.ahead[run].len() == 0 {
            self.ahead[run] = self.read(run)?.into_iter();
        }
        if let Some(record) = self.ahead[run].next() {
            self.heads.push(Reverse((record, run)));
        }
        Ok(())
    }

    fn read(&mut self, run: usize) -> io::Result<Vec<Record>> {
        let left = &mut self.left[run];
        let count = READ_AT_ONCE.min(left.end - left.start);
        let Some(file) = self.file.as_ref().filter(|_| count > 0) else {
            return Ok(Vec::new());
        };
        let mut records = vec![Record::default(); count];
        let mut bytes = vec![0; records.len() * RECORD_BYTES];
        file.read_exact_at(&mut bytes, (left.start * RECORD_BYTES) as u64)?;
        left.start += count;
        let (numbers, _) = bytes.as_chunks();
        for (number, bytes) in records.iter_mut().flatten().zip(numbers) {
            *number = u64::from_le_bytes(*bytes);
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_whatever_is_held() {
        let folder = tempfile::tempdir().unwrap();
        // Scattered, with repetitions: 7 and 1,009 have no common factor.
        let scattered: Vec<Record> = (0..5_000).map(|i| [i * 7 % 1_009, 0, i, 0, i]).collect();
        let mut expected = scattered.clone();
        expected.sort_unstable();
        for held_max in [1_700, 4_999, 5_000, 100_000] {
            let mut sorter = Sorter::holding(folder.path(), held_max);
            for record in &scattered {
                sorter.push(*record).unwrap();
            }
            let mut merged = sorter.sorted().unwrap();
            let mut got = Vec::new();
            while let Some(record) = merged.next().unwrap() {
                got.push(record);
            }
            assert_eq!(got, expected, "{held_max} held");
        }
        let mut none = Sorter::new(folder.path()).sorted().unwrap();
        assert_eq!(none.next().unwrap(), None);
    }
}
