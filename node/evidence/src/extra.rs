//! The `extra` of our `.tlog-proof` files: what the proof is of, and all that its checkpoint does not say by itself.
//!
//! Version u8 (2 of a code, 1 of the others), kind u8 (1 code, 2 record, 3 scan, 4 statement on the state, 5 match, 6 one
//! of the others behind what leads from the genesis to the members of now, [`crate::following`], 7 overlap). Of a code and a record: signature lines of the checkpoint u16, genesis document bytes<=65,535, record bytes<=65,535, block of the record (index
//! u64, BlockInfo [107], path list<=64 of [32]). A code's has further: opening bytes<=1,117, BlockInfo of the last entry [107] and
//! its path, the batch, the product and the part of the void list (value bytes<=1,024 and state proof each). The proof's own index and hashes are the
//! record's. The other kinds are in [`crate::scan`], [`crate::state`], [`crate::matching`] and [`crate::overlap`].

use tally_codes::batch::UnitOpening;
use tally_contracts::StateProof;
use tally_contracts::block::{BlockInfo, MAX_ENTRY_BYTES};
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_merkle::{Checkpoint, Hash, MAX_PROOF_HASHES, leaf_hash, verify_inclusion};

use crate::Error;
use crate::following::Following;
use crate::matching::MatchExtra;
use crate::overlap::OverlapExtra;
use crate::scan::ScanExtra;
use crate::state::StateExtra;

/// A code's first version did not say whether the code is void; a proof without that is none, so that it cannot be left out.
const CODE_VERSION: u8 = 2;
/// Of all other kinds.
const VERSION: u8 = 1;
const CODE: u8 = 1;
const RECORD: u8 = 2;
const SCAN: u8 = 3;
const STATE: u8 = 4;
const MATCH: u8 = 5;
const FOLLOWED: u8 = 6;
const OVERLAP: u8 = 7;
/// The longest genesis document, which is an entry of the ledger.
pub(crate) const MAX_GENESIS_BYTES: usize = MAX_ENTRY_BYTES;
/// The longest record, likewise.
pub(crate) const MAX_RECORD_BYTES: usize = MAX_ENTRY_BYTES;
/// Length of a BlockInfo entry.
const BLOCK_INFO_BYTES: usize = 107;
/// The longest opening: a path of 32 hashes.
const MAX_OPENING_BYTES: usize = 93 + 32 * 32;
/// The longest value in the state: an agreement on sums by 255 labels.
const MAX_VALUE_BYTES: usize = 32 * 1024;

/// What a proof says of itself. Nothing in it is trusted before [`crate::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// The proof is of one code. Kind 1.
    Code(Box<CodeExtra>),
    /// The proof is of one record. Kind 2.
    Record(RecordExtra),
    /// The proof is of one scan. Kind 3.
    Scan(Box<ScanExtra>),
    /// The proof is of a statement on the state. Kind 4.
    State(Box<StateExtra>),
    /// The proof is of how a match ended. Kind 5.
    Match(Box<MatchExtra>),
    /// One of the others, by members that follow from the genesis. Kind 6.
    Followed(Box<Following>, Box<Extra>),
    /// The proof is of how an overlap ended. Kind 7.
    Overlap(Box<OverlapExtra>),
}

impl Extra {
    /// The record that the proof's own index and hashes are of; `None` if they are of a block's BlockInfo.
    #[must_use]
    pub fn record(&self) -> Option<&RecordExtra> {
        match self {
            Self::Code(code) => Some(&code.issued),
            Self::Record(record) => Some(record),
            Self::Scan(scan) => Some(&scan.anchored),
            Self::Match(matched) => Some(&matched.closed),
            Self::Overlap(overlap) => Some(&overlap.closed),
            Self::State(_) => None,
            Self::Followed(_, of) => of.record(),
        }
    }

    /// All records in it, as they were signed.
    #[must_use]
    pub fn records(&self) -> Vec<&[u8]> {
        let mut records: Vec<&[u8]> = self.record().map(|r| &*r.record).into_iter().collect();
        let plain = match self {
            Self::Followed(_, of) => of,
            plain => plain,
        };
        if let Self::Overlap(overlap) = plain {
            records.extend(overlap.confirmed.iter().map(|c| &*c.record));
        }
        records
    }

