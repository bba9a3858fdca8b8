//! What a peer may send: anything. Each case yields a typed error and nothing else, and nothing keyed leaves too early.

mod common;

use common::*;
use proptest::prelude::*;
use tally_psi::messages::Message;
use tally_psi::*;

const NONE: Noise = Noise::NoneInTestNetwork;

/// Runs a machine until it waits for a frame; what it sent.
fn settle(m: &mut dyn Machine) -> Result<Vec<Vec<u8>>, Error> {
    let mut sent = Vec::new();
    loop {
        match m.poll()? {
            Output::Send(f) => sent.push(f),
            Output::Progress(_) => {}
            Output::NeedFrame | Output::Done(_) => return Ok(sent),
            Output::NeedSeal(_) => m.seal(Vec::new())?,
            Output::CheckSeal { .. } => m.accept_seal()?,
            Output::NeedRelease(_) => m.release()?,
        }
    }
}

/// Feeds frames to a machine up to its first error.
fn feed(m: &mut dyn Machine, frames: &[Vec<u8>]) -> Result<(), Error> {
    settle(m)?;
    for frame in frames {
        m.input(frame)?;
        settle(m)?;
    }
    match m.poll()? {
        Output::Done(_) => Ok(()),
        _ => Err(m.input_end()),
    }
}

/// The frames of an honest run of one side, for three values each, two in common.
fn honest(computation: Computation, side: usize) -> Vec<Vec<u8>> {
    let (mut i, mut r) = fresh(computation);
    let (_, t) = machine::run_in_memory(&mut i, &mut r).unwrap();
    t.frames
        .into_iter()
        .filter(|(s, _)| *s == side)
        .map(|(_, f)| f)
        .collect()
}

fn fresh(computation: Computation) -> (Initiator, Responder) {
    pair(computation, NONE, &["a", "b", "c"], &["b", "c", "d"], 5)
}

fn with(frames: &[Vec<u8>], at: usize, message: &Message) -> Vec<Vec<u8>> {
    let mut frames = frames.to_vec();
    frames[at] = message.encode().unwrap();
    frames
}

fn points_of(frame: &[u8]) -> Vec<Row> {
    match Message::decode(frame).unwrap() {
        Message::Points(p) => p,
        other => panic!("{} is not points", other.name()),
    }
}

#[test]
fn honest_frames_replayed_to_the_same_seeds_are_accepted() {
    for computation in [Computation::List, Computation::Cardinality] {
        let (mut i, mut r) = fresh(computation);
        assert_eq!(feed(&mut i, &honest(computation, 1)), Ok(()));
        assert_eq!(feed(&mut r, &honest(computation, 0)), Ok(()));
    }
}

#[test]
fn malformed_points_are_refused_by_both_roles() {
    let mut p_plus_1 = [0xff; 32];
    (p_plus_1[0], p_plus_1[31]) = (0xee, 0x7f);
    let mut one = [0; 32];
    one[0] = 1;
    for computation in [Computation::List, Computation::Cardinality] {
        for side in 0..2 {
            let frames = honest(computation, side);
            // First place, so that no order is broken before: 0 sorts first, 1 after it.
            for (bad, at) in [([0; 32], 0), (one, 0), ([0xff; 32], 2), (p_plus_1, 2)] {
                let mut points = points_of(&frames[1]);
                points[at] = bad;
                if computation == Computation::Cardinality || side == 1 {
                    points.sort_unstable();
                }
                let frames = with(&frames, 1, &Message::Points(points));
                let (mut i, mut r) = fresh(computation);
                let m: &mut dyn Machine = if side == 0 { &mut r } else { &mut i };
                assert!(
                    matches!(feed(m, &frames), Err(Error::Point { .. })),
                    "{bad:02x?}"
                );
            }
        }
    }
}

#[test]
fn repeated_and_unsorted_elements_are_refused() {
    for computation in [Computation::List, Computation::Cardinality] {
        for side in 0..2 {
            let frames = honest(computation, side);
            let mut points = points_of(&frames[1]);
            points[1] = points[0];
            let twice = with(&frames, 1, &Message::Points(points.clone()));
            let (mut i, mut r) = fresh(computation);
            let m: &mut dyn Machine = if side == 0 { &mut r } else { &mut i };
            let got = feed(m, &twice);
            if computation == Computation::List && side == 0 {
                // The digest is checked before the order-keeping list is searched for repeats.
                assert!(matches!(got, Err(Error::Digest { .. })));
                continue;
            }
            assert!(matches!(got, Err(Error::Duplicate { index: 1 })));
            points = points_of(&frames[1]);
            points.reverse();
            let reversed = with(&frames, 1, &Message::Points(points));
            let (mut i, mut r) = fresh(computation);
            let m: &mut dyn Machine = if side == 0 { &mut r } else { &mut i };
            assert!(matches!(feed(m, &reversed), Err(Error::Unsorted { .. })));
        }
    }
}

