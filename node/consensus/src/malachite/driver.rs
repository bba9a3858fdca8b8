//! The loop that answers the engine.
//!
//! Two orders are kept throughout: a block is on disk before the engine hears of it, and a decided block is committed before
//! the engine is told to go on. While there is nothing to order, the answer to `Finalized` is held back, so no height starts;
//! a verified vote or part of a peer for the next height ends that at once, so that nobody waits for this node.

mod deciding;
mod proposing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use malachitebft_app_channel::app::consensus::{Input, VoteExtensionError};
use malachitebft_app_channel::app::engine::host::{HeightParams, Next, SyncedValueOutcome};
use malachitebft_app_channel::app::engine::util::events::Event;
use malachitebft_app_channel::app::engine::util::streaming::StreamContent;
use malachitebft_app_channel::app::events::RxEvent;
use malachitebft_app_channel::app::types::core::{
    CommitCertificate as EngineCertificate, Context as _, LinearTimeouts, Round, SignedVote,
    Validator as _, ValidatorSet as _, Validity, ValueOrigin,
};
use malachitebft_app_channel::app::types::streaming::{StreamId, StreamMessage};
use malachitebft_app_channel::app::types::sync::RawDecidedValue;
use malachitebft_app_channel::app::types::{
    LocallyProposedValue, MisbehaviorEvidence, ProposedValue, SignedConsensusMsg,
};
use malachitebft_app_channel::{AppMsg, Channels, NetworkMsg, NetworkRequest, Reply};
use tally_contracts::block::MAX_BLOCK_BYTES;
use tally_contracts::ids::{BlockHash, PublicKey};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::assembler::{Assembled, Assembler, Outcome};
use super::context::{Address, Height, TallyContext, ValidatorSet, Value};
use super::convert;
use super::parts::{self, Part};
use super::polkas::Polkas;
use super::signing::{Keys, vote_bytes};
use super::store::{ProposalStore, Proposed};
use super::waits::RoundWaits;
use crate::application::{Application, CheckContext, CommitError, DecidedBlock, Fatal, Refusal};
use crate::config::RoundTimeouts;
use crate::error::Error;
use crate::handle::{Heard, Status};
use crate::verify::verify_signature;

type Message = AppMsg<TallyContext>;
type Params = HeightParams<TallyContext>;

/// The most blocks read for one sync request, whatever the peer asks for; this node asks for as many.
pub(super) const MAX_SYNC_BLOCKS: usize = 16;
/// The most bytes of blocks in one sync answer, below the engine's 10 MiB.
const MAX_SYNC_BYTES: usize = 9 * 1024 * 1024;
/// Whole blocks for the height after the next one that wait for their turn.
const MAX_PENDING: usize = 8;

/// How often bytes for one decided block may be refused before this node gives up.
const MAX_REFUSED: u32 = 5;

/// When votes are sent again in a round that does not end; this is how a validator that comes back learns what it missed.
const REBROADCAST: Duration = Duration::from_secs(1);

/// How long a node that starts waits for a quorum of peers, so that its first round is not lost.
const START_GRACE: Duration = Duration::from_secs(1);
/// For so long after its start a node takes nobody for absent: its connections are being made.
const NOBODY_ABSENT: Duration = Duration::from_secs(5);
/// From a connection to the exchange of topics.
const TOPICS_GRACE: Duration = Duration::from_millis(100);

/// What woke the loop.
enum Wake {
    Stop,
    Message(Option<Box<Message>>),
    Event(Result<Box<Event<TallyContext>>, RecvError>),
    Work,
    /// Blocks that others hand over to a node that is far behind.
    Blocks(Option<Vec<DecidedBlock>>),
}

/// An answer that is held back between two heights: with it the engine starts the next one.
enum Held {
    /// To its question where to begin.
    Ready(Reply<(Height, Params)>),
    /// To its question how to go on.
    Next(Reply<Next<TallyContext>>),
}

/// A block that the network decided and whose bytes here were refused. Until it is committed nothing else is voted for at its
/// height: the engine starts the height afresh for it and no longer knows how this node voted.
struct Wanted {
    height: u64,
    block: BlockHash,
    refused: u32,
}

/// What there is of blocks that are not decided yet.
pub(crate) struct Undecided {
    pub(crate) store: ProposalStore,
    pub(crate) polkas: Polkas,
}

