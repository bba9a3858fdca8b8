//! The list of a party to an overlap is not held in memory.

use rand_core::OsRng;
use tally_measure::ImportOptions;
use tally_psi::overlap::{
    OverlapMachine as _, OverlapMessage, OverlapNoise, OverlapOutput, OverlapParty, OverlapTerms,
    PSEUDONYM_BYTES, Peer,
};
use tally_psi::{Party, Seeds};

use crate::audiences::AudienceStore;
use crate::external_sort::SpillSorters;
use crate::matching::engine::counted_items;
use crate::peak;
use crate::sealed::StorageKey;

const PARTY: &str = "TALLY_TEST_OVERLAP_PARTY";

/// Not a test of its own: a process that sends the helper the list of so many people, so many rows in memory, and says how much memory
/// it had at most.
#[test]
fn sending_process() {
    let Ok(told) = std::env::var(PARTY) else {
        return;
    };
    let (people, in_memory) = told.split_once('|').unwrap();
    let (people, in_memory): (u64, usize) = (people.parse().unwrap(), in_memory.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let audiences = AudienceStore::open(dir.path(), &StorageKey::from_bytes([7; 32]))
        .unwrap()
        .with_sort_bytes(1 << 20);
    let file = dir.path().join("people.csv");
    let rows = (1..=people).map(|n| format!("+86139{:08}\n", n * 37 % 100_000_000));
    write(&file, rows);
    let options = ImportOptions::new("e164".parse().unwrap());
    let file = std::fs::File::open(file).unwrap();
    let meta = audiences.import("a", 1, file, &options, &mut OsRng);
    let meta = meta.unwrap();

    let party = |n: u8| Party {
        member: [n; 16],
        node: [n; 32],
    };
    let terms = OverlapTerms {
        network: [1; 32],
        session: [2; 32],
        parties: [4, 5, 6].map(party).to_vec(),
        helper: Some(party(9)),
        agreement: [3; 32],
        roots: vec![meta.root.0, [5; 32], [6; 32]],
        noise: OverlapNoise::NoneInTestNetwork,
        max_items: 1 << 20,
        min_result: 0,
    };
    let digest = terms.digest();
    let items = counted_items(&audiences, &meta, in_memory).unwrap();
    let sorters = Box::new(SpillSorters::new(dir.path().to_owned(), in_memory));
    let seeds = Seeds::new(&mut OsRng, [8; 32]);
    let mut machine = OverlapParty::new(terms, 0, items, seeds, sorters).unwrap();
    let hello = OverlapMessage::Hello {
        terms: digest,
        count: 0,
    };
    let share = |n| OverlapMessage::Share {
        terms: digest,
        key: [n; 32].into(),
        noise: [n; 32].into(),
    };
    let mut frames = vec![
        (Peer::Party(1), share(1)),
        (Peer::Party(2), share(2)),
        (Peer::Helper, hello),
    ];
    // What is sent is counted and dropped, as if the network took it.
    let mut bytes = 0;
    let count = loop {
        match machine.poll().unwrap() {
            OverlapOutput::Send { frame, .. } => match OverlapMessage::decode(&frame).unwrap() {
                OverlapMessage::Pseudonyms(sent) => bytes += sent.len() as u64,
                OverlapMessage::End { count, .. } => {
                    // The set is padded to its public size.
                    assert!(count >= people);
                    break count;
                }
                _ => {}
            },
            OverlapOutput::NeedFrame => {
                let (from, message) = frames.remove(0);
                machine.input(from, &message.encode().unwrap()).unwrap();
            }
            OverlapOutput::NeedSeal(_) => machine.seal(Vec::new()).unwrap(),
            OverlapOutput::Progress(_) => {}
            _ => panic!("a party asks for something else before its list is sent"),
        }
    };
    assert_eq!(bytes, count * PSEUDONYM_BYTES as u64);
    peak::say();
}

fn write(file: &std::path::Path, rows: impl Iterator<Item = String>) {
    use std::io::Write as _;
    let mut out = std::io::BufWriter::new(std::fs::File::create(file).unwrap());
    out.write_all(b"phone\n").unwrap();
    rows.for_each(|row| out.write_all(row.as_bytes()).unwrap());
    out.flush().unwrap();
}

#[test]
fn four_times_the_people_take_no_more_memory() {
    let peak_kb = |people: u64, in_memory: usize| {
        let test = "matching::tests::overlap_memory::sending_process";
        peak::kilobytes(test, PARTY, &format!("{people}|{in_memory}"))
    };
    let (few, many) = (peak_kb(200_000, 20_000), peak_kb(800_000, 20_000));
    let held = peak_kb(800_000, 1 << 20);
    println!("200,000 people: {few} kB, 800,000: {many} kB, all of them in memory: {held} kB");
    // In memory each person takes over 60 bytes, as an item and as a row: 36 MB more. Buffers of open pages fill up, 9 MB of them.
    assert!(many < few + 18_000, "{few} kB, {many} kB");
    // And that would be seen here.
    assert!(held > few + 30_000, "{few} kB, {held} kB");
}
