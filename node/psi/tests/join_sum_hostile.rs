//! What the peer of a private sum may send: anything. Each case yields a typed error and nothing else, and nothing keyed leaves the
//! value side before the release.

mod sum_common;

use proptest::prelude::*;
use sum_common::*;
use tally_psi::messages::Message;
use tally_psi::sum::messages::{Sizes, SumHello, SumMessage};
use tally_psi::sum::{SumInitiator, SumResponder, SumTerms};
use tally_psi::*;

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

fn scene() -> (SumTerms, Labelled, Valued) {
    let terms = terms(2, &[1, 2], &[1000]);
    let a = vec![
        ("a".into(), 0, 0),
        ("b".into(), 0, 1),
        ("c".into(), 1, 0),
        ("d".into(), 1, 1),
    ];
    let b = vec![
        ("b".into(), vec![10]),
        ("c".into(), vec![7]),
        ("e".into(), vec![999]),
    ];
    (terms, a, b)
}

/// The machine that the frames of `side` (0 the label side) are for.
fn receiver(side: usize) -> Box<dyn Machine> {
    let (terms, a, b) = scene();
    let (i, r) = pair(&terms, &a, &b, 5);
    if side == 0 { Box::new(r) } else { Box::new(i) }
}

/// The frames of an honest run of one side.
fn honest(side: usize) -> Vec<Vec<u8>> {
    let (terms, a, b) = scene();
    let (mut i, mut r) = pair(&terms, &a, &b, 5);
    let (_, t) = machine::run_in_memory(&mut i, &mut r).unwrap();
    let frames = t.frames.into_iter().filter(|(s, _)| *s == side);
    frames.map(|(_, f)| f).collect()
}

/// Where a frame of this type stands.
fn place(frames: &[Vec<u8>], kind: u8) -> usize {
    frames.iter().position(|f| f[0] == kind).unwrap()
}

fn with(side: usize, kind: u8, change: impl Fn(SumMessage) -> SumMessage) -> Result<(), Error> {
    let mut frames = honest(side);
    let at = place(&frames, kind);
    frames[at] = change(SumMessage::decode(&frames[at]).unwrap())
        .encode()
        .unwrap();
    feed(receiver(side).as_mut(), &frames)
}

const POINTS: u8 = 2;
const TAGS: u8 = 3;
const END: u8 = 4;
const HELLO: u8 = 32;
const KEYS: u8 = 33;
const ENTRIES: u8 = 34;
const TOTALS: u8 = 35;
const PUBLISHED: u8 = 36;

fn rows(m: SumMessage, change: impl Fn(&mut Vec<[u8; 32]>)) -> SumMessage {
    match m {
        SumMessage::Shared(Message::Points(mut p)) => {
            change(&mut p);
            SumMessage::Shared(Message::Points(p))
        }
        SumMessage::Keys(mut p) => {
            change(&mut p);
            SumMessage::Keys(p)
        }
        SumMessage::Entries(mut p) => {
            change(&mut p);
            SumMessage::Entries(p)
        }
        SumMessage::Totals { mut points, seal } => {
            change(&mut points);
            SumMessage::Totals { points, seal }
        }
        other => panic!("{} has no rows", other.name()),
    }
}

#[test]
fn honest_frames_replayed_to_the_same_seeds_are_accepted() {
    for side in 0..2 {
        assert_eq!(feed(receiver(side).as_mut(), &honest(side)), Ok(()));
    }
}

#[test]
fn malformed_points_are_refused_wherever_one_may_stand() {
    let mut p_plus_1 = [0xff; 32];
    (p_plus_1[0], p_plus_1[31]) = (0xee, 0x7f);
    let mut one = [0; 32];
    one[0] = 1;
    // In the first group the first place for what sorts first and the last one for what sorts last.
    for (side, kind, places) in [
        (0, POINTS, [0, 7]),
        (1, KEYS, [0, 0]),
        // An entry is a key and two points: the key of the first and last, and points of a value.
        (1, ENTRIES, [0, 3 * 7]),
        (1, ENTRIES, [1, 2]),
        (0, TOTALS, [0, 3]),
    ] {
        for (bad, at) in [
            ([0; 32], places[0]),
            (one, places[0]),
            ([0xff; 32], places[1]),
            (p_plus_1, places[1]),
        ] {
            let got = with(side, kind, |m| {
                rows(m, |r| {
                    r[at] = bad;
                    if kind == POINTS {
                        r.sort_unstable();
                    }
                })
            });
            assert!(
                matches!(got, Err(Error::Point { .. })),
                "kind {kind} at {at} {bad:02x?}: {got:?}"
            );
        }
    }
}

