//! The keys of a node and of its administrator, and the files that hold them.
//!
//! One random node seed gives a key for each use by HKDF-SHA256 (RFC 5869, no salt, info `tally/key/v1/<use>`), so that no
//! key is used in two protocols. The administrator's key is a seed of its own: it signs governance and agreements, and may
//! live on another machine. Both are files in the age format (scrypt recipient), readable by the `age` tool as well.

mod rotated;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use age::{DecryptError, Decryptor, Encryptor};
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use rand_core::{CryptoRng, RngCore};
use sha2::Sha256;
use tally_contracts::domains::{ADMIN_SEED, NODE_SEED};
use tally_contracts::ids::PublicKey;
use tally_contracts::records::KeyPurpose;
use tally_contracts::{MemberEntry, NodeEntry};
use zeroize::Zeroizing;

use crate::files::{FileError, create_private_dir, read_bounded, write_atomic};
use crate::passphrase::Passphrase;
use crate::sealed::StorageKey;

pub use rotated::{RotatedFile, is_same_node, key_of};

const NODE_FILE: &str = "node.age";
const ADMIN_FILE: &str = "admin.age";
const MAX_KEY_FILE_BYTES: usize = 4_096;

/// The work factor of new key files: scrypt with N = 2^16, about 64 MiB and a few tenths of a second.
pub const DEFAULT_WORK_FACTOR: u8 = 16;
/// The largest work factor that is opened: 2^20, about 1 GiB.
const MAX_WORK_FACTOR: u8 = 20;

/// Why keys cannot be made, stored or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There are keys already; they are never overwritten.
    #[error("{path} exists already, and keys are never overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file is not there.
    #[error("{path} is missing: `tally init` makes it, or restore it from a backup")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase does not open the file.
    #[error("wrong passphrase for {path}")]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error("{path} is damaged or no key file of this kind: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A work factor out of range.
    #[error("work factor {found}, expected 10 to {MAX_WORK_FACTOR}")]
    WorkFactor {
        /// The value asked for.
        found: u8,
    },
    /// The ledger names a key for this node that is not in the folder.
    #[error(
        "the ledger names {key} as this node's {purpose} key, and {path} does not hold it; restore the keys folder"
    )]
    NotHere {
        /// What the key is for.
        purpose: KeyPurpose,
        /// The key.
        key: PublicKey,
        /// The folder.
        path: PathBuf,
    },
    /// Encryption failed; a fault in this program.
    #[error("cannot encrypt {path}: {reason}")]
    Encrypt {
        /// The file.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
}

/// The node's keys, one for each use. Secret: no text form, wiped when dropped.
pub struct NodeKeys {
    seed: Zeroizing<[u8; 32]>,
    /// Seeds of the keys that were rotated, in the place of those that the node's seed gives.
    rotated: BTreeMap<KeyPurpose, Zeroizing<[u8; 32]>>,
}

