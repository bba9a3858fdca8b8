//! Proofs of overlaps and of matches with sums, made by the real ledger, and what must not pass for one.

use tally_contracts::Record;
use tally_contracts::codec::Canonical as _;
use tally_contracts::ids::{AgreementId, AudienceLabel, MemberId, SessionId};
use tally_contracts::records::{
    AcceptAgreement, AudienceRef, Body, BudgetCap, Close, CloseMatch, CloseOverlap, CommitAudience,
    Computation, ConfirmOverlap, HelperTerms, JoinOverlap, JoinSumTerms, MatchReceipt, Noise,
    OpenMatch, OverlapClose, OverlapReceipt, ProposeAgreement, RegisterProduct, ReleaseMatch,
    ReleaseOverlap, Suite, SumLabel, SumModel, SumNoise, size_bucket,
};
use tally_contracts::state::{self, MatchStatus};
use tally_evidence::{Error, Extra, MatchExtra, OverlapExtra, OverlapReport, PlacedRecord, Proven};
use tally_merkle::{Hash, TlogProof};

use super::take_tests::{CAP, bless, end_kit, every_byte_counts, matched};
use super::tests::{World, world};
use super::*;

/// Members 0 to 2 are the parties, member 3 is the helper.
const PARTIES: [usize; 3] = [0, 1, 2];
const HELPER: usize = 3;
const SESSION: SessionId = SessionId([5; 32]);
const OTHER: SessionId = SessionId([6; 32]);

fn laplace(micro_eps: u64, bound: u32) -> Noise {
    Noise::Laplace {
        micro_eps,
        delta: 1024,
        bound,
    }
}

fn audience(w: &World, party: usize) -> AudienceRef {
    let label = 20 + u8::try_from(party).unwrap();
    AudienceRef {
        label: AudienceLabel([label; 32]),
        epoch: w.time_ms / w.ledger.genesis().rules.epoch_ms,
        root: Hash([label; 32]),
        size_bucket: size_bucket(1000 << party),
    }
}

/// What everything here is agreed under; a match of two has the first two parties.
fn terms(w: &World, parties: &[usize]) -> ProposeAgreement {
    let mut parties: Vec<_> = parties.iter().map(|i| w.network.member(*i)).collect();
    parties.sort_unstable();
    ProposeAgreement {
        parties,
        purpose: "people whom all have reached".into(),
        computations: vec![Computation::OverlapN],
        suite: Suite::HelperPrfV1,
        profile: "e164".parse().unwrap(),
        min_set_size: 100,
        max_set_size: 100_000,
        min_result: 50,
        noise: laplace(500_000, 64),
        epoch_cap: CAP,
        lifetime_cap: CAP,
        max_audiences: 4,
        max_matches: 10,
        expires_ms: w.time_ms + 1_000_000_000,
        sums: None,
        overlap: Some(HelperTerms {
            helper: Some(w.network.member(HELPER)),
            regions: laplace(400_000, 120),
        }),
    }
}

fn commit_audiences(w: &mut World, parties: &[usize]) {
    let commits: Vec<(Body, _)> = parties
        .iter()
        .map(|party| {
            let a = audience(w, *party);
            let body = CommitAudience {
                label: a.label,
                epoch: a.epoch,
                root: a.root,
                size_bucket: a.size_bucket,
                profile: "e164".parse().unwrap(),
            };
            (body.into(), vec![(*party, "records")])
        })
        .collect();
    w.commit_as(commits);
}

/// An agreement that all four have accepted, with an audience of each party.
fn agreed(w: &mut World) -> AgreementId {
    let terms = terms(w, &PARTIES);
    let agreement = w.commit_as([(terms.into(), vec![(0, "admin")])])[0];
    w.commit_as([1, 2, HELPER].map(|i| (AcceptAgreement { agreement }.into(), vec![(i, "admin")])));
    commit_audiences(w, &PARTIES);
    agreement
}

/// The parties in the order of the agreement.
fn ordered(w: &World) -> Vec<usize> {
    let mut parties = PARTIES.to_vec();
    parties.sort_by_key(|i| w.network.member(*i));
    parties
}

fn by(w: &mut World, member: usize, body: impl Into<Body>) -> RecordId {
    w.commit_as([(body.into(), vec![(member, "records")])])[0]
}

fn join(w: &mut World, agreement: AgreementId, session: SessionId) {
    for party in PARTIES {
        let audience = audience(w, party);
        let body = JoinOverlap {
            agreement,
            session,
            audience,
        };
        by(w, party, body);
    }
}

