//! One scan of a code: the node's signed receipt, the scan's place in the member's scan log, and the record that anchored the log.
//!
//! A proof shows what the receipt says and nothing more. It does not open the scan's leaf, so it has no pseudonym, no place, no
//! claim code, and names the code by its hash: who holds the code can check it against the hash, who does not learns none.

use std::fmt;

use sha2::{Digest, Sha256};
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::domains;
use tally_contracts::ids::{KeyId, MemberId, NetworkId, PublicKey, Signature};
use tally_contracts::records::Body;
use tally_contracts::signature;
use tally_contracts::state::KeyUse;
use tally_merkle::{Hash, MAX_PROOF_HASHES, verify_inclusion};

use crate::extra::RecordExtra;
use crate::report::{RecordReport, ScanReport};
use crate::roster::Roster;
use crate::{Error, UnitCode};

/// Length of a receipt with its signature that has no reasons; each reason adds two bytes.
pub const SIGNED_RECEIPT_BYTES: usize = RECEIPT_HEAD_BYTES + 1 + 64;
/// Length of what stands before the reasons.
const RECEIPT_HEAD_BYTES: usize = 164;
const VERSION: u8 = 2;

/// A scan: the record that anchored its log, the receipt, and the leaf's way to the anchored root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanExtra {
    /// The AnchorScans record.
    pub anchored: RecordExtra,
    /// The receipt and its signature, as the node gave them.
    pub receipt: Vec<u8>,
    /// RFC 9162 2.1.3 inclusion proof of the receipt's leaf in the anchored log, leaf side first.
    pub path: Vec<Hash>,
}

impl Canonical for ScanExtra {
    fn write(&self, w: &mut Writer) {
        self.anchored.write(w);
        w.raw(&self.receipt).list(&self.path, |w, hash| {
            w.raw(hash.as_bytes());
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            anchored: RecordExtra::read(r)?,
            receipt: signed_receipt(r)?,
            path: r.list("scan's path", MAX_PROOF_HASHES, |r| {
                Ok(Hash(r.array("path's hash")?))
            })?,
        })
    }
}

/// The bytes of a signed receipt, which say themselves how long they are.
fn signed_receipt(r: &mut Reader<'_>) -> Result<Vec<u8>, CodecError> {
    let head = r.raw("scan receipt", RECEIPT_HEAD_BYTES)?;
    let count = r.u8("reasons")?;
    check_count(count)?;
    let reasons = r.raw("reasons", 2 * usize::from(count))?;
    let signature = r.raw("signature", 64)?;
    Ok([head, &[count], reasons, signature].concat())
}

fn check_count(count: u8) -> Result<(), CodecError> {
    if usize::from(count) > ScanReason::NAMES.len() {
        return Err(CodecError::Invalid {
            what: "reasons",
            found: count.into(),
        });
    }
    Ok(())
}

/// Why a code was called suspect: a kind of evidence, and how often it was seen (at most 255 is told).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanReason {
    /// Its number in the receipt, from 1.
    kind: u8,
    /// How often.
    pub count: u8,
}

impl ScanReason {
    const NAMES: [&'static str; 12] = [
        "several_visits",
        "several_places",
        "impossible_speed",
        "impossible_network_speed",
        "claim_code_again",
        "claim_code_wrong",
        "before_release",
        "outside_territory",
        "after_sale",
        "after_recall",
        "void_label",
        "guessing_source",
    ];

    /// The word for it in the scan API.
    #[must_use]
    pub fn name(self) -> &'static str {
        usize::from(self.kind)
            .checked_sub(1)
            .and_then(|i| Self::NAMES.get(i).copied())
            .unwrap_or("unknown")
    }

    /// Reads all reasons of a receipt: rising numbers, nothing counted as never.
    fn read_all(r: &mut Reader<'_>) -> Result<Vec<Self>, CodecError> {
        let bad = |found: u8| CodecError::Invalid {
            what: "reason",
            found: found.into(),
        };
        let count = r.u8("reasons")?;
        check_count(count)?;
        let mut all: Vec<Self> = Vec::new();
        for _ in 0..count {
            let kind = r.u8("reason")?;
            let known = (1..=Self::NAMES.len()).contains(&usize::from(kind));
            if !known || all.last().is_some_and(|last| last.kind >= kind) {
                return Err(bad(kind));
            }
            let count = r.u8("reason count")?;
            if count == 0 {
                return Err(bad(count));
            }
            all.push(Self { kind, count });
        }
        Ok(all)
    }
}

/// What was said of a scanned code, as its number in the receipt, 1 to 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanVerdict(u8);

impl ScanVerdict {
    const NAMES: [&'static str; 9] = [
        "genuine_first",
        "genuine_repeat",
        "not_released",
        "recalled",
        "unknown",
        "cannot_verify_now",
        "revoked",
        "expired",
        "suspect",
    ];

    /// The word for it in the scan API.
    #[must_use]
    pub fn name(self) -> &'static str {
        usize::from(self.0)
            .checked_sub(1)
            .and_then(|i| Self::NAMES.get(i).copied())
            .unwrap_or("unknown")
    }
}

/// 16 random bytes that name a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanName(pub [u8; 16]);

