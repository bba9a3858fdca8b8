//! Proofs of a scan, of the state and of a match, made by the real ledger and the real scan log, and what must not pass for one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rayon::prelude::*;
use tally_contracts::codec::Canonical as _;
use tally_contracts::ids::{AudienceLabel, MemberId, RecordId, SessionId};
use tally_contracts::records::{
    AcceptAgreement, AnchorScans, AudienceRef, BudgetCap, Close, CloseMatch, CommitAudience,
    Computation, MatchReceipt, Noise, OpenMatch, ProposeAgreement, RecallBatch, ReleaseMatch,
    Suite, size_bucket,
};
use tally_contracts::state::{BatchStatus, MatchStatus};
use tally_evidence::{
    Error, Extra, Proven, Question, SIGNED_RECEIPT_BYTES, ScanExtra, StateExtra, Statement,
    UnitCode, scan_code_hash, verify,
};
use tally_merkle::{Hash, TlogProof};

use super::tests::{GTIN, World, world};
use super::*;
use crate::scans::testkit::{Book, FakeIssuer, ManualClock, Wire};
use crate::scans::{
    Channel, Place, RecordKeys, ScanId, ScanLog, ScanLogConfig, ScanRequest, ScanService,
    ScannedCode, ServiceConfig,
};
use crate::sealed::StorageKey;

const SERIAL: &str = "G123456789ABCDEFGHJK";
const REGION: &str = "Chengdu";

struct NoKeys;

impl RecordKeys for NoKeys {
    fn record_keys(&self, _: &MemberId) -> Vec<tally_contracts::ids::PublicKey> {
        Vec::new()
    }
}

/// The scan log of member 0 with some scans of one code, anchored in the ledger; gives the second.
struct Scanned {
    _dir: tempfile::TempDir,
    service: Arc<ScanService>,
    scan: ScanId,
    source: [u8; 16],
    place: RecordPlace,
}

impl Scanned {
    async fn new(w: &mut World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = StorageKey::from_bytes([4; 32]);
        let log = ScanLog::open(&ScanLogConfig::new(dir.path(), 0), &key).unwrap();
        let service = Arc::new(ScanService::new(
            ServiceConfig {
                cell_length: 5,
                network: w.id(),
                member: w.network.member(0),
                forward_deadline: Duration::from_secs(1),
            },
            log,
            Arc::new(Book::brand()),
            Arc::new(FakeIssuer::default()),
            Arc::new(NoKeys),
            Arc::new(Wire::default()),
            Arc::new(w.network.key(0, "records")),
            Arc::new(ManualClock(AtomicU64::new(w.time_ms))),
        ));
        let source = service.log().pseudonym(&[b"203.0.113.77"]);
        let mut scans = Vec::new();
        for _ in 0..5 {
            let request = ScanRequest {
                code: ScannedCode::new(GTIN, SERIAL).unwrap(),
                claim: None,
                place: Some(Place::new("CN", REGION).unwrap()),
                address_place: None,
                channel: Channel::Page,
                source,
                idempotency_key: None,
            };
            scans.push(service.scan(request).await.unwrap().scan.record.id);
        }
        let log = service.log();
        let (size, root) = (log.size(), log.root_at(log.size()).unwrap().unwrap());
        let anchor = AnchorScans {
            log_id: 0,
            size,
            root,
            consistency: vec![],
        };
        let record = w.commit(vec![anchor.into()])[0];
        log.record_anchor(size, root, record).unwrap();
        Self {
            _dir: dir,
            scan: scans[1],
            source,
            place: place(&w.ledger, &record).unwrap(),
            service,
        }
    }

    async fn kit(&self, w: &World) -> Kit {
        let (proof, receipt) = self.service.proof(self.scan).await.unwrap();
        let note = w.checkpoint(&[0, 1, 2, 3]);
        scan_kit(&w.ledger, self.place, &proof, &receipt, &note).unwrap()
    }
}

