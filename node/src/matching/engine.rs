//! The protocol on the sets, run for one match: the machine set up from the ledger's facts, its statements signed with the
//! record key, its release committed.

use std::time::Duration;

use async_trait::async_trait;
use ed25519_dalek::Signer as _;
use rand_core::OsRng;
use tally_contracts::ids::{KeyId, MemberId, PublicKey, SessionId, Signature};
use tally_contracts::records::{Prehash, Profile, ReleaseMatch, Suite};
use tally_contracts::signature::verify;
use tally_contracts::state;
use tally_merkle::Hash;
use tally_psi::messages::Scope;
use tally_psi::{
    Context, IdType, ItemSet, ItemSetBuilder, ItemStream, Items, Machine, Params, Party, PeerCount,
    Progress, Report, Seeds, Statement,
};
use tokio_util::sync::CancellationToken;

use super::desk::Inner;
use super::error::MatchError;
use super::lists::OpenList;
use super::messages::{read_seal, seal_bytes, statement_sign_bytes};
use super::noise::{NoiseView, psi_noise};
use super::ports::{MatchIo, PeerIdentity};
use super::state::{HashText, MatchId, Role, Stage};
use super::sums;
use super::wire::record_key;
use crate::audiences::{AudienceMeta, AudienceStore};
use crate::external_sort::SpillSorters;
use crate::psi_wire;
use tally_contracts::records::{AudienceRef, Computation, ProposeAgreement};

/// A match that both sides have agreed to.
#[derive(Clone)]
pub(super) struct Agreed {
    pub(super) id: MatchId,
    pub(super) role: Role,
    pub(super) peer: PeerIdentity,
    pub(super) agreement: tally_contracts::ids::AgreementId,
    pub(super) terms: ProposeAgreement,
    pub(super) computation: Computation,
    pub(super) session: SessionId,
    pub(super) own: AudienceMeta,
    pub(super) theirs: AudienceRef,
    pub(super) their_size: u64,
}

impl Agreed {
    /// `own` and `theirs`, the initiator's first.
    pub(super) fn by_role<T>(&self, own: T, theirs: T) -> (T, T) {
        match self.role {
            Role::Initiator => (own, theirs),
            Role::Responder => (theirs, own),
        }
    }
}

/// ID type and profile as the protocol hashes them, a byte each: the numbers of the ledger, with the prehash beside the ID type.
pub(super) fn item_numbers(profile: Profile) -> Result<(IdType, tally_psi::Profile), MatchError> {
    let byte = |code: u16| {
        u8::try_from(code).map_err(|_| MatchError::Internal {
            what: "a profile number over a byte",
        })
    };
    let prehash: Prehash = profile.prehash;
    let id_type = byte(profile.id_type().code() | prehash.code() << 4)?;
    Ok((
        IdType(id_type),
        tally_psi::Profile(byte(profile.form.code())?),
    ))
}

/// The people of a stored set, read and verified.
pub(super) fn item_set(
    audiences: &AudienceStore,
    meta: &AudienceMeta,
) -> Result<ItemSet, MatchError> {
    let set = audiences.load(meta)?;
    let (id_type, profile) = item_numbers(meta.profile)?;
    let mut items = ItemSetBuilder::new(id_type, profile);
    for entry in set.entries() {
        items.push(entry.id.as_bytes())?;
    }
    Ok(items.finish()?)
}

/// The people of a stored set, verified, for a count, which names no row: a stream where there are more than `in_memory`.
pub(super) fn counted_items(
    audiences: &AudienceStore,
    meta: &AudienceMeta,
    in_memory: usize,
) -> Result<Items, MatchError> {
    if meta.size <= in_memory as u64 {
        return Ok(item_set(audiences, meta)?.into());
    }
    let (id_type, profile) = item_numbers(meta.profile)?;
    audiences.visit_verified(meta, |_, _| Ok(()))?;
    let entries = Box::new(audiences.entries(meta));
    Ok(ItemStream::new(id_type, profile, meta.size, entries).into())
}

fn suite(suite: Suite) -> Result<tally_psi::Suite, MatchError> {
    match suite {
        Suite::DhRistrettoV1 => Ok(tally_psi::Suite::DhRistrettoV1),
        Suite::VoleRr22V1 => Ok(tally_psi::Suite::VoleRr22V1),
        Suite::VoleRr22MaliciousV1 => Ok(tally_psi::Suite::VoleRr22MaliciousV1),
        // The helper's has no session of two.
        Suite::CircuitV1 | Suite::HelperPrfV1 => Err(MatchError::decline(
            "suite",
            format!("this node has no suite {suite}"),
        )),
    }
}

fn computation(computation: Computation) -> Result<tally_psi::Computation, MatchError> {
    match computation {
        Computation::List => Ok(tally_psi::Computation::List),
        Computation::Cardinality => Ok(tally_psi::Computation::Cardinality),
        Computation::JoinSum => Ok(tally_psi::Computation::JoinSum),
        other => Err(MatchError::decline(
            "computation",
            format!("this node cannot compute {other}"),
        )),
    }
}

