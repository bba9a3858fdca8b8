//! The verifier: from a network ID and two files to what they prove.

use tally_codes::batch::verify_unit_opening;
use tally_contracts::genesis::{Genesis, Roles, network_id};
use tally_contracts::ids::{BatchId, NetworkId, PublicKey};
use tally_contracts::records::{Body, IssueBatch, RevokedPart};
use tally_contracts::state::{BatchState, BatchStatus, KeyUse, ProductState, RevokedState, keys};
use tally_contracts::{Canonical, Record, StateProof, ValidatorSet, signature};
use tally_merkle::{
    Checkpoint, Hash, Note, Policy, TlogProof, Verified, leaf_hash, verify_inclusion,
};

use crate::extra::{BlockInclusion, CodeExtra, Extra, RecordExtra, StateValue};
use crate::policy::policy_of;
use crate::report::{CodeReport, Cosigner, Proven, RecordReport, Report, Signatory};
use crate::roster::Roster;
use crate::state::Statement;
use crate::{Error, UnitCode};

/// Judges a proof of ours, of whatever kind, with nothing but the network's ID, which must come from elsewhere. `policy`
/// and `proof` are the bytes of the two files; `code`, if given, is the code that the proof must be of.
///
/// Every byte counts: a policy must be the one of [`crate::network_policy`], a proof must be in its one form, and signatures by keys
/// that the network does not have are refused. A code's batch must be released and not recalled, and the code not void, as of the last block
/// under the checkpoint; of anything later no proof can speak. At most a few hundred signatures and hashes; no IO, no clock.
///
/// # Errors
/// [`Error`]. For [`Error::Recalled`], [`Error::Revoked`], [`Error::NotReleased`] and [`Error::Expired`] all else is proven, and [`Error::report`] has it.
pub fn verify(
    network: &NetworkId,
    policy: &[u8],
    proof: &[u8],
    code: Option<&UnitCode>,
) -> Result<Report, Error> {
    verify_under(network, policy, proof, code, None)
}

