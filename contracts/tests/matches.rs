//! Agreements, audiences, matches and the budget.

#[path = "common/bodies.rs"]
mod bodies;
mod common;

use common::{EPOCH_MS, Net, code};
use tally_contracts::ids::{AgreementId, AudienceLabel, SessionId};
use tally_contracts::records::*;
use tally_contracts::state::{self, AgreementStatus, Budget, MatchStatus, keys};
use tally_contracts::{NetworkKind, Refusal};
use tally_merkle::Hash;

const CHARGE: u64 = 125_000; // eps 0.5: 0.5^2 / 2
const DELTA: u64 = 1 << 41;

fn terms(net: &Net, change: impl Fn(&mut ProposeAgreement)) -> ProposeAgreement {
    let mut parties = vec![net.member("brand"), net.member("media")];
    parties.sort();
    let mut terms = bodies::terms(parties);
    change(&mut terms);
    terms
}

fn propose(net: &mut Net, body: ProposeAgreement) -> Result<AgreementId, Refusal> {
    let record = net.record(body, &[("brand", "admin")]);
    net.submit(&record)?;
    Ok(record.id())
}

fn agreed(net: &mut Net, change: impl Fn(&mut ProposeAgreement)) -> AgreementId {
    let body = terms(net, change);
    let agreement = propose(net, body).unwrap();
    net.by_admin("media", AcceptAgreement { agreement })
        .unwrap();
    agreement
}

fn commit(net: &mut Net, name: &str, audience: &AudienceRef) -> Result<(), Refusal> {
    net.by(
        &[name],
        CommitAudience {
            label: audience.label,
            epoch: audience.epoch,
            root: audience.root,
            size_bucket: audience.size_bucket,
            profile: Profile::plain(Form::PhoneE164),
        },
    )
}

/// An agreement, an audience of each, and the body that opens a match on them.
fn ready(change: impl Fn(&mut ProposeAgreement)) -> (Net, OpenMatch) {
    let mut net = Net::new(NetworkKind::Live);
    let agreement = agreed(&mut net, change);
    let epoch = net.epoch();
    let (a, b) = (bodies::audience(10, epoch), bodies::audience(20, epoch));
    commit(&mut net, "brand", &a).unwrap();
    commit(&mut net, "media", &b).unwrap();
    let open = OpenMatch {
        agreement,
        computation: Computation::Cardinality,
        session: SessionId([1; 32]),
        initiator: net.member("brand"),
        responder: net.member("media"),
        initiator_audience: a,
        responder_audience: b,
    };
    (net, open)
}

fn opened(net: &mut Net, open: &OpenMatch, session: u8) -> Result<SessionId, Refusal> {
    let body = OpenMatch {
        session: SessionId([session; 32]),
        ..open.clone()
    };
    net.by(&["brand", "media"], body)?;
    Ok(SessionId([session; 32]))
}

fn release(session: SessionId) -> ReleaseMatch {
    ReleaseMatch {
        session,
        initiator_stream: Hash([42; 32]),
    }
}

fn close(session: SessionId, close: Close) -> CloseMatch {
    CloseMatch { session, close }
}

fn receipt(open: &OpenMatch) -> MatchReceipt {
    MatchReceipt {
        computation: open.computation,
        noise: Noise::Laplace {
            micro_eps: 500_000,
            delta: DELTA,
            bound: 25,
        },
        initiator_bucket: 14,
        responder_bucket: 14,
        spent: BudgetCap {
            micro_rho: CHARGE,
            delta: DELTA,
        },
        count_spent: BudgetCap::default(),
        result: Hash([1; 32]),
        initiator_stream: Hash([42; 32]),
        responder_stream: Hash([43; 32]),
    }
}

/// (spent, reserved) micro-rho of every counter of both owners, which must agree with each other.
fn budget(net: &Net) -> (u64, u64) {
    let (brand, media, epoch) = (net.member("brand"), net.member("media"), net.epoch());
    let all: Vec<Budget> = [(brand, media), (media, brand)]
        .iter()
        .flat_map(|(owner, analyst)| {
            [
                keys::budget_epoch(owner, epoch),
                keys::budget_analyst(owner, epoch, analyst),
                keys::budget_lifetime(owner, analyst),
            ]
        })
        .map(|key| state::budget(&net.state, &key).unwrap())
        .collect();
    assert!(all.iter().all(|b| *b == all[0]), "{all:?}");
    assert_eq!(all[0].spent.delta, all[0].spent.micro_rho / CHARGE * DELTA);
    (all[0].spent.micro_rho, all[0].reserved.micro_rho)
}

