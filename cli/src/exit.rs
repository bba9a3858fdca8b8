//! Exit codes, and how an error is told.

use std::fmt;
use std::process::ExitCode;

use serde_json::json;

use crate::output;

/// What a process that is called by a script tells it; the numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Refused by a rule, or failed.
    Failed = 1,
    /// The command line is not one; clap uses the same number.
    Usage = 2,
    /// There is no running node to ask.
    NotRunning = 3,
    /// A proof, a policy or a code did not verify.
    NotVerified = 4,
    /// No answer in time; what was asked for may still happen.
    Timeout = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with an exit code and the next step to try.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// A stable word for programs, such as `refused`.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) next: Option<String>,
    /// The answer was printed already, so programs get no second object.
    pub(crate) told: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.to_owned(),
            message: message.into(),
            next: None,
            told: false,
        }
    }

    /// A failure whose answer was printed.
    pub(crate) const fn told(mut self) -> Self {
        self.told = true;
        self
    }

    /// Adds what to try next.
    pub(crate) fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Prints the chain of an error and its next step, to standard error, or as one JSON object to standard output.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> Exit {
    let failure = error.downcast_ref::<Failure>();
    let exit = failure.map_or(Exit::Failed, |f| f.exit);
    let next = failure.and_then(|f| f.next.as_deref());
    let chain = chain(error);
    if json {
        if failure.is_some_and(|f| f.told) {
            return exit;
        }
        let code = failure.map_or("failed", |f| f.code.as_str());
        output::value(&json!({
            "error": {"code": code, "message": chain.join(": "), "next": next},
            "exit": exit as u8,
        }));
        return exit;
    }
    let mut text = String::new();
    for (i, message) in chain.iter().enumerate() {
        text.push_str(if i == 0 { "error: " } else { "  because: " });
        text.push_str(&output::plain(message));
        text.push('\n');
    }
    if let Some(next) = next {
        text.push_str("  try: ");
        text.push_str(&output::plain(next));
        text.push('\n');
    }
    output::warn(&text);
    exit
}

/// Prints help where it was asked for, or what is wrong with the command line: as one JSON object if that is wanted, which only the words
/// themselves can say while they are no command line.
pub(crate) fn command_line(error: &clap::Error) -> Exit {
    let json = std::env::args_os()
        .skip(1)
        .take_while(|word| word != "--")
        .any(|word| word == "--json");
    if !error.use_stderr() || !json {
        let _ = error.print();
        return if error.use_stderr() {
            Exit::Usage
        } else {
            Exit::Ok
        };
    }
    output::value(&json!({
        "error": {"code": "usage", "message": first_paragraph(&error.to_string()), "next": "see the command's --help"},
        "exit": Exit::Usage as u8,
    }));
    Exit::Usage
}

/// What stands before the usage, on one line.
fn first_paragraph(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let words = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<_> = words.flat_map(str::split_whitespace).collect();
    words.join(" ")
}

/// The messages from the outermost inwards, without those that the one before already tells.
fn chain(error: &anyhow::Error) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if !out.iter().any(|told| told.contains(&message)) {
            out.push(message);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_failure_is_found_below_and_above_other_errors() {
        let failure = || Failure::new(Exit::Timeout, "timeout", "no answer").next("wait");
        let above = anyhow::Error::new(std::io::Error::other("socket")).context(failure());
        let below = anyhow::Error::new(failure()).context("asking");
        for error in [above, below] {
            let found = error.downcast_ref::<Failure>();
            assert_eq!(found.map(|f| f.exit), Some(Exit::Timeout));
        }
    }

    #[test]
    fn a_wrong_command_line_is_one_line_for_programs() {
        let told = |line: &[&str]| {
            let error = crate::args::Cli::try_parse_from(line).err().unwrap();
            first_paragraph(&error.to_string())
        };
        assert_eq!(
            told(&["tally", "codes", "issue", "--count", "0"]),
            "invalid value '0' for '--count <COUNT>': 0 is not in 1..18446744073709551615"
        );
        assert!(told(&["tally", "statsu"]).starts_with("unrecognized subcommand 'statsu' tip: "));
        let missing = told(&["tally", "codes", "recall", "5d0c"]);
        assert!(
            missing.ends_with("were not provided: --reason <REASON>"),
            "{missing}"
        );
    }

    #[test]
    fn nothing_is_told_twice() {
        let inner = std::io::Error::other("disk full");
        let error = anyhow::Error::new(inner).context("cannot write: disk full");
        assert_eq!(chain(&error), ["cannot write: disk full"]);
        let error = anyhow::Error::new(std::io::Error::other("disk full")).context("cannot write");
        assert_eq!(chain(&error), ["cannot write", "disk full"]);
    }
}