impl NodeKeys {
    /// New keys.
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_seed(seed)
    }

    /// The keys of a seed.
    #[must_use]
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        Self {
            seed,
            rotated: BTreeMap::new(),
        }
    }

    fn derive(&self, key_use: &str) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        let info = [b"tally/key/v1/", key_use.as_bytes()];
        // 32 bytes never exceed what HKDF-SHA256 can expand to.
        let expanded =
            Hkdf::<Sha256>::new(None, self.seed.as_ref()).expand_multi_info(&info, out.as_mut());
        debug_assert!(expanded.is_ok());
        out
    }

    fn of(&self, purpose: KeyPurpose) -> Zeroizing<[u8; 32]> {
        match self.rotated.get(&purpose) {
            Some(seed) => seed.clone(),
            None => self.derive(purpose.name()),
        }
    }

    fn signing(&self, purpose: KeyPurpose) -> SigningKey {
        SigningKey::from_bytes(&self.of(purpose))
    }

    /// Seed of the libp2p identity.
    #[must_use]
    pub fn transport_seed(&self) -> Zeroizing<[u8; 32]> {
        self.of(KeyPurpose::Transport)
    }

    /// Seed of the key that signs consensus messages; the engine keeps the key itself.
    #[must_use]
    pub fn consensus_seed(&self) -> Zeroizing<[u8; 32]> {
        self.of(KeyPurpose::Consensus)
    }

    /// Signs consensus messages.
    #[must_use]
    pub fn consensus(&self) -> SigningKey {
        self.signing(KeyPurpose::Consensus)
    }

    /// Signs checkpoints (C2SP type 0x01).
    #[must_use]
    pub fn checkpoint(&self) -> SigningKey {
        self.signing(KeyPurpose::Checkpoint)
    }

    /// Cosigns checkpoints (C2SP type 0x04).
    #[must_use]
    pub fn cosignature(&self) -> SigningKey {
        self.signing(KeyPurpose::Cosignature)
    }

    /// Signs records, scan receipts and answers.
    #[must_use]
    pub fn records(&self) -> SigningKey {
        self.signing(KeyPurpose::Records)
    }

    /// Encrypts private stores at rest.
    #[must_use]
    pub fn storage(&self) -> StorageKey {
        StorageKey::from_bytes(*self.derive("storage"))
    }

    /// The public halves.
    #[must_use]
    pub fn public(&self) -> NodePublicKeys {
        let public = |key: &SigningKey| PublicKey(key.verifying_key().to_bytes());
        NodePublicKeys {
            transport: public(&SigningKey::from_bytes(&self.transport_seed())),
            consensus: public(&self.consensus()),
            checkpoint: public(&self.checkpoint()),
            cosignature: public(&self.cosignature()),
            records: public(&self.records()),
        }
    }
}

/// The public halves of a node's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePublicKeys {
    /// Identity of the member swarm.
    pub transport: PublicKey,
    /// Signs consensus messages.
    pub consensus: PublicKey,
    /// Signs checkpoints.
    pub checkpoint: PublicKey,
    /// Cosigns checkpoints.
    pub cosignature: PublicKey,
    /// Signs records.
    pub records: PublicKey,
}

impl NodePublicKeys {
    /// The key of one purpose; `None` for an administrator's, which no node has.
    #[must_use]
    pub const fn of(&self, purpose: KeyPurpose) -> Option<PublicKey> {
        match purpose {
            KeyPurpose::Transport => Some(self.transport),
            KeyPurpose::Consensus => Some(self.consensus),
            KeyPurpose::Checkpoint => Some(self.checkpoint),
            KeyPurpose::Cosignature => Some(self.cosignature),
            KeyPurpose::Records => Some(self.records),
            KeyPurpose::Admin => None,
        }
    }

    /// Whether an entry of the ledger holds exactly these keys.
    #[must_use]
    pub fn are_of(&self, node: &NodeEntry) -> bool {
        let theirs = Self {
            transport: node.transport,
            consensus: node.consensus,
            checkpoint: node.checkpoint,
            cosignature: node.cosignature,
            records: node.records,
        };
        *self == theirs
    }

    /// The node among a member's nodes that has these keys.
    #[must_use]
    pub fn find<'a>(&self, member: &'a MemberEntry) -> Option<&'a NodeEntry> {
        member.nodes.iter().find(|n| self.are_of(n))
    }
}

/// An administrator's key. Secret: no text form, wiped when dropped.
pub struct AdminKey {
    seed: Zeroizing<[u8; 32]>,
}

impl AdminKey {
    /// A new key.
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self { seed }
    }

    /// The key that signs governance and agreements.
    #[must_use]
    pub fn signing(&self) -> SigningKey {
        SigningKey::from_bytes(&self.seed)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.signing().verifying_key().to_bytes())
    }
}

/// The `keys` folder of a data directory.
#[derive(Debug, Clone)]
pub struct KeyStore {
    dir: PathBuf,
}

impl KeyStore {
    /// The store in `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The file of the node seed.
    #[must_use]
    pub fn node_file(&self) -> PathBuf {
        self.dir.join(NODE_FILE)
    }

