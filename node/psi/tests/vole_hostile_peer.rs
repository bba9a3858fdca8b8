//! What a peer may send under `vole-rr22-v1` and `vole-rr22-malicious-v1`: anything. Each case yields a typed error, no panic, and nothing that depends on the
//! responder's set before its release.

mod common;

use common::*;
use proptest::prelude::*;
use tally_psi::messages::{HEADER_BYTES, Message};
use tally_psi::*;

/// Both suites by a vector correlation.
const SUITES: [Suite; 2] = [Suite::VoleRr22V1, Suite::VoleRr22MaliciousV1];

/// Both suites, and both sides.
fn cases() -> impl Iterator<Item = (Suite, usize)> {
    SUITES.into_iter().flat_map(|s| [(s, 0), (s, 1)])
}

fn fresh(suite: Suite) -> (Box<dyn Machine>, Box<dyn Machine>) {
    pair_of(suite, &["a", "b", "c"], &["b", "c", "d", "e"], 5)
}

/// Runs a machine until it waits for a frame or has its release asked for; what it sent.
fn settle(m: &mut dyn Machine, release: bool) -> Result<Vec<Vec<u8>>, Error> {
    let mut sent = Vec::new();
    loop {
        match m.poll()? {
            Output::Send(f) => sent.push(f),
            Output::Progress(_) => {}
            Output::NeedFrame | Output::Done(_) => return Ok(sent),
            Output::NeedSeal(_) => m.seal(Vec::new())?,
            Output::CheckSeal { .. } => m.accept_seal()?,
            Output::NeedRelease(_) if release => m.release()?,
            Output::NeedRelease(_) => return Ok(sent),
        }
    }
}

/// Feeds frames to the machine of the other side than `side`, up to its first error.
fn feed(suite: Suite, side: usize, frames: &[Vec<u8>]) -> Result<(), Error> {
    let (mut i, mut r) = fresh(suite);
    let m = if side == 0 { r.as_mut() } else { i.as_mut() };
    settle(m, true)?;
    for frame in frames {
        m.input(frame)?;
        settle(m, true)?;
    }
    match m.poll()? {
        Output::Done(_) => Ok(()),
        _ => Err(m.input_end()),
    }
}

/// The frames of an honest run of one side.
fn honest(suite: Suite, side: usize) -> Vec<Vec<u8>> {
    let (mut i, mut r) = fresh(suite);
    let (_, t) = machine::run_in_memory(i.as_mut(), r.as_mut()).unwrap();
    let frames = t.frames.into_iter().filter(|(s, _)| *s == side);
    frames.map(|(_, f)| f).collect()
}

fn name(frame: &[u8]) -> &'static str {
    Message::decode(frame).unwrap().name()
}

/// Where the first frame of a name stands.
fn place(frames: &[Vec<u8>], of: &str) -> usize {
    frames.iter().position(|f| name(f) == of).unwrap()
}

/// A frame of another payload.
fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

#[test]
fn the_order_of_frames_is_that_of_the_protocol() {
    let names = |suite, side| {
        honest(suite, side)
            .iter()
            .map(|f| name(f))
            .collect::<Vec<_>>()
    };
    let plain = Suite::VoleRr22V1;
    assert_eq!(
        names(plain, 0),
        ["hello", "opening", "corrections", "masked", "end", "result"]
    );
    assert_eq!(
        names(plain, 1),
        ["hello", "choices", "sums", "tags", "end", "ack"]
    );
    let checked = Suite::VoleRr22MaliciousV1;
    assert_eq!(
        names(checked, 0),
        [
            "hello",
            "opening",
            "corrections",
            "check",
            "masked",
            "end",
            "result"
        ]
    );
    assert_eq!(
        names(checked, 1),
        [
            "hello", "check", "choices", "sums", "check", "check", "tags", "end", "ack"
        ]
    );
    for (suite, side) in cases() {
        assert_eq!(feed(suite, side, &honest(suite, side)), Ok(()));
    }
}

/// Every byte that shows something, changed; and a responder's changed sums, which no digest would tell of before its tags.
#[test]
fn a_failed_check_ends_the_run_by_name() {
    let suite = Suite::VoleRr22MaliciousV1;
    let flipped = |side, of: &str, nth: usize, at: usize| {
        let mut frames = honest(suite, side);
        let i = (0..frames.len())
            .filter(|i| name(&frames[*i]) == of)
            .nth(nth)
            .unwrap();
        let at = HEADER_BYTES + at % (frames[i].len() - HEADER_BYTES);
        frames[i][at] ^= 1;
        feed(suite, side, &frames).unwrap_err()
    };
    for at in [0, 15, 2_047, usize::MAX] {
        let got = flipped(0, "corrections", 0, at);
        assert!(matches!(got, Error::Check { .. }), "{at}: {got}");
        assert_eq!(got.code(), 13);
        // Its commitment, sums, answer and coin.
        let sums = flipped(1, "sums", 0, at);
        assert_eq!(sums, Error::Check { what: "sums" }, "{at}");
        for (nth, what) in [(0, "coin"), (1, "sums"), (2, "coin")] {
            assert_eq!(flipped(1, "check", nth, at), Error::Check { what });
        }
    }
    // What the initiator shows is answered, whatever it is: only it could use the answer. Its digest is another all the same.
    assert!(matches!(flipped(0, "check", 0, 3), Error::Digest { .. }));
}

