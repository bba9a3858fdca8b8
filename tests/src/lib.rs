//! Whole-system scenarios, faults and vectors.
//!
//! This library is the kit of the scenarios in `tests/tests`: it founds networks by the commands themselves, runs their nodes as
//! processes, and speaks to them only as an operator, a phone or a stranger would: by `tally ... --json`, HTTP and bare sockets.
//! A scenario is a function of a [`Scenario`], which gives it a folder and a seed, and shows seed and logs if it fails.

mod again;
mod binary;
mod client;
mod entries;
mod http;
mod lab;
mod member;
mod network;
mod observer;
pub mod postgres;
mod scenario;
mod verifiers;
mod wait;

pub use again::{again, inside};
pub use binary::tally;
pub use client::{Client, Outcome, Printer};
pub use entries::{Entry, entries, entry_bundle_path};
pub use http::{Response, get, request};
pub use lab::{Lab, inside_lab};
pub use member::{Member, Place};
pub use network::{Network, Plan};
pub use observer::{Acknowledged, Observer, Report, one_history};
pub use scenario::{Scenario, number_from_env, skip, strict};
pub use verifiers::{Verifier, verifiers};
pub use wait::{until, within};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A number of an answer, by its key.
///
/// # Errors
/// If there is none.
pub fn number(value: &Value, key: &str) -> Result<u64> {
    value[key]
        .as_u64()
        .with_context(|| format!("no {key} in {value}"))
}

/// A GTIN-14 with a right check digit, made from a number below 10^9.
#[must_use]
pub fn gtin(number: u32) -> String {
    let digits = format!("0952{:09}", number % 1_000_000_000);
    // From the right, weights 3 and 1 in turn (GS1 General Specifications 7.9).
    let sum: u32 = digits
        .bytes()
        .rev()
        .zip([3, 1].into_iter().cycle())
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

#[cfg(test)]
mod tests {
    #[test]
    fn gtins_have_their_check_digit() {
        assert_eq!(super::gtin(123_454_321), "09521234543213");
    }
}
