//! What a side has to know of a list in buckets after its process was killed.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::Plan;
use super::set::{BucketSet, digest};
use crate::frame::Reader;
use crate::{Error, MAX_COUNT};

/// How often answered buckets may be asked for again in all: a peer whose process dies between answer and note has to; one that
/// pretends that it did tries at most this many buckets' worth of other items.
pub const MAX_REPEATS: u32 = 4;
/// Most buckets that are begun, finished or not: past it the list is begun anew, with a release of its own.
pub const MAX_BEGUN: usize = (1 << 16) + 4096;

const VERSION: u8 = 2;

/// A step that is durable before what follows from it leaves this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The peer lacks a finished bucket; it will be run again.
    Rewound {
        /// The bucket.
        bucket: u32,
    },
    /// A bucket's randomness is used from here on. Never again, also after a restart. What was under way in the bucket is over.
    Begun {
        /// The bucket.
        bucket: u32,
        /// Hash of its seed: it names the attempt.
        mark: [u8; 32],
    },
    /// Responder alone: the first byte that depends on its items may leave.
    Answering {
        /// The bucket.
        bucket: u32,
        /// The attempt, which has to be the bucket's newest.
        mark: [u8; 32],
    },
    /// Initiator: a bucket's rows are found and the peer knows. Responder: its answer is complete.
    Finished {
        /// The bucket.
        bucket: u32,
        /// The attempt, which has to be the bucket's newest.
        mark: [u8; 32],
        /// What was done: a hash over both streams of the bucket.
        digest: [u8; 32],
        /// The initiator's rows in it that the responder has too, ascending; the host keeps them. Empty at the responder.
        rows: Vec<u64>,
    },
}

/// Where a list in buckets is. Public to both sides, but for the marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    plan: [u8; 32],
    finished: BTreeMap<u32, [u8; 32]>,
    /// Buckets whose answer may have begun to leave.
    answered: BTreeSet<u32>,
    repeats: u32,
    rows: u64,
    /// Bucket and mark of every attempt.
    marks: Vec<(u32, [u8; 32])>,
}

impl Past {
    /// That of a list that is begun, bound to its plan's digest.
    #[must_use]
    pub const fn new(plan: [u8; 32]) -> Self {
        Self {
            plan,
            finished: BTreeMap::new(),
            answered: BTreeSet::new(),
            repeats: 0,
            rows: 0,
            marks: Vec::new(),
        }
    }

    /// The digest of the plan.
    #[must_use]
    pub const fn plan(&self) -> &[u8; 32] {
        &self.plan
    }

    /// How many buckets are finished.
    #[must_use]
    pub fn done(&self) -> u32 {
        u32::try_from(self.finished.len()).unwrap_or(u32::MAX)
    }

    /// Whether a bucket is finished.
    #[must_use]
    pub fn is_finished(&self, bucket: u32) -> bool {
        self.finished.contains_key(&bucket)
    }

    /// The finished buckets, ascending.
    pub fn finished(&self) -> impl Iterator<Item = u32> {
        self.finished.keys().copied()
    }

