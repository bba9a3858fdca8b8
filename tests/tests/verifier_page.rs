//! The page that verifies proofs, from disk in a real browser: it takes what `tally audit verify` takes, and refuses what the command
//! refuses, for the same reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tally_evidence::{UnitCode, verify};
use tally_tests::{Scenario, skip, tally, until};

#[path = "browser/webdriver.rs"]
#[expect(dead_code, reason = "other scenarios use the rest of it")]
mod webdriver;

use webdriver::{DESKTOP, Driver, PHONE, Session};

const PATIENCE: Duration = Duration::from_secs(20);
/// Bent files that the page judges in one call; a call may take 30 s.
const AT_ONCE: usize = 400;
const KINDS: [&str; 7] = [
    "code", "record", "scan", "batch", "member", "budget", "match",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../node/evidence/tests/golden")
        .join(name)
}

/// The published proofs, their network and its policy.
struct Golden {
    network: String,
    policy: Vec<u8>,
    code: String,
}

impl Golden {
    fn read() -> Result<Self> {
        let text =
            |name| -> Result<String> { Ok(fs::read_to_string(golden(name))?.trim().to_owned()) };
        Ok(Self {
            network: text("network_id")?,
            policy: fs::read(golden("policy"))?,
            code: text("code")?,
        })
    }

    fn proof(name: &str) -> Result<Vec<u8>> {
        Ok(fs::read(golden(&format!("{name}.tlog-proof")))?)
    }

    /// What the verifier of the command says: `verified`, or its reason.
    fn judge(&self, policy: &[u8], proof: &[u8], code: Option<&UnitCode>) -> Result<&'static str> {
        let network = self.network.parse().context("the network ID")?;
        Ok(verify(&network, policy, proof, code).map_or_else(|e| e.reason(), |_| "verified"))
    }
}

/// The path of the command's page, written anew.
fn page(dir: &Path) -> Result<PathBuf> {
    let file = dir.join("verifier.html");
    let out = Command::new(tally())
        .args(["export", "verifier", "--json", "--out"])
        .arg(&file)
        .output()?;
    ensure!(out.status.success(), "tally export verifier: {out:?}");
    let told: Value = serde_json::from_slice(&out.stdout)?;
    ensure!(told["bytes"] == fs::metadata(&file)?.len());
    let text = fs::read_to_string(&file)?;
    for host in [
        "http://", "https://", "//cdn", "import(", "fetch(", "XMLHttp",
    ] {
        // The name of a namespace is not an address that is asked.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        ensure!(!text.contains(host), "the page has {host}");
    }
    Ok(file)
}

/// What the page says of bent files: those bytes of `what` are flipped by `flip`.
fn page_says(
    session: &Session,
    golden: &Golden,
    proof: &[u8],
    what: &str,
    at: &[usize],
    flip: u8,
) -> Result<Vec<String>> {
    let script = format!(
        "const bytes = t => Uint8Array.from(atob(t), c => c.charCodeAt(0));
         const proof = bytes('{}'), policy = bytes('{}');
         return (async () => {{
           const out = [];
           for (const at of {at:?}) {{
             const bent = {what}.slice();
             bent[at] ^= {flip};
             const r = await tally.verify('{}', '{what}' === 'policy' ? bent : policy, '{what}' === 'proof' ? bent : proof, '');
             out.push(r.code);
           }}
           return out;
         }})();",
        STANDARD.encode(proof),
        STANDARD.encode(&golden.policy),
        golden.network,
    );
    let said = session.execute(&script)?;
    let said = said.as_array().context("a list")?;
    Ok(said
        .iter()
        .map(|v| v.as_str().unwrap_or_default().to_owned())
        .collect())
}

/// The page has one word for what is wrong with a policy.
fn same(page: &str, command: &str, what: &str) -> bool {
    page == command
        || what == "policy" && page == "policy_differs" && command.starts_with("policy_")
        // The policy that is no text.
        || what == "policy" && page == "policy_differs" && command == "malformed"
}

fn agree(session: &Session, golden: &Golden, name: &str, what: &str, step: usize) -> Result<usize> {
    let proof = Golden::proof(name)?;
    let bytes = if what == "proof" {
        &proof
    } else {
        &golden.policy
    };
    let mut count = 0;
    for (i, flip) in [0x01, 0x20, 0x80].into_iter().enumerate() {
        // The three ways start at different bytes, so that a step leaves none out for ever.
        let at: Vec<usize> = (i % step..bytes.len()).step_by(step).collect();
        for at in at.chunks(AT_ONCE) {
            let said = page_says(session, golden, &proof, what, at, flip)?;
            for (at, said) in at.iter().zip(said) {
                let mut bent = bytes.clone();
                bent[*at] ^= flip;
                let expected = match what {
                    "proof" => golden.judge(&golden.policy, &bent, None)?,
                    _ => golden.judge(&bent, &proof, None)?,
                };
                ensure!(
                    expected != "verified" && same(&said, expected, what),
                    "{name}: {what} byte {at} ^ {flip:#x}: the page says {said}, the command {expected}"
                );
                count += 1;
            }
        }
    }
    Ok(count)
}

/// Fills the form in as a person does; gives the headline and all that is said.
fn fill(
    session: &Session,
    network: &str,
    proof: &Path,
    policy: Option<&Path>,
    code: &str,
) -> Result<(String, String)> {
    session.reload()?;
    session.fill("#network", network)?;
    session.choose("#proof", proof)?;
    if let Some(policy) = policy {
        session.choose("#policy", policy)?;
    }
    session.fill("#code", code)?;
    session.click("button[type=submit]")?;
    until("the answer", PATIENCE, || {
        Ok((session.text("#out h2")?, session.text("#out")?))
    })
}

