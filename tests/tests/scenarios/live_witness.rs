//! `aics-witness` of PyPI, a witness that this project did not write, runs beside a network: the nodes ask it for its cosignature,
//! it checks their consistency proofs, and what they serve then satisfies a policy that demands it. Without it they go on.
//!
//! `TALLY_PYTHON` names a Python that has aics-witness; `.ci/run` installs it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tally_merkle::{Note, Policy, Verified};
use tally_tests::{Network, Observer, Plan, Scenario, get, skip, until};

const NAME: &str = "witness.example/1";
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a node serves an older checkpoint for its witnesses' sake.
const WITHOUT: Duration = Duration::from_secs(40);

/// The witness and its process.
struct Witness {
    python: String,
    dir: PathBuf,
    port: u16,
    vkey: String,
    process: Option<Child>,
}

impl Witness {
    fn new(python: &str, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut witness = Self {
            python: python.to_owned(),
            dir,
            port,
            vkey: String::new(),
            process: None,
        };
        let listen = format!("127.0.0.1:{port}");
        let said = witness.run(&["init", "--name", NAME, "--listen", &listen])?;
        witness.vkey = said.trim().to_owned();
        Ok(witness)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", &self.python])
            .args(["-m", "aics_witness"])
            .args(args)
            .current_dir(&self.dir)
            .env("AICS_WITNESS_CONFIG", "witness.json")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        let out = self.command(args).output().context("aics-witness")?;
        ensure!(
            out.status.success(),
            "aics-witness {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        Ok(String::from_utf8(out.stdout)?)
    }

    fn start(&mut self) -> Result<()> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("node.log"))?;
        let process = self
            .command(&["serve"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.process = Some(process);
        let address = format!("127.0.0.1:{}", self.port);
        until("the witness to listen", PATIENCE, || {
            ensure!(get(&address, "/healthz")?.status == 200);
            Ok(())
        })
    }

    fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the witness is not running")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// The size that it cosigned last, and how many requests it kept as evidence against the log.
    fn state(&self) -> Result<(u64, u64)> {
        let status: Value = serde_json::from_str(&self.run(&["status", "--json"])?)?;
        let log = &status["logs"][0];
        let size = log["size"]
            .as_u64()
            .or_else(|| log["state"]["size"].as_u64());
        let evidence = log["evidence"]
            .as_u64()
            .or_else(|| log["evidence_count"].as_u64());
        size.zip(evidence)
            .with_context(|| format!("a size and evidence in {status}"))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The policy of a network, as it exports it.
fn exported_policy(network: &mut Network, root: &Path) -> Result<String> {
    let out = root.join("export");
    let text = out.to_str().context("a path in UTF-8")?;
    network[0].stop()?;
    network[0].ok(&["export", "tiles", "--out", text])?;
    Ok(fs::read_to_string(out.join("policy"))?)
}

/// The same, with an external witness that is demanded besides.
fn with_witness(policy: &str, vkey: &str) -> Result<Policy> {
    let quorum = policy
        .lines()
        .find_map(|line| line.strip_prefix("quorum "))
        .context("a quorum")?;
    // Whatever is named stands before what names it.
    let lines = |groups: bool| -> String {
        policy
            .lines()
            .filter(|line| !line.starts_with("quorum ") && line.starts_with("group ") == groups)
            .map(|line| format!("{line}\n"))
            .collect()
    };
    let text = format!(
        "{}witness external {vkey}\n{}group with-external all {quorum} external\nquorum with-external\n",
        lines(false),
        lines(true)
    );
    Ok(text.parse()?)
}

/// What a node serves, held to a policy.
fn served(address: &str, policy: &Policy) -> Result<Verified> {
    let answer = get(address, "/checkpoint")?;
    ensure!(answer.status == 200, "{}", answer.told());
    let note = Note::parse(std::str::from_utf8(&answer.body)?)?;
    Ok(policy.verify(&note)?)
}

#[test]
fn a_live_witness_cosigns_and_is_not_needed() {
    let python = std::env::var("TALLY_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python)
        .args(["-c", "import aics_witness, aics_tlog"])
        .output()
        .is_ok_and(|out| out.status.success());
    if !has {
        skip(
            "live_witness",
            &format!("{python} has no aics_witness; TALLY_PYTHON names one that has"),
        );
        return;
    }
    Scenario::run("witness", |scenario| {
        let mut witness = Witness::new(&python, scenario.dir().join("witness"))?;
        let mut network = Network::running(scenario, &Plan::four())?;
        network[0].add_product(&tally_tests::gtin(1))?;
        network.agree(PATIENCE)?;
        std::thread::sleep(Duration::from_millis(2_500));
        let exported = exported_policy(&mut network, scenario.dir())?;
        let origin = exported
            .lines()
            .find_map(|line| line.strip_prefix("log ")?.split_once('+'))
            .context("a log in the policy")?
            .0
            .to_owned();
        for line in exported.lines() {
            if let Some(vkey) = line.strip_prefix("log ") {
                witness.run(&["add-log", "--origin", &origin, "--vkey", vkey])?;
            }
        }
        witness.start()?;
        network.stop()?;
        let asked = format!("{} http://127.0.0.1:{}", witness.vkey, witness.port);
        for member in network.iter() {
            member.configure("ledger", "witnesses", vec![asked.clone()])?;
        }
        network.start()?;
        let plain: Policy = exported.parse()?;
        let policy = with_witness(&exported, &witness.vkey)?;

        // Records flow at every node, and every node serves what the witness has cosigned.
        let observer = Observer::start(scenario, &network, 100)?;
        let mut sizes = Vec::new();
        for _ in 0..3 {
            for member in network.iter() {
                let found = until("a cosigned checkpoint", PATIENCE, || {
                    let found = served(&member.http, &policy)?;
                    ensure!(found.witnesses.iter().any(|(name, _)| name == "external"));
                    Ok(found)
                })?;
                sizes.push(found.checkpoint.size);
            }
            std::thread::sleep(Duration::from_secs(3));
        }
        println!("sizes served with the witness: {sizes:?}");
        ensure!(sizes.first() < sizes.last(), "what is served does not grow");

        // The other implementation says so too, and that one byte more or less would not do.
        let note = scenario.dir().join("checkpoint");
        fs::write(&note, get(&network[1].http, "/checkpoint")?.body)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verifiers/witnessed.py");
        let out = Command::new(&python)
            .arg(script)
            .arg(&note)
            .arg(scenario.dir().join("export/policy"))
            .arg(&witness.vkey)
            .output()?;
        ensure!(
            out.status.success(),
            "aics-tlog: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        println!("aics-tlog: {}", String::from_utf8_lossy(&out.stdout).trim());

        // Its operator is told so, and so is a monitor.
        let told = |member: &tally_tests::Member| -> Result<Value> {
            let status = member.ok(&["status"])?;
            Ok(status["witnesses"][0].clone())
        };
        for member in network.iter() {
            let said = told(member)?;
            ensure!(
                said["name"] == NAME && said["cosigned_age_s"].as_u64().is_some_and(|s| s < 30),
                "{said}"
            );
            ensure!(said["refusal"].is_null(), "{said}");
        }

        // Killed, it is missed by nobody but readers who demand it.
        witness.kill()?;
        observer.progress(&[0, 1, 2, 3], Duration::from_secs(5))?;
        let last = sizes.last().copied().unwrap_or_default();
        for member in network.iter() {
            until("a newer checkpoint without the witness", WITHOUT, || {
                let found = served(&member.http, &plain)?;
                ensure!(found.checkpoint.size > last && served(&member.http, &policy).is_err());
                Ok(())
            })?;
            let said = told(member)?;
            let refusal = said["refusal"].as_str().unwrap_or_default();
            ensure!(refusal.contains("refused"), "{said}");
            let status = member.ok(&["status"])?;
            ensure!(status["advice"].to_string().contains(NAME), "{status}");
        }
        witness.start()?;
        for member in network.iter() {
            let found = until("the witness again", WITHOUT * 2, || {
                served(&member.http, &policy)
            })?;
            ensure!(found.checkpoint.size > last);
        }
        let report = observer.finish(&mut network)?;
        let (size, evidence) = witness.state()?;
        println!(
            "{} records, p50 {} ms, p99 {} ms; the witness is at {size}, evidence {evidence}",
            report.records,
            report.percentile_ms(50),
            report.percentile_ms(99)
        );
        ensure!(
            size > last && evidence == 0,
            "the witness is at {size} with {evidence} pieces of evidence"
        );
        network.stop()
    });
}