fn code(serial: &str) -> UnitCode {
    format!("{GTIN}/{serial}").parse().unwrap()
}

pub(super) fn bless(name: &str, kit: &Kit) {
    if std::env::var_os("TALLY_BLESS").is_some() {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("evidence/tests/golden")
            .join(format!("{name}.tlog-proof"));
        if !file.exists() {
            std::fs::write(file, &kit.proof).unwrap();
        }
    }
}

/// Every byte of a proof counts: flipped three ways, and cut off.
pub(super) fn every_byte_counts(w: &World, kit: &Kit) {
    let proof = kit.proof.as_bytes();
    let (id, policy) = (w.id(), w.policy());
    let good = verify(&id, policy.as_bytes(), proof, None).map_err(|e| e.reason());
    (0..proof.len()).into_par_iter().for_each(|at| {
        for flip in [0x20, 0x01, 0x80] {
            let mut bent = proof.to_vec();
            bent[at] ^= flip;
            let judged = verify(&id, policy.as_bytes(), &bent, None);
            assert!(
                judged.is_err() && judged.map_err(|e| e.reason()) != good,
                "byte {at} ^ {flip:#x}"
            );
        }
        assert!(verify(&id, policy.as_bytes(), &proof[..at], None).is_err());
    });
    let extra = kit.proof.parse::<TlogProof>().unwrap().extra.unwrap();
    (0..extra.len()).into_par_iter().for_each(|at| {
        for bit in [0, 5] {
            let mut bent: TlogProof = kit.proof.parse().unwrap();
            let mut bytes = extra.clone();
            bytes[at] ^= 1 << bit;
            bent.extra = Some(bytes);
            let judged = verify(&id, policy.as_bytes(), bent.to_string().as_bytes(), None);
            assert!(
                judged.is_err() && judged.map_err(|e| e.reason()) != good,
                "extra byte {at} bit {bit}"
            );
        }
    });
}

#[tokio::test]
async fn a_scan_is_proven_by_its_receipt_and_its_anchor() {
    let (mut w, ..) = world();
    let before_ms = w.time_ms;
    let scanned = Scanned::new(&mut w).await;
    let kit = scanned.kit(&w).await;
    bless("scan", &kit);
    let asked = code(SERIAL);
    let report = w.verify(&kit.proof, Some(&asked)).unwrap();
    let Proven::Scan(found) = report.proven else {
        panic!("not of a scan")
    };
    assert_eq!(found.receipt.scan.0, scanned.scan.0);
    assert_eq!(found.receipt.verdict.name(), "genuine_repeat");
    assert_eq!((found.receipt.count, found.receipt.log_index), (2, 1));
    assert_eq!(found.receipt.code, scan_code_hash(&asked));
    assert_eq!(found.code, Some(asked));
    assert_eq!(found.anchored_size, 5);
    assert_eq!(found.member_name, "member-0");
    assert!(found.receipt.time_ms >= before_ms && found.receipt.time_ms < found.anchored.time_ms);
    // What the verifier reads is what the node signs.
    let (_, receipt) = scanned.service.proof(scanned.scan).await.unwrap();
    assert_eq!(found.receipt.to_bytes(), receipt.receipt.to_bytes());
    assert_eq!(receipt.to_bytes().len(), SIGNED_RECEIPT_BYTES);

    let other = code("G223456789ABCDEFGHJK");
    assert_eq!(w.verify(&kit.proof, Some(&other)), Err(Error::OtherScan));
    let without = w.verify(&kit.proof, None).unwrap();
    assert!(matches!(without.proven, Proven::Scan(s) if s.code.is_none()));
}

