//! The machine of one side: an exchange of plans, a run for each bucket of the stream, and the closing handshake of the whole list.

use std::collections::VecDeque;

use super::past::{Past, Step};
use super::plan::Plan;
use super::set::{BucketSet, done, place};
use crate::Error;
use crate::context::Computation;
use crate::item::{IdType, ItemSet, ItemSetBuilder, Profile};
use crate::machine::{self, Machine, Outcome, Output, Progress, Report, Stage, Statement};
use crate::messages::{Message, PlanMessage, Role, Scope};
use crate::params::{Noise, Params, PeerCount};
use crate::role::{self, Answered, Asked, Closing, Held, Need, PASSED, Run, Wire};
use crate::seeds::Seeds;
use crate::sorter::SorterFactory;

/// Takes an item's row and value.
pub type EachItem<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), Error>;

/// Where a host keeps the items of each bucket, and what has been done. Called from the machine's calls, so it may block. Machines that
/// run buckets of one list at the same time share the past.
pub trait BucketStore: Send {
    /// Shows every own item of a bucket, with its row in the whole set. Repeated values count once, their first row stays.
    ///
    /// # Errors
    /// [`Error::Storage`], and what `each` gives.
    fn load(&mut self, bucket: u32, each: EachItem<'_>) -> Result<(), Error>;

    /// What has been done so far; that of [`Past::new`] for the plan's digest at first.
    ///
    /// # Errors
    /// [`Error::Storage`].
    fn past(&mut self) -> Result<Past, Error>;

    /// Takes a step by [`Past::take`] and notes it; durable when this returns. The rows of a finished bucket have to be there when the
    /// past that names it is.
    ///
    /// # Errors
    /// Those of [`Past::take`], [`Error::Storage`].
    fn note(&mut self, step: &Step) -> Result<(), Error>;

    /// A factory for the sorters of a bucket's run.
    fn sorters(&mut self) -> Box<dyn SorterFactory>;
}

/// One side of a list in buckets, on one stream.
pub struct Buckets(Run<Side>);

role::machine!(Buckets);

struct Side {
    line: Line,
    params: Params,
    kind: (IdType, Profile),
    scope: Scope,
    seeds: Seeds,
    store: Box<dyn BucketStore>,
    /// Buckets that are to be run on this stream, once that is agreed.
    todo: VecDeque<u32>,
    /// Buckets of the scope that were finished before it, or have been since.
    done: u64,
}

/// What leaves this side, and what is signed.
struct Line {
    role: Role,
    context: [u8; 32],
    plan: Plan,
    digest: [u8; 32],
    out: VecDeque<Output>,
    /// What is to be signed or checked in the bucket under way.
    in_bucket: Option<Statement>,
    /// Digest over the buckets that the initiator had finished, then over all.
    set: [u8; 32],
}

/// A bucket under way.
struct Bucket {
    number: u32,
    mark: [u8; 32],
    machine: Box<dyn Machine>,
    /// Row in the whole set of each item that was pushed.
    rows: Vec<u64>,
    /// Responder: what it signs for its answer, until that is noted as complete.
    closing: Option<Statement>,
}

/// What a bucket's machine waits for.
enum Wait {
    Frame,
    Seal(Stage),
    Check(Stage, Vec<u8>),
    Release,
}

enum State {
    Start,
    AwaitPlan(BucketSet),
    Next,
    Running(Box<Bucket>),
    Waiting(Box<Bucket>, Wait),
    Asked(Asked),
    Answered(Answered),
    /// One bucket was to be run, and was.
    Done(Box<Report>),
}

/// A frame of a bucket, which its own machine reads, or one of the list.
enum Frame {
    Bucket(Vec<u8>),
    List(Message),
}

/// What a bucket's machine waits for, in errors.
const BUCKET_FRAME: &str = "a frame of a bucket";

impl Wire for Line {
    type Message = Frame;

    fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn receive(&mut self, frame: &[u8], expected: &'static str) -> Result<Frame, Error> {
        if expected == BUCKET_FRAME {
            return Ok(Frame::Bucket(frame.to_vec()));
        }
        match Message::decode(frame)? {
            Message::Abort { code, reason } => Err(Error::PeerAborted { code, reason }),
            message if message.name() == expected => Ok(Frame::List(message)),
            message => Err(Error::UnexpectedMessage {
                expected,
                found: message.name(),
            }),
        }
    }

    /// In a bucket what its run signs there; else what both sides sign for the whole list.
    fn statement(&self, stage: Stage, published: Option<i64>) -> Statement {
        self.in_bucket.clone().unwrap_or_else(|| Statement {
            stage,
            context: self.context,
            counts: self.plan.counts(),
            streams: [
                self.digest,
                match stage {
                    Stage::InitiatorEnd => [0; 32],
                    _ => self.set,
                },
            ],
            published,
            sums: None,
        })
    }
}

impl Closing for Line {
    fn send(&mut self, message: &Message) -> Result<(), Error> {
        self.out.push_back(Output::Send(message.encode()?));
        Ok(())
    }

    fn send_end(&mut self, _: Vec<u8>) -> Result<(), Error> {
        Err(PASSED)
    }

    fn publishes(&self) -> bool {
        false
    }
}

impl Line {
    fn send_plan(&mut self, scope: Scope, finished: BucketSet) -> Result<(), Error> {
        let message = Message::Plan(PlanMessage {
            role: self.role,
            context: self.context,
            count: Plan::of_side(self.plan.counts(), self.role).0,
            buckets: self.plan.buckets(),
            scope,
            finished,
            digest: self.set,
        });
        self.send(&message)
    }

    /// A bucket's statement, bound to its place.
    fn bind(&self, bucket: u32, mut statement: Statement) -> Statement {
        statement.context = place(&self.digest, bucket);
        statement
    }
}

impl Buckets {
    /// A side that brings the items that `store` shows, and goes on from its past. On the stream run the buckets of `scope`; both
    /// sides have to name the same. `seeds` are fresh, also where a list goes on. The peer's count is the plan's, whatever `params.peer`
    /// says.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Noise`] for parameters that do not fit, [`Error::Mismatch`] for a past of another plan; what the store
    /// gives.
    pub fn new(
        role: Role,
        params: Params,
        plan: Plan,
        kind: (IdType, Profile),
        scope: Scope,
        seeds: Seeds,
        mut store: Box<dyn BucketStore>,
    ) -> Result<Self, Error> {
        if params.context.computation != Computation::List {
            return Err(Error::Invalid {
                what: "computation in buckets",
                found: params.context.computation.number().into(),
            });
        }
        if params.noise != Noise::NoneInTestNetwork {
            return Err(Error::Noise {
                reason: "a list carries no noise",
            });
        }
        if let Scope::One(bucket) = scope
            && bucket >= plan.buckets()
        {
            return Err(Error::Invalid {
                what: "bucket",
                found: bucket.into(),
            });
        }
        let context = params.context.digest();
        let digest = plan.digest(&context);
        if *store.past()?.plan() != digest {
            return Err(Error::Mismatch { what: "plan" });
        }
        let side = Side {
            line: Line {
                role,
                context,
                plan,
                digest,
                out: VecDeque::new(),
                in_bucket: None,
                set: [0; 32],
            },
            params,
            kind,
            scope,
            seeds,
            store,
            todo: VecDeque::new(),
            done: 0,
        };
        Ok(Self(Run::new(side, State::Start)))
    }
}

impl Side {
    const fn is_initiator(&self) -> bool {
        matches!(self.line.role, Role::Initiator)
    }

    /// Refuses a plan that is not that of this side.
    fn check_plan(&self, theirs: &PlanMessage) -> Result<(), Error> {
        let due = Plan::of_side(self.line.plan.counts(), self.line.role).1;
        if theirs.count != due {
            return Err(Error::Count {
                what: "claimed elements",
                expected: due,
                found: theirs.count,
            });
        }
        let what = if theirs.role == self.line.role {
            "role"
        } else if theirs.context != self.line.context {
            "context"
        } else if theirs.buckets != self.line.plan.buckets() {
            "number of buckets"
        } else if theirs.scope != self.scope {
            "buckets of the stream"
        } else {
            return Ok(());
        };
        Err(Error::Mismatch { what })
    }