    /// The genesis document that travels in the proof.
    #[must_use]
    pub fn genesis(&self) -> &[u8] {
        match (self, self.record()) {
            (Self::State(state), _) => &state.genesis,
            (Self::Followed(_, of), _) => of.genesis(),
            (_, Some(record)) => &record.genesis,
            (_, None) => &[],
        }
    }

    /// How many signature lines the checkpoint had when the proof was made.
    #[must_use]
    pub fn signatures(&self) -> u16 {
        match (self, self.record()) {
            (Self::State(state), _) => state.signatures,
            (Self::Followed(_, of), _) => of.signatures(),
            (_, Some(record)) => record.signatures,
            (_, None) => 0,
        }
    }
}

/// The record, and the block that says when it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordExtra {
    /// Signature lines of the checkpoint. Without it a proof whose last line was cut off would be another good proof, as long as
    /// the rest is a quorum.
    pub signatures: u16,
    /// The genesis document, entry 0.
    pub genesis: Vec<u8>,
    /// The record's entry, as it was signed.
    pub record: Vec<u8>,
    /// The BlockInfo of its block.
    pub block: BlockInclusion,
}

/// A code: the record that issued its batch, the code's leaf in the batch, and what the state says of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeExtra {
    /// The record that issued the batch.
    pub issued: RecordExtra,
    /// Opens the code's leaf under the batch's root.
    pub opening: UnitOpening,
    /// The last entry under the checkpoint, which carries the state root.
    pub head: HeadInclusion,
    /// The batch in the state.
    pub batch: StateValue,
    /// The product in the state.
    pub product: StateValue,
    /// The part of the batch's void list that the code's leaf belongs to; no value if the state has none, as nothing of it is void.
    pub revoked: StateValue,
}

/// A BlockInfo entry and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInclusion {
    /// The entry's index.
    pub index: u64,
    /// The entry.
    pub info: BlockInfo,
    /// Its inclusion proof under the checkpoint, leaf side first.
    pub path: Vec<Hash>,
}

/// The BlockInfo that is the last entry under the checkpoint; so it needs no index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadInclusion {
    /// The entry.
    pub info: BlockInfo,
    /// Its inclusion proof under the checkpoint, leaf side first.
    pub path: Vec<Hash>,
}

impl HeadInclusion {
    /// The state root as of the checkpoint.
    ///
    /// # Errors
    /// [`Error::Contradiction`] for an empty tree, [`Error::Inclusion`] if it is not the last entry.
    pub(crate) fn state_root(&self, checkpoint: &Checkpoint) -> Result<&Hash, Error> {
        state_root(&self.info, &self.path, checkpoint)
    }
}

/// The state root in `head`, if that is the last entry under the checkpoint: the last entry of every block with records is its BlockInfo, and
/// a block without records changes no state. So it is the state as of the checkpoint: an older one cannot be shown in its place.
pub(crate) fn state_root<'a>(
    head: &'a BlockInfo,
    path: &[Hash],
    checkpoint: &Checkpoint,
) -> Result<&'a Hash, Error> {
    let last = checkpoint.size.checked_sub(1).ok_or(Error::Contradiction {
        what: "the ledger is empty",
    })?;
    verify_inclusion(
        &leaf_hash(&head.to_bytes()),
        last,
        checkpoint.size,
        path,
        &checkpoint.root,
    )
    .map_err(|source| Error::Inclusion {
        what: "block that carries the state root",
        source,
    })?;
    Ok(&head.state_root)
}

/// A value of the state and its proof. An absent one has no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateValue {
    /// The value's bytes.
    pub value: Vec<u8>,
    /// Leads from key and value to the state root.
    pub proof: StateProof,
}

pub(crate) fn write_info(w: &mut Writer, info: &BlockInfo) {
    w.raw(&info.to_bytes());
}

pub(crate) fn read_info(r: &mut Reader<'_>) -> Result<BlockInfo, CodecError> {
    BlockInfo::from_bytes(r.raw("block info", BLOCK_INFO_BYTES)?)
}

pub(crate) fn write_path(w: &mut Writer, path: &[Hash]) {
    w.list(path, |w, hash| {
        w.raw(hash.as_bytes());
    });
}

pub(crate) fn read_path(r: &mut Reader<'_>) -> Result<Vec<Hash>, CodecError> {
    r.list("path", MAX_PROOF_HASHES, |r| {
        Ok(Hash(r.array("path's hash")?))
    })
}