#[test]
fn repeated_and_unsorted_elements_are_refused() {
    // Within a group at once, over groups before the release.
    assert_eq!(
        with(0, POINTS, |m| rows(m, |r| r[1] = r[0])),
        Err(Error::Duplicate { index: 1 })
    );
    assert!(matches!(
        with(0, POINTS, |m| rows(m, |r| r.swap(0, 1))),
        Err(Error::Unsorted { .. })
    ));
    assert_eq!(
        with(1, ENTRIES, |m| rows(m, |r| r[3] = r[0])),
        Err(Error::Duplicate { index: 1 })
    );
    assert!(matches!(
        with(1, ENTRIES, |m| rows(m, |r| r.swap(0, 3))),
        Err(Error::Unsorted { .. })
    ));
    let reversed = |m| match m {
        SumMessage::Shared(Message::Tags(t)) => {
            let len = t.len() / (4 * 8);
            let tags: Vec<&[u8]> = t.chunks(len).rev().collect();
            SumMessage::Shared(Message::Tags(tags.concat()))
        }
        other => other,
    };
    assert!(matches!(
        with(1, TAGS, reversed),
        Err(Error::Unsorted { .. })
    ));
}

#[test]
fn one_element_in_two_groups_is_refused_before_the_release() {
    use sha2::{Digest, Sha256};
    let mut frames = honest(0);
    // The first group's frame twice: for the first group and for the second.
    let (first, second) = (place(&frames, POINTS), place(&frames, POINTS) + 1);
    frames[second] = frames[first].clone();
    let mut digest = Sha256::new();
    frames
        .iter()
        .filter(|f| f[0] == POINTS)
        .for_each(|f| digest.update(f));
    let at = place(&frames, END);
    frames[at] = Message::End {
        points: 32,
        tags: 0,
        digest: digest.finalize().into(),
        seal: vec![],
    }
    .encode()
    .unwrap();
    let mut r = receiver(0);
    assert!(matches!(
        feed(r.as_mut(), &frames),
        Err(Error::Duplicate { .. })
    ));
}

#[test]
fn counts_are_exact() {
    let hello = |side, sizes: Sizes| {
        with(side, HELLO, |m| match m {
            SumMessage::Hello(h) => SumMessage::Hello(SumHello {
                sizes: sizes.clone(),
                ..h
            }),
            other => other,
        })
    };
    assert!(matches!(
        hello(0, Sizes::Groups(vec![8; 3])),
        Err(Error::Count {
            expected: 4,
            found: 3,
            ..
        })
    ));
    // Not padded; over the terms' bound.
    assert!(matches!(
        hello(0, Sizes::Groups(vec![8, 8, 9, 8])),
        Err(Error::Invalid { found: 9, .. })
    ));
    assert!(matches!(
        hello(0, Sizes::Groups(vec![1 << 16, 8, 8, 8])),
        Err(Error::TooLong { .. })
    ));
    assert!(matches!(
        hello(1, Sizes::Entries(7)),
        Err(Error::Invalid { found: 7, .. })
    ));
    assert!(matches!(
        hello(1, Sizes::Entries(u64::MAX)),
        Err(Error::TooLong { .. })
    ));
    assert_eq!(
        hello(0, Sizes::Entries(8)),
        Err(Error::Mismatch { what: "role" })
    );
    // Claims that are right in form and are not kept.
    assert!(matches!(
        hello(0, Sizes::Groups(vec![10, 8, 8, 8])),
        Err(Error::Count { .. } | Error::Unsorted { .. })
    ));
    assert!(matches!(
        hello(1, Sizes::Entries(10)),
        Err(Error::Count { .. } | Error::Invalid { .. })
    ));
    // One less and one more of everything.
    assert!(matches!(
        with(0, POINTS, |m| rows(m, |r| {
            r.pop();
        })),
        Err(Error::Count { .. } | Error::Unsorted { .. })
    ));
    assert!(matches!(
        with(1, ENTRIES, |m| rows(m, |r| r.truncate(3 * 7))),
        Err(Error::Count {
            expected: 8,
            found: 7,
            ..
        })
    ));
    assert!(matches!(
        with(1, ENTRIES, |m| rows(m, |r| {
            r.pop();
        })),
        Err(Error::Invalid { .. })
    ));
    assert!(matches!(
        with(1, ENTRIES, |m| rows(m, |r| r.extend([[0x7e; 32]; 3]))),
        Err(Error::Count {
            expected: 8,
            found: 9,
            ..
        })
    ));
    assert!(matches!(
        with(1, KEYS, |m| rows(m, |r| r.push(r[0]))),
        Err(Error::Count {
            expected: 1,
            found: 2,
            ..
        })
    ));
    assert!(matches!(
        with(0, TOTALS, |m| rows(m, |r| r.truncate(2))),
        Err(Error::Count {
            expected: 4,
            found: 2,
            ..
        })
    ));
    let sums = |sums: Vec<i64>| {
        with(1, PUBLISHED, |m| match m {
            SumMessage::Published { seal, .. } => SumMessage::Published {
                sums: sums.clone(),
                seal,
            },
            other => other,
        })
    };
    assert!(matches!(
        sums(vec![1]),
        Err(Error::Count {
            expected: 2,
            found: 1,
            ..
        })
    ));
    // Without noise no sum is negative or over what the entries allow: 8 * 1000 * 2.
    for bad in [-1, 16_001, i64::MIN, i64::MAX] {
        assert_eq!(sums(vec![0, bad]), Err(Error::SumTotal { index: 1 }));
    }
    let extra = |m| match m {
        SumMessage::Shared(Message::Tags(mut t)) => {
            t.extend_from_slice(&[0xff; 16][..t.len() / 32]);
            SumMessage::Shared(Message::Tags(t))
        }
        other => other,
    };
    assert!(matches!(with(1, TAGS, extra), Err(Error::Count { .. })));
}

