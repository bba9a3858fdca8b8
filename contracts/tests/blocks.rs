//! Whole blocks: batch verification, refusals inside, equal results however signatures were verified; and certificates.

mod common;

use common::{NAMES, Net, key, public, sign};
use ed25519_dalek::Signer as _;
use tally_contracts::block::{CommitCertificate, CommitSignature, VoteType, vote_sign_bytes};
use tally_contracts::ids::{BlockHash, NetworkId, Signature};
use tally_contracts::records::{AnchorScans, Body, Gtin, RegisterProduct};
use tally_contracts::{
    Error, NetworkKind, Record, ValidatorSet, apply, check_and_apply, execute_block, verify_record,
    verify_records,
};
use tally_merkle::leaf_hash;

/// A GTIN with its check digit.
fn gtin(i: u32) -> Gtin {
    (0..10)
        .find_map(|d| format!("{i:013}{d}").parse().ok())
        .unwrap()
}

fn product(i: u32) -> Body {
    RegisterProduct {
        gtin: gtin(i),
        description: format!("product {i}"),
        brand: "Example".into(),
    }
    .into()
}

fn records(net: &Net, n: u32) -> Vec<Record> {
    let by = [("brand", "records")];
    (0..n)
        .map(|i| {
            let mut unsigned = net.unsigned(&product(i), &by);
            unsigned.signers[0].nonce = i.into();
            sign(&unsigned, &by)
        })
        .collect()
}

#[test]
fn block_equals_its_records_one_by_one() {
    let net = Net::new(NetworkKind::Test);
    let records = records(&net, 600);
    let none = |_: &Record| None;
    let outcome = execute_block(&net.state, &records, &none, &net.ctx).unwrap();
    assert!(outcome.first_refusal().is_none());
    let mut one_by_one = Net::new(NetworkKind::Test);
    for record in &records {
        let effects = check_and_apply(&one_by_one.state, record, &net.ctx).unwrap();
        one_by_one.state.apply(effects);
    }
    let mut at_once = Net::new(NetworkKind::Test);
    at_once.state.apply(outcome.effects.clone());
    assert_eq!(at_once.state, one_by_one.state);
    // With tokens for some or all, the same.
    let tokens: Vec<_> = records
        .iter()
        .map(|r| verify_record(&net.state, r).unwrap())
        .collect();
    let all = |r: &Record| tokens.iter().find(|t| *t.leaf() == r.leaf()).cloned();
    let some = |r: &Record| all(r).filter(|t| t.leaf().0[0] & 1 == 0);
    for cache in [&all as &dyn Fn(&Record) -> _, &some] {
        assert_eq!(
            execute_block(&net.state, &records, cache, &net.ctx).unwrap(),
            outcome
        );
    }
}

#[test]
fn refused_records_change_nothing_for_the_others() {
    let net = Net::new(NetworkKind::Test);
    let mut records = records(&net, 5);
    // A wrong signature on the third: it is refused, and so are its successors, whose nonces then gap.
    let bytes = {
        let mut b = records[2].bytes().to_vec();
        *b.last_mut().unwrap() ^= 1;
        b
    };
    records[2] = Record::from_bytes(&bytes).unwrap();
    // Records of others go on.
    let anchor = AnchorScans {
        log_id: 0,
        size: 1,
        root: leaf_hash(b"scan"),
        consistency: vec![],
    };
    records.push(net.record(anchor.clone(), &[("media", "records")]));
    records.push(net.record(anchor, &[("auditor", "records")]));
    let outcome = execute_block(&net.state, &records, &|_| None, &net.ctx).unwrap();
    let codes: Vec<_> = outcome
        .results
        .iter()
        .map(|r| {
            r.as_ref()
                .map_or_else(tally_contracts::Refusal::code, |()| "accepted")
        })
        .collect();
    assert_eq!(
        codes,
        [
            "accepted",
            "accepted",
            "signature",
            "nonce_gap",
            "nonce_gap",
            "accepted",
            "accepted"
        ]
    );
    assert_eq!(outcome.first_refusal().unwrap().0, 2);
    // The block without the refused ones has the same effects and is valid.
    let kept: Vec<_> = records
        .into_iter()
        .zip(&codes)
        .filter(|(_, c)| **c == "accepted")
        .map(|(r, _)| r)
        .collect();
    let again = execute_block(&net.state, &kept, &|_| None, &net.ctx).unwrap();
    assert!(again.first_refusal().is_none());
    assert_eq!(again.effects, outcome.effects);
}

