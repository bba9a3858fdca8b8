//! The state that a genesis gives.

use tally_merkle::Hash;

use crate::error::Error;
use crate::genesis::Genesis;
use crate::ids::KeyId;
use crate::state::{Effects, KeyState, KeyUse, MemoryState, NetworkInfo, Overlay, keys};
use crate::tree::StateTree;
use crate::validators::ValidatorSet;

/// The writes of entry 0: network, rules, validators, members and their signing keys.
#[must_use]
pub fn genesis_effects(genesis: &Genesis) -> Effects {
    let empty = MemoryState::new();
    let mut state = Overlay::new(&empty);
    let info = NetworkInfo {
        network: genesis.network_id(),
        kind: genesis.kind,
        name: genesis.name.clone(),
        created_ms: genesis.created_ms,
    };
    state.put(keys::network(), &info);
    state.put(keys::rules(), &genesis.rules);
    state.put(keys::validators(), &ValidatorSet::from_genesis(genesis));
    for member in &genesis.members {
        state.put(keys::member(&member.id), member);
        state.set(keys::member_name(&member.name), Some(member.id.0.to_vec()));
        let admin = member.admin_keys.iter().map(|k| (*k, KeyUse::Admin));
        let records = member.nodes.iter().map(|n| (n.records, KeyUse::Records));
        for (key, key_use) in admin.chain(records) {
            let value = KeyState {
                key,
                key_use,
                next_nonce: 0,
            };
            state.put(keys::signing_key(&member.id, &KeyId::of(&key)), &value);
        }
    }
    state.into_effects()
}

/// The state root after entry 0.
///
/// # Errors
/// [`Error::Internal`] never in practice.
pub fn genesis_root(genesis: &Genesis) -> Result<Hash, Error> {
    StateTree::new().commit(&genesis_effects(genesis))
}