#[tokio::test]
async fn a_proof_of_a_scan_has_nothing_personal() {
    let (mut w, ..) = world();
    let scanned = Scanned::new(&mut w).await;
    let kit = scanned.kit(&w).await;
    let parsed: TlogProof = kit.proof.parse().unwrap();
    let extra = parsed.extra.unwrap();
    let Extra::Scan(parts) = Extra::from_bytes(&extra).unwrap() else {
        panic!("not of a scan")
    };
    // The pseudonym, the place, the code itself, and the leaf's opening (the stored record) are in no form in the file.
    let stored = scanned.service.get(scanned.scan).await.unwrap().scan.record;
    assert_eq!(stored.source, scanned.source);
    let bytes = stored.to_bytes();
    for (what, canary) in [
        ("pseudonym", &scanned.source[..]),
        ("pseudonym in hex", hex::encode(scanned.source).as_bytes()),
        ("place", REGION.as_bytes()),
        ("serial", SERIAL.as_bytes()),
        ("record", &bytes[17..]),
    ] {
        for (file, text) in [("extra", extra.as_slice()), ("proof", kit.proof.as_bytes())] {
            assert!(
                !text.windows(canary.len()).any(|w| w == canary),
                "the {what} is in the {file}"
            );
        }
    }
    // Beside the ledger's own entries there is the receipt, of fixed length, and hashes.
    assert_eq!(parts.receipt.len(), SIGNED_RECEIPT_BYTES);
    let ledger_part = parts.anchored.to_bytes().len();
    let path = 4 + 32 * parts.path.len();
    assert_eq!(extra.len(), 2 + ledger_part + SIGNED_RECEIPT_BYTES + path);
}

#[tokio::test]
async fn every_byte_of_a_proof_of_a_scan_counts() {
    let (mut w, ..) = world();
    let scanned = Scanned::new(&mut w).await;
    every_byte_counts(&w, &scanned.kit(&w).await);
}

#[tokio::test]
async fn parts_of_other_scans_and_anchors_do_not_fit() {
    let (mut w, ..) = world();
    let scanned = Scanned::new(&mut w).await;
    let kit = scanned.kit(&w).await;
    let with = |change: &dyn Fn(&mut ScanExtra)| {
        let mut proof: TlogProof = kit.proof.parse().unwrap();
        let Extra::Scan(mut extra) = Extra::from_bytes(proof.extra.as_ref().unwrap()).unwrap()
        else {
            panic!("not of a scan")
        };
        change(&mut extra);
        proof.extra = Some(Extra::Scan(extra).to_bytes());
        w.verify(&proof.to_string(), None).map_err(|e| e.reason())
    };
    assert!(with(&|_| {}).is_ok());
    let (_, receipt) = scanned.service.proof(scanned.scan).await.unwrap();
    let signed = |member: usize, change: &dyn Fn(&mut crate::scans::Receipt)| {
        let mut receipt = receipt.receipt.clone();
        change(&mut receipt);
        receipt.sign(&w.network.key(member, "records")).to_bytes()
    };
    for (why, bytes, reason) in [
        ("as it is", signed(0, &|_| {}), None),
        ("another member's key", signed(1, &|_| {}), Some("signer")),
        (
            "a better answer, not signed by the node",
            {
                let mut bytes = receipt.to_bytes();
                bytes[107] = 1;
                bytes
            },
            Some("signer"),
        ),
        (
            "another leaf",
            signed(0, &|r| r.leaf = Hash([1; 32])),
            Some("inclusion"),
        ),
        (
            "another place",
            signed(0, &|r| {
                r.log_index = 2;
                r.log_size = 3;
            }),
            Some("inclusion"),
        ),
        (
            "beyond the anchor",
            signed(0, &|r| {
                r.log_index = 7;
                r.log_size = 8;
            }),
            Some("inclusion"),
        ),
        (
            "sizes that do not fit",
            signed(0, &|r| r.log_size = 4),
            Some("contradiction"),
        ),
        (
            "another log",
            signed(0, &|r| r.log_id = 1),
            Some("contradiction"),
        ),
        (
            "another network",
            signed(0, &|r| r.network.0[0] ^= 1),
            Some("contradiction"),
        ),
        (
            "another member",
            signed(0, &|r| r.member = w.network.member(1)),
            Some("contradiction"),
        ),
    ] {
        let judged = with(&|extra| extra.receipt.clone_from(&bytes));
        assert_eq!(judged.err(), reason, "{why}");
    }
    assert_eq!(with(&|e| e.path.truncate(1)).err(), Some("inclusion"));
    // A record that anchors nothing in the anchor's place.
    let other = w.ledger.entry(1).unwrap();
    assert_eq!(
        with(&|e| e.anchored.record.clone_from(&other)).err(),
        Some("inclusion")
    );
}

