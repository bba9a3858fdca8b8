//! The bytes of every format, as they were when they were first published. A difference is a new format version, not a new
//! golden file: set `TALLY_BLESS=1` only to add one.

#[path = "common/bodies.rs"]
mod bodies;
mod common;

use std::path::PathBuf;

use common::{NAMES, Net, key, public, sign, signed_genesis};
use tally_contracts::block::{
    Block, BlockInfo, CommitCertificate, CommitSignature, Header, VoteType, vote_sign_bytes,
};
use tally_contracts::ids::{BlockHash, KeyId, MemberId, RecordId, SessionId, Signature};
use tally_contracts::records::{Body, BudgetCap, Computation, KeyPurpose, Noise};
use tally_contracts::state::{
    AgreementState, AgreementStatus, AnchorState, AudienceState, BatchState, BatchStatus, Budget,
    ChangeState, ChangeStatus, KeyState, KeyUse, MatchState, MatchStatus, NetworkInfo,
    OverlapParty, OverlapState, ProductState, RetiredKey, RevokedState, Schedule, Scheduled,
    TerritoryState, keys,
};
use tally_contracts::{
    Canonical, Genesis, GenesisFile, NetworkKind, Record, Refusal, RefusalNotice, StateProof,
    StateTree, ValidatorSet,
};
use tally_merkle::Hash;

fn check(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.hex"));
    let lines: Vec<String> = hex::encode(bytes)
        .as_bytes()
        .chunks(128)
        .map(|c| String::from_utf8(c.to_vec()).unwrap())
        .collect();
    let text = lines.join("\n") + "\n";
    if std::env::var_os("TALLY_BLESS").is_some() && !path.exists() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, text, "{name}");
}

fn value<T: Canonical + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let bytes = value.to_bytes();
    check(name, &bytes);
    assert_eq!(&T::from_bytes(&bytes).unwrap(), value);
    for cut in 0..bytes.len() {
        assert!(T::from_bytes(&bytes[..cut]).is_err(), "{name} cut at {cut}");
    }
    let long = [bytes.as_slice(), &[0]].concat();
    assert!(T::from_bytes(&long).is_err(), "{name} with a byte more");
}

#[test]
fn genesis() {
    let file = signed_genesis(NetworkKind::Test);
    check("genesis", file.document());
    check("genesis_file", &file.to_bytes());
    assert_eq!(
        Genesis::from_bytes(file.document()).unwrap(),
        *file.genesis()
    );
    assert_eq!(GenesisFile::from_bytes(&file.to_bytes()).unwrap(), file);
    check("network_id", &file.network_id().0);
    check(
        "member_id",
        &file.genesis().member_by_name("brand").unwrap().id.0,
    );
    check("key_id", &KeyId::of(&public("brand", "records")).0);
    value(
        "member_entry",
        file.genesis().member_by_name("brand").unwrap(),
    );
    value("validator_set", &ValidatorSet::from_genesis(file.genesis()));
}

#[test]
fn bodies_of_every_kind() {
    for (name, body) in bodies::all() {
        let bytes = body.to_bytes();
        check(&format!("body_{name}"), &bytes);
        let kind = body.kind().code();
        assert_eq!(Body::from_bytes(kind, &bytes).unwrap(), body);
    }
}

#[test]
fn envelope_with_one_and_two_signers() {
    let net = Net::new(NetworkKind::Test);
    let all = bodies::all();
    for (name, signers) in [
        ("record_one_signer", &[("brand", "records")][..]),
        (
            "record_two_signers",
            &[("brand", "records"), ("media", "records")][..],
        ),
    ] {
        let unsigned = net.unsigned(&all[0].1, signers);
        let record = sign(&unsigned, signers);
        check(name, record.bytes());
        assert_eq!(Record::from_bytes(record.bytes()).unwrap(), record);
        assert_eq!(record.id(), unsigned.id());
    }
    let record = net.record(all[0].1.clone(), &[("brand", "records")]);
    check("record_id", &record.id().0);
}

fn header() -> Header {
    Header {
        rules_version: 1,
        network: Net::new(NetworkKind::Test).network(),
        height: 9,
        previous: BlockHash([1; 32]),
        time_ms: common::START_MS + 5,
        record_count: 2,
        tree_size: 40,
        tree_root: Hash([2; 32]),
        state_root: Hash([3; 32]),
        proposer: MemberId([4; 16]),
    }
}