fn release(w: &mut World, session: SessionId) {
    let streams = [7, 8, 9].map(|i| Hash([i; 32])).to_vec();
    by(w, HELPER, ReleaseOverlap { session, streams });
}

/// The helper's receipt of a session that is released.
fn receipt(w: &World, session: SessionId) -> OverlapReceipt {
    let overlap = state::overlap(w.ledger.state(), &session).unwrap().unwrap();
    let buckets = overlap.parties.iter();
    OverlapReceipt {
        noise: overlap.noise,
        regions: overlap.regions,
        buckets: buckets
            .map(|p| p.audience.as_ref().unwrap().size_bucket)
            .collect(),
        spent: overlap.charge,
        helper_spent: overlap.helper_charge,
        result: Hash([session.0[0]; 32]),
        streams: overlap.streams,
    }
}

fn close(w: &mut World, member: usize, session: SessionId, close: OverlapClose) -> RecordId {
    by(w, member, CloseOverlap { session, close })
}

fn confirm(w: &mut World, member: usize, session: SessionId) -> RecordId {
    let receipt = receipt(w, session).digest(&session);
    by(w, member, ConfirmOverlap { session, receipt })
}

/// Counted, with a receipt that nobody has confirmed yet.
fn counted(w: &mut World, agreement: AgreementId, session: SessionId) -> RecordId {
    join(w, agreement, session);
    release(w, session);
    let done = OverlapClose::Done(receipt(w, session));
    close(w, HELPER, session, done)
}

fn overlap_of(report: &Report) -> &OverlapReport {
    match &report.proven {
        Proven::Overlap(overlap) => overlap,
        _ => panic!("not of an overlap"),
    }
}

#[test]
fn an_overlap_is_proven_with_its_receipt_and_who_confirmed_it() {
    let (mut w, ..) = world();
    let agreement = agreed(&mut w);
    let take = |w: &World| EndSearch::new(SESSION, None).take(&w.ledger).map(|_| ());
    assert!(matches!(take(&w), Err(ProofError::NoSession { .. })));
    join(&mut w, agreement, SESSION);
    assert!(matches!(take(&w), Err(ProofError::NotClosed { .. })));
    release(&mut w, SESSION);
    assert!(matches!(take(&w), Err(ProofError::NotClosed { .. })));
    let done = OverlapClose::Done(receipt(&w, SESSION));
    let closed = close(&mut w, HELPER, SESSION, done);

    // The parties confirm in another order than the agreement's; each proof says who has.
    let order = ordered(&w);
    let name = |i: usize| format!("member-{i}");
    let [first, second, last] = [order[2], order[0], order[1]];
    for (party, waits) in [
        (None, vec![order[0], order[1], order[2]]),
        (Some(first), vec![order[0], order[1]]),
        (Some(second), vec![order[1]]),
    ] {
        party.map(|party| confirm(&mut w, party, SESSION));
        let kit = end_kit(&w, &SESSION);
        let report = w.verify(&kit.proof, None).unwrap();
        let found = overlap_of(&report);
        assert_eq!(found.overlap.status, MatchStatus::Released);
        let names: Vec<_> = waits.into_iter().map(name).collect();
        assert_eq!(found.waits_for(), names);
        if names.len() == 1 {
            bless("overlap-unconfirmed", &kit);
        }
    }
    confirm(&mut w, last, SESSION);
    let kit = end_kit(&w, &SESSION);
    bless("overlap", &kit);
    let report = w.verify(&kit.proof, None).unwrap();
    assert_eq!(report, kit.report);
    let found = overlap_of(&report);
    assert_eq!(found.session, SESSION);
    assert_eq!(found.overlap.status, MatchStatus::Done);
    assert!(found.waits_for().is_empty());
    let names: Vec<_> = order.iter().map(|i| name(*i)).collect();
    assert_eq!(found.party_names, names);
    assert_eq!(found.helper_name, name(HELPER));
    assert_eq!(found.closed.record, closed);
    assert_eq!(found.closed.signatories[0].name, name(HELPER));
    let signers: Vec<_> = found
        .confirmed
        .iter()
        .map(|c| c.signatories[0].name.clone())
        .collect();
    assert_eq!(signers, names);
    assert_eq!(
        found.agreement.terms.purpose,
        "people whom all have reached"
    );
    // Epsilon 0.5 and 0.4 cost rho 0.125 and 0.08.
    assert_eq!(
        (
            found.overlap.charge.micro_rho,
            found.overlap.helper_charge.micro_rho
        ),
        (125_000, 80_000)
    );
    let OverlapClose::Done(shown) = &found.close else {
        panic!("no receipt")
    };
    assert_eq!(*shown, receipt(&w, SESSION));
    let buckets: Vec<_> = order.iter().map(|i| size_bucket(1000 << i)).collect();
    assert_eq!(shown.buckets, buckets);

    // From any of its records on, and in the same words.
    let overlap = state::overlap(w.ledger.state(), &SESSION).unwrap().unwrap();
    for from in [overlap.record, closed] {
        let taken = EndSearch::new(SESSION, Some(from)).take(&w.ledger).unwrap();
        let note = w.checkpoint(&[0, 1, 2, 3]);
        assert_eq!(taken.seal(&w.ledger, &note).unwrap().proof, kit.proof);
    }
    every_byte_counts(&w, &kit);
}