#[test]
fn missing_repeated_and_exchanged_frames_are_refused() {
    for (suite, side) in cases() {
        let frames = honest(suite, side);
        for (i, frame) in frames.iter().enumerate() {
            let mut missing = frames.clone();
            missing.remove(i);
            let got = feed(suite, side, &missing).unwrap_err();
            assert!(
                matches!(
                    got,
                    Error::UnexpectedMessage { .. } | Error::EarlyEnd { .. } | Error::Count { .. }
                ),
                "without {}: {got}",
                name(frame)
            );
            let mut repeated = frames.clone();
            repeated.insert(i, frame.clone());
            let got = feed(suite, side, &repeated).unwrap_err();
            assert!(
                matches!(
                    got,
                    Error::UnexpectedMessage { .. } | Error::Count { .. } | Error::State { .. }
                ),
                "twice {}: {got}",
                name(frame)
            );
            for j in 0..i {
                let mut exchanged = frames.clone();
                exchanged.swap(i, j);
                let got = feed(suite, side, &exchanged).unwrap_err();
                assert!(
                    matches!(
                        got,
                        Error::UnexpectedMessage { .. } | Error::Count { .. } | Error::Check { .. }
                    ),
                    "{got}"
                );
            }
        }
    }
}

#[test]
fn payloads_of_another_length_are_refused() {
    for (suite, side) in cases() {
        let frames = honest(suite, side);
        for (i, frame) in frames.iter().enumerate() {
            let (kind, payload) = (frame[0], &frame[HEADER_BYTES..]);
            let longer = [payload, &[0; 16]].concat();
            for cut in [1, 16, payload.len() / 2, payload.len()] {
                let shorter = &payload[..payload.len().saturating_sub(cut)];
                for other in [shorter, &longer, &longer[..payload.len() + 1]] {
                    let mut frames = frames.clone();
                    frames[i] = framed(kind, other);
                    let got = feed(suite, side, &frames).unwrap_err();
                    assert!(
                        !matches!(got, Error::Internal { .. }),
                        "{}: {got}",
                        name(frame)
                    );
                }
            }
        }
    }
}

#[test]
fn a_changed_byte_anywhere_in_a_stream_is_noticed() {
    for (suite, side) in cases() {
        let frames = honest(suite, side);
        let end = place(&frames, "end");
        for (i, frame) in frames.iter().enumerate().take(end).skip(1) {
            let len = frame.len();
            for at in [
                HEADER_BYTES,
                HEADER_BYTES + 1,
                HEADER_BYTES + 3,
                len / 2,
                len - 1,
            ] {
                let mut frames = frames.clone();
                frames[i][at] ^= 1;
                let got = feed(suite, side, &frames).unwrap_err();
                assert!(
                    matches!(
                        got,
                        Error::Digest { .. }
                            | Error::Check { .. }
                            | Error::Point { .. }
                            | Error::Mismatch { .. }
                            | Error::Unsorted { .. }
                    ),
                    "{} at {at}: {got}",
                    name(frame)
                );
            }
        }
    }
}

#[test]
fn identity_and_wrong_points_are_refused() {
    for (suite, set) in SUITES
        .into_iter()
        .zip([PARAMETER_SET, CHECKED_PARAMETER_SET])
    {
        let with = |side: usize, of: &str, message: &Message| {
            let mut frames = honest(suite, side);
            let at = place(&frames, of);
            frames[at] = message.encode().unwrap();
            feed(suite, side, &frames)
        };
        let opening = |parameter_set, point| Message::Opening {
            parameter_set,
            salt: [1; 16],
            point,
        };
        let frames = honest(suite, 1);
        let Message::Choices(honest) = Message::decode(&frames[place(&frames, "choices")]).unwrap()
        else {
            panic!("not choices");
        };
        for point in [[0; 32], [0xff; 32]] {
            assert!(matches!(
                with(0, "opening", &opening(set, point)),
                Err(Error::Point { index: 0, .. })
            ));
            let mut points = honest.clone();
            points[500] = point;
            assert!(matches!(
                with(1, "choices", &Message::Choices(points)),
                Err(Error::Point { index: 500, .. })
            ));
        }
        // That of the other suite, those of earlier builds, and none at all.
        for other in [PARAMETER_SET + CHECKED_PARAMETER_SET - set, 0, 1, 2, 5] {
            assert_eq!(
                with(0, "opening", &opening(other, [2; 32])),
                Err(Error::Mismatch {
                    what: "parameter set"
                })
            );
        }
    }
}

