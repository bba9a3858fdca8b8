//! Every decoder: what it reads it writes back byte for byte, and no bytes make it panic.

#[path = "common/bodies.rs"]
mod bodies;
mod common;

use common::{Net, signed_genesis};
use proptest::prelude::*;
use tally_contracts::block::{Block, BlockInfo, CommitCertificate, Header};
use tally_contracts::records::{Body, Kind};
use tally_contracts::state::{
    AgreementState, AnchorState, AudienceState, BatchState, Budget, ChangeState, KeyState,
    MatchState, NetworkInfo, OverlapState, ProductState, RetiredKey, RevokedState, Schedule,
    TerritoryState,
};
use tally_contracts::{
    Canonical, Genesis, GenesisFile, MemberEntry, NetworkKind, Record, RefusalNotice, Rules,
    StateProof, ValidatorSet,
};

fn canonical<T: Canonical>(bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        assert_eq!(value.to_bytes(), bytes);
    }
}

/// Throws bytes at every decoder.
fn every_decoder(bytes: &[u8]) {
    for kind in Kind::ALL {
        if let Ok(body) = Body::from_bytes(kind.code(), bytes) {
            assert_eq!(body.to_bytes(), bytes);
        }
    }
    if let Ok(record) = Record::from_bytes(bytes) {
        let again = record.unsigned().assemble(record.signatures()).unwrap();
        assert_eq!(again.bytes(), bytes);
        let _ = record.body();
    }
    if let Ok(genesis) = Genesis::from_bytes(bytes) {
        assert_eq!(genesis.to_bytes(), bytes);
    }
    if let Ok(file) = GenesisFile::from_bytes(bytes) {
        assert_eq!(file.to_bytes(), bytes);
    }
    if let Ok(header) = Header::from_bytes(bytes) {
        assert_eq!(header.to_bytes(), bytes);
    }
    if let Ok(block) = Block::from_bytes(bytes) {
        assert_eq!(block.to_bytes(), bytes);
    }
    if let Ok(info) = BlockInfo::from_bytes(bytes) {
        assert_eq!(info.to_bytes(), bytes);
    }
    if let Ok(certificate) = CommitCertificate::from_bytes(bytes) {
        assert_eq!(certificate.to_bytes(), bytes);
    }
    canonical::<MemberEntry>(bytes);
    canonical::<Rules>(bytes);
    canonical::<ValidatorSet>(bytes);
    canonical::<NetworkInfo>(bytes);
    canonical::<KeyState>(bytes);
    canonical::<ProductState>(bytes);
    canonical::<BatchState>(bytes);
    canonical::<RevokedState>(bytes);
    canonical::<TerritoryState>(bytes);
    canonical::<AnchorState>(bytes);
    canonical::<AgreementState>(bytes);
    canonical::<AudienceState>(bytes);
    canonical::<Budget>(bytes);
    canonical::<MatchState>(bytes);
    canonical::<OverlapState>(bytes);
    canonical::<ChangeState>(bytes);
    canonical::<Schedule>(bytes);
    canonical::<RetiredKey>(bytes);
    canonical::<RefusalNotice>(bytes);
    canonical::<StateProof>(bytes);
}

/// Good bytes of many formats, to be bent.
fn seeds() -> Vec<Vec<u8>> {
    let net = Net::new(NetworkKind::Test);
    let mut out: Vec<Vec<u8>> = bodies::all().iter().map(|(_, b)| b.to_bytes()).collect();
    let record = net.record(bodies::all()[0].1.clone(), &[("brand", "records")]);
    out.push(record.bytes().to_vec());
    out.push(signed_genesis(NetworkKind::Test).to_bytes());
    out.push(signed_genesis(NetworkKind::Test).document().to_vec());
    out.extend(net.state.iter().map(|(_, v)| v.to_vec()));
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn garbage(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        every_decoder(&bytes);
    }

    #[test]
    fn garbage_behind_a_right_start(start in 0..3_u8, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        every_decoder(&[&[b'T', start, 1][..], &bytes].concat());
        every_decoder(&[&[1][..], &bytes].concat());
    }
}

#[test]
fn good_bytes_bent() {
    for seed in seeds() {
        every_decoder(&seed);
        let step = (seed.len() / 200).max(1);
        for i in (0..seed.len()).step_by(step) {
            for value in [0, 1, 0x7f, 0xff, seed[i].wrapping_add(1)] {
                let mut bad = seed.clone();
                bad[i] = value;
                every_decoder(&bad);
            }
            every_decoder(&seed[..i]);
        }
    }
}

#[test]
fn a_claimed_length_allocates_nothing() {
    // A list of 2^32 - 1 items, text of 4 GiB, and counts just over their bounds.
    let header = [1, 0xff, 0xff, 0xff, 0xff];
    every_decoder(&header);
    for n in [9_u32, 66, 257, 8_193, 65_536] {
        every_decoder(&[&[1][..], &n.to_be_bytes()].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn texts_of_any_kind(description in "\\PC{1,60}", reason in "[a-z ]{0,300}") {
        let body = tally_contracts::records::RegisterProduct {
            gtin: "09521234543213".parse().unwrap(),
            description: description.clone(),
            brand: "b".into(),
        };
        let read = tally_contracts::records::RegisterProduct::from_bytes(&body.to_bytes());
        if description.len() <= 256 && !description.trim().is_empty() {
            prop_assert_eq!(read.unwrap(), body);
        } else {
            prop_assert!(read.is_err());
        }
        let body = tally_contracts::records::RecallBatch {
            batch: tally_contracts::ids::BatchId([1; 16]),
            reason: reason.clone(),
        };
        let right = !reason.trim().is_empty() && reason.len() <= 256;
        prop_assert_eq!(
            tally_contracts::records::RecallBatch::from_bytes(&body.to_bytes()).is_ok(),
            right
        );
    }
}
