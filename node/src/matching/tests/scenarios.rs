//! Matches that go as they should, or are refused as they should.

use std::collections::HashSet;
use std::fs;

use tally_contracts::NetworkKind;
use tally_contracts::records::{Computation, Noise, RevokeAgreement, Suite};
use tally_contracts::state::MatchStatus;

use super::kit::*;
use crate::matching::*;

const COUNT: &[Computation] = &[Computation::Cardinality];

#[tokio::test(flavor = "multi_thread")]
async fn an_exact_match_equals_a_plain_join() {
    let net = Net::new();
    net.audiences().await;
    let agreement = net.agree(net.terms(COUNT, Noise::None));
    let view = net.ask(agreement, Computation::Cardinality).await.unwrap();
    let theirs: HashSet<u32> = (180..580).collect();
    let join = (0..300).filter(|n| theirs.contains(n)).count();
    assert_eq!(
        view.answer,
        Some(Answer::Count {
            value: join.try_into().unwrap()
        })
    );
    assert_eq!(
        (view.stage, view.noise.clone()),
        (Stage::Done, Some(NoiseView::None))
    );
    assert_eq!((view.own_size, view.their_bucket), (300, Some(9)));

    let other = net.desk(1).unwrap().list();
    assert_eq!(other.len(), 1);
    assert_eq!(
        (other[0].id, &other[0].answer, other[0].stage),
        (view.id, &view.answer, Stage::Done)
    );
    assert!(other[0].release_record.is_some());
    assert_eq!(other[0].close_record, view.close_record);
    let on_ledger = net.match_state(&view.session.unwrap()).unwrap();
    assert_eq!(on_ledger.status, MatchStatus::Done);
    assert!(net.served.lock().unwrap().iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_query_again_is_free_and_survives_a_restart() {
    let net = Net::new();
    net.audiences().await;
    let agreement = net.agree(net.terms(COUNT, plan_noise(500_000, 1 << 40).unwrap()));
    let first = net.ask(agreement, Computation::Cardinality).await.unwrap();
    let spent = net.budget(0);
    for _ in 0..3 {
        assert_eq!(
            net.ask(agreement, Computation::Cardinality).await.unwrap(),
            first
        );
    }
    net.start(0, quick());
    net.stop(1);
    assert_eq!(
        net.ask(agreement, Computation::Cardinality).await.unwrap(),
        first
    );
    assert_eq!(net.agreement_matches(&agreement), 1);
    assert_eq!(net.budget(0), spent);
    // Under another agreement it is another query.
    net.start(1, quick());
    let exact = net.agree(net.terms(COUNT, Noise::None));
    let other = net.ask(exact, Computation::Cardinality).await.unwrap();
    assert_eq!(other.answer, Some(Answer::Count { value: 120 }));
    assert_ne!(other.id, first.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_noisy_match_is_within_its_bounds_and_charged_to_both() {
    let net = Net::with(NetworkKind::Live);
    net.audiences().await;
    let noise = plan_noise(500_000, 1 << 40).unwrap();
    let Noise::Laplace { bound, .. } = noise else {
        panic!("no noise")
    };
    let agreement = net.agree(net.terms(COUNT, noise));
    let view = net.ask(agreement, Computation::Cardinality).await.unwrap();
    let Some(Answer::Count { value }) = view.answer else {
        panic!("{:?}", view.answer)
    };
    assert!((value - 120).abs() <= 2 * i64::from(bound), "{value}");
    let Some(NoiseView::Laplace {
        standard_deviation,
        within_95,
        ..
    }) = view.noise
    else {
        panic!("no noise")
    };
    assert!(standard_deviation > 2.0 && within_95 > 4);
    for owner in [0, 1] {
        let budget = net.budget(owner);
        assert_eq!(
            (budget.spent, budget.reserved),
            (noise.charge(), Default::default())
        );
    }
    assert_eq!(
        view.budget_left_micro_rho,
        Some(10_000_000 - noise.charge().micro_rho)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_to_the_side_that_asked_alone_under_every_suite() {
    for suite in [
        Suite::DhRistrettoV1,
        Suite::VoleRr22V1,
        Suite::VoleRr22MaliciousV1,
    ] {
        list_under(suite).await;
    }
}

async fn list_under(suite: Suite) {
    let net = Net::new();
    net.audiences().await;
    let mut terms = net.terms(&[Computation::List], Noise::None);
    terms.suite = suite;
    let agreement = net.agree(terms);
    let view = net.ask(agreement, Computation::List).await.unwrap();
    assert_eq!(view.answer, Some(Answer::Listed { rows: 120 }));
    let matched = net.desk(0).unwrap().matched(&view.id).unwrap();
    let matched: HashSet<_> = matched
        .iter()
        .map(|id| String::from_utf8(id.as_bytes().to_vec()).unwrap())
        .collect();
    let expected: HashSet<_> = (180..300)
        .map(|n: u32| format!("+8613{:09}", 7_919 * n))
        .collect();
    assert_eq!(matched, expected);
    let media = net.desk(1).unwrap();
    assert_eq!(media.list()[0].answer, Some(Answer::Served));
    assert!(matches!(
        media.matched(&view.id),
        Err(MatchError::UnknownMatch { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn small_answers_are_not_told_apart() {
    let net = Net::new();
    net.audience(0, "buyers", 0..300).await;
    net.audience(1, "viewers", 298..400).await;
    for min in [2, 3] {
        let mut terms = net.terms(COUNT, Noise::None);
        terms.min_result = min;
        let agreement = net.agree(terms);
        let answer = net
            .ask(agreement, Computation::Cardinality)
            .await
            .unwrap()
            .answer;
        let expected = if min == 2 {
            Answer::Count { value: 2 }
        } else {
            Answer::FewerThan { min: 3 }
        };
        assert_eq!(answer, Some(expected));
        assert_eq!(net.desk(1).unwrap().list()[0].answer, answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_own_ledger_does_not_allow_is_not_asked() {
    let net = Net::new();
    net.audiences().await;
    let agreement = net.agree(net.terms(COUNT, Noise::None));
    let refused = |error: MatchError| {
        let (by, code) = refusal(&error);
        assert_eq!(by, Side::Us);
        code.to_owned()
    };
    let error = net.ask(agreement, Computation::List).await.unwrap_err();
    assert_eq!(refused(error), "computation");
    let unknown = tally_contracts::ids::RecordId([9; 32]);
    let error = net
        .ask(unknown, Computation::Cardinality)
        .await
        .unwrap_err();
    assert_eq!(refused(error), "unknown_agreement");
    let mut asks = request(agreement, Computation::Cardinality);
    asks.peer = Some(member(2));
    let error = net.desk(0).unwrap().request(asks).await.unwrap_err();
    assert_eq!(refused(error), "not_a_party");
    let mut terms = net.terms(COUNT, Noise::None);
    terms.min_set_size = 301;
    let large = net.agree(terms);
    let error = net.ask(large, Computation::Cardinality).await.unwrap_err();
    assert_eq!(refused(error), "set_size");
    net.commit(1, &RevokeAgreement { agreement }.into(), true)
        .unwrap();
    let error = net
        .ask(agreement, Computation::Cardinality)
        .await
        .unwrap_err();
    assert_eq!(refused(error), "agreement_status");
    assert!(net.desk(0).unwrap().list().is_empty());
    assert_eq!(
        net.moved.load(std::sync::atomic::Ordering::Relaxed),
        0,
        "nobody was asked"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_must_be_committed_and_of_this_epoch_or_the_last() {
    let net = Net::new();
    net.audience(1, "viewers", 180..580).await;
    let agreement = net.agree(net.terms(COUNT, Noise::None));
    let error = net
        .ask(agreement, Computation::Cardinality)
        .await
        .unwrap_err();
    assert!(matches!(error, MatchError::Audience(_)), "{error}");
    let desk = net.desk(0).unwrap();
    let people = tally_measure::import(
        &b"phone\n+12125550100\n+12125550101\n+12125550102\n+12125550103\n+12125550104\n+12125550105\n+12125550106\n+12125550107\n+12125550108\n+12125550109\n"[..],
        &tally_measure::ImportOptions::new("e164".parse().unwrap()),
    );
    desk.0
        .audiences
        .create(
            "buyers",
            desk.epoch().unwrap(),
            people.unwrap(),
            &mut rand_core::OsRng,
        )
        .unwrap();
    let error = net
        .ask(agreement, Computation::Cardinality)
        .await
        .unwrap_err();
    assert!(matches!(error, MatchError::NotCommitted { .. }), "{error}");
    // The responder's set is of an epoch long past.
    let epoch_ms = tally_contracts::Rules::default().epoch_ms;
    net.pass_time(2 * epoch_ms);
    net.audience(0, "buyers", 0..300).await;
    let error = net
        .ask(agreement, Computation::Cardinality)
        .await
        .unwrap_err();
    assert_eq!(refusal(&error), (Side::Peer, "no_audience"));
    assert_eq!(net.desk(0).unwrap().list()[0].stage, Stage::Refused);
    net.audience(1, "viewers", 180..580).await;
    assert!(net.ask(agreement, Computation::Cardinality).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_responder_chooses_unless_an_audience_is_named() {
    let net = Net::new();
    net.audiences().await;
    net.audience(1, "subscribers", 290..500).await;
    let agreement = net.agree(net.terms(COUNT, Noise::None));
    let error = net
        .ask(agreement, Computation::Cardinality)
        .await
        .unwrap_err();
    assert_eq!(refusal(&error), (Side::Peer, "audience_ambiguous"));
    let media = net.desk(1).unwrap();
    for (name, expected) in [("subscribers", 10), ("viewers", 120)] {
        let mut asks = request(agreement, Computation::Cardinality);
        asks.peer_audience = Some(media.0.audiences.label(name));
        let view = net.desk(0).unwrap().request(asks).await.unwrap();
        assert_eq!(view.answer, Some(Answer::Count { value: expected }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_budget_is_refused_before_anything_runs() {
    let net = Net::new();
    net.audiences().await;
    let noise = plan_noise(500_000, 1 << 40).unwrap();
    let mut terms = net.terms(COUNT, noise);
    terms.epoch_cap = noise.charge();
    terms.lifetime_cap = noise.charge();
    let (first, second) = (net.agree(terms.clone()), net.agree(terms));
    net.ask(first, Computation::Cardinality).await.unwrap();
    let error = net.ask(second, Computation::Cardinality).await.unwrap_err();
    assert_eq!(refusal(&error), (Side::Peer, "budget"), "{error}");
    assert_eq!(net.budget(0).spent, noise.charge());
    let view = &net.desk(0).unwrap().list()[0];
    assert_eq!((view.stage, &view.answer), (Stage::Refused, &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn matches_in_both_directions_at_once_do_not_block_each_other() {
    let net = Net::new();
    net.audiences().await;
    let terms = || net.agree(net.terms(COUNT, Noise::None));
    let mut runs = Vec::new();
    for i in 0..4_usize {
        let desk = net.desk(i % 2).unwrap();
        let mut asks = request(terms(), Computation::Cardinality);
        asks.audience = ["buyers", "viewers"][i % 2].into();
        runs.push(tokio::spawn(async move { desk.request(asks).await }));
    }
    for run in runs {
        let view = run.await.unwrap().unwrap();
        assert_eq!(view.answer, Some(Answer::Count { value: 120 }));
        assert_eq!(view.stage, Stage::Done, "{:?}", view.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_id_is_readable_in_what_is_stored_or_shown() {
    let net = Net::new();
    net.audiences().await;
    let agreement = net.agree(net.terms(&[Computation::List], Noise::None));
    let view = net.ask(agreement, Computation::List).await.unwrap();
    let mut dirs = vec![net.root().to_owned()];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            seen += 1;
            let bytes = fs::read(&path).unwrap();
            for canary in [&b"8613"[..], b"buyers", b"cardinality"] {
                assert!(
                    !bytes.windows(canary.len()).any(|w| w == canary),
                    "{}",
                    path.display()
                );
            }
        }
    }
    assert!(seen >= 7, "{seen}");
    let json = serde_json::to_string(&view).unwrap();
    assert!(
        !json.contains("+86") && json.contains("\"stage\":\"done\""),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<MatchView>(&json).unwrap(), view);
}
