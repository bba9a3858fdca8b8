//! Single keys that take the place of those a node started with: each in a file of its own, made before it is proposed, used
//! from the height on at which the ledger names it.

use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use rand_core::{CryptoRng, RngCore};
use tally_contracts::domains::ROTATED_KEY;
use tally_contracts::ids::PublicKey;
use tally_contracts::records::KeyPurpose;
use tally_contracts::{MemberEntry, NodeEntry};
use zeroize::Zeroizing;

use super::{AdminKey, KeyError, KeyStore, NodeKeys, seal, unseal};
use crate::files::create_private_dir;
use crate::passphrase::Passphrase;

/// Hex digits of the public key in a file's name.
const SHOWN: usize = 16;

/// The purposes of a node's own keys, in the order of its entry.
const NODE_KEYS: [KeyPurpose; 5] = [
    KeyPurpose::Transport,
    KeyPurpose::Consensus,
    KeyPurpose::Checkpoint,
    KeyPurpose::Cosignature,
    KeyPurpose::Records,
];

/// A node's public key for one purpose; `None` for an administrator's, which no node has.
#[must_use]
pub fn key_of(node: &NodeEntry, purpose: KeyPurpose) -> Option<PublicKey> {
    match purpose {
        KeyPurpose::Transport => Some(node.transport),
        KeyPurpose::Consensus => Some(node.consensus),
        KeyPurpose::Checkpoint => Some(node.checkpoint),
        KeyPurpose::Cosignature => Some(node.cosignature),
        KeyPurpose::Records => Some(node.records),
        KeyPurpose::Admin => None,
    }
}

/// Whether two entries have a key in common: then they are one node, before and after a rotation.
#[must_use]
pub fn is_same_node(a: &NodeEntry, b: &NodeEntry) -> bool {
    NODE_KEYS.iter().any(|p| key_of(a, *p) == key_of(b, *p))
}

fn head(purpose: KeyPurpose) -> Vec<u8> {
    [ROTATED_KEY, purpose.name().as_bytes(), b"\n"].concat()
}

/// A key file that a rotation made, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotatedFile {
    /// What the key is for.
    pub purpose: KeyPurpose,
    /// The first hex digits of the public key.
    pub starts_with: String,
    /// The file.
    pub path: PathBuf,
}

impl KeyStore {
    /// Makes a new key for one purpose and stores it beside the others; gives its public half. It is used once the ledger names
    /// it for this node or member.
    ///
    /// # Errors
    /// [`KeyError::WorkFactor`], [`KeyError::File`].
    pub fn create_rotated(
        &self,
        passphrase: &Passphrase,
        work_factor: u8,
        purpose: KeyPurpose,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<(PublicKey, PathBuf), KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        let public = PublicKey::from(&SigningKey::from_bytes(&seed));
        create_private_dir(&self.dir)?;
        let path = self.rotated_path(purpose, &public);
        seal(&path, passphrase, work_factor, &head(purpose), &seed)?;
        Ok((public, path))
    }

    fn rotated_path(&self, purpose: KeyPurpose, public: &PublicKey) -> PathBuf {
        let shown: String = public.to_string().chars().take(SHOWN).collect();
        self.dir.join(format!("{purpose}-{shown}.age"))
    }

    /// Whether a file of this key is there.
    #[must_use]
    pub fn has_rotated(&self, purpose: KeyPurpose, public: &PublicKey) -> bool {
        self.rotated_path(purpose, public).exists()
    }

