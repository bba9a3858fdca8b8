//! Private join and sum, by label (`join_sum` of `dh-ristretto-v1`): one side holds keys with labels and weights, the other keys
//! with values; both learn, for each label, the sum of weight times value over the keys that both hold, plus two noises.
//!
//! | step | from | what |
//! | --- | --- | --- |
//! | hello | both | parameters; padded sizes |
//! | points, end | label side | its keys times its secret, group by group, each sorted |
//! | release | | the value side commits it to the ledger |
//! | keys, tags, entries, end | value side | public keys; tags of the label side's keys, sorted in their group; own keys times its secret, sorted, each with its values encrypted |
//! | totals | label side | for each label an encryption of its weighted sum and of the first noise |
//! | published | value side | the sums with both noises |
//! | ack | label side | |
//!
//! A group is a label with a weight: see [`SumTerms`]. Each group has a pool of public dummies: the label side adds all of it,
//! the value side a random part, so that the number of matches that the label side sees in a group is noisy. Values are encrypted
//! under keys of the value side that live for one run; the label side adds ciphertexts and never sees a value, the value side
//! decrypts totals of labels and never sees a group or a match.
//!
//! The label side is always the initiator. Both follow the protocol; either may send any bytes. Rows are held in memory, at about
//! 80 bytes a row of either side; the terms bound how many.

mod cursor;
mod discrete_log;
mod elgamal;
mod initiator;
pub mod messages;
mod responder;
mod session;
mod set;
mod terms;

pub use initiator::SumInitiator;
pub use responder::SumResponder;
pub use set::{LabelledSet, LabelledSetBuilder, ValuedSet, ValuedSetBuilder};
pub use terms::{
    MAX_CLASSES, MAX_GROUPS, MAX_LABELS, MAX_QUANTITIES, MAX_ROWS, SumNoise, SumParams, SumTerms,
    ValueNoise, plan_value_noise,
};
