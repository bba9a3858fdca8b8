//! From the genesis to the validators of a later block, by the blocks at which they changed.
//!
//! Each such block was decided by the validators before it, and its state names those after it. So who knows the genesis needs nothing
//! but these blocks' headers, certificates and one state proof each.

use crate::block::{CommitCertificate, Header};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::genesis::Genesis;
use crate::ids::NetworkId;
use crate::state::keys;
use crate::tree::StateProof;
use crate::validators::ValidatorSet;

const VERSION: u8 = 1;
/// The most handovers from a genesis to a block.
pub const MAX_HANDOVERS: usize = 65_536;
/// The longest header and certificate, in bytes: those of a stored block.
pub const MAX_HEADER_BYTES: usize = 1024;
/// See [`MAX_HEADER_BYTES`].
pub const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;
const MAX_VALIDATORS_BYTES: usize = 256 * 1024;
const MAX_STATE_PROOF_BYTES: usize = 16 * 1024;

/// A block after which others decide: signed by those who decided it, it names those who follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// The block's header.
    pub header: Header,
    /// Precommits of the validators of its height.
    pub certificate: CommitCertificate,
    /// The value under `net/validators/` after it.
    pub validators: Vec<u8>,
    /// Leads from that value to the header's state root.
    pub proof: StateProof,
}

impl Handover {
    /// Canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION)
            .bytes(&self.header.to_bytes())
            .bytes(&self.certificate.to_bytes())
            .bytes(&self.validators)
            .bytes(&self.proof.to_bytes());
        w.into_bytes()
    }

    /// Decodes canonical bytes, all of them.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        r.version("handover version", VERSION)?;
        let handover = Self {
            header: Header::from_bytes(r.bytes("header", MAX_HEADER_BYTES)?)?,
            certificate: CommitCertificate::from_bytes(
                r.bytes("certificate", MAX_CERTIFICATE_BYTES)?,
            )?,
            validators: r.bytes("validators", MAX_VALIDATORS_BYTES)?.to_vec(),
            proof: StateProof::from_bytes(r.bytes("state proof", MAX_STATE_PROOF_BYTES)?)?,
        };
        r.finish()?;
        Ok(handover)
    }

    /// The validators that it names, if those given decided it.
    fn follow(&self, set: &ValidatorSet, network: &NetworkId) -> Result<ValidatorSet, String> {
        decided(&self.header, &self.certificate, set, network)?;
        let key = keys::validators();
        self.proof
            .verify(&self.header.state_root, &key, Some(&self.validators))
            .map_err(|e| format!("its validators: {e}"))?;
        ValidatorSet::from_bytes(&self.validators).map_err(|e| format!("its validators: {e}"))
    }
}

/// What does not follow, with the height of its block and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFollowed {
    /// One of the handovers.
    Handover(String),
    /// The block at the end.
    Block(String),
}

/// Follows the validators from the genesis by all handovers up to a block, which those who were then in force must have decided; gives those
/// in force after it.
///
/// # Errors
/// [`NotFollowed`].
pub fn follow(
    genesis: &Genesis,
    trail: &[Handover],
    header: &Header,
    certificate: &CommitCertificate,
) -> Result<ValidatorSet, NotFollowed> {
    let network = genesis.network_id();
    let height = header.height;
    let mut set = ValidatorSet::from_genesis(genesis);
    let mut deciding = set.clone();
    let mut last = 0;
    for handover in trail {
        let at = handover.header.height;
        let wrong = |why: String| NotFollowed::Handover(format!("the block of height {at}: {why}"));
        if at <= last || at > height {
            return Err(wrong(format!("it is not after {last} and up to {height}")));
        }
        last = at;
        set = handover.follow(&set, &network).map_err(wrong)?;
        if at < height {
            deciding = set.clone();
        }
    }
    decided(header, certificate, &deciding, &network)
        .map_err(|why| NotFollowed::Block(format!("the block of height {height}: {why}")))?;
    Ok(set)
}

/// That these validators decided a block of this header.
fn decided(
    header: &Header,
    certificate: &CommitCertificate,
    set: &ValidatorSet,
    network: &NetworkId,
) -> Result<(), String> {
    if header.network != *network {
        return Err(format!(
            "its network is {}, expected {network}",
            header.network
        ));
    }
    if certificate.height != header.height || certificate.block != header.hash() {
        return Err("its certificate is for another block".into());
    }
    certificate
        .verify(set, network)
        .map_err(|e| format!("its certificate: {e}"))
}
