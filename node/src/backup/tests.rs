use std::fs;
use std::io::Write as _;
use std::path::Path;

use age::secrecy::ExposeSecret as _;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::config::DataDir;

/// A data directory with something in every folder, and what must not be taken along.
fn data(root: &Path) -> DataDir {
    for (path, text) in [
        ("tally.toml", "[member]"),
        ("member-card.toml", "card"),
        ("ledger/genesis", "genesis"),
        ("ledger/blocks/000", "blocks"),
        ("ledger/state/db", "state"),
        ("ledger/tile/0/000", "tile"),
        ("keys/node.age", "sealed seed"),
        ("codes/b1/meta", "batch"),
        ("codes/b1/meta.77.tmp", "half written"),
        ("scans/log/000", "scans"),
        ("audiences/a", ""),
        ("matches/m", "answers"),
        ("consensus/wal", "votes"),
        ("somebody-elses", "file"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    std::os::unix::fs::symlink("/etc/hostname", root.join("codes/link")).unwrap();
    DataDir::new(root)
}

fn manifest(blocks: bool) -> Manifest {
    Manifest {
        version: VERSION,
        member: "acme".into(),
        network: "ab".repeat(32),
        made_ms: 7,
        blocks,
    }
}

fn identity() -> (age::x25519::Identity, Lock) {
    let identity = age::x25519::Identity::generate();
    let lock = Lock::recipients([identity.to_public().to_string().as_str()]).unwrap();
    (identity, lock)
}

fn made(dir: &DataDir, lock: &Lock, blocks: bool) -> Vec<u8> {
    let mut out = Vec::new();
    backup(dir, lock, &manifest(blocks), &mut out, &mut |_, _| {}).unwrap();
    out
}

fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                all.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn what_cannot_be_made_again_comes_back_and_nothing_else() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = data(&tmp.path().join("from"));
    let (identity, lock) = identity();
    for blocks in [true, false] {
        let sealed = made(&dir, &lock, blocks);
        let to = DataDir::new(tmp.path().join(format!("to-{blocks}")));
        let mut heard = 0;
        let restored = restore(
            sealed.as_slice(),
            &Key::Identity(identity.clone()),
            &to,
            &mut |bytes| heard = bytes,
        )
        .unwrap();
        assert_eq!(restored.manifest, manifest(blocks));
        assert_eq!(heard, restored.tally.bytes);
        let mut expected: Vec<_> = files(dir.root())
            .into_iter()
            .filter(|(name, _)| {
                !(name.starts_with("ledger/state")
                    || name.starts_with("ledger/tile")
                    || name.starts_with("consensus")
                    || name.ends_with(".tmp")
                    || name == "codes/link"
                    || name == "somebody-elses"
                    || (!blocks && name.starts_with("ledger/blocks")))
            })
            .collect();
        assert_eq!(restored.tally.files, expected.len() as u64);
        let (marks, found): (Vec<_>, Vec<_>) = files(to.root())
            .into_iter()
            .partition(|(name, _)| name == "consensus/restored");
        assert_eq!(marks.len(), 1, "a restored validator must not vote at once");
        expected.sort();
        assert_eq!(found, expected);
    }
}

#[test]
fn only_the_key_opens_it() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = data(&tmp.path().join("from"));
    let (_, lock) = identity();
    let sealed = made(&dir, &lock, true);
    assert!(!sealed.windows(11).any(|w| w == b"sealed seed"));
    let to = DataDir::new(tmp.path().join("to"));
    let other = Key::Identity(age::x25519::Identity::generate());
    let refused = restore(sealed.as_slice(), &other, &to, &mut |_| {});
    assert!(
        matches!(refused, Err(BackupError::Decrypt(_))),
        "{:?}",
        refused.err()
    );
    let pass = |text: &str| Passphrase::new(text.into()).unwrap();
    let sealed = made(&dir, &Lock::Passphrase(pass("a backup's own")), false);
    let wrong = restore(
        sealed.as_slice(),
        &Key::Passphrase(pass("another one")),
        &to,
        &mut |_| {},
    );
    assert!(
        matches!(wrong, Err(BackupError::Decrypt(_))),
        "{:?}",
        wrong.err()
    );
    restore(
        sealed.as_slice(),
        &Key::Passphrase(pass("a backup's own")),
        &to,
        &mut |_| {},
    )
    .unwrap();
}

#[test]
fn a_cut_or_changed_backup_leaves_nothing_behind() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = data(&tmp.path().join("from"));
    let (identity, lock) = identity();
    let sealed = made(&dir, &lock, true);
    let to = DataDir::new(tmp.path().join("to"));
    let key = Key::Identity(identity);
    for cut in [0, 1, 100, sealed.len() / 2, sealed.len() - 1] {
        assert!(
            restore(&sealed[..cut], &key, &to, &mut |_| {}).is_err(),
            "cut at {cut}"
        );
        assert_eq!(files(to.root()), [], "cut at {cut}");
    }
    for at in (0..sealed.len()).step_by(97) {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(
            restore(changed.as_slice(), &key, &to, &mut |_| {}).is_err(),
            "changed at {at}"
        );
        assert_eq!(files(to.root()), [], "changed at {at}");
    }
    restore(sealed.as_slice(), &key, &to, &mut |_| {}).unwrap();
    let again = restore(sealed.as_slice(), &key, &to, &mut |_| {});
    assert!(matches!(again, Err(BackupError::NotEmpty { .. })));
    assert!(
        to.root().join("keys/node.age").exists(),
        "a refusal must not remove what was there"
    );
}

