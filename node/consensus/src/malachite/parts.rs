//! How a block travels: cut into parts of 128 KiB, each with the proposer's signed header in front, so that a part is judged
//! by itself, in any order, and nothing unsigned is ever buffered.

use std::sync::Arc;

use malachitebft_app_channel::app::types::core::{self as engine, Round};
use sha2::{Digest, Sha256};
use tally_contracts::block::MAX_BLOCK_BYTES;
use tally_contracts::codec::{CodecError, Reader, Writer};
use tally_contracts::domains;
use tally_contracts::ids::{BlockHash, NetworkId, PublicKey, Signature};

use super::codec::{MAX_ROUND, read_round_option, write_round_option};
use super::context::TallyContext;
use super::signing::Keys;
use crate::verify::verify_signature;

/// Bytes of a block in one part.
pub(crate) const PART_BYTES: usize = 128 * 1024;
/// The most parts of one block.
pub(crate) const MAX_PARTS: usize = MAX_BLOCK_BYTES.div_ceil(PART_BYTES);

/// What the sender signs about the block it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartsHeader {
    pub(crate) height: u64,
    pub(crate) round: u32,
    /// Round of the proof-of-lock, when a block is sent again.
    pub(crate) pol_round: Option<u32>,
    pub(crate) block: BlockHash,
    pub(crate) block_bytes: u32,
    /// SHA-256 of each part's bytes.
    pub(crate) part_hashes: Vec<[u8; 32]>,
    /// The validator that sends, which need not be the first proposer.
    pub(crate) sender: PublicKey,
}

impl PartsHeader {
    /// Everything but the signature, in canonical form.
    fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(self.height).u32(self.round);
        write_round_option(&mut w, self.pol_round.into());
        w.raw(&self.block.0)
            .u32(self.block_bytes)
            .list(&self.part_hashes, |w, hash| {
                w.raw(hash);
            })
            .raw(&self.sender.0);
        w.into_bytes()
    }

    fn sign_bytes(&self, network: &NetworkId) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(domains::PROPOSAL_PARTS)
            .raw(&network.0)
            .raw(&self.to_bytes());
        w.into_bytes()
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let height = r.u64("part height")?;
        let round = r.u32("part round")?;
        if round > MAX_ROUND {
            return Err(CodecError::Invalid {
                what: "part round",
                found: round.into(),
            });
        }
        let pol_round = read_round_option(r, "part lock round")?.as_u32();
        let block = BlockHash(r.array("part block hash")?);
        let block_bytes = r.u32("block length")?;
        let part_hashes = r.list("part hashes", MAX_PARTS, |r| r.array("part hash"))?;
        let sender = PublicKey(r.array("part sender")?);
        let length = block_bytes as usize;
        if length == 0
            || length > MAX_BLOCK_BYTES
            || part_hashes.len() != length.div_ceil(PART_BYTES)
        {
            return Err(CodecError::Invalid {
                what: "block length",
                found: block_bytes.into(),
            });
        }
        Ok(Self {
            height,
            round,
            pol_round,
            block,
            block_bytes,
            part_hashes,
            sender,
        })
    }

    /// How many bytes part `index` has, or `None` if there is no such part.
    pub(crate) fn part_len(&self, index: usize) -> Option<usize> {
        let start = index.checked_mul(PART_BYTES)?;
        let left = (self.block_bytes as usize).checked_sub(start)?;
        (left > 0).then(|| left.min(PART_BYTES))
    }

    /// Names the body whatever round or sender it came in: SHA-256 over height, block hash, length and part hashes.
    pub(crate) fn body_id(&self) -> [u8; 32] {
        let mut hash = Sha256::new()
            .chain_update(self.height.to_be_bytes())
            .chain_update(self.block.0)
            .chain_update(self.block_bytes.to_be_bytes());
        for part in &self.part_hashes {
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// One part of a block, with the header it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) header: Arc<PartsHeader>,
    pub(crate) signature: Signature,
    pub(crate) index: u32,
    pub(crate) data: Vec<u8>,
}

impl Part {
    pub(crate) fn write(&self, w: &mut Writer) {
        w.raw(&self.header.to_bytes())
            .raw(&self.signature.0)
            .u32(self.index)
            .bytes(&self.data);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let header = PartsHeader::read(r)?;
        let signature = Signature(r.array("part signature")?);
        let index = r.u32("part index")?;
        let expected = header.part_len(index as usize).ok_or(CodecError::Invalid {
            what: "part index",
            found: index.into(),
        })?;
        let data = r.bytes("part data", PART_BYTES)?;
        if data.len() != expected {
            return Err(CodecError::Invalid {
                what: "part length",
                found: data.len() as u64,
            });
        }
        Ok(Self {
            header: Arc::new(header),
            signature,
            index,
            data: data.to_vec(),
        })
    }

    /// Whether the sender signed the header.
    pub(crate) fn header_is_signed(&self, network: &NetworkId) -> bool {
        verify_signature(
            &self.header.sender,
            &self.header.sign_bytes(network),
            &self.signature,
        )
    }

    /// Whether the bytes are those that the header names.
    pub(crate) fn data_matches(&self) -> bool {
        let hash: [u8; 32] = Sha256::digest(&self.data).into();
        self.header.part_hashes.get(self.index as usize) == Some(&hash)
    }
}

impl engine::ProposalPart<TallyContext> for Part {
    fn is_first(&self) -> bool {
        self.index == 0
    }

    fn is_last(&self) -> bool {
        self.index as usize + 1 == self.header.part_hashes.len()
    }
}

/// Cuts a block into signed parts. `block_bytes` must be 1 to `MAX_BLOCK_BYTES` bytes; other lengths give `None`.
pub(crate) fn cut(
    keys: &Keys,
    height: u64,
    round: u32,
    pol_round: Round,
    block: BlockHash,
    body: &[u8],
) -> Option<Vec<Part>> {
    if body.is_empty() || body.len() > MAX_BLOCK_BYTES {
        return None;
    }
    let header = Arc::new(PartsHeader {
        height,
        round,
        pol_round: pol_round.as_u32(),
        block,
        block_bytes: u32::try_from(body.len()).ok()?,
        part_hashes: body
            .chunks(PART_BYTES)
            .map(|part| Sha256::digest(part).into())
            .collect(),
        sender: keys.public(),
    });
    let signature = keys.sign(&header.sign_bytes(keys.network()));
    (0u32..)
        .zip(body.chunks(PART_BYTES))
        .map(|(index, data)| {
            Some(Part {
                header: Arc::clone(&header),
                signature,
                index,
                data: data.to_vec(),
            })
        })
        .collect()
}
