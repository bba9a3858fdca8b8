//! Every decoder of the contracts: what it takes, it writes back byte for byte.

use tally_contracts::block::{Block, BlockInfo, CommitCertificate, Header};
use tally_contracts::ids::{KeyId, MemberId, PublicKey, RecordId, Signature};
use tally_contracts::records::{Body, ExpiryDate, Gtin, Kind, Lot, Profile};
use tally_contracts::signature::check_public_key;
use tally_contracts::state::{
    AgreementState, AnchorState, AudienceState, BatchState, Budget, ChangeState, KeyState,
    MatchState, NetworkInfo, OverlapState, ProductState, RetiredKey, Schedule, keys,
};
use tally_contracts::{
    Canonical, Genesis, GenesisFile, MemberEntry, NetworkKind, Record, RefusalNotice, Rules,
    StateProof, ValidatorSet,
};
use tally_merkle::Hash;

use crate::net::{Net, signed_genesis};
use crate::{Seeds, bodies, named, same};

fn canonical<T: Canonical>(what: &str, bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        same(what, bytes, &value.to_bytes());
    }
}

/// A text that is read and written is read as the same value.
fn text<T: std::str::FromStr + ToString + PartialEq>(what: &str, text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(
            value.to_string().parse::<T>().ok() == Some(value),
            "{what}: {text:?}"
        );
    }
}

/// Bytes for every decoder.
pub fn run(bytes: &[u8]) {
    for kind in Kind::ALL {
        if let Ok(body) = Body::from_bytes(kind.code(), bytes) {
            same(kind.name(), bytes, &body.to_bytes());
        }
    }
    if let Ok(record) = Record::from_bytes(bytes) {
        same("record", bytes, record.bytes());
        let again = record
            .unsigned()
            .assemble(record.signatures())
            .expect("its own signatures");
        same("assembled record", bytes, again.bytes());
        assert_eq!(again.id(), record.id());
        let _ = record.body();
    }
    if let Ok(genesis) = Genesis::from_bytes(bytes) {
        same("genesis", bytes, &genesis.to_bytes());
        genesis.check().expect("what is read is checked");
        let set = ValidatorSet::from_genesis(&genesis);
        assert!(set.quorum_power() <= set.total_power());
    }
    if let Ok(file) = GenesisFile::from_bytes(bytes) {
        same("genesis file", bytes, &file.to_bytes());
        let _ = (file.missing(), file.verify());
    }
    if let Ok(header) = Header::from_bytes(bytes) {
        same("header", bytes, &header.to_bytes());
    }
    if let Ok(block) = Block::from_bytes(bytes) {
        same("block", bytes, &block.to_bytes());
    }
    if let Ok(info) = BlockInfo::from_bytes(bytes) {
        same("block info", bytes, &info.to_bytes());
    }
    if let Ok(certificate) = CommitCertificate::from_bytes(bytes) {
        same("certificate", bytes, &certificate.to_bytes());
    }
    if let Ok(proof) = StateProof::from_bytes(bytes) {
        same("state proof", bytes, &proof.to_bytes());
        // It leads to one root at most, whatever it claims.
        assert!(proof.verify(&Hash([7; 32]), b"key", None).is_err());
        assert!(
            proof
                .verify(&Hash([7; 32]), b"key", Some(b"value"))
                .is_err()
        );
    }
    canonical::<MemberEntry>("member", bytes);
    canonical::<Rules>("rules", bytes);
    canonical::<ValidatorSet>("validators", bytes);
    canonical::<NetworkInfo>("network", bytes);
    canonical::<KeyState>("key", bytes);
    canonical::<ProductState>("product", bytes);
    canonical::<BatchState>("batch", bytes);
    canonical::<AnchorState>("anchor", bytes);
    canonical::<AgreementState>("agreement", bytes);
    canonical::<AudienceState>("audience", bytes);
    canonical::<Budget>("budget", bytes);
    canonical::<MatchState>("match", bytes);
    canonical::<OverlapState>("overlap", bytes);
    canonical::<ChangeState>("change", bytes);
    canonical::<Schedule>("schedule", bytes);
    canonical::<RetiredKey>("retired key", bytes);
    canonical::<RefusalNotice>("refusal", bytes);
    let _ = keys::show(bytes);
    if let Ok(key) = <[u8; 32]>::try_from(bytes) {
        let _ = check_public_key(&PublicKey(key));
    }
    if let Ok(utf8) = std::str::from_utf8(bytes) {
        text::<Gtin>("GTIN", utf8);
        text::<Lot>("lot", utf8);
        text::<ExpiryDate>("expiry", utf8);
        text::<Profile>("profile", utf8);
        text::<MemberId>("member ID", utf8);
        text::<KeyId>("key ID", utf8);
        text::<RecordId>("record ID", utf8);
        text::<PublicKey>("public key", utf8);
        text::<Signature>("signature", utf8);
    }
}

/// A body of each kind, records, a genesis, a block and its certificate, every value of a state, proofs of it, texts.
pub fn seeds() -> Seeds {
    let net = Net::new(NetworkKind::Test);
    let mut out = Seeds::new();
    for (name, body) in bodies::all() {
        out.push((format!("body-{name}"), body.to_bytes()));
    }
    let body = bodies::all().swap_remove(0).1;
    let one = net.record(body.clone(), &[("brand", "records")]);
    let two = net.record(body, &[("brand", "records"), ("media", "records")]);
    let genesis = signed_genesis(NetworkKind::Live);
    let entry = &genesis.genesis().members[0];
    let (block, certificate) = crate::ledger::sample_chain(1).remove(0);
    let header = Block::from_bytes(&block).expect("a block").header;
    let info = BlockInfo {
        rules_version: header.rules_version,
        height: header.height,
        time_ms: header.time_ms,
        previous: header.previous,
        record_count: header.record_count,
        proposer: header.proposer,
        state_root: header.state_root,
    };
    out.extend(named([
        ("record-one-signer", one.bytes().to_vec()),
        ("record-two-signers", two.bytes().to_vec()),
        ("genesis", genesis.document().to_vec()),
        ("genesis-file", genesis.to_bytes()),
        ("member", entry.to_bytes()),
        ("header", header.to_bytes()),
        ("block", block),
        ("certificate", certificate),
        ("block-info", info.to_bytes()),
        ("text-gtin", b"09521234543213".to_vec()),
        ("text-profile", b"prehashed:sha256:uid2".to_vec()),
        ("text-expiry", b"281100".to_vec()),
        ("text-member-id", entry.id.to_string().into_bytes()),
    ]));
    // One value of each namespace of the state.
    let mut last = String::new();
    for (key, value) in net.state.iter() {
        let shown = keys::show(key);
        let namespace = shown.split('/').next().unwrap_or_default().to_owned();
        if namespace != last {
            out.push((format!("state-{namespace}"), value.to_vec()));
            last = namespace;
        }
    }
    let tree = tally_contracts::StateTree::from_leaves(net.state.iter()).expect("a small tree");
    for name in ["brand", "nobody"] {
        let proof = tree.prove(&keys::member_name(name));
        out.push((format!("state-proof-{name}"), proof.to_bytes()));
    }
    out
}