    /// Responder: takes up where the initiator is. What it has finished this side has finished too; what it lacks is run again.
    fn follow(&mut self, theirs: &PlanMessage) -> Result<(), Error> {
        let past = self.store.past()?;
        if past.digest_over(&theirs.finished) != Some(theirs.digest) {
            return Err(Error::Mismatch {
                what: "finished buckets",
            });
        }
        self.line.set = theirs.digest;
        self.agree_on(&theirs.finished)?;
        if let Some(next) = self.todo.front() {
            past.check_answer(*next)?;
        }
        for bucket in self.todo.iter().filter(|b| past.is_finished(**b)) {
            self.store.note(&Step::Rewound { bucket: *bucket })?;
        }
        Ok(())
    }

    /// What is left to do on this stream.
    fn agree_on(&mut self, finished: &BucketSet) -> Result<(), Error> {
        match self.scope {
            Scope::All => {
                self.todo = finished.missing().collect();
                self.done = finished.len().into();
            }
            Scope::One(bucket) if finished.contains(bucket) => {
                return Err(Error::Mismatch {
                    what: "finished buckets",
                });
            }
            Scope::One(bucket) => self.todo = VecDeque::from([bucket]),
        }
        Ok(())
    }

    /// Opens the next bucket's run, or ends the list.
    fn next(&mut self) -> Result<State, Error> {
        let Some(number) = self.todo.pop_front() else {
            return self.close();
        };
        let (id_type, profile) = self.kind;
        let capacities = self.line.plan.capacities();
        let (capacity, peer_capacity) = Plan::of_side(capacities, self.line.role);
        let mut builder = ItemSetBuilder::new(id_type, profile);
        let mut rows = Vec::new();
        self.store.load(number, &mut |row, value| {
            rows.push(row);
            builder.push(value)
        })?;
        let set = builder.finish()?;
        let (seeds, mark) = self.seeds.bucket(number)?;
        let set = filled(set, number, capacity, self.line.role, &seeds)?;
        // From here on nothing of this randomness may serve again.
        let bucket = number;
        self.store.note(&Step::Begun { bucket, mark })?;
        let params = Params {
            peer: PeerCount::Exactly(peer_capacity),
            ..self.params.clone()
        };
        let sorters = self.store.sorters();
        Ok(State::Running(Box::new(Bucket {
            number,
            mark,
            machine: machine::open(self.line.role, params, set, seeds, sorters)?,
            rows,
            closing: None,
        })))
    }

    /// Nothing is left: the closing handshake of the list.
    fn close(&mut self) -> Result<State, Error> {
        let past = self.store.past()?;
        let set = past.set(&self.line.plan);
        let all = past
            .digest_over(&set)
            .filter(|_| past.done() == self.line.plan.buckets());
        self.line.set = all.ok_or(Error::Internal {
            what: "a finished bucket that is not",
        })?;
        Ok(if self.is_initiator() {
            State::Asked(Asked::SealResult(Held {
                published: None,
                outcome: Outcome::Listed { rows: past.rows() },
            }))
        } else {
            State::Answered(Answered::AwaitResult)
        })
    }

    /// Progress of a bucket as items of all that are run on this stream.
    fn progress(&self, inner: Progress) -> Progress {
        let all = Plan::of_side(self.line.plan.counts(), self.line.role).0;
        let part = |done: u64, of: u64, total: u64| {
            let part = u128::from(total) * u128::from(done.min(of)) / u128::from(of.max(1));
            u64::try_from(part).unwrap_or(total)
        };
        let buckets = u64::from(self.line.plan.buckets());
        let (total, of) = match self.scope {
            Scope::All => (all, buckets),
            Scope::One(_) => (part(1, buckets, all), 1),
        };
        let before = part(self.done, of, total);
        let share = part(self.done + 1, of, total) - before;
        Progress {
            phase: inner.phase,
            done: before + part(inner.done, inner.total, share),
            total,
        }
    }

