//! What a side has to know of a list in buckets after its process was killed.

use crate::frame::Reader;
use crate::{Error, MAX_COUNT};

/// How often answered buckets may be asked for again in all: a peer whose process dies between answer and note has to; one that
/// pretends that it did tries at most this many buckets' worth of other items.
pub const MAX_REPEATS: u32 = 4;
/// Most buckets that are begun, finished or not: past it the list is begun anew, with a release of its own.
pub const MAX_BEGUN: usize = (1 << 16) + 4096;

const VERSION: u8 = 1;

/// A step that is durable before what follows from it leaves this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The peer lacks the newest finished bucket; it will be run again.
    Rewound,
    /// A bucket's randomness is used from here on. Never again, also after a restart.
    Begun {
        /// The bucket.
        bucket: u32,
        /// Hash of its seed.
        mark: [u8; 32],
    },
    /// Responder alone: the first byte that depends on its items may leave.
    Answering {
        /// The bucket.
        bucket: u32,
    },
    /// Initiator: a bucket's rows are found and the peer knows. Responder: its answer is complete.
    Finished {
        /// The bucket.
        bucket: u32,
        /// The chain with this bucket.
        chain: [u8; 32],
        /// The initiator's rows in it that the responder has too, ascending; the host keeps them. Empty at the responder.
        rows: Vec<u64>,
    },
}

/// Where a list in buckets is. Public to both sides, but for the marks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    plan: Option<[u8; 32]>,
    done: u32,
    chain: [u8; 32],
    /// The chain before the newest finished bucket.
    before: Option<[u8; 32]>,
    /// Buckets whose answer may have begun to leave.
    answered: u32,
    repeats: u32,
    rows: u64,
    marks: Vec<[u8; 32]>,
}

impl Past {
    /// How many buckets are finished.
    #[must_use]
    pub const fn done(&self) -> u32 {
        self.done
    }