#[test]
fn block_votes_and_certificate() {
    let header = header();
    check("header", &header.to_bytes());
    check("block_hash", &header.hash().0);
    let block = Block {
        header: header.clone(),
        records: vec![b"one".to_vec(), b"two".to_vec()],
    };
    check("block", &block.to_bytes());
    assert_eq!(Block::from_bytes(&block.to_bytes()).unwrap(), block);
    let info = BlockInfo {
        rules_version: 1,
        height: 9,
        time_ms: header.time_ms,
        previous: header.previous,
        record_count: 2,
        proposer: header.proposer,
        state_root: header.state_root,
    };
    check("block_info", &info.to_bytes());
    assert_eq!(BlockInfo::from_bytes(&info.to_bytes()).unwrap(), info);
    let hash = header.hash();
    for (name, kind, voted) in [
        ("vote_prevote", VoteType::Prevote, Some(&hash)),
        ("vote_precommit", VoteType::Precommit, Some(&hash)),
        ("vote_precommit_nil", VoteType::Precommit, None),
    ] {
        check(name, &vote_sign_bytes(&header.network, 9, 3, kind, voted));
    }
    let mut signatures: Vec<_> = NAMES
        .iter()
        .map(|(name, ..)| CommitSignature {
            validator: public(name, "consensus"),
            signature: {
                use ed25519_dalek::Signer as _;
                let bytes =
                    vote_sign_bytes(&header.network, 9, 3, VoteType::Precommit, Some(&hash));
                Signature(key(name, "consensus").sign(&bytes).to_bytes())
            },
        })
        .collect();
    signatures.sort_by_key(|s| s.validator);
    let certificate = CommitCertificate {
        height: 9,
        round: 3,
        block: hash,
        signatures,
    };
    check("commit_certificate", &certificate.to_bytes());
}

