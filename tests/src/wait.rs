//! Waiting with deadlines.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks again and again until there is an answer.
///
/// # Errors
/// After `limit`, naming `what` and the last error.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(e) if Instant::now() >= end => {
                return Err(e.context(format!("waited {} s for {what}", limit.as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// As [`until`], for something that is or is not so.
///
/// # Errors
/// After `limit`.
pub fn within(what: &str, limit: Duration, mut ask: impl FnMut() -> bool) -> Result<()> {
    until(
        what,
        limit,
        || if ask() { Ok(()) } else { bail!("not yet") },
    )
}
