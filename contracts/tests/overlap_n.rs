//! `overlap_n` under an agreement: what is refused, whose consent it needs, whom it charges how much, and how it ends.

#[path = "common/bodies.rs"]
mod bodies;
mod common;

use common::{Net, code};
use tally_contracts::ids::{AgreementId, MemberId, SessionId};
use tally_contracts::records::*;
use tally_contracts::state::{self, MatchStatus, OverlapState, keys};
use tally_contracts::{NetworkKind, Refusal};
use tally_merkle::Hash;

const DELTA: u64 = 1 << 41;
const PARTIES: [&str; 3] = ["brand", "platform", "media"];
const SESSION: SessionId = SessionId([1; 32]);
const NONE: BudgetCap = BudgetCap {
    micro_rho: 0,
    delta: 0,
};
const COUNT: BudgetCap = BudgetCap {
    micro_rho: 125_000,
    delta: DELTA,
};
const VIEW: BudgetCap = BudgetCap {
    micro_rho: 80_000,
    delta: DELTA,
};

fn parties(net: &Net) -> Vec<MemberId> {
    let mut parties = PARTIES.map(|name| net.member(name)).to_vec();
    parties.sort();
    parties
}

fn propose(net: &mut Net, change: impl Fn(&mut ProposeAgreement)) -> Result<AgreementId, Refusal> {
    let mut terms = bodies::overlap_terms(parties(net), Some(net.member("auditor")));
    change(&mut terms);
    let record = net.record(terms, &[("brand", "admin")]);
    net.submit(&record)?;
    Ok(record.id())
}

/// Names of the parties in the order of the agreement.
fn ordered(net: &Net) -> Vec<&'static str> {
    let mut names = PARTIES.to_vec();
    names.sort_by_key(|name| net.member(name));
    names
}

/// An agreement that all have accepted, and an audience of each party.
fn ready() -> (Net, AgreementId) {
    let mut net = Net::new(NetworkKind::Live);
    let agreement = propose(&mut net, |_| {}).unwrap();
    for name in ["platform", "media", "auditor"] {
        net.by_admin(name, AcceptAgreement { agreement }).unwrap();
    }
    for (i, name) in PARTIES.iter().enumerate() {
        commit(&mut net, name, label(i));
    }
    (net, agreement)
}

fn label(i: usize) -> u8 {
    u8::try_from(10 * (i + 1)).unwrap()
}

fn commit(net: &mut Net, name: &str, label: u8) {
    let epoch = net.epoch();
    let set = bodies::audience(label, epoch);
    let body = CommitAudience {
        label: set.label,
        epoch,
        root: set.root,
        size_bucket: set.size_bucket,
        profile: Profile::plain(Form::PhoneE164),
    };
    net.by(&[name], body).unwrap();
}

fn join(
    net: &mut Net,
    agreement: AgreementId,
    session: SessionId,
    i: usize,
) -> Result<(), Refusal> {
    let audience = bodies::audience(label(i), net.epoch());
    net.by(
        &[PARTIES[i]],
        JoinOverlap {
            agreement,
            session,
            audience,
        },
    )
}

fn release(session: SessionId) -> ReleaseOverlap {
    ReleaseOverlap {
        session,
        streams: [42, 43, 44].map(|i| Hash([i; 32])).to_vec(),
    }
}

fn close(close: OverlapClose) -> CloseOverlap {
    CloseOverlap {
        session: SESSION,
        close,
    }
}

fn receipt() -> OverlapReceipt {
    let laplace = |micro_eps, bound| Noise::Laplace {
        micro_eps,
        delta: DELTA,
        bound,
    };
    OverlapReceipt {
        noise: laplace(500_000, 25),
        regions: laplace(400_000, 120),
        buckets: vec![14; 3],
        spent: COUNT,
        helper_spent: VIEW,
        ..bodies::overlap_receipt()
    }
}

fn overlap(net: &Net) -> OverlapState {
    state::overlap(&net.state, &SESSION).unwrap().unwrap()
}

/// (spent, reserved) of the owner's epoch; of the owner for each other party; of the owner for the helper.
fn budgets(net: &Net, owner: &str) -> [(BudgetCap, BudgetCap); 3] {
    let (id, epoch) = (net.member(owner), net.epoch());
    let read = |key: Vec<u8>| {
        let found = state::budget(&net.state, &key).unwrap();
        (found.spent, found.reserved)
    };
    let of = |analyst: MemberId| {
        let both = [
            keys::budget_analyst(&id, epoch, &analyst),
            keys::budget_lifetime(&id, &analyst),
        ]
        .map(read);
        assert_eq!(both[0], both[1]);
        both[0]
    };
    let others: Vec<_> = PARTIES
        .iter()
        .filter(|name| **name != owner)
        .map(|name| of(net.member(name)))
        .collect();
    assert_eq!(others[0], others[1]);
    let whole = read(keys::budget_epoch(&id, epoch));
    [whole, others[0], of(net.member("auditor"))]
}

