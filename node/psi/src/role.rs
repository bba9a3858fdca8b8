//! What all machines do alike: they wait, repeat what they wait for, refuse what the host calls out of turn, and end with the same
//! handshake. A role says what its state needs, and what follows.

use crate::Error;
use crate::context::Computation;
use crate::link::Link;
use crate::machine::{Outcome, Output, Report, Stage, Statement};
use crate::messages::Message;

/// What a state waits for.
pub(crate) enum Need<'a> {
    /// Nothing from outside.
    Work,
    /// One of these frames, by name.
    Frame(&'static str),
    /// The own seal of a stage, with the published value.
    Seal(Stage, Option<i64>),
    /// The host's check of the peer's seal of a stage.
    Check(Stage, Option<i64>, &'a [u8]),
    /// The release.
    Release,
    /// Nothing any more.
    Done(&'a Report),
}

impl Need<'_> {
    /// In errors.
    const fn name(&self) -> &'static str {
        match self {
            Self::Work => "computing",
            Self::Frame(_) => "waiting for a frame",
            Self::Seal(..) => "a seal is due",
            Self::Check(..) => "a seal is to be checked",
            Self::Release => "the release is due",
            Self::Done(_) => "done",
        }
    }
}

/// A state was asked for what its need does not name: [`Run`] prevents it.
pub(crate) const PASSED: Error = Error::Internal {
    what: "a state was passed what it does not take",
};

/// The shared half of a role: its frames, streams and statements.
pub(crate) trait Wire {
    /// What frames hold.
    type Message;

    /// The next thing that goes out.
    fn next_output(&mut self) -> Option<Output>;

    /// The peer's frame, if it is one of those that are `expected`.
    fn receive(&mut self, frame: &[u8], expected: &'static str) -> Result<Self::Message, Error>;

    /// What is signed at a stage.
    fn statement(&self, stage: Stage, published: Option<i64>) -> Statement;
}

/// The shared half of a role that ends with the handshake of [`Asked`] and [`Answered`].
pub(crate) trait Closing: Wire {
    /// Sends a frame.
    fn send(&mut self, message: &Message) -> Result<(), Error>;

    /// Ends the own stream.
    fn send_end(&mut self, seal: Vec<u8>) -> Result<(), Error>;

    /// Whether the result names a count; a list stays with the initiator.
    fn publishes(&self) -> bool;
}

impl Closing for Link {
    fn send(&mut self, message: &Message) -> Result<(), Error> {
        self.send(message)
    }

    fn send_end(&mut self, seal: Vec<u8>) -> Result<(), Error> {
        self.send_end(seal)
    }

    fn publishes(&self) -> bool {
        self.params.context.computation != Computation::List
    }
}

impl Wire for Link {
    type Message = Message;

    fn next_output(&mut self) -> Option<Output> {
        self.next_output()
    }

    fn receive(&mut self, frame: &[u8], expected: &'static str) -> Result<Message, Error> {
        self.receive(frame, expected)
    }

    fn statement(&self, stage: Stage, published: Option<i64>) -> Statement {
        self.statement(stage, published)
    }
}

/// A role as its states and what leads from one to the next. Each function is called for states whose need it answers.
pub(crate) trait Role {
    /// Where the role is.
    type State;

    /// The type of its shared half.
    type Link: Wire;

    /// The shared half.
    fn link(&mut self) -> &mut Self::Link;

    /// What a state waits for.
    fn need<'a>(&self, state: &'a Self::State) -> Need<'a>;

    /// One unit of work.
    fn work(&mut self, state: Self::State) -> Result<Self::State, Error>;

    /// Takes one of the frames that the state waits for.
    fn take(
        &mut self,
        state: Self::State,
        message: <Self::Link as Wire>::Message,
    ) -> Result<Self::State, Error>;

    /// Takes the own seal.
    fn sealed(&mut self, state: Self::State, seal: Vec<u8>) -> Result<Self::State, Error>;

    /// Goes on: the peer's seal is right.
    fn accepted(&mut self, state: Self::State) -> Result<Self::State, Error>;

