//! The shipped sample data is what its README says, and the larger sample of the project imports whole if it is there.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use tally_measure::{DropReason, Import, ImportOptions, import};

fn read(path: &Path) -> Import {
    let file = fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    import(file, &ImportOptions::new("e164".parse().unwrap())).unwrap()
}

/// People by another road: the digits of the first cell of each line, if there are as many as in the numbers of this file.
fn digits(path: &Path, count: usize) -> HashSet<String> {
    String::from_utf8_lossy(&fs::read(path).unwrap())
        .lines()
        .filter_map(|line| line.split(',').next())
        .map(|cell| {
            cell.chars()
                .filter(char::is_ascii_digit)
                .collect::<String>()
        })
        .filter(|digits| digits.len() == count)
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_shipped_sample_is_as_described() {
    let dir = root().join("cli/sample");
    let (brand, media) = (
        dir.join("brand_conversions.csv"),
        dir.join("media_touches.csv"),
    );
    for (path, people) in [(&brand, 3_000), (&media, 4_000)] {
        let report = read(path).report;
        assert_eq!(report.used, people);
        assert_eq!(report.dense_range, None);
        let dropped: Vec<_> = report.dropped.iter().map(|(r, l)| (*r, l.count)).collect();
        assert_eq!(
            dropped,
            [
                (DropReason::ColumnCount, 2),
                (DropReason::Quoting, 2),
                (DropReason::TooLong, 1),
                (DropReason::Empty, 1),
                (DropReason::Phone, 3),
            ]
        );
        assert!(fs::metadata(path).unwrap().len() < 400_000);
    }
    let common = digits(&brand, 11).intersection(&digits(&media, 11)).count();
    assert_eq!(common, 1_200);
    let ids: HashSet<_> = read(&brand).ids.into_iter().collect();
    assert_eq!(
        read(&media)
            .ids
            .iter()
            .filter(|id| ids.contains(id))
            .count(),
        1_200
    );
}

#[test]
fn the_larger_sample_gives_the_people_that_a_plain_join_finds() {
    let dir = std::env::var_os("TALLY_DATA")
        .map_or_else(|| root().join("../shared/data"), PathBuf::from)
        .join("journeys");
    let (brand, media) = (
        dir.join("brand_conversions.csv"),
        dir.join("media_touches.csv"),
    );
    if !brand.exists() || !media.exists() {
        assert_ne!(
            std::env::var("CI_STRICT").as_deref(),
            Ok("1"),
            "nothing may be skipped: no journeys"
        );
        println!("skipped: no sample in {}", dir.display());
        return;
    }
    let (ours, theirs) = (read(&brand), read(&media));
    assert_eq!((ours.report.used, theirs.report.used), (7_417, 9_970));
    let ids: HashSet<_> = ours.ids.into_iter().collect();
    let common = theirs.ids.iter().filter(|id| ids.contains(id)).count();
    assert_eq!(common, 4_945);
    assert_eq!(
        digits(&brand, 13).intersection(&digits(&media, 13)).count(),
        common
    );
}
