//! The machine of one side: an exchange of plans, a run for each bucket, and the closing handshake of them all.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use super::past::{Past, Step};
use super::plan::{Plan, Rule};
use crate::Error;
use crate::context::Computation;
use crate::item::{IdType, ItemSet, ItemSetBuilder, Profile};
use crate::machine::{self, Machine, Outcome, Output, Progress, Report, Stage, Statement};
use crate::messages::{Message, PlanMessage, Role};
use crate::params::{Noise, Params, PeerCount};
use crate::seeds::Seeds;
use crate::sorter::SorterFactory;

/// Takes an item's row and value.
pub type EachItem<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), Error>;

/// Where a host keeps the items of each bucket, and what has been done. Called from the machine's calls, so it may block.
pub trait BucketStore: Send {
    /// Shows every own item of a bucket, with its row in the whole set. Repeated values count once, their first row stays.
    ///
    /// # Errors
    /// [`Error::Storage`], and what `each` gives.
    fn load(&mut self, bucket: u32, each: EachItem<'_>) -> Result<(), Error>;

    /// Notes a step and what is known with it; durable when this returns. The rows of a finished bucket have to be there when `past`
    /// is.
    ///
    /// # Errors
    /// [`Error::Storage`].
    fn note(&mut self, step: &Step, past: &Past) -> Result<(), Error>;

    /// A factory for the sorters of a bucket's run.
    fn sorters(&mut self) -> Box<dyn SorterFactory>;
}

/// One side of a list in buckets.
pub struct Buckets {
    role: Role,
    params: Params,
    context: [u8; 32],
    plan: Plan,
    kind: (IdType, Profile),
    seeds: Seeds,
    store: Box<dyn BucketStore>,
    past: Past,
    out: VecDeque<Output>,
    state: State,
}

/// A bucket under way.
struct Bucket {
    machine: Box<dyn Machine>,
    /// Row in the whole set of each item that was pushed.
    rows: Vec<u64>,
    /// Responder: what it signs for its answer, until that is noted as complete.
    closing: Option<Statement>,
}

enum State {
    /// Initiator: its plan is to be sent. Responder: that of the initiator is awaited.
    Open,
    AwaitPlan,
    Next,
    Running(Box<Bucket>),
    SealResult,
    AwaitResult,
    CheckResult(Vec<u8>),
    SealAck(Vec<u8>),
    AwaitAck,
    CheckAck(Vec<u8>),
    Done(Box<Report>),
    Spent,
}

const PASSED: Error = Error::Internal {
    what: "a list in buckets was passed what it does not take",
};

impl Buckets {
    /// A side that brings the items that `store` shows, and goes on from `past` (empty for a list that is begun). `seeds` are fresh,
    /// also where a list goes on. `params.peer` has to name the peer's count exactly; `None` comes back where the counts need no
    /// buckets and a plain run is due, which [`machine::open`] makes.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Noise`], [`Error::TooLong`] for parameters that do not fit.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        role: Role,
        params: Params,
        own_count: u64,
        kind: (IdType, Profile),
        rule: Rule,
        seeds: Seeds,
        store: Box<dyn BucketStore>,
        mut past: Past,
    ) -> Result<Option<Self>, Error> {
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
        let PeerCount::Exactly(peer_count) = params.peer else {
            return Err(Error::Invalid {
                what: "peer count of a list in buckets",
                found: 0,
            });
        };
        let counts = match role {
            Role::Initiator => [own_count, peer_count],
            Role::Responder => [peer_count, own_count],
        };
        let Some(plan) = Plan::of(counts, rule)? else {
            return Ok(None);
        };
        let context = params.context.digest();
        past.begin(plan.digest(&context))?;
        Ok(Some(Self {
            role,
            context,
            params,
            plan,
            kind,
            seeds,
            store,
            past,
            out: VecDeque::new(),
            state: State::Open,
        }))
    }

    /// Where the list is.
    #[must_use]
    pub const fn past(&self) -> &Past {
        &self.past
    }

    fn note(&mut self, step: &Step) -> Result<(), Error> {
        self.past.take(step)?;
        self.store.note(step, &self.past)
    }

    fn send(&mut self, message: &Message) -> Result<(), Error> {
        self.out.push_back(Output::Send(message.encode()?));
        Ok(())
    }