impl Canonical for BlockInclusion {
    fn write(&self, w: &mut Writer) {
        w.u64(self.index);
        write_info(w, &self.info);
        write_path(w, &self.path);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            index: r.u64("block info's index")?,
            info: read_info(r)?,
            path: read_path(r)?,
        })
    }
}

impl Canonical for HeadInclusion {
    fn write(&self, w: &mut Writer) {
        write_info(w, &self.info);
        write_path(w, &self.path);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            info: read_info(r)?,
            path: read_path(r)?,
        })
    }
}

impl Canonical for StateValue {
    fn write(&self, w: &mut Writer) {
        w.bytes(&self.value);
        self.proof.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            value: r.bytes("state value", MAX_VALUE_BYTES)?.to_vec(),
            proof: StateProof::read(r)?,
        })
    }
}

impl Canonical for RecordExtra {
    fn write(&self, w: &mut Writer) {
        w.u16(self.signatures)
            .bytes(&self.genesis)
            .bytes(&self.record);
        self.block.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            signatures: r.u16("signatures")?,
            genesis: r.bytes("genesis document", MAX_GENESIS_BYTES)?.to_vec(),
            record: r.bytes("record", MAX_RECORD_BYTES)?.to_vec(),
            block: BlockInclusion::read(r)?,
        })
    }
}

impl Canonical for CodeExtra {
    fn write(&self, w: &mut Writer) {
        self.issued.write(w);
        w.bytes(&self.opening.to_bytes());
        self.head.write(w);
        self.batch.write(w);
        self.product.write(w);
        self.revoked.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let issued = RecordExtra::read(r)?;
        let opening = r.bytes("unit opening", MAX_OPENING_BYTES)?;
        Ok(Self {
            issued,
            opening: UnitOpening::from_bytes(opening).map_err(|_| CodecError::Invalid {
                what: "unit opening",
                found: opening.len() as u64,
            })?,
            head: HeadInclusion::read(r)?,
            batch: StateValue::read(r)?,
            product: StateValue::read(r)?,
            revoked: StateValue::read(r)?,
        })
    }
}

impl Canonical for Extra {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::Code(code) => code.write(w.u8(CODE_VERSION).u8(CODE)),
            Self::Record(record) => record.write(w.u8(VERSION).u8(RECORD)),
            Self::Scan(scan) => scan.write(w.u8(VERSION).u8(SCAN)),
            Self::State(state) => state.write(w.u8(VERSION).u8(STATE)),
            Self::Match(matched) => matched.write(w.u8(VERSION).u8(MATCH)),
            Self::Overlap(overlap) => overlap.write(w.u8(VERSION).u8(OVERLAP)),
            Self::Followed(following, of) => {
                following.write(w.u8(VERSION).u8(FOLLOWED));
                of.write(w);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        match read_kind(r)? {
            (VERSION, FOLLOWED) => {
                let following = Following::read(r)?;
                // One only: whoever nests them deeper is not followed down.
                let (version, kind) = read_kind(r)?;
                let of = read_plain(version, kind, r)?;
                Ok(Self::Followed(Box::new(following), Box::new(of)))
            }
            (version, kind) => read_plain(version, kind, r),
        }
    }
}

fn read_kind(r: &mut Reader<'_>) -> Result<(u8, u8), CodecError> {
    Ok((r.u8("extra version")?, r.u8("extra kind")?))
}

/// An extra of any kind but [`FOLLOWED`].
fn read_plain(version: u8, kind: u8, r: &mut Reader<'_>) -> Result<Extra, CodecError> {
    match (version, kind) {
        (CODE_VERSION, CODE) => Ok(Extra::Code(Box::new(CodeExtra::read(r)?))),
        (VERSION, RECORD) => Ok(Extra::Record(RecordExtra::read(r)?)),
        (VERSION, SCAN) => Ok(Extra::Scan(Box::new(ScanExtra::read(r)?))),
        (VERSION, STATE) => Ok(Extra::State(Box::new(StateExtra::read(r)?))),
        (VERSION, MATCH) => Ok(Extra::Match(Box::new(MatchExtra::read(r)?))),
        (VERSION, OVERLAP) => Ok(Extra::Overlap(Box::new(OverlapExtra::read(r)?))),
        (found, CODE..=MATCH | OVERLAP) => Err(CodecError::Invalid {
            what: "extra version",
            found: found.into(),
        }),
        (_, found) => Err(CodecError::Invalid {
            what: "extra kind",
            found: found.into(),
        }),
    }
}
