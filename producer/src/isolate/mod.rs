//! Reading in a process of its own, with bounded memory and time: a parser that loops, overflows its
//! stack or swallows memory on one hostile file must not take the other documents with it.
//!
//! The parent starts its own program again with the hidden command `read-document`; the child bounds
//! its memory and CPU time before it opens the file, writes what it reads to its standard output and,
//! when it fails, one line to its standard error. What it reads is taken as a whole or, where it is many
//! things, one at a time: then the child waits in the pipe until somebody wants the next one.

pub mod frames;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use lapidary_schemas::{Failure, FailureCode};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::file::{DOCUMENT_BYTES_MAX, invalid, too_large};
use crate::text::html;
use crate::{pdf, table};
use frames::Frame;

/// Bytes of address space a parser may use; one of tables, of whose pages a whole one is held as it is and unpacked,
/// may use more.
pub const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// See [`MEMORY_BYTES_MAX`].
pub const TABLE_MEMORY_BYTES_MAX: u64 = 2 << 30;
/// Seconds of CPU time a parser may use; one of pictures in a table more, by the table's size.
pub const CPU_S_MAX: u64 = 30;
/// Bytes of a table for which there is another second of CPU time: what any processor reads in one, many
/// times over.
pub const TABLE_BYTES_A_CPU_S: u64 = 10_000_000;
/// Time after which a parser is stopped that is waited for, whatever it does. Where it reads many things,
/// each has this time, and none runs while nobody wants the next one.
pub const TIME_MAX: Duration = Duration::from_mins(2);
/// Bytes of a child's complaint that are read.
const COMPLAINT_BYTES_MAX: u64 = 4096;
/// Exit code of a child that says itself what is wrong with the document.
const EXIT_INVALID: u8 = 65;

/// What is read of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Task {
    /// The text of an HTML page.
    Html,
    /// The text of all pages of a PDF.
    PdfText,
    /// How many pages a PDF has, in digits.
    PdfPages,
    /// One page of a PDF as a JPEG file.
    PdfPage {
        /// Counted from 1.
        number: usize,
    },
    /// The pictures of a table, a frame a row.
    Table,
    /// How many rows a table has, in digits.
    TableRows,
}

impl Task {
    /// As it stands on the child's command line.
    fn words(self) -> Vec<String> {
        let word = match self {
            Self::Html => "html",
            Self::PdfText => "pdf-text",
            Self::PdfPages => "pdf-pages",
            Self::PdfPage { number } => return vec!["pdf-page".to_owned(), number.to_string()],
            Self::Table => "table",
            Self::TableRows => "table-rows",
        };
        vec![word.to_owned()]
    }

    /// What it may use for this file.
    fn bounds(self, path: &Path) -> Bounds {
        let file_bytes = match self {
            Self::Table => fs::metadata(path).map_or(0, |about| about.len()),
            _ => 0,
        };
        Bounds {
            memory_bytes: match self {
                Self::Table | Self::TableRows => TABLE_MEMORY_BYTES_MAX,
                _ => MEMORY_BYTES_MAX,
            },
            cpu_s: CPU_S_MAX + file_bytes / TABLE_BYTES_A_CPU_S,
        }
    }
}

/// What a child may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    /// Of address space.
    memory_bytes: u64,
    /// Of CPU time.
    cpu_s: u64,
}

/// Reads a file in a child process; the failure gives the file or its page `name`, and the reason.
pub(crate) async fn read(task: Task, path: &Path, name: &str) -> Result<Vec<u8>, Failure> {
    let mut reading = Reading::start(task, path, name)?;
    match timeout(TIME_MAX, reading.all()).await {
        Ok(all) => all,
        Err(_) => Err(too_slow(name)),
    }
}

/// A file that a child process reads; the child ends with this.
#[derive(Debug)]
pub(crate) struct Reading {
    name: String,
    bounds: Bounds,
    child: Child,
    out: BufReader<ChildStdout>,
    err: ChildStderr,
}

impl Reading {
    /// Starts the child; failures will give the file this name.
    pub(crate) fn start(task: Task, path: &Path, name: &str) -> Result<Self, Failure> {
        let internal = |error| internal(name, "no reader process", &error);
        let mut child = spawn(task, path).map_err(internal)?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(internal(io::Error::other("it has no output")));
        };
        Ok(Self {
            name: name.to_owned(),
            bounds: task.bounds(path),
            child,
            out: BufReader::new(out),
            err,
        })
    }

    /// The next of many things; `None` behind the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, Failure> {
        match timeout(TIME_MAX, self.frame()).await {
            Ok(frame) => frame,
            Err(_) => Err(too_slow(&self.name)),
        }
    }

    async fn frame(&mut self) -> Result<Option<Frame>, Failure> {
        let broken_off = match frames::read(&mut self.out).await {
            Ok(Some(frame)) => return Ok(Some(frame)),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        // The child's own end says more than where it left off.
        self.end().await?;
        match broken_off {
            None => Ok(None),
            Some(error) => Err(internal(&self.name, "the reader process", &error)),
        }
    }

    /// Everything that the child writes, within limits.
    async fn all(&mut self) -> Result<Vec<u8>, Failure> {
        let mut output = Vec::new();
        // One byte over the limit tells that there is more.
        let mut out = (&mut self.out).take(DOCUMENT_BYTES_MAX + 1);
        out.read_to_end(&mut output)
            .await
            .map_err(|error| internal(&self.name, "the reader process", &error))?;
        if output.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(too_large(&self.name, output.len() as u64));
        }
        self.end().await?;
        Ok(output)
    }

    /// Waits for the child's end, which is an error unless it did what it should.
    async fn end(&mut self) -> Result<(), Failure> {
        let mut complaint = Vec::new();
        let mut err = (&mut self.err).take(COMPLAINT_BYTES_MAX);
        let status = match err.read_to_end(&mut complaint).await {
            Ok(_) => self.child.wait().await,
            Err(error) => Err(error),
        };
        let finished = Finished {
            status: status.map_err(|error| internal(&self.name, "the reader process", &error))?,
            complaint: String::from_utf8_lossy(&complaint).into_owned(),
            bounds: self.bounds,
        };
        if !finished.status.success() {
            return Err(invalid(format!("{} {}", self.name, finished.reason())));
        }
        Ok(())
    }
}

