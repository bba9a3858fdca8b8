//! From a batch to the printer and back: codes issued under SIGKILL, claim codes that only the printer reads, labels, waste that is
//! withdrawn, key epochs, and somebody inside who prints more.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tally_codes::batch::{BatchSpec, Deriver};
use tally_codes::keys::{BatchKeys, IssuerKeys};
use tally_node::keys::KeyStore;
use tally_node::passphrase::Passphrase;
use tally_node::sealed::read_sealed;
use tally_tests::{Client, Network, Plan, Printer, Scenario, get, gtin, request, tally};

/// Enough that some of it is on disk, and noted, when the process is killed.
const MANY: usize = 3_000_000;
/// Bytes of the file of outer codes after which the process is killed: more than what it writes between two syncs.
const KILL_AT: u64 = 150_000_000;
/// Bytes at its start that must be the same before and after.
const KEPT: u64 = 60_000_000;

fn start_of(path: &Path) -> Result<[u8; 32]> {
    let mut bytes = Vec::new();
    File::open(path)?.take(KEPT).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 == KEPT, "{} is short", path.display());
    Ok(Sha256::digest(&bytes).into())
}

#[test]
fn a_killed_issue_goes_on_without_a_duplicate_or_a_gap() {
    Scenario::run("killed-issue", |scenario| {
        let mut network = Network::running(scenario, &Plan::one())?;
        let client = network[0].client();
        client.add_product(&gtin(1))?;
        let printer = Printer::new();
        let (out, claims_out) = (
            client.dir.join("big.csv"),
            client.dir.join("big.claims.csv.age"),
        );
        let unfinished = client.dir.join("big.csv.unfinished");
        let (count, product) = (MANY.to_string(), gtin(1));
        let args = [
            "codes",
            "issue",
            "--gtin",
            &product,
            "--lot",
            "BIG",
            "--count",
            &count,
            "--out",
            "big.csv",
            "--claims-to",
            &printer.recipient,
        ];
        let issuing = {
            let (client, args) = (client.clone(), args.map(str::to_owned));
            thread::spawn(move || client.run(&args.each_ref().map(String::as_str)))
        };
        let begun = Instant::now();
        while fs::metadata(&unfinished).map_or(0, |m| m.len()) < KILL_AT {
            ensure!(!out.exists(), "it was done before it could be killed");
            ensure!(
                begun.elapsed() < Duration::from_secs(120),
                "it does not begin"
            );
            thread::sleep(Duration::from_millis(2));
        }
        network[0].kill()?;
        let cut = issuing.join().map_err(|_| anyhow::anyhow!("a panic"))??;
        ensure!(cut.exit != 0, "the command did not notice: {cut:?}");
        ensure!(!out.exists() && !claims_out.exists(), "half a batch");
        let before = start_of(&unfinished)?;

        network.start()?;
        let made = client.ok(&args)?;
        ensure!(
            made["count"] == MANY && made["qr"]["version"].is_u64(),
            "{made}"
        );
        ensure!(
            start_of(&out)? == before,
            "it began anew instead of going on"
        );
        ensure!(!unfinished.exists());
        let outer = fs::read_to_string(&out)?;
        let claims = printer.decrypted(&claims_out)?;
        let mut serials = Vec::with_capacity(MANY);
        let mut claim_rows = claims.lines().skip(1);
        for row in outer.lines().skip(1) {
            let (url, serial) = row.split_once(',').context("a row of another form")?;
            ensure!(url.ends_with(serial), "{row}");
            let claim = claim_rows.next().context("a claim code is missing")?;
            ensure!(claim.starts_with(serial), "{row} {claim}");
            serials.push(serial);
        }
        ensure!(
            claim_rows.next().is_none() && serials.len() == MANY,
            "{}",
            serials.len()
        );
        let last = outer.lines().last().and_then(|l| l.split(',').next());
        let last = last.context("no row")?.to_owned();
        serials.sort_unstable();
        serials.dedup();
        ensure!(serials.len() == MANY, "{} are twice", MANY - serials.len());

        // Said again, the same command makes nothing new.
        let id = made["batch"].as_str().context("a batch")?;
        let verdict = |client: &Client| -> Result<Value> {
            Ok(client.run(&["codes", "verify", &last])?.json["verdict"].clone())
        };
        ensure!(verdict(&client)? == "not_released");
        client.ok(&["codes", "activate", id])?;
        ensure!(verdict(&client)? == "genuine_first");
        let batches = client.ok(&["codes", "list"])?;
        ensure!(
            batches.as_array().is_some_and(|b| b.len() == 1),
            "{batches}"
        );
        network.stop()
    });
}

