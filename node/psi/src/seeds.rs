//! All randomness of a run from two seeds, so that an auditor at the owner's can derive the same stream again.

use hkdf::Hkdf;
use rand_core::{CryptoRng, CryptoRngCore, RngCore};
use sha2::{Digest, Sha256, Sha512};
use zeroize::{Zeroize, Zeroizing};

use crate::Error;
use crate::group::Key;

/// The seeds of one side of one run. Secret and wiped; the owner may keep them, encrypted, while a dispute is possible.
pub struct Seeds {
    session: Zeroizing<[u8; 32]>,
    noise: Zeroizing<[u8; 32]>,
}

impl Seeds {
    /// A fresh session seed from `rng`, and `noise`: a pseudo-random function of the owner's secret over the query and both
    /// roots, **not** over the session, so that running the same query again never averages its noise out.
    #[must_use]
    pub fn new(rng: &mut impl CryptoRngCore, noise: [u8; 32]) -> Self {
        let mut session = Zeroizing::new([0; 32]);
        rng.fill_bytes(session.as_mut());
        Self::from_parts(*session, noise)
    }

    /// Seeds kept from an earlier run, to derive its stream again. Never run two sessions on one session seed.
    #[must_use]
    pub fn from_parts(session: [u8; 32], noise: [u8; 32]) -> Self {
        Self {
            session: Zeroizing::new(session),
            noise: Zeroizing::new(noise),
        }
    }

    /// The session seed, for the owner's encrypted store alone.
    #[must_use]
    pub fn session(&self) -> &Zeroizing<[u8; 32]> {
        &self.session
    }

    /// The seeds of one bucket of a list, and a mark that tells them from all others without telling them.
    pub(crate) fn bucket(&self, bucket: u32) -> Result<(Self, [u8; 32]), Error> {
        let mut session = Zeroizing::new([0; 32]);
        let info = [&b"tally/psi/v1/bucket/"[..], &bucket.to_be_bytes()].concat();
        expand(&self.session, &info, session.as_mut())?;
        let mark = Sha256::new()
            .chain_update(b"tally/psi/v1/mark\n")
            .chain_update(*session)
            .finalize()
            .into();
        Ok((Self::from_parts(*session, *self.noise), mark))
    }

    pub(crate) fn key(&self) -> Result<Key, Error> {
        let mut wide = Zeroizing::new([0; 64]);
        expand(&self.session, b"tally/psi/v1/key", wide.as_mut())?;
        Key::from_uniform(&wide).ok_or(Error::Internal { what: "zero key" })
    }

    /// The generator of one of the session's draws; a name is used once.
    pub(crate) fn draw(&self, name: &[u8]) -> Result<SeedRng, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        expand(
            &self.session,
            &[b"tally/psi/v1/draw/", name].concat(),
            seed.as_mut(),
        )?;
        Ok(SeedRng::new(&seed))
    }

    /// The first 16 bytes of one of the session's draws, as a number; secret unless it is then sent.
    pub(crate) fn draw_word(&self, name: &[u8]) -> Result<u128, Error> {
        let mut bytes = Zeroizing::new([0; 16]);
        self.draw(name)?.fill_bytes(bytes.as_mut());
        Ok(u128::from_le_bytes(*bytes))
    }

    /// The random bytes of private filler `index`.
    pub(crate) fn filler(&self, index: u32) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(
            Sha256::new()
                .chain_update(b"tally/psi/v1/filler\n")
                .chain_update(*self.session)
                .chain_update(index.to_be_bytes())
                .finalize()
                .to_vec(),
        )
    }

    /// The generator that draws this side's noise.
    pub(crate) fn noise(&self, role: &[u8]) -> Result<SeedRng, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        expand(
            &self.noise,
            &[b"tally/psi/v1/noise/", role].concat(),
            seed.as_mut(),
        )?;
        Ok(SeedRng::new(&seed))
    }
}

fn expand(seed: &[u8; 32], info: &[u8], out: &mut [u8]) -> Result<(), Error> {
    Hkdf::<Sha256>::new(None, seed)
        .expand(info, out)
        .map_err(|_| Error::Internal { what: "key length" })
}

/// A deterministic generator: SHA-512(seed || counter), block after block.
pub struct SeedRng {
    seed: Zeroizing<[u8; 32]>,
    counter: u64,
    block: Zeroizing<[u8; 64]>,
    used: usize,
}

impl SeedRng {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        Self {
            seed: Zeroizing::new(*seed),
            counter: 0,
            block: Zeroizing::new([0; 64]),
            used: 64,
        }
    }
}

impl RngCore for SeedRng {
    fn next_u32(&mut self) -> u32 {
        let mut b = [0; 4];
        self.fill_bytes(&mut b);
        u32::from_be_bytes(b)
    }

    fn next_u64(&mut self) -> u64 {
        let mut b = [0; 8];
        self.fill_bytes(&mut b);
        u64::from_be_bytes(b)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for byte in dest {
            if self.used >= self.block.len() {
                let mut fresh: [u8; 64] = Sha512::new()
                    .chain_update(*self.seed)
                    .chain_update(self.counter.to_be_bytes())
                    .finalize()
                    .into();
                *self.block = fresh;
                fresh.zeroize();
                self.counter = self.counter.wrapping_add(1);
                self.used = 0;
            }
            *byte = self.block.get(self.used).copied().unwrap_or_default();
            self.used += 1;
        }
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for SeedRng {}
