//! What a node signs for a scan: that it was put into the log, where, and what was said.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::domains;
use tally_contracts::ids::{MemberId, NetworkId, PublicKey, Signature};
use tally_contracts::signature::verify;
use tally_merkle::Hash;

use super::{CodeHash, Reasons, ScanError, ScanId, Signer, Verdict};

const VERSION: u8 = 2;

/// A promise that can be checked: the leaf at `log_index` of this member's scan log is `leaf`, under every anchor of that log of
/// size `log_size` or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The network.
    pub network: NetworkId,
    /// The member whose node took the scan.
    pub member: MemberId,
    /// Which of the member's scan logs.
    pub log_id: u16,
    /// The scan.
    pub scan: ScanId,
    /// POSIX milliseconds of the node's clock.
    pub time_ms: u64,
    /// The code.
    pub code: CodeHash,
    /// What was said.
    pub verdict: Verdict,
    /// Counted scans of the code, this one included if it was counted.
    pub count: u64,
    /// Index of the scan's leaf.
    pub log_index: u64,
    /// Leaves in the log with this scan in it.
    pub log_size: u64,
    /// The scan's leaf hash.
    pub leaf: Hash,
    /// Why it is suspect; none with another verdict.
    pub reasons: Reasons,
}

/// A receipt and its signature by the node's records key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt {
    /// What is signed, behind the domain of scan receipts.
    pub receipt: Receipt,
    /// The signature.
    pub signature: Signature,
}

impl Canonical for Receipt {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION)
            .raw(self.network.as_bytes())
            .raw(self.member.as_bytes())
            .u16(self.log_id);
        self.scan.write(w);
        w.u64(self.time_ms).raw(&self.code.0);
        self.verdict.write(w);
        w.u64(self.count)
            .u64(self.log_index)
            .u64(self.log_size)
            .raw(self.leaf.as_bytes());
        self.reasons.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("receipt version", VERSION)?;
        Ok(Self {
            network: NetworkId(r.array("network")?),
            member: MemberId(r.array("member")?),
            log_id: r.u16("log ID")?,
            scan: ScanId::read(r)?,
            time_ms: r.u64("time")?,
            code: CodeHash(r.array("code")?),
            verdict: Verdict::read(r)?,
            count: r.u64("count")?,
            log_index: r.u64("log index")?,
            log_size: r.u64("log size")?,
            leaf: Hash(r.array("leaf")?),
            reasons: Reasons::read(r)?,
        })
    }
}

impl Canonical for SignedReceipt {
    fn write(&self, w: &mut Writer) {
        self.receipt.write(w);
        w.raw(&self.signature.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            receipt: Receipt::read(r)?,
            signature: Signature(r.array("signature")?),
        })
    }
}

impl Receipt {
    fn message(&self) -> Vec<u8> {
        [domains::SCAN_RECEIPT, &self.to_bytes()].concat()
    }

    /// Signs it. The same receipt gives the same signature, so that an answer can be repeated.
    #[must_use]
    pub fn sign(self, signer: &dyn Signer) -> SignedReceipt {
        let signature = signer.sign(&self.message());
        SignedReceipt {
            receipt: self,
            signature,
        }
    }
}

/// Reads a signed receipt and checks it under a records key of the member; needs no node.
///
/// # Errors
/// [`ScanError::Codec`], [`ScanError::Signature`].
pub fn verify_receipt(bytes: &[u8], key: &PublicKey) -> Result<Receipt, ScanError> {
    let SignedReceipt { receipt, signature } = SignedReceipt::from_bytes(bytes)?;
    verify("scan receipt", key, &receipt.message(), &signature).map_err(|_| {
        ScanError::Signature {
            what: "scan receipt",
        }
    })?;
    Ok(receipt)
}