/// What a scan at a node is told.
fn scanned(client: &Client, code: &str) -> Result<String> {
    let body = json!({"code": code}).to_string();
    let headers = [("content-type", "application/json")];
    let answer = request(&client.http, "POST", "/v1/scans", &headers, body.as_bytes())?;
    ensure!(answer.status == 200, "{}", answer.told());
    let said = answer.json();
    Ok(said["verdict"].as_str().context("a verdict")?.to_owned())
}

/// The keys of a batch at its first index, as somebody who holds everything of this node reads them.
fn stolen(client: &Client) -> Result<(IssuerKeys, BatchKeys)> {
    let passphrase = Passphrase::new("a passphrase of a test".into()).context("passphrase")?;
    let keys = KeyStore::new(client.dir.join("keys")).open_node(&passphrase)?;
    let codes = client.dir.join("codes");
    let issuer = read_sealed(&codes.join("issuer.keys"), &keys.storage(), "issuer-keys")?
        .context("issuer keys")?;
    let folder = fs::read_dir(codes.join("batches"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<BTreeSet<PathBuf>>>()?;
    let folder = folder.first().context("a batch")?;
    let name = folder.file_name().context("a name")?.to_string_lossy();
    let batch = read_sealed(
        &folder.join("batch"),
        &keys.storage(),
        &format!("issuer-batch/{name}"),
    )?
    .context("a batch")?;
    // Version and kind, then five keys.
    let at = batch.len() - (2 + 5 * 32);
    Ok((
        IssuerKeys::from_secret_bytes(&issuer)?,
        BatchKeys::from_secret_bytes(&batch[at..])?,
    ))
}

/// The value of a metric.
fn metric(client: &Client, name: &str) -> Result<u64> {
    let answer = get(&client.http, "/metrics")?;
    let text = String::from_utf8(answer.body)?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))
        .with_context(|| format!("no {name} in\n{text}"))?;
    Ok(line.trim().parse()?)
}

#[test]
fn labels_waste_epochs_and_an_insider() {
    Scenario::run("printing", |scenario| {
        let mut network = Network::running(scenario, &Plan::four())?;
        let (brand, media) = (network[0].client(), network[2].client());
        let product = gtin(1);
        brand.add_product(&product)?;
        let sold = brand.issue(&product, "L1", 3_000, true)?;
        let other = brand.issue(&product, "L2", 20, false)?;
        let code = |at: usize| sold.codes[at].0.as_str();

        labels(&brand)?;
        waste(&brand, &media, &sold.id, &sold.codes, &other.codes[0].0)?;
        printed_again(&brand, &sold.id, &sold.codes)?;
        insider(&brand, &product, code(10))?;

        // Key epochs: codes of all of them verify; a fifth has no room.
        let mut all = vec![code(20).to_owned()];
        for epoch in 1..4_u32 {
            let made = brand.ok(&["codes", "new-epoch"])?;
            ensure!(made["epoch"] == epoch, "{made}");
            let batch = brand.issue(&product, &format!("E{epoch}"), 5, true)?;
            all.push(batch.codes[0].0.clone());
        }
        for code in &all {
            ensure!(scanned(&brand, code)? == "genuine_first");
        }
        let (_, code, _) = brand.run(&["codes", "new-epoch"])?.refusal()?;
        ensure!(code == "too_many_epochs", "{code}");
        let epochs = brand.ok(&["codes", "epochs"])?;
        let rows = epochs["epochs"].as_array().context("epochs")?;
        ensure!(
            rows.len() == 4 && rows[3]["current"] == true && rows[0]["codes"] == 3_020,
            "{epochs}"
        );
        let (_, code, _) = brand.run(&["codes", "retire-epoch", "1"])?.refusal()?;
        ensure!(code == "epoch_in_use", "{code}");
        let (_, code, _) = brand
            .run(&["codes", "retire-epoch", "3", "--forget-codes"])?
            .refusal()?;
        ensure!(code == "refused", "the current epoch stays: {code}");
        brand.ok(&["codes", "retire-epoch", "1", "--forget-codes"])?;
        let verdicts: Vec<String> = all
            .iter()
            .map(|c| scanned(&brand, c))
            .collect::<Result<_>>()?;
        ensure!(
            verdicts
                == [
                    "genuine_repeat",
                    "unknown",
                    "genuine_repeat",
                    "genuine_repeat"
                ],
            "{verdicts:?}"
        );
        brand.ok(&["codes", "new-epoch"])?;
        // All of it is on disk.
        network.stop()?;
        network.start()?;
        ensure!(scanned(&brand, &all[3])? == "genuine_repeat");
        ensure!(scanned(&brand, code_of(&sold.codes, 1))? == "revoked");
        network.stop()
    });
}

