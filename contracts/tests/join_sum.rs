//! `join_sum` under an agreement: what is refused at set-up, and whom a match charges how much.

#[path = "common/bodies.rs"]
mod bodies;
mod common;

use common::{Net, code};
use tally_contracts::ids::{AgreementId, SessionId};
use tally_contracts::records::*;
use tally_contracts::state::{self, keys};
use tally_contracts::{NetworkKind, Refusal};
use tally_merkle::Hash;

const DELTA: u64 = 1 << 41;
const SUMS: BudgetCap = BudgetCap {
    micro_rho: 125_000,
    delta: DELTA,
};
const COUNTS: BudgetCap = BudgetCap {
    micro_rho: 80_000,
    delta: DELTA,
};

fn propose(net: &mut Net, change: impl Fn(&mut ProposeAgreement)) -> Result<AgreementId, Refusal> {
    let mut parties = vec![net.member("brand"), net.member("media")];
    parties.sort();
    let media = net.member("media");
    let mut terms = bodies::sum_terms(parties, media);
    change(&mut terms);
    let record = net.record(terms, &[("brand", "admin")]);
    net.submit(&record)?;
    Ok(record.id())
}

/// Media, who has the touches, asks brand, who has the conversions.
fn ready(change: impl Fn(&mut ProposeAgreement)) -> (Net, OpenMatch) {
    let mut net = Net::new(NetworkKind::Live);
    let agreement = propose(&mut net, change).unwrap();
    net.by_admin("media", AcceptAgreement { agreement })
        .unwrap();
    let epoch = net.epoch();
    let sets = [("media", 10), ("brand", 20)].map(|(name, label)| {
        let set = bodies::audience(label, epoch);
        let body = CommitAudience {
            label: set.label,
            epoch,
            root: set.root,
            size_bucket: set.size_bucket,
            profile: Profile::plain(Form::PhoneE164),
        };
        net.by(&[name], body).unwrap();
        set
    });
    let [initiator_audience, responder_audience] = sets;
    let open = OpenMatch {
        agreement,
        computation: Computation::JoinSum,
        session: SessionId([1; 32]),
        initiator: net.member("media"),
        responder: net.member("brand"),
        initiator_audience,
        responder_audience,
    };
    (net, open)
}

/// (spent, reserved) of the owner's epoch, which its other two counters must equal.
fn budget(net: &Net, owner: &str, analyst: &str) -> (BudgetCap, BudgetCap) {
    let (owner, analyst, epoch) = (net.member(owner), net.member(analyst), net.epoch());
    let all = [
        keys::budget_epoch(&owner, epoch),
        keys::budget_analyst(&owner, epoch, &analyst),
        keys::budget_lifetime(&owner, &analyst),
    ]
    .map(|key| state::budget(&net.state, &key).unwrap());
    assert!(all.iter().all(|b| *b == all[0]));
    (all[0].spent, all[0].reserved)
}

fn receipt(open: &OpenMatch) -> MatchReceipt {
    MatchReceipt {
        computation: Computation::JoinSum,
        noise: Noise::Laplace {
            micro_eps: 500_000,
            delta: DELTA,
            bound: 25,
        },
        initiator_bucket: open.initiator_audience.size_bucket,
        responder_bucket: open.responder_audience.size_bucket,
        spent: SUMS,
        count_spent: COUNTS,
        result: Hash([1; 32]),
        initiator_stream: Hash([42; 32]),
        responder_stream: Hash([43; 32]),
    }
}

