//! What a worker has to know of a bucket, as it lies sealed in the queue.

use tally_contracts::codec::{CodecError, Reader, Writer};
use tally_psi::buckets::{Plan, Rule};
use tally_psi::messages::Role;
use tally_psi::{Computation, Context, IdType, Noise, Params, Party, PeerCount, Profile, Suite};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
/// Longest name of a folder, and longest address of a node.
const MAX_TEXT_BYTES: usize = 256;
/// Most pages of one bucket.
const MAX_PAGES: usize = 1 << 20;

/// A bucket as its worker sees it. Holds the key of the pages: secret.
pub(crate) struct Job {
    pub(crate) role: Role,
    pub(crate) context: Context,
    /// Items of both sides, and by what rule they are cut into buckets.
    pub(crate) counts: [u64; 2],
    pub(crate) rule: Rule,
    pub(crate) kind: (IdType, Profile),
    /// Where the node is, as HOST:PORT.
    pub(crate) node: String,
    /// Where the pages are in the shared store.
    pub(crate) folder: String,
    pub(crate) page_key: Zeroizing<[u8; 32]>,
    pub(crate) page_bytes: usize,
    pub(crate) pages: Vec<u32>,
}

impl Job {
    /// The buckets of the list.
    ///
    /// # Errors
    /// That of [`Plan::of`]; [`tally_psi::Error::Internal`] where the counts need none.
    pub(crate) fn plan(&self) -> Result<Plan, tally_psi::Error> {
        Plan::of(self.counts, self.rule)?.ok_or(tally_psi::Error::Internal {
            what: "a bucket of a list that has none",
        })
    }

    /// The parameters of the run; the plan says how many items the peer brings.
    pub(crate) fn params(&self) -> Params {
        Params {
            context: self.context,
            noise: Noise::NoneInTestNetwork,
            peer: PeerCount::AtMost(0),
        }
    }

    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let c = &self.context;
        let mut w = Writer::new();
        w.u8(VERSION).u8(self.role.number()).u8(c.suite.number());
        w.raw(&c.network).raw(&c.session);
        for party in [&c.initiator, &c.responder] {
            w.raw(&party.member).raw(&party.node);
        }
        w.raw(&c.agreement);
        w.raw(&c.initiator_root).raw(&c.responder_root);
        let [a, b] = self.counts;
        for number in [a, b, self.rule.single, self.rule.mean] {
            w.u64(number);
        }
        w.u8(self.kind.0.0).u8(self.kind.1.0);
        w.text(&self.node).text(&self.folder);
        w.raw(self.page_key.as_slice());
        w.u32(u32::try_from(self.page_bytes).unwrap_or(u32::MAX));
        w.list(&self.pages, |w, page| {
            w.u32(*page);
        });
        Zeroizing::new(w.into_bytes())
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        r.version("version of a job", VERSION)?;
        let invalid = |what, found: u8| CodecError::Invalid {
            what,
            found: found.into(),
        };
        let role = match r.u8("role")? {
            1 => Role::Initiator,
            2 => Role::Responder,
            found => return Err(invalid("role", found)),
        };
        let suite = r.u8("suite")?;
        let suite = Suite::from_number(suite).map_err(|_| invalid("suite", suite))?;
        let (network, session) = (r.array("network")?, r.array("session")?);
        let mut party = || -> Result<Party, CodecError> {
            Ok(Party {
                member: r.array("member")?,
                node: r.array("node")?,
            })
        };
        let context = Context {
            network,
            suite,
            computation: Computation::List,
            session,
            initiator: party()?,
            responder: party()?,
            agreement: r.array("agreement")?,
            initiator_root: r.array("root")?,
            responder_root: r.array("root")?,
        };
        let job = Self {
            role,
            context,
            counts: [r.u64("count")?, r.u64("count")?],
            rule: Rule {
                single: r.u64("rule")?,
                mean: r.u64("rule")?,
            },
            kind: (IdType(r.u8("ID type")?), Profile(r.u8("profile")?)),
            node: r.text("node", MAX_TEXT_BYTES)?,
            folder: r.text("folder", MAX_TEXT_BYTES)?,
            page_key: Zeroizing::new(r.array("page key")?),
            page_bytes: usize::try_from(r.u32("page bytes")?).unwrap_or(usize::MAX),
            pages: r.list("pages", MAX_PAGES, |r| r.u32("page"))?,
        };
        r.finish()?;
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::asks::{Answer, Ask, End, First};
    use crate::workers::queue::Lease;
    use tally_psi::buckets::{Past, Step};
    use tally_psi::{Phase, Progress, Stage, Statement};

