//! A member as its operator and its customers reach it; may be cloned into threads.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::http::{Response, get, request};
use crate::{gtin, tally, until};

/// What a command line came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its exit code.
    pub exit: i32,
    /// The JSON value that it printed; null if none.
    pub json: Value,
    /// What it said to standard error.
    pub stderr: String,
}

impl Outcome {
    /// The answer.
    ///
    /// # Errors
    /// If the exit code is not 0.
    pub fn ok(self) -> Result<Value> {
        if self.exit == 0 {
            Ok(self.json)
        } else {
            bail!("exit {}: {} {}", self.exit, self.json, self.stderr)
        }
    }

    /// Code and message of a refusal, with the exit code.
    ///
    /// # Errors
    /// If it was no refusal in the form that all commands have.
    pub fn refusal(&self) -> Result<(i32, String, String)> {
        let error = &self.json["error"];
        let text = |key: &str| error[key].as_str().map(str::to_owned);
        ensure!(
            self.exit != 0 && self.json["exit"] == self.exit,
            "not refused: {self:?}"
        );
        let (code, message) = text("code")
            .zip(text("message"))
            .with_context(|| format!("a refusal without code and message: {self:?}"))?;
        Ok((self.exit, code, message))
    }
}

/// A member's node, from outside.
#[derive(Debug, Clone)]
pub struct Client {
    /// The member's name.
    pub name: String,
    /// Its data directory.
    pub dir: PathBuf,
    /// Host and port of its HTTP gateway.
    pub http: String,
}

impl Client {
    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("tally.toml")
    }

    /// Runs `tally ARGS --json` for this member, in its folder.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub fn run(&self, args: &[&str]) -> Result<Outcome> {
        run_in(&self.dir, args)
    }

    /// As [`Self::run`]; it must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub fn ok(&self, args: &[&str]) -> Result<Value> {
        self.run(args)?
            .ok()
            .with_context(|| format!("{}: tally {}", self.name, args.join(" ")))
    }

    /// What `tally audit verify` says of a proof under a policy, both files, run by this member; `more` are further arguments.
    ///
    /// # Errors
    /// If the program cannot be run, or a path is not UTF-8.
    pub fn judge(
        &self,
        network: &str,
        policy: impl AsRef<Path>,
        proof: impl AsRef<Path>,
        more: &[&str],
    ) -> Result<Outcome> {
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
        let (policy, proof) = (text(policy.as_ref())?, text(proof.as_ref())?);
        let args = [
            "audit",
            "verify",
            "--network",
            network,
            "--policy",
            &policy,
            "--proof",
            &proof,
        ];
        self.run(&[&args[..], more].concat())
    }

    /// Scans a code over HTTP.
    ///
    /// # Errors
    /// If the connection fails or breaks.
    pub fn scan(&self, code: &str, key: &str) -> Result<Response> {
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        let body = json!({"code": code}).to_string();
        request(&self.http, "POST", "/v1/scans", &headers, body.as_bytes())
    }

    /// Waits until the node is ready to serve.
    ///
    /// # Errors
    /// If it is not within `limit`.
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        until(&format!("{} to be ready", self.name), limit, || {
            let answer = get(&self.http, "/readyz")?;
            ensure!(answer.status == 200, "{}", answer.told());
            Ok(())
        })
    }

    /// Height and state root, of now or as of a height.
    ///
    /// # Errors
    /// If the node does not answer.
    pub fn head(&self, at_height: Option<u64>) -> Result<(u64, String)> {
        let text = at_height.map(|h| h.to_string());
        let mut args = vec!["ledger", "head"];
        args.extend(text.iter().flat_map(|h| ["--at-height", h.as_str()]));
        let head = self.ok(&args)?;
        head["height"]
            .as_u64()
            .zip(head["state_root"].as_str().map(str::to_owned))
            .context("a head without height and state root")
    }

    /// Waits until the node has committed `height`.
    ///
    /// # Errors
    /// If it has not within `limit`.
    pub fn wait_height(&self, height: u64, limit: Duration) -> Result<()> {
        until(&format!("{} at height {height}", self.name), limit, || {
            let (have, _) = self.head(None)?;
            ensure!(have >= height, "it is at {have}");
            Ok(())
        })
    }

    /// Registers a product with a description that only its number makes; gives the record ID.
    ///
    /// # Errors
    /// If the command fails.
    pub fn add_product(&self, gtin: &str) -> Result<String> {
        let made = self.ok(&["product", "add", "--gtin", gtin, "--description", "Tea"])?;
        id(&made, "record")
    }

    /// Registers products, numbered by `next`, until told to stop; gives the records that were acknowledged.
    pub fn load(&self, next: &AtomicU32, stop: &AtomicBool) -> Vec<String> {
        let mut acknowledged = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match self.add_product(&gtin(next.fetch_add(1, Ordering::Relaxed))) {
                Ok(record) => acknowledged.push(record),
                // A node that starts again, say: nothing was promised.
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
        acknowledged
    }

    /// Issues a batch of codes, its claim codes for a printer of its own, and activates it if wanted. Gives its ID and the rows:
    /// link and claim code.
    ///
    /// # Errors
    /// If a command fails, or the file is not as announced.
    pub fn issue(&self, gtin: &str, lot: &str, count: usize, activate: bool) -> Result<Batch> {
        self.issue_with(gtin, lot, count, activate, &[])
    }

    /// The same with more options of the command.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn issue_with(
        &self,
        gtin: &str,
        lot: &str,
        count: usize,
        activate: bool,
        more: &[&str],
    ) -> Result<Batch> {
        let out = self.dir.join(format!("{lot}.csv"));
        let printer = Printer::new();
        let (count_text, out_text) = (count.to_string(), path_text(&out)?);
        let base = [
            "codes",
            "issue",
            "--gtin",
            gtin,
            "--lot",
            lot,
            "--count",
            &count_text,
            "--out",
            &out_text,
            "--claims-to",
            &printer.recipient,
        ];
        let made = self.ok(&[&base[..], more].concat())?;
        let batch = Batch {
            id: id(&made, "batch")?,
            record: id(&made, "record")?,
            codes: rows(
                &std::fs::read_to_string(&out)?,
                &printer.decrypted(&out.with_extension("claims.csv.age"))?,
            )?,
        };
        ensure!(
            batch.codes.len() == count,
            "{} rows for {count} codes",
            batch.codes.len()
        );
        if activate {
            self.ok(&["codes", "activate", &batch.id])?;
        }
        Ok(batch)
    }
}