    /// Whether the responder's first answer may have begun to leave: from here on the release is spent.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.answered > 0
    }

    /// How many buckets were begun, finished or not; each with randomness of its own.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.marks.len()
    }

    /// Matching rows found so far.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// The mark of every bucket's randomness that was ever used; no two are alike.
    #[must_use]
    pub fn marks(&self) -> &[[u8; 32]] {
        &self.marks
    }

    pub(super) const fn chain(&self) -> [u8; 32] {
        self.chain
    }

    /// The chain after `done` buckets, if the peer may go on from there: the newest state, or that before the newest finished bucket.
    pub(super) fn chain_at(&self, done: u32) -> Option<[u8; 32]> {
        if done == self.done {
            Some(self.chain)
        } else if done.checked_add(1) == Some(self.done) {
            self.before
        } else {
            None
        }
    }

    /// How often answered buckets would have been asked for again with a run of `bucket`.
    const fn repeats_with(&self, bucket: u32) -> u32 {
        self.repeats + (bucket < self.answered) as u32
    }

    /// Whether a bucket may be answered, the first time or again.
    pub(super) const fn check_answer(&self, bucket: u32) -> Result<(), Error> {
        let found = self.repeats_with(bucket);
        if found > MAX_REPEATS {
            return Err(Error::Repeats {
                found,
                max: MAX_REPEATS,
            });
        }
        Ok(())
    }

    /// Binds the list to its plan: a past of another one is refused.
    pub(super) fn begin(&mut self, plan: [u8; 32]) -> Result<(), Error> {
        match self.plan {
            None => {
                self.plan = Some(plan);
                self.chain = plan;
            }
            Some(known) if known == plan => {}
            Some(_) => return Err(Error::Mismatch { what: "plan" }),
        }
        Ok(())
    }

    /// Takes a step.
    pub(super) fn take(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Rewound => {
                let Some(before) = self.before.take() else {
                    return Err(Error::Internal {
                        what: "nothing to go back to",
                    });
                };
                self.done = self.done.saturating_sub(1);
                self.chain = before;
            }
            Step::Begun { mark, .. } => {
                if self.marks.contains(mark) {
                    return Err(Error::Internal {
                        what: "randomness that was used before",
                    });
                }
                if self.marks.len() >= MAX_BEGUN {
                    return Err(Error::TooLong {
                        what: "buckets that were begun",
                        found: self.marks.len() as u64,
                        max: MAX_BEGUN as u64,
                    });
                }
                self.marks.push(*mark);
            }
            Step::Answering { bucket } => {
                self.check_answer(*bucket)?;
                self.repeats = self.repeats_with(*bucket);
                self.answered = self.answered.max(bucket.saturating_add(1));
            }
            Step::Finished {
                bucket,
                chain,
                rows,
            } => {
                if *bucket != self.done {
                    return Err(Error::Internal {
                        what: "buckets out of order",
                    });
                }
                self.before = Some(self.chain);
                self.chain = *chain;
                self.done += 1;
                self.rows += rows.len() as u64;
            }
        }
        Ok(())
    }

    /// Bytes for the host's store, to be sealed: the marks say nothing, but they are nobody's business.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for hash in [self.plan, Some(self.chain), self.before] {
            out.push(u8::from(hash.is_some()));
            out.extend_from_slice(&hash.unwrap_or_default());
        }
        for number in [self.done, self.answered, self.repeats] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.rows.to_be_bytes());
        out.extend_from_slice(self.marks.as_flattened());
        out
    }

    /// Reads [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Invalid`], [`Error::Trailing`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader(bytes);
        let version = r.u8("version")?;
        if version != VERSION {
            return Err(Error::Invalid {
                what: "version of a list's past",
                found: version.into(),
            });
        }
        let mut hash = || -> Result<Option<[u8; 32]>, Error> {
            let there = r.u8("presence")? == 1;
            let hash = r.array("hash")?;
            Ok(there.then_some(hash))
        };
        let (plan, chain, before) = (hash()?, hash()?, hash()?);
        let [done, answered, repeats] = [r.u32("done")?, r.u32("answered")?, r.u32("repeats")?];
        let rows = r.u64("rows")?;
        let (marks, rest) = r.0.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(Error::Trailing {
                what: "list's past",
                left: rest.len(),
            });
        }
        if rows > MAX_COUNT {
            return Err(Error::Invalid {
                what: "rows",
                found: rows,
            });
        }
        Ok(Self {
            plan,
            done,
            chain: chain.unwrap_or_default(),
            before,
            answered,
            repeats,
            rows,
            marks: marks.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_past_survives_its_bytes_and_cuts_are_refused() {
        let mut past = Past::default();
        past.begin([1; 32]).unwrap();
        let finished = |bucket, rows: &[u64]| Step::Finished {
            bucket,
            chain: [9; 32],
            rows: rows.to_vec(),
        };
        for step in [
            Step::Begun {
                bucket: 0,
                mark: [2; 32],
            },
            Step::Answering { bucket: 0 },
            finished(0, &[3, 4]),
            Step::Begun {
                bucket: 1,
                mark: [3; 32],
            },
        ] {
            assert_eq!(Past::from_bytes(&past.to_bytes()).unwrap(), past);
            past.take(&step).unwrap();
        }
        let bytes = past.to_bytes();
        assert_eq!(Past::from_bytes(&bytes).unwrap(), past);
        assert_eq!((past.done(), past.rows(), past.begun()), (1, 2, 2));
        assert!(
            (1..bytes.len())
                .all(|n| n % 32 == bytes.len() % 32 || Past::from_bytes(&bytes[..n]).is_err())
        );
        // A mark is never taken twice, a bucket never out of order, another plan never.
        let again = Step::Begun {
            bucket: 1,
            mark: [2; 32],
        };
        assert!(matches!(past.take(&again), Err(Error::Internal { .. })));
        assert!(past.take(&finished(0, &[])).is_err());
        assert!(past.begin([2; 32]).is_err() && past.begin([1; 32]).is_ok());
        // Back by one bucket and no further.
        assert_eq!(past.chain_at(0), Some([1; 32]));
        assert_eq!(past.chain_at(2), None);
        past.take(&Step::Rewound).unwrap();
        assert_eq!((past.done(), past.chain()), (0, [1; 32]));
        assert!(past.take(&Step::Rewound).is_err());
    }

    #[test]
    fn answered_buckets_are_answered_again_a_few_times_only() {
        let mut past = Past::default();
        past.take(&Step::Answering { bucket: 0 }).unwrap();
        assert!(past.is_answered());
        for _ in 0..MAX_REPEATS {
            past.take(&Step::Answering { bucket: 0 }).unwrap();
        }
        assert!(matches!(
            past.take(&Step::Answering { bucket: 0 }),
            Err(Error::Repeats { found: 5, .. })
        ));
        assert!(past.take(&Step::Answering { bucket: 1 }).is_ok());
        assert!(past.take(&Step::Answering { bucket: 1 }).is_err());
    }
}
