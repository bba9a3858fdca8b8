//! A role of the protocol as a value. The host asks [`Machine::poll`] what to do next and does it; nothing here waits.
//!
//! Not defended against, and not provable from a transcript alone: a counter that takes another exponent for dummies or for a
//! part of its set, false inputs, a false result, an abort after learning. The agreement, the budget, receipts and an audit at
//! the owner's stand against those.

use std::collections::VecDeque;

use crate::context::Suite;
use crate::messages::{Message, Role};
use crate::params::Params;
use crate::seeds::Seeds;
use crate::sorter::SorterFactory;
use crate::stream::Items;
use crate::{Error, Initiator, Responder, VoleInitiator, VoleResponder};

/// Where a statement stands in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The initiator's stream is complete.
    InitiatorEnd,
    /// The responder's stream is complete.
    ResponderEnd,
    /// The result is made known: by the initiator, in a private sum by the responder.
    Result,
    /// The other side holds the result.
    Ack,
    /// The initiator's totals of a private sum are complete.
    Totals,
}

/// What a side signs at a stage; the host puts its own domain before [`Self::to_bytes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The stage.
    pub stage: Stage,
    /// Digest of the context.
    pub context: [u8; 32],
    /// Padded counts, the initiator's first.
    pub counts: [u64; 2],
    /// SHA-256 of the streams, the initiator's first; zeros while one is not complete.
    pub streams: [[u8; 32]; 2],
    /// The published count, from [`Stage::Result`] on.
    pub published: Option<i64>,
    /// The published sums of a private sum, from [`Stage::Result`] on.
    pub sums: Option<Vec<i64>>,
}

impl Statement {
    /// Canonical bytes: version 1, stage, context, counts, stream digests, a byte for the count's presence, the count; where there
    /// are sums, their number in 4 bytes and they.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let stage = match self.stage {
            Stage::InitiatorEnd => 1,
            Stage::ResponderEnd => 2,
            Stage::Result => 3,
            Stage::Ack => 4,
            Stage::Totals => 5,
        };
        let mut out = vec![1, stage];
        out.extend_from_slice(&self.context);
        for count in self.counts {
            out.extend_from_slice(&count.to_be_bytes());
        }
        out.extend_from_slice(self.streams.as_flattened());
        out.push(u8::from(self.published.is_some()));
        out.extend_from_slice(&self.published.unwrap_or(0).to_be_bytes());
        if let Some(sums) = &self.sums {
            // At most labels times quantities.
            let count = u32::try_from(sums.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&count.to_be_bytes());
            sums.iter()
                .for_each(|s| out.extend_from_slice(&s.to_be_bytes()));
        }
        out
    }
}

/// What part of a run is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The own items are hashed and blinded.
    Blind,
    /// The own stream goes out.
    Send,
    /// The peer's stream comes in and is blinded again.
    Receive,
}

/// How far a phase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// Elements done.
    pub done: u64,
    /// Elements in all.
    pub total: u64,
}

/// What a side holds at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The initiator of a `list`: rows of its set, as pushed, that the responder has too; ascending.
    Matched {
        /// The rows.
        rows: Vec<u64>,
    },
    /// The initiator of a `list` in buckets: its store was given the rows of every bucket, see [`crate::buckets::Step::Finished`].
    Listed {
        /// How many rows in all.
        rows: u64,
    },
    /// Both sides of a `cardinality`: the count with both noises, so it may be negative.
    Published {
        /// The published value: the one number that may be stored, thresholded or shown.
        value: i64,
    },
    /// Both sides of a `join_sum`: the sums with both noises, label after label, each with all its quantities.
    Sums {
        /// The published sums, in minor units times the unit of weights.
        values: Vec<i64>,
    },
    /// The responder of a `list`: the peer has its result.
    Served,
}

/// The end of a run that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What this side holds.
    pub outcome: Outcome,
    /// The last statement, which both sides hold alike: counts, stream digests, published value.
    pub statement: Statement,
    /// The peer's seal of the last statement that it sealed: its part of a receipt.
    pub peer_seal: Vec<u8>,
}

/// What the host has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this frame, after all before it.
    Send(Vec<u8>),
    /// Nothing; tell whoever watches.
    Progress(Progress),
    /// Hand the peer's next frame to [`Machine::input`], or [`Machine::input_end`].
    NeedFrame,
    /// Sign the statement and hand the signature to [`Machine::seal`] (empty where the host uses none).
    NeedSeal(Statement),
    /// Verify the peer's signature, then call [`Machine::accept_seal`], or drop the machine.
    CheckSeal {
        /// What it must have signed.
        statement: Statement,
        /// Its signature.
        seal: Vec<u8>,
    },
    /// Commit the release to the ledger, then call [`Machine::release`]. No byte derived from the responder's key has left yet.
    NeedRelease(Statement),
    /// Both sides hold what they are due.
    Done(Box<Report>),
}

/// One role of a run.
///
/// Calls may take the time of blinding [`crate::messages::ROWS_PER_FRAME`] elements on all cores. After an error the machine is
/// spent: tell the peer with [`crate::messages::abort_frame`] and drop it.
pub trait Machine: Send {
    /// What to do next; asked again before it is done, it repeats itself.
    ///
    /// # Errors
    /// Any; then the run is over.
    fn poll(&mut self) -> Result<Output, Error>;

