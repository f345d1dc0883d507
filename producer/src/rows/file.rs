//! The file of rows: appended to while a run goes on, so that a crash loses at most a torn last
//! line, and put in order at its end.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::compact::Order;
use super::settings::Record;
use super::{Format, LeftOut, Place, Row, Settings, export};
use crate::digest::short;

/// Why rows cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is a file that this run may not touch; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The file cannot be opened, read or written.
    #[error("cannot write {file}: {source}; {rows} rows were written")]
    Write {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
        /// Rows this run has written before.
        rows: u64,
    },
}

/// Where rows go, and in what shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The file; `-`: standard output.
    pub path: PathBuf,
    /// The shape of the file.
    pub format: Format,
    /// Whether captions stand beside their pictures as well.
    pub sidecar: bool,
    /// Whether what is there may be replaced.
    pub overwrite: bool,
}

/// Where rows go.
#[derive(Debug)]
pub struct Output {
    sink: Sink,
    target: Target,
    /// As the user named it.
    name: String,
    /// Rows this run has written.
    rows: u64,
    /// Names the run; the same when it is continued.
    run: String,
}

#[derive(Debug)]
enum Sink {
    /// Standard output, a pipe or a device: rows only go by.
    Stream(Box<dyn WriteAndDebug>),
    /// A regular file, which can be continued.
    Kept(Kept),
}

trait WriteAndDebug: io::Write + Send + std::fmt::Debug {}
impl<T: io::Write + Send + std::fmt::Debug> WriteAndDebug for T {}

#[derive(Debug)]
struct Kept {
    file: File,
    path: PathBuf,
    /// Bytes of whole rows.
    length: u64,
    /// For each name in the file, the key under which it is done; `None` if it failed.
    known: HashMap<u128, Option<u128>>,
    /// Where documents stand among all.
    order: Order,
    /// Whether rows may have another order, or a name more than one.
    unordered: bool,
}