#[test]
fn tags_out_of_order_are_refused() {
    // 40 + 4 bits, so 6 bytes each; under checks always 16.
    for (suite, len) in SUITES.into_iter().zip([6, 16]) {
        let mut frames = honest(suite, 1);
        let at = place(&frames, "tags");
        let Message::Tags(mut tags) = Message::decode(&frames[at]).unwrap() else {
            panic!("not tags");
        };
        assert_eq!(tags.len(), 4 * len);
        tags.rotate_left(len);
        frames[at] = Message::Tags(tags).encode().unwrap();
        assert_eq!(
            feed(suite, 1, &frames),
            Err(Error::Unsorted {
                what: "tag",
                index: 3
            })
        );
    }
}

#[test]
fn a_claim_over_what_is_signed_is_refused_before_anything_is_made_for_it() {
    for (suite, side) in cases() {
        let frames = honest(suite, side);
        let Message::Hello(hello) = Message::decode(&frames[0]).unwrap() else {
            panic!("no hello");
        };
        for count in [0, hello.count + 1, 1 << 26, 1 << 32] {
            let mut frames = frames.clone();
            frames[0] = Message::Hello(messages::Hello {
                count,
                ..hello.clone()
            })
            .encode()
            .unwrap();
            assert!(matches!(
                feed(suite, side, &frames),
                Err(Error::Count { .. })
            ));
        }
    }
    // A cap above what this suite holds does not lift it.
    let mut p = params(Computation::List, Noise::NoneInTestNetwork, 1);
    p.context.suite = Suite::VoleRr22V1;
    p.peer = PeerCount::AtMost(u64::MAX);
    let mut r = VoleResponder::new(p, set(&["a"]), seeds(1)).unwrap();
    let Message::Hello(hello) = Message::decode(&honest(Suite::VoleRr22V1, 0)[0]).unwrap() else {
        panic!("no hello");
    };
    let hello = Message::Hello(messages::Hello {
        count: MAX_VOLE_COUNT + 1,
        ..hello
    });
    assert!(matches!(
        r.input(&hello.encode().unwrap()),
        Err(Error::TooLong { .. })
    ));
}

#[test]
fn tags_wait_for_the_release_and_success_for_the_ack() {
    for suite in SUITES {
        tags_wait(suite);
    }
}

fn tags_wait(suite: Suite) {
    let (mut i, mut r) = fresh(suite);
    let mut to_r = settle(i.as_mut(), true).unwrap();
    let mut sent = Vec::new();
    loop {
        let mut moved = false;
        for f in to_r.drain(..) {
            r.input(&f).unwrap();
            sent.extend(settle(r.as_mut(), false).unwrap());
            moved = true;
        }
        if matches!(r.poll().unwrap(), Output::NeedRelease(_)) {
            break;
        }
        for f in sent.drain(..) {
            assert_ne!(name(&f), "tags");
            i.input(&f).unwrap();
            to_r.extend(settle(i.as_mut(), true).unwrap());
        }
        assert!(moved);
    }
    assert!(sent.is_empty(), "nothing leaves at the gate");
    assert!(matches!(r.seal(vec![]), Err(Error::State { .. })));
    r.release().unwrap();
    let (mut names, mut result) = (Vec::new(), Vec::new());
    for f in settle(r.as_mut(), true).unwrap() {
        i.input(&f).unwrap();
        names.push(name(&f));
        result.extend(settle(i.as_mut(), true).unwrap());
    }
    let coin: &[&str] = if suite == Suite::VoleRr22V1 {
        &[]
    } else {
        &["check"]
    };
    assert_eq!(names, [coin, &["tags", "end"]].concat());
    // The initiator has its rows but does not say so before the ack; the responder is not done before the result.
    assert_eq!(i.poll().unwrap(), Output::NeedFrame);
    assert_eq!(r.poll().unwrap(), Output::NeedFrame);
    assert_eq!(i.input_end(), Error::EarlyEnd { expected: "ack" });
    assert_eq!(r.input_end(), Error::EarlyEnd { expected: "result" });
    r.input(&result[0]).unwrap();
    let ack = settle(r.as_mut(), true).unwrap();
    assert!(matches!(r.poll().unwrap(), Output::Done(_)));
    i.input(&ack[0]).unwrap();
    settle(i.as_mut(), true).unwrap();
    assert!(matches!(i.poll().unwrap(), Output::Done(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_bytes_make_a_machine_panic(
        checked: bool,
        side in 0_usize..2,
        at in any::<prop::sample::Index>(),
        kind in 0_u8..16,
        payload in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let suite = SUITES[usize::from(checked)];
        let mut frames = honest(suite, side);
        let at = at.index(frames.len());
        frames[at] = framed(kind, &payload);
        prop_assert!(feed(suite, side, &frames).is_err());
    }
}
