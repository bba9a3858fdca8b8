//! One record and one code, each proven from two files: what an auditor takes home.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tally_contracts::ids::NetworkId;
use tally_evidence::{Proven, Report, UnitCode};

use super::network::Network;
use crate::commands::audit::verify_files;
use crate::exit::Failure;

/// Proof and policy as files.
struct Files {
    network: NetworkId,
    policy: PathBuf,
    proof: PathBuf,
}

impl Files {
    /// Writes what a node answered.
    fn write(network: &Network, kit: &Value, root: &Path, name: &str) -> Result<Self> {
        let text = |name: &str| {
            kit[name]
                .as_str()
                .with_context(|| format!("an answer without {name}"))
        };
        let files = Self {
            network: network.id.parse().context("the network ID")?,
            policy: root.join("policy"),
            proof: root.join(format!("{name}.tlog-proof")),
        };
        std::fs::write(&files.proof, text("proof")?)?;
        std::fs::write(&files.policy, text("policy")?)?;
        Ok(files)
    }

    /// Verifies them as `tally audit verify` does.
    fn verify(&self, code: Option<&UnitCode>) -> Result<Report> {
        verify_files(&self.network, &self.policy, &self.proof, code)
    }

    /// Whether a proof with one bit changed in its middle, and the whole one for another network, are refused: a verifier that
    /// takes everything would pass what comes before.
    fn refused_when_changed(&self) -> Result<bool> {
        let mut bytes = std::fs::read(&self.proof)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        let changed = self.proof.with_extension("changed");
        std::fs::write(&changed, bytes)?;
        let bent = verify_files(&self.network, &self.policy, &changed, None);
        std::fs::remove_file(&changed)?;
        let other = NetworkId(self.network.0.map(|b| !b));
        let elsewhere = verify_files(&other, &self.policy, &self.proof, None);
        Ok(bent.is_err() && elsewhere.is_err())
    }
}

/// Gets proof and policy of a record from the auditor's node, writes them to files, and verifies them from those files alone.
pub(crate) fn record(network: &Network, id: &str, root: &Path) -> Result<bool> {
    let auditor = network.members.last().context("four members")?;
    let kit = auditor.call("record_proof", &json!({"record": id}))?;
    let files = Files::write(network, &kit, root, "record")?;
    let report = files.verify(None)?;
    let Proven::Record(record) = report.proven else {
        anyhow::bail!("the proof is of a code");
    };
    ensure!(
        record.record.to_string() == id,
        "the proof is of another record"
    );
    files.refused_when_changed()
}

/// Gets proof and policy of a code that is on sale, and of one whose batch is recalled, from the brand's node; the first must
/// verify from the files alone and the second be refused as recalled.
pub(crate) fn code(network: &Network, sold: &str, recalled: &str, root: &Path) -> Result<bool> {
    let brand = network.brand();
    let kit = brand.call("proof", &json!({"code": sold}))?;
    let files = Files::write(network, &kit, root, "code")?;
    let asked: UnitCode = sold.parse()?;
    let Proven::Code(code) = files.verify(Some(&asked))?.proven else {
        anyhow::bail!("the proof is of a record");
    };
    ensure!(code.issuer_name == brand.name, "another issuer");
    let other: UnitCode = recalled.parse()?;
    ensure!(
        reason(files.verify(Some(&other))) == "other_code",
        "a proof of one code is taken for another"
    );
    let good = files.refused_when_changed()?;

    let kit = brand.call("proof", &json!({"code": recalled}))?;
    let files = Files::write(network, &kit, root, "recalled-code")?;
    Ok(good && reason(files.verify(Some(&other))) == "recalled")
}

/// The word for why a proof is refused; nothing if it is not.
fn reason(verified: Result<Report>) -> String {
    verified
        .err()
        .and_then(|e| e.downcast_ref::<Failure>().map(|f| f.code.clone()))
        .unwrap_or_default()
}
