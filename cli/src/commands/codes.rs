//! `tally codes`

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tally_node::labels::{
    Grid, LabelError, MAX_LABELS, Options, Sheet, read_labels, to_pdf, to_png, to_svg,
};

use super::{Context, absolute, text_at};
use crate::args::{CodesCommand, ExportArgs, IssueArgs, LabelsArgs, RowArgs, VerifyArgs};
use crate::exit::{Exit, Failure};

pub(super) fn run(ctx: &Context, command: &CodesCommand) -> Result<()> {
    match command {
        CodesCommand::Issue(args) => issue(ctx, args),
        CodesCommand::Export(args) => export(ctx, args),
        CodesCommand::Labels(args) => labels(ctx, args),
        CodesCommand::Void { batch, list } => void(ctx, batch, list),
        CodesCommand::Epochs => {
            ctx.show(&ctx.ask("codes_epochs", &json!({}))?, None);
            Ok(())
        }
        CodesCommand::NewEpoch => {
            let answer = ctx.ask("codes_new_epoch", &json!({}))?;
            ctx.show(
                &answer,
                Some("batches take it from now on; older codes go on verifying"),
            );
            Ok(())
        }
        CodesCommand::RetireEpoch {
            epoch,
            forget_codes,
        } => {
            let request = json!({"epoch": epoch, "forget_codes": forget_codes});
            ctx.show(&ctx.ask("codes_retire_epoch", &request)?, None);
            Ok(())
        }
        CodesCommand::Territory {
            batch,
            areas,
            unset: _,
        } => {
            let answer = ctx.ask("batch_territory", &json!({"batch": batch, "areas": areas}))?;
            ctx.show(&answer, None);
            Ok(())
        }
        CodesCommand::Activate { batch, territory } => {
            let request = json!({"batch": batch, "territory": territory.territory});
            let answer = ctx.ask("batch_activate", &request)?;
            ctx.show(
                &answer,
                Some("a first scan answers `genuine_first` from now on; try one with `tally scan`"),
            );
            Ok(())
        }
        CodesCommand::Recall { batch, reason } => {
            let answer = ctx.ask("batch_recall", &json!({"batch": batch, "reason": reason}))?;
            ctx.show(&answer, None);
            Ok(())
        }
        CodesCommand::Verify(args) => verify(ctx, args),
        CodesCommand::List => {
            let columns = [
                "batch",
                "owner",
                "gtin",
                "lot",
                "status",
                "count",
                "void",
                "expires",
                "territory",
            ];
            ctx.table(
                &ctx.ask("batches", &json!({}))?,
                &columns,
                "no batches yet: `tally codes issue` makes one",
            );
            Ok(())
        }
    }
}

fn issue(ctx: &Context, args: &IssueArgs) -> Result<()> {
    let (claims_to, claims_out) = claims(&args.rows, Some(&args.out))?;
    let request = json!({
        "gtin": args.gtin,
        "lot": args.lot,
        "count": args.count,
        "out": absolute(&args.out)?,
        "format": args.rows.format,
        "claims_to": claims_to,
        "claims_out": claims_out,
        "territory": args.territory.territory,
        "expires": args.expires,
        "plain_links": args.plain_links,
        "keys_lost": args.keys_lost,
    });
    let answer = ctx.ask("codes_issue", &request)?;
    let batch = match text_at(&answer, "batch") {
        "" => "BATCH",
        id => id,
    };
    let config = ctx.config_option();
    let claims = if claims_out.is_some() {
        String::new()
    } else {
        format!(
            " No claim codes were written: `tally codes export {batch}{config} --claims-to age1...` gives them to a printer."
        )
    };
    let next = format!(
        "send {} to the printer and keep it secret; `tally codes activate {batch}{config}` when the goods leave.{claims}",
        args.out.display(),
    );
    ctx.show_keys(&answer, &ISSUED, Some(&next));
    Ok(())
}