pub(super) fn end_kit(w: &World, session: &SessionId) -> Kit {
    EndSearch::new(*session, None)
        .take(&w.ledger)
        .unwrap()
        .seal(&w.ledger, &w.checkpoint(&[0, 1, 2, 3]))
        .unwrap()
}

fn state_kit(w: &World, question: Question) -> Kit {
    StateTaken::take(&w.ledger, question)
        .unwrap()
        .seal(&w.ledger, &w.checkpoint(&[0, 1, 2, 3]))
        .unwrap()
}

#[test]
fn the_state_of_a_batch_is_proven_and_recalled_ones_are_refused() {
    let (mut w, sold, _) = world();
    let question = Question::Batch(sold.id);
    let kit = state_kit(&w, question);
    bless("batch", &kit);
    let report = w.verify(&kit.proof, None).unwrap();
    let Proven::State(found) = &report.proven else {
        panic!("not of the state")
    };
    assert_eq!(found.as_of_height, 4);
    assert!(
        matches!(&found.statement, Statement::Batch { id, state: Some(b) }
            if *id == sold.id && b.status == BatchStatus::Active && b.count == 600)
    );
    assert_eq!(report.entry[..3], [b'T', 2, 1]);
    // A code does not go with it.
    assert_eq!(
        w.verify(&kit.proof, Some(&sold.codes[0])),
        Err(Error::NotOfCode)
    );
    w.commit(vec![
        RecallBatch {
            batch: sold.id,
            reason: "glass".into(),
        }
        .into(),
    ]);
    let recalled = w.verify(&state_kit(&w, question).proof, None).unwrap_err();
    assert_eq!(recalled.reason(), "recalled");
    assert_eq!(recalled.to_string(), "the batch was recalled: glass");
    // The old answer under the new checkpoint.
    let old: TlogProof = kit.proof.parse().unwrap();
    let mut new: TlogProof = state_kit(&w, question).proof.parse().unwrap();
    new.extra.clone_from(&old.extra);
    assert_eq!(
        w.verify(&new.to_string(), None).unwrap_err().reason(),
        "inclusion"
    );
    // And with the old entry's own place, which is in the new tree but not its last.
    let size = w.ledger.head().tree_size;
    new.index = old.index;
    new.hashes = w.ledger.inclusion_proof(old.index, size).unwrap();
    assert_eq!(
        w.verify(&new.to_string(), None).unwrap_err().reason(),
        "contradiction"
    );
}

#[test]
fn what_is_not_there_is_proven_not_to_be_there() {
    let (w, sold, _) = world();
    for question in [
        Question::Batch(tally_contracts::ids::BatchId([9; 16])),
        Question::Member(MemberId([9; 16])),
        Question::Agreement(RecordId([9; 32])),
        Question::Budget {
            agreement: RecordId([9; 32]),
            owner: w.network.member(0),
            analyst: w.network.member(1),
            epoch: 3,
        },
    ] {
        let kit = state_kit(&w, question);
        let error = w.verify(&kit.proof, None).unwrap_err();
        assert_eq!(error.reason(), "absent", "{question:?}");
        let Some(Proven::State(state)) = error.report().map(|r| &r.proven) else {
            panic!("no report")
        };
        assert!(!state.statement.is_there());
        // The question of something that is there does not go with the proof that nothing is.
        let mut proof: TlogProof = kit.proof.parse().unwrap();
        let Extra::State(mut extra) = Extra::from_bytes(proof.extra.as_ref().unwrap()).unwrap()
        else {
            panic!("not of the state")
        };
        extra.question = Question::Batch(sold.id);
        extra.answers.truncate(1);
        proof.extra = Some(Extra::State(extra).to_bytes());
        let judged = w.verify(&proof.to_string(), None).unwrap_err();
        assert_eq!(judged.reason(), "state", "{question:?}");
    }
}