#[test]
fn ends_that_state_otherwise_are_refused() {
    for side in 0..2 {
        let end = |change: &dyn Fn(&mut u64, &mut u64, &mut [u8; 32])| {
            with(side, END, |m| match m {
                SumMessage::Shared(Message::End {
                    mut points,
                    mut tags,
                    mut digest,
                    seal,
                }) => {
                    change(&mut points, &mut tags, &mut digest);
                    SumMessage::Shared(Message::End {
                        points,
                        tags,
                        digest,
                        seal,
                    })
                }
                other => other,
            })
        };
        assert!(matches!(end(&|p, _, _| *p += 1), Err(Error::Count { .. })));
        assert!(matches!(end(&|_, t, _| *t += 1), Err(Error::Count { .. })));
        assert!(matches!(
            end(&|_, _, d| d[0] ^= 1),
            Err(Error::Digest { .. })
        ));
    }
}

#[test]
fn a_stream_that_ends_early_is_an_error_at_every_frame() {
    for side in 0..2 {
        let frames = honest(side);
        for cut in 0..frames.len() {
            assert!(matches!(
                feed(receiver(side).as_mut(), &frames[..cut]),
                Err(Error::EarlyEnd { .. })
            ));
        }
    }
}

#[test]
fn frames_of_another_session_or_other_terms_are_refused() {
    let (terms, a, b) = scene();
    let mut others = vec![(terms.clone(), 9)];
    let mut more = terms.clone();
    more.max_entries -= 1;
    others.push((more, 2));
    for (other, session) in others {
        let mut i = SumInitiator::new(params(&other, session), labelled(&other, &a), seeds(10));
        let mut r = SumResponder::new(params(&other, session), valued(&other, &b), seeds(11));
        let (_, t) = machine::run_in_memory(i.as_mut().unwrap(), r.as_mut().unwrap()).unwrap();
        for side in 0..2 {
            let theirs: Vec<_> = t
                .frames
                .iter()
                .filter(|(s, _)| *s == side)
                .map(|(_, f)| f.clone())
                .collect();
            assert_eq!(
                feed(receiver(side).as_mut(), &theirs),
                Err(Error::Mismatch { what: "context" })
            );
        }
    }
    // The totals of another run under this one's hello decrypt to nothing: its keys are gone.
    let (mut i, mut r) = pair(&terms, &a, &b, 77);
    let (_, t) = machine::run_in_memory(&mut i, &mut r).unwrap();
    let (_, totals) = t.frames.iter().find(|(_, f)| f[0] == TOTALS).unwrap();
    let mut frames = honest(0);
    let at = place(&frames, TOTALS);
    frames[at] = totals.clone();
    assert_eq!(
        feed(receiver(0).as_mut(), &frames),
        Err(Error::SumTotal { index: 0 })
    );
}

