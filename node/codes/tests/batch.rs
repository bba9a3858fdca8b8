//! A batch from keys to trees, rows and openings.

use std::collections::HashSet;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use tally_codes::Error;
use tally_codes::batch::{
    BatchBuild, BatchSpec, BatchTrees, Deriver, RowBuffers, RowFormat, RowForms, UnitOpening,
    verify_redemption_opening, verify_unit_opening,
};
use tally_codes::claim::{ClaimCode, ClaimOutcome};
use tally_codes::gs1::{DigitalLink, Gtin, LinkOptions, UrlBase};
use tally_codes::keys::{BatchKeys, IssuerId, IssuerKeys};

const GTIN: &str = "09521234543213";

fn deriver(seed: u64, first: u64, count: u64) -> Deriver {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let issuer = IssuerKeys::generate(IssuerId([7; 16]), &mut rng);
    let keys = BatchKeys::generate(&mut rng);
    let spec = BatchSpec::new(GTIN.parse().unwrap(), first, count).unwrap();
    Deriver::new(&issuer, issuer.current(), &keys, spec).unwrap()
}

/// The trees, and `url,serial,claim_code` of each unit: the rows of outer codes and of claim codes put together.
fn build(deriver: &Deriver, base: Option<&UrlBase>) -> (BatchTrees, String) {
    let forms = base.map_or_else(RowForms::none, |base| {
        RowForms::outer(RowFormat::Csv, base.clone()).with_claims(true)
    });
    let mut build = BatchBuild::new(deriver, &forms);
    let (mut rows, mut last) = (String::new(), 0);
    let mut part = RowBuffers::default();
    while build.next_rows(&mut part) {
        let [outer, claims] = [&part.outer, &part.claims].map(|b| std::str::from_utf8(b).unwrap());
        assert_eq!(outer.lines().count(), claims.lines().count());
        for (outer, claim) in outer.lines().zip(claims.lines()) {
            let (serial, claim) = claim.split_once(',').unwrap();
            assert!(outer.ends_with(serial));
            rows.push_str(&format!("{outer},{claim}\n"));
        }
        assert!(build.done() > last, "progress");
        last = build.done();
    }
    assert_eq!(last, build.total());
    (build.finish().unwrap(), rows)
}

#[test]
fn rows_hold_every_unit_once_and_in_no_order_of_production() {
    let (first, count) = (1000, 20_000);
    let deriver = deriver(1, first, count);
    let base = UrlBase::parse("https://id.t.cn").unwrap();
    let (_, rows) = build(&deriver, Some(&base));
    let mut serials = Vec::new();
    let mut claims = HashSet::new();
    for line in rows.lines() {
        let [url, serial, claim] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let link = DigitalLink::parse(url, LinkOptions::default()).unwrap();
        assert_eq!(
            (link.gtin().unwrap().as_str(), link.serial().unwrap()),
            (GTIN, serial)
        );
        assert!(ClaimCode::parse(claim).is_ok());
        serials.push(serial);
        claims.insert(claim);
    }
    assert_eq!((serials.len(), claims.len()), (20_000, 20_000));
    let set: HashSet<_> = serials.iter().copied().collect();
    let made: Vec<String> = (first..first + count)
        .map(|i| deriver.unit(i).unwrap().serial.to_string())
        .collect();
    assert!(made.iter().all(|s| set.contains(s.as_str())));
    let in_place = serials.iter().zip(&made).filter(|(a, b)| *a == b).count();
    assert!(
        in_place < 12,
        "{in_place} rows of 20,000 stand where they were made, 1 expected"
    );
}

/// Anchored roots are checked for years, so what makes them may never change. The values come from another implementation of the
/// page in the module documentation, in another language.
#[test]
fn fixed_keys_give_fixed_roots_and_rows() {
    let issuer = [&[1, b'I'], &[7; 16][..], &[1, 0, 0, 0, 0], &[1; 32]].concat();
    let issuer = IssuerKeys::from_secret_bytes(&issuer).unwrap();
    let keys = [
        &[1, b'B'],
        &[2; 32][..],
        &[3; 32],
        &[4; 32],
        &[5; 32],
        &[6; 32],
    ]
    .concat();
    let keys = BatchKeys::from_secret_bytes(&keys).unwrap();
    let spec = BatchSpec::new(GTIN.parse().unwrap(), 5, 1000).unwrap();
    let deriver = Deriver::new(&issuer, issuer.current(), &keys, spec).unwrap();
    let (trees, rows) = build(&deriver, Some(&UrlBase::parse("https://a").unwrap()));
    assert_eq!(
        trees.unit.root().to_string(),
        "19138e45a1dc647307abfa627429ff62c01fca86da20e0890e7040c2ac58dfc7"
    );
    assert_eq!(
        trees.redemption.root().to_string(),
        "166a08d483aeffc6cfccf2225252bee4542421cd735ad58afe1f94078dcedf0f"
    );
    assert_eq!(
        hex::encode(Sha256::digest(&rows)),
        "9abef93555e53a915ee6ec04e2018625b666bcda80d37173152b19d4eebd89c5"
    );
    let (plain, rows) = build(&deriver, None);
    assert_eq!(
        (plain, rows.as_str()),
        (trees, ""),
        "roots do not depend on rows"
    );
}

