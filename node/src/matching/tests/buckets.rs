//! Lists in buckets between two desks: whole, broken anywhere, called off, too late.

use std::sync::atomic::Ordering;

use tally_contracts::ids::AgreementId;
use tally_contracts::records::{Computation, Noise, Suite};
use tally_contracts::state::MatchStatus;
use tally_psi::buckets::Rule;

use super::kit::*;
use crate::matching::buckets::RESUME_FOR_MS;
use crate::matching::*;

const SUITES: [Suite; 3] = [
    Suite::DhRistrettoV1,
    Suite::VoleRr22V1,
    Suite::VoleRr22MaliciousV1,
];

/// Buckets of a hundred people.
fn small_buckets() -> DeskOptions {
    DeskOptions {
        bucket_rule: Rule {
            single: 100,
            mean: 100,
        },
        ..quick()
    }
}

async fn network(suite: Suite) -> (std::sync::Arc<Net>, AgreementId) {
    let net = Net::new();
    for i in [0, 1] {
        net.start(i, small_buckets());
    }
    net.audiences().await;
    let mut terms = net.terms(&[Computation::List], Noise::None);
    terms.suite = suite;
    let agreement = net.agree(terms);
    (net, agreement)
}

/// The list is right, was released once, and both hold the receipt.
async fn whole(net: &std::sync::Arc<Net>, agreement: AgreementId, view: &MatchView, case: &str) {
    assert_eq!(view.answer, Some(Answer::Listed { rows: 120 }), "{case}");
    let desk = net.desk(0).unwrap();
    let mut found: Vec<_> = desk
        .matched(&view.id)
        .unwrap()
        .iter()
        .map(|id| String::from_utf8(id.as_bytes().to_vec()).unwrap())
        .collect();
    found.sort();
    let mut expected: Vec<_> = (180..300_u32)
        .map(|n| format!("+8613{:09}", 7_919 * n))
        .collect();
    expected.sort();
    assert_eq!(found, expected, "{case}");
    // Once, whatever broke.
    assert_eq!(net.agreement_matches(&agreement), 1, "{case}");
    for i in [0, 1] {
        let _ = net.desk(i).unwrap().tidy().await;
        let listed = net.desk(i).unwrap().list();
        assert_eq!(listed.len(), 1, "{case}");
        assert_eq!(
            listed[0].stage,
            Stage::Done,
            "{case}: {:?}",
            listed[0].reason
        );
    }
    let on_ledger = net.match_state(&view.session.unwrap()).unwrap();
    assert_eq!(on_ledger.status, MatchStatus::Done, "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_in_buckets_is_that_of_a_plain_join_under_one_release() {
    for suite in SUITES {
        let (net, agreement) = network(suite).await;
        let view = net.ask(agreement, Computation::List).await.unwrap();
        whole(&net, agreement, &view, suite.name()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_anywhere_goes_on_after_restarts() {
    let (net, agreement) = network(Suite::DhRistrettoV1).await;
    net.ask(agreement, Computation::List).await.unwrap();
    let bytes = net.moved.load(Ordering::Relaxed);
    let (mut broke, mut twice) = (0, 0);
    for step in 1..20_u32 {
        let limit = bytes * u64::from(step) / 20;
        let case = format!("cut after {limit} of {bytes} bytes");
        let (net, agreement) = network(Suite::DhRistrettoV1).await;
        *net.fault.lock().unwrap() = Fault::Cut(limit);
        let mut result = net.ask(agreement, Computation::List).await;
        broke += u32::from(result.is_err());
        // A second break somewhere else, after a restart of one side.
        if result.is_err() {
            net.restart(usize::from(step % 2 == 0), small_buckets())
                .await;
            *net.fault.lock().unwrap() = Fault::Cut(net.moved.load(Ordering::Relaxed) + bytes / 3);
            result = settle(&net, agreement).await;
            twice += u32::from(result.is_err());
        }
        *net.fault.lock().unwrap() = Fault::None;
        for i in [0, 1] {
            net.restart(i, small_buckets()).await;
        }
        let view = match result {
            Ok(view) => view,
            Err(first) => match settle(&net, agreement).await {
                Ok(view) => view,
                Err(again) => {
                    let theirs = net.desk(1).unwrap().list();
                    let theirs: Vec<_> = theirs.iter().map(|m| &m.reason).collect();
                    panic!("{case}: {first}, then {again}; of the responder {theirs:?}")
                }
            },
        };
        // A break before the match was open ends that match; asked for again it is another one.
        if net.desk(0).unwrap().list().len() == 1 {
            whole(&net, agreement, &view, &case).await;
        } else {
            assert_eq!(view.answer, Some(Answer::Listed { rows: 120 }), "{case}");
        }
    }
    assert!(broke > 8 && twice > 2, "{broke} broke, {twice} twice");
}

/// Asks again, until the other side has noticed that the stream is gone.
async fn settle(
    net: &std::sync::Arc<Net>,
    agreement: AgreementId,
) -> Result<MatchView, MatchError> {
    for _ in 0..60 {
        match net.ask(agreement, Computation::List).await {
            // Or it broke so early that the other side has ended it: the next is another match.
            Err(MatchError::Refused { notice, .. })
                if ["match_running", "match_ended"].contains(&notice.code.as_str()) =>
            {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            done => return done,
        }
    }
    panic!("the responder never let go of the broken stream");
}

/// A match that broke after its release.
async fn broken(limit_of_20: u64) -> (std::sync::Arc<Net>, AgreementId, MatchView) {
    let (net, agreement) = network(Suite::VoleRr22V1).await;
    net.ask(agreement, Computation::List).await.unwrap();
    let bytes = net.moved.load(Ordering::Relaxed);
    let (net, agreement) = network(Suite::VoleRr22V1).await;
    *net.fault.lock().unwrap() = Fault::Cut(bytes * limit_of_20 / 20);
    net.ask(agreement, Computation::List).await.unwrap_err();
    *net.fault.lock().unwrap() = Fault::None;
    let view = net.desk(0).unwrap().list()[0].clone();
    assert!(!view.stage.is_final() && view.reason.is_some());
    (net, agreement, view)
}

#[tokio::test(flavor = "multi_thread")]
async fn tidying_goes_on_with_a_broken_list_by_itself() {
    let (net, agreement, view) = broken(12).await;
    let desk = net.desk(0).unwrap();
    for _ in 0..100 {
        desk.tidy().await.unwrap();
        if desk.show(&view.id).unwrap().0.stage == Stage::Done {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let view = desk.show(&view.id).unwrap().0;
    whole(&net, agreement, &view, "tidied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_list_that_is_called_off_or_too_old_stays_spent() {
    for late in [false, true] {
        let (net, _, view) = broken(12).await;
        if late {
            net.pass_time(RESUME_FOR_MS);
        } else {
            // By the side that answers: the other learns it when it asks.
            let answering = net.desk(1).unwrap();
            while answering.cancel(&view.id).await.is_ok()
                && !answering.show(&view.id).unwrap().0.stage.is_final()
            {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
        for i in [0, 1] {
            net.desk(i).unwrap().tidy().await.unwrap();
        }
        let refused = net.desk(0).unwrap().resume(&view.id).await.unwrap_err();
        assert_eq!(refusal(&refused).1, "match_ended");
        for i in [0, 1] {
            let listed = net.desk(i).unwrap().list();
            assert!(listed[0].stage.is_final() && listed[0].answer.is_none());
            assert!(net.desk(0).unwrap().matched(&view.id).is_err());
        }
        let on_ledger = net.match_state(&view.session.unwrap()).unwrap();
        assert!(on_ledger.is_released());
        assert_eq!(net.budget_at(1, 0).reserved, Default::default());
    }
}