/// As [`verify`], where members have changed the network since its genesis: validators and keys are those of `roster`, which must
/// come from a replay of the verifier's own, or from somebody it trusts. `None` takes those of the genesis, or those that follow from it
/// by what the proof carries ([`crate::Following`]).
///
/// # Errors
/// As [`verify`].
pub fn verify_under(
    network: &NetworkId,
    policy: &[u8],
    proof: &[u8],
    code: Option<&UnitCode>,
    roster: Option<&Roster>,
) -> Result<Report, Error> {
    let text = std::str::from_utf8(proof).map_err(|_| Error::Text { what: "proof" })?;
    let proof: TlogProof = text.parse().map_err(Error::ProofForm)?;
    if proof.to_string() != text {
        return Err(Error::ProofNotCanonical);
    }
    let extra = proof.extra.as_deref().ok_or(Error::NoExtra)?;
    let extra = Extra::from_bytes(extra).map_err(Error::Extra)?;

    let found = network_id(extra.genesis());
    if found != *network {
        return Err(Error::OtherNetwork {
            expected: *network,
            found,
        });
    }
    let genesis = Genesis::from_bytes(extra.genesis()).map_err(Error::Genesis)?;
    // What leads from the genesis to others is judged even if the verifier brings members of its own: every byte counts.
    let (own, extra) = match extra {
        Extra::Followed(following, of) => (following.roster(&genesis)?, *of),
        plain => (Roster::of_genesis(&genesis), plain),
    };
    let roster = roster.unwrap_or(&own);
    if roster.network != *network {
        return Err(Error::OtherNetwork {
            expected: *network,
            found: roster.network,
        });
    }
    let set = roster.validators();
    let expected = policy_of(network, &roster.members, &set)?;
    check_policy(policy, &expected)?;
    let quorum = judge_checkpoint(&proof.checkpoint, &expected, &set)?;
    if quorum.unknown_signatures > 0 {
        return Err(Error::UnknownSignatures {
            found: quorum.unknown_signatures,
        });
    }

    if proof.checkpoint.signatures.len() != usize::from(extra.signatures()) {
        return Err(Error::SignatureCount {
            expected: extra.signatures(),
            found: proof.checkpoint.signatures.len(),
        });
    }

    let checkpoint = &quorum.checkpoint;
    let committed = |entry: &RecordExtra| {
        let RecordExtra { record, block, .. } = entry;
        committed(
            roster,
            checkpoint,
            record,
            block,
            proof.index,
            &proof.hashes,
        )
    };
    let (entry, proven) = match &extra {
        Extra::Record(_) | Extra::Match(_) | Extra::Overlap(_) | Extra::State(_)
            if code.is_some() =>
        {
            return Err(Error::NotOfCode);
        }
        Extra::Followed(..) => {
            return Err(Error::Contradiction {
                what: "a proof from the genesis holds another one",
            });
        }
        Extra::Record(extra) => (
            extra.record.clone(),
            Proven::Record(Box::new(committed(extra)?)),
        ),
        Extra::Code(extra) => (
            extra.issued.record.clone(),
            Proven::Code(Box::new(judge_code(
                roster,
                extra,
                &committed(&extra.issued)?,
                checkpoint,
                code,
            )?)),
        ),
        Extra::Scan(extra) => {
            let anchored = committed(&extra.anchored)?;
            let judged = crate::scan::judge(roster, extra, anchored, code)?;
            (
                extra.anchored.record.clone(),
                Proven::Scan(Box::new(judged)),
            )
        }
        Extra::State(extra) => {
            let judged = crate::state::judge(roster, extra, &proof, checkpoint)?;
            (extra.head.to_bytes(), Proven::State(Box::new(judged)))
        }
        Extra::Match(extra) => {
            let closed = committed(&extra.closed)?;
            let judged = crate::matching::judge(roster, extra, closed, checkpoint)?;
            (extra.closed.record.clone(), Proven::Match(Box::new(judged)))
        }
        Extra::Overlap(extra) => {
            let closed = committed(&extra.closed)?;
            let judged = crate::overlap::judge(roster, extra, closed, checkpoint)?;
            let judged = Proven::Overlap(Box::new(judged));
            (extra.closed.record.clone(), judged)
        }
    };
    let report = Report {
        network: *network,
        network_name: genesis.name.clone(),
        network_kind: genesis.kind,
        tree_size: quorum.checkpoint.size,
        tree_root: quorum.checkpoint.root,
        signed_by: log_names(roster, &quorum),
        cosigners: quorum
            .witnesses
            .into_iter()
            .map(|(name, time_s)| Cosigner { name, time_s })
            .collect(),
        needed: expected.needed(),
        validators: expected.witnesses().count(),
        members: roster
            .members
            .iter()
            .map(|m| (m.id, m.name.clone()))
            .collect(),
        entry,
        proven,
    };
    let status = match &report.proven {
        Proven::Code(shown) => Some((shown.status, shown.revoked, shown.is_expired())),
        Proven::State(shown) => match &shown.statement {
            statement if !statement.is_there() => return Err(Error::Absent(Box::new(report))),
            Statement::Batch { state, .. } => state.as_ref().map(|b| {
                let expired = b.expires.is_some_and(|date| date.is_over(shown.as_of_ms));
                (b.status, false, expired)
            }),
            _ => None,
        },
        _ => None,
    };
    match status {
        Some((BatchStatus::Recalled, ..)) => Err(Error::Recalled(Box::new(report))),
        Some((_, true, _)) => Err(Error::Revoked(Box::new(report))),
        Some((BatchStatus::Issued, ..)) => Err(Error::NotReleased(Box::new(report))),
        Some((BatchStatus::Active, _, true)) => Err(Error::Expired(Box::new(report))),
        None | Some((BatchStatus::Active, ..)) => Ok(report),
    }
}

/// The policy must be the network's own, byte for byte.
fn check_policy(policy: &[u8], expected: &Policy) -> Result<(), Error> {
    let expected = expected.to_string();
    if policy == expected.as_bytes() {
        return Ok(());
    }
    // What follows only finds the best words for the refusal.
    let text = std::str::from_utf8(policy).map_err(|_| Error::Text { what: "policy" })?;
    let policy: Policy = text.parse().map_err(Error::PolicyForm)?;
    policy.check_two_thirds().map_err(|_| Error::PolicyShort)?;
    let same = text
        .lines()
        .zip(expected.lines())
        .take_while(|(a, b)| a == b)
        .count();
    Err(Error::PolicyDiffers { line: same + 1 })
}