fn status(net: &Net, session: SessionId) -> MatchStatus {
    state::match_state(&net.state, &session)
        .unwrap()
        .unwrap()
        .status
}

#[test]
fn agreement_needs_every_party() {
    let mut net = Net::new(NetworkKind::Live);
    let mut parties = ["brand", "media", "platform"]
        .map(|n| net.member(n))
        .to_vec();
    parties.sort();
    let body = bodies::terms(parties);
    let agreement = propose(&mut net, body).unwrap();
    let accept = AcceptAgreement { agreement };
    let find = |net: &Net| {
        state::agreement(&net.state, &agreement)
            .unwrap()
            .unwrap()
            .status
    };
    assert_eq!(
        code(net.by_admin("brand", accept.clone())),
        "already_accepted"
    );
    assert_eq!(code(net.by_admin("auditor", accept.clone())), "not_a_party");
    assert_eq!(code(net.by(&["media"], accept.clone())), "key_use");
    net.by_admin("media", accept.clone()).unwrap();
    assert_eq!(find(&net), AgreementStatus::Proposed);
    net.by_admin("platform", accept.clone()).unwrap();
    assert_eq!(find(&net), AgreementStatus::Active);
    assert_eq!(code(net.by_admin("media", accept)), "agreement_status");
    let revoke = RevokeAgreement { agreement };
    assert_eq!(code(net.by_admin("auditor", revoke.clone())), "not_a_party");
    net.by_admin("platform", revoke.clone()).unwrap();
    assert_eq!(find(&net), AgreementStatus::Revoked);
    assert_eq!(code(net.by_admin("brand", revoke)), "agreement_status");
    let unknown = AcceptAgreement {
        agreement: tally_contracts::ids::RecordId([1; 32]),
    };
    assert_eq!(code(net.by_admin("brand", unknown)), "unknown_agreement");
}

#[test]
fn terms_that_are_refused() {
    let mut net = Net::new(NetworkKind::Live);
    let now = net.ctx.block_time_ms;
    let auditor = net.member("auditor");
    let media = net.member("media");
    type Change = Box<dyn Fn(&mut ProposeAgreement)>;
    let cases: Vec<(&str, Change)> = vec![
        ("terms", Box::new(|t| t.min_set_size = 0)),
        ("terms", Box::new(|t| t.max_set_size = 99)),
        ("terms", Box::new(|t| t.max_audiences = 0)),
        ("terms", Box::new(|t| t.max_matches = 0)),
        ("terms", Box::new(move |t| t.expires_ms = now)),
        ("terms", Box::new(|t| t.epoch_cap.delta = (1 << 60) + 1)),
        ("terms", Box::new(|t| t.epoch_cap.micro_rho = CHARGE - 1)),
        ("terms", Box::new(|t| t.lifetime_cap.delta = DELTA - 1)),
        ("noise", Box::new(|t| t.noise = Noise::None)),
        ("suite", Box::new(|t| t.suite = Suite::VoleRr22V1)),
        ("suite", Box::new(|t| t.suite = Suite::VoleRr22MaliciousV1)),
        (
            "suite",
            Box::new(|t| t.computations.push(Computation::Lift)),
        ),
        // Without what is to be summed up.
        (
            "malformed",
            Box::new(|t| t.computations.push(Computation::JoinSum)),
        ),
        (
            "not_a_party",
            Box::new(move |t| {
                t.parties = vec![auditor, media];
                t.parties.sort();
            }),
        ),
        ("malformed", Box::new(|t| t.parties.reverse())),
        (
            "malformed",
            Box::new(|t| {
                t.parties.pop();
            }),
        ),
        ("malformed", Box::new(|t| t.computations.clear())),
        ("malformed", Box::new(|t| t.purpose = " ".into())),
    ];
    for (expected, change) in cases {
        let body = terms(&net, change);
        assert_eq!(code(propose(&mut net, body)), expected);
    }
    // The reserved suite is not allowed yet, for whatever computation.
    let body = terms(&net, |t| {
        t.computations = vec![Computation::List];
        t.suite = Suite::CircuitV1;
    });
    assert_eq!(code(propose(&mut net, body)), "suite");
    // The faster suites serve a list and nothing beside it.
    for suite in [Suite::VoleRr22V1, Suite::VoleRr22MaliciousV1] {
        let body = terms(&net, |t| {
            t.computations = vec![Computation::List];
            t.suite = suite;
        });
        propose(&mut net, body).unwrap();
    }
    // A list needs no noise, also in a live network.
    let body = terms(&net, |t| {
        t.computations = vec![Computation::List];
        t.noise = Noise::None;
    });
    propose(&mut net, body).unwrap();
    let mut test = Net::new(NetworkKind::Test);
    let body = terms(&test, |t| t.noise = Noise::None);
    propose(&mut test, body).unwrap();
}

