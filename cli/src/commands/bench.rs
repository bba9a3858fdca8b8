//! `tally bench`

use std::ffi::OsString;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use tally_node::bench::psi::{self, Input, Options, PartyCommand};
use tally_node::bench::{empty, issue};
use tally_psi::Computation;

use super::Context;
use crate::args::{
    BenchCommand, BenchComputation, BenchIssueArgs, BenchLedgerArgs, BenchPsiArgs, BenchScanArgs,
};
use crate::bench::{ledger, scan};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::progress::{Bar, Progress};

pub(super) fn run(ctx: &Context, command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Psi(args) => bench_psi(ctx, args),
        BenchCommand::Issue(args) => bench_issue(ctx, args),
        BenchCommand::Scan(args) => bench_scan(ctx, args),
        BenchCommand::Ledger(args) => bench_ledger(ctx, args),
        BenchCommand::EmptyHandler => Ok(runtime()?.block_on(empty::serve(|address| {
            output::text(&format!("{address}\n"));
        }))?),
        BenchCommand::PsiParty => Ok(runtime()?.block_on(psi::psi_party())?),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

fn bench_psi(ctx: &Context, args: &BenchPsiArgs) -> Result<()> {
    let options = options(args)?;
    let figures = runtime()?
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

/// What a bench is doing, for people.
fn say(ctx: &Context) -> impl Fn(&str) {
    let begun = Instant::now();
    let shown = !ctx.common.json;
    move |what| {
        if shown {
            eprintln!("{:>6.1} s  {what}", begun.elapsed().as_secs_f64());
        }
    }
}

fn bench_scan(ctx: &Context, args: &BenchScanArgs) -> Result<()> {
    let options = scan::Options {
        scans: args.scans,
        connections: args.connections,
    };
    let figures = scan::run(&options, &say(ctx)).context("the bench gave no figures")?;
    ctx.show(&serde_json::to_value(&figures)?, None);
    Ok(())
}

fn bench_ledger(ctx: &Context, args: &BenchLedgerArgs) -> Result<()> {
    let options = ledger::Options {
        validators: args.validators,
        records: args.records,
        rate: args.rate,
        seconds: args.seconds,
    };
    let figures = ledger::run(&options, &say(ctx)).context("the bench gave no figures")?;
    ctx.show(&serde_json::to_value(&figures)?, None);
    Ok(())
}

fn bench_issue(ctx: &Context, args: &BenchIssueArgs) -> Result<()> {
    let options = issue::Options {
        count: args.count,
        dir: args.dir.clone(),
    };
    let mut bar = Bar::new(ctx.common.json);
    let figures = issue::run(&options, &mut |done, total| {
        bar.update(&Progress {
            what: "codes".into(),
            done,
            total,
        });
    })
    .context("the bench gave no figures")?;
    drop(bar);
    ctx.show(&serde_json::to_value(&figures)?, None);
    Ok(())
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
        malicious: args.malicious,
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
