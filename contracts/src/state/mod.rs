//! The shared state: named keys, typed values, and reading it through an overlay of writes.

mod governance;
pub mod keys;
mod overlap;
mod overlay;
mod read;
mod values;

pub(crate) use governance::MAX_VOTES;
pub use governance::{ChangeState, ChangeStatus, MAX_SCHEDULED, RetiredKey, Schedule, Scheduled};
pub use overlap::{OverlapParty, OverlapState};
pub(crate) use overlay::Remembering;
pub use overlay::{MemoryState, Overlay};
pub(crate) use read::read_count32;
pub use read::{
    agreement, anchor, audience, batch, batch_by_range, budget, change, disclosed, is_revoked,
    key_state, match_state, member, member_by_name, members, network_info, next_index, overlap,
    product, read, retired_key, revoked, revoked_count, rules, schedule, territory, validators,
};
pub use values::{
    AgreementState, AgreementStatus, AnchorState, AudienceState, BatchState, BatchStatus, Budget,
    KeyState, KeyUse, MatchState, MatchStatus, NetworkInfo, ProductState, RevokedState,
    TerritoryState,
};

use crate::codec::CodecError;

/// Writes in ascending order of their keys, none twice; `None` removes. State keys and values are bytes.
pub type Effects = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// A key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Reads the shared state at one height.
pub trait StateRead {
    /// The value under a key.
    ///
    /// # Errors
    /// [`StateError::Store`] if the store cannot answer.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// Every key that starts with `prefix`, with its value, ascending. For namespaces that are known to be small.
    ///
    /// # Errors
    /// [`StateError::Store`] if the store cannot answer.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StateError>;
}

impl<T: StateRead + ?Sized> StateRead for &T {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        (**self).get(key)
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StateError> {
        (**self).scan(prefix)
    }
}

/// The state could not be read. Never a reason to refuse a record or a block: a node that meets this stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The store failed.
    #[error("state store: {message}")]
    Store {
        /// What it said.
        message: String,
    },
    /// A value is not what its key promises.
    #[error("state value under {key} is damaged: {source}")]
    Damaged {
        /// The key, as [`keys::show`] writes it.
        key: String,
        /// What is wrong with it.
        source: CodecError,
    },
    /// A stored page of the state tree does not give the hash that the tree has for it.
    #[error(
        "the stored page of the state tree at {place} does not give its hash; stop the node and remove the folder ledger/state/tree, \
         which is then made anew"
    )]
    Tree {
        /// Where, as [`crate::tree::PagePlace`] shows itself.
        place: String,
    },
    /// A value that every state has is missing.
    #[error("state value under {key} is missing")]
    Missing {
        /// The key, as [`keys::show`] writes it.
        key: String,
    },
}