impl Output {
    /// Opens where rows go. An existing file is continued if its rows were made with the same
    /// settings, and refused otherwise, unless it may be overwritten.
    pub fn open(target: Target, settings: Settings) -> Result<Self, OutputError> {
        if target.path == Path::new("-") {
            let sink = Sink::Stream(Box::new(io::stdout()));
            return Self::stream(sink, "standard output".to_owned(), target);
        }
        let path = target.format.rows(&target.path);
        let name = path.display().to_string();
        if target.path.exists() && !path.exists() && !target.overwrite {
            return Err(OutputError::Refused(format!(
                "{} exists and {name}, which it would be made of, does not",
                target.path.display()
            )));
        }
        let path = path.as_path();
        let failed = |source| OutputError::Write {
            file: name.clone(),
            source,
            rows: 0,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let stream = std::fs::metadata(path).is_ok_and(|about| !about.is_file());
        let file = if stream {
            OpenOptions::new().write(true).open(path)
        } else {
            options.open(path)
        };
        let file = file.map_err(failed)?;
        if stream {
            return Self::stream(Sink::Stream(Box::new(file)), name, target);
        }
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                return Err(OutputError::Refused(format!(
                    "{name} is being written by another run"
                )));
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let record = Record::read(path).map_err(failed)?;
        // The name stays with the file, whatever becomes of its rows: by it the batches are found that
        // a start left open which was killed.
        let run = record
            .as_ref()
            .map_or_else(new_run, |record| record.run.clone());
        let empty = target.overwrite || file.metadata().map_err(failed)?.len() == 0;
        let mut kept = Kept {
            file,
            path: path.to_owned(),
            length: 0,
            known: HashMap::new(),
            order: Order::beside(path),
            unordered: false,
        };
        if empty {
            kept.file.set_len(0).map_err(failed)?;
            Record::new(run.clone(), settings)
                .write(path)
                .map_err(failed)?;
        } else {
            may_be_continued(path, &name, record, &settings)?;
            kept.load(&name)?;
        }
        Ok(Self {
            sink: Sink::Kept(kept),
            target,
            name,
            rows: 0,
            run,
        })
    }

    /// Rows that go by leave nothing to make other shapes of.
    fn stream(sink: Sink, name: String, target: Target) -> Result<Self, OutputError> {
        if target.format != Format::Jsonl || target.sidecar {
            return Err(OutputError::Refused(format!(
                "{name} takes JSON lines only, and none of them can be read again"
            )));
        }
        Ok(Self {
            sink,
            target,
            name,
            rows: 0,
            run: new_run(),
        })
    }

    /// Names the run; the same when it is continued.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Rows this run has written.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether another start finds what this one has done.
    pub fn can_be_continued(&self) -> bool {
        matches!(self.sink, Sink::Kept(_))
    }

    /// Whether a document has its row already, made of the same content.
    pub fn is_done(&self, name: &str, key: &str) -> bool {
        match &self.sink {
            Sink::Stream(_) => false,
            Sink::Kept(kept) => {
                kept.known.get(&short(name.as_bytes())) == Some(&Some(short(key.as_bytes())))
            }
        }
    }

    /// A document of this name stands at this place among all.
    pub fn place(&mut self, name: &str, place: Place) -> Result<(), OutputError> {
        let placed = match &mut self.sink {
            Sink::Stream(_) => Ok(()),
            Sink::Kept(kept) => kept.order.place(name, place),
        };
        placed.map_err(|source| self.failed(source))
    }

    /// Writes a row; it is whole or not there.
    pub fn write(&mut self, row: &Row) -> Result<(), OutputError> {
        let mut line = serde_json::to_vec(row).map_err(|error| self.failed(error.into()))?;
        line.push(b'\n');
        let written = match &mut self.sink {
            Sink::Stream(out) => out.write_all(&line).and_then(|()| out.flush()),
            Sink::Kept(kept) => kept.append(&line),
        };
        written.map_err(|source| self.failed(source))?;
        self.rows += 1;
        Ok(())
    }

    /// Leaves one row a name, the last one, in the order of the documents, makes everything durable,
    /// and makes other shapes of it.
    pub fn finish(&mut self) -> Result<LeftOut, OutputError> {
        let finished = match &mut self.sink {
            Sink::Stream(out) => out.flush().map(|()| LeftOut::default()),
            Sink::Kept(kept) => kept.finish(&self.target),
        };
        finished.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> OutputError {
        OutputError::Write {
            file: self.name.clone(),
            source,
            rows: self.rows,
        }
    }
}

fn new_run() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Refuses a file with rows that were made otherwise, or nobody knows how.
fn may_be_continued(
    path: &Path,
    name: &str,
    record: Option<Record>,
    settings: &Settings,
) -> Result<(), OutputError> {
    let Some(record) = record else {
        return Err(OutputError::Refused(format!(
            "{name} exists and {} does not say how it was made, so it cannot be continued",
            Record::path(path).display()
        )));
    };
    match record.settings.difference(settings) {
        None => Ok(()),
        Some((setting, then, now)) => Err(OutputError::Refused(format!(
            "{name} was made with other settings, so it cannot be continued: \
             {setting} was {then}, now it is {now}"
        ))),
    }
}

impl Kept {
    /// Reads what is there, and cuts a torn last line off.
    fn load(&mut self, name: &str) -> Result<(), OutputError> {
        let failed = |source| OutputError::Write {
            file: name.to_owned(),
            source,
            rows: 0,
        };
        let mut lines = BufReader::new(&self.file);
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let bytes = lines.read_until(b'\n', &mut line).map_err(failed)? as u64;
            if bytes == 0 || line.last() != Some(&b'\n') {
                break;
            }
            let row: Row = serde_json::from_slice(&line).map_err(|error| {
                OutputError::Refused(format!(
                    "{name} line {number} is no row of captions: {error}"
                ))
            })?;
            self.length += bytes;
            let key = row.key.as_ref().filter(|_| row.is_done());
            let key = key.map(|key| short(key.as_bytes()));
            let before = self.known.insert(short(row.name.as_bytes()), key);
            self.unordered |= before.is_some();
        }
        self.file.set_len(self.length).map_err(failed)?;
        self.file
            .seek(SeekFrom::Start(self.length))
            .map_err(failed)?;
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(line) {
            // What was written of the line goes again, so that only whole rows stay. Should this
            // fail too, the next start cuts the torn line off.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += line.len() as u64;
        self.unordered = true;
        Ok(())
    }

    fn finish(&mut self, target: &Target) -> io::Result<LeftOut> {
        self.file.sync_all()?;
        let mut left_out = LeftOut::default();
        // Before earlier rows go: they tell which sidecars are ours.
        if target.sidecar {
            left_out = export::write_sidecars(&self.path, target.overwrite)?;
        }
        if std::mem::take(&mut self.unordered) {
            let order = std::mem::replace(&mut self.order, Order::beside(&self.path));
            order.apply(&self.path)?;
        }
        left_out.elsewhere = target.format.export(&self.path, &target.path)?;
        Ok(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::result::Usage;
    use lapidary_schemas::{Failure, FailureCode, Status};

    fn row(name: &str, key: &str) -> Row {
        Row {
            name: name.to_owned(),
            text: Some("caption".to_owned()),
            status: Status::Succeeded,
            same_as: None,
            finish_reason: None,
            parts: 1,
            truncated: false,
            usage: Usage::default(),
            seed: None,
            failure: None,
            key: Some(key.to_owned()),
        }
    }

    fn settings() -> Settings {
        Settings::default().with("--temperature", 0.5)
    }

    fn target(path: &Path) -> Target {
        Target {
            path: path.to_owned(),
            format: Format::of(path),
            sidecar: false,
            overwrite: false,
        }
    }

    fn open(path: &Path) -> Result<Output, OutputError> {
        Output::open(target(path), settings())
    }

    fn names(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Row>(line).unwrap().name)
            .collect()
    }

    #[test]
    fn a_run_is_continued_by_name_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let mut output = open(&path).unwrap();
        let run = output.run().to_owned();
        output.write(&row("a", "ka")).unwrap();
        let failure = Failure::new(FailureCode::WorkerLost, "lost");
        output
            .write(&Row::refused("b".to_owned(), failure))
            .unwrap();
        drop(output);
        // A crash in the middle of a line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"name\":\"c\",\"te").unwrap();
        drop(file);

        let mut output = open(&path).unwrap();
        assert_eq!(output.run(), run);
        assert!(output.is_done("a", "ka"));
        assert!(!output.is_done("a", "other content"));
        assert!(!output.is_done("b", "kb"));
        assert!(!output.is_done("c", "kc"));
        for (index, name) in ["c", "a", "b"].iter().enumerate() {
            output.place(name, [index as u64, 0]).unwrap();
        }
        output.write(&row("b", "kb")).unwrap();
        output.write(&row("c", "kc")).unwrap();
        output.finish().unwrap();
        assert_eq!(names(&path), ["c", "a", "b"]);
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .lines()
                .all(|line| line.contains("caption"))
        );
    }

    #[test]
    fn another_runs_file_is_refused_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        open(&path).unwrap().write(&row("a", "ka")).unwrap();
        let other = Settings::default().with("--temperature", 0);
        let refused = Output::open(target(&path), other.clone())
            .unwrap_err()
            .to_string();
        assert!(
            refused.ends_with("--temperature was 0.5, now it is 0"),
            "{refused}"
        );
        assert_eq!(names(&path), ["a"]);
        let overwrite = Target {
            overwrite: true,
            ..target(&path)
        };
        Output::open(overwrite, other).unwrap();
        assert_eq!(names(&path), [""; 0]);
    }

