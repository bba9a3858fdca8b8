//! Typed bodies of records, one room for each contract. Every body starts with its own version byte.

mod agreement;
mod anchor;
mod audience;
mod expiry;
mod governance;
mod matches;
mod overlap;
mod product;
mod revoke;
mod sums;
mod territory;

pub(crate) use expiry::{read_expiry, write_expiry};
pub(crate) use matches::read_count_charge;
pub(crate) use overlap::read_digests;

pub use agreement::{
    AcceptAgreement, BudgetCap, Computation, DELTA_ONE, Form, IdType, MAX_NOISE_BOUND, MAX_PARTIES,
    MAX_PURPOSE, Noise, ParseProfileError, Prehash, Profile, ProposeAgreement, RevokeAgreement,
    Suite,
};
pub use anchor::{AnchorScans, MAX_CONSISTENCY_HASHES};
pub use audience::{CommitAudience, size_bucket};
pub use expiry::ExpiryDate;
pub use governance::{
    Change, KeyPurpose, MAX_CHANGES, MAX_DELAY_BLOCKS, MAX_VOTING_MS, MAX_WHY, Parameters,
    ProposeChange, Vote,
};
pub use matches::{AudienceRef, Close, CloseMatch, MatchReceipt, OpenMatch, ReleaseMatch};
pub use overlap::{
    CloseOverlap, ConfirmOverlap, HelperTerms, JoinOverlap, MIN_OVERLAP_PARTIES, OverlapClose,
    OverlapReceipt, ReleaseOverlap,
};
pub use product::{
    ActivateBatch, Gtin, INDEX_BITS, IssueBatch, Lot, MAX_BATCH_COUNT, MAX_DESCRIPTION, MAX_LOT,
    MAX_REASON, ParseTradeError, RecallBatch, RegisterProduct, batch_id,
};
pub use revoke::{MAX_REVOKED_PARTS, REVOKED_PART_LEAVES, RevokeCodes, RevokedLeaves, RevokedPart};
pub use sums::{
    JoinSumTerms, MAX_LABEL_NAME, MAX_LINEAR_TOUCHES, MAX_SUM_LABELS, MAX_SUM_ROWS, MAX_WINDOW_S,
    OTHER_LABEL, ParseModelError, SUM_RANGE, SumLabel, SumModel, SumNoise,
};
pub use territory::{
    Area, AreaKind, MAX_AREA_CELL, MAX_AREAS, ParseAreaError, SetTerritory, Territory,
};

use crate::codec::{Canonical, CodecError};

/// Version byte of every body of these rules.
const BODY_VERSION: u8 = 1;

macro_rules! bodies {
    ($($code:literal $kind:ident $name:literal),+ $(,)?) => {
        /// The kinds of record that these rules know.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $(#[doc = concat!("`", stringify!($kind), "`, code ", stringify!($code), ".")] $kind,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// The number in the envelope.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$kind => $code,)+ }
            }

            /// The kind of a number; `None` for one that these rules do not know.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$kind),)+ _ => None }
            }

            /// The words for it, as in `issue batch`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }
        }

        /// A typed body.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Body {
            $(#[doc = concat!("See [`", stringify!($kind), "`].")] $kind($kind),)+
        }

        $(impl From<$kind> for Body {
            fn from(body: $kind) -> Self {
                Self::$kind(body)
            }
        })+

        impl Body {
            /// The kind that the envelope names.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind,)+ }
            }

            /// The body's bytes.
            #[must_use]
            pub fn to_bytes(&self) -> Vec<u8> {
                match self { $(Self::$kind(body) => body.to_bytes(),)+ }
            }

            /// Decodes the body of a record of kind `kind`.
            ///
            /// # Errors
            /// [`CodecError`] for an unknown kind and for bytes that are not canonical.
            pub fn from_bytes(kind: u16, bytes: &[u8]) -> Result<Self, CodecError> {
                match Kind::from_code(kind) {
                    $(Some(Kind::$kind) => $kind::from_bytes(bytes).map(Self::$kind),)+
                    None => Err(CodecError::Invalid { what: "kind", found: kind.into() }),
                }
            }
        }
    };
}

bodies! {
    1 RegisterProduct "register product",
    2 IssueBatch "issue batch",
    3 ActivateBatch "activate batch",
    4 RecallBatch "recall batch",
    5 RevokeCodes "revoke codes",
    6 SetTerritory "set territory",
    10 AnchorScans "anchor scans",
    20 ProposeAgreement "propose agreement",
    21 AcceptAgreement "accept agreement",
    22 RevokeAgreement "revoke agreement",
    30 CommitAudience "commit audience",
    40 OpenMatch "open match",
    41 ReleaseMatch "release match",
    42 CloseMatch "close match",
    43 JoinOverlap "join overlap",
    44 ReleaseOverlap "release overlap",
    45 CloseOverlap "close overlap",
    46 ConfirmOverlap "confirm overlap",
    50 ProposeChange "propose change",
    51 Vote "vote",
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