#[test]
fn both_pay_for_the_sums_and_the_value_side_for_the_counts_besides() {
    let (mut net, open) = ready(|_| {});
    let none = BudgetCap::default();
    let both = SUMS.plus(&COUNTS).unwrap();
    // The agreement says who has the labels; the other side cannot ask.
    let turned = OpenMatch {
        initiator: open.responder,
        responder: open.initiator,
        initiator_audience: open.responder_audience.clone(),
        responder_audience: open.initiator_audience.clone(),
        ..open.clone()
    };
    assert_eq!(code(net.by(&["brand", "media"], turned)), "label_side");
    net.by(&["media", "brand"], open.clone()).unwrap();
    assert_eq!(budget(&net, "media", "brand"), (none, SUMS));
    assert_eq!(budget(&net, "brand", "media"), (none, both));
    // Given back in full, and reserved again.
    let close = |session, close| CloseMatch { session, close };
    net.by(&["brand"], close(open.session, Close::Failed))
        .unwrap();
    assert_eq!(budget(&net, "media", "brand"), (none, none));
    assert_eq!(budget(&net, "brand", "media"), (none, none));
    let session = SessionId([2; 32]);
    net.by(
        &["media", "brand"],
        OpenMatch {
            session,
            ..open.clone()
        },
    )
    .unwrap();
    net.by(
        &["brand"],
        ReleaseMatch {
            session,
            initiator_stream: Hash([42; 32]),
        },
    )
    .unwrap();
    assert_eq!(budget(&net, "media", "brand"), (SUMS, none));
    assert_eq!(budget(&net, "brand", "media"), (both, none));
    // A second one would cost brand 410,000 in all, over the epoch's 300,000.
    let refused = net.by(
        &["media", "brand"],
        OpenMatch {
            session: SessionId([3; 32]),
            ..open.clone()
        },
    );
    match refused {
        Err(Refusal::Budget {
            scope,
            owner,
            needed,
            left,
        }) => {
            assert_eq!((scope, owner), ("epoch", net.member("brand")));
            assert_eq!((needed.micro_rho, left.micro_rho), (205_000, 95_000));
        }
        other => panic!("{other:?}"),
    }
    // A receipt that says less of what the responder paid is refused.
    let cheap = MatchReceipt {
        count_spent: none,
        ..receipt(&open)
    };
    let refused = net.by(&["media", "brand"], close(session, Close::Done(cheap)));
    assert_eq!(code(refused), "receipt");
    net.by(
        &["media", "brand"],
        close(session, Close::Done(receipt(&open))),
    )
    .unwrap();
    assert_eq!(budget(&net, "brand", "media"), (both, none));
}

#[test]
fn what_could_overflow_or_has_no_noise_is_refused_at_set_up() {
    let mut net = Net::new(NetworkKind::Live);
    let sums = |change: fn(&mut JoinSumTerms)| {
        move |t: &mut ProposeAgreement| t.sums.iter_mut().for_each(change)
    };
    assert!(propose(&mut net, |_| {}).is_ok());
    for change in [
        // 10^6 conversions of 2,000 yuan over 6.
        (|s: &mut JoinSumTerms| s.max_conversions = 1_000_000) as fn(&mut JoinSumTerms),
        |s| s.value_cap = 1 << 38,
        |s| s.conversions_per_person = u32::MAX,
        |s| s.max_keys = 1 << 30,
        |s| s.noise = SumNoise::None,
    ] {
        assert_eq!(code(propose(&mut net, sums(change))), "terms");
    }
    // Exact sums need a test network.
    let exact = |t: &mut ProposeAgreement| {
        sums(|s| s.noise = SumNoise::None)(t);
        t.noise = Noise::None;
    };
    assert_eq!(code(propose(&mut net, exact)), "noise");
    assert!(propose(&mut Net::new(NetworkKind::Test), exact).is_ok());
    // Labels at somebody who is no party.
    let stranger = sums(|s| s.label_side = tally_contracts::ids::MemberId([9; 16]));
    assert_eq!(code(propose(&mut net, stranger)), "not_a_party");
    // A suite that tells which rows matched, and a cap that does not pay for one match.
    let vole = |t: &mut ProposeAgreement| t.suite = Suite::VoleRr22V1;
    assert_eq!(code(propose(&mut net, vole)), "suite");
    let poor = |t: &mut ProposeAgreement| t.epoch_cap.micro_rho = 204_999;
    assert_eq!(code(propose(&mut net, poor)), "terms");
    let enough = |t: &mut ProposeAgreement| t.epoch_cap.micro_rho = 205_000;
    assert!(propose(&mut net, enough).is_ok());
}
