//! Proofs made by the real ledger, issuer's store and checkpoints of four validators, and what must not pass for one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use tally_codes::batch::{RowFormat, RowForms};
use tally_codes::gs1::UrlBase;
use tally_contracts::codec::Canonical as _;
use tally_contracts::ids::{BatchId, NetworkId, PublicKey};
use tally_contracts::records::{
    ActivateBatch, Body, ExpiryDate, RecallBatch, RegisterProduct, RevokeCodes, RevokedLeaves,
    RevokedPart,
};
use tally_contracts::state::BatchStatus;
use tally_contracts::{Signer, Unsigned};
use tally_evidence::{Error, Extra, Proven, UnitCode, network_policy, verify};
use tally_ledger::sample::{START_MS, SampleNetwork};
use tally_ledger::{CheckpointKeys, Checkpoints, Ledger, Options, origin};
use tally_merkle::{Note, TlogProof, note};
use tempfile::TempDir;

use super::*;
use crate::issuer::{Expiry, IssuerStore, NewBatch};
use crate::sealed::StorageKey;

pub(super) const GTIN: &str = "09521234543213";

/// A ledger of four validators, of whom member 0 is the brand.
pub(super) struct World {
    _dir: TempDir,
    pub(super) network: SampleNetwork,
    pub(super) ledger: Arc<Ledger>,
    issuer: IssuerStore,
    nonces: HashMap<(usize, &'static str), u64>,
    pub(super) time_ms: u64,
}

/// A batch and its codes.
pub(super) struct Batch {
    pub(super) id: BatchId,
    pub(super) codes: Vec<UnitCode>,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let network = SampleNetwork::new(4).unwrap();
        let genesis = network.genesis.to_bytes();
        // Small files, so that old ones can be dropped.
        let options = Options {
            segment_bytes: 1 << 14,
            ..Options::default()
        };
        let ledger = Arc::new(Ledger::open(&dir.path().join("ledger"), &genesis, options).unwrap());
        let issuer = IssuerStore::open(
            dir.path().join("codes"),
            StorageKey::from_bytes([3; 32]),
            network.member(0),
            ledger.clone(),
        )
        .unwrap();
        let mut world = Self {
            _dir: dir,
            network,
            ledger,
            issuer,
            nonces: HashMap::new(),
            time_ms: START_MS,
        };
        world.commit(vec![
            RegisterProduct {
                gtin: GTIN.parse().unwrap(),
                description: "Green tea, 100 g".into(),
                brand: "Sample".into(),
            }
            .into(),
        ]);
        world
    }

    pub(super) fn id(&self) -> NetworkId {
        self.ledger.network()
    }

    /// A block with these records of the brand; gives their IDs.
    pub(super) fn commit(&mut self, bodies: Vec<Body>) -> Vec<RecordId> {
        self.commit_as(bodies.into_iter().map(|b| (b, vec![(0, "records")])))
    }