#[test]
fn a_repeated_element_of_a_list_with_a_right_digest_is_refused() {
    use sha2::{Digest, Sha256};
    let mut frames = honest(Computation::List, 0);
    let mut points = points_of(&frames[1]);
    points[2] = points[0];
    frames[1] = Message::Points(points).encode().unwrap();
    frames[2] = Message::End {
        points: 3,
        tags: 0,
        digest: Sha256::digest(&frames[1]).into(),
        seal: vec![],
    }
    .encode()
    .unwrap();
    let (_, mut r) = fresh(Computation::List);
    assert!(matches!(
        feed(&mut r, &frames),
        Err(Error::Duplicate { .. })
    ));
}

#[test]
fn counts_are_exact() {
    for computation in [Computation::List, Computation::Cardinality] {
        // A count shows public sizes, filled up; a list its own.
        let n = match computation {
            Computation::Cardinality => 8,
            _ => 3,
        };
        let due = |fed: Result<(), Error>, here: Option<u64>| {
            let Err(Error::Count {
                expected, found, ..
            }) = fed
            else {
                panic!("{fed:?}");
            };
            assert_eq!(expected, n);
            assert!(here.is_none_or(|h| h == found), "{found}");
        };
        let frames = honest(computation, 0);
        // Another claim than the signed one.
        let Message::Hello(hello) = Message::decode(&frames[0]).unwrap() else {
            panic!("no hello");
        };
        for count in [0, n - 1, n + 1, 16, MAX_COUNT] {
            let claim = Message::Hello(messages::Hello {
                count,
                ..hello.clone()
            });
            let (_, mut r) = fresh(computation);
            due(feed(&mut r, &with(&frames, 0, &claim)), Some(count));
        }
        // Fewer, then more than claimed.
        let points = points_of(&frames[1]);
        let (_, mut r) = fresh(computation);
        let fewer = Message::Points(points[1..].to_vec());
        due(feed(&mut r, &with(&frames, 1, &fewer)), Some(n - 1));
        let mut more = points;
        more.push([0x7e; 32]);
        let (_, mut r) = fresh(computation);
        due(
            feed(&mut r, &with(&frames, 1, &Message::Points(more))),
            Some(n + 1),
        );
        // The responder's tags: one short, one over.
        let frames = honest(computation, 1);
        let Message::Tags(tags) = Message::decode(&frames[2]).unwrap() else {
            panic!("no tags");
        };
        let len = tags.len() / usize::try_from(n).unwrap();
        for bytes in [
            tags[len..].to_vec(),
            [&tags[..], &[0xff; 16][..len]].concat(),
        ] {
            let (mut i, _) = fresh(computation);
            due(feed(&mut i, &with(&frames, 2, &Message::Tags(bytes))), None);
        }
        let (mut i, _) = fresh(computation);
        assert!(matches!(
            feed(
                &mut i,
                &with(&frames, 2, &Message::Tags(tags[1..].to_vec()))
            ),
            Err(Error::Invalid { .. })
        ));
    }
}

#[test]
fn caps_bound_what_may_be_claimed() {
    let cap = |cap| {
        let mut p = params(Computation::List, NONE, 0);
        p.peer = PeerCount::AtMost(cap);
        Responder::new(p, set(&["b"]), seeds(1), sorters()).unwrap()
    };
    let frames = honest(Computation::List, 0);
    assert!(feed(&mut cap(3), &frames).is_ok());
    assert!(matches!(
        feed(&mut cap(2), &frames),
        Err(Error::TooLong {
            found: 3,
            max: 2,
            ..
        })
    ));
}

#[test]
fn a_stream_that_ends_early_is_an_error_at_every_frame() {
    for computation in [Computation::List, Computation::Cardinality] {
        for side in 0..2 {
            let frames = honest(computation, side);
            for cut in 0..frames.len() {
                let (mut i, mut r) = fresh(computation);
                let m: &mut dyn Machine = if side == 0 { &mut r } else { &mut i };
                assert!(matches!(
                    feed(m, &frames[..cut]),
                    Err(Error::EarlyEnd { .. })
                ));
            }
        }
    }
}

