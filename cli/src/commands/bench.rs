//! `tally bench`

use std::ffi::OsString;

use anyhow::{Context as _, Result, anyhow};
use tally_node::bench::psi::{self, Input, Options, PartyCommand};
use tally_psi::Computation;

use super::Context;
use crate::args::{BenchCommand, BenchComputation, BenchPsiArgs};
use crate::exit::{Exit, Failure};

pub(super) fn run(ctx: &Context, command: &BenchCommand) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match command {
        BenchCommand::Psi(args) => {
            let options = options(args)?;
            let figures = runtime
                .block_on(psi::run(&options))
                .context("the bench gave no figures")?;
            ctx.show(&serde_json::to_value(&figures)?, None);
            if figures.correct {
                Ok(())
            } else {
                Err(Failure::new(
                    Exit::NotVerified,
                    "incorrect",
                    "the match and the plain join differ",
                )
                .told()
                .into())
            }
        }
        BenchCommand::PsiParty => Ok(runtime.block_on(psi::psi_party())?),
    }
}

fn options(args: &BenchPsiArgs) -> Result<Options> {
    let input = match (args.n, args.files.as_deref()) {
        (Some(n), None) => Input::Generated(n),
        (None, Some([a, b])) => Input::Files(a.clone(), b.clone()),
        _ => {
            return Err(anyhow!(Failure::new(
                Exit::Usage,
                "usage",
                "expected --n N or --files A B"
            )));
        }
    };
    Ok(Options {
        engine: args.engine.clone(),
        computation: match args.computation {
            BenchComputation::List => Computation::List,
            BenchComputation::Cardinality => Computation::Cardinality,
        },
        input,
        out: args.out.clone(),
        party: PartyCommand {
            program: std::env::current_exe()?,
            args: ["bench", "psi-party"].map(OsString::from).to_vec(),
            env: Vec::new(),
        },
    })
}