#[test]
fn nothing_keyed_leaves_before_the_release() {
    let frames = honest(0);
    let mut r = receiver(0);
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
    r.release().unwrap();
    assert!(settle(r.as_mut()).unwrap().len() >= 3);
}

#[test]
fn every_statement_is_sealed_and_bound_to_what_was_sent() {
    let (terms, a, b) = scene();
    let (mut i, mut r) = pair(&terms, &a, &b, 5);
    let mut queues = [
        std::collections::VecDeque::new(),
        std::collections::VecDeque::new(),
    ];
    let mut sealed: Vec<(usize, Statement)> = Vec::new();
    let mut checked = Vec::new();
    let mut done = [false; 2];
    while done != [true; 2] {
        for side in 0..2 {
            let m: &mut dyn Machine = if side == 0 { &mut i } else { &mut r };
            loop {
                match m.poll().unwrap() {
                    Output::Send(f) => queues[1 - side].push_back(f),
                    Output::Progress(_) => {}
                    Output::NeedFrame => match queues[side].pop_front() {
                        Some(f) => m.input(&f).unwrap(),
                        None => break,
                    },
                    Output::NeedSeal(s) => {
                        let seal = s.to_bytes();
                        sealed.push((side, s));
                        m.seal(seal).unwrap();
                    }
                    Output::CheckSeal { statement, seal } => {
                        // Both sides hold the same statement of each stage.
                        assert_eq!(seal, statement.to_bytes());
                        checked.push(statement.stage);
                        m.accept_seal().unwrap();
                    }
                    Output::NeedRelease(_) => m.release().unwrap(),
                    Output::Done(_) => {
                        done[side] = true;
                        break;
                    }
                }
            }
        }
    }
    let stages: Vec<_> = sealed.iter().map(|(side, s)| (*side, s.stage)).collect();
    assert_eq!(
        stages,
        [
            (0, Stage::InitiatorEnd),
            (1, Stage::ResponderEnd),
            (0, Stage::Totals),
            (1, Stage::Result),
            (0, Stage::Ack)
        ]
    );
    assert_eq!(checked.len(), 5);
    // The totals changed the responder's digest, and the initiator's is that of the release to the end.
    assert_ne!(sealed[1].1.streams[1], sealed[2].1.streams[1]);
    assert!(
        sealed
            .iter()
            .all(|(_, s)| s.streams[0] == sealed[0].1.streams[0])
    );
    // The sums stand in the last two.
    assert_eq!(sealed[3].1.sums, Some(vec![20, 7]));
    assert_eq!(sealed[1].1.sums, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// Frames changed, dropped, repeated or swapped: an error, or a run that nothing changed.
    #[test]
    fn mutated_runs_end_in_typed_errors(
        side in 0_usize..2, kind in 0_u8..5, at in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(), flip in 1_u8..=255,
    ) {
        let mut frames = honest(side);
        let at = at.index(frames.len());
        match kind {
            0 => { frames.remove(at); }
            1 => frames.insert(at, frames[at].clone()),
            2 => { let other = byte.index(frames.len()); frames.swap(at, other); }
            3 => { let n = byte.index(frames[at].len()); frames[at].truncate(n); }
            _ => { let n = byte.index(frames[at].len()); frames[at][n] ^= flip; }
        }
        let unchanged = frames == honest(side);
        let mut m = receiver(side);
        let got = feed(m.as_mut(), &frames);
        // The seals, which are empty here, are what protects a side's word: the sums, and the totals.
        let word = kind == 4 && frames.get(at).is_some_and(|f| [TOTALS, PUBLISHED].contains(&f[0]));
        prop_assert!(unchanged || got.is_err() || word, "accepted: kind {kind}, frame {at}");
    }

    #[test]
    fn any_bytes_are_refused(side in 0_usize..2, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut m = receiver(side);
        prop_assert!(feed(m.as_mut(), &[bytes]).is_err());
    }
}
