//! The one policy of a network.

use tally_contracts::genesis::{cosigner_name, origin};
use tally_contracts::{Genesis, ValidatorSet};
use tally_merkle::{Policy, Vkey};

use crate::Error;

/// Names that mean something else in a policy, though a member may be called so.
const RESERVED: [&str; 2] = ["none", "validators"];

/// The policy that follows from a genesis, and the only one that [`crate::verify`] takes: every node may sign as the log, in the
/// order of the document, and more than two thirds of the validators, in the order of their consensus keys, must have cosigned.
/// Until there are records of governance, it holds for a network's whole life.
///
/// # Errors
/// [`Error::PolicyForm`] never in practice: a genesis that was checked has at least one validator, and keys that differ.
pub fn network_policy(genesis: &Genesis) -> Result<Policy, Error> {
    let network = genesis.network_id();
    let name = origin(&network);
    let logs = genesis
        .members
        .iter()
        .flat_map(|m| &m.nodes)
        .map(|n| Vkey::ed25519(&name, n.checkpoint.0))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::PolicyForm)?;
    let mut witnesses: Vec<(String, Vkey)> = Vec::new();
    for v in ValidatorSet::from_genesis(genesis).validators() {
        let key = Vkey::cosignature(&cosigner_name(&network, &v.member_name), v.cosignature.0)
            .map_err(Error::PolicyForm)?;
        let before = witnesses
            .iter()
            .filter(|(_, k)| k.name() == key.name())
            .count();
        // Names are unique in a policy. A member's further nodes are numbered, in a way that no member's name can have.
        let name = if before == 0 && !RESERVED.contains(&v.member_name.as_str()) {
            v.member_name.clone()
        } else {
            format!("{}/{}", v.member_name, before + 1)
        };
        witnesses.push((name, key));
    }
    Policy::two_thirds(logs, witnesses).map_err(Error::PolicyForm)
}
