//! A whole network on this machine in one command: founded, run, scanned, proven, and broken on purpose.

mod codes;
mod join;
mod matching;
pub(crate) mod network;
mod proof;
mod report;
mod scans;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hyper::Method;
use serde_json::json;

use self::matching::Files;
use self::network::{Member, Network};
use self::report::Report;
use self::scans::{Client, Tally};
use crate::exit::{Exit, Failure};

/// The product that the quickstart registers: GS1's example number.
const GTIN: &str = "09521234543213";
/// Scans of invented codes at the brand's node, and at the media company's, which forwards them.
const INVENTED: usize = 16;
/// How long a restarted node may take to be in step.
const CATCH_UP: Duration = Duration::from_secs(20);

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
pub(crate) fn run(args: &Args) -> Result<()> {
    // Before anything is started for nothing.
    let given = args.data.as_deref().map(Files::of).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let begin = Instant::now();
    let temporary = tempfile::Builder::new().prefix("tally-").tempdir()?;
    let root = match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            std::path::absolute(dir)?
        }
        None => temporary.path().to_owned(),
    };
    let say = |text: &str| {
        if !args.json {
            eprintln!("{:>6.1} s  {text}", begin.elapsed().as_secs_f64());
        }
    };

    say("founding a test network of four members: cards, genesis, four signatures, four joins");
    let mut network = Network::found(&root)?;
    say("starting four nodes as processes");
    network.start()?;
    let mut report = Report {
        network_id: network.id.clone(),
        ..Report::default()
    };
    report.nodes = network
        .members
        .iter()
        .map(|m| (m.name.to_owned(), m.http.clone()))
        .collect();

    say("registering a product: the first record, ordered by four validators");
    let product = network.brand().call(
        "product_add",
        &json!({"gtin": GTIN, "description": "Green tea, 100 g", "brand": "Quickstart"}),
    )?;
    let record = product["record"]
        .as_str()
        .context("an answer without a record ID")?
        .to_owned();

    say("issuing codes: 10,000 to sell, and two small batches to recall and to hold back");
    let batches = codes::issue(&network, &root, GTIN)?;
    report.codes_issued = batches.issued;
    say(
        "scanning over HTTP: true codes, a copied one, recalled and unreleased ones, at two members' nodes",
    );
    runtime.block_on(codes::scan(&network, &batches, &mut report.tally))?;
    say(
        "scanning invented codes over HTTP, half of them at a node that must forward them to the issuer",
    );
    let (brand, media) = (network.brand().http.clone(), network.media().http.clone());
    runtime.block_on(invented(&brand, &media, &mut report.tally))?;
    network
        .media()
        .wait_height(network.brand().height()?, CATCH_UP)?;

    let files = match given {
        Some(files) => files,
        None => Files::sample(&root)?,
    };
    report.matching = Some(matching::run(&network, files, &say)?);

    say(
        "proving a record and a code offline: network ID, quorum of cosignatures, inclusion, state",
    );
    report.proof_verified = proof::record(&network, &record, &root)?
        && proof::code(&network, batches.sold()?, batches.withdrawn()?, &root)?;

    say("killing the platform's node with SIGKILL while scans and records flow");
    broken(&mut network, &runtime, &batches, &mut report)?;

    let height = network.brand().height()?;
    for member in &network.members {
        member.wait_height(height, CATCH_UP)?;
    }
    let roots: Vec<String> = network
        .members
        .iter()
        .map(|m| m.state_root(height))
        .collect::<Result<_>>()?;
    report.state_roots_equal = roots.windows(2).all(|pair| pair[0] == pair[1]);
    report.tree_size = network.brand().call("head", &json!({}))?["tree_size"]
        .as_u64()
        .unwrap_or_default();
    report.height = height;
    report.seconds = begin.elapsed().as_secs_f64();
    report.print(args.json);
    if !args.exit {
        serve_until_interrupted(&runtime, &network.brand().config, batches.sold()?)?;
    }
    drop(network);
    if report.ok() {
        return Ok(());
    }
    let failed = Failure::new(
        Exit::Failed,
        "quickstart",
        "a step of the quickstart failed",
    );
    Err(failed
        .next("its line above is marked; --dir keeps the nodes' logs")
        .told()
        .into())
}