impl Inner {
    /// Refuses noise that the network or the agreement's delta does not allow.
    pub(super) fn check_noise(
        &self,
        terms: &ProposeAgreement,
        computation: Computation,
    ) -> Result<(), MatchError> {
        if computation == Computation::JoinSum {
            self.sum_terms(terms).map(|_| ())
        } else {
            self.noise_of(terms, computation).map(|_| ())
        }
    }

    /// What the noise will be; refuses noise that the network or the agreement's delta does not allow.
    fn noise_of(
        &self,
        terms: &ProposeAgreement,
        computation: Computation,
    ) -> Result<tally_psi::Noise, MatchError> {
        let kind = state::network_info(&*self.ledger)?.kind;
        psi_noise(&terms.noise, computation, kind)
    }

    /// Runs the protocol to its end and closes the stream.
    pub(super) async fn run_protocol(
        &self,
        agreed: &Agreed,
        stream: Box<dyn MatchIo>,
        cancel: &CancellationToken,
    ) -> Result<Report, MatchError> {
        let own_party = Party {
            member: self.identity.member.0,
            node: self.identity.node.0,
        };
        let their_party = Party {
            member: agreed.peer.member.0,
            node: agreed.peer.node.0,
        };
        let (initiator, responder) = agreed.by_role(own_party, their_party);
        let own_root = agreed.own.commitment();
        let (initiator_root, responder_root) = agreed.by_role(own_root, agreed.theirs.root);
        let context = Context {
            network: self.ledger.network().0,
            suite: suite(agreed.terms.suite)?,
            computation: computation(agreed.computation)?,
            session: agreed.session.0,
            initiator,
            responder,
            agreement: agreed.agreement.0,
            initiator_root: initiator_root.0,
            responder_root: responder_root.0,
        };
        // Bound to the query and not to the session: asking again after a broken run draws no fresh noise.
        let noise_seed = self.noise_key.mac(&[
            &agreed.agreement.0,
            &agreed.computation.code().to_be_bytes(),
            &initiator_root.0,
            &responder_root.0,
        ]);
        let seeds = Seeds::new(&mut OsRng, noise_seed);
        let session_seed = HashText::of(**seeds.session());
        let note = |noise| {
            self.store.update(&agreed.id, |f| {
                // Those of a run that broke stay too, for the buckets that it finished.
                f.earlier_seeds.extend(f.session_seed.replace(session_seed));
                f.view.noise = Some(noise);
            })
        };
        let mut list = None;
        let machine = if agreed.computation == Computation::JoinSum {
            let terms = self.sum_terms(&agreed.terms)?;
            note(sums::noise_view(&terms))?;
            self.sum_machine(agreed, context, terms, seeds).await?
        } else {
            let noise = self.noise_of(&agreed.terms, agreed.computation)?;
            note(NoiseView::of(&noise))?;
            // What was opened is the public size.
            let mut params = Params {
                context,
                noise,
                peer: PeerCount::Exactly(agreed.their_size),
            };
            list = self.in_buckets(agreed, &params, noise_seed, cancel).await?;
            match &list {
                Some(list) => {
                    let list = list.clone();
                    // It asks for the past, which lies on disk.
                    let made = move || list.machine(Scope::All, seeds);
                    let made = tokio::task::spawn_blocking(made).await;
                    made.map_err(|_| MatchError::Internal {
                        what: "the thread that opens a list died",
                    })??
                }
                None => {
                    // A list in one piece shows the true size, which is no larger.
                    if agreed.computation == Computation::List {
                        params.peer = PeerCount::AtMost(agreed.their_size);
                    }
                    self.machine(agreed, params, seeds).await?
                }
            }
        };
        let _open = list.as_ref().map(|list| self.open_list(list));
        let mut host = Host::new(self, agreed, list.as_deref());
        let report =
            psi_wire::run(stream, machine, &mut host, self.options.deadlines, cancel).await;
        // What this side's own work failed with says more than that it failed.
        match (report, host.error) {
            (Ok(report), _) => Ok(report),
            (Err(_), Some(own)) => Err(own),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// The machine of this side, its set read and verified on a thread of its own.
    async fn machine(
        &self,
        agreed: &Agreed,
        params: Params,
        seeds: Seeds,
    ) -> Result<Box<dyn Machine>, MatchError> {
        let (audiences, meta, role) = (self.audiences.clone(), agreed.own.clone(), agreed.role);
        let sorters = SpillSorters::new(self.store.dir().to_owned(), self.options.rows_in_memory);
        let in_memory = self.options.rows_in_memory;
        let computation = agreed.computation;
        let work = move || -> Result<Box<dyn Machine>, MatchError> {
            let items = match computation {
                Computation::Cardinality => counted_items(&audiences, &meta, in_memory)?,
                _ => item_set(&audiences, &meta)?.into(),
            };
            let role = match role {
                Role::Initiator => tally_psi::messages::Role::Initiator,
                Role::Responder => tally_psi::messages::Role::Responder,
            };
            Ok(tally_psi::machine::open(
                role,
                params,
                items,
                seeds,
                Box::new(sorters),
            )?)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| MatchError::Internal {
                what: "the thread that reads a set died",
            })?
    }
}

impl Inner {
    /// Seals a statement with the node's record key.
    pub(super) fn seal_statement(&self, statement: &[u8]) -> Vec<u8> {
        let bytes = statement_sign_bytes(&self.identity.member, statement);
        let signature = Signature(self.identity.records.sign(&bytes).to_bytes());
        let key = KeyId::of(&PublicKey::from(&self.identity.records));
        seal_bytes(&key, &signature)
    }

    /// That a member sealed a statement.
    pub(super) fn verify_statement(
        &self,
        member: &MemberId,
        statement: &[u8],
        seal: &[u8],
    ) -> Result<(), MatchError> {
        const WHAT: &str = "statement";
        let wrong = || MatchError::Signature { what: WHAT };
        let (key, signature) = read_seal(seal).ok_or_else(wrong)?;
        let public = record_key(&*self.ledger, member, &key, WHAT)?;
        let bytes = statement_sign_bytes(member, statement);
        verify(WHAT, &public, &bytes, &signature).map_err(|_| wrong())
    }
}

/// What the machine needs of this node.
pub(super) struct Host<'a> {
    desk: &'a Inner,
    agreed: &'a Agreed,
    /// The list in buckets that it is for.
    list: Option<&'a OpenList>,
    /// What this side's own work failed with.
    pub(super) error: Option<MatchError>,
}

impl<'a> Host<'a> {
    pub(super) const fn new(
        desk: &'a Inner,
        agreed: &'a Agreed,
        list: Option<&'a OpenList>,
    ) -> Self {
        Self {
            desk,
            agreed,
            list,
            error: None,
        }
    }

