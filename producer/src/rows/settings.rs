//! The settings that rows were made with, kept beside them: `FILE.run.json` beside `FILE`.
//!
//! Rows of different settings in one file could not be told apart later, so a file is continued
//! under its own settings only. The rows themselves stay free of headers.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the file beside the rows.
const VERSION: u32 = 1;

/// Settings by the name of their option.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Settings(BTreeMap<String, Value>);

/// What stands in `FILE.run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// Names the run in the metadata of its batches.
    pub(super) run: String,
    /// What must be the same to continue.
    pub(super) settings: Settings,
}

impl Settings {
    /// Adds a setting; `None` is one that was not given.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// The first setting that differs: its name, its value here and there.
    pub(super) fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let names = self.0.keys().chain(other.0.keys());
        let shown = |value: Option<&Value>| match value {
            None | Some(Value::Null) => "not given".to_owned(),
            Some(value) => value.to_string(),
        };
        names
            .map(|name| (name, self.0.get(name), other.0.get(name)))
            .find(|(_, here, there)| here != there)
            .map(|(name, here, there)| (name.clone(), shown(here), shown(there)))
    }
}

impl Record {
    pub(super) fn new(run: String, settings: Settings) -> Self {
        Self {
            version: VERSION,
            run,
            settings,
        }
    }

    /// Where the record of a file of rows is.
    pub(super) fn path(rows: &Path) -> PathBuf {
        let mut path = rows.as_os_str().to_owned();
        path.push(".run.json");
        path.into()
    }

    /// The record beside a file of rows; `None` if there is none that this build understands.
    pub(super) fn read(rows: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(Self::path(rows)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)
                .ok()
                .filter(|record: &Self| record.version == VERSION)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&self, rows: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(Self::path(rows), text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let old = Settings::default()
            .with("--seed", Value::Null)
            .with("--temperature", 0.5);
        let new = old.clone().with("--seed", 7);
        assert_eq!(old.difference(&old), None);
        assert_eq!(
            old.difference(&new),
            Some(("--seed".into(), "not given".into(), "7".into()))
        );
    }
}