/// The checkpoint must have a quorum by number, as the policy says, and by power, as the blocks have. `policy` is that of the
/// validators in `set`. Signatures by other keys are counted, not refused.
///
/// # Errors
/// [`Error::Quorum`], [`Error::Power`], [`Error::Checkpoint`].
pub fn judge_checkpoint(
    checkpoint: &Note,
    policy: &Policy,
    set: &ValidatorSet,
) -> Result<Verified, Error> {
    let verified = policy.verify(checkpoint).map_err(|error| match error {
        tally_merkle::Error::Quorum { found, .. } => Error::Quorum {
            found,
            needed: policy.needed(),
            validators: policy.witnesses().count(),
        },
        other => Error::Checkpoint(other),
    })?;
    // The policy names the validators in the order of the set.
    let power = policy
        .witnesses()
        .zip(set.validators())
        .filter(|((name, _), _)| verified.witnesses.iter().any(|(w, _)| w == name))
        .fold(0_u64, |sum, (_, v)| sum.saturating_add(v.power));
    if !set.is_quorum(power) {
        return Err(Error::Power {
            found: power,
            needed: set.quorum_power(),
            total: set.total_power(),
        });
    }
    Ok(verified)
}

/// The members whose nodes signed as the log.
fn log_names(roster: &Roster, quorum: &Verified) -> Vec<String> {
    quorum
        .logs
        .iter()
        .filter_map(|key| {
            let key = PublicKey(key.key().try_into().ok()?);
            Some(roster.by_checkpoint_key(&key)?.name.clone())
        })
        .collect()
}

/// A record that stands under the checkpoint at its index, signed by who it says, and the time of its block.
pub(crate) fn committed(
    roster: &Roster,
    checkpoint: &Checkpoint,
    record: &[u8],
    block: &BlockInclusion,
    place: u64,
    hashes: &[Hash],
) -> Result<RecordReport, Error> {
    let included = |what, leaf: &Hash, index, path: &[Hash]| {
        verify_inclusion(leaf, index, checkpoint.size, path, &checkpoint.root)
            .map_err(|source| Error::Inclusion { what, source })
    };
    included("record", &leaf_hash(record), place, hashes)?;
    let BlockInclusion { index, info, path } = block;
    included("block", &leaf_hash(&info.to_bytes()), *index, path)?;
    // A block's records stand right before its BlockInfo.
    let first = index.checked_sub(info.record_count.into());
    if place >= *index || first.is_none_or(|first| place < first) {
        return Err(Error::Contradiction {
            what: "the record is in another block",
        });
    }
    let record = Record::from_bytes(record).map_err(Error::Record)?;
    if record.unsigned().network != roster.network {
        return Err(Error::Contradiction {
            what: "the record is of another network",
        });
    }
    let body = record.body().map_err(|e| Error::Record(e.into()))?;
    let mut keys = Vec::with_capacity(record.signers().len());
    let mut signatories = Vec::with_capacity(record.signers().len());
    for signer in record.signers() {
        let (key, key_use) = roster.signing_key(signer).ok_or_else(|| Error::Signer {
            reason: format!(
                "member {} has no key {} that is known here",
                signer.member, signer.key
            ),
        })?;
        keys.push(key);
        signatories.push(Signatory {
            member: signer.member,
            name: roster.name(&signer.member).unwrap_or_default().to_owned(),
            key: signer.key,
            key_use,
        });
    }
    for signed in record.signed(&keys) {
        signature::verify("record", &signed.key, &signed.message, &signed.signature).map_err(
            |e| Error::Signer {
                reason: e.to_string(),
            },
        )?;
    }
    Ok(RecordReport {
        record: record.id(),
        body,
        signatories,
        index: place,
        height: info.height,
        time_ms: info.time_ms,
    })
}