    /// The file of the administrator's key.
    #[must_use]
    pub fn admin_file(&self) -> PathBuf {
        self.dir.join(ADMIN_FILE)
    }

    /// Stores new keys, durably, with mode 0600. `work_factor` is scrypt's log2 N, 10 to 20; [`DEFAULT_WORK_FACTOR`] suits
    /// a passphrase that a person chose.
    ///
    /// # Errors
    /// [`KeyError::Exists`] (nothing is changed then), [`KeyError::WorkFactor`], [`KeyError::File`].
    pub fn create(
        &self,
        passphrase: &Passphrase,
        work_factor: u8,
        node: &NodeKeys,
        admin: &AdminKey,
    ) -> Result<(), KeyError> {
        for path in [self.node_file(), self.admin_file()] {
            if fs::symlink_metadata(&path).is_ok() {
                return Err(KeyError::Exists { path });
            }
        }
        create_private_dir(&self.dir)?;
        seal(
            &self.node_file(),
            passphrase,
            work_factor,
            NODE_SEED,
            &node.seed,
        )?;
        seal(
            &self.admin_file(),
            passphrase,
            work_factor,
            ADMIN_SEED,
            &admin.seed,
        )
    }

    /// Stores a second administrator's key in a file of its own, durably, with mode 0600; it opens as [`Self::admin_file`] does.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_recovery(
        path: &Path,
        passphrase: &Passphrase,
        work_factor: u8,
        admin: &AdminKey,
    ) -> Result<(), KeyError> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(KeyError::Exists {
                path: path.to_owned(),
            });
        }
        seal(path, passphrase, work_factor, ADMIN_SEED, &admin.seed)
    }

    /// Opens the node's keys.
    ///
    /// # Errors
    /// [`KeyError::Missing`], [`KeyError::WrongPassphrase`], [`KeyError::Damaged`], [`KeyError::File`].
    pub fn open_node(&self, passphrase: &Passphrase) -> Result<NodeKeys, KeyError> {
        let seed = unseal(&self.node_file(), passphrase, NODE_SEED)?;
        Ok(NodeKeys::from_seed(seed))
    }

    /// Opens the administrator's key.
    ///
    /// # Errors
    /// As [`Self::open_node`].
    pub fn open_admin(&self, passphrase: &Passphrase) -> Result<AdminKey, KeyError> {
        let seed = unseal(&self.admin_file(), passphrase, ADMIN_SEED)?;
        Ok(AdminKey { seed })
    }
}

fn seal(
    path: &Path,
    passphrase: &Passphrase,
    work_factor: u8,
    head: &[u8],
    seed: &Zeroizing<[u8; 32]>,
) -> Result<(), KeyError> {
    if !(10..=MAX_WORK_FACTOR).contains(&work_factor) {
        return Err(KeyError::WorkFactor { found: work_factor });
    }
    let failed = |reason: String| KeyError::Encrypt {
        path: path.to_owned(),
        reason,
    };
    let mut recipient = age::scrypt::Recipient::new(passphrase.secret());
    recipient.set_work_factor(work_factor);
    let encryptor = Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
        .map_err(|e| failed(e.to_string()))?;
    let mut sealed = Vec::new();
    encryptor
        .wrap_output(&mut sealed)
        .and_then(|mut w| {
            w.write_all(head)?;
            w.write_all(seed.as_ref())?;
            w.finish()
        })
        .map_err(|e| failed(e.to_string()))?;
    Ok(write_atomic(path, &sealed, 0o600)?)
}

