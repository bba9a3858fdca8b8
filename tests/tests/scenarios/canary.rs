//! Canaries: what must never leave a node in clear is put in, and then every place where it could come out is searched.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest, Sha256};
use tally_tests::{Client, Network, Plan, Scenario, get, gtin, request};

/// Bytes by which a form is looked up; every form is longer.
const START: usize = 8;

/// Secrets in every form that they could be found in, by the first bytes of each form.
#[derive(Default)]
struct Canaries {
    forms: HashMap<[u8; START], Vec<(String, Vec<u8>)>>,
    count: usize,
}

impl Canaries {
    /// Adds a value: as it is, and its SHA-256, in bytes, hex and base64.
    fn add(&mut self, what: &str, value: &str) {
        let hash = Sha256::digest(value.as_bytes());
        let hex = hex::encode(hash);
        let mut forms = vec![value.as_bytes().to_vec(), hash.to_vec()];
        for text in [
            hex.to_uppercase(),
            hex,
            STANDARD.encode(hash),
            URL_SAFE_NO_PAD.encode(hash),
            hex::encode(value),
        ] {
            forms.push(text.into_bytes());
        }
        for form in forms {
            let start = *form
                .first_chunk()
                .expect("a canary is long enough to be told apart");
            let same = self.forms.entry(start).or_default();
            if !same.iter().any(|(_, known)| *known == form) {
                same.push((what.to_owned(), form));
            }
        }
        self.count += 1;
    }

    /// What stands in these bytes, if anything.
    fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        (0..bytes.len()).find_map(|at| {
            let rest = &bytes[at..];
            let candidates = self.forms.get(rest.first_chunk::<START>()?)?;
            candidates
                .iter()
                .find(|(_, form)| rest.starts_with(form))
                .map(|(what, _)| what.as_str())
        })
    }

    /// That none stands in these bytes.
    fn absent(&self, place: &str, bytes: &[u8]) -> Result<()> {
        match self.found_in(bytes) {
            None => Ok(()),
            Some(what) => bail!("{what} stands in {place}"),
        }
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
        &["config", "show"],
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

        let mut canaries = Canaries::default();
        let json = [("content-type", "application/json")];
        for (i, (url, claim)) in batch.codes.iter().enumerate() {
            canaries.add(&format!("claim code {i}"), claim);
            canaries.add(
                &format!("claim code {i} without hyphens"),
                &claim.replace('-', ""),
            );
            // At the issuer and through another member; the right claim, a wrong one, none.
            for (client, n) in [(&brand, 0), (&media, 1)] {
                let mut body = json!({"code": url});
                match (i + n) % 3 {
                    0 => body["claim"] = json!(claim),
                    1 => body["claim"] = json!(batch.codes[(i + 1) % batch.codes.len()].1),
                    _ => {}
                }
                let answer = request(
                    &client.http,
                    "POST",
                    "/v1/scans",
                    &json,
                    body.to_string().as_bytes(),
                )?;
                ensure!(answer.status == 200, "{}", answer.told());
                // Who scans a code is told which; a claim code is never told.
                canaries.absent("the answer to a scan", &answer.body)?;
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
            let answer = request(&brand.http, "POST", "/v1/scans", &json, body.as_bytes())?;
            ensure!(answer.status == 400, "{}", answer.told());
            canaries.absent("the answer to a broken request", &answer.body)?;
        }
        brand.ok(&["codes", "verify", url, "--claim", claim])?;
        // A look by a phone, whose path careless servers log.
        let path = url.splitn(4, '/').nth(3).context("a path")?;
        ensure!(get(&brand.http, &format!("/{path}"))?.status == 200);
        for (i, (url, _)) in batch.codes.iter().enumerate() {
            canaries.add(
                &format!("serial {i}"),
                url.rsplit('/').next().context("a serial")?,
            );
        }
        people(scenario, &network, &mut canaries)?;
        // Anchors, heartbeats and retries have their say.
        std::thread::sleep(Duration::from_secs(3));

        // A search that finds nothing because it looks at nothing is worth nothing.
        ensure!(
            canaries.found_in(format!("GET {url}").as_bytes()).is_some(),
            "the search does not find"
        );

        let mut searched = 0;
        for member in network.iter() {
            for (place, bytes) in answers(member)? {
                canaries.absent(&place, &bytes)?;
                searched += 1;
            }
        }
        network.stop()?;
        for member in network.iter() {
            ensure!(
                member.log().len() > 1_000,
                "{} logged nothing to search",
                member.name
            );
            let mut found = Vec::new();
            files(&member.dir, &mut found)?;
            for file in found {
                canaries.absent(&file.display().to_string(), &fs::read(&file)?)?;
                searched += 1;
            }
        }
        println!("{} canaries, {searched} places", canaries.count);
        Ok(())
    });
}

