//! What a thread of a measurement got of a processor, and waited for one.

use std::fs;
use std::time::Duration;

/// How long this thread has run, in steps of some milliseconds, and waited for a processor; zeros where the system does not say.
pub(crate) fn ran_and_waited() -> [Duration; 2] {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut ns = text
        .split_whitespace()
        .map(|n| n.parse().unwrap_or_default());
    [(); 2].map(|()| Duration::from_nanos(ns.next().unwrap_or_default()))
}
