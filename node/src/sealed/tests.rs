use std::fs;
use std::path::Path;

use super::frame::HEADER_BYTES;
use super::*;

const PURPOSE: &str = "test";

fn key(n: u8) -> StorageKey {
    StorageKey::from_bytes([n; 32])
}

fn open(dir: &Path, key: &StorageKey) -> Result<(SealedLog, Vec<Vec<u8>>), SealedError> {
    open_sized(dir, key, LogOptions::default())
}

fn open_sized(
    dir: &Path,
    key: &StorageKey,
    options: LogOptions,
) -> Result<(SealedLog, Vec<Vec<u8>>), SealedError> {
    let mut seen = Vec::new();
    let log = SealedLog::open(dir, key, PURPOSE, options, |_, e| {
        seen.push(e.to_vec());
        Ok::<_, SealedError>(())
    })?;
    Ok((log, seen))
}

fn small_segments() -> LogOptions {
    LogOptions {
        max_segment_bytes: 200,
        max_frame_bytes: 64,
    }
}

#[test]
fn entries_come_back_in_order_over_segments_and_by_position() -> Result<(), SealedError> {
    let dir = tempfile::tempdir().expect("temp dir");
    let entries: Vec<Vec<u8>> = (0..40_u8).map(|i| vec![i; usize::from(i)]).collect();
    let (mut log, _) = open_sized(dir.path(), &key(1), small_segments())?;
    let mut positions = Vec::new();
    for group in entries.chunks(7) {
        positions.extend(log.append(group)?);
    }
    let reader = log.reader();
    for (position, entry) in positions.iter().zip(&entries) {
        assert_eq!(reader.read(*position)?.as_slice(), entry);
    }
    let bytes = log.bytes();
    drop(log);
    let (log, seen) = open_sized(dir.path(), &key(1), small_segments())?;
    assert_eq!(seen, entries);
    assert_eq!(log.bytes(), bytes);
    assert!(fs::read_dir(dir.path()).expect("list").count() > 4);
    assert!(matches!(
        open(dir.path(), &key(1)),
        Err(SealedError::Locked { .. })
    ));
    Ok(())
}

#[test]
fn an_entry_over_the_limit_writes_nothing() -> Result<(), SealedError> {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut log, _) = open_sized(dir.path(), &key(1), small_segments())?;
    let result = log.append(&[vec![0; 4], vec![0; 61]]);
    assert!(matches!(
        result,
        Err(SealedError::TooLong { found: 61, max: 60 })
    ));
    log.append(&[vec![7; 60]])?;
    drop(log);
    assert_eq!(
        open_sized(dir.path(), &key(1), small_segments())?.1,
        [vec![7; 60]]
    );
    Ok(())
}

#[test]
fn a_tail_torn_at_every_byte_loses_the_last_group_only() -> Result<(), SealedError> {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut log, _) = open(dir.path(), &key(1))?;
    log.append(&[b"one"])?;
    log.append(&[b"two"])?;
    let kept = log.bytes();
    log.append(&[b"three".as_slice(), b"four"])?;
    drop(log);
    let path = dir.path().join("00000000.log");
    let whole = fs::read(&path).expect("read");
    let kept_len = usize::try_from(kept).expect("small");
    for cut in kept_len..whole.len() {
        for zeros in [false, true] {
            let mut bytes = whole[..cut].to_vec();
            if zeros {
                bytes.resize(whole.len() + 5000, 0);
            }
            // A frame of which all but the last bytes came, and the rest as zeros, is torn only as far as its tag.
            if zeros && cut >= kept_len + 8 {
                bytes.truncate(whole.len());
                if cut > whole.len() - 16 {
                    continue;
                }
            }
            fs::write(&path, &bytes).expect("write");
            let (mut log, seen) = open(dir.path(), &key(1))?;
            assert_eq!(seen, [b"one", b"two"], "cut at {cut}, zeros {zeros}");
            assert_eq!(log.bytes(), kept);
            let dropped = log.repaired().map_or(0, |r| r.dropped_bytes);
            assert_eq!(dropped, bytes.len() as u64 - kept);
            log.append(&[b"again"])?;
            drop(log);
            assert_eq!(open(dir.path(), &key(1))?.1.len(), 3);
        }
    }
    Ok(())
}