/// What people are told of a new batch, in this order.
const ISSUED: [&str; 12] = [
    "batch",
    "count",
    "first_index",
    "expires",
    "expires_in_links",
    "format",
    "out",
    "claims_out",
    "claims_to",
    "qr",
    "record",
    "height",
];

fn export(ctx: &Context, args: &ExportArgs) -> Result<()> {
    let (claims_to, claims_out) = claims(&args.rows, args.out.as_deref())?;
    let request = json!({
        "batch": args.batch,
        "out": args.out.as_deref().map(absolute).transpose()?,
        "rows": {
            "format": args.rows.format,
            "claims_to": claims_to,
            "claims_out": claims_out,
        },
    });
    ctx.show(&ctx.ask("codes_export", &request)?, None);
    Ok(())
}

/// The recipients of claim codes and the file for them, if there are any.
fn claims(rows: &RowArgs, out: Option<&Path>) -> Result<(Vec<String>, Option<PathBuf>)> {
    let mut to = Vec::new();
    for given in &rows.claims_to {
        if given.starts_with("age1") {
            to.push(given.clone());
            continue;
        }
        if given.starts_with("AGE-SECRET-KEY-") {
            let what = "--claims-to wants the printer's public recipient, not the secret key";
            return Err(Failure::new(Exit::Usage, "usage", what)
                .next("`age-keygen -y` prints the recipient of a key file")
                .into());
        }
        let text = std::fs::read_to_string(given)
            .with_context(|| format!("{given} is no age recipient, and no file of them"))?;
        let lines = text.lines().map(str::trim);
        to.extend(
            lines
                .filter(|l| !l.is_empty() && !l.starts_with('#'))
                .map(str::to_owned),
        );
    }
    if to.is_empty() {
        return Ok((to, None));
    }
    let claims_out = match (&rows.claims_out, out) {
        (Some(path), _) => path.clone(),
        (None, Some(out)) => out.with_extension(format!("claims.{}.age", rows.format)),
        (None, None) => PathBuf::from(format!("claims.{}.age", rows.format)),
    };
    Ok((to, Some(absolute(&claims_out)?)))
}

fn void(ctx: &Context, batch: &str, list: &Path) -> Result<()> {
    // The node reads the list itself, however long it is; what comes by a pipe is put where it can.
    let spooled;
    let path = if list == Path::new("-") {
        let mut file = tempfile::NamedTempFile::new().context("a temporary file")?;
        io::copy(&mut io::stdin().lock(), &mut file).context("standard input")?;
        spooled = file;
        absolute(spooled.path())?
    } else {
        absolute(list)?
    };
    let answer = ctx.ask("codes_void", &json!({"batch": batch, "list": path}))?;
    ctx.show(
        &answer,
        Some("the codes answer `revoked` from now on, and their proofs say so"),
    );
    Ok(())
}

fn labels(ctx: &Context, args: &LabelsArgs) -> Result<()> {
    let file = File::open(&args.codes)
        .with_context(|| format!("{} cannot be opened", args.codes.display()))?;
    let count = args.count.unwrap_or(MAX_LABELS);
    if count > MAX_LABELS {
        let what = format!("--count is {count}, at most {MAX_LABELS} labels are made at a time");
        return Err(Failure::new(Exit::Usage, "usage", what)
            .next("go on with --first")
            .into());
    }
    let word = |e: String| Failure::new(Exit::Usage, "usage", e);
    let options = Options {
        symbol: args.symbol.parse().map_err(word)?,
        paper: args.page.parse().map_err(word)?,
        grid: args
            .columns
            .zip(args.rows)
            .map(|(columns, rows)| Grid { columns, rows }),
        margin_mm: args.margin,
        module_mm: args.module,
    };
    let told = |e: LabelError| match e {
        LabelError::Range { .. } | LabelError::TooLarge { .. } => {
            anyhow::Error::from(Failure::new(Exit::Usage, "usage", e.to_string()))
        }
        e => e.into(),
    };
    let labels = read_labels(&mut BufReader::new(file), args.first, count).map_err(told)?;
    let sheet = Sheet::new(&labels, &options).map_err(told)?;
    let mut files = Vec::new();
    let mut write = |path: PathBuf, bytes: &[u8]| -> Result<()> {
        std::fs::write(&path, bytes)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        files.push(path);
        Ok(())
    };
    if args.format == "pdf" {
        write(args.out.clone(), &to_pdf(&sheet)?)?;
    } else {
        for (i, page) in sheet.pages.iter().enumerate() {
            let bytes = match args.format.as_str() {
                "svg" => to_svg(&sheet, page).into_bytes(),
                _ => to_png(&sheet, page, args.dpi).map_err(told)?,
            };
            write(numbered(&args.out, i + 1, sheet.pages.len()), &bytes)?;
        }
    }
    let answer: Value = json!({
        "labels": labels.len(),
        "pages": sheet.pages.len(),
        "columns": sheet.grid.columns,
        "rows": sheet.grid.rows,
        "symbol": args.symbol,
        "files": files,
    });
    ctx.show(&answer, None);
    Ok(())
}