#[test]
fn match_to_its_receipt() {
    let (mut net, open) = ready(|_| ());
    let session = opened(&mut net, &open, 1).unwrap();
    assert_eq!(budget(&net), (0, CHARGE));
    let done = close(session, Close::Done(receipt(&open)));
    assert_eq!(
        code(net.by(&["brand", "media"], done.clone())),
        "match_status"
    );
    assert_eq!(code(net.by(&["brand"], release(session))), "match_signers");
    net.by(&["media"], release(session)).unwrap();
    assert_eq!(budget(&net), (CHARGE, 0));
    assert_eq!(code(net.by(&["media"], release(session))), "match_status");
    assert_eq!(code(net.by(&["brand"], done.clone())), "signer_count");
    assert_eq!(
        code(net.by(&["media", "brand"], done.clone())),
        "match_signers"
    );
    type Change = fn(&mut MatchReceipt);
    let lies: [Change; 6] = [
        |r| r.computation = Computation::List,
        |r| r.noise = Noise::None,
        |r| r.initiator_bucket = 13,
        |r| r.responder_bucket = 15,
        |r| r.spent.micro_rho -= 1,
        |r| r.initiator_stream = Hash([1; 32]),
    ];
    for lie in lies {
        let mut bad = receipt(&open);
        lie(&mut bad);
        assert_eq!(
            code(net.by(&["brand", "media"], close(session, Close::Done(bad)))),
            "receipt"
        );
    }
    net.by(&["brand", "media"], done.clone()).unwrap();
    assert_eq!(status(&net, session), MatchStatus::Done);
    assert_eq!(code(net.by(&["brand", "media"], done)), "match_status");
    assert_eq!(
        code(net.by(&["brand"], close(session, Close::Failed))),
        "match_status"
    );
    assert_eq!(code(opened(&mut net, &open, 1)), "session_used");
}

#[test]
fn budget_returns_only_if_nothing_was_released() {
    let (mut net, open) = ready(|_| ());
    let session = opened(&mut net, &open, 1).unwrap();
    assert_eq!(
        code(net.by(&["auditor"], close(session, Close::Cancelled))),
        "match_signers"
    );
    net.by(&["media"], close(session, Close::Cancelled))
        .unwrap();
    assert_eq!(budget(&net), (0, 0));
    assert_eq!(status(&net, session), MatchStatus::Cancelled);
    assert_eq!(code(net.by(&["media"], release(session))), "match_status");
    let session = opened(&mut net, &open, 2).unwrap();
    net.by(&["media"], release(session)).unwrap();
    net.by(&["brand"], close(session, Close::Failed)).unwrap();
    assert_eq!(budget(&net), (CHARGE, 0));
    assert_eq!(status(&net, session), MatchStatus::Failed);
}

