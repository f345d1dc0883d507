//! Notices when another process is gone.

use std::io;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::oneshot;

/// Waits until the process is gone; at once if it is not there.
///
/// The kernel tells (a process descriptor becomes readable when its process ends), so a number that
/// is used again later is no mistake. A thread of its own waits for that, and ends with the program.
pub async fn gone(pid: i32) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(());
    };
    let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(descriptor) => descriptor,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let (ended, end) = oneshot::channel();
    let wait = move || {
        let mut waited = [PollFd::new(&descriptor, PollFlags::IN)];
        let result = loop {
            match poll(&mut waited, None) {
                Err(Errno::INTR) => {}
                result => break result,
            }
        };
        // Nobody waits any more when the worker stopped for another reason.
        let _ = ended.send(result);
    };
    std::thread::Builder::new()
        .name("parent-watch".to_owned())
        .spawn(wait)?;
    match end.await {
        Ok(result) => result.map(|_| ()).map_err(io::Error::from),
        Err(_) => Err(io::Error::other("the thread that watches the parent ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_is_gone_when_it_ended() {
        let mut child = tokio::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        let watched = gone(pid);
        tokio::pin!(watched);
        assert!(futures::poll!(&mut watched).is_pending());
        drop(child.stdin.take());
        watched.await.unwrap();
        child.wait().await.unwrap();
        gone(pid).await.unwrap();
    }
}