/// The file of a page: the one that was asked for, with the page's number if there are several.
fn numbered(out: &Path, page: usize, pages: usize) -> PathBuf {
    if pages == 1 {
        return out.to_owned();
    }
    let digits = pages.to_string().len();
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = format!("{stem}-{page:0digits$}");
    if let Some(extension) = out.extension() {
        name.push('.');
        name.push_str(&extension.to_string_lossy());
    }
    out.with_file_name(name)
}

fn verify(ctx: &Context, args: &VerifyArgs) -> Result<()> {
    let answer = ctx.ask(
        "codes_verify",
        &json!({"code": args.code, "claim": args.claim}),
    )?;
    let told = ["verdict", "product", "count", "expires", "claim"];
    ctx.show_keys(&answer, &told, None);
    match text_at(&answer, "verdict") {
        verdict if verdict.starts_with("genuine") => Ok(()),
        "cannot_verify_now" => {
            let what = "the code cannot be verified now: its issuer does not answer";
            let failure = Failure::new(Exit::Failed, "cannot_verify_now", what).told();
            Err(failure
                .next("try again later; the code may well be genuine")
                .into())
        }
        verdict => {
            let what = format!("the code is not good: {verdict}");
            Err(Failure::new(Exit::NotVerified, verdict, what).told().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_numbers_where_there_are_several() {
        let out = Path::new("a/labels.v1.png");
        assert_eq!(numbered(out, 1, 1), out);
        assert_eq!(numbered(out, 7, 120), Path::new("a/labels.v1-007.png"));
        assert_eq!(numbered(Path::new("x"), 2, 2), Path::new("x-2"));
    }

    #[test]
    fn recipients_come_from_words_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("printer.txt");
        std::fs::write(&file, "# the printer\nage1one\n\n age1two \n").unwrap();
        let rows = |claims_to: &[&str], claims_out: Option<&str>| RowArgs {
            format: "csv".into(),
            claims_to: claims_to.iter().map(|t| (*t).to_owned()).collect(),
            claims_out: claims_out.map(PathBuf::from),
        };
        let out = Path::new("/x/codes.csv");
        assert_eq!(claims(&rows(&[], None), Some(out)).unwrap(), (vec![], None));
        let (to, path) = claims(
            &rows(&["age1zero", file.to_str().unwrap()], None),
            Some(out),
        )
        .unwrap();
        assert_eq!(to, ["age1zero", "age1one", "age1two"]);
        assert_eq!(path.unwrap(), Path::new("/x/codes.claims.csv.age"));
        let (_, path) = claims(&rows(&["age1zero"], Some("/y/c.age")), None).unwrap();
        assert_eq!(path.unwrap(), Path::new("/y/c.age"));
        assert!(claims(&rows(&["AGE-SECRET-KEY-1X"], None), Some(out)).is_err());
        assert!(claims(&rows(&["nowhere.txt"], None), Some(out)).is_err());
    }
}
