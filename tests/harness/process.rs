//! Programs that a test starts, and that end with it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Lines a program may be ahead of who reads them.
const LINES_MAX: usize = 1_024;
/// Lines that a failure shows.
const LINES_SHOWN: usize = 30;
/// Becomes the program it is given, beside a guard that kills the whole group once the test's end of
/// the guard's pipe is closed: however the test ends, it leaves no servers behind.
const GUARDED: &str = r#"
exec 3<&0 < /dev/null
{ read -r _ <&3; kill -KILL 0; } > /dev/null 2>&1 &
exec 3<&-
exec "$@"
"#;
/// What a shell answers for a program it cannot find.
const NOT_FOUND: i32 = 127;

/// A program in a process group of its own, killed with all its children when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    // Apart from the child, whose `wait` would close it.
    _guard: Option<ChildStdin>,
    name: String,
    package: String,
    lines: Receiver<String>,
}

impl Program {
    /// Starts `command`, its arguments, environment and folder, with its output read by line.
    /// `package` is the Debian package that holds it, for the message where it is missing.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start(command: &mut Command, package: &str) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = match guarded(command).spawn() {
            Ok(child) => child,
            Err(error) => panic!("`{name}` does not start: {error}"),
        };
        let (sender, lines) = sync_channel(LINES_MAX);
        let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as _),
            child.stderr.take().map(|err| Box::new(err) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // Once nobody reads any more the lines are dropped: the pipe must not fill up.
                    let _ = sender.try_send(line);
                }
            });
        }
        Self {
            _guard: child.stdin.take(),
            child,
            name,
            package: package.to_owned(),
            lines,
        }
    }

    /// Waits until the program prints a line with `mark` in it.
    ///
    /// # Panics
    /// If it ends first or does not print it in time; shows its last lines.
    #[track_caller]
    pub fn wait_for(&mut self, mark: &str, within: Duration) {
        let until = Instant::now() + within;
        let mut last = VecDeque::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(mark) => return,
                Ok(line) => keep(&mut last, line),
                Err(end) => {
                    let end = match end {
                        RecvTimeoutError::Timeout => format!("did not say `{mark}` in {within:?}"),
                        RecvTimeoutError::Disconnected => "ended".to_owned(),
                    };
                    if let Ok(Some(status)) = self.child.try_wait()
                        && status.code() == Some(NOT_FOUND)
                    {
                        let package = &self.package;
                        panic!(
                            "`{}` is not installed: apt-get install {package}",
                            self.name
                        );
                    }
                    panic!("`{}` {end}{}", self.name, shown(last));
                }
            }
        }
    }

    /// Waits until the program ends by itself, and says how it did.
    ///
    /// # Panics
    /// If it does not end in time; shows its last lines.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        let mut last = VecDeque::new();
        // Its output ends with it.
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => keep(&mut last, line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("`{}` did not end in {within:?}{}", self.name, shown(last));
                }
            }
        }
        self.child.wait().expect("a child can be waited for")
    }

    /// Asks it to end and waits for that; what it has printed since it was last waited for.
    pub fn stop_and_read(&mut self) -> Vec<String> {
        self.stop();
        // Its output ends with it.
        self.lines.iter().collect()
    }

    /// Waits until the program stands still, which it must be about to: by a signal of its own.
    ///
    /// # Panics
    /// If it ends instead.
    #[track_caller]
    pub fn wait_stopped(&self) {
        let id = i32::try_from(self.child.id()).map(Pid::from_raw);
        let waited = id.map(|id| waitpid(id, Some(WaitPidFlag::WUNTRACED)));
        let stopped = matches!(waited, Ok(Ok(WaitStatus::Stopped(..))));
        assert!(stopped, "`{}` did not stop: {waited:?}", self.name);
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the program and its children.
    pub fn signal(&self, signal: Signal) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }

    /// Asks it to end and waits for that.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let _ = self.child.wait();
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    /// A test that fails shows what its programs said last.
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let mut last = VecDeque::new();
            self.lines.try_iter().for_each(|line| keep(&mut last, line));
            eprintln!("`{}` ended with the test{}", self.name, shown(last));
        }
    }
}

/// Remembers the last lines.
fn keep(last: &mut VecDeque<String>, line: String) {
    last.push_back(line);
    if last.len() > LINES_SHOWN {
        last.pop_front();
    }
}

fn shown(last: VecDeque<String>) -> String {
    let said: Vec<String> = last.into();
    format!("; its last lines:\n{}", said.join("\n"))
}

/// The same command behind its guard, in a process group of its own. The guard's pipe is the child's
/// standard input, and closes with the last of this process.
fn guarded(command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", GUARDED, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// A port on which nobody listens.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("no free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

/// A file with this text.
pub(crate) fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = File::create(path).expect("cannot make a file in a temporary folder");
    file.write_all(text.as_bytes())
        .expect("cannot write a file in a temporary folder");
}
