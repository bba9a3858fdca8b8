//! Hash to ristretto255: `expand_message_xmd` with SHA-512 (RFC 9380 5.3.1), then the map of 64 bytes (RFC 9496 4.3.4), as
//! RFC 9380 appendix B puts them together.

use curve25519_dalek::ristretto::RistrettoPoint;
use sha2::{Digest, Sha512};

use crate::Error;

/// Name of the hash to the group; the context digest follows it.
const DST_PREFIX: &[u8] = b"TALLY-PSI-V1-ristretto255_XMD:SHA-512_R255MAP_RO_";
/// Longest tag that RFC 9380 takes without hashing it first.
const MAX_DST_BYTES: usize = 255;

/// A hash to the group under one domain separation tag.
#[derive(Clone)]
pub(crate) struct HashToGroup {
    /// DST || its length in one byte.
    dst_prime: Vec<u8>,
    /// SHA-512 after the zero block, which every message shares.
    padded: Sha512,
}

impl HashToGroup {
    /// Under the domain of a session.
    pub(crate) fn for_context(context_digest: &[u8; 32]) -> Result<Self, Error> {
        Self::new(&[DST_PREFIX, context_digest].concat())
    }

    /// Under any tag of 1 to 255 bytes.
    pub(crate) fn new(dst: &[u8]) -> Result<Self, Error> {
        let len = u8::try_from(dst.len()).map_err(|_| Error::TooLong {
            what: "domain separation tag",
            found: dst.len() as u64,
            max: MAX_DST_BYTES as u64,
        })?;
        let mut dst_prime = dst.to_vec();
        dst_prime.push(len);
        Ok(Self {
            dst_prime,
            padded: Sha512::new().chain_update([0; 128]),
        })
    }

    /// The point of the message `parts` put together. Constant time in the message for its length.
    pub(crate) fn point(&self, parts: &[&[u8]]) -> RistrettoPoint {
        RistrettoPoint::from_uniform_bytes(&self.expand64(parts))
    }

    /// 64 uniform bytes: one output block, since SHA-512 gives 64.
    pub(crate) fn expand64(&self, parts: &[&[u8]]) -> [u8; 64] {
        let b0 = self.b0(parts, 64);
        self.block(&[0; 64], &b0, 1)
    }

    fn b0(&self, parts: &[&[u8]], len: u16) -> [u8; 64] {
        let mut h = self.padded.clone();
        for part in parts {
            h.update(part);
        }
        h.update(len.to_be_bytes());
        h.update([0]);
        h.update(&self.dst_prime);
        h.finalize().into()
    }

