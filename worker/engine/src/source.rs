//! Where a model's files are: on disk, or in this program.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// A file of a model that is part of the program.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedFile {
    /// Its name in a model's folder, such as `config.json`.
    pub name: &'static str,
    /// Its contents.
    pub bytes: &'static [u8],
}

/// Where a model's files are.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A GGUF file, or a folder with `config.json` and safetensors.
    Path(PathBuf),
    /// The files of such a folder, with the weights in one `model.safetensors`.
    Embedded(&'static [EmbeddedFile]),
}

impl From<&Path> for ModelSource {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<&PathBuf> for ModelSource {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<&'static [EmbeddedFile]> for ModelSource {
    fn from(files: &'static [EmbeddedFile]) -> Self {
        Self::Embedded(files)
    }
}

impl std::fmt::Display for ModelSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Embedded(_) => f.write_str("embedded"),
        }
    }
}

impl ModelSource {
    /// A file of the folder; `None` if there is none of this name.
    pub(crate) fn read(&self, name: &str) -> std::io::Result<Option<Cow<'static, [u8]>>> {
        match self {
            Self::Path(folder) => match std::fs::read(folder.join(name)) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Self::Embedded(_) => Ok(self.embedded(name).map(Cow::Borrowed)),
        }
    }

    /// A file that is part of the program.
    pub(crate) fn embedded(&self, name: &str) -> Option<&'static [u8]> {
        let Self::Embedded(files) = self else {
            return None;
        };
        let file = files.iter().find(|file| file.name == name)?;
        Some(file.bytes)
    }

    /// What a file of the folder is called in messages.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        match self {
            Self::Path(folder) => folder.join(name),
            Self::Embedded(_) => Path::new("embedded").join(name),
        }
    }
}
