//! Overlaps of three parties and a helper between four desks: exact against a plain join, charged to every owner, one draw of noise for
//! one question whatever broke, and nobody successful before all hold the count.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tally_contracts::ids::{AgreementId, MemberId, SessionId};
use tally_contracts::records::{
    AcceptAgreement, BudgetCap, Computation, HelperTerms, JoinOverlap, Kind, Noise,
    ProposeAgreement, Suite,
};
use tally_contracts::state::{self, MatchStatus, OverlapState, keys};

use super::kit::*;
use crate::matching::*;

const PARTIES: [usize; 3] = [0, 1, 2];
const HELPER: usize = 3;
/// People in all three audiences: 180..300.
const COMMON: i64 = 120;

async fn audiences(net: &Net) {
    net.audience(0, "buyers", 0..300).await;
    net.audience(1, "viewers", 180..580).await;
    net.audience(2, "visitors", 100..420).await;
}

fn terms(net: &Net, noise: Noise, regions: Noise) -> ProposeAgreement {
    let mut parties = PARTIES.map(member).to_vec();
    parties.sort();
    ProposeAgreement {
        parties,
        suite: Suite::HelperPrfV1,
        overlap: Some(HelperTerms {
            helper: Some(member(HELPER)),
            regions,
        }),
        ..net.terms(&[Computation::OverlapN], noise)
    }
}

fn agree(net: &Net, terms: ProposeAgreement) -> AgreementId {
    let id = net.commit(0, &terms.into(), true).unwrap();
    for i in 1..4 {
        let accept = AcceptAgreement { agreement: id }.into();
        net.commit(i, &accept, true).unwrap();
    }
    id
}

fn noisy(net: &Net) -> ProposeAgreement {
    let noise = plan_noise(500_000, 1 << 40).unwrap();
    terms(net, noise, plan_region_noise(400_000, 1 << 41).unwrap())
}

async fn ask(net: &Net, i: usize, agreement: AgreementId) -> Result<OverlapView, MatchError> {
    let audience = ["buyers", "viewers", "visitors"][i];
    let request = OverlapRequest {
        agreement,
        audience: audience.into(),
        named: Vec::new(),
    };
    net.desk(i).unwrap().request_overlap(request, |_| {}).await
}

fn on_ledger(net: &Net, view: &OverlapView) -> Option<OverlapState> {
    let session = view.session?;
    state::overlap(&net.core.lock().unwrap().state, &session).unwrap()
}

/// (spent, reserved) of a party's epoch, of it for each other party, of it for the helper.
fn budgets(net: &Net, owner: usize) -> [(BudgetCap, BudgetCap); 3] {
    let core = net.core.lock().unwrap();
    let read = |key: Vec<u8>| {
        let found = state::budget(&core.state, &key).unwrap();
        (found.spent, found.reserved)
    };
    let of = |analyst: usize| read(keys::budget_lifetime(&member(owner), &member(analyst)));
    let others: BTreeSet<_> = PARTIES
        .iter()
        .filter(|i| **i != owner)
        .map(|i| format!("{:?}", of(*i)))
        .collect();
    assert_eq!(others.len(), 1);
    let other = PARTIES.into_iter().find(|i| *i != owner).unwrap();
    [
        read(keys::budget_epoch(&member(owner), 0)),
        of(other),
        of(HELPER),
    ]
}

fn value(view: &OverlapView) -> i64 {
    match view.answer {
        Some(Answer::Count { value }) => value,
        ref other => panic!("{other:?}: {:?}", view.reason),
    }
}

