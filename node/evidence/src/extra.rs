//! The `extra` of our `.tlog-proof` files: what the proof is of, and all that its checkpoint does not say by itself.
//!
//! Version u8 (1), kind u8 (1 code, 2 record), signature lines of the checkpoint u16, genesis document bytes<=65,535, record bytes<=65,535, block of the record (index
//! u64, BlockInfo [107], path list<=64 of [32]). A code's has further: opening bytes<=1,117, BlockInfo of the last entry [107] and
//! its path, the batch and the product (value bytes<=1,024 and state proof each). The proof's own index and hashes are the
//! record's.

use tally_codes::batch::UnitOpening;
use tally_contracts::StateProof;
use tally_contracts::block::{BlockInfo, MAX_ENTRY_BYTES};
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_merkle::{Hash, MAX_PROOF_HASHES};

const VERSION: u8 = 1;
const CODE: u8 = 1;
const RECORD: u8 = 2;
/// Length of a BlockInfo entry.
const BLOCK_INFO_BYTES: usize = 107;
/// The longest opening: a path of 32 hashes.
const MAX_OPENING_BYTES: usize = 93 + 32 * 32;
/// The longest value of a batch or a product in the state.
const MAX_VALUE_BYTES: usize = 1024;

/// What a proof says of itself. Nothing in it is trusted before [`crate::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// The proof is of one code. Kind 1.
    Code(Box<CodeExtra>),
    /// The proof is of one record. Kind 2.
    Record(RecordExtra),
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

/// A value of the state and its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateValue {
    /// The value's bytes.
    pub value: Vec<u8>,
    /// Leads from key and value to the state root.
    pub proof: StateProof,
}

fn write_info(w: &mut Writer, info: &BlockInfo) {
    w.raw(&info.to_bytes());
}

fn read_info(r: &mut Reader<'_>) -> Result<BlockInfo, CodecError> {
    BlockInfo::from_bytes(r.raw("block info", BLOCK_INFO_BYTES)?)
}

fn write_path(w: &mut Writer, path: &[Hash]) {
    w.list(path, |w, hash| {
        w.raw(hash.as_bytes());
    });
}

fn read_path(r: &mut Reader<'_>) -> Result<Vec<Hash>, CodecError> {
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
            genesis: r.bytes("genesis document", MAX_ENTRY_BYTES)?.to_vec(),
            record: r.bytes("record", MAX_ENTRY_BYTES)?.to_vec(),
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
        })
    }
}

impl Canonical for Extra {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION);
        match self {
            Self::Code(code) => code.write(w.u8(CODE)),
            Self::Record(record) => record.write(w.u8(RECORD)),
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("extra version", VERSION)?;
        match r.u8("extra kind")? {
            CODE => Ok(Self::Code(Box::new(CodeExtra::read(r)?))),
            RECORD => Ok(Self::Record(RecordExtra::read(r)?)),
            found => Err(CodecError::Invalid {
                what: "extra kind",
                found: found.into(),
            }),
        }
    }
}