    /// b_i of RFC 9380; `previous` is zero for the first.
    fn block(&self, previous: &[u8; 64], b0: &[u8; 64], i: u8) -> [u8; 64] {
        let mut mixed = *b0;
        for (m, p) in mixed.iter_mut().zip(previous) {
            *m ^= p;
        }
        Sha512::new()
            .chain_update(mixed)
            .chain_update([i])
            .chain_update(&self.dst_prime)
            .finalize()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::ristretto::CompressedRistretto;

    use super::*;

    /// Any length, for the vectors alone.
    fn expand(h: &HashToGroup, message: &[u8], len: u16) -> Vec<u8> {
        let b0 = h.b0(&[message], len);
        let mut out = Vec::new();
        let mut previous = [0; 64];
        for i in 1..=u8::try_from(len.div_ceil(64)).unwrap() {
            previous = h.block(&previous, &b0, i);
            out.extend_from_slice(&previous);
        }
        out.truncate(len.into());
        out
    }

    /// RFC 9380 K.3: expand_message_xmd(SHA-512), all ten.
    #[test]
    fn rfc9380_k3() {
        let h = HashToGroup::new(b"QUUX-V01-CS02-with-expander-SHA512-256").unwrap();
        let q128 = [&b"q128_"[..], &[b'q'; 128]].concat();
        let a512 = [&b"a512_"[..], &[b'a'; 512]].concat();
        let messages: [&[u8]; 5] = [b"", b"abc", b"abcdef0123456789", &q128, &a512];
        let short = [
            "6b9a7312411d92f921c6f68ca0b6380730a1a4d982c507211a90964c394179ba",
            "0da749f12fbe5483eb066a5f595055679b976e93abe9be6f0f6318bce7aca8dc",
            "087e45a86e2939ee8b91100af1583c4938e0f5fc6c9db4b107b83346bc967f58",
            "7336234ee9983902440f6bc35b348352013becd88938d2afec44311caf8356b3",
            "57b5f7e766d5be68a6bfe1768e3c2b7f1228b3e4b3134956dd73a59b954c66f4",
        ];
        let long = [
            "41b037d1734a5f8df225dd8c7de38f851efdb45c372887be655212d07251b921b052b62eaed99b46f72f2ef4cc96bfaf254ebbbec091e1a3b9e4fb5e5b619d2e0c5414800a1d882b62bb5cd1778f098b8eb6cb399d5d9d18f5d5842cf5d13d7eb00a7cff859b605da678b318bd0e65ebff70bec88c753b159a805d2c89c55961",
            "7f1dddd13c08b543f2e2037b14cefb255b44c83cc397c1786d975653e36a6b11bdd7732d8b38adb4a0edc26a0cef4bb45217135456e58fbca1703cd6032cb1347ee720b87972d63fbf232587043ed2901bce7f22610c0419751c065922b488431851041310ad659e4b23520e1772ab29dcdeb2002222a363f0c2b1c972b3efe1",
            "3f721f208e6199fe903545abc26c837ce59ac6fa45733f1baaf0222f8b7acb0424814fcb5eecf6c1d38f06e9d0a6ccfbf85ae612ab8735dfdf9ce84c372a77c8f9e1c1e952c3a61b7567dd0693016af51d2745822663d0c2367e3f4f0bed827feecc2aaf98c949b5ed0d35c3f1023d64ad1407924288d366ea159f46287e61ac",
            "b799b045a58c8d2b4334cf54b78260b45eec544f9f2fb5bd12fb603eaee70db7317bf807c406e26373922b7b8920fa29142703dd52bdf280084fb7ef69da78afdf80b3586395b433dc66cde048a258e476a561e9deba7060af40adf30c64249ca7ddea79806ee5beb9a1422949471d267b21bc88e688e4014087a0b592b695ed",
            "05b0bfef265dcee87654372777b7c44177e2ae4c13a27f103340d9cd11c86cb2426ffcad5bd964080c2aee97f03be1ca18e30a1f14e27bc11ebbd650f305269cc9fb1db08bf90bfc79b42a952b46daf810359e7bc36452684784a64952c343c52e5124cd1f71d474d5197fefc571a92929c9084ffe1112cf5eea5192ebff330b",
        ];
        for ((message, short), long) in messages.into_iter().zip(short).zip(long) {
            assert_eq!(hex::encode(expand(&h, message, 0x20)), short);
            assert_eq!(hex::encode(expand(&h, message, 0x80)), long);
        }
    }

    /// RFC 9496 A.3: 64 uniform bytes to the group, all eleven.
    #[test]
    fn rfc9496_a3() {
        let same = "304282791023b73128d277bdcb5c7746ef2eac08dde9f2983379cb8e5ef0517f";
        let vectors = [
            (
                "5d1be09e3d0c82fc538112490e35701979d99e06ca3e2b5b54bffe8b4dc772c14d98b696a1bbfb5ca32c436cc61c16563790306c79eaca7705668b47dffe5bb6",
                "3066f82a1a747d45120d1740f14358531a8f04bbffe6a819f86dfe50f44a0a46",
            ),
            (
                "f116b34b8f17ceb56e8732a60d913dd10cce47a6d53bee9204be8b44f6678b270102a56902e2488c46120e9276cfe54638286b9e4b3cdb470b542d46c2068d38",
                "f26e5b6f7d362d2d2a94c5d0e7602cb4773c95a2e5c31a64f133189fa76ed61b",
            ),
            (
                "8422e1bbdaab52938b81fd602effb6f89110e1e57208ad12d9ad767e2e25510c27140775f9337088b982d83d7fcf0b2fa1edffe51952cbe7365e95c86eaf325c",
                "006ccd2a9e6867e6a2c5cea83d3302cc9de128dd2a9a57dd8ee7b9d7ffe02826",
            ),
            (
                "ac22415129b61427bf464e17baee8db65940c233b98afce8d17c57beeb7876c2150d15af1cb1fb824bbd14955f2b57d08d388aab431a391cfc33d5bafb5dbbaf",
                "f8f0c87cf237953c5890aec3998169005dae3eca1fbb04548c635953c817f92a",
            ),
            (
                "165d697a1ef3d5cf3c38565beefcf88c0f282b8e7dbd28544c483432f1cec7675debea8ebb4e5fe7d6f6e5db15f15587ac4d4d4a1de7191e0c1ca6664abcc413",
                "ae81e7dedf20a497e10c304a765c1767a42d6e06029758d2d7e8ef7cc4c41179",
            ),
            (
                "a836e6c9a9ca9f1e8d486273ad56a78c70cf18f0ce10abb1c7172ddd605d7fd2979854f47ae1ccf204a33102095b4200e5befc0465accc263175485f0e17ea5c",
                "e2705652ff9f5e44d3e841bf1c251cf7dddb77d140870d1ab2ed64f1a9ce8628",
            ),
            (
                "2cdc11eaeb95daf01189417cdddbf95952993aa9cb9c640eb5058d09702c74622c9965a697a3b345ec24ee56335b556e677b30e6f90ac77d781064f866a3c982",
                "80bd07262511cdde4863f8a7434cef696750681cb9510eea557088f76d9e5065",
            ),
            (
                "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff1200000000000000000000000000000000000000000000000000000000000000",
                same,
            ),
            (
                "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                same,
            ),
            (
                "0000000000000000000000000000000000000000000000000000000000000080ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                same,
            ),
            (
                "00000000000000000000000000000000000000000000000000000000000000001200000000000000000000000000000000000000000000000000000000000080",
                same,
            ),
        ];
        for (input, point) in vectors {
            let input: [u8; 64] = hex::decode(input).unwrap().try_into().unwrap();
            let got = RistrettoPoint::from_uniform_bytes(&input).compress();
            assert_eq!(hex::encode(got.as_bytes()), point);
            assert!(CompressedRistretto::decompress(&got).is_some());
        }
    }

    #[test]
    fn a_tag_over_255_bytes_is_refused() {
        assert!(HashToGroup::new(&[1; 255]).is_ok());
        assert!(matches!(
            HashToGroup::new(&[1; 256]),
            Err(Error::TooLong { .. })
        ));
        assert_eq!(DST_PREFIX.len() + 32, 81);
    }
}