    /// The files that rotations have made, by purpose and name.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn rotated_files(&self) -> Result<Vec<RotatedFile>, KeyError> {
        let failed = crate::files::FileError::new("list", &self.dir);
        let entries = std::fs::read_dir(&self.dir).map_err(failed)?;
        let mut found: Vec<RotatedFile> = entries
            .flatten()
            .filter_map(|entry| {
                let path = entry.path();
                let name = path.file_name()?.to_str()?.strip_suffix(".age")?;
                let (purpose, starts_with) = name.split_once('-')?;
                Some(RotatedFile {
                    purpose: KeyPurpose::parse(purpose)?,
                    starts_with: starts_with.to_owned(),
                    path: path.clone(),
                })
            })
            .collect();
        found.sort_by(|a, b| (a.purpose, &a.starts_with).cmp(&(b.purpose, &b.starts_with)));
        Ok(found)
    }

    fn open_rotated(
        &self,
        passphrase: &Passphrase,
        purpose: KeyPurpose,
        public: &PublicKey,
    ) -> Result<Option<Zeroizing<[u8; 32]>>, KeyError> {
        let path = self.rotated_path(purpose, public);
        let seed = match unseal(&path, passphrase, &head(purpose)) {
            Ok(seed) => seed,
            Err(KeyError::Missing { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        if PublicKey::from(&SigningKey::from_bytes(&seed)) == *public {
            Ok(Some(seed))
        } else {
            Err(KeyError::Damaged {
                path,
                reason: "it holds another key than its name says".into(),
            })
        }
    }

    /// The node among a member's that this folder has a key of, and its keys as the ledger names them: those of the node's seed,
    /// and rotated ones in their places. `None` if no node of the member is this one.
    ///
    /// # Errors
    /// [`KeyError::NotHere`] if some of its keys are not in the folder; what opening a file gives.
    pub fn choose<'a>(
        &self,
        mut base: NodeKeys,
        passphrase: &Passphrase,
        member: &'a MemberEntry,
    ) -> Result<(NodeKeys, Option<&'a NodeEntry>), KeyError> {
        let public = base.public();
        let own = |node: &NodeEntry, purpose| {
            let wanted = key_of(node, purpose)?;
            let here = public.of(purpose) == Some(wanted) || self.has_rotated(purpose, &wanted);
            here.then_some(wanted)
        };
        let count = |node: &NodeEntry| {
            NODE_KEYS
                .iter()
                .filter(|p| own(node, **p).is_some())
                .count()
        };
        let Some(node) = member
            .nodes
            .iter()
            .max_by_key(|node| count(node))
            .filter(|node| count(node) > 0)
        else {
            return Ok((base, None));
        };
        for purpose in NODE_KEYS {
            let Some(wanted) = key_of(node, purpose).filter(|k| public.of(purpose) != Some(*k))
            else {
                continue;
            };
            let seed = self.open_rotated(passphrase, purpose, &wanted)?;
            let seed = seed.ok_or_else(|| KeyError::NotHere {
                purpose,
                key: wanted,
                path: self.dir.clone(),
            })?;
            base.rotated.insert(purpose, seed);
        }
        Ok((base, Some(node)))
    }

    /// Whether this folder holds every key of an entry, `node` being the keys in use.
    #[must_use]
    pub fn lacking(&self, in_use: &NodeKeys, wanted: &NodeEntry) -> Option<KeyPurpose> {
        let base = NodeKeys::from_seed(in_use.seed.clone()).public();
        let public = in_use.public();
        NODE_KEYS.into_iter().find(|purpose| {
            key_of(wanted, *purpose).is_some_and(|key| {
                public.of(*purpose) != Some(key)
                    && base.of(*purpose) != Some(key)
                    && !self.has_rotated(*purpose, &key)
            })
        })
    }

    /// The administrator's key that the ledger names, or else the one that the node was made with.
    ///
    /// # Errors
    /// What opening a file gives; [`KeyError::Missing`] if none is there at all.
    pub fn choose_admin(
        &self,
        passphrase: &Passphrase,
        in_force: &[PublicKey],
    ) -> Result<AdminKey, KeyError> {
        let first = match self.open_admin(passphrase) {
            Ok(key) if in_force.contains(&key.public()) => return Ok(key),
            Err(e) if !matches!(e, KeyError::Missing { .. }) => return Err(e),
            other => other,
        };
        for public in in_force {
            if let Some(seed) = self.open_rotated(passphrase, KeyPurpose::Admin, public)? {
                return Ok(AdminKey { seed });
            }
        }
        first
    }

    /// A transport key that was made for this node and is neither in use nor among `known`: what a node tries that was away
    /// while its key was rotated, and whom therefore nobody lets in.
    ///
    /// # Errors
    /// What opening a file gives.
    pub fn untried_transport(
        &self,
        mut keys: NodeKeys,
        passphrase: &Passphrase,
        known: impl Fn(&PublicKey) -> bool,
    ) -> Result<NodeKeys, KeyError> {
        let in_use = keys.public().transport.to_string();
        for file in self.rotated_files()? {
            if file.purpose != KeyPurpose::Transport || in_use.starts_with(&file.starts_with) {
                continue;
            }
            let seed = unseal(&file.path, passphrase, &head(file.purpose))?;
            if !known(&PublicKey::from(&SigningKey::from_bytes(&seed))) {
                keys.rotated.insert(KeyPurpose::Transport, seed);
                break;
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(keys: &NodeKeys, admin: PublicKey) -> MemberEntry {
        let public = keys.public();
        let node = NodeEntry {
            transport: public.transport,
            consensus: public.consensus,
            checkpoint: public.checkpoint,
            cosignature: public.cosignature,
            records: public.records,
            power: 1,
            consensus_addr: "/ip4/127.0.0.1/tcp/1".into(),
            swarm_addr: "/ip4/127.0.0.1/tcp/2".into(),
            http_url: String::new(),
        };
        MemberEntry::new(
            "acme",
            tally_contracts::Roles::BRAND,
            vec![admin],
            vec![node],
        )
        .unwrap()
    }

    #[test]
    fn the_keys_that_the_ledger_names_are_used() {
        let mut rng = rand_core::OsRng;
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::new(dir.path());
        let pass = Passphrase::new("correct horse".into()).unwrap();
        let (node, admin) = (NodeKeys::generate(&mut rng), AdminKey::generate(&mut rng));
        store.create(&pass, 10, &node, &admin).unwrap();
        let mut member = entry(&node, admin.public());
        let stranger = entry(&NodeKeys::generate(&mut rng), admin.public());
        let open = || store.open_node(&pass).unwrap();

        let (keys, found) = store.choose(open(), &pass, &member).unwrap();
        assert!(found.is_some() && keys.public() == node.public());
        let (_, found) = store.choose(open(), &pass, &stranger).unwrap();
        assert!(found.is_none());

        // A new key is not used before the ledger names it.
        let make = |purpose| {
            let mut rng = rand_core::OsRng;
            store
                .create_rotated(&pass, 10, purpose, &mut rng)
                .unwrap()
                .0
        };
        let (consensus, records) = (make(KeyPurpose::Consensus), make(KeyPurpose::Records));
        let (keys, _) = store.choose(open(), &pass, &member).unwrap();
        assert_eq!(keys.public(), node.public());
        member.nodes[0].consensus = consensus;
        assert_eq!(store.lacking(&keys, &member.nodes[0]), None);
        let (keys, found) = store.choose(open(), &pass, &member).unwrap();
        assert!(found.is_some());
        assert_eq!(keys.public().consensus, consensus);
        assert_eq!(keys.public().records, node.public().records);
        assert_eq!(
            PublicKey::from(&keys.consensus()),
            consensus,
            "the key itself too"
        );
        assert!(keys.public().find(&member).is_some());
        // All of them, one after the other: it stays this node.
        member.nodes[0].records = records;
        let (keys, _) = store.choose(open(), &pass, &member).unwrap();
        assert_eq!(keys.public().records, records);
        // One that is not here is named.
        member.nodes[0].cosignature = PublicKey([7; 32]);
        assert_eq!(
            store.lacking(&keys, &member.nodes[0]),
            Some(KeyPurpose::Cosignature)
        );
        assert!(matches!(
            store.choose(open(), &pass, &member),
            Err(KeyError::NotHere {
                purpose: KeyPurpose::Cosignature,
                ..
            })
        ));

        let new_admin = make(KeyPurpose::Admin);
        let chosen = |keys: &[PublicKey]| store.choose_admin(&pass, keys).unwrap().public();
        assert_eq!(chosen(&[admin.public(), new_admin]), admin.public());
        assert_eq!(chosen(&[new_admin]), new_admin);
        assert_eq!(chosen(&[PublicKey([1; 32])]), admin.public());
        std::fs::remove_file(store.admin_file()).unwrap();
        assert_eq!(chosen(&[new_admin]), new_admin);
        assert!(matches!(
            store.choose_admin(&pass, &[]),
            Err(KeyError::Missing { .. })
        ));

        let transport = make(KeyPurpose::Transport);
        let tried = store.untried_transport(open(), &pass, |_| false).unwrap();
        assert_eq!(tried.public().transport, transport);
        let tried = store.untried_transport(open(), &pass, |_| true).unwrap();
        assert_eq!(tried.public().transport, node.public().transport);
        let purposes: Vec<_> = store
            .rotated_files()
            .unwrap()
            .iter()
            .map(|f| f.purpose)
            .collect();
        assert_eq!(
            purposes,
            [
                KeyPurpose::Transport,
                KeyPurpose::Consensus,
                KeyPurpose::Records,
                KeyPurpose::Admin
            ]
        );
        // A file under another key's name is not taken for it.
        let path = store.rotated_path(KeyPurpose::Records, &records);
        std::fs::copy(store.rotated_path(KeyPurpose::Consensus, &consensus), &path).unwrap();
        member.nodes[0].cosignature = node.public().cosignature;
        assert!(matches!(
            store.choose(open(), &pass, &member),
            Err(KeyError::Damaged { .. })
        ));
    }
}
