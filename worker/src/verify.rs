//! `lapidary-worker verify`: whether a model's files are what was downloaded.
//!
//! The cache of the Hugging Face hub names the content of large files by its SHA-256. For others none is
//! known: theirs is printed, to be compared with what their publisher says.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::cli::VerifyArgs;
use crate::config::hub_options;
use crate::hex::hex;
use crate::model::ModelRef;

/// Bytes read at once.
const PIECE_BYTES: usize = 1 << 20;
/// Files of a model.
const FILES_MAX: usize = 1_000;

/// Prints a line a file; fails if one is damaged.
pub fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let model = ModelRef::parse(&args.model);
    let mut out = io::stdout().lock();
    let Some(path) = model.downloaded(&hub_options(&args.hub))? else {
        writeln!(out, "good     `{model}` is part of this program")?;
        return Ok(());
    };
    let mut damaged = 0_u32;
    for file in files(&path)? {
        let name = file.display();
        let is = digest(&file).with_context(|| format!("cannot read {name}"))?;
        let mark = match expected(&file) {
            None => "unknown",
            Some(expected) if expected == is => "good   ",
            Some(_) => {
                damaged += 1;
                "damaged"
            }
        };
        writeln!(out, "{mark}  {is}  {name}")?;
    }
    if damaged > 0 {
        bail!("{damaged} files are damaged: delete them, and they are downloaded again");
    }
    Ok(())
}

/// The files of a model: itself, or those of its folder.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = path
        .read_dir()
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.path();
        if file.is_file() {
            files.push(file);
        }
        if files.len() > FILES_MAX {
            bail!("{} has over {FILES_MAX} files", path.display());
        }
    }
    files.sort();
    Ok(files)
}

/// The SHA-256 that a file's content must have, where its name in the cache says it.
fn expected(file: &Path) -> Option<String> {
    let content = file.canonicalize().ok()?;
    let folder = content.parent()?.file_name()?;
    let name = content.file_name()?.to_str()?;
    let is_hash = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    (folder == "blobs" && is_hash).then(|| name.to_ascii_lowercase())
}

fn digest(file: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (File::open(file)?, Sha256::new());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&piece[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn verified(model: &Path) -> anyhow::Result<()> {
        let line = ["lapidary-worker", "verify", "--model"];
        let line = line.iter().map(std::convert::AsRef::as_ref);
        let cli = Cli::try_parse_from(line.chain([model.as_os_str()])).unwrap();
        match cli.command {
            Command::Verify(args) => verify(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn damage_is_found_where_the_cache_names_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let (blobs, snapshot) = (folder.path().join("blobs"), folder.path().join("snapshot"));
        for made in [&blobs, &snapshot] {
            std::fs::create_dir(made).unwrap();
        }
        let blob = blobs.join(hex(&Sha256::digest(b"weights")));
        std::fs::write(&blob, "weights").unwrap();
        std::os::unix::fs::symlink(&blob, snapshot.join("model.safetensors")).unwrap();
        std::fs::write(snapshot.join("config.json"), "{}").unwrap();
        verified(&snapshot).unwrap();
        verified(&snapshot.join("model.safetensors")).unwrap();
        std::fs::write(&blob, "weighty").unwrap();
        let said = verified(&snapshot).unwrap_err().to_string();
        assert!(said.starts_with("1 files are damaged"), "{said}");
        assert!(verified(Path::new("demonstration")).is_ok());
        assert!(verified(&folder.path().join("nowhere")).is_err());
    }
}
