//! Peer IDs of transport keys.

use libp2p::identity::{PublicKey as LibPublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tally_contracts::ids::PublicKey;

use crate::error::Error;

fn to_peer_id(transport: &PublicKey) -> Result<PeerId, Error> {
    let key =
        ed25519::PublicKey::try_from_bytes(transport.as_bytes()).map_err(|e| Error::Config {
            field: "transport key",
            reason: e.to_string(),
        })?;
    Ok(LibPublicKey::from(key).to_peer_id())
}

/// The libp2p peer ID of a node, as text, from the transport key in its ledger entry.
///
/// # Errors
/// [`Error::Config`] if the bytes are not an Ed25519 public key.
pub fn peer_id(transport: &PublicKey) -> Result<String, Error> {
    to_peer_id(transport).map(|id| id.to_string())
}

/// `address` followed by `/p2p/<peer ID>`, whatever peer ID it named before.
///
/// # Errors
/// [`Error::Config`] if `address` is no multiaddr or the key no Ed25519 public key.
pub fn address_with_peer_id(address: &str, transport: &PublicKey) -> Result<String, Error> {
    let mut address: Multiaddr = parse_address("peers", address)?;
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address.push(Protocol::P2p(to_peer_id(transport)?));
    Ok(address.to_string())
}

pub(crate) fn parse_address(field: &'static str, text: &str) -> Result<Multiaddr, Error> {
    text.parse()
        .map_err(|e: libp2p::multiaddr::Error| Error::Config {
            field,
            reason: format!("{text}: {e}"),
        })
}