    /// Takes the peer's next frame.
    ///
    /// # Errors
    /// Any; then the run is over. [`Error::UnexpectedMessage`] also for a frame that nobody waits for.
    fn input(&mut self, frame: &[u8]) -> Result<(), Error>;

    /// The peer's stream ended: always an error, before [`Output::Done`].
    fn input_end(&self) -> Error;

    /// Answers [`Output::NeedSeal`].
    ///
    /// # Errors
    /// [`Error::State`], [`Error::TooLong`].
    fn seal(&mut self, seal: Vec<u8>) -> Result<(), Error>;

    /// Answers [`Output::CheckSeal`].
    ///
    /// # Errors
    /// [`Error::State`].
    fn accept_seal(&mut self) -> Result<(), Error>;

    /// Answers [`Output::NeedRelease`].
    ///
    /// # Errors
    /// [`Error::State`], always from an initiator.
    fn release(&mut self) -> Result<(), Error>;
}

/// The machine of `role` under the suite that `params` name. `sorters` are those of a suite that sorts outside of memory;
/// those by a vector correlation keep everything in memory.
///
/// # Errors
/// [`Error::Noise`], [`Error::Invalid`] and [`Error::TooLong`] for parameters that do not fit each other; [`Error::Invalid`] for streamed
/// items but in a count under `dh-ristretto-v1`.
pub fn open(
    role: Role,
    params: Params,
    items: impl Into<Items>,
    seeds: Seeds,
    sorters: Box<dyn SorterFactory>,
) -> Result<Box<dyn Machine>, Error> {
    let items = items.into();
    Ok(match (params.context.suite, role) {
        (Suite::DhRistrettoV1, Role::Initiator) => {
            Box::new(Initiator::new(params, items, seeds, sorters)?)
        }
        (Suite::DhRistrettoV1, Role::Responder) => {
            Box::new(Responder::new(params, items, seeds, sorters)?)
        }
        (Suite::VoleRr22V1 | Suite::VoleRr22MaliciousV1, Role::Initiator) => {
            Box::new(VoleInitiator::new(params, items.into_set()?, seeds)?)
        }
        (Suite::VoleRr22V1 | Suite::VoleRr22MaliciousV1, Role::Responder) => {
            Box::new(VoleResponder::new(params, items.into_set()?, seeds)?)
        }
    })
}

/// Runs two machines against each other in memory, with empty seals and every release granted: for tests and for trying an
/// agreement out. Returns both reports and the frames sent, with the sender's number (0 or 1).
///
/// # Errors
/// The first error of either.
#[allow(clippy::type_complexity)]
pub fn run_in_memory<'a>(
    a: &'a mut dyn Machine,
    b: &'a mut dyn Machine,
) -> Result<(Report, Transcript), Error> {
    let mut transcript = Transcript {
        frames: Vec::new(),
        responder: None,
    };
    let mut queues = [VecDeque::new(), VecDeque::new()];
    let mut reports: [Option<Report>; 2] = [None, None];
    let mut machines = [a, b];
    loop {
        let mut moved = false;
        for (side, machine) in machines.iter_mut().enumerate() {
            let [to_a, to_b] = &mut queues;
            let (inbox, outbox) = if side == 0 {
                (to_a, to_b)
            } else {
                (to_b, to_a)
            };
            let Some(report) = reports.get_mut(side) else {
                continue;
            };
            while report.is_none() {
                match machine.poll()? {
                    Output::Send(frame) => {
                        transcript.frames.push((side, frame.clone()));
                        outbox.push_back(frame);
                    }
                    Output::Progress(_) => {}
                    Output::NeedFrame => match inbox.pop_front() {
                        Some(frame) => machine.input(&frame)?,
                        None => break,
                    },
                    Output::NeedSeal(_) => machine.seal(Vec::new())?,
                    Output::CheckSeal { .. } => machine.accept_seal()?,
                    Output::NeedRelease(_) => machine.release()?,
                    Output::Done(done) => *report = Some(*done),
                }
                moved = true;
            }
        }
        if let [Some(_), Some(_)] = &reports {
            let [a, b] = reports;
            transcript.responder = b;
            return a
                .map(|a| (a, transcript))
                .ok_or(Error::Internal { what: "no report" });
        }
        if !moved {
            return Err(Error::Internal {
                what: "both sides wait",
            });
        }
    }
}

/// What [`run_in_memory`] saw.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// Every frame, with 0 for the first machine's and 1 for the second's.
    pub frames: Vec<(usize, Vec<u8>)>,
    /// The second machine's report.
    pub responder: Option<Report>,
}

impl Transcript {
    /// The frames of one side, decoded.
    ///
    /// # Errors
    /// None for a transcript of [`run_in_memory`].
    pub fn messages(&self, side: usize) -> Result<Vec<Message>, Error> {
        self.frames
            .iter()
            .filter(|(s, _)| *s == side)
            .map(|(_, f)| Message::decode(f))
            .collect()
    }
}
