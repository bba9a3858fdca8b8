//! What the host of a party or of the helper does, and what is signed.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use crate::Error;
use crate::machine::Progress;

/// Who sends or receives a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The party of this place in the terms.
    Party(usize),
    /// The helper.
    Helper,
}

/// Where a statement stands in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlapStage {
    /// The list of the party of this place is complete; signed by it.
    End(usize),
    /// The count is made known; signed by the helper.
    Result,
    /// The party of this place holds it; signed by it.
    Ack(usize),
}

/// What the helper makes known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeKnown {
    /// The count of people in all lists with both noises, so it may be negative; not below [`super::OverlapTerms::min_result`] less one,
    /// which stands for every smaller count.
    pub value: i64,
    /// Drawn by the helper, for a commitment to the count that only those open who have it.
    pub salt: [u8; 32],
}

/// What is signed at a stage; the host puts its own domain before [`Self::to_bytes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlapStatement {
    /// The stage.
    pub stage: OverlapStage,
    /// Digest of the terms.
    pub terms: [u8; 32],
    /// Padded counts and SHA-256 of the lists, in the order of the parties; at an end of the signer's alone.
    pub streams: Vec<(u64, [u8; 32])>,
    /// What is made known, but for ends.
    pub published: Option<MadeKnown>,
}

impl OverlapStatement {
    /// Canonical bytes: version 2 (1 are the statements of two), stage, the party's place or 255, terms, number of lists, each count and
    /// digest, a byte that says whether something is made known, the count, the salt.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (stage, place) = match self.stage {
            OverlapStage::End(i) => (1, u8::try_from(i).unwrap_or(u8::MAX)),
            OverlapStage::Result => (2, u8::MAX),
            OverlapStage::Ack(i) => (3, u8::try_from(i).unwrap_or(u8::MAX)),
        };
        let mut out = vec![2, stage, place];
        out.extend_from_slice(&self.terms);
        // At most eight.
        out.push(u8::try_from(self.streams.len()).unwrap_or(u8::MAX));
        for (count, digest) in &self.streams {
            out.extend_from_slice(&count.to_be_bytes());
            out.extend_from_slice(digest);
        }
        out.push(u8::from(self.published.is_some()));
        let known = self.published.unwrap_or(MadeKnown {
            value: 0,
            salt: [0; 32],
        });
        out.extend_from_slice(&known.value.to_be_bytes());
        out.extend_from_slice(&known.salt);
        out
    }
}

/// The end of a run that succeeded: every party holds the count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlapReport {
    /// What the helper made known.
    pub published: MadeKnown,
    /// The helper's statement of it.
    pub statement: OverlapStatement,
    /// Who signed what: the helper's seal of the result for a party, the parties' acks in their order for the helper.
    pub seals: Vec<Vec<u8>>,
}

/// What the host has to do next. No Debug: a frame may hold a share of the key.
#[derive(Clone, PartialEq, Eq)]
pub enum OverlapOutput {
    /// Send this frame, after all before it, over the stream with this peer. Streams between parties must not pass the helper.
    Send {
        /// To whom.
        to: Peer,
        /// The frame.
        frame: Zeroizing<Vec<u8>>,
    },
    /// Nothing; tell whoever watches.
    Progress(Progress),
    /// Hand any peer's next frame to [`OverlapMachine::input`], or [`OverlapMachine::input_end`].
    NeedFrame,
    /// Sign the statement and hand the signature to [`OverlapMachine::seal`].
    NeedSeal(OverlapStatement),
    /// Verify the peer's signature, then call [`OverlapMachine::accept_seal`], or drop the machine.
    CheckSeal {
        /// Whose.
        from: Peer,
        /// What it must have signed.
        statement: OverlapStatement,
        /// Its signature.
        seal: Vec<u8>,
    },
    /// Helper: commit the release of these lists to the ledger, then call [`OverlapMachine::release`]. Nothing of the count has left
    /// yet. Padded counts and digests, in the order of the parties.
    NeedRelease(Vec<(u64, [u8; 32])>),
    /// Every party holds the count.
    Done(Box<OverlapReport>),
}