#[test]
fn state_values() {
    let net = Net::new(NetworkKind::Test);
    let record = RecordId([9; 32]);
    value(
        "state_network",
        &NetworkInfo {
            network: net.network(),
            kind: NetworkKind::Test,
            name: "Example network".into(),
            created_ms: 5,
        },
    );
    value("state_rules", &net.genesis.rules);
    value(
        "state_key",
        &KeyState {
            key: public("brand", "records"),
            key_use: KeyUse::Records,
            next_nonce: 3,
        },
    );
    value(
        "state_product",
        &ProductState {
            owner: MemberId([1; 16]),
            description: "Tea".into(),
            brand: "Example".into(),
            record,
        },
    );
    value(
        "state_batch",
        &BatchState {
            owner: MemberId([1; 16]),
            gtin: "09521234543213".parse().unwrap(),
            lot: "L1".parse().unwrap(),
            first_index: 1,
            count: 2,
            unit_root: Hash([3; 32]),
            redemption_root: Hash([4; 32]),
            expires: None,
            status: BatchStatus::Recalled,
            record,
            changed_ms: 6,
            recall_reason: "leak".into(),
        },
    );
    value(
        "state_revoked",
        &RevokedState {
            leaves: bodies::revoked_part(0, &[0, 100, 2047]).leaves,
        },
    );
    value(
        "state_territory",
        &TerritoryState {
            territory: bodies::territory(&["CN-SC", "VN", "geohash:wm6"]),
            record,
            set_ms: 8,
        },
    );
    value(
        "state_anchor",
        &AnchorState {
            size: 5,
            root: Hash([1; 32]),
            record,
            anchored_ms: 7,
        },
    );
    let parties = vec![MemberId([1; 16]), MemberId([2; 16])];
    value(
        "state_agreement",
        &AgreementState {
            terms: bodies::terms(parties.clone()),
            proposer: parties[0],
            accepted: parties.clone(),
            status: AgreementStatus::Active,
            matches: 4,
            proposed_ms: 8,
        },
    );
    value(
        "state_audience",
        &AudienceState {
            root: Hash([1; 32]),
            size_bucket: 12,
            profile: "e164".parse().unwrap(),
            record,
        },
    );
    let charge = BudgetCap {
        micro_rho: 10,
        delta: 11,
    };
    value(
        "state_budget",
        &Budget {
            spent: charge,
            reserved: BudgetCap::default(),
        },
    );
    value(
        "state_match",
        &MatchState {
            agreement: record,
            computation: Computation::Cardinality,
            noise: Noise::None,
            charge,
            count_charge: BudgetCap::default(),
            initiator: parties[0],
            responder: parties[1],
            initiator_audience: bodies::audience(1, 2),
            responder_audience: bodies::audience(3, 4),
            status: MatchStatus::Done,
            record,
            opened_ms: 9,
            initiator_stream: Hash([5; 32]),
            receipt: bodies::receipt().digest(&SessionId([6; 32])),
        },
    );
    value(
        "agreement_join_sum",
        &bodies::sum_terms(parties.clone(), parties[0]),
    );
    let overlap = bodies::overlap_terms(
        vec![parties[0], parties[1], MemberId([250; 16])],
        Some(MemberId([251; 16])),
    );
    value("agreement_overlap_n", &overlap);
    let party = |member, audience, confirmed| OverlapParty {
        member,
        audience,
        confirmed,
    };
    value(
        "state_overlap",
        &OverlapState {
            agreement: record,
            noise: Noise::None,
            regions: Noise::None,
            charge,
            helper_charge: BudgetCap {
                micro_rho: 12,
                delta: 13,
            },
            parties: vec![
                party(parties[0], Some(bodies::audience(1, 2)), true),
                party(parties[1], Some(bodies::audience(3, 4)), false),
                party(MemberId([250; 16]), None, false),
            ],
            helper: MemberId([251; 16]),
            status: MatchStatus::Released,
            record,
            opened_ms: 9,
            streams: vec![Hash([5; 32]), Hash([6; 32])],
            receipt: bodies::overlap_receipt().digest(&SessionId([6; 32])),
        },
    );
    value(
        "state_match_join_sum",
        &MatchState {
            agreement: record,
            computation: Computation::JoinSum,
            noise: Noise::None,
            charge,
            count_charge: BudgetCap {
                micro_rho: 12,
                delta: 13,
            },
            initiator: parties[0],
            responder: parties[1],
            initiator_audience: bodies::audience(1, 2),
            responder_audience: bodies::audience(3, 4),
            status: MatchStatus::Open,
            record,
            opened_ms: 9,
            initiator_stream: Hash([0; 32]),
            receipt: Hash([0; 32]),
        },
    );
    value(
        "state_change",
        &ChangeState {
            terms: bodies::proposal(),
            proposer: parties[0],
            approved: parties.clone(),
            against: vec![MemberId([3; 16])],
            status: ChangeStatus::Passed,
            proposed_ms: 10,
            decided_height: 11,
            from_height: 22,
        },
    );
    let scheduled = |from_height, change| Scheduled {
        from_height,
        change: RecordId([change; 32]),
    };
    value(
        "state_schedule",
        &Schedule(vec![scheduled(5, 2), scheduled(5, 1), scheduled(9, 3)]),
    );
    value(
        "state_retired_key",
        &RetiredKey {
            member: parties[0],
            purpose: KeyPurpose::Admin,
            from_height: 12,
        },
    );
    value(
        "refusal",
        &Refusal::NonceGap {
            key: KeyId([1; 8]),
            expected: 2,
            found: 4,
        }
        .notice(),
    );
    assert!(RefusalNotice::from_bytes(&[1, 0, 0, 0, 33]).is_err());
}

#[test]
fn state_roots_and_proofs() {
    let net = Net::new(NetworkKind::Test);
    let mut tree = StateTree::from_leaves(net.state.iter()).unwrap();
    check("state_root_genesis", tree.root().as_bytes());
    assert_eq!(
        tree.root(),
        tally_contracts::apply::genesis_root(&net.genesis).unwrap()
    );
    tree.commit(&[(keys::batch_next(&net.member("brand")), Some(vec![1]))])
        .unwrap();
    check("state_root_after", tree.root().as_bytes());
    value::<StateProof>(
        "state_proof",
        &tree.prove(&keys::member(&net.member("media"))),
    );
    value::<StateProof>(
        "state_proof_absent",
        &tree.prove(&keys::batch_next(&net.member("media"))),
    );
}

#[test]
fn batch_id() {
    let bodies = bodies::all();
    let Body::IssueBatch(batch) = &bodies[1].1 else {
        panic!("the second body is a batch")
    };
    check("batch_id", &batch.id(&MemberId([1; 16])).0);
}
