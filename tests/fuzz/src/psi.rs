//! The frames of a set intersection, and both roles' machines fed with anything.

use tally_psi::messages::{
    CHOICE_POINTS, HEADER_BYTES, Hello, Message, Role, abort_frame, payload_len,
};
use tally_psi::{
    Computation, Context, Error, IdType, ItemSet, ItemSetBuilder, Machine, MemorySorters, Noise,
    NoiseParams, Output, PARAMETER_SET, Params, Party, PeerCount, Profile, Seeds, Suite, machine,
    session_id,
};

use crate::bytes::Bytes;
use crate::{Seeds as Named, named, same};

const NOISE: NoiseParams = NoiseParams {
    epsilon_micro: 500_000,
    sensitivity: 1,
    bound: 3,
};
/// Frames that one machine is fed at most.
const MAX_FRAMES: usize = 64;

/// Bytes as one frame.
pub fn run(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        let again = message.encode().expect("what was read fits");
        same(message.name(), bytes, &again);
        let header = bytes.first_chunk::<HEADER_BYTES>().expect("a header");
        let len = payload_len(header).expect("a length that was read");
        assert_eq!(len + HEADER_BYTES, bytes.len());
    }
}

/// How a machine is set up, besides its suite: bit 0 the role that it plays, bit 1 the computation (where the suite has more
/// than one), bit 2 noise, bits 3 and 4 what is known of the peer's count.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) suite: Suite,
    pub(crate) bits: u8,
}

impl Setup {
    fn is_dh(self) -> bool {
        self.suite == Suite::DhRistrettoV1
    }

    fn params(self) -> Params {
        let counts = self.is_dh() && self.bits & 2 != 0;
        Params {
            context: context(
                self.suite,
                if counts {
                    Computation::Cardinality
                } else {
                    Computation::List
                },
            ),
            noise: if counts && self.bits & 4 != 0 {
                Noise::Laplace(NOISE)
            } else {
                Noise::NoneInTestNetwork
            },
            peer: match self.bits >> 3 & 3 {
                0 => PeerCount::Exactly(3),
                1 => PeerCount::AtMost(16),
                // Whatever a hello claims must cost no memory before it is kept.
                _ if self.is_dh() => PeerCount::AtMost(u64::MAX),
                // Here the claim is the size of the correlation, which comes first: the agreement's cap bounds it.
                _ => PeerCount::AtMost(4096),
            },
        }
    }

    /// The machine of role `side`: 0 the initiator, 1 the responder.
    pub(crate) fn machine(self, side: u8) -> Box<dyn Machine> {
        let (role, values, seed) = match side {
            0 => (Role::Initiator, ["a", "b", "c"], 1),
            _ => (Role::Responder, ["b", "c", "d"], 2),
        };
        machine::open(
            role,
            self.params(),
            set(&values),
            Seeds::from_parts([seed; 32], [seed + 2; 32]),
            Box::new(MemorySorters::new(1 << 16)),
        )
        .expect("a machine")
    }
}

/// Of a run by this suite.
pub(crate) fn context(suite: Suite, computation: Computation) -> Context {
    let party = |n| Party {
        member: [n; 16],
        node: [n + 1; 32],
    };
    Context {
        network: [1; 32],
        suite,
        computation,
        session: session_id(&[2; 32], &[3; 32]),
        initiator: party(4),
        responder: party(6),
        agreement: [8; 32],
        initiator_root: [9; 32],
        responder_root: [10; 32],
    }
}

/// The seed of a set-up: the byte, and what the machine whose side its bit 0 names is sent in an honest run of both.
pub(crate) fn honest(bits: u8, machine: impl Fn(u8) -> Box<dyn Machine>) -> (String, Vec<u8>) {
    let (mut a, mut b) = (machine(0), machine(1));
    let (_, transcript) = machine::run_in_memory(a.as_mut(), b.as_mut()).expect("a run");
    let other = usize::from(1 - (bits & 1));
    let frames = transcript.frames.into_iter().filter(|(s, _)| *s == other);
    let stream = frames.flat_map(|(_, frame)| frame);
    (
        format!("setup-{bits}"),
        [bits].into_iter().chain(stream).collect(),
    )
}

fn set(values: &[&str]) -> ItemSet {
    let mut builder = ItemSetBuilder::new(IdType(1), Profile(1));
    for value in values {
        builder.push(value.as_bytes()).expect("a value");
    }
    builder.finish().expect("a set")
}

/// Runs a machine until it waits for a frame; what it sends has to be readable. Whether it is done.
fn settle(machine: &mut dyn Machine, is_read: impl Fn(&[u8]) -> bool) -> Result<bool, Error> {
    loop {
        match machine.poll()? {
            Output::Send(frame) => assert!(is_read(&frame)),
            Output::Progress(_) => {}
            Output::NeedFrame => return Ok(false),
            Output::Done(_) => return Ok(true),
            Output::NeedSeal(_) => machine.seal(Vec::new())?,
            Output::CheckSeal { .. } => machine.accept_seal()?,
            Output::NeedRelease(_) => machine.release()?,
        }
    }
}