    fn job() -> Job {
        let party = |n| Party {
            member: [n; 16],
            node: [n + 1; 32],
        };
        Job {
            role: Role::Responder,
            context: Context {
                network: [1; 32],
                suite: Suite::VoleRr22MaliciousV1,
                computation: Computation::List,
                session: [2; 32],
                initiator: party(3),
                responder: party(5),
                agreement: [7; 32],
                initiator_root: [8; 32],
                responder_root: [9; 32],
            },
            counts: [3_000, 5],
            rule: Rule {
                single: 100,
                mean: 64,
            },
            kind: (IdType(1), Profile(2)),
            node: "10.0.0.7:26690".into(),
            folder: "lists/ab".into(),
            page_key: Zeroizing::new([10; 32]),
            page_bytes: 4096,
            pages: vec![4, 7],
        }
    }

    #[test]
    fn a_job_survives_its_bytes_and_cuts_are_refused() {
        let bytes = job().to_bytes();
        let again = Job::from_bytes(&bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(again.context, job().context);
        assert_eq!(again.plan().unwrap().buckets(), 64);
        assert!((0..bytes.len()).all(|n| Job::from_bytes(&bytes[..n]).is_err()));
        assert!(Job::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn messages_survive_their_bytes_and_cuts_are_refused() {
        let lease = Lease {
            list: [1; 16],
            bucket: 2,
            attempt: 3,
        };
        for first in [First::Asks(lease), First::Frames(lease)] {
            let bytes = first.to_bytes();
            assert_eq!(First::from_bytes(&bytes).unwrap(), first);
            assert!(bytes.len() <= crate::workers::channel::MAX_FIRST_BYTES);
            assert!((0..bytes.len()).all(|n| First::from_bytes(&bytes[..n]).is_err()));
        }
        let statement = Statement {
            stage: Stage::ResponderEnd,
            context: [1; 32],
            counts: [4, 5],
            streams: [[2; 32], [3; 32]],
            published: None,
            sums: None,
        };
        let (bucket, mark) = (6, [7; 32]);
        let asks = [
            Ask::Past,
            Ask::Note(Step::Rewound { bucket }),
            Ask::Note(Step::Begun { bucket, mark }),
            Ask::Note(Step::Answering { bucket, mark }),
            Ask::Note(Step::Finished {
                bucket,
                mark,
                digest: [8; 32],
                rows: vec![9, 10],
            }),
            Ask::Seal(statement.clone()),
            Ask::CheckSeal(statement.clone(), vec![1, 2]),
            Ask::Release(statement),
            Ask::Progress(Progress {
                phase: Phase::Send,
                done: 1,
                total: 2,
            }),
            Ask::End(End::Broke, "it broke".into()),
        ];
        for ask in asks {
            let bytes = ask.to_bytes();
            assert_eq!(Ask::from_bytes(&bytes).unwrap(), ask);
            assert!((0..bytes.len()).all(|n| Ask::from_bytes(&bytes[..n]).is_err()));
            assert!(Ask::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        }
        let long = Ask::End(End::Hopeless, "ü\n".repeat(1000)).to_bytes();
        assert!(matches!(
            Ask::from_bytes(&long),
            Ok(Ask::End(End::Hopeless, why)) if why.len() <= 512 && why.starts_with("ü ")
        ));
        for answer in [
            Answer::Done,
            Answer::Begin(Zeroizing::new([1; 32]), Zeroizing::new([2; 32])),
            Answer::Past(Past::new([3; 32])),
            Answer::Seal(vec![4]),
            Answer::Refused {
                reason: "no".into(),
                over: true,
            },
        ] {
            let bytes = answer.to_bytes();
            let again = Answer::from_bytes(&bytes).unwrap();
            assert_eq!(again.to_bytes(), bytes);
        }
        for wrong in [&b""[..], b"\x09", b"\x02short", b"\x05\x02"] {
            assert!(Answer::from_bytes(wrong).is_none());
        }
    }
}
