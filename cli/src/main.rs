//! The `tally` command: one program that founds, runs, asks and audits a network.
//!
//! In scope: arguments, help, output, exit codes. Out of scope: every rule; they live in the crates below and in the node.

mod admin_client;
mod args;
mod bench;
mod commands;
mod exit;
mod http;
mod output;
mod progress;
mod quickstart;

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;

/// Records are taken apart by one thread and freed by another, for which the C library's allocator is slow and leaves holes.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::command_line(&error).into(),
    };
    let json = cli.common.json;
    match commands::run(cli) {
        Ok(()) => exit::Exit::Ok.into(),
        Err(error) => exit::report(&error, json).into(),
    }
}