#[test]
fn budget_runs_out_and_says_what_is_left() {
    // The epoch's cap of 300,000 holds two charges of 125,000, reserved or spent.
    let (mut net, open) = ready(|_| ());
    let session = opened(&mut net, &open, 1).unwrap();
    net.by(&["media"], release(session)).unwrap();
    let second = opened(&mut net, &open, 2).unwrap();
    assert_eq!(
        opened(&mut net, &open, 3),
        Err(Refusal::Budget {
            scope: "epoch",
            owner: net.member("brand"),
            needed: BudgetCap {
                micro_rho: CHARGE,
                delta: DELTA
            },
            left: BudgetCap {
                micro_rho: 50_000,
                delta: (1 << 45) - 2 * DELTA
            },
        })
    );
    net.by(&["brand"], close(second, Close::Cancelled)).unwrap();
    opened(&mut net, &open, 4).unwrap();
    // Delta runs out by itself too.
    let (mut net, open) = ready(|t| t.epoch_cap.delta = 2 * DELTA - 1);
    opened(&mut net, &open, 1).unwrap();
    assert_eq!(code(opened(&mut net, &open, 2)), "budget");
    // A new epoch starts anew, but not the lifetime of an analyst.
    let (mut net, open) = ready(|t| t.lifetime_cap.micro_rho = CHARGE);
    let session = opened(&mut net, &open, 1).unwrap();
    net.by(&["media"], release(session)).unwrap();
    net.ctx.block_time_ms += 2 * EPOCH_MS;
    let epoch = net.epoch();
    let (a, b) = (bodies::audience(10, epoch), bodies::audience(20, epoch));
    commit(&mut net, "brand", &a).unwrap();
    commit(&mut net, "media", &b).unwrap();
    let open = OpenMatch {
        initiator_audience: a,
        responder_audience: b,
        ..open
    };
    assert!(matches!(
        opened(&mut net, &open, 2),
        Err(Refusal::Budget {
            scope: "lifetime",
            ..
        })
    ));
}

#[test]
fn what_may_not_be_opened() {
    let (mut net, open) = ready(|t| t.computations = vec![Computation::Cardinality]);
    let mut refused = |change: &dyn Fn(&mut OpenMatch)| {
        let mut body = open.clone();
        change(&mut body);
        code(net.by(&["brand", "media"], body))
    };
    assert_eq!(
        refused(&|o| o.computation = Computation::List),
        "computation"
    );
    assert_eq!(
        refused(&|o| o.computation = Computation::Lift),
        "computation"
    );
    assert_eq!(refused(&|o| o.agreement.0[0] ^= 1), "unknown_agreement");
    assert_eq!(
        refused(&|o| o.initiator_audience.root = Hash([99; 32])),
        "audience_mismatch"
    );
    assert_eq!(
        refused(&|o| o.responder_audience.size_bucket = 13),
        "audience_mismatch"
    );
    assert_eq!(
        refused(&|o| o.initiator_audience.label = AudienceLabel([99; 32])),
        "unknown_audience"
    );
    assert_eq!(refused(&|o| o.initiator_audience.epoch += 1), "epoch");
    assert_eq!(
        refused(&|o| o.initiator_audience.epoch -= 1),
        "unknown_audience"
    );
    assert_eq!(refused(&|o| o.initiator_audience.epoch -= 2), "epoch");
    assert_eq!(
        refused(&|o| std::mem::swap(&mut o.initiator, &mut o.responder)),
        "match_signers"
    );
    assert_eq!(refused(&|o| o.responder = o.initiator), "match_signers");
    assert_eq!(code(net.by(&["brand"], open.clone())), "signer_count");
    let outsider = OpenMatch {
        responder: net.member("auditor"),
        ..open.clone()
    };
    assert_eq!(code(net.by(&["brand", "auditor"], outsider)), "not_a_party");
    // Nothing of this used anything up.
    assert_eq!(budget(&net), (0, 0));
    opened(&mut net, &open, 1).unwrap();
}

#[test]
fn revoked_or_ended_agreements_release_nothing() {
    let (mut net, open) = ready(|_| ());
    let session = opened(&mut net, &open, 1).unwrap();
    let revoke = RevokeAgreement {
        agreement: open.agreement,
    };
    net.by_admin("media", revoke).unwrap();
    assert_eq!(
        code(net.by(&["media"], release(session))),
        "agreement_status"
    );
    assert_eq!(code(opened(&mut net, &open, 2)), "agreement_status");
    net.by(&["media"], close(session, Close::Cancelled))
        .unwrap();
    assert_eq!(budget(&net), (0, 0));

    let end = common::START_MS + EPOCH_MS / 2 + 10;
    let (mut net, open) = ready(|t| t.expires_ms = end);
    net.ctx.block_time_ms = end - 1;
    let session = opened(&mut net, &open, 1).unwrap();
    net.ctx.block_time_ms = end;
    assert_eq!(
        code(net.by(&["media"], release(session))),
        "agreement_expired"
    );
    assert_eq!(code(opened(&mut net, &open, 2)), "agreement_expired");

    let mut net = Net::new(NetworkKind::Live);
    let body = terms(&net, |_| ());
    let agreement = propose(&mut net, body).unwrap();
    let open = OpenMatch {
        agreement,
        initiator: net.member("brand"),
        responder: net.member("media"),
        ..open
    };
    assert_eq!(code(opened(&mut net, &open, 1)), "agreement_status");
}

