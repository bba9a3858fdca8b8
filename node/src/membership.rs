//! What the ledger says of this node and of the others, followed block by block: who may connect, which keys this node uses.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tally_consensus::{EngineHandle, address_with_peer_id};
use tally_contracts::ids::PublicKey;
use tally_contracts::records::KeyPurpose;
use tally_contracts::state::{self, keys};
use tally_contracts::{MemberEntry, NodeEntry};
use tally_ledger::Ledger;
use tally_swarm::Host;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ceremony::{self, CeremonyError};
use crate::chain::Chain;
use crate::keys::{AdminKey, KeyStore, NodeKeys, is_same_node};
use crate::passphrase::Passphrase;
use crate::runtime::RunError;
use crate::wiring;

/// Between the block that names another key of this node and the restart that takes it into use: whoever asked for the change
/// gets an answer first.
const BEFORE_RESTART: Duration = Duration::from_millis(250);
/// How long a node that nobody lets in keeps to the transport key of its own ledger, if there is a newer one.
const LONELY: Duration = Duration::from_secs(20);

/// This node, as the ledger or else its own card has it, and the keys it uses.
pub(crate) struct Own {
    pub(crate) member: MemberEntry,
    pub(crate) node: NodeEntry,
    pub(crate) keys: NodeKeys,
    pub(crate) admin: AdminKey,
}

/// The own member and node: as the state has them; or as the own card says, for one that the members have not let in yet as far as
/// this ledger goes (a newcomer, one more node, one in the place of a lost one), and for one that was removed.
///
/// # Errors
/// [`RunError::Key`] if a key that the ledger names is not here; [`RunError::Ceremony`] if the keys are another node's.
pub(crate) fn own(
    ledger: &Ledger,
    name: &str,
    card: &Path,
    store: &KeyStore,
    base: NodeKeys,
    passphrase: &Passphrase,
) -> Result<Own, RunError> {
    let known = state::member_by_name(ledger.state(), name)
        .map_err(|e| RunError::Internal(e.to_string()))?;
    let mut keys = base;
    if let Some(member) = &known {
        let (chosen, node) = store.choose(keys, passphrase, member)?;
        if let Some(node) = node {
            return Ok(Own {
                node: node.clone(),
                keys: chosen,
                admin: store.choose_admin(passphrase, &member.admin_keys)?,
                member: member.clone(),
            });
        }
        keys = chosen;
    }
    let foreign = || CeremonyError::ForeignKeys {
        name: name.to_owned(),
    };
    let card = ceremony::read_card(card)?.entry().clone();
    let (keys, node) = store.choose(keys, passphrase, &card)?;
    let node = node.filter(|_| card.name == name).ok_or_else(foreign)?;
    tracing::warn!(
        "the ledger does not know this node as far as it is here; it follows until the members let it in"
    );
    Ok(Own {
        node: node.clone(),
        keys,
        admin: store.choose_admin(passphrase, &card.admin_keys)?,
        member: known.unwrap_or_else(|| card.clone()),
    })
}

/// Where the engines of these members' nodes are reached, this node's own left out.
///
/// # Errors
/// An address that the engine cannot use, as text; the ledger takes none.
pub(crate) fn engine_peers(
    members: &[MemberEntry],
    own: &PublicKey,
) -> Result<BTreeSet<String>, String> {
    members
        .iter()
        .flat_map(|m| &m.nodes)
        .filter(|n| n.transport != *own)
        .map(|n| address_with_peer_id(&n.consensus_addr, &n.transport).map_err(|e| e.to_string()))
        .collect()
}

/// What [`run`] follows for.
pub(crate) struct Follower {
    pub(crate) chain: Chain,
    pub(crate) host: Host,
    pub(crate) engine: EngineHandle,
    pub(crate) store: KeyStore,
    pub(crate) own: Own,
    /// The members as they were when host and engine were started.
    pub(crate) members: Vec<MemberEntry>,
    /// The transport key in use, which may be a newer one than the ledger's.
    pub(crate) transport: PublicKey,
    /// Told when the node must start again, with other keys.
    pub(crate) again: watch::Sender<Option<Again>>,
}

/// Why the node must start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// The ledger names other keys of it.
    Keys,
    /// Nobody lets it in by its transport key, and it has another.
    Transport,
}

