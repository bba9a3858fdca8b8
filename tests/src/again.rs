//! A test that runs itself again as another process, in namespaces of its own.

use std::path::PathBuf;
use std::process::Command;

use crate::tally;

/// Set in the other process: a file that it makes, so that a wrong name of a test, which runs nothing, does not pass.
const INSIDE: &str = "TALLY_TEST_INSIDE";

/// Whether this is the process that [`again`] started.
///
/// # Panics
/// If it cannot say that it runs.
#[must_use]
pub fn inside() -> bool {
    let Some(began) = std::env::var_os(INSIDE).map(PathBuf::from) else {
        return false;
    };
    std::fs::write(&began, []).expect("a file that says that the test runs");
    true
}

/// Runs a test again with `unshare` and its options, and waits for it. `test` is its name as the test program lists it; it asks
/// [`inside`] whether it is there.
///
/// # Panics
/// If it fails, or runs nothing.
pub fn again(test: &str, unshare: &[&str]) {
    // Built outside, where the user is who it is.
    tally();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let began = dir.path().join("began");
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args(unshare)
        .arg("--")
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(INSIDE, &began)
        .status()
        .expect("setpriv and unshare of util-linux run");
    assert!(status.success(), "{test} in its namespaces: {status}");
    assert!(began.exists(), "there is no test {test}");
}
