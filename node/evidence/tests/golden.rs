//! The bytes of a proof's extra, and a whole proof made by the real parts, as they were when they were first published. A
//! difference is a new version of the format, never a new golden file.

use std::path::PathBuf;

use proptest::prelude::*;
use tally_codes::Serial;
use tally_codes::batch::UnitOpening;
use tally_contracts::block::{BlockInfo, CommitCertificate, CommitSignature, Header};
use tally_contracts::codec::Canonical as _;
use tally_contracts::handover::Handover;
use tally_contracts::ids::{
    BatchId, BlockHash, MemberId, NetworkId, PublicKey, RecordId, Signature,
};
use tally_contracts::state::{BatchStatus, MatchStatus};
use tally_contracts::tree::Terminal;
use tally_contracts::{Genesis, StateProof};
use tally_evidence::{
    BlockInclusion, CodeExtra, Extra, Following, HeadInclusion, MatchExtra, OverlapExtra,
    PastValue, PlacedRecord, Proven, Question, RecordExtra, SIGNED_RECEIPT_BYTES, ScanExtra,
    StateAnswer, StateExtra, StateValue, Statement, UnitCode, network_policy, verify,
};
use tally_merkle::{Hash, TlogProof};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn file(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

fn info(height: u64) -> BlockInfo {
    BlockInfo {
        rules_version: 1,
        height,
        time_ms: 1_790_000_000_000 + height,
        previous: BlockHash([1; 32]),
        record_count: 2,
        proposer: MemberId([2; 16]),
        state_root: Hash([3; 32]),
    }
}

fn record() -> RecordExtra {
    RecordExtra {
        signatures: 5,
        genesis: b"genesis".to_vec(),
        record: b"record".to_vec(),
        block: BlockInclusion {
            index: 8,
            info: info(4),
            path: vec![Hash([4; 32]), Hash([5; 32])],
        },
    }
}

fn code() -> CodeExtra {
    CodeExtra {
        issued: record(),
        opening: UnitOpening {
            salt: [6; 16],
            gtin: "09521234543213".parse().unwrap(),
            serial: Serial::from_bits(12_345_678_901_234_567_890),
            claim_commitment: Hash([7; 32]),
            leaf_index: 9,
            path: vec![Hash([8; 32])],
        },
        head: HeadInclusion {
            info: info(6),
            path: vec![],
        },
        batch: StateValue {
            value: b"batch".to_vec(),
            proof: StateProof {
                siblings: vec![Hash([9; 32])],
                terminal: Terminal::Leaf {
                    key_hash: Hash([10; 32]),
                    value_hash: Hash([11; 32]),
                },
            },
        },
        product: StateValue {
            value: b"product".to_vec(),
            proof: StateProof {
                siblings: vec![],
                terminal: Terminal::Empty,
            },
        },
        revoked: StateValue {
            value: b"part".to_vec(),
            proof: StateProof {
                siblings: vec![Hash([12; 32])],
                terminal: Terminal::Empty,
            },
        },
    }
}

fn check(name: &str, extra: &Extra) {
    let bytes = extra.to_bytes();
    let lines: Vec<String> = hex::encode(&bytes)
        .as_bytes()
        .chunks(128)
        .map(|c| String::from_utf8(c.to_vec()).unwrap())
        .collect();
    let text = lines.join("\n") + "\n";
    let path = path(&format!("{name}.hex"));
    if std::env::var_os("TALLY_BLESS").is_some() && !path.exists() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        text,
        "{name}"
    );
    assert_eq!(&Extra::from_bytes(&bytes).unwrap(), extra);
    for cut in 0..bytes.len() {
        assert!(Extra::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(Extra::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn extras() {
    check("extra_code_2", &Extra::Code(Box::new(code())));
    check("extra_record", &Extra::Record(record()));
}

fn scan() -> ScanExtra {
    ScanExtra {
        anchored: record(),
        // Two reasons: the byte that counts them stands before them and the signature.
        receipt: (0..SIGNED_RECEIPT_BYTES + 4)
            .map(|i| {
                if i == 164 {
                    2
                } else {
                    u8::try_from(i).unwrap()
                }
            })
            .collect(),
        path: vec![Hash([12; 32])],
    }
}

fn state(question: Question, answers: usize) -> StateExtra {
    let answer = |i: usize| StateAnswer {
        value: (i > 0).then(|| b"value".to_vec()),
        proof: StateProof {
            siblings: vec![Hash([13; 32])],
            terminal: Terminal::Empty,
        },
    };
    StateExtra {
        signatures: 5,
        genesis: b"genesis".to_vec(),
        head: info(7),
        question,
        answers: (0..answers).map(answer).collect(),
    }
}

#[test]
fn extras_of_the_other_kinds() {
    check("extra_scan", &Extra::Scan(Box::new(scan())));
    for (name, question, answers) in [
        ("batch", Question::Batch(BatchId([1; 16])), 1),
        ("member", Question::Member(MemberId([2; 16])), 1),
        ("agreement", Question::Agreement(RecordId([3; 32])), 1),
        (
            "budget",
            Question::Budget {
                agreement: RecordId([3; 32]),
                owner: MemberId([4; 16]),
                analyst: MemberId([5; 16]),
                epoch: 6,
            },
            3,
        ),
    ] {
        assert_eq!(question.keys().len(), answers);
        let extra = Extra::State(Box::new(state(question, answers)));
        check(&format!("extra_state_{name}"), &extra);
    }
    let value = |bytes: &[u8]| StateValue {
        value: bytes.to_vec(),
        proof: code().batch.proof,
    };
    let matched = MatchExtra {
        closed: record(),
        head: code().head,
        matched: value(b"match"),
        agreement: value(b"agreement"),
    };
    check("extra_match", &Extra::Match(Box::new(matched)));
    let confirmed = |index| PlacedRecord {
        record: b"confirmation".to_vec(),
        index,
        path: vec![Hash([13; 32])],
        block: record().block,
    };
    let overlap = OverlapExtra {
        closed: record(),
        head: code().head,
        overlap: value(b"overlap"),
        agreement: value(b"agreement"),
        confirmed: vec![confirmed(9), confirmed(12)],
    };
    check("extra_overlap", &Extra::Overlap(Box::new(overlap)));
}

fn following() -> Following {
    let header = |height| Header {
        rules_version: 1,
        network: NetworkId([14; 32]),
        height,
        previous: BlockHash([1; 32]),
        time_ms: 1_790_000_000_000 + height,
        record_count: 2,
        tree_size: 9,
        tree_root: Hash([15; 32]),
        state_root: Hash([3; 32]),
        proposer: MemberId([2; 16]),
    };
    let certificate = |height| CommitCertificate {
        height,
        round: 1,
        block: BlockHash([16; 32]),
        signatures: vec![CommitSignature {
            validator: PublicKey([17; 32]),
            signature: Signature([18; 64]),
        }],
    };
    let past = |key, name: Option<&str>| PastValue {
        key: PublicKey([key; 32]),
        retired: code().batch,
        name: name.map(|n| (n.to_owned(), code().revoked.proof)),
    };
    Following {
        trail: vec![Handover {
            header: header(3),
            certificate: certificate(3),
            validators: b"validators".to_vec(),
            proof: code().batch.proof,
        }],
        header: header(7),
        certificate: certificate(7),
        members: vec![code().product],
        past: vec![past(19, None), past(20, Some("gone"))],
    }
}

#[test]
fn an_extra_that_begins_at_the_genesis() {
    let extra = Extra::Followed(Box::new(following()), Box::new(Extra::Record(record())));
    check("extra_followed", &extra);
    let nested = Extra::Followed(Box::new(following()), Box::new(extra));
    let error = Extra::from_bytes(&nested.to_bytes()).unwrap_err();
    assert!(error.to_string().contains("extra kind"), "{error}");
}

/// The network of these is another one, whose members have changed.
fn judge_followed(extra: &[u8]) -> Result<u64, &'static str> {
    let mut proof: TlogProof = file("followed.tlog-proof").parse().unwrap();
    proof.extra = Some(extra.to_vec());
    let network = file("followed_network_id").trim().parse().unwrap();
    let policy = file("followed_policy");
    verify(
        &network,
        policy.as_bytes(),
        proof.to_string().as_bytes(),
        None,
    )
    .map(|report| match report.proven {
        Proven::Record(record) => record.height,
        _ => 0,
    })
    .map_err(|e| e.reason())
}

#[test]
fn a_proof_that_begins_at_the_genesis_verifies_by_what_it_carries() {
    let proof: TlogProof = file("followed.tlog-proof").parse().unwrap();
    let extra = proof.extra.unwrap();
    assert_eq!(judge_followed(&extra), Ok(1));
    let Extra::Followed(way, of) = Extra::from_bytes(&extra).unwrap() else {
        panic!("it does not begin at the genesis")
    };
    assert_eq!((way.trail.len(), way.header.height), (2, 3));
    // The same proof without its way is one by the founders, who are not those of the policy.
    assert_eq!(judge_followed(&of.to_bytes()), Err("policy_differs"));
    let mut refused = std::collections::BTreeMap::new();
    for at in 0..extra.len() {
        let mut bent = extra.clone();
        bent[at] ^= 1 << (at % 8);
        let reason = judge_followed(&bent).expect_err("a bent way");
        *refused.entry(reason).or_insert(0) += 1;
    }
    assert!(refused["following"] > 1000, "{refused:?}");
}

#[test]
fn the_other_proofs_of_the_first_version_still_verify() {
    let (network, policy, ..) = golden();
    for name in [
        "record",
        "scan",
        "batch",
        "member",
        "budget",
        "match",
        "sum",
        "overlap",
        "overlap-failed",
        "overlap-unconfirmed",
    ] {
        let proof = file(&format!("{name}.tlog-proof"));
        let report = verify(&network, policy.as_bytes(), proof.as_bytes(), None).unwrap();
        let fits = match (&report.proven, name) {
            (Proven::Record(r), "record") => r.body.kind().name() == "register product",
            (Proven::Scan(s), "scan") => s.receipt.verdict.name() == "genuine_repeat",
            (Proven::Match(m), "match" | "sum") => m.initiator_name == "member-0",
            (Proven::Overlap(o), _) => {
                let (confirmed, waits) = (o.confirmed.len(), o.waits_for().len());
                o.helper_name == "member-3"
                    && match name {
                        "overlap" => o.overlap.status == MatchStatus::Done && confirmed == 3,
                        "overlap-failed" => {
                            o.overlap.status == MatchStatus::Failed && confirmed == 0
                        }
                        _ => {
                            o.overlap.status == MatchStatus::Released
                                && (confirmed, waits) == (2, 1)
                        }
                    }
            }
            (Proven::State(s), _) => match &s.statement {
                Statement::Batch { .. } => name == "batch",
                Statement::Member { .. } => name == "member",
                Statement::Budget(b) => name == "budget" && b.left_in_all.micro_rho == 1_500_000,
                Statement::Agreement { .. } => false,
            },
            _ => false,
        };
        assert!(fits, "{name}");
    }
}

#[test]
fn an_overlap_has_no_more_confirmations_than_parties() {
    let proof: TlogProof = file("overlap.tlog-proof").parse().unwrap();
    let Extra::Overlap(mut extra) = Extra::from_bytes(&proof.extra.unwrap()).unwrap() else {
        panic!("not of an overlap")
    };
    let one = extra.confirmed[0].clone();
    extra.confirmed.resize(8, one.clone());
    assert!(Extra::from_bytes(&Extra::Overlap(extra.clone()).to_bytes()).is_ok());
    extra.confirmed.push(one);
    let error = Extra::from_bytes(&Extra::Overlap(extra).to_bytes()).unwrap_err();
    assert!(error.to_string().contains("confirmations"), "{error}");
}

#[test]
fn lengths_are_bounded_before_memory_is_taken() {
    let bytes = Extra::Record(record()).to_bytes();
    // The genesis' length, then a path's count.
    let mut long = bytes.clone();
    long[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(Extra::from_bytes(&long).is_err());
    let count = bytes.len() - 2 * 32 - 4;
    let mut long = bytes.clone();
    long[count..count + 4].copy_from_slice(&65_u32.to_be_bytes());
    assert!(Extra::from_bytes(&long).is_err());
    for (at, value) in [(0, 2), (1, 6), (1, 8), (1, 0), (1, 1)] {
        let mut other = bytes.clone();
        other[at] = value;
        assert!(Extra::from_bytes(&other).is_err(), "byte {at} is {value}");
    }
}

/// The golden proof: network ID, policy, proof, code.
fn golden() -> (NetworkId, String, String, UnitCode) {
    (
        file("network_id").trim().parse().unwrap(),
        file("policy"),
        file("code.tlog-proof"),
        file("code").trim().parse().unwrap(),
    )
}

#[test]
fn a_proof_of_the_first_version_is_refused_for_its_version() {
    let (network, proof) = (file("network_id"), file("code-1.tlog-proof"));
    let error = verify(
        &network.trim().parse().unwrap(),
        file("policy").as_bytes(),
        proof.as_bytes(),
        None,
    );
    let error = error.unwrap_err();
    assert_eq!(error.reason(), "malformed");
    assert!(error.to_string().contains("extra version"), "{error}");
}

#[test]
fn a_proof_of_a_void_code_is_refused_as_that() {
    let (network, policy, ..) = golden();
    let proof = file("void.tlog-proof");
    let error = verify(&network, policy.as_bytes(), proof.as_bytes(), None).unwrap_err();
    assert_eq!(error.reason(), "revoked");
    assert!(error.report().is_some());
}

#[test]
fn a_proof_of_an_expired_code_is_refused_as_that() {
    let (network, policy, ..) = golden();
    let proof = file("expired.tlog-proof");
    let error = verify(&network, policy.as_bytes(), proof.as_bytes(), None).unwrap_err();
    assert_eq!(error.reason(), "expired");
    assert!(error.report().is_some());
}

#[test]
fn a_proof_of_the_second_version_still_verifies() {
    let (network, policy, proof, code) = golden();
    let report = verify(&network, policy.as_bytes(), proof.as_bytes(), Some(&code)).unwrap();
    let Proven::Code(found) = report.proven else {
        panic!("not of a code")
    };
    assert_eq!(found.code, code);
    assert_eq!(found.status, BatchStatus::Active);
    assert_eq!(
        (found.issuer_name.as_str(), found.lot.as_str()),
        ("member-0", "SPRING")
    );
    assert_eq!((found.issued_height, found.as_of_height), (2, 4));
    // Its policy is what its genesis gives.
    let proof: TlogProof = proof.parse().unwrap();
    let Extra::Code(extra) = Extra::from_bytes(&proof.extra.unwrap()).unwrap() else {
        panic!("not of a code")
    };
    let genesis = Genesis::from_bytes(&extra.issued.genesis).unwrap();
    assert_eq!(network_policy(&genesis).unwrap().to_string(), policy);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(extra) = Extra::from_bytes(&bytes) {
            prop_assert_eq!(extra.to_bytes(), bytes.clone());
        }
        let (network, policy, proof, _) = golden();
        prop_assert!(verify(&network, &bytes, proof.as_bytes(), None).is_err());
        prop_assert!(verify(&network, policy.as_bytes(), &bytes, None).is_err());
    }

    #[test]
    fn damaged_extras_never_panic(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_usize), 1..6),
        whole in any::<bool>(),
    ) {
        let mut bytes = if whole {
            golden().2.parse::<TlogProof>().unwrap().extra.unwrap()
        } else {
            Extra::Code(Box::new(code())).to_bytes()
        };
        for (at, byte, how) in cuts {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        if let Ok(extra) = Extra::from_bytes(&bytes) {
            prop_assert_eq!(extra.to_bytes(), bytes.clone());
        }
        let (network, policy, proof, _) = golden();
        let mut proof: TlogProof = proof.parse().unwrap();
        let same = proof.extra.as_ref() == Some(&bytes);
        if !bytes.is_empty() {
            proof.extra = Some(bytes);
            let judged = verify(&network, policy.as_bytes(), proof.to_string().as_bytes(), None);
            prop_assert_eq!(judged.is_ok(), same);
        }
    }
}
