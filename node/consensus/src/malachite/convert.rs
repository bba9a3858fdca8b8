//! Certificates and sets, between the engine's form and ours.

use malachitebft_app_channel::app::types::core::{
    CommitCertificate as EngineCertificate, ExtendedCommitCertificate, ExtendedCommitSignature,
    Round,
};
use tally_contracts::block::{CommitCertificate, CommitSignature};
use tally_contracts::codec::{CodecError, Reader};
use tally_contracts::ids::BlockHash;

use super::context::{Address, EngineSignature, Height, TallyContext, Value};

/// The engine's certificate as it is stored for years: signers ascending, without repeats.
pub(crate) fn certificate(from: &EngineCertificate<TallyContext>) -> CommitCertificate {
    let mut signatures: Vec<CommitSignature> = from
        .commit_signatures
        .iter()
        .map(|s| CommitSignature {
            validator: s.address.0,
            signature: s.signature.0,
        })
        .collect();
    signatures.sort_unstable_by_key(|s| s.validator);
    signatures.dedup_by_key(|s| s.validator);
    CommitCertificate {
        height: from.height.0,
        round: from.round.as_u32().unwrap_or(0),
        block: from.value_id.0,
        signatures,
    }
}

/// A stored certificate as it travels in value sync; no vote extensions.
pub(crate) fn sync_certificate(
    from: &CommitCertificate,
) -> ExtendedCommitCertificate<TallyContext> {
    ExtendedCommitCertificate {
        height: Height(from.height),
        round: Round::new(from.round),
        value_id: Value(from.block),
        commit_signatures: from
            .signatures
            .iter()
            .map(|s| {
                ExtendedCommitSignature::new(
                    Address(s.validator),
                    EngineSignature(s.signature),
                    None,
                )
            })
            .collect(),
    }
}

/// The block hash that the header at the front of a block's bytes gives. The records are not looked at.
pub(crate) fn block_hash(block: &[u8]) -> Result<BlockHash, CodecError> {
    let header = Reader::new(block).bytes("header", 1024)?;
    Ok(tally_contracts::block::Header::from_bytes(header)?.hash())
}