#[test]
fn every_unit_opens_in_trees_of_every_shape() {
    for count in [1, 2, 3, 255, 256, 257, 600, 1025] {
        let deriver = deriver(3, 77, count);
        let (trees, _) = build(&deriver, None);
        let mut places = (HashSet::new(), HashSet::new());
        for index in (77..77 + count)
            .step_by(1 + usize::try_from(count).unwrap() / 60)
            .chain([76 + count])
        {
            let opening = deriver
                .unit_opening(index, |l, i| trees.unit.node(l, i))
                .unwrap();
            assert_eq!(opening.serial, deriver.unit(index).unwrap().serial);
            verify_unit_opening(&trees.unit.root(), count, &opening).unwrap();
            assert_eq!(
                UnitOpening::from_bytes(&opening.to_bytes()),
                Ok(opening.clone())
            );
            let redemption = deriver
                .redemption_opening(index, |l, i| trees.redemption.node(l, i))
                .unwrap();
            assert_eq!(redemption.nullifier, *deriver.nullifier(index).unwrap());
            verify_redemption_opening(&trees.redemption.root(), count, &redemption).unwrap();
            assert!(verify_redemption_opening(&trees.unit.root(), count, &redemption).is_err());
            places.0.insert(opening.leaf_index);
            places.1.insert((opening.leaf_index, redemption.leaf_index));
        }
        assert!(
            count < 600 || places.1.iter().filter(|(a, b)| a == b).count() < 5,
            "the two orders differ"
        );
        for outside in [76, 77 + count, u64::MAX] {
            assert!(matches!(deriver.unit(outside), Err(Error::Range { .. })));
            assert!(deriver.nullifier(outside).is_err());
            assert!(
                deriver
                    .unit_opening(outside, |l, i| trees.unit.node(l, i))
                    .is_err()
            );
        }
    }
}

#[test]
fn an_opening_proves_nothing_else() {
    let count = 600;
    let deriver = deriver(4, 0, count);
    let (trees, _) = build(&deriver, None);
    let root = trees.unit.root();
    let good = deriver
        .unit_opening(9, |l, i| trees.unit.node(l, i))
        .unwrap();
    let bytes = good.to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut other = bytes.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        if let Ok(opening) = UnitOpening::from_bytes(&other) {
            assert!(
                verify_unit_opening(&root, count, &opening).is_err(),
                "bit {bit}"
            );
        }
    }
    for cut in 0..bytes.len() {
        assert!(UnitOpening::from_bytes(&bytes[..cut]).is_err());
    }
    assert!(UnitOpening::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    let mut longer = good.clone();
    longer.path.push(root);
    assert!(verify_unit_opening(&root, count, &longer).is_err());
    let mut shorter = good.clone();
    shorter.path.pop();
    assert!(verify_unit_opening(&root, count, &shorter).is_err());
    assert!(verify_unit_opening(&trees.redemption.root(), count, &good).is_err());
    assert!(verify_unit_opening(&root, 0, &good).is_err());
    // A path of a tree of 600 has ten hashes; one of 300 has nine.
    assert!(verify_unit_opening(&root, 300, &good).is_err());
}

#[test]
fn a_claim_code_belongs_to_one_pack() {
    let deriver = deriver(5, 0, 300);
    let mut commitments = HashSet::new();
    for index in 0..300 {
        let unit = deriver.unit(index).unwrap();
        let other = deriver.unit((index + 1) % 300).unwrap();
        assert_eq!(
            ClaimOutcome::of(Some(&unit.claim.to_printed()), &unit.claim),
            ClaimOutcome::Right
        );
        assert_eq!(
            ClaimOutcome::of(Some(&other.claim.to_printed()), &unit.claim),
            ClaimOutcome::Wrong
        );
        commitments.insert(deriver.unit(index).unwrap().serial);
    }
    assert_eq!(commitments.len(), 300);
}

#[test]
fn limits() {
    let gtin: Gtin = GTIN.parse().unwrap();
    assert!(BatchSpec::new(gtin, 0, 0).is_err());
    assert!(BatchSpec::new(gtin, 0, (1 << 32) + 1).is_err());
    assert!(BatchSpec::new(gtin, (1 << 36) - 5, 5).is_ok());
    assert!(BatchSpec::new(gtin, (1 << 36) - 5, 6).is_err());
    assert!(BatchSpec::new(gtin, u64::MAX, 1).is_err());
    let deriver = deriver(6, (1 << 36) - 5, 5);
    let (trees, _) = build(&deriver, None);
    let opening = deriver
        .unit_opening((1 << 36) - 1, |l, i| trees.unit.node(l, i))
        .unwrap();
    verify_unit_opening(&trees.unit.root(), 5, &opening).unwrap();
    assert!(
        BatchBuild::new(&deriver, &RowForms::none())
            .finish()
            .is_err(),
        "nothing was made yet"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_an_opening_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if bytes.len() > 100 {
            bytes[0] = 1;
            bytes[1] = b'U';
            bytes[18..32].copy_from_slice(GTIN.as_bytes());
            for c in &mut bytes[32..52] {
                *c = b'0' + *c % 10;
            }
            bytes[92] %= 12;
        }
        if let Ok(opening) = UnitOpening::from_bytes(&bytes) {
            prop_assert_eq!(opening.to_bytes(), bytes);
        }
    }
}
