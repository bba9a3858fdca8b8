//! The frames of a private sum, and both sides' machines fed with anything.

use tally_psi::messages::{HEADER_BYTES, Message, payload_len};
use tally_psi::sum::messages::{Sizes, SumHello, SumMessage};
use tally_psi::sum::{
    LabelledSetBuilder, SumInitiator, SumNoise, SumParams, SumResponder, SumTerms, ValueNoise,
    ValuedSetBuilder,
};
use tally_psi::{Computation, IdType, Machine, NoiseParams, Profile, Seeds, Suite};

use crate::psi::{context, feed, honest};
use crate::{Seeds as Named, named, same};

/// Bytes as one frame.
pub fn run(bytes: &[u8]) {
    if let Ok(message) = SumMessage::decode(bytes) {
        let again = message.encode().expect("what was read fits");
        same(message.name(), bytes, &again);
        let header = bytes.first_chunk::<HEADER_BYTES>().expect("a header");
        let len = payload_len(header).expect("a length that was read");
        assert_eq!(len + HEADER_BYTES, bytes.len());
    }
}

/// Two labels of one class; bit 1 of the set-up adds noise, bit 2 a second quantity.
fn terms(bits: u8) -> SumTerms {
    let quantities = if bits & 4 == 0 { 1 } else { 2 };
    let values = ValueNoise {
        epsilon_micro: 500_000,
        sensitivity: 100,
        bound: 300,
    };
    SumTerms {
        minimum_people: vec![0, 2],
        weights: vec![1],
        unit: 1,
        value_caps: vec![100; quantities],
        entries_per_person: 1,
        rows_per_entry: 1,
        slots: 1,
        max_label_rows: 64,
        max_entries: 16,
        noise: if bits & 2 == 0 {
            SumNoise::NoneInTestNetwork
        } else {
            SumNoise::Laplace {
                matches: NoiseParams {
                    epsilon_micro: 500_000,
                    sensitivity: 1,
                    bound: 2,
                },
                values: vec![values; quantities],
            }
        },
    }
}

/// The machine of `side`: 0 the label side, 1 the value side.
fn side_machine(bits: u8, side: u8) -> Box<dyn Machine> {
    let terms = terms(bits);
    let params = SumParams {
        context: context(Suite::DhRistrettoV1, Computation::JoinSum),
        terms: terms.clone(),
    };
    let (id_type, profile) = (IdType(1), Profile(1));
    if side == 0 {
        let mut set = LabelledSetBuilder::new(id_type, profile);
        for (key, label) in [("a", 0), ("b", 1), ("c", 1)] {
            set.push(label, 0, key.as_bytes()).expect("a key");
        }
        let set = set.finish(&terms, &[1, 2]).expect("a set");
        let seeds = Seeds::from_parts([1; 32], [3; 32]);
        Box::new(SumInitiator::new(params, set, seeds).expect("a machine"))
    } else {
        let mut set = ValuedSetBuilder::new(id_type, profile, terms.value_caps.len());
        for (key, value) in [("b", 40), ("c", 2), ("d", 100)] {
            let values = vec![value; terms.value_caps.len()];
            set.push(key.as_bytes(), &values).expect("a key");
        }
        let set = set.finish(&terms, 3).expect("a set");
        let seeds = Seeds::from_parts([2; 32], [4; 32]);
        Box::new(SumResponder::new(params, set, seeds).expect("a machine"))
    }
}

/// A byte that sets up a machine (bit 0 which side it plays), then what its peer sends.
pub fn run_machine(bytes: &[u8]) {
    let set_up = |bits| side_machine(bits, bits & 1);
    feed(bytes, set_up, |frame| SumMessage::decode(frame).is_ok());
}

/// Every frame by itself.
pub fn seeds() -> Named {
    let hello = |sizes| {
        SumMessage::Hello(SumHello {
            context: [1; 32],
            sizes,
        })
    };
    let seal = vec![5; 80];
    let messages = [
        ("hello-groups", hello(Sizes::Groups(vec![8, 10]))),
        ("hello-entries", hello(Sizes::Entries(8))),
        ("keys", SumMessage::Keys(vec![[1; 32], [2; 32]])),
        ("entries", SumMessage::Entries(vec![[3; 32]; 6])),
        (
            "totals",
            SumMessage::Totals {
                points: vec![[4; 32]; 4],
                seal: seal.clone(),
            },
        ),
        (
            "published",
            SumMessage::Published {
                sums: vec![-3, 7],
                seal,
            },
        ),
        ("working", SumMessage::Shared(Message::Working)),
    ];
    named(messages.map(|(name, message)| (name, message.encode().expect("a frame"))))
}

/// The peer's frames of honest runs, for every set-up.
pub fn machine_seeds() -> Named {
    (0..8)
        .map(|bits| honest(bits, |side| side_machine(bits, side)))
        .collect()
}
