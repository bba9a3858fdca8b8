//! `tally bench`

use std::ffi::OsString;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use tally_node::bench::psi::{self, Input, Options, PartyCommand};
use tally_node::bench::{attribution, empty, issue};
use tally_psi::Computation;
use tally_psi::buckets::Rule;

use super::{Context, absolute};
use crate::args::{
    BenchAttributionArgs, BenchCommand, BenchComputation, BenchIssueArgs, BenchLedgerArgs,
    BenchPsiArgs, BenchScanArgs,
};
use crate::bench::{ledger, scan, workers};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::progress::{Bar, Progress};

pub(super) fn run(ctx: &Context, command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Psi(args) => bench_psi(ctx, args),
        BenchCommand::Attribution(args) => bench_attribution(ctx, args),
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
    if let Some(database) = &args.database {
        return bench_workers(ctx, args, database);
    }
    let options = options(args)?;
    let figures = runtime()?
        .block_on(psi::run(&options))
        .context("the bench gave no figures")?;
    ctx.show(&serde_json::to_value(&figures)?, None);
    verdict(figures.correct)
}

fn bench_workers(ctx: &Context, args: &BenchPsiArgs, database: &str) -> Result<()> {
    let password = args.database_password_file.as_deref();
    let options = workers::Options {
        suite: psi::suite(&args.engine, args.malicious)?,
        n: args.n.context("--workers needs --n")?,
        workers: args.workers.clone(),
        database: database.to_owned(),
        password_file: password.map(absolute).transpose()?,
        bucket_items: args.bucket_items as u64,
    };
    let figures = workers::run(&options, &say(ctx)).context("the bench gave no figures")?;
    ctx.show(&serde_json::to_value(&figures)?, None);
    verdict(figures.correct)
}

/// Whether a match gave what a plain join gives.
fn verdict(correct: bool) -> Result<()> {
    if correct {
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

fn bench_attribution(ctx: &Context, args: &BenchAttributionArgs) -> Result<()> {
    let options = attribution::Options {
        touches: args.touches.clone(),
        conversions: args.conversions.clone(),
        model: args.model.parse()?,
        profile: args.profile.parse()?,
        epsilon_micro: args.epsilon,
        value_cap: args.value_cap,
        per_person: args.per_person,
        minimum_people: args.minimum,
        click_s: args.click_days * 86_400,
        view_s: args.view_days * 86_400,
    };
    let figures = attribution::run(&options).context("the bench gave no figures")?;
    let value = serde_json::to_value(&figures)?;
    if ctx.common.json {
        output::value(&value);
    } else {
        output::text(&attribution_table(&figures));
        let shown = value.as_object().into_iter().flatten();
        let rest: serde_json::Map<String, serde_json::Value> = shown
            .filter(|(key, _)| *key != "labels")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        ctx.show(&serde_json::Value::Object(rest), None);
    }
    if figures.correct {
        Ok(())
    } else {
        Err(Failure::new(
            Exit::NotVerified,
            "incorrect",
            "the private sums are not those of the plain reference",
        )
        .told()
        .into())
    }
}

/// Widest bar, in characters.
const BAR: i64 = 32;

/// A line for each label: its value, how far off it may be, and a bar to the largest.
fn attribution_table(figures: &attribution::Figures) -> String {
    let money = |v: i64| {
        format!(
            "{}{}.{:02}",
            if v < 0 { "-" } else { "" },
            v.abs() / 100,
            v.abs() % 100
        )
    };
    let largest = figures
        .labels
        .iter()
        .map(|l| l.value)
        .max()
        .unwrap_or(0)
        .max(1);
    let mut out = format!("{:16} {:>14} {:>12}\n", "channel", "value", "+-");
    for label in &figures.labels {
        let length = usize::try_from(label.value.max(0).saturating_mul(BAR) / largest).unwrap_or(0);
        out.push_str(&format!(
            "{:16} {:>14} {:>12}  {}\n",
            output::plain(&label.label),
            money(label.value),
            money(figures.within_95),
            "#".repeat(length),
        ));
    }
    out.push('\n');
    out
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
        stored: args.stored,
        index: args.index.clone(),
        index_password_file: args
            .index_password_file
            .as_deref()
            .map(absolute)
            .transpose()?,
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
        stored: args.stored,
        dir: args.dir.clone(),
    };
    if options.stored.is_some() && options.validators != 1 {
        return Err(Failure::new(
            Exit::Usage,
            "usage",
            "--stored needs --validators 1: the library signs the blocks with its key alone",
        )
        .into());
    }
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
        rule: Rule::STANDARD,
        out: args.out.clone(),
        party: PartyCommand {
            program: std::env::current_exe()?,
            args: ["bench", "psi-party"].map(OsString::from).to_vec(),
            env: Vec::new(),
        },
    })
}
