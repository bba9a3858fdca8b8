//! Envelope rules, products, batches and anchors: what is accepted and every reason to refuse.

#[path = "common/bodies.rs"]
mod bodies;
mod common;

use bodies::{revoked_part, territory};
use common::{Net, code, key, public, sign};
use tally_contracts::ids::{BatchId, MemberId, NetworkId, Signature};
use tally_contracts::records::{
    ActivateBatch, AnchorScans, Body, ExpiryDate, Gtin, IssueBatch, Lot, RecallBatch,
    RegisterProduct, RevokeCodes, SetTerritory,
};
use tally_contracts::state::{self, BatchStatus};
use tally_contracts::{NetworkKind, Record, Refusal, Signer};
use tally_merkle::{Hash, leaf_hash, node_hash};

const GTIN: &str = "09521234543213";

fn product() -> RegisterProduct {
    RegisterProduct {
        gtin: GTIN.parse().unwrap(),
        description: "Tea".into(),
        brand: "Example".into(),
    }
}

fn batch(first_index: u64, count: u64) -> IssueBatch {
    IssueBatch {
        gtin: GTIN.parse().unwrap(),
        lot: "L1".parse().unwrap(),
        first_index,
        count,
        unit_root: Hash([1; 32]),
        redemption_root: Hash([2; 32]),
        expires: None,
    }
}

#[test]
fn life_of_a_batch() {
    let mut net = Net::new(NetworkKind::Live);
    assert_eq!(code(net.by(&["brand"], batch(0, 10))), "unknown_product");
    net.by(&["brand"], product()).unwrap();
    assert_eq!(code(net.by(&["brand"], product())), "gtin_taken");
    net.by(&["brand"], batch(0, 10)).unwrap();
    assert_eq!(
        net.by(&["brand"], batch(11, 10)),
        Err(Refusal::Index {
            expected: 10,
            found: 11
        })
    );
    assert_eq!(code(net.by(&["brand"], batch(9, 10))), "index");
    net.by(&["brand"], batch(10, 1 << 32)).unwrap();
    let owner = net.member("brand");
    assert_eq!(
        state::next_index(&net.state, &owner).unwrap(),
        10 + (1 << 32)
    );
    let id = batch(0, 10).id(&owner);
    assert_eq!(
        state::batch_by_range(&net.state, &owner, 0).unwrap(),
        Some(id)
    );
    let status = |net: &Net| state::batch(&net.state, &id).unwrap().unwrap().status;
    let activate = ActivateBatch { batch: id };
    let recall = RecallBatch {
        batch: id,
        reason: "seal".into(),
    };
    assert_eq!(status(&net), BatchStatus::Issued);
    net.by(&["brand"], activate.clone()).unwrap();
    assert_eq!(status(&net), BatchStatus::Active);
    assert_eq!(code(net.by(&["brand"], activate.clone())), "batch_status");
    net.by(&["brand"], recall.clone()).unwrap();
    assert_eq!(status(&net), BatchStatus::Recalled);
    assert_eq!(code(net.by(&["brand"], recall)), "batch_status");
    assert_eq!(code(net.by(&["brand"], activate)), "batch_status");
    // An issued batch may be recalled before it is ever released.
    let second = batch(10, 1 << 32).id(&owner);
    let recall = RecallBatch {
        batch: second,
        reason: "misprint".into(),
    };
    net.by(&["brand"], recall).unwrap();
    let unknown = ActivateBatch {
        batch: BatchId([9; 16]),
    };
    assert_eq!(code(net.by(&["brand"], unknown)), "unknown_batch");
}