#[test]
fn a_member_is_proven_and_every_byte_counts() {
    let (w, ..) = world();
    let id = w.network.member(2);
    let kit = state_kit(&w, Question::Member(id));
    bless("member", &kit);
    let report = w.verify(&kit.proof, None).unwrap();
    assert!(
        matches!(&report.proven, Proven::State(s) if matches!(&s.statement,
            Statement::Member { entry: Some(m), .. } if m.name == "member-2" && m.id == id))
    );
    every_byte_counts(&w, &kit);
    // Another number of answers than the question needs.
    let mut proof: TlogProof = kit.proof.parse().unwrap();
    let Extra::State(extra) = Extra::from_bytes(proof.extra.as_ref().unwrap()).unwrap() else {
        panic!("not of the state")
    };
    for answers in [vec![], vec![extra.answers[0].clone(); 2]] {
        let bent = StateExtra {
            answers,
            ..(*extra).clone()
        };
        proof.extra = Some(Extra::State(Box::new(bent)).to_bytes());
        assert_eq!(
            w.verify(&proof.to_string(), None).unwrap_err().reason(),
            "contradiction"
        );
    }
}

pub(super) const CAP: BudgetCap = BudgetCap {
    micro_rho: 2_000_000,
    delta: 1 << 20,
};

/// A match between members 0 and 1 that is done; gives the agreement and the record that closed it.
pub(super) fn matched(w: &mut World, session: SessionId) -> (RecordId, RecordId) {
    let members = [w.network.member(0), w.network.member(1)];
    let mut parties = members.to_vec();
    parties.sort_unstable();
    let profile = "e164".parse().unwrap();
    let noise = Noise::Laplace {
        micro_eps: 1_000_000,
        delta: 1024,
        bound: 64,
    };
    let terms = ProposeAgreement {
        parties,
        purpose: "people who saw and bought".into(),
        computations: vec![Computation::Cardinality],
        suite: Suite::DhRistrettoV1,
        profile,
        min_set_size: 100,
        max_set_size: 100_000,
        min_result: 50,
        noise,
        epoch_cap: CAP,
        lifetime_cap: CAP,
        max_audiences: 4,
        max_matches: 10,
        expires_ms: w.time_ms + 1_000_000_000,
        sums: None,
        overlap: None,
    };
    let agreement = w.commit_as([(terms.into(), vec![(0, "admin")])])[0];
    w.commit_as([(AcceptAgreement { agreement }.into(), vec![(1, "admin")])]);
    let epoch = (w.time_ms + 1000) / w.ledger.genesis().rules.epoch_ms;
    let audience = |i: u8| AudienceRef {
        label: AudienceLabel([i; 32]),
        epoch,
        root: Hash([i; 32]),
        size_bucket: size_bucket(1000),
    };
    let commit = |i: u8| -> tally_contracts::records::Body {
        let a = audience(i);
        CommitAudience {
            label: a.label,
            epoch,
            root: a.root,
            size_bucket: a.size_bucket,
            profile,
        }
        .into()
    };
    w.commit_as([
        (commit(0), vec![(0, "records")]),
        (commit(1), vec![(1, "records")]),
    ]);
    let open = OpenMatch {
        agreement,
        computation: Computation::Cardinality,
        session,
        initiator: members[0],
        responder: members[1],
        initiator_audience: audience(0),
        responder_audience: audience(1),
    };
    w.commit_as([(open.into(), vec![(0, "records"), (1, "records")])]);
    let release = ReleaseMatch {
        session,
        initiator_stream: Hash([6; 32]),
    };
    w.commit_as([(release.into(), vec![(1, "records")])]);
    let receipt = MatchReceipt {
        computation: Computation::Cardinality,
        noise,
        initiator_bucket: size_bucket(1000),
        responder_bucket: size_bucket(1000),
        spent: noise.charge(),
        count_spent: BudgetCap::default(),
        result: Hash([7; 32]),
        initiator_stream: Hash([6; 32]),
        responder_stream: Hash([8; 32]),
    };
    let close = CloseMatch {
        session,
        close: Close::Done(receipt),
    };
    let closed = w.commit_as([(close.into(), vec![(0, "records"), (1, "records")])])[0];
    (agreement, closed)
}

