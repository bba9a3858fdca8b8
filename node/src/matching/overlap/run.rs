//! From the session that all have joined to the answer: streams between any two, the machine, its statements and its release.

use std::collections::BTreeSet;

use async_trait::async_trait;
use rand_core::OsRng;
use tally_contracts::ids::{MemberId, PublicKey, SessionId};
use tally_contracts::records::{Computation, ProposeAgreement, ReleaseOverlap, size_bucket};
use tally_contracts::state::{self, OverlapState};
use tally_merkle::Hash;
use tally_psi::overlap::{
    OverlapHelper, OverlapMachine, OverlapNoise, OverlapParty, OverlapStage, OverlapStatement,
    OverlapTerms, Peer,
};
use tally_psi::{Progress, Seeds};
use tokio_util::sync::CancellationToken;

use super::attend::{Incoming, Sitting, session_of};
use super::state::Held;
use super::terms;
use crate::external_sort::SpillSorters;
use crate::matching::desk::Inner;
use crate::matching::engine::counted_items;
use crate::matching::error::MatchError;
use crate::matching::messages::{Message, Seat};
use crate::matching::ports::MatchIo;
use crate::matching::state::{HashText, MatchId, Stage};
use crate::matching::wire::{unexpected, within};
use crate::psi_wire;

impl Inner {
    /// The noise that an agreement gives on this network.
    pub(super) fn overlap_noise(
        &self,
        terms: &ProposeAgreement,
    ) -> Result<OverlapNoise, MatchError> {
        terms::psi_noise(terms, state::network_info(&*self.ledger)?.kind)
    }

    /// Takes a seat in a session that this node has joined, to its end.
    pub(super) async fn sit(
        &self,
        sitting: &Sitting,
        seats: &[Seat],
        links: &mut Incoming<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), MatchError> {
        let session = session_of(seats);
        let ready = async {
            let joined = self.all_joined(sitting, &session).await?;
            let nodes: Vec<PublicKey> = seats.iter().map(|s| s.node).collect();
            let terms = terms::psi_terms(
                &*self.ledger,
                sitting.agreement,
                &sitting.terms,
                session,
                &joined,
                &nodes,
            )?;
            let machine = self.overlap_machine(sitting, terms.clone()).await?;
            let streams = self.link_all(sitting, seats, links).await?;
            Ok::<_, MatchError>((joined, terms, machine, streams))
        };
        let (joined, terms, machine, streams) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(MatchError::Cancelled),
            ready = ready => ready?,
        };
        let mut host = Host {
            desk: self,
            id: sitting.id,
            session,
            joined,
            terms,
            acknowledged: BTreeSet::new(),
            error: None,
        };
        let deadlines = self.options.deadlines;
        let report = psi_wire::overlap::run(streams, machine, &mut host, deadlines, cancel).await;
        match (report, host.error) {
            (Ok(_), _) => {}
            // What this side's own work failed with says more than that it failed.
            (Err(_), Some(own)) => return Err(own),
            (Err(error), None) => return Err(error.into()),
        }
        self.note_count(&sitting.id)?;
        Ok(())
    }

    /// A stream with every other party and the helper: this node opens those to the helper and to the parties after it.
    async fn link_all(
        &self,
        sitting: &Sitting,
        seats: &[Seat],
        links: &mut Incoming<'_>,
    ) -> Result<Vec<(Peer, Box<dyn MatchIo>)>, MatchError> {
        let parties = sitting.terms.parties.len();
        let members = sitting.terms.parties.iter().chain([&sitting.helper]);
        let mut streams: Vec<(Peer, Box<dyn MatchIo>)> = Vec::new();
        for ((place, member), seat) in members.clone().enumerate().zip(seats) {
            if place <= sitting.place {
                continue;
            }
            let (stream, peer) = self.peers.open_stream(member).await?;
            if peer.member != *member || peer.node != seat.node {
                return Err(MatchError::Mismatch { what: "identity" });
            }
            let mut wire = self.wire(stream, peer, sitting.nonce, false);
            wire.send(&Message::Link {
                nonce: sitting.nonce,
            })
            .await?;
            match wire.receive("linked").await? {
                Message::Linked => streams.push((peer_at(place, parties), wire.stream)),
                other => return unexpected("linked", &other),
            }
        }
        let mut due: BTreeSet<usize> = (0..sitting.place.min(parties)).collect();
        let rest = async {
            while !due.is_empty() {
                let (peer, stream) = links.next().await?;
                let found = members
                    .clone()
                    .zip(seats)
                    .position(|(member, seat)| (*member, seat.node) == (peer.member, peer.node));
                // One from elsewhere, or a second one, is dropped.
                if let Some(place) = found
                    && due.remove(&place)
                {
                    streams.push((peer_at(place, parties), stream));
                }
            }
            Ok::<_, MatchError>(())
        };
        let waiting = self.options.commit + self.options.step;
        within(waiting, "the streams of the other parties", rest).await??;
        Ok(streams)
    }

    /// The machine of this side, its set read and verified on a thread of its own.
    async fn overlap_machine(
        &self,
        sitting: &Sitting,
        terms: OverlapTerms,
    ) -> Result<Box<dyn OverlapMachine>, MatchError> {
        // Bound to the query and not to the session: asking again after a broken run draws no fresh noise.
        let code = Computation::OverlapN.code().to_be_bytes();
        let mut query: Vec<&[u8]> = vec![&sitting.agreement.0, &code];
        query.extend(terms.roots.iter().map(|root| &root[..]));
        let seeds = Seeds::new(&mut OsRng, self.noise_key.mac(&query));
        let session_seed = HashText::of(**seeds.session());
        let noise = terms::noise_view(&terms.noise);
        self.overlaps.update(&sitting.id, |f| {
            f.session_seed = Some(session_seed);
            f.view.noise = Some(noise);
        })?;
        let in_memory = self.options.rows_in_memory;
        let sorters = SpillSorters::new(self.store.dir().to_owned(), in_memory);
        let sorters = Box::new(sorters);
        let (audiences, own, place) = (self.audiences.clone(), sitting.own.clone(), sitting.place);
        let work = move || -> Result<Box<dyn OverlapMachine>, MatchError> {
            Ok(match own {
                Some(meta) => {
                    let items = counted_items(&audiences, &meta, in_memory)?;
                    Box::new(OverlapParty::new(terms, place, items, seeds, sorters)?)
                }
                None => Box::new(OverlapHelper::new(terms, seeds, sorters)?),
            })
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| MatchError::Internal {
                what: "the thread that reads a set died",
            })?
    }
}