#[test]
fn codes_are_withdrawn_one_by_one_and_for_ever() {
    let mut net = Net::new(NetworkKind::Live);
    net.by(&["brand"], product()).unwrap();
    net.by(&["brand"], batch(0, 5000)).unwrap();
    net.by(&["brand"], batch(5000, 10)).unwrap();
    let owner = net.member("brand");
    let (id, other) = (batch(0, 5000).id(&owner), batch(5000, 10).id(&owner));
    let revoke = |batch, parts: &[(u32, &[u64])]| RevokeCodes {
        batch,
        parts: parts.iter().map(|(n, l)| revoked_part(*n, l)).collect(),
    };
    let is_void = |net: &Net, id, leaf| state::is_revoked(&net.state, id, leaf).unwrap();
    let count = |net: &Net, id| state::revoked_count(&net.state, id).unwrap();

    assert!(!is_void(&net, &id, 3));
    net.by(&["brand"], revoke(id, &[(0, &[3, 2047]), (2, &[903])]))
        .unwrap();
    let void = [3, 2047, 4096 + 903];
    for leaf in 0..5000 {
        assert_eq!(is_void(&net, &id, leaf), void.contains(&leaf), "{leaf}");
    }
    assert_eq!((count(&net, &id), count(&net, &other)), (3, 0));
    assert!(!is_void(&net, &other, 3), "another batch has its own list");
    assert_eq!(state::revoked(&net.state, &id, 1).unwrap(), None);

    // What is void stays so; naming it again counts nothing twice.
    net.by(&["brand"], revoke(id, &[(0, &[3, 4])])).unwrap();
    assert_eq!(count(&net, &id), 4);
    assert!(is_void(&net, &id, 2047) && is_void(&net, &id, 4));
    for step in [
        Body::from(ActivateBatch { batch: id }),
        RecallBatch {
            batch: id,
            reason: "seal".into(),
        }
        .into(),
    ] {
        net.by(&["brand"], step).unwrap();
        assert!(is_void(&net, &id, 3));
        net.by(&["brand"], revoke(id, &[(0, &[5])])).unwrap();
    }

    // Leaves that the batch does not have, and batches that nobody has.
    for (bad, parts) in [
        (id, [(2, &[904_u64] as &[u64])]),
        (id, [(3, &[0])]),
        (id, [(u32::MAX, &[0])]),
        (other, [(0, &[10])]),
    ] {
        assert_eq!(
            code(net.by(&["brand"], revoke(bad, &parts))),
            "revoked_leaf"
        );
    }
    net.by(&["brand"], revoke(other, &[(0, &[9])])).unwrap();
    let nobody = revoke(BatchId([9; 16]), &[(0, &[0])]);
    assert_eq!(code(net.by(&["brand"], nobody)), "unknown_batch");
    assert_eq!(code(net.by(&["brand"], revoke(id, &[]))), "malformed");
    assert_eq!(
        code(net.by(&["brand"], revoke(id, &[(1, &[0]), (0, &[0])]))),
        "malformed"
    );
    assert_eq!(code(net.by(&["media"], revoke(id, &[(0, &[0])]))), "role");
}

#[test]
fn a_territory_replaces_the_one_before() {
    let mut net = Net::new(NetworkKind::Live);
    net.by(&["brand"], product()).unwrap();
    net.by(&["brand"], batch(0, 10)).unwrap();
    let id = batch(0, 10).id(&net.member("brand"));
    let set = |batch, areas: &[&str]| SetTerritory {
        batch,
        territory: territory(areas),
    };
    let now = |net: &Net| {
        let state = state::territory(&net.state, &id).unwrap();
        state.map(|t| t.territory)
    };
    assert_eq!(now(&net), None);
    net.by(&["brand"], set(id, &["VN", "CN-SC"])).unwrap();
    assert_eq!(now(&net), Some(territory(&["CN-SC", "VN"])));
    net.by(&["brand"], set(id, &["JP"])).unwrap();
    assert_eq!(now(&net), Some(territory(&["JP"])), "nothing is added up");
    for step in [
        Body::from(ActivateBatch { batch: id }),
        RecallBatch {
            batch: id,
            reason: "seal".into(),
        }
        .into(),
    ] {
        net.by(&["brand"], step).unwrap();
        net.by(&["brand"], set(id, &["geohash:wm6"])).unwrap();
    }
    net.by(&["brand"], set(id, &[])).unwrap();
    assert_eq!(now(&net), None, "taken back");
    let nobody = BatchId([9; 16]);
    assert_eq!(
        code(net.by(&["brand"], set(nobody, &["CN"]))),
        "unknown_batch"
    );
    assert_eq!(code(net.by(&["media"], set(id, &["CN"]))), "role");
}

#[test]
fn only_brands_issue_and_only_what_they_own() {
    let mut net = Net::new(NetworkKind::Live);
    for name in ["platform", "media", "auditor"] {
        assert_eq!(code(net.by(&[name], product())), "role");
    }
    net.by(&["brand"], product()).unwrap();
    net.by(&["brand"], batch(0, 10)).unwrap();
    assert_eq!(code(net.by(&["media"], batch(0, 10))), "role");
    // A second brand, so that ownership is what refuses it.
    let mut member = net.genesis.member_by_name("media").unwrap().clone();
    member.roles = tally_contracts::Roles::BRAND;
    let mut overlay = tally_contracts::Overlay::new(&net.state);
    overlay.put(state::keys::member(&member.id), &member);
    let effects = overlay.into_effects();
    net.state.apply(effects);
    assert_eq!(code(net.by(&["media"], product())), "gtin_taken");
    assert_eq!(code(net.by(&["media"], batch(0, 10))), "not_owner");
    let id = batch(0, 10).id(&net.member("brand"));
    assert_eq!(
        code(net.by(&["media"], ActivateBatch { batch: id })),
        "not_owner"
    );
    let revoke = RevokeCodes {
        batch: id,
        parts: vec![revoked_part(0, &[0])],
    };
    assert_eq!(code(net.by(&["media"], revoke)), "not_owner");
    let set = SetTerritory {
        batch: id,
        territory: territory(&["CN"]),
    };
    assert_eq!(code(net.by(&["media"], set)), "not_owner");
}