    /// Goes on: the release is committed.
    fn released(&mut self, _: Self::State) -> Result<Self::State, Error> {
        Err(PASSED)
    }
}

/// A role under way. Without a state it has failed, and stays so.
pub(crate) struct Run<R: Role> {
    role: R,
    state: Option<R::State>,
}

impl<R: Role> Run<R> {
    pub(crate) const fn new(role: R, state: R::State) -> Self {
        Self {
            role,
            state: Some(state),
        }
    }

    /// The state, if its need is one that `call` answers; else it stays where it is.
    fn state_for(
        &mut self,
        call: &'static str,
        answers: impl Fn(&Need<'_>) -> bool,
    ) -> Result<R::State, Error> {
        let need = self.state.as_ref().map(|state| self.role.need(state));
        match need {
            Some(need) if answers(&need) => {}
            other => {
                return Err(Error::State {
                    call,
                    state: other.map_or("spent", |need| need.name()),
                });
            }
        }
        self.state.take().ok_or(PASSED)
    }

    pub(crate) fn poll(&mut self) -> Result<Output, Error> {
        loop {
            if let Some(output) = self.role.link().next_output() {
                return Ok(output);
            }
            match self.state.as_ref().map(|state| self.role.need(state)) {
                None | Some(Need::Work) => {
                    let state = self.state_for("poll", |need| matches!(need, Need::Work))?;
                    self.state = Some(self.role.work(state)?);
                }
                Some(Need::Frame(_)) => return Ok(Output::NeedFrame),
                Some(Need::Seal(stage, published)) => {
                    let statement = self.role.link().statement(stage, published);
                    return Ok(Output::NeedSeal(statement));
                }
                Some(Need::Check(stage, published, seal)) => {
                    return Ok(Output::CheckSeal {
                        statement: self.role.link().statement(stage, published),
                        seal: seal.to_vec(),
                    });
                }
                Some(Need::Release) => {
                    let statement = self.role.link().statement(Stage::InitiatorEnd, None);
                    return Ok(Output::NeedRelease(statement));
                }
                Some(Need::Done(report)) => return Ok(Output::Done(Box::new(report.clone()))),
            }
        }
    }

    /// What the state waits for; `nothing` where that is no frame.
    fn expected(&self) -> &'static str {
        match self.state.as_ref().map(|state| self.role.need(state)) {
            Some(Need::Frame(names)) => names,
            _ => "nothing",
        }
    }

    pub(crate) fn input(&mut self, frame: &[u8]) -> Result<(), Error> {
        let expected = self.expected();
        // A frame that fails, or that nobody waits for, ends the run.
        let state = self.state.take();
        let message = self.role.link().receive(frame, expected)?;
        self.state = Some(self.role.take(state.ok_or(PASSED)?, message)?);
        Ok(())
    }

    pub(crate) fn input_end(&self) -> Error {
        Error::EarlyEnd {
            expected: self.expected(),
        }
    }

    pub(crate) fn seal(&mut self, seal: Vec<u8>) -> Result<(), Error> {
        let state = self.state_for("seal", |need| matches!(need, Need::Seal(..)))?;
        self.state = Some(self.role.sealed(state, seal)?);
        Ok(())
    }

    pub(crate) fn accept_seal(&mut self) -> Result<(), Error> {
        let state = self.state_for("accept_seal", |need| matches!(need, Need::Check(..)))?;
        self.state = Some(self.role.accepted(state)?);
        Ok(())
    }

    pub(crate) fn release(&mut self) -> Result<(), Error> {
        let state = self.state_for("release", |need| matches!(need, Need::Release))?;
        self.state = Some(self.role.released(state)?);
        Ok(())
    }
}

/// Makes a machine of a type that holds a [`Run`].
macro_rules! machine {
    ($name:ty) => {
        impl crate::machine::Machine for $name {
            fn poll(&mut self) -> Result<crate::machine::Output, crate::Error> {
                self.0.poll()
            }

            fn input(&mut self, frame: &[u8]) -> Result<(), crate::Error> {
                self.0.input(frame)
            }

            fn input_end(&self) -> crate::Error {
                self.0.input_end()
            }

            fn seal(&mut self, seal: Vec<u8>) -> Result<(), crate::Error> {
                self.0.seal(seal)
            }

            fn accept_seal(&mut self) -> Result<(), crate::Error> {
                self.0.accept_seal()
            }

            fn release(&mut self) -> Result<(), crate::Error> {
                self.0.release()
            }
        }
    };
}
pub(crate) use machine;