/// Answers the engine from the application.
pub(crate) struct Driver<A> {
    app: A,
    keys: Keys,
    store: ProposalStore,
    polkas: Polkas,
    assembler: Assembler,
    channels: Channels<TallyContext>,
    status: watch::Sender<Status>,
    timeouts: RoundTimeouts,
    /// Consensus keys of the nodes that are connected; nothing is known of that at first.
    connected: watch::Receiver<Option<BTreeSet<PublicKey>>>,
    /// The height after the last committed block.
    next: u64,
    /// Validators of `next`.
    set: Option<ValidatorSet>,
    held: Option<Held>,
    /// This node is far behind, and takes blocks from the application while an answer is held back.
    fetching: bool,
    /// The height decided last came from sync: this node lags, holding would only slow it down.
    synced: bool,
    /// Stored proposals have not been given to the engine since the start.
    recovering: bool,
    pending: Vec<Assembled>,
    heard: BTreeMap<PublicKey, (u64, u32)>,
    wanted: Option<Wanted>,
    started: Instant,
}

impl<A: Application> Driver<A> {
    pub(crate) fn new(
        app: A,
        keys: Keys,
        undecided: Undecided,
        channels: Channels<TallyContext>,
        status: watch::Sender<Status>,
        timeouts: RoundTimeouts,
        connected: watch::Receiver<Option<BTreeSet<PublicKey>>>,
    ) -> Self {
        Self {
            app,
            assembler: Assembler::new(*keys.network()),
            keys,
            store: undecided.store,
            polkas: undecided.polkas,
            channels,
            status,
            timeouts,
            connected,
            next: 0,
            set: None,
            held: None,
            fetching: false,
            synced: false,
            recovering: true,
            pending: Vec::new(),
            heard: BTreeMap::new(),
            wanted: None,
            started: Instant::now(),
        }
    }