fn judge_code(
    roster: &Roster,
    extra: &CodeExtra,
    issued: &RecordReport,
    checkpoint: &Checkpoint,
    asked: Option<&UnitCode>,
) -> Result<CodeReport, Error> {
    let contradiction = |what| Error::Contradiction { what };
    let Body::IssueBatch(body) = &issued.body else {
        return Err(contradiction("the record issues no batch"));
    };
    let [issuer] = issued.signatories.as_slice() else {
        return Err(contradiction("the batch has more than one issuer"));
    };
    let member = roster
        .member(&issuer.member)
        .filter(|m| m.roles.has(Roles::BRAND) && issuer.key_use == KeyUse::Records)
        .ok_or_else(|| contradiction("the signer may not issue a batch"))?;

    let opening = &extra.opening;
    if opening.gtin.as_bytes() != body.gtin.as_bytes() {
        return Err(contradiction(
            "the code is of another product than the batch",
        ));
    }
    verify_unit_opening(&body.unit_root, body.count, opening)
        .map_err(|_| Error::NotInBatch { units: body.count })?;
    let code = UnitCode {
        gtin: opening.gtin,
        serial: opening.serial,
    };
    if asked.is_some_and(|asked| *asked != code) {
        return Err(Error::OtherCode { found: code });
    }

    let head = &extra.head;
    let root = head.state_root(checkpoint)?;
    let id = body.id(&member.id);
    let batch: BatchState = in_state("batch", root, &keys::batch(&id), &extra.batch)?;
    let as_issued = IssueBatch {
        gtin: batch.gtin,
        lot: batch.lot.clone(),
        first_index: batch.first_index,
        count: batch.count,
        unit_root: batch.unit_root,
        redemption_root: batch.redemption_root,
        expires: batch.expires,
    };
    if as_issued != *body || batch.owner != member.id || batch.record != issued.record {
        return Err(contradiction(
            "the batch in the state is not the one issued",
        ));
    }
    let product: ProductState =
        in_state("product", root, &keys::product(&body.gtin), &extra.product)?;
    if product.owner != member.id {
        return Err(contradiction("the product is another member's"));
    }
    let revoked = is_revoked(&id, root, opening.leaf_index, &extra.revoked)?;
    Ok(CodeReport {
        code,
        description: product.description,
        brand: product.brand,
        lot: batch.lot,
        expires: batch.expires,
        batch: id,
        units: batch.count,
        issuer: member.id,
        issuer_name: member.name.clone(),
        record: issued.record,
        index: issued.index,
        issued_height: issued.height,
        issued_ms: issued.time_ms,
        status: batch.status,
        status_since_ms: batch.changed_ms,
        recall_reason: batch.recall_reason,
        revoked,
        as_of_height: head.info.height,
        as_of_ms: head.info.time_ms,
    })
}

/// Whether the leaf is void, by its part of the batch's void list or by the proof that there is no such part.
fn is_revoked(id: &BatchId, root: &Hash, leaf: u64, shown: &StateValue) -> Result<bool, Error> {
    let key = keys::revoked(id, RevokedPart::number_of(leaf));
    if shown.value.is_empty() {
        StateProof::verify(&shown.proof, root, &key, None).map_err(|source| Error::State {
            what: "void list",
            source,
        })?;
        return Ok(false);
    }
    let part: RevokedState = in_state("void list", root, &key, shown)?;
    Ok(part.leaves.contains(leaf))
}

pub(crate) fn in_state<T: Canonical>(
    what: &'static str,
    root: &Hash,
    key: &[u8],
    shown: &StateValue,
) -> Result<T, Error> {
    let StateValue { value, proof } = shown;
    StateProof::verify(proof, root, key, Some(value))
        .map_err(|source| Error::State { what, source })?;
    T::from_bytes(value).map_err(|e| Error::State {
        what,
        source: e.into(),
    })
}

#[cfg(test)]
mod tests {
    use tally_contracts::genesis::{cosigner_name, origin};
    use tally_merkle::note;

    use super::*;
    use crate::policy::network_policy;
    use crate::policy::tests::{genesis, key};

    #[test]
    fn a_quorum_by_number_is_none_by_power_alone_and_neither_the_other_way() {
        let genesis = genesis(&[("a", &[10]), ("b", &[1]), ("c", &[1]), ("d", &[1])]);
        let policy = network_policy(&genesis).unwrap();
        let network = genesis.network_id();
        let judge = |cosigners: &[(&str, u8)]| {
            let text = Checkpoint {
                origin: origin(&network),
                size: 1,
                root: leaf_hash(b"x"),
            }
            .to_string();
            let mut checkpoint = Note::unsigned(text.clone()).unwrap();
            let log = note::sign(&text, &origin(&network), &key(3)).unwrap();
            checkpoint.signatures.push(log);
            for (name, n) in cosigners {
                let name = cosigner_name(&network, name);
                let signature = note::cosign(&text, &name, &key(*n), 5).unwrap();
                checkpoint.signatures.push(signature);
            }
            judge_checkpoint(&checkpoint, &policy, &ValidatorSet::from_genesis(&genesis))
        };
        let (a, b, c, d) = (("a", 4), ("b", 14), ("c", 24), ("d", 34));
        assert!(judge(&[a, b, c]).is_ok());
        assert_eq!(
            judge(&[b, c, d]),
            Err(Error::Power {
                found: 3,
                needed: 9,
                total: 13
            })
        );
        assert_eq!(
            judge(&[a, b]),
            Err(Error::Quorum {
                found: 2,
                needed: 3,
                validators: 4
            })
        );
    }
}
