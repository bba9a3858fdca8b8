//! The member swarm: libp2p behind an allow-list from the ledger.