fn unseal(
    path: &Path,
    passphrase: &Passphrase,
    head: &[u8],
) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let bytes = match read_bounded(path, MAX_KEY_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if e.is_missing() => {
            return Err(KeyError::Missing {
                path: path.to_owned(),
            });
        }
        Err(e) => return Err(e.into()),
    };
    let damaged = |reason: String| KeyError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let decryptor = Decryptor::new(bytes.as_slice()).map_err(|e| damaged(e.to_string()))?;
    let mut identity = age::scrypt::Identity::new(passphrase.secret());
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    let mut reader = decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .map_err(|e| match e {
            DecryptError::DecryptionFailed
            | DecryptError::KeyDecryptionFailed
            | DecryptError::NoMatchingKeys => KeyError::WrongPassphrase {
                path: path.to_owned(),
            },
            e => damaged(e.to_string()),
        })?;
    // Sized beforehand: a buffer that grows leaves copies behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES));
    reader
        .read_to_end(&mut plain)
        .map_err(|e| damaged(e.to_string()))?;
    let mut seed = Zeroizing::new([0; 32]);
    match plain.strip_prefix(head) {
        Some(rest) if rest.len() == seed.len() => seed.copy_from_slice(rest),
        Some(rest) => {
            return Err(damaged(format!(
                "a seed of {} bytes, expected 32",
                rest.len()
            )));
        }
        None => return Err(damaged("it holds a key of another kind".into())),
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn keys() -> (NodeKeys, AdminKey) {
        let mut rng = rand_core::OsRng;
        (NodeKeys::generate(&mut rng), AdminKey::generate(&mut rng))
    }

    fn pass(text: &str) -> Passphrase {
        Passphrase::new(text.into()).unwrap()
    }

    #[test]
    fn derived_keys_are_fixed_and_differ() {
        let keys = NodeKeys::from_seed(Zeroizing::new([7; 32]));
        // Golden: HKDF-SHA256(salt none, ikm 32 x 07, info "tally/key/v1/<use>"), computed by an independent implementation.
        let golden = |key_use: &str| hex::encode(keys.derive(key_use).as_ref());
        assert_eq!(
            golden("transport"),
            "c1349775b255280da1eb1fc04d5a27e5e525b6ef46a70c2ad6c24212a1779da5"
        );
        assert_eq!(
            golden("storage"),
            "af3ec7d24f4d4c553b36f80f60d03a31b5db92023958e8aaae84e4eda783d515"
        );
        let public = keys.public();
        let all = [
            public.transport,
            public.consensus,
            public.checkpoint,
            public.cosignature,
            public.records,
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b));
        }
    }

    #[test]
    fn keys_come_back_and_only_with_the_passphrase() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::new(dir.path().join("keys"));
        let (node, admin) = keys();
        let right = pass("correct horse");
        assert!(matches!(
            store.open_node(&right),
            Err(KeyError::Missing { .. })
        ));
        store.create(&right, 10, &node, &admin).unwrap();
        assert_eq!(store.open_node(&right).unwrap().public(), node.public());
        assert_eq!(store.open_admin(&right).unwrap().public(), admin.public());
        assert!(matches!(
            store.open_node(&pass("correct Horse")),
            Err(KeyError::WrongPassphrase { .. })
        ));
        for (path, mode) in [
            (store.node_file(), 0o600),
            (store.admin_file(), 0o600),
            (dir.path().join("keys"), 0o700),
        ] {
            let found = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode);
        }
        assert!(matches!(
            store.create(&right, 10, &node, &admin),
            Err(KeyError::Exists { .. })
        ));
        assert!(matches!(
            KeyStore::new(dir.path().join("k2")).create(&right, 30, &node, &admin),
            Err(KeyError::WorkFactor { found: 30 })
        ));
    }

    #[test]
    fn a_changed_or_swapped_file_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::new(dir.path());
        let (node, admin) = keys();
        let right = pass("correct horse");
        store.create(&right, 10, &node, &admin).unwrap();
        let good = fs::read(store.node_file()).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(store.node_file(), bad).unwrap();
            assert!(store.open_node(&right).is_err(), "byte {at}");
        }
        for cut in [0, 10, good.len() - 1] {
            fs::write(store.node_file(), &good[..cut]).unwrap();
            assert!(
                matches!(store.open_node(&right), Err(KeyError::Damaged { .. })),
                "{cut} bytes"
            );
        }
        fs::copy(store.admin_file(), store.node_file()).unwrap();
        assert!(matches!(
            store.open_node(&right),
            Err(KeyError::Damaged { .. })
        ));
    }
}