#[test]
fn an_overlap_that_broke_is_proven_and_by_whom() {
    let (mut w, ..) = world();
    let agreement = agreed(&mut w);
    join(&mut w, agreement, SESSION);
    close(&mut w, 1, SESSION, OverlapClose::Cancelled);
    join(&mut w, agreement, OTHER);
    release(&mut w, OTHER);
    close(&mut w, HELPER, OTHER, OverlapClose::Failed);
    for (session, status, released, who) in [
        (SESSION, MatchStatus::Cancelled, false, "member-1"),
        (OTHER, MatchStatus::Failed, true, "member-3"),
    ] {
        let kit = end_kit(&w, &session);
        let report = w.verify(&kit.proof, None).unwrap();
        let found = overlap_of(&report);
        assert_eq!(found.overlap.status, status);
        assert_eq!(found.overlap.is_released(), released);
        assert_eq!(found.closed.signatories[0].name, who);
        assert!(found.confirmed.is_empty() && found.waits_for().is_empty());
        if released {
            bless("overlap-failed", &kit);
        }
    }
}

type Change<'a> = dyn Fn(&mut TlogProof, &mut OverlapExtra) + 'a;

/// The parts of a proof, changed and put together again.
fn changed(
    w: &World,
    kit: &Kit,
    change: impl FnOnce(&mut TlogProof, &mut OverlapExtra),
) -> Result<Report, Error> {
    let mut proof: TlogProof = kit.proof.parse().unwrap();
    let mut extra = parts(kit);
    change(&mut proof, &mut extra);
    proof.extra = Some(Extra::Overlap(Box::new(extra)).to_bytes());
    w.verify(&proof.to_string(), None)
}

fn parts(kit: &Kit) -> OverlapExtra {
    let proof: TlogProof = kit.proof.parse().unwrap();
    match Extra::from_bytes(&proof.extra.unwrap()).unwrap() {
        Extra::Overlap(extra) => *extra,
        _ => panic!("not of an overlap"),
    }
}

#[test]
fn parts_of_other_overlaps_and_missing_confirmations_do_not_fit() {
    let (mut w, ..) = world();
    let agreement = agreed(&mut w);
    for session in [SESSION, OTHER] {
        counted(&mut w, agreement, session);
        for party in PARTIES {
            confirm(&mut w, party, session);
        }
    }
    let kit = end_kit(&w, &SESSION);
    let other = end_kit(&w, &OTHER);
    let theirs = parts(&other);
    let their_proof: TlogProof = other.proof.parse().unwrap();
    assert!(changed(&w, &kit, |_, _| {}).is_ok());
    let reason = |change: &Change<'_>| changed(&w, &kit, change).unwrap_err().reason();
    // Another session's receipt, in its true place: what the state says of this one is under another key.
    let take_closed = |proof: &mut TlogProof, extra: &mut OverlapExtra| {
        extra.closed = theirs.closed.clone();
        (proof.index, proof.hashes) = (their_proof.index, their_proof.hashes.clone());
    };
    assert_eq!(reason(&take_closed), "state");
    // And with what the state says of that: the confirmations are of this one.
    assert_eq!(
        reason(&|proof, extra| {
            take_closed(proof, extra);
            extra.overlap = theirs.overlap.clone();
        }),
        "contradiction"
    );
    assert_eq!(reason(&|_, e| e.overlap = theirs.overlap.clone()), "state");
    assert_eq!(
        reason(&|_, e| e.closed.record = theirs.closed.record.clone()),
        "inclusion"
    );
    // One confirmation missing, twice, in another order, of another session, of none.
    let size = w.ledger.head().tree_size;
    let member = w.network.member(ordered(&w)[1]);
    let is_join = |index: &u64| {
        Record::from_bytes(&w.ledger.entry(*index).unwrap()).is_ok_and(|r| {
            matches!(r.body(), Ok(Body::JoinOverlap(_))) && r.signers()[0].member == member
        })
    };
    let index = (1..size).find(is_join).unwrap();
    let join = PlacedRecord {
        record: w.ledger.entry(index).unwrap(),
        index,
        path: w.ledger.inclusion_proof(index, size).unwrap(),
        block: block_of(&w.ledger, index, size).unwrap(),
    };
    let changes: [&Change<'_>; 6] = [
        &|_, e| {
            e.confirmed.remove(1);
        },
        &|_, e| e.confirmed.clear(),
        &|_, e| e.confirmed[2] = e.confirmed[0].clone(),
        &|_, e| e.confirmed.swap(0, 1),
        &|_, e| e.confirmed[1] = theirs.confirmed[1].clone(),
        &|_, e| e.confirmed[1] = join.clone(),
    ];
    for change in changes {
        assert_eq!(reason(change), "contradiction");
    }
    // A confirmation in another place, and in another block.
    assert_eq!(reason(&|_, e| e.confirmed[0].index += 1), "inclusion");
    assert_eq!(
        reason(&|_, e| e.confirmed[0].block = e.confirmed[1].block.clone()),
        "contradiction"
    );
    // The agreement of others.
    assert_eq!(reason(&|_, e| e.agreement = e.overlap.clone()), "state");
}

