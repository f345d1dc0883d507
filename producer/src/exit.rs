//! How a command ends: its exit code, and what it says when it cannot go on.

use lapidary_transport::OpenError;
use lapidary_transport::media::MediaError;
use lapidary_transport::queue::QueueError;
use lapidary_transport::results::ResultsError;

use crate::dead::ReplayError;
use crate::rows::OutputError;
use crate::sources::RootError;
use crate::submission::SubmitError;

/// Exit codes, as `lapidary --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Well,
    /// Something failed.
    Failed,
    /// The command line cannot be understood, or names what does not exist.
    Usage,
    /// Queue, results or media cannot be reached, or no worker serves the model.
    Unavailable,
    /// Interrupted by the user.
    Interrupted,
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Well => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 3,
            Exit::Interrupted => 130,
        }
    }
}

/// Why a command cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Stop {
    /// Its exit code.
    pub exit: Exit,
    /// What is wrong: the thing, the value, the limit.
    pub message: String,
    /// What the user can do.
    pub hint: Option<String>,
    /// Whether the same may work in a moment.
    pub transient: bool,
}

impl Stop {
    /// A stop without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
            transient: false,
        }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ResultsError> for Stop {
    fn from(error: ResultsError) -> Self {
        let (exit, transient) = match error {
            ResultsError::Unreachable { .. } => (Exit::Unavailable, true),
            ResultsError::Unusable { .. } => (Exit::Unavailable, false),
            ResultsError::NoSuchBatch { .. } => (Exit::Usage, false),
            ResultsError::Conflict { .. } | ResultsError::StorageFull { .. } => {
                (Exit::Failed, false)
            }
        };
        Self {
            transient,
            ..Self::new(exit, error.to_string())
        }
    }
}

impl From<QueueError> for Stop {
    fn from(error: QueueError) -> Self {
        let (exit, transient) = match error {
            QueueError::Unreachable { .. } | QueueError::Full { .. } => (Exit::Unavailable, true),
            QueueError::Unusable { .. } => (Exit::Unavailable, false),
            _ => (Exit::Failed, false),
        };
        Self {
            transient,
            ..Self::new(exit, error.to_string())
        }
    }
}

impl From<MediaError> for Stop {
    fn from(error: MediaError) -> Self {
        let (exit, transient) = match error {
            MediaError::Unreachable { .. } => (Exit::Unavailable, true),
            MediaError::Unusable { .. } => (Exit::Unavailable, false),
            _ => (Exit::Failed, false),
        };
        Self {
            transient,
            ..Self::new(exit, error.to_string())
        }
    }
}

impl From<SubmitError> for Stop {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Results(error) => error.into(),
            SubmitError::Media(error) => error.into(),
            SubmitError::Read { .. } | SubmitError::Encode(_) => {
                Self::new(Exit::Failed, error.to_string())
            }
        }
    }
}

impl From<ReplayError> for Stop {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Unknown(_) => Self::usage(error.to_string()),
            ReplayError::Unreadable(_) | ReplayError::Encode(_) => {
                Self::new(Exit::Failed, error.to_string())
            }
            ReplayError::Results(error) => error.into(),
            ReplayError::Queue(error) => error.into(),
            ReplayError::Media(error) => error.into(),
        }
    }
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Queue(error) => error.into(),
            OpenError::Results(error) => error.into(),
            OpenError::Media(error) => error.into(),
            OpenError::Missing { what, .. } => {
                Self::usage(error.to_string()).hint(format!("name them with --{what}"))
            }
        }
    }
}

impl From<OutputError> for Stop {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::Refused(message) => Self::usage(message)
                .hint("name another --out, or replace the file with --overwrite"),
            OutputError::Write { .. } => Self::new(Exit::Failed, error.to_string()),
        }
    }
}

impl From<RootError> for Stop {
    fn from(error: RootError) -> Self {
        Self::usage(error.to_string())
    }
}

/// Standard output is a pipe that nobody reads any more, or a full disk.
impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::new(
            Exit::Failed,
            format!("cannot write to standard output: {error}"),
        )
    }
}
