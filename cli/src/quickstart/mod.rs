//! A whole network on this machine in one command: founded, run, scanned, proven, and broken on purpose.

mod codes;
pub(crate) mod network;
mod proof;
mod report;
mod scans;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hyper::Method;
use serde_json::json;

use self::network::Network;
use self::report::Report;
use self::scans::{Client, Tally};

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
    if args.data.is_some() {
        anyhow::bail!("--data: matching is not part of the quickstart yet; run it without --data");
    }
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

    say("proving the record offline: checkpoint, a quorum of cosignatures, inclusion");
    report.proof_verified = proof::record(&network, &record, &root)?;

    say("killing the platform's node with SIGKILL while scans and records flow");
    broken(&mut network, &runtime, &mut report)?;

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
    report.seconds = begin.elapsed().as_secs_f64();
    report.print(args.json);
    if !args.exit {
        serve_until_interrupted(&runtime, &network)?;
    }
    drop(network);
    if report.ok() {
        Ok(())
    } else {
        anyhow::bail!("a step of the quickstart failed; its line above says which")
    }
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

/// One validator dies; the other three go on; it comes back and is in step.
fn broken(
    network: &mut Network,
    runtime: &tokio::runtime::Runtime,
    report: &mut Report,
) -> Result<()> {
    let before = network.brand().call("head", &json!({}))?;
    report.height_at_kill = before["height"].as_u64().unwrap_or_default();
    network.platform().kill()?;
    for i in 0..8_u32 {
        let digits = format!("{:012}", 952_100_000_000_u64 + u64::from(i));
        let gtin = format!("0{digits}{}", check_digit(&digits));
        network.brand().call(
            "product_add",
            &json!({"gtin": gtin, "description": format!("Tea no. {i}")}),
        )?;
        let brand = network.brand().http.clone();
        let verdict = runtime.block_on(async {
            Client::connect(&brand)
                .await?
                .scan(&format!("{brand}/01/{GTIN}/21/{:0>20}", format!("DWN{i}")))
                .await
        });
        match verdict {
            Ok(verdict) => report.tally.add(&verdict, "unknown"),
            Err(e) if e.to_string().starts_with("429") => report.tally.slowed += 1,
            Err(e) => return Err(e),
        }
    }
    let after = network.brand().call("head", &json!({}))?;
    report.height_at_return = after["height"].as_u64().unwrap_or_default();
    let grown = after["tree_size"].as_u64().unwrap_or_default()
        - before["tree_size"].as_u64().unwrap_or_default();
    let blocks = report.height_at_return - report.height_at_kill;
    // Each block with records closes with one entry of its own.
    report.records_while_down = grown.saturating_sub(blocks.min(grown / 2));
    let back = Instant::now();
    network.platform().start()?;
    network.platform().wait_up()?;
    report.caught_up = network
        .platform()
        .wait_height(report.height_at_return, CATCH_UP)?;
    report.catch_up_seconds = back.elapsed().as_secs_f64();
    Ok(())
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

fn serve_until_interrupted(runtime: &tokio::runtime::Runtime, network: &Network) -> Result<()> {
    println!("\nThe nodes are running. Ctrl-C stops them.");
    for member in &network.members {
        println!("  {:<9} {}/v1/status", member.name, member.http);
    }
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
