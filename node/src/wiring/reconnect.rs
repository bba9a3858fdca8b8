//! Connections of the consensus engine on which two nodes do not agree. When the network between them is cut without closing their
//! connection, one end may find out and the other not, and after the cut is healed either may wait for minutes: packets are sent again
//! after ever longer pauses. The member swarm notices by its pings, and connects again when it can. Then the engine's connections
//! with that node are dropped at both ends and made anew. So they are when one is lacking for long while the swarm has its own, or when
//! the peer has not greeted on it, which it does on a first connection only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_consensus::{EngineHandle, address_with_peer_id, peer_id};
use tally_contracts::ids::PublicKey;
use tally_ledger::Ledger;
use tally_swarm::Host;

use super::members;

const TICK: Duration = Duration::from_millis(250);
/// How long the engine may lack a whole connection to a peer that the swarm is connected to. The node with the larger key waits twice
/// as long, so that mostly one of the two acts.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the engine is connected to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    None,
    /// There is a connection, on which the peer has not proven who it is among the validators.
    Unproven,
    Whole,
}

/// What is known of a peer.
#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    /// The swarm has had it: before the first connection there is nothing to outlive.
    had: bool,
    /// The swarm has lost it; whether the engine has thought all the time that its own connection stands.
    lost: Option<bool>,
    /// Since when the swarm has it and the engine has no whole connection.
    lacking: Option<Instant>,
}

/// Why connections are made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Outlived,
    Lacking,
}

impl Why {
    const fn text(self) -> &'static str {
        match self {
            Self::Outlived => "it outlived a cut that the member swarm noticed",
            Self::Lacking => "it is lacking, or the peer does not greet on it",
        }
    }
}

impl Watched {
    /// Notes how a peer is connected now; says whether its consensus connections are to be made anew.
    fn note(&mut self, swarm: bool, link: Link, patience: Duration, now: Instant) -> Option<Why> {
        if !swarm {
            self.lacking = None;
            let stood = self.lost.unwrap_or(self.had) && link != Link::None;
            self.lost = Some(stood);
            return None;
        }
        self.had = true;
        if self.lost.take() == Some(true) && link != Link::None {
            self.lacking = None;
            return Some(Why::Outlived);
        }
        if link == Link::Whole {
            self.lacking = None;
            return None;
        }
        let since = *self.lacking.get_or_insert(now);
        if now.saturating_duration_since(since) < patience {
            return None;
        }
        self.lacking = Some(now);
        Some(Why::Lacking)
    }
}

/// Watches both, as long as the engine runs.
pub async fn run_reconnecting(ledger: Arc<Ledger>, host: Host, engine: EngineHandle) {
    let mut watched: HashMap<[u8; 32], Watched> = HashMap::new();
    let own = host.key();
    loop {
        tokio::time::sleep(TICK).await;
        let status = engine.status();
        if !status.running {
            return;
        }
        let peers = host.peers();
        watched.retain(|key, _| peers.iter().any(|p| p.key == *key));
        for peer in peers {
            let Ok(id) = peer_id(&PublicKey(peer.key)) else {
                continue;
            };
            let link = if status.peers.binary_search(&id).is_err() {
                Link::None
            } else if status.unproven.binary_search(&id).is_ok() {
                Link::Unproven
            } else {
                Link::Whole
            };
            let patience = if own < peer.key {
                PATIENCE
            } else {
                PATIENCE * 2
            };
            let watched = watched.entry(peer.key).or_default();
            let Some(why) = watched.note(peer.connected, link, patience, Instant::now()) else {
                continue;
            };
            tracing::info!(peer = %peer.label, why = why.text(), "making the consensus connection anew");
            // Beside the watch: several peers come back at once after a cut.
            let (ledger, engine) = (ledger.clone(), engine.clone());
            tokio::spawn(async move {
                if let Err(error) = connect_anew(&ledger, &engine, &PublicKey(peer.key)).await {
                    tracing::warn!(peer = %peer.label, error, "a consensus connection was not made anew");
                }
            });
        }
    }
}

async fn connect_anew(
    ledger: &Ledger,
    engine: &EngineHandle,
    transport: &PublicKey,
) -> Result<(), String> {
    let members = members(ledger)?;
    let node = members
        .iter()
        .flat_map(|m| &m.nodes)
        .find(|n| n.transport == *transport);
    let Some(node) = node else {
        return Ok(());
    };
    let address =
        address_with_peer_id(&node.consensus_addr, transport).map_err(|e| e.to_string())?;
    engine.reset_peer(&address).await.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(2);

    #[test]
    fn only_what_outlived_the_swarms_connection_is_made_anew_at_once() {
        let (mut a, mut b, now) = (Watched::default(), Watched::default(), Instant::now());
        // At a start the engine may be the first to connect.
        assert_eq!(a.note(false, Link::Whole, WAIT, now), None);
        assert_eq!(a.note(true, Link::Whole, WAIT, now), None);
        // A cut that the engine did not see.
        assert_eq!(a.note(false, Link::Whole, WAIT, now), None);
        assert_eq!(a.note(false, Link::Whole, WAIT, now), None);
        assert_eq!(a.note(true, Link::Whole, WAIT, now), Some(Why::Outlived));
        assert_eq!(a.note(true, Link::Whole, WAIT, now), None);
        // A node that was gone: the engine saw it go, and has a new connection.
        assert_eq!(b.note(true, Link::Whole, WAIT, now), None);
        for link in [Link::Whole, Link::None, Link::Whole] {
            assert_eq!(b.note(false, link, WAIT, now), None);
        }
        assert_eq!(b.note(true, Link::Whole, WAIT, now), None);
        // Both are gone for the moment: the engine connects by itself.
        assert_eq!(a.note(false, Link::Whole, WAIT, now), None);
        assert_eq!(a.note(true, Link::None, WAIT, now), None);
    }

    #[test]
    fn a_connection_that_is_lacking_or_silent_is_made_anew_after_a_while() {
        let (mut a, now) = (Watched::default(), Instant::now());
        let at = |ms: u64| now + Duration::from_millis(ms);
        for link in [Link::None, Link::Unproven] {
            assert_eq!(a.note(true, Link::Whole, WAIT, at(0)), None);
            assert_eq!(a.note(true, link, WAIT, at(100)), None);
            assert_eq!(a.note(true, link, WAIT, at(2_000)), None);
            assert_eq!(a.note(true, link, WAIT, at(2_100)), Some(Why::Lacking));
            // It is given time again.
            assert_eq!(a.note(true, link, WAIT, at(2_400)), None);
            assert_eq!(a.note(true, link, WAIT, at(4_100)), Some(Why::Lacking));
        }
        // What comes in time was not lacking; a peer that the swarm has not is not waited for.
        assert_eq!(a.note(true, Link::None, WAIT, at(5_000)), None);
        assert_eq!(a.note(true, Link::Whole, WAIT, at(6_000)), None);
        assert_eq!(a.note(true, Link::None, WAIT, at(6_500)), None);
        assert_eq!(a.note(false, Link::None, WAIT, at(7_000)), None);
        assert_eq!(a.note(true, Link::None, WAIT, at(9_000)), None);
        assert_eq!(
            a.note(true, Link::None, WAIT, at(11_000)),
            Some(Why::Lacking)
        );
    }
}
