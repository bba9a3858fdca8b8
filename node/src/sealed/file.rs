//! Small sealed files, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_core::{OsRng, RngCore};
use tally_contracts::domains::SEALED_FILE;
use zeroize::Zeroizing;

use super::{SealedError, StorageKey};

const MAGIC: &[u8; 8] = b"TALLYSF\x01";
const HEAD: usize = 8 + 24;

/// The largest text that [`write_sealed`] takes, in bytes.
pub const MAX_SEALED_FILE_BYTES: usize = 64 << 20;

fn bound(purpose: &str) -> Vec<u8> {
    [SEALED_FILE, purpose.as_bytes()].concat()
}

/// Replaces `path` by `plain` sealed under `key`; after a crash the file is the old one or the new one, and it is durable when this
/// returns. `purpose` names what the file is for: a file sealed for another purpose does not open.
///
/// # Errors
/// [`SealedError::TooLong`], [`SealedError::Io`].
pub fn write_sealed(
    path: &Path,
    key: &StorageKey,
    purpose: &str,
    plain: &[u8],
) -> Result<(), SealedError> {
    let too_long = || SealedError::TooLong {
        found: plain.len(),
        max: MAX_SEALED_FILE_BYTES,
    };
    if plain.len() > MAX_SEALED_FILE_BYTES {
        return Err(too_long());
    }
    let mut nonce = [0; 24];
    OsRng.fill_bytes(&mut nonce);
    let sealed = XChaCha20Poly1305::new(key.bytes().into())
        .encrypt(
            XNonce::from_slice(&nonce),
            Payload {
                msg: plain,
                aad: &bound(purpose),
            },
        )
        .map_err(|_| too_long())?;
    let temp = temp_name(path);
    let mut file = create_private(&temp)?;
    for part in [MAGIC.as_slice(), &nonce, &sealed] {
        file.write_all(part)
            .map_err(SealedError::io("write", &temp))?;
    }
    file.sync_all().map_err(SealedError::io("sync", &temp))?;
    fs::rename(&temp, path).map_err(SealedError::io("rename", &temp))?;
    sync_parent(path)
}

/// What [`write_sealed`] wrote, or `None` if there is no such file.
///
/// # Errors
/// [`SealedError::Damaged`] if it is no sealed file, [`SealedError::WrongKey`] if key or purpose is another or any byte was
/// changed, [`SealedError::Io`].
pub fn read_sealed(
    path: &Path,
    key: &StorageKey,
    purpose: &str,
) -> Result<Option<Zeroizing<Vec<u8>>>, SealedError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(SealedError::io("open", path)(e)),
    };
    let mut bytes = Vec::new();
    let limit = (MAX_SEALED_FILE_BYTES + HEAD + 17) as u64;
    Read::by_ref(&mut file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(SealedError::io("read", path))?;
    let (Some(MAGIC), Some(nonce), Some(msg)) = (
        bytes.first_chunk::<8>(),
        bytes.get(8..HEAD),
        bytes.get(HEAD..),
    ) else {
        return Err(SealedError::Damaged {
            path: path.into(),
            offset: 0,
            what: "not a sealed file",
        });
    };
    XChaCha20Poly1305::new(key.bytes().into())
        .decrypt(
            XNonce::from_slice(nonce),
            Payload {
                msg,
                aad: &bound(purpose),
            },
        )
        .map(|plain| Some(Zeroizing::new(plain)))
        .map_err(|_| SealedError::WrongKey {
            path: path.into(),
            purpose: purpose.into(),
        })
}

/// The name under which a file is written before it takes its place.
pub(super) fn temp_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// An empty file that only its owner reads.
pub(super) fn create_private(path: &Path) -> Result<File, SealedError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(SealedError::io("create", path))
}

/// Makes the directory entry of `path` durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), SealedError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(SealedError::io("sync", dir))
}