    /// A block with these records, each signed by these keys of members; gives their IDs.
    pub(super) fn commit_as(
        &mut self,
        bodies: impl IntoIterator<Item = (Body, Vec<(usize, &'static str)>)>,
    ) -> Vec<RecordId> {
        self.time_ms += 1000;
        let mut records = Vec::new();
        for (body, by) in bodies {
            let keys: Vec<_> = by.iter().map(|(i, u)| self.network.key(*i, u)).collect();
            let mut signers = Vec::new();
            for ((i, key_use), key) in by.iter().zip(&keys) {
                let nonce = self.nonces.entry((*i, key_use)).or_default();
                signers.push(Signer::new(
                    self.network.member(*i),
                    &PublicKey::from(key),
                    *nonce,
                ));
                *nonce += 1;
            }
            let unsigned = Unsigned::new(self.id(), self.time_ms + 60_000, signers, &body);
            records.push(unsigned.sign(&keys.iter().collect::<Vec<_>>()).unwrap());
        }
        let proposer = self.network.member(1);
        let prepared = self
            .ledger
            .prepare(&records, self.time_ms, proposer, &|_| None)
            .unwrap();
        assert!(prepared.refused.is_empty(), "{:?}", prepared.refused);
        let certificate = self.network.certificate(&prepared.block.header, 3);
        self.ledger
            .commit(&prepared.block.to_bytes(), &certificate, &|_| None)
            .unwrap();
        records.iter().map(tally_contracts::Record::id).collect()
    }

    /// Makes and issues a batch.
    pub(super) fn issue(&mut self, lot: &str, first_index: u64, count: u64) -> Batch {
        self.issue_dated(lot, first_index, count, None)
    }

    /// The same with a last day.
    fn issue_dated(
        &mut self,
        lot: &str,
        first_index: u64,
        count: u64,
        expires: Option<ExpiryDate>,
    ) -> Batch {
        let new = NewBatch {
            gtin: GTIN.parse().unwrap(),
            lot: lot.parse().unwrap(),
            count,
            first_index,
            expiry: expires.map(|date| Expiry {
                date,
                in_links: false,
            }),
        };
        let mut rows = Vec::new();
        let base = UrlBase::parse("https://id.t.cn").unwrap();
        let forms = RowForms::outer(RowFormat::Csv, base);
        let meta = self
            .issuer
            .prepare_batch(
                &new,
                &forms,
                (&mut rows, &mut std::io::sink()),
                &mut |_, _| {},
            )
            .unwrap();
        self.commit(vec![meta.to_record().into()]);
        let rows = String::from_utf8(rows).unwrap();
        let codes = rows
            .lines()
            .map(|row| row.split(',').next().unwrap().parse().unwrap())
            .collect();
        Batch { id: meta.id, codes }
    }

    /// The checkpoint of the head, signed by member 0 as the log and cosigned by these members.
    pub(super) fn checkpoint(&self, cosigners: &[usize]) -> Note {
        let keys = |i: usize| CheckpointKeys {
            member: format!("member-{i}"),
            checkpoint: self.network.key(i, "checkpoint"),
            cosignature: Some(self.network.key(i, "cosignature")),
        };
        let head = |i: usize| {
            let dir = TempDir::new().unwrap();
            let mut checkpoints = Checkpoints::open(dir.path(), self.id(), keys(i)).unwrap();
            let time_s = self.time_ms / 1000 + i as u64;
            let (size, signature) = checkpoints
                .sign_head(&self.ledger, time_s)
                .unwrap()
                .unwrap();
            (checkpoints, dir, size, signature)
        };
        let (mut collector, _dir, size, _) = head(0);
        let validators = self.ledger.validators().unwrap();
        let mut bare = Note::unsigned(
            Checkpoint {
                origin: origin(&self.id()),
                size,
                root: self.ledger.head().tree_root,
            }
            .to_string(),
        )
        .unwrap();
        let log = self.network.key(0, "checkpoint");
        bare.signatures
            .push(note::sign(bare.text(), &origin(&self.id()), &log).unwrap());
        for i in cosigners {
            let (.., signature) = head(*i);
            collector.add(size, signature.clone(), &validators).unwrap();
            bare.signatures.push(signature);
        }
        match collector.best() {
            Some((best, note)) if best == size => note.clone(),
            // Too few for the node to call it a checkpoint: what a cheat would hand out all the same.
            _ => bare,
        }
    }

    fn evidence(&self, code: &UnitCode) -> CodeEvidence {
        let gtin = GTIN.parse().unwrap();
        let unit = self.issuer.proof(&gtin, &code.serial.to_string()).unwrap();
        CodeEvidence::take(&self.ledger, unit, &gtin).unwrap()
    }

    pub(super) fn kit(&self, code: &UnitCode) -> Kit {
        self.evidence(code)
            .seal(&self.ledger, &self.checkpoint(&[0, 1, 2, 3]))
            .unwrap()
    }

    pub(super) fn policy(&self) -> String {
        network_policy(self.ledger.genesis()).unwrap().to_string()
    }

    pub(super) fn verify(&self, proof: &str, code: Option<&UnitCode>) -> Result<Report, Error> {
        verify(&self.id(), self.policy().as_bytes(), proof.as_bytes(), code)
    }

    /// Takes a proof apart, changes it, and puts it together again.
    fn changed(&self, kit: &Kit, change: impl FnOnce(&mut TlogProof, &mut CodeExtra)) -> Error {
        let mut proof: TlogProof = kit.proof.parse().unwrap();
        let Extra::Code(mut extra) = parts(kit) else {
            unreachable!()
        };
        change(&mut proof, &mut extra);
        proof.extra = Some(Extra::Code(extra).to_bytes());
        self.verify(&proof.to_string(), None).unwrap_err()
    }
}

fn parts(kit: &Kit) -> Extra {
    let proof: TlogProof = kit.proof.parse().unwrap();
    Extra::from_bytes(&proof.extra.unwrap()).unwrap()
}

fn code_parts(kit: &Kit) -> CodeExtra {
    match parts(kit) {
        Extra::Code(code) => *code,
        _ => unreachable!(),
    }
}

/// A world with a batch on sale in a block of several records, a second one, and blocks before and after.
pub(super) fn world() -> (World, Batch, Batch) {
    let mut w = World::new();
    let sold = w.issue("SPRING", 0, 600);
    let other = w.issue("SUMMER", 600, 300);
    w.commit(vec![
        ActivateBatch { batch: sold.id }.into(),
        ActivateBatch { batch: other.id }.into(),
    ]);
    (w, sold, other)
}

#[test]
fn a_code_is_proven_with_all_that_is_known_of_it() {
    let (w, sold, _) = world();
    let code = sold.codes[321];
    let kit = w.kit(&code);
    assert_eq!(kit.policy, w.policy());
    let report = w.verify(&kit.proof, Some(&code)).unwrap();
    assert_eq!(report, kit.report);
    assert_eq!(report.network, w.id());
    assert_eq!(report.signed_by, ["member-0"]);
    assert_eq!(
        (report.cosigners.len(), report.needed, report.validators),
        (4, 3, 4)
    );
    assert_eq!(report.tree_size, w.ledger.head().tree_size);
    let Proven::Code(found) = report.proven else {
        panic!("not of a code")
    };
    assert_eq!(found.code, code);
    assert_eq!(found.batch, sold.id);
    assert_eq!((found.lot.as_str(), found.units), ("SPRING", 600));
    assert_eq!(found.issuer_name, "member-0");
    assert_eq!(found.description, "Green tea, 100 g");
    assert_eq!(found.status, BatchStatus::Active);
    // Product at height 1, the batches at 2 and 3, released at 4.
    assert_eq!((found.issued_height, found.as_of_height), (2, 4));
    assert_eq!(found.issued_ms, START_MS + 2000);
    assert_eq!(found.status_since_ms, START_MS + 4000);
    assert_eq!(found.as_of_ms, START_MS + 4000);

    // The golden proof of tally-evidence was made so.
    if std::env::var_os("TALLY_BLESS").is_some() {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("evidence/tests/golden");
        std::fs::create_dir_all(&dir).unwrap();
        if !dir.join("code.tlog-proof").exists() {
            std::fs::write(dir.join("code.tlog-proof"), &kit.proof).unwrap();
            std::fs::write(dir.join("policy"), &kit.policy).unwrap();
            std::fs::write(dir.join("network_id"), format!("{}\n", w.id())).unwrap();
            std::fs::write(dir.join("code"), format!("{code}\n")).unwrap();
        }
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused() {
    let (w, sold, _) = world();
    let kit = w.kit(&sold.codes[7]);
    let id = w.id();
    let (proof, policy) = (kit.proof.as_bytes(), kit.policy.as_bytes());
    verify(&id, policy, proof, None).unwrap();
    for (name, bytes) in [("proof", proof), ("policy", policy)] {
        let judge = |bent: &[u8]| match name {
            "proof" => verify(&id, policy, bent, None),
            _ => verify(&id, bent, proof, None),
        };
        (0..bytes.len()).into_par_iter().for_each(|at| {
            // A letter's case, its neighbour, and a bit that leaves ASCII.
            for flip in [0x20, 0x01, 0x80] {
                let mut bent = bytes.to_vec();
                bent[at] ^= flip;
                assert!(judge(&bent).is_err(), "{name} byte {at} ^ {flip:#x}");
            }
            assert!(judge(&bytes[..at]).is_err(), "{name} cut at {at}");
        });
        for more in ["\n", " ", "A", "\0"] {
            let longer = [bytes, more.as_bytes()].concat();
            assert!(judge(&longer).is_err(), "{name} with {more:?}");
            let longer = [more.as_bytes(), bytes].concat();
            assert!(judge(&longer).is_err(), "{more:?} before {name}");
        }
    }
}

#[test]
fn every_bit_of_the_extra_counts() {
    let (w, sold, _) = world();
    let kit = w.kit(&sold.codes[0]);
    let proof: TlogProof = kit.proof.parse().unwrap();
    let extra = proof.extra.clone().unwrap();
    let with = |extra: Vec<u8>| {
        let bent = TlogProof {
            extra: Some(extra),
            ..proof.clone()
        };
        w.verify(&bent.to_string(), None)
    };
    with(extra.clone()).unwrap();
    (0..extra.len()).into_par_iter().for_each(|at| {
        for bit in [0, 3, 7] {
            let mut bent = extra.clone();
            bent[at] ^= 1 << bit;
            assert!(with(bent).is_err(), "byte {at} bit {bit}");
        }
        if at > 0 {
            assert!(with(extra[..at].to_vec()).is_err(), "cut at {at}");
        }
    });
    assert!(matches!(
        with([extra.as_slice(), &[0]].concat()),
        Err(Error::Extra(_))
    ));
}

#[test]
fn a_batch_has_expired_as_of_the_checkpoint_or_not() {
    let (mut w, ..) = world();
    // The last day is over at noon of the day after; the blocks of this ledger follow each other by a second.
    let over = |date: &str| date.parse::<ExpiryDate>().unwrap();
    let day = 86_400_000;
    let today = w.time_ms - w.time_ms % day;
    let noon = today + day / 2;
    let (past, future) = (over("260919"), over("261231"));
    assert!(
        past.is_over(w.time_ms) && !future.is_over(w.time_ms),
        "{noon}"
    );
    let old = w.issue_dated("OLD", 900, 20, Some(past));
    let new = w.issue_dated("NEW", 920, 20, Some(future));
    let (old_code, new_code) = (old.codes[3], new.codes[3]);
    let released = |w: &mut World, batch| w.commit(vec![ActivateBatch { batch }.into()]);
    let error = w.verify(&w.kit(&old_code).proof, None).unwrap_err();
    assert_eq!(error.reason(), "not_released", "that goes first");
    released(&mut w, old.id);
    released(&mut w, new.id);
    let kit = w.kit(&old_code);
    let error = w.verify(&kit.proof, Some(&old_code)).unwrap_err();
    assert_eq!(error.reason(), "expired");
    assert!(error.to_string().contains("2026-09-19"), "{error}");
    assert!(matches!(&error.report().unwrap().proven, Proven::Code(c) if c.is_expired()));
    let report = w.verify(&w.kit(&new_code).proof, Some(&new_code)).unwrap();
    assert!(
        matches!(&report.proven, Proven::Code(c) if !c.is_expired() && c.expires == Some(future))
    );
    if std::env::var_os("TALLY_BLESS").is_some() {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("evidence/tests/golden");
        if !dir.join("expired.tlog-proof").exists() {
            std::fs::write(dir.join("expired.tlog-proof"), &kit.proof).unwrap();
        }
    }
    w.commit(vec![
        RecallBatch {
            batch: old.id,
            reason: "mould".into(),
        }
        .into(),
    ]);
    let error = w.verify(&w.kit(&old_code).proof, None).unwrap_err();
    assert_eq!(error.reason(), "recalled", "that goes first");
}

#[test]
fn void_codes_are_refused_and_their_neighbours_are_not() {
    let (mut w, sold, _) = world();
    let (void, good) = (sold.codes[3], sold.codes[4]);
    let leaf = |code: &UnitCode| w.evidence(code).unit.opening.leaf_index;
    let (leaf, neighbour) = (leaf(&void), leaf(&good));
    let before = w.kit(&void);
    w.verify(&before.proof, None).unwrap();
    let mut leaves = RevokedLeaves::default();
    leaves.insert(leaf);
    assert!(!leaves.contains(neighbour));
    let part = RevokedPart {
        number: RevokedPart::number_of(leaf),
        leaves,
    };
    w.commit(vec![
        RevokeCodes {
            batch: sold.id,
            parts: vec![part],
        }
        .into(),
    ]);
    let after = w.kit(&void);
    let error = w.verify(&after.proof, Some(&void)).unwrap_err();
    assert_eq!(error.reason(), "revoked");
    assert!(matches!(&error.report().unwrap().proven, Proven::Code(c) if c.revoked));
    if std::env::var_os("TALLY_BLESS").is_some() {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("evidence/tests/golden");
        if !dir.join("void.tlog-proof").exists() {
            std::fs::write(dir.join("void.tlog-proof"), &after.proof).unwrap();
        }
    }
    let report = w.verify(&w.kit(&good).proof, Some(&good)).unwrap();
    assert!(matches!(&report.proven, Proven::Code(c) if !c.revoked));
    // The proof of absence from before, or another batch's part, does not pass under the new root; nor does saying nothing.
    let old = code_parts(&before);
    let error = w.changed(&after, |_, extra| extra.revoked = old.revoked.clone());
    assert_eq!(error.reason(), "state");
    let error = w.changed(&after, |_, extra| extra.revoked.value.clear());
    assert_eq!(error.reason(), "state");
    let error = w.changed(&after, |_, extra| {
        extra.revoked = extra.product.clone();
        extra.revoked.value.clear();
    });
    assert_eq!(error.reason(), "state");
    // The one taken before still says what it said.
    w.verify(&before.proof, None).unwrap();
    // A recall is told first.
    w.commit(vec![
        RecallBatch {
            batch: sold.id,
            reason: "glass".into(),
        }
        .into(),
    ]);
    let error = w.verify(&w.kit(&void).proof, None).unwrap_err();
    assert_eq!(error.reason(), "recalled");
}

#[test]
fn recalled_and_unreleased_batches_are_refused_and_say_so() {
    let mut w = World::new();
    let held = w.issue("AUTUMN", 0, 10);
    let error = w.verify(&w.kit(&held.codes[0]).proof, None).unwrap_err();
    assert_eq!(error.reason(), "not_released");
    assert!(
        matches!(&error.report().unwrap().proven, Proven::Code(c) if c.status == BatchStatus::Issued)
    );

    w.commit(vec![ActivateBatch { batch: held.id }.into()]);
    let good = w.kit(&held.codes[0]);
    w.verify(&good.proof, None).unwrap();

    let reason = "glass in the tea".to_owned();
    w.commit(vec![
        RecallBatch {
            batch: held.id,
            reason: reason.clone(),
        }
        .into(),
    ]);
    let error = w.verify(&w.kit(&held.codes[0]).proof, None).unwrap_err();
    assert_eq!(error.reason(), "recalled");
    assert!(error.to_string().contains(&reason), "{error}");
    // The one taken before still says what it said: active, as of a block before.
    w.verify(&good.proof, None).unwrap();
}

#[test]
fn an_old_state_cannot_be_shown_under_a_new_checkpoint() {
    let (mut w, sold, _) = world();
    let code = sold.codes[1];
    let before = w.kit(&code);
    let evidence = w.evidence(&code);
    w.commit(vec![
        RecallBatch {
            batch: sold.id,
            reason: "glass".into(),
        }
        .into(),
    ]);
    let note = w.checkpoint(&[0, 1, 2, 3]);
    assert!(matches!(
        evidence.seal(&w.ledger, &note),
        Err(ProofError::OtherSize { .. })
    ));
    let after = w.kit(&code);
    let old = code_parts(&before);
    let size = w.ledger.head().tree_size;
    let old_index = before.report.tree_size - 1;
    // The old batch under the new state root.
    let error = w.changed(&after, |_, extra| extra.batch = old.batch.clone());
    assert_eq!(error.reason(), "state");
    // The old state root with it, by its true inclusion proof under the new checkpoint: it is not the last entry.
    let path = w.ledger.inclusion_proof(old_index, size).unwrap();
    let error = w.changed(&after, |_, extra| {
        extra.batch = old.batch.clone();
        extra.product = old.product.clone();
        extra.head.info = old.head.info.clone();
        extra.head.path = path;
    });
    assert_eq!(error.reason(), "inclusion");
    // All of the old proof but the checkpoint.
    let error = w.changed(&before, |proof, _| proof.checkpoint = note.clone());
    assert_eq!(error.reason(), "inclusion");
}

#[test]
fn parts_of_other_codes_and_batches_do_not_fit() {
    let (w, sold, other) = world();
    let (mine, neighbour, foreign) = (
        w.kit(&sold.codes[0]),
        w.kit(&sold.codes[1]),
        w.kit(&other.codes[0]),
    );
    let (next, far) = (code_parts(&neighbour), code_parts(&foreign));
    let far_proof: TlogProof = foreign.proof.parse().unwrap();

    let error = w.verify(&mine.proof, Some(&sold.codes[1])).unwrap_err();
    assert_eq!(error.reason(), "other_code");
    // The path of another leaf, its place, its serial, a code of another batch.
    let changes: [fn(&mut CodeExtra, &CodeExtra, &CodeExtra); 4] = [
        |extra, next, _| {
            extra.opening.path = next.opening.path.clone();
            extra.opening.leaf_index = next.opening.leaf_index;
        },
        |extra, next, _| extra.opening.leaf_index = next.opening.leaf_index,
        |extra, next, _| extra.opening.serial = next.opening.serial,
        |extra, _, far| extra.opening = far.opening.clone(),
    ];
    for change in changes {
        let error = w.changed(&mine, |_, extra| change(extra, &next, &far));
        assert_eq!(error.reason(), "not_in_batch", "{error}");
    }
    // The record of another batch, in its true place.
    let error = w.changed(&mine, |proof, extra| {
        extra.issued = far.issued.clone();
        (proof.index, proof.hashes) = (far_proof.index, far_proof.hashes.clone());
    });
    assert_eq!(error.reason(), "not_in_batch");
    let error = w.changed(&mine, |_, extra| {
        extra.issued.record = far.issued.record.clone();
    });
    assert_eq!(error.reason(), "inclusion");
    // Another batch's record and code, with this batch's state.
    let error = w.changed(&mine, |proof, extra| {
        extra.issued = far.issued.clone();
        extra.opening = far.opening.clone();
        (proof.index, proof.hashes) = (far_proof.index, far_proof.hashes.clone());
    });
    assert_eq!(error.reason(), "state");
    // The time of another block.
    let error = w.changed(&mine, |_, extra| {
        extra.issued.block = far.issued.block.clone();
    });
    assert_eq!(error.reason(), "contradiction");
    // A product's value where the batch's should be.
    let error = w.changed(&mine, |_, extra| extra.batch = extra.product.clone());
    assert_eq!(error.reason(), "state");
    // A record that issues nothing, in its true place.
    let activate = w.ledger.height_of(w.ledger.head().tree_size - 1).unwrap();
    let place = RecordPlace {
        height: activate,
        index: w.ledger.head().tree_size - 2,
    };
    let size = w.ledger.head().tree_size;
    let error = w.changed(&mine, |proof, extra| {
        extra.issued = record_extra(&w.ledger, place.index, &proof.checkpoint).unwrap();
        proof.index = place.index;
        proof.hashes = w.ledger.inclusion_proof(place.index, size).unwrap();
    });
    assert_eq!(error.reason(), "contradiction");
}

#[test]
fn two_of_four_are_no_quorum_and_strangers_are_no_cosigners() {
    let (w, sold, _) = world();
    let code = sold.codes[5];
    let kit = w.kit(&code);
    for few in [&[][..], &[2], &[1, 3]] {
        let sealed = w.evidence(&code).seal(&w.ledger, &w.checkpoint(few));
        assert!(
            matches!(
                &sealed,
                Err(ProofError::Verify(Error::Quorum { found, needed: 3, validators: 4 })) if *found == few.len()
            ),
            "{sealed:?}"
        );
    }
    let three = w
        .evidence(&code)
        .seal(&w.ledger, &w.checkpoint(&[1, 2, 3]))
        .unwrap();
    assert_eq!(three.report.cosigners.len(), 3);

    let proof: TlogProof = kit.proof.parse().unwrap();
    let with = |change: &dyn Fn(&mut Note)| {
        let mut proof = proof.clone();
        change(&mut proof.checkpoint);
        w.verify(&proof.to_string(), None).unwrap_err().reason()
    };
    let stranger = w.network.key(0, "admin");
    let text = proof.checkpoint.text().to_owned();
    let sign = |name: &str| note::sign(&text, name, &stranger).unwrap();
    assert_eq!(
        with(&|note| note.signatures.push(sign("stranger"))),
        "unknown_signature"
    );
    assert_eq!(
        with(&|note| note.signatures.push(sign(&origin(&w.id())))),
        "unknown_signature"
    );
    // The same one twice, and none by a log.
    assert_eq!(
        with(&|note| {
            let first = note.signatures[1].clone();
            note.signatures.push(first);
        }),
        "checkpoint"
    );
    assert_eq!(
        with(&|note| {
            note.signatures.remove(0);
        }),
        "checkpoint"
    );
    // One cosignature less is a quorum still, and not this proof.
    assert_eq!(
        with(&|note| {
            note.signatures.pop();
        }),
        "malformed"
    );
}

#[test]
fn only_the_policy_of_the_network_is_taken() {
    let (w, sold, _) = world();
    let kit = w.kit(&sold.codes[5]);
    let judge = |policy: &str| {
        verify(&w.id(), policy.as_bytes(), kit.proof.as_bytes(), None)
            .unwrap_err()
            .reason()
    };
    let policy = &kit.policy;
    let lines: Vec<&str> = policy.lines().collect();
    assert!(
        lines.iter().any(|l| l.starts_with("group validators 3 ")),
        "{policy}"
    );
    let short = policy.replace("group validators 3 ", "group validators 2 ");
    for short in [
        short,
        policy.replace("group validators 3 ", "group validators any "),
        policy.replace("quorum validators", "quorum member-1"),
        policy.replace("quorum validators", "quorum none"),
    ] {
        assert_eq!(judge(&short), "policy_short", "{short}");
    }
    // Well made, and not this network's: more than needed, fewer validators, another order, an address.
    let three = policy
        .lines()
        .filter(|l| !l.starts_with("witness member-3 "))
        .map(|l| l.replace(" member-3", "") + "\n")
        .collect::<String>();
    let mut turned = lines.clone();
    turned.swap(0, 1);
    for other in [
        three,
        turned.join("\n") + "\n",
        policy.replacen('\n', " https://log.example/\n", 1),
    ] {
        assert_eq!(judge(&other), "policy_differs", "{other}");
    }
    assert_eq!(
        judge(&policy.replace("group validators 3 ", "group validators all ")),
        "policy_short",
        "not the form of two thirds, though it asks for more"
    );
    assert_eq!(judge(""), "policy_malformed");

    // A whole other network, with its own policy.
    let other = network_policy(&SampleNetwork::new(3).unwrap().genesis).unwrap();
    assert_eq!(judge(&other.to_string()), "policy_differs");
    let elsewhere = verify(
        &SampleNetwork::new(3).unwrap().genesis.network_id(),
        policy.as_bytes(),
        kit.proof.as_bytes(),
        None,
    );
    assert_eq!(elsewhere.unwrap_err().reason(), "other_network");
    let bent = w.changed(&kit, |_, extra| {
        extra.issued.genesis = SampleNetwork::new(3).unwrap().genesis.to_bytes();
    });
    assert_eq!(bent.reason(), "other_network");
}

#[test]
fn a_record_is_proven_with_its_time_and_its_signers() {
    let mut w = World::new();
    let batch = w.issue("WINTER", 0, 20);
    let ids = w.commit(vec![
        ActivateBatch { batch: batch.id }.into(),
        RecallBatch {
            batch: batch.id,
            reason: "glass".into(),
        }
        .into(),
    ]);
    let note = w.checkpoint(&[0, 1, 3]);
    for (i, id) in ids.iter().enumerate() {
        let place = place(&w.ledger, id).unwrap();
        let kit = record_kit(&w.ledger, place, &note).unwrap();
        let Proven::Record(found) = w.verify(&kit.proof, None).unwrap().proven else {
            panic!("not of a record")
        };
        assert_eq!(found.record, *id);
        assert_eq!((found.height, found.time_ms), (3, START_MS + 3000));
        assert_eq!(found.index, w.ledger.head().tree_size - 3 + i as u64);
        assert_eq!(found.signatories[0].name, "member-0");
        let error = w.verify(&kit.proof, Some(&batch.codes[0])).unwrap_err();
        assert_eq!(error.reason(), "other_code");

        let (id, policy) = (w.id(), kit.policy.as_bytes());
        let proof = kit.proof.as_bytes();
        (0..proof.len()).into_par_iter().for_each(|at| {
            for flip in [0x20, 0x01] {
                let mut bent = proof.to_vec();
                bent[at] ^= flip;
                assert!(verify(&id, policy, &bent, None).is_err(), "byte {at}");
            }
            assert!(verify(&id, policy, &proof[..at], None).is_err(), "cut {at}");
        });
        let bare = TlogProof {
            extra: None,
            ..kit.proof.parse().unwrap()
        };
        assert!(matches!(
            w.verify(&bare.to_string(), None),
            Err(Error::NoExtra)
        ));
    }
    let unknown = place(&w.ledger, &RecordId([9; 32]));
    assert!(matches!(unknown, Err(ProofError::NoRecord { .. })));
}
