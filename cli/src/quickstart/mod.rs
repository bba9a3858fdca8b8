//! A whole network on this machine in one command.

use std::path::PathBuf;

/// Arguments of `tally quickstart`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Folder that keeps each node's configuration and data as DIR/MEMBER; without it they are removed at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Folder with media_touches.csv and brand_conversions.csv, instead of the sample data
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Stop the nodes and end after the report, instead of serving until Ctrl-C
    #[arg(long)]
    pub(crate) exit: bool,
    /// One JSON object at the end; set from the option that all commands have.
    #[arg(skip)]
    pub(crate) json: bool,
}

/// Runs the quickstart.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let _ = args;
    anyhow::bail!("not built yet")
}