#[test]
fn a_proof_of_one_kind_is_none_of_another() {
    let (mut w, ..) = world();
    let agreement = agreed(&mut w);
    counted(&mut w, agreement, SESSION);
    confirm(&mut w, 0, SESSION);
    let overlap = end_kit(&w, &SESSION);
    let own = parts(&overlap);
    let as_match = MatchExtra {
        closed: own.closed.clone(),
        head: own.head,
        matched: own.overlap,
        agreement: own.agreement,
    };
    let refused = |w: &World, kit: &Kit, extra: Extra| {
        let mut proof: TlogProof = kit.proof.parse().unwrap();
        proof.extra = Some(extra.to_bytes());
        w.verify(&proof.to_string(), None)
            .map_err(|e| e.to_string())
    };
    let error = refused(&w, &overlap, Extra::Match(Box::new(as_match))).unwrap_err();
    assert!(error.ends_with("the record closes no match"), "{error}");
    assert!(refused(&w, &overlap, Extra::Record(own.closed)).is_ok());
    let code = "09521234543213/G123456789ABCDEFGHJK".parse().unwrap();
    assert_eq!(w.verify(&overlap.proof, Some(&code)), Err(Error::NotOfCode));

    let session = SessionId([7; 32]);
    matched(&mut w, session);
    let of_two = end_kit(&w, &session);
    let proof: TlogProof = of_two.proof.parse().unwrap();
    let Extra::Match(own) = Extra::from_bytes(&proof.extra.unwrap()).unwrap() else {
        panic!("not of a match")
    };
    let as_overlap = OverlapExtra {
        closed: own.closed,
        head: own.head,
        overlap: own.matched,
        agreement: own.agreement,
        confirmed: Vec::new(),
    };
    let error = refused(&w, &of_two, Extra::Overlap(Box::new(as_overlap))).unwrap_err();
    assert!(error.ends_with("the record closes no overlap"), "{error}");
}

#[test]
fn what_was_confirmed_later_cannot_be_left_out_under_a_newer_checkpoint() {
    let (mut w, ..) = world();
    let agreement = agreed(&mut w);
    counted(&mut w, agreement, SESSION);
    confirm(&mut w, 0, SESSION);
    let before = parts(&end_kit(&w, &SESSION));
    confirm(&mut w, 1, SESSION);
    let kit = end_kit(&w, &SESSION);
    let old_state = changed(&w, &kit, |_, e| {
        e.overlap = before.overlap.clone();
        e.confirmed
            .retain(|c| before.confirmed.iter().any(|b| b.record == c.record));
    });
    assert_eq!(old_state.unwrap_err().reason(), "state");
    let old_head = changed(&w, &kit, |_, e| {
        e.overlap = before.overlap.clone();
        e.head = before.head.clone();
    });
    assert_eq!(old_head.unwrap_err().reason(), "inclusion");
}