#[test]
fn a_match_and_what_is_left_of_the_budget_are_proven() {
    let (mut w, ..) = world();
    let session = SessionId([5; 32]);
    let (agreement, closed) = matched(&mut w, session);
    let note = w.checkpoint(&[0, 1, 2, 3]);
    let kit = end_kit(&w, &session);
    let from = EndSearch::new(session, Some(closed))
        .take(&w.ledger)
        .unwrap();
    assert_eq!(from.seal(&w.ledger, &note).unwrap().proof, kit.proof);
    bless("match", &kit);
    let report = w.verify(&kit.proof, None).unwrap();
    let Proven::Match(found) = &report.proven else {
        panic!("not of a match")
    };
    assert_eq!(found.session, session);
    assert_eq!(found.matched.status, MatchStatus::Done);
    assert_eq!(found.agreement.terms.purpose, "people who saw and bought");
    assert_eq!(
        (found.initiator_name.as_str(), found.responder_name.as_str()),
        ("member-0", "member-1")
    );
    assert!(matches!(&found.close, Close::Done(r) if r.result == Hash([7; 32])));
    every_byte_counts(&w, &kit);

    let budget = |owner: usize, analyst: usize| Question::Budget {
        agreement,
        owner: w.network.member(owner),
        analyst: w.network.member(analyst),
        epoch: found.matched.initiator_audience.epoch,
    };
    let kit = state_kit(&w, budget(1, 0));
    bless("budget", &kit);
    let report = w.verify(&kit.proof, None).unwrap();
    let Proven::State(found) = &report.proven else {
        panic!("not of the state")
    };
    let Statement::Budget(left) = &found.statement else {
        panic!("not of a budget")
    };
    // Epsilon 1 costs rho 0.5 of each owner.
    let expected = BudgetCap {
        micro_rho: 1_500_000,
        delta: (1 << 20) - 1024,
    };
    assert_eq!((left.left_in_epoch, left.left_in_all), (expected, expected));
    assert_eq!(left.in_all.spent.micro_rho, 500_000);
    assert_eq!(left.in_all.reserved, BudgetCap::default());
    every_byte_counts(&w, &kit);
    // Owner and analyst must be the agreement's two parties.
    for (owner, analyst) in [(0, 0), (0, 2), (3, 1)] {
        let taken = StateTaken::take(&w.ledger, budget(owner, analyst)).unwrap();
        assert!(matches!(
            taken.seal(&w.ledger, &note),
            Err(ProofError::Verify(Error::Contradiction { .. }))
        ));
    }
}

#[test]
fn a_record_has_a_golden_proof_too() {
    let (w, ..) = world();
    let id = tally_contracts::Record::from_bytes(&w.ledger.entry(1).unwrap())
        .unwrap()
        .id();
    let place = place(&w.ledger, &id).unwrap();
    let kit = record_kit(&w.ledger, place, &w.checkpoint(&[0, 1, 2, 3])).unwrap();
    bless("record", &kit);
    w.verify(&kit.proof, None).unwrap();
}
