//! The end handshake: the stream is cut behind every frame and within each, on either side and on both, and never does one side
//! report success while the other does not hold what it is due.
//!
//! What holds, and what nobody can have (two generals): the initiator's success means the responder's. The responder's success
//! means that the initiator holds its complete, verified result, and has said so; but if the very last frame, the ack, is lost, the
//! initiator cannot know that, and reports an early end.

mod common;

use std::collections::VecDeque;

use common::*;
use tally_psi::messages::Message;
use tally_psi::*;

/// Where the stream is cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Whose frames get lost: 0 the initiator's, 1 the responder's.
    side: usize,
    /// The first frame that does not arrive as a whole.
    frame: usize,
    /// Whether a half of it arrives.
    half: bool,
    /// Whether what the other side sends later gets lost too.
    both: bool,
}

/// One end of a run.
#[derive(Default)]
struct End {
    outcome: Option<Result<Report, Error>>,
    /// What has arrived and not been taken.
    inbox: VecDeque<Vec<u8>>,
    /// Nothing will arrive any more.
    closed: bool,
    sent: usize,
    /// Names of the frames taken.
    taken: Vec<&'static str>,
}

/// Runs both machines over a stream that is cut; what each side says in the end.
fn run(machines: [&mut dyn Machine; 2], cut: Cut) -> [End; 2] {
    let mut ends = [End::default(), End::default()];
    let mut machines = machines;
    let mut down = false;
    loop {
        let mut moved = false;
        for side in 0..2 {
            while ends[side].outcome.is_none() {
                let machine = &mut machines[side];
                let step = match machine.poll() {
                    Ok(Output::Send(frame)) => {
                        let number = ends[side].sent;
                        ends[side].sent += 1;
                        let other = &mut ends[1 - side];
                        if side == cut.side && number >= cut.frame {
                            down = true;
                            if number == cut.frame && cut.half {
                                // What the host has of it is no frame; it will not even hand it over.
                                assert!(Message::decode(&frame[..frame.len() / 2]).is_err());
                            }
                            other.closed = true;
                        } else if down && cut.both {
                            other.closed = true;
                        } else {
                            other.inbox.push_back(frame);
                        }
                        Ok(())
                    }
                    Ok(Output::NeedFrame) => match ends[side].inbox.pop_front() {
                        Some(frame) => {
                            ends[side]
                                .taken
                                .push(Message::decode(&frame).unwrap().name());
                            machine.input(&frame)
                        }
                        None if ends[side].closed => Err(machine.input_end()),
                        None => break,
                    },
                    Ok(Output::Progress(_)) => Ok(()),
                    Ok(Output::NeedSeal(_)) => machine.seal(vec![7]),
                    Ok(Output::CheckSeal { seal, .. }) => {
                        assert_eq!(seal, [7]);
                        machine.accept_seal()
                    }
                    Ok(Output::NeedRelease(_)) => machine.release(),
                    Ok(Output::Done(report)) => {
                        ends[side].outcome = Some(Ok(*report));
                        // A side that is done closes its stream.
                        ends[1 - side].closed = true;
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = step {
                    ends[side].outcome = Some(Err(error));
                    ends[1 - side].closed = true;
                }
                moved = true;
            }
        }
        if ends.iter().all(|e| e.outcome.is_some()) {
            return ends;
        }
        assert!(moved, "both sides wait: {cut:?}");
    }
}

/// Every cut of one kind of run.
fn every_cut(open: impl Fn() -> (Box<dyn Machine>, Box<dyn Machine>), due: &Outcome) {
    let (mut i, mut r) = open();
    let (whole, transcript) = machine::run_in_memory(i.as_mut(), r.as_mut()).unwrap();
    assert_eq!(whole.outcome, *due);
    let frames = |side| transcript.frames.iter().filter(|(s, _)| *s == side).count();
    let mut split = Vec::new();
    for (side, both, half) in [0, 1]
        .into_iter()
        .flat_map(|s| [false, true].map(|b| (s, b)))
        .flat_map(|(s, b)| [false, true].map(|h| (s, b, h)))
    {
        // The last cut is behind everything.
        for frame in 0..=frames(side) {
            let cut = Cut {
                side,
                frame,
                half,
                both,
            };
            let (mut i, mut r) = open();
            let [initiator, responder] = run([i.as_mut(), r.as_mut()], cut);
            let (a, b) = (
                initiator.outcome.as_ref().unwrap(),
                responder.outcome.as_ref().unwrap(),
            );
            let last = frame == frames(side);
            if let Ok(report) = a {
                assert_eq!(report.outcome, *due, "{cut:?}");
                let theirs = b.as_ref().unwrap_or_else(|e| panic!("{cut:?}: {e}"));
                assert_eq!(theirs.statement, report.statement);
                assert!(last);
            }
            if let Ok(report) = b {
                // The responder is done only with the initiator's word on the result, which it gives once it has all frames,
                // has verified their digest and has joined them.
                assert!(responder.taken.ends_with(&["result"]), "{cut:?}");
                assert!(initiator.taken.contains(&"end"), "{cut:?}");
                if let Outcome::Published { .. } = due {
                    assert_eq!(report.outcome, *due);
                }
                if let Err(e) = a {
                    assert_eq!(*e, Error::EarlyEnd { expected: "ack" });
                    split.push(cut);
                }
            }
            for error in [a, b].into_iter().filter_map(|o| o.as_ref().err()) {
                assert!(matches!(error, Error::EarlyEnd { .. }), "{cut:?}: {error}");
            }
            assert!(!last || (a.is_ok() && b.is_ok()));
        }
    }
    // The two generals' frame and no other: the ack, lost whole or in half.
    assert!(
        split
            .iter()
            .all(|c| c.side == 1 && c.frame + 1 == frames(1))
    );
    assert_eq!(split.len(), 4);
}

#[test]
fn no_cut_leaves_one_side_with_success_and_the_other_without_its_due() {
    let (a, b) = (list(0, 40, 7), list(20, 30, 11));
    let rows = plain_join(&a, &b);
    for suite in LISTS {
        every_cut(
            || pair_of(suite, &a, &b, 5),
            &Outcome::Matched { rows: rows.clone() },
        );
    }
    let noise = Noise::Laplace(plan_bound(500_000, 6, 1).unwrap());
    for (noise, value) in [
        (Noise::NoneInTestNetwork, 20),
        // With the noise of these seeds.
        (noise, NOISED),
    ] {
        every_cut(
            || {
                let (i, r) = pair(Computation::Cardinality, noise, &a, &b, 5);
                (Box::new(i), Box::new(r))
            },
            &Outcome::Published { value },
        );
    }
}
const NOISED: i64 = 19;