#[test]
fn every_flipped_byte_is_damage_with_its_place_and_loses_nothing() -> Result<(), SealedError> {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut log, _) = open(dir.path(), &key(1))?;
    let mut starts = vec![0, HEADER_BYTES as u64];
    for entry in ["one", "two", "three"] {
        log.append(&[entry])?;
        starts.push(log.bytes());
    }
    drop(log);
    let path = dir.path().join("00000000.log");
    let whole = fs::read(&path).expect("read");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).expect("write");
        let place = starts.iter().rev().find(|s| **s <= at as u64).copied();
        match open(dir.path(), &key(1)) {
            Err(SealedError::Damaged { offset, .. }) => {
                assert_eq!(Some(offset), place, "byte {at}");
            }
            Err(SealedError::WrongKey { .. }) => assert!(at < HEADER_BYTES),
            Ok(_) => panic!("byte {at} was changed unnoticed"),
            Err(e) => panic!("byte {at}: {e}"),
        }
        assert_eq!(
            fs::read(&path).expect("read"),
            bytes,
            "byte {at}: the file was touched"
        );
    }
    Ok(())
}

#[test]
fn frames_and_segments_cannot_be_moved() -> Result<(), SealedError> {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut log, _) = open(dir.path(), &key(1))?;
    log.append(&[b"one"])?;
    let one = usize::try_from(log.bytes()).expect("small");
    log.append(&[b"two"])?;
    drop(log);
    let path = dir.path().join("00000000.log");
    let whole = fs::read(&path).expect("read");
    let swapped = [
        &whole[..HEADER_BYTES],
        &whole[one..],
        &whole[HEADER_BYTES..one],
    ]
    .concat();
    fs::write(&path, swapped).expect("write");
    assert!(matches!(
        open(dir.path(), &key(1)),
        Err(SealedError::Damaged { .. })
    ));
    fs::write(&path, [&whole[..HEADER_BYTES], &whole[one..]].concat()).expect("write");
    assert!(matches!(
        open(dir.path(), &key(1)),
        Err(SealedError::Damaged { .. })
    ));
    fs::rename(&path, dir.path().join("00000001.log")).expect("rename");
    assert!(matches!(
        open(dir.path(), &key(1)),
        Err(SealedError::Damaged { .. })
    ));
    Ok(())
}

#[test]
fn another_key_or_purpose_is_told_apart_from_damage() -> Result<(), SealedError> {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut log, _) = open(dir.path(), &key(1))?;
    log.append(&[b"one"])?;
    drop(log);
    assert!(matches!(
        open(dir.path(), &key(2)),
        Err(SealedError::WrongKey { .. })
    ));
    let other = SealedLog::open(
        dir.path(),
        &key(1),
        "other",
        LogOptions::default(),
        |_, _| Ok::<_, SealedError>(()),
    );
    assert!(matches!(other, Err(SealedError::WrongKey { .. })));
    assert_eq!(open(dir.path(), &key(1))?.1, [b"one"]);
    Ok(())
}

#[test]
fn a_small_file_opens_with_its_key_and_purpose_only() -> Result<(), SealedError> {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("file");
    assert!(read_sealed(&path, &key(1), "a")?.is_none());
    write_sealed(&path, &key(1), "a", b"old")?;
    write_sealed(&path, &key(1), "a", b"new")?;
    assert_eq!(
        read_sealed(&path, &key(1), "a")?
            .as_deref()
            .map(Vec::as_slice),
        Some(b"new".as_slice())
    );
    for (k, purpose) in [(key(2), "a"), (key(1), "b")] {
        assert!(matches!(
            read_sealed(&path, &k, purpose),
            Err(SealedError::WrongKey { .. })
        ));
    }
    let whole = fs::read(&path).expect("read");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("write");
        assert!(read_sealed(&path, &key(1), "a").is_err(), "byte {at}");
        fs::write(&path, &whole[..at]).expect("write");
        assert!(read_sealed(&path, &key(1), "a").is_err(), "cut at {at}");
    }
    Ok(())
}
