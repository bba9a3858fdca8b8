//! Sums by label between two desks: exact against the plain reference, charged to each owner for what its people gave, with the same noise
//! for the same question whatever broke.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand_core::OsRng;
use tally_contracts::NetworkKind;
use tally_contracts::records::{
    BudgetCap, Computation, JoinSumTerms, Noise, ProposeAgreement, SumLabel, SumModel, SumNoise,
};
use tally_measure::Import;
use tally_measure::attribution::{
    ConversionColumns, Labels, TouchColumns, Windows, attribute, import_conversions, import_touches,
};

use super::kit::*;
use crate::audiences::{Holds, RowsInput};
use crate::matching::*;

const SUMS: &[Computation] = &[Computation::JoinSum];
const HOUR: u64 = 3_600;

fn phone(n: u64) -> String {
    format!("+8613{:09}", 7_919 * n)
}

/// Touches of 60 people over channels a, b, c (few people) and d (not named).
fn touches() -> String {
    let mut csv = String::from("phone,touched_at,channel,kind\n");
    for n in 0..60_u64 {
        for k in 0..=n % 4 {
            let channel = ["a", "b", "d"][usize::try_from((n + k) % 3).unwrap()];
            let channel = if n < 5 { "c" } else { channel };
            let kind = if (n + k) % 2 == 0 { "view" } else { "click" };
            let at = 1_000_000 + n * 977 + k * 7 * HOUR;
            writeln!(csv, "{},{at},{channel},{kind}", phone(n)).unwrap();
        }
    }
    csv
}

/// Conversions of people 20 to 90, two of some.
fn conversions() -> String {
    let mut csv = String::from("phone,converted_at,value_cents,order_id\n");
    for n in 20..90_u64 {
        for k in 0..1 + n % 2 {
            let at = 1_000_000 + n * 977 + 9 * HOUR + k * 11 * HOUR;
            writeln!(csv, "{},{at},{},order-{n}-{k}", phone(n), 100 + n * 13).unwrap();
        }
    }
    csv
}

fn sum_terms(model: SumModel, noise: SumNoise) -> JoinSumTerms {
    JoinSumTerms {
        label_side: member(0),
        model,
        click_window_s: 86_400,
        view_window_s: 43_200,
        labels: ["a", "b", "c"]
            .map(|name| SumLabel {
                name: name.into(),
                minimum_people: 10,
            })
            .to_vec(),
        value_cap: 1_000,
        conversions_per_person: 2,
        max_conversions: 128,
        max_keys: 1 << 17,
        noise,
    }
}

/// The plain reference under the same terms, in minor units times the unit.
fn reference(model: SumModel) -> Vec<i64> {
    let profile = "e164".parse().unwrap();
    let journeys = import_touches(
        touches().as_bytes(),
        profile,
        None,
        &TouchColumns::default(),
    )
    .unwrap();
    let bought = import_conversions(
        conversions().as_bytes(),
        profile,
        None,
        &ConversionColumns::default(),
    )
    .unwrap();
    let labels = ["a", "b", "c"].map(|name| SumLabel {
        name: name.into(),
        minimum_people: 10,
    });
    let labels = Labels::new(labels.to_vec()).unwrap();
    let (bounded, ..) = bought.bounded(1_000, 2);
    let windows = Windows::new(86_400, 43_200).unwrap();
    let touches = journeys.labelled(&labels);
    let sums = attribute(&touches, &bounded, labels.count(), &model, &windows).unwrap();
    sums.into_iter()
        .map(|v| i64::try_from(v).unwrap())
        .collect()
}

async fn rows(net: &Net, i: usize, name: &str, holds: Holds, csv: &str) {
    let profile = "e164".parse().unwrap();
    let (ids, report, bytes) = match holds {
        Holds::Touches => {
            let found =
                import_touches(csv.as_bytes(), profile, None, &TouchColumns::default()).unwrap();
            let ids = found.people().cloned().collect();
            (ids, found.report().clone(), found.to_bytes())
        }
        _ => {
            let columns = ConversionColumns::default();
            let found = import_conversions(csv.as_bytes(), profile, None, &columns).unwrap();
            let ids = found.people().cloned().collect();
            (ids, found.report().clone(), found.to_bytes())
        }
    };
    let import = Import {
        ids,
        report: report.of_people(profile),
    };
    let input = RowsInput {
        holds,
        report,
        bytes,
    };
    let desk = net.desk(i).unwrap();
    let epoch = desk.epoch().unwrap();
    let audiences = &desk.0.audiences;
    let meta = audiences
        .create_with(name, epoch, import, Some(input), &mut OsRng)
        .unwrap();
    let again = audiences.load_rows(&meta).unwrap().unwrap();
    assert!(csv.len() > again.len() / 2 && meta.holds() == holds);
    assert_ne!(meta.opening().root, meta.root);
    desk.commit_audience(&meta.key).await.unwrap();
}

async fn sets(net: &Net) {
    rows(net, 0, "buyers", Holds::Touches, &touches()).await;
    rows(net, 1, "orders", Holds::Conversions, &conversions()).await;
}

fn agreement(net: &Net, noise: Noise, sums: JoinSumTerms) -> ProposeAgreement {
    ProposeAgreement {
        sums: Some(sums),
        ..net.terms(SUMS, noise)
    }
}

fn values(view: &MatchView) -> Vec<i64> {
    match &view.answer {
        Some(Answer::Sums { labels, .. }) => labels.iter().map(|l| l.value).collect(),
        other => panic!("{other:?}"),
    }
}