#[test]
fn from_the_first_party_to_the_last_confirmation() {
    let (mut net, agreement) = ready();
    let both = COUNT.saturating_plus(&VIEW);
    join(&mut net, agreement, SESSION, 1).unwrap();
    assert_eq!(
        budgets(&net, "platform"),
        [(NONE, both), (NONE, COUNT), (NONE, VIEW)]
    );
    assert_eq!(budgets(&net, "brand"), [(NONE, NONE); 3]);
    // Once each, for this agreement, and not a moment too early.
    assert_eq!(code(join(&mut net, agreement, SESSION, 1)), "overlap");
    assert_eq!(code(net.by(&["auditor"], release(SESSION))), "overlap");
    join(&mut net, agreement, SESSION, 0).unwrap();
    assert!(!overlap(&net).all_joined());
    join(&mut net, agreement, SESSION, 2).unwrap();
    assert!(overlap(&net).all_joined());
    assert_eq!(
        state::agreement(&net.state, &agreement)
            .unwrap()
            .unwrap()
            .matches,
        1
    );

    // Only the helper releases, and names every list.
    assert_eq!(code(net.by(&["brand"], release(SESSION))), "match_signers");
    let mut short = release(SESSION);
    short.streams.pop();
    assert_eq!(code(net.by(&["auditor"], short)), "overlap");
    let mut zero = release(SESSION);
    zero.streams[1] = Hash([0; 32]);
    assert_eq!(code(net.by(&["auditor"], zero)), "stream_digest");
    let done = close(OverlapClose::Done(receipt()));
    assert_eq!(code(net.by(&["auditor"], done.clone())), "match_status");
    net.by(&["auditor"], release(SESSION)).unwrap();
    for name in PARTIES {
        assert_eq!(
            budgets(&net, name),
            [(both, NONE), (COUNT, NONE), (VIEW, NONE)]
        );
    }
    assert_eq!(code(net.by(&["auditor"], release(SESSION))), "match_status");

    // The receipt says what the ledger says, and is the helper's.
    assert_eq!(code(net.by(&["media"], done.clone())), "match_signers");
    let confirm = |receipt| ConfirmOverlap {
        session: SESSION,
        receipt,
    };
    assert_eq!(code(net.by(&["media"], confirm(Hash([0; 32])))), "receipt");
    for change in [
        (|r: &mut OverlapReceipt| r.noise = Noise::None) as fn(&mut OverlapReceipt),
        |r| r.regions = Noise::None,
        |r| r.buckets[2] = 13,
        |r| r.buckets.truncate(2),
        |r| r.spent.delta += 1,
        |r| r.helper_spent.micro_rho -= 1,
        |r| r.streams.swap(0, 1),
    ] {
        let mut wrong = receipt();
        change(&mut wrong);
        let wrong = close(OverlapClose::Done(wrong));
        assert_eq!(code(net.by(&["auditor"], wrong)), "receipt");
    }
    net.by(&["auditor"], done.clone()).unwrap();
    assert_eq!(code(net.by(&["auditor"], done)), "overlap");
    // What has a receipt does not fail any more; each party confirms it once.
    let failed = close(OverlapClose::Failed);
    assert_eq!(code(net.by(&["brand"], failed)), "match_status");
    let digest = receipt().digest(&SESSION);
    assert_eq!(overlap(&net).receipt, digest);
    assert_eq!(code(net.by(&["brand"], confirm(Hash([5; 32])))), "receipt");
    assert_eq!(code(net.by(&["auditor"], confirm(digest))), "match_signers");
    for name in PARTIES {
        assert_eq!(overlap(&net).status, MatchStatus::Released);
        net.by(&[name], confirm(digest)).unwrap();
        assert_ne!(code(net.by(&[name], confirm(digest))), "accepted");
    }
    assert_eq!(overlap(&net).status, MatchStatus::Done);
    // Its session is used, also for a match of two.
    assert_eq!(code(join(&mut net, agreement, SESSION, 0)), "match_status");
}