    /// Runs until told to stop, or until something fails that nothing may follow.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let mut events = self.channels.events.subscribe();
        loop {
            match self.wait(&mut stop, &mut events).await {
                Wake::Stop => return Ok(()),
                Wake::Message(Some(message)) => self.on_message(*message).await?,
                Wake::Message(None) => {
                    // It says why before it stops, but by another way.
                    while let Ok(event) = events.try_recv() {
                        self.on_event(event).await?;
                    }
                    return Err(Error::engine("it stopped by itself; its log says why"));
                }
                Wake::Event(Ok(event)) => self.on_event(*event).await?,
                Wake::Event(Err(RecvError::Lagged(_))) => self.release("peers are busy").await?,
                Wake::Event(Err(RecvError::Closed)) => {
                    return Err(Error::engine("its events ended"));
                }
                Wake::Work => self.release("there is work").await?,
                Wake::Blocks(blocks) => self.on_blocks(blocks).await?,
            }
        }
    }

    async fn wait(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        events: &mut RxEvent<TallyContext>,
    ) -> Wake {
        let (holding, fetching) = (self.held.is_some(), self.fetching);
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Wake::Stop,
            message = self.channels.consensus.recv() => Wake::Message(message.map(Box::new)),
            event = events.recv() => Wake::Event(event.map(Box::new)),
            wake = idle(&mut self.app, fetching), if holding => wake,
        }
    }

    fn halted(&self, reason: Fatal) -> Error {
        Error::Halted {
            height: self.next,
            reason,
        }
    }

    async fn on_message(&mut self, message: Message) -> Result<(), Error> {
        match message {
            AppMsg::ConsensusReady { reply } => {
                self.prepare_height().await?;
                self.store
                    .forget_through(self.next.saturating_sub(1))
                    .await?;
                self.wait_for_quorum().await;
                info!(height = self.next, "consensus is ready");
                self.held = Some(Held::Ready(reply));
                if !self.begins_to_fetch().await {
                    self.release("it begins").await?;
                }
            }
            AppMsg::StartedRound {
                height,
                round,
                proposer,
                reply_value,
                ..
            } => {
                let values = self.on_started_round(height, round, proposer).await?;
                answer(reply_value, values);
            }
            AppMsg::GetValue {
                height,
                round,
                reply,
                ..
            } => self.on_get_value(height, round, reply).await?,
            AppMsg::ReceivedProposalPart {
                from, part, reply, ..
            } => {
                let (value, wakes) = match part.content {
                    StreamContent::Data(part) => {
                        debug!(%from, sequence = part.index, "block part");
                        self.on_part(part).await?
                    }
                    StreamContent::Fin => (None, false),
                };
                answer(reply, value);
                if wakes {
                    self.release("a peer proposes").await?;
                }
            }
            AppMsg::RestreamProposal {
                height,
                round,
                valid_round,
                value_id,
                ..
            } => {
                if let Some(body) = self.store.body(height.0, &value_id.0).await? {
                    self.publish(height, round, valid_round, value_id, &body)
                        .await?;
                } else {
                    warn!(%height, %round, block = %value_id, "asked to send a block again that is not here");
                }
            }
            AppMsg::Decided {
                certificate, reply, ..
            } => {
                // Without an answer the engine asks its peers for the height again once it starts afresh.
                if self.on_decided(&certificate).await? {
                    answer(reply, ());
                }
            }
            AppMsg::Finalized {
                evidence, reply, ..
            } => {
                report(&evidence);
                if self.wanted.is_some() {
                    let params = self.prepare_height().await?;
                    answer(reply, Next::Restart(Height(self.next), params));
                    return Ok(());
                }
                self.held = Some(Held::Next(reply));
                if self.synced && self.begins_to_fetch().await {
                    return Ok(());
                }
                let votes = self
                    .set
                    .as_ref()
                    .is_some_and(|set| set.contains(&self.keys.public()));
                if self.synced || !votes || self.peers_are_ahead() {
                    self.release("others are at this height").await?;
                } else {
                    self.status.send_modify(|status| status.waiting = true);
                }
            }
            AppMsg::ProcessSyncedValue {
                height,
                round,
                proposer,
                value_bytes,
                reply,
            } => {
                let outcome = self
                    .on_synced(height, round, proposer, &value_bytes)
                    .await?;
                answer(reply, outcome);
            }
            AppMsg::GetDecidedValues { range, reply } => {
                let values = self.decided_values(range.start().0, range.end().0).await;
                answer(reply, values);
            }
            AppMsg::GetHistoryMinHeight { reply } => {
                answer(reply, Height(self.app.first_height().await));
            }
            AppMsg::ExtendVote { reply, .. } => answer(reply, None),
            AppMsg::VerifyVoteExtensions {
                extensions, reply, ..
            } => answer(
                reply,
                extensions
                    .into_iter()
                    .map(|(address, ())| (address, Err(VoteExtensionError::InvalidVoteExtension)))
                    .collect(),
            ),
        }
        Ok(())
    }

    async fn on_event(&mut self, event: Event<TallyContext>) -> Result<(), Error> {
        match event {
            Event::Received(SignedConsensusMsg::Vote(vote)) => {
                let is_ahead = vote.message.height.0 >= self.next;
                let is_news = self.hear(&vote);
                if is_ahead && is_news {
                    self.release("a peer votes").await?;
                }
            }
            Event::WalReplayEntry(Input::Vote(vote)) => self.keys.remember(&vote.message),
            Event::WalCorrupted(error) => {
                return Err(Error::DamagedLog {
                    height: self.next,
                    reason: error.to_string(),
                });
            }
            // The engine gives this only after the certificate was found to be for this very block.
            Event::ReceivedProposedValue(value, ValueOrigin::Sync)
                if value.validity == Validity::Invalid && value.height.0 == self.next =>
            {
                return Err(self.halted(Fatal(format!(
                    "the network decided block {}, which this node refuses",
                    value.value
                ))));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a peer has voted or proposed at the next height already.
    fn peers_are_ahead(&self) -> bool {
        self.heard.values().any(|(height, _)| *height >= self.next) || !self.pending.is_empty()
    }

    /// Notes a vote if it is new, of a validator, and signed.
    fn hear(&mut self, vote: &SignedVote<TallyContext>) -> bool {
        let Address(key) = vote.message.address;
        let at = (
            vote.message.height.0,
            vote.message.round.as_u32().unwrap_or(0),
        );
        let is_new = self.heard.get(&key).is_none_or(|last| *last < at);
        if !is_new || !self.set.as_ref().is_some_and(|set| set.contains(&key)) {
            return false;
        }
        let bytes = vote_bytes(self.keys.network(), &vote.message);
        if !verify_signature(&key, &bytes, &vote.signature.0) {
            return false;
        }
        self.heard.insert(key, at);
        let heard = self
            .heard
            .iter()
            .map(|(validator, (height, round))| Heard {
                validator: *validator,
                height: *height,
                round: *round,
            })
            .collect();
        self.status.send_modify(|status| status.heard = heard);
        true
    }

    /// Asks the application for the next height and who decides it.
    async fn prepare_height(&mut self) -> Result<Params, Error> {
        self.next = self.app.next_height().await;
        let validators = self.app.validators(self.next).await;
        let set = ValidatorSet::new(&validators).map_err(|e| self.halted(Fatal(e)))?;
        self.polkas.start(self.next, &set);
        self.set = Some(set.clone());
        let mut listed = validators;
        listed.retain(|v| v.power > 0);
        listed.sort_unstable();
        let height = self.next;
        self.status.send_modify(|status| {
            status.height = height;
            status.round = 0;
            status.proposer = None;
            status.validators = listed;
        });
        let t = &self.timeouts;
        let timeouts = LinearTimeouts {
            propose: t.propose,
            propose_delta: t.delta,
            prevote: t.prevote,
            prevote_delta: t.delta,
            precommit: t.precommit,
            precommit_delta: t.delta,
            rebroadcast: REBROADCAST.min(t.max),
            max_timeout: t.max,
        };
        let waits = {
            let connected = self.connected.borrow();
            let is_new = self.started.elapsed() < NOBODY_ABSENT;
            let turns = if is_new { 0 } else { set.count() };
            let turns = u32::try_from(turns).unwrap_or(u32::MAX);
            RoundWaits::new(timeouts, t.absent, turns, |round| {
                let proposer = self.proposer_at(height, round).map(|Address(key)| key);
                proposer
                    .zip(connected.as_ref())
                    .is_some_and(|(key, connected)| {
                        key != self.keys.public() && !connected.contains(&key)
                    })
            })
        };
        Ok(HeightParams::new(set, waits, None))
    }

    /// Waits a little for as many peers as a quorum needs.
    async fn wait_for_quorum(&mut self) {
        let validators = match &self.set {
            Some(set) => set.count(),
            None => 1,
        };
        let needed = validators * 2 / 3;
        let connected = async {
            loop {
                match NetworkRequest::dump_state(&self.channels.net_requests).await {
                    Ok(Some(dump)) if dump.peers.len() >= needed => break,
                    Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Err(_) => break,
                }
            }
            if needed > 0 {
                tokio::time::sleep(TOPICS_GRACE).await;
            }
        };
        if tokio::time::timeout(START_GRACE, connected).await.is_err() {
            info!(needed, "starting without a quorum of peers");
        }
    }

    /// Lets the next height start, if that is being held back and no blocks are being taken.
    async fn release(&mut self, why: &str) -> Result<(), Error> {
        if self.fetching {
            return Ok(());
        }
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        debug!(height = self.next, why, "starting the height");
        self.synced = false;
        let params = self.prepare_height().await?;
        self.status.send_modify(|status| status.waiting = false);
        match held {
            Held::Ready(reply) => answer(reply, (Height(self.next), params)),
            Held::Next(reply) => answer(reply, Next::Start(Height(self.next), params)),
        }
        Ok(())
    }

    async fn on_started_round(
        &mut self,
        height: Height,
        round: Round,
        proposer: Address,
    ) -> Result<Vec<ProposedValue<TallyContext>>, Error> {
        self.status.send_modify(|status| {
            status.height = height.0;
            status.round = round.as_u32().unwrap_or(0);
            status.proposer = Some(proposer.0);
        });
        if height.0 != self.next {
            return Ok(Vec::new());
        }
        let mut values = Vec::new();
        if std::mem::take(&mut self.recovering) {
            let stored: Vec<Proposed> = self.store.at(height.0).cloned().collect();
            for proposed in stored {
                let Some(body) = self.store.body(height.0, &proposed.block).await? else {
                    continue;
                };
                let checked = self
                    .app
                    .check_block(height.0, proposed.round, &body, CheckContext::Replay)
                    .await;
                match checked {
                    Ok(hash) if hash == proposed.block => {
                        info!(%height, round = proposed.round, block = %hash, "proposal found on disk");
                        values.push(self.value(&proposed, Validity::Valid));
                    }
                    Ok(_) => warn!(block = %proposed.block, "stored proposal has another hash"),
                    Err(reason) => {
                        warn!(block = %proposed.block, %reason, "stored proposal is refused");
                    }
                }
            }
        }
        let (now, later): (Vec<_>, Vec<_>) =
            self.pending.drain(..).partition(|p| p.height <= height.0);
        self.pending = later;
        for assembled in now {
            values.extend(self.judge(assembled).await?);
        }
        Ok(values)
    }

    fn proposer_at(&self, height: u64, round: u32) -> Option<Address> {
        let set = self.set.as_ref()?;
        let member = TallyContext.select_proposer(set, Height(height), Round::new(round));
        Some(*member.address())
    }

    fn value(&self, proposed: &Proposed, validity: Validity) -> ProposedValue<TallyContext> {
        ProposedValue {
            height: Height(proposed.height),
            round: Round::new(proposed.round),
            valid_round: proposed.pol_round.into(),
            proposer: self
                .proposer_at(proposed.height, proposed.round)
                .unwrap_or(Address(proposed.sender)),
            value: Value(proposed.block),
            validity,
        }
    }

    /// Takes a part; says whether it is of a height that peers have started and this node has not.
    async fn on_part(
        &mut self,
        part: Part,
    ) -> Result<(Option<ProposedValue<TallyContext>>, bool), Error> {
        let header = &part.header;
        let (height, block) = (header.height, header.block);
        let in_reach = height == self.next || height == self.next.saturating_add(1);
        if !in_reach || self.store.find(height, &block).is_some() {
            return Ok((None, false));
        }
        let Some(set) = &self.set else {
            return Ok((None, false));
        };
        let assembled = match self.assembler.insert(part, |key| set.contains(key)) {
            Outcome::Complete(assembled) => assembled,
            Outcome::Incomplete => return Ok((None, true)),
            Outcome::Known => return Ok((None, false)),
            Outcome::Refused(reason) => {
                warn!(height, %block, reason, "block part refused");
                return Ok((None, false));
            }
        };
        if height != self.next {
            // It cannot be executed yet; it is given to the engine when its height starts.
            if self.pending.len() >= MAX_PENDING {
                self.pending.remove(0);
            }
            self.pending.push(assembled);
            return Ok((None, true));
        }
        Ok((self.judge(assembled).await?, true))
    }

    /// Checks a whole block, stores it if it is good, and gives the engine its value.
    async fn judge(
        &mut self,
        assembled: Assembled,
    ) -> Result<Option<ProposedValue<TallyContext>>, Error> {
        let Assembled {
            id,
            height,
            round,
            pol_round,
            block,
            sender,
            body,
        } = assembled;
        let proposed = Proposed {
            height,
            round,
            pol_round,
            block,
            sender,
        };
        let context = if self.polkas.has(height, &block) {
            CheckContext::Prevoted
        } else {
            CheckContext::Live
        };
        debug!(height, round, %block, ?pol_round, ?context, "checking a proposed block");
        let checked = self
            .app
            .check_block(height, round, &body, context)
            .await
            .and_then(|hash| {
                if hash != block {
                    Err(Refusal::Invalid(format!("the block's hash is {hash}")))
                } else if !self.is_wanted(height, &block) {
                    Err(Refusal::Invalid(
                        "another block was decided at this height".to_owned(),
                    ))
                } else {
                    Ok(())
                }
            });
        match checked {
            Ok(()) => {
                self.store.put(proposed.clone(), body).await?;
                Ok(Some(self.value(&proposed, Validity::Valid)))
            }
            Err(reason) => {
                warn!(height, round, %block, %sender, %reason, "proposed block refused");
                if let Refusal::Untimely(_) = reason {
                    self.assembler.take_again(&id);
                }
                // Only the proposer itself can spoil its block: another validator could send rubbish under its hash.
                let is_proposer = self.proposer_at(height, round) == Some(Address(sender));
                Ok(is_proposer.then(|| self.value(&proposed, Validity::Invalid)))
            }
        }
    }
}

/// Waits, between two heights, for what there is to do.
async fn idle(app: &mut impl Application, fetching: bool) -> Wake {
    if fetching {
        return Wake::Blocks(app.next_blocks().await);
    }
    app.wait_for_work().await;
    Wake::Work
}

/// The engine no longer waits for an answer only when it is being stopped.
fn answer<T>(reply: Reply<T>, value: T) {
    if reply.send(value).is_err() {
        debug!("the engine no longer waits for this answer");
    }
}

/// Equivocation is a validator's proof of its own fault; it is logged with the validator's key.
fn report(evidence: &MisbehaviorEvidence<TallyContext>) {
    for (validator, pairs) in &evidence.proposals {
        warn!(%validator, count = pairs.len(), "validator signed two proposals for one round");
    }
    for (validator, pairs) in &evidence.votes {
        warn!(%validator, count = pairs.len(), "validator signed two votes for one round");
    }
}
