//! The one policy of a network.

use tally_contracts::genesis::{cosigner_name, origin};
use tally_contracts::ids::NetworkId;
use tally_contracts::{Genesis, MemberEntry, ValidatorSet};
use tally_merkle::{Policy, Vkey};

use crate::Error;

/// Names that mean something else in a policy, though a member may be called so.
const RESERVED: [&str; 2] = ["none", "validators"];

/// The policy that follows from a genesis, and the only one that [`crate::verify`] takes: every node may sign as the log, in the
/// order of the document, and more than two thirds of the validators, in the order of their consensus keys, must have cosigned.
/// It holds until members change their network; then [`policy_of`] gives that of the members of then.
///
/// # Errors
/// [`Error::PolicyForm`] never in practice: a genesis that was checked has at least one validator, and keys that differ.
pub fn network_policy(genesis: &Genesis) -> Result<Policy, Error> {
    let set = ValidatorSet::from_genesis(genesis);
    policy_of(&genesis.network_id(), &genesis.members, &set)
}

/// The policy of members and validators as they are at some time.
///
/// # Errors
/// [`Error::PolicyForm`] if there are none.
pub fn policy_of(
    network: &NetworkId,
    members: &[MemberEntry],
    set: &ValidatorSet,
) -> Result<Policy, Error> {
    let name = origin(network);
    let logs = members
        .iter()
        .flat_map(|m| &m.nodes)
        .map(|n| Vkey::ed25519(&name, n.checkpoint.0))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::PolicyForm)?;
    let mut witnesses: Vec<(String, Vkey)> = Vec::new();
    for v in set.validators() {
        let key = Vkey::cosignature(&cosigner_name(network, &v.member_name), v.cosignature.0)
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

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::SigningKey;
    use tally_contracts::ids::PublicKey;
    use tally_contracts::{NetworkKind, NodeEntry, Roles, Rules};

    use super::*;

    /// The key number `n`.
    pub(crate) fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    /// Members with a node for each power; the keys of node `i`, counted over all, are 10 i + 1 to 10 i + 5.
    pub(crate) fn genesis(members: &[(&str, &[u64])]) -> Genesis {
        let public = |n| PublicKey::from(&key(n));
        let (mut at, mut entries) = (0, Vec::new());
        for (i, (name, powers)) in (200..).zip(members) {
            let mut nodes = Vec::new();
            for power in *powers {
                nodes.push(NodeEntry {
                    transport: public(at + 1),
                    consensus: public(at + 2),
                    checkpoint: public(at + 3),
                    cosignature: public(at + 4),
                    records: public(at + 5),
                    power: *power,
                    consensus_addr: "/dns4/localhost/tcp/7000".into(),
                    swarm_addr: "/dns4/localhost/tcp/7001".into(),
                    http_url: String::new(),
                });
                at += 10;
            }
            entries.push(MemberEntry::new(name, Roles::BRAND, vec![public(i)], nodes).unwrap());
        }
        let rules = Rules::default();
        Genesis::new("t", NetworkKind::Test, 0, [0; 32], rules, entries).unwrap()
    }

    #[test]
    fn every_network_has_a_policy() {
        for (members, names) in [
            (&[("a", &[1][..])][..], &["a"][..]),
            (&[("a", &[1, 5]), ("b", &[1, 0])], &["a", "a/2", "b"]),
            // A member may be called as a policy's own words are.
            (
                &[("none", &[1]), ("validators", &[1, 1]), ("c", &[2])],
                &["c", "none/1", "validators/1", "validators/2"],
            ),
        ] {
            let genesis = genesis(members);
            let policy = network_policy(&genesis).unwrap();
            policy.check_two_thirds().unwrap();
            assert_eq!(policy.to_string().parse(), Ok(policy.clone()));
            let mut found: Vec<_> = policy.witnesses().map(|(name, _)| name).collect();
            found.sort_unstable();
            assert_eq!(found, names);
            let nodes: usize = members.iter().map(|(_, powers)| powers.len()).sum();
            assert_eq!(policy.logs().count(), nodes);
            assert_eq!(policy.needed(), names.len() * 2 / 3 + 1);
        }
    }
}
