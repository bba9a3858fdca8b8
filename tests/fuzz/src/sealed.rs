//! A sealed log and a sealed file whose bytes were changed on disk: a cut tail loses whole groups from the end and nothing
//! else, any other change is damage.
//!
//! An input is a number of groups, their entries' lengths, and then one change: what, where, and a byte.

use std::fs;
use std::sync::LazyLock;

use tally_node::sealed::{
    LogOptions, SealedError, SealedLog, StorageKey, read_sealed, write_sealed,
};
use tempfile::TempDir;

use crate::bytes::Bytes;
use crate::{Seeds, named};

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fn key() -> StorageKey {
    StorageKey::from_bytes([5; 32])
}

fn open() -> Result<(SealedLog, Vec<Vec<u8>>), SealedError> {
    let mut entries = Vec::new();
    let options = LogOptions {
        max_segment_bytes: 1 << 30,
        max_frame_bytes: 1 << 12,
    };
    let log = SealedLog::open(
        &DIR.path().join("log"),
        &key(),
        "fuzz",
        options,
        |_, entry| {
            entries.push(entry.to_vec());
            Ok::<_, SealedError>(())
        },
    )?;
    Ok((log, entries))
}

/// What is done to a file.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    Cut,
    Flip,
    Zeros,
    Append,
}

fn change(input: &mut Bytes<'_>, file: &mut Vec<u8>) -> (Change, usize) {
    let what =
        [Change::Cut, Change::Flip, Change::Zeros, Change::Append][usize::from(input.u8() % 4)];
    let at = usize::from(input.u16()) % file.len().max(1);
    let byte = input.u8();
    match what {
        Change::Cut => file.truncate(at),
        Change::Flip => file[at] ^= byte.max(1),
        Change::Zeros => file[at..].fill(0),
        Change::Append => file.extend(input.0.iter().chain([&byte]).take(600)),
    }
    (what, at)
}

fn log(input: &mut Bytes<'_>) {
    let dir = DIR.path().join("log");
    let _ = fs::remove_dir_all(&dir);
    let mut written: Vec<Vec<u8>> = Vec::new();
    // Ends of the groups: in the file, and in entries.
    let mut ends = Vec::new();
    let (mut log, _) = open().expect("a new log");
    for _ in 0..input.u8() % 5 {
        let lengths = input.take(usize::from(input.0.first().copied().unwrap_or_default() % 4) + 1);
        let group: Vec<Vec<u8>> = lengths.iter().map(|n| vec![*n; usize::from(*n)]).collect();
        log.append(&group).expect("append");
        written.extend(group);
        ends.push((log.bytes(), written.len()));
    }
    drop(log);
    let path = dir.join("00000000.log");
    let whole = fs::read(&path).expect("read");
    let mut file = whole.clone();
    let (what, at) = change(input, &mut file);
    fs::write(&path, &file).expect("write");
    // Groups that stand whole before the place of the change.
    let before = |at: usize| {
        let whole = ends.iter().rev().find(|(end, _)| *end <= at as u64);
        whole.map_or(0, |(_, entries)| *entries)
    };
    match open() {
        Ok((mut log, read)) => {
            assert!(written.starts_with(&read), "entries that nobody wrote");
            if file == whole {
                assert_eq!(read, written);
            }
            match what {
                Change::Cut => assert_eq!(read.len(), before(at)),
                Change::Flip => panic!("a flipped bit went unnoticed"),
                Change::Zeros => assert!(read.len() >= before(at)),
                Change::Append => assert_eq!(read, written),
            }
            log.append(&[b"more"]).expect("append");
            drop(log);
            let (_, again) = open().expect("its own file");
            assert_eq!(again.len(), read.len() + 1);
        }
        Err(SealedError::Damaged { .. } | SealedError::WrongKey { .. }) => {
            assert_ne!(file, whole);
            assert_eq!(fs::read(&path).expect("read"), file, "changed by a refusal");
        }
        Err(e) => panic!("{e}"),
    }
}

fn small_file(input: &mut Bytes<'_>) {
    let path = DIR.path().join("file");
    let plain = vec![1; usize::from(input.u8())];
    write_sealed(&path, &key(), "fuzz", &plain).expect("write");
    let whole = fs::read(&path).expect("read");
    let mut file = whole.clone();
    change(input, &mut file);
    fs::write(&path, &file).expect("write");
    match read_sealed(&path, &key(), "fuzz") {
        Ok(read) => {
            assert!(file == whole, "a change went unnoticed");
            assert_eq!(read.expect("it is there").as_slice(), plain);
        }
        Err(SealedError::Damaged { .. } | SealedError::WrongKey { .. }) => assert_ne!(file, whole),
        Err(e) => panic!("{e}"),
    }
}

/// A log and a file.
pub fn run(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    log(&mut input);
    small_file(&mut input);
}

/// Each change to a log of three groups.
pub fn seeds() -> Seeds {
    let names = ["cut", "flip", "zeros", "append"];
    named(names.iter().zip(0..4_u8).flat_map(|(name, what)| {
        [70_u16, 100, 200].map(|at| {
            let [high, low] = at.to_be_bytes();
            let log = [3, 1, 9, 2, 40, 60, 3, 5, 6, 7, what, high, low, 1];
            let file = [50, what, 0, 30, 1];
            (format!("{name}-{at}"), [&log[..], &file[..]].concat())
        })
    }))
}