/// The frames in a stream; the last may be cut, and one with a wrong header takes the rest.
fn frames(stream: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    let mut rest = Bytes(stream);
    while !rest.is_empty() && out.len() < MAX_FRAMES {
        let len = rest
            .0
            .first_chunk::<HEADER_BYTES>()
            .and_then(|header| payload_len(header).ok());
        out.push(rest.take(len.map_or(usize::MAX, |len| len + HEADER_BYTES)));
    }
    out
}

/// A byte that sets up a machine, then what its peer sends.
pub(crate) fn feed(
    bytes: &[u8],
    set_up: impl Fn(u8) -> Box<dyn Machine>,
    is_read: impl Fn(&[u8]) -> bool,
) {
    let mut input = Bytes(bytes);
    let mut machine = set_up(input.u8());
    let mut done = settle(machine.as_mut(), &is_read).expect("nothing came yet");
    for frame in frames(input.0) {
        let result = machine
            .input(frame)
            .and_then(|()| settle(machine.as_mut(), &is_read));
        match result {
            Ok(now) => done |= now,
            Err(error) => {
                // The peer can be told, and the machine stays where it is.
                assert!(is_read(&abort_frame(&error)));
                assert!(machine.poll().is_err());
                assert!(machine.input(frame).is_err());
                return;
            }
        }
    }
    if !done {
        let _ = machine.input_end();
    }
}

fn feed_suite(suite: Suite, bytes: &[u8]) {
    let set_up = |bits| Setup { suite, bits }.machine(bits & 1);
    feed(bytes, set_up, |frame| Message::decode(frame).is_ok());
}

/// A byte that sets up a machine of `dh-ristretto-v1`, then what its peer sends.
pub fn run_machine(bytes: &[u8]) {
    feed_suite(Suite::DhRistrettoV1, bytes);
}

/// The same for `vole-rr22-v1` and, where bit 5 of that byte is set, `vole-rr22-malicious-v1`.
pub fn run_vole(bytes: &[u8]) {
    let checked = bytes.first().is_some_and(|bits| bits & CHECKED != 0);
    feed_suite(vole(checked), bytes);
}

/// The bit of a set-up by which the fuzz target of both VOLE suites chooses.
const CHECKED: u8 = 32;

const fn vole(checked: bool) -> Suite {
    if checked {
        Suite::VoleRr22MaliciousV1
    } else {
        Suite::VoleRr22V1
    }
}

fn honest_runs(suite: Suite, setups: std::ops::Range<u8>) -> Named {
    let run = |bits| honest(bits, |side| Setup { suite, bits }.machine(side));
    setups.map(run).collect()
}

/// Every message by itself.
pub fn seeds() -> Named {
    let hello = |noise| {
        Message::Hello(Hello {
            suite: Suite::DhRistrettoV1,
            computation: Computation::Cardinality,
            role: Role::Responder,
            count: 9,
            noise,
            context: [1; 32],
        })
    };
    let seal = vec![5; 80];
    let messages = [
        ("hello", hello(Noise::NoneInTestNetwork)),
        ("hello-noise", hello(Noise::Laplace(NOISE))),
        ("points", Message::Points(vec![[7; 32], [8; 32]])),
        ("tags", Message::Tags(vec![9; 20])),
        (
            "end",
            Message::End {
                points: 2,
                tags: 2,
                digest: [3; 32],
                seal: seal.clone(),
            },
        ),
        (
            "result",
            Message::Result {
                published: Some(-4),
                seal: seal.clone(),
            },
        ),
        (
            "result-list",
            Message::Result {
                published: None,
                seal: seal.clone(),
            },
        ),
        ("ack", Message::Ack { seal }),
        (
            "opening",
            Message::Opening {
                parameter_set: PARAMETER_SET,
                salt: [1; 16],
                point: [2; 32],
            },
        ),
        ("choices", Message::Choices(vec![[3; 32]; CHOICE_POINTS])),
        ("corrections", Message::Corrections(vec![4; 32])),
        ("sums", Message::Sums(vec![5; 16])),
        ("masked", Message::Masked(vec![6; 48])),
        ("check", Message::Check(vec![7; 32])),
        ("working", Message::Working),
        (
            "abort",
            Message::Abort {
                code: 4,
                reason: "wrong count".into(),
            },
        ),
    ];
    named(messages.map(|(name, message)| (name, message.encode().expect("a frame"))))
}

/// The peer's frames of honest runs, for every set-up.
pub fn machine_seeds() -> Named {
    honest_runs(Suite::DhRistrettoV1, 0..8)
}

/// The same for both suites by a vector correlation: both roles.
pub fn vole_seeds() -> Named {
    let mut seeds = honest_runs(vole(false), 0..2);
    seeds.extend(honest_runs(vole(true), CHECKED..CHECKED + 2));
    seeds
}