/// Codes that nobody issued: each must be `unknown`, wherever it is asked.
async fn invented(brand: &str, media: &str, tally: &mut Tally) -> Result<()> {
    for address in [brand, media] {
        let mut client = Client::connect(address).await?;
        for i in 0..INVENTED / 2 {
            let code = format!("{brand}/01/{GTIN}/21/{:0>20}", format!("TRY{i}"));
            match client.scan(&code).await {
                Ok(verdict) => tally.add(&verdict, "unknown"),
                // Whoever tries many wrong codes is slowed down: that is what should happen.
                Err(e) if e.to_string().starts_with("429") => tally.slowed += 1,
                Err(e) => return Err(e),
            }
            if tally.slowed > 0 {
                break;
            }
        }
        let (status, _) = client.send(Method::GET, "/readyz", None).await?;
        anyhow::ensure!(
            status.is_success(),
            "the node at {address} is not ready: {status}"
        );
    }
    Ok(())
}

/// One validator dies while scans and records flow; the other three go on; it comes back and is in step.
fn broken(
    network: &mut Network,
    runtime: &tokio::runtime::Runtime,
    batches: &codes::Batches,
    report: &mut Report,
) -> Result<()> {
    let addresses = [network.brand().http.clone(), network.media().http.clone()];
    let flow = codes::Flow::start(runtime, batches, addresses);
    let mut added = 0_u32;
    let mut add = |brand: &Member, count: u32| -> Result<()> {
        for _ in 0..count {
            let digits = format!("{:012}", 952_100_000_000_u64 + u64::from(added));
            let gtin = format!("0{digits}{}", check_digit(&digits));
            let description = format!("Tea no. {added}");
            brand.call(
                "product_add",
                &json!({"gtin": gtin, "description": description}),
            )?;
            added += 1;
        }
        Ok(())
    };
    add(network.brand(), 2)?;
    network.platform().kill()?;
    report.height_at_kill = network.brand().height()?;
    let scanned = flow.acknowledged();
    add(network.brand(), 8)?;
    report.height_at_return = network.brand().height()?;
    report.scans_while_down = flow.acknowledged() - scanned;
    let back = Instant::now();
    network.platform().start()?;
    network.platform().wait_up()?;
    report.caught_up = network
        .platform()
        .wait_height(report.height_at_return, CATCH_UP)?;
    report.catch_up_seconds = back.elapsed().as_secs_f64();
    add(network.brand(), 1)?;
    report.tally.merge(runtime.block_on(flow.stop())?);
    report.records_while_down = records(
        network.brand(),
        report.height_at_kill,
        report.height_at_return,
    )?;
    Ok(())
}

/// Records in the blocks after height `from` up to height `to`: a block with records adds one entry of its own besides them.
fn records(member: &Member, from: u64, to: u64) -> Result<u64> {
    let size = |height: u64| -> Result<u64> {
        member.call("head", &json!({"at_height": height}))?["tree_size"]
            .as_u64()
            .context("a block without a tree size")
    };
    let mut count = 0;
    let mut before = size(from)?;
    for height in from + 1..=to {
        let after = size(height)?;
        count += (after - before).saturating_sub(1);
        before = after;
    }
    Ok(count)
}

/// GS1 check digit: from the right, weights 3 and 1.
fn check_digit(digits: &str) -> u32 {
    let sum: u32 = digits
        .chars()
        .rev()
        .filter_map(|c| c.to_digit(10))
        .zip([3, 1].into_iter().cycle())
        .map(|(digit, weight)| digit * weight)
        .sum();
    (10 - sum % 10) % 10
}

fn serve_until_interrupted(
    runtime: &tokio::runtime::Runtime,
    config: &Path,
    link: &str,
) -> Result<()> {
    eprintln!(
        "\nThe nodes keep running. Ctrl-C stops them.\n  in another terminal  tally status --config {}\n  in a browser here    {link}",
        config.display()
    );
    runtime.block_on(tokio::signal::ctrl_c())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_digit;

    #[test]
    fn check_digits_are_those_of_gs1() {
        assert_eq!(check_digit("0952123454321"), 3);
        assert_eq!(check_digit("10614141123456789"), 7);
    }
}
