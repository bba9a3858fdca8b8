//! IDs that came hashed, in hex or in Base64 of the hash's bytes. The normalised bytes are the hash itself.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tally_contracts::records::Prehash;

use super::identifier;
use crate::{DropReason, Identifier};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The hashes of no bytes at all, which a file is full of whose empty cells were hashed too.
const MD5_OF_NOTHING: [u8; 16] =
    *b"\xd4\x1d\x8c\xd9\x8f\x00\xb2\x04\xe9\x80\x09\x98\xec\xf8\x42\x7e";
const SHA1_OF_NOTHING: [u8; 20] =
    *b"\xda\x39\xa3\xee\x5e\x6b\x4b\x0d\x32\x55\xbf\xef\x95\x60\x18\x90\xaf\xd8\x07\x09";

pub(super) fn normalise(text: &str, prehash: Prehash) -> Result<Identifier, DropReason> {
    let length = match prehash {
        Prehash::None => return Err(DropReason::Hash),
        Prehash::Md5 => 16,
        Prehash::Sha1 => 20,
        Prehash::Sha256 => 32,
    };
    let hash = if text.len() == 2 * length {
        hex::decode(text).ok()
    } else {
        STANDARD
            .decode(text)
            .or_else(|_| URL_SAFE.decode(text))
            .ok()
    };
    let hash = hash
        .map(zeroize::Zeroizing::new)
        .filter(|h| h.len() == length)
        .ok_or(DropReason::Hash)?;
    if hash.iter().all(|b| *b == 0) {
        return Err(DropReason::AllZero);
    }
    let of_nothing = match prehash {
        Prehash::None => false,
        Prehash::Md5 => hash.as_slice() == MD5_OF_NOTHING,
        Prehash::Sha1 => hash.as_slice() == SHA1_OF_NOTHING,
        Prehash::Sha256 => hash.as_slice() == tally_merkle::empty_root().as_bytes(),
    };
    if of_nothing {
        return Err(DropReason::Hash);
    }
    identifier(&hash)
}

#[cfg(test)]
mod tests {
    use crate::{DropReason, Normaliser};

    fn bytes(profile: &str, field: &str) -> Result<Vec<u8>, DropReason> {
        Normaliser::new(profile.parse().unwrap(), None)
            .normalise(field.as_bytes())
            .map(|found| found.id.as_bytes().to_vec())
    }

    #[test]
    fn hex_and_base64_of_one_hash_are_one_id() {
        let hex = "B4C9A289323B21A01C3E940F150EB9B8C542587F1ABFD8F0E1CC1FFC5E475514";
        let expected = hex::decode(hex).unwrap();
        for field in [
            hex,
            &hex.to_lowercase(),
            "tMmiiTI7IaAcPpQPFQ65uMVCWH8av9jw4cwf/F5HVRQ=",
            "tMmiiTI7IaAcPpQPFQ65uMVCWH8av9jw4cwf_F5HVRQ",
        ] {
            assert_eq!(
                bytes("prehashed:sha256:uid2", field).as_ref(),
                Ok(&expected)
            );
        }
        assert_eq!(bytes("prehashed:sha1:e164", hex), Err(DropReason::Hash));
        assert_eq!(
            bytes("prehashed:md5:e164", "900150983cd24fb0d6963f7d28e17f72").map(|b| b.len()),
            Ok(16)
        );
    }

    #[test]
    fn a_plain_id_a_hash_of_nothing_and_base64_of_hex_are_refused() {
        for (profile, field) in [
            ("prehashed:sha256:e164", "+8613000285084"),
            ("prehashed:sha256:uid2", "ada@example.org"),
            (
                "prehashed:sha256:e164",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                "prehashed:sha1:e164",
                "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            ),
            ("prehashed:md5:e164", "d41d8cd98f00b204e9800998ecf8427e"),
            (
                "prehashed:md5:e164",
                "OTAwMTUwOTgzY2QyNGZiMGQ2OTYzZjdkMjhlMTdmNzI=",
            ),
        ] {
            assert_eq!(bytes(profile, field), Err(DropReason::Hash), "{field}");
        }
        assert_eq!(
            bytes("prehashed:md5:e164", &"0".repeat(32)),
            Err(DropReason::AllZero)
        );
    }
}