impl fmt::Display for ScanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// What a node signs for a scan. The node makes it (`tally-node`, scans); here it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanReceipt {
    /// The network.
    pub network: NetworkId,
    /// The member whose node took the scan.
    pub member: MemberId,
    /// Which of the member's scan logs.
    pub log_id: u16,
    /// The scan.
    pub scan: ScanName,
    /// POSIX milliseconds of the node's clock.
    pub time_ms: u64,
    /// SHA-256(`tally/scan-code/v1` LF || GTIN || serial).
    pub code: Hash,
    /// What was said.
    pub verdict: ScanVerdict,
    /// Counted scans of the code, this one included if it was counted.
    pub count: u64,
    /// Index of the scan's leaf.
    pub log_index: u64,
    /// Leaves in the log with this scan in it.
    pub log_size: u64,
    /// The scan's leaf hash.
    pub leaf: Hash,
    /// Why the code is suspect; none with another verdict.
    pub reasons: Vec<ScanReason>,
}

impl Canonical for ScanReceipt {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION)
            .raw(self.network.as_bytes())
            .raw(self.member.as_bytes())
            .u16(self.log_id)
            .raw(&self.scan.0)
            .u64(self.time_ms)
            .raw(self.code.as_bytes())
            .u8(self.verdict.0)
            .u64(self.count)
            .u64(self.log_index)
            .u64(self.log_size)
            .raw(self.leaf.as_bytes())
            .u8(u8::try_from(self.reasons.len()).unwrap_or(u8::MAX));
        for reason in &self.reasons {
            w.u8(reason.kind).u8(reason.count);
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("receipt version", VERSION)?;
        Ok(Self {
            network: NetworkId(r.array("network")?),
            member: MemberId(r.array("member")?),
            log_id: r.u16("log ID")?,
            scan: ScanName(r.array("scan ID")?),
            time_ms: r.u64("time")?,
            code: Hash(r.array("code")?),
            verdict: match r.u8("verdict")? {
                verdict @ 1..=9 => ScanVerdict(verdict),
                found => {
                    return Err(CodecError::Invalid {
                        what: "verdict",
                        found: found.into(),
                    });
                }
            },
            count: r.u64("count")?,
            log_index: r.u64("log index")?,
            log_size: r.u64("log size")?,
            leaf: Hash(r.array("leaf")?),
            reasons: ScanReason::read_all(r)?,
        })
    }
}

impl ScanReceipt {
    /// Reads a signed receipt and checks the signature under the keys given; gives the key that signed.
    ///
    /// # Errors
    /// [`Error::Extra`] for bytes that are no receipt, [`Error::Signer`] if no key made the signature.
    pub fn verify(bytes: &[u8], keys: &[PublicKey]) -> Result<(Self, PublicKey), Error> {
        let mut r = Reader::new(bytes);
        let receipt = Self::read(&mut r).map_err(Error::Extra)?;
        let signature = Signature(r.array("signature").map_err(Error::Extra)?);
        r.finish().map_err(Error::Extra)?;
        let message = [domains::SCAN_RECEIPT, &receipt.to_bytes()].concat();
        keys.iter()
            .find(|key| signature::verify("scan receipt", key, &message, &signature).is_ok())
            .map(|key| (receipt, *key))
            .ok_or_else(|| Error::Signer {
                reason: "the scan's receipt is signed by no records key of the member".into(),
            })
    }
}

/// The name of a code in receipts.
#[must_use]
pub fn scan_code_hash(code: &UnitCode) -> Hash {
    Hash(
        Sha256::new()
            .chain_update(domains::SCAN_CODE)
            .chain_update(code.gtin.as_bytes())
            .chain_update(code.serial.to_string().as_bytes())
            .finalize()
            .into(),
    )
}

/// Judges a scan under an anchor that is known to stand in the ledger.
pub(crate) fn judge(
    roster: &Roster,
    extra: &ScanExtra,
    anchored: RecordReport,
    asked: Option<&UnitCode>,
) -> Result<ScanReport, Error> {
    let contradiction = |what| Error::Contradiction { what };
    let Body::AnchorScans(anchor) = &anchored.body else {
        return Err(contradiction("the record anchors no scans"));
    };
    let [signer] = anchored.signatories.as_slice() else {
        return Err(contradiction("the anchor has more than one signer"));
    };
    let member = roster
        .member(&signer.member)
        .filter(|_| signer.key_use == KeyUse::Records)
        .ok_or_else(|| contradiction("the signer may not anchor scans"))?;
    let keys = roster.record_keys(member);
    let (receipt, key) = ScanReceipt::verify(&extra.receipt, &keys)?;
    for (what, same) in [
        (
            "the receipt is of another network",
            receipt.network == roster.network,
        ),
        (
            "the receipt is of another member than the anchor",
            receipt.member == member.id,
        ),
        (
            "the receipt is of another log than the anchor",
            receipt.log_id == anchor.log_id,
        ),
        (
            "the receipt's sizes do not fit",
            receipt.log_index.checked_add(1) == Some(receipt.log_size),
        ),
    ] {
        if !same {
            return Err(contradiction(what));
        }
    }
    verify_inclusion(
        &receipt.leaf,
        receipt.log_index,
        anchor.size,
        &extra.path,
        &anchor.root,
    )
    .map_err(|source| Error::Inclusion {
        what: "scan",
        source,
    })?;
    let code = match asked {
        Some(asked) if scan_code_hash(asked) != receipt.code => return Err(Error::OtherScan),
        other => other.copied(),
    };
    let anchored_size = anchor.size;
    Ok(ScanReport {
        receipt,
        code,
        member_name: member.name.clone(),
        key: KeyId::of(&key),
        anchored_size,
        anchored,
    })
}