    #[test]
    fn a_run_without_rows_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let run = open(&path).unwrap().run().to_owned();
        assert_eq!(open(&path).unwrap().run(), run);
        let other = Settings::default().with("--temperature", 0);
        let mut output = Output::open(target(&path), other.clone()).unwrap();
        assert_eq!(output.run(), run);
        output.write(&row("a", "ka")).unwrap();
        drop(output);
        // It is of the other settings now.
        assert!(open(&path).is_err());
        assert!(
            Output::open(target(&path), other)
                .unwrap()
                .is_done("a", "ka")
        );
    }

    #[test]
    fn a_foreign_file_is_refused_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        std::fs::write(&path, "precious\n").unwrap();
        let refused = open(&path).unwrap_err().to_string();
        assert!(
            refused.contains("does not say how it was made"),
            "{refused}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious\n");
    }

    #[test]
    fn two_runs_do_not_write_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let _first = open(&path).unwrap();
        let refused = open(&path).unwrap_err().to_string();
        assert!(
            refused.ends_with("is being written by another run"),
            "{refused}"
        );
    }

    #[test]
    fn a_full_disk_is_named() {
        let mut output = open(Path::new("/dev/full")).unwrap();
        assert!(!output.can_be_continued());
        assert_eq!(
            output.write(&row("a", "k")).unwrap_err().to_string(),
            "cannot write /dev/full: No space left on device (os error 28); 0 rows were written"
        );
    }
}