    /// Lets the bucket's run give its answer, once that is noted.
    fn answer(&mut self, bucket: &mut Bucket) -> Result<(), Error> {
        self.store.note(&Step::Answering {
            bucket: bucket.number,
            mark: bucket.mark,
        })?;
        bucket.machine.release()
    }

    /// One step of a bucket's run.
    fn run(&mut self, mut bucket: Box<Bucket>) -> Result<State, Error> {
        let wait = match bucket.machine.poll()? {
            Output::Progress(progress) => {
                let progress = self.progress(progress);
                self.line.out.push_back(Output::Progress(progress));
                return Ok(State::Running(bucket));
            }
            output @ Output::Send(_) => {
                self.line.out.push_back(output);
                return Ok(State::Running(bucket));
            }
            Output::NeedFrame => Wait::Frame,
            Output::NeedSeal(statement) if is_signed(statement.stage) => {
                let stage = statement.stage;
                self.line.in_bucket = Some(self.line.bind(bucket.number, statement.clone()));
                if stage == Stage::ResponderEnd {
                    bucket.closing = Some(statement);
                }
                Wait::Seal(stage)
            }
            Output::NeedSeal(_) => {
                bucket.machine.seal(Vec::new())?;
                return Ok(State::Running(bucket));
            }
            Output::CheckSeal { statement, seal } if is_signed(statement.stage) => {
                let stage = statement.stage;
                self.line.in_bucket = Some(self.line.bind(bucket.number, statement));
                Wait::Check(stage, seal)
            }
            Output::CheckSeal { seal, .. } => {
                if !seal.is_empty() {
                    return Err(Error::Invalid {
                        what: "length of a bucket's seal",
                        found: seal.len() as u64,
                    });
                }
                bucket.machine.accept_seal()?;
                return Ok(State::Running(bucket));
            }
            Output::NeedRelease(_) if self.store.past()?.is_answered() => {
                self.answer(&mut bucket)?;
                return Ok(State::Running(bucket));
            }
            Output::NeedRelease(_) => Wait::Release,
            Output::Done(report) => return self.finish(&bucket, &report),
        };
        Ok(State::Waiting(bucket, wait))
    }

    fn note_finished(
        &mut self,
        bucket: &Bucket,
        statement: &Statement,
        rows: Vec<u64>,
    ) -> Result<(), Error> {
        self.store.note(&Step::Finished {
            bucket: bucket.number,
            mark: bucket.mark,
            digest: done(&self.line.digest, bucket.number, &statement.streams),
            rows,
        })
    }

    fn finish(&mut self, bucket: &Bucket, report: &Report) -> Result<State, Error> {
        self.done += 1;
        let mut outcome = Outcome::Served;
        if self.is_initiator() {
            let Outcome::Matched { rows } = &report.outcome else {
                return Err(PASSED);
            };
            // A filler that matches would be a false match, of which the odds are 2^-40; it has no row.
            let mut rows: Vec<u64> = rows
                .iter()
                .filter_map(|row| bucket.rows.get(usize::try_from(*row).ok()?).copied())
                .collect();
            rows.sort_unstable();
            outcome = Outcome::Listed {
                rows: rows.len() as u64,
            };
            self.note_finished(bucket, &report.statement, rows)?;
        }
        Ok(match self.scope {
            Scope::All => State::Next,
            Scope::One(_) => State::Done(Box::new(Report {
                outcome,
                statement: self.line.bind(bucket.number, report.statement.clone()),
                peer_seal: Vec::new(),
            })),
        })
    }
}

impl role::Role for Side {
    type State = State;
    type Link = Line;

    fn link(&mut self) -> &mut Line {
        &mut self.line
    }