#[test]
fn an_old_overlap_is_proven_by_a_node_that_took_part_and_dropped_old_blocks() {
    // Of its own records a node keeps all; of an overlap in which it took part what ended it.
    for takes_part in [true, false] {
        let (mut w, ..) = world();
        let agreement = agreed(&mut w);
        counted(&mut w, agreement, SESSION);
        for party in PARTIES {
            confirm(&mut w, party, SESSION);
        }
        let before = end_kit(&w, &SESSION);
        // The last 256 blocks stay, and whole bundles of 256 entries.
        for block in 0..300_u32 {
            let register = |i: u32| RegisterProduct {
                gtin: gtin(8 * block + i),
                description: "Green tea, 100 g".into(),
                brand: "Sample".into(),
            };
            w.commit((0..8).map(|i| register(i).into()).collect());
        }
        let own = if takes_part {
            w.network.member(1)
        } else {
            MemberId([9; 16])
        };
        let dropped = w.ledger.drop_old(&|_| true, &|record| {
            record.signers().iter().any(|s| s.member == own)
                || crate::snapshots::ends_session_of(&w.ledger, &own, record)
        });
        let first = dropped.unwrap().expect("nothing was dropped");
        assert!(first > before.report.tree_size, "too little was dropped");
        let taken = EndSearch::new(SESSION, None).take(&w.ledger);
        if !takes_part {
            assert!(
                matches!(
                    &taken,
                    Err(ProofError::Ledger(tally_ledger::Error::Dropped { .. }))
                ),
                "{taken:?}"
            );
            continue;
        }
        let note = w.checkpoint(&[0, 1, 2, 3]);
        let after = taken.unwrap().seal(&w.ledger, &note).unwrap();
        let (old, new) = (overlap_of(&before.report), overlap_of(&after.report));
        assert_eq!(old.closed, new.closed);
        assert_eq!(old.confirmed, new.confirmed);
    }
}

fn gtin(i: u32) -> tally_contracts::records::Gtin {
    let digits = format!("0952{i:09}");
    let sum: u32 = digits
        .bytes()
        .enumerate()
        .map(|(at, d)| u32::from(d - b'0') * if at % 2 == 0 { 3 } else { 1 })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10).parse().unwrap()
}

#[test]
fn a_match_with_sums_is_proven_too() {
    let (mut w, ..) = world();
    let [asker, other] = [0, 1];
    let sums = JoinSumTerms {
        label_side: w.network.member(asker),
        model: SumModel::Linear { touches: 3 },
        click_window_s: 7 * 86_400,
        view_window_s: 86_400,
        labels: ["eta", "iota"]
            .map(|name| SumLabel {
                name: name.into(),
                minimum_people: 50,
            })
            .to_vec(),
        value_cap: 20_000,
        conversions_per_person: 1,
        max_conversions: 1000,
        max_keys: 100_000,
        noise: SumNoise::Laplace {
            sums_micro_eps: 500_000,
            matches_micro_eps: 300_000,
            delta_exp: 50,
        },
    };
    let [each, besides] = [sums.charges()[0], sums.charges()[1]];
    let terms = ProposeAgreement {
        computations: vec![Computation::Cardinality, Computation::JoinSum],
        suite: Suite::DhRistrettoV1,
        sums: Some(sums),
        overlap: None,
        ..terms(&w, &[asker, other])
    };
    let agreement = w.commit_as([(terms.into(), vec![(0, "admin")])])[0];
    w.commit_as([(AcceptAgreement { agreement }.into(), vec![(1, "admin")])]);
    commit_audiences(&mut w, &[asker, other]);
    let open = OpenMatch {
        agreement,
        computation: Computation::JoinSum,
        session: SESSION,
        initiator: w.network.member(asker),
        responder: w.network.member(other),
        initiator_audience: audience(&w, asker),
        responder_audience: audience(&w, other),
    };
    let both = vec![(asker, "records"), (other, "records")];
    w.commit_as([(open.into(), both.clone())]);
    let release = ReleaseMatch {
        session: SESSION,
        initiator_stream: Hash([6; 32]),
    };
    by(&mut w, other, release);
    let receipt = MatchReceipt {
        computation: Computation::JoinSum,
        noise: laplace(500_000, 64),
        initiator_bucket: audience(&w, asker).size_bucket,
        responder_bucket: audience(&w, other).size_bucket,
        spent: each,
        count_spent: besides,
        result: Hash([7; 32]),
        initiator_stream: Hash([6; 32]),
        responder_stream: Hash([8; 32]),
    };
    let close = CloseMatch {
        session: SESSION,
        close: Close::Done(receipt),
    };
    w.commit_as([(close.into(), both)]);
    let kit = end_kit(&w, &SESSION);
    bless("sum", &kit);
    let report = w.verify(&kit.proof, None).unwrap();
    let Proven::Match(found) = &report.proven else {
        panic!("not of a match")
    };
    assert_eq!(found.matched.computation, Computation::JoinSum);
    assert_ne!(found.matched.count_charge, BudgetCap::default());
    assert!(matches!(&found.close, Close::Done(r) if r.count_spent == besides));
}