/// An archive that somebody else made to be unpacked here.
fn forged(lock: &Lock, members: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let Lock::Recipients(recipients) = lock else {
        panic!("a lock by recipients is expected");
    };
    let mut out = Vec::new();
    let sealed =
        age::Encryptor::with_recipients(recipients.iter().map(|r| r as &dyn age::Recipient))
            .unwrap()
            .wrap_output(&mut out)
            .unwrap();
    let mut tar = Builder::new(sealed);
    for (name, kind, content) in members {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o777);
        header.set_size(content.len() as u64);
        if *kind == EntryType::Symlink {
            header.set_link_name("/etc").unwrap();
        }
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    let mut sealed = tar.into_inner().unwrap();
    sealed.flush().unwrap();
    sealed.finish().unwrap();
    out
}

#[test]
fn a_hostile_archive_writes_nothing_outside() {
    let tmp = tempfile::tempdir().unwrap();
    let to = DataDir::new(tmp.path().join("a/b"));
    let (identity, lock) = identity();
    let key = Key::Identity(identity);
    let first = serde_json::to_vec(&manifest(true)).unwrap();
    let end = |files, bytes| serde_json::to_vec(&Tally { files, bytes }).unwrap();
    let file = EntryType::Regular;
    let head = (MANIFEST, file, first.as_slice());
    let none = end(0, 0);
    let one = end(1, 1);
    for (what, members) in [
        (
            "above",
            vec![head, ("../escaped", file, b"x"), (TALLY, file, &one)],
        ),
        (
            "above, from a folder",
            vec![
                head,
                ("keys/../../escaped", file, b"x"),
                (TALLY, file, &one),
            ],
        ),
        (
            "absolute",
            vec![
                head,
                ("/tmp/tally-escaped", file, b"x"),
                (TALLY, file, &one),
            ],
        ),
        (
            "consensus",
            vec![head, ("consensus/wal", file, b"x"), (TALLY, file, &one)],
        ),
        (
            "state",
            vec![head, ("ledger/state/db", file, b"x"), (TALLY, file, &one)],
        ),
        (
            "a link",
            vec![
                head,
                ("keys/link", EntryType::Symlink, b""),
                (TALLY, file, &none),
            ],
        ),
        (
            "a folder",
            vec![
                head,
                ("keys/folder", EntryType::Directory, b""),
                (TALLY, file, &none),
            ],
        ),
        (
            "a folder's name",
            vec![head, ("keys", file, b"x"), (TALLY, file, &one)],
        ),
        (
            "twice the same",
            vec![
                head,
                ("keys/a", file, b"x"),
                ("keys/a", file, b""),
                (TALLY, file, &end(2, 1)),
            ],
        ),
        (
            "no manifest",
            vec![("keys/a", file, b"x"), (TALLY, file, &one)],
        ),
        (
            "another version",
            vec![
                (
                    MANIFEST,
                    file,
                    br#"{"version":2,"member":"a","network":"","made_ms":0,"blocks":true}"#,
                ),
                (TALLY, file, &none),
            ],
        ),
        ("no end", vec![head, ("keys/a", file, b"x")]),
        (
            "a wrong end",
            vec![head, ("keys/a", file, b"x"), (TALLY, file, &none)],
        ),
        (
            "more after the end",
            vec![head, (TALLY, file, &none), ("keys/a", file, b"x")],
        ),
        ("nothing", vec![]),
    ] {
        let sealed = forged(&lock, &members);
        assert!(
            restore(sealed.as_slice(), &key, &to, &mut |_| {}).is_err(),
            "{what}"
        );
        assert_eq!(files(tmp.path()), [], "{what}");
        assert!(!Path::new("/tmp/tally-escaped").exists(), "{what}");
    }
    let good = forged(&lock, &[head, ("keys/a", file, b"x"), (TALLY, file, &one)]);
    restore(good.as_slice(), &key, &to, &mut |_| {}).unwrap();
}

#[test]
fn a_new_identity_opens_what_its_recipient_locked() {
    let (text, recipient) = new_identity();
    let Some(Key::Identity(identity)) = Key::identity(&text) else {
        panic!("the text holds no identity");
    };
    assert_eq!(identity.to_public().to_string(), recipient);
    assert!(
        identity
            .to_string()
            .expose_secret()
            .starts_with("AGE-SECRET-KEY-1")
    );
    assert!(Key::identity("# nothing\n").is_none());
    assert!(Lock::recipients(["age1nonsense"]).is_err());
    assert!(matches!(
        Lock::recipients([]),
        Err(BackupError::NoRecipient)
    ));
}