    fn plan_message(&self) -> PlanMessage {
        PlanMessage {
            role: self.role,
            context: self.context,
            count: Plan::of_side(self.plan.counts(), self.role).0,
            buckets: self.plan.buckets(),
            done: self.past.done(),
            chain: self.past.chain(),
        }
    }

    /// Takes the peer's plan, and goes back by a bucket where the initiator lacks one.
    fn accept_plan(&mut self, theirs: &PlanMessage) -> Result<(), Error> {
        let theirs_due = Plan::of_side(self.plan.counts(), self.role).1;
        if theirs.count != theirs_due {
            return Err(Error::Count {
                what: "claimed elements",
                expected: theirs_due,
                found: theirs.count,
            });
        }
        let mismatch = |what| Err(Error::Mismatch { what });
        if theirs.role == self.role {
            return mismatch("role");
        }
        if theirs.context != self.context {
            return mismatch("context");
        }
        if theirs.buckets != self.plan.buckets() {
            return mismatch("number of buckets");
        }
        let known = match self.role {
            Role::Initiator => (theirs.done == self.past.done()).then(|| self.past.chain()),
            Role::Responder => self.past.chain_at(theirs.done),
        };
        match known {
            Some(chain) if chain == theirs.chain => {}
            Some(_) => return mismatch("chain of finished buckets"),
            None => return mismatch("number of finished buckets"),
        }
        if theirs.done < self.past.done() {
            self.note(&Step::Rewound)?;
        }
        if self.role == Role::Responder && self.past.done() < self.plan.buckets() {
            self.past.check_answer(self.past.done())?;
        }
        Ok(())
    }

    /// Opens the next bucket's run.
    fn next(&mut self) -> Result<State, Error> {
        let bucket = self.past.done();
        if bucket >= self.plan.buckets() {
            return Ok(match self.role {
                Role::Initiator => State::SealResult,
                Role::Responder => State::AwaitResult,
            });
        }
        let (id_type, profile) = self.kind;
        let (capacity, peer_capacity) = Plan::of_side(self.plan.capacities(), self.role);
        let mut builder = ItemSetBuilder::new(id_type, profile);
        let mut rows = Vec::new();
        self.store.load(bucket, &mut |row, value| {
            rows.push(row);
            builder.push(value)
        })?;
        let set = builder.finish()?;
        let (seeds, mark) = self.seeds.bucket(bucket)?;
        let set = filled(set, bucket, capacity, self.role, &seeds)?;
        // From here on nothing of this randomness may serve again.
        self.note(&Step::Begun { bucket, mark })?;
        let params = Params {
            peer: PeerCount::Exactly(peer_capacity),
            ..self.params.clone()
        };
        Ok(State::Running(Box::new(Bucket {
            machine: machine::open(self.role, params, set, seeds, self.store.sorters())?,
            rows,
            closing: None,
        })))
    }

    /// A bucket's statement, bound to its place.
    const fn bound(&self, mut statement: Statement) -> Statement {
        statement.context = self.past.chain();
        statement
    }

