//! The frames of a count of several parties, and the machines of a party and of the helper fed with anything by anybody.

use tally_psi::messages::{HEADER_BYTES, abort_frame, payload_len};
use tally_psi::overlap::{
    MadeKnown, OverlapHelper, OverlapMachine, OverlapMessage, OverlapNoise, OverlapOutput,
    OverlapParty, OverlapTerms, Peer, overlap_session, run_overlap_in_memory,
};
use tally_psi::{Error, IdType, ItemSetBuilder, MemorySorters, NoiseParams, Party, Profile, Seeds};

use crate::bytes::Bytes;
use crate::{Seeds as Named, named, same};

/// More frames than any seed has.
const MAX_FRAMES: usize = 64;
const PARTIES: u8 = 3;

/// Bytes as one frame.
pub fn run(bytes: &[u8]) {
    if let Ok(message) = OverlapMessage::decode(bytes) {
        let again = message.encode().expect("what was read fits");
        same(message.name(), bytes, &again);
        let header = bytes.first_chunk::<HEADER_BYTES>().expect("a header");
        let len = payload_len(header).expect("a length that was read");
        assert_eq!(len + HEADER_BYTES, bytes.len());
    }
}

fn terms(bits: u8) -> OverlapTerms {
    let party = |n: u8| Party {
        member: [n; 16],
        node: [n; 32],
    };
    let noise = |sensitivity| NoiseParams {
        epsilon_micro: 1_000_000,
        sensitivity,
        bound: 3,
    };
    OverlapTerms {
        network: [1; 32],
        session: overlap_session(&[[2; 32], [3; 32], [4; 32], [5; 32]]),
        parties: (10..10 + PARTIES).map(party).collect(),
        helper: Some(party(99)),
        agreement: [6; 32],
        roots: (0..PARTIES).map(|n| [n; 32]).collect(),
        noise: if bits & 4 == 0 {
            OverlapNoise::NoneInTestNetwork
        } else {
            OverlapNoise::Laplace {
                regions: noise(2),
                published: noise(1),
            }
        },
        max_items: 64,
        min_result: u64::from(bits >> 3 & 3),
    }
}

/// The machine at a place: a party's, or after them the helper's.
fn machine(bits: u8, place: u8) -> Box<dyn OverlapMachine> {
    let seeds = Seeds::from_parts([place; 32], [place + 10; 32]);
    let sorters = Box::new(MemorySorters::new(1 << 12));
    if place >= PARTIES {
        let helper = OverlapHelper::new(terms(bits), seeds, sorters);
        return Box::new(helper.expect("a helper"));
    }
    let mut items = ItemSetBuilder::new(IdType(1), Profile(1));
    for n in place..place + 5 {
        items.push(&[b'a' + n]).expect("an item");
    }
    let items = items.finish().expect("a set");
    let party = OverlapParty::new(terms(bits), place.into(), items, seeds, sorters);
    Box::new(party.expect("a party"))
}

/// Does all that the machine asks for but frames; whether it is done.
fn settle(machine: &mut dyn OverlapMachine) -> Result<bool, Error> {
    loop {
        match machine.poll()? {
            OverlapOutput::Send { frame, .. } => {
                assert!(OverlapMessage::decode(&frame).is_ok());
            }
            OverlapOutput::Progress(_) => {}
            OverlapOutput::NeedFrame => return Ok(false),
            OverlapOutput::Done(_) => return Ok(true),
            OverlapOutput::NeedSeal(_) => machine.seal(Vec::new())?,
            OverlapOutput::CheckSeal { .. } => machine.accept_seal()?,
            OverlapOutput::NeedRelease(_) => machine.release()?,
        }
    }
}

const fn peer(byte: u8) -> Peer {
    if byte >= PARTIES {
        Peer::Helper
    } else {
        Peer::Party(byte as usize)
    }
}

/// A byte that sets up a machine (its two lowest bits: at which place), then frames, each behind a byte that says from whom.
pub fn run_machine(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let bits = input.u8();
    let mut machine = machine(bits, bits & 3);
    let mut done = settle(machine.as_mut()).expect("nothing came yet");
    for _ in 0..MAX_FRAMES {
        if input.is_empty() {
            break;
        }
        let from = peer(input.u8());
        let len = input
            .0
            .first_chunk::<HEADER_BYTES>()
            .and_then(|header| payload_len(header).ok());
        let frame = input.take(len.map_or(usize::MAX, |len| len + HEADER_BYTES));
        let result = machine
            .input(from, frame)
            .and_then(|()| settle(machine.as_mut()));
        match result {
            Ok(now) => done |= now,
            Err(error) => {
                // Peers can be told, and the machine stays where it is.
                let told = OverlapMessage::decode(&abort_frame(&error));
                assert!(matches!(told, Err(Error::PeerAborted { .. })));
                assert!(machine.poll().is_err());
                assert!(machine.input(from, frame).is_err());
                return;
            }
        }
    }
    for byte in 0..=PARTIES {
        assert!(!done || !machine.is_due(peer(byte)));
    }
    if !done {
        let _ = machine.input_end();
    }
}

/// Every frame by itself.
pub fn seeds() -> Named {
    let messages = [
        OverlapMessage::Hello {
            terms: [1; 32],
            count: 8,
        },
        OverlapMessage::Share {
            terms: [1; 32],
            key: [2; 32].into(),
            noise: [3; 32].into(),
        },
        OverlapMessage::Pseudonyms(vec![4; 48]),
        OverlapMessage::End {
            count: 3,
            digest: [5; 32],
            seal: vec![6; 72],
        },
        OverlapMessage::Published {
            known: MadeKnown {
                value: -7,
                salt: [7; 32],
            },
            streams: vec![(8, [8; 32]); 3],
            seal: vec![6; 72],
        },
        OverlapMessage::Ack { seal: vec![6; 72] },
        OverlapMessage::Final,
    ];
    named(messages.map(|m| (m.name(), m.encode().expect("a frame"))))
}

/// What each machine gets in honest runs, for every set-up.
pub fn machine_seeds() -> Named {
    let mut out = Vec::new();
    for bits in 0..32_u8 {
        let mut parties: Vec<_> = (0..PARTIES).map(|place| machine(bits, place)).collect();
        let mut helper = machine(bits, PARTIES);
        let mut sides: Vec<&mut dyn OverlapMachine> = parties
            .iter_mut()
            .map(|p| -> &mut dyn OverlapMachine { p.as_mut() })
            .collect();
        let transcript = run_overlap_in_memory(&mut sides, helper.as_mut()).expect("a run");
        let own = peer(bits & 3);
        let mut stream = vec![bits];
        for (from, to, frame) in transcript.frames {
            if to == own {
                stream.push(match from {
                    Peer::Party(place) => u8::try_from(place).expect("a place"),
                    Peer::Helper => PARTIES,
                });
                stream.extend(frame);
            }
        }
        out.push((format!("setup-{bits}"), stream));
    }
    named(out)
}