#[test]
fn a_token_of_another_record_is_worth_nothing() {
    let net = Net::new(NetworkKind::Test);
    let records = records(&net, 2);
    let token = verify_record(&net.state, &records[1]).unwrap();
    let mut forged = records[0].bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Record::from_bytes(&forged).unwrap();
    assert!(apply(&net.state, &forged, &token, &net.ctx).is_err());
    assert!(apply(&net.state, &records[0], &token, &net.ctx).is_ok());
    let answers = verify_records(&net.state, &[&records[0], &forged, &records[1]]).unwrap();
    let codes: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(codes, [true, false, true]);
}

fn certificate(network: &NetworkId, names: &[&str]) -> CommitCertificate {
    let block = BlockHash([3; 32]);
    let bytes = vote_sign_bytes(network, 5, 1, VoteType::Precommit, Some(&block));
    let mut signatures: Vec<_> = names
        .iter()
        .map(|name| CommitSignature {
            validator: public(name, "consensus"),
            signature: Signature(key(name, "consensus").sign(&bytes).to_bytes()),
        })
        .collect();
    signatures.sort_by_key(|s| s.validator);
    CommitCertificate {
        height: 5,
        round: 1,
        block,
        signatures,
    }
}

#[test]
fn certificates() {
    let net = Net::new(NetworkKind::Test);
    let set = ValidatorSet::from_genesis(&net.genesis);
    let network = net.network();
    assert_eq!((set.total_power(), set.quorum_power()), (4, 3));
    let names: Vec<&str> = NAMES.iter().map(|n| n.0).collect();
    for n in [3, 4] {
        let good = certificate(&network, &names[..n]);
        assert_eq!(good.verify(&set, &network), Ok(()));
        assert_eq!(
            CommitCertificate::from_bytes(&good.to_bytes()).unwrap(),
            good
        );
    }
    let short = certificate(&network, &names[..2]);
    assert!(matches!(
        short.verify(&set, &network),
        Err(Error::Quorum {
            expected: 3,
            found: 2,
            total: 4
        })
    ));
    assert!(matches!(
        certificate(&network, &["brand", "media", "platform", "stranger"]).verify(&set, &network),
        Err(Error::Signer { .. })
    ));
    let good = certificate(&network, &names);
    assert!(good.verify(&set, &NetworkId([0; 32])).is_err());
    let mut twice = certificate(&network, &names[..2]);
    twice.signatures.push(twice.signatures[1].clone());
    assert!(matches!(
        twice.verify(&set, &network),
        Err(Error::Duplicate { .. })
    ));
    // One wrong signature spoils it, also above the quorum.
    let mut wrong = good.clone();
    wrong.signatures[3].signature.0[0] ^= 1;
    assert!(matches!(
        wrong.verify(&set, &network),
        Err(Error::Signature { .. })
    ));
    for change in [
        (|c: &mut CommitCertificate| c.height = 6) as fn(&mut CommitCertificate),
        |c| c.round = 0,
        |c| c.block = BlockHash([4; 32]),
    ] {
        let mut other = good.clone();
        change(&mut other);
        assert!(other.verify(&set, &network).is_err());
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p tally-contracts --test blocks -- --ignored --nocapture"]
fn block_speed() {
    let net = Net::new(NetworkKind::Test);
    let records = records(&net, 8_000);
    let start = std::time::Instant::now();
    let outcome = execute_block(&net.state, &records, &|_| None, &net.ctx).unwrap();
    println!("8,000 records with signatures: {:?}", start.elapsed());
    assert!(outcome.first_refusal().is_none());
    let tokens: std::collections::BTreeMap<_, _> = records
        .iter()
        .map(|r| (r.leaf(), verify_record(&net.state, r).unwrap()))
        .collect();
    let cache = |r: &Record| tokens.get(&r.leaf()).cloned();
    let start = std::time::Instant::now();
    execute_block(&net.state, &records, &cache, &net.ctx).unwrap();
    println!("8,000 records verified before: {:?}", start.elapsed());
}