#[test]
fn what_breaks_gives_back_what_was_not_released() {
    let (mut net, agreement) = ready();
    for i in 0..2 {
        join(&mut net, agreement, SESSION, i).unwrap();
    }
    // A stranger is none here: all four members take part. Media has not joined and may end it all the same.
    net.by(&["media"], close(OverlapClose::Cancelled)).unwrap();
    assert_eq!(overlap(&net).status, MatchStatus::Cancelled);
    for name in PARTIES {
        assert_eq!(budgets(&net, name), [(NONE, NONE); 3]);
    }
    assert_eq!(code(join(&mut net, agreement, SESSION, 2)), "match_status");

    // Released, and broken: spent for good. The budget of an epoch then does not suffice for another.
    let session = SessionId([2; 32]);
    for i in 0..3 {
        join(&mut net, agreement, session, i).unwrap();
    }
    net.by(&["auditor"], release(session)).unwrap();
    net.by(
        &["auditor"],
        CloseOverlap {
            session,
            close: OverlapClose::Failed,
        },
    )
    .unwrap();
    let both = COUNT.saturating_plus(&VIEW);
    assert_eq!(budgets(&net, "brand")[0], (both, NONE));
    match join(&mut net, agreement, SessionId([3; 32]), 0) {
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
}

#[test]
fn helper_and_parties_have_to_fit_and_consent() {
    let mut net = Net::new(NetworkKind::Live);
    let helper = |id: Option<MemberId>| {
        move |t: &mut ProposeAgreement| t.overlap.iter_mut().for_each(|o| o.helper = id)
    };
    let media = net.member("media");
    assert_eq!(code(propose(&mut net, helper(None))), "overlap");
    assert_eq!(code(propose(&mut net, helper(Some(media)))), "overlap");
    assert_eq!(
        code(propose(&mut net, helper(Some(MemberId([9; 16]))))),
        "unknown_member"
    );
    let two = |t: &mut ProposeAgreement| t.parties.retain(|m| *m != media);
    assert_eq!(code(propose(&mut net, two)), "overlap");
    let dh = |t: &mut ProposeAgreement| t.suite = Suite::DhRistrettoV1;
    assert_eq!(code(propose(&mut net, dh)), "suite");
    // Its suite computes nothing else.
    let more = |t: &mut ProposeAgreement| t.computations.insert(0, Computation::Cardinality);
    assert_eq!(code(propose(&mut net, more)), "suite");
    let half = |t: &mut ProposeAgreement| {
        t.overlap.iter_mut().for_each(|o| o.regions = Noise::None);
    };
    assert_eq!(code(propose(&mut net, half)), "overlap");
    let wide = |t: &mut ProposeAgreement| {
        if let Some(o) = &mut t.overlap {
            o.regions = Noise::Laplace {
                micro_eps: 1,
                delta: 1,
                bound: (1 << 20) + 1,
            };
        }
    };
    assert_eq!(code(propose(&mut net, wide)), "overlap");
    // A cap that pays for the count and not for the helper's view.
    let poor = |t: &mut ProposeAgreement| t.epoch_cap.micro_rho = 204_999;
    assert_eq!(code(propose(&mut net, poor)), "terms");
    let exact = |t: &mut ProposeAgreement| {
        half(t);
        t.noise = Noise::None;
    };
    assert_eq!(code(propose(&mut net, exact)), "noise");
    assert!(propose(&mut Net::new(NetworkKind::Test), exact).is_ok());

    // Without the helper's consent it is not in force; nor can two of its parties match under it.
    let agreement = propose(&mut net, |_| {}).unwrap();
    for (i, name) in PARTIES.iter().enumerate() {
        commit(&mut net, name, label(i));
    }
    for name in ["platform", "media"] {
        assert_eq!(
            code(join(&mut net, agreement, SESSION, 0)),
            "agreement_status"
        );
        net.by_admin(name, AcceptAgreement { agreement }).unwrap();
    }
    assert_eq!(
        code(join(&mut net, agreement, SESSION, 0)),
        "agreement_status"
    );
    net.by_admin("auditor", AcceptAgreement { agreement })
        .unwrap();
    join(&mut net, agreement, SESSION, 0).unwrap();
    let names = ordered(&net);
    let epoch = net.epoch();
    let open = OpenMatch {
        agreement,
        computation: Computation::OverlapN,
        session: SessionId([4; 32]),
        initiator: net.member(names[0]),
        responder: net.member(names[1]),
        initiator_audience: bodies::audience(10, epoch),
        responder_audience: bodies::audience(20, epoch),
    };
    assert_eq!(code(net.by(&[names[0], names[1]], open)), "overlap");
    // The helper brings nothing, and ends the agreement as any party may.
    let brought = JoinOverlap {
        agreement,
        session: SESSION,
        audience: bodies::audience(10, epoch),
    };
    assert_eq!(code(net.by(&["auditor"], brought)), "not_a_party");
    net.by_admin("auditor", RevokeAgreement { agreement })
        .unwrap();
    assert_eq!(
        code(join(&mut net, agreement, SESSION, 1)),
        "agreement_status"
    );
}