    fn chain_with(&self, statement: &Statement) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"tally/psi-bucket-chain/v1\n")
            .chain_update(self.past.chain())
            .chain_update(statement.streams.as_flattened())
            .finalize()
            .into()
    }

    /// What both sides sign for the whole list.
    fn statement(&self, stage: Stage) -> Statement {
        let chain = match stage {
            Stage::InitiatorEnd => [0; 32],
            _ => self.past.chain(),
        };
        Statement {
            stage,
            context: self.context,
            counts: self.plan.counts(),
            streams: [self.plan.digest(&self.context), chain],
            published: None,
            sums: None,
        }
    }

    /// Progress of a bucket as items of the whole list.
    fn progress(&self, inner: Progress) -> Progress {
        let total = Plan::of_side(self.plan.counts(), self.role).0;
        let part = |done: u64, of: u64, total: u64| {
            let part = u128::from(total) * u128::from(done.min(of)) / u128::from(of.max(1));
            u64::try_from(part).unwrap_or(total)
        };
        let buckets = u64::from(self.plan.buckets());
        let before = part(self.past.done().into(), buckets, total);
        let share = part(u64::from(self.past.done()) + 1, buckets, total) - before;
        Progress {
            phase: inner.phase,
            done: before + part(inner.done, inner.total, share),
            total,
        }
    }

    /// Lets the bucket's run give its answer, once that is noted.
    fn answer(&mut self, bucket: &mut Bucket) -> Result<(), Error> {
        self.note(&Step::Answering {
            bucket: self.past.done(),
        })?;
        bucket.machine.release()
    }

    /// One step of a bucket's run: what the host has to do, or the next state.
    fn run(&mut self, mut bucket: Box<Bucket>) -> Result<(State, Option<Output>), Error> {
        let output = match bucket.machine.poll()? {
            Output::Progress(progress) => Output::Progress(self.progress(progress)),
            output @ (Output::Send(_) | Output::NeedFrame) => output,
            Output::NeedSeal(statement) => {
                if !is_signed(statement.stage) {
                    bucket.machine.seal(Vec::new())?;
                    return Ok((State::Running(bucket), None));
                }
                let bound = self.bound(statement.clone());
                if statement.stage == Stage::ResponderEnd {
                    bucket.closing = Some(statement);
                }
                Output::NeedSeal(bound)
            }
            Output::CheckSeal { statement, seal } => {
                if !is_signed(statement.stage) {
                    if !seal.is_empty() {
                        return Err(Error::Invalid {
                            what: "length of a bucket's seal",
                            found: seal.len() as u64,
                        });
                    }
                    bucket.machine.accept_seal()?;
                    return Ok((State::Running(bucket), None));
                }
                Output::CheckSeal {
                    statement: self.bound(statement),
                    seal,
                }
            }
            Output::NeedRelease(_) if self.past.is_answered() => {
                self.answer(&mut bucket)?;
                return Ok((State::Running(bucket), None));
            }
            Output::NeedRelease(_) => Output::NeedRelease(self.statement(Stage::InitiatorEnd)),
            Output::Done(report) => {
                return Ok((self.finish(&bucket, &report)?, None));
            }
        };
        Ok((State::Running(bucket), Some(output)))
    }

    fn finish(&mut self, bucket: &Bucket, report: &Report) -> Result<State, Error> {
        if self.role == Role::Responder {
            return Ok(State::Next);
        }
        let Outcome::Matched { rows } = &report.outcome else {
            return Err(PASSED);
        };
        // A filler that matches would be a false match, of which the odds are 2^-40; it has no row.
        let mut rows: Vec<u64> = rows
            .iter()
            .filter_map(|row| bucket.rows.get(usize::try_from(*row).ok()?).copied())
            .collect();
        rows.sort_unstable();
        self.note(&Step::Finished {
            bucket: self.past.done(),
            chain: self.chain_with(&report.statement),
            rows,
        })?;
        Ok(State::Next)
    }

    fn report(&self, peer_seal: Vec<u8>) -> Report {
        Report {
            outcome: match self.role {
                Role::Initiator => Outcome::Listed {
                    rows: self.past.rows(),
                },
                Role::Responder => Outcome::Served,
            },
            statement: self.statement(Stage::Ack),
            peer_seal,
        }
    }

    /// What a state waits for from the peer, outside of buckets.
    const fn expected(&self, state: &State) -> &'static str {
        match state {
            State::AwaitPlan => "plan",
            State::Open if matches!(self.role, Role::Responder) => "plan",
            State::AwaitResult => "result",
            State::AwaitAck => "ack",
            _ => "nothing",
        }
    }

    /// Leaves the state as it is.
    fn wrong_call(&mut self, call: &'static str, state: State) -> Result<(), Error> {
        self.state = state;
        Err(Error::State {
            call,
            state: "a list in buckets waits for something else",
        })
    }

    fn take_frame(&mut self, state: State, frame: &[u8]) -> Result<State, Error> {
        let expected = self.expected(&state);
        let message = Message::decode(frame)?;
        match (state, message) {
            (_, Message::Abort { code, reason }) => Err(Error::PeerAborted { code, reason }),
            (State::AwaitPlan | State::Open, Message::Plan(plan)) if expected == "plan" => {
                self.accept_plan(&plan)?;
                if self.role == Role::Responder {
                    let own = self.plan_message();
                    self.send(&Message::Plan(own))?;
                }
                Ok(State::Next)
            }
            (
                State::AwaitResult,
                Message::Result {
                    published: None,
                    seal,
                },
            ) => Ok(State::CheckResult(seal)),
            (State::AwaitResult, Message::Result { .. }) => Err(Error::Invalid {
                what: "result kind",
                found: 1,
            }),
            (State::AwaitAck, Message::Ack { seal }) => Ok(State::CheckAck(seal)),
            (_, message) => Err(Error::UnexpectedMessage {
                expected,
                found: message.name(),
            }),
        }
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

impl Machine for Buckets {
    fn poll(&mut self) -> Result<Output, Error> {
        loop {
            if let Some(output) = self.out.pop_front() {
                return Ok(output);
            }
            let (state, output) = match std::mem::replace(&mut self.state, State::Spent) {
                State::Open if self.role == Role::Initiator => {
                    let own = self.plan_message();
                    self.send(&Message::Plan(own))?;
                    (State::AwaitPlan, None)
                }
                State::Next => (self.next()?, None),
                State::Running(bucket) => self.run(bucket)?,
                state @ State::SealResult => {
                    let statement = self.statement(Stage::Result);
                    (state, Some(Output::NeedSeal(statement)))
                }
                state @ State::SealAck(_) => {
                    let statement = self.statement(Stage::Ack);
                    (state, Some(Output::NeedSeal(statement)))
                }
                State::CheckResult(seal) => {
                    let output = Output::CheckSeal {
                        statement: self.statement(Stage::Result),
                        seal: seal.clone(),
                    };
                    (State::CheckResult(seal), Some(output))
                }
                State::CheckAck(seal) => {
                    let output = Output::CheckSeal {
                        statement: self.statement(Stage::Ack),
                        seal: seal.clone(),
                    };
                    (State::CheckAck(seal), Some(output))
                }
                State::Done(report) => {
                    let output = Output::Done(report.clone());
                    (State::Done(report), Some(output))
                }
                State::Spent => {
                    return Err(Error::State {
                        call: "poll",
                        state: "spent",
                    });
                }
                state @ (State::Open | State::AwaitPlan | State::AwaitResult | State::AwaitAck) => {
                    (state, Some(Output::NeedFrame))
                }
            };
            self.state = state;
            if let Some(output) = output {
                return Ok(output);
            }
        }
    }

    fn input(&mut self, frame: &[u8]) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Spent) {
            State::Running(mut bucket) => {
                bucket.machine.input(frame)?;
                self.state = State::Running(bucket);
            }
            state => self.state = self.take_frame(state, frame)?,
        }
        Ok(())
    }

    fn input_end(&self) -> Error {
        match &self.state {
            State::Running(bucket) => bucket.machine.input_end(),
            _ => Error::EarlyEnd {
                expected: self.expected(&self.state),
            },
        }
    }

    fn seal(&mut self, seal: Vec<u8>) -> Result<(), Error> {
        self.state = match std::mem::replace(&mut self.state, State::Spent) {
            State::Running(mut bucket) => {
                bucket.machine.seal(seal)?;
                // Noted before the end leaves: where the initiator has this bucket, this side has it too.
                if let Some(statement) = bucket.closing.take() {
                    self.note(&Step::Finished {
                        bucket: self.past.done(),
                        chain: self.chain_with(&statement),
                        rows: Vec::new(),
                    })?;
                }
                State::Running(bucket)
            }
            State::SealResult => {
                self.send(&Message::Result {
                    published: None,
                    seal,
                })?;
                State::AwaitAck
            }
            State::SealAck(peer_seal) => {
                self.send(&Message::Ack { seal })?;
                State::Done(Box::new(self.report(peer_seal)))
            }
            state => return self.wrong_call("seal", state),
        };
        Ok(())
    }

    fn accept_seal(&mut self) -> Result<(), Error> {
        self.state = match std::mem::replace(&mut self.state, State::Spent) {
            State::Running(mut bucket) => {
                bucket.machine.accept_seal()?;
                State::Running(bucket)
            }
            State::CheckResult(seal) => State::SealAck(seal),
            State::CheckAck(seal) => State::Done(Box::new(self.report(seal))),
            state => return self.wrong_call("accept_seal", state),
        };
        Ok(())
    }

    fn release(&mut self) -> Result<(), Error> {
        self.state = match std::mem::replace(&mut self.state, State::Spent) {
            State::Running(mut bucket) => {
                self.answer(&mut bucket)?;
                State::Running(bucket)
            }
            state => return self.wrong_call("release", state),
        };
        Ok(())
    }
}