/// What the initiator will report once the responder has its due.
pub(crate) struct Held {
    pub(crate) published: Option<i64>,
    pub(crate) outcome: Outcome,
}

/// The end of every initiator's run, from its result on.
pub(crate) enum Asked {
    SealResult(Held),
    AwaitAck(Held),
    CheckAck(Held, Vec<u8>),
    Done(Box<Report>),
}

impl Asked {
    pub(crate) fn need(&self) -> Need<'_> {
        match self {
            Self::SealResult(held) => Need::Seal(Stage::Result, held.published),
            Self::AwaitAck(_) => Need::Frame("ack"),
            Self::CheckAck(held, seal) => Need::Check(Stage::Ack, held.published, seal),
            Self::Done(report) => Need::Done(report),
        }
    }

    pub(crate) fn take(self, message: Message) -> Result<Self, Error> {
        match (self, message) {
            (Self::AwaitAck(held), Message::Ack { seal }) => Ok(Self::CheckAck(held, seal)),
            _ => Err(PASSED),
        }
    }

    pub(crate) fn sealed(self, link: &mut impl Closing, seal: Vec<u8>) -> Result<Self, Error> {
        let Self::SealResult(held) = self else {
            return Err(PASSED);
        };
        let published = held.published;
        link.send(&Message::Result { published, seal })?;
        Ok(Self::AwaitAck(held))
    }

    pub(crate) fn accepted(self, link: &impl Closing) -> Result<Self, Error> {
        let Self::CheckAck(held, peer_seal) = self else {
            return Err(PASSED);
        };
        Ok(Self::Done(Box::new(Report {
            statement: link.statement(Stage::Ack, held.published),
            outcome: held.outcome,
            peer_seal,
        })))
    }
}

/// The end of every responder's run, from the end of its stream on.
pub(crate) enum Answered {
    SealEnd,
    AwaitResult,
    CheckResult(Option<i64>, Vec<u8>),
    SealAck(Option<i64>, Vec<u8>),
    Done(Box<Report>),
}

impl Answered {
    pub(crate) fn need(&self) -> Need<'_> {
        match self {
            Self::SealEnd => Need::Seal(Stage::ResponderEnd, None),
            Self::AwaitResult => Need::Frame("result"),
            Self::CheckResult(published, seal) => Need::Check(Stage::Result, *published, seal),
            Self::SealAck(published, _) => Need::Seal(Stage::Ack, *published),
            Self::Done(report) => Need::Done(report),
        }
    }

    pub(crate) fn take(self, link: &impl Closing, message: Message) -> Result<Self, Error> {
        let (Self::AwaitResult, Message::Result { published, seal }) = (self, message) else {
            return Err(PASSED);
        };
        if published.is_some() == link.publishes() {
            Ok(Self::CheckResult(published, seal))
        } else {
            Err(Error::Invalid {
                what: "result kind",
                found: u64::from(published.is_some()),
            })
        }
    }

    pub(crate) fn sealed(self, link: &mut impl Closing, seal: Vec<u8>) -> Result<Self, Error> {
        match self {
            Self::SealEnd => {
                link.send_end(seal)?;
                Ok(Self::AwaitResult)
            }
            Self::SealAck(published, peer_seal) => {
                link.send(&Message::Ack { seal })?;
                Ok(Self::Done(Box::new(Report {
                    outcome: published
                        .map_or(Outcome::Served, |value| Outcome::Published { value }),
                    statement: link.statement(Stage::Ack, published),
                    peer_seal,
                })))
            }
            _ => Err(PASSED),
        }
    }

    pub(crate) fn accepted(self) -> Result<Self, Error> {
        match self {
            Self::CheckResult(published, seal) => Ok(Self::SealAck(published, seal)),
            _ => Err(PASSED),
        }
    }
}
