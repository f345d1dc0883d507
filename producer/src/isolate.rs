//! Reading in a process of its own, with bounded memory and time: a parser that loops, overflows its
//! stack or swallows memory on one hostile file must not take the other documents with it.
//!
//! The parent starts its own program again with the hidden command `read-document`; the child bounds
//! its memory and CPU time before it opens the file, writes what it reads to its standard output and,
//! when it fails, one line to its standard error.

use std::io::{self, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use lapidary_schemas::{Failure, FailureCode};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::file::{DOCUMENT_BYTES_MAX, invalid, too_large};
use crate::pdf;
use crate::text::html;

/// Bytes of address space a parser may use.
pub const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Seconds of CPU time a parser may use.
pub const CPU_S_MAX: u64 = 30;
/// Time after which a parser is stopped, whatever it does.
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
}

impl Task {
    /// As it stands on the child's command line.
    fn words(self) -> Vec<String> {
        let word = match self {
            Self::Html => "html",
            Self::PdfText => "pdf-text",
            Self::PdfPages => "pdf-pages",
            Self::PdfPage { number } => return vec!["pdf-page".to_owned(), number.to_string()],
        };
        vec![word.to_owned()]
    }
}

/// Reads a file in a child process; the failure gives the file or its page `name`, and the reason.
pub(crate) async fn read(task: Task, path: &Path, name: &str) -> Result<Vec<u8>, Failure> {
    let internal = |what: &str, error: &io::Error| {
        Failure::new(
            FailureCode::Internal,
            format!("cannot read {name}: {what}: {error}"),
        )
    };
    let child = spawn(task, path).map_err(|error| internal("no reader process", &error))?;
    let finished = match tokio::time::timeout(TIME_MAX, gather(child)).await {
        Ok(finished) => finished.map_err(|error| internal("the reader process", &error))?,
        Err(_) => {
            return Err(invalid(format!(
                "{name} took longer than {} s to read",
                TIME_MAX.as_secs()
            )));
        }
    };
    if finished.output.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(too_large(name, finished.output.len() as u64));
    }
    if !finished.status.success() {
        return Err(invalid(format!("{name} {}", finished.reason())));
    }
    Ok(finished.output)
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
    output: Vec<u8>,
    complaint: String,
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
                MEMORY_BYTES_MAX >> 20
            );
        }
        match self.status.signal() {
            Some(signal)
                if signal == rustix::process::Signal::XCPU.as_raw()
                    || signal == rustix::process::Signal::KILL.as_raw() =>
            {
                format!("took longer than {CPU_S_MAX} s of CPU time to read")
            }
            _ => "broke its reader: it is damaged, or made to do harm".to_owned(),
        }
    }
}

/// Reads all that the child writes, within limits, and waits for its end.
async fn gather(mut child: Child) -> io::Result<Finished> {
    let (mut output, mut complaint) = (Vec::new(), Vec::new());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (Some(out), Some(err)) = (out, err) else {
        return Err(io::Error::other("it has no output"));
    };
    // One byte over the limit tells that there is more.
    let mut out = out.take(DOCUMENT_BYTES_MAX + 1);
    let mut err = err.take(COMPLAINT_BYTES_MAX);
    tokio::try_join!(
        out.read_to_end(&mut output),
        err.read_to_end(&mut complaint)
    )?;
    if output.len() as u64 > DOCUMENT_BYTES_MAX {
        child.start_kill()?;
    }
    drop((out, err));
    let status = child.wait().await?;
    Ok(Finished {
        status,
        output,
        complaint: String::from_utf8_lossy(&complaint).into_owned(),
    })
}

/// The child's side: bounds itself, then reads. Returns the exit code.
pub fn serve(task: Task, path: &Path) -> u8 {
    std::panic::set_hook(Box::new(|_| ()));
    match bound_this_process()
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
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let pdf = |error: pdf::PdfError| error.to_string();
    let write = |error: io::Error| error.to_string();
    match task {
        Task::Html => out.write_all(html::text(&bytes)?.as_bytes()).map_err(write),
        Task::PdfText => pdf::write_text(bytes, &mut out).map_err(pdf),
        Task::PdfPages => write!(out, "{}", pdf::pages(bytes).map_err(pdf)?).map_err(write),
        Task::PdfPage { number } => {
            let picture = pdf::draw(bytes, number).map_err(pdf)?;
            out.write_all(&picture).map_err(write)
        }
    }?;
    out.flush().map_err(write)
}

/// Limits that the kernel keeps, whatever the parser does.
fn bound_this_process() -> io::Result<()> {
    let at_most = |limit| Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(Resource::As, at_most(MEMORY_BYTES_MAX))?;
    setrlimit(Resource::Cpu, at_most(CPU_S_MAX))?;
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
        ] {
            let start = ["lapidary", "read-document", "--path", "-odd name"].map(str::to_owned);
            let cli = Cli::try_parse_from(start.into_iter().chain(task.words())).unwrap();
            let Command::ReadDocument(told) = cli.command else {
                panic!("another command");
            };
            assert_eq!((told.task, told.path), (task, "-odd name".into()));
        }
    }
}
