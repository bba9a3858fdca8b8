//! Audiences: a frozen input set, committed before it is matched.

use tally_merkle::Hash;

use super::{BODY_VERSION, Profile};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::ids::AudienceLabel;

/// The smallest `b` with `size <= 2^b`: all that the ledger says of a set's size. 0 for sizes 0 and 1.
#[must_use]
pub const fn size_bucket(size: u64) -> u8 {
    if size <= 1 {
        return 0;
    }
    // At most 64, so nothing is cut off.
    #[allow(clippy::cast_possible_truncation)]
    {
        (64 - (size - 1).leading_zeros()) as u8
    }
}

/// Kind 30: commits a data owner to the people in an audience for one epoch. One root for each (owner, audience, epoch).
/// Signed by a record key of the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitAudience {
    /// Salted hash of the audience's name.
    pub label: AudienceLabel,
    /// The epoch: block time / epoch length of the rules.
    pub epoch: u64,
    /// Salted commitment to the set.
    pub root: Hash,
    /// See [`size_bucket`]; at most 64.
    pub size_bucket: u8,
    /// The kind and form of its IDs.
    pub profile: Profile,
}

impl Canonical for CommitAudience {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION)
            .raw(&self.label.0)
            .u64(self.epoch)
            .raw(self.root.as_bytes())
            .u8(self.size_bucket);
        self.profile.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            label: AudienceLabel(r.array("audience label")?),
            epoch: r.u64("epoch")?,
            root: Hash(r.array("audience root")?),
            size_bucket: read_bucket(r)?,
            profile: Profile::read(r)?,
        })
    }
}

/// A size bucket, at most 64.
pub(crate) fn read_bucket(r: &mut Reader<'_>) -> Result<u8, CodecError> {
    match r.u8("size bucket")? {
        bucket @ 0..=64 => Ok(bucket),
        found => Err(CodecError::Invalid {
            what: "size bucket",
            found: found.into(),
        }),
    }
}