fn internal(name: &str, what: &str, error: &io::Error) -> Failure {
    let message = format!("cannot read {name}: {what}: {error}");
    Failure::new(FailureCode::Internal, message)
}

fn too_slow(name: &str) -> Failure {
    invalid(format!(
        "{name} took longer than {} s to read",
        TIME_MAX.as_secs()
    ))
}

fn spawn(task: Task, path: &Path) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["read-document", "--path"])
        .arg(path)
        .args(task.words())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is the parent's business: it stops its children itself.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// What a child left behind.
struct Finished {
    status: ExitStatus,
    complaint: String,
    bounds: Bounds,
}

impl Finished {
    /// Why the child failed; continues a sentence that begins with the file's name.
    fn reason(&self) -> String {
        use std::os::unix::process::ExitStatusExt;
        if self.status.code() == Some(i32::from(EXIT_INVALID)) {
            return self.complaint.trim().to_owned();
        }
        if self.complaint.contains("memory allocation") {
            return format!(
                "needs more than {} MiB of memory to be read",
                self.bounds.memory_bytes >> 20
            );
        }
        match self.status.signal() {
            Some(signal)
                if signal == rustix::process::Signal::XCPU.as_raw()
                    || signal == rustix::process::Signal::KILL.as_raw() =>
            {
                format!(
                    "took longer than {} s of CPU time to read",
                    self.bounds.cpu_s
                )
            }
            _ => "broke its reader: it is damaged, or made to do harm".to_owned(),
        }
    }
}

/// The child's side: bounds itself, then reads. Returns the exit code.
pub fn serve(task: Task, path: &Path) -> u8 {
    std::panic::set_hook(Box::new(|_| ()));
    match bound_this_process(task.bounds(path))
        .map_err(|error| error.to_string())
        .and_then(|()| parse(task, path))
    {
        Ok(()) => 0,
        Err(reason) => {
            // Nobody is left to tell when this fails.
            let _ = writeln!(io::stderr(), "{reason}");
            EXIT_INVALID
        }
    }
}

fn parse(task: Task, path: &Path) -> Result<(), String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let all = || fs::read(path).map_err(unreadable);
    let open = || File::open(path).map_err(unreadable);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let pdf = |error: pdf::PdfError| error.to_string();
    let table = |error: table::TableError| error.to_string();
    let write = |error: io::Error| error.to_string();
    match task {
        Task::Html => out
            .write_all(html::text(&all()?)?.as_bytes())
            .map_err(write),
        Task::PdfText => pdf::write_text(all()?, &mut out).map_err(pdf),
        Task::PdfPages => write!(out, "{}", pdf::pages(all()?).map_err(pdf)?).map_err(write),
        Task::PdfPage { number } => {
            let picture = pdf::draw(all()?, number).map_err(pdf)?;
            out.write_all(&picture).map_err(write)
        }
        Task::Table => table::write_pictures(open()?, &mut out).map_err(table),
        Task::TableRows => write!(out, "{}", table::rows(open()?).map_err(table)?).map_err(write),
    }?;
    out.flush().map_err(write)
}

/// Limits that the kernel keeps, whatever the parser does.
fn bound_this_process(bounds: Bounds) -> io::Result<()> {
    let at_most = |limit| Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(Resource::As, at_most(bounds.memory_bytes))?;
    setrlimit(Resource::Cpu, at_most(bounds.cpu_s))?;
    setrlimit(Resource::Core, at_most(0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn the_child_understands_what_it_is_told() {
        for task in [
            Task::Html,
            Task::PdfText,
            Task::PdfPages,
            Task::PdfPage { number: 7 },
            Task::Table,
            Task::TableRows,
        ] {
            let start = ["lapidary", "read-document", "--path", "-odd name"].map(str::to_owned);
            let cli = Cli::try_parse_from(start.into_iter().chain(task.words())).unwrap();
            let Command::ReadDocument(told) = cli.command else {
                panic!("another command");
            };
            assert_eq!((told.task, told.path), (task, "-odd name".into()));
        }
    }

    #[test]
    fn a_large_table_has_more_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(7 * TABLE_BYTES_A_CPU_S).unwrap();
        let cpu_s = |task: Task, path: &Path| task.bounds(path).cpu_s;
        assert_eq!(cpu_s(Task::Table, file.path()), CPU_S_MAX + 7);
        assert_eq!(cpu_s(Task::TableRows, file.path()), CPU_S_MAX);
        assert_eq!(cpu_s(Task::Table, Path::new("/nowhere")), CPU_S_MAX);
    }
}
