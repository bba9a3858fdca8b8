//! Connections of the consensus engine on which two nodes do not agree. When the network between them is cut without closing their
//! connection, one end may find out and the other not, and after the cut is healed either may wait for minutes: packets are sent again
//! after ever longer pauses. The member swarm notices by its pings, and connects again when it can. Then the engine's connections
//! with that node are dropped at both ends and made anew. So they are when one is lacking for long while the swarm has its own, or when
//! the peer has not greeted on it, which it does on a first connection only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

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
    /// Since when the swarm has lost it.
    lost: Option<SystemTime>,
    /// Since when the swarm has it and the engine has no whole connection.
    lacking: Option<Instant>,
}

/// How a peer is connected at one moment.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Whether the swarm has it.
    swarm: bool,
    /// Since when it has, or has not.
    since: SystemTime,
    link: Link,
    /// When the oldest of the engine's connections began.
    oldest: Option<SystemTime>,
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
    fn note(&mut self, seen: Seen, patience: Duration, now: Instant) -> Option<Why> {
        if !seen.swarm {
            self.lacking = None;
            if self.had {
                self.lost.get_or_insert(seen.since);
            }
            return None;
        }
        self.had = true;
        // One that began after the loss is a new one: a node that starts again is back within a moment.
        if let (Some(lost), Some(oldest)) = (self.lost.take(), seen.oldest)
            && oldest < lost
        {
            self.lacking = None;
            return Some(Why::Outlived);
        }
        if seen.link == Link::Whole {
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
            let seen = Seen {
                swarm: peer.connected,
                since: peer.since,
                link,
                oldest: engine.oldest_connection(&id),
            };
            let Some(why) = watched.note(seen, patience, Instant::now()) else {
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

    /// Seconds after a beginning.
    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + seconds)
    }

    fn seen(swarm: bool, since: u64, link: Link, oldest: Option<u64>) -> Seen {
        Seen {
            swarm,
            since: at(since),
            link,
            oldest: oldest.map(at),
        }
    }

    #[test]
    fn only_what_outlived_the_swarms_connection_is_made_anew_at_once() {
        let (mut a, mut b, now) = (Watched::default(), Watched::default(), Instant::now());
        let whole = |swarm, since, oldest| seen(swarm, since, Link::Whole, Some(oldest));
        // At a start the engine may be the first to connect.
        assert_eq!(a.note(whole(false, 9, 5), WAIT, now), None);
        assert_eq!(a.note(whole(true, 10, 5), WAIT, now), None);
        // A cut that the engine did not see.
        assert_eq!(a.note(whole(false, 20, 5), WAIT, now), None);
        assert_eq!(a.note(whole(false, 20, 5), WAIT, now), None);
        assert_eq!(a.note(whole(true, 30, 5), WAIT, now), Some(Why::Outlived));
        assert_eq!(a.note(whole(true, 30, 5), WAIT, now), None);
        // The other end has made a new one beside the old one, which this end does not know to be dead.
        assert_eq!(a.note(whole(false, 40, 31), WAIT, now), None);
        assert_eq!(a.note(whole(true, 50, 31), WAIT, now), Some(Why::Outlived));
        // A node that started again: the old connection was closed, and the new one is there before the swarm's, or after it. What
        // the engine tells of its links may be half a second old.
        assert_eq!(b.note(whole(true, 10, 5), WAIT, now), None);
        assert_eq!(b.note(whole(false, 20, 21), WAIT, now), None);
        assert_eq!(b.note(whole(true, 22, 21), WAIT, now), None);
        assert_eq!(b.note(whole(false, 30, 31), WAIT, now), None);
        assert_eq!(b.note(seen(true, 31, Link::Whole, None), WAIT, now), None);
        assert_eq!(b.note(whole(true, 31, 32), WAIT, now), None);
        // Both are gone for the moment: the engine connects by itself.
        assert_eq!(a.note(whole(false, 60, 55), WAIT, now), None);
        assert_eq!(a.note(seen(true, 70, Link::None, None), WAIT, now), None);
    }

    #[test]
    fn a_connection_that_is_lacking_or_silent_is_made_anew_after_a_while() {
        let (mut a, now) = (Watched::default(), Instant::now());
        let after = |ms: u64| now + Duration::from_millis(ms);
        let mut note = |swarm, link, ms| a.note(seen(swarm, 0, link, None), WAIT, after(ms));
        for link in [Link::None, Link::Unproven] {
            assert_eq!(note(true, Link::Whole, 0), None);
            assert_eq!(note(true, link, 100), None);
            assert_eq!(note(true, link, 2_000), None);
            assert_eq!(note(true, link, 2_100), Some(Why::Lacking));
            // It is given time again.
            assert_eq!(note(true, link, 2_400), None);
            assert_eq!(note(true, link, 4_100), Some(Why::Lacking));
        }
        // What comes in time was not lacking; a peer that the swarm has not is not waited for.
        assert_eq!(note(true, Link::None, 5_000), None);
        assert_eq!(note(true, Link::Whole, 6_000), None);
        assert_eq!(note(true, Link::None, 6_500), None);
        assert_eq!(note(false, Link::None, 7_000), None);
        assert_eq!(note(true, Link::None, 9_000), None);
        assert_eq!(note(true, Link::None, 11_000), Some(Why::Lacking));
    }
}
