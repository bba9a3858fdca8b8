//! The messages between a node that took a scan and the issuer of the code, in the order they are sent.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_contracts::domains;
use tally_contracts::ids::{MemberId, NetworkId, PublicKey, Signature};
use tally_contracts::signature::verify;
use zeroize::Zeroizing;

use super::record::{read_option, write_option};
use super::{
    ClaimCheck, CodeHash, First, Place, Reasons, ScanError, ScanId, ScannedCode, Signer, Verdict,
};

const VERSION: u8 = 3;
/// Longest claim code as typed, in bytes.
pub(crate) const MAX_CLAIM: usize = 32;

/// The largest message of either kind, in bytes.
pub const MAX_FORWARD_BYTES: usize = 1024;

/// Asks the issuer about one code. Sent inside an authenticated and encrypted stream; the issuer takes the sender from that.
pub struct ForwardRequest {
    /// The network.
    pub network: NetworkId,
    /// The asking member.
    pub asker: MemberId,
    /// The scan at the asker; asking twice under one ID counts once.
    pub scan: ScanId,
    /// The code.
    pub code: ScannedCode,
    /// Where it was scanned, if it was said.
    pub place: Option<Place>,
    /// Only look: nothing is counted or stored.
    pub look: bool,
    /// The claim code as typed; secret.
    pub claim: Option<Zeroizing<String>>,
}

/// What the issuer says of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanAnswer {
    /// The network.
    pub network: NetworkId,
    /// The issuer.
    pub issuer: MemberId,
    /// The member that asked.
    pub asker: MemberId,
    /// The scan at the asker.
    pub scan: ScanId,
    /// The code.
    pub code: CodeHash,
    /// Whether it was only looked at; then `genuine_first` means that nobody scanned it yet.
    pub look: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// Counted scans of the code so far.
    pub count: u64,
    /// The first of them.
    pub first: Option<First>,
    /// What became of the claim code.
    pub claim: ClaimCheck,
    /// Why it is suspect; none with another verdict.
    pub reasons: Reasons,
    /// POSIX milliseconds of the issuer's clock.
    pub time_ms: u64,
}

/// An answer and its signature by a records key of the issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAnswer {
    /// What is signed, behind the domain of scan answers.
    pub answer: ScanAnswer,
    /// The signature.
    pub signature: Signature,
}

impl Canonical for ForwardRequest {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION)
            .raw(self.network.as_bytes())
            .raw(self.asker.as_bytes());
        self.scan.write(w);
        self.code.write(w);
        write_option(w, self.place.as_ref());
        w.bool(self.look)
            .text(self.claim.as_ref().map_or("", |c| c.as_str()));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("forward version", VERSION)?;
        Ok(Self {
            network: NetworkId(r.array("network")?),
            asker: MemberId(r.array("asker")?),
            scan: ScanId::read(r)?,
            code: ScannedCode::read(r)?,
            place: read_option(r, "place")?,
            look: r.bool("look")?,
            claim: Some(Zeroizing::new(r.text("claim", MAX_CLAIM)?)).filter(|c| !c.is_empty()),
        })
    }
}

impl Canonical for ScanAnswer {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION)
            .raw(self.network.as_bytes())
            .raw(self.issuer.as_bytes())
            .raw(self.asker.as_bytes());
        self.scan.write(w);
        w.raw(&self.code.0).bool(self.look);
        self.verdict.write(w);
        w.u64(self.count);
        write_option(w, self.first.as_ref());
        self.claim.write(w);
        self.reasons.write(w);
        w.u64(self.time_ms);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("answer version", VERSION)?;
        Ok(Self {
            network: NetworkId(r.array("network")?),
            issuer: MemberId(r.array("issuer")?),
            asker: MemberId(r.array("asker")?),
            scan: ScanId::read(r)?,
            code: CodeHash(r.array("code")?),
            look: r.bool("look")?,
            verdict: Verdict::read(r)?,
            count: r.u64("count")?,
            first: read_option(r, "first")?,
            claim: ClaimCheck::read(r)?,
            reasons: Reasons::read(r)?,
            time_ms: r.u64("time")?,
        })
    }
}

impl Canonical for SignedAnswer {
    fn write(&self, w: &mut Writer) {
        self.answer.write(w);
        w.raw(&self.signature.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            answer: ScanAnswer::read(r)?,
            signature: Signature(r.array("signature")?),
        })
    }
}

impl ScanAnswer {
    fn message(&self) -> Vec<u8> {
        [domains::SCAN_ANSWER, &self.to_bytes()].concat()
    }

    /// Signs it.
    #[must_use]
    pub fn sign(self, signer: &dyn Signer) -> SignedAnswer {
        let signature = signer.sign(&self.message());
        SignedAnswer {
            answer: self,
            signature,
        }
    }
}

impl SignedAnswer {
    /// Checks that one of the issuer's `keys` signed it, and that it answers `request` put to `issuer`.
    ///
    /// # Errors
    /// [`ScanError::Mismatch`], [`ScanError::Signature`].
    pub fn verify_for(
        &self,
        request: &ForwardRequest,
        issuer: &MemberId,
        keys: &[PublicKey],
    ) -> Result<(), ScanError> {
        let a = &self.answer;
        for (what, same) in [
            ("network", a.network == request.network),
            ("issuer", a.issuer == *issuer),
            ("asker", a.asker == request.asker),
            ("scan", a.scan == request.scan),
            ("code", a.code == request.code.hash()),
            ("look", a.look == request.look),
            (
                "verdict",
                a.look || a.first.is_some() || !a.verdict.is_counted(),
            ),
        ] {
            if !same {
                return Err(ScanError::Mismatch { what });
            }
        }
        let message = a.message();
        if keys
            .iter()
            .any(|k| verify("scan answer", k, &message, &self.signature).is_ok())
        {
            Ok(())
        } else {
            Err(ScanError::Signature {
                what: "scan answer",
            })
        }
    }
}
