//! Peers that vanish, stall, lie or send garbage, ledgers that do not answer, and restarts in between.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use rand_core::{OsRng, RngCore};
use tally_contracts::ids::{AgreementId, RecordId};
use tally_contracts::records::{Computation, Kind, Noise};
use tally_contracts::state::MatchStatus;
use tokio::io::AsyncWriteExt;

use super::kit::*;
use crate::matching::messages::{Message, Request};
use crate::matching::wire::Wire;
use crate::matching::*;

const COUNT: &[Computation] = &[Computation::Cardinality];

async fn noisy() -> (std::sync::Arc<Net>, AgreementId) {
    let net = Net::new();
    net.audiences().await;
    let agreement = net.agree(net.terms(COUNT, plan_noise(500_000, 1 << 40).unwrap()));
    (net, agreement)
}

/// After restarts and tidying: nothing reserved, an answer only where budget is spent, every match at its end.
async fn settled(net: &std::sync::Arc<Net>, case: &str) {
    net.fault.lock().unwrap().clone_from(&Fault::None);
    for i in [0, 1] {
        net.start(i, quick());
    }
    for _ in 0..2 {
        for i in [0, 1] {
            let _ = net.desk(i).unwrap().tidy().await;
        }
        net.pass_time(25 * 3_600_000);
    }
    let mut waiting = 0;
    for i in [0, 1] {
        waiting += net.desk(i).unwrap().tidy().await.unwrap();
        let budget = net.budget_at(i, 0);
        assert_eq!(
            budget.reserved,
            Default::default(),
            "{case}: {} has budget reserved",
            NAMES[i]
        );
        for view in net.desk(i).unwrap().list() {
            let on_ledger = view.session.and_then(|s| net.match_state(&s));
            assert_ne!(
                on_ledger.as_ref().map(|m| m.status),
                Some(MatchStatus::Open),
                "{case}"
            );
            if view.answer.is_some() {
                assert!(
                    on_ledger.is_some_and(|m| m.is_released()),
                    "{case}: an answer without a release"
                );
                assert_ne!(
                    budget.spent,
                    Default::default(),
                    "{case}: released and unspent"
                );
            } else {
                assert!(
                    view.stage.is_final() && view.reason.is_some(),
                    "{case}: {:?}",
                    view.stage
                );
            }
        }
    }
    assert_eq!(waiting, 0, "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_vanishes_anywhere_leaves_a_typed_error_and_the_right_state() {
    let (net, agreement) = noisy().await;
    net.ask(agreement, Computation::Cardinality).await.unwrap();
    // Bytes of both streams together.
    let whole = net.moved.load(Ordering::Relaxed);
    let (mut failed, mut answered) = (0, 0);
    let anywhere = (0..28).map(|step| whole * step / 28 + u64::from(OsRng.next_u32() % 97));
    // The receipt's stream is the last of them.
    for limit in anywhere.chain([whole - 500, whole - 300, whole - 100, whole + 100]) {
        let case = format!("cut after {limit} of {whole} bytes");
        let (net, agreement) = noisy().await;
        *net.fault.lock().unwrap() = Fault::Cut(limit);
        match net.ask(agreement, Computation::Cardinality).await {
            Ok(view) => {
                answered += 1;
                assert!(view.answer.is_some(), "{case}");
            }
            Err(error) => {
                failed += 1;
                assert!(
                    matches!(
                        error,
                        MatchError::Ended { .. }
                            | MatchError::Psi(_)
                            | MatchError::Run(_)
                            | MatchError::Peer(_)
                    ),
                    "{case}: {error:?}"
                );
            }
        }
        settled(&net, &case).await;
    }
    assert!(
        failed > 10 && answered > 3,
        "{failed} failed, {answered} answered"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_stops_at_any_record_leaves_the_right_state() {
    for kind in [Kind::OpenMatch, Kind::ReleaseMatch, Kind::CloseMatch] {
        let (net, agreement) = noisy().await;
        net.core.lock().unwrap().broken.insert(kind);
        let result = net.ask(agreement, Computation::Cardinality).await;
        match kind {
            Kind::CloseMatch => {
                let view = result.unwrap();
                assert_eq!(view.stage, Stage::Answered);
                assert!(view.answer.is_some() && view.reason.is_some());
            }
            _ => {
                result.unwrap_err();
                assert_eq!(net.budget(0).spent, Default::default());
            }
        }
        if kind == Kind::ReleaseMatch {
            let media = &net.desk(1).unwrap().list()[0];
            assert_eq!((media.stage, &media.answer), (Stage::Failed, &None));
        }
        net.core.lock().unwrap().broken.clear();
        settled(&net, kind.name()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_broke_is_signed_later() {
    let (net, agreement) = noisy().await;
    net.core.lock().unwrap().broken.insert(Kind::CloseMatch);
    let view = net.ask(agreement, Computation::Cardinality).await.unwrap();
    assert_eq!(view.stage, Stage::Answered);
    net.core.lock().unwrap().broken.clear();
    net.start(0, quick());
    let desk = net.desk(0).unwrap();
    assert_eq!(desk.tidy().await.unwrap(), 0);
    let (later, _) = desk.show(&view.id).unwrap();
    assert_eq!((later.stage, &later.answer), (Stage::Done, &view.answer));
    assert!(later.reason.is_none() && later.close_record.is_some());
    assert_eq!(
        net.match_state(&view.session.unwrap()).unwrap().status,
        MatchStatus::Done
    );
    assert_eq!(net.desk(1).unwrap().list()[0].stage, Stage::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_a_match_and_gives_the_budget_back() {
    // 3,000 bytes are after OpenMatch and before the release.
    for limit in [200, 3_000] {
        let (net, agreement) = noisy().await;
        *net.fault.lock().unwrap() = Fault::Stall(limit);
        let desk = net.desk(0).unwrap();
        let asked = tokio::spawn({
            let desk = desk.clone();
            async move {
                desk.request(request(agreement, Computation::Cardinality))
                    .await
            }
        });
        let id = loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(view) = desk.list().first() {
                break view.id;
            }
        };
        desk.cancel(&id).await.unwrap();
        let error = asked.await.unwrap().unwrap_err();
        assert!(matches!(error, MatchError::Cancelled), "{error}");
        assert_eq!(desk.show(&id).unwrap().0.stage, Stage::Cancelled);
        assert!(matches!(
            desk.cancel(&id).await,
            Err(MatchError::HasEnded { .. })
        ));
        assert_eq!(net.budget(0).reserved, Default::default());
        settled(&net, "cancelled").await;
    }
    let (net, _) = noisy().await;
    let unknown = net.desk(0).unwrap().cancel(&MatchId([1; 16])).await;
    assert!(matches!(unknown, Err(MatchError::UnknownMatch { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_desk_ends_its_matches_and_begins_no_other() {
    let (net, agreement) = noisy().await;
    // After OpenMatch, before the release.
    *net.fault.lock().unwrap() = Fault::Stall(3_000);
    let desk = net.desk(0).unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let asked = tokio::spawn({
        let desk = desk.clone();
        let ask = request(agreement, Computation::Cardinality);
        async move {
            desk.request_telling(ask, |id| {
                let _ = tell.send(id);
            })
            .await
            .unwrap_err()
        }
    });
    let id = told.await.unwrap();
    while desk.show(&id).unwrap().0.stage != Stage::Open {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // One that runs is not taken for one that a crash left.
    desk.tidy().await.unwrap();
    assert_eq!(desk.show(&id).unwrap().0.stage, Stage::Open);
    assert_ne!(net.budget(0).reserved, Default::default());

    desk.stop().await;
    assert!(matches!(asked.await.unwrap(), MatchError::Cancelled));
    assert_eq!(desk.show(&id).unwrap().0.stage, Stage::Cancelled);
    assert_eq!(net.budget(0).reserved, Default::default());
    *net.fault.lock().unwrap() = Fault::None;
    let after = net.ask(agreement, Computation::Cardinality).await;
    assert!(matches!(after, Err(MatchError::Cancelled)));
    assert_eq!(net.agreement_matches(&agreement), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_down_or_busy_is_an_error_with_a_reason() {
    let (net, agreement) = noisy().await;
    net.stop(1);
    let error = net
        .ask(agreement, Computation::Cardinality)
        .await
        .unwrap_err();
    assert!(matches!(error, MatchError::Peer(_)));
    net.start(
        1,
        DeskOptions {
            max_answering: 0,
            ..quick()
        },
    );
    let error = net
        .ask(agreement, Computation::Cardinality)
        .await
        .unwrap_err();
    assert_eq!(refusal(&error), (Side::Peer, "busy"));
    settled(&net, "busy").await;
}

/// Opens a stream to media as brand, with the desk's own wire, and sends a request that the own desk would not.
async fn ask_by_hand(
    net: &std::sync::Arc<Net>,
    change: impl FnOnce(&mut Request),
) -> (MatchError, MatchError) {
    let (brand, media) = (net.desk(0).unwrap(), net.desk(1).unwrap());
    let meta = brand.0.audiences.latest("buyers").unwrap();
    let mut asks = Request {
        agreement: RecordId([0; 32]),
        computation: Computation::Cardinality,
        audience: meta.reference(),
        opening: meta.opening(),
        peer_audience: None,
        nonce: [7; 32],
    };
    change(&mut asks);
    let (a, b) = net.street();
    let key = records_key(0);
    let mut wire = Wire {
        stream: Box::new(a),
        ledger: &*brand.0.ledger,
        own: member(0),
        peer: identity(1),
        key: &key,
        step: Duration::from_secs(2),
        nonce: asks.nonce,
        opening: false,
    };
    let (ours, theirs) = tokio::join!(
        async {
            wire.send(&Message::Request(asks)).await.unwrap();
            wire.receive("accept").await
        },
        media.serve(Box::new(b), identity(0)),
    );
    (ours.unwrap_err(), theirs.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_responder_refuses_what_is_not_agreed_and_both_know_why() {
    let net = Net::new();
    net.audiences().await;
    let agreement = net.agree(net.terms(COUNT, Noise::None));
    let check = |(ours, theirs): (MatchError, MatchError), code: &str| {
        assert_eq!(refusal(&ours), (Side::Peer, code), "{ours}");
        assert_eq!(refusal(&theirs), (Side::Us, code), "{theirs}");
    };
    check(
        ask_by_hand(&net, |r| {
            r.agreement = agreement;
            r.computation = Computation::List;
        })
        .await,
        "computation",
    );
    check(ask_by_hand(&net, |_| {}).await, "unknown_agreement");
    check(
        ask_by_hand(&net, |r| {
            r.agreement = agreement;
            r.opening.size += 1;
        })
        .await,
        "audience_mismatch",
    );
    check(
        ask_by_hand(&net, |r| {
            r.agreement = agreement;
            r.audience.epoch += 1;
        })
        .await,
        "unknown_audience",
    );
    assert!(net.desk(1).unwrap().list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_request_is_refused() {
    let (net, agreement) = noisy().await;
    let view = net.ask(agreement, Computation::Cardinality).await.unwrap();
    let nonce = net.desk(0).unwrap().0.store.get(&view.id).unwrap().nonce.0;
    let (ours, theirs) = ask_by_hand(&net, |r| {
        r.agreement = agreement;
        r.nonce = nonce;
    })
    .await;
    assert_eq!(refusal(&ours), (Side::Peer, "nonce_used"));
    assert_eq!(refusal(&theirs), (Side::Us, "nonce_used"));
    assert_eq!(net.desk(1).unwrap().list()[0].stage, Stage::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_signed_by_another_is_refused() {
    let (net, agreement) = noisy().await;
    let brand = net.desk(0).unwrap();
    let meta = brand.0.audiences.latest("buyers").unwrap();
    for signer in [1, 2] {
        let (a, b) = net.street();
        let key = records_key(signer);
        let mut wire = Wire {
            stream: Box::new(a),
            ledger: &*brand.0.ledger,
            own: member(0),
            peer: identity(1),
            key: &key,
            step: Duration::from_secs(2),
            nonce: [9; 32],
            opening: false,
        };
        let asks = Request {
            agreement,
            computation: Computation::Cardinality,
            audience: meta.reference(),
            opening: meta.opening(),
            peer_audience: None,
            nonce: [9; 32],
        };
        wire.send(&Message::Request(asks)).await.unwrap();
        let error = net
            .desk(1)
            .unwrap()
            .serve(Box::new(b), identity(0))
            .await
            .unwrap_err();
        assert!(
            matches!(error, MatchError::Signature { what: "request" }),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_a_typed_error() {
    let (net, agreement) = noisy().await;
    let media = net.desk(1).unwrap();
    let mut cases = vec![
        vec![],
        vec![0; 4],
        vec![0xff; 4],
        vec![0, 0, 0, 5, 1, 1, 1, 1, 1],
        vec![0, 0, 16, 1],
    ];
    for len in [1, 80, 300, 5_000] {
        let mut bytes = vec![0; len];
        OsRng.fill_bytes(&mut bytes);
        cases.push([&200_u32.to_be_bytes()[..], &bytes].concat());
        cases.push(bytes);
    }
    for case in cases {
        let (mut a, b) = tokio::io::duplex(1 << 16);
        a.write_all(&case).await.unwrap();
        a.shutdown().await.unwrap();
        let error = media.serve(Box::new(b), identity(0)).await.unwrap_err();
        assert!(
            matches!(
                error,
                MatchError::Malformed(_)
                    | MatchError::TooLong { .. }
                    | MatchError::Ended { .. }
                    | MatchError::Signature { .. }
            ),
            "{case:?}: {error:?}"
        );
    }
    // The desk still works.
    assert!(net.ask(agreement, Computation::Cardinality).await.is_ok());
}

/// A stream that turns to garbage after some bytes gives a typed error on both sides.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_middle_is_a_typed_error() {
    for after in [600, 1_500, 2_600, 9_000, 15_000] {
        let (net, agreement) = noisy().await;
        *net.fault.lock().unwrap() = Fault::Garble(after);
        let result = net.ask(agreement, Computation::Cardinality).await;
        if let Err(error) = result {
            assert!(
                !matches!(error, MatchError::Internal { .. }),
                "{after}: {error:?}"
            );
        }
        settled(&net, &format!("garbled after {after}")).await;
    }
}

proptest! {
    #[test]
    fn messages_come_back_and_no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 1..9_u8) {
        use tally_contracts::codec::Canonical;
        let mut body = vec![1, kind];
        body.extend_from_slice(&bytes);
        if let Ok(message) = Message::from_bytes(&body) {
            prop_assert_eq!(message.to_bytes(), body);
        }
        let _ = crate::matching::messages::split_frame(&bytes);
        let _ = crate::matching::messages::read_seal(&bytes);
    }
}
