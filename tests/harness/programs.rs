//! The product's own programs, as the build made them.

use std::path::PathBuf;
use std::process::Command;

/// A command that starts one of the product's programs.
///
/// # Panics
/// If it was not built: tests of the whole line take the programs as users get them.
#[track_caller]
pub fn own(program: &str) -> Command {
    let path = built(program);
    assert!(
        path.exists(),
        "`{}` was not built: cargo build --release --workspace",
        path.display()
    );
    Command::new(path)
}

/// Test programs are in `deps` below the folder of the programs.
fn built(program: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.parent().and_then(std::path::Path::parent);
    folder
        .expect("test programs are two folders deep")
        .join(program)
}