#[test]
fn bounds_of_a_batch() {
    let mut net = Net::new(NetworkKind::Live);
    net.by(&["brand"], product()).unwrap();
    for bad in [
        batch(0, 0),
        batch(0, (1 << 32) + 1),
        batch((1 << 36) - 1, 2),
        batch(u64::MAX, 1),
    ] {
        assert_eq!(code(net.by(&["brand"], bad)), "malformed");
    }
    assert!("1".repeat(21).parse::<Lot>().is_err());
    assert!("".parse::<Lot>().is_err());
    assert!("a b".parse::<Lot>().is_err());
    assert!("L#1".parse::<Lot>().is_err());
    for bad in ["281301", "280001", "270229", "28110", "2811011", "28113A"] {
        assert!(bad.parse::<ExpiryDate>().is_err(), "{bad}");
    }
    for good in ["281100", "280229", "281130"] {
        assert!(good.parse::<ExpiryDate>().is_ok(), "{good}");
    }
}

#[test]
fn check_digits() {
    assert!(GTIN.parse::<Gtin>().is_ok());
    for digit in 0..10 {
        let text = format!("0952123454321{digit}");
        assert_eq!(text.parse::<Gtin>().is_ok(), digit == 3, "{text}");
    }
    for bad in ["", "9521234543213", "0952123454321A", "095212345432133"] {
        assert!(bad.parse::<Gtin>().is_err());
    }
    // A record that carries a wrong one is malformed.
    let mut net = Net::new(NetworkKind::Live);
    let mut unsigned = net.unsigned(&product().into(), &[("brand", "records")]);
    unsigned.body[14] = b'4';
    let record = sign(&unsigned, &[("brand", "records")]);
    assert_eq!(code(net.submit(&record)), "malformed");
}

#[test]
fn envelope_rules() {
    let mut net = Net::new(NetworkKind::Live);
    let by = [("brand", "records")];
    let good = net.unsigned(&product().into(), &by);
    let now = net.ctx.block_time_ms;
    let mut refused = |change: &dyn Fn(&mut tally_contracts::Unsigned)| {
        let mut unsigned = good.clone();
        change(&mut unsigned);
        code(net.submit(&sign(&unsigned, &by)))
    };
    assert_eq!(refused(&|u| u.network = NetworkId([1; 32])), "network");
    assert_eq!(refused(&|u| u.kind = 60), "unknown_kind");
    assert_eq!(refused(&|u| u.kind = 2), "malformed");
    assert_eq!(refused(&|u| u.body.push(0)), "malformed");
    assert_eq!(refused(&|u| u.valid_until_ms = now - 1), "expired");
    assert_eq!(
        refused(&|u| u.valid_until_ms = now + 86_400_001),
        "valid_too_long"
    );
    assert_eq!(
        refused(&|u| u.signers[0].member = MemberId([1; 16])),
        "unknown_member"
    );
    assert_eq!(refused(&|u| u.signers[0].key.0[0] ^= 1), "unknown_key");
    assert_eq!(refused(&|u| u.signers[0].nonce = 1), "nonce_gap");
    let admin = public("brand", "admin");
    let member = net.member("brand");
    let mut unsigned = good.clone();
    unsigned.signers = vec![Signer::new(member, &admin, 0)];
    let record = sign(&unsigned, &[("brand", "admin")]);
    assert_eq!(code(net.submit(&record)), "key_use");
    // Another member's key is not this member's.
    let mut unsigned = good.clone();
    unsigned.signers = vec![Signer::new(member, &public("media", "records"), 0)];
    let record = sign(&unsigned, &[("media", "records")]);
    assert_eq!(code(net.submit(&record)), "unknown_key");
    // A wrong signature, and a signature of something else.
    let record = good.assemble(&[Signature([7; 64])]).unwrap();
    assert_eq!(code(net.submit(&record)), "signature");
    let mut other = good.clone();
    other.valid_until_ms += 1;
    let record = good
        .assemble(&[other.sign_with(&key("brand", "records"))])
        .unwrap();
    assert_eq!(code(net.submit(&record)), "signature");
    // Two signers where one is needed.
    let record = net.record(product(), &[("brand", "records"), ("media", "records")]);
    assert_eq!(code(net.submit(&record)), "signer_count");
    // The edges of validity are inside, and nothing so far has used the nonce.
    let mut unsigned = good.clone();
    unsigned.valid_until_ms = now + 86_400_000;
    let record = sign(&unsigned, &by);
    net.submit(&record).unwrap();
    assert_eq!(
        net.submit(&record),
        Err(Refusal::NonceReplayed {
            key: record.signers()[0].key,
            expected: 1,
            found: 0
        })
    );
}