fn code_of(codes: &[(String, String)], at: usize) -> &str {
    &codes[at].0
}

fn labels(brand: &Client) -> Result<()> {
    let made = brand.ok(&[
        "codes", "labels", "L1.csv", "--out", "l1.pdf", "--count", "150",
    ])?;
    ensure!(made["labels"] == 150, "{made}");
    ensure!(fs::read(brand.dir.join("l1.pdf"))?.starts_with(b"%PDF-"));
    let args = "codes labels L1.csv --out l1.png --format png --symbol datamatrix --page letter --columns 3 --rows 4 --count 13 --dpi 100 --module 1";
    let made = brand.ok(&args.split(' ').collect::<Vec<_>>())?;
    ensure!(made["pages"] == 2, "{made}");
    for name in ["l1-1.png", "l1-2.png"] {
        ensure!(
            fs::read(brand.dir.join(name))?.starts_with(b"\x89PNG"),
            "{name}"
        );
    }
    let refused = brand.run(&[
        "codes", "labels", "L1.csv", "--out", "x.pdf", "--module", "9",
    ])?;
    let (exit, _, message) = refused.refusal()?;
    ensure!(
        exit == 2 && message.contains("expected 0.2 to 5"),
        "{message}"
    );
    let args = "codes labels L1.csv --out x.pdf --columns 20 --rows 20";
    let (exit, _, message) = brand.run(&args.split(' ').collect::<Vec<_>>())?.refusal()?;
    ensure!(exit == 2 && message.contains("mm would"), "{message}");
    Ok(())
}

/// Codes 1 and 2 of the batch are withdrawn, 0 and 3 are not.
fn waste(
    brand: &Client,
    media: &Client,
    batch: &str,
    codes: &[(String, String)],
    other: &str,
) -> Result<()> {
    let code = |at: usize| codes[at].0.as_str();
    let serial = |at: usize| code(at).rsplit('/').next().unwrap_or_default().to_owned();
    ensure!(scanned(brand, code(1))? == "genuine_first");
    let list = |text: String| -> Result<tally_tests::Outcome> {
        fs::write(brand.dir.join("waste.txt"), text)?;
        brand.run(&["codes", "void", batch, "waste.txt"])
    };
    // One code of another batch spoils the list; the line is told, and nothing is withdrawn.
    let (exit, code_word, message) = list(format!("{}\n\n{other}\n", code(1)))?.refusal()?;
    ensure!(
        exit == 1 && code_word == "bad_lines",
        "{code_word}: {message}"
    );
    ensure!(message.contains("line 3: a code of batch"), "{message}");
    ensure!(scanned(brand, code(1))? == "genuine_repeat");

    let done = list(format!("# waste\n{}\n{}\n", code(1), serial(1)))?.ok()?;
    ensure!(
        done["withdrawn"] == 1 && done["repeated"] == 1 && done["void"] == 1,
        "{done}"
    );
    ensure!(
        done["records"].as_array().is_some_and(|r| r.len() == 1),
        "{done}"
    );
    // By a pipe; the first is withdrawn already.
    let mut piped = Command::new(tally())
        .args(["codes", "void", batch, "-", "--json"])
        .arg("--config")
        .arg(brand.config())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let text = format!("{}\n{}\n", serial(1), serial(2).to_lowercase());
    piped
        .stdin
        .take()
        .context("standard input")?
        .write_all(text.as_bytes())?;
    let out = piped.wait_with_output()?;
    let done: Value = serde_json::from_slice(&out.stdout)?;
    ensure!(
        done["withdrawn"] == 1 && done["already"] == 1 && done["void"] == 2,
        "{done}"
    );
    let again = list(format!("{}\n{}\n", code(1), code(2)))?.ok()?;
    ensure!(
        again["withdrawn"] == 0 && again["records"] == json!([]),
        "{again}"
    );

    // At home, elsewhere, to a look and on the page; the neighbours are as they were.
    media.wait_height(brand.head(None)?.0, Duration::from_secs(30))?;
    for client in [brand, media] {
        for at in [1, 2] {
            ensure!(scanned(client, code(at))? == "revoked");
        }
    }
    ensure!(scanned(media, code(3))? == "genuine_first");
    ensure!(scanned(brand, code(0))? == "genuine_first");
    let looked = brand.run(&["codes", "verify", code(1)])?;
    ensure!(
        looked.exit == 4 && looked.json["verdict"] == "revoked",
        "{looked:?}"
    );
    let path = code(1).splitn(4, '/').nth(3).context("a path")?;
    let page = String::from_utf8(get(&brand.http, &format!("/{path}"))?.body)?;
    ensure!(
        page.contains("Withdrawn") || page.contains("作废"),
        "{page}"
    );
    let batches = brand.ok(&["codes", "list"])?;
    ensure!(
        batches
            .as_array()
            .into_iter()
            .flatten()
            .any(|b| b["batch"] == batch && b["void"] == 2),
        "{batches}"
    );

    // The proof says so too, and that of a neighbour says that it is not.
    let network = brand.ok(&["status"])?;
    let id = network["network_id"].as_str().context("a network")?;
    for (at, exit, reason) in [(1, 4, "revoked"), (3, 0, "")] {
        brand.ok(&[
            "proof",
            code(at),
            "--out",
            "code.tlog-proof",
            "--policy-out",
            "code.policy",
        ])?;
        let judged = brand.judge(id, "code.policy", "code.tlog-proof", &[])?;
        ensure!(judged.exit == exit, "{judged:?}");
        if exit == 0 {
            ensure!(judged.json["revoked"] == false, "{judged:?}");
        } else {
            let (_, code, _) = judged.refusal()?;
            ensure!(code == reason, "{code}");
        }
    }
    Ok(())
}