#[test]
fn audiences_are_committed_once_and_in_their_epoch() {
    let (mut net, open) = ready(|_| ());
    let epoch = net.epoch();
    let again = AudienceRef {
        root: Hash([77; 32]),
        ..open.initiator_audience.clone()
    };
    assert_eq!(
        code(commit(&mut net, "brand", &again)),
        "audience_committed"
    );
    for wrong in [epoch - 1, epoch + 1] {
        assert_eq!(
            code(commit(&mut net, "brand", &bodies::audience(1, wrong))),
            "epoch"
        );
    }
    // One epoch later the audience may still be matched, and costs its own epoch; two later no more.
    net.ctx.block_time_ms += EPOCH_MS;
    let session = opened(&mut net, &open, 1).unwrap();
    net.by(&["media"], release(session)).unwrap();
    let key = keys::budget_epoch(&net.member("brand"), epoch);
    assert_eq!(
        state::budget(&net.state, &key).unwrap().spent.micro_rho,
        CHARGE
    );
    net.ctx.block_time_ms += EPOCH_MS;
    assert_eq!(code(opened(&mut net, &open, 2)), "epoch");
}

#[test]
fn limits_of_an_agreement() {
    let (mut net, open) = ready(|t| {
        t.max_matches = 3;
        t.max_audiences = 2;
        t.epoch_cap.micro_rho = u64::MAX;
        t.lifetime_cap.micro_rho = u64::MAX;
    });
    let epoch = net.epoch();
    let with = |label| OpenMatch {
        initiator_audience: bodies::audience(label, epoch),
        ..open.clone()
    };
    for label in [50, 60] {
        commit(&mut net, "brand", &bodies::audience(label, epoch)).unwrap();
    }
    opened(&mut net, &open, 1).unwrap();
    opened(&mut net, &with(50), 2).unwrap();
    assert_eq!(code(opened(&mut net, &with(60), 3)), "audience_limit");
    opened(&mut net, &with(50), 4).unwrap();
    assert_eq!(code(opened(&mut net, &open, 5)), "match_limit");
    // Sets that are certainly too small or too large; 2^14 is the bucket of 8,193 to 16,384.
    for (min, max, expected) in [
        (16_384, 1 << 20, "accepted"),
        (16_385, 1 << 20, "set_size"),
        (1, 8_193, "accepted"),
        (1, 8_192, "set_size"),
    ] {
        let (mut net, open) = ready(|t| {
            t.min_set_size = min;
            t.max_set_size = max;
        });
        assert_eq!(code(opened(&mut net, &open, 1)), expected);
    }
    let (mut net, open) = ready(|t| t.profile = Profile::plain(Form::EmailUid2));
    assert_eq!(code(opened(&mut net, &open, 1)), "profile");
}

#[test]
fn a_list_costs_nothing_and_is_marked() {
    let (mut net, open) = ready(|_| ());
    let list = OpenMatch {
        computation: Computation::List,
        ..open
    };
    let session = opened(&mut net, &list, 1).unwrap();
    let (brand, media, epoch) = (net.member("brand"), net.member("media"), net.epoch());
    assert!(!state::disclosed(&net.state, &media, epoch, &brand).unwrap());
    net.by(&["media"], release(session)).unwrap();
    assert!(state::disclosed(&net.state, &media, epoch, &brand).unwrap());
    assert!(!state::disclosed(&net.state, &brand, epoch, &media).unwrap());
    assert_eq!(budget(&net), (0, 0));
}

#[test]
fn buckets_and_charges() {
    for (size, bucket) in [
        (0, 0),
        (1, 0),
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 3),
        (1 << 20, 20),
        ((1 << 20) + 1, 21),
        (u64::MAX, 64),
    ] {
        assert_eq!(size_bucket(size), bucket, "{size}");
    }
    let charge = |micro_eps| {
        Noise::Laplace {
            micro_eps,
            delta: 1,
            bound: 1,
        }
        .charge()
        .micro_rho
    };
    assert_eq!(charge(500_000), 125_000);
    assert_eq!(charge(1), 1); // rounded up
    assert_eq!(charge(1_000_001), 500_002);
    assert_eq!(charge(100_000_000), 5_000_000_000);
}