const NOISE: SumNoise = SumNoise::Laplace {
    sums_micro_eps: 2_000_000,
    matches_micro_eps: 1_000_000,
    delta_exp: 20,
};
const EACH: BudgetCap = BudgetCap {
    micro_rho: 2_000_000,
    delta: 1 << 40,
};
const BESIDES: BudgetCap = BudgetCap {
    micro_rho: 500_000,
    delta: 1 << 40,
};

async fn noisy() -> (Arc<Net>, tally_contracts::ids::AgreementId) {
    let net = Net::with(NetworkKind::Live);
    sets(&net).await;
    let noise = plan_noise(2_000_000, 1 << 40).unwrap();
    let terms = agreement(&net, noise, sum_terms(SumModel::LastTouch, NOISE));
    let id = net.agree(terms);
    (net, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_sums_are_those_of_the_plain_reference() {
    let net = Net::new();
    sets(&net).await;
    for model in [
        SumModel::LastTouch,
        SumModel::First,
        SumModel::Linear { touches: 3 },
    ] {
        let terms = agreement(&net, Noise::None, sum_terms(model, SumNoise::None));
        let id = net.agree(terms);
        let view = net.ask(id, Computation::JoinSum).await.unwrap();
        let exact = reference(model);
        assert_eq!(values(&view), exact);
        // Of c too few people are there.
        assert!(
            exact[0] > 0 && exact[1] > 0 && exact[2] > 0 && exact[3] == 0,
            "{exact:?}"
        );
        assert_eq!(
            (view.stage, view.noise),
            (Stage::Done, Some(NoiseView::None)),
            "{:?}",
            view.reason
        );
        let (theirs, _) = net.desk(1).unwrap().show(&view.id).unwrap();
        assert_eq!(theirs.answer, view.answer);
    }
    // The side with the conversions cannot ask, and nor can one with people alone.
    let id = net.agree(agreement(
        &net,
        Noise::None,
        sum_terms(SumModel::First, SumNoise::None),
    ));
    let mut asked = request(id, Computation::JoinSum);
    asked.audience = "orders".into();
    let error = net
        .desk(1)
        .unwrap()
        .request(asked.clone())
        .await
        .unwrap_err();
    assert_eq!(refusal(&error), (Side::Us, "label_side"));
    net.audience(0, "orders", 0..50).await;
    let error = net.desk(0).unwrap().request(asked).await.unwrap_err();
    assert_eq!(refusal(&error), (Side::Us, "holds"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_owner_pays_and_the_same_question_has_the_same_noise() {
    let (net, id) = noisy().await;
    let view = net.ask(id, Computation::JoinSum).await.unwrap();
    let Some(NoiseView::Sums { bound, .. }) = view.noise else {
        panic!("{:?}", view.noise)
    };
    let first = values(&view);
    let exact = reference(SumModel::LastTouch);
    let far = |(a, b): (&i64, &i64)| a.abs_diff(*b);
    assert!(first.iter().zip(&exact).map(far).max().unwrap() <= 2 * bound);
    assert_ne!(first, exact);
    let both = EACH.plus(&BESIDES).unwrap();
    let none = BudgetCap::default();
    let budget = |i| (net.budget(i).spent, net.budget(i).reserved);
    assert_eq!((budget(0), budget(1)), ((EACH, none), (both, none)));
    // Again: stored and free.
    assert_eq!(
        values(&net.ask(id, Computation::JoinSum).await.unwrap()),
        first
    );
    assert_eq!(budget(1), (both, none));
    // Had both lost their answers, the run would be another and its noise the same: nothing to average.
    for i in [0, 1] {
        net.stop(i);
        std::fs::remove_dir_all(net.dir(i).join("matches")).unwrap();
        net.start(i, quick());
    }
    let again = net.ask(id, Computation::JoinSum).await.unwrap();
    assert_ne!(again.id, view.id);
    assert_eq!(values(&again), first);
    assert_eq!(budget(1), (both.plus(&both).unwrap(), none));
}

/// A stream that is cut anywhere: the budget is spent once if the match was released, given back if not, and a second try works.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_costs_once_at_most_and_a_second_try_works() {
    let (net, id) = noisy().await;
    net.ask(id, Computation::JoinSum).await.unwrap();
    let whole = net.moved.load(Ordering::Relaxed);
    let both = EACH.plus(&BESIDES).unwrap();
    let none = BudgetCap::default();
    let mut released = 0;
    for step in [1, 4, 6, 7, 8] {
        let (net, id) = noisy().await;
        *net.fault.lock().unwrap() = Fault::Cut(whole * step / 10);
        net.ask(id, Computation::JoinSum).await.unwrap_err();
        *net.fault.lock().unwrap() = Fault::None;
        for _ in 0..200 {
            for i in [0, 1] {
                let _ = net.desk(i).unwrap().tidy().await;
            }
            if net.budget(0).reserved == none && net.budget(1).reserved == none {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let (a, b) = (net.budget(0), net.budget(1));
        assert_eq!((a.reserved, b.reserved), (none, none));
        let spent = (a.spent, b.spent);
        assert!(spent == (none, none) || spent == (EACH, both), "{spent:?}");
        released += u32::from(spent.0 == EACH);
        let view = net.ask(id, Computation::JoinSum).await.unwrap();
        assert_eq!((values(&view).len(), view.stage), (4, Stage::Done));
        let total = (spent.0.plus(&EACH).unwrap(), spent.1.plus(&both).unwrap());
        assert_eq!((net.budget(0).spent, net.budget(1).spent), total);
    }
    assert!((1..5).contains(&released), "{released} of 5 were released");
}
