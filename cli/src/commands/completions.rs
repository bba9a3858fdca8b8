//! `tally completions`

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::output;

pub(super) fn run(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tally", &mut script);
    output::text(&String::from_utf8_lossy(&script));
}
