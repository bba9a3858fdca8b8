//! Dead connections of the consensus engine. When the network between two nodes is cut without closing their connection, the engine
//! does not notice: its packets are sent again after ever longer pauses, and after the cut is healed it may wait for minutes. The
//! member swarm notices by its pings, and connects again when it can. Then the engine's connection to that node is made anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tally_consensus::{EngineHandle, address_with_peer_id, peer_id};
use tally_contracts::ids::PublicKey;
use tally_ledger::Ledger;
use tally_swarm::Host;

use super::members;

const TICK: Duration = Duration::from_millis(250);

/// Peers that the swarm has lost, each with whether the engine has thought all the time that its own connection stands.
#[derive(Default)]
struct Lost(HashMap<[u8; 32], bool>);

impl Lost {
    /// Notes how a peer is connected now; says whether the engine's connection is one that survived what the swarm's did not.
    fn is_stale(&mut self, peer: [u8; 32], swarm: bool, engine: bool) -> bool {
        if swarm {
            return self.0.remove(&peer) == Some(true) && engine;
        }
        *self.0.entry(peer).or_insert(true) &= engine;
        false
    }
}

/// Watches both, as long as the engine runs.
pub async fn run_reconnecting(ledger: Arc<Ledger>, host: Host, engine: EngineHandle) {
    let mut lost = Lost::default();
    loop {
        tokio::time::sleep(TICK).await;
        let status = engine.status();
        if !status.running {
            return;
        }
        for peer in host.peers() {
            let Ok(id) = peer_id(&PublicKey(peer.key)) else {
                continue;
            };
            let stands = status.peers.binary_search(&id).is_ok();
            if !lost.is_stale(peer.key, peer.connected, stands) {
                continue;
            }
            tracing::info!(peer = %peer.label, "making a consensus connection anew that outlived a cut");
            if let Err(error) = connect_anew(&ledger, &engine, &PublicKey(peer.key)).await {
                tracing::warn!(peer = %peer.label, error, "a consensus connection was not made anew");
            }
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
    let cut = engine.remove_peer(&address).await;
    let added = engine.add_peer(&address).await;
    cut.and(added).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_outlived_the_swarms_connection_is_stale() {
        let (mut lost, a, b) = (Lost::default(), [1; 32], [2; 32]);
        assert!(!lost.is_stale(a, true, true));
        // A cut that the engine did not see.
        assert!(!lost.is_stale(a, false, true));
        assert!(!lost.is_stale(a, false, true));
        assert!(lost.is_stale(a, true, true));
        assert!(!lost.is_stale(a, true, true));
        // A node that was gone: the engine saw it go, and has a new connection.
        for engine in [true, false, true] {
            assert!(!lost.is_stale(b, false, engine));
        }
        assert!(!lost.is_stale(b, true, true));
        // Both are gone for the moment: the engine connects by itself.
        assert!(!lost.is_stale(a, false, true));
        assert!(!lost.is_stale(a, true, false));
    }
}