#[test]
fn form_of_an_envelope() {
    let net = Net::new(NetworkKind::Live);
    let by = [("brand", "records")];
    let good = net.unsigned(&product().into(), &by);
    let mut none = good.clone();
    none.signers.clear();
    assert!(none.assemble(&[]).is_err());
    let mut twice = good.clone();
    twice.signers.push(good.signers[0]);
    let signature = good.sign_with(&key("brand", "records"));
    assert!(twice.assemble(&[signature, signature]).is_err());
    assert!(good.assemble(&[signature, signature]).is_err());
    let mut many = good.clone();
    many.signers = (0..17_u8)
        .map(|i| {
            let mut s = good.signers[0];
            s.key.0[0] = i;
            s
        })
        .collect();
    assert!(many.assemble(&[signature; 17]).is_err());
    let mut large = good.clone();
    large.body = vec![0; 65_535];
    assert!(large.assemble(&[signature]).is_err());
    let bytes = good.assemble(&[signature]).unwrap().bytes().to_vec();
    for cut in 0..bytes.len() {
        assert!(Record::from_bytes(&bytes[..cut]).is_err());
    }
}

/// The RFC 6962 root and subtree proofs of small logs, written out by hand.
#[test]
fn anchors_only_grow() {
    let l: Vec<Hash> = (0..4_u8).map(|i| leaf_hash(&[i])).collect();
    let pair = node_hash(&l[0], &l[1]);
    let three = node_hash(&pair, &l[2]);
    let four = node_hash(&pair, &node_hash(&l[2], &l[3]));
    let mut net = Net::new(NetworkKind::Live);
    let anchor = |log_id, size, root, consistency: &[Hash]| AnchorScans {
        log_id,
        size,
        root,
        consistency: consistency.to_vec(),
    };
    assert_eq!(
        code(net.by(&["media"], anchor(0, 0, pair, &[]))),
        "anchor_size"
    );
    assert_eq!(
        code(net.by(&["media"], anchor(0, 2, pair, &[l[0]]))),
        "anchor_proof"
    );
    net.by(&["media"], anchor(0, 2, pair, &[])).unwrap();
    // Another log of the same member, and the same log number of another member, are their own.
    net.by(&["media"], anchor(1, 1, l[3], &[])).unwrap();
    net.by(&["brand"], anchor(0, 1, l[3], &[])).unwrap();
    assert_eq!(
        code(net.by(&["media"], anchor(0, 2, pair, &[]))),
        "anchor_size"
    );
    for (size, root, proof) in [
        (3, three, &[][..]),
        (3, three, &[l[3]]),
        (3, three, &[l[2], l[3]]),
        (3, four, &[l[2]]),
        (4, three, &[l[3]]),
    ] {
        assert_eq!(
            code(net.by(&["media"], anchor(0, size, root, proof))),
            "anchor_proof"
        );
    }
    net.by(&["media"], anchor(0, 3, three, &[l[2]])).unwrap();
    net.by(&["media"], anchor(0, 4, four, &[l[2], l[3], pair]))
        .unwrap();
    let last = state::anchor(&net.state, &net.member("media"), 0)
        .unwrap()
        .unwrap();
    assert_eq!((last.size, last.root), (4, four));
    // A rewritten log of five leaves has no proof from here.
    let other = node_hash(&leaf_hash(b"x"), &four);
    assert_eq!(
        code(net.by(&["media"], anchor(0, 5, other, &[l[0]]))),
        "anchor_proof"
    );
}

#[test]
fn every_refusal_code_is_its_own() {
    let mut codes = Refusal::CODES.to_vec();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), Refusal::CODES.len());
    let body: Body = product().into();
    assert_eq!(body.kind().name(), "register product");
}
