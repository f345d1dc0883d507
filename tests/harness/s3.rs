//! A private server that speaks as S3 does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::http;
use crate::process::{Program, free_port};

const BUCKET: &str = "lapidary";
/// Longest start on a busy machine.
const START_MAX: Duration = Duration::from_mins(1);

/// The programs of the tests' own Python.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/clients/bin")
}

/// A server with one bucket, on a free port, that keeps it in memory.
#[derive(Debug)]
pub struct S3 {
    _server: Program,
    port: u16,
}

impl S3 {
    /// Starts one and makes its bucket.
    ///
    /// # Panics
    /// If it is not installed (see `tests/setup`) or does not start.
    #[track_caller]
    pub fn start() -> Self {
        let port = free_port();
        let mut command = Command::new(clients().join("moto_server"));
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        let mut server = Program::start(&mut command, "moto");
        server.wait_for("Running on http", START_MAX);
        let s3 = Self {
            _server: server,
            port,
        };
        let made = http::put(port, &format!("/{BUCKET}"), b"");
        let (status, said) = made.expect("S3 is away");
        assert_eq!(status, 200, "{said}");
        s3
    }

    /// The name of its bucket.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// The variables that lead there.
    pub fn variables(&self) -> [(String, String); 5] {
        [
            (
                "AWS_ENDPOINT_URL",
                &*format!("http://127.0.0.1:{}", self.port),
            ),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "tests"),
            ("AWS_SECRET_ACCESS_KEY", "tests"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    /// Writes an object of the bucket, as another client does.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) {
        let script = "import boto3, sys; boto3.client('s3').put_object(Bucket=sys.argv[1], \
                      Key=sys.argv[2], Body=sys.argv[3].encode())";
        let mut client = Command::new(clients().join("python"));
        client.args(["-c", script, BUCKET, name, text]);
        let output = client.envs(self.variables()).output();
        let output = output.expect("no Python");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
    }
}
