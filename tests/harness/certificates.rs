//! A certificate authority of the test's own, and a server's certificate that it signed.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::write;

const PACKAGE: &str = "openssl";
/// The only name that the server's certificate is for.
const HOST: &str = "localhost";

/// Files in PEM, in a temporary folder.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes them, for the host `localhost` and no other.
    ///
    /// # Panics
    /// If `openssl` is not installed or fails.
    #[track_caller]
    pub fn new() -> Self {
        let made = Self {
            folder: TempDir::new().expect("no temporary folder"),
        };
        let path = made.folder.path();
        write(
            &path.join("server.ext"),
            &format!("subjectAltName=DNS:{HOST}\nextendedKeyUsage=serverAuth\n"),
        );
        let new_key = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for command in [
            format!("{new_key} -x509 -days 2 -subj /CN=tests -keyout ca.key -out ca.pem"),
            format!("{new_key} -subj /CN={HOST} -keyout server.key -out server.csr"),
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile server.ext -out server.pem"
                .to_owned(),
        ] {
            openssl(path, &command);
        }
        made
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The server's certificate.
    pub fn server(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    /// The server's key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

#[track_caller]
fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new(PACKAGE);
    command
        .args(arguments.split_whitespace())
        .current_dir(folder);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("apt-get install {PACKAGE}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {said}");
}