    /// Whether the responder's first answer may have begun to leave: from here on the release is spent.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !self.answered.is_empty()
    }

    /// How many attempts at buckets were begun, finished or not; each with randomness of its own.
    #[must_use]
    pub const fn begun(&self) -> usize {
        self.marks.len()
    }

    /// Matching rows found so far.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Bucket and mark of every attempt; no two marks are alike.
    #[must_use]
    pub fn marks(&self) -> &[(u32, [u8; 32])] {
        &self.marks
    }

    /// The finished buckets of a plan.
    pub(super) fn set(&self, plan: &Plan) -> BucketSet {
        let mut set = BucketSet::empty(plan.buckets());
        self.finished.keys().for_each(|bucket| set.insert(*bucket));
        set
    }

    /// The digest over the buckets of `set`; `None` if one of them is not finished.
    pub(super) fn digest_over(&self, set: &BucketSet) -> Option<[u8; 32]> {
        let known = self.finished.keys().filter(|b| set.contains(**b)).count();
        (u64::from(set.len()) == known as u64).then(|| digest(set, &self.finished))
    }

    /// How often answered buckets would have been asked for again with an answer in `bucket`.
    fn repeats_with(&self, bucket: u32) -> u32 {
        self.repeats + u32::from(self.answered.contains(&bucket))
    }

    /// Whether a bucket may be answered, the first time or again.
    pub(super) fn check_answer(&self, bucket: u32) -> Result<(), Error> {
        let found = self.repeats_with(bucket);
        if found > MAX_REPEATS {
            return Err(Error::Repeats {
                found,
                max: MAX_REPEATS,
            });
        }
        Ok(())
    }

    /// Whether an attempt is the newest of its bucket, which is not finished.
    fn check_newest(&self, bucket: u32, mark: &[u8; 32]) -> Result<(), Error> {
        let newest = self.marks.iter().rfind(|(of, _)| *of == bucket);
        if self.is_finished(bucket) || newest.is_none_or(|(_, newest)| newest != mark) {
            return Err(Error::Internal {
                what: "an attempt at a bucket that another one has followed",
            });
        }
        Ok(())
    }

    /// Takes a step. After an error nothing has changed.
    ///
    /// # Errors
    /// [`Error::Internal`] for a step that does not follow: randomness that was used before, a bucket that is finished, an attempt
    /// that is not the newest of its bucket, so that of two only one counts. [`Error::Repeats`], [`Error::TooLong`].
    pub fn take(&mut self, step: &Step) -> Result<(), Error> {
        let wrong = |what| Err(Error::Internal { what });
        match step {
            Step::Rewound { bucket } => {
                if self.finished.remove(bucket).is_none() {
                    return wrong("nothing to go back to");
                }
            }
            Step::Begun { bucket, mark } => {
                if self.marks.iter().any(|(_, used)| used == mark) {
                    return wrong("randomness that was used before");
                }
                if self.is_finished(*bucket) {
                    return wrong("a bucket that is finished");
                }
                if self.marks.len() >= MAX_BEGUN {
                    return Err(Error::TooLong {
                        what: "buckets that were begun",
                        found: self.marks.len() as u64,
                        max: MAX_BEGUN as u64,
                    });
                }
                self.marks.push((*bucket, *mark));
            }
            Step::Answering { bucket, mark } => {
                self.check_newest(*bucket, mark)?;
                self.check_answer(*bucket)?;
                self.repeats = self.repeats_with(*bucket);
                self.answered.insert(*bucket);
            }
            Step::Finished {
                bucket,
                mark,
                digest,
                rows,
            } => {
                self.check_newest(*bucket, mark)?;
                self.finished.insert(*bucket, *digest);
                self.rows += rows.len() as u64;
            }
        }
        Ok(())
    }

    /// Bytes for the host's store, to be sealed: the marks say nothing, but they are nobody's business.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.plan);
        out.extend_from_slice(&self.repeats.to_be_bytes());
        out.extend_from_slice(&self.rows.to_be_bytes());
        let counts = [self.finished.len(), self.answered.len(), self.marks.len()];
        for count in counts {
            // At most MAX_BEGUN.
            out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        }
        let mut put = |bucket: &u32, hash: &[u8]| {
            out.extend_from_slice(&bucket.to_be_bytes());
            out.extend_from_slice(hash);
        };
        self.finished.iter().for_each(|(b, digest)| put(b, digest));
        self.answered.iter().for_each(|b| put(b, &[]));
        self.marks.iter().for_each(|(b, mark)| put(b, mark));
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
        let mut past = Self::new(r.array("plan")?);
        past.repeats = r.u32("repeats")?;
        past.rows = r.u64("rows")?;
        if past.rows > MAX_COUNT {
            return Err(Error::Invalid {
                what: "rows",
                found: past.rows,
            });
        }
        let counts = [
            r.u32("finished buckets")?,
            r.u32("answered buckets")?,
            r.u32("attempts")?,
        ];
        let [finished, answered, marks] = counts;
        for _ in 0..finished {
            past.finished.insert(r.u32("bucket")?, r.array("digest")?);
        }
        for _ in 0..answered {
            past.answered.insert(r.u32("bucket")?);
        }
        for _ in 0..marks {
            past.marks.push((r.u32("bucket")?, r.array("mark")?));
        }
        r.end("list's past")?;
        Ok(past)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn begun(bucket: u32, mark: u8) -> Step {
        Step::Begun {
            bucket,
            mark: [mark; 32],
        }
    }

    const fn answering(bucket: u32, mark: u8) -> Step {
        Step::Answering {
            bucket,
            mark: [mark; 32],
        }
    }

    fn finished(bucket: u32, mark: u8, rows: &[u64]) -> Step {
        Step::Finished {
            bucket,
            mark: [mark; 32],
            digest: [100 + mark; 32],
            rows: rows.to_vec(),
        }
    }

    #[test]
    fn a_past_survives_its_bytes_and_cuts_are_refused() {
        let mut past = Past::new([1; 32]);
        // In any order, several at a time.
        for step in [
            begun(3, 2),
            begun(0, 3),
            answering(0, 3),
            answering(3, 2),
            finished(3, 2, &[3, 4]),
            begun(1, 4),
        ] {
            assert_eq!(Past::from_bytes(&past.to_bytes()).unwrap(), past);
            past.take(&step).unwrap();
        }
        let bytes = past.to_bytes();
        assert_eq!(Past::from_bytes(&bytes).unwrap(), past);
        assert_eq!((past.done(), past.rows(), past.begun()), (1, 2, 3));
        assert!((0..bytes.len()).all(|n| Past::from_bytes(&bytes[..n]).is_err()));
        assert!(Past::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        // A mark is never taken twice, nor a bucket that is finished.
        for step in [begun(1, 2), begun(3, 9), finished(3, 2, &[])] {
            assert!(matches!(past.take(&step), Err(Error::Internal { .. })));
        }
        let plan = Plan::of(
            [500, 1],
            crate::buckets::Rule {
                single: 1,
                mean: 100,
            },
        );
        let plan = plan.unwrap().unwrap();
        let mut set = past.set(&plan);
        assert_eq!(set.missing().collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6, 7]);
        assert!(past.digest_over(&set).is_some());
        set.insert(0);
        assert_eq!(past.digest_over(&set), None);
        past.take(&Step::Rewound { bucket: 3 }).unwrap();
        assert!(past.take(&Step::Rewound { bucket: 3 }).is_err());
        assert_eq!(past.done(), 0);
    }

    #[test]
    fn of_two_attempts_at_a_bucket_only_the_newest_counts() {
        let mut past = Past::new([1; 32]);
        past.take(&begun(5, 1)).unwrap();
        past.take(&begun(6, 2)).unwrap();
        past.take(&begun(5, 3)).unwrap();
        for step in [answering(5, 1), finished(5, 1, &[1]), finished(7, 3, &[])] {
            let before = past.clone();
            assert!(matches!(past.take(&step), Err(Error::Internal { .. })));
            assert_eq!(past, before);
        }
        past.take(&finished(5, 3, &[1])).unwrap();
        past.take(&finished(6, 2, &[2, 3])).unwrap();
        assert_eq!(past.rows(), 3);
    }

    #[test]
    fn answered_buckets_are_answered_again_a_few_times_only() {
        let mut past = Past::new([1; 32]);
        let mut mark = 0;
        let mut answer = |past: &mut Past, bucket| {
            mark += 1;
            past.take(&begun(bucket, mark)).unwrap();
            past.take(&answering(bucket, mark))
        };
        answer(&mut past, 0).unwrap();
        answer(&mut past, 7).unwrap();
        assert!(past.is_answered());
        // In all, whichever buckets they are.
        for bucket in [0, 7, 7, 0] {
            answer(&mut past, bucket).unwrap();
        }
        for bucket in [0, 7] {
            let refused = answer(&mut past, bucket);
            assert!(matches!(refused, Err(Error::Repeats { found: 5, .. })));
        }
        assert!(answer(&mut past, 1).is_ok());
        assert!(answer(&mut past, 1).is_err());
    }
}
