//! Proofs of presence and absence in the state.

use tally_merkle::Hash;

use super::{BITS, EMPTY, bit, key_hash, leaf, node, value_hash};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::error::Error;

const VERSION: u8 = 1;

/// What is found where a key's path ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Nothing. Code 0.
    Empty,
    /// A leaf, of this key or of another one that shares its path so far. Code 1, then both hashes.
    Leaf {
        /// SHA-256 of the leaf's key.
        key_hash: Hash,
        /// SHA-256 of its value.
        value_hash: Hash,
    },
}

/// What stands under one state key, or that nothing does, against a state root. Bytes: version, u32 count and siblings, root
/// side first, then the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProof {
    /// Hashes beside the key's path, root side first, at most 256.
    pub siblings: Vec<Hash>,
    /// Where the path ends.
    pub terminal: Terminal,
}

impl StateProof {
    /// Checks that `value` is what stands under `key` in the state with this root; `None` for nothing. O(siblings) hashes.
    ///
    /// # Errors
    /// [`Error::ProofContent`] if the proof is of something else, [`Error::ProofRoot`] if it does not lead to the root.
    pub fn verify(&self, root: &Hash, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        let path = key_hash(key);
        if self.siblings.len() > BITS {
            return Err(content("at most 256 siblings", "more"));
        }
        let bottom = match (self.terminal, value) {
            (Terminal::Empty, None) => EMPTY,
            (Terminal::Empty, Some(_)) => return Err(content("a value", "nothing")),
            (
                Terminal::Leaf {
                    key_hash,
                    value_hash: found,
                },
                Some(value),
            ) => {
                if key_hash != path {
                    return Err(content("the key", "another key"));
                }
                if found != value_hash(value) {
                    return Err(content("the value", "another value"));
                }
                leaf(&key_hash, &found)
            }
            (
                Terminal::Leaf {
                    key_hash,
                    value_hash,
                },
                None,
            ) => {
                if key_hash == path {
                    return Err(content("nothing", "a value"));
                }
                // The other leaf must stand where the key would: its path is the key's as far as the proof goes.
                if (0..self.siblings.len()).any(|d| bit(&key_hash, d) != bit(&path, d)) {
                    return Err(content("a leaf on the key's path", "a leaf elsewhere"));
                }
                leaf(&key_hash, &value_hash)
            }
        };
        let found =
            self.siblings
                .iter()
                .enumerate()
                .rev()
                .fold(bottom, |hash, (depth, sibling)| {
                    if bit(&path, depth) {
                        node(sibling, &hash)
                    } else {
                        node(&hash, sibling)
                    }
                });
        if found == *root {
            Ok(())
        } else {
            Err(Error::ProofRoot {
                expected: *root,
                found,
            })
        }
    }
}

const fn content(expected: &'static str, found: &'static str) -> Error {
    Error::ProofContent { expected, found }
}

impl Canonical for StateProof {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).list(&self.siblings, |w, h| {
            w.raw(h.as_bytes());
        });
        match &self.terminal {
            Terminal::Empty => w.u8(0),
            Terminal::Leaf {
                key_hash,
                value_hash,
            } => w.u8(1).raw(key_hash.as_bytes()).raw(value_hash.as_bytes()),
        };
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("state proof version", VERSION)?;
        let siblings = r.list("siblings", BITS, |r| Ok(Hash(r.array("sibling")?)))?;
        let terminal = match r.u8("terminal")? {
            0 => Terminal::Empty,
            1 => Terminal::Leaf {
                key_hash: Hash(r.array("key hash")?),
                value_hash: Hash(r.array("value hash")?),
            },
            found => {
                return Err(CodecError::Invalid {
                    what: "terminal",
                    found: found.into(),
                });
            }
        };
        Ok(Self { siblings, terminal })
    }
}
