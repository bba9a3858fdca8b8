//! What a peer may send under `vole-rr22-v1`: anything. Each case yields a typed error, no panic, and nothing that depends on the
//! responder's set before its release.

mod common;

use common::*;
use proptest::prelude::*;
use tally_psi::messages::{HEADER_BYTES, Message};
use tally_psi::*;

fn fresh() -> (Box<dyn Machine>, Box<dyn Machine>) {
    pair_of(
        Suite::VoleRr22V1,
        &["a", "b", "c"],
        &["b", "c", "d", "e"],
        5,
    )
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
fn feed(side: usize, frames: &[Vec<u8>]) -> Result<(), Error> {
    let (mut i, mut r) = fresh();
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
fn honest(side: usize) -> Vec<Vec<u8>> {
    let (mut i, mut r) = fresh();
    let (_, t) = machine::run_in_memory(i.as_mut(), r.as_mut()).unwrap();
    let frames = t.frames.into_iter().filter(|(s, _)| *s == side);
    frames.map(|(_, f)| f).collect()
}

fn name(frame: &[u8]) -> &'static str {
    Message::decode(frame).unwrap().name()
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
    let names = |side| honest(side).iter().map(|f| name(f)).collect::<Vec<_>>();
    assert_eq!(
        names(0),
        ["hello", "opening", "corrections", "masked", "end", "result"]
    );
    assert_eq!(names(1), ["hello", "choices", "sums", "tags", "end", "ack"]);
    for side in 0..2 {
        assert_eq!(feed(side, &honest(side)), Ok(()));
    }
}

#[test]
fn missing_repeated_and_exchanged_frames_are_refused() {
    for side in 0..2 {
        let frames = honest(side);
        for (i, frame) in frames.iter().enumerate() {
            let mut missing = frames.clone();
            missing.remove(i);
            let got = feed(side, &missing).unwrap_err();
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
            let got = feed(side, &repeated).unwrap_err();
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
                let got = feed(side, &exchanged).unwrap_err();
                assert!(
                    matches!(got, Error::UnexpectedMessage { .. } | Error::Count { .. }),
                    "{got}"
                );
            }
        }
    }
}

#[test]
fn payloads_of_another_length_are_refused() {
    for side in 0..2 {
        let frames = honest(side);
        for (i, frame) in frames.iter().enumerate() {
            let (kind, payload) = (frame[0], &frame[HEADER_BYTES..]);
            let longer = [payload, &[0; 16]].concat();
            for cut in [1, 16, payload.len() / 2, payload.len()] {
                let shorter = &payload[..payload.len().saturating_sub(cut)];
                for other in [shorter, &longer, &longer[..payload.len() + 1]] {
                    let mut frames = frames.clone();
                    frames[i] = framed(kind, other);
                    let got = feed(side, &frames).unwrap_err();
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
    for side in 0..2 {
        let frames = honest(side);
        for (i, frame) in frames.iter().enumerate().skip(1).take(3) {
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
                let got = feed(side, &frames).unwrap_err();
                assert!(
                    matches!(
                        got,
                        Error::Digest { .. }
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
    let with = |side: usize, message: &Message| {
        let mut frames = honest(side);
        frames[1] = message.encode().unwrap();
        feed(side, &frames)
    };
    for point in [[0; 32], [0xff; 32]] {
        let opening = Message::Opening {
            parameter_set: PARAMETER_SET,
            salt: [1; 16],
            point,
        };
        assert!(matches!(
            with(0, &opening),
            Err(Error::Point { index: 0, .. })
        ));
        let Message::Choices(mut points) = Message::decode(&honest(1)[1]).unwrap() else {
            panic!("not choices");
        };
        points[500] = point;
        assert!(matches!(
            with(1, &Message::Choices(points)),
            Err(Error::Point { index: 500, .. })
        ));
    }
    let opening = Message::Opening {
        parameter_set: 2,
        salt: [1; 16],
        point: [2; 32],
    };
    assert_eq!(
        with(0, &opening),
        Err(Error::Mismatch {
            what: "parameter set"
        })
    );
}

#[test]
fn tags_out_of_order_are_refused() {
    let mut frames = honest(1);
    let Message::Tags(mut tags) = Message::decode(&frames[3]).unwrap() else {
        panic!("not tags");
    };
    // 40 + 4 bits, so 6 bytes each.
    assert_eq!(tags.len(), 4 * 6);
    tags.rotate_left(6);
    frames[3] = Message::Tags(tags).encode().unwrap();
    assert_eq!(
        feed(1, &frames),
        Err(Error::Unsorted {
            what: "tag",
            index: 3
        })
    );
}

#[test]
fn a_claim_over_what_is_signed_is_refused_before_anything_is_made_for_it() {
    for side in 0..2 {
        let frames = honest(side);
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
            assert!(matches!(feed(side, &frames), Err(Error::Count { .. })));
        }
    }
    // A cap above what this suite holds does not lift it.
    let mut p = params(Computation::List, Noise::NoneInTestNetwork, 1);
    p.context.suite = Suite::VoleRr22V1;
    p.peer = PeerCount::AtMost(u64::MAX);
    let mut r = VoleResponder::new(p, set(&["a"]), seeds(1)).unwrap();
    let Message::Hello(hello) = Message::decode(&honest(0)[0]).unwrap() else {
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
    let (mut i, mut r) = fresh();
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
    let names: Vec<_> = settle(r.as_mut(), true)
        .unwrap()
        .into_iter()
        .map(|f| {
            i.input(&f).unwrap();
            name(&f)
        })
        .collect();
    assert_eq!(names, ["tags", "end"]);
    // The initiator has its rows but does not say so before the ack; the responder is not done before the result.
    let result = settle(i.as_mut(), true).unwrap();
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
        side in 0_usize..2,
        at in 0_usize..6,
        kind in 0_u8..15,
        payload in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut frames = honest(side);
        frames[at] = framed(kind, &payload);
        prop_assert!(feed(side, &frames).is_err());
    }
}