    fn need<'a>(&self, state: &'a State) -> Need<'a> {
        match state {
            State::Start if !self.is_initiator() => Need::Frame("plan"),
            State::Start | State::Next | State::Running(_) => Need::Work,
            State::AwaitPlan(_) => Need::Frame("plan"),
            State::Waiting(_, wait) => match wait {
                Wait::Frame => Need::Frame(BUCKET_FRAME),
                Wait::Seal(stage) => Need::Seal(*stage, None),
                Wait::Check(stage, seal) => Need::Check(*stage, None, seal),
                Wait::Release => Need::Release,
            },
            State::Asked(end) => end.need(),
            State::Answered(end) => end.need(),
            State::Done(report) => Need::Done(report),
        }
    }

    fn work(&mut self, state: State) -> Result<State, Error> {
        match state {
            State::Start => {
                let past = self.store.past()?;
                let finished = past.set(&self.line.plan);
                self.line.set = past.digest_over(&finished).ok_or(PASSED)?;
                self.line.send_plan(self.scope, finished.clone())?;
                Ok(State::AwaitPlan(finished))
            }
            State::Next => self.next(),
            State::Running(bucket) => self.run(bucket),
            _ => Err(PASSED),
        }
    }

    fn take(&mut self, state: State, frame: Frame) -> Result<State, Error> {
        Ok(match (state, frame) {
            (State::Start, Frame::List(Message::Plan(theirs))) => {
                self.check_plan(&theirs)?;
                self.follow(&theirs)?;
                self.line.send_plan(self.scope, theirs.finished)?;
                State::Next
            }
            (State::AwaitPlan(finished), Frame::List(Message::Plan(theirs))) => {
                self.check_plan(&theirs)?;
                if theirs.finished != finished || theirs.digest != self.line.set {
                    return Err(Error::Mismatch {
                        what: "finished buckets",
                    });
                }
                self.agree_on(&finished)?;
                State::Next
            }
            (State::Waiting(mut bucket, Wait::Frame), Frame::Bucket(frame)) => {
                bucket.machine.input(&frame)?;
                State::Running(bucket)
            }
            (State::Asked(end), Frame::List(message)) => State::Asked(end.take(message)?),
            (State::Answered(end), Frame::List(message)) => {
                State::Answered(end.take(&self.line, message)?)
            }
            _ => return Err(PASSED),
        })
    }

    fn sealed(&mut self, state: State, seal: Vec<u8>) -> Result<State, Error> {
        Ok(match state {
            State::Waiting(mut bucket, Wait::Seal(_)) => {
                self.line.in_bucket = None;
                bucket.machine.seal(seal)?;
                // Noted before the end leaves: where the initiator has this bucket, this side has it too.
                if let Some(statement) = bucket.closing.take() {
                    self.note_finished(&bucket, &statement, Vec::new())?;
                }
                State::Running(bucket)
            }
            State::Asked(end) => State::Asked(end.sealed(&mut self.line, seal)?),
            State::Answered(end) => State::Answered(end.sealed(&mut self.line, seal)?),
            _ => return Err(PASSED),
        })
    }

    fn accepted(&mut self, state: State) -> Result<State, Error> {
        Ok(match state {
            State::Waiting(mut bucket, Wait::Check(..)) => {
                self.line.in_bucket = None;
                bucket.machine.accept_seal()?;
                State::Running(bucket)
            }
            State::Asked(end) => State::Asked(end.accepted(&self.line)?),
            State::Answered(end) => State::Answered(end.accepted()?),
            _ => return Err(PASSED),
        })
    }

    fn released(&mut self, state: State) -> Result<State, Error> {
        let State::Waiting(mut bucket, Wait::Release) = state else {
            return Err(PASSED);
        };
        self.answer(&mut bucket)?;
        Ok(State::Running(bucket))
    }
}

/// Both ends of a bucket's streams are signed; its result and ack are not, since those of the whole list are.
const fn is_signed(stage: Stage) -> bool {
    matches!(stage, Stage::InitiatorEnd | Stage::ResponderEnd)
}

/// Fills a bucket up to its room.
fn filled(
    mut set: ItemSet,
    bucket: u32,
    capacity: u64,
    role: Role,
    seeds: &Seeds,
) -> Result<ItemSet, Error> {
    let found = set.len() as u64;
    if found > capacity {
        return Err(Error::BucketFull {
            bucket,
            capacity,
            found,
        });
    }
    let len = usize::try_from(capacity).map_err(|_| Error::Internal { what: "capacity" })?;
    set.fill(len, role, &mut seeds.draw(b"bucket fillers")?)?;
    Ok(set)
}