/// A party or the helper. After an error the machine is spent: tell every peer with [`crate::messages::abort_frame`] and drop it.
pub trait OverlapMachine: Send {
    /// What to do next; asked again before it is done, it repeats itself.
    ///
    /// # Errors
    /// Any; then the run is over.
    fn poll(&mut self) -> Result<OverlapOutput, Error>;

    /// Takes the next frame of a peer.
    ///
    /// # Errors
    /// Any; then the run is over. [`Error::UnexpectedMessage`] also for a frame that nobody waits for.
    fn input(&mut self, from: Peer, frame: &[u8]) -> Result<(), Error>;

    /// Whether a frame of this peer is due before the end: until then the end of its stream is the end of the run.
    fn is_due(&self, from: Peer) -> bool;

    /// The stream of a peer ended from which a frame is due.
    fn input_end(&self) -> Error;

    /// Answers [`OverlapOutput::NeedSeal`].
    ///
    /// # Errors
    /// [`Error::State`], [`Error::TooLong`].
    fn seal(&mut self, seal: Vec<u8>) -> Result<(), Error>;

    /// Answers [`OverlapOutput::CheckSeal`].
    ///
    /// # Errors
    /// [`Error::State`].
    fn accept_seal(&mut self) -> Result<(), Error>;

    /// Answers [`OverlapOutput::NeedRelease`].
    ///
    /// # Errors
    /// [`Error::State`], always from a party.
    fn release(&mut self) -> Result<(), Error>;
}

/// What [`run_overlap_in_memory`] saw.
pub struct OverlapTranscript {
    /// Every frame: from whom, to whom, what.
    pub frames: Vec<(Peer, Peer, Vec<u8>)>,
    /// The parties' reports in their order, then the helper's.
    pub reports: Vec<OverlapReport>,
}

/// Runs parties, in the order of the terms, and a helper against each other in memory, with empty seals and the release granted: for
/// tests and for trying an agreement out.
///
/// # Errors
/// The first error of any.
pub fn run_overlap_in_memory(
    parties: &mut [&mut dyn OverlapMachine],
    helper: &mut dyn OverlapMachine,
) -> Result<OverlapTranscript, Error> {
    let n = parties.len();
    let place = |peer| match peer {
        Peer::Party(i) => i,
        Peer::Helper => n,
    };
    let mut inboxes = vec![VecDeque::<(Peer, Zeroizing<Vec<u8>>)>::new(); n + 1];
    let mut reports = vec![None; n + 1];
    let mut frames = Vec::new();
    while reports.iter().any(Option::is_none) {
        let mut moved = false;
        for at in 0..=n {
            let me = if at == n {
                Peer::Helper
            } else {
                Peer::Party(at)
            };
            let machine: &mut dyn OverlapMachine = match parties.get_mut(at) {
                Some(party) => *party,
                None => helper,
            };
            while reports.get(at).is_some_and(Option::is_none) {
                match machine.poll()? {
                    OverlapOutput::Send { to, frame } => {
                        frames.push((me, to, frame.to_vec()));
                        if let Some(inbox) = inboxes.get_mut(place(to)) {
                            inbox.push_back((me, frame));
                        }
                    }
                    OverlapOutput::Progress(_) => {}
                    OverlapOutput::NeedFrame => {
                        match inboxes.get_mut(at).and_then(VecDeque::pop_front) {
                            Some((from, frame)) => machine.input(from, &frame)?,
                            None => break,
                        }
                    }
                    OverlapOutput::NeedSeal(_) => machine.seal(Vec::new())?,
                    OverlapOutput::CheckSeal { .. } => machine.accept_seal()?,
                    OverlapOutput::NeedRelease(_) => machine.release()?,
                    OverlapOutput::Done(report) => {
                        if let Some(slot) = reports.get_mut(at) {
                            *slot = Some(*report);
                        }
                    }
                }
                moved = true;
            }
        }
        if !moved {
            return Err(Error::Internal {
                what: "all sides wait",
            });
        }
    }
    Ok(OverlapTranscript {
        frames,
        reports: reports.into_iter().flatten().collect(),
    })
}
