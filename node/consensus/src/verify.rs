//! Verification of commit certificates, without the engine: what an auditor or a restoring node does.

use std::collections::BTreeMap;

use ed25519_zebra::{Signature as ZebraSignature, VerificationKey};
use tally_contracts::block::{CommitCertificate, VoteType, vote_sign_bytes};
use tally_contracts::ids::{NetworkId, PublicKey, Signature};

use crate::application::Validator;

/// Why a certificate does not prove a decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A signer is not a validator of that height, or signed twice.
    #[error("signer {0} is not a validator of this height, or signed twice")]
    Signer(PublicKey),
    /// A signature does not verify.
    #[error("signature of {0} does not verify")]
    Signature(PublicKey),
    /// The signers do not hold more than two thirds of the power.
    #[error("signers hold {signed} of {total} power, more than two thirds are needed")]
    Power {
        /// Power of the signers.
        signed: u128,
        /// Power of all validators.
        total: u128,
    },
}

/// One ZIP-215 verification: the only rule by which anything in consensus is verified.
pub(crate) fn verify_signature(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    VerificationKey::try_from(key.0)
        .and_then(|key| key.verify(&ZebraSignature::from(signature.0), message))
        .is_ok()
}

/// Verifies that more than two thirds of the power of `validators` signed the certificate's block in `network`. One
/// signature check for each signer.
///
/// # Errors
/// [`CertificateError`]; a signer outside the set or a wrong signature fails the whole certificate.
pub fn verify_certificate(
    network: &NetworkId,
    validators: &[Validator],
    certificate: &CommitCertificate,
) -> Result<(), CertificateError> {
    let mut powers: BTreeMap<PublicKey, u64> = validators
        .iter()
        .filter(|v| v.power > 0)
        .map(|v| (v.key, v.power))
        .collect();
    let total: u128 = powers.values().map(|p| u128::from(*p)).sum();
    let message = vote_sign_bytes(
        network,
        certificate.height,
        certificate.round,
        VoteType::Precommit,
        Some(&certificate.block),
    );
    let mut signed = 0u128;
    for entry in &certificate.signatures {
        let power = powers
            .remove(&entry.validator)
            .ok_or(CertificateError::Signer(entry.validator))?;
        if !verify_signature(&entry.validator, &message, &entry.signature) {
            return Err(CertificateError::Signature(entry.validator));
        }
        signed += u128::from(power);
    }
    if signed * 3 > total * 2 {
        Ok(())
    } else {
        Err(CertificateError::Power { signed, total })
    }
}