    /// Keeps the error and tells the machine's driver that there is one.
    fn fail<T>(&mut self, result: Result<T, MatchError>) -> Result<T, String> {
        result.map_err(|error| {
            let text = error.to_string();
            self.error = Some(error);
            text
        })
    }

    /// Commits the release: from here on the budget is spent, whatever happens.
    async fn commit_release(&self, statement: &Statement) -> Result<(), MatchError> {
        let id = &self.agreed.id;
        self.desk
            .store
            .update(id, |f| f.view.stage = Stage::Releasing)?;
        let [initiator_stream, _] = statement.streams;
        // A list in buckets that goes on after a kill between commit and note.
        let there = state::match_state(&*self.desk.ledger, &self.agreed.session)?;
        if there.is_some_and(|m| m.is_released() && m.initiator_stream.0 == initiator_stream) {
            self.desk
                .store
                .update(id, |f| f.view.stage = Stage::Released)?;
            return Ok(());
        }
        let body = ReleaseMatch {
            session: self.agreed.session,
            initiator_stream: Hash(initiator_stream),
        };
        let record = self
            .desk
            .ledger
            .submit_own(&body.into(), self.desk.options.commit)
            .await?;
        self.desk.store.update(id, |f| {
            f.view.stage = Stage::Released;
            f.view.release_record = Some(record);
        })?;
        Ok(())
    }
}

#[async_trait]
impl psi_wire::Desk for Host<'_> {
    async fn ready(&mut self) -> Result<(), String> {
        let Some(list) = self.list.filter(|_| self.agreed.role == Role::Initiator) else {
            return Ok(());
        };
        let distributed = self.desk.distribute(list).await;
        self.fail(distributed)
    }

    async fn seal(&mut self, statement: &Statement) -> Result<Vec<u8>, String> {
        Ok(self.desk.seal_statement(&statement.to_bytes()))
    }

    async fn check_seal(&mut self, statement: &Statement, seal: &[u8]) -> Result<(), String> {
        let member = self.agreed.peer.member;
        let checked = self
            .desk
            .verify_statement(&member, &statement.to_bytes(), seal);
        self.fail(checked)
    }

    async fn release(&mut self, statement: &Statement) -> Result<(), String> {
        let _turn = match self.list {
            Some(list) => Some(list.releasing.lock().await),
            None => None,
        };
        let released = self.commit_release(statement).await;
        self.fail(released)
    }

    fn progress(&mut self, progress: Progress) {
        self.desk.note_progress(&self.agreed.id, progress);
    }
}

/// Deadlines of the protocol's stream.
pub(super) fn deadlines() -> psi_wire::Deadlines {
    psi_wire::Deadlines {
        total: Duration::from_secs(12 * 3600),
        ..psi_wire::Deadlines::default()
    }
}