/// A batch of codes.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its ID.
    pub id: String,
    /// The record that issued it.
    pub record: String,
    /// Link and claim code of each unit.
    pub codes: Vec<(String, String)>,
}

/// A printer with an age key of its own.
pub struct Printer {
    identity: age::x25519::Identity,
    /// Its public recipient, `age1...`.
    pub recipient: String,
}

impl Printer {
    /// One that nobody knew before.
    #[must_use]
    pub fn new() -> Self {
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        Self {
            identity,
            recipient,
        }
    }

    /// Reads a file that was encrypted to it.
    ///
    /// # Errors
    /// If it was not, or is not whole.
    pub fn decrypted(&self, path: &Path) -> Result<String> {
        let file = std::fs::File::open(path)
            .with_context(|| format!("{} cannot be opened", path.display()))?;
        let opened = age::Decryptor::new_buffered(std::io::BufReader::new(file))?;
        let identity: &dyn age::Identity = &self.identity;
        let mut text = String::new();
        opened
            .decrypt(std::iter::once(identity))?
            .read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Default for Printer {
    fn default() -> Self {
        Self::new()
    }
}

/// Link and claim code of each unit, from the two files of a printer, whose rows are in one order.
fn rows(outer: &str, claims: &str) -> Result<Vec<(String, String)>> {
    let (mut outer, mut claims) = (outer.lines(), claims.lines());
    ensure!(
        (outer.next(), claims.next()) == (Some("url,serial"), Some("serial,claim_code")),
        "other headers"
    );
    let rows = outer
        .by_ref()
        .zip(claims.by_ref())
        .map(|(outer, claim)| {
            let (url, serial) = outer.split_once(',').context("a row of another form")?;
            match claim.split_once(',') {
                Some((same, claim)) if same == serial => Ok((url.to_owned(), claim.to_owned())),
                _ => bail!("the files are not of one order"),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        outer.next().is_none() && claims.next().is_none(),
        "one file has more rows"
    );
    Ok(rows)
}

/// Text at a key of an answer.
fn id(answer: &Value, key: &str) -> Result<String> {
    answer[key]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("an answer without {key}: {answer}"))
}

/// A path for a command line.
pub(crate) fn path_text(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .with_context(|| path.display().to_string())
}

/// Runs `tally ARGS --json` in a folder.
pub(crate) fn run_in(dir: &Path, args: &[&str]) -> Result<Outcome> {
    let out = Command::new(tally())
        .current_dir(dir)
        .args(args)
        .arg("--json")
        .env_remove("TALLY_CONFIG")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run tally {}", args.join(" ")))?;
    Ok(Outcome {
        exit: out.status.code().unwrap_or(-1),
        json: serde_json::from_slice(&out.stdout).unwrap_or_default(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    })
}