/// Follows the members until `stop`: at every block that changes them, the member swarm's list and the engine's peers are the
/// ledger's again, which cuts the links of those who left; and when the ledger names other keys of this node, it is started
/// again with them.
pub(crate) async fn run(mut follower: Follower, stop: CancellationToken) {
    let mut heads = follower.chain.heads();
    let lonely = tokio::time::sleep(LONELY);
    tokio::pin!(lonely);
    let mut may_be_lonely = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = &mut lonely, if may_be_lonely => {
                may_be_lonely = false;
                if follower.is_lonely() {
                    follower.again.send_replace(Some(Again::Transport));
                }
                continue;
            }
            changed = heads.changed() => if changed.is_err() { return },
        }
        let members = match wiring::members(follower.chain.ledger()) {
            Ok(members) => members,
            Err(e) => {
                tracing::error!(error = %e, "the members cannot be read");
                continue;
            }
        };
        if members == follower.members {
            continue;
        }
        if let Err(e) = follower.follow(members).await {
            tracing::error!(error = %e, "the members' nodes cannot be followed");
        }
    }
}

impl Follower {
    async fn follow(&mut self, members: Vec<MemberEntry>) -> Result<(), String> {
        self.host
            .set_peers(wiring::swarm_peers(&members))
            .map_err(|e| e.to_string())?;
        let before = engine_peers(&self.members, &self.transport)?;
        let now = engine_peers(&members, &self.transport)?;
        // Gone first: a node that moved is gone by its old address, and back by the new one.
        for address in before.difference(&now) {
            self.engine
                .remove_peer(address)
                .await
                .map_err(|e| e.to_string())?;
        }
        for address in now.difference(&before) {
            self.engine
                .add_peer(address)
                .await
                .map_err(|e| e.to_string())?;
        }
        tracing::info!(members = members.len(), "the members have changed");
        let own = members.iter().find(|m| m.id == self.own.member.id).cloned();
        let was_member = self.members.iter().any(|m| m.id == self.own.member.id);
        self.members = members;
        match own {
            Some(own) => self.follow_own(own).await,
            None if was_member => {
                tracing::warn!("this member was removed from the network");
            }
            None => {}
        }
        Ok(())
    }

    /// Restarts if keys changed that this node has.
    async fn follow_own(&mut self, member: MemberEntry) {
        let node = member
            .nodes
            .iter()
            .find(|n| is_same_node(n, &self.own.node))
            .cloned();
        let admin = self.own.admin.public();
        let new_admin = !member.admin_keys.contains(&admin)
            && member
                .admin_keys
                .iter()
                .any(|k| self.store.has_rotated(KeyPurpose::Admin, k));
        self.own.member = member;
        let Some(node) = node else {
            tracing::warn!(
                "this node was removed from its member's nodes, or all its keys were replaced"
            );
            return;
        };
        let public = self.own.keys.public();
        let changed = !public.are_of(&node);
        self.own.node = node;
        if changed && let Some(purpose) = self.store.lacking(&self.own.keys, &self.own.node) {
            tracing::error!(
                %purpose,
                "the ledger names a key of this node that is not in its keys folder; it goes on without that key"
            );
            return;
        }
        if changed || new_admin {
            tracing::info!("the ledger names other keys of this node; starting again with them");
            tokio::time::sleep(BEFORE_RESTART).await;
            self.again.send_replace(Some(Again::Keys));
        }
    }

    /// Whether a transport key is here that was never in force.
    fn has_untried(&self) -> bool {
        let retired = self
            .chain
            .ledger()
            .state()
            .scan(keys::RETIRED_KEY.as_bytes());
        let (Ok(files), Ok(retired)) = (self.store.rotated_files(), retired) else {
            return false;
        };
        let in_use = self.transport.to_string();
        files.iter().any(|f| {
            f.purpose == KeyPurpose::Transport
                && !in_use.starts_with(&f.starts_with)
                && retired.iter().all(|(key, _)| {
                    !hex::encode(key.get(keys::RETIRED_KEY.len()..).unwrap_or_default())
                        .starts_with(&f.starts_with)
                })
        })
    }

    /// Whether nobody has let this node in by this key, though there are others, and there is another key.
    fn is_lonely(&self) -> bool {
        let peers = self.host.peers();
        let alone = !peers.is_empty() && peers.iter().all(|p| !p.connected);
        alone && (self.transport != self.own.node.transport || self.has_untried())
    }
}