#[test]
fn other_parameters_are_refused_by_name() {
    let frames = honest(Computation::Cardinality, 0);
    let Message::Hello(hello) = Message::decode(&frames[0]).unwrap() else {
        panic!("no hello");
    };
    let noise = Noise::Laplace(plan_bound(500_000, 6, 1).unwrap());
    for (what, other) in [
        (
            "role",
            messages::Hello {
                role: messages::Role::Responder,
                ..hello.clone()
            },
        ),
        (
            "computation",
            messages::Hello {
                computation: Computation::List,
                ..hello.clone()
            },
        ),
        (
            "noise",
            messages::Hello {
                noise,
                ..hello.clone()
            },
        ),
        (
            "context",
            messages::Hello {
                context: [0; 32],
                ..hello
            },
        ),
    ] {
        let (_, mut r) = fresh(Computation::Cardinality);
        let got = feed(&mut r, &with(&frames, 0, &Message::Hello(other)));
        assert_eq!(got, Err(Error::Mismatch { what }));
    }
}

#[test]
fn nothing_keyed_leaves_before_the_release() {
    for computation in [Computation::List, Computation::Cardinality] {
        let frames = honest(computation, 0);
        let (_, mut r) = fresh(computation);
        let mut sent = Vec::new();
        let mut inbox = frames.iter();
        loop {
            match r.poll().unwrap() {
                Output::Send(f) => sent.push(f),
                Output::Progress(_) => {}
                Output::NeedFrame => {
                    assert!(matches!(r.release(), Err(Error::State { .. })));
                    assert!(matches!(r.seal(vec![]), Err(Error::State { .. })));
                    r.input(inbox.next().unwrap()).unwrap();
                }
                Output::CheckSeal { statement, .. } => {
                    assert_eq!(statement.stage, Stage::InitiatorEnd);
                    assert!(matches!(r.release(), Err(Error::State { .. })));
                    r.accept_seal().unwrap();
                }
                Output::NeedRelease(statement) => {
                    // Asked again, it repeats itself.
                    assert_eq!(r.poll().unwrap(), Output::NeedRelease(statement));
                    break;
                }
                Output::NeedSeal(_) | Output::Done(_) => panic!("past the gate"),
            }
        }
        assert_eq!(sent.len(), 1, "the hello alone");
        assert_eq!(sent[0][0], 1);
        r.release().unwrap();
        assert!(settle(&mut r).unwrap().len() >= 3);
    }
}

#[test]
fn an_abort_reaches_the_peer_with_its_reason() {
    let (mut i, _) = fresh(Computation::List);
    settle(&mut i).unwrap();
    let error = Error::Count {
        what: "claimed elements",
        expected: 2,
        found: 3,
    };
    assert_eq!(
        i.input(&messages::abort_frame(&error)),
        Err(Error::PeerAborted {
            code: 4,
            reason: "claimed elements: expected 2, found 3".into()
        })
    );
    // A failed machine stays failed.
    assert!(matches!(i.poll(), Err(Error::State { .. })));
    assert!(i.input(&honest(Computation::List, 1)[0]).is_err());
}

#[test]
fn a_result_of_the_wrong_kind_is_refused() {
    for (computation, published) in [
        (Computation::List, Some(1)),
        (Computation::Cardinality, None),
    ] {
        let frames = honest(computation, 0);
        let at = frames.len() - 1;
        let frames = with(
            &frames,
            at,
            &Message::Result {
                published,
                seal: vec![],
            },
        );
        let (_, mut r) = fresh(computation);
        assert!(matches!(feed(&mut r, &frames), Err(Error::Invalid { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// A valid transcript with bytes changed, frames dropped, doubled or swapped: an error, or the very same end.
    #[test]
    fn mutated_transcripts_never_panic(
        list: bool,
        side in 0_usize..2,
        kind in 0_u8..5,
        frame in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let computation = if list { Computation::List } else { Computation::Cardinality };
        let mut frames = honest(computation, side);
        let (at, to) = (frame.index(frames.len()), other.index(frames.len()));
        match kind {
            0 => { frames.remove(at); }
            1 => { let f = frames[at].clone(); frames.insert(to, f); }
            2 => frames.swap(at, to),
            3 => { let n = byte.index(frames[at].len()); frames[at].truncate(n); }
            _ => { let n = byte.index(frames[at].len()); frames[at][n] ^= flip; }
        }
        let unchanged = frames == honest(computation, side);
        let (mut i, mut r) = fresh(computation);
        let m: &mut dyn Machine = if side == 0 { &mut r } else { &mut i };
        let got = feed(m, &frames);
        // The result's value is the initiator's word: its seal, which is empty here, is what protects it.
        let word = side == 0 && kind == 4 && frames[at].first() == Some(&5);
        prop_assert!(unchanged || got.is_err() || word, "accepted: kind {kind}, frame {at}");
    }

    #[test]
    fn any_bytes_are_refused(side in 0_usize..2, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (mut i, mut r) = fresh(Computation::Cardinality);
        let m: &mut dyn Machine = if side == 0 { &mut r } else { &mut i };
        prop_assert!(feed(m, &[bytes]).is_err());
    }
}