/// People of two audiences, by phone and by e-mail; half of each are in both. Imported, agreed on, matched by both computations.
fn people(scenario: &Scenario, network: &Network, canaries: &mut Canaries) -> Result<()> {
    const PEOPLE: u32 = 60;
    let (brand, media) = (&network[0], &network[2]);
    for (id_type, first) in [("phone", 0), ("email", 500)] {
        let mut rows = [format!("{id_type}\n"), format!("{id_type}\n")];
        for n in 0..PEOPLE * 3 / 2 {
            let (value, forms) = person(id_type, first + n);
            for form in forms {
                canaries.add(&format!("{id_type} {n}"), &form);
            }
            for (side, from) in [(0, 0), (1, PEOPLE / 2)] {
                if (from..from + PEOPLE).contains(&n) {
                    rows[side].push_str(&format!("{value}\n"));
                }
            }
        }
        // One row that is no ID, which a report might repeat.
        let broken = format!("canary-{id_type}-of-no-form-91357");
        canaries.add("a broken row", &broken);
        for (member, rows) in [brand, media].into_iter().zip(&rows) {
            let file = scenario
                .dir()
                .join(format!("{}-{id_type}.csv", member.name));
            fs::write(&file, format!("{rows}{broken}\n"))?;
            let file = file.to_str().context("a path in UTF-8")?;
            let done = member.ok(&[
                "audience",
                "import",
                file,
                "--label",
                id_type,
                "--id-type",
                id_type,
            ])?;
            ensure!(
                done["people"] == PEOPLE && done["report"]["dropped_rows"] == 1,
                "{done}"
            );
            canaries.absent("the report of an import", done.to_string().as_bytes())?;
        }
        let mut args = vec![
            "agreement",
            "propose",
            "--with",
            "media",
            "--purpose",
            "canaries",
            "--noise",
            "none",
        ];
        args.extend([
            "--computation",
            "cardinality",
            "--computation",
            "list",
            "--min-set",
            "1",
            "--min-result",
            "1",
        ]);
        args.extend(["--id-type", id_type]);
        let proposed = brand.ok(&args)?;
        let agreement = proposed["agreement"].as_str().context("an agreement")?;
        media.wait_height(
            proposed["height"].as_u64().context("a height")?,
            Duration::from_secs(30),
        )?;
        let accepted = media.ok(&["agreement", "accept", agreement])?;
        brand.wait_height(
            accepted["height"].as_u64().context("a height")?,
            Duration::from_secs(30),
        )?;
        let out = scenario.dir().join(format!("list-{id_type}.csv"));
        for computation in ["cardinality", "list"] {
            let mut args = vec![
                "match",
                "request",
                "--agreement",
                agreement,
                "--audience",
                id_type,
            ];
            args.extend(["--computation", computation]);
            if computation == "list" {
                // The one file that people are meant to be in.
                args.extend(["--out", out.to_str().context("a path in UTF-8")?]);
            }
            let answer = brand.ok(&args)?;
            canaries.absent("the answer to a match", answer.to_string().as_bytes())?;
        }
        let listed = fs::read(&out)?;
        ensure!(
            canaries.found_in(&listed).is_some(),
            "the list of people has nobody in it"
        );
        for member in network.iter() {
            for args in [
                &["audience", "list"][..],
                &["agreement", "list"],
                &["agreement", "show", agreement],
                &["match", "list"],
            ] {
                let answer = member.run(args)?;
                let text = format!("{} {}", answer.json, answer.stderr);
                canaries.absent(
                    &format!("tally {} of {}", args.join(" "), member.name),
                    text.as_bytes(),
                )?;
            }
        }
    }
    Ok(())
}

/// A value for a CSV file, and the forms that it takes on its way.
fn person(id_type: &str, n: u32) -> (String, Vec<String>) {
    if id_type == "phone" {
        let national = format!("1390{:07}", 4_817_000 + 13 * n);
        let forms = vec![
            format!("+86{national}"),
            format!("86{national}"),
            national.clone(),
        ];
        (
            format!(
                "+86 {} {} {}",
                &national[..3],
                &national[3..7],
                &national[7..]
            ),
            forms,
        )
    } else {
        let name = format!("zq7canary{n}");
        let forms = vec![format!("{name}@mail{n}.example"), name.clone()];
        (format!(" {}@Mail{n}.example ", name.to_uppercase()), forms)
    }
}
