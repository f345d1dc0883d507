//! What the targets share: files for parsers that open them, panics that the product itself takes for
//! an answer, documents as `lapidary caption` reads them, and models as a worker loads them.
#![feature(alloc_error_hook)]

mod documents;
pub mod memory;
mod models;

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, OnceLock, PoisonError};
use std::thread::current;

pub use documents::documents;
pub use models::{answers, model_with, tiny_model};

/// A file of this repository.
pub fn below_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// A folder for files of this process. A fuzzer ends without cleaning up: `run` removes the folder that
/// they are all in.
fn scratch() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder").keep())
}

/// The bytes as a file of this name, which is there until the next one of the name is written.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

/// Which panics the product catches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// Those of the thread that it is called on.
    Here,
    /// Those of its other threads as well.
    Anywhere,
}

/// What the last panic said, and where.
static SAID: Mutex<String> = Mutex::new(String::new());

/// Runs a target whose product catches panics of a library: those are no finding. One that reaches the
/// target is, and so is one on another thread, unless those are caught, too.
pub fn catching<T>(caught: Caught, target: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    // libFuzzer's own ends the process before anybody can catch anything.
    HOOK.call_once(|| {
        let here = current().id();
        set_hook(Box::new(move |panic| {
            let counts = caught == Caught::Here && current().id() != here;
            note(counts, panic);
        }));
    });
    match catch_unwind(AssertUnwindSafe(target)) {
        Ok(done) => done,
        Err(_) => fail(&SAID.lock().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// Runs what the product runs in a process of its own, whose end is an answer; `None` if it panics.
/// Within [`catching`].
pub fn isolated<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}

fn note(counts: bool, panic: &PanicHookInfo<'_>) {
    let said = panic.to_string();
    if counts {
        fail(&said);
    }
    *SAID.lock().unwrap_or_else(PoisonError::into_inner) = said;
}

fn fail(said: &str) -> ! {
    eprintln!("{said}");
    std::process::abort()
}