fn printed_again(brand: &Client, batch: &str, codes: &[(String, String)]) -> Result<()> {
    let printer = Printer::new();
    fs::write(
        brand.dir.join("printers.txt"),
        format!("# the second printer\n{}\n", printer.recipient),
    )?;
    let args = "codes export BATCH --out again.jsonl --format jsonl --claims-to printers.txt";
    let args = args.replace("BATCH", batch);
    let done = brand.ok(&args.split(' ').collect::<Vec<_>>())?;
    ensure!(done["count"] == codes.len(), "{done}");
    let outer = fs::read_to_string(brand.dir.join("again.jsonl"))?;
    let claims = printer.decrypted(&brand.dir.join("again.claims.jsonl.age"))?;
    let mut rows = outer.lines().zip(claims.lines());
    for (url, claim) in codes {
        let (outer, claims) = rows.next().context("a row is missing")?;
        let (outer, claims): (Value, Value) =
            (serde_json::from_str(outer)?, serde_json::from_str(claims)?);
        ensure!(outer["url"] == *url && claims["claim_code"] == *claim);
    }
    // In clear there are none.
    for args in [
        vec!["codes", "export", batch, "--claims-out", "clear.csv"],
        vec!["codes", "export", batch],
    ] {
        let outcome = brand.run(&args)?;
        ensure!(outcome.exit == 2, "{outcome:?}");
    }
    ensure!(!brand.dir.join("clear.csv").exists());
    let unknown = brand.run(&["codes", "export", &"0".repeat(32), "--out", "none.csv"])?;
    let (_, code, _) = unknown.refusal()?;
    ensure!(code == "not_found", "{code}");
    Ok(())
}

/// Somebody with every key of the node prints a unit that was never issued.
fn insider(brand: &Client, product: &str, real: &str) -> Result<()> {
    ensure!(metric(brand, "tally_codes_insider_alarms_total")? == 0);
    let (issuer, keys) = stolen(brand)?;
    let forged = |index: u64| -> Result<String> {
        let spec = BatchSpec::new(product.parse()?, index, 1)?;
        let unit = Deriver::new(&issuer, issuer.current(), &keys, spec)?.unit(index)?;
        let (stem, _) = real.rsplit_once('/').context("a link")?;
        Ok(format!("{stem}/{}", unit.serial))
    };
    // The keys are the real ones: inside the batch they make a real code.
    let verdict = scanned(brand, &forged(2_999)?)?;
    ensure!(verdict.starts_with("genuine"), "{verdict}");
    ensure!(metric(brand, "tally_codes_insider_alarms_total")? == 0);
    // Index 3,005 is a unit of the second batch, 100,000 of none.
    for index in [3_005, 100_000] {
        ensure!(scanned(brand, &forged(index)?)? == "unknown", "{index}");
    }
    let (stem, _) = real.rsplit_once('/').context("a link")?;
    ensure!(scanned(brand, &format!("{stem}/{}", "7".repeat(20)))? == "unknown");
    // A scan may be verified more than once.
    let alarms = metric(brand, "tally_codes_insider_alarms_total")?;
    ensure!(alarms >= 2, "{alarms} alarms");
    ensure!(metric(brand, "tally_codes_not_ours_total")? >= 1);
    let status = brand.ok(&["status"])?;
    ensure!(status["codes"]["insider_alarms"] == alarms, "{status}");
    let advice = status["advice"].to_string();
    let expected = format!("alarm: {alarms} scans of codes that this member's keys made");
    ensure!(advice.contains(&expected), "no alarm in {advice}");
    Ok(())
}