/// What every desk says of its newest overlap once all agree that it is done.
async fn all_done(net: &Net) -> Vec<OverlapView> {
    for _ in 0..200 {
        let views: Vec<OverlapView> = (0..4)
            .map(|i| net.desk(i).unwrap().overlaps().swap_remove(0))
            .collect();
        if views.iter().all(|v| v.stage == Stage::Done) {
            return views;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not every desk is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_noise_all_hold_the_count_of_a_plain_join() {
    let net = Net::new();
    audiences(&net).await;
    let agreement = agree(&net, terms(&net, Noise::None, Noise::None));
    let asked = ask(&net, 1, agreement).await.unwrap();
    assert_eq!(value(&asked), COMMON);
    assert_eq!(
        (asked.role, asked.asked_by),
        (OverlapRole::Party, member(1))
    );
    let views = all_done(&net).await;
    let session = views[0].session.unwrap();
    for (i, view) in views.iter().enumerate() {
        assert_eq!((value(view), view.session), (COMMON, Some(session)));
        assert_eq!(view.id, asked.id);
        assert!(view.receipt_record.is_some() && view.reason.is_none());
        assert_eq!(view.join_record.is_some(), i != HELPER);
        assert_eq!(view.release_record.is_some(), i == HELPER);
        assert!(view.parties.iter().all(|p| p.set.is_some()));
    }
    let ledger = on_ledger(&net, &asked).unwrap();
    assert_eq!(ledger.status, MatchStatus::Done);
    assert!(ledger.parties.iter().all(|p| p.confirmed));
    // The same question is answered from what is stored, whoever asks: nothing moves.
    let moved = net.moved.load(Ordering::Relaxed);
    for i in PARTIES {
        let again = ask(&net, i, agreement).await.unwrap();
        assert_eq!((again.id, value(&again)), (asked.id, COMMON));
    }
    assert_eq!(net.moved.load(Ordering::Relaxed), moved);
    assert_eq!(net.agreement_matches(&agreement), 1);
    // A count below the smallest result is withheld by the helper; no desk stores it.
    let mut strict = terms(&net, Noise::None, Noise::None);
    strict.min_result = 121;
    let withheld = ask(&net, 0, agree(&net, strict)).await.unwrap();
    assert_eq!(withheld.answer, Some(Answer::FewerThan { min: 121 }));
    for view in all_done(&net).await {
        assert_eq!(view.answer, Some(Answer::FewerThan { min: 121 }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_noise_every_owner_pays_for_the_count_and_for_what_the_helper_saw() {
    let net = Net::new();
    audiences(&net).await;
    let terms = noisy(&net);
    let [count, view] = terms.charges(Computation::OverlapN);
    let both = count.saturating_plus(&view);
    let none = BudgetCap::default();
    let agreement = agree(&net, terms);
    let asked = ask(&net, 0, agreement).await.unwrap();
    let Some(NoiseView::Overlap {
        bound,
        regions_bound,
        within_95,
        ..
    }) = asked.noise
    else {
        panic!("{:?}", asked.noise);
    };
    assert!(within_95 > 0 && within_95 < bound + regions_bound);
    assert!((value(&asked) - COMMON).abs() <= i64::from(bound + regions_bound));
    for view in all_done(&net).await {
        assert_eq!(value(&view), value(&asked));
    }
    for i in PARTIES {
        assert_eq!(
            budgets(&net, i),
            [(both, none), (count, none), (view, none)]
        );
    }
    // The helper brought nothing and pays nothing.
    assert_eq!(net.budget_at(HELPER, 0), Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_or_unwilling_one_is_named_and_nothing_is_opened() {
    let net = Net::new();
    audiences(&net).await;
    let agreement = agree(&net, noisy(&net));
    for absent in [HELPER, 2] {
        net.stop(absent);
        match ask(&net, 0, agreement).await {
            Err(MatchError::Peer(error)) => assert_eq!(error.member, member(absent)),
            other => panic!("{other:?}"),
        }
        net.start_with(absent, quick(), Arc::new(RefuseAll));
        match ask(&net, 0, agreement).await {
            Err(MatchError::Refused {
                by: Side::Member(by),
                notice,
            }) => {
                assert_eq!(
                    (by, notice.code.as_str()),
                    (member(absent), "not_answering")
                );
            }
            other => panic!("{other:?}"),
        }
        net.start(absent, quick());
    }
    assert_eq!(net.agreement_matches(&agreement), 0);
    // One without consent: the ledger's own reason, before anybody is asked.
    let unaccepted = net.commit(0, &noisy(&net).into(), true).unwrap();
    assert_eq!(
        refusal(&ask(&net, 0, unaccepted).await.unwrap_err()),
        (Side::Us, "agreement_status")
    );
    // A stranger to the agreement who invites anyway.
    let two = net.terms(&[Computation::Cardinality], Noise::None);
    let of_two = net.agree(two);
    assert_eq!(
        refusal(&ask(&net, 0, of_two).await.unwrap_err()),
        (Side::Us, "computation")
    );
}

/// A party whose budget does not suffice: its node says so, the others get their reservation back.
#[tokio::test(flavor = "multi_thread")]
async fn a_party_that_cannot_pay_ends_it_for_all() {
    let net = Net::new();
    audiences(&net).await;
    let mut rich = noisy(&net);
    let [count, view] = rich.charges(Computation::OverlapN);
    rich.epoch_cap = count.saturating_plus(&view);
    let agreement = agree(&net, rich);
    // What "other" has is reserved for a session that nobody else joins.
    let meta = net.desk(2).unwrap().0.audiences.latest("visitors").unwrap();
    let join = JoinOverlap {
        agreement,
        session: SessionId([9; 32]),
        audience: meta.reference(),
    };
    net.commit(2, &join.into(), false).unwrap();
    let refused = ask(&net, 0, agreement).await.unwrap_err();
    match &refused {
        MatchError::Refused {
            by: Side::Member(by),
            notice,
        } => assert_eq!((*by, notice.code.as_str()), (member(2), "budget")),
        MatchError::CalledOff => {}
        other => panic!("{other:?}"),
    }
    for _ in 0..100 {
        let left = [0, 1].map(|i| net.budget_at(i, 0).reserved);
        if left == [BudgetCap::default(); 2] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for i in [0, 1] {
        assert_eq!(net.budget_at(i, 0), Default::default(), "{}", NAMES[i]);
    }
}

/// After the network is whole again, restarts and tidying: nothing reserved, every overlap at its end; who has an answer has the one
/// that all have, and only if the ledger has the helper's receipt or may still get it.
async fn settled(net: &Arc<Net>, case: &str) -> BTreeSet<i64> {
    net.fault.lock().unwrap().clone_from(&Fault::None);
    for i in 0..4 {
        net.restart(i, quick()).await;
    }
    for _ in 0..3 {
        for i in 0..4 {
            net.desk(i).unwrap().tidy().await.unwrap();
        }
    }
    let mut values = BTreeSet::new();
    let mut by_id: std::collections::BTreeMap<MatchId, BTreeSet<bool>> = Default::default();
    for round in 0..2 {
        for i in 0..4 {
            net.desk(i).unwrap().tidy().await.unwrap();
        }
        if round == 0 {
            // Past the time in which a record of a session that nobody opened could still come.
            net.pass_time(2 * 3_600_000);
        }
    }
    for (i, name) in NAMES.iter().enumerate() {
        let waiting = net.desk(i).unwrap().tidy().await.unwrap();
        assert_eq!(waiting, 0, "{case}: {name}");
        assert_eq!(net.budget_at(i, 0).reserved, BudgetCap::default(), "{case}");
        for view in net.desk(i).unwrap().overlaps() {
            let ledger = on_ledger(net, &view);
            let status = ledger.as_ref().map(|o| o.status);
            assert_ne!(status, Some(MatchStatus::Open), "{case}");
            assert!(view.stage.is_final(), "{case}: {view:?}");
            assert_eq!(view.answer.is_some(), view.stage == Stage::Done, "{case}");
            assert!(view.answer.is_some() || view.reason.is_some(), "{case}");
            if view.answer.is_some() {
                assert_eq!(status, Some(MatchStatus::Done), "{case}");
                values.insert(value(&view));
            }
            by_id
                .entry(view.id)
                .or_default()
                .insert(view.answer.is_some());
        }
    }
    // Nobody is successful unless all are.
    assert!(by_id.values().all(|s| s.len() == 1), "{case}: {by_id:?}");
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails_anywhere_gives_all_or_none_and_one_draw_of_noise() {
    let net = Net::new();
    audiences(&net).await;
    let agreement = agree(&net, noisy(&net));
    ask(&net, 0, agreement).await.unwrap();
    all_done(&net).await;
    let whole = net.moved.load(Ordering::Relaxed);
    let mut cases = tokio::task::JoinSet::new();
    for step in 0..24 {
        // The last steps are in the acknowledgements.
        let limit = if step < 16 {
            whole * step / 16
        } else {
            whole.saturating_sub(120 * (step - 15))
        };
        cases.spawn(async move {
            let case = format!("cut after {limit} of {whole} bytes");
            let net = Net::new();
            audiences(&net).await;
            let agreement = agree(&net, noisy(&net));
            *net.fault.lock().unwrap() = Fault::Cut(limit);
            let first = ask(&net, 0, agreement).await;
            let mut values = settled(&net, &case).await;
            if let Ok(view) = &first {
                values.insert(value(view));
            }
            // The same question again: the stored answer, or a run with the same noise.
            let again = ask(&net, 1, agreement).await.unwrap();
            values.insert(value(&again));
            assert_eq!(values.len(), 1, "{case}: {values:?}");
            first.is_ok()
        });
    }
    let mut ended = [0, 0];
    while let Some(ok) = cases.join_next().await {
        ended[usize::from(ok.unwrap())] += 1;
    }
    assert!(ended[0] > 10, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_stops_at_any_record_leaves_all_or_none() {
    for kind in [
        Kind::JoinOverlap,
        Kind::ReleaseOverlap,
        Kind::CloseOverlap,
        Kind::ConfirmOverlap,
    ] {
        let net = Net::new();
        audiences(&net).await;
        let agreement = agree(&net, noisy(&net));
        net.core.lock().unwrap().broken.insert(kind);
        let first = ask(&net, 0, agreement).await;
        let answered = matches!(kind, Kind::CloseOverlap | Kind::ConfirmOverlap);
        assert_eq!(first.is_ok(), answered, "{kind}: {first:?}");
        net.core.lock().unwrap().broken.clear();
        let values = settled(&net, kind.name()).await;
        assert_eq!(!values.is_empty(), answered, "{kind}");
        if let Ok(view) = first {
            assert_eq!(values, BTreeSet::from([value(&view)]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_anywhere_ends_it_for_all() {
    for (i, delay_ms) in [(0, 0), (0, 30), (1, 60), (HELPER, 60)] {
        let net = Net::new();
        audiences(&net).await;
        let agreement = agree(&net, noisy(&net));
        let asking = tokio::spawn({
            let net = net.clone();
            async move { ask(&net, 0, agreement).await }
        });
        let desk = net.desk(i).unwrap();
        let id = loop {
            match desk.overlaps().first() {
                Some(view) => break view.id,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        let cancelled = desk.cancel(&id).await;
        let asked = asking.await.unwrap();
        let case = format!("{} after {delay_ms} ms: {cancelled:?}, {asked:?}", NAMES[i]);
        drop(desk);
        let values = settled(&net, &case).await;
        // Too late is too late; else nobody has anything.
        assert_eq!(values.is_empty(), asked.is_err(), "{case}");
        if i == 0 && delay_ms == 0 {
            assert!(matches!(asked, Err(MatchError::Cancelled)), "{case}");
        }
    }
}

/// An asker that seats others than it invited, or a party whose nonce was changed, is found out by each of them.
#[tokio::test(flavor = "multi_thread")]
async fn who_sits_where_is_checked_by_everybody() {
    use crate::matching::messages::{Invite, Message, Seat};
    let net = Net::new();
    audiences(&net).await;
    let agreement = agree(&net, noisy(&net));
    let asker = net.desk(0).unwrap();
    let inner = &asker.0;
    let terms = noisy(&net);
    let meta = inner.audiences.latest("buyers").unwrap();
    for lie in 0..4_u8 {
        let nonce = [lie + 1; 32];
        let (stream, peer) = inner.peers.open_stream(&member(1)).await.unwrap();
        let mut wire = inner.wire(stream, peer, nonce, false);
        wire.send(&Message::Invite(Invite {
            agreement,
            audience: meta.reference(),
            peer_audience: None,
            nonce,
        }))
        .await
        .unwrap();
        let Message::Attend { nonce: theirs } = wire.receive("attend").await.unwrap() else {
            panic!("no seat");
        };
        let mut seats: Vec<Seat> = terms
            .parties
            .iter()
            .chain([&member(HELPER)])
            .map(|m| {
                let i = (0..4).find(|i| member(*i) == *m).unwrap();
                Seat {
                    nonce: match i {
                        0 => nonce,
                        1 => theirs,
                        _ => [77; 32],
                    },
                    node: identity(i).node,
                }
            })
            .collect();
        let place = |m: MemberId| terms.parties.iter().position(|p| *p == m).unwrap();
        match lie {
            0 => seats[place(member(1))].nonce[0] ^= 1,
            1 => seats[place(member(1))].node = identity(2).node,
            2 => seats[place(member(0))].node = identity(2).node,
            _ => {
                seats.pop();
            }
        }
        wire.send(&Message::Convene { seats }).await.unwrap();
        match wire.receive("joined").await {
            Err(MatchError::Refused { notice, .. }) => assert_eq!(notice.code, "mismatch"),
            other => panic!("{lie}: {other:?}"),
        }
    }
    assert_eq!(net.agreement_matches(&agreement), 0);
}