#[test]
fn the_page_and_the_command_agree() {
    let name = "the_page_and_the_command_agree";
    if let Some(reason) = webdriver::missing() {
        skip(name, &reason);
        return;
    }
    Scenario::run(name, |scenario| {
        let golden = Golden::read()?;
        let file = page(scenario.dir())?;
        let driver = Driver::start(scenario.dir())?;
        let session = driver.session(DESKTOP, "en")?;
        session.open(&format!("file://{}", file.display()))?;
        ensure!(session.execute("return isSecureContext && !!crypto.subtle")? == true);
        for kind in KINDS {
            let proof = Golden::proof(kind)?;
            let script = format!(
                "return tally.verify('{}', null, Uint8Array.from(atob('{}'), c => c.charCodeAt(0)), '')",
                golden.network,
                STANDARD.encode(&proof)
            );
            let said = session.execute(&script)?;
            ensure!(said["code"] == "verified", "{kind}: {said}");
            ensure!(golden.judge(&golden.policy, &proof, None)? == "verified");
        }
        let void = Golden::proof("void")?;
        let script = format!(
            "return tally.verify('{}', null, Uint8Array.from(atob('{}'), c => c.charCodeAt(0)), '')",
            golden.network,
            STANDARD.encode(&void)
        );
        let said = session.execute(&script)?;
        ensure!(said["code"] == "revoked" && said["ok"] == false, "{said}");
        ensure!(golden.judge(&golden.policy, &void, None)? == "revoked");
        // A whole proof byte by byte, the others in steps that no length of a field divides.
        let mut count = agree(&session, &golden, "code", "policy", 1)?;
        for kind in KINDS {
            let step = if kind == "scan" { 1 } else { 17 };
            count += agree(&session, &golden, kind, "proof", step)?;
        }
        count += agree(&session, &golden, "void", "proof", 17)?;
        println!("{count} bent files, one verdict of both for each");

        // And the command itself, as a process.
        let proof = Golden::proof("match")?;
        let bent = scenario.dir().join("bent.tlog-proof");
        for at in (0..proof.len()).step_by(proof.len() / 12) {
            let mut bytes = proof.clone();
            bytes[at] ^= 1;
            fs::write(&bent, &bytes)?;
            let out = Command::new(tally())
                .args(["audit", "verify", "--json", "--network", &golden.network])
                .arg("--policy")
                .arg(self::golden("policy"))
                .arg("--proof")
                .arg(&bent)
                .output()?;
            ensure!(out.status.code() == Some(4), "byte {at}");
            let told: Value = serde_json::from_slice(&out.stdout)?;
            let said = page_says(&session, &golden, &proof, "proof", &[at], 1)?;
            ensure!(
                told["error"]["code"] == said[0],
                "byte {at}: {told} {said:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn a_person_verifies_from_disk() {
    let name = "a_person_verifies_from_disk";
    if let Some(reason) = webdriver::missing() {
        skip(name, &reason);
        return;
    }
    Scenario::run(name, |scenario| {
        let golden = Golden::read()?;
        let file = page(scenario.dir())?;
        let driver = Driver::start(scenario.dir())?;
        let bent = scenario.dir().join("bent.tlog-proof");
        let mut bytes = Golden::proof("code")?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&bent, bytes)?;
        for screen in [PHONE, DESKTOP] {
            let session = driver.session(screen, "en")?;
            session.open(&format!("file://{}", file.display()))?;
            // A file counts by its size; nothing else is fetched, or the look says so.
            let look = |name: &str| {
                session.look_over(&format!("verifier-{name}"), &["a script"], 0..100_000)
            };
            look("form")?;
            let policy = self::golden("policy");
            let proof = self::golden("code.tlog-proof");
            let (head, all) = fill(
                &session,
                &golden.network,
                &proof,
                Some(&policy),
                &golden.code,
            )?;
            ensure!(
                head.starts_with("Verified: ") && head.contains(&golden.code),
                "{head}"
            );
            ensure!(all.contains("4 of 4 validators, 3 needed"), "{all}");
            look("good")?;
            let (head, all) = fill(&session, &golden.network, &bent, None, "")?;
            ensure!(
                head == "Not verified" && all.contains("Reason: "),
                "{head}: {all}"
            );
            look("refused")?;
            let other = "09521234543213/00000000000000000000";
            let (_, all) = fill(&session, &golden.network, &proof, None, other)?;
            ensure!(all.contains("Reason: other_code"), "{all}");
            let (_, all) = fill(&session, &"07".repeat(32), &proof, None, "")?;
            ensure!(all.contains("Reason: other_network"), "{all}");
            let (_, all) = fill(&session, &golden.network, &policy, None, "")?;
            ensure!(all.contains("Reason: malformed"), "{all}");
            let (_, all) = fill(&session, &golden.network, &proof, Some(&proof), "")?;
            ensure!(all.contains("Reason: policy_differs"), "{all}");
            let scan = self::golden("scan.tlog-proof");
            let (head, _) = fill(&session, &golden.network, &scan, None, "")?;
            ensure!(head.contains("answered genuine_repeat"), "{head}");
            look("scan")?;
        }
        Ok(())
    });
}
