//! Running the program in a folder of its own.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lapidary_producer::rows::Row;

/// A folder with documents and a store.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
}

/// What a run said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("lapidary.db")
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The program, about to run in the folder on its store.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lapidary"));
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("XDG_CONFIG_HOME", self.path("config"))
            .args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.command(args).output().unwrap().into()
    }

    /// `caption` with the model that the fake worker serves.
    pub(crate) fn caption(&self, args: &[&str]) -> Said {
        self.caption_of("", args)
    }

    /// The same with something on its standard input.
    pub(crate) fn caption_of(&self, input: &str, args: &[&str]) -> Said {
        let mut all = vec![
            "caption",
            "--store",
            "lapidary.db",
            "--model",
            super::fake_worker::MODEL,
        ];
        all.extend(args);
        let mut child = self
            .command(&all)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap().into()
    }

    /// Rows by name; every name once.
    pub(crate) fn rows(&self, file: &str) -> BTreeMap<String, Row> {
        rows(&self.path(file))
    }
}

pub(crate) fn rows(file: &Path) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for row in in_order(file) {
        let name = row.name.clone();
        assert!(
            rows.insert(name.clone(), row).is_none(),
            "{name} has two rows"
        );
    }
    rows
}

/// Rows as they stand in the file.
pub(crate) fn in_order(file: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// Everything, for a snapshot.
    pub(crate) fn whole(&self) -> String {
        let code = self
            .code
            .map_or("signal".to_owned(), |code| code.to_string());
        format!(
            "exit code: {code}\n----- stdout -----\n{}----- stderr -----\n{}",
            self.out, self.err
        )
    }
}