const fn peer_at(place: usize, parties: usize) -> Peer {
    if place < parties {
        Peer::Party(place)
    } else {
        Peer::Helper
    }
}

/// What the machine needs of this node.
struct Host<'a> {
    desk: &'a Inner,
    id: MatchId,
    session: SessionId,
    joined: OverlapState,
    terms: OverlapTerms,
    /// Parties whose acknowledgement the helper has.
    acknowledged: BTreeSet<usize>,
    error: Option<MatchError>,
}

impl Host<'_> {
    /// Keeps the error and tells the machine's driver that there is one.
    fn fail<T>(&mut self, result: Result<T, MatchError>) -> Result<T, String> {
        result.map_err(|error| {
            let text = error.to_string();
            self.error = Some(error);
            text
        })
    }

    fn member(&self, peer: Peer) -> Result<MemberId, MatchError> {
        match peer {
            Peer::Helper => Ok(self.joined.helper),
            Peer::Party(place) => {
                let party = self.joined.parties.get(place);
                party.map(|p| p.member).ok_or(MatchError::Internal {
                    what: "a party without a place",
                })
            }
        }
    }

    /// A list's length has to be that of a set of the committed size.
    fn check_length(&self, place: usize, count: u64) -> Result<(), MatchError> {
        let people = count.checked_sub(self.terms.pools());
        let bucket = self
            .joined
            .parties
            .get(place)
            .and_then(|p| p.audience.as_ref().map(|a| a.size_bucket));
        if people.map(size_bucket) == bucket && bucket.is_some() {
            Ok(())
        } else {
            Err(MatchError::Mismatch {
                what: "length of its list",
            })
        }
    }

    fn verify_seal(
        &self,
        from: Peer,
        statement: &OverlapStatement,
        seal: &[u8],
    ) -> Result<(), MatchError> {
        let member = self.member(from)?;
        self.desk
            .verify_statement(&member, &statement.to_bytes(), seal)?;
        for (i, (count, _)) in statement.streams.iter().enumerate() {
            let place = match statement.stage {
                OverlapStage::End(place) => place,
                OverlapStage::Result | OverlapStage::Ack(_) => i,
            };
            self.check_length(place, *count)?;
        }
        Ok(())
    }

    /// Stores what a statement makes known, before it is sealed.
    fn hold(&self, statement: &OverlapStatement) -> Result<(), MatchError> {
        let Some(known) = statement.published else {
            return Ok(());
        };
        let held = Held {
            value: known.value,
            salt: HashText::of(known.salt),
            lists: statement
                .streams
                .iter()
                .map(|(_, digest)| HashText::of(*digest))
                .collect(),
        };
        self.desk
            .overlaps
            .update(&self.id, |f| f.held = Some(held))?;
        Ok(())
    }

    /// Commits the release: from here on the budgets are spent, whatever happens.
    async fn commit_release(&self, lists: &[(u64, [u8; 32])]) -> Result<(), MatchError> {
        self.desk
            .overlaps
            .update(&self.id, |f| f.view.stage = Stage::Releasing)?;
        let body = ReleaseOverlap {
            session: self.session,
            streams: lists.iter().map(|(_, digest)| Hash(*digest)).collect(),
        };
        let record = self
            .desk
            .ledger
            .submit_own(&body.into(), self.desk.options.commit)
            .await?;
        self.desk.overlaps.update(&self.id, |f| {
            f.view.stage = Stage::Released;
            f.view.release_record = Some(record);
        })?;
        Ok(())
    }
}

#[async_trait]
impl psi_wire::overlap::OverlapDesk for Host<'_> {
    async fn seal(&mut self, statement: &OverlapStatement) -> Result<Vec<u8>, String> {
        let held = self.hold(statement);
        self.fail(held)?;
        Ok(self.desk.seal_statement(&statement.to_bytes()))
    }

    async fn check_seal(
        &mut self,
        from: Peer,
        statement: &OverlapStatement,
        seal: &[u8],
    ) -> Result<(), String> {
        let mut checked = self.verify_seal(from, statement, seal);
        if let (Ok(()), OverlapStage::Ack(place)) = (&checked, statement.stage) {
            self.acknowledged.insert(place);
            // Before the helper says so to anybody.
            if self.acknowledged.len() == self.joined.parties.len() {
                checked = self.desk.note_count(&self.id);
            }
        }
        self.fail(checked)
    }

    async fn release(&mut self, lists: &[(u64, [u8; 32])]) -> Result<(), String> {
        let released = self.commit_release(lists).await;
        self.fail(released)
    }

    fn progress(&mut self, progress: Progress) {
        self.desk.note_progress(&self.id, progress);
    }
}
