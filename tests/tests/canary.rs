//! Canaries: what must never leave a node in clear is put in, and then every place where it could come out is searched.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest, Sha256};
use tally_tests::{Client, Network, Plan, Scenario, get, gtin, request};

/// Something secret, and every form that it could be found in.
struct Canary {
    what: String,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    /// Of a value as it is, and its SHA-256 in hex and base64.
    fn new(what: impl Into<String>, value: &str) -> Self {
        let hash = Sha256::digest(value.as_bytes());
        let hex = hex::encode(hash);
        let mut forms = vec![value.as_bytes().to_vec(), hash.to_vec()];
        for text in [
            hex.to_uppercase(),
            hex,
            STANDARD.encode(hash),
            STANDARD_NO_PAD.encode(hash),
            URL_SAFE_NO_PAD.encode(hash),
            hex::encode(value),
            STANDARD.encode(value),
        ] {
            forms.push(text.into_bytes());
        }
        Self {
            what: what.into(),
            forms,
        }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms
            .iter()
            .any(|form| bytes.windows(form.len()).any(|w| w == form))
    }
}

/// Every file below a folder.
fn files(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// That no canary is in these bytes.
fn search(canaries: &[Canary], place: &str, bytes: &[u8]) -> Result<()> {
    for canary in canaries {
        ensure!(!canary.is_in(bytes), "{} stands in {place}", canary.what);
    }
    Ok(())
}

/// Everything that a member's node says over HTTP and to its operator.
fn answers(client: &Client) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for path in [
        "/",
        "/check",
        "/v1/status",
        "/metrics",
        "/healthz",
        "/readyz",
        "/checkpoint",
        "/v1/scans/none",
    ] {
        let answer = get(&client.http, path)?;
        all.push((
            format!("{} of {}", path, client.name),
            [answer.head.as_bytes(), &answer.body].concat(),
        ));
    }
    for args in [
        &["status"][..],
        &["codes", "list"],
        &["ledger", "head"],
        &["ledger", "checkpoint"],
        &["config", "check"],
    ] {
        let answer = client.run(args)?;
        all.push((
            format!("tally {} of {}", args.join(" "), client.name),
            [answer.json.to_string().as_bytes(), answer.stderr.as_bytes()].concat(),
        ));
    }
    for (i, entry) in tally_tests::entries(&client.http)?.into_iter().enumerate() {
        all.push((format!("entry {i} of {}", client.name), entry.bytes));
        let shown = client.ok(&["ledger", "show", &i.to_string()])?;
        all.push((
            format!("ledger show {i} of {}", client.name),
            shown.to_string().into_bytes(),
        ));
    }
    Ok(all)
}

#[test]
fn no_secret_comes_out() {
    Scenario::run("canary", |scenario| {
        let mut network = Network::found(scenario, &Plan::four())?;
        for member in network.iter() {
            // As much as a node can be made to say.
            member.configure(
                "log",
                "level",
                "debug,tally_node=trace,tally_psi=trace,tally_measure=trace,tally_swarm=trace",
            )?;
        }
        network.start()?;
        let (brand, media) = (network[0].client(), network[2].client());
        brand.add_product(&gtin(1))?;
        let batch = brand.issue(&gtin(1), "L1", 40, true)?;
        // The printer takes its file away.
        fs::remove_file(brand.dir.join("L1.csv"))?;

        let mut canaries = Vec::new();
        for (i, (url, claim)) in batch.codes.iter().enumerate() {
            let serial = url.rsplit('/').next().context("a serial")?;
            canaries.push(Canary::new(format!("serial {i}"), serial));
            canaries.push(Canary::new(format!("claim code {i}"), claim));
            let bare = claim.replace('-', "");
            if bare != *claim {
                canaries.push(Canary::new(
                    format!("claim code {i} without hyphens"),
                    &bare,
                ));
            }
            // At the issuer and through another member; the right claim, a wrong one, none.
            for (client, n) in [(&brand, 0), (&media, 1)] {
                let mut body = json!({"code": url});
                match (i + n) % 3 {
                    0 => body["claim"] = json!(claim),
                    1 => body["claim"] = json!(batch.codes[(i + 1) % 40].1),
                    _ => {}
                }
                let headers = [("content-type", "application/json")];
                let answer = request(
                    &client.http,
                    "POST",
                    "/v1/scans",
                    &headers,
                    body.to_string().as_bytes(),
                )?;
                ensure!(answer.status == 200, "{}", answer.told());
                // The one who scans a code gets it told; a claim code is never told.
                for canary in canaries.iter().filter(|c| c.what.starts_with("claim code")) {
                    ensure!(!canary.is_in(&answer.body), "{} in an answer", canary.what);
                }
            }
        }
        // Requests that are refused must not be repeated in errors or logs either.
        let (url, claim) = &batch.codes[0];
        for body in [
            format!("{{\"code\":\"{url}\",\"claim\":\"{claim}\",\"x\":1}}"),
            format!("{{\"code\":\"{url}\",\"claim\":\"{claim}\""),
            format!("{{\"code\":\"{url}\",\"claim\":[\"{claim}\"]}}"),
            format!("{{\"code\":\"{url}\",\"claim\":\"{claim}{claim}{claim}{claim}\"}}"),
        ] {
            let headers = [("content-type", "application/json")];
            let answer = request(&brand.http, "POST", "/v1/scans", &headers, body.as_bytes())?;
            ensure!(answer.status == 400, "{}", answer.told());
            search(&canaries, "the answer to a broken request", &answer.body)?;
        }
        brand
            .run(&["codes", "verify", url, "--claim", claim])?
            .ok()?;
        // A look by a phone, that logs its path in careless servers.
        let path = url.splitn(4, '/').nth(3).context("a path")?;
        ensure!(get(&brand.http, &format!("/{path}"))?.status == 200);
        std::thread::sleep(Duration::from_secs(3));

        // A search that finds nothing because it looks at nothing is worth nothing.
        ensure!(
            canaries[0].is_in(url.as_bytes()),
            "the search does not find"
        );

        let mut searched = 0;
        for member in network.iter() {
            for (place, bytes) in answers(member)? {
                search(&canaries, &place, &bytes)?;
                searched += 1;
            }
        }
        network.stop()?;
        for member in network.iter() {
            let mut found = Vec::new();
            files(&member.dir, &mut found)?;
            for file in found {
                let bytes = fs::read(&file)?;
                search(&canaries, &file.display().to_string(), &bytes)?;
                searched += 1;
            }
            ensure!(
                member.log().len() > 1_000,
                "{} logged nothing to search",
                member.name
            );
        }
        println!("{} canaries, {searched} places", canaries.len());
        Ok(())
    });
}
